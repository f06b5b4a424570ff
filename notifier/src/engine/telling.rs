//! What was told and must be known on the bus, before the spool may forget it. A mark that is lost on its
//! way is published again: without it another notifier that takes over would tell the same again.

use std::collections::BTreeSet;

use hostbus_wire::event::{Event, Severity};
use hostbus_wire::told::Told;
use hostbus_wire::{Scalar, SiteTopic};

use crate::spool::{Ended, Outcome};

/// Ends of notices whose marks have not all come back from the bus, in their order.
#[derive(Debug, Default)]
pub(super) struct Telling(Vec<(Outcome, BTreeSet<String>)>);

impl Telling {
    /// A notice has come to its end.
    pub(super) fn push(&mut self, outcome: Outcome) {
        let lines = outcome.notice.lines.iter();
        let missing = lines.map(|line| line.key.fingerprint()).collect();
        self.0.push((outcome, missing));
    }

    /// The marks of `outcome`.
    pub(super) fn marks(outcome: &Outcome) -> Vec<(SiteTopic, Told)> {
        let mark = |line: &crate::notice::Line| {
            let told = Told {
                alert: line.key.clone(),
                state: line.alert.state,
                severity: line.alert.severity,
                since: line.firing_since,
                at: outcome.at_ms,
                given_up: matches!(outcome.ended, Ended::GivenUp { .. }),
            };
            let topic = SiteTopic::Told {
                channel: outcome.channel.as_str().into(),
                fingerprint: line.key.fingerprint().into(),
            };
            (topic, told)
        };
        outcome.notice.lines.iter().map(mark).collect()
    }

    /// The marks that have not come back, in their order.
    pub(super) fn missing(&self) -> Vec<(SiteTopic, Told)> {
        let of = |(outcome, missing): &(Outcome, BTreeSet<String>)| {
            let mut marks = Self::marks(outcome);
            marks.retain(|(_, told)| missing.contains(&told.alert.fingerprint()));
            marks
        };
        self.0.iter().flat_map(of).collect()
    }

    /// A mark was heard. Says whether it is one of ours, or stands where ours would.
    pub(super) fn heard(&mut self, channel: &str, told: &Told) -> bool {
        let fingerprint = told.alert.fingerprint();
        let mut ours = false;
        for (outcome, missing) in &mut self.0 {
            // A later mark of the same alert has taken the place of ours.
            if outcome.channel == channel && outcome.at_ms <= told.at {
                ours |= missing.remove(&fingerprint);
            }
        }
        ours
    }

    /// Takes out those of which the bus knows all.
    pub(super) fn take_known(&mut self) -> Vec<Outcome> {
        let (left, known) = std::mem::take(&mut self.0)
            .into_iter()
            .partition(|(_, missing)| !missing.is_empty());
        self.0 = left;
        let known: Vec<(Outcome, BTreeSet<String>)> = known;
        known.into_iter().map(|(outcome, _)| outcome).collect()
    }
}

/// What is told of a notice that was given up; `None` when it was not.
pub(super) fn event(outcome: &Outcome, now_ms: u64) -> Option<Event> {
    let Outcome {
        channel, notice, ..
    } = outcome;
    let Ended::GivenUp { reason } = &outcome.ended else {
        return None;
    };
    let alerts = u64::try_from(notice.lines.len()).unwrap_or(u64::MAX);
    Some(Event {
        ts: now_ms,
        kind: "notice-given-up".to_owned(),
        severity: Severity::Error,
        message: format!(
            "channel {channel} did not take a notice of {}: {reason}",
            notice.group
        ),
        details: [
            ("channel".to_owned(), Scalar::Text(channel.clone())),
            ("group".to_owned(), Scalar::Text(notice.group.clone())),
            ("alerts".to_owned(), Scalar::Integer(alerts)),
        ]
        .into(),
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use hostbus_wire::alert::{Alert, AlertKey};

    use super::*;
    use crate::notice::{Line, Notice, Reason};

    fn outcome(id: u64, rules: &[&str], at_ms: u64) -> Outcome {
        let line = |rule: &&str| Line {
            key: AlertKey {
                node: "home.web1".parse().unwrap(),
                rule: (*rule).into(),
                instance: None,
            },
            alert: Alert::default(),
            firing_since: 1,
            was: None,
            flaps: 0,
            repeated: false,
        };
        let notice = Notice {
            id,
            channel: "ops".to_owned(),
            reason: Reason::Firing,
            group: String::new(),
            formed_ms: 1,
            lines: rules.iter().map(line).collect(),
            still_firing: 0,
        };
        Outcome {
            channel: "ops".to_owned(),
            notice: Arc::new(notice),
            ended: Ended::Delivered,
            at_ms,
        }
    }

    #[test]
    fn a_mark_is_missing_until_it_or_a_later_one_of_its_alert_is_heard() {
        let mut telling = Telling::default();
        telling.push(outcome(1, &["a", "b"], 10));
        telling.push(outcome(2, &["a"], 20));
        let missing = |telling: &Telling| -> Vec<(String, u64)> {
            let marks = telling.missing().into_iter();
            marks
                .map(|(_, told)| (told.alert.rule.into(), told.at))
                .collect()
        };
        let all = [("a", 10), ("b", 10), ("a", 20)].map(|(rule, at)| (rule.to_owned(), at));
        assert_eq!(missing(&telling), all);
        let marks = telling.missing();
        assert!(!telling.heard("mail", &marks[1].1), "of another channel");
        assert!(telling.heard("ops", &marks[0].1));
        assert_eq!(missing(&telling), all[1..]);
        assert!(telling.take_known().is_empty());
        assert!(telling.heard("ops", &marks[1].1));
        let known: Vec<u64> = telling.take_known().iter().map(|o| o.notice.id).collect();
        assert_eq!(known, [1]);
        let later = Told {
            at: 30,
            ..marks[2].1.clone()
        };
        assert!(telling.heard("ops", &later));
        assert_eq!(telling.take_known().len(), 1);
        assert!(!telling.heard("ops", &later));
    }
}
