//! `_silences/<id>` and `_acknowledgements/<fingerprint>`: what people say to alerts. Both retained, in
//! CBOR or JSON, and removed with an empty payload.
//!
//! ```text
//! {"nodes": ["web*"], "rules": ["*"], "until": 1763633600000, "by": "ann", "why": "backup"}
//! {"by": "ann", "why": "I am at it", "until": 1763633600000}
//! ```

use serde::{Deserialize, Serialize};

use crate::alert::AlertSeverity;
use crate::codec::{Map, Open};

/// No notice goes out for the alerts that it matches, while it lasts.
///
/// A list that is absent or empty matches everything; each entry is a glob (`*` any text, `?` one
/// character), and one entry of each list must match.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Silence {
    /// Nodes, as `web1` or `home.web1`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<String>,
    /// Rules.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<String>,
    /// Instances; an alert of the whole node has the empty one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub instances: Vec<String>,
    /// Severities.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub severities: Vec<AlertSeverity>,
    /// Labels by name; an alert without the label has the empty one.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub labels: Map<String>,
    /// From when, in milliseconds since 1970-01-01 UTC. Absent: at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<u64>,
    /// Until when, in milliseconds since 1970-01-01 UTC. Absent: for ever, where it recurs; without
    /// recurrence it must be given, or [`seconds`](Self::seconds).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<u64>,
    /// For how long from its arrival, or from `from`, for scripts that would have to compute a time. A
    /// notifier adds the [`until`](Self::until) that follows; of both the earlier end counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds: Option<u64>,
    /// Only within this window of each week.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weekly: Option<Weekly>,
    /// Who says so.
    pub by: String,
    /// Why.
    pub why: String,
}

/// A window of each week: recurring maintenance.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Weekly {
    /// The days on which it begins: `mon` to `sun`. Absent: each day.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub days: Vec<String>,
    /// When it begins, `HH:MM`.
    pub from: String,
    /// When it ends, `HH:MM`; at or before `from` it is on the next day.
    pub to: String,
    /// The time zone that days and times are in, `Asia/Shanghai`. Absent: UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
}

/// Somebody is at it: nothing is repeated until the alert changes or this is over. Its topic names the
/// alert by its fingerprint.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Acknowledgement {
    /// Who.
    pub by: String,
    /// Why.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub why: String,
    /// When, in milliseconds since 1970-01-01 UTC. Absent: its arrival.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<u64>,
    /// Until when. Absent: until the alert changes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<u64>,
}

impl Open for Silence {
    const EXAMPLE: &'static str =
        r#"{"nodes": ["nas"], "seconds": 7200, "by": "backup.sh", "why": "backup"}"#;
}

impl Open for Acknowledgement {
    const EXAMPLE: &'static str = r#"{"by": "ann", "why": "a disk is ordered"}"#;
}
