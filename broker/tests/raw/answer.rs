//! What a server sends, read as strictly as the standards allow: reserved flags, reason codes and
//! properties that may stand in the packet, lengths in their shortest form, nothing left over.
//!
//! Every packet that a test receives passes here, so that a packet which breaks a rule fails
//! whatever test it comes up in.

use super::Message;

/// The properties of a packet, encoded, in their order.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Properties(pub Vec<(u8, Vec<u8>)>);

impl Properties {
    /// The value of a property that stands once, as its bytes.
    pub fn get(&self, id: u8) -> Option<&[u8]> {
        let mut found = self.0.iter().filter(|(have, _)| *have == id);
        found.next().map(|(_, value)| &value[..])
    }

    pub fn number(&self, id: u8) -> Option<u32> {
        let value = self.get(id)?;
        Some(
            value
                .iter()
                .fold(0, |sum, byte| sum << 8 | u32::from(*byte)),
        )
    }

    pub fn text(&self, id: u8) -> Option<String> {
        Some(String::from_utf8(self.get(id)?[2..].to_vec()).unwrap())
    }

    /// The subscription identifiers, sorted.
    pub fn identifiers(&self) -> Vec<u32> {
        let mut all: Vec<u32> = self
            .0
            .iter()
            .filter(|(id, _)| *id == 0x0b)
            .map(|(_, value)| {
                value
                    .iter()
                    .rev()
                    .fold(0, |sum, byte| sum << 7 | u32::from(byte & 0x7f))
            })
            .collect();
        all.sort_unstable();
        all
    }
}

/// A packet from the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    ConnAck {
        present: bool,
        reason: u8,
        properties: Properties,
    },
    Publish(Message, Properties),
    /// PUBACK, PUBREC, PUBREL or PUBCOMP: `first` tells.
    Ack {
        first: u8,
        packet_id: u16,
        reason: u8,
        properties: Properties,
    },
    /// SUBACK or UNSUBACK: `first` tells.
    Codes {
        first: u8,
        packet_id: u16,
        codes: Vec<u8>,
        properties: Properties,
    },
    PingResp,
    Disconnect {
        reason: u8,
        properties: Properties,
    },
}

const CONNACK: &[u8] = &[
    0x00, 0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8a, 0x8c, 0x90, 0x95, 0x97,
    0x99, 0x9a, 0x9b, 0x9c, 0x9d, 0x9f,
];
const RECEIVED: &[u8] = &[0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99];
const RELEASED: &[u8] = &[0x00, 0x92];
const SUBACK: &[u8] = &[
    0x00, 0x01, 0x02, 0x80, 0x83, 0x87, 0x8f, 0x91, 0x97, 0x9e, 0xa1, 0xa2,
];
const UNSUBACK: &[u8] = &[0x00, 0x11, 0x80, 0x83, 0x87, 0x8f, 0x91];
const DISCONNECT: &[u8] = &[
    0x00, 0x80, 0x81, 0x82, 0x83, 0x87, 0x89, 0x8b, 0x8d, 0x8e, 0x8f, 0x90, 0x93, 0x94, 0x95, 0x96,
    0x97, 0x98, 0x99, 0x9a, 0x9b, 0x9c, 0x9d, 0x9e, 0x9f, 0xa0, 0xa1, 0xa2,
];

const IN_CONNACK: &[u8] = &[
    0x11, 0x12, 0x13, 0x15, 0x16, 0x1a, 0x1c, 0x1f, 0x21, 0x22, 0x24, 0x25, 0x26, 0x27, 0x28, 0x29,
    0x2a,
];
const IN_PUBLISH: &[u8] = &[0x01, 0x02, 0x03, 0x08, 0x09, 0x0b, 0x23, 0x26];
const IN_ACK: &[u8] = &[0x1f, 0x26];
const IN_DISCONNECT: &[u8] = &[0x1c, 0x1f, 0x26];

struct Body<'b>(&'b [u8]);

impl<'b> Body<'b> {
    fn take(&mut self, bytes: usize) -> &'b [u8] {
        assert!(bytes <= self.0.len(), "the packet ends too early");
        let (taken, rest) = self.0.split_at(bytes);
        self.0 = rest;
        taken
    }

    fn u8(&mut self) -> u8 {
        self.take(1)[0]
    }

    fn u16(&mut self) -> u16 {
        let bytes = self.take(2);
        u16::from_be_bytes([bytes[0], bytes[1]])
    }

    fn packet_id(&mut self) -> u16 {
        let id = self.u16();
        assert_ne!(id, 0, "packet identifier 0");
        id
    }

    /// A text with its length before it, as its encoded bytes.
    fn text(&mut self) -> &'b [u8] {
        let whole = self.0;
        let bytes = usize::from(self.u16());
        let text = std::str::from_utf8(self.take(bytes)).expect("text is UTF-8");
        assert!(!text.contains('\0'), "text with NUL");
        &whole[..2 + bytes]
    }

    fn variable(&mut self) -> usize {
        let (mut value, mut shift) = (0, 0);
        loop {
            let byte = self.u8();
            value |= usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                assert!(byte != 0 || shift == 0, "integer not in its shortest form");
                return value;
            }
            shift += 7;
            assert!(shift < 28, "integer of more than 4 bytes");
        }
    }

    fn properties(&mut self, level: u8, allowed: &[u8]) -> Properties {
        let mut found: Vec<(u8, Vec<u8>)> = Vec::new();
        if level < 5 {
            return Properties(found);
        }
        let bytes = self.variable();
        let mut part = Body(self.take(bytes));
        while !part.0.is_empty() {
            let id = part.u8();
            assert!(allowed.contains(&id), "property {id:#04x} in this packet");
            let twice = found.iter().any(|(have, _)| *have == id);
            assert!(
                !twice || matches!(id, 0x26 | 0x0b),
                "property {id:#04x} twice"
            );
            found.push((id, part.value(id)));
        }
        Properties(found)
    }

    fn value(&mut self, id: u8) -> Vec<u8> {
        let value = match id {
            0x01 | 0x24 | 0x25 | 0x28 | 0x29 | 0x2a => {
                let value = self.take(1);
                assert!(value[0] <= 1, "property {id:#04x} is {}", value[0]);
                value
            }
            0x13 | 0x22 => self.take(2),
            0x21 | 0x23 => {
                let value = self.take(2);
                assert_ne!(value, [0, 0], "property {id:#04x}");
                value
            }
            0x02 | 0x11 => self.take(4),
            0x27 => {
                let value = self.take(4);
                assert_ne!(value, [0; 4], "property {id:#04x}");
                value
            }
            0x0b => {
                let whole = self.0;
                assert_ne!(self.variable(), 0, "subscription identifier 0");
                &whole[..whole.len() - self.0.len()]
            }
            0x09 | 0x16 => {
                let whole = self.0;
                let bytes = usize::from(self.u16());
                self.take(bytes);
                &whole[..2 + bytes]
            }
            0x26 => {
                let whole = self.0;
                let (key, value) = (self.text().len(), self.text().len());
                &whole[..key + value]
            }
            _ => self.text(),
        };
        value.to_vec()
    }

    fn reason(&mut self, allowed: &[u8]) -> u8 {
        let reason = self.u8();
        assert!(
            allowed.contains(&reason),
            "reason {reason:#04x} in this packet"
        );
        reason
    }
}

/// Reads one packet.
pub fn read(level: u8, first: u8, body: &[u8]) -> Answer {
    let mut rest = Body(body);
    let answer = read_body(level, first, &mut rest);
    assert!(
        rest.0.is_empty(),
        "bytes after the packet: {first:02x} {body:02x?}"
    );
    answer
}

fn read_body(level: u8, first: u8, body: &mut Body<'_>) -> Answer {
    let v5 = level == 5;
    match first {
        0x20 => {
            let flags = body.u8();
            assert!(flags <= 1, "reserved flags of CONNACK");
            // A version that is not supported is told as 3.1.1 does, to any version.
            let old = body.0.len() == 1;
            let reason = if v5 && !old {
                body.reason(CONNACK)
            } else {
                body.reason(&[0, 1, 2, 3, 4, 5])
            };
            assert!(reason == 0 || flags == 0, "session present, but refused");
            assert!(!v5 || !old || reason == 1, "{reason} without properties");
            let level = if old { 4 } else { level };
            let properties = body.properties(level, IN_CONNACK);
            Answer::ConnAck {
                present: flags == 1,
                reason,
                properties,
            }
        }
        0x30..=0x3f => publish(level, first, body),
        0x40 | 0x50 | 0x62 | 0x70 => {
            let packet_id = body.packet_id();
            let (mut reason, mut properties) = (0, Properties::default());
            if v5 && !body.0.is_empty() {
                reason = body.reason(if first < 0x60 { RECEIVED } else { RELEASED });
                if !body.0.is_empty() {
                    properties = body.properties(level, IN_ACK);
                }
            }
            Answer::Ack {
                first,
                packet_id,
                reason,
                properties,
            }
        }
        0x90 | 0xb0 => {
            let packet_id = body.packet_id();
            let properties = body.properties(level, IN_ACK);
            let allowed: &[u8] = match (first, v5) {
                (0x90, true) => SUBACK,
                (0x90, false) => &[0, 1, 2, 0x80],
                (_, true) => UNSUBACK,
                (_, false) => &[],
            };
            let mut codes = Vec::new();
            while !body.0.is_empty() {
                codes.push(body.reason(allowed));
            }
            Answer::Codes {
                first,
                packet_id,
                codes,
                properties,
            }
        }
        0xd0 => Answer::PingResp,
        0xe0 if v5 => {
            let (mut reason, mut properties) = (0, Properties::default());
            if !body.0.is_empty() {
                reason = body.reason(DISCONNECT);
                if !body.0.is_empty() {
                    properties = body.properties(level, IN_DISCONNECT);
                }
            }
            Answer::Disconnect { reason, properties }
        }
        _ => panic!("a server does not send {first:02x} at level {level}"),
    }
}

fn publish(level: u8, first: u8, body: &mut Body<'_>) -> Answer {
    let qos = first >> 1 & 3;
    assert_ne!(qos, 3, "QoS 3");
    assert!(qos > 0 || first & 0b1000 == 0, "DUP on a QoS 0 message");
    let topic = body.text()[2..].to_vec();
    let topic = String::from_utf8(topic).unwrap();
    assert!(!topic.contains(['+', '#']), "wildcard in a topic name");
    let packet_id = if qos > 0 { body.packet_id() } else { 0 };
    let mut encoded = Body(body.0);
    let encoded = match level {
        5 => {
            let bytes = encoded.variable();
            encoded.take(bytes).to_vec()
        }
        _ => Vec::new(),
    };
    let properties = body.properties(level, IN_PUBLISH);
    assert!(
        !topic.is_empty() || properties.get(0x23).is_some(),
        "a topic name that is empty"
    );
    let payload = body.take(body.0.len());
    let message = Message {
        first,
        topic,
        packet_id,
        properties: encoded,
        payload: String::from_utf8_lossy(payload).into_owned(),
    };
    Answer::Publish(message, properties)
}
