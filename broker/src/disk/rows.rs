//! Values as bytes, and back.
//!
//! ```text
//! session   {"user": "x", "client_id": "y", "identity": {"role": "viewer"}, "expiry_seconds": 60,
//!            "ends_unix_ms": null}                            JSON; an end: the client is away
//! filter    flags u8 (0-1 QoS, 2 no local, 3 retain as published), identifier u32 (0: none)
//! entry     message u64, flags u8 (0-1 QoS, 2 retain, 3 released, 4 shared), packet id u16,
//!           number of identifiers u16, identifiers u32 each, the shared subscription
//! message   expires at unix ms u64 (0: never), length of the user u16 (0xffff: none), the user whose
//!           quota it counts against, then PUBLISH as MQTT 5.0 writes it, without an expiry
//! ```
//! Integers are big-endian. A row that does not read like this is damage.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use hostbus_wire::Identity;
use serde::{Deserialize, Serialize};

use crate::codec::packet::{Packet, QoS};
use crate::codec::writer::Delivery;
use crate::codec::{Decoder, Version};
use crate::message::{Message, Origin};

/// A session.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct SessionRow {
    pub(crate) user: String,
    pub(crate) client_id: String,
    pub(crate) identity: Identity,
    pub(crate) expiry_seconds: u64,
    /// When it ends; absent while its client is connected.
    pub(crate) ends_unix_ms: Option<u64>,
}

/// What a subscription asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) qos: QoS,
    pub(crate) no_local: bool,
    pub(crate) retain_as_published: bool,
    pub(crate) identifier: Option<u32>,
}

/// A message that waits for a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// The sequence number of the message; 0 when it is released.
    pub(super) message: u64,
    pub(super) qos: QoS,
    pub(super) retain: bool,
    pub(super) released: bool,
    pub(super) packet_id: u16,
    pub(super) identifiers: Vec<u32>,
    pub(super) shared: Option<Arc<str>>,
}

fn qos(flags: u8) -> Option<QoS> {
    match flags & 0b11 {
        0 => Some(QoS::AtMostOnce),
        1 => Some(QoS::AtLeastOnce),
        2 => Some(QoS::ExactlyOnce),
        _ => None,
    }
}

impl Options {
    pub(super) fn bytes(self) -> [u8; 5] {
        let flags =
            self.qos as u8 | u8::from(self.no_local) << 2 | u8::from(self.retain_as_published) << 3;
        let [a, b, c, d] = self.identifier.unwrap_or(0).to_be_bytes();
        [flags, a, b, c, d]
    }

    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let &[flags, a, b, c, d] = bytes else {
            return None;
        };
        let identifier = u32::from_be_bytes([a, b, c, d]);
        Some(Self {
            qos: qos(flags)?,
            no_local: flags & 0b100 != 0,
            retain_as_published: flags & 0b1000 != 0,
            identifier: (identifier > 0).then_some(identifier),
        })
    }
}

impl Entry {
    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(16 + 4 * self.identifiers.len());
        out.put_u64(self.message);
        out.put_u8(
            self.qos as u8
                | u8::from(self.retain) << 2
                | u8::from(self.released) << 3
                | u8::from(self.shared.is_some()) << 4,
        );
        out.put_u16(self.packet_id);
        // A session has fewer subscriptions than that which match one topic of bounded levels.
        let count = u16::try_from(self.identifiers.len()).unwrap_or(u16::MAX);
        out.put_u16(count);
        for identifier in self.identifiers.iter().take(count.into()) {
            out.put_u32(*identifier);
        }
        out.put_slice(self.shared.as_deref().unwrap_or_default().as_bytes());
        out
    }

    pub(super) fn read(mut bytes: &[u8]) -> Option<Self> {
        let message = bytes.try_get_u64().ok()?;
        let flags = bytes.try_get_u8().ok()?;
        let packet_id = bytes.try_get_u16().ok()?;
        let count = bytes.try_get_u16().ok()?;
        let identifiers = (0..count)
            .map(|_| bytes.try_get_u32().ok())
            .collect::<Option<_>>()?;
        let shared = if flags & 0b1_0000 == 0 {
            None
        } else {
            Some(str::from_utf8(bytes).ok()?.into())
        };
        Some(Self {
            message,
            qos: qos(flags)?,
            retain: flags & 0b100 != 0,
            released: flags & 0b1000 != 0,
            packet_id,
            identifiers,
            shared,
        })
    }

    /// The sequence number of the message in the row `bytes`; 0 for none.
    pub(super) fn message_of(mut bytes: &[u8]) -> u64 {
        bytes.try_get_u64().unwrap_or(0)
    }
}

/// Now, as the clock of the moment and as that of the calendar.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Now {
    instant: Instant,
    unix_ms: u64,
}

impl Now {
    pub(crate) fn read() -> Self {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        Self {
            instant: Instant::now(),
            unix_ms: since.map_or(0, |since| {
                u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
            }),
        }
    }

    /// The calendar time of `instant`, which lies ahead or has just passed.
    pub(crate) fn unix_ms(self, instant: Instant) -> u64 {
        let ahead = instant.saturating_duration_since(self.instant);
        self.unix_ms
            .saturating_add(u64::try_from(ahead.as_millis()).unwrap_or(u64::MAX))
    }

    /// The moment of a calendar time; now, where it has passed. `None`: too far to tell.
    pub(crate) fn instant(self, unix_ms: u64) -> Option<Instant> {
        let ahead = Duration::from_millis(unix_ms.saturating_sub(self.unix_ms));
        self.instant.checked_add(ahead)
    }
}

/// The row of a message.
pub(super) fn message_bytes(message: &Message, now: Now) -> Vec<u8> {
    let mut out = Vec::with_capacity(64 + message.cost_bytes());
    out.put_u64(
        message
            .expires
            .map_or(0, |expires| now.unix_ms(expires).max(1)),
    );
    match &message.origin.quota {
        Some(user) => {
            let user = user.as_bytes();
            out.put_u16(user.len() as u16);
            out.put_slice(user);
        }
        None => out.put_u16(u16::MAX),
    }
    let delivery = Delivery {
        topic: &message.topic,
        payload: &message.payload,
        passed_on: &message.passed_on,
        expiry_seconds: None,
        identifiers: &[],
        qos: message.qos,
        retain: message.retain,
        dup: false,
        packet_id: 1,
        alias: None,
    };
    let mut frame = BytesMut::new();
    delivery.write(&mut frame, Version::V5);
    out.put_slice(&frame);
    out
}

/// The message in a row.
pub(super) fn read_message(row: &[u8], now: Now) -> Option<Message> {
    let mut bytes = Bytes::copy_from_slice(row);
    let expires_ms = bytes.try_get_u64().ok()?;
    let quota: Option<Arc<str>> = match bytes.try_get_u16().ok()? {
        u16::MAX => None,
        length if usize::from(length) <= bytes.len() => {
            let user = bytes.split_to(length.into());
            Some(str::from_utf8(&user).ok()?.into())
        }
        _ => return None,
    };
    let mut frame = BytesMut::from(&bytes[..]);
    let packet = Decoder::of(Version::V5).decode(&mut frame).ok()??;
    let Packet::Publish(publish) = packet else {
        return None;
    };
    if !frame.is_empty() || publish.topic.is_empty() {
        return None;
    }
    let origin = Origin { session: 0, quota };
    let mut message = Message::from_publish(publish, origin, now.instant);
    message.durable = true;
    if expires_ms > 0 {
        message.expires = now.instant(expires_ms);
    }
    Some(message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_message_is_read_as_it_was_written() {
        let now = Now::read();
        let mut message = Message::own("a/b", "payload".to_owned());
        message.origin.quota = Some("user".into());
        message.passed_on = Bytes::from_static(&[1, 1]);
        message.expires = Some(now.instant + Duration::from_secs(90));
        message.qos = QoS::AtLeastOnce;
        let read = read_message(&message_bytes(&message, now), now).unwrap();
        assert_eq!(read.topic, message.topic);
        assert_eq!(read.payload, message.payload);
        assert_eq!(read.passed_on, message.passed_on);
        assert_eq!(read.origin.quota, message.origin.quota);
        assert_eq!(read.qos, message.qos);
        let left = read.expires.unwrap() - now.instant;
        assert_eq!(left, Duration::from_secs(90));
        assert!(read.retain && read.durable);
        // What expired while the broker was down is expired.
        let later = Now {
            instant: now.instant,
            unix_ms: now.unix_ms + 100_000,
        };
        let read = read_message(&message_bytes(&message, now), later).unwrap();
        assert!(read.is_expired(later.instant));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = (Options::read(&bytes), read_message(&bytes, Now::read()));
            if let Some(entry) = Entry::read(&bytes) {
                prop_assert_eq!(Entry::read(&entry.bytes()), Some(entry));
            }
        }
    }
}
