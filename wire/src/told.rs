//! `_told/<channel>/<fingerprint>`: what people were told last of an alert through one channel. Retained:
//! a second notifier that takes over knows by it what need not be said again.
//! `_lease/<component>`: which of several instances of a component is the active one.

use serde::{Deserialize, Serialize};

use crate::alert::{AlertKey, AlertSeverity, AlertState};

/// What a channel has delivered of one alert.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// Which alert.
    pub alert: AlertKey,
    /// The state that was told: firing or resolved.
    pub state: AlertState,
    /// The severity that was told.
    pub severity: AlertSeverity,
    /// Since when it had been firing, as it stood in the alert: together with state and severity it
    /// says which change was told.
    pub since: u64,
    /// When the channel took it, in milliseconds since 1970-01-01 UTC.
    pub at: u64,
    /// Whether it was given up instead.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub given_up: bool,
}

/// Who is active. Claims of one term are decided by the order in which the broker passes them on: the
/// first one holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Who claims it: an instance's name and a random part of this run.
    pub holder: String,
    /// Rises by one with each change of hands.
    pub term: u64,
    /// When it was claimed or renewed, by the holder's clock, in milliseconds since 1970-01-01 UTC.
    pub at: u64,
    /// It is given back: whoever wants it may claim the next term at once.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub released: bool,
}
