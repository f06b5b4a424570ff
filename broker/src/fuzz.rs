//! A broker without sockets, threads and files, for fuzzing: each client is one end of a pipe.
//!
//! It has the smallest queues and windows, so that a short script meets their limits.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hostbus_daemon::CancellationToken;
use hostbus_wire::Role;
use tokio::io::DuplexStream;

use crate::config::Config;
use crate::connection;
use crate::entrance::Entrance;
use crate::error::Error;
use crate::hub::Hub;
use crate::identities::Identities;
use crate::limits::Limits;
use crate::login::Logins;

/// Bytes that fit in a pipe.
const PIPE_BYTES: usize = 8 * 1024;

/// A broker that lets everybody in.
#[derive(Debug)]
pub struct Broker {
    hub: Arc<Hub>,
    entrance: Arc<Entrance>,
}

impl Broker {
    /// A broker.
    ///
    /// # Errors
    /// Never, unless its settings don't fit together.
    pub fn new() -> Result<Self, Error> {
        let config = Config {
            anonymous: Some(Role::Admin),
            limits: Limits {
                max_packet_bytes: 4_096,
                max_subscriptions: 8,
                max_absent_sessions: 2,
                queue_messages: 8,
                queue_bytes: 4_096,
                receive_maximum: 4,
                answer_bytes: 1_024,
                retained_messages: 8,
                ..Limits::default()
            },
            ..Config::default()
        };
        config.check()?;
        let identities = Arc::new(Identities::in_memory());
        let logins = Logins::new(
            identities,
            Default::default(),
            config.anonymous,
            &config.limits,
        )?;
        Ok(Self {
            entrance: Arc::new(Entrance::new(&config.limits)),
            hub: Arc::new(Hub::new(config, logins, None)),
        })
    }

    /// A client's end of a new connection, and what serves the other end until the client has gone.
    /// `None` when there are too many.
    #[must_use]
    pub fn connect(&self) -> Option<(DuplexStream, impl Future<Output = ()> + use<>)> {
        let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        let place = self.entrance.enter(Some(peer.ip()), Instant::now()).ok()?;
        let (client, server) = tokio::io::duplex(PIPE_BYTES);
        let hub = Arc::clone(&self.hub);
        let serve = async move {
            let token = CancellationToken::new();
            connection::serve(server, peer, &hub, place, token).await;
        };
        Some((client, serve))
    }

    /// Ends the sessions and publishes the wills whose time will be over `ahead` of now.
    pub fn sweep(&self, ahead: Duration) {
        let now = Instant::now() + ahead;
        self.hub.sweep(now);
        self.hub.retained().sweep(now);
    }

    /// What must be 0 once all clients have gone and all sessions are over.
    #[must_use]
    pub fn left(&self) -> [(&'static str, u64); 4] {
        let (sessions, absent) = self.hub.session_counts();
        let subscriptions = self.hub.subscriptions().load().count();
        [
            ("clients", self.hub.counters().clients_connected.get()),
            ("sessions", (sessions + absent) as u64),
            ("subscriptions", subscriptions as u64),
            ("messages", self.hub.counters().queued_messages.get()),
        ]
    }
}
