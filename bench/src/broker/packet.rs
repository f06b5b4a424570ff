//! The few MQTT packets that a load generator needs, made ahead of time.
//!
//! A PUBLISH is encoded once; sending it again changes its packet identifier, the time that it
//! carries and nothing else. So the generator stays cheaper than any broker that it measures.

use anyhow::{Context, bail, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::packet::{frame, text};

/// The version that a connection speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    V311,
    V5,
}

impl Version {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::V311 => "3.1.1",
            Self::V5 => "5.0",
        }
    }

    /// An empty list of properties, where there is one.
    fn no_properties(self) -> &'static [u8] {
        match self {
            Self::V311 => &[],
            Self::V5 => &[0],
        }
    }
}

/// Connects to `address`, and waits until the broker has let the client in.
pub(crate) async fn connect(
    address: &str,
    version: Version,
    client_id: &str,
) -> anyhow::Result<TcpStream> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let mut body = Vec::new();
    text(&mut body, "MQTT");
    let level = match version {
        Version::V311 => 4,
        Version::V5 => 5,
    };
    // A clean session, no keep alive.
    body.extend([level, 2, 0, 0]);
    body.extend(version.no_properties());
    text(&mut body, client_id);
    stream.write_all(&framed(0x10, &body)).await?;
    let (first, answer) = read(&mut stream).await?;
    ensure!(
        first == 0x20 && answer.get(1) == Some(&0),
        "the broker refused {client_id}"
    );
    Ok(stream)
}

/// Subscribes to `filter`, and waits for the answer.
pub(crate) async fn subscribe(
    stream: &mut TcpStream,
    version: Version,
    filter: &str,
    qos: u8,
) -> anyhow::Result<()> {
    let mut body = vec![0, 1];
    body.extend(version.no_properties());
    text(&mut body, filter);
    body.push(qos);
    stream.write_all(&framed(0x82, &body)).await?;
    let (first, answer) = read(stream).await?;
    ensure!(
        first == 0x90 && answer.last() == Some(&qos),
        "the broker refused the subscription to {filter}"
    );
    Ok(())
}

/// One packet of which nothing follows yet.
async fn read(stream: &mut TcpStream) -> anyhow::Result<(u8, Vec<u8>)> {
    let first = stream.read_u8().await?;
    let length = stream.read_u8().await?;
    ensure!(length < 0x80, "an answer that is too long");
    let mut body = vec![0; length.into()];
    stream.read_exact(&mut body).await?;
    Ok((first, body))
}

fn framed(first: u8, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(5 + body.len());
    frame(&mut out, first, body.len());
    out.extend(body);
    out
}

/// PUBACK.
pub(crate) fn puback(out: &mut Vec<u8>, packet_id: [u8; 2]) {
    out.extend([0x40, 2, packet_id[0], packet_id[1]]);
}

/// PUBLISH packets of one shape, one after the other.
#[derive(Debug, Clone)]
pub(crate) struct Publishes {
    bytes: Vec<u8>,
    /// The length of one.
    length: usize,
    packet_id_at: Option<usize>,
    payload_at: usize,
    next_packet_id: u16,
}

impl Publishes {
    /// `count` packets to `topic` with payloads of `payload_bytes`, 8 at least.
    pub(crate) fn new(
        version: Version,
        topic: &str,
        qos: u8,
        payload_bytes: usize,
        count: usize,
    ) -> Self {
        let mut body = Vec::new();
        text(&mut body, topic);
        if qos > 0 {
            body.extend([0, 1]);
        }
        body.extend(version.no_properties());
        let before_payload = body.len();
        body.resize(before_payload + payload_bytes.max(8), b'x');
        let one = framed(0x30 | qos << 1, &body);
        let head = one.len() - body.len();
        Self {
            length: one.len(),
            packet_id_at: (qos > 0).then_some(head + 2 + topic.len()),
            payload_at: head + before_payload,
            bytes: one.repeat(count),
            next_packet_id: 1,
        }
    }

    pub(crate) fn are_acknowledged(&self) -> bool {
        self.packet_id_at.is_some()
    }

    /// The next `count` packets, as many as were made at most; each carries `time_ns`.
    pub(crate) fn take(&mut self, count: usize, time_ns: u64) -> &[u8] {
        let bytes = &mut self.bytes[..count * self.length];
        for packet in bytes.chunks_exact_mut(self.length) {
            if let Some(at) = self.packet_id_at {
                packet[at..at + 2].copy_from_slice(&self.next_packet_id.to_be_bytes());
                self.next_packet_id = self.next_packet_id.checked_add(1).unwrap_or(1);
            }
            packet[self.payload_at..self.payload_at + 8].copy_from_slice(&time_ns.to_be_bytes());
        }
        bytes
    }
}

/// What came in from a broker.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Arrived {
    /// A message that was sent at this time; QoS 1 has a packet identifier.
    Message {
        time_ns: u64,
        packet_id: Option<[u8; 2]>,
    },
    Acknowledged,
    Other,
}

/// Takes the first whole packet off `input`, and tells how long it is; `None` when it is not whole.
pub(crate) fn split(input: &[u8], version: Version) -> anyhow::Result<Option<(Arrived, usize)>> {
    let Some((body_at, body_bytes)) = variable(input, 1)? else {
        return Ok(None);
    };
    let end = body_at + body_bytes;
    let Some(packet) = input.get(..end) else {
        return Ok(None);
    };
    let arrived = match packet[0] >> 4 {
        3 => message(packet, body_at, version).context("a PUBLISH that is too short")?,
        4 => Arrived::Acknowledged,
        14 => bail!(
            "the broker ended the connection with {:02x?}",
            &packet[body_at..]
        ),
        _ => Arrived::Other,
    };
    Ok(Some((arrived, end)))
}

/// A number of variable length at `at`: where it ends, and the number.
fn variable(input: &[u8], at: usize) -> anyhow::Result<Option<(usize, usize)>> {
    let mut value = 0;
    for index in 0..4 {
        let Some(byte) = input.get(at + index) else {
            return Ok(None);
        };
        value |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Ok(Some((at + index + 1, value)));
        }
    }
    bail!("a malformed length")
}

fn message(packet: &[u8], body_at: usize, version: Version) -> Option<Arrived> {
    let topic: [u8; 2] = packet.get(body_at..body_at + 2)?.try_into().ok()?;
    let mut at = body_at + 2 + usize::from(u16::from_be_bytes(topic));
    let packet_id = if packet[0] & 0b110 == 0 {
        None
    } else {
        at += 2;
        Some(packet.get(at - 2..at)?.try_into().ok()?)
    };
    if version == Version::V5 {
        let (end, properties) = variable(packet, at).ok()??;
        at = end + properties;
    }
    let time = packet.get(at..at + 8)?.try_into().ok()?;
    Some(Arrived::Message {
        time_ns: u64::from_be_bytes(time),
        packet_id,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_is_read_back() {
        for version in [Version::V311, Version::V5] {
            for qos in [0, 1] {
                for payload_bytes in [8, 200, 20_000] {
                    let mut publishes = Publishes::new(version, "a/b", qos, payload_bytes, 2);
                    let bytes = publishes.take(2, 77).to_vec();
                    let mut rest = &bytes[..];
                    for packet_id in 1..=2 {
                        let expected = Arrived::Message {
                            time_ns: 77,
                            packet_id: (qos > 0).then_some([0, packet_id]),
                        };
                        assert_eq!(split(&rest[..rest.len() / 2 - 1], version).unwrap(), None);
                        let (arrived, length) = split(rest, version).unwrap().unwrap();
                        assert_eq!(arrived, expected);
                        rest = &rest[length..];
                    }
                    assert!(rest.is_empty());
                }
            }
        }
    }

    #[test]
    fn a_packet_that_ends_early_is_an_error() {
        assert!(split(&[0x30, 3, 0, 9, b'a'], Version::V311).is_err());
        assert!(split(&[0x30, 0xff, 0xff, 0xff, 0xff], Version::V311).is_err());
        assert_eq!(
            split(&[0x40, 2, 0, 1], Version::V311).unwrap(),
            Some((Arrived::Acknowledged, 4))
        );
    }
}
