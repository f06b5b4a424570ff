//! A notice as a JSON document, for programs: what a command reads and an MQTT topic carries.
//!
//! ```text
//! {"v": 1, "key": "main-42", "channel": "hook", "reason": "firing", "group": "rule disk-full",
//!  "formed_ms": 1763630000123, "title": "…", "text": "…", "count": 1,
//!  "alerts": [{"node": "home.web1", "rule": "disk-full", "instance": "/data",
//!              "fingerprint": "cc3958f33154f969", "state": "firing", "severity": "critical",
//!              "since": 1763630000000, "firing_since": 1763630000000, "summary": "…", "value": 97.5,
//!              "threshold": 90.0, "labels": {}}]}
//! ```
//! `count` is the number of the notice's alerts. Where they would make the document too long, the last ones
//! are not in `alerts`. New fields may appear; `v` changes only when an old reader would go wrong.

use serde_json::{Value, json};

use super::Message;
use crate::notice::{Line, Reason};

/// The document of `message`, with as many of the notice's alerts as `max_bytes` have room for.
#[must_use]
pub fn document(message: &Message, max_bytes: usize) -> Value {
    let notice = &message.notice;
    let mut document = json!({
        "v": 1,
        "key": message.key,
        "channel": notice.channel,
        "reason": reason(notice.reason),
        "group": notice.group,
        "formed_ms": notice.formed_ms,
        "title": message.title,
        "text": message.text,
        "count": notice.lines.len(),
        "alerts": [],
    });
    let mut bytes = document.to_string().len();
    let mut alerts = Vec::new();
    for line in &notice.lines {
        let alert = alert(line);
        bytes += alert.to_string().len() + 1;
        if bytes > max_bytes {
            break;
        }
        alerts.push(alert);
    }
    document["alerts"] = Value::Array(alerts);
    document
}

/// A reason as it stands in documents and headers.
#[must_use]
pub fn reason(reason: Reason) -> &'static str {
    match reason {
        Reason::Firing => "firing",
        Reason::Resolved => "resolved",
        Reason::Repeat => "repeat",
        Reason::Digest => "digest",
        Reason::Test => "test",
    }
}

fn alert(line: &Line) -> Value {
    let alert = &line.alert;
    let mut document = json!({
        "node": line.key.node.to_string(),
        "rule": line.key.rule,
        "fingerprint": line.key.fingerprint(),
        "state": alert.state,
        "severity": alert.severity,
        "since": alert.since,
        "firing_since": line.firing_since,
        "summary": alert.summary,
        "labels": alert.labels,
    });
    // What is not known is left out.
    if let Some(instance) = &line.key.instance {
        document["instance"] = json!(instance);
    }
    if let Some(value) = alert.value {
        document["value"] = json!(value);
    }
    if let Some(threshold) = alert.threshold {
        document["threshold"] = json!(threshold);
    }
    document
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channels::examples;

    #[test]
    fn a_document_says_all_there_is_to_know_and_leaves_out_what_is_not_known() {
        let mut message = examples::message("main-42");
        assert_eq!(
            document(&message, 10_000),
            json!({
                "v": 1, "key": "main-42", "channel": "mail", "reason": "firing",
                "group": "rule disk-full", "formed_ms": 1_763_630_000_123_u64,
                "title": "[critical] disk-full on web1", "text": "/data is 97 % full", "count": 1,
                "alerts": [{
                    "node": "home.web1", "rule": "disk-full", "instance": "/data",
                    "fingerprint": "cc3958f33154f969", "state": "firing", "severity": "critical",
                    "since": 1_763_630_000_000_u64, "firing_since": 1_763_630_000_000_u64,
                    "summary": "/data is 97 % full", "value": 97.0, "threshold": 90.0,
                    "labels": {"runbook": "clean up"},
                }],
            })
        );
        let line = &mut message.notice.lines[0];
        line.key.instance = None;
        line.alert.value = None;
        line.alert.threshold = None;
        let bare = document(&message, 10_000);
        for key in ["instance", "value", "threshold"] {
            assert_eq!(bare["alerts"][0].get(key), None, "{key}");
        }
    }

    #[test]
    fn a_document_has_an_end_and_says_how_many_there_are() {
        let message = examples::storm("main-42", 1000);
        let document = document(&message, 10_000);
        assert!(document.to_string().len() <= 10_000);
        assert_eq!(document["count"], 1000);
        assert!(document["alerts"].as_array().unwrap().len() > 10);
    }
}
