//! What can go wrong with Redis.

use std::path::PathBuf;

use hostbus_daemon::secret::SecretError;
use thiserror::Error;

use crate::tier::Tier;

/// Why Redis could not be used.
#[derive(Debug, Error)]
pub enum StoreError {
    /// No address is set.
    #[error(
        "redis.url is not set: write redis://host[:port], rediss://host[:port] for TLS, or unix:///path/to/socket"
    )]
    NoUrl,
    /// The address is none.
    #[error("`{url}` is no address of Redis (redis.url): {reason}")]
    Url {
        /// What was given.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The address carries a user, a password or parameters.
    #[error(
        "redis.url has a user, a password or parameters in it: they have their own keys, redis.user and redis.password_file"
    )]
    UrlCredentials,
    /// A user without a password, or two passwords.
    #[error("{0}")]
    Credentials(&'static str),
    /// The password can't be read.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// Rows would be gone before anybody could read them, sum them up or pack them.
    #[error("redis.retention.{tier}.{key} is {value}: expected {expected}")]
    Retention {
        /// Whose.
        tier: Tier,
        /// Its key.
        key: &'static str,
        /// What was given.
        value: u64,
        /// What it may be.
        expected: String,
    },
    /// A file of certificates or of their key can't be used.
    #[error("{key} {} can't be used: {reason}", path.display())]
    CertificateFile {
        /// Which one.
        key: &'static str,
        /// Where it is.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// TLS can't be set up.
    #[error("failed to set up TLS to redis: {0}")]
    Tls(String),
    /// Redis can't be reached, is loading, can't write its file or may not be written to
    /// now. What was sent may or may not have been done. May be tried again.
    #[error("redis is unavailable: {reason}")]
    Unavailable {
        /// What the system or Redis said.
        reason: String,
    },
    /// Redis has used up its memory, and takes no writes until it has more or holds less. What was sent
    /// may be done in part. May be tried again.
    #[error(
        "the memory of redis is full (maxmemory): give it more (redis-cli CONFIG SET maxmemory), keep less ([redis.retention]), or remove a node (hostbus forget)"
    )]
    Full,
    /// Redis refuses who we are or what we may do; somebody must mend its settings or ours, then it
    /// may be tried again.
    #[error("redis refuses us: {reason}")]
    Denied {
        /// What Redis said.
        reason: String,
    },
    /// Redis refuses a command, and would again.
    #[error("redis refuses {command}: {reason}")]
    Refused {
        /// The command.
        command: String,
        /// What Redis said.
        reason: String,
    },
    /// A reply that no Redis gives.
    #[error("unexpected reply of redis to {command}")]
    Reply {
        /// The command.
        command: String,
    },
}

impl StoreError {
    /// Tells whether the same may be tried again after a wait.
    #[must_use]
    pub fn may_retry(&self) -> bool {
        matches!(
            self,
            Self::Unavailable { .. } | Self::Full | Self::Denied { .. }
        )
    }

    pub(crate) fn reply(command: &str) -> Self {
        Self::Reply {
            command: command.to_owned(),
        }
    }
}
