//! A document of `config/desired`, held against the settings that a publisher has.
//!
//! It is taken as a whole or not at all: each key that is wrong gets its reason.

use std::ops::RangeInclusive;
use std::time::Duration;

use hostbus_wire::codec::Map;
use hostbus_wire::control::{CollectorDesired, ConfigDesired, Fault, MAX_FAULTS};

use crate::collectors::{self, CollectorsConfig, Entry, INTERVALS};
use crate::tuning::Tuning;

/// What may stand in a document, and below a collector.
const KEYS: [&str; 3] = ["revision", "interval_ms", "collectors"];
const COLLECTOR_KEYS: [&str; 4] = ["enabled", "interval_ms", "include", "exclude"];
/// How alike a key must be to be proposed, 0 to 1.
const LIKENESS: f64 = 0.7;

/// A document that can be applied.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Wanted {
    interval: Option<Duration>,
    collectors: Map<CollectorDesired>,
}

impl Wanted {
    /// Checks a document. On an error nothing of it may be applied; each reason stands by its key.
    pub(crate) fn check(document: ConfigDesired) -> Result<Self, Map<String>> {
        let mut refused = Refused::default();
        for (key, fault) in &document.faults {
            refused.fault(key, fault);
        }
        let interval = document.interval_ms;
        refused.interval("interval_ms", interval);
        for (name, collector) in &document.collectors {
            match collectors::ALL.iter().find(|entry| entry.name == name) {
                Some(entry) => refused.collector(entry, collector),
                None => refused.unknown_collector(name),
            }
        }
        if refused.reasons.is_empty() {
            Ok(Self {
                interval: interval.map(Duration::from_millis),
                collectors: document.collectors,
            })
        } else {
            Err(refused.reasons)
        }
    }

    /// These settings on top of `base`.
    pub(crate) fn apply(&self, base: &Tuning) -> Tuning {
        let mut tuning = base.clone();
        if let Some(interval) = self.interval {
            tuning.interval = interval;
        }
        for entry in &collectors::ALL {
            let Some(wanted) = self.collectors.get(entry.name) else {
                continue;
            };
            let public = (entry.public)(&mut tuning.collectors);
            if let Some(enabled) = wanted.enabled {
                *public.enabled = enabled;
            }
            if let Some(interval_ms) = wanted.interval_ms {
                let interval = Duration::from_millis(interval_ms);
                *public.interval_seconds = Some(interval.as_secs_f64());
            }
            for (globs, wanted) in [
                (public.include, &wanted.include),
                (public.exclude, &wanted.exclude),
            ] {
                if let (Some(globs), Some(wanted)) = (globs, wanted) {
                    globs.clone_from(wanted);
                }
            }
        }
        tuning
    }
}

/// The range of all intervals, in milliseconds.
pub(super) fn intervals_ms() -> RangeInclusive<u64> {
    let ms = |seconds: &f64| (seconds * 1000.0).round() as u64;
    ms(INTERVALS.start())..=ms(INTERVALS.end())
}

/// Reasons by key, a bounded number of them.
#[derive(Debug, Default)]
struct Refused {
    reasons: Map<String>,
}

impl Refused {
    fn note(&mut self, key: String, reason: String) {
        if self.reasons.len() < MAX_FAULTS {
            self.reasons.insert(key, reason);
        }
    }

    fn fault(&mut self, key: &str, fault: &Fault) {
        let mut reason = fault.to_string();
        if *fault == Fault::Unknown {
            let (known, field) = match key.rsplit_once('.') {
                Some((_, field)) => (&COLLECTOR_KEYS[..], field),
                None => (&KEYS[..], key),
            };
            reason.push_str(&proposal(field, known.iter().copied()));
        }
        self.note(key.to_owned(), reason);
    }

    fn interval(&mut self, key: &str, interval_ms: Option<u64>) {
        let range = intervals_ms();
        if let Some(value) = interval_ms.filter(|value| !range.contains(value)) {
            let (least, most) = (range.start(), range.end());
            self.note(
                key.to_owned(),
                format!("{value} is out of range, {least} to {most}"),
            );
        }
    }

    fn collector(&mut self, entry: &Entry, wanted: &CollectorDesired) {
        let name = entry.name;
        self.interval(
            &format!("collectors.{name}.interval_ms"),
            wanted.interval_ms,
        );
        let mut settings = CollectorsConfig::default();
        let public = (entry.public)(&mut settings);
        for (key, has, globs) in [
            ("include", public.include.is_some(), &wanted.include),
            ("exclude", public.exclude.is_some(), &wanted.exclude),
        ] {
            if globs.is_some() && !has {
                self.note(
                    format!("collectors.{name}.{key}"),
                    format!("{name} has no instances"),
                );
            }
        }
    }

    fn unknown_collector(&mut self, name: &str) {
        let known = collectors::ALL.iter().map(|entry| entry.name);
        let reason = format!("no such collector{}", proposal(name, known));
        let name = &name[..name.floor_char_boundary(64)];
        self.note(format!("collectors.{name}"), reason);
    }
}

/// What was most likely meant, as the end of a sentence.
fn proposal<'k>(given: &str, known: impl Iterator<Item = &'k str>) -> String {
    known
        .map(|name| (strsim::jaro_winkler(given, name), name))
        .max_by(|(one, _), (other, _)| one.total_cmp(other))
        .filter(|(likeness, _)| *likeness > LIKENESS)
        .map(|(_, name)| format!(", did you mean {name}?"))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use hostbus_wire::{decode, encode};
    use serde_json::{Value, json};

    use super::*;
    use crate::Config;

    #[expect(
        clippy::needless_pass_by_value,
        reason = "documents are written in place"
    )]
    fn check(document: Value) -> Result<Wanted, Map<String>> {
        Wanted::check(decode(&encode(&document).unwrap()).unwrap())
    }

    #[test]
    fn each_wrong_key_gets_its_reason() {
        let refused = |document: Value, reasons: &[(&str, &str)]| {
            let got = check(document).unwrap_err();
            let expected = reasons
                .iter()
                .map(|&(key, reason)| (key.to_owned(), reason.to_owned()));
            assert_eq!(got, expected.collect());
        };
        refused(
            json!({"revision": 1, "interval_ms": 50}),
            &[("interval_ms", "50 is out of range, 100 to 3600000")],
        );
        refused(
            json!({"revision": 1, "interval_ms": 3_600_001}),
            &[("interval_ms", "3600001 is out of range, 100 to 3600000")],
        );
        refused(
            json!({"revision": 1, "collectors": {"dsks": false, "qqq": true}}),
            &[
                ("collectors.dsks", "no such collector, did you mean disks?"),
                ("collectors.qqq", "no such collector"),
            ],
        );
        refused(
            json!({"revision": 1, "collectors": {"cpu": {"include": ["a"], "exclude": []}}}),
            &[
                ("collectors.cpu.exclude", "cpu has no instances"),
                ("collectors.cpu.include", "cpu has no instances"),
            ],
        );
        refused(
            json!({"revision": 1, "collectors": {"disks": {"interval_ms": 99, "exclud": []}}}),
            &[
                (
                    "collectors.disks.exclud",
                    "no such key, did you mean exclude?",
                ),
                (
                    "collectors.disks.interval_ms",
                    "99 is out of range, 100 to 3600000",
                ),
            ],
        );
        refused(
            json!({"revision": 1, "intervall": 1, "command": "rm -rf /"}),
            &[
                ("command", "no such key"),
                ("intervall", "no such key, did you mean interval_ms?"),
            ],
        );
        refused(
            json!({"revision": 1, "interval_ms": 5000, "collectors": {"cpu": {"enabled": 1}}}),
            &[(
                "collectors.cpu.enabled",
                "expected true or false, found a number",
            )],
        );
    }

    #[test]
    fn a_name_that_is_no_collector_is_told_cut_and_few_of_many() {
        let names: serde_json::Map<String, Value> = (0..100)
            .map(|number| (format!("{number}{}", "é".repeat(60)), json!(true)))
            .collect();
        let refused = check(json!({"revision": 1, "collectors": names})).unwrap_err();
        assert_eq!(refused.len(), MAX_FAULTS);
        assert!(refused.keys().all(|key| key.len() <= 80), "{refused:?}");
    }

    #[test]
    fn a_document_changes_what_it_names_and_nothing_else() {
        let base = Tuning::new(&Config::default());
        let same = check(json!({"revision": 1})).unwrap();
        assert_eq!(same.apply(&base), base);
        let wanted = check(json!({
            "revision": 1,
            "interval_ms": 2500,
            "collectors": {
                "gpus": false,
                "memory": {"interval_ms": 60_000},
                "disks": {"enabled": true, "include": ["sd*"], "exclude": []},
            },
        }));
        let tuning = wanted.unwrap().apply(&base);
        let mut expected = base.clone();
        expected.interval = Duration::from_millis(2500);
        expected.collectors.gpus.enabled = false;
        expected.collectors.memory.interval_seconds = Some(60.0);
        expected.collectors.disks.include = vec!["sd*".to_owned()];
        expected.collectors.disks.exclude = Vec::new();
        assert_eq!(tuning, expected);
    }

    #[test]
    fn the_ends_of_the_range_are_in_it() {
        for interval_ms in [100, 3_600_000] {
            let wanted = check(json!({"revision": 1, "interval_ms": interval_ms})).unwrap();
            let base = Tuning::new(&Config::default());
            assert_eq!(wanted.apply(&base).interval_ms(), interval_ms);
        }
    }

    #[test]
    fn every_collector_can_be_changed_from_afar() {
        let base = Tuning::new(&Config::default());
        for entry in &collectors::ALL {
            let document = json!({"revision": 1, "collectors": {entry.name: {"enabled": false, "interval_ms": 300}}});
            let tuning = check(document).unwrap().apply(&base);
            assert!(!tuning.collectors.enabled(entry), "{}", entry.name);
            let interval = tuning.collectors.interval(entry, base.interval);
            assert_eq!(interval, Duration::from_millis(300), "{}", entry.name);
        }
    }
}
