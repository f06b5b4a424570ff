//! The signal that asks a process to read its settings again.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Requests to reload: each SIGHUP is one; those that come while one is served count as one more.
#[derive(Debug)]
pub struct Reloads {
    hangup: Signal,
}

impl Reloads {
    /// Begins to listen. Before this a SIGHUP ends the process.
    ///
    /// # Errors
    /// The signal handler can't be installed.
    pub fn listen() -> io::Result<Self> {
        let hangup = signal(SignalKind::hangup())?;
        Ok(Self { hangup })
    }

    /// Waits for the next request. May be dropped and called again.
    pub async fn next(&mut self) {
        if self.hangup.recv().await.is_none() {
            std::future::pending::<()>().await;
        }
    }
}
