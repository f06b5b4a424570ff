//! Accepts connections, up to the limits for all of them and for newcomers, and gives each its task.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::warn;

use crate::connection;
use crate::entrance::Entrance;
use crate::hub::Hub;

/// The wait after a connection could not be accepted, as when all file descriptors are in use.
const WAIT_AFTER_FAILURE: Duration = Duration::from_millis(50);

/// Trouble is logged again when there was none of its kind for so long.
const CALM: Duration = Duration::from_secs(60);

/// Accepts on `listener` until `token` is cancelled; the connections are in `tracker`.
pub(crate) async fn accept(
    listener: TcpListener,
    hub: Arc<Hub>,
    tracker: TaskTracker,
    token: CancellationToken,
) {
    let limits = hub.limits();
    let entrance = Arc::new(Entrance::new(limits));
    let (mut failing, mut full, mut crowded) = <(Trouble, Trouble, Trouble)>::default();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = token.cancelled() => return,
        };
        let now = Instant::now();
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) if is_the_clients(&error) => continue,
            Err(error) => {
                if failing.is_news(now) {
                    warn!(%error, "connections can't be accepted");
                }
                tokio::time::sleep(WAIT_AFTER_FAILURE).await;
                continue;
            }
        };
        let counters = hub.counters();
        counters.connections_total.add(1);
        if counters.connections.get() >= limits.max_connections as u64 {
            if full.is_news(now) {
                warn!(limit = limits.max_connections, "too many connections");
            }
            continue;
        }
        let Some(place) = entrance.enter(peer.ip(), now) else {
            if crowded.is_news(now) {
                warn!(
                    address = %peer.ip(),
                    limit = limits.max_connecting,
                    limit_per_address = limits.max_connecting_per_address,
                    "too many connections before CONNECT"
                );
            }
            continue;
        };
        // Without it small packets would wait for the client's TCP acknowledgement.
        if stream.set_nodelay(true).is_err() {
            continue;
        }
        let held = Held::new(&hub);
        let token = token.clone();
        let serve = async move {
            connection::serve(stream, peer, &held.0, place, token).await;
        };
        tracker.spawn(serve);
    }
}

/// Trouble that may come again and again.
#[derive(Debug, Default)]
struct Trouble {
    last: Option<Instant>,
}

impl Trouble {
    /// Notes that there is trouble now. Whether it has just begun.
    fn is_news(&mut self, now: Instant) -> bool {
        let last = self.last.replace(now);
        last.is_none_or(|last| now.saturating_duration_since(last) >= CALM)
    }
}

/// A failure of one client before it was accepted, not of the listener.
fn is_the_clients(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
    )
}

/// Counts a connection for as long as its task lives, however that ends.
struct Held(Arc<Hub>);

impl Held {
    fn new(hub: &Arc<Hub>) -> Self {
        hub.counters().connections.add(1);
        Self(Arc::clone(hub))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.counters().connections.subtract(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_is_news_when_it_begins() {
        let mut trouble = Trouble::default();
        let begun = Instant::now();
        let mut check = |seconds: u64, expected: bool| {
            let now = begun + Duration::from_secs(seconds);
            assert_eq!(trouble.is_news(now), expected, "{seconds}");
        };
        check(0, true);
        check(50, false);
        check(100, false);
        check(160, true);
    }
}
