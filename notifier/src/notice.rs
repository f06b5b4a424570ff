//! A notice: what one channel is to tell people at once. It is data, kept in the spool until it is
//! delivered; how it reads is the templates' business, how it travels the channels'.

use hostbus_wire::alert::{Alert, AlertKey};
use serde::{Deserialize, Serialize};

/// What one channel is to tell.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Notice {
    /// Rises by one with each notice of this notifier; with its name it is the key by which an endpoint
    /// can tell a repetition.
    pub id: u64,
    /// The channel's name in the settings.
    pub channel: String,
    /// Why it is told.
    pub reason: Reason,
    /// What its alerts have in common: `node home.web1`, `rule disk-full`.
    pub group: String,
    /// When it was formed, in milliseconds since 1970-01-01 UTC.
    pub formed_ms: u64,
    /// Its alerts, all of them: firing before resolved, the worst first, then by key.
    pub lines: Vec<Line>,
}

/// Why a notice is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reason {
    /// Something fires that did not, or fires worse.
    Firing,
    /// All of it is over.
    Resolved,
    /// It still fires, unacknowledged, after the repeat time.
    Repeat,
    /// What was held back by a silence or a time of day and still fires.
    Digest,
    /// Somebody asked whether this channel works.
    Test,
}

/// One alert of a notice.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// Which alert.
    pub key: AlertKey,
    /// How it stood when the notice was formed: firing or resolved.
    pub alert: Alert,
    /// Since when it has been firing, or had been until it was over, in milliseconds since 1970-01-01 UTC.
    pub firing_since: u64,
}
