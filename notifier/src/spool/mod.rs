//! What must survive the notifier's death: the dispatcher's state, the notices of each channel in
//! order, and how far their delivery has come.
//!
//! | module | owns |
//! |---|---|
//! | `config` | the `[notifier.spool]` section |
//! | `queue` | the notices of one channel, and which go when there are too many |
//! | `shelf` | all of it in memory, and what of it is not on disk yet |
//! | `file`, `row` | `spool.redb`: opening, reading, committing |
//! | `writer` | the thread that works on the file |
//!
//! Memory is what counts, the disk follows: one thread writes all that changed meanwhile in one
//! transaction. What is recorded in one call is on disk together or not at all. A notice is sent once
//! it is on disk, or once the disk is known to fail or to hang: then it goes out all the same, and the
//! notifier's health says so.
//!
//! A notice leaves when its end (delivered, or given up) has been told. Whatever is killed in
//! between, its end is told again after the next start.

mod config;
mod file;
mod queue;
mod row;
mod shelf;
#[cfg(test)]
mod tests;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use hostbus_wire::told::Told;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::timeout;
use tracing::warn;

use crate::error::Error;
use crate::notice::Notice;

pub use config::SpoolConfig;
pub use queue::{End, Progress, Waiting};
use shelf::Shelf;
use writer::Writer;

/// How long a notice waits for a disk that hangs.
const SETTLE_WITHIN: Duration = Duration::from_secs(2);
/// How long a stop waits for the disk.
const CLOSE_WITHIN: Duration = Duration::from_secs(5);

/// How many changes were recorded before and with this one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(u64);

impl Ticket {
    /// What is on disk already.
    pub const NONE: Self = Self(0);
    /// What never will be: there is no disk.
    const MEMORY: Self = Self(u64::MAX);
}

/// What becomes durable together.
#[derive(Debug, Default)]
pub struct Changes {
    /// The dispatcher's entries: a key and its new value, or `None` when it is gone.
    pub entries: Vec<(String, Option<Vec<u8>>)>,
    /// Its new notices, in order.
    pub notices: Vec<Notice>,
}

/// How the delivery of a notice ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ended {
    /// The channel took it.
    Delivered,
    /// It will not be tried again. Some of its messages may have been taken.
    GivenUp {
        /// What was wrong, for people; no secret in it.
        reason: String,
    },
}

/// The end of a notice, which is to be told on the bus.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// Through which channel.
    pub channel: String,
    /// The notice as it was sent.
    pub notice: Arc<Notice>,
    /// How it ended.
    pub ended: Ended,
    /// When, in milliseconds since 1970-01-01 UTC.
    pub at_ms: u64,
}

/// What a channel did since the start, and what waits for it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Figures {
    /// Notices that wait, with the one that is being sent.
    pub queued: usize,
    /// About how many bytes they have.
    pub queued_bytes: usize,
    /// When the oldest of them was formed, in milliseconds since 1970-01-01 UTC.
    pub oldest_ms: Option<u64>,
    /// Notices that were delivered.
    pub delivered: u64,
    /// Messages that were not taken and will be tried again.
    pub tried_again: u64,
    /// Notices that were given up, with those that were one too many.
    pub given_up: u64,
    /// Of these, the ones that were one too many.
    pub dropped: u64,
    /// Alerts that another notifier had told.
    pub covered: u64,
    /// Ends of notices that were forgotten because nobody told them.
    pub untold: u64,
    /// Why the last message was not taken; `None` when it was.
    pub failing: Option<String>,
    /// Since when, in milliseconds since 1970-01-01 UTC: the first try of the notice that was not taken first.
    pub failing_since_ms: Option<u64>,
}

/// What a start found on disk.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The dispatcher's entries.
    pub entries: Vec<(String, Vec<u8>)>,
    /// How many notices wait or have ended untold.
    pub notices: usize,
    /// The highest id of these; the next notice needs a higher one.
    pub last_id: u64,
    /// Rows that could not be read and were left out.
    pub damaged: u64,
    /// Where a file that could not be read at all was put, and why.
    pub set_aside: Option<(PathBuf, String)>,
}

/// How the disk is.
#[derive(Debug, Clone, Default)]
struct DiskState {
    safe: Ticket,
    failure: Option<Arc<str>>,
}

#[derive(Debug)]
struct Shared {
    shelf: Mutex<Shelf>,
    /// There is something to write, or to end for.
    work: Condvar,
    disk: watch::Sender<DiskState>,
    /// Sent with each change of the shelf.
    changed: watch::Sender<()>,
}

/// The spool. Clones share it; with the last one it writes what is left and lets go of the file.
#[derive(Debug, Clone)]
pub struct Spool {
    shared: Arc<Shared>,
    thread: Arc<Thread>,
}

/// The thread that writes. It ends by itself once it is told to.
#[derive(Debug)]
struct Thread {
    shared: Arc<Shared>,
    handle: Mutex<Option<JoinHandle<()>>>,
}

impl Thread {
    fn end(&self) -> Option<JoinHandle<()>> {
        self.shared.shelf().closing = true;
        self.shared.work.notify_all();
        let handle = self.handle.lock();
        handle.unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        drop(self.end());
    }
}

impl Spool {
    /// Opens `spool-<instance>.redb` in `folder`, or begins it, and reads all of it. Blocks.
    ///
    /// A damaged file is kept aside and a new one begun. A disk that can't be used is no error: the
    /// spool works in memory, [`Spool::failure`] says so, and the disk is tried again. Without a
    /// folder all stays in memory.
    ///
    /// # Errors
    /// Another process has the file open, or the system gives no thread.
    pub fn open(
        folder: Option<&Path>,
        instance: &str,
        config: &SpoolConfig,
    ) -> Result<(Self, Found), Error> {
        let shared = Arc::new(Shared {
            shelf: Mutex::new(Shelf::new(config)),
            work: Condvar::new(),
            disk: watch::Sender::new(DiskState::default()),
            changed: watch::Sender::new(()),
        });
        let Some(folder) = folder else {
            shared.disk.send_modify(|disk| disk.safe = Ticket::MEMORY);
            return Ok((Self::new(shared, None), Found::default()));
        };
        let path = folder.join(format!("spool-{instance}.redb"));
        let (writer, found) = Writer::open(path.clone(), Arc::clone(&shared))?;
        let thread = thread::Builder::new()
            .name("spool".to_owned())
            .spawn(move || writer.run())
            .map_err(|source| Error::SpoolThread { path, source })?;
        let spool = Self::new(shared, Some(thread));
        Ok((spool, found))
    }

    fn new(shared: Arc<Shared>, thread: Option<JoinHandle<()>>) -> Self {
        let thread = Thread {
            shared: Arc::clone(&shared),
            handle: Mutex::new(thread),
        };
        Self {
            shared,
            thread: Arc::new(thread),
        }
    }

    /// Records what becomes durable together: the dispatcher's state and the notices that follow
    /// from it. Never waits. When too many notices wait for a channel, the oldest repeat ends as given
    /// up, or else the oldest notice.
    pub fn commit(&self, changes: Changes, now_ms: u64) -> Ticket {
        let urgent = !changes.notices.is_empty();
        self.record(urgent, |shelf| {
            for (key, value) in changes.entries {
                shelf.put_entry(&key, value);
            }
            for notice in changes.notices {
                shelf.push(notice, now_ms);
            }
        })
    }

    /// Waits until a change is on disk, or the disk fails or hangs. May be dropped and called again.
    pub async fn settled(&self, ticket: Ticket) {
        let mut disk = self.shared.disk.subscribe();
        let settled = disk.wait_for(|disk| disk.safe >= ticket || disk.failure.is_some());
        if timeout(SETTLE_WITHIN, settled).await.is_err() {
            self.shared.hangs(ticket);
        }
    }

    /// Why the disk can't be used, in words for people; `None` while it can, or without a folder.
    #[must_use]
    pub fn failure(&self) -> Option<Arc<str>> {
        self.shared.disk.borrow().failure.clone()
    }

    /// Whether notices are on disk, as far as the disk lets them; else they wait in memory only.
    #[must_use]
    pub fn has_folder(&self) -> bool {
        self.shared.disk.borrow().safe != Ticket::MEMORY
    }

    /// Another notifier has told this through `channel`: it need not be told again.
    pub fn cover(&self, channel: &str, told: &Told) -> Ticket {
        self.record(false, |shelf| {
            shelf.with(channel, |queue, _| queue.cover(told));
        })
    }

    /// The next end of a notice that is to be told, each once a run; those that an earlier run did not
    /// tell first. It comes once it is on disk: what was told is never done again. For one caller, who
    /// may drop it and call again.
    pub async fn outcome(&self) -> Outcome {
        let mut changed = self.changed();
        loop {
            changed.mark_unchanged();
            let next = self.shared.shelf().next_outcome();
            if let Some((outcome, ticket)) = next {
                self.settled(ticket).await;
                self.shared.shelf().hand_out(&outcome);
                return outcome;
            }
            if changed.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    /// The end of a notice has been told: it may go.
    pub fn told(&self, outcome: &Outcome) -> Ticket {
        let id = outcome.notice.id;
        self.record(false, |shelf| {
            shelf.with(&outcome.channel, |queue, _| queue.forget(id));
        })
    }

    /// What each channel did and what waits for it, by name.
    #[must_use]
    pub fn figures(&self) -> Vec<(String, Figures)> {
        self.shared.shelf().figures()
    }

    /// Writes what is left and lets go of the file, unless the disk hangs or fails.
    pub async fn close(&self) {
        let Some(thread) = self.thread.end() else {
            return;
        };
        let ended = tokio::task::spawn_blocking(move || thread.join());
        if timeout(CLOSE_WITHIN, ended).await.is_err() {
            warn!("the disk does not answer, the spool is left as it is");
        }
    }

    /// Wakes at each change.
    pub(crate) fn changed(&self) -> watch::Receiver<()> {
        self.shared.changed.subscribe()
    }

    /// The notice of `channel` that is to be delivered next.
    pub(crate) fn head(&self, channel: &str) -> Option<Waiting> {
        self.shared.shelf().head(channel).cloned()
    }

    /// A message of notice `id` is about to be sent: it stays as it is until `tried` or `end`. `None`
    /// when it is not the head any more.
    pub(crate) fn begin(&self, channel: &str, id: u64) -> Option<Waiting> {
        self.shared.shelf().begin(channel, id)
    }

    /// A message was tried, and `failed` says why it was not taken.
    pub(crate) fn tried(
        &self,
        channel: &str,
        id: u64,
        progress: Progress,
        failed: Option<String>,
    ) -> Ticket {
        self.record(failed.is_none(), |shelf| {
            shelf.with(channel, |queue, _| queue.tried(id, progress, failed));
        })
    }

    /// The delivery of notice `id` has ended.
    pub(crate) fn end(&self, channel: &str, id: u64, end: End) -> Ticket {
        self.record(true, |shelf| shelf.end(channel, id, end))
    }

    /// Notices for channels that are not among `channels` are given up.
    pub(crate) fn end_strangers(&self, channels: &[&str], now_ms: u64) -> Ticket {
        self.record(true, |shelf| shelf.end_strangers(channels, now_ms))
    }

    /// Changes the shelf. What is not `urgent` may wait a moment for what is.
    fn record(&self, urgent: bool, change: impl FnOnce(&mut Shelf)) -> Ticket {
        let mut shelf = self.shared.shelf();
        change(&mut shelf);
        shelf.urgent |= urgent;
        let ticket = shelf.ticket();
        drop(shelf);
        self.shared.work.notify_one();
        self.shared.changed.send_replace(());
        ticket
    }

    /// Ends as a kill would: what was not written is lost.
    #[cfg(test)]
    pub(crate) fn kill(&self) {
        self.shared.shelf().killed = true;
        self.shared.work.notify_all();
        let thread = self.thread.handle.lock().unwrap().take();
        thread.map(JoinHandle::join).transpose().unwrap();
    }
}

impl Shared {
    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The disk took too long for `ticket`: until it answers nobody waits for it any more.
    fn hangs(&self, ticket: Ticket) {
        let hangs = self.disk.send_if_modified(|disk| {
            let hangs = disk.safe < ticket && disk.failure.is_none();
            if hangs {
                disk.failure = Some("the disk of the spool does not answer".into());
            }
            hangs
        });
        if hangs {
            warn!("the disk of the spool does not answer, notices are sent without it");
        }
    }
}
