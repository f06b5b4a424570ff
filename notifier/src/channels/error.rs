//! What can be wrong with a channel's settings.

use thiserror::Error;

use super::secret::SourceError;
use crate::template::TemplateError;

/// Why a channel could not be opened. No secret stands in it.
#[derive(Debug, Error)]
pub enum ChannelError {
    /// A key that the channel can't do without.
    #[error("`notifier.channels.{channel}` needs {keys}: {expected}")]
    Missing {
        /// The channel.
        channel: String,
        /// The keys, one of which is enough.
        keys: String,
        /// What they are for and where they come from.
        expected: String,
    },
    /// A template that stands in two places.
    #[error("`notifier.channels.{channel}` has both `{first}` and `{second}`: keep one of them")]
    Both {
        /// The channel.
        channel: String,
        /// One of them.
        first: String,
        /// The other one.
        second: String,
    },
    /// A value that its key can't have.
    #[error(
        "bad value for `notifier.channels.{channel}.{key}`: found {found}, expected {expected}"
    )]
    Value {
        /// The channel.
        channel: String,
        /// The key.
        key: String,
        /// What was found; of a secret only what kind of thing it is.
        found: String,
        /// What was expected.
        expected: String,
    },
    /// A secret can't be had.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// A template's file can't be read.
    #[error("bad value for `notifier.channels.{channel}.{key}`: failed to read {path}: {source}")]
    File {
        /// The channel.
        channel: String,
        /// The key.
        key: String,
        /// The file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A template is broken.
    #[error("bad value for `notifier.channels.{channel}.{key}`: {source}")]
    Template {
        /// The channel.
        channel: String,
        /// The key.
        key: String,
        /// Where and why.
        source: TemplateError,
    },
}
