//! PagerDuty, by its Events API v2.
//!
//! ```toml
//! [notifier.channels.duty]
//! type = "pagerduty"
//! routing_key_file = "/etc/hostbus/pagerduty-key"   # the integration key of a service
//! ```
//! An event is about one alert: `trigger` when it fires and `resolve` when it is over, both under the
//! alert's fingerprint, so that PagerDuty opens and closes one incident for it. A notice of many alerts
//! becomes as many events, none of them left out, whatever `messages` says.
//! ```text
//! POST /v2/enqueue
//! {"routing_key": "…", "event_action": "trigger", "dedup_key": "cc3958f33154f969", "client": "hostbus",
//!  "payload": {"summary": "…", "source": "home.web1", "severity": "critical", "timestamp": "…",
//!              "component": "/data", "class": "disk-full", "group": "rule disk-full",
//!              "custom_details": {…}}}
//! ```
//! 202 is success. Format and limits: <https://developer.pagerduty.com/docs/events-api-v2/trigger-events/>
//! (a summary of 1,024 characters) and <https://developer.pagerduty.com/docs/events-api-v2/rate-limits/>
//! (120 events a minute and integration at the least).
//!
//! Codes: <https://developer.pagerduty.com/docs/events-api-v2/overview/>. A 400 that names the routing key, 403
//! and 404 are the channel's fault, any other 400 the message's; 429 and 5xx pass. That the errors speak of
//! `'routing_key'`, and that an unknown key gets the plain text `Invalid routing key`, was seen in several
//! clients. 403 and 404 were not checked against the document.

use std::path::PathBuf;

use hostbus_daemon::secret::Secret;
use hostbus_wire::alert::{AlertSeverity, AlertState};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use super::address::{self, Plain};
use super::{
    Answer, ChannelError, Http, Limits, Measure, Message, Opening, Pace, Request, Service, Verdict,
};
use crate::notice::{Line, Notice};
use crate::template::{Markup, Templates, message_key};

/// The most of a summary, in characters.
const SUMMARY_CHARS: usize = 1024;
/// The most of a text, in bytes; an event may have 512 KiB.
const TEXT_BYTES: usize = 64 * 1024;

/// A PagerDuty channel.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PagerDutyConfig {
    /// A file that holds the integration key.
    pub routing_key_file: Option<PathBuf>,
    /// The environment variable that holds it.
    pub routing_key_env: Option<String>,
    /// Where PagerDuty takes events; in Europe `https://events.eu.pagerduty.com`.
    pub server: String,
    /// What an incident links to.
    pub client_url: Option<String>,
}

impl Default for PagerDutyConfig {
    fn default() -> Self {
        Self {
            routing_key_file: None,
            routing_key_env: None,
            server: "https://events.pagerduty.com".to_owned(),
            client_url: None,
        }
    }
}

/// An open PagerDuty channel.
pub struct PagerDuty {
    url: Secret,
    routing_key: Secret,
    client_url: Option<String>,
    templates: Templates,
}

impl PagerDuty {
    /// Opens it.
    ///
    /// # Errors
    /// A setting is wrong or the key can't be had.
    pub fn open(config: &PagerDutyConfig, opening: &Opening<'_>) -> Result<Self, ChannelError> {
        let server = address::parse(&config.server, Plain::Loopback).map_err(|expected| {
            opening.value("server", format_args!("`{}`", config.server), expected)
        })?;
        if let Some(url) = &config.client_url {
            address::parse(url, Plain::Anywhere).map_err(|expected| {
                opening.value("client_url", format_args!("`{url}`"), expected)
            })?;
        }
        let (file, env) = (
            config.routing_key_file.as_ref(),
            config.routing_key_env.as_ref(),
        );
        let expected = "the integration key of a service (integration `Events API v2`)";
        let routing_key = opening.needed_secret("routing_key", file, env, expected)?;
        Ok(Self {
            url: Secret::new(format!(
                "{}/v2/enqueue",
                server.as_str().trim_end_matches('/')
            )),
            routing_key,
            client_url: config.client_url.clone(),
            templates: opening.templates(Markup::Plain)?,
        })
    }
}

impl Service for PagerDuty {
    fn kind(&self) -> &'static str {
        "pagerduty"
    }

    fn limits(&self) -> Limits {
        Limits {
            title: Measure::Characters(SUMMARY_CHARS),
            text: Measure::Bytes(TEXT_BYTES),
            markup: Markup::Plain,
            messages: usize::MAX,
        }
    }

    fn pace(&self) -> Pace {
        Pace::new(0, 120, 60)
    }

    /// One for each alert; a notice without alerts, of a test, is one.
    fn messages(&self, notice: &Notice, instance: &str) -> Vec<Message> {
        let one = |(at, lines): (usize, Vec<Line>)| {
            let notice = Notice {
                id: notice.id,
                channel: notice.channel.clone(),
                reason: notice.reason,
                group: notice.group.clone(),
                formed_ms: notice.formed_ms,
                lines,
                still_firing: notice.still_firing,
            };
            Message {
                key: message_key(instance, notice.id, at),
                title: self.templates.title(&notice),
                text: self.templates.text(&notice),
                notice,
                omitted: 0,
            }
        };
        if notice.lines.is_empty() {
            return vec![one((0, Vec::new()))];
        }
        let lines = notice.lines.iter().cloned().map(|line| vec![line]);
        lines.enumerate().map(one).collect()
    }
}

impl Http for PagerDuty {
    fn request(&self, message: &Message, _now_ms: u64) -> Request {
        let mut event = match message.notice.lines.first() {
            Some(line) => event(line, message),
            None => json!({
                "event_action": "trigger",
                "dedup_key": format!("hostbus-{}", message.key),
                "payload": {
                    "summary": cut(&message.title, SUMMARY_CHARS),
                    "source": "hostbus",
                    "severity": "info",
                },
            }),
        };
        event["routing_key"] = json!(self.routing_key.reveal());
        event["client"] = json!("hostbus");
        if let Some(url) = &self.client_url {
            event["client_url"] = json!(url);
        }
        Request::post_json(self.url.clone(), &event)
    }

    fn judge(&self, answer: &Answer) -> Verdict {
        let answer = answer.hiding(&[self.routing_key.reveal()]);
        match answer.status {
            202 => Verdict::Delivered,
            // Something between us and PagerDuty answered.
            200..=399 => answer.later(),
            400 if names_the_key(&answer) => {
                answer.broken("check `routing_key_file`: it wants the key of an `Events API v2`")
            }
            400 => answer.refused("it does not take this event"),
            _ => answer.by_status("check `server` and `routing_key_file`"),
        }
    }
}

/// What is wrong with an event.
#[derive(Deserialize)]
struct Invalid {
    #[serde(default)]
    message: String,
    #[serde(default)]
    errors: Vec<String>,
}

/// Whether it is the integration key.
fn names_the_key(answer: &Answer) -> bool {
    let named = |text: &str| {
        let text = text.to_lowercase();
        text.contains("routing_key") || text.contains("routing key")
    };
    match answer.json::<Invalid>() {
        Some(Invalid { message, errors }) => {
            named(&message) || errors.iter().any(|error| named(error))
        }
        None => named(&String::from_utf8_lossy(&answer.body)),
    }
}

/// The event that tells of one alert.
fn event(line: &Line, message: &Message) -> Value {
    let alert = &line.alert;
    let dedup_key = line.key.fingerprint();
    if alert.state == AlertState::Resolved {
        return json!({"event_action": "resolve", "dedup_key": dedup_key});
    }
    let severity = match alert.severity {
        AlertSeverity::Info => "info",
        AlertSeverity::Warning => "warning",
        AlertSeverity::Critical => "critical",
    };
    let mut details = json!({
        "alert": line.key.to_string(),
        "text": message.text,
        "labels": alert.labels,
    });
    if let Some(value) = alert.value {
        details["value"] = json!(value);
    }
    if let Some(threshold) = alert.threshold {
        details["threshold"] = json!(threshold);
    }
    let mut payload = json!({
        "summary": cut(&format!("{}: {}", line.key, alert.summary), SUMMARY_CHARS),
        "source": line.key.node.to_string(),
        "severity": severity,
        "class": line.key.rule,
        "group": message.notice.group,
        "custom_details": details,
    });
    if let Some(instance) = &line.key.instance {
        payload["component"] = json!(instance);
    }
    let since = i64::try_from(line.firing_since).ok();
    if let Some(since) = since.and_then(|ms| Timestamp::from_millisecond(ms).ok()) {
        payload["timestamp"] = json!(since.to_string());
    }
    json!({"event_action": "trigger", "dedup_key": dedup_key, "payload": payload})
}

fn cut(text: &str, chars: usize) -> String {
    text.chars().take(chars).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channels::examples::{self, Expected::*};

    fn pagerduty() -> PagerDuty {
        let folder = tempfile::tempdir().unwrap();
        let key = examples::secret(&folder, "key", "hunter2");
        let text = format!(
            "routing_key_file = \"{key}\"\nclient_url = \"https://example.com/x\"\n\
             server = \"https://events.eu.pagerduty.com\""
        );
        examples::open(text.parse().unwrap(), PagerDuty::open).unwrap()
    }

    #[test]
    fn an_alert_opens_an_incident_under_its_fingerprint_and_closes_it() {
        let message = examples::message("main-1");
        let request = pagerduty().request(&message, 0);
        assert_eq!(
            request.url.reveal(),
            "https://events.eu.pagerduty.com/v2/enqueue"
        );
        let fingerprint = message.notice.lines[0].key.fingerprint();
        assert_eq!(
            examples::json(&request),
            json!({
                "routing_key": "hunter2", "client": "hostbus", "client_url": "https://example.com/x",
                "event_action": "trigger", "dedup_key": fingerprint,
                "payload": {
                    "summary": "home.web1/disk-full//data: /data is 97 % full",
                    "source": "home.web1", "severity": "critical", "class": "disk-full",
                    "component": "/data", "group": "rule disk-full",
                    "timestamp": "2025-11-20T09:13:20Z",
                    "custom_details": {
                        "alert": "home.web1/disk-full//data", "text": "/data is 97 % full",
                        "labels": {"runbook": "clean up"}, "value": 97.0, "threshold": 90.0,
                    },
                },
            })
        );
        let body = examples::json(&pagerduty().request(&examples::recovery("main-2"), 0));
        assert_eq!(
            body,
            json!({
                "routing_key": "hunter2", "client": "hostbus", "client_url": "https://example.com/x",
                "event_action": "resolve", "dedup_key": fingerprint,
            })
        );
    }

    #[test]
    fn every_alert_of_a_storm_is_an_event_of_its_own() {
        let storm = examples::storm("main-1", 300);
        let messages = pagerduty().messages(&storm.notice, "main");
        assert_eq!(messages.len(), 300);
        let keys: std::collections::BTreeSet<_> = messages.iter().map(|m| &m.key).collect();
        assert_eq!(keys.len(), 300);
        assert!(
            messages
                .iter()
                .all(|message| message.notice.lines.len() == 1)
        );
        let mut test = storm.notice;
        test.lines.clear();
        let messages = pagerduty().messages(&test, "main");
        assert_eq!(messages.len(), 1);
        let body = examples::json(&pagerduty().request(&messages[0], 0));
        assert_eq!(body["payload"]["severity"], "info");
    }

    #[test]
    fn a_long_summary_is_cut() {
        let mut message = examples::message("main-1");
        message.notice.lines[0].alert.summary = "ü".repeat(2000);
        let body = examples::json(&pagerduty().request(&message, 0));
        let summary = body["payload"]["summary"].as_str().unwrap();
        assert_eq!(summary.chars().count(), SUMMARY_CHARS);
    }

    #[test]
    fn success_is_what_pagerduty_calls_success() {
        let taken = "{\"status\":\"success\",\"message\":\"Event processed\",\"dedup_key\":\"x\"}";
        let other = "{\"status\":\"invalid event\",\"errors\":[\"'payload.summary' is missing\"]}";
        let invalid = "{\"status\":\"invalid event\",\"message\":\"Event object is invalid\",\
                       \"errors\":[\"'routing_key' is invalid\"]}";
        let length = "{\"status\":\"invalid event\",\"message\":\"Event object is invalid\",\
                      \"errors\":[\"Length of 'routing_key' is incorrect (should be 32 characters)\"]}";
        examples::judges(
            &pagerduty(),
            &[
                (202, "", taken, Delivered, ""),
                (200, "", "<html>", Retry, ""),
                (400, "", invalid, Broken, "routing_key_file"),
                (400, "", length, Broken, "routing_key_file"),
                (400, "", "Invalid routing key", Broken, "routing_key_file"),
                (400, "", "<html>bad request", Refused, "event"),
                (400, "", other, Refused, "event"),
                (403, "", "", Broken, "routing_key_file"),
                (
                    429,
                    "",
                    "{\"status\":\"throttle exceeded\"}",
                    Retry,
                    "throttle",
                ),
                (500, "", "", Retry, "500"),
            ],
        );
    }

    #[test]
    fn without_a_key_it_is_not_opened() {
        let opened = examples::open("".parse().unwrap(), PagerDuty::open);
        let error = opened.map(drop).unwrap_err();
        assert!(
            error.contains("routing_key_file") && error.contains("Events API v2"),
            "{error}"
        );
    }
}
