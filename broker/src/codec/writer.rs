//! The packets that a server sends, for each version.
//!
//! A reason string stands beside a failure where the client wants it and the packet stays as short
//! as the client asked for.

use bytes::{BufMut, Bytes, BytesMut};

use super::packet::{QoS, Version};
use super::properties::id;
use super::reason::Reason;

/// How to speak to one client.
#[derive(Debug, Clone, Copy)]
pub struct Dialect {
    /// The version of its CONNECT.
    pub version: Version,
    /// It wants reason strings in other packets than CONNACK and DISCONNECT too; 5.0 only.
    pub problem_information: bool,
    /// The longest packet that it takes.
    pub max_packet_bytes: usize,
}

impl Dialect {
    /// For a client that has set no bounds.
    #[must_use]
    pub fn of(version: Version) -> Self {
        Self {
            version,
            problem_information: true,
            max_packet_bytes: usize::MAX,
        }
    }
}

/// What a successful CONNACK tells.
#[derive(Debug, Default)]
pub struct ConnAck<'c> {
    /// The session was there before.
    pub session_present: bool,
    /// The client id that the server chose.
    pub assigned_client_id: Option<&'c str>,
    /// The session expiry, where it differs from what was asked for.
    pub session_expiry_seconds: Option<u32>,
    /// The keep alive, where it differs from what was asked for.
    pub keep_alive_seconds: Option<u16>,
    /// QoS 1 and 2 messages that may be under way to the server.
    pub receive_maximum: u16,
    /// The longest packet that the server takes.
    pub maximum_packet_bytes: u32,
    /// The highest topic alias that the server takes.
    pub topic_alias_maximum: u16,
}

/// A message to one subscriber.
#[derive(Debug)]
pub struct Delivery<'d> {
    /// Topic.
    pub topic: &'d str,
    /// Payload.
    pub payload: &'d [u8],
    /// Encoded properties, as they came from the publisher.
    pub passed_on: &'d [u8],
    /// What is left of its lifetime.
    pub expiry_seconds: Option<u32>,
    /// The identifiers of the subscriptions that it matched.
    pub identifiers: &'d [u32],
    /// Quality of service.
    pub qos: QoS,
    /// Retain flag.
    pub retain: bool,
    /// It may have been sent before.
    pub dup: bool,
    /// 0 for QoS 0.
    pub packet_id: u16,
    /// The topic alias, and whether the client knows it already; 5.0 only.
    pub alias: Option<(u16, bool)>,
}

fn put_variable(out: &mut BytesMut, mut value: usize) {
    loop {
        let low = (value & 0x7f) as u8;
        value >>= 7;
        if value == 0 {
            out.put_u8(low);
            return;
        }
        out.put_u8(low | 0x80);
    }
}

fn variable_bytes(value: usize) -> usize {
    match value {
        0..0x80 => 1,
        0x80..0x4000 => 2,
        0x4000..0x20_0000 => 3,
        _ => 4,
    }
}

/// A text with its length; texts come from packets or settings and fit.
fn put_text(out: &mut BytesMut, text: &[u8]) {
    let text = &text[..text.len().min(usize::from(u16::MAX))];
    out.put_u16(text.len() as u16);
    out.put_slice(text);
}

/// CONNACK of an accepted client.
pub fn connack(out: &mut BytesMut, version: Version, connack: &ConnAck<'_>) {
    let flags = u8::from(connack.session_present && version != Version::V31);
    if !version.is_v5() {
        out.put_slice(&[0x20, 2, flags, 0]);
        return;
    }
    let mut properties = BytesMut::with_capacity(64);
    if let Some(seconds) = connack.session_expiry_seconds {
        properties.put_u8(id::SESSION_EXPIRY);
        properties.put_u32(seconds);
    }
    properties.put_u8(id::RECEIVE_MAXIMUM);
    properties.put_u16(connack.receive_maximum);
    properties.put_u8(id::MAXIMUM_PACKET_SIZE);
    properties.put_u32(connack.maximum_packet_bytes);
    if let Some(client_id) = connack.assigned_client_id {
        properties.put_u8(id::ASSIGNED_CLIENT_ID);
        put_text(&mut properties, client_id.as_bytes());
    }
    properties.put_u8(id::TOPIC_ALIAS_MAXIMUM);
    properties.put_u16(connack.topic_alias_maximum);
    if let Some(seconds) = connack.keep_alive_seconds {
        properties.put_u8(id::SERVER_KEEP_ALIVE);
        properties.put_u16(seconds);
    }
    out.put_u8(0x20);
    put_variable(out, 2 + variable_bytes(properties.len()) + properties.len());
    out.put_slice(&[flags, 0]);
    put_variable(out, properties.len());
    out.put_slice(&properties);
}

/// Whether the client takes a CONNACK of this length.
#[must_use]
pub fn connack_fits(dialect: Dialect, connack: &ConnAck<'_>) -> bool {
    let mut out = BytesMut::new();
    self::connack(&mut out, dialect.version, connack);
    out.len() <= dialect.max_packet_bytes
}

/// CONNACK of a refused client; nothing where even that is too long for it.
pub fn connack_refused(out: &mut BytesMut, dialect: Dialect, reason: Reason) {
    if dialect.max_packet_bytes < 5 {
        return;
    }
    if dialect.version.is_v5() {
        refusal(out, dialect, 0x20, &[0, reason.0], reason);
    } else {
        out.put_slice(&[0x20, 2, 0, reason.connack_311()]);
    }
}

/// A 5.0 packet that ends in a reason and nothing else but its text.
fn refusal(out: &mut BytesMut, dialect: Dialect, first: u8, body: &[u8], reason: Reason) {
    let text = reason.text().unwrap_or_default();
    // Reason strings are shorter than what would need a second byte of length.
    let properties = 3 + text.len();
    if text.is_empty() || 2 + body.len() + 1 + properties > dialect.max_packet_bytes {
        out.put_slice(&[first, body.len() as u8 + 1]);
        out.put_slice(body);
        out.put_u8(0);
        return;
    }
    out.put_slice(&[first, (body.len() + 1 + properties) as u8]);
    out.put_slice(body);
    out.put_slice(&[properties as u8, id::REASON_STRING]);
    put_text(out, text.as_bytes());
}

/// PUBACK.
pub fn puback(out: &mut BytesMut, dialect: Dialect, packet_id: u16, reason: Reason) {
    ack(out, dialect, 0x40, packet_id, reason);
}

/// PUBREC.
pub fn pubrec(out: &mut BytesMut, dialect: Dialect, packet_id: u16, reason: Reason) {
    ack(out, dialect, 0x50, packet_id, reason);
}

/// PUBREL.
pub fn pubrel(out: &mut BytesMut, dialect: Dialect, packet_id: u16, reason: Reason) {
    ack(out, dialect, 0x62, packet_id, reason);
}

/// PUBCOMP.
pub fn pubcomp(out: &mut BytesMut, dialect: Dialect, packet_id: u16, reason: Reason) {
    ack(out, dialect, 0x70, packet_id, reason);
}

fn ack(out: &mut BytesMut, dialect: Dialect, first: u8, packet_id: u16, reason: Reason) {
    let [high, low] = packet_id.to_be_bytes();
    if !dialect.version.is_v5() || reason == Reason::SUCCESS {
        out.put_slice(&[first, 2, high, low]);
    } else if reason.is_failure() && dialect.problem_information {
        refusal(out, dialect, first, &[high, low, reason.0], reason);
    } else {
        out.put_slice(&[first, 3, high, low, reason.0]);
    }
}

/// SUBACK.
pub fn suback(out: &mut BytesMut, version: Version, packet_id: u16, codes: &[Reason]) {
    acks(out, 0x90, version, packet_id, codes, |reason| {
        // 3.1.1 knows one failure only.
        if version.is_v5() {
            reason.0
        } else {
            reason.0.min(0x80)
        }
    });
}

/// UNSUBACK; 3.1.1 has no codes in it.
pub fn unsuback(out: &mut BytesMut, version: Version, packet_id: u16, codes: &[Reason]) {
    let codes = if version.is_v5() { codes } else { &[] };
    acks(out, 0xb0, version, packet_id, codes, |reason| reason.0);
}

fn acks(
    out: &mut BytesMut,
    first: u8,
    version: Version,
    packet_id: u16,
    codes: &[Reason],
    code: impl Fn(Reason) -> u8,
) {
    let properties = usize::from(version.is_v5());
    out.put_u8(first);
    put_variable(out, 2 + properties + codes.len());
    out.put_u16(packet_id);
    out.put_bytes(0, properties);
    for reason in codes {
        out.put_u8(code(*reason));
    }
}

/// Whether the client takes a SUBACK or UNSUBACK with so many codes.
#[must_use]
pub fn codes_fit(dialect: Dialect, codes: usize) -> bool {
    let body = 2 + 1 + codes;
    !dialect.version.is_v5() || 1 + variable_bytes(body) + body <= dialect.max_packet_bytes
}

/// PINGRESP.
pub fn pingresp(out: &mut BytesMut) {
    out.put_slice(&[0xd0, 0]);
}

/// DISCONNECT; 3.1.1 has none from the server.
pub fn disconnect(out: &mut BytesMut, dialect: Dialect, reason: Reason) {
    if dialect.version.is_v5() {
        refusal(out, dialect, 0xe0, &[reason.0], reason);
    }
}

impl Delivery<'_> {
    fn properties_bytes(&self) -> usize {
        let expiry = if self.expiry_seconds.is_some() { 5 } else { 0 };
        let identifiers: usize = self
            .identifiers
            .iter()
            .map(|value| 1 + variable_bytes(*value as usize))
            .sum();
        let alias = if self.alias.is_some() { 3 } else { 0 };
        expiry + identifiers + alias + self.passed_on.len()
    }

    /// The topic as it stands in the packet.
    fn topic(&self) -> &[u8] {
        match self.alias {
            Some((_, true)) => &[],
            _ => self.topic.as_bytes(),
        }
    }

    fn body_bytes(&self, version: Version) -> usize {
        let packet_id = if self.qos == QoS::AtMostOnce { 0 } else { 2 };
        let plain = 2 + self.topic().len() + packet_id + self.payload.len();
        if version.is_v5() {
            let properties = self.properties_bytes();
            plain + variable_bytes(properties) + properties
        } else {
            plain
        }
    }

    /// The length of the whole packet.
    #[must_use]
    pub fn packet_bytes(&self, version: Version) -> usize {
        let body = self.body_bytes(version);
        1 + variable_bytes(body) + body
    }

    /// Writes the PUBLISH packet.
    pub fn write(&self, out: &mut BytesMut, version: Version) {
        let body = self.body_bytes(version);
        out.reserve(body + 5);
        out.put_u8(0x30 | u8::from(self.dup) << 3 | (self.qos as u8) << 1 | u8::from(self.retain));
        put_variable(out, body);
        put_text(out, self.topic());
        if self.qos != QoS::AtMostOnce {
            out.put_u16(self.packet_id);
        }
        if version.is_v5() {
            put_variable(out, self.properties_bytes());
            if let Some(seconds) = self.expiry_seconds {
                out.put_u8(id::MESSAGE_EXPIRY);
                out.put_u32(seconds);
            }
            if let Some((alias, _)) = self.alias {
                out.put_u8(id::TOPIC_ALIAS);
                out.put_u16(alias);
            }
            for value in self.identifiers {
                out.put_u8(id::SUBSCRIPTION_IDENTIFIER);
                put_variable(out, *value as usize);
            }
            out.put_slice(self.passed_on);
        }
        out.put_slice(self.payload);
    }
}

/// PUBLISH of a message as a client would send it; for tests and load generators.
#[must_use]
pub fn publish(version: Version, delivery: &Delivery<'_>) -> Bytes {
    let mut out = BytesMut::with_capacity(delivery.packet_bytes(version));
    delivery.write(&mut out, version);
    out.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delivery<'d>(qos: QoS, identifiers: &'d [u32], payload: &'d [u8]) -> Delivery<'d> {
        Delivery {
            topic: "a/b",
            payload,
            passed_on: &[1, 1],
            expiry_seconds: Some(5),
            identifiers,
            qos,
            retain: true,
            dup: false,
            packet_id: 9,
            alias: None,
        }
    }

    #[test]
    fn a_message_is_written_for_each_version() {
        let check = |version, qos, bytes: &[u8]| {
            assert_eq!(&publish(version, &delivery(qos, &[200], b"x"))[..], bytes);
        };
        check(
            Version::V311,
            QoS::AtMostOnce,
            &[0x31, 6, 0, 3, b'a', b'/', b'b', b'x'],
        );
        check(
            Version::V311,
            QoS::AtLeastOnce,
            &[0x33, 8, 0, 3, b'a', b'/', b'b', 0, 9, b'x'],
        );
        check(
            Version::V5,
            QoS::AtMostOnce,
            &[
                0x31, 17, 0, 3, b'a', b'/', b'b', 10, 2, 0, 0, 0, 5, 0x0b, 0xc8, 1, 1, 1, b'x',
            ],
        );
    }

    #[test]
    fn the_length_that_is_told_is_the_length_that_is_written() {
        for payload in [0, 100, 121, 122, 16_000, 20_000, 2_100_000] {
            let payload = vec![0; payload];
            for version in [Version::V311, Version::V5] {
                let delivery = delivery(QoS::AtLeastOnce, &[1, 128, 70_000], &payload);
                assert_eq!(
                    publish(version, &delivery).len(),
                    delivery.packet_bytes(version)
                );
            }
        }
    }
}
