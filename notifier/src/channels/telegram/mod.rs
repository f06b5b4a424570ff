//! Telegram: a bot that writes to a person, a group, a topic of a group or a channel.
//!
//! ```text
//! POST https://api.telegram.org/bot<token>/sendMessage
//! {"chat_id": -1001234567890, "message_thread_id": 7, "text": "<b>…</b>", "parse_mode": "HTML",
//!  "disable_notification": false, "link_preview_options": {"is_disabled": true}}
//! ```
//! Sources: core.telegram.org/bots/api ("Making requests", "sendMessage", "HTML style",
//! "ResponseParameters") and core.telegram.org/bots/faq (the pace: one message a second to a chat, 20 a
//! minute to a group). A text has 4,096 characters at most once its entities are parsed. Success is
//! `"ok": true`. What is over is told without a sound.
//!
//! The document names no list of errors: 401, 403, 404 and those of a 400 that are about the chat are the
//! channel's fault, what else a 400 says is the message's. Source of a 400's words: the server's own code,
//! github.com/tdlib/telegram-bot-api (Client.cpp) and github.com/tdlib/td (DialogManager.cpp,
//! MessagesManager.cpp).

mod config;

use std::time::Duration;

use hostbus_daemon::secret::Secret;
use reqwest::Url;
use serde::Deserialize;
use serde_json::json;

use super::address::{self, Plain};
use super::answer::{Answer, excerpt};
use super::{
    ChannelError, Http, Limits, Measure, Message, Opening, Pace, Request, Service, Verdict,
};
use crate::notice::{Notice, Reason};
use crate::template::{Markup, Templates};

pub use config::{ChatId, TelegramConfig};

const TITLE_CHARACTERS: usize = 200;
/// The most of a message, less its title, which may count double as characters beyond the first plane.
const TEXT_UNITS: usize = 4096 - 2 * TITLE_CHARACTERS - 2;

/// A chat that a bot writes to.
pub struct Telegram {
    url: Secret,
    token: Secret,
    chat: ChatId,
    thread: Option<i64>,
    templates: Templates,
    messages: usize,
}

impl Telegram {
    /// Opens it.
    ///
    /// # Errors
    /// The token can't be had or is none, the chat is missing, or a template is broken.
    pub fn open(config: &TelegramConfig, opening: &Opening) -> Result<Self, ChannelError> {
        let token = opening.needed_secret(
            "token",
            config.token_file.as_ref(),
            config.token_env.as_ref(),
            "the token that @BotFather gives with a new bot",
        )?;
        let token_key = match config.token_file {
            Some(_) => "token_file",
            None => "token_env",
        };
        if !is_token(token.reveal()) {
            let expected = "a bot's token, `123456:ABC-def…`";
            return Err(opening.value(token_key, "another thing (not shown)", expected));
        }
        let Some(chat) = &config.chat_id else {
            let expected = "a chat's number, or `@name` of a public one";
            return Err(opening.value("chat_id", "nothing", expected));
        };
        if let Err(expected) = chat.check() {
            return Err(opening.value("chat_id", chat, expected));
        }
        Ok(Self {
            url: address_of(&config.base_url, &token)
                .map_err(|expected| opening.value("base_url", &config.base_url, expected))?,
            token,
            chat: chat.clone(),
            thread: config.message_thread_id,
            templates: opening.templates(Markup::Telegram)?,
            messages: opening.messages,
        })
    }
}

fn is_token(text: &str) -> bool {
    let part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    text.split_once(':').is_some_and(|(bot, rest)| {
        !bot.is_empty()
            && bot.bytes().all(|byte| byte.is_ascii_digit())
            && rest.len() >= 20
            && rest.chars().all(part)
    })
}

fn address_of(base: &str, token: &Secret) -> Result<Secret, &'static str> {
    let mut url: Url = address::parse(base, Plain::Loopback)?;
    let method = format!("bot{}", token.reveal());
    match url.path_segments_mut() {
        Ok(mut path) => {
            path.pop_if_empty().push(&method).push("sendMessage");
        }
        Err(()) => return Err("an address with `https`"),
    }
    Ok(Secret::new(String::from(url)))
}

impl Service for Telegram {
    fn kind(&self) -> &'static str {
        "telegram"
    }

    fn limits(&self) -> Limits {
        Limits {
            title: Measure::Characters(TITLE_CHARACTERS),
            text: Measure::Visible(TEXT_UNITS),
            markup: Markup::Telegram,
            messages: self.messages,
        }
    }

    fn pace(&self) -> Pace {
        Pace::new(1000, 20, 60)
    }

    fn messages(&self, notice: &Notice, instance: &str) -> Vec<Message> {
        self.templates.messages(notice, instance, &self.limits())
    }
}

impl Http for Telegram {
    fn request(&self, message: &Message, _now_ms: u64) -> Request {
        let markup = Markup::Telegram;
        let title = markup.strong(&markup.escape(&message.title));
        let mut body = json!({
            "chat_id": self.chat,
            "text": format!("{title}\n{}", message.text),
            "parse_mode": "HTML",
            "link_preview_options": {"is_disabled": true},
            "disable_notification": message.notice.reason == Reason::Resolved,
        });
        if let Some(thread) = self.thread {
            body["message_thread_id"] = json!(thread);
        }
        Request::post_json(self.url.clone(), &body)
    }

    fn judge(&self, answer: &Answer) -> Verdict {
        let answer = answer.hiding(&[self.token.reveal()]);
        let Some(reply) = answer.json::<Reply>() else {
            return match answer.status {
                200..=299 => answer.later(),
                _ => answer.by_status("is `base_url` a Bot API server?"),
            };
        };
        if reply.ok {
            return Verdict::Delivered;
        }
        let code = reply.error_code.unwrap_or(answer.status);
        let said = excerpt(&reply.description.unwrap_or_default());
        let parameters = reply.parameters.unwrap_or_default();
        let told = |hint: &str| format!("Telegram refused it, {code}: {said}; {hint}");
        let broken = |hint: &str| Verdict::Broken { reason: told(hint) };
        match code {
            400 => match (parameters.migrate_to_chat_id, bad_chat_hint(&said)) {
                (Some(chat), _) => broken(&format!(
                    "the group has a new number: set `chat_id = {chat}`"
                )),
                (None, Some(hint)) => broken(hint),
                (None, None) => Verdict::Refused {
                    reason: told(bad_text_hint(&said)),
                },
            },
            401 => broken("the bot's token was revoked or is wrong: get a new one from @BotFather"),
            403 => broken(
                "the bot may not write there: add it to the group again, or let the person press Start",
            ),
            404 => broken("the bot's token is wrong: get it anew from @BotFather"),
            408 | 425 | 429 | 500..=599 => Verdict::Retry {
                reason: format!("Telegram did not take it, {code}: {said}"),
                after: match parameters.retry_after {
                    Some(seconds) => Some(Duration::from_secs(seconds.min(24 * 3600))),
                    None => answer.retry_after(),
                },
            },
            _ => answer.by_status("look at `base_url` and what it leads to"),
        }
    }
}

/// How to mend what is wrong with the chat, if that is what the words of a 400 say.
fn bad_chat_hint(said: &str) -> Option<&'static str> {
    let says = |words: &[&str]| words.iter().any(|word| said.contains(word));
    if says(&["Logged out", "FROZEN"]) {
        Some(
            "the bot was logged out or frozen: ask @BotFather, and see that `base_url` is the server it uses",
        )
    } else if says(&["chat not found", "PEER_ID_INVALID", "CHANNEL_PRIVATE"]) {
        Some("set `chat_id` to a chat that the bot is in; a group's number begins with -")
    } else if says(&["thread not found", "TOPIC"]) {
        Some("`message_thread_id` names no open topic of this group")
    } else if says(&["PAYMENT_REQUIRED"]) {
        Some(
            "who writes to this chat must pay for it: free the bot of that, or name another `chat_id`",
        )
    } else if says(&[
        "not enough rights",
        "no rights to send",
        "no write access",
        "administrator rights",
        "_FORBIDDEN",
        "CHAT_RESTRICTED",
        "CHAT_ADMIN_REQUIRED",
        "USER_BANNED_IN_CHANNEL",
    ]) {
        Some("let the bot write there: the chat's administrators give it the right")
    } else {
        None
    }
}

/// How to mend what is wrong with a text.
fn bad_text_hint(said: &str) -> &'static str {
    if said.contains("parse entities") {
        "the channel's text_template makes HTML that Telegram does not know"
    } else {
        "look at the channel's templates"
    }
}

/// An answer.
#[derive(Deserialize)]
struct Reply {
    ok: bool,
    error_code: Option<u16>,
    description: Option<String>,
    parameters: Option<Parameters>,
}

#[derive(Default, Deserialize)]
struct Parameters {
    retry_after: Option<u64>,
    migrate_to_chat_id: Option<i64>,
}
