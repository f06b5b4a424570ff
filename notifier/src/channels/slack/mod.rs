//! Slack: an incoming webhook, or a bot that posts into a channel.
//!
//! ```toml
//! [notifier.channels.team]
//! type = "slack"
//! url_file = "/etc/hostbus/slack-url"        # https://hooks.slack.com/services/…
//! # or, for a bot with the right `chat:write` that was invited to the channel:
//! token_file = "/etc/hostbus/slack-token"    # xoxb-…
//! channel = "#alerts"
//! ```
//! ```text
//! {"text": "*title*", "attachments": [{"color": "#c62828", "fallback": "title",
//!  "blocks": [{"type": "section", "text": {"type": "mrkdwn", "text": "at most 3000 characters"}}]}]}
//! ```
//! A webhook answers `ok` or a word such as `no_service`; the bot's method always answers 200, and says
//! `{"ok": false, "error": "…"}` when it failed.
//!
//! Limits: <https://api.slack.com/reference/block-kit/blocks> (3,000 characters a section, 50 blocks) and
//! <https://api.slack.com/apis/rate-limits> (one message a second and channel). Words of errors:
//! <https://api.slack.com/messaging/webhooks#handling_errors> and
//! <https://api.slack.com/methods/chat.postMessage#errors>. Those that name a fault of the text are the
//! message's, all others the channel's. Not on these pages, but seen in several clients: `user_not_found`,
//! `no_service_id`, `invalid_attachments`, `msg_blocks_too_long`. Not checked against them: `team_disabled`,
//! `attachment_payload_limit_exceeded`, and with which status the `no_service…` come.

use std::path::PathBuf;
use std::time::Duration;

use hostbus_daemon::secret::Secret;
use reqwest::Url;
use serde::Deserialize;
use serde_json::{Value, json};

use super::address::{self, Plain};
use super::colour::Colour;
use super::{
    Answer, ChannelError, Http, Limits, Measure, Message, Opening, Pace, Request, Service, Verdict,
};
use crate::notice::Notice;
use crate::template::{Markup, Templates};

/// The most of one section, in characters.
const SECTION_CHARS: usize = 3000;
/// The most of a title, in characters: more would be shown folded.
const TITLE_CHARS: usize = 250;
/// The most of a text, in characters. Two sections that follow each other hold more than one can, so that
/// this makes at most 21 of the 50 blocks that a message may have.
const TEXT_CHARS: usize = 30_000;

/// A Slack channel.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SlackConfig {
    /// The webhook's address, which is a secret.
    pub url: Option<Secret>,
    /// A file that holds it.
    pub url_file: Option<PathBuf>,
    /// The environment variable that holds it.
    pub url_env: Option<String>,
    /// A file that holds the bot's token.
    pub token_file: Option<PathBuf>,
    /// The environment variable that holds it.
    pub token_env: Option<String>,
    /// Where the bot posts: a channel's id or `#name`.
    pub channel: Option<String>,
    /// Where Slack's methods are.
    pub api_url: String,
}

impl Default for SlackConfig {
    fn default() -> Self {
        Self {
            url: None,
            url_file: None,
            url_env: None,
            token_file: None,
            token_env: None,
            channel: None,
            api_url: "https://slack.com/api".to_owned(),
        }
    }
}

/// An open Slack channel.
pub struct Slack {
    way: Way,
    templates: Templates,
    messages: usize,
}

enum Way {
    Webhook {
        url: Url,
    },
    Bot {
        url: Secret,
        token: Secret,
        channel: String,
    },
}

impl Slack {
    /// Opens it.
    ///
    /// # Errors
    /// A setting is wrong or a secret can't be had.
    pub fn open(config: &SlackConfig, opening: &Opening<'_>) -> Result<Self, ChannelError> {
        let (file, env) = (config.token_file.as_ref(), config.token_env.as_ref());
        let token = opening.secret("token", file, env)?;
        let webhook = config.url.is_some() || config.url_file.is_some() || config.url_env.is_some();
        let way = match (token, &config.channel) {
            (Some(_), _) if webhook => {
                let expected = "either a webhook's address or a bot's token";
                return Err(opening.value("token_file", "a token beside a webhook", expected));
            }
            (Some(token), Some(channel)) if is_channel(channel) => {
                let api = address::parse(&config.api_url, Plain::Loopback)
                    .map_err(|expected| opening.value("api_url", &config.api_url, expected))?;
                Way::Bot {
                    url: Secret::new(format!(
                        "{}/chat.postMessage",
                        api.as_str().trim_end_matches('/')
                    )),
                    token,
                    channel: channel.clone(),
                }
            }
            (Some(_), channel) => {
                let found = channel.as_deref().unwrap_or("nothing");
                let expected = "the channel's id (`C024BE91L`) or name (`#alerts`)";
                return Err(opening.value("channel", format_args!("`{found}`"), expected));
            }
            (None, Some(channel)) => {
                let expected =
                    "none beside a webhook, which has its channel; a bot needs `token_file`";
                return Err(opening.value("channel", format_args!("`{channel}`"), expected));
            }
            (None, None) => {
                let url = opening.url(
                    config.url.as_ref(),
                    config.url_file.as_ref(),
                    config.url_env.as_ref(),
                    Plain::Loopback,
                    "the address of an incoming webhook, `https://hooks.slack.com/services/…`, or \
                     `token_file` and `channel` for a bot",
                )?;
                Way::Webhook { url }
            }
        };
        Ok(Self {
            way,
            templates: opening.templates(Markup::Slack)?,
            messages: opening.messages,
        })
    }
}

fn is_channel(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 80
        && !text.contains(|c: char| c.is_whitespace() || c.is_control())
}

impl Service for Slack {
    fn kind(&self) -> &'static str {
        "slack"
    }

    fn limits(&self) -> Limits {
        Limits {
            title: Measure::Characters(TITLE_CHARS),
            text: Measure::Characters(TEXT_CHARS),
            markup: Markup::Slack,
            messages: self.messages,
        }
    }

    fn pace(&self) -> Pace {
        Pace::new(1000, usize::MAX, 0)
    }

    fn messages(&self, notice: &Notice, instance: &str) -> Vec<Message> {
        self.templates.messages(notice, instance, &self.limits())
    }
}

impl Http for Slack {
    fn request(&self, message: &Message, _now_ms: u64) -> Request {
        let title = Markup::Slack.escape(&message.title);
        let blocks: Vec<Value> = sections(&message.text)
            .into_iter()
            .map(|text| json!({"type": "section", "text": {"type": "mrkdwn", "text": text}}))
            .collect();
        let mut body = json!({
            "text": format!("*{title}*"),
            "attachments": [{
                "color": Colour::of(&message.notice).hex(),
                "fallback": title,
                "blocks": blocks,
            }],
        });
        match &self.way {
            Way::Webhook { url } => Request::post_json(Secret::new(url.clone()), &body),
            Way::Bot {
                url,
                token,
                channel,
            } => {
                body["channel"] = json!(channel);
                body["unfurl_links"] = json!(false);
                let mut request = Request::post_json(url.clone(), &body);
                let bearer = Secret::new(format!("Bearer {}", token.reveal()));
                request.headers.push(("authorization".to_owned(), bearer));
                request
            }
        }
    }

    fn judge(&self, answer: &Answer) -> Verdict {
        let answer = match &self.way {
            Way::Webhook { url } => answer.hiding(&address::secrets(url)),
            Way::Bot { token, .. } => answer.hiding(&[token.reveal()]),
        };
        if matches!(answer.status, 408 | 425 | 429 | 500..=599) {
            return answer.later();
        }
        match &self.way {
            Way::Webhook { .. } => webhook_verdict(&answer),
            Way::Bot { .. } => bot_verdict(&answer),
        }
    }
}

fn webhook_verdict(answer: &Answer) -> Verdict {
    let body = String::from_utf8_lossy(&answer.body);
    match (answer.status, body.trim()) {
        (200, "ok") => Verdict::Delivered,
        // Something between us and Slack answered.
        (200..=399, _) => answer.later(),
        (_, word) if is_about_the_message(word) => answer.refused(mending(word)),
        (_, word) if is_about_the_channel(word) => answer.broken(mending(word)),
        // A word that is not known here, or that of something between us and Slack.
        (_, word) => answer.by_status(mending(word)),
    }
}

/// What the method `chat.postMessage` answers.
#[derive(Deserialize)]
struct Posted {
    ok: bool,
    #[serde(default)]
    error: String,
}

fn bot_verdict(answer: &Answer) -> Verdict {
    let Some(posted) = answer.json::<Posted>() else {
        return match answer.status {
            200..=399 => answer.later(),
            _ => answer.by_status("check `api_url`"),
        };
    };
    if posted.ok {
        return Verdict::Delivered;
    }
    let error = super::answer::excerpt(&posted.error);
    match error.as_str() {
        "ratelimited" | "rate_limited" | "message_limit_exceeded" => Verdict::Retry {
            reason: format!("Slack says `{error}`"),
            after: answer.retry_after().or(Some(Duration::from_secs(30))),
        },
        "internal_error"
        | "fatal_error"
        | "service_unavailable"
        | "request_timeout"
        | "team_added_to_org"
        | "org_login_required" => Verdict::Retry {
            reason: format!("Slack says `{error}`"),
            after: answer.retry_after(),
        },
        word => {
            let reason = format!("Slack says `{word}`; {}", mending(word));
            if is_about_the_message(word) {
                Verdict::Refused { reason }
            } else {
                Verdict::Broken { reason }
            }
        }
    }
}

/// Whether Slack calls a fault of the message so. All others are of the token, the app or the channel.
fn is_about_the_message(word: &str) -> bool {
    matches!(
        word,
        "invalid_payload"
            | "invalid_blocks"
            | "invalid_blocks_format"
            | "invalid_attachments"
            | "invalid_arguments"
            | "invalid_charset"
            | "invalid_form_data"
            | "invalid_json"
            | "json_not_object"
            | "markdown_text_conflict"
            | "msg_blocks_too_long"
            | "msg_too_long"
            | "no_text"
            | "too_many_attachments"
            | "attachment_payload_limit_exceeded"
    )
}

/// Whether it is a word of a webhook that is gone or may not post, whatever status it comes with.
fn is_about_the_channel(word: &str) -> bool {
    matches!(
        word,
        "action_prohibited"
            | "channel_is_archived"
            | "channel_not_found"
            | "invalid_token"
            | "no_active_hooks"
            | "no_service"
            | "no_service_id"
            | "no_team"
            | "posting_to_general_channel_denied"
            | "team_disabled"
            | "user_not_found"
    )
}

/// How to mend what Slack calls `word`.
fn mending(word: &str) -> &'static str {
    match word {
        "no_service" | "no_service_id" | "no_active_hooks" | "no_team" | "invalid_token" => {
            "the webhook is gone or disabled: make a new one and put its address into `url_file`"
        }
        "channel_is_archived" | "is_archived" => "the channel is archived: name another one",
        "channel_not_found" => "there is no such channel, or the bot was not invited to it",
        "not_in_channel" => "invite the bot to the channel: `/invite @bot`",
        "action_prohibited" | "restricted_action" | "posting_to_general_channel_denied" => {
            "the workspace's admins do not allow this; name another channel or ask them"
        }
        "not_authed" | "invalid_auth" | "account_inactive" | "token_revoked" | "token_expired" => {
            "the token is not valid any more: put a new one into `token_file`"
        }
        "accesslimited" => "let this host's public address use Slack's methods, or ask the admins",
        "missing_scope" | "no_permission" => {
            "give the bot the right `chat:write` and install it again"
        }
        word if is_about_the_message(word) => {
            "it does not take this text; a template of your own may be to blame"
        }
        _ => "check the channel's settings",
    }
}

/// The text in parts that a section holds, cut at line ends where there are some.
fn sections(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut room = SECTION_CHARS;
    for line in text.split_inclusive('\n') {
        let length = line.chars().count();
        if length > room && length <= SECTION_CHARS {
            parts.push(String::new());
            room = SECTION_CHARS;
        }
        for character in line.chars() {
            if room == 0 {
                parts.push(String::new());
                room = SECTION_CHARS;
            }
            let last = parts.last_mut().expect("there is at least one");
            last.push(character);
            room -= 1;
        }
    }
    parts.retain(|part| !part.trim().is_empty());
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channels::examples::{self, Expected::*};

    const HOOK: &str = "url = \"https://hooks.slack.com/services/T0/B0/hunter2\"";

    fn opened(text: &str) -> Result<Slack, String> {
        examples::open(text.parse().unwrap(), Slack::open)
    }

    fn bot() -> Slack {
        let folder = tempfile::tempdir().unwrap();
        let token = examples::secret(&folder, "token", "xoxb-hunter2");
        opened(&format!("token_file = \"{token}\"\nchannel = \"#alerts\"")).unwrap()
    }

    #[test]
    fn a_webhook_gets_a_title_and_sections_in_the_colour_of_the_worst() {
        let mut message = examples::message("main-1");
        message.title = "<!channel> & co".to_owned();
        let request = opened(HOOK).unwrap().request(&message, 0);
        assert_eq!(
            request.url.reveal(),
            "https://hooks.slack.com/services/T0/B0/hunter2"
        );
        assert_eq!(
            examples::json(&request),
            json!({
                "text": "*&lt;!channel&gt; &amp; co*",
                "attachments": [{
                    "color": "#c62828",
                    "fallback": "&lt;!channel&gt; &amp; co",
                    "blocks": [{
                        "type": "section",
                        "text": {"type": "mrkdwn", "text": "/data is 97 % full"},
                    }],
                }],
            })
        );
    }

    #[test]
    fn a_bot_shows_its_token_and_names_the_channel() {
        let request = bot().request(&examples::message("main-1"), 0);
        assert_eq!(
            request.url.reveal(),
            "https://slack.com/api/chat.postMessage"
        );
        let authorization = examples::header(&request, "authorization");
        assert_eq!(authorization, Some("Bearer xoxb-hunter2"));
        let body = examples::json(&request);
        assert_eq!(body["channel"], "#alerts");
        assert!(!body.to_string().contains("hunter2"));
    }

    #[test]
    fn a_section_ends_at_a_line_and_never_holds_too_much() {
        let line = format!("{}\n", "ü".repeat(1400));
        let check = |text: &str, lengths: &[usize]| {
            let sections = sections(text);
            let found: Vec<_> = sections.iter().map(|part| part.chars().count()).collect();
            assert_eq!(found, lengths);
            assert_eq!(sections.concat(), text);
        };
        check("", &[]);
        check(&line.repeat(5), &[2802, 2802, 1401]);
        check(&"x".repeat(7000), &[3000, 3000, 1000]);
        let worst = format!("{}\n{}\n", "x".repeat(2999), "x".repeat(99)).repeat(10);
        assert!(sections(&worst[..30_000]).len() <= 21);
    }

    #[test]
    fn success_is_what_slack_calls_success() {
        let hook = opened(HOOK).unwrap();
        examples::judges(
            &hook,
            &[
                (200, "", "ok", Delivered, ""),
                (200, "", "<html>please log in", Retry, "log in"),
                (400, "", "invalid_payload", Refused, "template"),
                (400, "", "no_active_hooks", Broken, "make a new one"),
                (400, "", "no_service", Broken, "make a new one"),
                (400, "", "invalid_token", Broken, "make a new one"),
                (400, "", "channel_not_found", Broken, "no such channel"),
                (400, "", "channel_is_archived", Broken, "archived"),
                (400, "", "action_prohibited", Broken, "admins"),
                (
                    400,
                    "",
                    "posting_to_general_channel_denied",
                    Broken,
                    "admins",
                ),
                (400, "", "something_new", Refused, "something_new"),
                (403, "", "action_prohibited", Broken, "admins"),
                (404, "", "no_service", Broken, "make a new one"),
                (410, "", "channel_is_archived", Broken, "archived"),
                (429, "30", "rate_limited", RetryAfterMs(30_000), "429"),
                (500, "", "rollup_error", Retry, "rollup_error"),
                (503, "", "", Retry, "503"),
            ],
        );
        let failed = |error: &str| format!("{{\"ok\": false, \"error\": \"{error}\"}}");
        examples::judges(
            &bot(),
            &[
                (200, "", "{\"ok\": true, \"ts\": \"1.2\"}", Delivered, ""),
                (200, "", &failed("not_in_channel"), Broken, "/invite"),
                (200, "", &failed("invalid_auth"), Broken, "token_file"),
                (200, "", &failed("missing_scope"), Broken, "chat:write"),
                (200, "", &failed("something_new"), Broken, "something_new"),
                (200, "", &failed("accesslimited"), Broken, "public address"),
                (200, "", &failed("org_login_required"), Retry, "org_login"),
                (200, "", &failed("msg_too_long"), Refused, "template"),
                (200, "", &failed("internal_error"), Retry, "internal_error"),
                (200, "7", &failed("ratelimited"), RetryAfterMs(7000), ""),
                (200, "", &failed("ratelimited"), RetryAfterMs(30_000), ""),
                (200, "", "<html>", Retry, ""),
                (404, "", "", Broken, "api_url"),
                (429, "5", "{\"ok\": false}", RetryAfterMs(5000), ""),
            ],
        );
    }

    #[test]
    fn a_status_without_a_known_word_says_whose_fault_it_is() {
        let hook = opened(HOOK).unwrap();
        examples::judges(
            &hook,
            &[
                (413, "", "<html>Request Entity Too Large", Refused, "413"),
                (413, "", "", Refused, "413"),
                (409, "", "something_new", Refused, "something_new"),
                (422, "", "", Refused, "422"),
                (401, "", "", Broken, "401"),
                (403, "", "something_new", Broken, "something_new"),
                (404, "", "<html>", Broken, "404"),
                (413, "", "no_service", Broken, "make a new one"),
                (413, "", "invalid_payload", Refused, "template"),
            ],
        );
    }

    #[test]
    fn a_wrong_setting_is_named_and_no_secret_is() {
        let check = |text: &str, words: &[&str]| {
            let error = opened(text).map(drop).unwrap_err();
            for word in words {
                assert!(error.contains(word), "{text}: {word} in {error}");
            }
            assert!(!error.contains("hunter2"), "{error}");
        };
        check("", &["url_file", "token_file"]);
        check(
            "url = \"http://hooks.slack.com/hunter2\"",
            &["x.url", "https"],
        );
        check("channel = \"#a\"", &["x.channel", "token_file"]);
        check("token_env = \"PATH\"", &["x.channel", "#alerts"]);
        check(
            &format!("{HOOK}\ntoken_env = \"PATH\""),
            &["x.token_file", "either"],
        );
        check(
            "token_env = \"PATH\"\nchannel = \"#a\"\napi_url = \"ftp://x\"",
            &["x.api_url"],
        );
    }
}
