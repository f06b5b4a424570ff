//! A long text in several messages: split at line ends, and only where one line is too long inside it.

use super::markup::Markup;
use crate::channels::{Measure, limits};

/// The lines of `text` in as few pieces as the measure allows, in order, nothing left out. Each line
/// but the last of a piece ends as `markup` ends lines. There is one piece at least.
#[must_use]
pub fn split(text: &str, measure: Measure, markup: Markup) -> Vec<String> {
    let end = markup.line_end();
    let end_size = measure.of(end);
    let mut pieces = vec![String::new()];
    let mut size = 0;
    let lines = text.lines().flat_map(|line| fitting(line, measure, markup));
    for line in lines {
        let line_size = measure.of(&line);
        let last = pieces.last_mut().expect("there is one piece at least");
        if last.is_empty() {
            last.push_str(&line);
            size = line_size;
        } else if size + end_size + line_size <= measure.most() {
            last.push_str(end);
            last.push_str(&line);
            size += end_size + line_size;
        } else if !line.trim().is_empty() {
            let whole = last.trim_end().len();
            last.truncate(whole);
            pieces.push(line);
            size = line_size;
        }
    }
    pieces
}

/// `title` with `number` after it, the title cut so that both fit.
#[must_use]
pub fn title(title: &str, number: &str, measure: Measure) -> String {
    let whole = format!("{title}{number}");
    if measure.fits(&whole) {
        return whole;
    }
    let room = measure
        .most()
        .saturating_sub(measure.of(number) + measure.of("…"));
    let mut end = 0;
    let mut size = 0;
    for (at, character) in title.char_indices() {
        size += measure.of(character.encode_utf8(&mut [0; 4]));
        if size > room {
            break;
        }
        end = at + character.len_utf8();
    }
    format!("{}…{number}", title[..end].trim_end())
}

/// The line, or its parts when it alone is too long for a message: cut after a space where there is one
/// in the second half. Tags are given up, since a cut would leave them open.
fn fitting(line: &str, measure: Measure, markup: Markup) -> Vec<String> {
    if measure.fits(line) {
        return vec![line.to_owned()];
    }
    let bare = if markup.has_tags() {
        without_tags(line)
    } else {
        line.to_owned()
    };
    let mut parts = Vec::new();
    let mut part = String::new();
    let mut size = 0;
    let mut rest = bare.as_str();
    while !rest.is_empty() {
        let atom = &rest[..atom(rest, markup)];
        let atom_size = measure.of(atom);
        if size + atom_size > measure.most() && !part.is_empty() {
            let kept = match part.rfind(' ') {
                Some(at) if at >= part.len() / 2 => part.split_off(at + 1),
                _ => String::new(),
            };
            let full = std::mem::replace(&mut part, kept);
            parts.push(full.trim_end().to_owned());
            size = measure.of(&part);
        }
        part.push_str(atom);
        size += atom_size;
        rest = &rest[atom.len()..];
    }
    if !part.is_empty() {
        parts.push(part);
    }
    parts
}

/// The length of what must stay together at the beginning of `text`: an entity, an escaped character,
/// or one character.
fn atom(text: &str, markup: Markup) -> usize {
    let mut characters = text.char_indices();
    let Some((_, first)) = characters.next() else {
        return 0;
    };
    match (first, characters.next()) {
        ('&', _) if !matches!(markup, Markup::Plain | Markup::Json) => {
            limits::entity(text).unwrap_or(1)
        }
        ('\\', Some((at, second))) if markup == Markup::Markdown => at + second.len_utf8(),
        _ => first.len_utf8(),
    }
}

fn without_tags(html: &str) -> String {
    let mut bare = String::with_capacity(html.len());
    let mut rest = html;
    while let Some(start) = rest.find('<') {
        bare.push_str(&rest[..start]);
        // A `<` that opens no tag is no text either: it would open one with what follows the cut.
        let length = limits::tag(&rest[start..]).unwrap_or(1);
        rest = &rest[start + length..];
    }
    bare.push_str(rest);
    bare
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn texts_are_split_at_line_ends() {
        let check = |text: &str, measure, markup, expected: &[&str]| {
            assert_eq!(split(text, measure, markup), expected, "{text}");
        };
        let plain = Markup::Plain;
        check("", Measure::Bytes(9), plain, &[""]);
        check(
            "one\ntwo\nthree",
            Measure::Bytes(99),
            plain,
            &["one\ntwo\nthree"],
        );
        check(
            "one\ntwo\nthree",
            Measure::Bytes(7),
            plain,
            &["one\ntwo", "three"],
        );
        check("one\n\nthree", Measure::Bytes(5), plain, &["one", "three"]);
        check(
            "one\ntwo",
            Measure::Bytes(8),
            Markup::DingTalk,
            &["one", "two"],
        );
        check(
            "one\ntwo",
            Measure::Bytes(9),
            Markup::DingTalk,
            &["one  \ntwo"],
        );
        check("a bb ccc dd", Measure::Bytes(7), plain, &["a bb", "ccc dd"]);
        check("üüüü", Measure::Bytes(5), plain, &["üü", "üü"]);
        check(
            "&lt;&lt;x",
            Measure::Visible(2),
            Markup::Telegram,
            &["&lt;&lt;", "x"],
        );
        check(
            "<b>&lt;ab</b>",
            Measure::Bytes(5),
            Markup::Telegram,
            &["&lt;a", "b"],
        );
        check(
            r"\*\*",
            Measure::Bytes(3),
            Markup::Markdown,
            &[r"\*", r"\*"],
        );
        check(
            "&#42;&#42;",
            Measure::JsonBytes(7),
            Markup::Feishu,
            &["&#42;", "&#42;"],
        );
    }

    #[test]
    fn a_title_is_cut_before_its_number() {
        let check = |text: &str, number: &str, measure, expected: &str| {
            assert_eq!(title(text, number, measure), expected);
        };
        check("disk full", "", Measure::Bytes(9), "disk full");
        check("disk full", " (1/2)", Measure::Bytes(14), "disk… (1/2)");
        check("盘满了了", "", Measure::Bytes(9), "盘满…");
        check("disk full", "", Measure::Characters(6), "disk…");
    }

    proptest! {
        #[test]
        fn each_piece_fits_and_nothing_is_lost(
            text in "([a-z&<>\\\\ \\nüß漢😀\"*_]|&lt;){0,200}",
            most in 12_usize..60,
        ) {
            for markup in [Markup::Plain, Markup::Telegram, Markup::Feishu, Markup::WeCom] {
                for measure in [
                    Measure::Bytes(most),
                    Measure::JsonBytes(most),
                    Measure::Characters(most),
                    Measure::Visible(most),
                ] {
                    let escaped: Vec<_> = text.lines().map(|line| markup.escape(line)).collect();
                    let pieces = split(&escaped.join("\n"), measure, markup);
                    for piece in &pieces {
                        prop_assert!(measure.fits(piece), "{measure:?} {markup:?} {piece:?}");
                    }
                    let bare = |text: &str| text.replace([' ', '\n'], "");
                    prop_assert_eq!(bare(&pieces.concat()), bare(&escaped.concat()));
                }
            }
        }
    }
}
