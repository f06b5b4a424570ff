//! What was told and must be known on the bus, before the spool may forget it. A mark that is lost on its
//! way is published again: without it another notifier that takes over would tell the same again.
//!
//! A bus that keeps our marks from us or refuses them must not fill our memory. Beyond some ends of notices
//! the oldest goes, and the spool forgets it: people have been told, and to keep it would not make the bus
//! hear of it. What is lost is that another notifier knows, and that stands in the log and the health.

use std::collections::{BTreeSet, VecDeque};

use hostbus_wire::event::{Event, Severity};
use hostbus_wire::told::Told;
use hostbus_wire::{Scalar, SiteTopic};
use tracing::warn;

use crate::spool::{Ended, Outcome};

/// How many ends of notices are waited for.
const MOST_ENDS: usize = 1_000;
/// How many alerts they may have together; a single notice may have more.
const MOST_LINES: usize = 10_000;
/// A bus that let us hear none of our marks for so long does not let us hear them.
const HEARD_WITHIN_MS: u64 = 60_000;

/// Ends of notices whose marks have not all come back from the bus, in their order.
#[derive(Debug, Default)]
pub(super) struct Telling {
    ended: VecDeque<Ending>,
    /// How many lines they have.
    lines: usize,
    /// Those that the spool may forget.
    done: Vec<Outcome>,
    /// Since when a mark was waited for and none came, by the steady clock.
    waits_from_ms: Option<u64>,
    unheard: bool,
}

/// The end of a notice, and the fingerprints of the alerts whose marks have not come back.
#[derive(Debug)]
struct Ending {
    outcome: Outcome,
    missing: BTreeSet<String>,
}

impl Telling {
    /// A notice has come to its end.
    pub(super) fn push(&mut self, outcome: Outcome) {
        let lines = outcome.notice.lines.iter();
        let missing = lines.map(|line| line.key.fingerprint()).collect();
        self.lines += outcome.notice.lines.len();
        self.ended.push_back(Ending { outcome, missing });
        while self.ended.len() > MOST_ENDS || (self.lines > MOST_LINES && self.ended.len() > 1) {
            let Some(oldest) = self.ended.pop_front() else {
                return;
            };
            self.lines -= oldest.outcome.notice.lines.len();
            self.done.push(oldest.outcome);
            self.set_unheard();
        }
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
        let of = |ending: &Ending| {
            let mut marks = Self::marks(&ending.outcome);
            marks.retain(|(_, told)| ending.missing.contains(&told.alert.fingerprint()));
            marks
        };
        self.ended.iter().flat_map(of).collect()
    }

    /// A mark was heard. Says whether it is one of ours, or stands where ours would.
    pub(super) fn heard(&mut self, channel: &str, told: &Told) -> bool {
        let fingerprint = told.alert.fingerprint();
        let (mut ours, mut all) = (false, false);
        for Ending { outcome, missing } in &mut self.ended {
            // A later mark of the same alert has taken the place of ours.
            if outcome.channel == channel && outcome.at_ms <= told.at {
                ours |= missing.remove(&fingerprint);
                all |= missing.is_empty();
            }
        }
        if ours {
            self.waits_from_ms = None;
            self.unheard = false;
        }
        if all {
            for ending in std::mem::take(&mut self.ended) {
                if ending.missing.is_empty() {
                    self.lines -= ending.outcome.notice.lines.len();
                    self.done.push(ending.outcome);
                } else {
                    self.ended.push_back(ending);
                }
            }
        }
        ours
    }

    /// Takes out those that the spool may forget: the bus knows all of them, or won't.
    pub(super) fn take_done(&mut self) -> Vec<Outcome> {
        std::mem::take(&mut self.done)
    }

    /// Lets time pass; `listens`: what is said on the bus would be heard.
    pub(super) fn pass(&mut self, listens: bool, steady_ms: u64) {
        if !listens || self.ended.is_empty() {
            self.waits_from_ms = None;
            return;
        }
        let from_ms = *self.waits_from_ms.get_or_insert(steady_ms);
        if steady_ms.saturating_sub(from_ms) >= HEARD_WITHIN_MS {
            self.set_unheard();
        }
    }

    /// Whether the bus keeps our marks from us.
    pub(super) fn is_unheard(&self) -> bool {
        self.unheard
    }

    fn set_unheard(&mut self) {
        if !std::mem::replace(&mut self.unheard, true) {
            warn!(
                "what people were told does not come back from the bus: another notifier would tell it again"
            );
        }
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
        assert!(telling.take_done().is_empty());
        assert!(telling.heard("ops", &marks[1].1));
        let known: Vec<u64> = telling.take_done().iter().map(|o| o.notice.id).collect();
        assert_eq!(known, [1]);
        let later = Told {
            at: 30,
            ..marks[2].1.clone()
        };
        assert!(telling.heard("ops", &later));
        assert_eq!(telling.take_done().len(), 1);
        assert!(!telling.heard("ops", &later));
    }

    #[test]
    fn a_bus_without_our_marks_does_not_fill_the_memory() {
        let mut telling = Telling::default();
        let many = MOST_ENDS as u64 + 500;
        for id in 0..many {
            telling.push(outcome(id, &["a"], id));
        }
        let forgotten: Vec<u64> = telling.take_done().iter().map(|o| o.notice.id).collect();
        let oldest: Vec<u64> = (0..500).collect();
        assert_eq!(forgotten, oldest);
        assert_eq!(telling.missing().len(), MOST_ENDS);
        assert!(telling.is_unheard());
        // Where they are heard after all it is well.
        let (_, last) = telling.missing().pop().unwrap();
        assert!(telling.heard("ops", &last));
        assert!(!telling.is_unheard());
        assert_eq!(telling.take_done().len(), MOST_ENDS);
        // Few notices of many alerts are many as well.
        let rules: Vec<String> = (0..MOST_LINES / 4).map(|rule| rule.to_string()).collect();
        let rules: Vec<&str> = rules.iter().map(String::as_str).collect();
        for id in 0..6 {
            telling.push(outcome(id, &rules, id));
        }
        assert_eq!(telling.take_done().len(), 2);
        assert_eq!(telling.missing().len(), MOST_LINES);
    }

    #[test]
    fn a_bus_that_lets_no_mark_be_heard_is_noticed_with_the_first_one() {
        let mut telling = Telling::default();
        telling.pass(true, 0);
        telling.push(outcome(1, &["a"], 10));
        telling.pass(true, 5_000);
        telling.pass(false, 60_000);
        telling.pass(true, 61_000);
        telling.pass(true, 120_999);
        assert!(!telling.is_unheard(), "the bus was away for a while");
        telling.pass(true, 121_000);
        assert!(telling.is_unheard());
    }
}
