//! What a writer remembers of each node's streams: which it has seen, when each is due for trimming.

use std::collections::HashMap;

use crate::keys::NodeKeys;
use crate::mark::Mark;

/// Every how many rows a stream is trimmed. Trimming with each row costs Redis twice the time.
const TRIM_EVERY: u8 = 60;

/// One node's streams.
#[derive(Debug)]
pub(crate) struct NodeStreams {
    pub(crate) keys: NodeKeys,
    /// The mark as Redis has it.
    pub(crate) mark: Option<Mark>,
    series: HashMap<Box<str>, Stream>,
}

#[derive(Debug)]
struct Stream {
    raw: Box<str>,
    rows_to_trim: u8,
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
        }
    }

    /// The slot of the next row of `series`; `None` when the node has as many series as it may.
    pub(crate) fn next(&mut self, series: &str, most: usize) -> Option<Slot<'_>> {
        if !self.series.contains_key(series) {
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
        assert!(!node.next("memory", 10).unwrap().trim);
        let tended: Vec<usize> = (0..181)
            .filter(|_| node.next("cpu", 10).unwrap().tend)
            .collect();
        assert_eq!(tended, [0, 59, 119, 179]);
    }

    #[test]
    fn a_node_has_no_more_series_than_it_may() {
        let mut node = node();
        for name in ["a", "b"] {
            assert!(node.next(name, 2).is_some());
        }
        assert!(node.next("c", 2).is_none());
        assert!(node.next("a", 2).is_some());
    }
}
