//! One value of a document, with the place where it stands; each reading of it is checked, and tells key,
//! value and what was expected.

use std::ops::{Range, RangeInclusive};

use hostbus_wire::Unit;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::mistake::{Mistake, did_you_mean};
use super::{duration, quantity};
use crate::globs::Globs;

/// The longest glob, in bytes.
const MAX_GLOB_BYTES: usize = 128;
/// The most globs in a list.
const MAX_GLOBS: usize = 256;
/// How much of a value a message shows, in characters.
const SHOWN: usize = 60;

/// The text of a document, and the rule that is being read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'d> {
    pub(super) text: &'d str,
    pub(super) rule: &'d str,
}

impl Place<'_> {
    pub(super) fn mistake(&self, at: usize, key: &str, problem: String) -> Mistake {
        Mistake {
            line: Some(line_of(self.text.as_bytes(), at)),
            rule: Some(self.rule.to_owned()),
            key: Some(key.to_owned()),
            problem,
        }
    }
}

/// The line of the byte `at`, from 1.
pub(super) fn line_of(text: &[u8], at: usize) -> usize {
    let before = text.get(..at).unwrap_or(text);
    1 + before.iter().filter(|byte| **byte == b'\n').count()
}

/// A table whose keys are all known.
#[derive(Debug, Clone)]
pub(super) struct Section<'d> {
    place: Place<'d>,
    table: &'d DeTable<'d>,
    at: usize,
    path: String,
}

impl<'d> Section<'d> {
    /// The table at `at`, below the key `path`.
    pub(super) fn new(
        place: Place<'d>,
        table: &'d DeTable<'d>,
        at: usize,
        path: String,
        known: &[&str],
    ) -> Result<Self, Mistake> {
        let section = Self {
            place,
            table,
            at,
            path,
        };
        for key in table.keys() {
            let name = key.get_ref();
            if !known.contains(&name.as_ref()) {
                let key_path = section.below(&shortened(name));
                let hint = did_you_mean(name, known.iter().copied());
                let expected = if hint.is_empty() {
                    format!(", expected one of {}", known.join(", "))
                } else {
                    hint
                };
                let problem = format!("unknown key `{key_path}`{expected}");
                return Err(place.mistake(key.span().start, &key_path, problem));
            }
        }
        Ok(section)
    }

    pub(super) fn get(&self, key: &str) -> Option<Item<'d>> {
        let value = self.table.get(key)?;
        Some(Item {
            place: self.place,
            value: value.get_ref(),
            span: value.span(),
            path: self.below(key),
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// A mistake about `key`, or about the table where there is no such key.
    pub(super) fn mistake(&self, key: &str, problem: impl Into<String>) -> Mistake {
        let at = self
            .table
            .get(key)
            .map_or(self.at, |value| value.span().start);
        self.place.mistake(at, &self.below(key), problem.into())
    }

    fn below(&self, key: &str) -> String {
        if self.path.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.path)
        }
    }
}

/// One value.
#[derive(Debug, Clone)]
pub(super) struct Item<'d> {
    pub(super) place: Place<'d>,
    value: &'d DeValue<'d>,
    span: Range<usize>,
    pub(super) path: String,
}

impl<'d> Item<'d> {
    /// A mistake in this value.
    pub(super) fn wrong(&self, expected: impl AsRef<str>) -> Mistake {
        let shown = self.place.text.get(self.span.clone()).unwrap_or_default();
        let line = shown.lines().next().unwrap_or_default();
        let problem = format!("{} = {}: {}", self.path, shortened(line), expected.as_ref());
        self.place.mistake(self.span.start, &self.path, problem)
    }

    fn expected(&self, what: &str) -> Mistake {
        self.wrong(format!("expected {what}"))
    }

    pub(super) fn text(&self, what: &str) -> Result<&'d str, Mistake> {
        self.value.as_str().ok_or_else(|| self.expected(what))
    }

    pub(super) fn flag(&self) -> Result<bool, Mistake> {
        let flag = self.value.as_bool();
        flag.ok_or_else(|| self.expected("true or false"))
    }

    /// It is written as `false`.
    pub(super) fn is_false(&self) -> bool {
        self.value.as_bool() == Some(false)
    }

    /// A finite number, whole or not.
    fn number(&self) -> Result<f64, Mistake> {
        let number = match self.value {
            DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
                .ok()
                .map(|number| {
                    #[expect(clippy::cast_precision_loss, reason = "no threshold is so exact")]
                    {
                        number as f64
                    }
                }),
            DeValue::Float(number) => number.as_str().parse().ok(),
            _ => None,
        };
        let finite = number.filter(|number: &f64| number.is_finite());
        finite.ok_or_else(|| self.expected("a number"))
    }

    /// A number in the unit `unit`; bytes may be a text such as `2GiB`.
    pub(super) fn quantity(&self, unit: Unit) -> Result<f64, Mistake> {
        match (unit, self.value.as_str()) {
            (Unit::Bytes | Unit::BytesPerSecond, Some(text)) => quantity::bytes(text)
                .ok_or_else(|| self.expected("a number of bytes, or a text such as \"2GiB\"")),
            _ => self.number(),
        }
    }

    /// A span of time within `range`, in milliseconds.
    pub(super) fn duration(&self, range: RangeInclusive<u64>) -> Result<u64, Mistake> {
        let ms = self.value.as_str().and_then(duration::parse);
        let ms =
            ms.ok_or_else(|| self.expected("a duration such as \"30s\", \"5m\" or \"1h30m\""))?;
        if range.contains(&ms) {
            return Ok(ms);
        }
        let ends = [*range.start(), *range.end()].map(duration::text);
        Err(self.expected(&format!("a duration from {} to {}", ends[0], ends[1])))
    }

    /// A table with the keys `known` and no others.
    pub(super) fn section(&self, known: &[&str], what: &str) -> Result<Section<'d>, Mistake> {
        let table = self.value.as_table().ok_or_else(|| self.expected(what))?;
        Section::new(self.place, table, self.span.start, self.path.clone(), known)
    }

    /// The entries of a table of texts, with the place of each.
    pub(super) fn texts(&self) -> Result<Vec<(&'d str, Self)>, Mistake> {
        let what = "a table of texts such as { runbook = \"https://…\" }";
        let table = self.value.as_table().ok_or_else(|| self.expected(what))?;
        let entries = table.iter().map(|(key, value)| {
            let item = Self {
                place: self.place,
                value: value.get_ref(),
                span: value.span(),
                path: format!("{}.{}", self.path, shortened(key.get_ref())),
            };
            (key.get_ref().as_ref(), item)
        });
        Ok(entries.collect())
    }

    /// The items of a list of tables.
    pub(super) fn tables(&self, what: &str) -> Result<Vec<&'d Spanned<DeValue<'d>>>, Mistake> {
        let list = self.value.as_array().ok_or_else(|| self.expected(what))?;
        Ok(list.iter().collect())
    }

    /// A glob, or a list of them; `fits` tells whether one can match anything.
    pub(super) fn globs(&self, fits: fn(&str) -> bool, what: &str) -> Result<Globs, Mistake> {
        let one = |value: &DeValue<'_>| {
            let glob = value.as_str()?;
            let fits = !glob.is_empty() && glob.len() <= MAX_GLOB_BYTES && fits(glob);
            fits.then(|| glob.to_owned())
        };
        let list: Option<Vec<String>> = match self.value {
            DeValue::Array(list) if list.len() <= MAX_GLOBS => {
                list.iter().map(|value| one(value.get_ref())).collect()
            }
            DeValue::Array(_) => {
                return Err(self.expected(&format!("at most {MAX_GLOBS} globs")));
            }
            value => one(value).map(|glob| vec![glob]),
        };
        match list {
            Some(list) if !list.is_empty() => Ok(Globs::new(&list)),
            Some(_) => {
                Err(self.wrong("an empty list takes nothing; leave the key out to take all"))
            }
            None => Err(self.expected(what)),
        }
    }

    /// Globs to take and globs to leave out: a glob, a list, or `{ include = …, exclude = … }`.
    pub(super) fn selection(
        &self,
        fits: fn(&str) -> bool,
        what: &str,
    ) -> Result<(Globs, Globs), Mistake> {
        if self.value.as_table().is_none() {
            return Ok((self.globs(fits, what)?, Globs::default()));
        }
        let section = self.section(&["include", "exclude"], what)?;
        let part = |key| {
            let item = section.get(key);
            item.map_or(Ok(Globs::default()), |item| item.globs(fits, what))
        };
        if section.is_empty() {
            return Err(self.wrong("expected include, exclude or both"));
        }
        Ok((part("include")?, part("exclude")?))
    }
}

/// What is shown of a text: one line, not too long.
pub(super) fn shortened(text: &str) -> String {
    let mut shown: String = text
        .chars()
        .take(SHOWN)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    if text.chars().nth(SHOWN).is_some() {
        shown.push('…');
    }
    shown
}
