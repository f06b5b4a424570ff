//! What rules would have raised in the past: samples of one node in the order of time, judged by the evaluator
//! as if each had come when it was taken. Pure.
//!
//! The clock of the past is the samples' own. How wrong it was stands in no sample: rules of that are not judged.
//! Whether a node was there is told by silence alone: good-byes and last wills are no samples, so a host that
//! was shut down is one that was down.

use std::collections::BTreeMap;
use std::sync::Arc;

use hostbus_wire::alert::{Alert, AlertKey, AlertSeverity, AlertState};
use hostbus_wire::{NodePath, Sample};

use crate::evaluator::{Change, Evaluator, Groups, Options};
use crate::globs::Globs;
use crate::rule::{Operator, Rule, Watch};

/// The most alerts that are told; more are counted.
pub const MAX_EPISODES: usize = 10_000;

/// One alert, from when its condition held until it was over.
#[derive(Debug, Clone, PartialEq)]
pub struct Episode {
    /// Its rule.
    pub rule: Box<str>,
    /// Its instance.
    pub instance: Option<Box<str>>,
    /// The worst that it came to.
    pub severity: AlertSeverity,
    /// When its condition held first, in milliseconds since 1970-01-01 UTC.
    pub began_ms: u64,
    /// When it fired.
    pub fired_ms: u64,
    /// When it was over; `None`: it still fired at the end.
    pub ended_ms: Option<u64>,
    /// The worst value while it fired, in its unit.
    pub worst: Option<f64>,
    /// The threshold of the worst severity.
    pub threshold: Option<f64>,
    /// Its sentence at the worst severity.
    pub summary: String,
}

/// What came of a replay.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Outcome {
    /// What would have fired, in the order of time.
    pub episodes: Vec<Episode>,
    /// What fired beyond [`MAX_EPISODES`].
    pub more: u64,
    /// How often a threshold was crossed for less than the rule's `for`.
    pub passed: u64,
    /// How many samples were judged.
    pub samples: u64,
}

/// A replay on its way.
#[derive(Debug)]
pub struct Replay {
    evaluator: Evaluator,
    node: NodePath,
    /// How each rule's values get worse.
    operators: BTreeMap<Box<str>, Operator>,
    /// When time is to be told next; `None` before the first sample.
    next_ms: Option<u64>,
    open: BTreeMap<AlertKey, Open>,
    outcome: Outcome,
    changes: Vec<Change>,
}

#[derive(Debug)]
enum Open {
    Pending { began_ms: u64 },
    Firing(Episode),
}

/// Whether a rule can be replayed: it watches what stands in samples, or that they come.
#[must_use]
pub fn can_replay(rule: &Rule) -> bool {
    !matches!(rule.watch, Watch::ClockOffset)
}

impl Replay {
    /// A replay of `rules` for `node`, which belongs to `groups`.
    #[must_use]
    pub fn new(node: &NodePath, rules: Vec<Arc<Rule>>, groups: &[String]) -> Self {
        let mut evaluator = Evaluator::new(Options::default());
        let operators = rules
            .iter()
            .filter_map(|rule| Some((rule.name.clone(), rule.levels.first()?.operator)))
            .collect();
        let own = Globs::new(&[node.to_string()]);
        let groups: Groups = groups
            .iter()
            .map(|group| (group.clone(), own.clone()))
            .collect();
        let mut changes = Vec::new();
        evaluator.groups(groups, 0, &mut changes);
        let rules = rules.into_iter().filter(|rule| can_replay(rule)).collect();
        evaluator.set_rules(rules, 0, &mut changes);
        Self {
            evaluator,
            node: node.clone(),
            operators,
            next_ms: None,
            open: BTreeMap::new(),
            outcome: Outcome::default(),
            changes,
        }
    }

    /// Takes the next sample, which was taken at `at_ms`.
    pub fn sample(&mut self, sample: &Sample, at_ms: u64) {
        if self.next_ms.is_none() {
            self.evaluator.calm(at_ms);
            self.next_ms = Some(at_ms);
        }
        self.pass(at_ms);
        let out = &mut self.changes;
        self.evaluator
            .sample(&self.node, &sample.into(), false, at_ms, out);
        self.outcome.samples += 1;
        self.take();
    }

    /// Lets time pass until `until_ms`, and tells what came of it all.
    #[must_use]
    pub fn finish(mut self, until_ms: u64) -> Outcome {
        self.pass(until_ms);
        for open in std::mem::take(&mut self.open).into_values() {
            if let Open::Firing(episode) = open {
                self.close(episode);
            }
        }
        let mut outcome = self.outcome;
        outcome.episodes.sort_by_key(|episode| episode.fired_ms);
        outcome
    }

    fn pass(&mut self, until_ms: u64) {
        while let Some(at_ms) = self.next_ms.filter(|at_ms| *at_ms <= until_ms) {
            let next_ms = self.evaluator.tick(at_ms, &mut self.changes);
            self.next_ms = Some(next_ms.max(at_ms + 1));
            self.take();
        }
    }

    fn take(&mut self) {
        for Change { key, alert } in std::mem::take(&mut self.changes) {
            match alert {
                Some(alert) => self.turn(key, &alert),
                None => self.gone(&key),
            }
        }
        if self.open.is_empty() {
            return;
        }
        // A change of the value alone is not always told.
        for (key, alert) in self.evaluator.standing() {
            if let Some(Open::Firing(episode)) = self.open.get_mut(&key)
                && alert.state == AlertState::Firing
            {
                worsen(episode, alert.value, self.operators.get(&episode.rule));
            }
        }
    }

    fn turn(&mut self, key: AlertKey, alert: &Alert) {
        match (alert.state, self.open.remove(&key)) {
            (AlertState::Resolved, Some(Open::Firing(mut episode))) => {
                episode.ended_ms = Some(alert.since);
                self.close(episode);
            }
            (AlertState::Resolved, Some(Open::Pending { .. })) => self.outcome.passed += 1,
            (AlertState::Resolved, None) => {}
            (AlertState::Pending, None) => {
                let began_ms = alert.since;
                self.open.insert(key, Open::Pending { began_ms });
            }
            (AlertState::Pending, Some(open)) => {
                self.open.insert(key, open);
            }
            (AlertState::Firing, open) => {
                let mut episode = match open {
                    Some(Open::Firing(episode)) => episode,
                    pending => {
                        let began_ms = match pending {
                            Some(Open::Pending { began_ms }) => began_ms,
                            _ => alert.since,
                        };
                        episode(&key, alert, began_ms)
                    }
                };
                if alert.severity > episode.severity {
                    episode.severity = alert.severity;
                    episode.threshold = alert.threshold;
                    episode.summary.clone_from(&alert.summary);
                }
                worsen(&mut episode, alert.value, self.operators.get(&key.rule));
                self.open.insert(key, Open::Firing(episode));
            }
        }
    }

    fn gone(&mut self, key: &AlertKey) {
        match self.open.remove(key) {
            Some(Open::Pending { .. }) => self.outcome.passed += 1,
            Some(Open::Firing(episode)) => self.close(episode),
            None => {}
        }
    }

    fn close(&mut self, episode: Episode) {
        if self.outcome.episodes.len() < MAX_EPISODES {
            self.outcome.episodes.push(episode);
        } else {
            self.outcome.more += 1;
        }
    }
}

fn episode(key: &AlertKey, alert: &Alert, began_ms: u64) -> Episode {
    Episode {
        rule: key.rule.clone(),
        instance: key.instance.clone(),
        severity: alert.severity,
        began_ms,
        fired_ms: alert.since,
        ended_ms: None,
        worst: alert.value,
        threshold: alert.threshold,
        summary: alert.summary.clone(),
    }
}

fn worsen(episode: &mut Episode, value: Option<f64>, operator: Option<&Operator>) {
    episode.worst = match (episode.worst, value, operator) {
        (Some(worst), Some(value), Some(Operator::Below | Operator::AtMost)) => {
            Some(worst.min(value))
        }
        (Some(worst), Some(value), Some(Operator::Equals)) if worst == value => Some(worst),
        (Some(worst), Some(value), _) => Some(worst.max(value)),
        (worst, value, _) => worst.or(value),
    };
}

#[cfg(test)]
mod tests {
    use hostbus_wire::Name;
    use hostbus_wire::sample::{Cpu, Filesystem};

    use super::*;
    use crate::rule::document;

    const START_MS: u64 = 1_763_630_000_000;
    const STEP_MS: u64 = 10_000;

    fn rules(text: &str) -> Vec<Arc<Rule>> {
        let written = document::read(text.as_bytes()).unwrap();
        written.into_iter().filter_map(|one| one.rule).collect()
    }

    fn load(value: f64) -> Sample {
        Sample {
            cpu: Some(Cpu {
                load1: Some(value),
                ..Cpu::default()
            }),
            ..Sample::default()
        }
    }

    /// Replays samples that come every ten seconds.
    fn replay(rules_text: &str, groups: &[String], samples: Vec<Sample>) -> Outcome {
        let node: NodePath = "home.web1".parse().unwrap();
        let mut replay = Replay::new(&node, rules(rules_text), groups);
        let count = samples.len() as u64;
        for (number, mut sample) in (0..).zip(samples) {
            let at_ms = START_MS + number * STEP_MS;
            sample.ts = Some(at_ms);
            sample.interval_ms = Some(10_000);
            replay.sample(&sample, at_ms);
        }
        replay.finish(START_MS + count * STEP_MS)
    }

    const LOAD: &str = "[[rule]]\nname = \"load\"\nmetric = \"cpu.load1\"\n\
                        warning = { above = 4, clear = 3 }\ncritical = { above = 8 }\nfor = \"30s\"";

    #[test]
    fn an_episode_has_its_beginning_its_end_and_its_worst() {
        let values = [
            1.0, 5.0, 5.0, 5.0, 5.0, 9.0, 9.5, 9.0, 9.0, 9.0, 3.5, 2.0, 1.0,
        ];
        let outcome = replay(LOAD, &[], values.map(load).to_vec());
        assert_eq!((outcome.samples, outcome.passed), (13, 0));
        let [episode] = &outcome.episodes[..] else {
            panic!("{outcome:?}")
        };
        let after = |steps: u64| START_MS + steps * STEP_MS;
        assert_eq!(
            (&*episode.rule, episode.instance.as_deref()),
            ("load", None)
        );
        assert_eq!(episode.severity, AlertSeverity::Critical);
        assert_eq!((episode.began_ms, episode.fired_ms), (after(1), after(4)));
        assert_eq!(episode.ended_ms, Some(after(11)));
        assert_eq!((episode.worst, episode.threshold), (Some(9.5), Some(8.0)));
        assert!(!episode.summary.is_empty());
    }

    #[test]
    fn what_passes_before_its_time_is_counted_and_what_lasts_is_open() {
        let values = [1.0, 5.0, 1.0, 5.0, 5.0, 5.0, 5.0, 6.0];
        let outcome = replay(LOAD, &[], values.map(load).to_vec());
        assert_eq!(outcome.passed, 1);
        assert_eq!(outcome.episodes.len(), 1, "{outcome:?}");
        assert_eq!(outcome.episodes[0].ended_ms, None);
        assert_eq!(outcome.episodes[0].worst, Some(6.0));
    }

    #[test]
    fn instances_are_told_apart_and_the_worst_may_be_the_least() {
        let text = "[[rule]]\nname = \"space\"\nmetric = \"filesystems.available_bytes\"\n\
                    critical = { below = 100 }";
        let sample = |bytes: u64| Sample {
            filesystems: [("/", bytes), ("/data", 500)]
                .map(|(name, bytes)| Filesystem {
                    available_bytes: Some(bytes),
                    ..Filesystem::new(name.parse::<Name>().unwrap(), None, None)
                })
                .to_vec(),
            ..Sample::default()
        };
        let outcome = replay(text, &[], [500, 90, 20, 60, 500].map(sample).to_vec());
        assert_eq!(outcome.episodes.len(), 1, "{outcome:?}");
        assert_eq!(outcome.episodes[0].instance.as_deref(), Some("/"));
        assert_eq!(outcome.episodes[0].worst, Some(20.0));
    }

    #[test]
    fn groups_are_those_that_the_asker_names() {
        let text = format!("{LOAD}\ngroups = \"db\"");
        let fired = |groups: &[String]| {
            let samples = vec![load(9.0); 10];
            replay(&text, groups, samples).episodes.len()
        };
        assert_eq!(fired(&[]), 0);
        assert_eq!(fired(&["db".to_owned()]), 1);
    }

    const DOWN: &str = "[[rule]]\nname = \"down\"\nmetric = \"node.down\"\nseverity = \"critical\"";

    #[test]
    fn a_hole_of_more_than_three_intervals_is_a_node_that_is_down() {
        let node: NodePath = "home.web1".parse().unwrap();
        let check = |hole_steps: u64, expected: &[(u64, Option<u64>)]| {
            let mut replay = Replay::new(&node, rules(DOWN), &[]);
            let times = (0..6).chain(6 + hole_steps..12 + hole_steps);
            for step in times {
                let at_ms = START_MS + step * STEP_MS;
                let sample = Sample {
                    ts: Some(at_ms),
                    interval_ms: Some(10_000),
                    ..load(1.0)
                };
                replay.sample(&sample, at_ms);
            }
            let outcome = replay.finish(START_MS + (12 + hole_steps) * STEP_MS);
            let episodes = outcome.episodes.iter();
            let seconds = |ms: u64| (ms - START_MS) / 1000;
            let spans: Vec<(u64, Option<u64>)> = episodes
                .map(|one| (seconds(one.fired_ms), one.ended_ms.map(seconds)))
                .collect();
            assert_eq!(spans, expected, "a hole of {hole_steps} samples");
        };
        check(0, &[]);
        check(1, &[]);
        check(30, &[(80, Some(360))]);
    }

    #[test]
    fn what_lasts_until_the_end_is_down_still() {
        let node: NodePath = "home.web1".parse().unwrap();
        let mut replay = Replay::new(&node, rules(DOWN), &[]);
        for step in 0..6 {
            let at_ms = START_MS + step * STEP_MS;
            let sample = Sample {
                ts: Some(at_ms),
                interval_ms: Some(10_000),
                ..load(1.0)
            };
            replay.sample(&sample, at_ms);
        }
        let outcome = replay.finish(START_MS + 600_000);
        assert_eq!(outcome.episodes.len(), 1, "{outcome:?}");
        assert_eq!(outcome.episodes[0].ended_ms, None);
    }

    #[test]
    fn the_clock_of_a_node_is_no_past_of_a_rule() {
        let text = "[[rule]]\nname = \"clock\"\nmetric = \"node.clock_offset_seconds\"\n\
                    warning = { above = 60 }";
        assert!(!can_replay(&rules(text)[0]));
        assert_eq!(replay(text, &[], vec![load(1.0)]).episodes, []);
    }
}
