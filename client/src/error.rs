//! What can go wrong on the way to the bus.

use std::path::PathBuf;

use hostbus_daemon::secret::SecretError;
use thiserror::Error;

/// Why the bus could not be used.
#[derive(Debug, Error)]
pub enum ClientError {
    /// The address of the bus is no `mqtt://host[:port]` or `mqtts://host[:port]`.
    #[error("`{url}` is no address of a bus (bus.url): {reason}")]
    Url {
        /// What was given.
        url: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The file of those whose signature is taken can't be used.
    #[error("failed to use {} (bus.ca_file): {reason}", path.display())]
    CaFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// TLS can't be used here.
    #[error("failed to prepare TLS: {0}")]
    Tls(String),
    /// The password can't be read.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// A password without a user name, or both kinds of password.
    #[error("{0}")]
    Credentials(&'static str),
    /// There is no connection at the moment. May be tried again after [`Event::Connected`](crate::Event).
    #[error("not connected to the bus")]
    NotConnected,
}
