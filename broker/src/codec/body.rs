//! What each type of packet holds after its fixed header.

use super::error::DecodeError;
use super::packet::{
    Ack, Connect, ConnectProperties, Disconnect, Publish, QoS, Request, RetainHandling, Subscribe,
    Unsubscribe, Version, Will,
};
use super::properties;
use super::reader::Reader;
use super::reason::Reason;

fn qos(bits: u8) -> Result<QoS, DecodeError> {
    match bits {
        0 => Ok(QoS::AtMostOnce),
        1 => Ok(QoS::AtLeastOnce),
        2 => Ok(QoS::ExactlyOnce),
        _ => Err(DecodeError::Malformed("QoS 3")),
    }
}

pub(super) fn connect(reader: &mut Reader) -> Result<Connect, DecodeError> {
    let name = reader.binary()?;
    let level = reader.u8()?;
    let version = match (&name[..], level) {
        (b"MQIsdp", 3) => Version::V31,
        (b"MQTT", 4) => Version::V311,
        (b"MQTT", 5) => Version::V5,
        (b"MQTT" | b"MQIsdp", other) => return Err(DecodeError::Version(other)),
        _ => return Err(DecodeError::Malformed("unknown protocol name")),
    };
    let flags = reader.u8()?;
    if flags & 0b0000_0001 != 0 {
        return Err(DecodeError::Malformed("reserved flag of CONNECT"));
    }
    let keep_alive_seconds = reader.u16()?;
    let properties = if version.is_v5() {
        properties::connect(reader)?
    } else {
        ConnectProperties::default()
    };
    let client_id = reader.text()?;
    let will = will(reader, flags, version.is_v5())?;
    let user_name = if flags & 0b1000_0000 != 0 {
        Some(reader.text()?)
    } else {
        None
    };
    let password = if flags & 0b0100_0000 != 0 {
        Some(reader.binary()?)
    } else {
        None
    };
    if password.is_some() && user_name.is_none() && !version.is_v5() {
        return Err(DecodeError::Malformed("password without a user name"));
    }
    let clean_start = flags & 0b0000_0010 != 0;
    Ok(Connect {
        version,
        clean_start,
        keep_alive_seconds,
        client_id,
        will,
        user_name,
        password,
        properties,
    })
}

fn will(reader: &mut Reader, flags: u8, v5: bool) -> Result<Option<Will>, DecodeError> {
    let (bits, retain) = (flags >> 3 & 0b11, flags & 0b0010_0000 != 0);
    if flags & 0b0000_0100 == 0 {
        if bits != 0 || retain {
            return Err(DecodeError::Malformed("will flags without a will"));
        }
        return Ok(None);
    }
    let qos = qos(bits)?;
    let found = if v5 {
        properties::message(reader, true)?
    } else {
        <_>::default()
    };
    let topic = reader.topic_name()?;
    if topic.is_empty() {
        return Err(DecodeError::TopicName);
    }
    Ok(Some(Will {
        topic,
        payload: reader.binary()?,
        qos,
        retain,
        delay_seconds: found.delay_seconds,
        expiry_seconds: found.expiry_seconds,
        passed_on: found.passed_on,
    }))
}

pub(super) fn publish(mut reader: Reader, first: u8, v5: bool) -> Result<Publish, DecodeError> {
    let dup = first & 0b1000 != 0;
    let qos = qos(first >> 1 & 0b11)?;
    if dup && qos == QoS::AtMostOnce {
        return Err(DecodeError::Malformed("DUP on a QoS 0 message"));
    }
    let topic = reader.topic_name()?;
    let packet_id = if qos == QoS::AtMostOnce {
        0
    } else {
        reader.packet_id()?
    };
    let found = if v5 {
        properties::message(&mut reader, false)?
    } else {
        <_>::default()
    };
    if found.topic_alias == Some(0) {
        return Err(DecodeError::TopicAlias);
    }
    if topic.is_empty() && found.topic_alias.is_none() {
        return Err(DecodeError::Protocol("no topic, and no topic alias"));
    }
    Ok(Publish {
        dup,
        qos,
        retain: first & 1 != 0,
        topic,
        packet_id,
        expiry_seconds: found.expiry_seconds,
        topic_alias: found.topic_alias,
        passed_on: found.passed_on,
        payload: reader.rest(),
    })
}

pub(super) fn ack(reader: &mut Reader, v5: bool) -> Result<Ack, DecodeError> {
    let packet_id = reader.packet_id()?;
    let mut reason = Reason::SUCCESS;
    if v5 && !reader.is_empty() {
        reason = Reason(reader.u8()?);
        if !reader.is_empty() {
            properties::ack(reader)?;
        }
    }
    Ok(Ack { packet_id, reason })
}

pub(super) fn subscribe(reader: &mut Reader, v5: bool) -> Result<Subscribe, DecodeError> {
    let packet_id = reader.packet_id()?;
    let identifier = if v5 {
        properties::subscribe(reader)?
    } else {
        None
    };
    let mut filters = Vec::new();
    while !reader.is_empty() {
        let filter = reader.topic_filter()?;
        let options = reader.u8()?;
        if options & if v5 { 0b1100_0000 } else { 0b1111_1100 } != 0 {
            return Err(DecodeError::Malformed("reserved subscription options"));
        }
        let no_local = options & 0b100 != 0;
        if no_local && filter.starts_with("$share/") {
            return Err(DecodeError::Protocol("no-local on a shared subscription"));
        }
        let retain_handling = match options >> 4 {
            0 => RetainHandling::Always,
            1 => RetainHandling::IfNew,
            2 => RetainHandling::Never,
            _ => return Err(DecodeError::Protocol("retain handling 3")),
        };
        filters.push(Request {
            filter,
            qos: qos(options & 0b11)?,
            no_local,
            retain_as_published: options & 0b1000 != 0,
            retain_handling,
        });
    }
    if filters.is_empty() {
        return Err(DecodeError::Protocol("SUBSCRIBE without a filter"));
    }
    Ok(Subscribe {
        packet_id,
        identifier,
        filters,
    })
}

pub(super) fn unsubscribe(reader: &mut Reader, v5: bool) -> Result<Unsubscribe, DecodeError> {
    let packet_id = reader.packet_id()?;
    if v5 {
        properties::unsubscribe(reader)?;
    }
    let mut filters = Vec::new();
    while !reader.is_empty() {
        filters.push(reader.topic_filter()?);
    }
    if filters.is_empty() {
        return Err(DecodeError::Protocol("UNSUBSCRIBE without a filter"));
    }
    Ok(Unsubscribe { packet_id, filters })
}

pub(super) fn disconnect(reader: &mut Reader, v5: bool) -> Result<Disconnect, DecodeError> {
    let mut found = Disconnect {
        reason: Reason::SUCCESS,
        session_expiry_seconds: None,
    };
    if v5 && !reader.is_empty() {
        found.reason = Reason(reader.u8()?);
        if !reader.is_empty() {
            found.session_expiry_seconds = properties::disconnect(reader)?;
        }
    }
    Ok(found)
}
