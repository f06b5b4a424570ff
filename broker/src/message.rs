//! A message on its way through the broker: shared by everyone who gets it, never changed.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use bytestring::ByteString;

use crate::codec::Version;
use crate::codec::decoder::COPY_BELOW_BYTES;
use crate::codec::packet::{Publish, QoS, Will};
use crate::codec::writer::{self, Delivery};
use crate::disk::Ticket;

/// What the broker itself spends on a message that waits, in bytes, rounded up.
const OVERHEAD_BYTES: usize = 200;

/// Who published a message; the default is the broker itself.
#[derive(Debug, Clone, Default)]
pub(crate) struct Origin {
    /// The key of the publishing session; 0 for the broker itself.
    pub(crate) session: u64,
    /// The user whose quota of retained messages counts; `None` for those who have no quota.
    pub(crate) quota: Option<Arc<str>>,
}

/// PUBLISH packets that many subscribers get alike: QoS 0, without anything of one subscriber's own.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    v311: OnceLock<Bytes>,
    v5: OnceLock<Bytes>,
}

/// A published message.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) topic: ByteString,
    pub(crate) payload: Bytes,
    pub(crate) passed_on: Bytes,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    pub(crate) expires: Option<Instant>,
    pub(crate) origin: Origin,
    /// Rises with each message.
    pub(crate) sequence: u64,
    /// It is kept on disk where it is retained or waits for a persistent session.
    pub(crate) durable: bool,
}

impl Message {
    /// The message in `publish`, whose topic alias is resolved already.
    pub(crate) fn from_publish(publish: Publish, origin: Origin, now: Instant) -> Self {
        let mut message = Self {
            topic: publish.topic,
            payload: publish.payload,
            passed_on: publish.passed_on,
            qos: publish.qos,
            retain: publish.retain,
            expires: expires(publish.expiry_seconds, now),
            origin,
            sequence: 0,
            durable: false,
        };
        // Such a frame was not copied out of the read buffer, see `Decoder`.
        if message.retain && message.cost_bytes() > COPY_BELOW_BYTES / 2 {
            message.copy();
        }
        message
    }

    /// The message of a will that is published now.
    pub(crate) fn from_will(will: Will, origin: Origin, now: Instant) -> Self {
        let mut message = Self {
            topic: will.topic,
            payload: will.payload,
            passed_on: will.passed_on,
            qos: will.qos,
            retain: will.retain,
            expires: expires(will.expiry_seconds, now),
            origin,
            sequence: 0,
            durable: false,
        };
        message.copy();
        message
    }

    /// Copies what the message holds, so that it keeps no more than that in memory: not the whole
    /// CONNECT of a will, nor the read buffer that a long frame is a part of.
    fn copy(&mut self) {
        self.topic = ByteString::from(&*self.topic);
        self.payload = Bytes::copy_from_slice(&self.payload);
        self.passed_on = Bytes::copy_from_slice(&self.passed_on);
    }

    /// A retained QoS 0 message of the broker's own.
    pub(crate) fn own(topic: impl Into<ByteString>, payload: impl Into<Bytes>) -> Self {
        Self {
            topic: topic.into(),
            payload: payload.into(),
            passed_on: Bytes::new(),
            qos: QoS::AtMostOnce,
            retain: true,
            expires: None,
            origin: Origin::default(),
            sequence: 0,
            durable: false,
        }
    }

    /// What it costs to keep it, in bytes.
    pub(crate) fn cost_bytes(&self) -> usize {
        OVERHEAD_BYTES + self.topic.len() + self.payload.len() + self.passed_on.len()
    }

    pub(crate) fn is_expired(&self, now: Instant) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }
}

fn expires(seconds: Option<u32>, now: Instant) -> Option<Instant> {
    seconds.and_then(|seconds| now.checked_add(Duration::from_secs(seconds.into())))
}

/// How a message for one subscriber lies on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stored {
    /// Its number in the session.
    pub(crate) entry: u64,
    /// When it is safe.
    pub(crate) ticket: Ticket,
    /// The identifier of a QoS 2 message, 0 for QoS 1: it must be the same after a restart, so
    /// that the client knows the message again.
    pub(crate) packet_id: u16,
}

/// A message for one subscriber.
#[derive(Debug, Clone)]
pub(crate) struct Outgoing {
    pub(crate) message: Arc<Message>,
    /// The lower of the publisher's and the subscription's.
    pub(crate) qos: QoS,
    /// The retain flag as the subscriber sees it.
    pub(crate) retain: bool,
    /// The identifiers of all subscriptions that matched.
    pub(crate) identifiers: Vec<u32>,
    /// The shared subscription that it came by, as `$share/name/filter`.
    pub(crate) shared: Option<Arc<str>>,
    /// Where it lies on disk, if it does.
    pub(crate) stored: Option<Stored>,
    /// What it has in common with those for other sessions, if there are any.
    pub(crate) frames: Option<Arc<Frames>>,
}

impl Outgoing {
    /// The whole packet, where others get the same.
    pub(crate) fn shared_frame(&self, version: Version) -> Option<&Bytes> {
        let frames = self.frames.as_ref()?;
        let own = self.qos != QoS::AtMostOnce || self.retain || !self.identifiers.is_empty();
        // What is left of its lifetime changes.
        if own || (version.is_v5() && self.message.expires.is_some()) {
            return None;
        }
        let frame = if version.is_v5() {
            &frames.v5
        } else {
            &frames.v311
        };
        let encode = || {
            let delivery = self.delivery(0, false, Instant::now());
            writer::publish(version, &delivery)
        };
        Some(frame.get_or_init(encode))
    }

    /// The packet's content for `packet_id`.
    pub(crate) fn delivery(&self, packet_id: u16, dup: bool, now: Instant) -> Delivery<'_> {
        let message = &*self.message;
        Delivery {
            topic: &message.topic,
            payload: &message.payload,
            passed_on: &message.passed_on,
            expiry_seconds: message.expires.map(|expires| {
                u32::try_from(expires.saturating_duration_since(now).as_secs()).unwrap_or(u32::MAX)
            }),
            identifiers: &self.identifiers,
            qos: self.qos,
            retain: self.retain,
            dup,
            packet_id,
            alias: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_retained_message_does_not_keep_its_read_buffer() {
        let buffer = Bytes::from(vec![b'x'; 1024 * 1024]);
        let check = |retain: bool, bytes: usize, copied: bool| {
            let publish = Publish {
                retain,
                topic: ByteString::from_static("a"),
                payload: buffer.slice(..bytes),
                dup: false,
                qos: QoS::AtMostOnce,
                packet_id: 0,
                expiry_seconds: None,
                topic_alias: None,
                passed_on: Bytes::new(),
            };
            let message = Message::from_publish(publish, Origin::default(), Instant::now());
            assert_eq!(message.payload, buffer[..bytes]);
            let own = message.payload.as_ptr() != buffer.as_ptr();
            assert_eq!(own, copied, "{retain} {bytes}");
        };
        check(true, 20_000, true);
        check(false, 20_000, false);
        check(true, 100, false);
    }

    #[test]
    fn those_who_get_the_same_packet_share_it() {
        let mut message = Message::own("a/b", "x".to_owned());
        message.passed_on = Bytes::from_static(&[1, 1]);
        let frames = Arc::<Frames>::default();
        let outgoing = |message: &Arc<Message>, qos, retain| Outgoing {
            message: Arc::clone(message),
            qos,
            retain,
            identifiers: Vec::new(),
            shared: None,
            stored: None,
            frames: Some(Arc::clone(&frames)),
        };
        let message = Arc::new(message);
        for version in [Version::V311, Version::V5] {
            let plain = outgoing(&message, QoS::AtMostOnce, false);
            let frame = plain.shared_frame(version).expect("a frame").clone();
            let delivery = plain.delivery(0, false, Instant::now());
            assert_eq!(frame, writer::publish(version, &delivery));
            let other = outgoing(&message, QoS::AtMostOnce, false);
            let again = other.shared_frame(version).expect("a frame");
            assert_eq!(again.as_ptr(), frame.as_ptr());
            for (qos, retain) in [(QoS::AtMostOnce, true), (QoS::AtLeastOnce, false)] {
                let own = outgoing(&message, qos, retain);
                assert!(own.shared_frame(version).is_none());
            }
        }
        let mut expiring = Message::own("a", "x".to_owned());
        expiring.expires = Some(Instant::now());
        let expiring = outgoing(&Arc::new(expiring), QoS::AtMostOnce, false);
        assert!(expiring.shared_frame(Version::V5).is_none());
        assert!(expiring.shared_frame(Version::V311).is_some());
    }
}
