//! A broker on a free port and a client that sends any bytes, right or wrong, for the tests.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::allow_attributes,
    clippy::unwrap_used,
    reason = "test code of which each binary uses its own part"
)]

pub mod answer;
mod exchange;
pub mod property;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use hostbus_broker::config::ConfiguredIdentity;
use hostbus_broker::{Config, Error};
use hostbus_daemon::{CancellationToken, Running, Secret};
use hostbus_wire::Role;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use answer::Answer;

/// How long anything may take before a test fails.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// A broker where `web1`, `web2` (publishers), `viewer`, `ingester`, `operator` and `admin` log in
/// with the password `pw`. It publishes nothing of its own.
pub async fn broker(change: impl FnOnce(&mut Config)) -> Broker {
    let entry = |name: &str, role, node: Option<&str>| ConfiguredIdentity {
        name: name.to_owned(),
        role,
        node: node.map(|node| node.parse().unwrap()),
        secret: Some(Secret::new("pw")),
        secret_file: None,
    };
    let mut config = Config {
        listen: Some(([127, 0, 0, 1], 0).into()),
        identities: vec![
            entry("web1", Role::Publisher, Some("home.web1")),
            entry("web2", Role::Publisher, Some("home.web2")),
            entry("viewer", Role::Viewer, None),
            entry("ingester", Role::Ingester, None),
            entry("operator", Role::Operator, None),
            entry("admin", Role::Admin, None),
        ],
        sys_interval_seconds: 0,
        ..Config::default()
    };
    change(&mut config);
    let running = hostbus_broker::start(config, CancellationToken::new())
        .await
        .unwrap();
    Broker {
        address: running.local_addr().unwrap(),
        running,
    }
}

pub struct Broker {
    pub address: SocketAddr,
    pub running: Running<Error>,
}

/// What CONNECT says.
pub struct Connect {
    pub level: u8,
    pub client_id: &'static str,
    pub user: Option<&'static str>,
    pub password: Option<&'static str>,
    pub clean: bool,
    pub keep_alive: u16,
    pub properties: Vec<u8>,
    pub will: Option<(&'static str, &'static str, u8)>,
    pub will_properties: Vec<u8>,
}

pub fn connect(level: u8, client_id: &'static str, user: &'static str) -> Connect {
    Connect {
        level,
        client_id,
        user: Some(user),
        password: Some("pw"),
        clean: true,
        keep_alive: 0,
        properties: Vec::new(),
        will: None,
        will_properties: Vec::new(),
    }
}

pub fn text(text: &str) -> Vec<u8> {
    let mut bytes = (text.len() as u16).to_be_bytes().to_vec();
    bytes.extend(text.as_bytes());
    bytes
}

pub fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    [&[first][..], &property::variable(body.len()), body].concat()
}

pub fn properties(level: u8, encoded: &[u8]) -> Vec<u8> {
    if level < 5 {
        return Vec::new();
    }
    [&property::variable(encoded.len()), encoded].concat()
}

impl Connect {
    /// With one more property; 5.0 only.
    pub fn with(mut self, property: &[u8]) -> Self {
        if self.level == 5 {
            self.properties.extend(property);
        }
        self
    }

    /// Goes on with the session that is there, and leaves it behind for a minute or longer.
    pub fn lasting(mut self) -> Self {
        self.clean = false;
        self.with(&property::four(0x11, 60))
    }

    /// With a will; `bits` as in PUBLISH.
    pub fn will(mut self, topic: &'static str, payload: &'static str, bits: u8) -> Self {
        self.will = Some((topic, payload, bits));
        self
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut flags = u8::from(self.clean) << 1;
        let mut body = text(if self.level == 3 { "MQIsdp" } else { "MQTT" });
        let mut payload = text(self.client_id);
        if let Some((topic, message, bits)) = self.will {
            // `bits`: retain and QoS as in PUBLISH.
            flags |= 0b100 | (bits & 1) << 5 | (bits >> 1 & 3) << 3;
            payload.extend(properties(self.level, &self.will_properties));
            payload.extend(text(topic));
            payload.extend(text(message));
        }
        if let Some(user) = self.user {
            flags |= 0x80;
            payload.extend(text(user));
        }
        if let Some(password) = self.password {
            flags |= 0x40;
            payload.extend(text(password));
        }
        body.extend([self.level, flags]);
        body.extend(self.keep_alive.to_be_bytes());
        body.extend(properties(self.level, &self.properties));
        body.extend(payload);
        packet(0x10, &body)
    }

    /// Connects and returns the client with the body of CONNACK.
    pub async fn open(self, broker: &Broker) -> (Client, Vec<u8>) {
        let mut client = Client::new(broker.address, self.level).await;
        client.send(&self.bytes()).await;
        let (first, body) = client.frame().await.expect("CONNACK");
        assert_eq!(first, 0x20);
        (client, body)
    }

    /// Connects, and is let in.
    pub async fn go(self, broker: &Broker) -> Client {
        let (client, body) = self.open(broker).await;
        assert_eq!(body[1], 0, "refused: {body:02x?}");
        client
    }
}

/// A message as it arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    pub first: u8,
    pub topic: String,
    pub packet_id: u16,
    pub properties: Vec<u8>,
    pub payload: String,
}

pub struct Client {
    pub stream: TcpStream,
    pub level: u8,
    /// Messages that came before an answer that was waited for.
    early: VecDeque<(u8, Vec<u8>)>,
}

impl Client {
    pub async fn new(address: SocketAddr, level: u8) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self::over(stream, level)
    }

    pub fn over(stream: TcpStream, level: u8) -> Self {
        let early = VecDeque::new();
        Self {
            stream,
            level,
            early,
        }
    }

    pub async fn send(&mut self, bytes: &[u8]) {
        timeout(DEADLINE, self.stream.write_all(bytes))
            .await
            .expect("send in time")
            .unwrap();
    }

    /// The next packet; `None` when the broker has closed the connection.
    pub async fn frame(&mut self) -> Option<(u8, Vec<u8>)> {
        match self.early.pop_front() {
            Some(message) => Some(message),
            None => self.next().await,
        }
    }

    /// The next packet that is no message: messages may come before an answer, and are kept.
    pub async fn reply(&mut self) -> Option<(u8, Vec<u8>)> {
        loop {
            let (first, body) = self.next().await?;
            if first >> 4 != 3 {
                return Some((first, body));
            }
            self.early.push_back((first, body));
        }
    }

    async fn next(&mut self) -> Option<(u8, Vec<u8>)> {
        timeout(DEADLINE, self.read_frame())
            .await
            .expect("a packet in time")
    }

    async fn read_frame(&mut self) -> Option<(u8, Vec<u8>)> {
        let first = self.stream.read_u8().await.ok()?;
        let (mut length, mut shift) = (0, 0);
        loop {
            let byte = self.stream.read_u8().await.ok()?;
            length |= usize::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                break;
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).await.ok()?;
        answer::read(self.level, first, &body);
        Some((first, body))
    }

    pub fn publish_bytes(
        &self,
        first: u8,
        topic: &str,
        packet_id: u16,
        encoded: &[u8],
        payload: &[u8],
    ) -> Vec<u8> {
        let mut body = text(topic);
        if first & 0b110 != 0 {
            body.extend(packet_id.to_be_bytes());
        }
        body.extend(properties(self.level, encoded));
        body.extend(payload);
        packet(0x30 | first, &body)
    }

    /// Publishes; `bits` are QoS and retain as in the packet's first byte.
    pub async fn publish(&mut self, bits: u8, topic: &str, payload: &str) {
        let bytes = self.publish_bytes(bits, topic, 7, &[], payload.as_bytes());
        self.send(&bytes).await;
    }

    /// Publishes with QoS 1 and returns the reason code of PUBACK.
    pub async fn publish_acked(&mut self, bits: u8, topic: &str, payload: &str) -> u8 {
        self.publish(bits | 0b10, topic, payload).await;
        let (first, body) = self.reply().await.expect("PUBACK");
        assert_eq!((first, &body[..2]), (0x40, &[0, 7][..]));
        body.get(2).copied().unwrap_or(0)
    }

    /// Subscribes and returns the code of SUBACK.
    pub async fn subscribe(&mut self, filter: &str, options: u8) -> u8 {
        self.subscribe_with(filter, options, &[]).await
    }

    pub async fn subscribe_with(&mut self, filter: &str, options: u8, encoded: &[u8]) -> u8 {
        let mut body = vec![0, 9];
        body.extend(properties(self.level, encoded));
        body.extend(text(filter));
        body.push(options);
        self.send(&packet(0x82, &body)).await;
        let (first, body) = self.reply().await.expect("SUBACK");
        assert_eq!((first, &body[..2]), (0x90, &[0, 9][..]));
        *body.last().unwrap()
    }

    /// The next message.
    pub async fn message(&mut self) -> Message {
        let (first, body) = self.frame().await.expect("a message");
        self.parse(first, &body)
    }

    pub fn parse(&self, first: u8, body: &[u8]) -> Message {
        match answer::read(self.level, first, body) {
            Answer::Publish(message, _) => message,
            other => panic!("{other:02x?} instead of a message"),
        }
    }

    pub async fn acknowledge(&mut self, packet_id: u16) {
        let [high, low] = packet_id.to_be_bytes();
        self.send(&[0x40, 2, high, low]).await;
    }

    /// Checks that nothing is on its way: the answer to a ping comes first.
    pub async fn nothing_waits(&mut self) {
        self.send(&[0xc0, 0]).await;
        let (first, body) = self.frame().await.expect("PINGRESP");
        assert_eq!(first, 0xd0, "{body:02x?}");
    }

    /// Says goodbye and waits until the broker has closed.
    pub async fn goodbye(mut self) {
        self.send(&[0xe0, 0]).await;
        assert_eq!(self.frame().await, None);
    }

    /// Waits for the end; returns the reason code of DISCONNECT where the broker told one.
    pub async fn ended(&mut self) -> Option<u8> {
        let mut reason = None;
        while let Some((first, body)) = self.frame().await {
            if first == 0xe0 {
                reason = Some(body.first().copied().unwrap_or(0));
            }
        }
        reason
    }
}
