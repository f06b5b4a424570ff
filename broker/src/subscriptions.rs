//! Who has subscribed to what: a snapshot that readers match against without a lock.
//!
//! A change copies the path to the filter that changed, nothing else, and publishes the new
//! snapshot; a reader keeps the one it began with. Filters without wildcards stand in one map,
//! the others in a tree by level. The members of a shared subscription stand together as one entry
//! of its filter.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use arc_swap::{ArcSwap, Guard};
use rpds::HashTrieMapSync;

use crate::codec::QoS;
use crate::lock::Held;
use crate::session::{SHARE, Session};

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

/// A shared subscription: each message goes to one of its members.
#[derive(Debug, Clone)]
pub(crate) struct Group {
    /// `$share/name/filter`.
    pub(crate) filter: Arc<str>,
    /// Never empty.
    pub(crate) members: Vec<Arc<Subscription>>,
    /// Where the search for a member begins.
    turn: Arc<AtomicUsize>,
    /// A message was given to a member that was away.
    left_over: Arc<AtomicBool>,
}

impl Group {
    /// Notes that a message was given to a member that was away.
    pub(crate) fn note_left_over(&self) {
        self.left_over.store(true, Relaxed);
    }

    /// Whether that was noted since the last call.
    pub(crate) fn take_left_over(&self) -> bool {
        self.left_over.load(Relaxed) && self.left_over.swap(false, Relaxed)
    }

    /// The members, beginning with another one each time.
    pub(crate) fn in_turn(&self) -> impl Iterator<Item = &Arc<Subscription>> {
        let first = self.turn.fetch_add(1, Relaxed) % self.members.len().max(1);
        let (before, after) = self.members.split_at(first);
        after.iter().chain(before)
    }
}

/// One entry of a filter.
#[derive(Debug, Clone)]
pub(crate) enum Entry {
    /// A session's own subscription.
    One(Arc<Subscription>),
    /// A shared one.
    Shared(Arc<Group>),
}

/// The subscriptions to one filter; absent when there are none.
type Entries = Option<Arc<Vec<Entry>>>;

/// What a filter asks for: the name it is shared under with it, and the filter itself.
pub(crate) fn split_share(filter: &str) -> (Option<&str>, &str) {
    let shared = filter.strip_prefix(SHARE);
    match shared.and_then(|shared| shared.split_once('/')) {
        Some((name, own)) => (Some(name), own),
        None => (None, filter),
    }
}

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
    exact: HashTrieMapSync<Arc<str>, Arc<Vec<Entry>>>,
    wildcard: Level,
    /// The shared ones once more, by their whole filter.
    groups: HashTrieMapSync<Arc<str>, Arc<Group>>,
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

/// Replaces the subscription of the session `key` in `list`, adds or removes it. Returns by how
/// much the number of subscriptions changes.
fn replace_one(list: &mut Vec<Entry>, key: u64, subscription: Option<Arc<Subscription>>) -> isize {
    let place = list
        .iter()
        .position(|entry| matches!(entry, Entry::One(held) if held.session.key() == key));
    match (place, subscription) {
        (Some(place), Some(subscription)) => {
            list[place] = Entry::One(subscription);
            0
        }
        (None, Some(subscription)) => {
            list.push(Entry::One(subscription));
            1
        }
        (Some(place), None) => {
            list.swap_remove(place);
            -1
        }
        (None, None) => 0,
    }
}

/// A change of one filter's entries.
struct Change<'c> {
    /// The whole filter, where it is a shared one.
    shared: Option<&'c str>,
    key: u64,
    subscription: Option<Arc<Subscription>>,
}

/// What a change has changed.
#[derive(Default)]
struct Changed {
    /// By how much the number of subscriptions.
    count: isize,
    /// The shared subscription as it is now; `Some(None)` when it is gone.
    group: Option<Option<Arc<Group>>>,
}

impl Change<'_> {
    fn apply(self, entries: &mut Entries) -> Changed {
        if entries.is_none() && self.subscription.is_none() {
            return Changed::default();
        }
        let list = Arc::make_mut(entries.get_or_insert_default());
        let changed = match self.shared {
            None => Changed {
                count: replace_one(list, self.key, self.subscription),
                group: None,
            },
            Some(filter) => replace_member(list, filter, self.key, self.subscription),
        };
        if list.is_empty() {
            *entries = None;
        }
        changed
    }
}

/// The same for a member of the shared subscription `filter`.
fn replace_member(
    list: &mut Vec<Entry>,
    filter: &str,
    key: u64,
    subscription: Option<Arc<Subscription>>,
) -> Changed {
    let place = list
        .iter()
        .position(|entry| matches!(entry, Entry::Shared(group) if *group.filter == *filter));
    let mut group = match place.map(|place| list.swap_remove(place)) {
        Some(Entry::Shared(group)) => group,
        _ => Arc::new(Group {
            filter: filter.into(),
            members: Vec::new(),
            turn: Arc::default(),
            left_over: Arc::default(),
        }),
    };
    let members = &mut Arc::make_mut(&mut group).members;
    let before = members.len();
    let place = members
        .iter()
        .position(|member| member.session.key() == key);
    match (place, subscription) {
        (Some(place), Some(subscription)) => members[place] = subscription,
        (None, Some(subscription)) => members.push(subscription),
        (Some(place), None) => drop(members.swap_remove(place)),
        (None, None) => {}
    }
    let count = members.len().cast_signed() - before.cast_signed();
    let there = !members.is_empty();
    if there {
        list.push(Entry::Shared(Arc::clone(&group)));
    }
    Changed {
        count,
        group: Some(there.then_some(group)),
    }
}

impl Snapshot {
    /// How many subscriptions there are.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// The shared subscription `filter`, as `$share/name/filter`.
    pub(crate) fn group(&self, filter: &str) -> Option<&Arc<Group>> {
        self.groups.get(filter)
    }

    /// All shared subscriptions.
    pub(crate) fn groups(&self) -> impl Iterator<Item = &Arc<Group>> {
        self.groups.values()
    }

    /// How many shared subscriptions there are, each counted once.
    pub(crate) fn group_count(&self) -> usize {
        self.groups.size()
    }

    fn set(&mut self, filter: &str, key: u64, subscription: Option<Arc<Subscription>>) {
        let (share, own) = split_share(filter);
        let change = Change {
            shared: share.map(|_| filter),
            key,
            subscription,
        };
        let changed = if own.contains(['+', '#']) {
            self.wildcard.set(own, change)
        } else {
            let mut entries = self.exact.get(own).cloned();
            let changed = change.apply(&mut entries);
            match entries {
                Some(entries) => self.exact.insert_mut(own.into(), entries),
                None => drop(self.exact.remove_mut(own)),
            }
            changed
        };
        match changed.group {
            Some(Some(group)) => self.groups.insert_mut(Arc::clone(&group.filter), group),
            Some(None) => drop(self.groups.remove_mut(filter)),
            None => {}
        }
        self.count = self.count.saturating_add_signed(changed.count);
    }

    /// Hands each entry that matches `topic` to `found`.
    pub(crate) fn matches<'s>(&'s self, topic: &str, found: &mut impl FnMut(&'s Entry)) {
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
    fn set(&mut self, filter: &str, change: Change<'_>) -> Changed {
        let (first, rest) = split(filter);
        if first == "#" {
            return change.apply(&mut self.all_below);
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
        let changed = match rest {
            Some(rest) => below.set(rest, change),
            None => change.apply(&mut below.here),
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
        changed
    }

    fn matches<'s>(&'s self, topic: Option<&str>, found: &mut impl FnMut(&'s Entry)) {
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
    use crate::session::{Name, Surroundings};
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
        let surroundings = Surroundings {
            counters: Arc::default(),
            disk: None,
            limits: Limits::default(),
        };
        Arc::new(Session::new(
            key,
            name,
            Identity::Admin,
            access,
            Arc::new(surroundings),
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

    /// The same filter shared by nobody, or under one of two names.
    fn shared_path() -> impl Strategy<Value = String> {
        let share = prop::sample::select(vec!["", "", "$share/g/", "$share/h/"]);
        (share, path()).prop_map(|(share, path)| format!("{share}{path}"))
    }

    proptest! {
        #[test]
        fn the_snapshot_matches_as_a_list_of_filters_would(
            changes in prop::collection::vec((any::<bool>(), 1_u64..4, shared_path()), 1..40),
            topics in prop::collection::vec(path(), 1..20),
        ) {
            let sessions: Vec<_> = (0..4).map(session).collect();
            let subscriptions = Subscriptions::default();
            let mut model = BTreeSet::new();
            for (add, key, filter) in changes.iter().filter(|(_, _, f)| is_filter(split_share(f).1)) {
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
                snapshot.matches(topic, &mut |hit| match hit {
                    Entry::One(hit) => found.push((hit.session.key(), None)),
                    Entry::Shared(group) => {
                        let filter = group.filter.to_string();
                        let members = group.in_turn().map(|member| member.session.key());
                        found.extend(members.map(|key| (key, Some(filter.clone()))));
                    }
                });
                found.sort_unstable();
                let mut wanted: Vec<_> = model
                    .iter()
                    .filter(|(_, filter)| filter_matches(split_share(filter).1, topic))
                    .map(|(key, filter)| {
                        let shared = filter.starts_with(SHARE);
                        (*key, shared.then(|| (*filter).to_owned()))
                    })
                    .collect();
                wanted.sort_unstable();
                prop_assert_eq!(found, wanted, "{}", topic);
            }
            let last = Arc::clone(&snapshot);
            drop(snapshot);
            for (key, filter) in model {
                subscriptions.remove(key, [filter]);
            }
            let empty = subscriptions.load();
            prop_assert!(empty.wildcard.is_empty() && empty.exact.is_empty());
            prop_assert!(empty.groups.is_empty() && empty.count() == 0);
            drop(last);
        }
    }
}
