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

/// Reads a payload that people and scripts write, too: JSON when it begins with `{`, which no CBOR map
/// does, else CBOR that has passed the [guard].
///
/// # Errors
/// The bytes break a limit of the contract, are neither JSON nor CBOR, or are no `T`.
pub fn decode_open<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    if bytes.trim_ascii_start().first() != Some(&b'{') {
        return decode(bytes);
    }
    guard::check_size(bytes)?;
    serde_json::from_slice(bytes).map_err(|error| DecodeError::Unexpected {
        message: error.to_string(),
    })
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

    #[test]
    fn json_is_read_where_people_write() {
        let committed: Committed =
            decode_open(b" {\"boot\": 7, \"seq\": 3, \"new\": [1]}").unwrap();
        assert_eq!((committed.boot, committed.seq), (7, 3));
        let cbor = encode(&committed).unwrap();
        assert_eq!(decode_open::<Committed>(&cbor).unwrap(), committed);
        for wrong in [
            &b"{\"boot\": 7}"[..],
            b"{\"boot\": 7, \"seq\": 3} x",
            b"{",
            b"",
            b"7",
        ] {
            assert!(decode_open::<Committed>(wrong).is_err(), "{wrong:?}");
        }
        let large = [b"{\"boot\": 7, \"seq\": 3}".to_vec(), vec![b' '; 300_000]].concat();
        assert!(matches!(
            decode_open::<Committed>(&large),
            Err(DecodeError::Refused(_))
        ));
    }
}
