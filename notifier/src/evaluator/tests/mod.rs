//! The evaluator from outside: a small site with a bus, rules, and hosts that do what hosts do.

mod model;
mod presence;
mod properties;
mod rules;

use std::collections::BTreeMap;
use std::sync::Arc;

use hostbus_wire::alert::{Alert, AlertKey, AlertSeverity, AlertState};
use hostbus_wire::sample::{Cpu, Custom, Filesystem, all_fields};
use hostbus_wire::{NodePath, Sample};

use super::{Change, Evaluator, Options};
use crate::globs::Globs;
use crate::rule::{Fold, Level, Operator, Rule, Source, Watch};

/// From one sample to the next.
pub(super) const INTERVAL_MS: u64 = 10_000;
/// When each test begins, by our clock.
pub(super) const BEGIN_MS: u64 = 1_763_630_000_000;

pub(super) fn field(name: &str) -> Watch {
    let (section, field) = name.split_once('.').unwrap();
    let all = all_fields();
    let found = all
        .iter()
        .find(|(of, known)| *of == section && known.name == field);
    let (section, field) = *found.unwrap();
    Watch::Field(Source { section, field })
}

pub(super) fn above(severity: AlertSeverity, threshold: f64, clear: f64) -> Level {
    Level {
        severity,
        operator: Operator::Above,
        threshold,
        clear,
    }
}

/// A rule over `what` with a warning above 80 until 75 and a critical one above 90 until 85.
pub(super) fn rule(name: &str, watch: Watch) -> Rule {
    let any = || Globs::new::<&str>(&[]);
    Rule {
        name: name.into(),
        watch,
        fold: Fold::Last,
        nodes: any(),
        except_nodes: any(),
        groups: any(),
        instances: any(),
        except_instances: any(),
        levels: vec![
            above(AlertSeverity::Critical, 90.0, 85.0),
            above(AlertSeverity::Warning, 80.0, 75.0),
        ],
        overrides: Vec::new(),
        for_ms: 0,
        keep_firing_ms: 0,
        summary: None,
        labels: Vec::new(),
    }
}

/// A rule that is bad at 1 and good at 0.
pub(super) fn state_rule(name: &str, watch: Watch, fold: Fold) -> Rule {
    Rule {
        fold,
        levels: vec![above(AlertSeverity::Critical, 0.5, 0.5)],
        ..rule(name, watch)
    }
}

pub(super) fn path(node: &str) -> NodePath {
    format!("home.{node}").parse().unwrap()
}

pub(super) fn cpu(usage: f64) -> Sample {
    let mut cpu = Cpu::new();
    cpu.usage_percent = Some(usage);
    Sample {
        cpu: Some(cpu),
        ..Sample::default()
    }
}

pub(super) fn filesystems(used: &[(&str, f64)]) -> Sample {
    let mut sample = Sample::default();
    for (mount, used) in used {
        let mut filesystem = Filesystem::new(mount.parse().unwrap(), None, None);
        filesystem.used_percent = Some(*used);
        sample.filesystems.push(filesystem);
    }
    sample
}

pub(super) fn custom(values: &[(&str, f64)]) -> Sample {
    let mut sample = Sample::default();
    for (name, value) in values {
        let mut custom = Custom::new(name.parse().unwrap());
        custom.value = Some(*value);
        sample.custom.push(custom);
    }
    sample
}

/// A bus, an evaluator on it, and a clock.
pub(super) struct Site {
    pub(super) evaluator: Evaluator,
    pub(super) now_ms: u64,
    pub(super) bus: BTreeMap<AlertKey, Alert>,
    /// All firing and resolved states as they came, without what stands beside them.
    pub(super) transitions: Vec<String>,
    rules: Vec<Arc<Rule>>,
    seq: u64,
}

impl Site {
    pub(super) fn new(rules: Vec<Rule>) -> Self {
        let mut site = Self {
            evaluator: Evaluator::new(Options::default()),
            now_ms: BEGIN_MS,
            bus: BTreeMap::new(),
            transitions: Vec::new(),
            rules: Vec::new(),
            seq: 0,
        };
        site.evaluator.calm(BEGIN_MS);
        site.set_rules(rules);
        site
    }

    pub(super) fn take(&mut self, changes: Vec<Change>) {
        for Change { key, alert } in changes {
            let before = self.bus.get(&key);
            assert_ne!(before, alert.as_ref(), "nothing changed at {key}");
            let told = |alert: Option<&Alert>| {
                alert
                    .filter(|alert| alert.state != AlertState::Pending)
                    .map(|alert| (alert.state, alert.severity, alert.since))
            };
            let (was, is) = (told(before), told(alert.as_ref()));
            if let Some((state, severity, since)) = is.filter(|_| was != is) {
                let since = since.abs_diff(BEGIN_MS);
                self.transitions
                    .push(format!("{key} {state} {severity} {since}"));
            }
            match alert {
                Some(alert) => {
                    assert_eq!(alert.fingerprint, key.fingerprint());
                    self.bus.insert(key, alert);
                }
                None => {
                    let before = self.bus.remove(&key);
                    let state = before.map(|alert| alert.state);
                    assert_ne!(state, Some(AlertState::Firing), "{key} was lost");
                }
            }
        }
    }

    pub(super) fn set_rules(&mut self, rules: Vec<Rule>) {
        self.rules = rules.into_iter().map(Arc::new).collect();
        let mut out = Vec::new();
        self.evaluator
            .set_rules(self.rules.clone(), self.now_ms, &mut out);
        self.take(out);
    }

    /// A sample of the node as it is sent: with place, time and interval.
    pub(super) fn placed(&mut self, sample: Sample) -> Sample {
        self.seq += 1;
        Sample {
            ts: Some(self.now_ms),
            boot: Some(1),
            seq: Some(self.seq),
            first: Some(1),
            interval_ms: Some(10_000),
            ..sample
        }
    }

    pub(super) fn hear(&mut self, node: &str, sample: &Sample, retained: bool) {
        let mut out = Vec::new();
        self.evaluator
            .sample(&path(node), &sample.into(), retained, self.now_ms, &mut out);
        self.take(out);
    }

    /// The node sends `sample`, and an interval passes.
    pub(super) fn send(&mut self, node: &str, sample: Sample) {
        let sample = self.placed(sample);
        self.hear(node, &sample, false);
        self.pass(INTERVAL_MS);
    }

    /// Time passes, with all its ticks.
    pub(super) fn pass(&mut self, span_ms: u64) {
        let end_ms = self.now_ms + span_ms;
        while self.now_ms < end_ms {
            let mut out = Vec::new();
            let next_ms = self.evaluator.tick(self.now_ms, &mut out);
            assert!(next_ms > self.now_ms);
            self.take(out);
            self.now_ms = next_ms.min(end_ms);
        }
        let mut out = Vec::new();
        self.evaluator.tick(self.now_ms, &mut out);
        self.take(out);
    }

    /// The notifier is killed and starts again, with alerts before rules or after.
    pub(super) fn restart(&mut self, alerts_first: bool) {
        self.evaluator = Evaluator::new(Options::default());
        self.evaluator.calm(self.now_ms);
        let restore = |evaluator: &mut Evaluator, bus: &BTreeMap<AlertKey, Alert>, now_ms| {
            for (key, alert) in bus {
                evaluator.restore(key, alert, now_ms);
            }
        };
        if alerts_first {
            restore(&mut self.evaluator, &self.bus, self.now_ms);
        }
        let mut out = Vec::new();
        self.evaluator
            .set_rules(self.rules.clone(), self.now_ms, &mut out);
        assert_eq!(out, [], "a restart alone changes nothing");
        if !alerts_first {
            restore(&mut self.evaluator, &self.bus, self.now_ms);
        }
    }

    /// The transitions of each alert, in order; alerts do not wait for each other.
    pub(super) fn course(&self) -> Vec<&str> {
        let mut course: Vec<&str> = self.transitions.iter().map(String::as_str).collect();
        course.sort_by_key(|line| line.split(' ').next());
        course
    }

    /// What stands on the bus, in short: `web1/full// firing critical 20`, times in seconds since the
    /// beginning.
    pub(super) fn stands(&self) -> Vec<String> {
        let line = |(key, alert): (&AlertKey, &Alert)| {
            let key = key.to_string();
            let since = alert.since.abs_diff(BEGIN_MS) / 1000;
            format!("{} {} {} {since}", &key[5..], alert.state, alert.severity)
        };
        self.bus.iter().map(line).collect()
    }
}
