//! MQTT packets as a client sees them: bytes to a server, checked values from it.
//!
//! What comes in is held to what the standard lets a server send: flags, lengths, texts, properties
//! and where they may stand. It knows no connection and stands alone, so that the fuzzer can use it.

/// The versions that are spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// 3.1.1
    V311,
    /// 5.0
    V5,
}

/// What CONNECT says. Properties are left out for 3.1.1.
#[derive(Debug, Clone)]
pub struct Connect {
    /// The client id.
    pub client_id: String,
    /// Clean session, or clean start.
    pub clean: bool,
    /// 5.0: how long the session outlives its connection.
    pub expiry_seconds: u32,
    /// 5.0: messages above QoS 0 that it takes at once.
    pub receive_maximum: u16,
    /// 5.0: topic aliases that it takes.
    pub alias_maximum: u16,
    /// The last will.
    pub will: Option<Will>,
}

/// A last will.
#[derive(Debug, Clone)]
pub struct Will {
    /// Where it goes.
    pub topic: String,
    /// What it says.
    pub payload: Vec<u8>,
    /// Its QoS.
    pub qos: u8,
    /// 5.0: how long it waits.
    pub delay_seconds: u32,
}

/// A message, as sent or as received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Empty in a 5.0 packet that has an alias instead.
    pub topic: String,
    /// 5.0: the topic alias; 0 for none.
    pub alias: u16,
    /// What it says.
    pub payload: Vec<u8>,
    /// Its QoS.
    pub qos: u8,
    /// Its retain flag.
    pub retain: bool,
    /// It was sent before.
    pub dup: bool,
    /// 0 for QoS 0.
    pub packet_id: u16,
}

/// The acknowledgements of messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ack {
    /// PUBACK
    PubAck = 4,
    /// PUBREC
    PubRec = 5,
    /// PUBREL
    PubRel = 6,
    /// PUBCOMP
    PubComp = 7,
}

/// What a server sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received {
    /// CONNACK
    ConnAck {
        /// The session was there.
        present: bool,
        /// The reason, or for 3.1.1 the return code; 0 lets in.
        reason: u8,
        /// Messages above QoS 0 that the server takes at once.
        receive_maximum: u16,
    },
    /// PUBLISH
    Publish(Message),
    /// PUBACK, PUBREC, PUBREL, PUBCOMP
    Ack(Ack, u16, u8),
    /// SUBACK, with a code for each filter
    SubAck(u16, Vec<u8>),
    /// UNSUBACK, with a code for each filter, but for 3.1.1 without
    UnsubAck(u16, Vec<u8>),
    /// PINGRESP
    Pong,
    /// DISCONNECT
    Disconnect(u8),
}

fn text(bytes: &mut Vec<u8>, text: &[u8]) {
    let length = u16::try_from(text.len()).expect("texts of tests are short");
    bytes.extend(length.to_be_bytes());
    bytes.extend(text);
}

fn variable(bytes: &mut Vec<u8>, mut number: usize) {
    loop {
        let low = u8::try_from(number & 0x7f).expect("seven bits");
        number >>= 7;
        bytes.push(if number > 0 { low | 0x80 } else { low });
        if number == 0 {
            return;
        }
    }
}

fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    variable(&mut bytes, body.len());
    bytes.extend(body);
    bytes
}

fn properties(bytes: &mut Vec<u8>, version: Version, encoded: &[u8]) {
    if version == Version::V5 {
        variable(bytes, encoded.len());
        bytes.extend(encoded);
    }
}

impl Connect {
    /// The bytes of CONNECT.
    #[must_use]
    pub fn bytes(&self, version: Version) -> Vec<u8> {
        let mut flags = u8::from(self.clean) << 1;
        if let Some(will) = &self.will {
            flags |= 0b100 | will.qos << 3;
        }
        let mut body = Vec::new();
        text(&mut body, b"MQTT");
        body.extend([if version == Version::V5 { 5 } else { 4 }, flags, 0, 0]);
        let mut own = vec![0x11];
        own.extend(self.expiry_seconds.to_be_bytes());
        own.push(0x21);
        own.extend(self.receive_maximum.to_be_bytes());
        own.push(0x22);
        own.extend(self.alias_maximum.to_be_bytes());
        properties(&mut body, version, &own);
        text(&mut body, self.client_id.as_bytes());
        if let Some(will) = &self.will {
            let mut own = vec![0x18];
            own.extend(will.delay_seconds.to_be_bytes());
            properties(&mut body, version, &own);
            text(&mut body, will.topic.as_bytes());
            text(&mut body, &will.payload);
        }
        packet(0x10, &body)
    }
}

impl Message {
    /// The bytes of PUBLISH.
    #[must_use]
    pub fn bytes(&self, version: Version) -> Vec<u8> {
        let mut body = Vec::with_capacity(self.topic.len() + self.payload.len() + 8);
        text(&mut body, self.topic.as_bytes());
        if self.qos > 0 {
            body.extend(self.packet_id.to_be_bytes());
        }
        properties(&mut body, version, &[]);
        body.extend(&self.payload);
        let first = 0x30 | u8::from(self.dup) << 3 | self.qos << 1 | u8::from(self.retain);
        packet(first, &body)
    }
}

impl Ack {
    /// Its bytes, for success.
    #[must_use]
    pub fn bytes(self, packet_id: u16) -> Vec<u8> {
        let flags = if self == Self::PubRel { 2 } else { 0 };
        packet((self as u8) << 4 | flags, &packet_id.to_be_bytes())
    }
}

/// The bytes of SUBSCRIBE: filters, each with its options.
#[must_use]
pub fn subscribe(version: Version, packet_id: u16, filters: &[(&str, u8)]) -> Vec<u8> {
    let mut body = packet_id.to_be_bytes().to_vec();
    properties(&mut body, version, &[]);
    for (filter, options) in filters {
        text(&mut body, filter.as_bytes());
        body.push(*options);
    }
    packet(0x82, &body)
}

/// The bytes of UNSUBSCRIBE.
#[must_use]
pub fn unsubscribe(version: Version, packet_id: u16, filters: &[&str]) -> Vec<u8> {
    let mut body = packet_id.to_be_bytes().to_vec();
    properties(&mut body, version, &[]);
    for filter in filters {
        text(&mut body, filter.as_bytes());
    }
    packet(0xa2, &body)
}

/// The bytes of PINGREQ.
pub const PINGREQ: [u8; 2] = [0xc0, 0];

/// The bytes of DISCONNECT, without a reason.
pub const DISCONNECT: [u8; 2] = [0xe0, 0];

/// Takes the first packet out of `buffer`, once it is there.
///
/// # Errors
/// A server may not send this; the sentence says why.
pub fn take(buffer: &mut Vec<u8>, version: Version) -> Result<Option<Received>, String> {
    let Some(&first) = buffer.first() else {
        return Ok(None);
    };
    let (mut length, mut header) = (0, 1);
    loop {
        let Some(&byte) = buffer.get(header) else {
            return Ok(None);
        };
        if header > 4 {
            return Err("a length of more than four bytes".to_owned());
        }
        length |= usize::from(byte & 0x7f) << (7 * (header - 1));
        header += 1;
        if byte & 0x80 == 0 {
            break;
        }
    }
    if buffer.len() < header + length {
        return Ok(None);
    }
    let mut fields = Fields(&buffer[header..header + length]);
    let read = read(first, &mut fields, version);
    let received = read.map_err(|wrong| format!("packet {first:#04x}: {wrong}"))?;
    if !fields.0.is_empty() {
        return Err(format!(
            "packet {first:#04x}: {} bytes too many",
            fields.0.len()
        ));
    }
    buffer.drain(..header + length);
    Ok(Some(received))
}

fn read(first: u8, fields: &mut Fields<'_>, version: Version) -> Result<Received, String> {
    let flags = first & 0x0f;
    let kind = first >> 4;
    if kind != 3 && flags != if kind == 6 { 2 } else { 0 } {
        return Err("reserved flags".to_owned());
    }
    match kind {
        2 => {
            let (present, reason) = (fields.byte()?, fields.byte()?);
            if present > 1 || (present == 1 && reason != 0) {
                return Err(format!("session present {present} with reason {reason}"));
            }
            let maximum = fields.properties(version, CONNACK)?.receive_maximum;
            Ok(Received::ConnAck {
                present: present == 1,
                reason,
                receive_maximum: maximum.unwrap_or(u16::MAX),
            })
        }
        3 => publish(flags, fields, version).map(Received::Publish),
        4..=7 => {
            let packet_id = fields.packet_id()?;
            let mut reason = 0;
            if version == Version::V5 && !fields.0.is_empty() {
                reason = fields.byte()?;
                if !fields.0.is_empty() {
                    fields.properties(version, ANSWER)?;
                }
            }
            let ack = match kind {
                4 => Ack::PubAck,
                5 => Ack::PubRec,
                6 => Ack::PubRel,
                _ => Ack::PubComp,
            };
            Ok(Received::Ack(ack, packet_id, reason))
        }
        9 | 11 => {
            let packet_id = fields.packet_id()?;
            fields.properties(version, ANSWER)?;
            let codes = fields.rest();
            if kind == 9 {
                return Ok(Received::SubAck(packet_id, codes));
            }
            Ok(Received::UnsubAck(packet_id, codes))
        }
        13 => Ok(Received::Pong),
        14 if version == Version::V5 => {
            let reason = if fields.0.is_empty() {
                0
            } else {
                fields.byte()?
            };
            if !fields.0.is_empty() {
                fields.properties(version, DISCONNECTED)?;
            }
            Ok(Received::Disconnect(reason))
        }
        _ => Err("no packet that a server sends".to_owned()),
    }
}

fn publish(flags: u8, fields: &mut Fields<'_>, version: Version) -> Result<Message, String> {
    let qos = flags >> 1 & 3;
    let dup = flags & 8 != 0;
    if qos == 3 || (dup && qos == 0) {
        return Err(format!("QoS {qos} with DUP {dup}"));
    }
    let topic = fields.text()?;
    if topic.contains(['+', '#', '\0']) {
        return Err(format!("topic name {topic:?}"));
    }
    let packet_id = if qos > 0 { fields.packet_id()? } else { 0 };
    let alias = fields.properties(version, PUBLISHED)?.alias;
    if topic.is_empty() && alias.is_none() || alias == Some(0) {
        return Err(format!("topic {topic:?} with alias {alias:?}"));
    }
    Ok(Message {
        topic,
        alias: alias.unwrap_or(0),
        payload: fields.rest(),
        qos,
        retain: flags & 1 != 0,
        dup,
        packet_id,
    })
}

/// The properties that may stand in a server's packets.
const CONNACK: &[u8] = &[
    0x11, 0x12, 0x13, 0x15, 0x16, 0x1a, 0x1c, 0x1f, 0x21, 0x22, 0x24, 0x25, 0x26, 0x27, 0x28, 0x29,
    0x2a,
];
const PUBLISHED: &[u8] = &[0x01, 0x02, 0x03, 0x08, 0x09, 0x0b, 0x23, 0x26];
const ANSWER: &[u8] = &[0x1f, 0x26];
const DISCONNECTED: &[u8] = &[0x1c, 0x1f, 0x26];

#[derive(Debug, Default)]
struct Properties {
    receive_maximum: Option<u16>,
    alias: Option<u16>,
}

/// The fields of one packet that are still to be read.
struct Fields<'b>(&'b [u8]);

impl<'b> Fields<'b> {
    fn bytes(&mut self, count: usize) -> Result<&'b [u8], String> {
        let (taken, rest) = self
            .0
            .split_at_checked(count)
            .ok_or_else(|| format!("{count} bytes expected, {} there", self.0.len()))?;
        self.0 = rest;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, String> {
        Ok(self.bytes(1)?[0])
    }

    fn two(&mut self) -> Result<u16, String> {
        let bytes = self.bytes(2)?;
        Ok(u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    fn packet_id(&mut self) -> Result<u16, String> {
        match self.two()? {
            0 => Err("packet identifier 0".to_owned()),
            id => Ok(id),
        }
    }

    fn binary(&mut self) -> Result<&'b [u8], String> {
        let length = self.two()?;
        self.bytes(length.into())
    }

    fn text(&mut self) -> Result<String, String> {
        let bytes = self.binary()?;
        String::from_utf8(bytes.to_vec()).map_err(|error| error.to_string())
    }

    fn rest(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.0).to_vec()
    }

    fn variable(&mut self) -> Result<usize, String> {
        let mut number = 0;
        for shift in [0, 7, 14, 21] {
            let byte = self.byte()?;
            number |= usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err("a number of more than four bytes".to_owned())
    }

    fn properties(&mut self, version: Version, allowed: &[u8]) -> Result<Properties, String> {
        let mut found = Properties::default();
        if version != Version::V5 {
            return Ok(found);
        }
        let length = self.variable()?;
        let mut inner = Fields(self.bytes(length)?);
        let mut seen = Vec::new();
        while !inner.0.is_empty() {
            let id = inner.byte()?;
            let many = id == 0x26 || id == 0x0b;
            if !allowed.contains(&id) || (seen.contains(&id) && !many) {
                return Err(format!("property {id:#04x} may not stand here"));
            }
            seen.push(id);
            match id {
                0x21 => found.receive_maximum = Some(inner.two()?).filter(|most| *most > 0),
                0x23 => found.alias = Some(inner.two()?),
                0x13 | 0x22 => drop(inner.two()?),
                0x02 | 0x11 | 0x18 | 0x27 => drop(inner.bytes(4)?),
                0x0b if inner.variable()? == 0 => {
                    return Err("subscription identifier 0".to_owned());
                }
                0x0b => {}
                0x09 | 0x16 => drop(inner.binary()?),
                0x03 | 0x08 | 0x12 | 0x15 | 0x1a | 0x1c | 0x1f => drop(inner.text()?),
                0x26 => drop((inner.text()?, inner.text()?)),
                // What is left are the properties of one byte, all of them 0 or 1.
                _ if inner.byte()? > 1 => return Err(format!("property {id:#04x} above 1")),
                _ => {}
            }
        }
        Ok(found)
    }
}
