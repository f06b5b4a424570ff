//! What the outbox asks of the disk, and what the disk answers.
//!
//! At most one order of each kind is on its way, so a disk that hangs holds up nothing but itself.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use super::held::{FoundRun, Place};

/// A sample as the disk keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) place: Place,
    pub(crate) ts_ms: u64,
    pub(crate) payload: Arc<[u8]>,
}

/// What is to become durable together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Batch {
    /// The boots of runs that moved, by key.
    pub(crate) moved: Vec<(u64, u64)>,
    /// What is not needed any more: of the run `.0` all up to `.1`.
    pub(crate) remove: Vec<(u64, u64)>,
    pub(crate) write: Vec<Row>,
}

/// Work for the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Order {
    /// Open the folder, which could not be opened before.
    Open,
    /// A run begins under this boot, with all that the folder holds.
    Begin(u64),
    Commit(Batch),
    /// Read samples of one run from `from` on and before `end`, as many as `max_bytes` hold, but one
    /// at least.
    Read {
        from: Place,
        end: u64,
        max_bytes: usize,
    },
    /// Nothing in the file is needed: let go of it.
    Discard,
}

/// What to do about the disk.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum DiskNext {
    Order(Order),
    /// Ask again at this time, unless something happens before.
    Wait(Instant),
    Idle,
}

/// A sample that was asked for; without its payload when the row is missing or damaged.
pub(crate) type ReadRow = (Place, Option<Vec<u8>>);

/// What the disk tells.
#[derive(Debug)]
pub(crate) enum Report {
    /// The file could be opened for the first time; this was in it.
    Found(Found),
    /// The boot is noted.
    Begun,
    /// The batch is durable.
    Kept { file_bytes: u64 },
    /// What was asked for.
    Read(Vec<ReadRow>),
    /// The file is gone.
    Discarded,
    /// Another publisher of this node has the files.
    InUse,
    /// The order could not be done. Nothing of it counts.
    Failed { failure: DiskFailure, reading: bool },
    /// The file was damaged and is kept aside; all that was in it is lost. The order was not done.
    Broken {
        aside: PathBuf,
        reason: String,
        reading: bool,
    },
}

/// What was in the file at the start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Found {
    /// The boots that were used last, as far as the folder knows.
    pub(crate) boots: Vec<u64>,
    pub(crate) runs: Vec<FoundRun>,
    /// How many rows were damaged and are dropped.
    pub(crate) damaged: u64,
    /// The whole file was damaged and is kept here.
    pub(crate) broken: Option<(PathBuf, String)>,
}

/// Why the disk can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}; {mend}")]
pub(crate) struct DiskFailure {
    pub(crate) reason: String,
    /// What a person can do.
    pub(crate) mend: &'static str,
}
