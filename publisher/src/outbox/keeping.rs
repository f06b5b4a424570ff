//! When samples go to disk and when the disk lets go of them: decisions alone.
//!
//! A sample stays in memory until the disk has confirmed it. One batch is on its way at a time, made
//! from what is in memory at that moment: so a disk that is slow gets larger batches, and one that
//! fails or hangs leaves all in memory, which the outbox bounds. After a failure the same is tried
//! again with growing waits, and what makes room goes first.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use hostbus_daemon::Backoff;

use super::config::{OutboxConfig, Persist};
use super::fresh::Fresh;
use super::held::{Held, Place};
use super::orders::{Batch, DiskFailure, DiskNext, Order};

/// How much is written at once.
const BATCH_BYTES: usize = 256 * 1024;
/// How long the disk may still hold what is not needed any more: a removal then costs no flush of
/// its own where samples are written anyway.
const LAZY: Duration = Duration::from_secs(30);
/// How many removals wait at most.
const MOST_REMOVALS: u64 = 2_000;
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(60);
/// How long the disk may be silent before people hear of it.
const TELL_AFTER: Duration = Duration::from_secs(10);
/// A file that grew beyond this is begun anew when nothing in it is needed. Only with
/// `persist = "always"`: otherwise it is not kept anyway.
const LARGE_FILE_BYTES: u64 = 4 * 1024 * 1024;

/// Something about the disk that people should hear of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum DiskNotice {
    /// It fails. Told once until it works again.
    Failed(DiskFailure),
    Recovered,
}

/// The order that the disk has not answered yet.
#[derive(Debug)]
enum InFlight {
    Batch {
        last: Option<Place>,
        remove: BTreeMap<u64, u64>,
        /// It tells of all moves so far.
        moves: bool,
    },
    Open,
    Discard,
}

/// See the module's description.
#[derive(Debug)]
pub(super) struct Keeping {
    persist: Persist,
    /// What the folder holds is not known yet.
    unopened: bool,
    spill_after: Duration,
    memory_bytes: usize,
    /// Everything goes to disk.
    spilling: bool,
    /// The publisher stops: all that is left goes to disk.
    stopping: bool,
    /// There may be a file.
    file: bool,
    file_bytes: u64,
    remove: BTreeMap<u64, u64>,
    removals: u64,
    remove_since: Option<Instant>,
    /// Runs have moved to other boots, and the disk does not know.
    move_due: bool,
    in_flight: Option<(InFlight, Instant)>,
    failure: Option<DiskFailure>,
    retry_at: Option<Instant>,
    retry_wait: Backoff,
    notices: Vec<DiskNotice>,
}

impl Keeping {
    /// `file`: there is one, and samples in it. `failure`: the folder can't be used so far.
    pub(super) fn new(
        config: &OutboxConfig,
        persist: Persist,
        file: bool,
        failure: Option<DiskFailure>,
    ) -> Self {
        let notices = failure.clone().map(DiskNotice::Failed);
        Self {
            persist,
            unopened: failure.is_some(),
            spill_after: Duration::from_secs_f64(config.spill_after_seconds),
            memory_bytes: usize::try_from(config.memory_bytes).unwrap_or(usize::MAX),
            // What the last run left on disk is not covered yet.
            spilling: file,
            stopping: false,
            file,
            file_bytes: 0,
            remove: BTreeMap::new(),
            removals: 0,
            remove_since: None,
            move_due: false,
            in_flight: None,
            failure,
            retry_at: None,
            retry_wait: Backoff::new(FIRST_RETRY, LONGEST_RETRY),
            notices: notices.into_iter().collect(),
        }
    }

    pub(super) fn take_notices(&mut self) -> Vec<DiskNotice> {
        std::mem::take(&mut self.notices)
    }

    pub(super) fn failure(&self) -> Option<&DiskFailure> {
        self.failure.as_ref()
    }

    pub(super) fn is_open(&self) -> bool {
        self.file
    }

    /// Whether what the folder holds is still to be heard.
    pub(super) fn is_unopened(&self) -> bool {
        self.unopened
    }

    /// Runs have moved to other boots. A batch that is on its way may not tell of it.
    pub(super) fn on_moved(&mut self) {
        self.move_due = self.file;
        if let Some((InFlight::Batch { moves, .. }, _)) = &mut self.in_flight {
            *moves = false;
        }
    }

    /// Whether what is sent now would be unknown to the next start: the disk, which works as far as
    /// one knows, has yet to hear under which boots it goes out.
    pub(super) fn holds_up_sending(&self) -> bool {
        self.move_due && self.failure.is_none()
    }

    #[cfg(test)]
    pub(super) fn is_move_due(&self) -> bool {
        self.move_due
    }

    /// Whether a read makes sense now: the disk is not in a wait after a failure.
    pub(super) fn may_read(&self, now: Instant) -> bool {
        self.retry_at.is_none_or(|at| at <= now)
    }

    /// From now on all that is left goes to disk.
    pub(super) fn stop(&mut self) {
        self.stopping = self.persist != Persist::Never;
        // One more try, however long the wait would be.
        self.retry_at = None;
    }

    /// Whether a stop has nothing more to wait for.
    pub(super) fn is_done(&self, fresh: &Fresh) -> bool {
        !self.stopping || (self.in_flight.is_none() && (fresh.is_empty() || self.failure.is_some()))
    }

    /// A sample that the outbox holds no more. The disk may have it, or get it at this moment.
    pub(super) fn on_released(&mut self, place: Place, now: Instant) {
        if self.file || self.in_flight.is_some() {
            let upto = self.remove.entry(place.key).or_insert(0);
            *upto = place.seq.max(*upto);
            self.removals += 1;
            self.remove_since.get_or_insert(now);
        }
    }

    /// A mark came, and `held` is what is left. Once all that waits is recent, the bus is back, and
    /// what is new needs no disk.
    pub(super) fn on_progress(&mut self, held: &Held) {
        let recent = f64::from(held.span_seconds()) < self.spill_after.as_secs_f64() / 2.0;
        if recent && !held.has_older() {
            self.spilling = false;
        }
    }

    /// What to do about the disk at `now`.
    pub(super) fn next(&mut self, held: &Held, fresh: &Fresh, now: Instant) -> DiskNext {
        if self.persist == Persist::Never {
            return DiskNext::Idle;
        }
        let spill_at = fresh.oldest_since().map(|since| since + self.spill_after);
        if spill_at.is_some_and(|at| at <= now) || fresh.bytes() > self.memory_bytes {
            self.spilling = true;
        }
        if let Some((_, since)) = &self.in_flight {
            let tell_at = *since + TELL_AFTER;
            if tell_at > now {
                return DiskNext::Wait(tell_at);
            }
            self.fail(DiskFailure {
                reason: "the disk does not answer".to_owned(),
                mend: "samples are kept in memory until it does; check it, and whether it is a network file system whose server is away",
            });
            return DiskNext::Idle;
        }
        if let Some(at) = self.retry_at.filter(|at| *at > now) {
            return DiskNext::Wait(at);
        }
        if self.unopened {
            self.in_flight = Some((InFlight::Open, now));
            return DiskNext::Order(Order::Open);
        }
        if held.len() == 0 {
            self.spilling = false;
        }
        let on_disk = held.len() - fresh.len();
        let wanted = self.persist == Persist::Always || self.spilling || self.stopping;
        if self.file && on_disk == 0 && self.may_discard(fresh, wanted) {
            self.clear_removals();
            self.in_flight = Some((InFlight::Discard, now));
            return DiskNext::Order(Order::Discard);
        }
        // What fails for want of room may work once there is some.
        let room_first = self.failure.is_some() && !self.remove.is_empty();
        let write = if wanted && !room_first {
            fresh.oldest(BATCH_BYTES)
        } else {
            Vec::new()
        };
        let lazy_until = self.remove_since.map(|since| since + LAZY);
        let removal_due = room_first
            || self.move_due
            || self.removals >= MOST_REMOVALS
            || lazy_until.is_some_and(|until| until <= now);
        if write.is_empty() && !removal_due {
            let spill_at = spill_at.filter(|_| !wanted);
            return match (lazy_until, spill_at) {
                (Some(a), Some(b)) => DiskNext::Wait(a.min(b)),
                (Some(at), None) | (None, Some(at)) => DiskNext::Wait(at),
                (None, None) => DiskNext::Idle,
            };
        }
        let remove = std::mem::take(&mut self.remove);
        self.clear_removals();
        let batch = Batch {
            moved: held.moved(),
            remove: remove.iter().map(|(key, upto)| (*key, *upto)).collect(),
            write,
        };
        self.file = true;
        let last = batch.write.last().map(|row| row.place);
        let moves = self.move_due;
        self.in_flight = Some((
            InFlight::Batch {
                last,
                remove,
                moves,
            },
            now,
        ));
        DiskNext::Order(Order::Commit(batch))
    }

    fn may_discard(&self, fresh: &Fresh, wanted: bool) -> bool {
        match self.persist {
            Persist::Always => self.file_bytes > LARGE_FILE_BYTES,
            _ => !wanted || fresh.is_empty(),
        }
    }

    fn clear_removals(&mut self) {
        self.remove.clear();
        self.removals = 0;
        self.remove_since = None;
    }

    /// The batch is durable: up to which sample, if it had any.
    pub(super) fn on_kept(&mut self, file_bytes: u64) -> Option<Place> {
        self.file_bytes = file_bytes;
        self.recover();
        match self.in_flight.take() {
            Some((InFlight::Batch { last, moves, .. }, _)) => {
                self.move_due &= !moves;
                last
            }
            _ => None,
        }
    }

    pub(super) fn on_discarded(&mut self) {
        self.move_due = false;
        self.recover();
        self.in_flight = None;
        self.file = false;
        self.file_bytes = 0;
        // What was held meanwhile was never in that file.
        self.clear_removals();
    }

    /// The folder could be opened at last.
    pub(super) fn on_found(&mut self, anything: bool) {
        self.unopened = false;
        self.in_flight = None;
        self.file = anything;
        self.spilling |= anything;
        self.recover();
    }

    /// The order, or a read, failed.
    pub(super) fn on_failed(&mut self, failure: DiskFailure, reading: bool, now: Instant) {
        if !reading {
            self.take_back(now);
        }
        self.retry_at = Some(now + self.retry_wait.next_wait());
        self.fail(failure);
    }

    /// The file was set aside, and nothing is in the new one. Where each new one is damaged too, they
    /// must not be begun in a row.
    pub(super) fn on_broken(&mut self, reading: bool, now: Instant) {
        if !reading {
            self.in_flight = None;
        }
        self.retry_at = Some(now + self.retry_wait.next_wait());
        self.clear_removals();
    }

    /// What was under way is to be done again.
    fn take_back(&mut self, now: Instant) {
        if let Some((InFlight::Batch { remove, .. }, _)) = self.in_flight.take() {
            for (key, upto) in remove {
                let newer = self.remove.entry(key).or_insert(0);
                *newer = upto.max(*newer);
                self.remove_since.get_or_insert(now);
            }
        }
    }

    fn fail(&mut self, failure: DiskFailure) {
        if self.failure.is_none() {
            self.notices.push(DiskNotice::Failed(failure.clone()));
        }
        self.failure = Some(failure);
    }

    fn recover(&mut self) {
        self.retry_at = None;
        self.retry_wait.reset();
        if self.failure.take().is_some() {
            self.notices.push(DiskNotice::Recovered);
        }
    }
}
