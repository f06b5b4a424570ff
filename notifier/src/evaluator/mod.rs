//! Turns samples into alerts: a pure state machine without clock and I/O.
//!
//! | module | owns |
//! |---|---|
//! | `standing` | one alert's states |
//! | `arrival` | which samples tell how a host is now |
//! | `presence` | whether a node is there |
//! | `memory` | a value's past, and what a fold makes of it |
//! | `book` | which rules hold for which instance |
//! | `node` | what is remembered of a node |
//! | `judging` | a value against a rule, and what changes by it on the bus |
//! | `passing` | what time alone changes |
//! | `revision` | other rules, and what the bus knows of an earlier run |
//! | `wording` | how an alert reads |
//!
//! **How it is used.** At a start: [`set_rules`](Evaluator::set_rules), [`calm`](Evaluator::calm) once the bus
//! is there, [`restore`](Evaluator::restore) for each alert that stands on it, then samples, statuses and
//! health as they come, and [`tick`](Evaluator::tick) at least each second. [`away`](Evaluator::away) when the
//! connection is lost, `calm` when it is back. One that runs beside the active notifier drops its changes, and
//! calls [`take_over`](Evaluator::take_over) when it becomes the active one.
//!
//! **What the semantics promise**
//! - Only a live sample that is newer than the last moves an alert. Missing data neither raises nor resolves,
//!   but for rules that wait for just that: `absent` and `node.down`.
//! - A firing alert of an instance that a *live* node does not report for [`GONE_MS`], or for three times its
//!   own interval, is resolved as "gone": a disk that was pulled out must not alarm for ever. While the node
//!   is silent the alert stays.
//! - An alert on the bus is written again when its state, severity, beginning or the beginnings that a
//!   restart needs change, and at most once a minute when its value has moved by a tenth.
//! - A resolved alert stands for [`RESOLVED_MS`], then it is removed.
//! - All that decides an alert's future is in the alert itself, so a restart goes on by what stands on the
//!   bus. Windows are not kept: they say nothing until they are full again.

mod arrival;
mod book;
mod judging;
mod memory;
mod node;
mod passing;
mod presence;
mod revision;
mod standing;
mod wording;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use hostbus_wire::NodePath;
use hostbus_wire::alert::{Alert, AlertKey};
use hostbus_wire::health::HealthState;
use hostbus_wire::sample::Rows;
use hostbus_wire::status::Status;

use crate::globs::Globs;
use crate::rule::Rule;
use arrival::Arrival;
use book::{Book, NODE};
use judging::{Bench, Ledger, Visit};
use node::Node;

/// For how long an instance must be missing from the samples of a live node until its alerts are over.
pub const GONE_MS: u64 = 15 * 60_000;
/// For how long a resolved alert stands on the bus.
pub const RESOLVED_MS: u64 = 15 * 60_000;

/// Bounds of what is remembered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The most nodes; samples of others are counted and left out. Default 50,000.
    pub max_nodes: usize,
    /// The most alerts that stand for one node; more are counted and not raised. Default 1024.
    pub max_alerts_per_node: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            max_nodes: 50_000,
            max_alerts_per_node: 1024,
        }
    }
}

/// What is to be published: the alert at `key`, retained.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// Where.
    pub key: AlertKey,
    /// What; `None` is an empty payload, which removes it.
    pub alert: Option<Alert>,
}

/// What was counted since the start, and what is there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Figures {
    /// Nodes that are remembered.
    pub nodes: usize,
    /// Alerts that stand, resolved ones included.
    pub alerts: usize,
    /// Rules that are judged by.
    pub rules: usize,
    /// Samples that were judged.
    pub judged: u64,
    /// Samples that came late and were not judged.
    pub late: u64,
    /// Samples that were old when they came.
    pub old: u64,
    /// Nodes, instances and alerts that were left out because there are too many: each time anew.
    pub left_out: u64,
}

/// See the module's description.
#[derive(Debug)]
pub struct Evaluator {
    options: Options,
    book: Book,
    nodes: HashMap<NodePath, Node>,
    /// Alerts of ours on the bus that no rule has taken yet, and when they came.
    orphans: BTreeMap<AlertKey, (Alert, u64)>,
    /// Resolved alerts that nothing else remembers, and when they are to be removed.
    closing: BTreeMap<AlertKey, u64>,
    /// From when on silence counts.
    calm_from_ms: u64,
    away: bool,
    /// When the last tick was; 0: none yet.
    ticked_ms: u64,
    figures: Figures,
}

impl Evaluator {
    /// An evaluator without rules, that has heard of nobody. Call [`calm`](Self::calm) once it is connected.
    #[must_use]
    pub fn new(options: Options) -> Self {
        Self {
            options,
            book: Book::default(),
            nodes: HashMap::new(),
            orphans: BTreeMap::new(),
            closing: BTreeMap::new(),
            calm_from_ms: 0,
            away: true,
            ticked_ms: 0,
            figures: Figures::default(),
        }
    }

    /// Takes a sample as it came from the bus at `now_ms`. A `retained` one was kept by the broker: it tells
    /// which instances there were, and nothing is judged by it.
    pub fn sample(
        &mut self,
        path: &NodePath,
        sample: &Rows,
        retained: bool,
        now_ms: u64,
        out: &mut Vec<Change>,
    ) {
        let Some((node, mut bench)) = self.at(path, now_ms, out) else {
            return;
        };
        let head = sample.head();
        if retained {
            node.presence.set_interval(head.interval_ms);
            node.presence.was_there();
            node.order.note(head);
            Visit::new(node, path, &mut bench).prime(sample);
            return;
        }
        let interval_ms = head
            .interval_ms
            .map_or(node.presence.interval_ms(), u64::from);
        let arrival = node.order.take(head, interval_ms, now_ms);
        match arrival {
            Arrival::Old => bench.ledger.figures.old += 1,
            Arrival::Late => bench.ledger.figures.late += 1,
            Arrival::Live => bench.ledger.figures.judged += 1,
        }
        if arrival == Arrival::Old {
            return;
        }
        node.presence.set_interval(head.interval_ms);
        node.presence.heard(now_ms);
        bench.own(node, path, arrival == Arrival::Live);
        if arrival == Arrival::Live {
            Visit::new(node, path, &mut bench).judge(sample);
        }
    }

    /// Takes a node's status.
    pub fn status(
        &mut self,
        path: &NodePath,
        status: Status,
        retained: bool,
        now_ms: u64,
        out: &mut Vec<Change>,
    ) {
        let Some((node, mut bench)) = self.at(path, now_ms, out) else {
            return;
        };
        node.presence.status(status, retained, now_ms);
        node.wake(now_ms);
        bench.own(node, path, false);
    }

    /// Takes the health of a node's publisher: by `stopped` a clean stop is told from a lost node.
    pub fn health(
        &mut self,
        path: &NodePath,
        state: HealthState,
        retained: bool,
        now_ms: u64,
        out: &mut Vec<Change>,
    ) {
        let Some((node, mut bench)) = self.at(path, now_ms, out) else {
            return;
        };
        node.presence
            .stopped(state == HealthState::Stopped, retained);
        node.wake(now_ms);
        bench.own(node, path, false);
    }

    /// The connection to the bus is up since `from_ms`. No node is held to be down, and nothing to be
    /// absent, for two intervals from then on.
    pub fn calm(&mut self, from_ms: u64) {
        self.away = false;
        self.calm_from_ms = from_ms;
    }

    /// The connection to the bus is lost: until [`calm`](Self::calm) time changes nothing.
    pub fn away(&mut self) {
        self.away = true;
    }

    /// Nothing more is known of `path`, and its alerts are removed.
    pub fn forget(&mut self, path: &NodePath, out: &mut Vec<Change>) {
        let Some(node) = self.nodes.remove(path) else {
            return;
        };
        for instance in node.instances.iter().chain([&node.own]) {
            for raised in &instance.raised {
                let rule = self.book.rule(raised.rule);
                let key = judging::key(path, rule, &instance.name);
                out.push(Change { key, alert: None });
            }
        }
    }

    /// What was counted, and what there is.
    #[must_use]
    pub fn figures(&self) -> Figures {
        Figures {
            nodes: self.nodes.len(),
            alerts: self.nodes.values().map(|node| node.alerts).sum(),
            rules: self.book.rules.len(),
            ..self.figures
        }
    }

    /// The node `path`, with what is needed to judge it; `None`: there are too many.
    fn at<'e>(
        &'e mut self,
        path: &NodePath,
        now_ms: u64,
        out: &'e mut Vec<Change>,
    ) -> Option<(&'e mut Node, Bench<'e>)> {
        if !self.nodes.contains_key(path) {
            if self.nodes.len() >= self.options.max_nodes {
                self.figures.left_out += 1;
                return None;
            }
            let plan = self.book.plan_for(path, NODE, "");
            let node = Node::new(plan, self.book.plan_ref(plan).memories, now_ms);
            self.nodes.insert(path.clone(), node);
        }
        let bench = Bench {
            book: &mut self.book,
            calm_from_ms: self.calm_from_ms,
            away: self.away,
            ledger: Ledger {
                closing: &mut self.closing,
                figures: &mut self.figures,
                max_alerts: self.options.max_alerts_per_node,
                now_ms,
                out,
            },
        };
        Some((self.nodes.get_mut(path)?, bench))
    }
}

/// The groups of nodes, by name: which nodes belong to each.
pub type Groups = BTreeMap<String, Globs>;

impl Evaluator {
    /// Takes the rules to judge by from now on. Alerts of rules that are gone, or that no longer cover them,
    /// are resolved. What stands goes on under changed terms, judged at the next sample.
    pub fn set_rules(&mut self, rules: Vec<Arc<Rule>>, now_ms: u64, out: &mut Vec<Change>) {
        let groups = Arc::clone(&self.book.groups);
        self.revise(Book::new(rules, groups), now_ms, out);
    }

    /// Takes the groups of nodes. It is like other rules.
    pub fn groups(&mut self, groups: Groups, now_ms: u64, out: &mut Vec<Change>) {
        let rules = self.book.rules.clone();
        self.revise(Book::new(rules, Arc::new(groups)), now_ms, out);
    }
}
