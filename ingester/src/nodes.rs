//! The nodes that are remembered, and which is forgotten for a new one. No I/O, no clock.
//!
//! Forgetting a node costs little: when it comes back its mark is read from Redis again.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hostbus_wire::NodePath;
use tracing::warn;

use crate::node::{Node, Standing};

/// A node that was silent for so long makes room for another.
const SILENT: Duration = Duration::from_secs(3_600);
/// How often room is looked for. In between, new nodes are refused without a look at all others.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// The nodes, at most so many.
#[derive(Debug)]
pub struct Nodes {
    most: usize,
    all: HashMap<NodePath, Node>,
    looked_at: Option<Instant>,
    told_full: bool,
}

impl Nodes {
    /// At most `most` nodes.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self {
            most,
            all: HashMap::new(),
            looked_at: None,
            told_full: false,
        }
    }

    /// The node at `path`, if it is remembered.
    pub fn get_mut(&mut self, path: &NodePath) -> Option<&mut Node> {
        self.all.get_mut(path)
    }

    /// All of them.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut Node> {
        self.all.values_mut()
    }

    /// The node at `path`, of which something has come; `None` when it is new and there are too
    /// many. `forget` tells the others that a node is forgotten, and whether it may be.
    pub fn heard(
        &mut self,
        path: NodePath,
        now: Instant,
        forget: impl Fn(&Arc<NodePath>) -> bool,
    ) -> Option<&mut Node> {
        if !self.all.contains_key(&path) && self.all.len() >= self.most {
            self.make_room(now, forget);
            if self.all.len() >= self.most {
                if !std::mem::replace(&mut self.told_full, true) {
                    warn!(node = %path, max_nodes = self.most, "too many nodes; this one and others are refused");
                }
                return None;
            }
        }
        let node = self
            .all
            .entry(path)
            .or_insert_with_key(|path| Node::new(Arc::new(path.clone()), now));
        node.heard_at = now;
        Some(node)
    }

    fn make_room(&mut self, now: Instant, forget: impl Fn(&Arc<NodePath>) -> bool) {
        let lately = |at| now.saturating_duration_since(at) < LOOK_EVERY;
        if self.looked_at.is_some_and(lately) {
            return;
        }
        self.looked_at = Some(now);
        let before = self.all.len();
        self.all.retain(|_, node| {
            let silent = now.saturating_duration_since(node.heard_at) >= SILENT;
            let awaited = matches!(node.standing, Standing::Recovering(_));
            !silent || awaited || !forget(&node.path)
        });
        if self.all.len() < before {
            self.told_full = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    fn path(name: &str) -> NodePath {
        format!("home.{name}").parse().unwrap()
    }

    #[test]
    fn a_new_node_takes_the_place_of_one_that_was_silent_for_an_hour() {
        let begun = Instant::now();
        let forgotten = RefCell::new(Vec::new());
        let mut nodes = Nodes::new(3);
        let mut check = |name: &str, seconds: u64, taken: bool, told: &[&str]| {
            let now = begun + Duration::from_secs(seconds);
            let had = nodes.heard(path(name), now, |node| {
                forgotten.borrow_mut().push(node.node.as_str().to_owned());
                true
            });
            assert_eq!(had.is_some(), taken, "{name} at {seconds}");
            if let Some(node) = had
                && name == "awaited"
            {
                node.standing = Standing::Recovering(Vec::new());
            }
            assert_eq!(forgotten.take(), told, "{name} at {seconds}");
        };
        check("awaited", 0, true, &[]);
        check("silent", 0, true, &[]);
        check("talks", 0, true, &[]);
        check("new", 10, false, &[]);
        check("talks", 1_000, true, &[]);
        check("new", 3_590, false, &[]);
        // Looked for a moment ago.
        check("new", 3_600, false, &[]);
        check("new", 3_650, true, &["silent"]);
        check("silent", 3_720, false, &[]);
        check("silent", 4_600, true, &["talks"]);
    }

    #[test]
    fn a_node_that_may_not_be_forgotten_stays() {
        let begun = Instant::now();
        let mut nodes = Nodes::new(1);
        assert!(nodes.heard(path("a"), begun, |_| true).is_some());
        let later = begun + 2 * SILENT;
        assert!(nodes.heard(path("b"), later, |_| false).is_none());
        assert!(nodes.get_mut(&path("a")).is_some());
    }
}
