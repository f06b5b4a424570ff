//! What is due when: the groups of changes and repetitions, and one queue of all deadlines, so that a
//! tick looks only at what has come due.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use hostbus_wire::alert::AlertKey;

use super::clock::Correction;
use super::routing::Pace;
use super::silences::SilenceId;
use super::stage::Change;

/// Alerts that share their notices.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct GroupKey {
    /// The channel's place in the routing.
    pub(super) channel: usize,
    /// The route's place in the routing; `None` for what was held back and is told as a digest.
    pub(super) route: Option<usize>,
    /// What its alerts have in common, as notices say it.
    pub(super) text: Arc<str>,
}

/// One group.
#[derive(Debug, Default)]
pub(super) struct Group {
    /// When its last notice was formed.
    pub(super) last_ms: Option<u64>,
    /// Changes and when they are due.
    pub(super) waiting: BTreeSet<(u64, Arc<AlertKey>)>,
    /// What has eased: it goes with the next notice.
    pub(super) eased: BTreeSet<Arc<AlertKey>>,
    /// What may be repeated, and from when.
    pub(super) repeats: BTreeSet<(u64, Arc<AlertKey>)>,
    /// How many of its alerts fire and were told.
    pub(super) told: usize,
    /// Until when its last notice matters.
    keep_until_ms: u64,
    /// Its entry among the deadlines.
    due_ms: Option<u64>,
    /// It has come due, and its channel has not told it yet.
    queued: bool,
}

impl Group {
    /// Whether it has something to tell at `now_ms`.
    pub(super) fn is_due(&self, now_ms: u64) -> bool {
        let first = [self.waiting.first(), self.repeats.first()];
        first
            .into_iter()
            .flatten()
            .any(|(due_ms, _)| *due_ms <= now_ms)
    }

    fn is_empty(&self) -> bool {
        self.waiting.is_empty()
            && self.eased.is_empty()
            && self.repeats.is_empty()
            && self.told == 0
    }

    fn next_ms(&self) -> Option<u64> {
        if self.queued {
            return None;
        }
        if self.is_empty() {
            return Some(self.keep_until_ms);
        }
        let first = [self.waiting.first(), self.repeats.first()];
        first.into_iter().flatten().map(|(due_ms, _)| *due_ms).min()
    }
}

/// An alert's place in a group, for one channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) group: GroupKey,
    /// When its change is due.
    pub(super) due_ms: Option<u64>,
    /// It has eased.
    pub(super) eased: bool,
    /// When it is to be repeated.
    pub(super) repeat_ms: Option<u64>,
    /// It fires and was told.
    pub(super) told: bool,
}

/// What a deadline is for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Deadline {
    Silence(SilenceId),
    Alert(Arc<AlertKey>),
    Group(GroupKey),
    /// A channel that has told much lately may tell again.
    Channel(usize),
}

/// The groups and the deadlines.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    groups: HashMap<GroupKey, Group>,
    deadlines: BTreeSet<(u64, Deadline)>,
    /// The groups whose last notice must be saved or forgotten.
    pub(super) changed: HashSet<GroupKey>,
}

impl Agenda {
    pub(super) fn group(&self, key: &GroupKey) -> Option<&Group> {
        self.groups.get(key)
    }

    pub(super) fn groups(&self) -> usize {
        self.groups.len()
    }

    /// When the next deadline is.
    pub(super) fn next_ms(&self) -> Option<u64> {
        self.deadlines.first().map(|(ms, _)| *ms)
    }

    /// Takes the first deadline that is not after `now_ms`.
    pub(super) fn pop(&mut self, now_ms: u64) -> Option<Deadline> {
        if self.next_ms()? > now_ms {
            return None;
        }
        self.deadlines.pop_first().map(|(_, deadline)| deadline)
    }

    /// Moves a deadline from `old` to `new`, and notes it in `old`.
    pub(super) fn wake(&mut self, old: &mut Option<u64>, new: Option<u64>, deadline: Deadline) {
        if *old == new {
            return;
        }
        let mut entry = (0, deadline);
        if let Some(ms) = *old {
            entry.0 = ms;
            self.deadlines.remove(&entry);
        }
        if let Some(ms) = new {
            entry.0 = ms;
            self.deadlines.insert(entry);
        }
        *old = new;
    }

    /// When a change that came up now is due. A rise is told at once, but not more often than groups wait.
    pub(super) fn due_ms(&self, key: &GroupKey, change: Change, pace: &Pace, now_ms: u64) -> u64 {
        let last_ms = self.groups.get(key).and_then(|group| group.last_ms);
        let (wait_ms, interval_ms) = match change {
            Change::New | Change::Resolve => (pace.wait_ms, pace.interval_ms),
            Change::Rise => (0, pace.wait_ms),
        };
        let rested_ms = last_ms.map_or(0, |last| last.saturating_add(interval_ms));
        now_ms.saturating_add(wait_ms).max(rested_ms)
    }

    /// Moves an alert from its place to another one.
    pub(super) fn place(
        &mut self,
        key: &Arc<AlertKey>,
        old: &mut Option<Member>,
        new: Option<Member>,
    ) {
        if *old == new {
            return;
        }
        if let Some(member) = old.take()
            && let Some(group) = self.groups.get_mut(&member.group)
        {
            if let Some(ms) = member.due_ms {
                group.waiting.remove(&(ms, Arc::clone(key)));
            }
            if let Some(ms) = member.repeat_ms {
                group.repeats.remove(&(ms, Arc::clone(key)));
            }
            if member.eased {
                group.eased.remove(key);
            }
            group.told -= usize::from(member.told);
            self.refresh(&member.group);
        }
        if let Some(member) = &new {
            let group = self.groups.entry(member.group.clone()).or_default();
            if let Some(ms) = member.due_ms {
                group.waiting.insert((ms, Arc::clone(key)));
            }
            if let Some(ms) = member.repeat_ms {
                group.repeats.insert((ms, Arc::clone(key)));
            }
            if member.eased {
                group.eased.insert(Arc::clone(key));
            }
            group.told += usize::from(member.told);
            self.refresh(&member.group);
        }
        *old = new;
    }

    /// Notes that a group's notice was formed, and how long that matters.
    pub(super) fn told(&mut self, key: &GroupKey, now_ms: u64, keep_ms: u64) {
        let group = self.groups.entry(key.clone()).or_default();
        group.last_ms = group.last_ms.max(Some(now_ms));
        group.keep_until_ms = group.keep_until_ms.max(now_ms.saturating_add(keep_ms));
        self.changed.insert(key.clone());
        self.refresh(key);
    }

    /// A group's deadline has come: it waits for its channel, or is forgotten where it is empty.
    /// Returns whether it waits.
    pub(super) fn come_due(&mut self, key: &GroupKey, now_ms: u64) -> bool {
        let Some(group) = self.groups.get_mut(key) else {
            return false;
        };
        group.due_ms = None;
        if group.is_empty() && group.keep_until_ms <= now_ms {
            self.forget(key);
            return false;
        }
        if !group.is_due(now_ms) {
            self.refresh(key);
            return false;
        }
        group.queued = true;
        true
    }

    /// Its channel has looked after it: its deadlines count again.
    pub(super) fn looked_after(&mut self, key: &GroupKey) {
        if let Some(group) = self.groups.get_mut(key) {
            group.queued = false;
        }
        self.refresh(key);
    }

    /// Corrects the times of all groups. Those of what waits in them follow when it is decided anew.
    pub(super) fn correct(&mut self, correction: Correction) {
        let keys: Vec<GroupKey> = self.groups.keys().cloned().collect();
        for key in &keys {
            if let Some(group) = self.groups.get_mut(key)
                && let Some(last_ms) = &mut group.last_ms
            {
                correction.past(last_ms);
                correction.future(&mut group.keep_until_ms, u64::MAX);
                self.changed.insert(key.clone());
                self.refresh(key);
            }
        }
    }

    fn forget(&mut self, key: &GroupKey) {
        if let Some(group) = self.groups.remove(key)
            && group.last_ms.is_some()
        {
            self.changed.insert(key.clone());
        }
    }

    fn refresh(&mut self, key: &GroupKey) {
        let Some(group) = self.groups.get_mut(key) else {
            return;
        };
        if group.is_empty() && group.last_ms.is_none() && !group.queued {
            if let Some(ms) = group.due_ms {
                self.deadlines.remove(&(ms, Deadline::Group(key.clone())));
            }
            self.groups.remove(key);
            return;
        }
        let next_ms = group.next_ms();
        let mut due_ms = group.due_ms;
        if due_ms == next_ms {
            return;
        }
        group.due_ms = next_ms;
        self.wake(&mut due_ms, next_ms, Deadline::Group(key.clone()));
    }
}
