//! Why the broker can't start, or an identity can't be kept.

use std::net::SocketAddr;
use std::path::PathBuf;

use hostbus_daemon::secret::SecretError;
use hostbus_wire::Role;
use thiserror::Error;

/// What went wrong.
#[derive(Debug, Error)]
pub enum Error {
    /// A limit lies outside its range.
    #[error("broker.limits.{key} is {value}, expected {least} to {most}")]
    Limit {
        /// The key.
        key: &'static str,
        /// What was given.
        value: u64,
        /// The least allowed.
        least: u64,
        /// The most allowed.
        most: u64,
    },
    /// The interval of the broker's own figures lies outside its range.
    #[error("broker.sys_interval_seconds is {0}, expected 0 to 86400")]
    SysInterval(u64),
    /// The engine is not part of this program.
    #[error(
        "broker.engine is `rumqttd`, which this program was built without; build it with `cargo build --release --features rumqttd -p hostbus-broker` (or `-p hostbus`), or set broker.engine to `hostbus`"
    )]
    EngineMissing,
    /// An engine without topic rights must not be reached from elsewhere.
    #[error(
        "broker.engine `rumqttd` has no topic rights and works on a loopback address only, broker.listen is {listen}"
    )]
    EngineOffLoopback {
        /// The address.
        listen: SocketAddr,
    },
    /// An engine that knows one kind of listener.
    #[error(
        "broker.engine `rumqttd` listens on broker.listen only: set it to an address, and leave broker.listeners empty"
    )]
    EngineListeners,
    /// The engine ended while it should serve.
    #[error("the {0} of rumqttd died, and the broker with it; start it again")]
    EngineDied(&'static str),
    /// Plain text would be readable on the network.
    #[error(
        "{setting} is {listen}: passwords would cross the network in plain text; listen on a loopback address or with TLS, or set broker.insecure_listen = true where the network itself is private"
    )]
    Insecure {
        /// Where it stands.
        setting: String,
        /// The address.
        listen: SocketAddr,
    },
    /// Anybody on the network could read the figures.
    #[error(
        "broker.metrics_listen is {listen}: whoever reaches this port reads the broker's figures without login; listen on a loopback address, or set broker.insecure_metrics_listen = true where the network itself is private"
    )]
    InsecureMetrics {
        /// The address.
        listen: SocketAddr,
    },
    /// Anonymous clients are for development only.
    #[error("broker.anonymous works on a loopback address only, {setting} is {listen}")]
    AnonymousOffLoopback {
        /// Where it stands.
        setting: String,
        /// The address.
        listen: SocketAddr,
    },
    /// A role that needs a node or a request of its own.
    #[error(
        "broker.anonymous is `{0:?}`, expected a role that has no node of its own: ingester, notifier, viewer, operator or admin"
    )]
    AnonymousRole(Role),
    /// The address can't be had.
    #[error("failed to listen on {listen} ({setting}): {source}")]
    Bind {
        /// Where it stands.
        setting: String,
        /// The address.
        listen: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// The address of the figures can't be had.
    #[error("failed to listen on {listen} (broker.metrics_listen): {source}")]
    BindMetrics {
        /// The address.
        listen: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// A broker that nobody could reach.
    #[error("broker.listen is none and broker.listeners is empty: nobody could connect")]
    NoListener,
    /// A setting of a listener that makes no sense.
    #[error("{setting}: {problem}")]
    Listener {
        /// Where it stands.
        setting: String,
        /// What is wrong, and what was expected.
        problem: &'static str,
    },
    /// The interval of looking at certificates lies outside its range.
    #[error("broker.certificate_check_seconds is {0}, expected 1 to 86400")]
    CertificateCheck(u64),
    /// A file of a certificate, or a key, can't be used.
    #[error("{setting}: failed to use {}: {problem}", path.display())]
    Certificate {
        /// Where it stands.
        setting: String,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The data folder or the file in it can't be used.
    #[error("failed to open {}: {source}", path.display())]
    Data {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Another process has the identities open.
    #[error("{} is in use: a running broker holds it; stop that broker first", path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// The file is damaged, or the disk fails.
    #[error("failed to use {}: {source}", path.display())]
    Database {
        /// The file.
        path: PathBuf,
        /// What the database said.
        source: Box<redb::Error>,
    },
    /// A new file of sessions and retained messages can't be begun.
    #[error("failed to begin {}: {problem}", path.display())]
    State {
        /// The file.
        path: PathBuf,
        /// What the database said.
        problem: String,
    },
    /// A later version of hostbus wrote the file, or it is damaged.
    #[error("{} holds {found}, this version reads format 1", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What it holds.
        found: String,
    },
    /// An identity that makes no sense.
    #[error("identity `{name}`: {problem}")]
    Identity {
        /// Its name.
        name: String,
        /// What is wrong, and what was expected.
        problem: &'static str,
    },
    /// A secret can't be read.
    #[error("identity `{name}`: {source}")]
    Secret {
        /// The identity.
        name: String,
        /// What went wrong.
        source: SecretError,
    },
    /// A password could not be hashed.
    #[error("failed to hash a password: {0}")]
    Hash(String),
}

impl Error {
    /// Tells whether a setting or an argument is wrong, rather than the world around.
    #[must_use]
    pub fn is_setting(&self) -> bool {
        matches!(
            self,
            Self::Limit { .. }
                | Self::SysInterval(_)
                | Self::EngineMissing
                | Self::EngineOffLoopback { .. }
                | Self::EngineListeners
                | Self::Insecure { .. }
                | Self::InsecureMetrics { .. }
                | Self::AnonymousOffLoopback { .. }
                | Self::AnonymousRole(_)
                | Self::NoListener
                | Self::Listener { .. }
                | Self::CertificateCheck(_)
                | Self::Certificate { .. }
                | Self::Identity { .. }
                | Self::Secret { .. }
        )
    }
}
