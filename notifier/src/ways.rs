//! The channels of the settings, opened, as delivery uses them.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::tz::TimeZone;

use crate::channels::{Channel, ChannelConfig, ChannelError, Message, Pace, Verdict};
use crate::delivery::{Carrier, Carriers, Sending};
use crate::http::HttpSender;
use crate::notice::Notice;
use crate::template::Language;

/// One channel with what it needs to send.
pub struct Way {
    channel: Channel,
    http: HttpSender,
    /// The beginning of each message's key.
    instance: String,
}

impl Way {
    /// Opens the channel `name`. Nothing is sent yet.
    ///
    /// # Errors
    /// A setting is wrong, a secret can't be had, or a template is broken.
    pub fn open(
        name: &str,
        config: &ChannelConfig,
        (language, zone): (Language, &TimeZone),
        http: &HttpSender,
        instance: &str,
    ) -> Result<Self, ChannelError> {
        Ok(Self {
            channel: Channel::open(name, config, language, zone)?,
            http: http.clone(),
            instance: instance.to_owned(),
        })
    }
}

impl Carrier for Way {
    fn messages(&self, notice: &Notice) -> Vec<Message> {
        self.channel.messages(notice, &self.instance)
    }

    fn pace(&self) -> Pace {
        self.channel.pace()
    }

    fn send<'a>(&'a self, message: &'a Message, now_ms: u64) -> Sending<'a> {
        Box::pin(async move {
            match self.channel.http() {
                Some(channel) => self.http.tell(channel, message, now_ms).await,
                None => self
                    .channel
                    .send(message)
                    .await
                    .unwrap_or_else(|| Verdict::Refused {
                        reason: "the channel has no way to send: this is a fault of the program"
                            .to_owned(),
                    }),
            }
        })
    }
}

/// Opens all channels, by name.
///
/// # Errors
/// As [`Way::open`].
pub fn open(
    channels: &BTreeMap<String, ChannelConfig>,
    style: (Language, &TimeZone),
    http: &HttpSender,
    instance: &str,
) -> Result<Carriers, ChannelError> {
    let mut ways: Carriers = Vec::with_capacity(channels.len());
    for (name, config) in channels {
        let way = Way::open(name, config, style, http, instance)?;
        ways.push((name.clone(), Arc::new(way)));
    }
    Ok(ways)
}
