//! Gotify: an application on a server of one's own.
//!
//! ```toml
//! [notifier.channels.gotify]
//! type = "gotify"
//! server = "https://push.example.com"
//! token_file = "/etc/hostbus/gotify-token"   # the application's
//! ```
//! ```text
//! POST /message, X-Gotify-Key: …
//! {"title": "…", "message": "…", "priority": 8,
//!  "extras": {"client::display": {"contentType": "text/markdown"}}}
//! ```
//! Format: <https://gotify.net/docs/msgextras>. Gotify names no limits of size or pace; texts stay below what
//! a phone shows without trouble.
//!
//! Codes: the API's own description, <https://gotify.net/api-docs> (200, 400, 401, 403). 401 and 403 (the
//! token) and 404 (the address) are the channel's fault, 400 the message's, unless it asks for an `appid`: from
//! version 3.0.0 on that is what a client's token gets (source: Gotify's own code).

use std::path::PathBuf;

use hostbus_daemon::secret::Secret;
use hostbus_wire::alert::AlertSeverity;
use serde::Deserialize;
use serde_json::json;

use super::address::{self, Plain};
use super::colour::worst_firing;
use super::{
    Answer, ChannelError, Http, Limits, Measure, Message, Opening, Pace, Request, Service, Verdict,
};
use crate::notice::{Notice, Reason};
use crate::template::{Markup, Templates};

/// The most of a title, in characters.
const TITLE_CHARS: usize = 250;
/// The most of a text, in characters.
const TEXT_CHARS: usize = 10_000;

/// A Gotify channel.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GotifyConfig {
    /// The server.
    pub server: String,
    /// A file that holds the application's token.
    pub token_file: Option<PathBuf>,
    /// The environment variable that holds it.
    pub token_env: Option<String>,
    /// What a tap on the message opens.
    pub click_url: Option<String>,
}

/// An open Gotify channel.
pub struct Gotify {
    url: Secret,
    token: Secret,
    click_url: Option<String>,
    templates: Templates,
    messages: usize,
}

impl Gotify {
    /// Opens it.
    ///
    /// # Errors
    /// A setting is wrong or the token can't be had.
    pub fn open(config: &GotifyConfig, opening: &Opening<'_>) -> Result<Self, ChannelError> {
        let server = address::parse(&config.server, Plain::Loopback).map_err(|expected| {
            opening.value("server", format_args!("`{}`", config.server), expected)
        })?;
        if let Some(url) = &config.click_url {
            address::parse(url, Plain::Anywhere).map_err(|expected| {
                opening.value("click_url", format_args!("`{url}`"), expected)
            })?;
        }
        let (file, env) = (config.token_file.as_ref(), config.token_env.as_ref());
        let expected = "the token of an application, from Gotify's page `Apps`";
        let token = opening.needed_secret("token", file, env, expected)?;
        Ok(Self {
            url: Secret::new(format!("{}/message", server.as_str().trim_end_matches('/'))),
            token,
            click_url: config.click_url.clone(),
            templates: opening.templates(Markup::Markdown)?,
            messages: opening.messages,
        })
    }
}

impl Service for Gotify {
    fn kind(&self) -> &'static str {
        "gotify"
    }

    fn limits(&self) -> Limits {
        Limits {
            title: Measure::Characters(TITLE_CHARS),
            text: Measure::Characters(TEXT_CHARS),
            markup: Markup::Markdown,
            messages: self.messages,
        }
    }

    fn pace(&self) -> Pace {
        Pace::FREE
    }

    fn messages(&self, notice: &Notice, instance: &str) -> Vec<Message> {
        self.templates.messages(notice, instance, &self.limits())
    }
}

/// From 8 on a phone rings through, from 4 on it makes a sound.
fn priority(notice: &Notice) -> u8 {
    if notice.reason == Reason::Test {
        return 5;
    }
    match worst_firing(notice) {
        Some(AlertSeverity::Critical) => 8,
        Some(AlertSeverity::Warning) => 5,
        Some(AlertSeverity::Info) => 2,
        None => 4,
    }
}

impl Http for Gotify {
    fn request(&self, message: &Message, _now_ms: u64) -> Request {
        let mut extras = json!({"client::display": {"contentType": "text/markdown"}});
        if let Some(url) = &self.click_url {
            extras["client::notification"] = json!({"click": {"url": url}});
        }
        let body = json!({
            "title": message.title,
            // Gotify refuses an empty one.
            "message": if message.text.is_empty() { &message.title } else { &message.text },
            "priority": priority(&message.notice),
            "extras": extras,
        });
        let mut request = Request::post_json(self.url.clone(), &body);
        let key = ("x-gotify-key".to_owned(), self.token.clone());
        request.headers.push(key);
        request
    }

    fn judge(&self, answer: &Answer) -> Verdict {
        let answer = answer.hiding(&[self.token.reveal()]);
        match answer.status {
            // A page of something in between is no word of Gotify's.
            200..=299 if answer.json::<Stored>().is_none() => answer.later(),
            400 if answer.json::<Fault>().is_some_and(|fault| fault.is_of_the_token()) => {
                answer.broken("this is a client's token: take an application's for `token_file`")
            }
            401 | 403 => answer.by_status(
                "it does not know this token: take an application's token (not a client's) for `token_file`",
            ),
            _ => answer.by_status("check `server`"),
        }
    }
}

/// Why a message was not taken.
#[derive(Deserialize)]
struct Fault {
    #[serde(rename = "errorDescription")]
    description: String,
}

impl Fault {
    /// The token is of a client, which would have to name an application.
    fn is_of_the_token(&self) -> bool {
        self.description.contains("appid is required")
    }
}

/// A message as Gotify has stored it.
#[derive(Deserialize)]
struct Stored {
    #[serde(rename = "id")]
    _id: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channels::examples::{self, Expected::*};

    fn gotify() -> Gotify {
        let folder = tempfile::tempdir().unwrap();
        let token = examples::secret(&folder, "token", "hunter2");
        let text = format!(
            "server = \"https://push.example.com/gotify/\"\ntoken_file = \"{token}\"\n\
             click_url = \"https://example.com/x\""
        );
        examples::open(text.parse().unwrap(), Gotify::open).unwrap()
    }

    #[test]
    fn an_application_gets_markdown_and_a_priority() {
        let request = gotify().request(&examples::message("main-1"), 0);
        assert_eq!(
            request.url.reveal(),
            "https://push.example.com/gotify/message"
        );
        assert_eq!(examples::header(&request, "x-gotify-key"), Some("hunter2"));
        assert_eq!(
            examples::json(&request),
            json!({
                "title": "[critical] disk-full on web1", "message": "/data is 97 % full", "priority": 8,
                "extras": {
                    "client::display": {"contentType": "text/markdown"},
                    "client::notification": {"click": {"url": "https://example.com/x"}},
                },
            })
        );
        let body = examples::json(&gotify().request(&examples::recovery("main-2"), 0));
        assert_eq!(body["priority"], 4);
    }

    #[test]
    fn success_is_what_gotify_calls_success() {
        let unknown = "{\"error\":\"Unauthorized\",\"errorCode\":401,\"errorDescription\":\"you need to \
                       provide a valid access token or user credentials to access this api\"}";
        let client = "{\"error\":\"Bad Request\",\"errorCode\":400,\"errorDescription\":\"appid is \
                      required when not authenticating with an application token\"}";
        examples::judges(
            &gotify(),
            &[
                (200, "", "{\"id\":25,\"appid\":5}", Delivered, ""),
                (200, "", "<html>", Retry, ""),
                (400, "", "{\"error\":\"Bad Request\"}", Refused, "server"),
                (400, "", client, Broken, "token_file"),
                (401, "", unknown, Broken, "token_file"),
                (404, "", "", Broken, "server"),
                (
                    500,
                    "",
                    "{\"error\":\"Internal Server Error\"}",
                    Retry,
                    "500",
                ),
            ],
        );
    }

    #[test]
    fn a_wrong_setting_is_named_with_what_was_expected() {
        let check = |text: &str, words: &[&str]| {
            let opened = examples::open(text.parse().unwrap(), Gotify::open);
            let error = opened.map(drop).unwrap_err();
            for word in words {
                assert!(error.contains(word), "{text}: {word} in {error}");
            }
        };
        check("", &["x.server", "https"]);
        check("server = \"http://push.lan\"", &["x.server", "https"]);
        check("server = \"https://push.lan\"", &["token_file", "Apps"]);
    }
}
