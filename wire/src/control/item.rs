//! One value of a `config/desired`, read without keeping what is no setting.

use std::fmt;

use serde::de::{
    self, DeserializeSeed, Deserializer, EnumAccess, IgnoredAny, MapAccess, SeqAccess, Visitor,
};

use super::desired::{CollectorDesired, Fault, MAX_FAULTS, MAX_GLOB_BYTES, MAX_GLOBS};
use crate::codec::Map;

pub(super) const MILLISECONDS: &str = "a whole number of milliseconds";
/// How much of an unknown key is told, in bytes.
const MAX_TOLD_BYTES: usize = 40;

/// One value of a document, of the few shapes that settings have.
pub(super) enum Item {
    Bool(bool),
    Whole(u64),
    Text(String),
    List(List),
    Collectors(Map<CollectorDesired>),
    Collector(CollectorDesired),
    /// None of them: what it is.
    Other(&'static str),
}

/// A list of texts.
pub(super) struct List {
    /// Its first texts.
    texts: Vec<String>,
    count: usize,
    /// Something in it is no text.
    mixed: bool,
}

impl Item {
    fn found(&self) -> &'static str {
        match self {
            Self::Bool(_) => "true or false",
            Self::Whole(_) => "a number",
            Self::Text(_) => "a text",
            Self::List(list) if list.mixed => "a list of other things",
            Self::List(_) => "a list",
            Self::Collectors(_) | Self::Collector(_) => "a map",
            Self::Other(found) => found,
        }
    }

    fn is_no<T>(&self, expected: &'static str) -> Result<T, Fault> {
        let found = self.found();
        Err(Fault::Unexpected { expected, found })
    }

    fn bool(self) -> Result<bool, Fault> {
        match self {
            Self::Bool(value) => Ok(value),
            other => other.is_no("true or false"),
        }
    }

    pub(super) fn whole(self, expected: &'static str) -> Result<u64, Fault> {
        match self {
            Self::Whole(value) => Ok(value),
            other => other.is_no(expected),
        }
    }

    fn globs(self) -> Result<Vec<String>, Fault> {
        let list = match self {
            Self::List(list) if !list.mixed => list,
            other => return other.is_no("a list of texts"),
        };
        if list.count > MAX_GLOBS {
            return Err(Fault::TooManyGlobs { count: list.count });
        }
        let fits = |glob: &String| {
            (1..=MAX_GLOB_BYTES).contains(&glob.len()) && !glob.contains(char::is_control)
        };
        match list.texts.iter().find(|glob| !fits(glob)) {
            Some(glob) => Err(Fault::Glob { bytes: glob.len() }),
            None => Ok(list.texts),
        }
    }

    pub(super) fn collectors(self) -> Result<Map<CollectorDesired>, Fault> {
        match self {
            Self::Collectors(collectors) => Ok(collectors),
            other => other.is_no("a map of collectors"),
        }
    }

    fn collector(self) -> Result<CollectorDesired, Fault> {
        match self {
            Self::Collector(collector) => Ok(collector),
            Self::Bool(enabled) => Ok(CollectorDesired {
                enabled: Some(enabled),
                ..CollectorDesired::default()
            }),
            other => other.is_no("true, false or a map of settings"),
        }
    }
}

/// Where a value stands, which tells what a map there is.
pub(super) enum Place<'d> {
    /// Where no map belongs.
    Value,
    /// Below `collectors`.
    Collectors(&'d mut Map<Fault>),
    /// Below the collector of this key.
    Collector(&'d str, &'d mut Map<Fault>),
}

impl<'de> DeserializeSeed<'de> for Place<'_> {
    type Value = Item;

    fn deserialize<D: Deserializer<'de>>(self, input: D) -> Result<Item, D::Error> {
        input.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Place<'_> {
    type Value = Item;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Item, E> {
        Ok(Item::Bool(value))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Item, E> {
        Ok(Item::Whole(value))
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<Item, E> {
        Ok(Item::Other("a negative number"))
    }

    fn visit_u128<E: de::Error>(self, _: u128) -> Result<Item, E> {
        Ok(Item::Other("a huge number"))
    }

    fn visit_i128<E: de::Error>(self, _: i128) -> Result<Item, E> {
        Ok(Item::Other("a huge number"))
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<Item, E> {
        Ok(Item::Other("a floating-point number"))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Item, E> {
        Ok(Item::Text(text.to_owned()))
    }

    fn visit_bytes<E: de::Error>(self, _: &[u8]) -> Result<Item, E> {
        Ok(Item::Other("bytes"))
    }

    fn visit_unit<E: de::Error>(self) -> Result<Item, E> {
        Ok(Item::Other("null"))
    }

    fn visit_none<E: de::Error>(self) -> Result<Item, E> {
        self.visit_unit()
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Item, A::Error> {
        let mut list = List {
            texts: Vec::new(),
            count: 0,
            mixed: false,
        };
        while let Some(item) = items.next_element_seed(Place::Value)? {
            list.count += 1;
            match item {
                Item::Text(text) if list.texts.len() < MAX_GLOBS => list.texts.push(text),
                Item::Text(_) => {}
                _ => list.mixed = true,
            }
        }
        Ok(Item::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Item, A::Error> {
        match self {
            Place::Value => {
                IgnoredAny.visit_map(entries)?;
                Ok(Item::Other("a map"))
            }
            Place::Collectors(faults) => {
                let mut collectors = Map::new();
                while let Some(name) = entries.next_key::<String>()? {
                    let key = format!("collectors.{}", told(&name));
                    let item = entries.next_value_seed(Place::Collector(&key, faults))?;
                    if let Some(collector) = faults.keep(&key, item.collector()) {
                        collectors.insert(name, collector);
                    }
                }
                Ok(Item::Collectors(collectors))
            }
            Place::Collector(key, faults) => {
                let mut collector = CollectorDesired::default();
                while let Some(field) = entries.next_key::<String>()? {
                    let key = format!("{key}.{}", told(&field));
                    let item = entries.next_value_seed(Place::Value)?;
                    match field.as_str() {
                        "enabled" => collector.enabled = faults.keep(&key, item.bool()),
                        "interval_ms" => {
                            collector.interval_ms = faults.keep(&key, item.whole(MILLISECONDS));
                        }
                        "include" => collector.include = faults.keep(&key, item.globs()),
                        "exclude" => collector.exclude = faults.keep(&key, item.globs()),
                        _ => faults.note(key, Fault::Unknown),
                    }
                }
                Ok(Item::Collector(collector))
            }
        }
    }

    fn visit_enum<A: EnumAccess<'de>>(self, tagged: A) -> Result<Item, A::Error> {
        IgnoredAny.visit_enum(tagged)?;
        Ok(Item::Other("a tagged value"))
    }
}

/// Faults by key, a bounded number of them.
pub(super) trait Faults {
    fn note(&mut self, key: String, fault: Fault);

    /// The value, or its fault noted.
    fn keep<T>(&mut self, key: &str, value: Result<T, Fault>) -> Option<T>;
}

impl Faults for Map<Fault> {
    fn note(&mut self, key: String, fault: Fault) {
        if self.len() < MAX_FAULTS {
            self.insert(key, fault);
        }
    }

    fn keep<T>(&mut self, key: &str, value: Result<T, Fault>) -> Option<T> {
        value.map_err(|fault| self.note(key.to_owned(), fault)).ok()
    }
}

/// So much of a foreign key that the answer's keys stay within their limit.
pub(super) fn told(key: &str) -> String {
    if key.len() <= MAX_TOLD_BYTES {
        return key.to_owned();
    }
    format!("{}…", &key[..key.floor_char_boundary(MAX_TOLD_BYTES)])
}
