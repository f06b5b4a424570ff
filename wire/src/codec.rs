//! CBOR in and out: the only place that knows the CBOR library, and the reader of our own for samples.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::cbor::Reader;
use crate::guard::{self, Violation};
use crate::sample::Sample;
use crate::sample::error::SampleError;
use crate::scalar::Json;

/// The most of what the JSON library says that is shown, in bytes.
const MAX_MESSAGE_BYTES: usize = 240;

/// Why a payload could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// It breaks a limit of the contract or is no CBOR.
    #[error("refused payload: {0}")]
    Refused(#[from] Violation),
    /// It is CBOR, but not what this topic carries.
    #[error("unexpected payload: {message}")]
    Unexpected {
        /// What was found and what was expected.
        message: String,
    },
    /// It is JSON that is broken or of another shape.
    #[error("unusable JSON: {message}; expected such as {example}")]
    Json {
        /// Where and why.
        message: String,
        /// What is expected, as people write it.
        example: &'static str,
    },
    /// It is neither a JSON object nor CBOR.
    #[error("neither JSON nor CBOR: {found}; expected such as {example}")]
    Foreign {
        /// What kind of thing it is.
        found: &'static str,
        /// What is expected, as people write it.
        example: &'static str,
    },
    /// It is a sample that can't be taken.
    #[error("unusable sample: {0}")]
    Sample(#[from] SampleError),
}

/// Why a payload could not be written.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("failed to encode the payload: {message}")]
pub struct EncodeError {
    message: String,
}

/// Writes a payload.
///
/// # Errors
/// The value has a form that CBOR payloads here do not use, such as a map of unknown length.
pub fn encode(payload: &impl Serialize) -> Result<Vec<u8>, EncodeError> {
    let mut bytes = Vec::with_capacity(1024);
    ciborium::into_writer(payload, &mut bytes).map_err(|error| EncodeError {
        message: error.to_string(),
    })?;
    Ok(bytes)
}

/// Reads a payload that came from the bus, once it has passed the [guard].
///
/// A [`Sample`] has more to check: read it with [`Sample::decode`](crate::Sample::decode).
///
/// # Errors
/// The bytes break a limit of the contract, are no CBOR, or are no `T`.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    guard::check(bytes)?;
    ciborium::from_reader(bytes).map_err(|error| {
        let message = match error {
            ciborium::de::Error::Semantic(_, message) => message,
            other => other.to_string(),
        };
        DecodeError::Unexpected { message }
    })
}

/// A payload that people and scripts write, too.
pub trait Open: DeserializeOwned {
    /// One of it in JSON, which errors show.
    const EXAMPLE: &'static str;
}

/// Reads a payload that people and scripts write, too: JSON when it begins with `{`, which no CBOR map
/// does, else CBOR that has passed the [guard].
///
/// # Errors
/// The bytes break a limit of the contract, are neither JSON nor CBOR, or are no `T`.
pub fn decode_open<T: Open>(bytes: &[u8]) -> Result<T, DecodeError> {
    guard::check_size(bytes)?;
    let foreign = |found| DecodeError::Foreign {
        found,
        example: T::EXAMPLE,
    };
    if bytes.trim_ascii_start().first() == Some(&b'{') {
        return serde_json::from_slice(bytes).map_err(|error| DecodeError::Json {
            message: shown(&error.to_string()),
            example: T::EXAMPLE,
        });
    }
    // A CBOR map, tagged or not, begins with a byte that no text of UTF-8 begins with.
    if let Ok(text) = str::from_utf8(bytes) {
        return Err(foreign(kind_of(text)));
    }
    match decode(bytes) {
        Err(DecodeError::Refused(_)) if !is_map(bytes[0]) => {
            Err(foreign("bytes that are neither UTF-8 nor a map"))
        }
        decoded => decoded,
    }
}

/// Whether CBOR that begins so is a map.
fn is_map(first: u8) -> bool {
    const MAJOR_TYPE_OF_MAPS: u8 = 5;
    first >> 5 == MAJOR_TYPE_OF_MAPS
}

/// What a text is that is no JSON object; nothing of it is shown.
fn kind_of(text: &str) -> &'static str {
    match text.trim_start().chars().next() {
        None => "nothing but blanks",
        Some('\u{feff}') => "text that begins with a byte order mark",
        Some('[') => "a list, or text that begins as one",
        Some('"') => "text in quotation marks",
        Some('0'..='9' | '-') => "a number, or text that begins as one",
        Some(_) => "plain text that does not begin with `{`",
    }
}

/// What the JSON library says, which may quote the payload: one line, and not much of it.
fn shown(message: &str) -> String {
    let mut shown: String = message
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    if shown.len() > MAX_MESSAGE_BYTES {
        // Where it fails stands at the end.
        let begin = shown.floor_char_boundary(MAX_MESSAGE_BYTES / 2);
        let end = shown.ceil_char_boundary(shown.len() - MAX_MESSAGE_BYTES / 2);
        shown.replace_range(begin..end, " … ");
    }
    shown
}

/// Reads a sample that has passed the [guard], without the checks of its own.
pub(crate) fn decode_sample(bytes: &[u8]) -> Result<Sample, DecodeError> {
    guard::check(bytes)?;
    Sample::deserialize(&mut Reader::new(bytes)).map_err(|mistake| DecodeError::Unexpected {
        message: mistake.to_string(),
    })
}

/// Reads any payload that passes the [guard] as JSON, for people to look at. Byte strings become
/// hexadecimal text; the order of keys is kept.
///
/// # Errors
/// The bytes break a limit of the contract or are no CBOR.
pub fn to_json(bytes: &[u8]) -> Result<String, DecodeError> {
    let json: Json = decode(bytes)?;
    Ok(json.0)
}

/// A map of a payload whose keys are not fixed by the contract.
pub type Map<V> = BTreeMap<String, V>;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::committed::Committed;

    impl Open for Committed {
        const EXAMPLE: &'static str = r#"{"boot": 7, "seq": 3}"#;
    }

    #[test]
    fn json_is_read_where_people_write() {
        let committed: Committed =
            decode_open(b" {\"boot\": 7, \"seq\": 3, \"new\": [1]}").unwrap();
        assert_eq!((committed.boot, committed.seq), (7, 3));
        let cbor = encode(&committed).unwrap();
        assert_eq!(decode_open::<Committed>(&cbor).unwrap(), committed);
    }

    #[test]
    fn what_is_neither_json_nor_cbor_is_called_so_with_an_example() {
        let check = |payload: &[u8], words: &[&str]| {
            let error = decode_open::<Committed>(payload).unwrap_err().to_string();
            for word in words {
                assert!(error.contains(word), "{payload:?}: {word} in {error}");
            }
            assert!(!error.contains("hunter2"), "{error}");
            assert!(error.len() < 400, "{error}");
            assert!(!error.contains(char::is_control), "{error}");
        };
        let example = r#"expected such as {"boot": 7, "seq": 3}"#;
        let neither = "neither JSON nor CBOR";
        check(b"firing", &[neither, "plain text", example]);
        check(b"password=hunter2", &[neither, example]);
        check("st\u{f6}rung".as_bytes(), &[neither, example]);
        check(
            b"st\xf6rung",
            &[neither, "neither UTF-8 nor a map", example],
        );
        check(b"", &[neither, "blanks"]);
        check(b" \n", &[neither, "blanks"]);
        check(b"7", &[neither, "a number"]);
        check(b"[{}]", &[neither, "a list"]);
        check(b"\"firing\"", &[neither, "quotation marks"]);
        check(b"\xef\xbb\xbf{}", &[neither, "byte order mark"]);
        check(b"{", &["unusable JSON: EOF", "line 1 column 1", example]);
        check(b"{'boot': 7}", &["line 1 column 2", example]);
        check(
            b"{\"boot\": 7}",
            &["missing field `seq`", "line 1", example],
        );
        let rest = b"{\"boot\": 7,\n \"seq\": 3} x";
        check(rest, &["trailing characters", "line 2 column 12"]);
        let long = format!("{{\"boot\": \"{}\"}}", "\u{f6}\\n".repeat(5000));
        check(long.as_bytes(), &["invalid type", " … ", "line 1 column"]);
        // What is CBOR and broken is told as such.
        check(b"\xa1\x61", &["ends too early"]);
        check(b"\xa1\x61x\x01", &["missing field"]);
    }

    #[test]
    fn json_has_the_size_of_the_contract() {
        let large = [b"{\"boot\": 7, \"seq\": 3}".to_vec(), vec![b' '; 300_000]].concat();
        assert!(matches!(
            decode_open::<Committed>(&large),
            Err(DecodeError::Refused(_))
        ));
    }
}
