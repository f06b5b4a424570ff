//! The dispatcher once more, as plain as can be: after each event it looks at every alert and every
//! channel, keeps no queue, no index and no file. The settings of [`super::world`] are written out here by hand.
//!
//! It has a clock of its own that never goes back: where the one of the world is set back, it notes how far.
//! Only the hours of a day and the end of an acknowledgement are of the world's clock.

use std::collections::{BTreeMap, BTreeSet};

use hostbus_wire::alert::{AlertKey, AlertSeverity, AlertState};

use super::world::{Silenced, Told, ToldLine};
use crate::notice::Reason;

const MAIL: usize = 0;
const PAGER: usize = 1;
const CHAT: usize = 2;
const NAMES: [&str; 3] = ["mail", "pager", "chat"];
const SECOND: u64 = 1_000;
const DAY_MS: u64 = 86_400_000;
/// From 00:00 to 00:20 chat is told.
const CHAT_HOURS_MS: u64 = 20 * 60 * SECOND;

/// Wait, interval, repeat and cooldown of each channel, in milliseconds.
const PACE: [[u64; 4]; 3] = [
    [5 * SECOND, 60 * SECOND, 600 * SECOND, 60 * SECOND],
    [0, 30 * SECOND, 120 * SECOND, 90 * SECOND],
    [10 * SECOND, 60 * SECOND, 0, 0],
];

type Group = (Option<usize>, String);

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    New,
    Rise,
    Resolve,
}

#[derive(Debug, Clone, Default)]
struct Post {
    told: Option<(AlertSeverity, u64)>,
    ended: Option<(AlertSeverity, u64)>,
    flaps: u32,
    held: Option<String>,
    waiting: Option<(Kind, u64)>,
    eased: bool,
    repeat_ms: Option<u64>,
}

#[derive(Debug, Default)]
struct Known {
    firing: bool,
    severity: AlertSeverity,
    hidden: bool,
    settles_ms: u64,
    acknowledged: Option<(AlertSeverity, Option<u64>)>,
    posts: [Post; 3],
}

#[derive(Debug, Default)]
pub(super) struct Model {
    alerts: BTreeMap<AlertKey, Known>,
    silences: BTreeMap<String, (Silenced, u64)>,
    last: BTreeMap<(usize, Group), u64>,
    recent: [Vec<u64>; 3],
    /// How far the world's clock is behind ours.
    behind_ms: u64,
}

impl Model {
    pub(super) fn set_back(&mut self, ms: u64) {
        self.behind_ms += ms;
    }

    pub(super) fn alert(&mut self, key: &AlertKey, fires: Option<AlertSeverity>, now_ms: u64) {
        let now_ms = now_ms + self.behind_ms;
        let Some(severity) = fires else {
            if let Some(known) = self.alerts.get_mut(key) {
                known.firing = false;
            }
            return self.settle(now_ms);
        };
        let known = self.alerts.entry(key.clone()).or_default();
        if !known.firing {
            for (channel, post) in known.posts.iter_mut().enumerate() {
                let lately = post
                    .ended
                    .is_some_and(|(_, at)| now_ms < at + PACE[channel][3]);
                let flaps = post.told.is_some() || lately;
                post.flaps = if flaps { post.flaps + 1 } else { 0 };
            }
        }
        known.firing = true;
        known.severity = severity;
        self.settle(now_ms);
    }

    pub(super) fn silence(&mut self, id: &str, silence: Option<Silenced>, now_ms: u64) {
        let now_ms = now_ms + self.behind_ms;
        self.silences.remove(id);
        if let Some(silence) = silence {
            let until_ms = now_ms + silence.seconds * SECOND;
            self.silences.insert(id.to_owned(), (silence, until_ms));
        }
        self.settle(now_ms);
    }

    pub(super) fn acknowledge(&mut self, key: &AlertKey, until: Option<Option<u64>>, now_ms: u64) {
        let now_ms = now_ms + self.behind_ms;
        if let Some(known) = self.alerts.get_mut(key) {
            known.acknowledged = until.map(|until_ms| (known.severity, until_ms));
        }
        self.settle(now_ms);
    }

    /// Whether an alert is silenced.
    pub(super) fn silenced(&self, key: &AlertKey, now_ms: u64) -> Option<String> {
        let now_ms = now_ms + self.behind_ms;
        let mut all = self.silences.iter();
        all.find(|(_, (silence, until_ms))| now_ms < *until_ms && silence.means(key))
            .map(|(id, _)| id.clone())
    }

    pub(super) fn tick(&mut self, now_ms: u64) -> Vec<Told> {
        let now_ms = now_ms + self.behind_ms;
        self.settle(now_ms);
        let mut told = Vec::new();
        for channel in [MAIL, PAGER, CHAT] {
            self.form(channel, now_ms, &mut told);
        }
        told
    }

    fn settle(&mut self, now_ms: u64) {
        let down: BTreeSet<_> = self
            .alerts
            .iter()
            .filter(|(key, known)| known.firing && &*key.rule == "node-down")
            .map(|(key, _)| key.node.clone())
            .collect();
        let keys: Vec<AlertKey> = self.alerts.keys().cloned().collect();
        for key in keys {
            let wall_ms = now_ms - self.behind_ms;
            let silence = self.silenced(&key, wall_ms);
            let hides = &*key.rule != "node-down" && down.contains(&key.node);
            let known = self.alerts.get_mut(&key).unwrap();
            let hidden = hides && known.firing;
            if known.hidden && !hidden && known.firing {
                known.settles_ms = now_ms + 60 * SECOND;
            }
            if hidden || !known.firing {
                known.settles_ms = 0;
            }
            known.hidden = hidden;
            let (firing, severity) = (known.firing, known.severity);
            known.acknowledged = known.acknowledged.filter(|(given_for, until_ms)| {
                firing
                    && *given_for == severity
                    && until_ms.is_none_or(|until_ms| wall_ms < until_ms)
            });
            for channel in [MAIL, PAGER, CHAT] {
                self.settle_post(&key, channel, silence.as_deref(), now_ms);
            }
        }
    }

    fn settle_post(&mut self, key: &AlertKey, channel: usize, silence: Option<&str>, now_ms: u64) {
        let wall_ms = now_ms - self.behind_ms;
        let known = self.alerts.get_mut(key).unwrap();
        let post = &mut known.posts[channel];
        let was_waiting = post.waiting.take();
        post.eased = false;
        post.repeat_ms = None;
        let shut = channel == CHAT && wall_ms % DAY_MS >= CHAT_HOURS_MS;
        let routed = channel != PAGER || known.severity == AlertSeverity::Critical;
        let kind = match (known.firing, post.told) {
            (false, None) => None,
            (false, Some(_)) => Some(Kind::Resolve),
            (true, None) => Some(Kind::New).filter(|_| routed),
            (true, Some((told, _))) => Some(Kind::Rise).filter(|_| known.severity > told),
        };
        let news = known.firing && kind.is_some();
        // What never came here has nothing that is held back.
        let never_came = !routed && post.told.is_none();
        if !known.firing || never_came {
            post.held = None;
        }
        if silence.is_some() || (shut && !known.hidden && known.settles_ms <= now_ms) {
            if news {
                let silenced = silence.map(|id| format!("silence {id}"));
                post.held = silenced.or(Some("outside hours".to_owned()));
            }
            return;
        }
        if shut || (known.firing && (known.hidden || known.settles_ms > now_ms)) {
            return;
        }
        if kind == Some(Kind::Resolve) && channel == CHAT {
            post.ended = post.told.take().map(|(severity, _)| (severity, now_ms));
            return;
        }
        if kind == Some(Kind::New)
            && let Some((was, at_ms)) = post.ended
            && now_ms < at_ms + PACE[channel][3]
            && known.severity <= was
        {
            return;
        }
        if let Some(kind) = kind {
            let held = post.held.clone().filter(|_| known.firing);
            let group = (channel, group(channel, key, held));
            let [wait_ms, interval_ms, ..] = PACE[channel];
            let last_ms = self.last.get(&group);
            let due_ms = match (was_waiting, kind) {
                (Some((same, due_ms)), _) if same == kind => due_ms,
                (_, Kind::Rise) => now_ms.max(last_ms.map_or(0, |last_ms| last_ms + wait_ms)),
                _ => (now_ms + wait_ms).max(last_ms.map_or(0, |last_ms| last_ms + interval_ms)),
            };
            post.waiting = Some((kind, due_ms));
            return;
        }
        if let (true, Some((told, at_ms))) = (known.firing, post.told)
            && known.acknowledged.is_none()
            && routed
        {
            post.held = None;
            post.eased = known.severity < told;
            post.repeat_ms = Some(at_ms + PACE[channel][2]).filter(|_| PACE[channel][2] > 0);
        }
    }

    fn group_of(&self, key: &AlertKey, channel: usize) -> Group {
        let known = &self.alerts[key];
        let post = &known.posts[channel];
        let digest = post.waiting.is_some() && known.firing;
        group(channel, key, post.held.clone().filter(|_| digest))
    }

    fn form(&mut self, channel: usize, now_ms: u64, notices: &mut Vec<Told>) {
        let mut due = BTreeSet::new();
        for (key, known) in &self.alerts {
            let post = &known.posts[channel];
            let times = [post.waiting.map(|(_, due_ms)| due_ms), post.repeat_ms];
            if times.into_iter().flatten().any(|ms| ms <= now_ms) {
                due.insert(self.group_of(key, channel));
            }
        }
        if due.is_empty() {
            return;
        }
        let recent = &mut self.recent[channel];
        recent.retain(|ms| ms + 60 * SECOND > now_ms);
        if recent.len() >= 6 && recent.last().unwrap() + 10 * SECOND > now_ms {
            return;
        }
        let due: Vec<Group> = due.into_iter().collect();
        let size = if recent.len() + due.len() > 6 {
            due.len()
        } else {
            1
        };
        for batch in due.chunks(size) {
            notices.push(self.notice(channel, batch, now_ms));
            self.recent[channel].push(now_ms);
        }
    }

    fn notice(&mut self, channel: usize, batch: &[Group], now_ms: u64) -> Told {
        let mut keys = BTreeSet::new();
        for group in batch {
            let of_group = |key: &&AlertKey| self.group_of(key, channel) == *group;
            let members: Vec<&AlertKey> = self.alerts.keys().filter(of_group).collect();
            let post = |key: &AlertKey| &self.alerts[key].posts[channel];
            let waits = |key: &AlertKey| post(key).waiting.map(|(_, due_ms)| due_ms);
            let repeats = |key: &AlertKey| post(key).repeat_ms;
            let mut firing = false;
            for time in [&waits as &dyn Fn(&AlertKey) -> Option<u64>, &repeats] {
                if members
                    .iter()
                    .any(|key| time(key).is_some_and(|ms| ms <= now_ms))
                {
                    for key in members.iter().filter(|key| time(key).is_some()) {
                        firing |= self.alerts[*key].firing;
                        keys.insert((*key).clone());
                    }
                }
            }
            if firing {
                let eased = members.iter().filter(|key| post(key).eased);
                keys.extend(eased.map(|key| (*key).clone()));
            }
        }
        let mut lines = Vec::new();
        let (mut fresh, mut digest, mut again) = (false, false, false);
        for key in &keys {
            let known = self.alerts.get_mut(key).unwrap();
            let post = &mut known.posts[channel];
            let told = post.told.map(|(severity, _)| severity);
            let repeated = known.firing && told == Some(known.severity);
            let eased = known.firing && told.is_some_and(|told| told > known.severity);
            if known.firing && !repeated && !eased {
                fresh |= post.held.is_none();
                digest |= post.held.is_some();
            }
            again |= repeated || eased;
            lines.push(ToldLine {
                key: key.clone(),
                state: if known.firing {
                    AlertState::Firing
                } else {
                    AlertState::Resolved
                },
                severity: known.severity,
                was: told.filter(|told| known.firing && *told != known.severity),
                flaps: std::mem::take(&mut post.flaps),
                repeated,
            });
            post.held = None;
            post.waiting = None;
            if known.firing {
                post.told = Some((known.severity, now_ms));
                post.ended = None;
            } else {
                post.ended = post.told.take().map(|(severity, _)| (severity, now_ms));
            }
        }
        for group in batch {
            self.last.insert((channel, group.clone()), now_ms);
        }
        self.settle(now_ms);
        let mut groups: BTreeSet<Group> = batch.iter().cloned().collect();
        let placed = keys.iter().filter(|key| self.alerts[*key].firing);
        groups.extend(placed.map(|key| self.group_of(key, channel)));
        let still = |(key, known): &(&AlertKey, &Known)| {
            let told = known.firing && known.posts[channel].told.is_some();
            told && groups.contains(&self.group_of(key, channel))
        };
        let still_firing = self.alerts.iter().filter(still).count();
        lines.sort_by_key(|line| {
            let over = line.state == AlertState::Resolved;
            (over, std::cmp::Reverse(line.severity), line.key.clone())
        });
        Told {
            channel: NAMES[channel].to_owned(),
            reason: match (fresh, digest, again) {
                (true, ..) => Reason::Firing,
                (_, true, _) => Reason::Digest,
                (_, _, true) => Reason::Repeat,
                _ => Reason::Resolved,
            },
            group: match batch.len() {
                1 => batch[0].1.clone(),
                many => format!("{} and {} more", batch[0].1, many - 1),
            },
            formed_ms: now_ms - self.behind_ms,
            lines,
            still_firing,
        }
    }
}

fn group(channel: usize, key: &AlertKey, held: Option<String>) -> Group {
    match (held, channel) {
        (Some(held), _) => (None, held),
        (None, MAIL) => (Some(MAIL), format!("rule {}", key.rule)),
        (None, PAGER) => (Some(PAGER), format!("alert {key}")),
        (None, _) => (Some(CHAT), format!("node {}", key.node)),
    }
}
