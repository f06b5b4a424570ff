//! What a webhook is told, as JSON. The shape is stable: fields may be added, and `version` rises when
//! one changes its meaning or goes.
//!
//! ```text
//! {"version": 1, "key": "main-42", "notice": 42, "reason": "firing", "channel": "hook", "group": "node home.web1",
//!  "formed_ms": 1763630000123, "title": "…", "text": "…", "omitted": 0, "template_error": "…",
//!  "alerts": [{"fingerprint": "ddc6f2a1e011bd29", "node": "home.web1", "rule": "disk-full", "instance": "/data",
//!              "state": "firing", "severity": "critical", "summary": "…", "value": 93.5, "threshold": 90.0,
//!              "firing_since_ms": …, "since_ms": …, "labels": {"runbook": "…"}}]}
//! ```
//! `instance`, `value` and `threshold` are null where there is none; `template_error` is there only when
//! the channel's own `body_template` failed and this shape stands in for it.

use serde::Serialize;
use serde_json::{Value, json};

use crate::channels::Message;
use crate::notice::Line;

/// The version of the shape.
pub const VERSION: u32 = 1;

/// The body of `message`.
pub(super) fn body(message: &Message, template_error: Option<&str>) -> Value {
    let notice = &message.notice;
    let mut body = json!({
        "version": VERSION,
        "key": message.key,
        "notice": notice.id,
        "reason": notice.reason,
        "channel": notice.channel,
        "group": notice.group,
        "formed_ms": notice.formed_ms,
        "title": message.title,
        "text": message.text,
        "omitted": message.omitted,
        "alerts": notice.lines.iter().map(alert).collect::<Vec<_>>(),
    });
    if let Some(error) = template_error {
        body["template_error"] = json!(error);
    }
    body
}

/// What `line` takes in a body, in bytes, nearly.
pub(super) fn size(line: &Line) -> usize {
    alert(line).to_string().len() + 1
}

fn alert(line: &Line) -> Value {
    #[derive(Serialize)]
    struct Told<'a> {
        fingerprint: &'a str,
        node: String,
        rule: &'a str,
        instance: Option<&'a str>,
        state: &'a str,
        severity: &'a str,
        summary: &'a str,
        value: Option<f64>,
        threshold: Option<f64>,
        firing_since_ms: u64,
        since_ms: u64,
        labels: Value,
    }
    let alert = &line.alert;
    let told = Told {
        fingerprint: &alert.fingerprint,
        node: line.key.node.to_string(),
        rule: &line.key.rule,
        instance: line.key.instance.as_deref(),
        state: alert.state.as_str(),
        severity: alert.severity.as_str(),
        summary: &alert.summary,
        value: alert.value,
        threshold: alert.threshold,
        firing_since_ms: line.firing_since,
        since_ms: alert.since,
        labels: json!(alert.labels),
    };
    json!(told)
}
