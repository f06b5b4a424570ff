//! What a channel is opened with: its name, its words, the way to its secrets.

use std::cell::RefCell;
use std::fmt::Display;
use std::path::{Path, PathBuf};

use hostbus_daemon::secret::Secret;
use jiff::tz::TimeZone;
use reqwest::Url;

use super::address::{self, Plain};
use super::error::ChannelError;
use super::files::Files;
use super::secret::Source;
use crate::template::{Language, Markup, Sheet, Style, Templates, Wording};

/// The fewest and the most messages that a notice may become.
const MESSAGES: std::ops::RangeInclusive<usize> = 1..=50;
/// The largest template file that is read, in bytes.
const MAX_TEMPLATE_BYTES: u64 = 64 << 10;

/// What all channels have in common when they are opened.
pub struct Opening<'a> {
    /// The channel's name in the settings.
    pub name: &'a str,
    /// In which language and time zone it speaks.
    pub style: Style,
    /// The most messages that one notice becomes.
    pub messages: usize,
    wording: &'a Wording,
    section: String,
    files: RefCell<Files>,
}

impl<'a> Opening<'a> {
    /// What the channel `name` is opened with.
    ///
    /// # Errors
    /// The time zone is not known here, or the count of messages is out of range.
    pub fn new(
        name: &'a str,
        wording: &'a Wording,
        language: Language,
        zone: &TimeZone,
    ) -> Result<Self, ChannelError> {
        let mut style = Style {
            language: wording.language.unwrap_or(language),
            zone: zone.clone(),
        };
        if let Some(zone) = &wording.zone {
            style.zone = TimeZone::get(zone).map_err(|_| {
                let expected = "a time zone that this host knows, such as `Europe/Berlin`";
                value(name, "zone", format_args!("`{zone}`"), expected)
            })?;
        }
        if !MESSAGES.contains(&wording.messages) {
            let expected = "1 to 50 messages a notice";
            return Err(value(name, "messages", wording.messages, expected));
        }
        Ok(Self {
            name,
            style,
            messages: wording.messages,
            wording,
            section: format!("notifier.channels.{name}"),
            files: RefCell::default(),
        })
    }

    /// The file `path` is about to be read.
    pub fn reads(&self, path: &Path) {
        self.files.borrow_mut().add(path);
    }

    /// The files that were read so far.
    #[must_use]
    pub fn files(&self) -> Files {
        self.files.borrow().clone()
    }

    /// The templates of its titles and texts, written in `markup`.
    ///
    /// # Errors
    /// One of its own is broken or can't be read.
    pub fn templates(&self, markup: Markup) -> Result<Templates, ChannelError> {
        let wording = self.wording;
        let title = self.sheet(
            "title_template",
            wording.title_template.as_deref(),
            wording.title_template_file.as_ref(),
            Markup::Plain,
        )?;
        let text = self.sheet(
            "text_template",
            wording.text_template.as_deref(),
            wording.text_template_file.as_ref(),
            markup,
        )?;
        Ok(Templates::new(&self.style, markup, title, text))
    }

    /// The template at `key` or in the file that `<key>_file` names, tried on examples; `None` when
    /// there is neither.
    ///
    /// # Errors
    /// It is broken, can't be read, or stands in both places.
    pub fn sheet(
        &self,
        key: &str,
        inline: Option<&str>,
        file: Option<&PathBuf>,
        markup: Markup,
    ) -> Result<Option<Sheet>, ChannelError> {
        let file_key = format!("{key}_file");
        let (key, source) = match (inline, file) {
            (None, None) => return Ok(None),
            (Some(_), Some(_)) => return Err(self.both(key, &file_key)),
            (Some(source), None) => (key.to_owned(), source.to_owned()),
            (None, Some(path)) => {
                self.reads(path);
                let source = read(path).map_err(|source| ChannelError::File {
                    channel: self.name.to_owned(),
                    key: file_key.clone(),
                    path: path.display().to_string(),
                    source,
                })?;
                (file_key, source)
            }
        };
        match Sheet::open(&key, source, &self.style, markup) {
            Ok(sheet) => Ok(Some(sheet)),
            Err(source) => Err(ChannelError::Template {
                channel: self.name.to_owned(),
                key,
                source,
            }),
        }
    }

    /// The secret at `<key>_file` or `<key>_env`, if one of them is set.
    ///
    /// # Errors
    /// It can't be had from there.
    pub fn secret(
        &self,
        key: &str,
        file: Option<&PathBuf>,
        env: Option<&String>,
    ) -> Result<Option<Secret>, ChannelError> {
        let found = self.source(key, None, file, env).read()?;
        Ok(found.map(|found| found.secret))
    }

    fn source<'s>(
        &'s self,
        key: &'s str,
        inline: Option<&'s Secret>,
        file: Option<&'s PathBuf>,
        env: Option<&'s String>,
    ) -> Source<'s> {
        if let Some(path) = file {
            self.reads(path);
        }
        Source {
            section: &self.section,
            key,
            inline,
            file: file.map(PathBuf::as_path),
            env: env.map(String::as_str),
        }
    }

    /// The secret at `<key>_file` or `<key>_env`.
    ///
    /// # Errors
    /// It can't be had, or neither key is set; `expected` says what it is and where people get it.
    pub fn needed_secret(
        &self,
        key: &str,
        file: Option<&PathBuf>,
        env: Option<&String>,
        expected: &str,
    ) -> Result<Secret, ChannelError> {
        self.secret(key, file, env)?.ok_or_else(|| {
            let keys = format!("`{key}_file` or `{key}_env`");
            self.missing(keys, expected)
        })
    }

    /// The address at `url`, `url_file` or `url_env`.
    ///
    /// # Errors
    /// None or more than one of them is set, or it is no address that may be used.
    pub fn url(
        &self,
        plain_text: Option<&Secret>,
        file: Option<&PathBuf>,
        env: Option<&String>,
        plain: Plain,
        expected: &str,
    ) -> Result<Url, ChannelError> {
        let Some(found) = self.source("url", plain_text, file, env).read()? else {
            let keys = "`url_file`, `url_env` or `url`".to_owned();
            return Err(self.missing(keys, expected));
        };
        address::parse(found.secret.reveal(), plain)
            .map_err(|expected| self.value(&found.key, "another thing (not shown)", expected))
    }

    /// A value that its key can't have. Of a secret, `found` says only what kind of thing it is.
    #[must_use]
    pub fn value(&self, key: &str, found: impl Display, expected: impl Display) -> ChannelError {
        value(self.name, key, found, expected)
    }

    fn missing(&self, keys: String, expected: &str) -> ChannelError {
        ChannelError::Missing {
            channel: self.name.to_owned(),
            keys,
            expected: expected.to_owned(),
        }
    }

    fn both(&self, first: &str, second: &str) -> ChannelError {
        ChannelError::Both {
            channel: self.name.to_owned(),
            first: first.to_owned(),
            second: second.to_owned(),
        }
    }
}

fn value(channel: &str, key: &str, found: impl Display, expected: impl Display) -> ChannelError {
    ChannelError::Value {
        channel: channel.to_owned(),
        key: key.to_owned(),
        found: found.to_string(),
        expected: expected.to_string(),
    }
}

fn read(path: &PathBuf) -> std::io::Result<String> {
    use std::io::Read;
    let mut text = String::new();
    let file = std::fs::File::open(path)?;
    file.take(MAX_TEMPLATE_BYTES + 1)
        .read_to_string(&mut text)?;
    if text.len() as u64 > MAX_TEMPLATE_BYTES {
        return Err(std::io::Error::other("it is larger than 64 KiB"));
    }
    Ok(text)
}
