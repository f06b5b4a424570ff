//! Messages that the tests of several channels use.

use hostbus_wire::alert::{Alert, AlertKey, AlertSeverity, AlertState};

use jiff::tz::TimeZone;
use serde::de::DeserializeOwned;

use super::{Answer, ChannelError, Http, Message, Opening, Request, Verdict};
use crate::notice::{Line, Notice, Reason};
use crate::template::{Language, Wording};

/// A message about one critical alert.
pub(crate) fn message(key: &str) -> Message {
    let alert_key = AlertKey {
        node: "home.web1".parse().unwrap(),
        rule: "disk-full".into(),
        instance: Some("/data".into()),
    };
    let alert = Alert {
        fingerprint: alert_key.fingerprint(),
        state: AlertState::Firing,
        severity: AlertSeverity::Critical,
        since: 1_763_630_000_000,
        summary: "/data is 97 % full".to_owned(),
        value: Some(97.0),
        threshold: Some(90.0),
        labels: [("runbook".to_owned(), "clean up".to_owned())].into(),
        ..Alert::default()
    };
    Message {
        key: key.to_owned(),
        title: "[critical] disk-full on web1".to_owned(),
        text: "/data is 97 % full".to_owned(),
        notice: Notice {
            id: 42,
            channel: "mail".to_owned(),
            reason: Reason::Firing,
            group: "rule disk-full".to_owned(),
            formed_ms: 1_763_630_000_123,
            lines: vec![Line {
                key: alert_key,
                alert,
                firing_since: 1_763_630_000_000,
                was: None,
                flaps: 0,
                repeated: false,
            }],
            still_firing: 1,
        },
        omitted: 0,
    }
}

/// The same once it is over.
pub(crate) fn recovery(key: &str) -> Message {
    let mut message = message(key);
    message.notice.reason = Reason::Resolved;
    message.notice.lines[0].alert.state = AlertState::Resolved;
    message
}

/// A message about `count` nodes.
pub(crate) fn storm(key: &str, count: usize) -> Message {
    let mut message = message(key);
    let one = message.notice.lines.remove(0);
    for number in 0..count {
        let mut line = one.clone();
        line.key.node = format!("home.web{number}").parse().unwrap();
        message.notice.lines.push(line);
    }
    message
}

/// An answer over HTTP.
pub(crate) fn answer(status: u16, headers: &[(&str, &str)], body: &str) -> Answer {
    let headers = headers.iter();
    Answer {
        status,
        headers: headers
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
        body: body.as_bytes().to_vec(),
    }
}

/// A channel opened with `table`, under the name `x`, in English; or the error's words.
pub(crate) fn open<C: DeserializeOwned, T>(
    table: toml::Table,
    open: impl FnOnce(&C, &Opening<'_>) -> Result<T, ChannelError>,
) -> Result<T, String> {
    let config: C = table.try_into().map_err(|error| format!("{error}"))?;
    let wording = Wording::default();
    let opening = Opening::new("x", &wording, Language::default(), &TimeZone::UTC);
    let opened = open(&config, &opening.unwrap());
    opened.map_err(|error| error.to_string())
}

/// A file with a secret, in a folder that lives as long as the test wants.
pub(crate) fn secret(folder: &tempfile::TempDir, name: &str, text: &str) -> String {
    let path = folder.path().join(name);
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

/// The body of a request as JSON.
pub(crate) fn json(request: &Request) -> serde_json::Value {
    serde_json::from_slice(&request.body).unwrap()
}

/// A header of a request.
pub(crate) fn header<'r>(request: &'r Request, name: &str) -> Option<&'r str> {
    let mut headers = request.headers.iter();
    let found = headers.find(|(known, _)| known == name);
    found.map(|(_, value)| value.reveal())
}

/// Holds a channel to its verdicts: status, header, body, then `delivered`, `retry` with the seconds after
/// which (none: -1), `broken` or `refused`, and a word of the reason.
pub(crate) fn judges(channel: &dyn Http, cases: &[(u16, &str, &str, Expected, &str)]) {
    for (status, retry_after, body, expected, word) in cases {
        let headers: &[_] = match *retry_after {
            "" => &[],
            seconds => &[("retry-after", seconds)],
        };
        let verdict = channel.judge(&answer(*status, headers, body));
        let (found, reason) = match &verdict {
            Verdict::Delivered => (Expected::Delivered, ""),
            Verdict::Retry {
                reason,
                after: None,
            } => (Expected::Retry, reason.as_str()),
            Verdict::Retry {
                reason,
                after: Some(after),
            } => (Expected::RetryAfterMs(after.as_millis()), reason.as_str()),
            Verdict::Broken { reason } => (Expected::Broken, reason.as_str()),
            Verdict::Refused { reason } => (Expected::Refused, reason.as_str()),
        };
        assert_eq!(found, *expected, "{status} {body}");
        assert!(reason.contains(word), "{status} {body}: {word} in {reason}");
    }
}

/// The verdict that a test expects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expected {
    Delivered,
    Retry,
    RetryAfterMs(u128),
    Broken,
    Refused,
}
