//! How a notice reads: its title and text, in English or Chinese, in the markup of its channel.
//!
//! The built-in words stand in `templates/<language>/title.j2` and `text.j2`; a channel may have its own.
//! Templates see [`facts`], every value is escaped for the markup, and nothing but the notice is within
//! their reach: no files, no environment, and only so many steps.
//!
//! | module | owns |
//! |---|---|
//! | [`facts`] | what a template knows of a notice |
//! | [`sheet`] | one compiled template |
//! | [`markup`] | the ways to write, and how to make hostile text harmless in each |
//! | [`words`] | times, durations, numbers in a language |
//! | [`pieces`] | a long text in several messages |

pub mod facts;
pub mod markup;
pub mod pieces;
pub mod sheet;
pub mod words;

use std::path::PathBuf;

use serde::Deserialize;
use tracing::warn;

use crate::channels::{Limits, Message};
use crate::notice::Notice;
use facts::Facts;

pub use markup::Markup;
pub use sheet::{Sheet, TemplateError};
pub use words::{Language, Style};

/// The keys that every channel has: how it speaks.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Wording {
    /// Its language; absent: the notifier's.
    pub language: Option<Language>,
    /// The time zone of its times, such as `Europe/Berlin`; absent: the host's.
    pub zone: Option<String>,
    /// The most messages that one notice becomes. Default 5.
    pub messages: usize,
    /// Its own title.
    pub title_template: Option<String>,
    /// A file that holds it.
    pub title_template_file: Option<PathBuf>,
    /// Its own text.
    pub text_template: Option<String>,
    /// A file that holds it.
    pub text_template_file: Option<PathBuf>,
}

impl Wording {
    /// All its keys.
    pub const KEYS: [&'static str; 7] = [
        "language",
        "zone",
        "messages",
        "title_template",
        "title_template_file",
        "text_template",
        "text_template_file",
    ];
}

impl Default for Wording {
    fn default() -> Self {
        Self {
            language: None,
            zone: None,
            messages: 5,
            title_template: None,
            title_template_file: None,
            text_template: None,
            text_template_file: None,
        }
    }
}

/// The templates of one channel in one markup.
#[derive(Debug)]
pub struct Templates {
    style: Style,
    markup: Markup,
    /// The channel's own ones.
    title: Option<Sheet>,
    text: Option<Sheet>,
    default_title: Sheet,
    default_text: Sheet,
}

impl Templates {
    /// The built-in templates, behind a channel's own ones.
    #[must_use]
    pub fn new(style: &Style, markup: Markup, title: Option<Sheet>, text: Option<Sheet>) -> Self {
        let (default_title, default_text) = Sheet::built_in(style, markup);
        Self {
            style: style.clone(),
            markup,
            title,
            text,
            default_title,
            default_text,
        }
    }

    /// What its texts are written in.
    #[must_use]
    pub fn markup(&self) -> Markup {
        self.markup
    }

    /// The notice's title: one line of plain text.
    #[must_use]
    pub fn title(&self, notice: &Notice) -> String {
        self.render_title(&Facts::new(notice, notice.lines.len())).0
    }

    /// The notice's text, whole, however long it is.
    #[must_use]
    pub fn text(&self, notice: &Notice) -> String {
        let facts = Facts::new(notice, notice.lines.len());
        let (text, fault) = self.render_text(&facts);
        self.finish(&text, 0, fault.as_ref())
            .replace('\n', self.markup.line_end())
    }

    /// The messages that tell `notice`: one, or as many as it takes to name every alert, at most
    /// `limits.messages`; the last one then says how many it does not name.
    ///
    /// A template that fails, or writes too much even with no alerts, is replaced by the built-in one, and
    /// the text says so.
    #[must_use]
    pub fn messages(&self, notice: &Notice, instance: &str, limits: &Limits) -> Vec<Message> {
        let count = notice.lines.len();
        let most = limits.messages;
        let (title, title_fault) = self.render_title(&Facts::new(notice, count));
        let split = |facts: &Facts, named: usize, own: Option<&Sheet>| {
            let (text, text_fault) = render(own, &self.default_text, facts);
            let mut fault = text_fault.or_else(|| title_fault.clone());
            if own.is_none() && self.text.is_some() {
                fault = Some(TemplateError::endless(most));
            }
            let text = self.finish(&text, count - named, fault.as_ref());
            pieces::split(&text, limits.text, self.markup)
        };
        let own = self.text.as_ref();
        let compact = |named: usize| Facts::new(notice, named).compacted();
        let mut named = count;
        let mut texts = split(&Facts::new(notice, count), count, own);
        if texts.len() > most {
            (named, texts) =
                most_that_fits(count, most, |named| split(&compact(named), named, own));
        }
        if texts.len() > most && own.is_some() {
            (named, texts) =
                most_that_fits(count, most, |named| split(&compact(named), named, None));
        }
        texts.truncate(most);
        let all = texts.len();
        let numbered = |(at, text)| {
            let number = match all {
                1 => String::new(),
                _ => format!(" ({}/{all})", at + 1),
            };
            Message {
                key: message_key(instance, notice.id, at),
                title: pieces::title(&title, &number, limits.title),
                text,
                notice: notice.clone(),
                omitted: if at + 1 == all { count - named } else { 0 },
            }
        };
        texts.into_iter().enumerate().map(numbered).collect()
    }

    fn render_title(&self, facts: &Facts) -> (String, Option<TemplateError>) {
        let (title, fault) = render(self.title.as_ref(), &self.default_title, facts);
        (markup::one_line(&title), fault)
    }

    fn render_text(&self, facts: &Facts) -> (String, Option<TemplateError>) {
        render(self.text.as_ref(), &self.default_text, facts)
    }

    fn finish(&self, text: &str, omitted: usize, fault: Option<&TemplateError>) -> String {
        let mut text = text.trim().to_owned();
        let more = (omitted > 0).then(|| words::more(self.style.language, omitted));
        let fault = fault.map(|error| words::fallback(self.style.language, &error.to_string()));
        for line in [more, fault].into_iter().flatten() {
            text.push('\n');
            text.push_str(&self.markup.escape(&line));
        }
        text
    }
}

/// The key of a notice's message number `at`, counted from 0: `main-42`, `main-42-2`.
#[must_use]
pub fn message_key(instance: &str, notice: u64, at: usize) -> String {
    match at {
        0 => format!("{instance}-{notice}"),
        _ => format!("{instance}-{notice}-{}", at + 1),
    }
}

/// What the channel's own template makes of the facts, or the built-in one with what was wrong.
fn render(own: Option<&Sheet>, default: &Sheet, facts: &Facts) -> (String, Option<TemplateError>) {
    let fault = match own.map(|sheet| sheet.render(facts)) {
        Some(Ok(text)) => return (text, None),
        Some(Err(error)) => {
            warn!(%error, channel = facts.channel, "template failed, the built-in one is used");
            Some(error)
        }
        None => None,
    };
    match default.render(facts) {
        Ok(text) => (text, fault),
        // The built-in ones are held to this by tests; if one fails all the same, people must be told.
        Err(error) => (error.to_string(), fault.or(Some(error))),
    }
}

/// The most alerts, of `count`, whose texts are no more than `most`, and those texts; of very many, the
/// most but for one in 64, since each try writes all of them. With none of them it must be good enough.
fn most_that_fits(
    count: usize,
    most: usize,
    split: impl Fn(usize) -> Vec<String>,
) -> (usize, Vec<String>) {
    let whole = split(count);
    if whole.len() <= most || count == 0 {
        return (count, whole);
    }
    // So many fit if all take the same room: near enough to begin with.
    let mut named = (count * most / whole.len()).clamp(1, count.max(2) - 1);
    let (mut fits, mut fails) = ((0, None), count);
    while fits.0 + 1 + fits.0 / 64 < fails {
        let texts = split(named);
        if texts.len() <= most {
            fits = (named, Some(texts));
        } else {
            fails = named;
        }
        named = usize::midpoint(fits.0, fails);
    }
    let texts = fits.1.unwrap_or_else(|| split(0));
    (fits.0, texts)
}

#[cfg(test)]
mod tests;
