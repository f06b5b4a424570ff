//! Order and lateness of one node's samples: which of them tell how the host is now.
//!
//! A sample counts once, and only when it is newer than the last, by `(boot, seq)` where it has them, else
//! by `ts`. It is late when it was sent after an outage: its delay, our clock less the host's, is well above
//! the least delay seen lately. That least delay is the host's clock offset, so a clock that is wrong is no
//! lateness. Three samples in the rhythm of the interval, one as far behind our clock as the other, are a
//! host's present whatever they say: its clock was set, or it began its order anew. What an outbox sends
//! after an outage has no such rhythm: it comes faster than it was taken.

use hostbus_wire::sample::Head;

/// A first sample within this of our clock is live; one that is further behind must show its rhythm.
const TRUSTED_MS: i64 = 60_000;
/// Samples in rhythm until they are believed.
const RHYTHM: u8 = 3;
/// The least delay is that of one to two such times.
const MEMORY_MS: u64 = 300_000;
/// A delay this much above the least is none of the network.
const LEAST_LATE_MS: i64 = 15_000;

/// What a sample tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arrival {
    /// How the host is now.
    Live,
    /// How it was: the host is there, and its values are past.
    Late,
    /// Nothing that was not told.
    Old,
}

/// A sample's place in its author's order.
type Key = (u64, u64);

/// See the module's description.
#[derive(Debug, Clone, Default)]
pub(super) struct Order {
    /// The last sample that has a place.
    placed: Option<Key>,
    /// The last one that has only a time.
    timed: Option<Key>,
    /// The least delay of the current time and of the one before, in milliseconds.
    least: Option<[i64; 2]>,
    least_since_ms: u64,
    run: Run,
}

/// Samples that are not believed yet.
#[derive(Debug, Clone, Copy, Default)]
struct Run {
    length: u8,
    key: Key,
    delay_ms: i64,
}

impl Order {
    /// What a sample with this `head` tells, that arrived live at `now_ms`.
    pub(super) fn take(&mut self, head: Head, interval_ms: u64, now_ms: u64) -> Arrival {
        let place = head.place.map(|place| (place.boot, place.seq));
        let delay_ms = head.ts.map(|ts| {
            i64::try_from(now_ms).unwrap_or(i64::MAX) - i64::try_from(ts).unwrap_or(i64::MAX)
        });
        let (key, last) = match (place, head.ts) {
            (Some(place), _) => (place, self.placed),
            (None, Some(ts)) => ((0, ts), self.timed),
            // Somebody who keeps neither order nor time: what arrives is now.
            (None, None) => return Arrival::Live,
        };
        let newer = last.is_none_or(|last| key > last);
        let Some(delay_ms) = delay_ms else {
            if newer {
                self.placed = Some(key);
            }
            return if newer { Arrival::Live } else { Arrival::Old };
        };
        let interval_ms = i64::try_from(interval_ms).unwrap_or(i64::MAX);
        let on_time = match self.offset_ms() {
            Some(offset) => {
                delay_ms.saturating_sub(offset) <= LEAST_LATE_MS.max(interval_ms.saturating_mul(2))
            }
            None => delay_ms <= TRUSTED_MS,
        };
        let believed = newer && on_time || self.in_rhythm(key, delay_ms, interval_ms);
        if newer || believed {
            match place {
                Some(_) => self.placed = Some(key),
                None => self.timed = Some(key),
            }
        }
        if !believed {
            return if newer { Arrival::Late } else { Arrival::Old };
        }
        self.run = Run::default();
        self.learn(delay_ms, on_time, now_ms);
        Arrival::Live
    }

    /// What a retained sample tells: its place, so that it is not taken again.
    pub(super) fn note(&mut self, head: Head) {
        match (head.place, head.ts) {
            (Some(place), _) => self.placed = self.placed.max(Some((place.boot, place.seq))),
            (None, Some(ts)) => self.timed = self.timed.max(Some((0, ts))),
            (None, None) => {}
        }
    }

    /// How far our clock is ahead of the host's, what the network takes included, in milliseconds.
    pub(super) fn offset_ms(&self) -> Option<i64> {
        self.least.map(|[recent, before]| recent.min(before))
    }

    fn in_rhythm(&mut self, key: Key, delay_ms: i64, interval_ms: i64) -> bool {
        let run = self.run;
        let goes_on = run.length > 0
            && key > run.key
            && delay_ms.abs_diff(run.delay_ms) <= interval_ms.unsigned_abs() / 2;
        let length = if goes_on { run.length + 1 } else { 1 };
        self.run = Run {
            length,
            key,
            delay_ms,
        };
        length >= RHYTHM
    }

    fn learn(&mut self, delay_ms: i64, on_time: bool, now_ms: u64) {
        let known = self.least.filter(|_| on_time);
        let Some([recent, before]) = known else {
            self.least = Some([delay_ms; 2]);
            self.least_since_ms = now_ms;
            return;
        };
        let age_ms = now_ms.saturating_sub(self.least_since_ms);
        self.least = Some(if age_ms < MEMORY_MS {
            [recent.min(delay_ms), before]
        } else {
            self.least_since_ms = now_ms;
            [delay_ms, recent]
        });
    }
}

#[cfg(test)]
mod tests {
    use hostbus_wire::sample::Place;

    use super::*;

    const INTERVAL_MS: u64 = 10_000;

    fn placed(boot: u64, seq: u64, ts: u64) -> Head {
        let place = Place {
            boot,
            seq,
            first: 1,
        };
        Head {
            ts: Some(ts),
            place: Some(place),
            interval_ms: None,
        }
    }

    /// Samples as (boot, seq, the host's time, our time), all in seconds after a common beginning.
    fn check(name: &str, samples: &[(u64, u64, u64, u64)], expected: &[Arrival]) {
        let mut order = Order::default();
        let begin = 1_000_000_000;
        let arrivals: Vec<Arrival> = samples
            .iter()
            .map(|&(boot, seq, ts, now)| {
                let head = placed(boot, seq, begin + ts * 1000);
                order.take(head, INTERVAL_MS, begin + now * 1000)
            })
            .collect();
        assert_eq!(arrivals, expected, "{name}");
    }

    #[test]
    fn a_sample_counts_once_and_only_while_it_is_new() {
        use Arrival::{Late, Live, Old};
        check(
            "in order, then twice, then an older one",
            &[(1, 1, 0, 0), (1, 2, 10, 10), (1, 2, 10, 11), (1, 1, 0, 12)],
            &[Live, Live, Old, Old],
        );
        check(
            "a new run begins at one",
            &[(1, 9, 0, 0), (2, 1, 10, 10)],
            &[Live, Live],
        );
        check(
            "an outage of two minutes, then its samples in a burst, then the present",
            &[
                (1, 1, 0, 0),
                (1, 2, 10, 120),
                (1, 3, 20, 120),
                (1, 4, 30, 120),
                (1, 5, 118, 121),
            ],
            &[Live, Late, Late, Late, Live],
        );
        check(
            "a clock that is wrong by an hour shows its rhythm first",
            &[
                (1, 1, 0, 3600),
                (1, 2, 10, 3610),
                (1, 3, 20, 3620),
                (1, 4, 30, 3630),
            ],
            &[Late, Late, Live, Live],
        );
        check(
            "a clock that is an hour ahead is no lateness",
            &[(1, 1, 3600, 0), (1, 2, 3610, 10)],
            &[Live, Live],
        );
        check(
            "a clock that is set back by an hour",
            &[
                (1, 1, 3600, 3600),
                (1, 2, 10, 3610),
                (1, 3, 20, 3620),
                (1, 4, 30, 3630),
            ],
            &[Live, Late, Late, Live],
        );
        check(
            "an order that begins anew",
            &[(9, 1, 0, 0), (1, 1, 10, 10), (1, 2, 20, 20), (1, 3, 30, 30)],
            &[Live, Old, Old, Live],
        );
        check(
            "what was sent again after an outage that we did not see",
            &[
                (1, 1, 0, 300),
                (1, 2, 10, 300),
                (1, 3, 20, 300),
                (1, 4, 299, 300),
            ],
            &[Late, Late, Late, Live],
        );
    }

    #[test]
    fn who_keeps_no_order_is_taken_by_time_or_by_arrival() {
        let mut order = Order::default();
        let timed = Head {
            ts: Some(100_000),
            ..Head::default()
        };
        let mut take = |head| order.take(head, INTERVAL_MS, 100_000);
        assert_eq!(take(timed), Arrival::Live);
        assert_eq!(take(timed), Arrival::Old);
        assert_eq!(take(Head::default()), Arrival::Live);
        assert_eq!(take(Head::default()), Arrival::Live);
    }

    #[test]
    fn a_clock_offset_follows_the_clock() {
        let mut order = Order::default();
        for second in 0..2000_u64 {
            let drift = second / 100;
            let now = 10_000_000 + second * 1000;
            let head = placed(1, second + 1, now + 5_000 - drift);
            assert_eq!(order.take(head, 1000, now), Arrival::Live);
        }
        let offset = order.offset_ms().unwrap();
        assert!((-4_990..=-4_980).contains(&offset), "{offset}");
    }
}
