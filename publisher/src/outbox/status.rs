//! How the outbox is doing, in figures.

/// A snapshot of the outbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxStatus {
    /// How many samples wait for a mark.
    pub held: u64,
    /// What they take, in bytes.
    pub held_bytes: u64,
    /// How many of them the disk has.
    pub on_disk: u64,
    /// The time of the oldest one, unix milliseconds, full seconds only.
    pub oldest_ts_ms: Option<u64>,
    /// How many were sent by this process, each time counted.
    pub sent: u64,
    /// How many of those were sent before by this process.
    pub resent: u64,
    /// How many were dropped because the outbox was full.
    pub dropped: u64,
    /// How many were lost because the disk damaged them.
    pub damaged: u64,
    /// What the disk is doing, for people.
    pub disk: String,
}
