//! The bounds on what one client, and all clients together, can take from the broker.

use std::time::Duration;

use hostbus_wire::Identity;
use serde::Deserialize;

/// The `[broker.limits]` section.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Connections at once, those that have not sent CONNECT included. 1 to 1,000,000, default
    /// 16,000. At the limit a new connection is closed at once, without an answer. The broker
    /// raises the limit on open files (RLIMIT_NOFILE) as far as it may; where that is below this
    /// limit and 128 files more, there are fewer connections, and the broker warns at its start.
    pub max_connections: usize,
    /// Connections that have not finished CONNECT, authentication included. 1 to 1,000,000, default
    /// 2,048, but no more than half of `max_connections`. Each may hold some 64 KiB. At the limit the oldest is closed for a new one if it
    /// came a second ago or before; else the new one is closed at once, and may come again.
    pub max_connecting: usize,
    /// Such connections from one IPv4 address or IPv6 /64 network, loopback included. 1 to
    /// 1,000,000, default 1,024. As above.
    pub max_connecting_per_address: usize,
    /// Connections a minute from one IPv4 address or IPv6 /64 network, loopback included, whether
    /// they log in or not. 1 to 1,000,000, default 30,000. All of a minute may come at once, then
    /// they come evenly; one too many is closed at once. The default lets 10,000 nodes behind one
    /// address, as of a NAT, connect three times each within a minute after a restart; where
    /// clients come from the internet, one at a time, 60 is plenty.
    pub connects_per_minute_per_address: u32,
    /// Time from the TCP connection to the end of CONNECT; PROXY header, TLS handshake, HTTP
    /// request and authentication included. 1 to 600, default 10. At the limit the connection is
    /// closed.
    pub connect_timeout_seconds: u64,
    /// The longest packet from a client, its fixed header not counted. 256 to 268,435,000, default
    /// 1,048,576. A longer one ends the connection (5.0: packet too large) before it arrives.
    /// CONNECT, with its will, may have 65,536 bytes at most.
    pub max_packet_bytes: usize,
    /// Subscriptions of one session. 1 to 1,000,000, default 1,000. One more is refused in SUBACK
    /// (5.0: quota exceeded); a packet with more filters ends the connection. Filters count as
    /// messages for `messages_per_second`.
    pub max_subscriptions: usize,
    /// Levels of a topic or filter. 1 to 1,000, default 32. Publishing a deeper topic ends the
    /// connection (5.0: topic name invalid), a deeper filter is refused in SUBACK.
    pub max_topic_levels: usize,
    /// Bytes of a topic or filter. 64 to 65,535, default 1,024. As above.
    pub max_topic_bytes: usize,
    /// The longest keep alive. 1 to 65,535, default 3,600. A 5.0 client that asks for more, or for
    /// none, is told this one; for 3.1.1 a longer one is cut, and none stays none.
    /// A client that is silent for one and a half times its keep alive is cut off.
    pub keep_alive_max_seconds: u16,
    /// The longest time a session outlives its connection. 0 to 4,294,967,294, default 86,400. A
    /// 5.0 client that asks for more is told; a 3.1.1 session without clean session gets this.
    pub session_expiry_max_seconds: u32,
    /// Sessions whose client is away. 0 to 1,000,000, default 10,000. At the limit a session ends
    /// with its connection, whatever was agreed.
    pub max_absent_sessions: usize,
    /// Messages that wait for one session. 1 to 10,000,000, default 32,768. See `queue_bytes`.
    pub queue_messages: usize,
    /// Bytes of messages that wait for one session or are under way to it; the broker's own cost
    /// of about 200 bytes a message counts too. 1,024 and up, default 16,777,216.
    /// At either limit the oldest QoS 0 messages go first. Where only QoS 1 is left, a connected
    /// client is disconnected (5.0: quota exceeded), and of an absent one the oldest messages go.
    /// What goes is counted.
    pub queue_bytes: usize,
    /// Bytes of messages that wait for all sessions together or are under way to them, counted
    /// once for each session. 1,024 and up, default 268,435,456. Beyond it, a session with more than 64
    /// messages waiting is treated as one whose own queue is full.
    pub total_queue_bytes: usize,
    /// Messages a second that one client may publish. 1 to 100,000,000, default 20,000. Does not
    /// hold for ingester, notifier and admin. A client that is faster is not read from until its
    /// rate is kept (counted): it waits, and nothing is lost.
    pub messages_per_second: u64,
    /// Bytes a second that one client may publish: topic, payload and properties. 1,024 and up,
    /// default 33,554,432. As above.
    pub bytes_per_second: u64,
    /// QoS 1 and 2 messages under way at once, in each direction. 1 to 65,535, default 256; a 5.0
    /// client may set a lower one for itself. At the limit, messages wait in the queue; there are
    /// never more than 8,191 to one client. A 3.1.1 client can't be told of it: it may have as many
    /// QoS 2 messages open as there are packet identifiers.
    pub receive_maximum: u16,
    /// Answers that wait for a client which does not read them. 1,024 and up, default 262,144.
    /// At the limit the connection is closed.
    pub answer_bytes: usize,
    /// Retained messages. 0 to 100,000,000, default 500,000. At this limit or one of the next three
    /// a message is delivered but not kept, and what its topic had before is no longer kept either
    /// (counted; logged when it begins).
    pub retained_messages: usize,
    /// Bytes of retained messages: topic, payload, properties, and 200 bytes each. 0 and up,
    /// default 268,435,456.
    pub retained_bytes: usize,
    /// Retained messages that were last published by one user. 0 to 100,000,000, default 512. Does
    /// not hold for ingester, notifier and admin.
    pub retained_messages_per_user: usize,
    /// Bytes of such messages. 0 and up, default 16,777,216.
    pub retained_bytes_per_user: usize,
    /// Password checks that run at once, each on about 19 MiB for some 30 ms. 1 to 64, default 2.
    /// More wait, within the connect time-out.
    pub password_checks: usize,
    /// Failed logins a minute from one address. 1 and up, default 60. At the limit, passwords from
    /// there are not checked until the minute is over (5.0: connection rate exceeded, 3.1.1: server
    /// unavailable). The secrets of machines still work.
    pub failed_logins_per_minute: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: 16_000,
            max_connecting: 2_048,
            max_connecting_per_address: 1_024,
            connects_per_minute_per_address: 30_000,
            connect_timeout_seconds: 10,
            max_packet_bytes: 1024 * 1024,
            max_subscriptions: 1_000,
            max_topic_levels: 32,
            max_topic_bytes: 1_024,
            keep_alive_max_seconds: 3_600,
            session_expiry_max_seconds: 86_400,
            max_absent_sessions: 10_000,
            queue_messages: 32_768,
            queue_bytes: 16 * 1024 * 1024,
            total_queue_bytes: 256 * 1024 * 1024,
            messages_per_second: 20_000,
            bytes_per_second: 32 * 1024 * 1024,
            receive_maximum: 256,
            answer_bytes: 256 * 1024,
            retained_messages: 500_000,
            retained_bytes: 256 * 1024 * 1024,
            retained_messages_per_user: 512,
            retained_bytes_per_user: 16 * 1024 * 1024,
            password_checks: 2,
            failed_logins_per_minute: 60,
        }
    }
}

/// A limit that lies outside its range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutOfRange {
    /// The key below `broker.limits`.
    pub key: &'static str,
    /// What was given.
    pub value: u64,
    /// The least allowed.
    pub least: u64,
    /// The most allowed.
    pub most: u64,
}

impl Limits {
    /// Checks all ranges.
    ///
    /// # Errors
    /// The first limit that lies outside its range.
    pub fn check(&self) -> Result<(), OutOfRange> {
        let rows: [(&'static str, u64, u64, u64); 25] = [
            ("max_connections", self.max_connections as u64, 1, 1_000_000),
            ("max_connecting", self.max_connecting as u64, 1, 1_000_000),
            (
                "max_connecting_per_address",
                self.max_connecting_per_address as u64,
                1,
                1_000_000,
            ),
            (
                "connects_per_minute_per_address",
                self.connects_per_minute_per_address.into(),
                1,
                1_000_000,
            ),
            (
                "connect_timeout_seconds",
                self.connect_timeout_seconds,
                1,
                600,
            ),
            (
                "max_packet_bytes",
                self.max_packet_bytes as u64,
                256,
                268_435_000,
            ),
            (
                "max_subscriptions",
                self.max_subscriptions as u64,
                1,
                1_000_000,
            ),
            ("max_topic_levels", self.max_topic_levels as u64, 1, 1_000),
            ("max_topic_bytes", self.max_topic_bytes as u64, 64, 65_535),
            (
                "keep_alive_max_seconds",
                self.keep_alive_max_seconds.into(),
                1,
                65_535,
            ),
            (
                "session_expiry_max_seconds",
                self.session_expiry_max_seconds.into(),
                0,
                0xffff_fffe,
            ),
            (
                "max_absent_sessions",
                self.max_absent_sessions as u64,
                0,
                1_000_000,
            ),
            ("queue_messages", self.queue_messages as u64, 1, 10_000_000),
            ("queue_bytes", self.queue_bytes as u64, 1_024, u64::MAX),
            (
                "total_queue_bytes",
                self.total_queue_bytes as u64,
                1_024,
                u64::MAX,
            ),
            (
                "messages_per_second",
                self.messages_per_second,
                1,
                100_000_000,
            ),
            ("bytes_per_second", self.bytes_per_second, 1_024, u64::MAX),
            ("receive_maximum", self.receive_maximum.into(), 1, 65_535),
            ("answer_bytes", self.answer_bytes as u64, 1_024, u64::MAX),
            (
                "retained_messages",
                self.retained_messages as u64,
                0,
                100_000_000,
            ),
            ("retained_bytes", self.retained_bytes as u64, 0, u64::MAX),
            (
                "retained_messages_per_user",
                self.retained_messages_per_user as u64,
                0,
                100_000_000,
            ),
            (
                "retained_bytes_per_user",
                self.retained_bytes_per_user as u64,
                0,
                u64::MAX,
            ),
            ("password_checks", self.password_checks as u64, 1, 64),
            (
                "failed_logins_per_minute",
                self.failed_logins_per_minute.into(),
                1,
                u64::MAX,
            ),
        ];
        for (key, value, least, most) in rows {
            if value < least || value > most {
                return Err(OutOfRange {
                    key,
                    value,
                    least,
                    most,
                });
            }
        }
        Ok(())
    }

    /// Whether a topic or filter has as few levels and bytes as it must.
    pub(crate) fn allow_topic(&self, topic: &str) -> bool {
        let levels = topic.bytes().filter(|byte| *byte == b'/').count() + 1;
        levels <= self.max_topic_levels && topic.len() <= self.max_topic_bytes
    }

    /// Whether the quotas and rates of one user hold for this one.
    pub(crate) fn hold_for(identity: &Identity) -> bool {
        !matches!(
            identity,
            Identity::Ingester | Identity::Notifier | Identity::Admin
        )
    }

    /// The connect time-out.
    #[must_use]
    pub fn connect_timeout(&self) -> Duration {
        Duration::from_secs(self.connect_timeout_seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_out_of_its_range_is_named() {
        assert_eq!(Limits::default().check(), Ok(()));
        let wrong = Limits {
            queue_bytes: 0,
            ..Limits::default()
        };
        assert_eq!(wrong.check().map_err(|wrong| wrong.key), Err("queue_bytes"));
    }
}
