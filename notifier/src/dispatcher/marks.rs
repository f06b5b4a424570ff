//! The marks of what channels were told: by another notifier of the site, or by this one, some time ago.

use std::sync::Arc;

use hostbus_wire::alert::{Alert, AlertState};
use hostbus_wire::told::Told;

use super::tracked::{Standing, Tracked, Word};
use super::{Dispatcher, MAX_ALERTS};
use crate::notice::SAME_BEGINNING_MS;

/// A mark that is further ahead of our clock is of another clock, or of ours before it was set back.
const AHEAD_MS: u64 = 60_000;

impl Dispatcher {
    /// Another notifier, or this one, has told this through `channel`: it need not be told again.
    pub fn told(&mut self, channel: &str, told: &Told, now_ms: u64) {
        self.mind_the_clock(now_ms);
        let Some(place) = self
            .routing
            .channels
            .iter()
            .position(|name| name == channel)
        else {
            return;
        };
        let firing = told.state == AlertState::Firing;
        let Some((key, _)) = self.alerts.get_key_value(&told.alert) else {
            // Nothing is known of the alert. If it is still to be heard it need not be told again; if it
            // is gone, people are still to hear that it is over.
            if firing && !self.synced && self.alerts.len() < MAX_ALERTS {
                self.take_over(place, told, now_ms);
            }
            return;
        };
        let key = Arc::clone(key);
        let Some(tracked) = self.alerts.get_mut(&key) else {
            return;
        };
        let current = tracked.standing.alert.severity;
        let post = tracked.post(place);
        let before = post.member.as_ref().map(|member| member.group.clone());
        let known = &mut post.known;
        let old = known.clone();
        let at_ms = told.at.min(now_ms);
        match known.told {
            // A mark is as old as its delivery took: of the same firing it may be behind what was formed
            // here since, so it only adds to that, or says that people know how it is now.
            Some(ours) if firing && told.since.saturating_add(SAME_BEGINNING_MS) >= ours.since => {
                let severity = if told.severity == current {
                    current
                } else {
                    told.severity.max(ours.severity)
                };
                known.told = Some(Word {
                    severity,
                    since: ours.since.max(told.since),
                    // It does not say when, and may be heard again with each connection.
                    at_ms: if told.at > now_ms.saturating_add(AHEAD_MS) {
                        ours.at_ms
                    } else {
                        at_ms.max(ours.at_ms)
                    },
                });
            }
            Some(ours) if !firing && told.since >= ours.since => known.end(at_ms),
            None if firing
                && known.ended.is_none_or(|ended| {
                    told.since > ended.since.saturating_add(SAME_BEGINNING_MS)
                }) =>
            {
                known.told = Some(Word {
                    severity: told.severity,
                    since: told.since,
                    at_ms,
                });
            }
            _ => {}
        }
        if *known == old {
            return;
        }
        // The other one's notice was one of this group: the next one keeps its distance.
        let news = known.told.is_some() != old.told.is_some();
        self.changed.alerts.insert(Arc::clone(&key));
        self.settle(&key, now_ms);
        let posts = self
            .alerts
            .get(&key)
            .map_or(&[][..], |tracked| &tracked.posts);
        let post = posts.iter().find(|post| post.channel == place);
        let after = post.and_then(|post| post.member.as_ref());
        let group = before.or_else(|| after.map(|member| member.group.clone()));
        if let Some(group) = group.filter(|_| news)
            && let Some(keep_ms) = self.keep_ms(&group)
        {
            self.agenda.told(&group, at_ms, keep_ms);
        }
    }

    /// A channel was told by another notifier of an alert that was not heard yet. Until it is, it fires
    /// as it was told.
    fn take_over(&mut self, channel: usize, told: &Told, now_ms: u64) {
        let key = Arc::new(told.alert.clone());
        let alert = Alert {
            fingerprint: key.fingerprint(),
            severity: told.severity,
            since: told.since,
            summary: key.to_string(),
            ..Alert::default()
        };
        let mut tracked = Tracked::new(&key, Standing::firing(alert));
        tracked.heard = false;
        tracked.post(channel).known.told = Some(Word {
            severity: told.severity,
            since: told.since,
            at_ms: told.at.min(now_ms),
        });
        self.track(&key, tracked);
        self.changed.alerts.insert(Arc::clone(&key));
        self.moved(&key, now_ms);
    }
}
