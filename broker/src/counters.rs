//! What the broker counts about itself: one table, from which `$SYS`, `_system` and Prometheus are
//! all written.
//!
//! A line of the table is a counter: its field, its name in public, its kind, and its customary
//! topics below `$SYS/broker/`. Figures that are counted elsewhere, such as sessions, join in
//! `figures`.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::figures::{Figure, Kind};
use crate::histogram::Histogram;

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

impl Drop {
    /// Each cause with its name in public and its topic below `$SYS/broker/`.
    const ALL: [(Self, &'static str, &'static [&'static str]); 5] = [
        (
            Self::QueueFull,
            "queue_full",
            &["publish/messages/dropped/queue-full"],
        ),
        (
            Self::AbsentQueueFull,
            "absent_queue_full",
            &["publish/messages/dropped/absent-queue-full"],
        ),
        (
            Self::Expired,
            "expired",
            &["publish/messages/dropped/expired"],
        ),
        (
            Self::TooLarge,
            "too_large",
            &["publish/messages/dropped/too-large"],
        ),
        (
            Self::RetainedFull,
            "retained_full",
            &["publish/messages/dropped/retained-full"],
        ),
    ];
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
    /// Each cause with its name in public and its topic below `$SYS/broker/`.
    const ALL: [(Self, &'static str, &'static [&'static str]); 7] = [
        (Self::Full, "full", &["connections/refused/full"]),
        (Self::Crowded, "crowded", &["connections/refused/crowded"]),
        (
            Self::TooOften,
            "too_often",
            &["connections/refused/too-often"],
        ),
        (Self::TooSlow, "too_slow", &["connections/refused/too-slow"]),
        (Self::Proxy, "proxy", &["connections/refused/proxy"]),
        (Self::Tls, "tls", &["connections/refused/tls"]),
        (
            Self::WebSocket,
            "websocket",
            &["connections/refused/websocket"],
        ),
    ];

    /// Its name in public.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::ALL[self as usize].1
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

    /// Takes away what was counted `before` and adds what is `now`.
    pub(crate) fn shift(&self, before: usize, now: usize) {
        if now > before {
            self.0.fetch_add((now - before) as u64, Relaxed);
        } else if now < before {
            self.0.fetch_sub((before - now) as u64, Relaxed);
        }
    }

    /// Raises the number to `reached` where it is lower.
    fn raise(&self, reached: u64) {
        self.0.fetch_max(reached, Relaxed);
    }
}

/// What a connection has counted since the shared counters last heard of it: they are written by
/// all threads, and not once for each packet.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) packets_received: u64,
    pub(crate) packets_sent: u64,
    pub(crate) messages_received: u64,
    pub(crate) payload_bytes_received: u64,
}

/// Makes the struct and its list of figures from the table below.
macro_rules! counters {
    ($($(#[doc = $help:literal])+ $field:ident: $name:literal, $kind:ident, [$($topic:literal),*];)+) => {
        /// The counters of one broker.
        #[derive(Debug, Default)]
        pub struct Counters {
            $($(#[doc = $help])+ pub $field: Counter,)+
            dropped: [Counter; Drop::ALL.len()],
            connections_refused: [Counter; Refusal::ALL.len()],
            /// How long it takes to find a message's subscribers; some of the messages are timed.
            pub(crate) matching: Histogram,
        }

        impl Counters {
            /// A figure for each line of the table.
            fn table(&self) -> Vec<Figure> {
                vec![$(Figure {
                    name: $name,
                    cause: None,
                    kind: Kind::$kind,
                    help: concat!($($help),+),
                    topics: &[$($topic),*],
                    value: self.$field.get(),
                }),+]
            }
        }
    };
}

counters! {
    /// Connections now, those that have not finished CONNECT included.
    connections: "connections", Gauge, [];
    /// Connections with a session now.
    clients_connected: "clients_connected", Gauge, ["clients/connected", "clients/active"];
    /// The most connections with a session that there were at one time.
    clients_maximum: "clients_maximum", Gauge, ["clients/maximum"];
    /// Connections ever accepted by a listener.
    connections_total: "connections_accepted", Counter, [];
    /// CONNECTs that were answered with a welcome.
    connects_accepted: "connects_accepted", Counter, [];
    /// CONNECTs refused: credentials, rights, limits.
    connects_refused: "connects_refused", Counter, ["connects/refused"];
    /// Sessions that ended because their client stayed away too long.
    sessions_expired: "sessions_expired", Counter, ["clients/expired"];
    /// Packets of any type received.
    packets_received: "packets_received", Counter, ["messages/received"];
    /// Packets of any type sent.
    packets_sent: "packets_sent", Counter, ["messages/sent"];
    /// PUBLISH packets received.
    messages_received: "messages_received", Counter, ["publish/messages/received"];
    /// PUBLISH packets sent.
    messages_sent: "messages_sent", Counter, ["publish/messages/sent"];
    /// Payload bytes of the PUBLISH packets received.
    payload_bytes_received: "payload_received_bytes", Counter, ["publish/bytes/received"];
    /// Payload bytes of the PUBLISH packets sent.
    payload_bytes_sent: "payload_sent_bytes", Counter, ["publish/bytes/sent"];
    /// Bytes received.
    bytes_received: "received_bytes", Counter, ["bytes/received"];
    /// Bytes sent.
    bytes_sent: "sent_bytes", Counter, ["bytes/sent"];
    /// Messages refused because the publisher may not write there.
    publishes_refused: "publishes_refused", Counter, ["publish/messages/refused"];
    /// How often a client had to rest because it published faster than it may.
    rests: "client_rests", Counter, ["clients/rests"];
    /// Messages that wait for sessions or are under way to them now, once for each session.
    queued_messages: "queued_messages", Gauge, ["queued/messages"];
    /// What the queued messages cost, in bytes.
    queued_bytes: "queued_bytes", Gauge, ["queued/bytes"];
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

    /// Adds what a connection has counted.
    pub(crate) fn take(&self, tally: &mut Tally) {
        let Tally {
            packets_received,
            packets_sent,
            messages_received,
            payload_bytes_received,
        } = std::mem::take(tally);
        self.packets_received.add(packets_received);
        self.packets_sent.add(packets_sent);
        self.messages_received.add(messages_received);
        self.payload_bytes_received.add(payload_bytes_received);
    }

    /// Notes messages that go to a client, with the sum of their payloads.
    pub(crate) fn messages_go(&self, messages: usize, payload_bytes: usize) {
        self.packets_sent.add(messages as u64);
        self.messages_sent.add(messages as u64);
        self.payload_bytes_sent.add(payload_bytes as u64);
    }

    /// Notes that a client was let in.
    pub(crate) fn client_came(&self) {
        self.connects_accepted.add(1);
        let others = self.clients_connected.0.fetch_add(1, Relaxed);
        self.clients_maximum.raise(others + 1);
    }

    /// The table, and a figure for each cause of a dropped message.
    pub(crate) fn figures(&self) -> Vec<Figure> {
        let mut figures = self.table();
        figures.extend(Drop::ALL.into_iter().map(|(cause, name, topics)| Figure {
            name: "messages_dropped",
            cause: Some(name),
            kind: Kind::Counter,
            help: "Messages that did not reach a subscriber or were not kept, by cause.",
            topics,
            value: self.dropped(cause),
        }));
        figures.extend(Refusal::ALL.into_iter().map(|(cause, name, topics)| Figure {
            name: "connections_refused",
            cause: Some(name),
            kind: Kind::Counter,
            help: "Connections that were closed before their CONNECT was answered, by cause.",
            topics,
            value: self.connections_refused(cause),
        }));
        figures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cause_has_its_place() {
        for (place, (cause, name, topics)) in Drop::ALL.into_iter().enumerate() {
            assert_eq!(place, cause as usize, "{name}");
            assert!(topics[0].ends_with(&name.replace('_', "-")), "{name}");
        }
        for (place, (cause, name, topics)) in Refusal::ALL.into_iter().enumerate() {
            assert_eq!(place, cause as usize, "{name}");
            assert!(topics[0].ends_with(&name.replace('_', "-")), "{name}");
        }
    }

    #[test]
    fn the_most_clients_stay_known_after_they_left() {
        let counters = Counters::default();
        counters.client_came();
        counters.client_came();
        counters.clients_connected.subtract(1);
        counters.client_came();
        assert_eq!(counters.clients_maximum.get(), 2);
        assert_eq!(counters.connects_accepted.get(), 3);
    }
}
