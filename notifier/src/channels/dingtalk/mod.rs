//! DingTalk: a custom robot of a group, told in markdown.
//!
//! ```text
//! POST https://oapi.dingtalk.com/robot/send?access_token=<token>&timestamp=1700000000000&sign=…
//! {"msgtype": "markdown", "msgUuid": "…", "markdown": {"title": "…", "text": "…"},
//!  "at": {"isAtAll": false}}
//! ```
//! Sources: open.dingtalk.com, "Custom robots: send group messages" and its table of error codes, and
//! help.dingtalk.io/open/development/custom-robots-send-group-messages (the pace, `msgUuid`). A body
//! has 20,000 bytes at most; a robot takes 20 messages a minute, and who sends more is shut out for ten
//! minutes. An answer with status 200 is no success: `errcode` 0 is. Nobody is ever mentioned.
//!
//! Codes of that table: 310000 (security settings), 400013, 400101, 400102 and 400106 (group or robot) are the
//! channel's fault; 40035, 43004, 400105 and 430101 to 430104 the message's; 130101, 410100 and -1 pass.
//! Seen in several clients, but not in the document: 300001 and 300005 (no such token) and 40035 with
//! `access_token` (an address without one) are the channel's fault, 101002 and 460101 (too long) the message's.

mod config;

use std::time::Duration;

use hostbus_daemon::secret::Secret;
use reqwest::Url;
use serde_json::json;

use super::address::{self, Plain};
use super::answer::Answer;
use super::errcode::{self, Meaning};
use super::signature::Digest;
use super::{
    ChannelError, Http, Limits, Measure, Message, Opening, Pace, Request, Service, Verdict,
};
use crate::notice::Notice;
use crate::template::{Markup, Templates};

pub use config::DingTalkConfig;

/// After so long a robot that was too fast is heard again.
const TOO_FAST: Duration = Duration::from_mins(10);
const TITLE_BYTES: usize = 400;
/// A body's most, less the rest of it; the title stands there twice.
const TEXT_BYTES: usize = 20_000 - 4 * TITLE_BYTES - 400;

/// A group robot of DingTalk.
pub struct DingTalk {
    url: Url,
    secret: Option<Secret>,
    templates: Templates,
    messages: usize,
}

impl DingTalk {
    /// Opens it.
    ///
    /// # Errors
    /// Its address or secret can't be had, or a template is broken.
    pub fn open(config: &DingTalkConfig, opening: &Opening) -> Result<Self, ChannelError> {
        let url = opening.url(
            config.url.as_ref(),
            config.url_file.as_ref(),
            config.url_env.as_ref(),
            Plain::Loopback,
            "the webhook address that the group's robot shows",
        )?;
        let secret = (config.secret_file.as_ref(), config.secret_env.as_ref());
        Ok(Self {
            url,
            secret: opening.secret("secret", secret.0, secret.1)?,
            templates: opening.templates(Markup::DingTalk)?,
            messages: opening.messages,
        })
    }
}

/// The signature of a request: HMAC-SHA256 of `<ms>\n<secret>`, with the secret as the key, in base64.
/// In the address it is percent-encoded.
#[must_use]
pub fn signature(ms: u64, secret: &str) -> String {
    let text = format!("{ms}\n{secret}");
    Digest::new(secret.as_bytes(), &[text.as_bytes()]).base64()
}

impl Service for DingTalk {
    fn kind(&self) -> &'static str {
        "dingtalk"
    }

    fn limits(&self) -> Limits {
        Limits {
            title: Measure::JsonBytes(TITLE_BYTES),
            text: Measure::JsonBytes(TEXT_BYTES),
            markup: Markup::DingTalk,
            messages: self.messages,
        }
    }

    fn pace(&self) -> Pace {
        Pace::new(0, 20, 60)
    }

    fn messages(&self, notice: &Notice, instance: &str) -> Vec<Message> {
        self.templates.messages(notice, instance, &self.limits())
    }
}

impl Http for DingTalk {
    fn request(&self, message: &Message, now_ms: u64) -> Request {
        let mut url = self.url.clone();
        if let Some(secret) = &self.secret {
            let mut query = url.query_pairs_mut();
            query.append_pair("timestamp", &now_ms.to_string());
            query.append_pair("sign", &signature(now_ms, secret.reveal()));
        }
        let heading = Markup::DingTalk.escape(&message.title);
        let body = json!({
            "msgtype": "markdown",
            // A message that is sent again is shown once. With the time, since a notifier that lost its
            // state counts from 1 again.
            "msgUuid": format!("{}.{}", message.key, message.notice.formed_ms),
            "markdown": {
                // Shown in the list of conversations; the text itself does not show it.
                "title": message.title,
                "text": format!("### {heading}\n\n{}", message.text),
            },
            "at": {"isAtAll": false},
        });
        Request::post_json(Secret::new(String::from(url)), &body)
    }

    fn judge(&self, answer: &Answer) -> Verdict {
        let answer = answer.hiding(&address::secrets(&self.url));
        errcode::judge(&answer, "DingTalk", |code, said| match code {
            0 => Meaning::Taken,
            130_101 | 410_100 => Meaning::TooFast(TOO_FAST),
            310_000 => Meaning::Broken(security_hint(said, self.secret.is_some())),
            300_001 | 300_005 | 400_101 | 400_106 => Meaning::Broken(
                "no robot has this token: copy the webhook address anew from the group's settings",
            ),
            400_013 => Meaning::Broken("the group is no more: make a robot in another one"),
            400_102 => {
                Meaning::Broken("the robot is switched off: switch it on in the group's settings")
            }
            40_035 if said.contains("access_token") => Meaning::Broken(
                "the address lacks its `access_token`: copy it whole from the group's settings",
            ),
            40_035 | 43_004 | 101_002 | 400_105 | 460_101 => Meaning::Refused(
                "the body is not as DingTalk wants it; is the channel's text_template sound?",
            ),
            430_101..=430_104 => Meaning::Refused("DingTalk forbids what stands in the text"),
            // -1, the system is busy, and whatever DingTalk says on a bad day.
            _ => Meaning::Later,
        })
    }
}

/// How to mend what the robot's security settings refused.
fn security_hint(said: &str, signed: bool) -> &'static str {
    // The words alone: every one of these texts begins with `description:`.
    if said.contains("keyword") || said.contains("关键词") {
        "the robot wants a keyword: put it into the channel's `title_template`, or use the signature \
         in its place"
    } else if said.contains("timestamp") && signed {
        "this host's clock is wrong by more than an hour"
    } else if ["sign", "签名", "timestamp"]
        .iter()
        .any(|word| said.contains(word))
    {
        "the signature does not hold: set `secret_file` to the secret that the robot shows (SEC…)"
    } else if ["ip ", "IP ", "whitelist", "白名单"]
        .iter()
        .any(|word| said.contains(word))
    {
        "add this host's public address to the robot's allowed addresses"
    } else {
        "look at the robot's security settings: keyword, signature or addresses"
    }
}
