//! Why an ingester can't start, or ends by itself.

use hostbus_client::ClientError;
use hostbus_store::StoreError;
use thiserror::Error;
use tokio::task::JoinError;

/// Why an ingester can't start, or ends by itself.
#[derive(Debug, Error)]
pub enum Error {
    /// A setting is out of its range.
    #[error("`{value}` is no value for ingester.{key}: expected {expected}")]
    Setting {
        /// The key.
        key: &'static str,
        /// What was given.
        value: String,
        /// What it may be.
        expected: &'static str,
    },
    /// The settings of the bus are wrong.
    #[error(transparent)]
    Bus(#[from] ClientError),
    /// The settings of Redis are wrong.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A part of it ended, which none should.
    #[error("the ingester's {part} ended by itself")]
    Part {
        /// Which, and why if it told.
        part: String,
    },
}

impl Error {
    /// Tells whether a setting is what must be mended.
    #[must_use]
    pub fn is_setting(&self) -> bool {
        matches!(self, Self::Setting { .. } | Self::Bus(_) | Self::Store(_))
    }

    pub(crate) fn part(ended: Result<&'static str, JoinError>) -> Self {
        let part = ended.map_or_else(|error| error.to_string(), str::to_owned);
        Self::Part { part }
    }
}
