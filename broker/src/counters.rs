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

/// Why a connection was closed before CONNECT was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// There were as many connections as there may be.
    Full,
    /// There were too many that had not finished CONNECT, and it was the one too many or the oldest.
    Crowded,
    /// Its address had too many connections within a minute.
    TooOften,
    /// It had not finished CONNECT in time.
    TooSlow,
    /// Its PROXY header was wrong, or it is no trusted proxy.
    Proxy,
    /// Its TLS handshake failed.
    Tls,
    /// Its HTTP request was no beginning of a WebSocket.
    WebSocket,
}

impl Refusal {
    /// All causes.
    pub const ALL: [Self; 7] = [
        Self::Full,
        Self::Crowded,
        Self::TooOften,
        Self::TooSlow,
        Self::Proxy,
        Self::Tls,
        Self::WebSocket,
    ];

    /// Its name in topics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Crowded => "crowded",
            Self::TooOften => "too-often",
            Self::TooSlow => "too-slow",
            Self::Proxy => "proxy",
            Self::Tls => "tls",
            Self::WebSocket => "websocket",
        }
    }
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
    dropped: [Counter; 5],
    connections_refused: [Counter; Refusal::ALL.len()],
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

    /// Connections closed before CONNECT was answered, for this cause.
    #[must_use]
    pub fn connections_refused(&self, cause: Refusal) -> u64 {
        self.connections_refused[cause as usize].get()
    }

    pub(crate) fn refuse_connection(&self, cause: Refusal) {
        self.connections_refused[cause as usize].add(1);
    }

    pub(crate) fn drop_messages(&self, cause: Drop, messages: u64) {
        self.dropped[cause as usize].add(messages);
    }
}
