//! MQTT: the notice as text or JSON on any topic, for Home Assistant, Node-RED, a display.
//!
//! ```toml
//! [notifier.channels.lamp]
//! type = "mqtt"
//! topic = "home/alerts/{node}"               # {site} {node} {rule} {severity} of the alert
//! format = "json"                            # or "text", the default
//! qos = 1                                    # 0, 1 or 2
//! retain = false
//! [notifier.channels.lamp.bus]               # as in `[bus]`
//! url = "mqtt://homeassistant.lan"
//! user = "hostbus"
//! password_file = "/etc/hostbus/lamp-password"
//! ```
//! It has its own login on purpose, on hostbus's broker too. The notifier's own role may write the topics
//! of the contract alone, and MQTT 3.1.1 has no word by which a broker could say that it dropped a message
//! for want of rights: with the notifier's login such a notice would be lost in silence.
//!
//! Each notice is one short connection. It counts as delivered when the broker has acknowledged it; with
//! QoS 0, when it is sent. A broker that refuses the login (codes 2, 4 and 5 of CONNACK) or a file of the login
//! that can't be read is the channel's fault; whatever else keeps a notice from being acknowledged passes.
//!
//! A topic never lies below hostbus's own root: a notice must not become an alert, a rule or a silence.

mod topic;

use std::fmt;
use std::time::Duration;

use hostbus_client::{BusConfig, Connection, Event, Options};
use hostbus_wire::QoS;
use serde::Deserialize;

use super::document::document;
use super::{ChannelError, Limits, Measure, Message, Opening, Pace, Service, Verdict};
use crate::notice::{Line, Notice};
use crate::template::{Markup, Templates, message_key};
use topic::TopicTemplate;

/// The most of a text, in bytes.
const TEXT_BYTES: usize = 64 * 1024;
/// The most of a payload, in bytes; brokers have limits of their own.
const PAYLOAD_BYTES: usize = 256 * 1024;
/// How long connecting, sending and the broker's answer may take together.
const SEND_WITHIN: Duration = Duration::from_secs(20);

/// An MQTT channel.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MqttConfig {
    /// Where to. `{site}`, `{node}`, `{rule}` and `{severity}` stand for the alert's; alerts with different
    /// topics become different messages.
    pub topic: String,
    /// What is sent.
    pub format: Format,
    /// The quality of service, 0 to 2.
    pub qos: u8,
    /// Whether the broker keeps the last notice for those who come later.
    pub retain: bool,
    /// The broker, and who the channel is there.
    pub bus: Option<BusConfig>,
}

/// What a message holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// The title, a line end, the text.
    Text,
    /// The document of `channels/document`.
    Json,
}

impl Default for MqttConfig {
    fn default() -> Self {
        Self {
            topic: String::new(),
            format: Format::Text,
            qos: 1,
            retain: false,
            bus: None,
        }
    }
}

/// An open MQTT channel.
pub struct Mqtt {
    bus: BusConfig,
    topic: TopicTemplate,
    format: Format,
    qos: QoS,
    retain: bool,
    within: Duration,
    templates: Templates,
    messages: usize,
}

impl Mqtt {
    /// Opens it. Nothing is connected.
    ///
    /// # Errors
    /// A setting is wrong or a file can't be used.
    pub fn open(config: &MqttConfig, opening: &Opening<'_>) -> Result<Self, ChannelError> {
        let Some(bus) = &config.bus else {
            let expected = format!(
                "a section `[notifier.channels.{}.bus]` with `url`, and `user` and `password_file` of a login \
                 that may write to the topic: the notifier's own may not",
                opening.name
            );
            return Err(opening.value("bus", "nothing", expected));
        };
        for path in [&bus.password_file, &bus.ca_file].into_iter().flatten() {
            opening.reads(path);
        }
        if let Err(error) = bus.check() {
            return Err(opening.value("bus", format_args!("`{}`", bus.shown_url()), error));
        }
        let topic = TopicTemplate::parse(&config.topic, &bus.root).map_err(|expected| {
            opening.value("topic", format_args!("`{}`", config.topic), expected)
        })?;
        let qos = match config.qos {
            0 => QoS::AtMostOnce,
            1 => QoS::AtLeastOnce,
            2 => QoS::ExactlyOnce,
            other => return Err(opening.value("qos", other, "0, 1 or 2")),
        };
        Ok(Self {
            bus: bus.clone(),
            topic,
            format: config.format,
            qos,
            retain: config.retain,
            within: SEND_WITHIN,
            templates: opening.templates(Markup::Plain)?,
            messages: opening.messages,
        })
    }

    /// Publishes `message`.
    pub async fn send(&self, message: &Message) -> Verdict {
        let topic = match self.topic.of(&message.notice) {
            Ok(topic) => topic,
            Err(reason) => return Verdict::Refused { reason },
        };
        let payload = match self.format {
            Format::Text => format!("{}\n{}", message.title, message.text),
            Format::Json => document(message, PAYLOAD_BYTES).to_string(),
        };
        let retry = |reason: String| Verdict::Retry {
            reason,
            after: None,
        };
        let options = Options {
            component: "channel".to_owned(),
            ..Options::default()
        };
        let shown = self.bus.shown_url();
        // The settings were good once: a file of theirs may come back.
        let mut connection = match Connection::open(&self.bus, options) {
            Ok(connection) => connection,
            Err(error) => {
                return Verdict::Broken {
                    reason: error.to_string(),
                };
            }
        };
        let trouble = connection.trouble();
        let publish = async {
            while !matches!(connection.next().await, Event::Connected) {}
            let sender = connection.sender();
            sender
                .publish_acknowledged(topic, self.qos, self.retain, payload)
                .await
        };
        let mut refusing = trouble.clone();
        let refused = refusing.wait_for(|trouble| trouble.as_ref().is_some_and(|it| it.refused));
        let published = tokio::select! {
            published = tokio::time::timeout(self.within, publish) => Some(published),
            Ok(_) = refused => None,
        };
        connection.close().await;
        let why = trouble
            .borrow()
            .as_ref()
            .map(|trouble| trouble.reason.clone());
        let Some(published) = published else {
            let why = why.unwrap_or_default();
            return Verdict::Broken {
                reason: format!(
                    "{shown}: {why}; check `user` and `password_file` of the channel's section `bus`"
                ),
            };
        };
        match published {
            Ok(Ok(())) => Verdict::Delivered,
            Ok(Err(_)) => retry(format!(
                "the connection to {shown} was lost before its answer"
            )),
            Err(_) => {
                let seconds = self.within.as_secs();
                let why = why.map_or_else(String::new, |why| format!(": {why}"));
                retry(format!("no answer from {shown} within {seconds} s{why}"))
            }
        }
    }

    /// The notice's alerts by topic, in the order of their first ones.
    fn by_topic(&self, notice: &Notice) -> Vec<Vec<Line>> {
        let mut parts: Vec<(String, Vec<Line>)> = Vec::new();
        for line in &notice.lines {
            let topic = self.topic.of_line(line);
            match parts.iter_mut().find(|(known, _)| *known == topic) {
                Some((_, lines)) => lines.push(line.clone()),
                None => parts.push((topic, vec![line.clone()])),
            }
        }
        if parts.is_empty() {
            parts.push((String::new(), Vec::new()));
        }
        parts.into_iter().map(|(_, lines)| lines).collect()
    }
}

impl Service for Mqtt {
    fn kind(&self) -> &'static str {
        "mqtt"
    }

    fn limits(&self) -> Limits {
        Limits {
            title: Measure::Characters(1000),
            text: Measure::Bytes(TEXT_BYTES),
            markup: Markup::Plain,
            messages: self.messages,
        }
    }

    fn pace(&self) -> Pace {
        Pace::FREE
    }

    /// Those of each topic.
    fn messages(&self, notice: &Notice, instance: &str) -> Vec<Message> {
        let limits = self.limits();
        let mut messages: Vec<Message> = self
            .by_topic(notice)
            .into_iter()
            .flat_map(|lines| {
                let part = Notice {
                    id: notice.id,
                    channel: notice.channel.clone(),
                    reason: notice.reason,
                    group: notice.group.clone(),
                    formed_ms: notice.formed_ms,
                    lines,
                    still_firing: notice.still_firing,
                };
                self.templates.messages(&part, instance, &limits)
            })
            .collect();
        for (at, message) in messages.iter_mut().enumerate() {
            message.key = message_key(instance, notice.id, at);
        }
        messages
    }
}

impl fmt::Debug for Mqtt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mqtt")
            .field("url", &self.bus.shown_url())
            .field("topic", &self.topic)
            .finish_non_exhaustive()
    }
}
