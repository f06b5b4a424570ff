//! What the evaluator remembers, in the spool's folder: a notifier that is started again goes on with the
//! windows of the one before.
//!
//! It is written at a clean stop and every five minutes, so that a kill costs so much at most, and read at
//! the start. The evaluator gives it in slices, one a turn, and a thread of its own writes them, so nothing
//! waits for the disk. A notifier that stands by hears all samples itself, and keeps its own windows.
//!
//! A file that is damaged, of another version or older than a day is told of once and left; the next writing
//! takes its place.

mod file;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{io, thread, vec};

use hostbus_wire::NodePath;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tracing::{debug, warn};

use crate::engine::Now;
use crate::evaluator::{Evaluator, Kept};
use file::{FULL_BYTES, Part};

/// From one writing to the next.
const EVERY_MS: u64 = 300_000;
/// When there was nothing to write, it is looked again so much later.
const AGAIN_MS: u64 = 10_000;
/// From one slice to the next.
const SLICE_EVERY: Duration = Duration::from_millis(2);
/// From one look to the next whether the disk has taken one, where it is slow.
const ROOM_EVERY: Duration = Duration::from_millis(100);
/// How many slices may wait for the disk.
const SLICES: usize = 4;
/// How long a stop waits for the disk.
const CLOSE_WITHIN: Duration = Duration::from_secs(5);

/// See the module's description.
#[derive(Debug)]
pub struct Windows {
    /// Where; `None`: nothing is kept.
    path: Option<PathBuf>,
    /// When it is written next, by the steady clock.
    due_ms: u64,
    saving: Option<Saving>,
    /// How many samples had been judged when it was written last.
    judged: u64,
    /// The last writing failed, and that was told.
    fails: bool,
}

/// A file that is being written.
#[derive(Debug)]
struct Saving {
    /// What is still to be given; `None`: all of it was.
    left: Option<vec::IntoIter<NodePath>>,
    parts: mpsc::Sender<Part>,
    written: oneshot::Receiver<io::Result<Option<u64>>>,
    bytes: u64,
    /// Nodes for which there was no room.
    left_out: usize,
    judged: u64,
}

impl Windows {
    /// Reads what an earlier run of `instance` left in `folder`. Without a folder nothing is kept. A file
    /// that can't be used is told of in the log.
    pub async fn open(folder: Option<&Path>, instance: &str, now_ms: u64) -> (Self, Option<Kept>) {
        let path = folder.map(|folder| folder.join(format!("windows-{instance}.kept")));
        let mut kept = None;
        if let Some(path) = path.clone() {
            let read = tokio::task::spawn_blocking(move || (file::read(&path, now_ms), path)).await;
            match read {
                Ok((Ok(found), _)) => kept = found,
                Ok((Err(reason), path)) => {
                    let path = path.display();
                    warn!(%path, %reason, "what windows held can't be used, they fill anew");
                }
                Err(failed) => std::panic::resume_unwind(failed.into_panic()),
            }
        }
        let windows = Self {
            path,
            due_ms: EVERY_MS,
            saving: None,
            judged: 0,
            fails: false,
        };
        (windows, kept)
    }

    /// Gives the next slice to the disk, where it is time. Returns when to come again, if soon.
    pub fn turn(&mut self, evaluator: &Evaluator, now: Now) -> Option<Duration> {
        let path = self.path.as_ref()?;
        let Some(saving) = &mut self.saving else {
            if now.steady_ms < self.due_ms {
                return None;
            }
            self.due_ms = now.steady_ms + AGAIN_MS;
            if is_due(evaluator, self.judged) {
                self.saving = Some(Saving::begin(path.clone(), evaluator, now.unix_ms));
                return Some(SLICE_EVERY);
            }
            return None;
        };
        match saving.written.try_recv() {
            Ok(written) => self.end(written, now.steady_ms),
            Err(oneshot::error::TryRecvError::Closed) => {
                self.end(
                    Err(io::Error::other("the writing broke off")),
                    now.steady_ms,
                );
            }
            Err(oneshot::error::TryRecvError::Empty) if saving.left.is_some() => {
                let given = saving.give(evaluator, now.unix_ms);
                return Some(if given { SLICE_EVERY } else { ROOM_EVERY });
            }
            Err(oneshot::error::TryRecvError::Empty) => {}
        }
        None
    }

    fn end(&mut self, written: io::Result<Option<u64>>, steady_ms: u64) {
        self.due_ms = steady_ms + EVERY_MS;
        let Some(saving) = self.saving.take() else {
            return;
        };
        let failed = match written {
            Ok(bytes) => {
                self.judged = saving.judged;
                debug!(bytes, "windows are kept");
                (saving.left_out > 0).then(|| format!("{} nodes are too many", saving.left_out))
            }
            Err(error) => Some(error.to_string()),
        };
        let fails = failed.is_some();
        if let Some(error) = failed.filter(|_| !self.fails) {
            warn!(
                error,
                "windows can't be kept: after a restart they fill anew"
            );
        }
        self.fails = fails;
    }

    /// Writes what the evaluator holds at the end, unless the disk hangs.
    pub async fn close(self, evaluator: &Evaluator, now_ms: u64) {
        self.close_within(CLOSE_WITHIN, evaluator, now_ms).await;
    }

    async fn close_within(mut self, within: Duration, evaluator: &Evaluator, now_ms: u64) {
        let closing = async {
            if let Some(Saving { parts, written, .. }) = self.saving.take() {
                // It gives up once nothing more comes: two must not write at once.
                drop(parts);
                let _ = written.await;
            }
            let path = self
                .path
                .take()
                .filter(|_| is_due(evaluator, self.judged))?;
            let mut saving = Saving::begin(path, evaluator, now_ms);
            while let Some(part) = saving.next(evaluator, now_ms) {
                if saving.parts.send(part).await.is_err() {
                    break;
                }
            }
            let Saving { parts, written, .. } = saving;
            drop(parts);
            written.await.ok()
        };
        match timeout(within, closing).await {
            Ok(Some(Err(error))) => warn!(%error, "windows can't be kept, they will fill anew"),
            Ok(_) => {}
            Err(_) => warn!("the disk does not answer, windows are left as they were kept before"),
        }
    }
}

/// Whether there is anything new to keep, and no harm in it.
fn is_due(evaluator: &Evaluator, judged: u64) -> bool {
    evaluator.is_settled() && evaluator.figures().judged != judged
}

impl Saving {
    fn begin(path: PathBuf, evaluator: &Evaluator, now_ms: u64) -> Self {
        let (parts, received) = mpsc::channel(SLICES);
        let (sender, written) = oneshot::channel();
        // Nothing waits for this thread, as a runtime does for its own: a disk may hang for ever.
        let spawned = thread::Builder::new()
            .name("windows".to_owned())
            .spawn(move || {
                // Who asked may be gone.
                let _ = sender.send(file::write(&path, now_ms, received));
            });
        if let Err(error) = spawned {
            warn!(%error, "windows can't be kept without a thread");
        }
        Self {
            left: Some(evaluator.remembered().into_iter()),
            parts,
            written,
            bytes: 0,
            left_out: 0,
            judged: evaluator.figures().judged,
        }
    }

    /// Gives one part to the disk, if it has room for it. Tells whether it had.
    fn give(&mut self, evaluator: &Evaluator, now_ms: u64) -> bool {
        let parts = self.parts.clone();
        // A thread that has ended tells why by itself.
        let Ok(room) = parts.try_reserve() else {
            return false;
        };
        if let Some(part) = self.next(evaluator, now_ms) {
            room.send(part);
        }
        true
    }

    /// The next part; `None` once the end was given.
    fn next(&mut self, evaluator: &Evaluator, now_ms: u64) -> Option<Part> {
        let left = self.left.as_mut()?;
        if self.bytes < FULL_BYTES
            && let Some(slice) = evaluator.keep(left, now_ms)
        {
            self.bytes += slice.len() as u64;
            return Some(Part::Slice(slice));
        }
        self.left_out = left.len();
        self.left = None;
        Some(Part::End)
    }
}
