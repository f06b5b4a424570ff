//! `status`: `online` or `offline` as plain text, so that the smallest client can read it.
//!
//! Retained. `offline` is the publisher's last will, and what it publishes when it stops.

use thiserror::Error;

/// Whether a publisher is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// It is connected.
    Online,
    /// It said good-bye, or the broker lost it.
    Offline,
}

/// A status that is neither `online` nor `offline`.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("a status is `online` or `offline`")]
pub struct StatusError;

impl Status {
    /// The payload.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Online => "online",
            Self::Offline => "offline",
        }
    }

    /// Reads the payload.
    ///
    /// # Errors
    /// It is neither `online` nor `offline`.
    pub fn decode(payload: &[u8]) -> Result<Self, StatusError> {
        match payload {
            b"online" => Ok(Self::Online),
            b"offline" => Ok(Self::Offline),
            _ => Err(StatusError),
        }
    }
}
