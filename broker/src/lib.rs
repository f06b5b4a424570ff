//! The embedded MQTT broker: 3.1.1 and 5.0 on one port, identities, topic rights, sessions,
//! retained messages and wills.
//!
//! | module | owns |
//! |---|---|
//! | [`config`], [`limits`] | the settings, and the bounds on what clients can take |
//! | [`codec`] | packets, as bytes and as values |
//! | [`listeners`], `listener`, `descriptors` | where it listens, accepting connections, and for how many there are file descriptors |
//! | `layers`, [`proxy`], `tls`, `upgrade`, `websocket` | what lies between TCP and MQTT |
//! | `entrance`, `arrivals` | the connections that have not finished CONNECT, and how many come a minute |
//! | `transport` | a stream with its buffers |
//! | `handshake`, `connection` | one client: its beginning, and all that follows |
//! | `login`, [`identities`], [`credential`] | who a client is, and how that is kept |
//! | `session`, `queue`, `window` | what belongs to a client, connected or not: what waits, what is under way |
//! | `subscriber` | how a session subscribes, and leaves |
//! | `subscriptions`, `retained`, `message` | who gets what |
//! | `hub` | the middle of all this |
//! | [`counters`], `sys` | what the broker tells about itself |
//! | [`error`] | why it can't start |
//!
//! What a client may do stands in `hostbus_wire::access`. Any number of brokers run in one process.
//! Served are QoS 0 and 1, on TCP, TLS and WebSocket. Sessions and retained messages live in memory.

mod arrivals;
pub mod codec;
pub mod config;
mod connection;
pub mod counters;
pub mod credential;
mod descriptors;
mod entrance;
pub mod error;
mod handshake;
mod hub;
pub mod identities;
mod layers;
pub mod limits;
mod listener;
pub mod listeners;
mod lock;
mod login;
mod message;
pub mod proxy;
mod queue;
mod retained;
mod session;
mod subscriber;
mod subscriptions;
mod sys;
mod tls;
mod transport;
mod upgrade;
mod websocket;
mod window;

use std::sync::Arc;
use std::time::Duration;

use hostbus_daemon::{CancellationToken, Running};
use tokio_util::task::TaskTracker;
use tracing::warn;

pub use config::Config;
pub use credential::Credential;
pub use error::Error;
pub use identities::Identities;

use hub::Hub;
use listeners::Listeners;
use login::Logins;

/// How long connections may take to end when the broker stops.
const GRACE: Duration = Duration::from_secs(3);

/// Starts a broker with the identities in `config.data`. It serves when this returns, and stops
/// when `token` is cancelled: wills are not published, 5.0 clients are told, what waits is sent as
/// far as that goes within some seconds.
///
/// # Errors
/// A setting is wrong, a certificate or the data folder can't be used, an address is taken.
pub async fn start(config: Config, token: CancellationToken) -> Result<Running<Error>, Error> {
    config.check()?;
    let identities = match &config.data {
        Some(data) => Identities::open(data)?,
        None => Identities::in_memory(),
    };
    start_with(config, Arc::new(identities), token).await
}

/// Starts a broker with `identities`, to which the caller may add more while it runs. `config.data`
/// is not looked at.
///
/// # Errors
/// As for [`start`].
pub async fn start_with(
    mut config: Config,
    identities: Arc<Identities>,
    token: CancellationToken,
) -> Result<Running<Error>, Error> {
    config.check()?;
    let configured = identities::configured(&config.identities)?;
    let logins = Logins::new(identities, configured, config.anonymous, &config.limits)?;
    let (listeners, addresses) = Listeners::bind(&config).await?;
    if let Some(role) = config.anonymous {
        warn!(?role, "anonymous clients are let in: for development only");
    }
    config.limits.max_connections = descriptors::raise_for(config.limits.max_connections);
    let hub = Arc::new(Hub::new(config, logins));
    let token = token.child_token();
    let task = tokio::spawn(run(listeners, hub, token.clone()));
    Ok(Running::new("broker", addresses, token, task))
}

/// Serves until `token` is cancelled and all connections have ended or their grace is over.
async fn run(listeners: Listeners, hub: Arc<Hub>, token: CancellationToken) -> Result<(), Error> {
    let tracker = TaskTracker::new();
    tokio::join!(
        listeners.accept(Arc::clone(&hub), tracker.clone(), token.clone()),
        sys::tick(&hub, token.clone()),
    );
    tracker.close();
    if tokio::time::timeout(GRACE, tracker.wait()).await.is_err() {
        warn!(
            connections = tracker.len(),
            "stopped before all connections had ended"
        );
    }
    Ok(())
}
