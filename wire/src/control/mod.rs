//! Settings and commands for publishers: `config/desired`, `config/reported`, `command/<name>`,
//! `reply/<id>`.
//!
//! Nothing here can make a host execute anything: the settings are rates, switches and globs of
//! instances, and the commands are a closed list.

mod desired;
mod item;

use serde::{Deserialize, Serialize};

use crate::codec::Map;
use crate::scalar::Scalar;

pub use desired::{CollectorDesired, ConfigDesired, Fault, MAX_FAULTS, MAX_GLOB_BYTES, MAX_GLOBS};

/// The longest id of a command, in bytes.
pub const MAX_COMMAND_ID_BYTES: usize = 128;

/// `config/reported`: what a publisher made of the wanted settings, and what holds now. Retained.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigReported {
    /// The revision it answers; 0 when there is no document, or none that tells its revision.
    pub revision: u64,
    /// Where the settings in force come from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<ConfigSource>,
    /// The time from sample to sample in milliseconds, by the settings in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval_ms: Option<u64>,
    /// Whether each collector is on, by the settings in force.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub collectors: Map<bool>,
    /// Why the document was refused, by key; empty when all of it holds. The empty key stands for
    /// the document itself. Of a document that is refused nothing is applied.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub refused: Map<String>,
}

/// Where a publisher's settings come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ConfigSource {
    /// The host's own settings alone.
    File,
    /// A document on `config/desired`, on top of them.
    Desired,
}

/// `command/<name>`: asks a publisher for something, once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Command {
    /// Chosen by the asker, [fit for a topic](is_command_id); the answer comes on `reply/<id>`.
    pub id: String,
    /// When it is no longer wanted, in milliseconds since 1970-01-01 UTC.
    pub expires: u64,
    /// Arguments by name.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub args: Map<Scalar>,
}

/// `reply/<id>`: the answer to a command.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reply {
    /// The command's id.
    pub id: String,
    /// Whether it was done.
    pub ok: bool,
    /// Why it was not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What it gave.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub data: Map<Scalar>,
}

/// Tells whether an answer to `id` has a topic: it is one level of 1 to 128 bytes, without
/// wildcards and control characters.
#[must_use]
pub fn is_command_id(id: &str) -> bool {
    let fits = (1..=MAX_COMMAND_ID_BYTES).contains(&id.len());
    fits && !id.contains(|c: char| matches!(c, '/' | '+' | '#') || c.is_control())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_makes_one_level_of_a_topic() {
        let longest = "x".repeat(128);
        for good in ["1", "7f3a-0", "é", "a b", "$x", &longest] {
            assert!(is_command_id(good), "{good}");
        }
        let too_long = "x".repeat(129);
        for bad in [
            "", "a/b", "/", "+", "a#", "a\0", "a\nb", "\u{85}", &too_long,
        ] {
            assert!(!is_command_id(bad), "{bad:?}");
        }
    }
}
