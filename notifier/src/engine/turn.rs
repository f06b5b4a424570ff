//! What goes into the engine and comes out of it.

use hostbus_wire::told::Told;
use hostbus_wire::{SiteId, TopicRoot};

use crate::spool::{Changes, Outcome};

/// The two clocks of a moment, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Since 1970-01-01 UTC; it may step.
    pub unix_ms: u64,
    /// Since any moment; it never steps.
    pub steady_ms: u64,
}

/// Who we are.
#[derive(Debug, Clone)]
pub struct Place {
    /// Where the topics begin.
    pub root: TopicRoot,
    /// Our site.
    pub site: SiteId,
    /// Our name among notifiers.
    pub instance: String,
}

/// What was counted since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Messages that were not what their topic carries.
    pub refused: u64,
    /// Alerts, silences and acknowledgements that could not be taken.
    pub left_out: u64,
}

/// What follows from a turn.
#[derive(Debug, Default)]
pub struct Turn {
    /// For the spool: state and notices, together.
    pub changes: Changes,
    /// Ends of notices that the bus knows of now: the spool may forget them.
    pub told: Vec<Outcome>,
    /// What another notifier has told, by channel.
    pub covers: Vec<(String, Told)>,
    /// Whether notices may be sent.
    pub active: bool,
    /// When the next turn is due, in milliseconds since 1970-01-01 UTC.
    pub next_ms: u64,
}
