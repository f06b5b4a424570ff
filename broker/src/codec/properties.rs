//! The properties of MQTT 5.0 (section 2.2.2): which may stand in which packet, and how often.
//!
//! Those of a message that go on to subscribers unchanged (payload format, content type, response
//! topic, correlation data, user properties) are checked and kept encoded, as they came.

use bytes::{Bytes, BytesMut};

use super::error::DecodeError;
use super::packet::ConnectProperties;
use super::reader::Reader;

/// Property identifiers.
pub mod id {
    #![expect(missing_docs, reason = "the names are those of the MQTT 5.0 standard")]
    pub const PAYLOAD_FORMAT: u8 = 0x01;
    pub const MESSAGE_EXPIRY: u8 = 0x02;
    pub const CONTENT_TYPE: u8 = 0x03;
    pub const RESPONSE_TOPIC: u8 = 0x08;
    pub const CORRELATION_DATA: u8 = 0x09;
    pub const SUBSCRIPTION_IDENTIFIER: u8 = 0x0b;
    pub const SESSION_EXPIRY: u8 = 0x11;
    pub const ASSIGNED_CLIENT_ID: u8 = 0x12;
    pub const SERVER_KEEP_ALIVE: u8 = 0x13;
    pub const AUTHENTICATION_METHOD: u8 = 0x15;
    pub const AUTHENTICATION_DATA: u8 = 0x16;
    pub const REQUEST_PROBLEM_INFORMATION: u8 = 0x17;
    pub const WILL_DELAY: u8 = 0x18;
    pub const REQUEST_RESPONSE_INFORMATION: u8 = 0x19;
    pub const REASON_STRING: u8 = 0x1f;
    pub const RECEIVE_MAXIMUM: u8 = 0x21;
    pub const TOPIC_ALIAS_MAXIMUM: u8 = 0x22;
    pub const TOPIC_ALIAS: u8 = 0x23;
    pub const USER_PROPERTY: u8 = 0x26;
    pub const MAXIMUM_PACKET_SIZE: u8 = 0x27;
}

const NOT_ALLOWED: DecodeError =
    DecodeError::Malformed("property that may not stand in this packet");
const TWICE: DecodeError = DecodeError::Protocol("property stands twice");

/// Reads the properties at `reader` one by one; `each` gets the identifier, where the property
/// begins, and reads the value. All but user properties may stand once only; their two texts are
/// read before `each` is called.
fn read_each(
    reader: &mut Reader,
    mut each: impl FnMut(u8, usize, &mut Reader) -> Result<(), DecodeError>,
) -> Result<Reader, DecodeError> {
    let bytes = reader.variable()? as usize;
    let mut part = reader.part(bytes)?;
    let mut seen = 0_u64;
    while !part.is_empty() {
        // Identifiers are variable byte integers, but none above 0x2a is defined.
        let start = part.position();
        let identifier = part.u8()?;
        if identifier > 0x2a {
            return Err(DecodeError::Malformed("unknown property"));
        }
        if identifier == id::USER_PROPERTY {
            part.text()?;
            part.text()?;
        } else {
            if seen & (1 << identifier) != 0 {
                return Err(TWICE);
            }
            seen |= 1 << identifier;
        }
        each(identifier, start, &mut part)?;
    }
    Ok(part)
}

fn flag(part: &mut Reader) -> Result<bool, DecodeError> {
    match part.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(DecodeError::Protocol("property is neither 0 nor 1")),
    }
}

fn not_zero<N: PartialEq + From<u8>>(value: N) -> Result<N, DecodeError> {
    if value == N::from(0) {
        Err(DecodeError::Protocol("property must not be 0"))
    } else {
        Ok(value)
    }
}

/// Reads the properties of CONNECT.
pub fn connect(reader: &mut Reader) -> Result<ConnectProperties, DecodeError> {
    let mut found = ConnectProperties::default();
    let mut data = false;
    read_each(reader, |identifier, _, part| {
        match identifier {
            id::SESSION_EXPIRY => found.session_expiry_seconds = Some(part.u32()?),
            id::RECEIVE_MAXIMUM => found.receive_maximum = Some(not_zero(part.u16()?)?),
            id::MAXIMUM_PACKET_SIZE => found.maximum_packet_bytes = Some(not_zero(part.u32()?)?),
            id::TOPIC_ALIAS_MAXIMUM => found.topic_alias_maximum = part.u16()?,
            id::REQUEST_PROBLEM_INFORMATION => found.no_problem_information = !flag(part)?,
            id::REQUEST_RESPONSE_INFORMATION => drop(flag(part)?),
            id::AUTHENTICATION_METHOD => {
                part.text()?;
                found.authentication_method = true;
            }
            id::AUTHENTICATION_DATA => {
                part.binary()?;
                data = true;
            }
            id::USER_PROPERTY => {}
            _ => return Err(NOT_ALLOWED),
        }
        Ok(())
    })?;
    if data && !found.authentication_method {
        return Err(DecodeError::Protocol(
            "authentication data without a method",
        ));
    }
    Ok(found)
}

/// The properties of a message: of PUBLISH, or of the will in CONNECT.
#[derive(Debug, Default)]
pub struct MessageProperties {
    /// Lifetime.
    pub expiry_seconds: Option<u32>,
    /// Topic alias; PUBLISH only.
    pub topic_alias: Option<u16>,
    /// Will delay; the will only.
    pub delay_seconds: u32,
    /// What goes on as it came, encoded.
    pub passed_on: Bytes,
}

/// Reads the properties of PUBLISH, or of the will where `will` is true.
pub fn message(reader: &mut Reader, will: bool) -> Result<MessageProperties, DecodeError> {
    let mut found = MessageProperties::default();
    let mut own = false;
    let mut passed_on = BytesMut::new();
    let part = read_each(reader, |identifier, start, part| {
        match identifier {
            id::PAYLOAD_FORMAT => {
                flag(part)?;
            }
            id::CONTENT_TYPE => drop(part.text()?),
            id::RESPONSE_TOPIC => {
                if part.topic_name()?.is_empty() {
                    return Err(DecodeError::TopicName);
                }
            }
            id::CORRELATION_DATA => drop(part.binary()?),
            id::USER_PROPERTY => {}
            id::MESSAGE_EXPIRY => found.expiry_seconds = Some(part.u32()?),
            id::TOPIC_ALIAS if !will => found.topic_alias = Some(part.u16()?),
            id::WILL_DELAY if will => found.delay_seconds = part.u32()?,
            id::SUBSCRIPTION_IDENTIFIER if !will => {
                return Err(DecodeError::Protocol(
                    "subscription identifier from a client",
                ));
            }
            _ => return Err(NOT_ALLOWED),
        }
        match identifier {
            id::MESSAGE_EXPIRY | id::TOPIC_ALIAS | id::WILL_DELAY => own = true,
            _ => passed_on.extend_from_slice(part.since(start)),
        }
        Ok(())
    })?;
    found.passed_on = if own {
        passed_on.freeze()
    } else {
        part.whole()
    };
    Ok(found)
}

/// Reads the properties of SUBSCRIBE: the subscription identifier.
pub fn subscribe(reader: &mut Reader) -> Result<Option<u32>, DecodeError> {
    let mut found = None;
    read_each(reader, |identifier, _, part| match identifier {
        id::SUBSCRIPTION_IDENTIFIER => {
            found = Some(not_zero(part.variable()?)?);
            Ok(())
        }
        id::USER_PROPERTY => Ok(()),
        _ => Err(NOT_ALLOWED),
    })?;
    Ok(found)
}

/// Reads the properties of UNSUBSCRIBE.
pub fn unsubscribe(reader: &mut Reader) -> Result<(), DecodeError> {
    read_each(reader, |identifier, _, _| match identifier {
        id::USER_PROPERTY => Ok(()),
        _ => Err(NOT_ALLOWED),
    })?;
    Ok(())
}

/// Reads the properties of PUBACK and its relatives.
pub fn ack(reader: &mut Reader) -> Result<(), DecodeError> {
    read_each(reader, |identifier, _, part| match identifier {
        id::REASON_STRING => part.text().map(drop),
        id::USER_PROPERTY => Ok(()),
        _ => Err(NOT_ALLOWED),
    })?;
    Ok(())
}

/// Reads the properties of DISCONNECT: the session expiry.
pub fn disconnect(reader: &mut Reader) -> Result<Option<u32>, DecodeError> {
    let mut found = None;
    read_each(reader, |identifier, _, part| match identifier {
        id::SESSION_EXPIRY => {
            found = Some(part.u32()?);
            Ok(())
        }
        id::REASON_STRING => part.text().map(drop),
        id::USER_PROPERTY => Ok(()),
        _ => Err(NOT_ALLOWED),
    })?;
    Ok(found)
}
