//! Taking or refusing what comes. It never waits, neither for Redis nor for the bus: a bus that is
//! not served loses its connection, and with it everybody's samples.
//!
//! A numbered sample is accepted only once it has its place in the queue. While Redis is away
//! none is, so that what is accepted can't grow; the publishers hold their samples, and are asked
//! for them when Redis is back.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;

use hostbus_client::{Event as BusEvent, Message};
use hostbus_daemon::clock;
use hostbus_store::{Entry, Kept, Mark, Step, Transition};
use hostbus_wire::event::{Event, Severity};
use hostbus_wire::{NodePath, Sample, Scalar, TopicRoot};
use tokio::sync::mpsc;
use tracing::{debug, info, warn};

use crate::config::Config;
use crate::counters::{Counters, add};
use crate::describer::{Descriptions, What};
use crate::ledger::{self, Ledger};
use crate::node::{Node, Standing, Time, Waiting, is_usable};
use crate::nodes::Nodes;
use crate::order::Verdict;
use crate::queue::{Answer, Queue, Room, Work};
use crate::subscriber::{self, Heard, Mistake, Said};
use crate::turns::Turns;
use crate::writer::Feedback;

/// How many mistakes of different kinds and nodes are told in the log; the rest is only counted.
const MISTAKES: usize = 1_000;

/// How much of the queue a node that catches up may fill: what a publisher has on its way then, some
/// 400 samples. As many nodes catch up at a time as there is room for.
const TURN_BYTES: usize = 512 * 1024;

/// Takes what comes from the bus.
#[derive(Debug)]
pub struct Intake {
    root: TopicRoot,
    nodes: Nodes,
    mistakes: HashSet<(Option<NodePath>, &'static str)>,
    turns: Turns,
    queue: Queue,
    descriptions: Descriptions,
    events: mpsc::Sender<(Arc<NodePath>, Event)>,
    ledger: Ledger,
    /// How long rows are kept as they come.
    raw: Kept,
    counters: Arc<Counters>,
}

impl Intake {
    /// An intake that puts samples into `queue`, whose rows are kept as `raw` says.
    #[must_use]
    pub fn new(
        config: &Config,
        root: &TopicRoot,
        raw: Kept,
        queue: Queue,
        descriptions: Descriptions,
        events: mpsc::Sender<(Arc<NodePath>, Event)>,
        counters: Arc<Counters>,
    ) -> Self {
        Self {
            root: root.clone(),
            nodes: Nodes::new(config.max_nodes),
            mistakes: HashSet::new(),
            turns: Turns::new(config.queue_bytes / TURN_BYTES),
            queue,
            descriptions,
            events,
            ledger: Ledger::default(),
            raw,
            counters,
        }
    }

    /// Takes an event of the bus.
    pub fn event(&mut self, event: BusEvent) {
        match event {
            BusEvent::Message(message) => self.message(&message),
            BusEvent::Connected | BusEvent::Disconnected => {}
        }
        self.give_turns();
    }

    /// Takes word from the writer.
    pub fn feedback(&mut self, word: Feedback) {
        match word {
            Feedback::Recovered(path, mark) => self.recovered(&path, mark),
            Feedback::Away => {
                self.nodes.values_mut().for_each(Node::forget);
                self.turns.clear();
            }
            Feedback::Back => {
                for node in self.nodes.values_mut() {
                    if let Some(missed) = node.missed {
                        ask(node, missed, &mut self.turns, &self.queue);
                    }
                }
            }
            Feedback::Broken(path) => {
                if let Some(node) = self.nodes.get_mut(&path) {
                    info!(node = %path, "the samples of a node do not continue what redis holds, asking for them again");
                    let accepted = match &node.standing {
                        Standing::Known(order) => order.accepted(),
                        Standing::Unknown | Standing::Recovering(_) => None,
                    };
                    node.forget();
                    if let Some(accepted) = accepted {
                        node.miss(accepted);
                        ask(node, accepted, &mut self.turns, &self.queue);
                    }
                }
            }
            Feedback::Excess(path) => self.excess(&path),
        }
        self.give_turns();
    }

    /// To be called now and then: turns end with time too.
    pub fn look(&mut self) {
        self.turns.expire(Instant::now());
        self.give_turns();
    }

    /// Has the next nodes send again, as many as may.
    fn give_turns(&mut self) {
        while let Some((path, target)) = self.turns.next(Instant::now()) {
            match self.nodes.get_mut(&path) {
                Some(node) => begin_turn(node, target, &mut self.turns, &self.queue),
                None => self.turns.end(&path),
            }
        }
    }

    fn message(&mut self, message: &Message) {
        add(&self.counters.messages, 1);
        let bytes = message.payload.len();
        let now_ms = clock::unix_ms();
        match subscriber::read(&self.root, message, now_ms) {
            Ok(Heard::Node(path, said)) => self.said(path, said, bytes, message.retained, now_ms),
            Ok(Heard::Acknowledgement(fingerprint, said)) => {
                let entry = self
                    .ledger
                    .acknowledged(&fingerprint, said.as_ref(), now_ms);
                if let Some((path, entry)) = entry {
                    let what = transition(entry, message.retained, now_ms);
                    self.describe(path, what, bytes);
                }
            }
            Err(mistake) => self.mistake(mistake, &message.topic),
        }
    }

    fn said(&mut self, path: NodePath, said: Said, bytes: usize, retained: bool, now_ms: u64) {
        let what = match said {
            Said::Sample(sample) => return self.sample(path, sample, bytes, retained, now_ms),
            Said::Info(info) => What::Info(info),
            Said::Event(event) => What::Event(event),
            Said::Status(status) => What::Status(status),
            Said::Alert(key, alert) => match self.ledger.alert(&key, alert.as_deref(), now_ms) {
                Some(entry) => transition(entry, retained, now_ms),
                None => return,
            },
            Said::Told(channel, told) => {
                transition(ledger::told(&channel, &told), retained, now_ms)
            }
            Said::Nothing => return,
        };
        self.describe(path, what, bytes);
    }

    fn sample(
        &mut self,
        path: NodePath,
        sample: Box<Sample>,
        bytes: usize,
        retained: bool,
        now_ms: u64,
    ) {
        // Stored under our time it would be stored anew, with a false time, at each connection.
        if retained && sample.place().is_none() && !is_usable(sample.ts, now_ms) {
            add(&self.counters.refused_retained, 1);
            return;
        }
        let Some(node) = self.nodes.heard(path, Instant::now(), forgets(&self.queue)) else {
            add(&self.counters.refused_nodes, 1);
            return;
        };
        let time = node.time(sample.ts, now_ms);
        if time.own && sample.ts.is_some_and(|ts| ts > 0) {
            add(&self.counters.clock_ahead, 1);
        }
        if let Some(ahead_ms) = time.newly_ahead_ms {
            let event = clock_ahead(now_ms, ahead_ms);
            warn!(node = %node.path, ahead_ms, "the clock of a node is ahead");
            tell(&self.events, node, event);
        }
        // A retained one was stored when it was new.
        let kept_ms = self.raw.seconds.saturating_mul(1000);
        let age_ms = now_ms.saturating_sub(time.at_ms);
        let too_old = age_ms > kept_ms && !retained;
        add(&self.counters.too_old, u64::from(too_old));
        if node.too_old.begins(too_old, now_ms) {
            warn!(node = %node.path, age_ms, "the samples of a node are older than redis.retention.raw");
            tell(&self.events, node, samples_too_old(now_ms, age_ms));
        }
        let Some(room) = self.queue.room(bytes) else {
            if let Some(place) = sample.place() {
                node.miss(place.into());
            }
            add(&self.counters.refused_queue_full, 1);
            return;
        };
        let Some(place) = sample.place() else {
            put(node, sample, time, None, room, &self.queue, &self.counters);
            return;
        };
        let waiting = Waiting {
            sample,
            place,
            time,
            room,
        };
        match &mut node.standing {
            Standing::Known(_) => {
                judge(node, waiting, &mut self.turns, &self.queue, &self.counters);
            }
            Standing::Recovering(others) => {
                if !waiting.wait(others) {
                    node.miss(place.into());
                    add(&self.counters.refused_redis_away, 1);
                }
            }
            Standing::Unknown if self.counters.redis_away() => {
                node.miss(place.into());
                add(&self.counters.refused_redis_away, 1);
            }
            Standing::Unknown => {
                recover(node, &self.queue);
                if let Standing::Recovering(others) = &mut node.standing {
                    waiting.wait(others);
                } else {
                    node.miss(place.into());
                    add(&self.counters.refused_queue_full, 1);
                }
            }
        }
    }

    fn recovered(&mut self, path: &NodePath, mark: Option<Mark>) {
        let Some(node) = self.nodes.get_mut(path) else {
            return;
        };
        for waiting in node.recovered(mark) {
            judge(node, waiting, &mut self.turns, &self.queue, &self.counters);
        }
        if let Some(missed) = node.missed.take() {
            ask(node, missed, &mut self.turns, &self.queue);
        }
    }

    fn describe(&mut self, path: NodePath, what: What, bytes: usize) {
        let Some(node) = self.nodes.heard(path, Instant::now(), forgets(&self.queue)) else {
            add(&self.counters.refused_nodes, 1);
            return;
        };
        let descriptions = &self.descriptions;
        let stands = matches!(what, What::Info(_) | What::Status(_));
        if !descriptions.put(&node.path, &node.descriptions, what, bytes) {
            add(&self.counters.descriptions_dropped, 1);
            if stands {
                self.counters.miss();
            }
        }
    }

    fn mistake(&mut self, mistake: Mistake, topic: &str) {
        match mistake {
            Mistake::Topic => {
                add(&self.counters.refused_topics, 1);
                if self.mistakes.insert((None, "topic")) {
                    warn!(
                        topic,
                        "a message on a topic that no node has; others are only counted"
                    );
                }
            }
            Mistake::Payload { node, kind, error } => {
                add(&self.counters.refused_payloads, 1);
                if self.mistakes.len() < MISTAKES {
                    let name = node.to_string();
                    if self.mistakes.insert((Some(node), kind)) {
                        warn!(
                            node = name,
                            topic, error, "refused a payload; others like it are only counted"
                        );
                    }
                }
            }
        }
    }

    fn excess(&mut self, path: &NodePath) {
        let Some(node) = self.nodes.get_mut(path) else {
            return;
        };
        if std::mem::replace(&mut node.told_excess, true) {
            return;
        }
        warn!(node = %path, "a node has too many series, or instances in one; rows beyond the limit are refused");
        let event = Event {
            ts: clock::unix_ms(),
            kind: "too-many-series".to_owned(),
            severity: Severity::Warning,
            message: "more series than the ingester takes of one node, or more sensors, fans or voltages; the rest is not stored"
                .to_owned(),
            details: [].into(),
        };
        tell(&self.events, node, event);
    }
}

/// What is logged of an alert. One that stood retained and has the time of its arrival has no other: at
/// the next connection it comes with a later one.
fn transition(entry: Transition, retained: bool, now_ms: u64) -> What {
    let undated = retained && entry.ts == now_ms;
    What::Transition(Box::new(entry), undated)
}

/// How the queue hears that a node is forgotten. Without a place there it is kept.
fn forgets(queue: &Queue) -> impl Fn(&Arc<NodePath>) -> bool {
    |node| queue.put(Work::Forget(Arc::clone(node)))
}

/// Decides on a numbered sample of a node whose order is known.
fn judge(node: &mut Node, waiting: Waiting, turns: &mut Turns, queue: &Queue, counters: &Counters) {
    let Standing::Known(order) = &node.standing else {
        return;
    };
    let Waiting {
        sample,
        place,
        time,
        room,
    } = waiting;
    let now = Instant::now();
    match order.judge(place) {
        Verdict::Take { .. } if counters.redis_away() => {
            node.miss(place.into());
            add(&counters.refused_redis_away, 1);
        }
        Verdict::Take { step, skipped } => {
            if put(node, sample, time, Some(step), room, queue, counters) {
                if let Standing::Known(order) = &mut node.standing {
                    order.accept(step);
                }
                node.progressed();
                turns.took(&node.path, step.mark, now);
                add(&counters.skipped, skipped);
            }
        }
        Verdict::Duplicate => {
            add(&counters.duplicates, 1);
            if node.may_answer(now) {
                // Without a place in the queue a later duplicate is answered.
                let _ = queue.put(Work::Answer(Arc::clone(&node.path), Answer::Mark));
            }
        }
        Verdict::Gap { after } => {
            add(&counters.gaps, 1);
            debug!(node = %node.path, boot = place.boot, seq = place.seq, after = after.seq, "gap");
            ask(node, place.into(), turns, queue);
        }
    }
}

/// Has a node asked for what it sent up to `target` and we miss, now or when its turn comes.
fn ask(node: &mut Node, target: Mark, turns: &mut Turns, queue: &Queue) {
    if turns.want(&node.path, target, Instant::now()) {
        begin_turn(node, target, turns, queue);
    }
}

/// Asks a node whose turn it is, once its order is known.
fn begin_turn(node: &mut Node, target: Mark, turns: &mut Turns, queue: &Queue) {
    let accepted = match &node.standing {
        Standing::Known(order) => order.accepted(),
        Standing::Unknown | Standing::Recovering(_) => {
            node.miss(target);
            recover(node, queue);
            return;
        }
    };
    let after = match accepted {
        Some(accepted) if accepted >= target => return turns.end(&node.path),
        Some(accepted) if accepted.boot == target.boot => accepted,
        _ => Mark {
            boot: target.boot,
            seq: 0,
        },
    };
    if node.may_ask(Instant::now()) {
        // Without a place in the queue the next sample's gap asks.
        let _ = queue.put(Work::Answer(Arc::clone(&node.path), Answer::Resend(after)));
    }
}

/// Puts a sample into the queue. Tells whether there was a place.
fn put(
    node: &mut Node,
    sample: Box<Sample>,
    time: Time,
    step: Option<Step>,
    room: Room,
    queue: &Queue,
    counters: &Counters,
) -> bool {
    let entry = Entry {
        node: Arc::clone(&node.path),
        at_ms: time.at_ms,
        own_time: time.own,
        sample: *sample,
        step,
    };
    let put = queue.put(Work::Write(Box::new(entry), room));
    if !put {
        if let Some(step) = step {
            node.miss(step.mark);
        }
        add(&counters.refused_queue_full, 1);
    }
    put
}

/// Has a node's mark read, unless that is under way or the order is known.
fn recover(node: &mut Node, queue: &Queue) {
    if matches!(node.standing, Standing::Unknown)
        && queue.put(Work::Recover(Arc::clone(&node.path)))
    {
        node.standing = Standing::Recovering(Vec::new());
    }
}

/// Has an event published. One that finds no place is lost: its cause is in the log too.
fn tell(events: &mpsc::Sender<(Arc<NodePath>, Event)>, node: &Node, event: Event) {
    let _ = events.try_send((Arc::clone(&node.path), event));
}

fn clock_ahead(now_ms: u64, ahead_ms: u64) -> Event {
    Event {
        ts: now_ms,
        kind: "clock-ahead".to_owned(),
        severity: Severity::Warning,
        message: format!(
            "the clock is {} s ahead of the ingester's; samples are stored under the ingester's time",
            ahead_ms / 1000
        ),
        details: [("ahead_ms".to_owned(), Scalar::Integer(ahead_ms))].into(),
    }
}

fn samples_too_old(now_ms: u64, age_ms: u64) -> Event {
    Event {
        ts: now_ms,
        kind: "samples-too-old".to_owned(),
        severity: Severity::Warning,
        message: format!(
            "samples are {} h old, older than rows are kept: is the clock right, and `ts` in milliseconds?",
            age_ms / 3_600_000
        ),
        details: [("age_ms".to_owned(), Scalar::Integer(age_ms))].into(),
    }
}

#[cfg(test)]
mod tests;
