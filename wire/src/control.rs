//! Settings and commands for publishers: `config/desired`, `config/reported`, `command/<name>`,
//! `reply/<id>`.
//!
//! Nothing here can make a host execute anything: the settings are rates and switches, and the
//! commands are a closed list.

use serde::{Deserialize, Serialize};

use crate::codec::Map;
use crate::scalar::Scalar;

/// `config/desired`: the settings that an admin wants a publisher to have. Retained.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigDesired {
    /// Rises with each change; the answer names it.
    pub revision: u64,
    /// The time from sample to sample in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval_ms: Option<u32>,
    /// Collectors to switch on or off, by name.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub collectors: Map<bool>,
}

/// `config/reported`: what a publisher made of the wanted settings. Retained.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigReported {
    /// The revision it answers.
    pub revision: u64,
    /// Why a key was not applied, by key; empty when all of it holds.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub refused: Map<String>,
}

/// `command/<name>`: asks a publisher for something, once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Command {
    /// Chosen by the asker; the answer comes on `reply/<id>`.
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
