//! What can go wrong in the publisher: at its start, and while it collects.

use std::io;
use std::path::{Path, PathBuf};

use hostbus_client::ClientError;
use hostbus_wire::EncodeError;
use procfs::ProcError;
use thiserror::Error;

/// Why the publisher can't run.
#[derive(Debug, Error)]
pub enum Error {
    /// An interval is out of range.
    #[error("bad value `{value}` for publisher.{key}: expected 0.1 to 3600")]
    Interval {
        /// The key below `publisher`.
        key: String,
        /// What was given.
        value: f64,
    },
    /// Where NVIDIA's library is, is not said in full.
    #[error(
        "bad value `{}` for publisher.collectors.gpus.library: expected an absolute path",
        path.display()
    )]
    GpuLibrary {
        /// What was given.
        path: PathBuf,
    },
    /// A limit of the outbox is out of range.
    #[error("bad value `{value}` for publisher.outbox.{key}: expected {expected}")]
    Outbox {
        /// The key below `publisher.outbox`.
        key: &'static str,
        /// What was given.
        value: String,
        /// The range.
        expected: &'static str,
    },
    /// Another publisher of this node runs on this host.
    #[error(
        "another publisher of {node} runs on this host and holds {}: stop it, or give this one another publisher.node or publisher.outbox.folder",
        folder.display()
    )]
    OutboxInUse {
        /// The folder of the outbox.
        folder: PathBuf,
        /// The site and the node.
        node: String,
    },
    /// No node is set, and the host name gives none.
    #[error(
        "the host name `{hostname}` makes no node id: set publisher.node to 1 to 31 of a-z, 0-9 and '-'"
    )]
    Node {
        /// The host's name.
        hostname: String,
    },
    /// The settings of the bus are wrong.
    #[error(transparent)]
    Bus(#[from] ClientError),
    /// A payload of our own can't be written.
    #[error(transparent)]
    Encode(#[from] EncodeError),
}

impl Error {
    /// Tells whether a setting is wrong, so that trying again is useless.
    #[must_use]
    pub fn is_setting(&self) -> bool {
        !matches!(self, Self::Encode(_) | Self::OutboxInUse { .. })
    }
}

/// NVIDIA's driver or its library does not work.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the NVIDIA driver fails: {reason}")]
pub struct DriverError {
    pub(crate) reason: String,
}

/// Why a collector could not read its numbers. It is asked again at the next sample.
#[derive(Debug, Error)]
pub(crate) enum CollectorError {
    #[error("failed to read {}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} has no line that can be understood", path.display())]
    Parse { path: PathBuf },
    #[error("failed to read {what}: {source}")]
    Proc {
        what: &'static str,
        source: ProcError,
    },
    #[error(transparent)]
    Gpu(#[from] DriverError),
    #[error("panicked: {0}")]
    Panicked(String),
    #[error("does not answer: something that it reads hangs in the kernel")]
    Hangs,
    #[error("takes longer than the second that a sample waits for it, nothing of it is taken")]
    Slow,
    #[error("is not made anew: its last ends hang")]
    EndsHang,
    #[error("no thread could be started for it: {0}")]
    Thread(io::Error),
}

impl CollectorError {
    pub(crate) fn read(path: impl AsRef<Path>, source: io::Error) -> Self {
        Self::Read {
            path: path.as_ref().to_owned(),
            source,
        }
    }

    pub(crate) fn parse(path: impl AsRef<Path>) -> Self {
        Self::Parse {
            path: path.as_ref().to_owned(),
        }
    }
}
