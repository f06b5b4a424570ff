//! WeCom (WeChat Work): a robot of a group, told in markdown.
//!
//! ```text
//! POST https://qyapi.weixin.qq.com/cgi-bin/webhook/send?key=<key>
//! {"msgtype": "markdown", "markdown": {"content": "…"}}
//! ```
//! Source: developer.work.weixin.qq.com, "Group robot configuration" (path 91770) and "Global error
//! codes" (path 90313). A content has 4,096 bytes of UTF-8 at most; a robot takes 20 messages a minute.
//! An answer with status 200 is no success: `errcode` 0 is.

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
use crate::notice::Notice;
use crate::template::{Markup, Templates};

pub use config::WeComConfig;

const CONTENT_BYTES: usize = 4096;
/// A title's most. As a heading it may take three times as much, once its markup is made harmless.
const TITLE_BYTES: usize = 200;
const TEXT_BYTES: usize = CONTENT_BYTES - 3 * TITLE_BYTES - 16;
/// After so long a robot that was too fast is heard again.
const TOO_FAST: Duration = Duration::from_secs(60);

/// A group robot of WeCom.
pub struct WeCom {
    url: Url,
    templates: Templates,
    messages: usize,
}

impl WeCom {
    /// Opens it.
    ///
    /// # Errors
    /// Its address can't be had, or a template is broken.
    pub fn open(config: &WeComConfig, opening: &Opening) -> Result<Self, ChannelError> {
        let url = opening.url(
            config.url.as_ref(),
            config.url_file.as_ref(),
            config.url_env.as_ref(),
            Plain::Loopback,
            "the webhook address that the group's robot shows",
        )?;
        Ok(Self {
            url,
            templates: opening.templates(Markup::WeCom)?,
            messages: opening.messages,
        })
    }
}

impl Service for WeCom {
    fn kind(&self) -> &'static str {
        "wecom"
    }

    fn limits(&self) -> Limits {
        Limits {
            title: Measure::Bytes(TITLE_BYTES),
            text: Measure::Bytes(TEXT_BYTES),
            markup: Markup::WeCom,
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

impl Http for WeCom {
    fn request(&self, message: &Message, _now_ms: u64) -> Request {
        let heading = Markup::WeCom.escape(&message.title);
        let content = format!("### {heading}\n{}", message.text);
        let body = json!({"msgtype": "markdown", "markdown": {"content": content}});
        Request::post_json(Secret::new(self.url.as_str()), &body)
    }

    fn judge(&self, answer: &Answer) -> Verdict {
        let answer = answer.hiding(&address::secrets(&self.url));
        let Some(Reply {
            errcode: code,
            errmsg,
        }) = answer.json()
        else {
            return match answer.status {
                200..=299 => answer.later(),
                _ => answer.by_status("check the webhook address of the group's robot"),
            };
        };
        let said = excerpt(&errmsg.unwrap_or_default());
        let refused = |hint: &str| Verdict::Refused {
            reason: format!("WeCom refused it, errcode {code}: {said}; {hint}"),
        };
        let later = |after| Verdict::Retry {
            reason: format!("WeCom did not take it, errcode {code}: {said}"),
            after,
        };
        match code {
            0 => Verdict::Delivered,
            45_009 | 45_033 => later(Some(answer.retry_after().unwrap_or(TOO_FAST))),
            93_000 => {
                refused("no robot has this webhook address: copy it anew from the group's settings")
            }
            93_008 => refused("the robot is no longer in its group: add it again"),
            60_020 => refused("add this host's public address to the allowed addresses"),
            40_008 | 40_033 | 40_035 | 40_058 | 44_004 | 45_002 | 47_001 => refused(
                "the content is not as WeCom wants it; is the channel's text_template sound?",
            ),
            // -1, the system is busy, and whatever WeCom says on a bad day.
            _ => later(answer.retry_after()),
        }
    }
}

/// An answer.
#[derive(Deserialize)]
struct Reply {
    errcode: i64,
    errmsg: Option<String>,
}
