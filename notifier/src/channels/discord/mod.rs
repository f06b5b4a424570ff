//! Discord: a channel's webhook.
//!
//! ```toml
//! [notifier.channels.guild]
//! type = "discord"
//! url_file = "/etc/hostbus/discord-url"      # https://discord.com/api/webhooks/…
//! ```
//! ```text
//! {"embeds": [{"title": "…", "description": "…", "color": 12986408, "timestamp": "…"}],
//!  "allowed_mentions": {"parse": []}}
//! ```
//! Limits: <https://discord.com/developers/docs/resources/message#embed-object-embed-limits> (a title of 256
//! characters, a description of 4,096, 6,000 in all embeds together, 10 embeds). The pace (5 messages in 2
//! seconds; 30 a minute and channel) is in no document, but in a comment of Discord's staff
//! (discord/discord-api-docs#367). With `wait=true` it answers once the message is stored, not before.
//!
//! Codes: <https://discord.com/developers/docs/topics/opcodes-and-status-codes#json>. 401, 403, 404 (10015, an
//! unknown webhook; 50027, its token), 10003 (the channel or thread), 50024 (its kind) and 40058, 50083, 160005,
//! 220001 to 220004 (threads) are the channel's fault; 200000 and 240000 (filters) and what else a 400 says the
//! message's; 20016, 20028, 20029, 40004, 40006, 40062 and 130000 (too much, or shut for now) pass. That page
//! does not say with which status they come, so any 4xx will do.

use std::path::PathBuf;
use std::time::Duration;

use hostbus_daemon::secret::Secret;
use jiff::Timestamp;
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

/// The most of a title. Discord counts UTF-16 units at worst, so half of what it takes.
const TITLE_CHARS: usize = 120;
/// The most of one description, in UTF-16 units.
const DESCRIPTION_UNITS: usize = 4096;
/// The most of a text, in characters: as UTF-16 units at worst twice as many, and all that with the title
/// within 6,000.
const TEXT_CHARS: usize = 2700;

/// A Discord channel.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DiscordConfig {
    /// The webhook's address, which is a secret.
    pub url: Option<Secret>,
    /// A file that holds it.
    pub url_file: Option<PathBuf>,
    /// The environment variable that holds it.
    pub url_env: Option<String>,
}

/// An open Discord channel.
pub struct Discord {
    url: Url,
    templates: Templates,
    messages: usize,
}

impl Discord {
    /// Opens it.
    ///
    /// # Errors
    /// A setting is wrong or the address can't be had.
    pub fn open(config: &DiscordConfig, opening: &Opening<'_>) -> Result<Self, ChannelError> {
        let mut url = opening.url(
            config.url.as_ref(),
            config.url_file.as_ref(),
            config.url_env.as_ref(),
            Plain::Loopback,
            "the address of a channel's webhook, `https://discord.com/api/webhooks/…`",
        )?;
        if !url.query_pairs().any(|(key, _)| key == "wait") {
            url.query_pairs_mut().append_pair("wait", "true");
        }
        Ok(Self {
            url,
            templates: opening.templates(Markup::Markdown)?,
            messages: opening.messages,
        })
    }
}

impl Service for Discord {
    fn kind(&self) -> &'static str {
        "discord"
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
        Pace::new(400, 30, 60)
    }

    fn messages(&self, notice: &Notice, instance: &str) -> Vec<Message> {
        self.templates.messages(notice, instance, &self.limits())
    }
}

impl Http for Discord {
    fn request(&self, message: &Message, _now_ms: u64) -> Request {
        let colour = Colour::of(&message.notice).number();
        let mut embeds: Vec<Value> = descriptions(&message.text)
            .into_iter()
            .map(|description| json!({"description": description, "color": colour}))
            .collect();
        if embeds.is_empty() {
            embeds.push(json!({"color": colour}));
        }
        embeds[0]["title"] = json!(Markup::Markdown.escape(&message.title));
        let formed = i64::try_from(message.notice.formed_ms).ok();
        if let Some(formed) = formed.and_then(|ms| Timestamp::from_millisecond(ms).ok()) {
            embeds[0]["timestamp"] = json!(formed.to_string());
        }
        let body = json!({"embeds": embeds, "allowed_mentions": {"parse": []}});
        Request::post_json(Secret::new(self.url.clone()), &body)
    }

    fn judge(&self, answer: &Answer) -> Verdict {
        let answer = answer.hiding(&address::secrets(&self.url));
        let fault = match answer.status {
            400..=499 => answer.json::<Fault>().and_then(|fault| fault.meaning()),
            _ => None,
        };
        match (answer.status, fault) {
            (429, _) | (_, Some(Meaning::Later)) => Verdict::Retry {
                reason: answer.summary(),
                after: wait(&answer).or_else(|| answer.retry_after()),
            },
            (_, Some(Meaning::Broken(hint))) => answer.broken(hint),
            (_, Some(Meaning::Refused(hint))) => answer.refused(hint),
            // A page of something in between is no word of Discord's.
            (200, _) if answer.json::<Stored>().is_none() => answer.later(),
            (300..=399, _) => answer.later(),
            (401 | 403 | 404, _) => answer.by_status(
                "the webhook is gone: make a new one in the channel's settings and put its address into \
                 `url_file`",
            ),
            _ => answer.by_status("it does not take this text; a template of your own may be to blame"),
        }
    }
}

/// A message as Discord has stored it.
#[derive(Deserialize)]
struct Stored {
    #[serde(rename = "id")]
    _id: String,
}

/// Why a message was not taken.
#[derive(Deserialize)]
struct Fault {
    code: u64,
}

/// What a code says that its status may not.
enum Meaning {
    /// It passes.
    Later,
    /// The channel is at fault; how to mend it.
    Broken(&'static str),
    /// The message is at fault; how to mend it.
    Refused(&'static str),
}

impl Fault {
    /// Nothing where the status says enough.
    fn meaning(&self) -> Option<Meaning> {
        match self.code {
            // The channel's slow mode, what it and the server take at all, and what is shut for now.
            20_016 | 20_028 | 20_029 | 40_004 | 40_006 | 40_062 | 130_000 => Some(Meaning::Later),
            10_003 => Some(Meaning::Broken(
                "there is no such channel or thread: check `thread_id` in the address",
            )),
            // It wants a thread or none, the thread is archived or locked, or the kind is a wrong one.
            40_058 | 50_024 | 50_083 | 160_005 | 220_001..=220_004 => Some(Meaning::Broken(
                "the channel or its thread takes no such message: check `thread_id` in the address, and \
                 that the thread is open",
            )),
            200_000 | 240_000 => Some(Meaning::Refused(
                "the server's filters forbid what stands in the text",
            )),
            _ => None,
        }
    }
}

#[derive(Deserialize)]
struct Limited {
    /// Seconds, with a fraction.
    retry_after: f64,
}

fn wait(answer: &Answer) -> Option<Duration> {
    let seconds = answer.json::<Limited>()?.retry_after;
    let wait = Duration::try_from_secs_f64(seconds).ok()?;
    Some(wait.min(Duration::from_hours(24)))
}

/// The text in parts that a description holds.
fn descriptions(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut units = 0;
    for line in text.split_inclusive('\n') {
        let length = line.encode_utf16().count();
        if units + length > DESCRIPTION_UNITS && length <= DESCRIPTION_UNITS {
            parts.push(String::new());
            units = 0;
        }
        for character in line.chars() {
            if units + character.len_utf16() > DESCRIPTION_UNITS {
                parts.push(String::new());
                units = 0;
            }
            parts
                .last_mut()
                .expect("there is at least one")
                .push(character);
            units += character.len_utf16();
        }
    }
    parts.retain(|part| !part.trim().is_empty());
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channels::examples::{self, Expected::*};

    fn opened(url: &str) -> Result<Discord, String> {
        let table = format!("url = \"{url}\"").parse().unwrap();
        examples::open(table, Discord::open)
    }

    fn discord() -> Discord {
        opened("https://discord.com/api/webhooks/1/hunter2").unwrap()
    }

    #[test]
    fn a_webhook_gets_an_embed_that_mentions_nobody() {
        let mut message = examples::message("main-1");
        message.title = "@everyone *look*".to_owned();
        let request = discord().request(&message, 0);
        assert_eq!(
            request.url.reveal(),
            "https://discord.com/api/webhooks/1/hunter2?wait=true"
        );
        assert_eq!(
            examples::json(&request),
            json!({
                "embeds": [{
                    "title": "@\u{200b}everyone \\*look\\*",
                    "description": "/data is 97 % full",
                    "color": 0x00c6_2828,
                    "timestamp": "2025-11-20T09:13:20.123Z",
                }],
                "allowed_mentions": {"parse": []},
            })
        );
    }

    #[test]
    fn the_address_keeps_what_it_asks_for() {
        let check = |url: &str, expected: &str| {
            assert_eq!(opened(url).unwrap().url.as_str(), expected);
        };
        check(
            "https://x/1/y?thread_id=7",
            "https://x/1/y?thread_id=7&wait=true",
        );
        check("https://x/1/y?wait=true", "https://x/1/y?wait=true");
    }

    #[test]
    fn the_longest_text_fits_however_discord_counts() {
        let mut message = examples::message("main-1");
        message.title = "😀".repeat(TITLE_CHARS);
        message.text = "😀".repeat(TEXT_CHARS);
        let body = examples::json(&discord().request(&message, 0));
        let embeds = body["embeds"].as_array().unwrap();
        let units = |embed: &Value, key: &str| {
            let text = embed[key].as_str().unwrap_or_default();
            text.encode_utf16().count()
        };
        assert!(
            embeds
                .iter()
                .all(|embed| units(embed, "description") <= 4096)
        );
        assert!(embeds.iter().all(|embed| units(embed, "title") <= 256));
        let all = embeds.iter();
        let all = all.map(|embed| units(embed, "title") + units(embed, "description"));
        assert!(all.sum::<usize>() <= 6000 && embeds.len() <= 10);
        message.text.clear();
        let body = examples::json(&discord().request(&message, 0));
        assert_eq!(body["embeds"].as_array().unwrap().len(), 1);
    }

    #[test]
    fn success_is_what_discord_calls_success() {
        let limited = "{\"message\": \"You are being rate limited.\", \"retry_after\": 0.529, \
                       \"global\": false}";
        let unknown = "{\"message\": \"Unknown Webhook\", \"code\": 10015}";
        let slow = "{\"code\": 20016, \"retry_after\": 4.5}";
        let embeds = "{\"embeds\": [\"0\"]}";
        examples::judges(
            &discord(),
            &[
                (200, "", "{\"id\": \"1\", \"type\": 0}", Delivered, ""),
                (204, "", "", Delivered, ""),
                (200, "", "<html>captive portal", Retry, "portal"),
                (301, "", "", Retry, "301"),
                (400, "", embeds, Refused, "template"),
                (400, "", "{\"code\": 50035}", Refused, "template"),
                (400, "", "{\"code\": 220001}", Broken, "thread_id"),
                (400, "", "{\"code\": 50024}", Broken, "thread_id"),
                (403, "", "{\"code\": 40058}", Broken, "thread_id"),
                (404, "", "{\"code\": 10003}", Broken, "thread_id"),
                (400, "", "{\"code\": 40004}", Retry, "40004"),
                (403, "7", "{\"code\": 40006}", RetryAfterMs(7000), "40006"),
                (403, "", "{\"code\": 40062}", Retry, "40062"),
                (404, "", "{\"code\": 130000}", Retry, "130000"),
                (403, "", slow, RetryAfterMs(4500), "20016"),
                (400, "", "{\"code\": 20028}", Retry, "20028"),
                (400, "", "{\"code\": 20029}", Retry, "20029"),
                (400, "", "{\"code\": 200000}", Refused, "filters"),
                (403, "", "{\"code\": 240000}", Refused, "filters"),
                (401, "", "{\"code\": 50027}", Broken, "url_file"),
                (404, "", unknown, Broken, "Unknown Webhook"),
                (429, "1", limited, RetryAfterMs(529), "rate limited"),
                (429, "65", "error code: 1015", RetryAfterMs(65_000), "1015"),
                (502, "", "", Retry, "502"),
            ],
        );
    }
}
