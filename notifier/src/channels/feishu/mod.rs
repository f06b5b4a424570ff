//! Feishu, and Lark as it is called elsewhere: a custom robot of a group, told by an interactive card.
//!
//! ```text
//! POST https://open.feishu.cn/open-apis/bot/v2/hook/<token>
//! {"timestamp": "1700000000", "sign": "…", "msg_type": "interactive",
//!  "card": {"config": …, "header": {"title": …, "template": "red"}, "elements": [{"tag": "markdown", …}]}}
//! ```
//! Sources: open.feishu.cn, "Custom bot usage guide" (signature, limits, codes) and "Card JSON" (the card).
//! A body has 20 KB at most; a robot takes 100 messages a minute and 5 a second. An answer with status
//! 200 is no success: `code` is, or `StatusCode` in answers of the old form.
//!
//! Codes of that guide: 19001 (address), 19021 (signature), 19022 (addresses) and 19024 (keyword) are the
//! channel's fault; 9499 (bad request) the message's; 11232 (too fast) passes. Seen in several clients, but
//! not in the guide: 19007 (the bot is off) is the channel's fault, 11246 (the card) and 19002 (parameters)
//! are the message's, and 9499 with `too many request` passes.

mod config;

use hostbus_daemon::secret::Secret;
use hostbus_wire::alert::{AlertSeverity, AlertState};
use reqwest::Url;
use serde::Deserialize;
use serde_json::json;

use super::address::{self, Plain};
use super::answer::{Answer, excerpt};
use super::signature::Digest;
use super::{
    ChannelError, Http, Limits, Measure, Message, Opening, Pace, Request, Service, Verdict,
};
use crate::notice::{Notice, Reason};
use crate::template::{Markup, Templates};

pub use config::FeishuConfig;

/// A body's most, less what the card holds besides title and text.
const TEXT_BYTES: usize = 20_000 - TITLE_BYTES - 600;
const TITLE_BYTES: usize = 400;

/// A group robot of Feishu or Lark.
pub struct Feishu {
    url: Url,
    secret: Option<Secret>,
    templates: Templates,
    messages: usize,
}

impl Feishu {
    /// Opens it.
    ///
    /// # Errors
    /// Its address or secret can't be had, or a template is broken.
    pub fn open(config: &FeishuConfig, opening: &Opening) -> Result<Self, ChannelError> {
        let url = opening.url(
            config.url.as_ref(),
            config.url_file.as_ref(),
            config.url_env.as_ref(),
            Plain::Loopback,
            "the webhook address that the group's custom bot shows",
        )?;
        let secret = (config.secret_file.as_ref(), config.secret_env.as_ref());
        Ok(Self {
            url,
            secret: opening.secret("secret", secret.0, secret.1)?,
            templates: opening.templates(Markup::Feishu)?,
            messages: opening.messages,
        })
    }
}

/// The signature of a request: HMAC-SHA256 of nothing, with `<seconds>\n<secret>` as the key, in base64.
#[must_use]
pub fn signature(seconds: u64, secret: &str) -> String {
    let key = format!("{seconds}\n{secret}");
    Digest::new(key.as_bytes(), &[]).base64()
}

/// The colour of a card's header.
fn colour(notice: &Notice) -> &'static str {
    let firing = |line: &&crate::notice::Line| line.alert.state != AlertState::Resolved;
    let worst = notice.lines.iter().filter(firing);
    match worst.map(|line| line.alert.severity).max() {
        Some(AlertSeverity::Critical) => "red",
        Some(AlertSeverity::Warning) => "orange",
        Some(AlertSeverity::Info) => "blue",
        None if notice.reason == Reason::Test => "blue",
        None => "green",
    }
}

impl Service for Feishu {
    fn kind(&self) -> &'static str {
        "feishu"
    }

    fn limits(&self) -> Limits {
        Limits {
            title: Measure::JsonBytes(TITLE_BYTES),
            text: Measure::JsonBytes(TEXT_BYTES),
            markup: Markup::Feishu,
            messages: self.messages,
        }
    }

    fn pace(&self) -> Pace {
        Pace::new(200, 100, 60)
    }

    fn messages(&self, notice: &Notice, instance: &str) -> Vec<Message> {
        self.templates.messages(notice, instance, &self.limits())
    }
}

impl Http for Feishu {
    fn request(&self, message: &Message, now_ms: u64) -> Request {
        let mut body = json!({
            "msg_type": "interactive",
            "card": {
                "config": {"wide_screen_mode": true},
                "header": {
                    "template": colour(&message.notice),
                    "title": {"tag": "plain_text", "content": message.title},
                },
                "elements": [{"tag": "markdown", "content": message.text}],
            },
        });
        if let Some(secret) = &self.secret {
            let seconds = now_ms / 1000;
            body["timestamp"] = json!(seconds.to_string());
            body["sign"] = json!(signature(seconds, secret.reveal()));
        }
        Request::post_json(Secret::new(self.url.as_str()), &body)
    }

    fn judge(&self, answer: &Answer) -> Verdict {
        let answer = answer.hiding(&address::secrets(&self.url));
        let reply = answer.json::<Reply>().unwrap_or_default();
        let Some(code) = reply.code.or(reply.old_code) else {
            return match answer.status {
                // A page of somebody in between, or nothing: nobody said that the message was taken.
                200..=299 => answer.later(),
                _ => answer.by_status("check the webhook address of the group's bot"),
            };
        };
        let said = excerpt(&reply.msg.unwrap_or_default());
        let refused = |hint: &str| format!("Feishu refused it, code {code}: {said}; {hint}");
        let broken = |hint: &str| Verdict::Broken {
            reason: refused(hint),
        };
        let later = || Verdict::Retry {
            reason: format!("Feishu did not take it, code {code}: {said}"),
            after: answer.retry_after(),
        };
        match code {
            0 => Verdict::Delivered,
            9499 if said.to_lowercase().contains("too many") => later(),
            9499 | 11246 | 19002 => Verdict::Refused {
                reason: refused(
                    "the body is not as Feishu wants it; is the channel's text_template sound?",
                ),
            },
            19001 => {
                broken("no bot has this webhook address: copy it anew from the group's settings")
            }
            19007 => broken("the bot is switched off: switch it on in the group's settings"),
            19021 => broken(
                "the signature does not hold: set `secret_file` to the bot's signing secret, and see \
                 that this host's clock is right within an hour",
            ),
            19022 => broken("add this host's public address to the bot's allowed IP addresses"),
            19024 => broken(
                "the bot wants a keyword: put it into the channel's `title_template`, or use the \
                 signature in its place",
            ),
            // 11232, too fast, and whatever Feishu says on a bad day.
            _ => later(),
        }
    }
}

/// An answer: in the new form, in the old one, or in both at once.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Reply {
    code: Option<i64>,
    #[serde(rename = "StatusCode")]
    old_code: Option<i64>,
    msg: Option<String>,
}
