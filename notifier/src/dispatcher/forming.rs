//! What has come due becomes notices. Where much comes at once it is put together: a channel gets some
//! notices a minute as they come, and beyond that one notice of everything every few seconds.

use std::collections::BTreeSet;
use std::sync::Arc;

use hostbus_wire::alert::{AlertKey, AlertState};

use super::agenda::{Deadline, GroupKey};
use super::tracked::Word;
use super::{Dispatcher, Tick};
use crate::notice::{Line, Notice, Reason};

/// The most alerts of one notice; what is more goes into the next one.
pub(super) const MAX_LINES: usize = 1_000;
/// How many notices a channel gets within [`LATELY_MS`] before they are put together.
pub(super) const CALM_NOTICES: usize = 6;
/// What counts as lately.
const LATELY_MS: u64 = 60_000;
/// How far apart the notices of a channel are once it has got many.
const BUSY_MS: u64 = 10_000;
/// How long it is remembered when a digest was told.
const KEEP_DIGEST_MS: u64 = 60_000;

/// Why a line stands in a notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Why {
    /// A change, or one that was held back.
    Change {
        held_back: bool,
    },
    Eased,
    Repeat,
    Over,
}

impl Dispatcher {
    /// Forms what is due at `now_ms`, and returns what is to be told, saved and cleared.
    pub fn tick(&mut self, now_ms: u64) -> Tick {
        self.mind_the_clock(now_ms);
        let mut tick = Tick::default();
        if self.synced {
            self.come_due(now_ms);
            for channel in 0..self.channels.len() {
                self.form(channel, now_ms, &mut tick.notices);
            }
            tick.next_ms = self.agenda.next_ms();
            tick.clear = std::mem::take(&mut self.clear);
        }
        tick.saved = self.take_saved();
        tick
    }

    fn come_due(&mut self, now_ms: u64) {
        while let Some(deadline) = self.agenda.pop(now_ms) {
            match deadline {
                Deadline::Silence(id) => {
                    if let Some(entry) = self.silences.get_mut(&id) {
                        entry.wake_ms = None;
                    }
                    self.turn_silence(&id, now_ms);
                }
                Deadline::Alert(key) => {
                    if let Some(tracked) = self.alerts.get_mut(&key) {
                        tracked.wake_ms = None;
                    }
                    self.settle(&key, now_ms);
                }
                Deadline::Group(group) => {
                    if self.agenda.come_due(&group, now_ms) {
                        self.channels[group.channel].due.insert(group);
                    }
                }
                Deadline::Channel(channel) => self.channels[channel].wake_ms = None,
            }
        }
    }

    /// Forms the notices of one channel.
    fn form(&mut self, channel: usize, now_ms: u64, notices: &mut Vec<Notice>) {
        let state = &mut self.channels[channel];
        if state.due.is_empty() {
            return;
        }
        let (due, idle): (Vec<GroupKey>, Vec<GroupKey>) = std::mem::take(&mut state.due)
            .into_iter()
            .partition(|group| {
                self.agenda
                    .group(group)
                    .is_some_and(|group| group.is_due(now_ms))
            });
        for group in &idle {
            self.agenda.looked_after(group);
        }
        if due.is_empty() {
            return;
        }
        let state = &mut self.channels[channel];
        state
            .recent_ms
            .retain(|&ms| ms.saturating_add(LATELY_MS) > now_ms);
        let recent = state.recent_ms.len();
        if let Some(&last_ms) = state.recent_ms.last()
            && recent >= CALM_NOTICES
            && last_ms.saturating_add(BUSY_MS) > now_ms
        {
            let calm_ms = state.recent_ms[recent - CALM_NOTICES].saturating_add(LATELY_MS);
            let next_ms = calm_ms.min(last_ms.saturating_add(BUSY_MS));
            state.due = due.into_iter().collect();
            let deadline = Deadline::Channel(channel);
            self.agenda
                .wake(&mut state.wake_ms, Some(next_ms), deadline);
            return;
        }
        let together = recent + due.len() > CALM_NOTICES;
        let size = if together { due.len() } else { 1 };
        for batch in due.chunks(size) {
            let notice = self.notice(channel, batch, now_ms);
            notices.push(notice);
            self.channels[channel].recent_ms.push(now_ms);
        }
        self.changed.channels.insert(channel);
    }

    /// One notice of what is due in these groups.
    fn notice(&mut self, channel: usize, batch: &[GroupKey], now_ms: u64) -> Notice {
        let mut keys = BTreeSet::new();
        for group in batch {
            self.pick(group, now_ms, &mut keys);
        }
        let mut lines = Vec::with_capacity(keys.len());
        for key in &keys {
            lines.extend(self.line(channel, key, now_ms));
        }
        let mut groups: BTreeSet<GroupKey> = batch.iter().cloned().collect();
        for group in batch {
            let keep_ms = self.keep_ms(group).unwrap_or(KEEP_DIGEST_MS);
            self.agenda.told(group, now_ms, keep_ms);
        }
        for key in &keys {
            self.settle(key, now_ms);
            let posts = self
                .alerts
                .get(key)
                .map_or(&[][..], |tracked| &tracked.posts);
            let post = posts.iter().find(|post| post.channel == channel);
            if let Some(member) = post.and_then(|post| post.member.as_ref()) {
                groups.insert(member.group.clone());
            }
        }
        for group in batch {
            self.agenda.looked_after(group);
        }
        let told = |group: &GroupKey| self.agenda.group(group).map_or(0, |group| group.told);
        let still_firing = groups.iter().map(told).sum();
        let reason = reason(&lines);
        lines.sort_by(|(_, a), (_, b)| {
            let over = |line: &Line| line.alert.state == AlertState::Resolved;
            let rank = |line: &Line| (over(line), std::cmp::Reverse(line.alert.severity));
            rank(a).cmp(&rank(b)).then_with(|| a.key.cmp(&b.key))
        });
        let id = self.next_id;
        self.next_id += 1;
        self.changed.next_id = true;
        let first = &batch[0].text;
        Notice {
            id,
            channel: self.routing.channels[channel].clone(),
            reason,
            group: match batch.len() {
                1 => first.to_string(),
                many => format!("{first} and {} more", many - 1),
            },
            formed_ms: now_ms,
            lines: lines.into_iter().map(|(_, line)| line).collect(),
            still_firing,
        }
    }

    /// For how long the last notice of a group matters; `None` where its route is not there.
    pub(super) fn keep_ms(&self, group: &GroupKey) -> Option<u64> {
        let Some(route) = group.route else {
            return Some(KEEP_DIGEST_MS);
        };
        let pace = self.routing.routes.get(route)?.pace;
        Some(pace.interval_ms.max(pace.wait_ms))
    }

    /// Picks what a notice tells of one group: all changes when one is due, all that fires when a
    /// repetition is due, and what has eased with anything that fires.
    fn pick(&self, key: &GroupKey, now_ms: u64, keys: &mut BTreeSet<Arc<AlertKey>>) {
        let Some(group) = self.agenda.group(key) else {
            return;
        };
        let mut firing = false;
        for set in [&group.waiting, &group.repeats] {
            if set.first().is_none_or(|(due_ms, _)| *due_ms > now_ms) {
                continue;
            }
            for (_, key) in set {
                if keys.len() >= MAX_LINES {
                    return;
                }
                firing |= self
                    .alerts
                    .get(key)
                    .is_some_and(|tracked| tracked.standing.firing);
                keys.insert(Arc::clone(key));
            }
        }
        if firing {
            let room = MAX_LINES - keys.len();
            keys.extend(group.eased.iter().take(room).cloned());
        }
    }

    /// The line of one alert; from now on the channel knows it.
    fn line(&mut self, channel: usize, key: &Arc<AlertKey>, now_ms: u64) -> Option<(Why, Line)> {
        let tracked = self.alerts.get_mut(key)?;
        let (alert, firing_since) = (
            tracked.standing.alert.clone(),
            tracked.standing.firing_since,
        );
        let firing = tracked.standing.firing;
        let known = &mut tracked.post(channel).known;
        let told = known.told.map(|word| word.severity);
        let why = match told {
            _ if !firing => Why::Over,
            Some(told) if told == alert.severity => Why::Repeat,
            Some(told) if told > alert.severity => Why::Eased,
            _ => Why::Change {
                held_back: known.held_by.is_some(),
            },
        };
        let line = Line {
            key: AlertKey::clone(key),
            was: told.filter(|told| firing && *told != alert.severity),
            flaps: std::mem::take(&mut known.flaps),
            repeated: why == Why::Repeat,
            firing_since,
            alert,
        };
        known.waiting = None;
        known.held_by = None;
        if firing {
            known.told = Some(Word {
                severity: line.alert.severity,
                since: firing_since,
                at_ms: now_ms,
            });
            known.ended = None;
        } else {
            known.end(now_ms);
        }
        self.changed.alerts.insert(Arc::clone(key));
        Some((why, line))
    }
}

fn reason(lines: &[(Why, Line)]) -> Reason {
    let any = |wanted: Why| lines.iter().any(|(why, _)| *why == wanted);
    if any(Why::Change { held_back: false }) {
        Reason::Firing
    } else if any(Why::Change { held_back: true }) {
        Reason::Digest
    } else if any(Why::Repeat) || any(Why::Eased) {
        Reason::Repeat
    } else {
        Reason::Resolved
    }
}
