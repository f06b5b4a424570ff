//! WeCom (WeChat Work): a robot of a group, told in markdown.
//!
//! ```text
//! POST https://qyapi.weixin.qq.com/cgi-bin/webhook/send?key=<key>
//! {"msgtype": "markdown", "markdown": {"content": "…"}}
//! ```
//! Source: developer.work.weixin.qq.com, "Group robot configuration" (path 91770) and "Global error
//! codes" (path 90313). A content has 4,096 bytes of UTF-8 at most; a robot takes 20 messages a minute.
//! An answer with status 200 is no success: `errcode` 0 is.
//!
//! Codes of that list: 93000, 93004, 93008 (robot or address) and 60020 (addresses) are the channel's fault;
//! 40008, 40033, 40035, 40058, 44004, 45002 and 47001 the message's; 45009, 45033 and -1 pass. 47001 was not
//! checked against the document.

mod config;

use std::time::Duration;

use hostbus_daemon::secret::Secret;
use reqwest::Url;
use serde_json::json;

use super::address::{self, Plain};
use super::answer::Answer;
use super::errcode::{self, Meaning};
use super::{
    ChannelError, Http, Limits, Measure, Message, Opening, Pace, Request, Service, Verdict,
};
use crate::notice::Notice;
use crate::template::{Markup, Templates};

pub use config::WeComConfig;

/// After so long a robot that was too fast is heard again.
const TOO_FAST: Duration = Duration::from_mins(1);
const CONTENT_BYTES: usize = 4096;
/// A title's most. As a heading it may take three times as much, once its markup is made harmless.
const TITLE_BYTES: usize = 200;
const TEXT_BYTES: usize = CONTENT_BYTES - 3 * TITLE_BYTES - 16;

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
        errcode::judge(&answer, "WeCom", |code, _| match code {
            0 => Meaning::Taken,
            45_009 | 45_033 => Meaning::TooFast(TOO_FAST),
            93_000 => Meaning::Broken(
                "no robot has this webhook address: copy it anew from the group's settings",
            ),
            93_004 => Meaning::Broken("the robot is switched off: switch it on or make another"),
            93_008 => Meaning::Broken("the robot is no longer in its group: add it again"),
            60_020 => Meaning::Broken("add this host's public address to the allowed addresses"),
            40_008 | 40_033 | 40_035 | 40_058 | 44_004 | 45_002 | 47_001 => Meaning::Refused(
                "the content is not as WeCom wants it; is the channel's text_template sound?",
            ),
            // -1, the system is busy, and whatever WeCom says on a bad day.
            _ => Meaning::Later,
        })
    }
}
