//! Other rules than before, and what the bus knows of an earlier run or of another notifier.

use hostbus_wire::NodePath;
use hostbus_wire::alert::{Alert, AlertKey, AlertState, BY_RULES};

use super::book::{Book, NODE, section_of_rule};
use super::judging::{Ledger, key};
use super::memory::Memory;
use super::node::{Instance, MAX_INSTANCES, Node, Raised};
use super::standing::{Phase, Standing, Terms};
use super::wording::{self, End};
use super::{Change, Evaluator, RESOLVED_MS};
use crate::rule::Fold;

impl Phase {
    pub(super) fn state(self) -> AlertState {
        match self {
            Self::Pending => AlertState::Pending,
            Self::Firing => AlertState::Firing,
            Self::Resolved => AlertState::Resolved,
        }
    }

    fn of(state: AlertState) -> Self {
        match state {
            AlertState::Pending => Self::Pending,
            AlertState::Firing => Self::Firing,
            AlertState::Resolved => Self::Resolved,
        }
    }
}

impl Standing {
    /// As `alert` tells it, which is judged by `terms`.
    fn of(alert: &Alert, terms: &Terms) -> Self {
        let phase = Phase::of(alert.state);
        let mut held = [0; 3];
        let defined = terms.levels.iter().map(|level| level.severity);
        for severity in defined {
            held[severity as usize] = if severity > alert.severity {
                alert.held.get(severity.as_str()).copied().unwrap_or(0)
            } else if phase == Phase::Pending {
                alert.since
            } else {
                0
            };
        }
        let over = alert.over.filter(|_| phase == Phase::Firing).unwrap_or(0);
        Self {
            phase,
            severity: alert.severity,
            since: alert.since,
            held,
            over,
        }
    }
}

impl Evaluator {
    /// Goes on with an alert that stands on the bus, in whatever order rules, samples and alerts come. Those
    /// that no rule raised are somebody else's and are left alone; ours of a rule that does not turn up within
    /// 20 s are resolved and removed. Call it for what others wrote, at a start; never for an echo of a change
    /// of this evaluator.
    pub fn restore(&mut self, key: &AlertKey, alert: &Alert, now_ms: u64) {
        if alert.by != BY_RULES || self.adopt(key, alert, now_ms) {
            return;
        }
        if alert.state == AlertState::Resolved {
            self.closing.insert(key.clone(), alert.since + RESOLVED_MS);
        } else {
            self.orphans.insert(key.clone(), (alert.clone(), now_ms));
        }
    }

    /// This evaluator ran beside another one whose changes were published, and takes over from it: `bus` is
    /// what stands. What was decided last holds, and nothing that fires becomes pending again.
    pub fn take_over<'b>(
        &mut self,
        bus: impl Iterator<Item = (&'b AlertKey, &'b Alert)>,
        now_ms: u64,
        out: &mut Vec<Change>,
    ) {
        let mut own: std::collections::BTreeMap<AlertKey, Alert> = self.standing().collect();
        for (key, alert) in bus.filter(|(_, alert)| alert.by == BY_RULES) {
            match own.remove(key) {
                Some(mine) if is_further(&mine, alert) => {
                    out.push(Change {
                        key: key.clone(),
                        alert: Some(mine),
                    });
                }
                _ => self.restore(key, alert, now_ms),
            }
        }
        for (key, alert) in own {
            if alert.state != AlertState::Resolved {
                let alert = Some(alert);
                out.push(Change { key, alert });
            }
        }
    }

    /// All that is to stand on the bus by this evaluator.
    pub fn standing(&self) -> impl Iterator<Item = (AlertKey, Alert)> {
        self.nodes.iter().flat_map(move |(path, node)| {
            let instances = node.instances.iter().chain([&node.own]);
            instances.flat_map(move |instance| {
                instance.raised.iter().filter_map(move |raised| {
                    let rule = self.book.rule(raised.rule);
                    let plan = self.book.plan_ref(instance.plan);
                    let check = plan.checks.iter().find(|check| check.rule == raised.rule)?;
                    let key = key(path, rule, &instance.name);
                    let alert = wording::alert(&key, rule, &check.terms, raised);
                    Some((key, alert))
                })
            })
        })
    }

    /// Whether a rule has taken the alert.
    fn adopt(&mut self, key: &AlertKey, alert: &Alert, now_ms: u64) -> bool {
        let Some(number) = self.book.number_of(&key.rule) else {
            return false;
        };
        let (section, instances) = section_of_rule(self.book.rule(number));
        let name = key.instance.as_deref().unwrap_or_default();
        if instances == name.is_empty() {
            return false;
        }
        let plan = self.book.plan_for(&key.node, section, name);
        let fold = self.book.rule(number).fold;
        let checks = &self.book.plan_ref(plan).checks;
        let Some(check) = checks.iter().find(|check| check.rule == number) else {
            return false;
        };
        let (memory, standing) = (check.memory, Standing::of(alert, &check.terms));
        let memories = self.book.plan_ref(plan).memories;
        let kept_ms = self.kept.as_ref().and_then(|kept| kept.kept_ms(&key.node));
        let mut nothing = Vec::new();
        let Some((node, _)) = self.at(&key.node, now_ms, &mut nothing) else {
            return false;
        };
        let Node {
            own,
            instances,
            alerts,
            due_ms,
            ..
        } = node;
        let instance = if section == NODE {
            own
        } else {
            let place = instances
                .iter()
                .position(|instance| instance.is(section, name));
            if place.is_none() && instances.len() >= MAX_INSTANCES {
                return false;
            }
            let place = place.unwrap_or_else(|| {
                instances.push(Instance::new(section, name, plan, memories));
                instances.len() - 1
            });
            &mut instances[place]
        };
        let raised = Raised {
            rule: number,
            standing,
            value: alert.value,
            told: alert.value,
            told_ms: now_ms,
        };
        match instance
            .raised
            .iter_mut()
            .find(|raised| raised.rule == number)
        {
            Some(earlier) => *earlier = raised,
            None => {
                instance.raised.push(raised);
                *alerts += 1;
            }
        }
        *due_ms = (*due_ms).min(now_ms);
        if let Fold::Changed { .. } = fold
            && let Some(memory) = instance.memories.get_mut(usize::from(memory))
        {
            // What was kept before it changed would tell the same change again.
            if kept_ms.is_some_and(|kept_ms| alert.since > kept_ms) {
                memory.forget_value();
            }
            if alert.state != AlertState::Resolved {
                memory.restore_change(alert.since);
            }
        }
        true
    }

    /// Judges by `book` from now on.
    pub(super) fn revise(&mut self, book: Book, now_ms: u64, out: &mut Vec<Change>) {
        let was = std::mem::replace(&mut self.book, book);
        let renumbered: Vec<Option<u32>> = was
            .rules
            .iter()
            .map(|rule| {
                let number = self.book.number_of(&rule.name)?;
                let same = section_of_rule(self.book.rule(number)) == section_of_rule(rule);
                same.then_some(number)
            })
            .collect();
        let mut revision = Revision {
            was,
            renumbered,
            ledger: Ledger {
                closing: &mut self.closing,
                figures: &mut self.figures,
                max_alerts: self.options.max_alerts_per_node,
                now_ms,
                out,
            },
        };
        for (path, node) in &mut self.nodes {
            let Node {
                own,
                instances,
                alerts,
                ..
            } = node;
            for instance in instances.iter_mut().chain([own]) {
                let before = instance.raised.len();
                revision.instance(&mut self.book, path, instance);
                *alerts -= before - instance.raised.len();
            }
            node.wake(now_ms);
        }
        if let Some(kept) = &mut self.kept {
            kept.resolve(&self.book);
            if kept.has_new_rules() {
                for (path, node) in &mut self.nodes {
                    kept.recall_for_rules(path, node, &self.book);
                }
            }
        }
        for (key, (alert, came_ms)) in std::mem::take(&mut self.orphans) {
            if !self.adopt(&key, &alert, now_ms) {
                self.orphans.insert(key, (alert, came_ms));
            }
        }
    }
}

/// Whether `mine` was decided after what `theirs` says.
fn is_further(mine: &Alert, theirs: &Alert) -> bool {
    if mine.state == theirs.state {
        return mine.severity != theirs.severity;
    }
    let falls_back = mine.state == AlertState::Pending && theirs.state == AlertState::Firing;
    !falls_back && mine.since >= theirs.since
}

/// From one set of rules to the next.
struct Revision<'e> {
    was: Book,
    /// The number of each rule now; `None`: it is gone.
    renumbered: Vec<Option<u32>>,
    ledger: Ledger<'e>,
}

impl Revision<'_> {
    fn instance(&mut self, book: &mut Book, path: &NodePath, instance: &mut Instance) {
        let old_plan = self.was.plan(instance.plan);
        instance.plan = book.plan_for(path, instance.section, &instance.name);
        let plan = book.plan_ref(instance.plan);
        let mut old_memories = std::mem::take(&mut instance.memories);
        let mut memories = vec![Memory::Empty; plan.memories];
        for check in &plan.checks {
            let same = old_plan.checks.iter().find(|old| {
                self.renumbered[old.rule as usize] == Some(check.rule)
                    && old.fold == check.fold
                    && old.what() == check.what()
            });
            if let Some(old) = same
                && let Some(kept) = old_memories.get_mut(usize::from(old.memory))
                && let Some(memory) = memories.get_mut(usize::from(check.memory))
            {
                std::mem::swap(kept, memory);
            }
        }
        instance.memories = memories.into();
        for raised in std::mem::take(&mut instance.raised) {
            let number = self.renumbered[raised.rule as usize];
            let holds =
                number.filter(|number| plan.checks.iter().any(|check| check.rule == *number));
            match holds {
                Some(rule) => instance.raised.push(Raised { rule, ..raised }),
                None => {
                    let end = if number.is_some() {
                        End::Uncovered
                    } else {
                        End::Removed
                    };
                    self.dismiss(path, &old_plan, &instance.name, &raised, end);
                }
            }
        }
    }

    /// An alert that no rule looks after any more.
    fn dismiss(
        &mut self,
        path: &NodePath,
        plan: &super::book::Plan,
        name: &str,
        raised: &Raised,
        end: End,
    ) {
        let rule = self.was.rule(raised.rule);
        let Some(check) = plan.checks.iter().find(|check| check.rule == raised.rule) else {
            return;
        };
        if let Some(standing) = self
            .ledger
            .end(path, rule, &check.terms, (name, raised), end)
        {
            let key = key(path, rule, name);
            self.ledger
                .closing
                .insert(key, standing.since + RESOLVED_MS);
        }
    }
}
