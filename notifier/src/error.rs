//! What can go wrong in the notifier.

use std::path::PathBuf;

use hostbus_client::ClientError;
use hostbus_wire::EncodeError;
use thiserror::Error;

use crate::channels::ChannelError;
use crate::channels::secret::SourceError;
use crate::dispatcher::SettingError;

/// Why the notifier could not start or go on.
#[derive(Debug, Error)]
pub enum Error {
    /// The settings of the bus are wrong.
    #[error(transparent)]
    Bus(#[from] ClientError),
    /// Its health could not be written.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// A setting is out of range.
    #[error("{key} is `{value}`, expected {expected}")]
    Setting {
        /// Which.
        key: &'static str,
        /// What it is.
        value: String,
        /// What it may be.
        expected: &'static str,
    },
    /// A secret could not be had.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The extra certificates can't be used.
    #[error("failed to use the certificates of notifier.http.ca_file, {}: {reason}", path.display())]
    CaFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The web can't be asked at all.
    #[error("failed to set up HTTP: {0}")]
    Http(String),
    /// A route can't be used.
    #[error(transparent)]
    Route(#[from] SettingError),
    /// A channel can't be opened.
    #[error(transparent)]
    Channel(#[from] ChannelError),
    /// Another process has the spool.
    #[error(
        "another notifier uses {}: give each its own notifier.instance or notifier.spool.folder",
        path.display()
    )]
    SpoolInUse {
        /// Its file.
        path: PathBuf,
    },
    /// There is no thread for the spool.
    #[error("failed to start the thread that writes {}: {source}", path.display())]
    SpoolThread {
        /// The spool's file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

impl Error {
    /// Whether the settings are to be mended; else it may go away by itself.
    #[must_use]
    pub fn is_setting(&self) -> bool {
        match self {
            Self::Bus(_)
            | Self::Setting { .. }
            | Self::Source(_)
            | Self::CaFile { .. }
            | Self::Route(_)
            | Self::Channel(_) => true,
            Self::Encode(_)
            | Self::Http(_)
            | Self::SpoolInUse { .. }
            | Self::SpoolThread { .. } => false,
        }
    }
}
