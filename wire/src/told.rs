//! `_told/<channel>/<fingerprint>`: what people were told last of an alert through one channel. Retained:
//! a second notifier that takes over knows by it what need not be said again.

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
