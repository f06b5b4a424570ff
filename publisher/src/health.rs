//! `_system/publisher/<node>`: how this publisher itself is doing. Reads no clock itself.
//!
//! It is told on each connection, when something turns wrong or right, and once a [`REPEAT`] so
//! that an old one can be known by its time. A publisher that was killed leaves its last one behind;
//! that it is gone stands on its `status`.
//!
//! ```text
//! counters   samples_taken   samples_sent   samples_resent   samples_dropped
//!            outbox_samples  outbox_bytes   outbox_disk_samples
//!            collector_<name>_us      processor time of each collector's last turn
//! ```

use std::time::{Duration, Instant};

use hostbus_wire::codec::Map;
use hostbus_wire::health::{Health, HealthState};

use crate::sampler::{CollectorReport, CollectorState};

/// How often it is told when nothing changes.
const REPEAT: Duration = Duration::from_secs(60);
/// What changes all the time is told no more often than this.
const EARLIEST: Duration = Duration::from_secs(1);
/// The longest reason, in bytes.
const MAX_REASON_BYTES: usize = 1000;

/// What is wrong. By default nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Condition {
    /// The collectors that fail or work but partly, and why.
    failing: Vec<String>,
    /// The outbox is full, and the oldest samples go.
    pub(crate) dropping: bool,
    /// Why the outbox can't use its disk.
    pub(crate) disk: Option<String>,
    /// Why the inventory is not up to date.
    pub(crate) inventory: Option<&'static str>,
    /// Another publisher of this node is connected.
    pub(crate) in_use: bool,
    /// The ingester has taken a later run than ours, and takes nothing of ours any more.
    pub(crate) overruled: bool,
}

/// What is counted.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Figures {
    pub(crate) taken: u64,
    pub(crate) sent: u64,
    pub(crate) resent: u64,
    pub(crate) dropped: u64,
    pub(crate) outbox_samples: u64,
    pub(crate) outbox_bytes: u64,
    pub(crate) outbox_disk_samples: u64,
}

/// Knows when to tell.
#[derive(Debug, Default)]
pub(crate) struct Teller {
    told: Option<(Instant, Condition)>,
}

impl Condition {
    /// How the collectors are doing now.
    pub(crate) fn on_collectors(&mut self, collectors: &[CollectorReport]) {
        self.failing.clear();
        for report in collectors {
            let name = report.name;
            match &report.state {
                CollectorState::Failed(error) => {
                    self.failing
                        .push(format!("the collector {name} fails: {error}"));
                }
                CollectorState::Partly(why) => {
                    self.failing
                        .push(format!("the collector {name} works partly: {why}"));
                }
                _ => {}
            }
        }
    }

    /// What is wrong, for people; `None` when nothing is.
    fn reason(&self) -> Option<String> {
        let mut reasons = Vec::new();
        if self.in_use {
            reasons.push(IN_USE.to_owned());
        }
        if self.overruled {
            reasons.push(OVERRULED.to_owned());
        }
        if self.dropping {
            reasons.push("the outbox is full, its oldest samples are dropped".to_owned());
        }
        if let Some(why) = &self.disk {
            reasons.push(format!("the outbox has no disk: {why}"));
        }
        if let Some(why) = self.inventory {
            reasons.push(format!("the inventory can't be read: {why}"));
        }
        reasons.extend_from_slice(&self.failing);
        let mut reason = reasons.join("; ");
        if reason.len() > MAX_REASON_BYTES {
            reason.truncate(reason.floor_char_boundary(MAX_REASON_BYTES));
            reason.push('…');
        }
        (!reason.is_empty()).then_some(reason)
    }

    /// The payload.
    pub(crate) fn health(
        &self,
        ts: u64,
        figures: Figures,
        collectors: &[CollectorReport],
    ) -> Health {
        let reason = self.reason();
        let state = if reason.is_some() {
            HealthState::Degraded
        } else {
            HealthState::Ok
        };
        Health {
            ts,
            state,
            reason,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            counters: figures.counters(collectors),
        }
    }
}

/// What is said of another publisher, with the way to mend it.
pub(crate) const IN_USE: &str =
    "another publisher uses this node's name: give one of them another publisher.node";

/// What is said when our samples are not taken, with the way to mend it.
const OVERRULED: &str = "samples of a later run are taken in place of these: restart this publisher once no other \
                         one uses the node's name";

/// The payload of a clean stop.
pub(crate) fn stopped(ts: u64, figures: Figures, collectors: &[CollectorReport]) -> Health {
    Health {
        ts,
        state: HealthState::Stopped,
        reason: None,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        counters: figures.counters(collectors),
    }
}

impl Figures {
    fn counters(self, collectors: &[CollectorReport]) -> Map<u64> {
        let mut counters: Map<u64> = [
            ("samples_taken", self.taken),
            ("samples_sent", self.sent),
            ("samples_resent", self.resent),
            ("samples_dropped", self.dropped),
            ("outbox_samples", self.outbox_samples),
            ("outbox_bytes", self.outbox_bytes),
            ("outbox_disk_samples", self.outbox_disk_samples),
        ]
        .map(|(name, count)| (name.to_owned(), count))
        .into();
        for report in collectors {
            if let Some(cost) = report.cost {
                let micros = u64::try_from(cost.cpu.as_micros()).unwrap_or(u64::MAX);
                counters.insert(format!("collector_{}_us", report.name), micros);
            }
        }
        counters
    }
}

impl Teller {
    /// A new connection: it wants to know.
    pub(crate) fn on_connected(&mut self) {
        self.told = None;
    }

    /// When to tell, as things are. `None` is now.
    pub(crate) fn due_at(&self, condition: &Condition) -> Option<Instant> {
        let (at, told) = self.told.as_ref()?;
        Some(*at + if told == condition { REPEAT } else { EARLIEST })
    }

    /// It is told.
    pub(crate) fn told(&mut self, condition: &Condition, now: Instant) {
        self.told = Some((now, condition.clone()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lane::Cost;

    fn reports(state: CollectorState) -> [CollectorReport; 2] {
        let cost = Cost {
            elapsed: Duration::from_micros(900),
            cpu: Duration::from_micros(120),
        };
        let report = |name, state, cost| CollectorReport {
            name,
            state,
            points: 0,
            cost,
        };
        [
            report("cpu", CollectorState::On, Some(cost)),
            report("disks", state, None),
        ]
    }

    fn failed(error: &str) -> CollectorState {
        CollectorState::Failed(error.to_owned())
    }

    #[test]
    fn nothing_wrong_is_ok_with_all_that_is_counted() {
        let mut condition = Condition::default();
        let collectors = reports(CollectorState::Nothing("no disk".to_owned()));
        condition.on_collectors(&collectors);
        let figures = Figures {
            taken: 9,
            sent: 8,
            resent: 3,
            dropped: 1,
            outbox_samples: 2,
            outbox_bytes: 700,
            outbox_disk_samples: 1,
        };
        let health = condition.health(5, figures, &collectors);
        assert_eq!(
            (health.ts, health.state, health.reason),
            (5, HealthState::Ok, None)
        );
        let counters: Vec<(&str, u64)> = health
            .counters
            .iter()
            .map(|(k, v)| (k.as_str(), *v))
            .collect();
        assert_eq!(
            counters,
            [
                ("collector_cpu_us", 120),
                ("outbox_bytes", 700),
                ("outbox_disk_samples", 1),
                ("outbox_samples", 2),
                ("samples_dropped", 1),
                ("samples_resent", 3),
                ("samples_sent", 8),
                ("samples_taken", 9),
            ]
        );
        let stopped = stopped(6, figures, &collectors);
        assert_eq!((stopped.ts, stopped.state), (6, HealthState::Stopped));
    }

    #[test]
    fn each_thing_that_is_wrong_is_said() {
        let reason = |condition: &Condition| {
            let health = condition.health(1, Figures::default(), &[]);
            assert_eq!(health.state, HealthState::Degraded);
            health.reason.unwrap()
        };
        let mut condition = Condition::default();
        condition.on_collectors(&reports(failed("no such file")));
        assert_eq!(
            reason(&condition),
            "the collector disks fails: no such file"
        );
        let partly = CollectorState::Partly("/net does not answer".to_owned());
        let mut incomplete = Condition::default();
        incomplete.on_collectors(&reports(partly));
        assert_eq!(
            reason(&incomplete),
            "the collector disks works partly: /net does not answer"
        );
        condition.dropping = true;
        condition.disk = Some("it is full".to_owned());
        condition.inventory = Some("it hangs");
        condition.in_use = true;
        assert_eq!(
            reason(&condition),
            "another publisher uses this node's name: give one of them another publisher.node; \
             the outbox is full, its oldest samples are dropped; \
             the outbox has no disk: it is full; \
             the inventory can't be read: it hangs; \
             the collector disks fails: no such file"
        );
        condition.overruled = true;
        assert!(reason(&condition).contains("restart this publisher"));
        condition.on_collectors(&reports(failed(&"é".repeat(4000))));
        assert!(reason(&condition).len() < 1010);
    }

    #[test]
    fn it_is_told_at_once_when_it_changes_and_once_a_minute() {
        let start = Instant::now();
        let (mut teller, mut condition) = (Teller::default(), Condition::default());
        assert_eq!(teller.due_at(&condition), None, "never told");
        teller.told(&condition, start);
        assert_eq!(teller.due_at(&condition), Some(start + REPEAT));
        condition.dropping = true;
        assert_eq!(teller.due_at(&condition), Some(start + EARLIEST));
        condition.dropping = false;
        assert_eq!(teller.due_at(&condition), Some(start + REPEAT));
        teller.on_connected();
        assert_eq!(teller.due_at(&condition), None);
    }
}
