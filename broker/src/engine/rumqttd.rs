//! Runs rumqttd in this process, as far as it can be run: it serves on one loopback address, our
//! logins open its door, and its death is noticed. [`super::Engine::Rumqttd`] lists its limits.
//!
//! Its own `Broker` can't be stopped and does not tell where it listens. So its parts are used: the
//! router, on a thread of its own that nothing ends, and the server, as a future on a runtime that
//! is dropped, and all connections with it.

use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::thread;
use std::time::Duration;

use hostbus_daemon::{CancellationToken, Running};
use rumqttd::protocol::v4::V4;
use rumqttd::{ConnectionSettings, LinkType, Router, RouterConfig, Server, ServerSettings};
use tokio::sync::oneshot;
use tracing::{info, warn};

use crate::codec::reason::Reason;
use crate::config::Config;
use crate::error::Error;
use crate::limits::Limits;
use crate::login::Logins;
use crate::{GRACE, descriptors};

/// How often the router is looked at.
const WATCH: Duration = Duration::from_millis(500);

/// The log of a subscription has so many parts; the oldest goes as a whole.
const SEGMENTS: usize = 10;

/// Messages that it reads for a subscription at once, and the most retained messages that a new
/// one gets. Its own configuration file says 200, which is less than a site has.
const BATCH: u64 = 10_000;

/// Messages of a client that it has not looked at yet.
const INCOMING: usize = 100;

/// Its router drops a client whose id has one of these without a word, and the next connection
/// with the same id leaves a lock behind that no connection gets past.
const NOT_IN_CLIENT_IDS: [char; 4] = ['+', '$', '#', '/'];

/// Starts rumqttd on `config.listen`. It listens when this returns.
pub(crate) async fn start(
    mut config: Config,
    logins: Logins,
    token: &CancellationToken,
) -> Result<Running<Error>, Error> {
    let Some(listen) = config.listen else {
        return Err(Error::EngineListeners);
    };
    let bind = |source| Error::Bind {
        setting: "broker.listen".to_owned(),
        listen,
        source,
    };
    let address = with_port(listen).map_err(bind)?;
    config.limits.max_connections = descriptors::raise_for(config.limits.max_connections);
    tell_limits(address);
    let router = Router::new(0, router_settings(&config.limits)).spawn();
    let server = Server::new(
        server_settings(address, &config, logins),
        router.clone(),
        V4,
    );
    let stop = token.child_token();
    let (tell_bound, bound) = oneshot::channel();
    let (serving, ended) = oneshot::channel();
    let stopped = stop.clone();
    thread::Builder::new()
        .name("rumqttd".to_owned())
        .spawn(move || serve(server, tell_bound, &stopped, serving))
        .map_err(bind)?;
    bound
        .await
        .unwrap_or_else(|_| Err(io::Error::other("its thread ended")))
        .map_err(bind)?;
    info!(%address, "rumqttd is listening for MQTT 3.1.1");
    let is_dead = move || router.is_disconnected();
    let task = tokio::spawn(watch(is_dead, ended, stop.clone()));
    Ok(Running::new("broker", vec![address], stop, task))
}

fn tell_limits(address: SocketAddr) {
    warn!(
        %address,
        rights = "none: whoever may log in may read and write every topic",
        protocol = "MQTT 3.1.1 only, no TLS, no WebSocket, no $SYS",
        storage = "memory only; a reader that falls behind misses messages untold",
        stability = "known to die of certain messages, such as one to a topic that begins with a \
                     letter beyond ASCII; the broker then ends with an error, if it can see it",
        "the engine is rumqttd, which has limits that hostbus has not"
    );
}

/// rumqttd does not tell which port it took, so a free one is looked for first. Another process
/// may take it before rumqttd does; then the start fails as with any port that is taken.
fn with_port(listen: SocketAddr) -> io::Result<SocketAddr> {
    if listen.port() != 0 {
        return Ok(listen);
    }
    std::net::TcpListener::bind(listen)?.local_addr()
}

fn router_settings(limits: &Limits) -> RouterConfig {
    RouterConfig {
        max_connections: limits.max_connections,
        max_outgoing_packet_count: BATCH,
        max_segment_size: limits.queue_bytes.div_ceil(SEGMENTS),
        max_segment_count: SEGMENTS,
        ..RouterConfig::default()
    }
}

fn server_settings(listen: SocketAddr, config: &Config, logins: Logins) -> ServerSettings {
    let timeout = Duration::from_secs(config.limits.connect_timeout_seconds);
    let mut settings = ServerSettings {
        name: "hostbus".to_owned(),
        listen,
        tls: None,
        next_connection_delay_ms: 0,
        connections: ConnectionSettings {
            connection_timeout_ms: u16::try_from(timeout.as_millis()).unwrap_or(u16::MAX),
            max_payload_size: config.limits.max_packet_bytes,
            max_inflight_count: INCOMING,
            auth: None,
            external_auth: None,
            dynamic_filters: false,
        },
    };
    // With a handler it refuses everyone who sends no user name.
    if config.anonymous.is_none() {
        let logins = Arc::new(logins);
        settings.set_auth_handler(move |client_id, user, password| {
            may_enter(Arc::clone(&logins), listen.ip(), client_id, user, password)
        });
    }
    settings
}

/// Whether a client is let in. rumqttd does not tell its address: all of loopback is one.
async fn may_enter(
    logins: Arc<Logins>,
    address: IpAddr,
    client_id: String,
    user: String,
    password: String,
) -> bool {
    let identified = if client_id.contains(NOT_IN_CLIENT_IDS) {
        Err(Reason::CLIENT_IDENTIFIER_NOT_VALID)
    } else {
        logins
            .identify(address, Some(&user), password.as_bytes())
            .await
    };
    if let Err(reason) = identified
        && logins.is_news(address, &user, reason)
    {
        let user: String = user.chars().take(64).collect();
        let reason = format_args!("{:#04x}", reason.0);
        info!(?user, reason, "client refused");
    }
    identified.is_ok()
}

/// Serves until `stop` is cancelled. `_serving` is dropped when all of it has ended.
fn serve(
    mut server: Server<V4>,
    tell_bound: oneshot::Sender<io::Result<()>>,
    stop: &CancellationToken,
    _serving: oneshot::Sender<()>,
) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = tell_bound.send(Err(error));
            return;
        }
    };
    runtime.block_on(async {
        let mut serving = pin!(server.start(LinkType::Remote));
        // It binds when it is first polled, and ends at once where it can't.
        let first = poll_fn(|context| Poll::Ready(serving.as_mut().poll(context))).await;
        if let Poll::Ready(ended) = first {
            let error = ended.map_or_else(
                |error| io::Error::other(error.to_string()),
                |()| io::Error::other("rumqttd ended"),
            );
            let _ = tell_bound.send(Err(error));
            return;
        }
        let _ = tell_bound.send(Ok(()));
        tokio::select! {
            _ = serving => {}
            () = stop.cancelled() => {}
        }
    });
    runtime.shutdown_timeout(GRACE);
}

/// Waits for the end, of whatever kind.
async fn watch(
    is_dead: impl Fn() -> bool,
    mut ended: oneshot::Receiver<()>,
    stop: CancellationToken,
) -> Result<(), Error> {
    loop {
        tokio::select! {
            // First, since what is told to stop ends too.
            biased;
            () = stop.cancelled() => break,
            _ = &mut ended => return Err(Error::EngineDied("listener")),
            () = tokio::time::sleep(WATCH) => {
                if is_dead() {
                    stop.cancel();
                    return Err(Error::EngineDied("router"));
                }
            }
        }
    }
    if tokio::time::timeout(GRACE, ended).await.is_err() {
        warn!("stopped before rumqttd's connections had ended");
    }
    Ok(())
}
