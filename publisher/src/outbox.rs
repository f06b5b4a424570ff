//! The outbox: every sample from the moment it was taken until the ingester's mark covers it.
//!
//! A pure state machine: it sends nothing and reads no clock. The uplink asks `Outbox::next` what
//! to send, and tells what happens. How samples are measured, and how they travel, is not its
//! business. It lives in memory; what it holds is lost with the process.
//!
//! ```text
//!            first        cursor         last
//!   committed | sent, waits | to be sent  |
//!   ----------+-------------+-------------+
//! ```
//! Delivery is at most once (QoS 0), so a sample counts as safe only once a mark covers it. It is
//! sent again, always in rising order from the oldest one held, when the ingester asks for it
//! (`resend`). Whether there is an ingester at all can't be known. So after a new connection, and
//! whenever no mark came for a growing, jittered time, only a *probe* goes out: the oldest sample
//! held and then the newest. An ingester answers either of them: it takes the oldest, since
//! `first` says that nothing before it is to come, and asks for what lies between; or it repeats
//! its mark. Without one, watchers of the bus see two extra messages now and then instead of the
//! whole past, and the newest sample ends as the retained one.
//!
//! While the ingester catches up, a bounded number of samples is on its way to it, at a bounded
//! rate. New samples wait behind them, so that all arrive in order. When it falls silent in the
//! middle, the next probe ends the catching up, and new samples go out at once again.
//!
//! Samples of earlier runs are found on disk at the start, and come first: an ingester that has taken
//! the first sample of a run takes nothing of the runs before it. So all of the above works on the
//! *front*, the oldest stretch without a gap, and the first sample of a later stretch is never sent
//! while an older one is held. Any other live sample may be: the ingester answers it by asking for
//! what is missing, and watchers of the bus have what is new meanwhile.
//!
//! `boot` must rise at each start. It is the time of the start in seconds, or follows the newest one
//! that the folder knows. Should the folder be lost and the clock have been set back, the first
//! mark shows it: the ingester already has a later boot. What is held then moves behind that one. For this
//! the first samples of a process wait `LISTEN` for the retained mark. What remains is a run without
//! a folder that begins in the very second in which the last one began, at a broker that lost its
//! retained mark: the ingester takes some of its first samples for old ones. And runs whose clock is
//! set back while their folder is away: a mark of theirs may be taken for one that covers what the
//! folder holds.
//!
//! | module | owns |
//! |---|---|
//! | [`config`] | the `[publisher.outbox]` section |
//! | `held` | which samples are held, of which run |
//! | `marks` | what a mark changes |
//! | `sending` | what is sent next |
//! | `fresh` | the payloads that no disk has yet |
//! | `keeping` | when samples go to disk |
//! | `orders` | what is asked of the disk, and what it answers |
//! | `disk`, `file`, `folder` | the disk itself |
//! | `reading` | the outbox's side of the disk: orders out, reports in |
//! | `status` | how the outbox is doing |

pub mod config;
mod disk;
mod file;
mod folder;
mod fresh;
mod held;
mod keeping;
mod marks;
mod orders;
mod reading;
mod sending;
mod status;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hostbus_daemon::Backoff;
use hostbus_wire::committed::Committed;
use hostbus_wire::{DecodeError, EncodeError, Sample, codec};
use thiserror::Error as ThisError;
use tracing::debug;

pub use config::{OutboxConfig, Persist};
pub use status::OutboxStatus;

pub(crate) use disk::Disk;
use fresh::Fresh;
use held::Held;
pub(crate) use held::{FoundRow, FoundRun, Place};
pub(crate) use keeping::DiskNotice;
use keeping::Keeping;
pub(crate) use orders::{Batch, DiskFailure, DiskNext, Found, Order, ReadRow, Report, Row};

/// How much sending may be on its way to an ingester that catches up: marks come seconds late when
/// the ingester waits for its disk.
const WINDOW_SECONDS: f64 = 2.0;
const SMALLEST_WINDOW: u64 = 64;
/// The longest wait for a mark before the next probe.
const LONGEST_WAIT: Duration = Duration::from_secs(300);
/// An ingester repeats its wish before it sees the answer. A wish for the same sample within this
/// time is the same wish.
const SAME_WISH: Duration = Duration::from_secs(1);
/// How much unused sending rate may be saved up, so that a coarse timer does not lower the rate.
const SAVED_UP: Duration = Duration::from_millis(20);
/// How long the first samples of a process wait for the retained mark after the connection is up.
const LISTEN: Duration = Duration::from_millis(200);
/// How much is read from the disk at once, to be sent.
const READ_BYTES: usize = 128 * 1024;
/// How long a probe waits for the disk to give the oldest sample.
const READ_WITHIN: Duration = Duration::from_secs(1);

/// What to do next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Send this payload on `metrics`, then ask again.
    Send(Vec<u8>),
    /// Ask again at this time, unless something happens before.
    Wait(Instant),
    /// Nothing to do until something happens.
    Idle,
}

/// Something that people should hear of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Notice {
    /// The outbox is full, and the oldest samples go. Told once until it has room again.
    DropsBegan,
    /// The outbox has room again.
    DropsEnded { dropped: u64 },
    /// A mark covers samples that were never sent. It is ignored. Told once.
    ImpossibleMark { mark: Committed },
    /// The ingester takes the samples of another, later publisher of this node. Told once.
    OtherPublisher { mark: Committed },
    /// The ingester knows a later boot than ours, and what is held is now moved behind it.
    BootMoved { from: u64, to: u64 },
    /// Samples on disk were damaged and are lost.
    Damaged { lost: u64 },
    /// The file was damaged as a whole and is kept aside; the samples in it are lost.
    Broken {
        aside: String,
        reason: String,
        lost: u64,
    },
    /// The disk fails, or works again.
    Disk(DiskNotice),
}

/// Why a sample can't be kept. It gets no number: one that no reader takes would hold up all that
/// come after it.
#[derive(Debug, ThisError)]
pub(crate) enum RefusedSample {
    #[error(transparent)]
    Encode(#[from] EncodeError),
    #[error(transparent)]
    Decode(#[from] DecodeError),
}

/// What the outbox begins with.
#[derive(Debug, Clone)]
pub(crate) struct Beginning {
    /// The boot of this run, later than all that was found.
    pub(crate) boot: u64,
    /// When samples are written: never, where there is no folder to be had.
    pub(crate) persist: Persist,
    /// What the folder holds; empty without one.
    pub(crate) found: Found,
    /// Why the folder can't be used so far.
    pub(crate) failure: Option<DiskFailure>,
}

/// See the module's description.
#[derive(Debug)]
pub(crate) struct Outbox {
    max_bytes: u64,
    pace: Duration,
    window: u64,
    /// The boots that our folder knew at the start.
    known_boots: Vec<u64>,
    held: Held,
    fresh: Fresh,
    keeping: Keeping,
    /// The newest sample, which watchers get.
    newest: Option<(Place, Arc<[u8]>)>,
    /// What was read from the disk, oldest first, all of one run.
    ahead: VecDeque<(Place, Vec<u8>)>,
    /// The read that the disk has not answered yet.
    reading: Option<Instant>,
    /// The read that is due.
    wanted: Option<(Place, u64)>,
    /// The next sample to send: of the front while catching up, else of the live stretch.
    cursor: u64,
    connected: bool,
    /// The ingester misses what follows its mark, and gets it in order.
    catching_up: bool,
    /// A probe is due.
    probing: bool,
    /// The ingester has taken samples of ours.
    recognised: bool,
    listen_until: Option<Instant>,
    /// When to probe, unless a mark comes.
    probe_at: Option<Instant>,
    probe_wait: Backoff,
    last_wish: Option<(u64, u64, Instant)>,
    next_free: Option<Instant>,
    /// How many were dropped since the outbox became full.
    dropping: Option<u64>,
    dropped: u64,
    damaged: u64,
    sent: u64,
    resent: u64,
    impossible_told: bool,
    other_told: bool,
    notices: Vec<Notice>,
}

impl Outbox {
    /// An outbox for the run that begins like this.
    pub(crate) fn new(config: &OutboxConfig, beginning: Beginning) -> Self {
        let Beginning {
            boot,
            persist,
            found,
            failure,
        } = beginning;
        let first_wait = Duration::from_secs_f64(config.resend_after_seconds);
        let mut outbox = Self {
            max_bytes: config.max_bytes,
            pace: Duration::from_secs_f64(1.0 / config.catch_up_per_second),
            window: SMALLEST_WINDOW.max((config.catch_up_per_second * WINDOW_SECONDS) as u64),
            known_boots: found.boots.clone(),
            held: Held::new(&found.runs, boot),
            fresh: Fresh::default(),
            keeping: Keeping::new(config, persist, !found.runs.is_empty(), failure),
            newest: None,
            ahead: VecDeque::new(),
            reading: None,
            wanted: None,
            cursor: 1,
            connected: false,
            catching_up: false,
            probing: false,
            recognised: false,
            listen_until: None,
            probe_at: None,
            probe_wait: Backoff::new(first_wait, LONGEST_WAIT.max(first_wait)),
            last_wish: None,
            next_free: None,
            dropping: None,
            dropped: 0,
            damaged: 0,
            sent: 0,
            resent: 0,
            impossible_told: false,
            other_told: false,
            notices: Vec::new(),
        };
        outbox.tell_damage(&found);
        outbox
    }

    fn tell_damage(&mut self, found: &Found) {
        self.damaged += found.damaged;
        if let Some((aside, reason)) = &found.broken {
            self.notices.push(Notice::Broken {
                aside: aside.display().to_string(),
                reason: reason.clone(),
                lost: 0,
            });
        }
        if found.damaged > 0 {
            self.notices.push(Notice::Damaged {
                lost: found.damaged,
            });
        }
    }

    /// How many samples wait for a mark.
    pub(crate) fn len(&self) -> usize {
        self.held.len()
    }

    /// How many samples were never sent by this process.
    pub(crate) fn unsent(&self) -> usize {
        self.held.unsent()
    }

    /// How many samples are in memory only.
    pub(crate) fn in_memory_only(&self) -> usize {
        self.fresh.len()
    }

    /// Whether an ingester has ever answered this process.
    pub(crate) fn is_recognised(&self) -> bool {
        self.recognised
    }

    /// How it is doing.
    pub(crate) fn status(&self) -> OutboxStatus {
        let disk = match (self.keeping.failure(), self.keeping.is_open()) {
            (Some(failure), _) => format!("failing: {failure}"),
            (None, true) => "in use".to_owned(),
            (None, false) => "not needed".to_owned(),
        };
        OutboxStatus {
            held: self.held.len() as u64,
            held_bytes: self.held.bytes(),
            on_disk: (self.held.len() - self.fresh.len()) as u64,
            oldest_ts_ms: self
                .held
                .oldest_ts_seconds()
                .map(|seconds| u64::from(seconds) * 1000),
            sent: self.sent,
            resent: self.resent,
            dropped: self.dropped,
            damaged: self.damaged,
            disk,
        }
    }

    /// What happened since the last call.
    pub(crate) fn take_notices(&mut self) -> Vec<Notice> {
        let mut notices = std::mem::take(&mut self.notices);
        let disk = self.keeping.take_notices();
        notices.extend(disk.into_iter().map(Notice::Disk));
        notices
    }

    /// Takes a sample in, with the next number. When the outbox is full the oldest ones go, the
    /// newest always stays.
    pub(crate) fn push(
        &mut self,
        mut sample: Sample,
        now: Instant,
    ) -> Result<Place, RefusedSample> {
        let live = self.held.live();
        let (boot, seq) = (live.boot, live.end());
        let payload = encode(&mut sample, boot, seq, seq)?;
        Sample::decode(&payload)?;
        let ts_ms = sample.ts.unwrap_or(0);
        let place = self.held.push(payload.len(), ts_ms);
        debug!(boot, seq, ts = ts_ms, "taken in");
        let payload: Arc<[u8]> = payload.into();
        self.newest = Some((place, Arc::clone(&payload)));
        let row = Row {
            place,
            ts_ms,
            payload,
        };
        self.fresh.push(row, now);
        while self.held.bytes() > self.max_bytes && self.held.len() > 1 {
            self.release_oldest(now);
            self.dropped += 1;
            if self.dropping.is_none() {
                self.notices.push(Notice::DropsBegan);
            }
            *self.dropping.get_or_insert(0) += 1;
        }
        Ok(place)
    }

    /// A new connection: nothing sent before it can be relied on.
    pub(crate) fn on_connected(&mut self, now: Instant) {
        self.connected = true;
        self.listen_until = (!self.recognised).then(|| now + LISTEN);
        self.probing = true;
        self.catching_up = false;
        self.last_wish = None;
        self.probe_at = None;
        self.probe_wait.reset();
    }

    /// The connection is lost.
    pub(crate) fn on_disconnected(&mut self) {
        self.connected = false;
    }

    fn release_oldest(&mut self, now: Instant) {
        let before = self.held.front().key;
        let Some(place) = self.held.release_oldest() else {
            return;
        };
        self.fresh.release(place);
        self.keeping.on_released(place, now);
        while self
            .ahead
            .front()
            .is_some_and(|(ahead, _)| ahead.key == place.key && ahead.seq <= place.seq)
        {
            self.ahead.pop_front();
        }
        self.mend_cursor(before);
    }

    /// The front, or the live stretch, may have moved past the cursor.
    fn mend_cursor(&mut self, front_before: u64) {
        let (front, live) = (self.held.front(), self.held.live());
        self.cursor = if !self.catching_up {
            self.cursor.max(live.first)
        } else if front.key == front_before {
            self.cursor.max(front.first)
        } else {
            front.first
        };
    }
}

fn encode(sample: &mut Sample, boot: u64, seq: u64, first: u64) -> Result<Vec<u8>, EncodeError> {
    sample.boot = Some(boot);
    sample.seq = Some(seq);
    sample.first = Some(first);
    codec::encode(sample)
}

#[cfg(test)]
mod tests;
