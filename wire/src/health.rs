//! `_system/<component>/<instance>`: how a part of hostbus itself is doing. Retained.

use serde::{Deserialize, Serialize};

use crate::codec::Map;

/// How well a component works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HealthState {
    /// All of it works.
    Ok,
    /// A part of it does not; the reason says which.
    Degraded,
    /// It said good-bye, or the broker lost it.
    Stopped,
}

/// How a component is doing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// When it was written, in milliseconds since 1970-01-01 UTC. 0 in a last will, which is
    /// written long before it is sent.
    pub ts: u64,
    /// How well it works.
    pub state: HealthState,
    /// What is wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Its version.
    pub version: String,
    /// What it counted since its start.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub counters: Map<u64>,
}
