//! `committed`: the ingester's word that everything up to a sample is in Redis. Retained.

use serde::{Deserialize, Serialize};

/// All samples of `boot` up to `seq`, and all of earlier boots, are in Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Committed {
    /// The publisher's run; 0 when nothing of this node is known.
    pub boot: u64,
    /// The last sample of that run in Redis; 0 when there is none.
    pub seq: u64,
    /// The ingester misses what follows `seq`: send again from there.
    #[serde(default)]
    pub resend: bool,
}
