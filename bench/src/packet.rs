//! MQTT 3.1.1 packets of QoS 0, as the load generators that play nodes need them.
//!
//! They speak the few packets by themselves, so that what is measured is not a client library. What
//! measures brokers has more of them, see `broker/packet`.

use anyhow::{Context, ensure};
use bytes::{Buf, BytesMut};
use hostbus_wire::committed::Committed;
use hostbus_wire::decode;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

/// A text with its length before it.
pub(crate) fn text(out: &mut Vec<u8>, text: &str) {
    out.extend(u16::try_from(text.len()).unwrap_or(u16::MAX).to_be_bytes());
    out.extend(text.as_bytes());
}

/// The head of a packet: its first byte, and the length of what follows.
pub(crate) fn frame(out: &mut Vec<u8>, first: u8, length: usize) {
    out.push(first);
    let mut left = length;
    loop {
        let low = u8::try_from(left % 128).unwrap_or_default();
        left /= 128;
        out.push(if left > 0 { low | 0x80 } else { low });
        if left == 0 {
            return;
        }
    }
}

/// CONNECT with a clean session and no keep alive.
pub(crate) fn connect(client_id: &str) -> Vec<u8> {
    let mut body = Vec::new();
    text(&mut body, "MQTT");
    body.extend([4, 2, 0, 0]);
    text(&mut body, client_id);
    let mut out = Vec::new();
    frame(&mut out, 0x10, body.len());
    out.extend(body);
    out
}

/// SUBSCRIBE with QoS 0.
pub(crate) fn subscribe(filter: &str) -> Vec<u8> {
    let mut body = vec![0, 1];
    text(&mut body, filter);
    body.push(0);
    let mut out = Vec::new();
    frame(&mut out, 0x82, body.len());
    out.extend(body);
    out
}

/// PUBLISH with QoS 0; `first` is its first byte: 0x30, or 0x31 to be retained.
pub(crate) fn publish(out: &mut Vec<u8>, first: u8, topic: &str, payload: &[u8]) {
    frame(out, first, 2 + topic.len() + payload.len());
    text(out, topic);
    out.extend(payload);
}

/// The next whole packet, waiting for it.
pub(crate) async fn next(stream: &mut TcpStream, input: &mut BytesMut) -> anyhow::Result<BytesMut> {
    loop {
        if let Some(packet) = split(input)? {
            return Ok(packet);
        }
        ensure!(
            stream.read_buf(input).await? > 0,
            "the broker closed the connection"
        );
    }
}

/// Takes the next whole packet off what has come.
pub(crate) fn split(input: &mut BytesMut) -> anyhow::Result<Option<BytesMut>> {
    let (mut length, mut at) = (0_usize, 1);
    loop {
        let Some(byte) = input.get(at) else {
            return Ok(None);
        };
        length |= usize::from(byte & 0x7f) << (7 * (at - 1));
        at += 1;
        if byte & 0x80 == 0 {
            break;
        }
        ensure!(at <= 4, "a packet with a malformed length");
    }
    Ok((input.len() >= at + length).then(|| input.split_to(at + length)))
}

/// The committed mark in a QoS 0 publish.
pub(crate) fn mark(packet: &[u8]) -> anyhow::Result<Committed> {
    let mut body = packet;
    body.advance(1);
    while body.try_get_u8()? & 0x80 != 0 {}
    let topic = usize::from(body.try_get_u16()?);
    let payload = body
        .get(topic..)
        .context("a publish that ends in its topic")?;
    Ok(decode(payload)?)
}
