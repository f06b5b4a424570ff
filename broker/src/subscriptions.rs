//! Who has subscribed to what: a snapshot that readers match against without a lock.
//!
//! A change copies the path to the filter that changed, nothing else, and publishes the new
//! snapshot; a reader keeps the one it began with. Filters without wildcards stand in one map,
//! the others in a tree by level.

use std::sync::{Arc, Mutex};

use arc_swap::{ArcSwap, Guard};
use rpds::HashTrieMapSync;

use crate::codec::QoS;
use crate::lock::Held;
use crate::session::Session;

/// One subscription of one session.
#[derive(Debug)]
pub(crate) struct Subscription {
    pub(crate) session: Arc<Session>,
    pub(crate) qos: QoS,
    pub(crate) no_local: bool,
    pub(crate) retain_as_published: bool,
    /// Comes back with each message.
    pub(crate) identifier: Option<u32>,
    /// The filter is wider than the session's rights: each message must be checked.
    pub(crate) filtered: bool,
}

/// The subscriptions to one filter; absent when there are none.
type Entries = Option<Arc<Vec<Arc<Subscription>>>>;

#[derive(Debug, Clone, Default)]
struct Level {
    /// Filters that end here.
    here: Entries,
    /// Filters that go on with `#`: they match this level and all below.
    all_below: Entries,
    any: Option<Arc<Level>>,
    literal: Option<HashTrieMapSync<Arc<str>, Arc<Level>>>,
}

/// All subscriptions at one moment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Snapshot {
    exact: HashTrieMapSync<Arc<str>, Arc<Vec<Arc<Subscription>>>>,
    wildcard: Level,
    count: usize,
}

/// The subscriptions of a broker.
#[derive(Debug, Default)]
pub(crate) struct Subscriptions {
    snapshot: ArcSwap<Snapshot>,
    writer: Mutex<()>,
}

impl Subscriptions {
    /// The present snapshot.
    pub(crate) fn load(&self) -> Guard<Arc<Snapshot>> {
        self.snapshot.load()
    }

    /// Adds subscriptions; one of the same session to the same filter is replaced.
    pub(crate) fn insert(&self, added: Vec<(&str, Subscription)>) {
        self.change(|snapshot| {
            for (filter, subscription) in added {
                snapshot.set(
                    filter,
                    subscription.session.key(),
                    Some(Arc::new(subscription)),
                );
            }
        });
    }

    /// Removes the subscriptions of the session `key` to `filters`.
    pub(crate) fn remove<'f>(&self, key: u64, filters: impl IntoIterator<Item = &'f str>) {
        self.change(|snapshot| {
            for filter in filters {
                snapshot.set(filter, key, None);
            }
        });
    }

    fn change(&self, change: impl FnOnce(&mut Snapshot)) {
        let _writing = self.writer.held();
        let mut snapshot = Snapshot::clone(&self.snapshot.load());
        change(&mut snapshot);
        self.snapshot.store(Arc::new(snapshot));
    }
}

/// Replaces the subscription of the session `key` in `entries`, adds or removes it. Returns by how
/// much the number of subscriptions changes.
fn replace(entries: &mut Entries, key: u64, subscription: Option<Arc<Subscription>>) -> isize {
    let place = entries
        .as_ref()
        .and_then(|list| list.iter().position(|held| held.session.key() == key));
    match (place, subscription) {
        (Some(place), Some(subscription)) => {
            Arc::make_mut(entries.get_or_insert_default())[place] = subscription;
            0
        }
        (None, Some(subscription)) => {
            Arc::make_mut(entries.get_or_insert_default()).push(subscription);
            1
        }
        (Some(place), None) => {
            let list = Arc::make_mut(entries.get_or_insert_default());
            list.swap_remove(place);
            if list.is_empty() {
                *entries = None;
            }
            -1
        }
        (None, None) => 0,
    }
}

impl Snapshot {
    /// How many subscriptions there are.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    fn set(&mut self, filter: &str, key: u64, subscription: Option<Arc<Subscription>>) {
        let change = if filter.contains(['+', '#']) {
            self.wildcard.set(filter, key, subscription)
        } else {
            let mut entries = self.exact.get(filter).cloned();
            let change = replace(&mut entries, key, subscription);
            match entries {
                Some(entries) => self.exact.insert_mut(filter.into(), entries),
                None => drop(self.exact.remove_mut(filter)),
            }
            change
        };
        self.count = self.count.saturating_add_signed(change);
    }

    /// Hands each subscription that matches `topic` to `found`.
    pub(crate) fn matches<'s>(
        &'s self,
        topic: &str,
        found: &mut impl FnMut(&'s Arc<Subscription>),
    ) {
        if let Some(entries) = self.exact.get(topic) {
            entries.iter().for_each(&mut *found);
        }
        if topic.starts_with('$') {
            // A wildcard in the first level reaches no topic that begins with `$`.
            let (first, rest) = split(topic);
            if let Some(below) = self.wildcard.literal(first) {
                below.matches(rest, found);
            }
        } else {
            self.wildcard.matches(Some(topic), found);
        }
    }
}

/// The first level, and the levels after it.
fn split(topic: &str) -> (&str, Option<&str>) {
    match topic.split_once('/') {
        Some((first, rest)) => (first, Some(rest)),
        None => (topic, None),
    }
}

impl Level {
    fn literal(&self, name: &str) -> Option<&Self> {
        self.literal.as_ref()?.get(name).map(|level| &**level)
    }

    fn is_empty(&self) -> bool {
        self.here.is_none()
            && self.all_below.is_none()
            && self.any.is_none()
            && self.literal.is_none()
    }

    /// The levels of a filter are bounded before it comes here, and so is this recursion.
    fn set(&mut self, filter: &str, key: u64, subscription: Option<Arc<Subscription>>) -> isize {
        let (first, rest) = split(filter);
        if first == "#" {
            return replace(&mut self.all_below, key, subscription);
        }
        let mut level = match first {
            "+" => self.any.clone(),
            name => self
                .literal
                .as_ref()
                .and_then(|literal| literal.get(name))
                .cloned(),
        }
        .unwrap_or_default();
        let below = Arc::make_mut(&mut level);
        let change = match rest {
            Some(rest) => below.set(rest, key, subscription),
            None => replace(&mut below.here, key, subscription),
        };
        let gone = below.is_empty();
        if first == "+" {
            self.any = if gone { None } else { Some(level) };
        } else if !gone {
            self.literal
                .get_or_insert_default()
                .insert_mut(first.into(), level);
        } else if let Some(literal) = &mut self.literal {
            literal.remove_mut(first);
            if literal.is_empty() {
                self.literal = None;
            }
        }
        change
    }

    fn matches<'s>(&'s self, topic: Option<&str>, found: &mut impl FnMut(&'s Arc<Subscription>)) {
        self.all_below
            .iter()
            .flat_map(|list| list.iter())
            .for_each(&mut *found);
        let Some(topic) = topic else {
            self.here
                .iter()
                .flat_map(|list| list.iter())
                .for_each(&mut *found);
            return;
        };
        let (first, rest) = split(topic);
        if let Some(below) = self.literal(first) {
            below.matches(rest, found);
        }
        if let Some(below) = &self.any {
            below.matches(rest, found);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::Limits;
    use crate::session::Name;
    use hostbus_wire::pattern::{filter_matches, is_filter};
    use hostbus_wire::{Access, Identity, TopicRoot};
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn session(key: u64) -> Arc<Session> {
        let access = Access::new(&TopicRoot::default(), &Identity::Admin);
        let name = Name {
            user: "u".into(),
            client_id: key.to_string().into(),
        };
        Arc::new(Session::new(
            key,
            name,
            Identity::Admin,
            access,
            &Limits::default(),
        ))
    }

    fn subscription(session: &Arc<Session>) -> Subscription {
        Subscription {
            session: Arc::clone(session),
            qos: QoS::AtMostOnce,
            no_local: false,
            retain_as_published: false,
            identifier: None,
            filtered: false,
        }
    }

    fn level() -> impl Strategy<Value = &'static str> {
        prop::sample::select(vec!["a", "b", "", "$x", "+", "#"])
    }

    fn path() -> impl Strategy<Value = String> {
        prop::collection::vec(level(), 1..5).prop_map(|levels| levels.join("/"))
    }

    proptest! {
        #[test]
        fn the_snapshot_matches_as_a_list_of_filters_would(
            changes in prop::collection::vec((any::<bool>(), 1_u64..4, path()), 1..40),
            topics in prop::collection::vec(path(), 1..20),
        ) {
            let sessions: Vec<_> = (0..4).map(session).collect();
            let subscriptions = Subscriptions::default();
            let mut model = BTreeSet::new();
            for (add, key, filter) in changes.iter().filter(|(_, _, filter)| is_filter(filter)) {
                if *add {
                    let subscription = subscription(&sessions[*key as usize]);
                    subscriptions.insert(vec![(filter.as_str(), subscription)]);
                    model.insert((*key, filter.as_str()));
                } else {
                    subscriptions.remove(*key, [filter.as_str()]);
                    model.remove(&(*key, filter.as_str()));
                }
            }
            let snapshot = subscriptions.load();
            prop_assert_eq!(snapshot.count(), model.len());
            for topic in topics.iter().filter(|t| !t.is_empty() && !t.contains(['+', '#'])) {
                let mut found = Vec::new();
                snapshot.matches(topic, &mut |hit| found.push(hit.session.key()));
                found.sort_unstable();
                let wanted: Vec<u64> = model
                    .iter()
                    .filter(|(_, filter)| filter_matches(filter, topic))
                    .map(|(key, _)| *key)
                    .collect();
                prop_assert_eq!(found, wanted, "{}", topic);
            }
            let last = Arc::clone(&snapshot);
            drop(snapshot);
            for (key, filter) in model {
                subscriptions.remove(key, [filter]);
            }
            let empty = subscriptions.load();
            prop_assert!(empty.wildcard.is_empty() && empty.exact.is_empty());
            drop(last);
        }
    }
}
