//! Deciding anew what an event or a deadline has touched, and putting it where it belongs in the agenda.

use std::sync::Arc;

use hostbus_wire::alert::AlertKey;
use hostbus_wire::silence::Acknowledgement;
use hostbus_wire::{SiteId, SiteTopic};
use tracing::{Level, debug, enabled};

use super::agenda::{Deadline, GroupKey, Member};
use super::config::GroupBy;
use super::routing::{Routing, Ways};
use super::silences::{self, Held};
use super::stage::{self, Change, Decision, Stage, View};
use super::tracked::{Known, Post, REMEMBER_MS, Standing};
use super::{Clear, Dispatcher};

/// How long it is waited, once what hid an alert is over, before it is told: a host that came back has to
/// say first what is no longer so.
pub(super) const SETTLE_MS: u64 = 60_000;

/// What holds an alert or leads it, from outside.
struct Around<'a> {
    now_ms: u64,
    silence: Option<&'a str>,
    inhibitor: Option<&'a AlertKey>,
    acknowledged: Option<&'a Acknowledgement>,
    ways: Ways,
}

impl Dispatcher {
    /// An alert fires, ends or looks different: it and what it hides are decided anew.
    pub(super) fn moved(&mut self, key: &Arc<AlertKey>, now_ms: u64) {
        let Some(tracked) = self.alerts.get(key) else {
            return;
        };
        let groups = self
            .node_groups
            .get(&key.node)
            .map_or(&[][..], Vec::as_slice);
        let standing = &tracked.standing;
        let firing = standing.firing.then_some((&standing.alert, groups));
        let affected = self.inhibition.update(key, firing);
        self.settle(key, now_ms);
        for other in affected {
            self.settle(&other, now_ms);
        }
    }

    /// Decides one alert anew for all its channels. Until the bus was heard nothing is decided: what is
    /// not known yet must not undo what was saved.
    pub(super) fn settle(&mut self, key: &Arc<AlertKey>, now_ms: u64) {
        if !self.synced {
            return;
        }
        self.heed_acknowledgement(key, now_ms);
        let Some(tracked) = self.alerts.get_mut(key) else {
            return;
        };
        let inhibitor = self.inhibition.hides(key);
        let mut changed = tracked.standing.note_hidden(inhibitor.is_some(), now_ms);
        let standing = &tracked.standing;
        let groups = self
            .node_groups
            .get(&key.node)
            .map_or(&[][..], Vec::as_slice);
        let around = Around {
            now_ms,
            silence: silences::holding(&self.silences, key, &standing.alert, now_ms),
            inhibitor,
            acknowledged: self
                .acknowledgements
                .get(&tracked.fingerprint)
                .map(|acknowledged| &acknowledged.acknowledgement),
            ways: self.routing.ways(key, &standing.alert, groups, now_ms),
        };
        if standing.firing {
            for way in &around.ways.ways {
                if !tracked.posts.iter().any(|post| post.channel == way.channel) {
                    tracked.posts.push(Post {
                        channel: way.channel,
                        known: Known::default(),
                        member: None,
                        stage: None,
                    });
                }
            }
        }
        let standing = &tracked.standing;
        let until_ms = around.acknowledged.and_then(|given| given.until);
        let mut wake = Wake {
            now_ms,
            at_ms: None,
        };
        wake.at(standing.settles_ms);
        wake.at(until_ms);
        wake.at(around.ways.until_ms);
        let mut kept = Vec::with_capacity(tracked.posts.len());
        for mut post in std::mem::take(&mut tracked.posts) {
            let before = post.known.clone();
            let member = settle_post(
                key,
                standing,
                &mut post,
                &around,
                &self.routing,
                &self.agenda,
            );
            let (member, hold_until_ms) = member;
            wake.at(hold_until_ms);
            self.agenda.place(key, &mut post.member, member);
            note_stage(key, standing, &mut post, &around, &self.routing);
            changed |= before != post.known;
            let remembered_ms = post
                .known
                .ended
                .map(|word| word.at_ms.saturating_add(REMEMBER_MS));
            wake.at(remembered_ms);
            let routed = around
                .ways
                .ways
                .iter()
                .any(|way| way.channel == post.channel);
            let remembered = remembered_ms.is_some_and(|ms| ms > now_ms);
            if post.known.told.is_some() || remembered || (standing.firing && routed) {
                kept.push(post);
            } else if remembered_ms.is_some() {
                changed = true;
                self.clear.push(Clear {
                    site: key.node.site.clone(),
                    topic: SiteTopic::Told {
                        channel: self.routing.channels[post.channel].as_str().into(),
                        fingerprint: tracked.fingerprint.clone(),
                    },
                });
            }
        }
        tracked.posts = kept;
        let over = !standing.firing && tracked.posts.is_empty();
        let at_ms = if over { None } else { wake.at_ms };
        let deadline = Deadline::Alert(Arc::clone(key));
        self.agenda.wake(&mut tracked.wake_ms, at_ms, deadline);
        if over {
            self.forget(key);
        } else if changed {
            self.changed.alerts.insert(Arc::clone(key));
        }
    }

    /// Decides anew what a silence means.
    pub(super) fn settle_meant(&mut self, site: &SiteId, held: &Held, now_ms: u64) {
        let meant: Vec<Arc<AlertKey>> = self
            .alerts
            .iter()
            .filter(|(key, tracked)| {
                key.node.site == *site && held.means(key, &tracked.standing.alert)
            })
            .map(|(key, _)| Arc::clone(key))
            .collect();
        for key in meant {
            self.settle(&key, now_ms);
        }
    }

    /// An acknowledgement ends with its time, with the alert, and when the alert's severity changes.
    fn heed_acknowledgement(&mut self, key: &AlertKey, now_ms: u64) {
        let Some(tracked) = self.alerts.get(key) else {
            return;
        };
        let Some(acknowledged) = self.acknowledgements.get_mut(&tracked.fingerprint) else {
            return;
        };
        let standing = &tracked.standing;
        let severity = standing.alert.severity;
        let expired = acknowledged
            .acknowledgement
            .until
            .is_some_and(|until_ms| until_ms <= now_ms);
        let other = acknowledged
            .severity
            .is_some_and(|given_for| given_for != severity);
        if expired || other || !standing.firing || acknowledged.site != key.node.site {
            let fingerprint = tracked.fingerprint.clone();
            self.drop_acknowledgement(&fingerprint);
        } else if acknowledged.severity.is_none() {
            acknowledged.severity = Some(severity);
            self.changed
                .acknowledgements
                .insert(tracked.fingerprint.clone());
        }
    }

    fn drop_acknowledgement(&mut self, fingerprint: &str) {
        if let Some(acknowledged) = self.acknowledgements.remove(fingerprint) {
            self.changed.acknowledgements.insert(fingerprint.into());
            self.clear.push(Clear {
                site: acknowledged.site,
                topic: SiteTopic::Acknowledgement(fingerprint.into()),
            });
        }
    }

    /// Drops the acknowledgements that no longer stand on the bus, and those of no alert.
    pub(super) fn drop_acknowledgements(&mut self, now_ms: u64) {
        let gone: Vec<Box<str>> = self
            .acknowledgements
            .iter()
            .filter(|(fingerprint, acknowledged)| {
                let key = self.by_fingerprint.get(*fingerprint);
                let alert = key.and_then(|key| self.alerts.get(key));
                !acknowledged.heard || alert.is_none_or(|alert| !alert.standing.firing)
            })
            .map(|(fingerprint, _)| fingerprint.clone())
            .collect();
        for fingerprint in gone {
            self.drop_acknowledgement(&fingerprint);
            if let Some(key) = self.by_fingerprint.get(&fingerprint).cloned() {
                self.settle(&key, now_ms);
            }
        }
    }

    fn forget(&mut self, key: &Arc<AlertKey>) {
        if let Some(tracked) = self.alerts.remove(key)
            && self
                .by_fingerprint
                .get(&tracked.fingerprint)
                .is_some_and(|named| named == key)
        {
            self.by_fingerprint.remove(&tracked.fingerprint);
        }
        self.changed.alerts.insert(Arc::clone(key));
    }
}

/// The next moment at which something may be otherwise.
struct Wake {
    now_ms: u64,
    at_ms: Option<u64>,
}

impl Wake {
    fn at(&mut self, ms: Option<u64>) {
        if let Some(ms) = ms.filter(|&ms| ms > self.now_ms) {
            self.at_ms = Some(self.at_ms.map_or(ms, |old| old.min(ms)));
        }
    }
}

/// All that the decision for one channel depends on, and the route at whose pace it is told. `None` where
/// no route leads to the channel at all any more.
fn view<'a>(
    standing: &Standing,
    post: &Post,
    around: &Around<'a>,
    routing: &Routing,
) -> Option<(View<'a>, usize)> {
    let way = around
        .ways
        .ways
        .iter()
        .find(|way| way.channel == post.channel);
    let route = way
        .map(|way| way.route)
        .or_else(|| routing.route_of(post.channel))?;
    let known = &post.known;
    let view = View {
        now_ms: around.now_ms,
        firing: standing.firing.then_some(standing.alert.severity),
        silence: around.silence,
        inhibitor: around.inhibitor,
        settles_ms: standing.settles_ms,
        acknowledged: around.acknowledged.map(|given| given.by.as_str()),
        routed: way.is_some(),
        shut: way.is_some_and(|way| way.shut_until_ms.is_some()),
        pace: routing.routes[route].pace,
        told: known.told.map(|word| (word.severity, word.at_ms)),
        ended: known.ended.map(|word| (word.severity, word.at_ms)),
        flaps: known.flaps,
    };
    Some((view, route))
}

/// Decides for one channel. Returns the alert's place in the channel's groups, and when it must be looked
/// at again.
fn settle_post(
    key: &AlertKey,
    standing: &Standing,
    post: &mut Post,
    around: &Around<'_>,
    routing: &Routing,
    agenda: &super::agenda::Agenda,
) -> (Option<Member>, Option<u64>) {
    let Some((view, route)) = view(standing, post, around, routing) else {
        post.known = Known::default();
        return (None, None);
    };
    let known = &mut post.known;
    let decision = stage::decide(&view);
    let mut member = Member {
        group: group_key(post.channel, route, routing.routes[route].group_by, key),
        due_ms: None,
        eased: false,
        repeat_ms: None,
        told: standing.firing && known.told.is_some(),
    };
    let mut wake_ms = None;
    let mut waiting = None;
    match decision {
        Decision::Tell(change) => {
            if let (Some(by), true) = (&known.held_by, change != Change::Resolve) {
                member.group.route = None;
                member.group.text = by.as_str().into();
            }
            // What waits already does not wait longer than what comes up now.
            let anew_ms = agenda.due_ms(&member.group, change, &view.pace, around.now_ms);
            let due_ms = match known.waiting {
                Some((same, due_ms)) if same == change => due_ms.min(anew_ms),
                _ => anew_ms,
            };
            member.due_ms = Some(due_ms);
            waiting = Some((change, due_ms));
        }
        Decision::Repeat { eased } => {
            member.eased = eased;
            let told = view.told.filter(|_| view.pace.repeat_ms > 0);
            member.repeat_ms = told.map(|(_, at_ms)| at_ms.saturating_add(view.pace.repeat_ms));
            known.held_by = None;
        }
        Decision::Forget => known.end(around.now_ms),
        Decision::Hold(stage) => {
            let news = standing.firing
                && known
                    .told
                    .is_none_or(|word| word.severity < standing.alert.severity);
            match &stage {
                Stage::Silenced { id } if news => known.held_by = Some(format!("silence {id}")),
                Stage::OutsideHours if news => {
                    known.held_by = Some("outside hours".to_owned());
                }
                Stage::NotRouted => known.held_by = None,
                Stage::CoolingDown { until_ms, .. } => wake_ms = Some(*until_ms),
                _ => {}
            }
        }
    }
    if !standing.firing {
        known.held_by = None;
    }
    known.waiting = waiting;
    let placed =
        member.due_ms.is_some() || member.eased || member.repeat_ms.is_some() || member.told;
    (placed.then_some(member), wake_ms)
}

/// Writes into the log why an alert is told to a channel or held back, where that is another reason than
/// before and somebody wants to know.
fn note_stage(
    key: &AlertKey,
    standing: &Standing,
    post: &mut Post,
    around: &Around<'_>,
    routing: &Routing,
) {
    if !(enabled!(Level::DEBUG) || cfg!(test)) {
        return;
    }
    let view = view(standing, post, around, routing);
    let stage = view.map_or(Stage::NotRouted, |(view, _)| {
        stage_of(&stage::decide(&view), post, &view)
    });
    let stage = stage.to_string();
    if post.stage.as_deref() != Some(&*stage) {
        debug!(alert = %key, channel = routing.channels[post.channel], "{stage}");
        post.stage = Some(stage.into());
    }
}

fn stage_of(decision: &Decision, post: &Post, view: &View<'_>) -> Stage {
    let group = post
        .member
        .as_ref()
        .map(|member| member.group.text.to_string());
    match (decision, view.told) {
        (Decision::Hold(stage), _) => stage.clone(),
        (Decision::Repeat { eased: true }, Some((was, _))) => Stage::Eased { was },
        (Decision::Repeat { .. }, Some(_)) => Stage::Told,
        (Decision::Tell(_), _) => Stage::Waiting {
            group: group.unwrap_or_default(),
        },
        (Decision::Forget | Decision::Repeat { .. }, _) => Stage::Over,
    }
}

fn group_key(channel: usize, route: usize, by: GroupBy, key: &AlertKey) -> GroupKey {
    let text = match by {
        GroupBy::Rule => format!("rule {}", key.rule),
        GroupBy::Node => format!("node {}", key.node),
        GroupBy::Alert => format!("alert {key}"),
        GroupBy::All => "all".to_owned(),
    };
    GroupKey {
        channel,
        route: Some(route),
        text: text.into(),
    }
}

impl Standing {
    /// Notes whether another alert hides this one, and from when on it is told again once none does.
    /// Returns whether something changed.
    fn note_hidden(&mut self, hidden: bool, now_ms: u64) -> bool {
        let settles_ms = match (self.hidden, hidden, self.firing) {
            (_, true, _) | (_, _, false) => None,
            (true, false, true) => Some(now_ms.saturating_add(SETTLE_MS)),
            (false, false, true) => self.settles_ms.filter(|&until_ms| until_ms > now_ms),
        };
        let new = (hidden, settles_ms);
        let changed = new != (self.hidden, self.settles_ms);
        (self.hidden, self.settles_ms) = new;
        changed
    }
}
