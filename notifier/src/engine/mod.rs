//! What the notifier does with what it hears: samples become alerts, alerts notices, and both halves
//! stay in step with the bus. No I/O: messages come in with the time, publications wait in
//! [`Outgoing`], and [`Engine::turn`] gives what the spool is to keep.
//!
//! ```text
//! connected   all that stands retained is heard; samples wait
//! synced      a message of our own has come back, and nothing retained came for a while: a broker may
//!             send what stands there in portions, with news in between. What evaluator and
//!             dispatcher know is brought in line with the bus
//! active      we hold the lease: changes are published and notices delivered. A notifier that is not
//!             active decides all the same, so that it can take over at any moment
//! ```

mod hearing;
mod past;
mod report;
mod standing;
mod telling;
#[cfg(test)]
mod tests;
mod turn;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use hostbus_client::Message;
use hostbus_wire::alert::{Alert, AlertKey};
use hostbus_wire::health::HealthState;
use hostbus_wire::told::Told;
use hostbus_wire::{Kind, NodePath, NodeTopic, Sample, SiteTopic, Topic, encode};
use tracing::{info, warn};

use crate::bus::{self, Mistake, Said};
use crate::dispatcher::{Dispatcher, Refused, Tick};
use crate::evaluator::{Change, Evaluator, Groups};
use crate::globs::groups_of;
use crate::lease::Tenancy;
use crate::outgoing::{Outgoing, Publication};
use crate::rule::Rule;
use crate::spool::{Changes, Ended, Outcome};
use hearing::Hearing;
use standing::Standing;
use telling::Telling;

pub use turn::{Counters, Now, Place, Turn};

/// How many topics with wrong payloads are logged, each once; others are only counted.
const MISTAKES: usize = 1_000;

/// See the module's description.
#[derive(Debug)]
pub struct Engine {
    place: Place,
    evaluator: Evaluator,
    dispatcher: Dispatcher,
    tenancy: Tenancy,
    groups: Arc<Groups>,
    /// The nodes whose groups the dispatcher knows.
    grouped: HashSet<NodePath>,
    /// Nodes of which it was told that they have too many alerts.
    crowded: HashSet<NodePath>,
    /// Notices given up before it was known who is active.
    undecided: Vec<Outcome>,
    /// The alerts as they stand on the bus.
    standing: Standing,
    outgoing: Outgoing,
    hearing: Option<Hearing>,
    connected: bool,
    /// It was in line with the bus once.
    began: bool,
    active: bool,
    telling: Telling,
    told: Vec<Outcome>,
    covers: Vec<(String, Told)>,
    rules_heard: BTreeMap<Box<str>, String>,
    rules_changed: bool,
    mistakes: HashSet<String>,
    full: bool,
    counters: Counters,
    changes: Vec<Change>,
    evaluator_due_ms: u64,
    dispatcher_due_ms: u64,
}

impl Engine {
    /// An engine that has heard nothing. `run` is a random text of this run.
    #[must_use]
    pub fn new(
        place: Place,
        run: &str,
        evaluator: Evaluator,
        dispatcher: Dispatcher,
        groups: Groups,
    ) -> Self {
        Self {
            tenancy: Tenancy::new(&place.instance, run),
            place,
            evaluator,
            dispatcher,
            groups: Arc::new(groups),
            grouped: HashSet::new(),
            crowded: HashSet::new(),
            undecided: Vec::new(),
            standing: Standing::default(),
            outgoing: Outgoing::default(),
            hearing: None,
            connected: false,
            began: false,
            active: false,
            telling: Telling::default(),
            told: Vec::new(),
            covers: Vec::new(),
            rules_heard: BTreeMap::new(),
            rules_changed: false,
            mistakes: HashSet::new(),
            full: false,
            counters: Counters::default(),
            changes: Vec::new(),
            evaluator_due_ms: 0,
            dispatcher_due_ms: 0,
        }
    }

    /// The connection is there: all that stands is heard now, until our own health with the time `stamp`
    /// comes back.
    pub fn connected(&mut self, stamp: u64, now: Now) {
        self.connected = true;
        self.tenancy.joined();
        self.dispatcher.joined();
        self.hearing = Some(Hearing::new(stamp, now));
    }

    /// The connection is lost.
    pub fn disconnected(&mut self) {
        self.connected = false;
        self.hearing = None;
        self.tenancy.away();
        self.evaluator.away();
    }

    /// Takes a message.
    pub fn message(&mut self, message: &Message, now: Now) {
        if let Some(hearing) = &mut self.hearing
            && message.retained
        {
            hearing.retained_ms = now.steady_ms;
        }
        match bus::read(&self.place.root, message, now.unix_ms) {
            Ok(said) => self.said(said, message.retained, now),
            Err(mistake) => self.mistake(&mistake),
        }
    }

    fn said(&mut self, said: Said, retained: bool, now: Now) {
        let now_ms = now.unix_ms;
        match said {
            Said::Sample(node, sample) => {
                // What it changes comes back as an alert: the dispatcher need not look.
                self.sample(node, sample, retained, now_ms);
                return;
            }
            Said::Gone(node) => self.evaluator.forget(&node, &mut self.changes),
            Said::Status(node, status) => {
                self.evaluator
                    .status(&node, status, retained, now_ms, &mut self.changes);
            }
            Said::Publisher(node, state) => {
                self.evaluator
                    .health(&node, state, retained, now_ms, &mut self.changes);
            }
            Said::Alert(key, alert) => self.alert(key, alert.map(|alert| *alert), now_ms),
            Said::Rule(rule, document) => {
                let heard = match &mut self.hearing {
                    Some(hearing) => &mut hearing.rules,
                    None => &mut self.rules_heard,
                };
                match document {
                    Some(document) => heard.insert(rule, document),
                    None => heard.remove(&rule),
                };
                self.rules_changed |= self.hearing.is_none();
            }
            Said::Silence(id, silence) => {
                let site = self.place.site.clone();
                let silence = silence.map(|silence| *silence);
                let taken = self.dispatcher.silence(&site, &id, silence, now_ms);
                self.taken(taken);
            }
            Said::Acknowledgement(fingerprint, said) => {
                let site = self.place.site.clone();
                let taken = self
                    .dispatcher
                    .acknowledge(&site, &fingerprint, said, now_ms);
                self.taken(taken);
            }
            Said::Told(channel, Some(told)) => self.mark(&channel, &told, now_ms),
            Said::Lease(lease) => self.tenancy.heard(lease, now.steady_ms),
            Said::Notifier(instance, state, ts) => {
                let lives = state != HealthState::Stopped;
                self.tenancy.neighbour(&instance, lives);
                let ours = *instance == *self.place.instance && !retained;
                if let Some(hearing) = &mut self.hearing {
                    hearing.echoed |= ours && hearing.stamp == ts;
                }
            }
            Said::Told(_, None) | Said::Nothing => {}
        }
        self.dispatcher_due_ms = 0;
    }

    fn sample(&mut self, node: NodePath, sample: Box<Sample>, retained: bool, now_ms: u64) {
        match &mut self.hearing {
            Some(hearing) => {
                hearing.samples.insert(node, (sample, retained));
            }
            None => {
                self.evaluator
                    .sample(&node, &sample, retained, now_ms, &mut self.changes);
            }
        }
    }

    fn alert(&mut self, key: AlertKey, alert: Option<Alert>, now_ms: u64) {
        let standing = match &mut self.hearing {
            Some(hearing) => &mut hearing.alerts,
            None => &mut self.standing,
        };
        if !standing.set(&key, alert.as_ref()) {
            self.counters.left_out += 1;
            if self.crowded.insert(key.node.clone()) {
                warn!(node = %key.node, "more alerts of a node than are taken; others are left out");
            }
            return;
        }
        if self.grouped.insert(key.node.clone()) {
            let groups = groups_of(&self.groups, &key.node);
            self.dispatcher.node_groups(&key.node, groups, now_ms);
        }
        let taken = self.dispatcher.alert(key, alert, now_ms);
        self.taken(taken);
    }

    /// All that stands on the bus has been heard.
    fn sync(&mut self, now: Now) {
        let Some(hearing) = self.hearing.take() else {
            return;
        };
        let now_ms = now.unix_ms;
        self.standing = hearing.alerts;
        if self.rules_heard != hearing.rules {
            self.rules_heard = hearing.rules;
            self.rules_changed = true;
        }
        self.evaluator.calm(now_ms);
        if self.began {
            self.reconcile(now_ms);
        } else {
            for (key, alert) in self.standing.iter() {
                self.evaluator.restore(key, alert, now_ms);
            }
        }
        self.began = true;
        self.dispatcher.synced(now_ms);
        // Marks that were on their way when the connection broke may not have arrived.
        let marks = self.telling.missing();
        self.push_marks(marks);
        for (node, (sample, retained)) in hearing.samples {
            self.evaluator
                .sample(&node, &sample, retained, now_ms, &mut self.changes);
        }
    }

    /// Publishes what we decided and the bus does not know.
    fn reconcile(&mut self, now_ms: u64) {
        self.evaluator
            .take_over(self.standing.iter(), now_ms, &mut self.changes);
    }

    /// A notifier, this one or another, has told people.
    fn mark(&mut self, channel: &str, told: &Told, now_ms: u64) {
        self.dispatcher.told(channel, told, now_ms);
        if !self.telling.heard(channel, told) {
            self.covers.push((channel.to_owned(), told.clone()));
        }
    }

    fn taken(&mut self, taken: Result<(), Refused>) {
        if let Err(error) = taken {
            self.counters.left_out += 1;
            self.full |= matches!(error, Refused::TooMany { .. });
            warn!(%error, "something on the bus is left out");
        }
    }

    fn mistake(&mut self, mistake: &Mistake) {
        self.counters.refused += 1;
        if self.mistakes.len() < MISTAKES && self.mistakes.insert(mistake.topic.clone()) {
            let Mistake { topic, reason } = mistake;
            warn!(
                topic,
                reason, "refused a message; others of this topic are only counted"
            );
        }
    }

    /// The delivery of a notice has ended: the bus is told.
    pub fn outcome(&mut self, outcome: Outcome, now_ms: u64) {
        if matches!(outcome.ended, Ended::GivenUp { .. }) && !self.active {
            self.undecided.push(outcome);
            return;
        }
        if let (Some(event), Some(line)) = (
            telling::event(&outcome, now_ms),
            outcome.notice.lines.first(),
        ) {
            let topic = Topic::Node(line.key.node.clone(), NodeTopic::Events);
            self.push(Kind::Events, topic.text(&self.place.root), &event);
        }
        // What is heard first may be later than this; what is missing then is said.
        if self.is_synced() {
            self.push_marks(Telling::marks(&outcome));
        }
        self.telling.push(outcome);
    }

    fn push_marks(&mut self, marks: Vec<(SiteTopic, Told)>) {
        for (topic, told) in marks {
            let topic = topic.text(&self.place.root, &self.place.site);
            self.push(Kind::Told, topic, &told);
        }
    }

    /// Takes other rules.
    pub fn set_rules(&mut self, rules: Vec<Arc<Rule>>, now_ms: u64) {
        self.evaluator.set_rules(rules, now_ms, &mut self.changes);
    }

    /// The rules that stand on the bus, by name, when they have changed since this was asked last.
    pub fn rules_of_bus(&mut self) -> Option<&BTreeMap<Box<str>, String>> {
        std::mem::take(&mut self.rules_changed).then_some(&self.rules_heard)
    }

    /// Lets time pass, and gives what the spool is to keep.
    pub fn turn(&mut self, now: Now) -> Turn {
        let now_ms = now.unix_ms;
        if self
            .hearing
            .as_ref()
            .is_some_and(|hearing| hearing.is_over(now))
        {
            self.sync(now);
        }
        self.lease(now);
        if self.evaluator_due_ms <= now_ms || self.evaluator_due_ms > now_ms + 2_000 {
            self.evaluator_due_ms = self.evaluator.tick(now_ms, &mut self.changes);
        }
        self.publish_changes();
        let mut turn = Turn {
            covers: std::mem::take(&mut self.covers),
            ..Turn::default()
        };
        if self.dispatcher_due_ms <= now_ms {
            let tick = self.dispatcher.tick(now_ms);
            self.dispatcher_due_ms = tick.next_ms.unwrap_or(u64::MAX);
            turn.changes = self.kept(tick);
        }
        self.told.extend(self.telling.take_known());
        turn.told = std::mem::take(&mut self.told);
        turn.active = self.active;
        turn.next_ms = self.evaluator_due_ms.min(self.dispatcher_due_ms);
        turn
    }

    fn lease(&mut self, now: Now) {
        if self.connected
            && self.hearing.is_none()
            && let Some(lease) = self.tenancy.due(now.steady_ms, now.unix_ms)
        {
            self.push(Kind::Lease, self.lease_topic(), &lease);
        }
        let active = self.began && self.tenancy.is_active(now.steady_ms);
        if !active && self.tenancy.is_anothers() {
            // The other one may still deliver it.
            self.told.append(&mut self.undecided);
        }
        if active == self.active {
            return;
        }
        self.active = active;
        if active {
            info!("this notifier is active");
            self.reconcile(now.unix_ms);
            for outcome in std::mem::take(&mut self.undecided) {
                self.outcome(outcome, now.unix_ms);
            }
        } else {
            info!(holder = self.tenancy.holder(), "another notifier is active");
            // What is ours to say is not decided here any more; what we did is to be told.
            self.outgoing.keep(|kind| {
                matches!(kind, Kind::Told | Kind::System | Kind::Lease | Kind::Events)
            });
        }
    }

    fn lease_topic(&self) -> String {
        SiteTopic::Lease("notifier".into()).text(&self.place.root, &self.place.site)
    }

    fn publish_changes(&mut self) {
        if !self.active {
            // What was decided stands in the evaluator, for the moment we take over.
            self.changes.clear();
            return;
        }
        for Change { key, alert } in std::mem::take(&mut self.changes) {
            let kind = match key.instance {
                Some(_) => Kind::InstanceAlert,
                None => Kind::Alert,
            };
            let topic = key.topic().text(&self.place.root);
            match alert {
                Some(alert) => self.push(kind, topic, &alert),
                None => self
                    .outgoing
                    .push(Publication::new(kind, topic, Vec::new())),
            }
        }
    }

    fn kept(&mut self, tick: Tick) -> Changes {
        if self.active {
            for clear in tick.clear {
                let topic = clear.topic.text(&self.place.root, &clear.site);
                let publication = Publication::new(clear.topic.kind(), topic, Vec::new());
                self.outgoing.push(publication);
            }
        }
        let entries = tick.saved.into_iter();
        Changes {
            entries: entries.map(|saved| (saved.key, saved.value)).collect(),
            notices: tick.notices,
        }
    }

    fn push(&mut self, kind: Kind, topic: String, payload: &impl serde::Serialize) {
        match encode(payload) {
            Ok(payload) => self.outgoing.push(Publication::new(kind, topic, payload)),
            // Every payload of the contract can be written.
            Err(error) => warn!(topic, %error, "a message could not be written"),
        }
    }

    /// What is to be published.
    pub fn outgoing(&mut self) -> &mut Outgoing {
        &mut self.outgoing
    }

    /// Gives the lease back, at the end.
    #[must_use]
    pub fn release(&self, now_ms: u64) -> Option<Publication> {
        let lease = self.tenancy.release(now_ms)?;
        let payload = encode(&lease).ok()?;
        Some(Publication::new(Kind::Lease, self.lease_topic(), payload))
    }
}
