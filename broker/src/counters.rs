//! What the broker counts about itself. Counters only rise; gauges tell the present.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Why a message did not reach a subscriber, or was not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drop {
    /// The queue of a connected client was full; QoS 0 only.
    QueueFull,
    /// The queue of an absent client was full.
    AbsentQueueFull,
    /// Its lifetime was over.
    Expired,
    /// It was longer than the client takes.
    TooLarge,
    /// The store of retained messages was full.
    RetainedFull,
}

/// One number.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// The number.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }

    pub(crate) fn add(&self, more: u64) {
        if more > 0 {
            self.0.fetch_add(more, Relaxed);
        }
    }

    pub(crate) fn subtract(&self, less: u64) {
        self.0.fetch_sub(less, Relaxed);
    }

    /// Takes away what was counted `before` and adds what is `now`.
    pub(crate) fn shift(&self, before: usize, now: usize) {
        if now > before {
            self.0.fetch_add((now - before) as u64, Relaxed);
        } else if now < before {
            self.0.fetch_sub((before - now) as u64, Relaxed);
        }
    }
}

/// The counters of one broker.
#[derive(Debug, Default)]
pub struct Counters {
    /// Connections now, those before CONNECT included.
    pub connections: Counter,
    /// Connections with a session now.
    pub clients_connected: Counter,
    /// Connections ever accepted by a listener.
    pub connections_total: Counter,
    /// CONNECTs refused: credentials, rights, limits.
    pub connects_refused: Counter,
    /// PUBLISH packets received.
    pub messages_received: Counter,
    /// PUBLISH packets sent.
    pub messages_sent: Counter,
    /// Bytes received.
    pub bytes_received: Counter,
    /// Bytes sent.
    pub bytes_sent: Counter,
    /// Messages refused because the publisher may not write there.
    pub publishes_refused: Counter,
    /// How often a client had to rest because it published faster than it may.
    pub rests: Counter,
    /// Messages that wait for sessions or are under way to them now, once for each session.
    pub queued_messages: Counter,
    /// What they cost, in bytes.
    pub queued_bytes: Counter,
    dropped: [Counter; 5],
}

impl Counters {
    /// Messages dropped for this cause.
    #[must_use]
    pub fn dropped(&self, cause: Drop) -> u64 {
        self.dropped[cause as usize].get()
    }

    /// Messages dropped for any cause.
    #[must_use]
    pub fn dropped_total(&self) -> u64 {
        self.dropped.iter().map(Counter::get).sum()
    }

    pub(crate) fn drop_messages(&self, cause: Drop, messages: u64) {
        self.dropped[cause as usize].add(messages);
    }
}
