//! The channels of the settings, opened, as delivery uses them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::tz::TimeZone;

use crate::channels::files::Files;
use crate::channels::{Channel, ChannelConfig, ChannelError, Message, Opening, Pace, Verdict};
use crate::delivery::{Carrier, Carriers, Sending};
use crate::http::HttpSender;
use crate::notice::Notice;
use crate::template::Language;

/// One channel with what it needs to send, and to be opened anew.
pub struct Way {
    name: String,
    config: ChannelConfig,
    style: (Language, TimeZone),
    opened: Mutex<Opened>,
    http: HttpSender,
    /// The beginning of each message's key.
    instance: String,
}

/// The channel as it is now.
struct Opened {
    channel: Arc<Channel>,
    files: Files,
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
        let opening = Opening::new(name, &config.wording, language, zone)?;
        let channel = Channel::open_by(&opening, &config.service)?;
        let opened = Opened {
            channel: Arc::new(channel),
            files: opening.files(),
        };
        Ok(Self {
            name: name.to_owned(),
            config: config.clone(),
            style: (language, zone.clone()),
            opened: Mutex::new(opened),
            http: http.clone(),
            instance: instance.to_owned(),
        })
    }

    fn opened(&self) -> MutexGuard<'_, Opened> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn channel(&self) -> Arc<Channel> {
        Arc::clone(&self.opened().channel)
    }
}

impl Carrier for Way {
    fn messages(&self, notice: &Notice) -> Vec<Message> {
        self.channel().messages(notice, &self.instance)
    }

    fn pace(&self) -> Pace {
        self.channel().pace()
    }

    fn send<'a>(&'a self, message: &'a Message, now_ms: u64) -> Sending<'a> {
        let opened = self.channel();
        Box::pin(async move {
            match opened.http() {
                Some(channel) => self.http.tell(channel, message, now_ms).await,
                None => opened
                    .send(message)
                    .await
                    .unwrap_or_else(|| Verdict::Refused {
                        reason: "the channel has no way to send: this is a fault of the program"
                            .to_owned(),
                    }),
            }
        })
    }

    fn renew(&self) -> Result<bool, String> {
        let files = self.opened().files.clone();
        if !files.have_changed() {
            return Ok(false);
        }
        let (language, zone) = &self.style;
        let opening = Opening::new(&self.name, &self.config.wording, *language, zone)
            .map_err(|error| error.to_string())?;
        let channel = Channel::open_by(&opening, &self.config.service);
        let mut opened = self.opened();
        // Also when it can't be used: it is tried again, and said, at the next change.
        opened.files = opening.files();
        opened.channel = Arc::new(channel.map_err(|error| error.to_string())?);
        Ok(true)
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

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::channels::examples;
    use crate::http::HttpConfig;
    use crate::http::stand_in::{Reply, StandIn};

    #[tokio::test]
    async fn a_channel_is_opened_anew_when_the_file_of_its_token_has_changed() {
        let server = StandIn::start(|asked| {
            let shown = asked.header("x-gotify-key");
            match shown {
                Some("new") => Reply::Answer {
                    status: 200,
                    headers: Vec::new(),
                    body: b"{\"id\": 1}".to_vec(),
                },
                _ => Reply::status(401),
            }
        })
        .await;
        let folder = tempfile::tempdir().unwrap();
        let token = folder.path().join("token");
        // Another file in its place is another inode, however coarse the clock of the filesystem.
        let put = |text: &str| {
            let next = folder.path().join("next");
            fs::write(&next, text).unwrap();
            fs::rename(&next, &token).unwrap();
        };
        put("old");
        let text = format!(
            "type = \"gotify\"\nserver = {:?}\ntoken_file = {token:?}",
            server.url("")
        );
        let config: ChannelConfig = toml::from_str(&text).unwrap();
        let http = HttpSender::new(&HttpConfig::default()).unwrap();
        let style = (Language::default(), &TimeZone::UTC);
        let way = Way::open("phone", &config, style, &http, "main").unwrap();
        let message = examples::message("main-1");
        let verdict = way.send(&message, 0).await;
        let Verdict::Broken { reason } = verdict else {
            panic!("{verdict:?}");
        };
        assert!(reason.contains("token_file"), "{reason}");
        assert_eq!(way.renew(), Ok(false));

        put("");
        let error = way.renew().unwrap_err();
        assert!(
            error.contains("`notifier.channels.phone.token_file`"),
            "{error}"
        );
        assert_eq!(way.renew(), Ok(false), "it is said once a change");

        put("new");
        assert_eq!(way.renew(), Ok(true));
        assert_eq!(way.send(&message, 0).await, Verdict::Delivered);
        assert_eq!(way.renew(), Ok(false));
    }
}
