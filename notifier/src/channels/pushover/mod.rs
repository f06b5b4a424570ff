//! Pushover: a user or group behind an application's token.
//!
//! ```toml
//! [notifier.channels.pushover]
//! type = "pushover"
//! token_file = "/etc/hostbus/pushover-token"     # the application's
//! user_file = "/etc/hostbus/pushover-user"       # the user's or group's key
//! emergency = true                               # critical alerts ring until somebody answers
//! ```
//! A form is sent, and `{"status": 1, …}` is success. What gets a 4xx must not be sent again as it is
//! (<https://pushover.net/api#friendly>); 429 means that the month's messages are used up. Limits:
//! <https://pushover.net/api#limits> (1,024 characters, a title of 250).
//!
//! An answer names the field that is at fault (<https://pushover.net/api#response>): `token`, `user` and
//! `device` are the channel's, as are 401, 403 and 404; other faults with a 4xx are the message's. A field is
//! `invalid`, a device `invalid for this user` (seen in several clients). 429 was not checked against the
//! document.

use std::path::PathBuf;
use std::time::Duration;

use hostbus_daemon::secret::Secret;
use hostbus_wire::alert::AlertSeverity;
use reqwest::Url;
use serde::Deserialize;

use super::address::{self, Plain};
use super::answer::excerpt;
use super::colour::worst_firing;
use super::{
    Answer, ChannelError, Http, Limits, Measure, Message, Opening, Pace, Request, Service, Verdict,
};
use crate::notice::{Notice, Reason};
use crate::template::{Markup, Templates};

/// The most of a title, in characters.
const TITLE_CHARS: usize = 250;
/// The most of a text, in characters.
const TEXT_CHARS: usize = 1024;
/// When it is tried again after the month's messages are used up: somebody may buy more.
const QUOTA_WAIT: Duration = Duration::from_mins(30);

/// A Pushover channel.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PushoverConfig {
    /// A file that holds the application's token.
    pub token_file: Option<PathBuf>,
    /// The environment variable that holds it.
    pub token_env: Option<String>,
    /// A file that holds the key of a user or group.
    pub user_file: Option<PathBuf>,
    /// The environment variable that holds it.
    pub user_env: Option<String>,
    /// The one device that is told; absent: all of the user's.
    pub device: Option<String>,
    /// Critical alerts are repeated until somebody answers, every minute for an hour.
    pub emergency: bool,
    /// Where Pushover is.
    pub server: String,
}

impl Default for PushoverConfig {
    fn default() -> Self {
        Self {
            token_file: None,
            token_env: None,
            user_file: None,
            user_env: None,
            device: None,
            emergency: false,
            server: "https://api.pushover.net".to_owned(),
        }
    }
}

/// An open Pushover channel.
pub struct Pushover {
    url: Secret,
    token: Secret,
    user: Secret,
    device: Option<String>,
    emergency: bool,
    templates: Templates,
    messages: usize,
}

impl Pushover {
    /// Opens it.
    ///
    /// # Errors
    /// A setting is wrong or a secret can't be had.
    pub fn open(config: &PushoverConfig, opening: &Opening<'_>) -> Result<Self, ChannelError> {
        let server = address::parse(&config.server, Plain::Loopback).map_err(|expected| {
            opening.value("server", format_args!("`{}`", config.server), expected)
        })?;
        let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if let Some(device) = &config.device
            && (!(1..=25).contains(&device.len()) || !device.chars().all(allowed))
        {
            let expected = "a device's name, 1 to 25 letters, digits, `-` and `_`";
            return Err(opening.value("device", format_args!("`{device}`"), expected));
        }
        let (file, env) = (config.token_file.as_ref(), config.token_env.as_ref());
        let expected = "the token of an application, from https://pushover.net/apps/build";
        let token = opening.needed_secret("token", file, env, expected)?;
        let (file, env) = (config.user_file.as_ref(), config.user_env.as_ref());
        let expected = "the key of a user or group, from https://pushover.net";
        let user = opening.needed_secret("user", file, env, expected)?;
        Ok(Self {
            url: Secret::new(format!(
                "{}/1/messages.json",
                server.as_str().trim_end_matches('/')
            )),
            token,
            user,
            device: config.device.clone(),
            emergency: config.emergency,
            templates: opening.templates(Markup::Plain)?,
            messages: opening.messages,
        })
    }

    fn priority(&self, notice: &Notice) -> i8 {
        if notice.reason == Reason::Test {
            return 0;
        }
        match worst_firing(notice) {
            Some(AlertSeverity::Critical) if self.emergency => 2,
            Some(AlertSeverity::Critical) => 1,
            Some(AlertSeverity::Warning) => 0,
            Some(AlertSeverity::Info) | None => -1,
        }
    }
}

impl Service for Pushover {
    fn kind(&self) -> &'static str {
        "pushover"
    }

    fn limits(&self) -> Limits {
        Limits {
            title: Measure::Characters(TITLE_CHARS),
            text: Measure::Characters(TEXT_CHARS),
            markup: Markup::Plain,
            messages: self.messages,
        }
    }

    /// Pushover asks for no more than two requests at once; ours go one after the other.
    fn pace(&self) -> Pace {
        Pace::new(500, usize::MAX, 0)
    }

    fn messages(&self, notice: &Notice, instance: &str) -> Vec<Message> {
        self.templates.messages(notice, instance, &self.limits())
    }
}

impl Http for Pushover {
    fn request(&self, message: &Message, _now_ms: u64) -> Request {
        let priority = self.priority(&message.notice);
        let text = if message.text.is_empty() {
            &message.title
        } else {
            &message.text
        };
        let timestamp = (message.notice.formed_ms / 1000).to_string();
        let priority_text = priority.to_string();
        let mut fields = vec![
            ("token", self.token.reveal()),
            ("user", self.user.reveal()),
            ("title", &message.title),
            ("message", text),
            ("priority", &priority_text),
            ("timestamp", &timestamp),
        ];
        if let Some(device) = &self.device {
            fields.push(("device", device));
        }
        if priority == 2 {
            // In seconds: how often, and for how long.
            fields.extend([("retry", "60"), ("expire", "3600")]);
        }
        let content_type = Secret::new("application/x-www-form-urlencoded");
        Request {
            method: "POST",
            url: self.url.clone(),
            headers: vec![("content-type".to_owned(), content_type)],
            body: form(&fields).into_bytes(),
        }
    }

    fn judge(&self, answer: &Answer) -> Verdict {
        let answer = answer.hiding(&[self.token.reveal(), self.user.reveal()]);
        let said = answer.json::<Said>();
        match (answer.status, said) {
            (429, _) => Verdict::Retry {
                reason: format!("{}; the month's messages are used up", answer.summary()),
                after: answer.retry_after().or(Some(QUOTA_WAIT)),
            },
            (200, Some(Said { status: 1, .. })) => Verdict::Delivered,
            (200..=499, Some(said)) => {
                let errors = excerpt(&said.errors.join(", "));
                let status = answer.status;
                let told = |hint: &str| format!("Pushover says `{errors}` (HTTP {status}); {hint}");
                if said.names_the_channel() {
                    let reason = told("check `token_file`, `user_file` and `device`");
                    return Verdict::Broken { reason };
                }
                match answer.by_status("") {
                    Verdict::Broken { .. } => Verdict::Broken {
                        reason: told("check `server`, `token_file` and `user_file`"),
                    },
                    _ => Verdict::Refused {
                        reason: told("it does not take this text; a template may be to blame"),
                    },
                }
            }
            // A page of something in between.
            (200..=399, None) => answer.later(),
            _ => answer.by_status("check `server`, `token_file` and `user_file`"),
        }
    }
}

/// What Pushover says of a message.
#[derive(Deserialize)]
struct Said {
    status: i64,
    #[serde(default)]
    errors: Vec<String>,
    /// `invalid…` where this field of the form was at fault; the next two likewise.
    token: Option<String>,
    user: Option<String>,
    device: Option<String>,
}

impl Said {
    /// Whether a field that comes from the settings is at fault.
    fn names_the_channel(&self) -> bool {
        let fields = [&self.token, &self.user, &self.device];
        let said = fields.into_iter().flatten();
        said.map(String::as_str)
            .any(|what| what.starts_with("invalid"))
    }
}

/// `application/x-www-form-urlencoded`.
fn form(fields: &[(&str, &str)]) -> String {
    let mut url = Url::parse("form:").expect("it is a well-formed address");
    url.query_pairs_mut().extend_pairs(fields);
    url.query().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channels::examples::{self, Expected::*};

    fn opened(text: &str) -> Pushover {
        let folder = tempfile::tempdir().unwrap();
        let (token, user) = (
            examples::secret(&folder, "token", "azG"),
            examples::secret(&folder, "user", "uQi"),
        );
        let text = format!("token_file = \"{token}\"\nuser_file = \"{user}\"\n{text}");
        examples::open(text.parse().unwrap(), Pushover::open).unwrap()
    }

    fn fields(pushover: &Pushover, message: &Message) -> Vec<(String, String)> {
        let request = pushover.request(message, 0);
        let body = String::from_utf8(request.body).unwrap();
        let url = Url::parse(&format!("form:?{body}")).unwrap();
        let pairs = url.query_pairs();
        pairs
            .map(|(key, value)| (key.into(), value.into()))
            .collect()
    }

    #[test]
    fn a_message_is_a_form() {
        let mut message = examples::message("main-1");
        message.text = "ü & = +\nnext".to_owned();
        let pushover = opened("device = \"phone\"");
        let request = pushover.request(&message, 0);
        assert_eq!(
            request.url.reveal(),
            "https://api.pushover.net/1/messages.json"
        );
        let expected = [
            ("token", "azG"),
            ("user", "uQi"),
            ("title", "[critical] disk-full on web1"),
            ("message", "ü & = +\nnext"),
            ("priority", "1"),
            ("timestamp", "1763630000"),
            ("device", "phone"),
        ];
        let expected = expected.map(|(key, value)| (key.to_owned(), value.to_owned()));
        assert_eq!(fields(&pushover, &message), expected);
    }

    #[test]
    fn only_critical_alerts_ring_until_somebody_answers_and_only_if_told_so() {
        let check = |text: &str, message: &Message, priority: &str, repeats: bool| {
            let fields = fields(&opened(text), message);
            let of = |key: &str| fields.iter().find(|(known, _)| known == key);
            assert_eq!(of("priority").unwrap().1, priority, "{text}");
            assert_eq!(
                (of("retry").is_some(), of("expire").is_some()),
                (repeats, repeats)
            );
        };
        let mut warning = examples::message("main-1");
        warning.notice.lines[0].alert.severity = AlertSeverity::Warning;
        check("", &examples::message("main-1"), "1", false);
        check("emergency = true", &examples::message("main-1"), "2", true);
        check("emergency = true", &warning, "0", false);
        check(
            "emergency = true",
            &examples::recovery("main-1"),
            "-1",
            false,
        );
    }

    #[test]
    fn success_is_what_pushover_calls_success() {
        let taken = "{\"status\":1,\"request\":\"647d2300\"}";
        let invalid = "{\"user\":\"invalid\",\"errors\":[\"user identifier is invalid\"],\"status\":0,\
                       \"request\":\"5042853c\"}";
        let device = "{\"device\":\"invalid for this user\",\"errors\":[\"device name is not valid for \
                      user\"],\"status\":0}";
        let blank = "{\"errors\":[\"message cannot be blank\"],\"status\":0}";
        let quota = "{\"errors\":[\"application is over its quota\"],\"status\":0}";
        examples::judges(
            &opened(""),
            &[
                (200, "", taken, Delivered, ""),
                (200, "", invalid, Broken, "user identifier is invalid"),
                (200, "", "<html>", Retry, ""),
                (400, "", invalid, Broken, "user_file"),
                (400, "", device, Broken, "`device`"),
                (400, "", blank, Refused, "template"),
                (404, "", blank, Broken, "server"),
                (413, "", "", Refused, "413"),
                (429, "", quota, RetryAfterMs(1_800_000), "used up"),
                (500, "", "{\"status\":0,\"errors\":[]}", Retry, "500"),
                (503, "", "", Retry, "503"),
            ],
        );
    }

    #[test]
    fn a_wrong_setting_is_named_with_what_was_expected() {
        let check = |text: &str, words: &[&str]| {
            let opened = examples::open(text.parse().unwrap(), Pushover::open);
            let error = opened.map(drop).unwrap_err();
            for word in words {
                assert!(error.contains(word), "{text}: {word} in {error}");
            }
        };
        check("", &["token_file", "pushover.net"]);
        check("token_env = \"PATH\"", &["user_file", "group"]);
        check("device = \"my phone\"", &["x.device", "my phone"]);
        check(
            "server = \"http://api.pushover.net\"",
            &["x.server", "https"],
        );
    }
}
