//! The ends of notices on their way to the bus: what a channel was told stands there as a mark for each
//! alert, and a notice leaves the spool once all of its marks have come back.

use std::collections::BTreeSet;

use hostbus_wire::event::{Event, Severity};
use hostbus_wire::told::Told;
use hostbus_wire::{Scalar, SiteTopic};

use crate::spool::{Ended, Outcome};

/// Those whose marks have not all come back.
#[derive(Debug, Default)]
pub(super) struct Telling {
    /// With the fingerprints of the alerts whose marks are missing.
    ends: Vec<(Outcome, BTreeSet<String>)>,
}

impl Telling {
    /// Takes an end; gives the marks that tell it.
    pub(super) fn begin(&mut self, outcome: Outcome) -> Vec<(SiteTopic, Told)> {
        let lines = outcome.notice.lines.iter();
        let missing = lines.map(|line| line.key.fingerprint()).collect();
        let marks = marks(&outcome, &missing);
        self.ends.push((outcome, missing));
        marks
    }

    /// The marks that are missing: those that were on their way when a connection broke.
    pub(super) fn missing(&self) -> Vec<(SiteTopic, Told)> {
        let ends = self.ends.iter();
        ends.flat_map(|(outcome, missing)| marks(outcome, missing))
            .collect()
    }

    /// A mark was heard. Returns whether it is one of these.
    pub(super) fn heard(&mut self, channel: &str, told: &Told) -> bool {
        let fingerprint = told.alert.fingerprint();
        let mut ours = false;
        for (outcome, missing) in &mut self.ends {
            // A later mark of the same alert has taken the place of ours.
            if outcome.channel == channel && outcome.at_ms <= told.at {
                ours |= missing.remove(&fingerprint);
            }
        }
        ours
    }

    /// Takes out those that the bus knows of.
    pub(super) fn done(&mut self) -> impl Iterator<Item = Outcome> {
        let is_done = |(_, missing): &mut (Outcome, BTreeSet<String>)| missing.is_empty();
        let done: Vec<_> = self.ends.extract_if(.., is_done).collect();
        done.into_iter().map(|(outcome, _)| outcome)
    }
}

fn marks(outcome: &Outcome, missing: &BTreeSet<String>) -> Vec<(SiteTopic, Told)> {
    let mut marks = Vec::with_capacity(missing.len());
    for line in &outcome.notice.lines {
        let fingerprint = line.key.fingerprint();
        if !missing.contains(&fingerprint) {
            continue;
        }
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
            fingerprint: fingerprint.into(),
        };
        marks.push((topic, told));
    }
    marks
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
