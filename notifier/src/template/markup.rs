//! The ways to write, and how to make hostile text harmless in each.
//!
//! What stands in an alert was written by anyone with the right to raise one. On its way into a message
//! it becomes one line without control or direction characters, and whatever the service would read as
//! markup, a link's disguise or a mention of everybody becomes plain text.

use std::fmt::Write;

/// What a text is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Markup {
    /// Nothing but text.
    Plain,
    /// HTML as mail shows it.
    Html,
    /// The few tags of HTML that Telegram knows.
    Telegram,
    /// Markdown in which a backslash makes the next character plain: CommonMark, Discord, ntfy, Gotify.
    Markdown,
    /// Markdown of Feishu's cards, which asks for entities in the place of its special characters.
    Feishu,
    /// Markdown of DingTalk's robots.
    DingTalk,
    /// Markdown of WeCom's robots.
    WeCom,
    /// Slack's `mrkdwn`.
    Slack,
    /// JSON: each value with its quotation marks.
    Json,
}

impl Markup {
    /// `text` as one harmless line. In [`Markup::Json`], a JSON string with its quotation marks.
    #[must_use]
    pub fn escape(self, text: &str) -> String {
        if self == Self::Json {
            return serde_json::Value::from(text).to_string();
        }
        let line = one_line(text);
        let mut escaped = String::with_capacity(line.len() + line.len() / 8);
        let mut before = None;
        let mut characters = line.chars().peekable();
        while let Some(character) = characters.next() {
            let inside_word = is_word(before) && is_word(characters.peek().copied());
            self.put(character, inside_word, &mut escaped);
            before = Some(character);
        }
        escaped
    }

    /// `escaped`, which is harmless already, in bold.
    #[must_use]
    pub fn strong(self, escaped: &str) -> String {
        if escaped.is_empty() {
            return String::new();
        }
        match self {
            Self::Plain | Self::Json => escaped.to_owned(),
            Self::Html | Self::Telegram => format!("<b>{escaped}</b>"),
            Self::Markdown | Self::Feishu | Self::DingTalk | Self::WeCom => {
                format!("**{escaped}**")
            }
            Self::Slack => format!("*{escaped}*"),
        }
    }

    /// What ends a line so that the next one is seen as one.
    #[must_use]
    pub fn line_end(self) -> &'static str {
        match self {
            Self::Html => "<br>\n",
            Self::DingTalk | Self::Markdown => "  \n",
            _ => "\n",
        }
    }

    /// Whether tags and entities stand in it, which must not be cut in the middle.
    #[must_use]
    pub fn has_tags(self) -> bool {
        matches!(self, Self::Html | Self::Telegram)
    }

    fn put(self, character: char, inside_word: bool, out: &mut String) {
        match self {
            Self::Plain | Self::Json => out.push(character),
            Self::Html | Self::Telegram => match entity(character) {
                Some(entity) => out.push_str(entity),
                None => out.push(character),
            },
            Self::Slack => match character {
                '&' | '<' | '>' => out.push_str(entity(character).unwrap_or_default()),
                '*' | '~' | '`' => out.push(look_alike(character)),
                '_' if !inside_word => out.push(look_alike(character)),
                _ => out.push(character),
            },
            Self::Markdown => match character {
                // Discord reads `@everyone` and `<@id>` whatever stands before it.
                '@' => out.push_str("@\u{200b}"),
                '_' | '-' | '.' | '+' | ')' if inside_word => out.push(character),
                '\\' | '`' | '*' | '_' | '{' | '}' | '[' | ']' | '(' | ')' | '<' | '>' | '#'
                | '+' | '-' | '.' | '!' | '|' | '~' | '&' => {
                    out.push('\\');
                    out.push(character);
                }
                _ => out.push(character),
            },
            Self::Feishu => match character {
                '_' | '-' if inside_word => out.push(character),
                '<' | '>' | '&' | '*' | '~' | '[' | ']' | '(' | ')' | '`' | '#' | '$' | '_'
                | '-' | '!' | '\\' | '+' | '|' | '{' | '}' => {
                    // Writing into a string never fails.
                    let _ = write!(out, "&#{};", u32::from(character));
                }
                _ => out.push(character),
            },
            Self::DingTalk | Self::WeCom => match character {
                '_' if inside_word => out.push(character),
                '<' | '>' | '*' | '~' | '[' | ']' | '`' | '#' | '_' | '\\' | '&' => {
                    out.push(look_alike(character));
                }
                // A number of a member after it would be a mention.
                '@' => out.push('＠'),
                _ => out.push(character),
            },
        }
    }
}

/// `text` on one line: control characters, line ends and those that turn the direction of writing
/// become spaces; no spaces around it.
#[must_use]
pub fn one_line(text: &str) -> String {
    let plain = |character: char| match character {
        c if c.is_control() => ' ',
        '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => ' ',
        c => c,
    };
    let line: String = text.chars().map(plain).collect();
    line.trim().to_owned()
}

fn is_word(character: Option<char>) -> bool {
    character.is_some_and(char::is_alphanumeric)
}

fn entity(character: char) -> Option<&'static str> {
    Some(match character {
        '&' => "&amp;",
        '<' => "&lt;",
        '>' => "&gt;",
        '"' => "&quot;",
        '\'' => "&#39;",
        _ => return None,
    })
}

/// The wide form of an ASCII character, for services whose markdown knows no escaping.
fn look_alike(character: char) -> char {
    char::from_u32(u32::from(character) + 0xfee0).unwrap_or(' ')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_text_is_harmless_in_every_markup() {
        let check = |markup: Markup, text: &str, expected: &str| {
            assert_eq!(markup.escape(text), expected, "{markup:?}");
        };
        let markup = "<b>*x*</b> [a](http://b)";
        check(Markup::Plain, markup, markup);
        for html in [Markup::Html, Markup::Telegram] {
            check(
                html,
                "<a href=\"x\">&'",
                "&lt;a href=&quot;x&quot;&gt;&amp;&#39;",
            );
        }
        check(
            Markup::Markdown,
            markup,
            r"\<b\>\*x\*\</b\> \[a\]\(http://b\)",
        );
        check(Markup::Markdown, "@everyone", "@\u{200b}everyone");
        check(
            Markup::Feishu,
            "<at id=all></at>",
            "&#60;at id=all&#62;&#60;/at&#62;",
        );
        check(Markup::Feishu, "sd_a1-b *x*", "sd_a1-b &#42;x&#42;");
        for robot in [Markup::DingTalk, Markup::WeCom] {
            check(robot, "<@all> *x* a_b _c_", "＜＠all＞ ＊x＊ a_b ＿c＿");
        }
        check(
            Markup::Slack,
            "<!channel> *x* & a_b",
            "&lt;!channel&gt; ＊x＊ &amp; a_b",
        );
        check(Markup::Json, "a\"\n", r#""a\"\n""#);
    }

    #[test]
    fn what_comes_from_outside_stays_on_its_line() {
        let hostile = " one\r\ntwo\u{2028}three\u{202e}four\u{0}\t ";
        for markup in [
            Markup::Plain,
            Markup::Telegram,
            Markup::Slack,
            Markup::WeCom,
        ] {
            assert_eq!(markup.escape(hostile), "one  two three four", "{markup:?}");
        }
    }

    #[test]
    fn nothing_is_never_bold() {
        assert_eq!(Markup::Markdown.strong(""), "");
        assert_eq!(Markup::Telegram.strong("a"), "<b>a</b>");
    }
}
