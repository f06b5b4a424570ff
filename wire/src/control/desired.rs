//! `config/desired`: the settings that an admin wants a publisher to have.
//!
//! ```text
//! { "revision": 7, "interval_ms": 5000,
//!   "collectors": { "gpus": false,
//!                   "disks": { "enabled": true, "interval_ms": 60000, "exclude": ["loop*"] } } }
//! ```
//! Unlike elsewhere on the bus, a key that a reader does not know must not pass: half of a document
//! with a slip of the pen would be applied. So a document is read as far as it goes, and whatever
//! is no setting in it is named in its [`faults`](ConfigDesired::faults). Only a document whose
//! revision can't be read is no document at all. Values that are no setting are passed over, never
//! kept.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};
use thiserror::Error;

use super::item::{Faults, MILLISECONDS, Place, told};
use crate::codec::Map;

/// The most globs of one list.
pub const MAX_GLOBS: usize = 64;
/// The longest glob, in bytes.
pub const MAX_GLOB_BYTES: usize = 128;
/// How many faults of one document are told.
pub const MAX_FAULTS: usize = 32;

/// `config/desired`: the settings that an admin wants a publisher to have. Retained.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConfigDesired {
    /// Rises with each change; the answer names it.
    pub revision: u64,
    /// The time from sample to sample in milliseconds.
    pub interval_ms: Option<u64>,
    /// Settings of collectors, by name.
    pub collectors: Map<CollectorDesired>,
    /// What stands in the document and is no setting, by key, at most [`MAX_FAULTS`] of them. A
    /// document with a fault must not be applied. Never written.
    pub faults: Map<Fault>,
}

/// The settings of one collector. What is absent stays as the host's own settings say.
///
/// On the wire `true` and `false` are short for a collector of which only `enabled` is set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CollectorDesired {
    /// Whether it collects.
    pub enabled: Option<bool>,
    /// The time from reading to reading in milliseconds.
    pub interval_ms: Option<u64>,
    /// Globs of instances. If there are any, only these are taken.
    pub include: Option<Vec<String>>,
    /// Globs of instances to leave out.
    pub exclude: Option<Vec<String>>,
}

/// Why something in a document is no setting.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Fault {
    /// There is no such key.
    #[error("no such key")]
    Unknown,
    /// The value is of another kind.
    #[error("expected {expected}, found {found}")]
    Unexpected {
        /// What was expected.
        expected: &'static str,
        /// What was found.
        found: &'static str,
    },
    /// A list is too long.
    #[error("{count} globs are more than {MAX_GLOBS}")]
    TooManyGlobs {
        /// How many it has.
        count: usize,
    },
    /// A glob is empty, too long or holds a control character.
    #[error(
        "a glob has 1 to {MAX_GLOB_BYTES} bytes and no control characters, one has {bytes} bytes"
    )]
    Glob {
        /// Its length.
        bytes: usize,
    },
}

impl Serialize for ConfigDesired {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        let count =
            1 + usize::from(self.interval_ms.is_some()) + usize::from(!self.collectors.is_empty());
        let mut map = out.serialize_map(Some(count))?;
        map.serialize_entry("revision", &self.revision)?;
        if let Some(interval_ms) = self.interval_ms {
            map.serialize_entry("interval_ms", &interval_ms)?;
        }
        if !self.collectors.is_empty() {
            map.serialize_entry("collectors", &self.collectors)?;
        }
        map.end()
    }
}

impl Serialize for CollectorDesired {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        let lists = [("include", &self.include), ("exclude", &self.exclude)];
        let others = usize::from(self.interval_ms.is_some())
            + lists.iter().filter(|(_, list)| list.is_some()).count();
        if let (Some(enabled), 0) = (self.enabled, others) {
            return out.serialize_bool(enabled);
        }
        let mut map = out.serialize_map(Some(others + usize::from(self.enabled.is_some())))?;
        if let Some(enabled) = self.enabled {
            map.serialize_entry("enabled", &enabled)?;
        }
        if let Some(interval_ms) = self.interval_ms {
            map.serialize_entry("interval_ms", &interval_ms)?;
        }
        for (key, list) in lists {
            if let Some(list) = list {
                map.serialize_entry(key, list)?;
            }
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for ConfigDesired {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        input.deserialize_map(DocumentVisitor)
    }
}

struct DocumentVisitor;

impl<'de> Visitor<'de> for DocumentVisitor {
    type Value = ConfigDesired;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map of settings")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<ConfigDesired, A::Error> {
        let mut document = ConfigDesired::default();
        let mut revision = None;
        while let Some(key) = entries.next_key::<String>()? {
            match key.as_str() {
                "revision" => {
                    let item = entries.next_value_seed(Place::Value)?;
                    let read = item.whole("a whole number");
                    let fault = |fault| de::Error::custom(format!("{key}: {fault}"));
                    revision = Some(read.map_err(fault)?);
                }
                "interval_ms" => {
                    let item = entries.next_value_seed(Place::Value)?;
                    document.interval_ms = document.faults.keep(&key, item.whole(MILLISECONDS));
                }
                "collectors" => {
                    let faults = &mut document.faults;
                    let item = entries.next_value_seed(Place::Collectors(faults))?;
                    let collectors = document.faults.keep(&key, item.collectors());
                    document.collectors = collectors.unwrap_or_default();
                }
                _ => {
                    entries.next_value::<IgnoredAny>()?;
                    document.faults.note(told(&key), Fault::Unknown);
                }
            }
        }
        document.revision = revision.ok_or_else(|| de::Error::missing_field("revision"))?;
        Ok(document)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DecodeError, decode, encode};
    use serde_json::{Value, json};

    #[expect(
        clippy::needless_pass_by_value,
        reason = "documents are written in place"
    )]
    fn read(document: Value) -> ConfigDesired {
        decode(&encode(&document).unwrap()).unwrap()
    }

    #[test]
    fn a_document_is_read_with_its_short_and_its_long_forms() {
        let document = read(json!({
            "revision": 7,
            "interval_ms": 5000,
            "collectors": {
                "gpus": false,
                "disks": {"enabled": true, "interval_ms": 60000, "include": [], "exclude": ["loop*", "ram*"]},
            },
        }));
        assert_eq!(document.faults, Map::new());
        assert_eq!((document.revision, document.interval_ms), (7, Some(5000)));
        assert_eq!(document.collectors["gpus"].enabled, Some(false));
        let disks = &document.collectors["disks"];
        assert_eq!(
            (disks.enabled, disks.interval_ms),
            (Some(true), Some(60_000))
        );
        assert_eq!(disks.include, Some(Vec::new()));
        assert_eq!(disks.exclude.as_ref().unwrap(), &["loop*", "ram*"]);
    }

    #[test]
    fn what_is_written_reads_back_and_a_switch_alone_is_short() {
        let text = |text: &str| text.to_owned();
        let document = ConfigDesired {
            revision: 3,
            interval_ms: Some(1000),
            collectors: [
                (
                    text("gpus"),
                    CollectorDesired {
                        enabled: Some(false),
                        ..CollectorDesired::default()
                    },
                ),
                (
                    text("disks"),
                    CollectorDesired {
                        exclude: Some(vec![text("loop*")]),
                        ..CollectorDesired::default()
                    },
                ),
                (text("cpu"), CollectorDesired::default()),
            ]
            .into(),
            faults: Map::new(),
        };
        let bytes = encode(&document).unwrap();
        assert_eq!(decode::<ConfigDesired>(&bytes).unwrap(), document);
        assert_eq!(
            crate::codec::to_json(&bytes).unwrap(),
            r#"{"revision":3,"interval_ms":1000,"collectors":{"cpu":{},"disks":{"exclude":["loop*"]},"gpus":false}}"#
        );
        let least = ConfigDesired {
            revision: 1,
            ..ConfigDesired::default()
        };
        assert_eq!(
            decode::<ConfigDesired>(&encode(&least).unwrap()).unwrap(),
            least
        );
    }

    #[test]
    fn what_is_no_setting_is_named_with_its_key_and_reason() {
        let check = |document: Value, key: &str, reason: &str| {
            let document = read(document);
            let faults: Vec<(&str, String)> = document
                .faults
                .iter()
                .map(|(key, fault)| (key.as_str(), fault.to_string()))
                .collect();
            assert_eq!(faults, [(key, reason.to_owned())]);
            assert_eq!(document.revision, 7);
        };
        check(
            json!({"revision": 7, "intervall_ms": 5}),
            "intervall_ms",
            "no such key",
        );
        check(
            json!({"intervall": {"a": [1, {"b": null}]}, "revision": 7}),
            "intervall",
            "no such key",
        );
        check(
            json!({"revision": 7, "interval_ms": "fast"}),
            "interval_ms",
            "expected a whole number of milliseconds, found a text",
        );
        for (value, found) in [
            (json!(-5), "a negative number"),
            (json!(2.5), "a floating-point number"),
            (json!(null), "null"),
            (json!(true), "true or false"),
            (json!({"x": {"y": []}}), "a map"),
        ] {
            let reason = format!("expected a whole number of milliseconds, found {found}");
            check(
                json!({"revision": 7, "interval_ms": value}),
                "interval_ms",
                &reason,
            );
        }
        check(
            json!({"revision": 7, "collectors": ["cpu"]}),
            "collectors",
            "expected a map of collectors, found a list",
        );
        check(
            json!({"revision": 7, "collectors": {"cpu": 1}}),
            "collectors.cpu",
            "expected true, false or a map of settings, found a number",
        );
        check(
            json!({"revision": 7, "collectors": {"cpu": {"enable": true}}}),
            "collectors.cpu.enable",
            "no such key",
        );
        check(
            json!({"revision": 7, "collectors": {"cpu": {"enabled": "yes"}}}),
            "collectors.cpu.enabled",
            "expected true or false, found a text",
        );
        let list =
            |globs: Value| json!({"revision": 7, "collectors": {"disks": {"exclude": globs}}});
        let key = "collectors.disks.exclude";
        check(
            list(json!("loop*")),
            key,
            "expected a list of texts, found a text",
        );
        check(
            list(json!(["a", 1])),
            key,
            "expected a list of texts, found a list of other things",
        );
        check(
            list(json!([["a"]])),
            key,
            "expected a list of texts, found a list of other things",
        );
        check(list(json!(vec!["a"; 65])), key, "65 globs are more than 64");
        let no_glob = |bytes: usize| {
            format!("a glob has 1 to 128 bytes and no control characters, one has {bytes} bytes")
        };
        check(list(json!(["a", ""])), key, &no_glob(0));
        check(list(json!(["x".repeat(129)])), key, &no_glob(129));
        check(list(json!(["a\nb"])), key, &no_glob(3));
        assert_eq!(
            read(list(json!(vec!["x".repeat(128); 64]))).faults,
            Map::new()
        );
    }

    #[test]
    fn bytes_and_tagged_values_are_faults_too() {
        // {"revision": 7, "interval_ms": h'00'}, then with 1(0), a bignum and an ignored 1(0)
        for (bytes, found) in [
            (&b"\xa2\x68revision\x07\x6binterval_ms\x41\x00"[..], "bytes"),
            (
                b"\xa2\x68revision\x07\x6binterval_ms\xc1\x00",
                "a tagged value",
            ),
            (
                b"\xa2\x68revision\x07\x6binterval_ms\xc2\x49\x01\0\0\0\0\0\0\0\0",
                "a huge number",
            ),
        ] {
            let document: ConfigDesired = decode(bytes).unwrap();
            let expected = "a whole number of milliseconds";
            assert_eq!(
                document.faults["interval_ms"],
                Fault::Unexpected { expected, found }
            );
        }
        let document: ConfigDesired = decode(b"\xa2\x68revision\x07\x61x\xc1\x00").unwrap();
        assert_eq!(document.faults["x"], Fault::Unknown);
    }

    #[test]
    fn a_document_without_a_revision_is_none() {
        for (document, reason) in [
            (json!({"interval_ms": 5000}), "revision"),
            (
                json!({"revision": "7"}),
                "revision: expected a whole number, found a text",
            ),
            (
                json!({"revision": -1}),
                "revision: expected a whole number, found a negative number",
            ),
            (json!([1]), "map"),
        ] {
            match decode::<ConfigDesired>(&encode(&document).unwrap()) {
                Err(DecodeError::Unexpected { message }) => {
                    assert!(message.contains(reason), "{message}");
                }
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn the_faults_of_a_hostile_document_are_few_and_short() {
        let long = |number: usize| {
            (
                format!("é{}{number}", "€".repeat(40)),
                json!({"é".repeat(60): 1}),
            )
        };
        let collectors: serde_json::Map<String, Value> = (0..100).map(long).collect();
        let document = read(json!({"revision": 7, "collectors": collectors}));
        assert_eq!(document.faults.len(), 1, "cut keys are the same key");
        let (key, _) = document.faults.first_key_value().unwrap();
        assert!(
            key.len() <= crate::guard::MAX_KEY_BYTES && key.contains('…'),
            "{key}"
        );
        let many: serde_json::Map<String, Value> =
            (0..100).map(|n| (n.to_string(), json!(1))).collect();
        assert_eq!(
            read(json!({"revision": 7, "collectors": many}))
                .faults
                .len(),
            MAX_FAULTS
        );
    }
}
