//! Accepts connections of one listener, up to the limits for all of them and for newcomers, and
//! gives each its task.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout_at;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, Span, debug, info, info_span, warn};

use crate::connection;
use crate::counters::Refusal;
use crate::entrance::{self, Entrance};
use crate::hub::Hub;
use crate::layers::{Failure, Layers, Stream};
use crate::lock::Held as _;

/// The wait after a connection could not be accepted, as when all file descriptors are in use.
const WAIT_AFTER_FAILURE: Duration = Duration::from_millis(50);

/// Trouble is logged again when there was none of its kind for so long.
const CALM: Duration = Duration::from_secs(60);

/// What a listener's connections go through, and where they come to.
pub(crate) struct Place {
    pub(crate) hub: Arc<Hub>,
    pub(crate) entrance: Arc<Entrance>,
    pub(crate) layers: Arc<Layers>,
}

/// Accepts on `listener` until `token` is cancelled; the connections are in `tracker`.
pub(crate) async fn accept(
    listener: TcpListener,
    at: Place,
    tracker: TaskTracker,
    token: CancellationToken,
) {
    let Place {
        hub,
        entrance,
        layers,
    } = at;
    let limits = hub.limits();
    let (mut failing, mut full, mut crowded) = <(Trouble, Trouble, Trouble)>::default();
    let unfit = Arc::new(Mutex::new(Trouble::default()));
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
            counters.refuse_connection(Refusal::Full);
            if full.is_news(now) {
                warn!(limit = limits.max_connections, "too many connections");
            }
            continue;
        }
        // A proxy's own address says nothing about its clients.
        let address = layers.proxies.is_none().then(|| peer.ip());
        let place = match entrance.enter(address, now) {
            Ok(place) => place,
            Err(cause) => {
                counters.refuse_connection(cause);
                if crowded.is_news(now) {
                    tell_crowd(peer, &hub, cause);
                }
                continue;
            }
        };
        // Without it small packets would wait for the client's TCP acknowledgement.
        if stream.set_nodelay(true).is_err() {
            continue;
        }
        let held = Held::new(&hub);
        let token = token.clone();
        if layers.is_bare() {
            let serve = async move {
                connection::serve(stream, peer, &held.0, place, token).await;
            };
            tracker.spawn(serve);
            continue;
        }
        let newcomer = Newcomer {
            stream,
            peer,
            place,
            layers: Arc::clone(&layers),
            unfit: Arc::clone(&unfit),
        };
        let serve = async move {
            // In a box of its own, so that it takes no memory once it is done.
            let span = info_span!("newcomer", %peer, client = tracing::field::Empty);
            let entering = newcomer.enter(&held.0, token.clone()).instrument(span);
            let entered = Box::pin(entering).await;
            if let Some((stream, client, place)) = entered {
                connection::serve(stream, client, &held.0, place, token).await;
            }
        };
        tracker.spawn(serve);
    }
}

/// A connection that is not yet MQTT's.
struct Newcomer {
    stream: TcpStream,
    peer: SocketAddr,
    place: entrance::Place,
    layers: Arc<Layers>,
    unfit: Arc<Mutex<Trouble>>,
}

impl Newcomer {
    /// Goes through the layers. MQTT's stream and the client's address, if it got through in time.
    async fn enter(
        mut self,
        hub: &Arc<Hub>,
        token: CancellationToken,
    ) -> Option<(Box<dyn Stream>, SocketAddr, entrance::Place)> {
        let layers = Arc::clone(&self.layers);
        let max_packet_bytes = hub.limits().max_packet_bytes;
        let (deadline, leave) = (self.place.deadline, self.place.leave.clone());
        let counters = hub.counters();
        let pass = async {
            let client = layers.address(&mut self.stream, self.peer).await?;
            if layers.proxies.is_some() {
                Span::current().record("client", tracing::field::display(client));
                let told = self.place.belongs_to(client.ip(), Instant::now());
                if let Err(cause) = told {
                    if self.unfit.held().is_news(Instant::now()) {
                        tell_crowd(client, hub, cause);
                    }
                    counters.refuse_connection(cause);
                    return Ok(None);
                }
            }
            let stream = layers.open(self.stream, max_packet_bytes).await?;
            Ok(Some((stream, client, self.place)))
        };
        let passed = tokio::select! {
            passed = timeout_at(deadline.into(), pass) => passed,
            () = leave.cancelled() => {
                debug!("not ready in time for the next client");
                counters.refuse_connection(Refusal::Crowded);
                return None;
            }
            () = token.cancelled() => return None,
        };
        match passed {
            Ok(Ok(passed)) => passed,
            Ok(Err(Failure { cause, error })) => {
                counters.refuse_connection(cause);
                // One that looks into the log for its own client finds the first one there.
                if self.unfit.held().is_news(Instant::now()) {
                    info!(cause = cause.name(), %error, "connection refused");
                } else {
                    debug!(cause = cause.name(), %error, "connection refused");
                }
                None
            }
            Err(_) => {
                debug!("not ready in time");
                counters.refuse_connection(Refusal::TooSlow);
                None
            }
        }
    }
}

fn tell_crowd(client: SocketAddr, hub: &Hub, cause: Refusal) {
    let (limits, address) = (hub.limits(), client.ip());
    if cause == Refusal::TooOften {
        let limit = limits.connects_per_minute_per_address;
        warn!(%address, limit, "too many connections a minute from one address");
    } else {
        warn!(
            %address,
            limit = limits.max_connecting,
            limit_per_address = limits.max_connecting_per_address,
            "too many connections before CONNECT"
        );
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
