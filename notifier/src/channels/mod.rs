//! The ways to people: one folder each, its settings beside its code.
//!
//! Most services take one HTTP request a message. Such a channel is two pure functions, [`Http::request`]
//! and [`Http::judge`]; sending, time limits and trying again stand outside.
//!
//! | module | owns |
//! |---|---|
//! | [`config`] | a channel's section of the settings |
//! | [`opening`] | what a channel is opened with: its name, its words, its secrets |
//! | [`secret`] | secrets from files and the environment |
//! | [`files`] | the files that a channel was opened with |
//! | [`signature`] | HMAC-SHA256 and how it is written |
//! | [`address`] | which addresses are taken |
//! | [`limits`] | how much a service takes, and how fast |
//! | [`answer`] | what HTTP answers mean, and what of them may be shown |
//! | [`errcode`] | the answers of DingTalk and WeCom |
//! | [`colour`], [`document`] | a notice's colour; a notice as JSON |
//! | [`webhook`], [`feishu`], [`dingtalk`], [`wecom`], [`telegram`], [`slack`], [`discord`], [`ntfy`], [`gotify`], [`pushover`], [`pagerduty`] | one service each, by HTTP |
//! | [`email`], [`mqtt`], [`command`] | the others |

pub mod address;
pub mod answer;
pub mod colour;
pub mod command;
pub mod config;
pub mod dingtalk;
pub mod discord;
pub mod document;
pub mod email;
pub mod errcode;
pub mod error;
#[cfg(test)]
pub(crate) mod examples;
pub mod feishu;
pub mod files;
pub mod gotify;
pub mod limits;
pub mod mqtt;
pub mod ntfy;
pub mod opening;
pub mod pagerduty;
pub mod pushover;
pub mod secret;
pub mod signature;
pub mod slack;
pub mod telegram;
pub mod webhook;
pub mod wecom;

use std::time::Duration;

use hostbus_daemon::secret::Secret;
use jiff::tz::TimeZone;

use crate::notice::Notice;
use crate::template::Language;

pub use answer::Answer;
pub use config::{ChannelConfig, ServiceConfig};
pub use error::ChannelError;
pub use limits::{Limits, Measure, Pace};
pub use opening::Opening;

/// An open channel: its settings are checked, its secrets and templates read.
#[expect(missing_docs, reason = "the names say it")]
pub enum Channel {
    Webhook(webhook::Webhook),
    Feishu(feishu::Feishu),
    DingTalk(dingtalk::DingTalk),
    WeCom(wecom::WeCom),
    Telegram(telegram::Telegram),
    Email(email::Email),
    Slack(slack::Slack),
    Discord(discord::Discord),
    Ntfy(ntfy::Ntfy),
    Gotify(gotify::Gotify),
    Pushover(pushover::Pushover),
    PagerDuty(pagerduty::PagerDuty),
    Mqtt(mqtt::Mqtt),
    Command(command::Command),
}

impl Channel {
    /// Opens the channel `name`. Nothing is sent yet; files and the environment are read.
    ///
    /// `language` and `zone` hold where the channel has none of its own.
    ///
    /// # Errors
    /// A setting is wrong, a secret can't be had, or a template is broken.
    pub fn open(
        name: &str,
        config: &ChannelConfig,
        language: Language,
        zone: &TimeZone,
    ) -> Result<Self, ChannelError> {
        let opening = Opening::new(name, &config.wording, language, zone)?;
        Self::open_by(&opening, &config.service)
    }

    /// Opens a channel of this service by `opening`, which then knows the files that were read.
    ///
    /// # Errors
    /// As [`Channel::open`].
    pub fn open_by(opening: &Opening<'_>, service: &ServiceConfig) -> Result<Self, ChannelError> {
        Ok(match service {
            ServiceConfig::Webhook(config) => {
                Self::Webhook(webhook::Webhook::open(config, opening)?)
            }
            ServiceConfig::Feishu(config) => Self::Feishu(feishu::Feishu::open(config, opening)?),
            ServiceConfig::DingTalk(config) => {
                Self::DingTalk(dingtalk::DingTalk::open(config, opening)?)
            }
            ServiceConfig::WeCom(config) => Self::WeCom(wecom::WeCom::open(config, opening)?),
            ServiceConfig::Telegram(config) => {
                Self::Telegram(telegram::Telegram::open(config, opening)?)
            }
            ServiceConfig::Email(config) => Self::Email(email::Email::open(config, opening)?),
            ServiceConfig::Slack(config) => Self::Slack(slack::Slack::open(config, opening)?),
            ServiceConfig::Discord(config) => {
                Self::Discord(discord::Discord::open(config, opening)?)
            }
            ServiceConfig::Ntfy(config) => Self::Ntfy(ntfy::Ntfy::open(config, opening)?),
            ServiceConfig::Gotify(config) => Self::Gotify(gotify::Gotify::open(config, opening)?),
            ServiceConfig::Pushover(config) => {
                Self::Pushover(pushover::Pushover::open(config, opening)?)
            }
            ServiceConfig::PagerDuty(config) => {
                Self::PagerDuty(pagerduty::PagerDuty::open(config, opening)?)
            }
            ServiceConfig::Mqtt(config) => Self::Mqtt(mqtt::Mqtt::open(config, opening)?),
            ServiceConfig::Command(config) => {
                Self::Command(command::Command::open(config, opening)?)
            }
        })
    }

    /// Its `type` in the settings.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        self.service().kind()
    }

    /// How much one message may hold, and how many messages one notice may become.
    #[must_use]
    pub fn limits(&self) -> Limits {
        self.service().limits()
    }

    /// How fast the service takes messages.
    #[must_use]
    pub fn pace(&self) -> Pace {
        self.service().pace()
    }

    /// What is to be sent for `notice`, in order: one message, or several where one can't hold it.
    /// `instance` is this notifier's name, the beginning of each message's key. The same notice becomes
    /// the same messages whenever it is asked for.
    #[must_use]
    pub fn messages(&self, notice: &Notice, instance: &str) -> Vec<Message> {
        self.service().messages(notice, instance)
    }

    /// The channel as one that takes HTTP requests; `None` when it is told in another way.
    #[must_use]
    pub fn http(&self) -> Option<&dyn Http> {
        match self {
            Self::Webhook(channel) => Some(channel),
            Self::Feishu(channel) => Some(channel),
            Self::DingTalk(channel) => Some(channel),
            Self::WeCom(channel) => Some(channel),
            Self::Telegram(channel) => Some(channel),
            Self::Slack(channel) => Some(channel),
            Self::Discord(channel) => Some(channel),
            Self::Ntfy(channel) => Some(channel),
            Self::Gotify(channel) => Some(channel),
            Self::Pushover(channel) => Some(channel),
            Self::PagerDuty(channel) => Some(channel),
            Self::Email(_) | Self::Mqtt(_) | Self::Command(_) => None,
        }
    }

    /// Tells `message` in the channel's own way; `None` when it is told by HTTP.
    pub async fn send(&self, message: &Message) -> Option<Verdict> {
        match self {
            Self::Email(channel) => Some(channel.send(message).await),
            Self::Mqtt(channel) => Some(channel.send(message).await),
            Self::Command(channel) => Some(channel.send(message).await),
            _ => None,
        }
    }

    fn service(&self) -> &dyn Service {
        match self {
            Self::Webhook(channel) => channel,
            Self::Feishu(channel) => channel,
            Self::DingTalk(channel) => channel,
            Self::WeCom(channel) => channel,
            Self::Telegram(channel) => channel,
            Self::Email(channel) => channel,
            Self::Slack(channel) => channel,
            Self::Discord(channel) => channel,
            Self::Ntfy(channel) => channel,
            Self::Gotify(channel) => channel,
            Self::Pushover(channel) => channel,
            Self::PagerDuty(channel) => channel,
            Self::Mqtt(channel) => channel,
            Self::Command(channel) => channel,
        }
    }
}

/// What every channel knows of its service, however it is told.
pub trait Service {
    /// Its `type` in the settings.
    fn kind(&self) -> &'static str;

    /// How much one message may hold.
    fn limits(&self) -> Limits;

    /// How fast the service takes messages, by its own documentation.
    fn pace(&self) -> Pace;

    /// The messages that tell `notice`. Most channels leave it to
    /// [`Templates::messages`](crate::template::Templates::messages).
    fn messages(&self, notice: &Notice, instance: &str) -> Vec<Message>;
}

/// What became of a message. A channel decides it from its service's answer; `delivery/attempt` alone acts on
/// it. A code that nobody knows counts as [`Verdict::Retry`] or [`Verdict::Broken`] where the service names the
/// faults of a message: what is late can still be told, what was given up can't.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The service took it.
    Delivered,
    /// It may be taken later.
    Retry {
        /// What was wrong, for people; no secret in it.
        reason: String,
        /// The service said when to come back.
        after: Option<Duration>,
    },
    /// The channel is at fault, not the message: a revoked token, a wrong password or address, a robot that
    /// was removed. Every other message would fare the same until somebody mends it, and this one waits.
    Broken {
        /// What is wrong and how to mend it; no secret in it.
        reason: String,
    },
    /// This message will never be taken as it is, though the channel takes others: a text that is too long
    /// or not well-formed. It is given up at once.
    Refused {
        /// What was wrong and how to mend it; no secret in it.
        reason: String,
    },
}

/// A channel that is one HTTP request a message.
pub trait Http: Send + Sync {
    /// The request that tells `message`.
    fn request(&self, message: &Message, now_ms: u64) -> Request;

    /// What the service's answer means, by its own success code.
    fn judge(&self, answer: &Answer) -> Verdict;
}

/// One message, written for people and short enough for its channel.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// A key that stays the same when the message is sent again: `main-42`, or `main-42-2` for the second
    /// piece of a notice that is too long for one message.
    pub key: String,
    /// One line, plain text.
    pub title: String,
    /// The rest, in the channel's own markup.
    pub text: String,
    /// What it tells, for channels with fields of their own (colours, priorities, deduplication keys): the
    /// whole notice, also in a piece of it; where a channel tells alerts as data, those of this message.
    pub notice: Notice,
    /// How many alerts of the notice neither this nor another message names. Only the last message of a
    /// notice that is too long has some.
    pub omitted: usize,
}

/// An HTTP request. Its address and headers may hold secrets, so it is never shown.
pub struct Request {
    /// `POST`, `PUT` …
    pub method: &'static str,
    /// Where to, with what it may hold of tokens.
    pub url: Secret,
    /// Its headers.
    pub headers: Vec<(String, Secret)>,
    /// Its body.
    pub body: Vec<u8>,
}

impl Request {
    /// `POST` of a JSON body.
    #[must_use]
    pub fn post_json(url: Secret, body: &serde_json::Value) -> Self {
        let content_type = Secret::new("application/json; charset=utf-8");
        Self {
            method: "POST",
            url,
            headers: vec![("content-type".to_owned(), content_type)],
            body: body.to_string().into_bytes(),
        }
    }
}
