//! A blocking MQTT client of both versions that does only what it is told: it acknowledges nothing
//! and sends no pings by itself.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// How long an answer may take before it counts as missing.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// The protocol version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    V311,
    V5,
}

/// Who connects.
#[derive(Debug, Clone, Copy)]
pub struct Who<'a> {
    pub id: &'a str,
    pub user: &'a str,
    pub password: &'a str,
    pub clean: bool,
}

/// What a broker sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Packet {
    Publish {
        topic: String,
        payload: Vec<u8>,
        /// For QoS 1 and 2.
        id: Option<u16>,
        properties: Vec<u8>,
    },
    PubAck(u16),
    SubAck(Vec<u8>),
    Pong,
    Other(u8),
}

/// One connection.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    version: Version,
    buffer: Vec<u8>,
    start: usize,
    waiting: VecDeque<Packet>,
    last_id: u16,
}

impl Client {
    /// Connects and waits for the answer.
    pub fn connect(address: SocketAddr, version: Version, who: Who<'_>) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut client = Self {
            stream,
            version,
            buffer: Vec::new(),
            start: 0,
            waiting: VecDeque::new(),
            last_id: 0,
        };
        let level = if version == Version::V5 { 5 } else { 4 };
        let mut body = text("MQTT");
        body.extend([level, 0b1100_0000 | u8::from(who.clean) << 1, 0, 60]);
        if version == Version::V5 {
            // Session expiry: an hour for who comes back.
            if who.clean {
                body.push(0);
            } else {
                body.extend([5, 0x11, 0, 0, 14, 16]);
            }
        }
        for part in [who.id, who.user, who.password] {
            body.extend(text(part));
        }
        client.send(&packet(0x10, &body))?;
        match client.frame(Instant::now() + PATIENCE)? {
            Some((0x20, body)) if body.get(1) == Some(&0) => Ok(client),
            Some((0x20, body)) => Err(io::Error::other(format!("refused with {:?}", body.get(1)))),
            Some((first, _)) => Err(io::Error::other(format!("answered with {first:#x}"))),
            None => Err(io::Error::new(ErrorKind::TimedOut, "no answer to CONNECT")),
        }
    }

    pub fn subscribe(&mut self, filter: &str, qos: u8) -> io::Result<()> {
        let id = self.next_id();
        let mut body = id.to_be_bytes().to_vec();
        if self.version == Version::V5 {
            body.push(0);
        }
        body.extend(text(filter));
        body.push(qos);
        self.send(&packet(0x82, &body))?;
        let found = self.wait(|packet| match packet {
            Packet::SubAck(codes) => Some(codes.clone()),
            _ => None,
        })?;
        match found.first() {
            Some(code) if *code <= 2 => Ok(()),
            code => Err(io::Error::other(format!(
                "subscription refused with {code:?}"
            ))),
        }
    }

    /// The bytes of a PUBLISH; the packet id for QoS 1.
    pub fn publish_bytes(
        &mut self,
        topic: &str,
        payload: &[u8],
        flags: u8,
        properties: &[u8],
    ) -> (Vec<u8>, u16) {
        let mut body = text(topic);
        let mut id = 0;
        if flags & 0b110 != 0 {
            id = self.next_id();
            body.extend(id.to_be_bytes());
        }
        if self.version == Version::V5 {
            body.push(properties.len() as u8);
            body.extend(properties);
        }
        body.extend(payload);
        (packet(0x30 | flags, &body), id)
    }

    /// Publishes with QoS 0.
    pub fn publish(&mut self, topic: &str, payload: &[u8], properties: &[u8]) -> io::Result<()> {
        let (bytes, _) = self.publish_bytes(topic, payload, 0, properties);
        self.send(&bytes)
    }

    /// Publishes with QoS 1 and waits for the acknowledgement; how long that took.
    pub fn publish_and_wait(
        &mut self,
        topic: &str,
        payload: &[u8],
        retain: bool,
    ) -> io::Result<Duration> {
        let (bytes, id) = self.publish_bytes(topic, payload, 2 | u8::from(retain), &[]);
        let start = Instant::now();
        self.send(&bytes)?;
        self.wait(|packet| (*packet == Packet::PubAck(id)).then_some(()))?;
        Ok(start.elapsed())
    }

    pub fn acknowledge(&mut self, id: u16) -> io::Result<()> {
        let [high, low] = id.to_be_bytes();
        self.send(&[0x40, 2, high, low])
    }

    /// Whether the broker answers a ping.
    pub fn ping(&mut self) -> io::Result<()> {
        self.send(&[0xc0, 0])?;
        self.wait(|packet| (*packet == Packet::Pong).then_some(()))
    }

    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Goes without DISCONNECT.
    pub fn drop_line(self) {
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    /// The next packet; `None` when there is none in time.
    pub fn next(&mut self, within: Duration) -> io::Result<Option<Packet>> {
        if let Some(packet) = self.waiting.pop_front() {
            return Ok(Some(packet));
        }
        let frame = self.frame(Instant::now() + within)?;
        frame
            .map(|(first, body)| self.parse(first, &body))
            .transpose()
    }

    /// The next message; `None` when there is none in time.
    pub fn message(&mut self, within: Duration) -> io::Result<Option<Packet>> {
        let deadline = Instant::now() + within;
        loop {
            match self.next(deadline.saturating_duration_since(Instant::now()))? {
                Some(packet @ Packet::Publish { .. }) => return Ok(Some(packet)),
                Some(_) => {}
                None => return Ok(None),
            }
        }
    }

    /// Waits for what `wanted` takes and keeps messages for later.
    fn wait<T>(&mut self, wanted: impl Fn(&Packet) -> Option<T>) -> io::Result<T> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let Some((first, body)) = self.frame(deadline)? else {
                return Err(io::Error::new(ErrorKind::TimedOut, "no answer in 5 s"));
            };
            let packet = self.parse(first, &body)?;
            if let Some(found) = wanted(&packet) {
                return Ok(found);
            }
            self.waiting.push_back(packet);
        }
    }

    fn frame(&mut self, deadline: Instant) -> io::Result<Option<(u8, Vec<u8>)>> {
        loop {
            if let Some((first, from, to)) = split(&self.buffer[self.start..])? {
                let body = self.buffer[self.start + from..self.start + to].to_vec();
                self.start += to;
                if self.start == self.buffer.len() {
                    self.buffer.clear();
                    self.start = 0;
                }
                return Ok(Some((first, body)));
            }
            self.buffer.drain(..self.start);
            self.start = 0;
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            self.stream.set_read_timeout(Some(left))?;
            let mut chunk = [0; 65_536];
            match self.stream.read(&mut chunk) {
                Ok(0) => {
                    return Err(io::Error::new(
                        ErrorKind::ConnectionAborted,
                        "the broker closed the connection",
                    ));
                }
                Ok(length) => self.buffer.extend_from_slice(&chunk[..length]),
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
                {
                    return Ok(None);
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn parse(&self, first: u8, body: &[u8]) -> io::Result<Packet> {
        let two = |at: usize| match body.get(at..at + 2) {
            Some(&[high, low]) => Ok(u16::from_be_bytes([high, low])),
            _ => Err(short()),
        };
        Ok(match first >> 4 {
            3 => {
                let mut at = 2 + usize::from(two(0)?);
                let topic = body.get(2..at).ok_or_else(short)?;
                let topic = String::from_utf8_lossy(topic).into_owned();
                let mut id = None;
                if first & 0b110 != 0 {
                    id = Some(two(at)?);
                    at += 2;
                }
                let mut properties = Vec::new();
                if self.version == Version::V5 {
                    let (length, bytes) = number(&body[at..])?.ok_or_else(short)?;
                    at += bytes;
                    properties = body.get(at..at + length).ok_or_else(short)?.to_vec();
                    at += length;
                }
                let payload = body.get(at..).ok_or_else(short)?.to_vec();
                Packet::Publish {
                    topic,
                    payload,
                    id,
                    properties,
                }
            }
            4 => Packet::PubAck(two(0)?),
            9 if self.version == Version::V5 => {
                let (length, bytes) = number(&body[2..])?.ok_or_else(short)?;
                Packet::SubAck(body.get(2 + bytes + length..).ok_or_else(short)?.to_vec())
            }
            9 => Packet::SubAck(body[2..].to_vec()),
            13 => Packet::Pong,
            other => Packet::Other(other),
        })
    }

    fn next_id(&mut self) -> u16 {
        self.last_id = self.last_id % 60_000 + 1;
        self.last_id
    }
}

fn short() -> io::Error {
    io::Error::new(
        ErrorKind::InvalidData,
        "the broker sent a packet that ends too early",
    )
}

/// A variable byte integer and its length.
fn number(bytes: &[u8]) -> io::Result<Option<(usize, usize)>> {
    let mut value = 0;
    for (at, byte) in bytes.iter().take(4).enumerate() {
        value |= usize::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Ok(Some((value, at + 1)));
        }
    }
    if bytes.len() >= 4 {
        return Err(io::Error::new(
            ErrorKind::InvalidData,
            "the broker sent a bad length",
        ));
    }
    Ok(None)
}

/// The first byte of a frame, and where its body begins and ends.
fn split(bytes: &[u8]) -> io::Result<Option<(u8, usize, usize)>> {
    let Some(first) = bytes.first() else {
        return Ok(None);
    };
    let Some((length, bytes_of_length)) = number(&bytes[1..])? else {
        return Ok(None);
    };
    let from = 1 + bytes_of_length;
    Ok((bytes.len() >= from + length).then_some((*first, from, from + length)))
}

fn text(text: &str) -> Vec<u8> {
    let mut bytes = (text.len() as u16).to_be_bytes().to_vec();
    bytes.extend(text.as_bytes());
    bytes
}

fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    let mut left = body.len();
    loop {
        let low = (left & 0x7f) as u8;
        left >>= 7;
        bytes.push(if left > 0 { low | 0x80 } else { low });
        if left == 0 {
            break;
        }
    }
    bytes.extend(body);
    bytes
}
