//! What the bus says of alerts, as entries of their log. No I/O, no clock.

use std::collections::HashMap;

use hostbus_store::Transition;
use hostbus_wire::NodePath;
use hostbus_wire::alert::{Alert, AlertKey, AlertState};
use hostbus_wire::number::Value;
use hostbus_wire::silence::Acknowledgement;
use hostbus_wire::told::Told;

/// How many alerts are known by their fingerprints, for acknowledgements that name no more.
const MOST: usize = 100_000;

/// The alerts that were heard of.
#[derive(Debug, Default)]
pub struct Ledger {
    /// By fingerprint: which it is, and whether it is over.
    alerts: HashMap<String, (AlertKey, bool)>,
}

impl Ledger {
    /// An alert stands so, or is gone. `None` when it was over before it went, which it is each time.
    pub fn alert(
        &mut self,
        key: &AlertKey,
        alert: Option<&Alert>,
        now_ms: u64,
    ) -> Option<Transition> {
        if self.alerts.len() >= MOST {
            self.alerts.clear();
        }
        let over = alert.is_none_or(|alert| alert.state == AlertState::Resolved);
        let known = (key.clone(), over);
        let before = self.alerts.insert(key.fingerprint(), known);
        let entry = entry(key);
        match alert {
            Some(alert) => Some(Transition {
                ts: alert.since,
                kind: alert.state.as_str(),
                severity: alert.severity.as_str(),
                message: alert.summary.clone(),
                value: alert.value.map(decimal).unwrap_or_default(),
                ..entry
            }),
            None => matches!(before, Some((_, false))).then(|| Transition {
                ts: now_ms,
                kind: "gone",
                ..entry
            }),
        }
    }

    /// Somebody acknowledged the alert `fingerprint`, or took it back. `None` when the alert is not known.
    #[must_use]
    pub fn acknowledged(
        &self,
        fingerprint: &str,
        said: Option<&Acknowledgement>,
        now_ms: u64,
    ) -> Option<(NodePath, Transition)> {
        let (key, _) = self.alerts.get(fingerprint)?;
        let entry = entry(key);
        let transition = match said {
            Some(said) => Transition {
                ts: said.at.unwrap_or(now_ms),
                kind: "acknowledged",
                message: said.why.clone(),
                by: said.by.clone(),
                ..entry
            },
            None => Transition {
                ts: now_ms,
                kind: "unacknowledged",
                ..entry
            },
        };
        Some((key.node.clone(), transition))
    }
}

/// Through `channel` people were told.
#[must_use]
pub fn told(channel: &str, told: &Told) -> Transition {
    Transition {
        ts: told.at,
        kind: match (told.given_up, told.state) {
            (true, _) => "given-up",
            (false, AlertState::Resolved) => "told-resolved",
            (false, AlertState::Firing | AlertState::Pending) => "told-firing",
        },
        severity: told.severity.as_str(),
        channel: channel.to_owned(),
        ..entry(&told.alert)
    }
}

fn entry(key: &AlertKey) -> Transition {
    Transition {
        node: key.node.to_string(),
        rule: key.rule.to_string(),
        instance: key.instance.as_deref().unwrap_or_default().to_owned(),
        ..Transition::default()
    }
}

fn decimal(value: f64) -> String {
    Value::Float(value).to_string()
}

#[cfg(test)]
mod tests {
    use hostbus_wire::alert::AlertSeverity;

    use super::*;

    fn key() -> AlertKey {
        AlertKey {
            node: "home.nas".parse().unwrap(),
            rule: "disk-full".into(),
            instance: Some("/data".into()),
        }
    }

    fn alert(state: AlertState) -> Alert {
        Alert {
            state,
            since: 5,
            summary: "full".to_owned(),
            value: Some(91.5),
            ..Alert::default()
        }
    }

    #[test]
    fn an_alert_that_was_over_goes_without_a_word() {
        let mut ledger = Ledger::default();
        let mut check = |said: Option<AlertState>, expected: Option<&str>| {
            let alert = said.map(alert);
            let entry = ledger.alert(&key(), alert.as_ref(), 7);
            assert_eq!(entry.map(|entry| entry.kind), expected, "{said:?}");
        };
        check(None, None);
        check(Some(AlertState::Firing), Some("firing"));
        check(Some(AlertState::Resolved), Some("resolved"));
        check(None, None);
        check(Some(AlertState::Pending), Some("pending"));
        check(None, Some("gone"));
        check(None, None);
    }

    #[test]
    fn an_entry_says_which_alert_it_is_about() {
        let mut ledger = Ledger::default();
        let said = Acknowledgement {
            by: "ann".to_owned(),
            ..Acknowledgement::default()
        };
        let fingerprint = key().fingerprint();
        assert_eq!(ledger.acknowledged(&fingerprint, Some(&said), 9), None);
        let firing = alert(AlertState::Firing);
        let entry = ledger.alert(&key(), Some(&firing), 7).unwrap();
        assert_eq!(
            (
                entry.node.as_str(),
                entry.rule.as_str(),
                entry.instance.as_str()
            ),
            ("home.nas", "disk-full", "/data")
        );
        assert_eq!((entry.ts, entry.value.as_str()), (5, "91.5"));
        let (node, entry) = ledger.acknowledged(&fingerprint, Some(&said), 9).unwrap();
        assert_eq!(
            (node, entry.kind, entry.ts),
            (key().node, "acknowledged", 9)
        );
        assert_eq!(
            (entry.by.as_str(), entry.rule.as_str()),
            ("ann", "disk-full")
        );
        let (_, entry) = ledger.acknowledged(&fingerprint, None, 9).unwrap();
        assert_eq!(entry.kind, "unacknowledged");
    }

    #[test]
    fn what_a_channel_told_is_its_own_history() {
        let check = |state, given_up, kind| {
            let told = Told {
                alert: key(),
                state,
                severity: AlertSeverity::Critical,
                since: 1,
                at: 2,
                given_up,
            };
            let entry = super::told("mail", &told);
            assert_eq!(
                (entry.kind, entry.channel.as_str(), entry.ts),
                (kind, "mail", 2)
            );
        };
        check(AlertState::Firing, false, "told-firing");
        check(AlertState::Resolved, false, "told-resolved");
        check(AlertState::Resolved, true, "given-up");
    }
}
