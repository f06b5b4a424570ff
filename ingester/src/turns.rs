//! Whose turn it is to send again. No I/O, no clock.
//!
//! After an outage all nodes have something to send again. If all did so at once, the queue would
//! overflow, and each sample it refuses voids all that its node sends after it. So only some nodes
//! have a turn at a time; the others wait in the order in which they came. A turn ends when the
//! node has caught up with the newest sample that was missed, or when nothing more comes of it.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hostbus_store::Mark;
use hostbus_wire::NodePath;

/// After how long without a sample that is taken a turn ends.
const IDLE: Duration = Duration::from_secs(5);
/// The longest turn. No publisher holds so much; a target that nobody can reach ends here.
const LONGEST: Duration = Duration::from_secs(600);

/// The turns of all nodes.
#[derive(Debug)]
pub struct Turns {
    most: usize,
    current: HashMap<Arc<NodePath>, Turn>,
    /// Each stands here once; its target is in `targets`.
    waiting: VecDeque<Arc<NodePath>>,
    targets: HashMap<Arc<NodePath>, Mark>,
}

#[derive(Debug)]
struct Turn {
    target: Mark,
    begun_at: Instant,
    moved_at: Instant,
}

impl Turns {
    /// At most `most` turns at a time.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self {
            most: most.max(1),
            current: HashMap::new(),
            waiting: VecDeque::new(),
            targets: HashMap::new(),
        }
    }

    /// Tells whether `node`, which misses samples up to `target`, has its turn now. If not it gets
    /// one [later](Self::next).
    pub fn want(&mut self, node: &Arc<NodePath>, target: Mark, now: Instant) -> bool {
        if let Some(turn) = self.current.get_mut(node) {
            turn.target = turn.target.max(target);
            return true;
        }
        if let Some(wanted) = self.targets.get_mut(node) {
            *wanted = target.max(*wanted);
            return false;
        }
        if self.waiting.is_empty() && self.current.len() < self.most {
            self.begin(Arc::clone(node), target, now);
            return true;
        }
        self.waiting.push_back(Arc::clone(node));
        self.targets.insert(Arc::clone(node), target);
        false
    }

    /// Notes that a sample of `node` was taken.
    pub fn took(&mut self, node: &NodePath, mark: Mark, now: Instant) {
        if let Some(turn) = self.current.get_mut(node) {
            turn.moved_at = now;
            if mark >= turn.target {
                self.current.remove(node);
            }
        }
    }

    /// Ends the turn of `node`.
    pub fn end(&mut self, node: &NodePath) {
        self.current.remove(node);
    }

    /// Ends the turns that nothing more comes of.
    pub fn expire(&mut self, now: Instant) {
        self.current.retain(|_, turn| {
            now.saturating_duration_since(turn.moved_at) < IDLE
                && now.saturating_duration_since(turn.begun_at) < LONGEST
        });
    }

    /// Begins the next turn, if one is free and somebody waits. Gives the node and its target.
    pub fn next(&mut self, now: Instant) -> Option<(Arc<NodePath>, Mark)> {
        if self.current.len() >= self.most {
            return None;
        }
        let node = self.waiting.pop_front()?;
        let target = self.targets.remove(&node)?;
        self.begin(Arc::clone(&node), target, now);
        Some((node, target))
    }

    /// Ends all turns, and nobody waits any more.
    pub fn clear(&mut self) {
        self.current.clear();
        self.waiting.clear();
        self.targets.clear();
    }

    fn begin(&mut self, node: Arc<NodePath>, target: Mark, now: Instant) {
        let turn = Turn {
            target,
            begun_at: now,
            moved_at: now,
        };
        self.current.insert(node, turn);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(number: usize) -> Arc<NodePath> {
        Arc::new(format!("home.n{number}").parse().unwrap())
    }

    fn mark(seq: u64) -> Mark {
        Mark { boot: 5, seq }
    }

    #[test]
    fn only_so_many_have_a_turn_and_the_others_follow_in_order() {
        let begun = Instant::now();
        let mut turns = Turns::new(2);
        let had: Vec<bool> = (0..5)
            .map(|number| turns.want(&node(number), mark(10), begun))
            .collect();
        assert_eq!(had, [true, true, false, false, false]);
        assert!(turns.next(begun).is_none());
        // Who waits already does not wait twice, nor is it served twice; its target rises.
        assert!(!turns.want(&node(2), mark(12), begun));
        assert!(turns.want(&node(0), mark(11), begun));
        turns.took(&node(0), mark(10), begun);
        assert!(turns.next(begun).is_none());
        turns.took(&node(0), mark(11), begun);
        assert_eq!(turns.next(begun), Some((node(2), mark(12))));
        turns.end(&node(1));
        // Who comes now goes behind those that wait, though a turn is free.
        assert!(!turns.want(&node(0), mark(20), begun));
        assert_eq!(turns.next(begun), Some((node(3), mark(10))));
        assert!(turns.next(begun).is_none());
        turns.end(&node(2));
        turns.end(&node(3));
        assert_eq!(turns.next(begun), Some((node(4), mark(10))));
        assert_eq!(turns.next(begun), Some((node(0), mark(20))));
        assert!(turns.next(begun).is_none());
    }

    #[test]
    fn a_turn_ends_when_nothing_comes_of_it() {
        let begun = Instant::now();
        let at = |seconds| begun + Duration::from_secs(seconds);
        let mut turns = Turns::new(1);
        assert!(turns.want(&node(0), mark(10), begun));
        assert!(!turns.want(&node(1), mark(10), begun));
        turns.took(&node(0), mark(1), at(4));
        turns.expire(at(8));
        assert!(turns.next(at(8)).is_none());
        turns.expire(at(9));
        assert_eq!(turns.next(at(9)), Some((node(1), mark(10))));
    }

    #[test]
    fn a_target_out_of_reach_does_not_hold_a_turn_for_ever() {
        let begun = Instant::now();
        let mut turns = Turns::new(1);
        assert!(turns.want(&node(0), mark(u64::MAX), begun));
        assert!(!turns.want(&node(1), mark(10), begun));
        let next = (1..700).find_map(|second| {
            let now = begun + Duration::from_secs(second);
            turns.took(&node(0), mark(second), now);
            turns.expire(now);
            turns.next(now).map(|(node, _)| (second, node))
        });
        assert_eq!(next, Some((600, node(1))));
    }
}
