//! What time alone changes: a node falls silent, a value is not heard of any more, a resolved alert is
//! removed, and what is long gone is forgotten.

use hostbus_wire::NodePath;
use hostbus_wire::alert::{AlertKey, AlertState};

use super::judging::{Bench, Ledger, Owner, key};
use super::memory::Memory;
use super::node::Node;
use super::standing::Phase;
use super::wording::{self, End};
use super::{Change, Evaluator, RESOLVED_MS};
use crate::rule::Fold;

/// The longest time from one tick to the next.
const TICK_MS: u64 = 1000;
/// After so long without a tick we may have missed what was said.
const DEAF_MS: u64 = 10_000;
/// How long an alert of ours waits for its rule after a start.
const ORPHAN_MS: u64 = 20_000;
/// How often instances that are gone are looked for.
const SWEEP_MS: u64 = 600_000;
/// How long an instance without alerts is remembered.
const FORGET_MS: u64 = 3_600_000;
/// The same where a rule waits for it.
const FORGET_AWAITED_MS: u64 = 86_400_000;

impl Evaluator {
    /// Lets time pass. Returns when to call it again at the latest: a second from now, or earlier.
    pub fn tick(&mut self, now_ms: u64, out: &mut Vec<Change>) -> u64 {
        let latest = now_ms + TICK_MS;
        self.mind_the_clock(now_ms);
        if self.away {
            return latest;
        }
        self.close(now_ms, out);
        let mut bench = Bench {
            book: &mut self.book,
            calm_from_ms: self.calm_from_ms,
            away: false,
            ledger: Ledger {
                closing: &mut self.closing,
                figures: &mut self.figures,
                max_alerts: self.options.max_alerts_per_node,
                now_ms,
                out,
            },
        };
        let mut next = latest;
        for (path, node) in &mut self.nodes {
            if node.due_ms <= now_ms {
                bench.pass(path, node);
            }
            next = next.min(node.due_ms);
        }
        next.max(now_ms + 1)
    }

    /// Our own clock was set, or we did not run: what looks like silence may be nobody's but ours.
    fn mind_the_clock(&mut self, now_ms: u64) {
        let before_ms = std::mem::replace(&mut self.ticked_ms, now_ms);
        if before_ms == 0 || (before_ms..before_ms + DEAF_MS).contains(&now_ms) {
            return;
        }
        self.calm_from_ms = now_ms;
        for at_ms in self.closing.values_mut() {
            *at_ms = (*at_ms).min(now_ms.saturating_add(RESOLVED_MS));
        }
        for (_, came_ms) in self.orphans.values_mut() {
            *came_ms = (*came_ms).min(now_ms);
        }
        for node in self.nodes.values_mut() {
            node.forget_future(now_ms);
            (node.due_ms, node.sweep_ms) = (now_ms, now_ms);
        }
    }

    /// Removes what was resolved long ago and what no rule has claimed.
    fn close(&mut self, now_ms: u64, out: &mut Vec<Change>) {
        let Self {
            closing, orphans, ..
        } = self;
        closing.retain(|key, at_ms| {
            let stays = *at_ms > now_ms;
            if !stays {
                let (key, alert) = (key.clone(), None);
                out.push(Change { key, alert });
            }
            stays
        });
        let unclaimed = |came_ms: u64| now_ms.saturating_sub(came_ms) >= ORPHAN_MS;
        let mut over: Vec<AlertKey> = Vec::new();
        for (key, (alert, came_ms)) in orphans.iter_mut() {
            if !unclaimed(*came_ms) {
                continue;
            }
            over.push(key.clone());
            match alert.state {
                AlertState::Pending | AlertState::Resolved => out.push(Change {
                    key: key.clone(),
                    alert: None,
                }),
                AlertState::Firing => {
                    let known = self.book.number_of(&key.rule).is_some();
                    let end = if known { End::Uncovered } else { End::Removed };
                    wording::ended(alert, end, now_ms);
                    closing.insert(key.clone(), now_ms + RESOLVED_MS);
                    out.push(Change {
                        key: key.clone(),
                        alert: Some(alert.clone()),
                    });
                }
            }
        }
        orphans.retain(|key, _| !over.contains(key));
    }
}

impl Bench<'_> {
    /// Lets time pass for one node, and tells it when to come back.
    fn pass(&mut self, path: &NodePath, node: &mut Node) {
        let now_ms = self.ledger.now_ms;
        node.due_ms = node.sweep_ms.max(now_ms + 1);
        if !self.book.plan_ref(node.own.plan).checks.is_empty() {
            self.own(node, path, false);
            node.wake(node.presence.due_ms(self.calm_from_ms, now_ms));
        }
        self.await_absent(path, node);
        self.remove_resolved(path, node);
        if now_ms >= node.sweep_ms {
            self.sweep(node);
        }
    }

    fn await_absent(&mut self, path: &NodePath, node: &mut Node) {
        let now_ms = self.ledger.now_ms;
        for instance in &mut node.instances {
            let plan = self.book.plan_ref(instance.plan);
            if !plan.absences {
                continue;
            }
            for check in &plan.checks {
                let Fold::Absent { silent_ms } = check.fold else {
                    continue;
                };
                let memory = instance.memories.get(usize::from(check.memory));
                let Some(heard_ms) = memory.and_then(Memory::heard_ms) else {
                    continue;
                };
                let absent_at_ms = heard_ms.max(self.calm_from_ms).saturating_add(silent_ms);
                if now_ms < absent_at_ms {
                    node.due_ms = node.due_ms.min(absent_at_ms);
                } else if !node.presence.is_stopped() {
                    let mut owner = Owner {
                        path,
                        alerts: &mut node.alerts,
                        due_ms: &mut node.due_ms,
                        interval_ms: node.presence.interval_ms(),
                    };
                    self.ledger
                        .settle(self.book, &mut owner, instance, check, 1.0);
                }
            }
        }
    }

    fn remove_resolved(&mut self, path: &NodePath, node: &mut Node) {
        let now_ms = self.ledger.now_ms;
        let Node {
            own,
            instances,
            alerts,
            due_ms,
            ..
        } = node;
        for instance in instances.iter_mut().chain([own]) {
            let by_time =
                self.book.plan_ref(instance.plan).absences || instance.section == super::NODE;
            instance
                .raised
                .retain_mut(|raised| match raised.standing.phase {
                    // By a clock that was ahead: its time begins now.
                    Phase::Resolved if raised.standing.since > now_ms => {
                        raised.standing.since = now_ms;
                        *due_ms = (*due_ms).min(now_ms + RESOLVED_MS);
                        true
                    }
                    Phase::Resolved if now_ms >= raised.standing.since + RESOLVED_MS => {
                        let key = key(path, self.book.rule(raised.rule), &instance.name);
                        self.ledger.out.push(Change { key, alert: None });
                        *alerts -= 1;
                        false
                    }
                    Phase::Resolved => {
                        *due_ms = (*due_ms).min(raised.standing.since + RESOLVED_MS);
                        true
                    }
                    // What waits without samples is looked at each time.
                    Phase::Pending | Phase::Firing => {
                        if by_time {
                            *due_ms = (*due_ms).min(now_ms + TICK_MS);
                        }
                        true
                    }
                });
        }
    }

    /// Forgets instances that are long gone and of which nothing stands.
    fn sweep(&mut self, node: &mut Node) {
        let now_ms = self.ledger.now_ms;
        node.sweep_ms = now_ms + SWEEP_MS;
        node.wake(node.sweep_ms);
        let heard_ms = node.presence.heard_ms();
        node.instances.retain(|instance| {
            let awaited = self.book.plan_ref(instance.plan).absences;
            let limit_ms = if awaited {
                FORGET_AWAITED_MS
            } else {
                FORGET_MS
            };
            // A silent node forgets nothing: it may come back as it was.
            let gone_ms = heard_ms.saturating_sub(instance.seen_ms);
            !instance.raised.is_empty() || gone_ms < limit_ms.max(u64::from(instance.every_ms) * 3)
        });
    }
}
