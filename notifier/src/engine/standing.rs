//! The alerts as they stand on the bus, a bounded number of each node: whoever may write the alerts of
//! one node must not take the room of the others.

use std::collections::{BTreeMap, HashMap};

use hostbus_wire::NodePath;
use hostbus_wire::alert::{Alert, AlertKey, AlertState};

/// The most alerts that are taken of one node.
const MOST_A_NODE: usize = 1_024;

/// See the module's description.
#[derive(Debug, Default)]
pub(super) struct Standing {
    alerts: BTreeMap<AlertKey, Alert>,
    by_node: HashMap<NodePath, usize>,
}

impl Standing {
    /// The alert at `key` stands so, or is gone. Returns whether there is room for it.
    pub(super) fn set(&mut self, key: &AlertKey, alert: Option<&Alert>) -> bool {
        let count = self.by_node.entry(key.node.clone()).or_default();
        match alert {
            Some(alert) => {
                if *count >= MOST_A_NODE && !self.alerts.contains_key(key) {
                    return false;
                }
                if self.alerts.insert(key.clone(), alert.clone()).is_none() {
                    *count += 1;
                }
            }
            None => {
                if self.alerts.remove(key).is_some() {
                    *count -= 1;
                }
                if *count == 0 {
                    self.by_node.remove(&key.node);
                }
            }
        }
        true
    }

    /// All of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&AlertKey, &Alert)> {
        self.alerts.iter()
    }

    /// How many are in a state.
    pub(super) fn count(&self, state: AlertState) -> usize {
        let is = |alert: &&Alert| alert.state == state;
        self.alerts.values().filter(is).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_floods_leaves_room_for_the_others() {
        let mut standing = Standing::default();
        let key = |node: &str, rule: usize| AlertKey {
            node: node.parse().unwrap(),
            rule: rule.to_string().into(),
            instance: None,
        };
        let alert = Alert::default();
        for rule in 0..MOST_A_NODE {
            assert!(standing.set(&key("home.a", rule), Some(&alert)));
        }
        assert!(!standing.set(&key("home.a", MOST_A_NODE), Some(&alert)));
        assert!(standing.set(&key("home.a", 0), Some(&alert)));
        assert!(standing.set(&key("home.b", 0), Some(&alert)));
        assert!(standing.set(&key("home.a", 0), None));
        assert!(standing.set(&key("home.a", MOST_A_NODE), Some(&alert)));
        assert_eq!(standing.count(AlertState::Firing), MOST_A_NODE + 1);
    }
}
