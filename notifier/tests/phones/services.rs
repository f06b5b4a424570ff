//! Stand-ins of Slack, Discord, ntfy, Gotify, Pushover and PagerDuty.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::standin::{Rate, Reply, Seen, Service};

/// The secret that each of them knows; another one is answered as the service answers it.
pub(crate) const SECRET: &str = "s3cretS3cretS3cretS3cretS3cret32";

fn text(status: u16, body: &str) -> Reply {
    Reply {
        body: body.to_owned(),
        ..Reply::status(status)
    }
}

/// A text of at least one and at most `most` units, as `count` counts them.
fn fits(value: &Value, most: usize, count: fn(&str) -> usize) -> bool {
    let text = value.as_str();
    text.is_some_and(|text| (1..=most).contains(&count(text)))
}

fn chars(text: &str) -> usize {
    text.chars().count()
}

fn units(text: &str) -> usize {
    text.encode_utf16().count()
}

/// Slack's webhooks and its method `chat.postMessage`.
#[derive(Debug, Default)]
pub(crate) struct Slack;

impl Slack {
    fn fault(body: &Value) -> Option<&'static str> {
        let empty = Vec::new();
        let attachments = body["attachments"].as_array().unwrap_or(&empty);
        let blocks: Vec<&Value> = attachments
            .iter()
            .flat_map(|attachment| attachment["blocks"].as_array().unwrap_or(&empty))
            .collect();
        let good = |block: &&Value| {
            block["type"] == "section"
                && block["text"]["type"] == "mrkdwn"
                && fits(&block["text"]["text"], 3000, chars)
        };
        let whole = body.to_string();
        // What would call everybody or disguise a link.
        let hostile = ["<!", "<@", "<#", "<http"]
            .iter()
            .any(|sign| whole.contains(sign));
        if !fits(&body["text"], 40_000, chars) {
            Some("no_text")
        } else if blocks.len() > 50 || !blocks.iter().all(good) || hostile {
            Some("invalid_blocks")
        } else {
            None
        }
    }
}

impl Service for Slack {
    fn answer(&mut self, request: &Seen) -> Reply {
        let body = request.json().filter(|_| request.is_json());
        if request.path == "/api/chat.postMessage" {
            let no = |error: &str| Reply::json(200, &json!({"ok": false, "error": error}));
            let Some(body) = body else {
                return no("invalid_json");
            };
            let bearer = format!("Bearer {SECRET}");
            return match Self::fault(&body) {
                _ if request.header("authorization") != Some(&bearer) => no("invalid_auth"),
                _ if body["channel"] != "#alerts" => no("channel_not_found"),
                Some(fault) => no(fault),
                None => Reply::json(200, &json!({"ok": true, "channel": "C1", "ts": "1.2"})),
            };
        }
        if request.path != format!("/services/T0/B0/{SECRET}") {
            return text(404, "no_service");
        }
        match body.map(|body| Self::fault(&body)) {
            None => text(400, "invalid_payload"),
            Some(Some(fault)) => text(400, fault),
            Some(None) => text(200, "ok"),
        }
    }
}

/// A Discord webhook.
#[derive(Debug, Default)]
pub(crate) struct Discord {
    pub(crate) now_ms: u64,
    rate: Rate,
}

impl Service for Discord {
    fn answer(&mut self, request: &Seen) -> Reply {
        if request.path != format!("/api/webhooks/1/{SECRET}") {
            return Reply::json(404, &json!({"message": "Unknown Webhook", "code": 10015}));
        }
        if !self.rate.take(self.now_ms, 30) {
            let body = json!({
                "message": "You are being rate limited.", "retry_after": 0.529, "global": false,
            });
            return Reply::json(429, &body).with("retry-after", "1");
        }
        let body = request.json().unwrap_or_default();
        let empty = Vec::new();
        let embeds = body["embeds"].as_array().unwrap_or(&empty);
        let optional = |value: &Value, most| value.is_null() || fits(value, most, units);
        let good = |embed: &Value| {
            optional(&embed["title"], 256)
                && optional(&embed["description"], 4096)
                && embed["color"]
                    .as_u64()
                    .is_some_and(|colour| colour < 1 << 24)
        };
        let length = |value: &Value| value.as_str().map_or(0, units);
        let all = embeds.iter();
        let all: usize = all
            .map(|embed| length(&embed["title"]) + length(&embed["description"]))
            .sum();
        let mentions = body["allowed_mentions"] != json!({"parse": []});
        if !(1..=10).contains(&embeds.len()) || !embeds.iter().all(good) || all > 6000 || mentions {
            return Reply::json(400, &json!({"embeds": ["0"]}));
        }
        match request.query_value("wait") {
            Some("true") => Reply::json(200, &json!({"id": "1", "type": 0})),
            _ => Reply::status(204),
        }
    }
}

/// An ntfy server with a login.
#[derive(Debug, Default)]
pub(crate) struct Ntfy;

impl Service for Ntfy {
    fn answer(&mut self, request: &Seen) -> Reply {
        let no = |code: u32, error: &str| {
            let http = code / 100;
            let body = json!({"code": code, "http": http, "error": error});
            Reply::json(u16::try_from(http).unwrap(), &body)
        };
        let body = request.json().unwrap_or_default();
        let topic = body["topic"].as_str().unwrap_or_default();
        let bearer = format!("Bearer {SECRET}");
        let priority = body["priority"].as_u64().unwrap_or_default();
        if request.path != "/" || request.method != "POST" {
            no(40401, "page not found")
        } else if request.header("authorization") != Some(&bearer) {
            no(40101, "unauthorized")
        } else if topic != "alerts" {
            no(40009, "invalid request: topic invalid")
        } else if !fits(&body["message"], 4096, str::len) {
            no(41301, "attachment too large, or bandwidth limit reached")
        } else if !(1..=5).contains(&priority) || !body["tags"].is_array() {
            no(40007, "invalid priority parameter")
        } else {
            let body = json!({"id": "sPs71M8A2T", "event": "message", "topic": topic});
            Reply::json(200, &body)
        }
    }
}

/// A Gotify server.
#[derive(Debug, Default)]
pub(crate) struct Gotify;

impl Service for Gotify {
    fn answer(&mut self, request: &Seen) -> Reply {
        let no = |status: u16, error: &str, what: &str| {
            let body = json!({"error": error, "errorCode": status, "errorDescription": what});
            Reply::json(status, &body)
        };
        let body = request.json().unwrap_or_default();
        let kind = &body["extras"]["client::display"]["contentType"];
        if request.path != "/message" {
            no(404, "Not Found", "page not found")
        } else if request.header("x-gotify-key") != Some(SECRET) {
            let what =
                "you need to provide a valid access token or user credentials to access this api";
            no(401, "Unauthorized", what)
        } else if !fits(&body["message"], usize::MAX, str::len)
            || !body["priority"].is_u64()
            || kind != "text/markdown"
        {
            no(400, "Bad Request", "Field 'message' is required")
        } else {
            Reply::json(
                200,
                &json!({"id": 25, "appid": 5, "message": body["message"]}),
            )
        }
    }
}

/// Pushover.
#[derive(Debug, Default)]
pub(crate) struct Pushover;

impl Service for Pushover {
    fn answer(&mut self, request: &Seen) -> Reply {
        let answer = |error: &str| json!({"errors": [error], "status": 0, "request": "5042853c"});
        let no = |error: &str| Reply::json(400, &answer(error));
        let invalid = |field: &str, error: &str| {
            let mut body = answer(error);
            body[field] = json!("invalid");
            Reply::json(400, &body)
        };
        let body = String::from_utf8(request.body.clone()).unwrap();
        let url = reqwest::Url::parse(&format!("form:?{body}")).unwrap();
        let field = |name: &str| {
            let mut pairs = url.query_pairs();
            let found = pairs.find(|(key, _)| key == name);
            found
                .map(|(_, value)| Value::from(value.into_owned()))
                .unwrap_or_default()
        };
        let form = request.header("content-type") == Some("application/x-www-form-urlencoded");
        let priority = field("priority");
        let repeats = field("retry").is_string() && field("expire").is_string();
        if request.path != "/1/messages.json" || !form {
            no("not found")
        } else if field("token") != SECRET {
            invalid("token", "application token is invalid")
        } else if field("user") != SECRET {
            invalid("user", "user identifier is invalid")
        } else if !fits(&field("message"), 1024, chars) {
            no("message cannot be blank")
        } else if !fits(&field("title"), 250, chars) {
            no("title is too long")
        } else if !["-2", "-1", "0", "1", "2"]
            .iter()
            .any(|known| priority == *known)
            || (priority == "2") != repeats
        {
            no("priority is invalid")
        } else {
            Reply::json(200, &json!({"status": 1, "request": "647d2300"}))
        }
    }
}

/// A service of PagerDuty's.
#[derive(Debug, Default)]
pub(crate) struct PagerDuty {
    /// The keys of the incidents that are open.
    pub(crate) open: BTreeSet<String>,
}

impl Service for PagerDuty {
    fn answer(&mut self, request: &Seen) -> Reply {
        let no = |error: &str| {
            let message = "Event object is invalid";
            let body = json!({"status": "invalid event", "message": message, "errors": [error]});
            Reply::json(400, &body)
        };
        let body = request.json().unwrap_or_default();
        let payload = &body["payload"];
        if request.path != "/v2/enqueue" || !request.is_json() || request.body.len() > 512 * 1024 {
            return no("Event is no JSON or too large");
        }
        if body["routing_key"] != SECRET {
            return no("'routing_key' is invalid");
        }
        if !fits(&body["dedup_key"], 255, chars) {
            return no("'dedup_key' is missing or too long");
        }
        let key = body["dedup_key"].as_str().unwrap().to_owned();
        match body["event_action"].as_str() {
            Some("resolve") => {
                self.open.remove(&key);
            }
            Some("trigger") => {
                let severities = ["critical", "error", "warning", "info"];
                if !fits(&payload["summary"], 1024, chars) {
                    return no("'payload.summary' is missing or too long");
                }
                if !fits(&payload["source"], 255, chars) {
                    return no("'payload.source' is missing or blank");
                }
                if !severities.iter().any(|known| payload["severity"] == *known) {
                    return no("'payload.severity' is invalid");
                }
                self.open.insert(key.clone());
            }
            _ => return no("'event_action' is invalid"),
        }
        let body = json!({"status": "success", "message": "Event processed", "dedup_key": key});
        Reply::json(202, &body)
    }
}
