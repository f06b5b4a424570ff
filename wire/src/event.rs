//! `events`: something that happened on a host, once: a collector failed, the clock stepped.

use serde::{Deserialize, Serialize};

use crate::codec::Map;
use crate::scalar::Scalar;

/// How much an event matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Good to know.
    Info,
    /// Something wants attention.
    Warning,
    /// Something is broken.
    Error,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// When, in milliseconds since 1970-01-01 UTC.
    pub ts: u64,
    /// What, as a fixed word: `collector-failed`, `samples-dropped`, `clock-ahead`.
    pub kind: String,
    /// How much it matters.
    pub severity: Severity,
    /// One sentence for people.
    pub message: String,
    /// Particulars.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub details: Map<Scalar>,
}
