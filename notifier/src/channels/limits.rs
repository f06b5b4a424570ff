//! How much a service takes, and how fast.

use std::time::Duration;

use crate::template::Markup;

/// How much one message may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The most of a title.
    pub title: Measure,
    /// The most of a text.
    pub text: Measure,
    /// What a text is written in.
    pub markup: Markup,
    /// The most messages that one notice becomes.
    pub messages: usize,
}

/// The most of a text, counted as the service counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    /// So many bytes of UTF-8.
    Bytes(usize),
    /// So many bytes once it stands in a JSON string, where a quotation mark takes two.
    JsonBytes(usize),
    /// So many characters.
    Characters(usize),
    /// So many UTF-16 units that are seen: tags do not count and an entity counts as one.
    Visible(usize),
}

impl Measure {
    /// The most that fits.
    #[must_use]
    pub fn most(self) -> usize {
        match self {
            Self::Bytes(most)
            | Self::JsonBytes(most)
            | Self::Characters(most)
            | Self::Visible(most) => most,
        }
    }

    /// What `text` takes of it.
    #[must_use]
    pub fn of(self, text: &str) -> usize {
        match self {
            Self::Bytes(_) => text.len(),
            Self::JsonBytes(_) => text.chars().map(json_bytes).sum(),
            Self::Characters(_) => text.chars().count(),
            Self::Visible(_) => visible(text),
        }
    }

    /// Whether `text` fits.
    #[must_use]
    pub fn fits(self, text: &str) -> bool {
        self.of(text) <= self.most()
    }
}

fn json_bytes(character: char) -> usize {
    match character {
        '"' | '\\' | '\n' | '\r' | '\t' | '\u{8}' | '\u{c}' => 2,
        '\u{0}'..='\u{1f}' => 6,
        _ => character.len_utf8(),
    }
}

/// The UTF-16 units of HTML without its tags, an entity counted as one.
fn visible(html: &str) -> usize {
    let mut units = 0;
    let mut rest = html;
    while let Some(character) = rest.chars().next() {
        let (length, seen) = match character {
            '<' => match tag(rest) {
                Some(length) => (length, 0),
                None => (1, 1),
            },
            '&' => (entity(rest).unwrap_or(1), 1),
            _ => (character.len_utf8(), character.len_utf16()),
        };
        units += seen;
        rest = &rest[length..];
    }
    units
}

/// The length of the tag that `html` begins with.
pub(crate) fn tag(html: &str) -> Option<usize> {
    let end = html[1..].find(['<', '>', '\n'])? + 1;
    html[end..].starts_with('>').then_some(end + 1)
}

/// The length of the entity that `html` begins with.
pub(crate) fn entity(html: &str) -> Option<usize> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '#';
    let end = html[1..].find(|c| !is_name(c))? + 1;
    ((3..=8).contains(&end) && html[end..].starts_with(';')).then_some(end + 1)
}

/// How fast a service takes messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// The least time between two messages.
    pub gap: Duration,
    /// The most messages within any `window`.
    pub burst: usize,
    /// How long that is.
    pub window: Duration,
}

impl Pace {
    /// The service names no limit.
    pub const FREE: Self = Self::new(0, usize::MAX, 0);

    /// At least `gap_ms` between two messages, and at most `burst` of them in any `window_seconds`.
    #[must_use]
    pub const fn new(gap_ms: u64, burst: usize, window_seconds: u64) -> Self {
        Self {
            gap: Duration::from_millis(gap_ms),
            burst,
            window: Duration::from_secs(window_seconds),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_measure_counts_as_its_service_does() {
        let check = |measure: Measure, text: &str, expected| {
            assert_eq!(measure.of(text), expected, "{measure:?} {text}");
        };
        check(Measure::Bytes(1), "ü\"\n", 4);
        check(Measure::Characters(1), "ü\"\n", 3);
        check(Measure::JsonBytes(1), "ü\"\n\u{1}", 12);
        for (html, units) in [
            ("<b>a</b>b", 2),
            ("&lt;x&gt;", 3),
            ("a & b", 5),
            ("😀", 2),
            ("AT&T and a long way off;", 24),
            ("1 < 2\n3 > 2", 11),
            ("&&;&lt", 6),
        ] {
            check(Measure::Visible(1), html, units);
        }
        let text = "\"\\\n\r\t\u{8}\u{c}\u{1f}ü😀 /";
        let quoted = serde_json::to_string(text).unwrap();
        check(Measure::JsonBytes(1), text, quoted.len() - 2);
    }
}
