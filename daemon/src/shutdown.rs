//! The signals that end a process, and how long ending may take.

use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// How long a component may take to stop before it is named and left behind.
pub const GRACE: Duration = Duration::from_secs(4);

/// Waits for SIGINT or SIGTERM, then cancels `token`. Returns early when `token` is cancelled by
/// somebody else.
///
/// # Errors
/// The signal handlers can't be installed.
pub async fn on_signal(token: CancellationToken) -> std::io::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = interrupt.recv() => tracing::info!(signal = "SIGINT", "stopping"),
        _ = terminate.recv() => tracing::info!(signal = "SIGTERM", "stopping"),
        () = token.cancelled() => {}
    }
    token.cancel();
    Ok(())
}
