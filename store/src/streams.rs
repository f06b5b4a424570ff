//! What a writer remembers of each node's streams: which it has seen, when each is due for trimming.

use std::collections::HashMap;

use crate::keys::NodeKeys;
use crate::mark::Mark;

/// Every how many rows a stream is trimmed. Trimming with each row costs Redis twice the time.
const TRIM_EVERY: u8 = 60;

/// How often room for a new series is looked for. In between it is refused without a look at all.
const LOOK_EVERY_MS: u64 = 60_000;

/// One node's streams.
#[derive(Debug)]
pub(crate) struct NodeStreams {
    pub(crate) keys: NodeKeys,
    /// The mark as Redis has it.
    pub(crate) mark: Option<Mark>,
    series: HashMap<Box<str>, Stream>,
    /// When room was last looked for.
    looked_ms: Option<u64>,
}

#[derive(Debug)]
struct Stream {
    raw: Box<str>,
    rows_to_trim: u8,
    /// When the last row went there.
    used_ms: u64,
}

/// Where the next row of a series goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slot<'n> {
    /// The stream's key.
    pub(crate) raw: &'n str,
    /// This row also sets the stream's expiry, and puts its name among the node's series. The first
    /// row of this process does, and about every 60th, so that all of it heals when the stream or
    /// the set is removed by somebody.
    pub(crate) tend: bool,
    /// This row also trims the stream. About every 60th does, never the first of a stream.
    pub(crate) trim: bool,
}

impl NodeStreams {
    pub(crate) fn new(keys: NodeKeys, mark: Option<Mark>) -> Self {
        Self {
            keys,
            mark,
            series: HashMap::new(),
            looked_ms: None,
        }
    }

    /// The slot of the next row of `series`; `None` when the node has as many series as it may.
    /// Series without a row since `cutoff_ms` are forgotten for new ones: theirs are gone by now.
    pub(crate) fn next(
        &mut self,
        series: &str,
        most: usize,
        now_ms: u64,
        cutoff_ms: u64,
    ) -> Option<Slot<'_>> {
        if !self.series.contains_key(series) {
            if self.series.len() >= most {
                self.make_room(now_ms, cutoff_ms);
            }
            if self.series.len() >= most {
                return None;
            }
            // Spread over time, so that not all streams of a node are trimmed with one sample.
            let stagger = u8::try_from(self.series.len() % usize::from(TRIM_EVERY)).unwrap_or(0);
            let raw = self.keys.raw(series).into();
            self.series.insert(
                series.into(),
                Stream {
                    raw,
                    rows_to_trim: TRIM_EVERY - stagger,
                    used_ms: now_ms,
                },
            );
            let stream = self.series.get(series)?;
            return Some(Slot {
                raw: &stream.raw,
                tend: true,
                trim: false,
            });
        }
        let stream = self.series.get_mut(series)?;
        stream.used_ms = now_ms;
        stream.rows_to_trim -= 1;
        let tend = stream.rows_to_trim == 0;
        if tend {
            stream.rows_to_trim = TRIM_EVERY;
        }
        Some(Slot {
            raw: &stream.raw,
            tend,
            trim: tend,
        })
    }

    fn make_room(&mut self, now_ms: u64, cutoff_ms: u64) {
        let lately = |at: u64| now_ms.saturating_sub(at) < LOOK_EVERY_MS;
        if self.looked_ms.is_some_and(lately) {
            return;
        }
        self.looked_ms = Some(now_ms);
        self.series.retain(|_, stream| stream.used_ms >= cutoff_ms);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node() -> NodeStreams {
        NodeStreams::new(NodeKeys::new(&"home.a".parse().unwrap()), None)
    }

    #[test]
    fn the_first_row_and_every_60th_tend_the_stream() {
        let mut node = node();
        assert!(!node.next("memory", 10, 0, 0).unwrap().trim);
        let tended: Vec<usize> = (0..181)
            .filter(|_| node.next("cpu", 10, 0, 0).unwrap().tend)
            .collect();
        assert_eq!(tended, [0, 59, 119, 179]);
    }

    #[test]
    fn a_node_has_no_more_series_than_it_may() {
        let mut node = node();
        for name in ["a", "b"] {
            assert!(node.next(name, 2, 0, 0).is_some());
        }
        assert!(node.next("c", 2, 0, 0).is_none());
        assert!(node.next("a", 2, 0, 0).is_some());
    }

    #[test]
    fn a_new_series_takes_the_place_of_one_whose_rows_are_gone() {
        let mut node = node();
        let mut check = |name, now_ms: u64, cutoff_ms, taken| {
            let slot = node.next(name, 2, now_ms, cutoff_ms);
            assert_eq!(slot.is_some(), taken, "{name} at {now_ms}");
        };
        check("idle", 1_000, 0, true);
        check("used", 1_000, 0, true);
        check("new", 2_000, 0, false);
        check("used", 90_000, 0, true);
        // Looked for a moment ago.
        check("new", 61_999, 50_000, false);
        check("new", 100_000, 50_000, true);
        check("used", 100_000, 50_000, true);
        check("idle", 200_000, 100_000, false);
        check("idle", 300_000, 100_001, true);
    }
}
