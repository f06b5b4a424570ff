//! What is wrong with a client's bytes, and which reason code says so.

use thiserror::Error;

use super::reason::Reason;

/// Why bytes are no packet that a client may send. The connection ends with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// The bytes can't be read as the packet that they claim to be.
    #[error("malformed packet: {0}")]
    Malformed(&'static str),
    /// The packet can be read, but may not stand here or not like this.
    #[error("protocol error: {0}")]
    Protocol(&'static str),
    /// The packet is longer than allowed.
    #[error("packet of {bytes} bytes, at most {max_bytes} are allowed")]
    TooLarge {
        /// The length that the packet claims, its header not counted.
        bytes: usize,
        /// The limit.
        max_bytes: usize,
    },
    /// The protocol level in CONNECT is none of 3.1, 3.1.1 and 5.0.
    #[error("unsupported protocol level {0}")]
    Version(u8),
    /// A topic name holds a wildcard, or is empty where it must not be.
    #[error("topic name with a wildcard, or empty")]
    TopicName,
    /// A topic alias is 0.
    #[error("topic alias 0")]
    TopicAlias,
    /// A topic filter is empty or a wildcard stands where it must not.
    #[error("malformed topic filter")]
    TopicFilter,
}

impl DecodeError {
    /// The reason code that tells a 5.0 client.
    #[must_use]
    pub fn reason(self) -> Reason {
        match self {
            Self::Malformed(_) => Reason::MALFORMED_PACKET,
            Self::Protocol(_) => Reason::PROTOCOL_ERROR,
            Self::TooLarge { .. } => Reason::PACKET_TOO_LARGE,
            Self::Version(_) => Reason::UNSUPPORTED_PROTOCOL_VERSION,
            Self::TopicName => Reason::TOPIC_NAME_INVALID,
            Self::TopicAlias => Reason::TOPIC_ALIAS_INVALID,
            Self::TopicFilter => Reason::TOPIC_FILTER_INVALID,
        }
    }
}
