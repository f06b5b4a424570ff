//! What can go wrong with Redis.

use hostbus_daemon::secret::SecretError;
use thiserror::Error;

/// Why Redis could not be used.
#[derive(Debug, Error)]
pub enum StoreError {
    /// No address is set.
    #[error("redis.url is not set: write redis://host[:port] or unix:///path/to/socket")]
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
    /// Rows would be gone before anybody could read them.
    #[error("redis.retention.raw.seconds is {seconds}: use at least 60")]
    Retention {
        /// What was given.
        seconds: u64,
    },
    /// Redis can't be reached, is loading, is full, can't write its file or may not be written to
    /// now. What was sent may or may not have been done. May be tried again.
    #[error("redis is unavailable: {reason}")]
    Unavailable {
        /// What the system or Redis said.
        reason: String,
    },
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
        matches!(self, Self::Unavailable { .. } | Self::Denied { .. })
    }

    pub(crate) fn reply(command: &str) -> Self {
        Self::Reply {
            command: command.to_owned(),
        }
    }
}
