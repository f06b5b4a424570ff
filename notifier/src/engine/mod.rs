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
mod publishing;
mod report;
mod standing;
mod telling;
#[cfg(test)]
mod tests;
mod turn;
mod twin;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use hostbus_client::Message;
use hostbus_wire::alert::{Alert, AlertKey};
use hostbus_wire::health::HealthState;
use hostbus_wire::sample::Rows;
use hostbus_wire::told::Told;
use hostbus_wire::{Kind, NodePath, NodeTopic, SiteTopic, Topic};
use tracing::{info, warn};

use crate::bus::{self, Mistake, Said};
use crate::dispatcher::{Dispatcher, Refused};
use crate::evaluator::{Change, Evaluator, Groups};
use crate::globs::groups_of;
use crate::lease::Tenancy;
use crate::outgoing::Outgoing;
use crate::rule::Rule;
use crate::spool::{Ended, Outcome};
use hearing::Hearing;
use standing::Standing;
use telling::Telling;
use twin::Twin;

pub use turn::{Counters, Now, Place, Turn};

/// How many topics with wrong payloads are logged, each once; others are only counted.
const MISTAKES: usize = 1_000;
/// The longest time without a look at the dispatcher's clock.
const MIND_THE_CLOCK_MS: u64 = 1_000;

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
    twin: Twin,
    told: Vec<Outcome>,
    covers: Vec<(String, Told)>,
    rules_heard: BTreeMap<Box<str>, String>,
    rules_changed: bool,
    mistakes: HashSet<String>,
    full: bool,
    counters: Counters,
    changes: Vec<Change>,
    /// The sample that is looked at, in memory that is kept for the next one.
    sample: Rows,
    evaluator_due_ms: u64,
    dispatcher_due_ms: u64,
    /// When the dispatcher last let time pass.
    dispatched_ms: u64,
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
            twin: Twin::default(),
            told: Vec::new(),
            covers: Vec::new(),
            rules_heard: BTreeMap::new(),
            rules_changed: false,
            mistakes: HashSet::new(),
            full: false,
            counters: Counters::default(),
            changes: Vec::new(),
            sample: Rows::default(),
            evaluator_due_ms: 0,
            dispatcher_due_ms: 0,
            dispatched_ms: 0,
        }
    }

    /// The connection is there: all that stands is heard now. Our own health with the time `stamp` is
    /// published besides.
    pub fn connected(&mut self, stamp: u64, now: Now) {
        self.connected = true;
        self.twin.said(stamp);
        self.tenancy.joined();
        self.dispatcher.joined();
        self.hearing = Some(Hearing::new(stamp, now));
    }

    /// Whether our own health's topic is to be subscribed to by itself: its retained copy ends what stands on
    /// the bus. [`Engine::asked`] says that it was done.
    #[must_use]
    pub fn asks(&self) -> bool {
        self.hearing.as_ref().is_some_and(Hearing::asks)
    }

    /// See [`Engine::asks`].
    pub fn asked(&mut self) {
        if let Some(hearing) = &mut self.hearing {
            hearing.asked();
        }
    }

    /// The connection is lost.
    pub fn disconnected(&mut self) {
        self.connected = false;
        self.hearing = None;
        self.tenancy.away();
        self.evaluator.away();
        // What stands there is heard again, and answered then.
        self.outgoing.keep(|kind| kind != Kind::Silence);
    }

    /// Takes a message.
    pub fn message(&mut self, message: &Message, now: Now) {
        if let Some(hearing) = &mut self.hearing
            && message.retained
        {
            hearing.retained_ms = now.steady_ms;
        }
        let read = bus::read(&self.place.root, message, now.unix_ms, &mut self.sample);
        match read {
            Ok(said) => self.said(said, message.retained, now),
            Err(mistake) => self.mistake(&mistake),
        }
    }

    fn said(&mut self, said: Said, retained: bool, now: Now) {
        let now_ms = now.unix_ms;
        match said {
            Said::Sample(node) => {
                // What it changes comes back as an alert: the dispatcher need not look.
                self.sample(node, retained, now_ms);
                return;
            }
            Said::Gone(node) => {
                if let Some(hearing) = &mut self.hearing {
                    hearing.samples.remove(&node);
                }
                self.evaluator.forget(&node, &mut self.changes);
            }
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
                let taken = self
                    .dispatcher
                    .silence(&site, &id, silence, retained, now_ms);
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
            Said::Lease(lease) => {
                if self.tenancy.heard(lease, now.steady_ms) {
                    self.twin.seen(now.steady_ms);
                }
            }
            Said::Notifier(instance, state, ts) => {
                let lives = state != HealthState::Stopped;
                self.tenancy.neighbour(&instance, lives);
                let ours = *instance == *self.place.instance;
                if ours && lives && !retained && self.twin.heard(ts, now.steady_ms) {
                    self.tenancy.has_twin();
                }
                if let Some(hearing) = &mut self.hearing
                    && ours
                {
                    hearing.own_health(ts, retained);
                }
            }
            Said::Told(_, None) | Said::Nothing => {}
        }
        self.dispatcher_due_ms = 0;
    }

    /// Takes the sample that was read.
    fn sample(&mut self, node: NodePath, retained: bool, now_ms: u64) {
        match &mut self.hearing {
            Some(hearing) => {
                let sample = std::mem::take(&mut self.sample);
                hearing.samples.insert(node, (sample, retained));
            }
            None => {
                self.evaluator
                    .sample(&node, &self.sample, retained, now_ms, &mut self.changes);
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
        self.twin.pass(now.steady_ms);
        if self.evaluator_due_ms <= now_ms || self.evaluator_due_ms > now_ms + 2_000 {
            self.evaluator_due_ms = self.evaluator.tick(now_ms, &mut self.changes);
        }
        self.publish_changes();
        self.publish_answers();
        let mut turn = Turn {
            covers: std::mem::take(&mut self.covers),
            ..Turn::default()
        };
        // It is to see each second how the clock goes: one that is set back takes what is due along.
        let lately = self.dispatched_ms..=self.dispatched_ms.saturating_add(MIND_THE_CLOCK_MS);
        if self.dispatcher_due_ms <= now_ms || !lately.contains(&now_ms) {
            self.dispatched_ms = now_ms;
            let tick = self.dispatcher.tick(now_ms);
            self.dispatcher_due_ms = tick.next_ms.unwrap_or(u64::MAX);
            turn.changes = self.kept(tick);
        }
        self.telling.pass(self.is_synced(), now.steady_ms);
        self.told.extend(self.telling.take_done());
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
}
