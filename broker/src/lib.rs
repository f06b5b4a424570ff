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
//! | `subscriber`, `shared` | how a session subscribes, and leaves; who gets a message that many share |
//! | `disk` | what survives the broker |
//! | `subscriptions`, `retained`, `message` | who gets what |
//! | `hub` | the middle of all this |
//! | [`counters`], `histogram`, `load`, `process` | what the broker measures about itself |
//! | `figures`, `sys`, `health`, `prometheus`, `metrics` | how it tells that: on the bus and over HTTP |
//! | [`engine`] | another broker in place of this one |
//! | [`error`] | why it can't start |
//!
//! What a client may do stands in `hostbus_wire::access`. Any number of brokers run in one process.
//! With a data folder, persistent sessions, retained messages and what was acknowledged for them
//! survive the broker, however it ends.

mod arrivals;
pub mod codec;
pub mod config;
mod connection;
pub mod counters;
pub mod credential;
mod descriptors;
mod disk;
pub mod engine;
mod entrance;
pub mod error;
mod figures;
#[doc(hidden)]
pub mod fuzz;
mod handshake;
mod health;
mod histogram;
mod hub;
pub mod identities;
mod layers;
pub mod limits;
mod listener;
pub mod listeners;
mod load;
mod lock;
mod login;
mod message;
mod metrics;
mod process;
mod prometheus;
pub mod proxy;
mod queue;
mod retained;
mod session;
mod shared;
mod subscriber;
mod subscriptions;
mod sys;
mod tls;
mod transport;
mod upgrade;
mod websocket;
mod window;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hostbus_daemon::{CancellationToken, Running};
use tokio::net::TcpListener;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

pub use config::Config;
pub use credential::Credential;
pub use error::Error;
pub use identities::Identities;

use disk::{Disk, Loaded};
use hub::Hub;
use listeners::Listeners;
use login::Logins;

/// How long connections may take to end when the broker stops.
const GRACE: Duration = Duration::from_secs(3);

/// Starts a broker with the identities in `config.data`. It serves when this returns, and stops
/// when `token` is cancelled: wills are not published, 5.0 clients are told, what waits is sent as
/// far as that goes within some seconds. Of its addresses the first is for MQTT; the last one is
/// for Prometheus where `config.metrics_listen` is set.
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

/// Starts a broker with `identities`, to which the caller may add more while it runs. In the folder
/// `config.data`, where there is one, it keeps its state.
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
    if let Some(role) = config.anonymous {
        warn!(?role, "anonymous clients are let in: for development only");
    }
    #[cfg(feature = "rumqttd")]
    if config.engine == engine::Engine::Rumqttd {
        return engine::rumqttd::start(config, logins, &token).await;
    }
    let (listeners, mut addresses) = Listeners::bind(&config).await?;
    let metrics = match config.metrics_listen {
        Some(listen) => {
            let bind = |source| Error::BindMetrics { listen, source };
            let listener = TcpListener::bind(listen).await.map_err(bind)?;
            let address = listener.local_addr().map_err(bind)?;
            info!(%address, "listening for Prometheus");
            addresses.push(address);
            Some(listener)
        }
        None => None,
    };
    config.limits.max_connections = descriptors::raise_for(config.limits.max_connections);
    let disk = match config.data.clone() {
        Some(data) => Some(open_disk(data).await?),
        None => {
            info!(
                "no data folder (broker.data): sessions and retained messages end with this process"
            );
            None
        }
    };
    let hub = Arc::new(Hub::new(config, logins, disk));
    let token = token.child_token();
    let task = tokio::spawn(run(listeners, metrics, hub, token.clone()));
    Ok(Running::new("broker", addresses, token, task))
}

async fn open_disk(data: PathBuf) -> Result<(Disk, Loaded), Error> {
    let opening = tokio::task::spawn_blocking(move || {
        identities::make_folder(&data)?;
        Disk::open(&data)
    });
    match opening.await {
        Ok(opened) => opened,
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    }
}

/// Serves until `token` is cancelled and all connections have ended or their grace is over.
async fn run(
    listeners: Listeners,
    metrics: Option<TcpListener>,
    hub: Arc<Hub>,
    token: CancellationToken,
) -> Result<(), Error> {
    let tracker = TaskTracker::new();
    let metrics = async {
        if let Some(listener) = metrics {
            metrics::serve(listener, Arc::clone(&hub), tracker.clone(), token.clone()).await;
        }
    };
    tokio::join!(
        listeners.accept(Arc::clone(&hub), tracker.clone(), token.clone()),
        sys::tick(&hub, token.clone()),
        metrics,
    );
    tracker.close();
    if tokio::time::timeout(GRACE, tracker.wait()).await.is_err() {
        warn!(
            connections = tracker.len(),
            "stopped before all connections had ended"
        );
    }
    if let Some(disk) = hub.disk().cloned() {
        // It blocks until all is written; a panic in it is told there.
        let _ = tokio::task::spawn_blocking(move || disk.close()).await;
    }
    Ok(())
}
