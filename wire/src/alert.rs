//! `alerts/<rule>[/<instance>]`: an alert as it stands, retained; an empty payload when it is gone.

use serde::{Deserialize, Serialize};

use crate::codec::Map;
use crate::number;

/// What an alert is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AlertState {
    /// Its condition holds, not yet for long enough.
    Pending,
    /// It holds.
    Firing,
    /// It held, and is over.
    Resolved,
}

/// How bad an alert is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AlertSeverity {
    /// Look at it today.
    Warning,
    /// Look at it now.
    Critical,
}

/// One alert.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    /// The same for the same rule, node and instance, for ever.
    pub fingerprint: String,
    /// What it is at.
    pub state: AlertState,
    /// How bad it is.
    pub severity: AlertSeverity,
    /// Since when it is in this state, in milliseconds since 1970-01-01 UTC.
    pub since: u64,
    /// One sentence for people.
    pub summary: String,
    /// The value that decided, in its field's unit.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "number::optional"
    )]
    pub value: Option<f64>,
    /// The threshold it was held against, in the same unit.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "number::optional"
    )]
    pub threshold: Option<f64>,
    /// Whatever else its author wants to tell.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub labels: Map<String>,
}
