//! `alerts/<rule>[/<instance>]`: an alert as it stands, retained; an empty payload when it is gone.
//!
//! ```text
//! {"state": "firing", "severity": "critical", "since": 1763630000123, "summary": "…",
//!  "fingerprint": "…", "value": 97.5, "threshold": 90, "labels": {"runbook": "…"}}
//! ```
//! Anyone with the right may raise one, in CBOR or JSON; what is left out is filled in by who reads it:
//! `mosquitto_pub -r -q 1 -t hostbus/v1/home/nas/alerts/backup -m '{"summary": "backup failed"}'`.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::codec::{self, DecodeError, Map};
use crate::ids::{MAX_NAME_BYTES, NodePath};
use crate::number;
use crate::topic::{NodeTopic, Topic};

/// The longest summary that is taken, in bytes; a longer one is cut.
pub const MAX_SUMMARY_BYTES: usize = 1024;
/// The most labels that are taken; more are left out, and those with names of more than 128 bytes. A
/// label's text is cut as the summary is.
pub const MAX_LABELS: usize = 64;

/// The longest author's name that is taken, in bytes; a longer one is cut.
pub const MAX_AUTHOR_BYTES: usize = 128;
/// The author of the alerts that a notifier's rules raise.
pub const BY_RULES: &str = "rules";

/// What an alert is at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AlertState {
    /// Its condition holds, not yet for long enough.
    Pending,
    /// It holds.
    #[default]
    Firing,
    /// It held, and is over.
    Resolved,
}

/// How bad an alert is.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum AlertSeverity {
    /// Good to know.
    Info,
    /// Look at it today.
    #[default]
    Warning,
    /// Look at it now.
    Critical,
}

impl AlertSeverity {
    /// All of them, the least first.
    pub const ALL: [Self; 3] = [Self::Info, Self::Warning, Self::Critical];

    /// As it stands in payloads and rules.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

impl AlertState {
    /// As it stands in payloads.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Firing => "firing",
            Self::Resolved => "resolved",
        }
    }
}

impl fmt::Display for AlertSeverity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for AlertState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What an alert is about: its place on the bus. There is one alert for each.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct AlertKey {
    /// Whose alert it is.
    pub node: NodePath,
    /// The rule that raises it, or the name that a script gave it.
    pub rule: Box<str>,
    /// Which instance of the node's: a mount point, a NIC. `None` for the whole node.
    pub instance: Option<Box<str>>,
}

impl AlertKey {
    /// The topic it stands on.
    #[must_use]
    pub fn topic(&self) -> Topic {
        let what = NodeTopic::Alert {
            rule: self.rule.clone(),
            instance: self.instance.clone(),
        };
        Topic::Node(self.node.clone(), what)
    }

    /// What its alert is called for ever, as 16 hexadecimal digits: FNV-1a, 64 bits, over
    /// `site.node/rule/instance`. It names threads of mail and acknowledgements; it is no secret and
    /// no proof.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        for byte in self.to_string().bytes() {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        format!("{hash:016x}")
    }
}

impl fmt::Display for AlertKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.node, self.rule)?;
        match &self.instance {
            Some(instance) => write!(f, "/{instance}"),
            None => Ok(()),
        }
    }
}

/// One alert.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Alert {
    /// The same for the same rule, node and instance, for ever: [`AlertKey::fingerprint`].
    pub fingerprint: String,
    /// What it is at. Absent: firing.
    pub state: AlertState,
    /// How bad it is. Absent: a warning.
    pub severity: AlertSeverity,
    /// Since when it is in this state, in milliseconds since 1970-01-01 UTC. Absent: its arrival.
    pub since: u64,
    /// One sentence for people.
    pub summary: String,
    /// The value that decided, in its field's unit.
    #[serde(skip_serializing_if = "Option::is_none", with = "number::optional")]
    pub value: Option<f64>,
    /// The threshold it was held against, in the same unit.
    #[serde(skip_serializing_if = "Option::is_none", with = "number::optional")]
    pub threshold: Option<f64>,
    /// Whatever else its author wants to tell.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub labels: Map<String>,
    /// Who wrote it: [`BY_RULES`] for what a notifier's rules raise, which it alone changes and
    /// removes. Absent: somebody else.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub by: String,
    /// Since when each severity worse than `severity` has held, by its name, not yet for long enough,
    /// in milliseconds since 1970-01-01 UTC.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub held: Map<u64>,
    /// Since when its condition is over though it is kept firing, in milliseconds since 1970-01-01 UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub over: Option<u64>,
}

impl codec::Open for Alert {
    const EXAMPLE: &'static str = r#"{"severity": "warning", "summary": "the backup failed"}"#;
}

impl Alert {
    /// Reads the alert that stands at `key`, CBOR or JSON, and fills in what its author left out.
    /// What is too long is cut. `None` is an empty payload: the alert is gone.
    ///
    /// # Errors
    /// It breaks a limit of the contract or is no alert.
    pub fn decode(
        key: &AlertKey,
        payload: &[u8],
        now_ms: u64,
    ) -> Result<Option<Self>, DecodeError> {
        if payload.is_empty() {
            return Ok(None);
        }
        let mut alert: Self = codec::decode_open(payload)?;
        alert.fingerprint = key.fingerprint();
        if alert.since == 0 || alert.since > now_ms {
            alert.since = now_ms;
        }
        if alert.summary.trim().is_empty() {
            alert.summary = key.to_string();
        }
        let end = alert.summary.floor_char_boundary(MAX_SUMMARY_BYTES);
        alert.summary.truncate(end);
        while alert.labels.len() > MAX_LABELS {
            alert.labels.pop_last();
        }
        alert.labels.retain(|name, _| name.len() <= MAX_NAME_BYTES);
        for text in alert.labels.values_mut() {
            text.truncate(text.floor_char_boundary(MAX_SUMMARY_BYTES));
        }
        let end = alert.by.floor_char_boundary(MAX_AUTHOR_BYTES);
        alert.by.truncate(end);
        let severities = AlertSeverity::ALL.map(AlertSeverity::as_str);
        alert
            .held
            .retain(|severity, _| severities.contains(&severity.as_str()));
        Ok(Some(alert))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encode;

    fn key(instance: Option<&str>) -> AlertKey {
        AlertKey {
            node: "home.nas".parse().unwrap(),
            rule: "backup".into(),
            instance: instance.map(Into::into),
        }
    }

    #[test]
    fn a_fingerprint_belongs_to_one_place_and_never_changes() {
        assert_eq!(key(None).fingerprint(), "ddc6f2a1e011bd29");
        assert_eq!(key(Some("/data")).fingerprint(), "50a1438bd9aeb5af");
    }

    #[test]
    fn a_script_may_leave_out_all_but_the_braces() {
        let alert = Alert::decode(&key(None), b"{}", 7).unwrap().unwrap();
        assert_eq!(alert.state, AlertState::Firing);
        assert_eq!(alert.severity, AlertSeverity::Warning);
        assert_eq!(
            (alert.since, alert.summary.as_str()),
            (7, "home.nas/backup")
        );
        assert_eq!(alert.fingerprint, key(None).fingerprint());
        assert_eq!(Alert::decode(&key(None), b"", 7), Ok(None));
    }

    #[test]
    fn cbor_and_json_say_the_same_and_rubbish_is_refused() {
        let alert = Alert {
            fingerprint: key(None).fingerprint(),
            state: AlertState::Resolved,
            severity: AlertSeverity::Critical,
            since: 5,
            summary: "all is well".to_owned(),
            value: Some(1.5),
            threshold: Some(2.0),
            labels: [("a".to_owned(), "b".to_owned())].into(),
            by: BY_RULES.to_owned(),
            held: [("critical".to_owned(), 4)].into(),
            over: Some(3),
        };
        let json = serde_json::to_vec(&alert).unwrap();
        for payload in [encode(&alert).unwrap(), json] {
            assert_eq!(
                Alert::decode(&key(None), &payload, 9),
                Ok(Some(alert.clone()))
            );
        }
        for wrong in [
            &b"\xff"[..],
            b"firing",
            b"{\"state\": \"bad\"}",
            b"{\"since\": -1}",
        ] {
            assert!(Alert::decode(&key(None), wrong, 9).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn what_is_too_long_is_cut_and_a_future_beginning_is_now() {
        let long = format!("{{\"summary\": \"{}\", \"since\": 99}}", "ü".repeat(2000));
        let alert = Alert::decode(&key(None), long.as_bytes(), 7)
            .unwrap()
            .unwrap();
        assert_eq!((alert.summary.len(), alert.since), (MAX_SUMMARY_BYTES, 7));
    }
}
