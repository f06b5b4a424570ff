//! Accepts connections, up to the limit for all of them, and gives each its task.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, info_span, warn};

use crate::connection;
use crate::hub::Hub;

/// The wait after a connection could not be accepted, as when all file descriptors are in use.
const WAIT_AFTER_FAILURE: Duration = Duration::from_millis(50);

/// Accepts on `listener` until `token` is cancelled; the connections are in `tracker`.
pub(crate) async fn accept(
    listener: TcpListener,
    hub: Arc<Hub>,
    tracker: TaskTracker,
    token: CancellationToken,
) {
    let mut failing = false;
    let mut full = false;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = token.cancelled() => return,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) if is_the_clients(&error) => continue,
            Err(error) => {
                if !failing {
                    warn!(%error, "connections can't be accepted");
                }
                failing = true;
                tokio::time::sleep(WAIT_AFTER_FAILURE).await;
                continue;
            }
        };
        failing = false;
        let counters = hub.counters();
        counters.connections_total.add(1);
        if counters.connections.get() >= hub.limits().max_connections as u64 {
            if !full {
                warn!(limit = hub.limits().max_connections, "too many connections");
            }
            full = true;
            continue;
        }
        full = false;
        // Without it small packets would wait for the client's TCP acknowledgement.
        if stream.set_nodelay(true).is_err() {
            continue;
        }
        let held = Held::new(&hub);
        let token = token.clone();
        let serve = async move {
            connection::serve(stream, peer, &held.0, token).await;
        };
        tracker.spawn(serve.instrument(info_span!("connection", %peer)));
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
