//! The newest sample of each node on its way to `last`, and the time of its arrival. No I/O, no clock.
//!
//! Both are written at most once a second a node; the newest wins. What waits is no belief about Redis
//! and outlives its failures.

use std::collections::HashMap;
use std::sync::Arc;

use hostbus_wire::{NodePath, Sample};

/// How often a node's newest sample is written.
const EVERY_MS: u64 = 1_000;

/// The newest samples.
#[derive(Debug, Default)]
pub(crate) struct Latest {
    nodes: HashMap<Arc<NodePath>, Newest>,
    /// Those of which one waits; each stands here once.
    waiting: Vec<Arc<NodePath>>,
}

#[derive(Debug, Default)]
struct Newest {
    written_ms: Option<u64>,
    waiting: Option<Arrived>,
}

/// A sample that waits to be written.
#[derive(Debug)]
pub(crate) struct Arrived {
    /// The sample, with the time that it is stored under.
    pub(crate) sample: Box<Sample>,
    /// When it arrived.
    pub(crate) seen_ms: u64,
}

impl Newest {
    fn is_due(&self, now_ms: u64) -> bool {
        // A clock that stepped back does not hold it up.
        let lately = |at: u64| at <= now_ms && now_ms - at < EVERY_MS;
        !self.written_ms.is_some_and(lately)
    }
}

impl Latest {
    /// Takes a sample of `node` that was stored under the time `at_ms`.
    pub(crate) fn take(
        &mut self,
        node: &Arc<NodePath>,
        mut sample: Box<Sample>,
        at_ms: u64,
        seen_ms: u64,
    ) {
        sample.ts = Some(at_ms);
        if !self.nodes.contains_key(node) {
            self.nodes.insert(Arc::clone(node), Newest::default());
        }
        let Some(newest) = self.nodes.get_mut(node) else {
            return;
        };
        if newest
            .waiting
            .replace(Arrived { sample, seen_ms })
            .is_none()
        {
            self.waiting.push(Arc::clone(node));
        }
    }

    /// Tells whether anything waits.
    pub(crate) fn waits(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Those that are due, at most `most`.
    pub(crate) fn due(
        &self,
        now_ms: u64,
        most: usize,
    ) -> impl Iterator<Item = (&Arc<NodePath>, &Arrived)> {
        let due = self.waiting.iter().filter_map(move |node| {
            let newest = self.nodes.get(node)?;
            let arrived = newest.waiting.as_ref()?;
            newest.is_due(now_ms).then_some((node, arrived))
        });
        due.take(most)
    }

    /// Notes that what was [due](Self::due) is written.
    pub(crate) fn written(&mut self, now_ms: u64, mut most: usize) {
        let nodes = &mut self.nodes;
        self.waiting.retain(|node| {
            let Some(newest) = nodes.get_mut(node) else {
                return false;
            };
            let written = most > 0 && newest.is_due(now_ms);
            if written {
                most -= 1;
                *newest = Newest {
                    written_ms: Some(now_ms),
                    waiting: None,
                };
            }
            !written
        });
    }

    /// Forgets a node, unless a sample of it waits.
    pub(crate) fn forget(&mut self, node: &NodePath) {
        if self
            .nodes
            .get(node)
            .is_some_and(|newest| newest.waiting.is_none())
        {
            self.nodes.remove(node);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(name: &str) -> Arc<NodePath> {
        Arc::new(format!("home.{name}").parse().unwrap())
    }

    fn due(latest: &Latest, now_ms: u64) -> Vec<(String, u64)> {
        let due = latest.due(now_ms, 10);
        due.map(|(node, arrived)| (node.node.to_string(), arrived.sample.ts.unwrap()))
            .collect()
    }

    #[test]
    fn the_newest_is_written_at_most_once_a_second_and_then_without_another() {
        let mut latest = Latest::default();
        let take = |latest: &mut Latest, name: &str, at_ms: u64| {
            latest.take(&path(name), Box::default(), at_ms, at_ms);
        };
        take(&mut latest, "a", 10);
        take(&mut latest, "a", 20);
        take(&mut latest, "b", 30);
        let both = [("a".to_owned(), 20), ("b".to_owned(), 30)];
        assert_eq!(due(&latest, 30), both);
        // Not yet told that it is written.
        assert_eq!(due(&latest, 30), both);
        latest.written(30, 1);
        assert_eq!(due(&latest, 30), both[1..]);
        latest.written(30, 10);
        assert!(!latest.waits());
        take(&mut latest, "a", 40);
        take(&mut latest, "a", 50);
        assert_eq!(due(&latest, 1_029), []);
        assert!(latest.waits());
        latest.forget(&path("a"));
        latest.forget(&path("b"));
        assert_eq!(due(&latest, 1_030), [("a".to_owned(), 50)]);
        take(&mut latest, "b", 60);
        assert_eq!(due(&latest, 60), [("b".to_owned(), 60)]);
    }

    #[test]
    fn a_clock_that_stepped_back_holds_nothing_up() {
        let mut latest = Latest::default();
        latest.take(&path("a"), Box::default(), 1, 9_000);
        latest.written(9_000, 1);
        latest.take(&path("a"), Box::default(), 2, 5_000);
        assert_eq!(due(&latest, 5_000).len(), 1);
    }
}
