//! What is remembered of one node, and how often it is answered. No I/O, no clock.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hostbus_store::Mark;
use hostbus_wire::sample::Place;
use hostbus_wire::{NodePath, Sample};

use crate::describer::NodeRoom;
use crate::order::Order;
use crate::queue::Room;

/// How far ahead of ours a sample's clock may be. Stored under its own time it would block its
/// series until then.
const AHEAD_MS: u64 = 60_000;
/// One that was further ahead is no more when it is this near, so that one that drifts across the limit
/// does not go back and forth with each sample.
const NEAR_AGAIN_MS: u64 = 50_000;
/// The same trouble is told no more often than this.
const TELL_EVERY_MS: u64 = 3_600_000;
/// A gap is asked for again when nothing has come of it for so long.
const ASK_AGAIN: Duration = Duration::from_secs(2);
/// Duplicates are answered no more often than this.
const ANSWER_EVERY: Duration = Duration::from_secs(1);
/// How many samples wait while a node's mark is read. Those beyond are refused, and asked for later.
const WAITING: usize = 16;

/// One node.
#[derive(Debug)]
pub struct Node {
    /// Which.
    pub path: Arc<NodePath>,
    /// How much is known of its order.
    pub standing: Standing,
    /// The newest sample that was refused though nothing was wrong with it, to be asked for.
    pub missed: Option<Mark>,
    /// It was told that it has too many series, or instances in one.
    pub told_excess: bool,
    /// Its samples are older than what is kept.
    pub too_old: Trouble,
    /// Room for what is told of it besides samples.
    pub descriptions: NodeRoom,
    /// When something last came of it.
    pub heard_at: Instant,
    asked_at: Option<Instant>,
    answered_at: Option<Instant>,
    newest_own_ms: u64,
    ahead: Trouble,
}

/// Something that is wrong with a node for a while, and is told when it begins; of one that comes and
/// goes that is at most once an hour.
#[derive(Debug, Default)]
pub struct Trouble {
    lasts: bool,
    told_ms: Option<u64>,
}

impl Trouble {
    /// Notes whether it lasts. Tells whether it is to be told.
    pub fn begins(&mut self, lasts: bool, now_ms: u64) -> bool {
        let begins = lasts && !self.lasts;
        self.lasts = lasts;
        let lately = |told_ms: u64| now_ms.abs_diff(told_ms) < TELL_EVERY_MS;
        let tell = begins && !self.told_ms.is_some_and(lately);
        if tell {
            self.told_ms = Some(now_ms);
        }
        tell
    }
}

/// How much is known of a node's order.
#[derive(Debug)]
pub enum Standing {
    /// Nothing yet, or no more: Redis was away.
    Unknown,
    /// Its mark is being read from Redis; these samples wait for it.
    Recovering(Vec<Waiting>),
    /// All of it.
    Known(Order),
}

/// A numbered sample that waits for its node's mark.
#[derive(Debug)]
pub struct Waiting {
    /// The sample.
    pub sample: Box<Sample>,
    /// Its place.
    pub place: Place,
    /// The time it is stored under.
    pub time: Time,
    /// Its room in the queue.
    pub room: Room,
}

/// The time a sample is stored under.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Time {
    /// In milliseconds since 1970-01-01 UTC.
    pub at_ms: u64,
    /// It is ours, not the sample's.
    pub own: bool,
    /// By how much the sample's clock is ahead, when that is to be told.
    pub newly_ahead_ms: Option<u64>,
}

impl Node {
    /// A node of which nothing is known, heard of `now`.
    #[must_use]
    pub fn new(path: Arc<NodePath>, now: Instant) -> Self {
        Self {
            path,
            standing: Standing::Unknown,
            missed: None,
            told_excess: false,
            too_old: Trouble::default(),
            descriptions: NodeRoom::default(),
            heard_at: now,
            asked_at: None,
            answered_at: None,
            newest_own_ms: 0,
            ahead: Trouble::default(),
        }
    }

    /// The time to store a sample under that says `ts`.
    pub fn time(&mut self, ts: Option<u64>, now_ms: u64) -> Time {
        let limit_ms = if self.ahead.lasts {
            NEAR_AGAIN_MS
        } else {
            AHEAD_MS
        };
        let ahead_ms = ahead_ms(ts, now_ms, limit_ms);
        let tell = self.ahead.begins(ahead_ms.is_some(), now_ms);
        let newly_ahead_ms = ahead_ms.filter(|_| tell);
        match ts.filter(|ts| *ts > 0) {
            Some(at_ms) if ahead_ms.is_none() => Time {
                at_ms,
                own: false,
                newly_ahead_ms,
            },
            _ => {
                // Two samples that come together still get times of their own.
                self.newest_own_ms = now_ms.max(self.newest_own_ms + 1);
                Time {
                    at_ms: self.newest_own_ms,
                    own: true,
                    newly_ahead_ms,
                }
            }
        }
    }

    /// Notes the node's mark, and gives the samples that waited for it.
    pub fn recovered(&mut self, mark: Option<Mark>) -> Vec<Waiting> {
        match std::mem::replace(&mut self.standing, Standing::Known(Order::new(mark))) {
            Standing::Recovering(waiting) => waiting,
            Standing::Unknown | Standing::Known(_) => Vec::new(),
        }
    }

    /// Forgets the order. One whose mark is being read gets it from a Redis that serves.
    pub fn forget(&mut self) {
        if matches!(self.standing, Standing::Known(_)) {
            self.standing = Standing::Unknown;
            self.asked_at = None;
        }
    }

    /// Notes a sample that is to be asked for.
    pub fn miss(&mut self, missed: Mark) {
        self.missed = self.missed.max(Some(missed));
    }

    /// Tells whether a gap is to be asked for now.
    pub fn may_ask(&mut self, now: Instant) -> bool {
        let due = self
            .asked_at
            .is_none_or(|at| now.duration_since(at) >= ASK_AGAIN);
        if due {
            self.asked_at = Some(now);
        }
        due
    }

    /// Notes that a sample was taken: the next gap is a new one.
    pub fn progressed(&mut self) {
        self.asked_at = None;
    }

    /// Tells whether a duplicate is to be answered now.
    pub fn may_answer(&mut self, now: Instant) -> bool {
        let due = self
            .answered_at
            .is_none_or(|at| now.duration_since(at) >= ANSWER_EVERY);
        if due {
            self.answered_at = Some(now);
        }
        due
    }
}

/// Tells whether a sample that says `ts` can be stored under it.
#[must_use]
pub fn is_usable(ts: Option<u64>, now_ms: u64) -> bool {
    ts.is_some_and(|ts| ts > 0) && ahead_ms(ts, now_ms, AHEAD_MS).is_none()
}

/// By how much a clock that says `ts` is further ahead than `limit_ms`; `None` when it is not.
fn ahead_ms(ts: Option<u64>, now_ms: u64, limit_ms: u64) -> Option<u64> {
    ts.and_then(|ts| ts.checked_sub(now_ms))
        .filter(|ahead| *ahead > limit_ms)
}

impl Waiting {
    /// Lets the sample wait among `others`, unless there are too many.
    pub fn wait(self, others: &mut Vec<Self>) -> bool {
        let may = others.len() < WAITING;
        if may {
            others.push(self);
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_763_630_000_000;

    fn node() -> Node {
        Node::new(Arc::new("home.a".parse().unwrap()), Instant::now())
    }

    #[test]
    fn a_sample_keeps_its_time_unless_that_is_missing_or_far_ahead() {
        let mut node = node();
        let mut check = |ts: Option<u64>, at_ms: u64, own: bool, newly: Option<u64>| {
            let time = node.time(ts, NOW);
            assert_eq!(
                time,
                Time {
                    at_ms,
                    own,
                    newly_ahead_ms: newly
                },
                "{ts:?}"
            );
        };
        check(Some(NOW - 1), NOW - 1, false, None);
        check(Some(1), 1, false, None);
        check(Some(NOW + 60_000), NOW + 60_000, false, None);
        check(None, NOW, true, None);
        check(Some(0), NOW + 1, true, None);
        // Told once.
        check(Some(NOW + 60_001), NOW + 2, true, Some(60_001));
        check(Some(NOW + 90_000), NOW + 3, true, None);
        check(Some(NOW), NOW, false, None);
        check(Some(u64::MAX), NOW + 4, true, None);
    }

    #[test]
    fn a_clock_that_drifts_across_the_limit_is_told_once_and_its_rows_keep_to_one_time() {
        let mut node = node();
        let mut check = |now_ms: u64, ahead_ms: u64, own: bool, told: bool| {
            let time = node.time(Some(now_ms + ahead_ms), now_ms);
            let got = (time.own, time.newly_ahead_ms.is_some());
            assert_eq!(got, (own, told), "{ahead_ms} at {}", now_ms - NOW);
        };
        check(NOW, 59_900, false, false);
        check(NOW + 10_000, 60_100, true, true);
        check(NOW + 20_000, 59_900, true, false);
        check(NOW + 30_000, 60_100, true, false);
        check(NOW + 40_000, 50_001, true, false);
        check(NOW + 50_000, 50_000, false, false);
        check(NOW + 60_000, 60_000, false, false);
        check(NOW + 70_000, 60_001, true, false);
        check(NOW + 80_000, 0, false, false);
        check(NOW + 3_610_000, 61_000, true, true);
    }

    #[test]
    fn a_trouble_is_told_when_it_begins_and_once_an_hour_at_most() {
        let mut trouble = Trouble::default();
        let mut check = |minute: u64, lasts: bool, told: bool| {
            let now_ms = NOW + minute * 60_000;
            assert_eq!(trouble.begins(lasts, now_ms), told, "{minute}");
        };
        check(0, false, false);
        check(1, true, true);
        check(2, true, false);
        check(3, false, false);
        check(4, true, false);
        check(5, false, false);
        check(61, true, true);
        check(200, true, false);
    }

    #[test]
    fn a_gap_is_asked_for_once_and_again_only_without_progress() {
        let mut node = node();
        let begun = Instant::now();
        assert!(node.may_ask(begun));
        assert!(!node.may_ask(begun + Duration::from_millis(1_900)));
        assert!(node.may_ask(begun + Duration::from_millis(2_000)));
        node.progressed();
        assert!(node.may_ask(begun + Duration::from_millis(2_001)));
    }

    #[test]
    fn duplicates_are_answered_once_a_second() {
        let mut node = node();
        let begun = Instant::now();
        let answered = (0..30_u64)
            .filter(|tenth| node.may_answer(begun + Duration::from_millis(100 * tenth)))
            .count();
        assert_eq!(answered, 3);
    }

    #[test]
    fn a_node_whose_mark_is_being_read_is_not_forgotten() {
        let mut node = node();
        node.standing = Standing::Recovering(Vec::new());
        node.forget();
        assert!(matches!(node.standing, Standing::Recovering(_)));
        node.recovered(None);
        node.forget();
        assert!(matches!(node.standing, Standing::Unknown));
    }
}
