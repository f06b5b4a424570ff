//! The time from a connect until all that stood on the bus was heard.

use std::collections::{BTreeMap, HashMap};

use hostbus_wire::NodePath;
use hostbus_wire::sample::Rows;
use tracing::warn;

use super::Now;
use super::standing::Standing;

/// How long the message that ends the hearing may take to come back after the last retained one. A broker
/// that does not let us read our own health must not keep us from working.
const SYNC_WITHIN_MS: u64 = 10_000;
/// For how long nothing retained must have come until all of it has.
const QUIET_MS: u64 = 300;
/// What was heard so far.
#[derive(Debug)]
pub(super) struct Hearing {
    /// What our own health says that ends it.
    pub(super) stamp: u64,
    /// Our own health came back.
    pub(super) echoed: bool,
    /// When something retained came last, or it began.
    pub(super) retained_ms: u64,
    pub(super) alerts: Standing,
    pub(super) rules: BTreeMap<Box<str>, String>,
    /// The last sample of each node, and whether it was retained.
    pub(super) samples: HashMap<NodePath, (Rows, bool)>,
}

impl Hearing {
    /// It begins now, and ends after our own health with the time `stamp`.
    pub(super) fn new(stamp: u64, now: Now) -> Self {
        Self {
            stamp,
            echoed: false,
            retained_ms: now.steady_ms,
            alerts: Standing::default(),
            rules: BTreeMap::new(),
            samples: HashMap::new(),
        }
    }

    /// Whether all was heard, or waiting longer is in vain.
    pub(super) fn is_over(&self, now: Now) -> bool {
        let quiet_ms = now.steady_ms.saturating_sub(self.retained_ms);
        if quiet_ms >= SYNC_WITHIN_MS && !self.echoed {
            warn!("our own health does not come back from the bus; going on without it");
        }
        quiet_ms >= SYNC_WITHIN_MS || (self.echoed && quiet_ms >= QUIET_MS)
    }
}
