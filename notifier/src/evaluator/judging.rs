//! A value against a rule, and what changes by it on the bus.

use std::collections::BTreeMap;

use hostbus_wire::alert::AlertKey;
use hostbus_wire::sample::Rows;
use hostbus_wire::{Decimal, NodePath, Series, Value};

use super::book::{Book, Check, NO_MEMORY, What, section_of};
use super::memory::Memory;
use super::node::{Finder, Instance, MAX_INSTANCES, Node, Raised};
use super::standing::{Phase, Standing, Terms};
use super::wording::{self, End};
use super::{Change, Figures, GONE_MS, RESOLVED_MS};
use crate::rule::{Fold, Rule};

/// The section of single cores: its series is one row, each place an instance.
const CORES: u8 = 1;
/// The least time between two changes that tell nothing but another value.
const VALUE_EVERY_MS: u64 = 60_000;

/// Where an alert of `rule` for the instance `name` stands.
pub(super) fn key(path: &NodePath, rule: &Rule, name: &str) -> AlertKey {
    AlertKey {
        node: path.clone(),
        rule: rule.name.clone(),
        instance: (!name.is_empty()).then(|| name.into()),
    }
}

/// What is needed to judge a node.
pub(super) struct Bench<'e> {
    pub(super) book: &'e mut Book,
    pub(super) calm_from_ms: u64,
    pub(super) away: bool,
    pub(super) ledger: Ledger<'e>,
}

/// Where changes go.
pub(super) struct Ledger<'e> {
    pub(super) closing: &'e mut BTreeMap<AlertKey, u64>,
    pub(super) figures: &'e mut Figures,
    pub(super) max_alerts: usize,
    pub(super) now_ms: u64,
    pub(super) out: &'e mut Vec<Change>,
}

/// What of a node changes with an alert, besides its instance.
pub(super) struct Owner<'n> {
    pub(super) path: &'n NodePath,
    pub(super) alerts: &'n mut usize,
    pub(super) due_ms: &'n mut u64,
    /// From one of its samples to the next.
    pub(super) interval_ms: u64,
}

impl Bench<'_> {
    /// Judges what is said of the node as a whole. `live`: by a live sample.
    pub(super) fn own(&mut self, node: &mut Node, path: &NodePath, live: bool) {
        let plan = self.book.plan_ref(node.own.plan);
        for check in &plan.checks {
            let value = match check.what() {
                What::Down if !self.away => {
                    match node.presence.down(self.calm_from_ms, self.ledger.now_ms) {
                        Some(down) => f64::from(u8::from(down)),
                        None => continue,
                    }
                }
                What::ClockOffset if live => match node.order.offset_ms() {
                    Some(offset_ms) => ahead_seconds(offset_ms),
                    None => continue,
                },
                _ => continue,
            };
            let mut owner = Owner {
                path,
                alerts: &mut node.alerts,
                due_ms: &mut node.due_ms,
                interval_ms: node.presence.interval_ms(),
            };
            self.ledger
                .value(self.book, &mut owner, &mut node.own, check, value);
        }
    }
}

/// How far a host's clock is ahead of ours.
#[expect(clippy::cast_precision_loss, reason = "an offset is far below 2^53 ms")]
fn ahead_seconds(offset_ms: i64) -> f64 {
    -(offset_ms as f64) / 1000.0
}

impl Ledger<'_> {
    /// Folds `value` into the instance's past and judges what comes of it.
    pub(super) fn value(
        &mut self,
        book: &Book,
        owner: &mut Owner<'_>,
        instance: &mut Instance,
        check: &Check,
        value: f64,
    ) {
        let folded = match instance.memories.get_mut(usize::from(check.memory)) {
            Some(memory) => memory.fold(check.fold, value, owner.interval_ms, self.now_ms),
            None => Some(value),
        };
        // Sums of hostile values may leave the numbers; that tells nothing.
        if let Some(folded) = folded.filter(|folded| folded.is_finite())
            && !(instance.raised.is_empty() && check.is_quiet(folded))
        {
            self.settle(book, owner, instance, check, folded);
        }
    }

    /// Judges a value that is folded already.
    pub(super) fn settle(
        &mut self,
        book: &Book,
        owner: &mut Owner<'_>,
        instance: &mut Instance,
        check: &Check,
        value: f64,
    ) {
        let place = instance
            .raised
            .iter()
            .position(|raised| raised.rule == check.rule);
        let was = place.map(|place| instance.raised[place].standing);
        let next = check.terms.step(was, value, self.now_ms);
        let rule = book.rule(check.rule);
        match (place, next) {
            (None, None) => {}
            (None, Some(_)) if *owner.alerts >= self.max_alerts => self.figures.left_out += 1,
            (None, Some(standing)) => {
                let raised = Raised {
                    rule: check.rule,
                    standing,
                    value: Some(value),
                    told: None,
                    told_ms: 0,
                };
                *owner.alerts += 1;
                instance.raised.push(raised);
                self.tell(
                    owner,
                    rule,
                    &check.terms,
                    instance,
                    instance.raised.len() - 1,
                );
            }
            (Some(place), None) => {
                instance.raised.swap_remove(place);
                *owner.alerts -= 1;
                let key = key(owner.path, rule, &instance.name);
                self.out.push(Change { key, alert: None });
            }
            (Some(place), Some(standing)) => {
                let changed = was != Some(standing);
                let raised = &mut instance.raised[place];
                raised.standing = standing;
                // A resolved alert tells by which value it was resolved.
                if changed || standing.phase != Phase::Resolved {
                    raised.value = Some(value);
                }
                if changed || self.has_moved(raised) {
                    self.tell(owner, rule, &check.terms, instance, place);
                }
            }
        }
    }

    /// Whether the value of a firing alert is worth to be told anew.
    fn has_moved(&self, raised: &Raised) -> bool {
        if raised.standing.phase != Phase::Firing
            || self.now_ms.saturating_sub(raised.told_ms) < VALUE_EVERY_MS
        {
            return false;
        }
        match (raised.told, raised.value) {
            (Some(told), Some(value)) => (value - told).abs() > told.abs() / 10.0,
            _ => false,
        }
    }

    /// Publishes the alert at `place` of `instance` as it stands.
    fn tell(
        &mut self,
        owner: &mut Owner<'_>,
        rule: &Rule,
        terms: &Terms,
        instance: &mut Instance,
        place: usize,
    ) {
        let key = key(owner.path, rule, &instance.name);
        let raised = &mut instance.raised[place];
        (raised.told, raised.told_ms) = (raised.value, self.now_ms);
        if raised.standing.phase == Phase::Resolved {
            *owner.due_ms = (*owner.due_ms).min(raised.standing.since + RESOLVED_MS);
        }
        self.closing.remove(&key);
        let alert = Some(wording::alert(&key, rule, terms, raised));
        self.out.push(Change { key, alert });
    }

    /// Ends the alert `raised` for another reason than its value, and tells what stands of it.
    pub(super) fn end(
        &mut self,
        path: &NodePath,
        rule: &Rule,
        terms: &Terms,
        (name, raised): (&str, &Raised),
        end: End,
    ) -> Option<Standing> {
        let key = key(path, rule, name);
        match raised.standing.phase {
            Phase::Pending => {
                self.out.push(Change { key, alert: None });
                None
            }
            Phase::Firing => {
                let standing = raised.standing.resolved(self.now_ms);
                // Its value is as bad as it was: the sentence stays, and tells why it is over.
                let mut alert = wording::alert(&key, rule, terms, raised);
                wording::ended(&mut alert, end, self.now_ms);
                self.out.push(Change {
                    key,
                    alert: Some(alert),
                });
                Some(standing)
            }
            Phase::Resolved => Some(raised.standing),
        }
    }
}

/// One sample on its way through a node's instances.
pub(super) struct Visit<'v, 'e> {
    node: &'v mut Node,
    path: &'v NodePath,
    bench: &'v mut Bench<'e>,
    finder: Finder,
    cleared: bool,
}

impl<'v, 'e> Visit<'v, 'e> {
    pub(super) fn new(node: &'v mut Node, path: &'v NodePath, bench: &'v mut Bench<'e>) -> Self {
        Self {
            node,
            path,
            bench,
            finder: Finder::default(),
            cleared: false,
        }
    }

    /// Judges a live sample.
    pub(super) fn judge(mut self, sample: &Rows) {
        sample.for_each_series(|series| {
            self.each_instance(&series, |visit, section, name, place| {
                visit.judge_instance(&series, section, name, place);
            });
        });
        if self.node.alerts > self.node.own.raised.len() {
            self.miss();
        }
        self.node.live_ms = self.bench.ledger.now_ms;
    }

    /// Takes what a kept sample tells: which instances there were, with which values.
    pub(super) fn prime(mut self, sample: &Rows) {
        sample.for_each_series(|series| {
            self.each_instance(&series, |visit, section, name, place| {
                visit.prime_instance(&series, section, name, place);
            });
        });
    }

    fn each_instance(
        &mut self,
        series: &Series<'_>,
        mut visit: impl FnMut(&mut Self, u8, &str, usize),
    ) {
        let section = section_of(series.section());
        if !self.bench.book.watches(section) {
            return;
        }
        if section == CORES {
            let mut name = Decimal::default();
            for place in 0..series.width() {
                let name = name.text(Value::Integer(place as u64));
                visit(self, section, name, place);
            }
        } else if series.has_instances() {
            for place in 0..series.width() {
                if let Some(name) = series.instance_at(place) {
                    visit(self, section, name, place);
                }
            }
        } else {
            visit(self, section, series.instance().unwrap_or_default(), 0);
        }
    }

    fn judge_instance(&mut self, series: &Series<'_>, section: u8, name: &str, place: usize) {
        let Some(at) = self.find(section, name) else {
            return;
        };
        let Bench { book, ledger, .. } = &mut *self.bench;
        let instance = &mut self.node.instances[at];
        let silence_ms = self.node.presence.silence_ms();
        instance.seen(self.node.live_ms, silence_ms, ledger.now_ms);
        let mut owner = Owner {
            path: self.path,
            alerts: &mut self.node.alerts,
            due_ms: &mut self.node.due_ms,
            interval_ms: self
                .node
                .presence
                .interval_ms()
                .max(u64::from(instance.every_ms)),
        };
        for check in &book.plan_ref(instance.plan).checks {
            let Some(value) = check.value(series, place) else {
                continue;
            };
            if check.memory == NO_MEMORY && instance.raised.is_empty() && check.is_quiet(value) {
                continue;
            }
            ledger.value(book, &mut owner, instance, check, value);
        }
    }

    fn prime_instance(&mut self, series: &Series<'_>, section: u8, name: &str, place: usize) {
        let Some(at) = self.find(section, name) else {
            return;
        };
        let now_ms = self.bench.ledger.now_ms;
        let instance = &mut self.node.instances[at];
        for check in &self.bench.book.plan_ref(instance.plan).checks {
            if let Some(memory) = instance.memories.get_mut(usize::from(check.memory))
                && let Some(value) = check.value(series, place)
            {
                memory.prime(check.fold, value, now_ms);
            }
        }
    }

    /// Where the instance stands, new ones included; `None`: there are too many.
    fn find(&mut self, section: u8, name: &str) -> Option<usize> {
        if let Some(place) = self.finder.find(&self.node.instances, section, name) {
            return Some(place);
        }
        if self.node.instances.len() >= MAX_INSTANCES {
            if !self.cleared {
                self.cleared = true;
                let now_ms = self.bench.ledger.now_ms;
                self.node
                    .instances
                    .retain(|instance| !instance.raised.is_empty() || instance.seen_ms == now_ms);
                self.finder = Finder::default();
            }
            if self.node.instances.len() >= MAX_INSTANCES {
                self.bench.ledger.figures.left_out += 1;
                return None;
            }
        }
        let plan = self.bench.book.plan_for(self.path, section, name);
        let memories = self.bench.book.plan_ref(plan).memories;
        let instance = Instance::new(section, name, plan, memories);
        Some(self.finder.insert(&mut self.node.instances, instance))
    }

    /// Looks after the alerts of instances that this sample does not have.
    fn miss(&mut self) {
        let Bench { book, ledger, .. } = &mut *self.bench;
        let now_ms = ledger.now_ms;
        for instance in &mut self.node.instances {
            if instance.raised.is_empty() || instance.seen_ms == now_ms {
                continue;
            }
            if instance.missing_ms == 0 {
                instance.missing_ms = now_ms;
            }
            let gone_ms = GONE_MS.max(u64::from(instance.every_ms) * 3);
            if now_ms.saturating_sub(instance.missing_ms) < gone_ms {
                continue;
            }
            let plan = book.plan_ref(instance.plan);
            let before = instance.raised.len();
            instance.raised.retain_mut(|raised| {
                let rule = book.rule(raised.rule);
                let check = plan.checks.iter().find(|check| check.rule == raised.rule);
                let Some(check) = check.filter(|_| !matches!(rule.fold, Fold::Absent { .. }))
                else {
                    return true;
                };
                let told = (&*instance.name, &*raised);
                match ledger.end(self.path, rule, &check.terms, told, End::Gone) {
                    Some(standing) => {
                        raised.standing = standing;
                        self.node.due_ms = self.node.due_ms.min(standing.since + RESOLVED_MS);
                        true
                    }
                    None => false,
                }
            });
            self.node.alerts -= before - instance.raised.len();
            // A window of a disk that is back must begin anew.
            instance.memories.iter_mut().for_each(|memory| {
                if matches!(memory, Memory::Window(_)) {
                    *memory = Memory::Empty;
                }
            });
        }
    }
}
