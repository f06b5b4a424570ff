//! The time from a connect until all that stood on the bus was heard.

use std::collections::{BTreeMap, HashMap};

use hostbus_wire::NodePath;
use hostbus_wire::sample::Rows;
use tracing::warn;

use super::Now;
use super::standing::Standing;

/// How long the message that ends the hearing may take to come after the last retained one. A broker that
/// does not let us read our own health must not keep us from working.
const END_WITHIN_MS: u64 = 10_000;
/// For how long nothing retained must have come besides. Some brokers send what is retained for several
/// filters side by side: there the last of it may come after the end.
const QUIET_MS: u64 = 300;

/// How far it is known that all that is retained has come. MQTT marks no end of it, so we make one:
///
/// ```text
/// connected ── our health is published, and comes back live ── we subscribe to just that topic
/// ── its retained copy comes: what was retained for the filters before it has come before
/// ```
/// The live one alone is no end: a broker may send live messages while retained ones still wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// Our health has not come back.
    Published,
    /// It has: its retained copy is to be asked for.
    Live,
    /// It was asked for.
    Asked,
    /// It is here.
    Here,
}

/// What was heard so far.
#[derive(Debug)]
pub(super) struct Hearing {
    /// What our own health says that ends it.
    stamp: u64,
    end: End,
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
            end: End::Published,
            retained_ms: now.steady_ms,
            alerts: Standing::default(),
            rules: BTreeMap::new(),
            samples: HashMap::new(),
        }
    }

    /// Our own health was heard, of the time `ts`.
    pub(super) fn own_health(&mut self, ts: u64, retained: bool) {
        self.end = match self.end {
            End::Published if !retained && ts == self.stamp => End::Live,
            End::Asked if retained && ts >= self.stamp => End::Here,
            end => end,
        };
    }

    /// Whether the retained copy of our own health is to be asked for now.
    pub(super) fn asks(&self) -> bool {
        self.end == End::Live
    }

    /// It was asked for.
    pub(super) fn asked(&mut self) {
        self.end = End::Asked;
    }

    /// Whether all was heard, or waiting longer is in vain.
    pub(super) fn is_over(&self, now: Now) -> bool {
        let quiet_ms = now.steady_ms.saturating_sub(self.retained_ms);
        let ended = self.end == End::Here;
        if quiet_ms >= END_WITHIN_MS && !ended {
            warn!("our own health does not come back from the bus; going on without it");
        }
        quiet_ms >= END_WITHIN_MS || (ended && quiet_ms >= QUIET_MS)
    }
}
