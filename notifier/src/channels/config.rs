//! A channel's section of the settings: `type` says which service it is, some keys are the same for all
//! of them, and the rest is the service's own.
//!
//! ```text
//! [notifier.channels.ops]
//! type = "feishu"                # the service
//! language = "zh"                # for every channel: language, zone, messages, …_template(_file)
//! secret_file = "/etc/hostbus/feishu-secret"     # the service's own
//! ```

use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};
use toml::{Table, Value};

use super::{
    command, dingtalk, discord, email, feishu, gotify, mqtt, ntfy, pagerduty, pushover, slack,
    telegram, webhook, wecom,
};
use crate::template::Wording;

/// The settings of one channel.
#[derive(Debug, Clone)]
pub struct ChannelConfig {
    /// How it speaks; the same keys for all channels.
    pub wording: Wording,
    /// What it speaks to.
    pub service: ServiceConfig,
}

/// The settings of one service.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the names say it")]
pub enum ServiceConfig {
    Webhook(webhook::WebhookConfig),
    Feishu(feishu::FeishuConfig),
    DingTalk(dingtalk::DingTalkConfig),
    WeCom(wecom::WeComConfig),
    Telegram(telegram::TelegramConfig),
    Email(email::EmailConfig),
    Slack(slack::SlackConfig),
    Discord(discord::DiscordConfig),
    Ntfy(ntfy::NtfyConfig),
    Gotify(gotify::GotifyConfig),
    Pushover(pushover::PushoverConfig),
    PagerDuty(pagerduty::PagerDutyConfig),
    Mqtt(mqtt::MqttConfig),
    Command(command::CommandConfig),
}

impl ServiceConfig {
    /// What `type` may be.
    pub const KINDS: [&'static str; 14] = [
        "webhook",
        "feishu",
        "dingtalk",
        "wecom",
        "telegram",
        "email",
        "slack",
        "discord",
        "ntfy",
        "gotify",
        "pushover",
        "pagerduty",
        "mqtt",
        "command",
    ];

    fn read(kind: &str, table: Table) -> Result<Self, String> {
        Ok(match kind {
            "webhook" => Self::Webhook(section(table)?),
            "feishu" => Self::Feishu(section(table)?),
            "dingtalk" => Self::DingTalk(section(table)?),
            "wecom" => Self::WeCom(section(table)?),
            "telegram" => Self::Telegram(section(table)?),
            "email" => Self::Email(section(table)?),
            "slack" => Self::Slack(section(table)?),
            "discord" => Self::Discord(section(table)?),
            "ntfy" => Self::Ntfy(section(table)?),
            "gotify" => Self::Gotify(section(table)?),
            "pushover" => Self::Pushover(section(table)?),
            "pagerduty" => Self::PagerDuty(section(table)?),
            "mqtt" => Self::Mqtt(section(table)?),
            "command" => Self::Command(section(table)?),
            _ => return Err(format!("unknown `type` \"{kind}\", expected {}", kinds())),
        })
    }
}

impl<'de> Deserialize<'de> for ChannelConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut table = Table::deserialize(deserializer)?;
        let kind = match table.remove("type") {
            Some(Value::String(kind)) => kind,
            Some(_) => {
                let wanted = kinds();
                return Err(D::Error::custom(format!(
                    "`type` is no text, expected {wanted}"
                )));
            }
            None => {
                let wanted = kinds();
                return Err(D::Error::custom(format!("no `type`, expected {wanted}")));
            }
        };
        let mut wording = Table::new();
        for key in Wording::KEYS {
            if let Some(value) = table.remove(key) {
                wording.insert(key.to_owned(), value);
            }
        }
        Ok(Self {
            wording: section(wording).map_err(D::Error::custom)?,
            service: ServiceConfig::read(&kind, table).map_err(D::Error::custom)?,
        })
    }
}

/// Reads `table`; an error begins with the key that it is about.
fn section<T: DeserializeOwned>(table: Table) -> Result<T, String> {
    serde_path_to_error::deserialize(Value::Table(table)).map_err(|error| {
        let path = error.path().to_string();
        let reason = error.into_inner().to_string();
        let reason = reason.trim().lines().next().unwrap_or_default();
        if path == "." || reason.starts_with("unknown field") {
            return reason.to_owned();
        }
        format!("`{path}`: {reason}")
    })
}

fn kinds() -> String {
    let named: Vec<_> = ServiceConfig::KINDS
        .iter()
        .map(|kind| format!("\"{kind}\""))
        .collect();
    format!("one of {}", named.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_section_is_refused_with_what_was_expected() {
        let check = |text: &str, expected: Result<&str, &str>| match (
            toml::from_str::<ChannelConfig>(text),
            expected,
        ) {
            (Ok(config), Ok(part)) => {
                let shown = format!("{config:?}");
                assert!(shown.contains(part), "{shown}");
            }
            (Err(error), Err(part)) => {
                let text = error.to_string();
                assert!(text.contains(part), "{text}");
            }
            (found, wanted) => panic!("{text}: {found:?} is not {wanted:?}"),
        };
        check("", Err("no `type`, expected one of \"webhook\""));
        check("type = 5", Err("`type` is no text"));
        check("type = \"pigeon\"", Err("unknown `type` \"pigeon\""));
        check("type = \"feishu\"\nmessages = 3", Ok("messages: 3"));
        check(
            "type = \"feishu\"\nurl = \"https://open.feishu.cn/x-token\"",
            Ok("Secret(…)"),
        );
        check(
            "type = \"feishu\"\nsecrte_file = \"/x\"",
            Err("unknown field `secrte_file`, expected one of"),
        );
        check("type = \"feishu\"\nlanguage = \"tlh\"", Err("`language`: "));
        check("type = \"feishu\"\nsecret_file = 7", Err("`secret_file`: "));
    }

    #[test]
    fn each_kind_is_one_that_can_be_read() {
        for kind in ServiceConfig::KINDS {
            let read = ServiceConfig::read(kind, Table::new());
            assert!(read.is_ok(), "{kind}: {read:?}");
        }
    }
}
