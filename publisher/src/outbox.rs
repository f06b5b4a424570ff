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
//! `boot` must rise at each start. It is the time of the start in seconds, and should the clock
//! have been set back since the last run, the first mark shows it: the ingester already has a later
//! boot. The outbox then moves itself behind that one. For this the first samples of a run wait
//! `LISTEN` for the retained mark. What remains is a run that begins in the very second in which
//! the last one began, at a broker that lost its retained mark: the ingester takes some of its
//! first samples for old ones.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use hostbus_daemon::Backoff;
use hostbus_wire::committed::Committed;
use hostbus_wire::{DecodeError, EncodeError, Sample, codec};
use serde::Deserialize;
use thiserror::Error as ThisError;

use crate::error::Error;

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
/// How long the first samples of a run wait for the retained mark after the connection is up.
const LISTEN: Duration = Duration::from_millis(200);
/// What an entry costs beside its bytes: the pointer in the queue, and the allocator's share.
const ENTRY_BYTES: usize = 32;

/// The `[publisher.outbox]` section.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OutboxConfig {
    /// How much may wait, 65,536 bytes to 1 TiB. When it is full the oldest samples are dropped.
    /// Default 64 MiB.
    pub max_bytes: u64,
    /// How many samples a second are sent to catch up, 1 to 100,000. Default 200.
    pub catch_up_per_second: f64,
    /// How long to wait for a mark before the oldest sample is sent again, 0.1 to 300 seconds. The
    /// wait grows with each try, up to 300. Default 5.
    pub resend_after_seconds: f64,
}

impl Default for OutboxConfig {
    fn default() -> Self {
        Self {
            max_bytes: 64 * 1024 * 1024,
            catch_up_per_second: 200.0,
            resend_after_seconds: 5.0,
        }
    }
}

impl OutboxConfig {
    /// Checks the ranges.
    ///
    /// # Errors
    /// A value is out of range; the error names it.
    pub fn check(&self) -> Result<(), Error> {
        let wrong = |key, value: &dyn std::fmt::Display, expected| {
            Err(Error::Outbox {
                key,
                value: value.to_string(),
                expected,
            })
        };
        if !(65_536..=1 << 40).contains(&self.max_bytes) {
            return wrong("max_bytes", &self.max_bytes, "65536 to 1099511627776 bytes");
        }
        if !(1.0..=100_000.0).contains(&self.catch_up_per_second) {
            return wrong(
                "catch_up_per_second",
                &self.catch_up_per_second,
                "1 to 100000",
            );
        }
        if !(0.1..=300.0).contains(&self.resend_after_seconds) {
            return wrong(
                "resend_after_seconds",
                &self.resend_after_seconds,
                "0.1 to 300 seconds",
            );
        }
        Ok(())
    }
}

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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Notice {
    /// The outbox is full, and the oldest samples go. Told once until it has room again.
    DropsBegan,
    /// The outbox has room again.
    DropsEnded { dropped: u64 },
    /// A mark covers samples that were never sent. It is ignored. Told once.
    ImpossibleMark { mark: Committed },
    /// The ingester takes the samples of another, later publisher of this node. Told once.
    OtherPublisher { mark: Committed },
    /// The ingester knows a later boot than ours, which is now moved behind it.
    BootMoved { from: u64, to: u64 },
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

/// See the module's description.
#[derive(Debug)]
pub(crate) struct Outbox {
    max_bytes: usize,
    pace: Duration,
    window: u64,
    boot: u64,
    /// The samples from `first` on without gaps, encoded as if each were the oldest one held.
    held: VecDeque<Box<[u8]>>,
    first: u64,
    bytes: usize,
    /// The next sample to send.
    cursor: u64,
    /// The newest sample ever sent under this boot.
    newest_sent: u64,
    connected: bool,
    /// The ingester misses what follows its mark, and gets it in order.
    catching_up: bool,
    /// A probe is due.
    probing: bool,
    /// The ingester has taken our boot.
    recognised: bool,
    listen_until: Option<Instant>,
    /// When to probe, unless a mark comes.
    probe_at: Option<Instant>,
    probe_wait: Backoff,
    last_wish: Option<(u64, Instant)>,
    next_free: Option<Instant>,
    /// How many were dropped since the outbox became full.
    dropping: Option<u64>,
    dropped: u64,
    impossible_told: bool,
    other_told: bool,
    notices: Vec<Notice>,
}

impl Outbox {
    /// An empty outbox for the run `boot`.
    pub(crate) fn new(config: &OutboxConfig, boot: u64) -> Self {
        let first_wait = Duration::from_secs_f64(config.resend_after_seconds);
        Self {
            max_bytes: usize::try_from(config.max_bytes).unwrap_or(usize::MAX),
            pace: Duration::from_secs_f64(1.0 / config.catch_up_per_second),
            window: SMALLEST_WINDOW.max((config.catch_up_per_second * WINDOW_SECONDS) as u64),
            boot,
            held: VecDeque::new(),
            first: 1,
            bytes: 0,
            cursor: 1,
            newest_sent: 0,
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
            impossible_told: false,
            other_told: false,
            notices: Vec::new(),
        }
    }

    /// How many samples wait for a mark.
    pub(crate) fn len(&self) -> usize {
        self.held.len()
    }

    /// How many samples were never sent.
    pub(crate) fn unsent(&self) -> u64 {
        (self.end() - 1).saturating_sub(self.newest_sent)
    }

    /// Whether an ingester has ever answered this run.
    pub(crate) fn is_recognised(&self) -> bool {
        self.recognised
    }

    /// How many samples were dropped because the outbox was full.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped
    }

    /// What happened since the last call.
    pub(crate) fn take_notices(&mut self) -> Vec<Notice> {
        std::mem::take(&mut self.notices)
    }

    /// Takes a sample in, with the next number. When the outbox is full the oldest ones go, the
    /// newest always stays.
    pub(crate) fn push(&mut self, mut sample: Sample) -> Result<u64, RefusedSample> {
        let seq = self.end();
        let bytes = self.encode(&mut sample, seq, seq)?;
        Sample::decode(&bytes)?;
        self.bytes += cost(&bytes);
        self.held.push_back(bytes.into_boxed_slice());
        while self.bytes > self.max_bytes && self.held.len() > 1 {
            self.release_oldest();
            self.dropped += 1;
            if self.dropping.is_none() {
                self.notices.push(Notice::DropsBegan);
            }
            *self.dropping.get_or_insert(0) += 1;
        }
        self.cursor = self.cursor.max(self.first);
        Ok(seq)
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

    /// A mark came from the ingester.
    pub(crate) fn on_committed(&mut self, mark: Committed, now: Instant) {
        self.listen_until = None;
        if mark.boot < self.boot {
            // Before our first sample arrives this is the mark of the last run.
            return;
        }
        if mark.boot > self.boot || mark.seq > self.newest_sent {
            self.on_foreign_mark(mark);
            return;
        }
        self.recognised = true;
        let oldest_before = self.first;
        while self.first <= mark.seq && !self.held.is_empty() {
            self.release_oldest();
        }
        self.cursor = self.cursor.max(self.first);
        if self.first > oldest_before {
            self.on_progress(now);
        }
        if mark.resend {
            self.on_wish(now);
        }
    }

    /// What to do at `now`. A sample counts as sent once it is returned.
    pub(crate) fn next(&mut self, now: Instant) -> Next {
        if !self.connected || self.held.is_empty() {
            return Next::Idle;
        }
        if let Some(until) = self.listen_until.filter(|until| *until > now) {
            return Next::Wait(until);
        }
        if self.probe_at.is_some_and(|at| at <= now) {
            self.probing = true;
            self.catching_up = false;
            self.probe_at = None;
        }
        let last = self.end() - 1;
        if self.probing {
            self.probing = false;
            self.cursor = last;
            if self.first < last {
                return self.send(self.first, now);
            }
        }
        if self.cursor > last {
            self.catching_up = false;
            return self.wait();
        }
        if self.catching_up {
            if self.cursor - self.first >= self.window {
                return self.wait();
            }
            if let Some(at) = self.next_free.filter(|at| *at > now) {
                return Next::Wait(self.probe_at.map_or(at, |probe_at| probe_at.min(at)));
            }
            let earliest = now.checked_sub(SAVED_UP).unwrap_or(now);
            self.next_free = Some(self.next_free.map_or(now, |at| at.max(earliest)) + self.pace);
        }
        self.cursor += 1;
        self.send(self.cursor - 1, now)
    }

    fn end(&self) -> u64 {
        self.first + self.held.len() as u64
    }

    fn wait(&self) -> Next {
        self.probe_at.map_or(Next::Idle, Next::Wait)
    }

    fn release_oldest(&mut self) {
        if let Some(bytes) = self.held.pop_front() {
            self.bytes -= cost(&bytes);
            self.first += 1;
        }
    }

    fn on_progress(&mut self, now: Instant) {
        self.probe_wait.reset();
        let waits = self.first <= self.newest_sent;
        self.probe_at = waits.then(|| now + self.probe_wait.next_wait());
        if self.bytes <= self.max_bytes / 2
            && let Some(dropped) = self.dropping.take()
        {
            self.notices.push(Notice::DropsEnded { dropped });
        }
    }

    /// The ingester wants all after its mark again.
    fn on_wish(&mut self, now: Instant) {
        let again = self.last_wish.is_some_and(|(first, at)| {
            first == self.first && now.saturating_duration_since(at) < SAME_WISH
        });
        if again || self.held.is_empty() {
            return;
        }
        self.last_wish = Some((self.first, now));
        self.probe_wait.reset();
        self.probe_at = Some(now + self.probe_wait.next_wait());
        self.probing = false;
        self.catching_up = true;
        self.cursor = self.first;
    }

    /// A mark that our samples can't have caused: of a later boot, or past what we sent.
    fn on_foreign_mark(&mut self, mark: Committed) {
        if self.recognised {
            if mark.boot > self.boot && !self.other_told {
                self.other_told = true;
                self.notices.push(Notice::OtherPublisher { mark });
            } else if mark.boot == self.boot && !self.impossible_told {
                self.impossible_told = true;
                self.notices.push(Notice::ImpossibleMark { mark });
            }
            return;
        }
        // Nothing of ours was taken yet: the last run began later by the clock, or in the same
        // second. Whatever we sent was dropped as old.
        let Some(boot) = mark.boot.checked_add(1) else {
            return;
        };
        self.notices.push(Notice::BootMoved {
            from: self.boot,
            to: boot,
        });
        self.boot = boot;
        self.newest_sent = 0;
        self.probing = true;
        self.bytes = 0;
        let held = std::mem::take(&mut self.held);
        for (seq, bytes) in (self.first..).zip(held) {
            let bytes = self.with_place(&bytes, seq, seq).into_boxed_slice();
            self.bytes += cost(&bytes);
            self.held.push_back(bytes);
        }
    }

    fn send(&mut self, seq: u64, now: Instant) -> Next {
        let index = usize::try_from(seq - self.first).expect("the index of something in memory");
        let held = &self.held[index];
        let payload = if index == 0 {
            held.to_vec()
        } else {
            self.with_place(held, seq, self.first)
        };
        self.newest_sent = self.newest_sent.max(seq);
        if self.probe_at.is_none() {
            self.probe_at = Some(now + self.probe_wait.next_wait());
        }
        Next::Send(payload)
    }

    /// The held sample with another `first`, or another boot.
    fn with_place(&self, held: &[u8], seq: u64, first: u64) -> Vec<u8> {
        let mut sample = Sample::decode(held).expect("it was read back before it was taken in");
        self.encode(&mut sample, seq, first)
            .expect("it was encoded before with other numbers")
    }

    fn encode(&self, sample: &mut Sample, seq: u64, first: u64) -> Result<Vec<u8>, EncodeError> {
        sample.boot = Some(self.boot);
        sample.seq = Some(seq);
        sample.first = Some(first);
        codec::encode(sample)
    }
}

fn cost(bytes: &[u8]) -> usize {
    bytes.len() + ENTRY_BYTES
}

#[cfg(test)]
mod tests;
