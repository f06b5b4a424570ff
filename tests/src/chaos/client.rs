//! An MQTT client that knows exactly what was acknowledged, and can behave badly: it dies in
//! mid-packet, holds acknowledgements back, reads slowly, takes its own client id over.
//!
//! Its session state outlives its connections: messages that were not acknowledged are sent again in
//! their order, and what came with QoS 2 is known by its packet identifier until it is released.

use std::collections::{HashSet, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::Instant;

use super::link::{Link, PATIENCE};
use super::packet::{self, Ack, Connect, Message, Received, Version};

pub use super::link::Lost;

/// What happened to a client.
#[derive(Debug)]
pub enum Event {
    /// A message arrived, and is no repetition of one with QoS 2.
    Message(Message),
    /// The broker has answered the message of this token: PUBACK, or PUBREC for QoS 2.
    Answered(u64, u8),
    /// The broker has answered SUBSCRIBE.
    Subscribed(u16, Vec<u8>),
    /// The broker has answered UNSUBSCRIBE.
    Unsubscribed(u16),
    /// The broker has answered a ping.
    Pong,
}

/// A message that is not yet done.
#[derive(Debug)]
struct UnderWay {
    token: u64,
    message: Message,
    /// PUBREC came, PUBCOMP did not.
    released: bool,
}

/// One client.
#[derive(Debug)]
pub struct Client {
    /// How it connects. To be changed between connections.
    pub connect: Connect,
    /// Its version.
    pub version: Version,
    /// It has a small receive buffer, so that the broker soon has to wait for it.
    pub small: bool,
    /// Messages above QoS 0 that it has under way at most.
    pub most_under_way: usize,
    /// It does not acknowledge messages of QoS 1, nor answer those of QoS 2.
    pub withholds: bool,
    address: SocketAddr,
    link: Option<Link>,
    /// Why there is none, where nobody was told yet.
    lost: Option<Lost>,
    /// A connection that was taken over and stands open.
    ghost: Option<Link>,
    outgoing: VecDeque<UnderWay>,
    /// QoS 2 messages that arrived and were not released.
    incoming: HashSet<u16>,
    /// Messages that arrived on this connection and that are not done.
    open: HashSet<u16>,
    last_packet_id: u16,
    window: usize,
}

impl Client {
    /// A client that is not connected. `expiry_seconds` of 0 gives a session that ends with its
    /// connection.
    #[must_use]
    pub fn new(
        address: SocketAddr,
        version: Version,
        client_id: &str,
        expiry_seconds: u32,
    ) -> Self {
        Self {
            connect: Connect {
                client_id: client_id.to_owned(),
                clean: expiry_seconds == 0,
                expiry_seconds,
                receive_maximum: 100,
                alias_maximum: 4,
                will: None,
            },
            version,
            small: false,
            most_under_way: 20,
            withholds: false,
            address,
            link: None,
            lost: None,
            ghost: None,
            outgoing: VecDeque::new(),
            incoming: HashSet::new(),
            open: HashSet::new(),
            last_packet_id: 0,
            window: 0,
        }
    }

    /// Whether it has a connection.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.link.is_some()
    }

    /// Messages that are not yet done.
    #[must_use]
    pub fn under_way(&self) -> usize {
        self.outgoing.len()
    }

    /// QoS 2 messages that came and were not released by the broker.
    #[must_use]
    pub fn unreleased(&self) -> usize {
        self.incoming.len()
    }

    /// Whether a message above QoS 0 may be sent now.
    #[must_use]
    pub fn may_publish(&self) -> bool {
        self.outgoing.len() < self.window
    }

    /// The messages that the next connection will send again.
    pub fn unanswered(&self) -> impl Iterator<Item = u64> + '_ {
        let waiting = self.outgoing.iter().filter(|sent| !sent.released);
        waiting.map(|sent| sent.token)
    }

    /// Connects, and sends again what was not acknowledged. Returns whether the session was there.
    /// A connection that stands is taken over, and stays open until the next call of anything that
    /// connects or dies.
    ///
    /// # Errors
    /// There is no connection now.
    pub async fn connect(&mut self) -> Result<bool, Lost> {
        self.ghost = self.link.take();
        self.open.clear();
        self.lost = None;
        let mut link = Link::open(self.address, self.small).await?;
        link.send(&self.connect.bytes(self.version)).await?;
        let answer = link.next(self.version, Instant::now() + PATIENCE).await?;
        let (present, most) = match answer {
            Some(Received::ConnAck {
                present,
                reason: 0,
                receive_maximum,
            }) => (present, receive_maximum),
            Some(Received::ConnAck { reason, .. }) => return Err(Lost::Refused(reason)),
            Some(other) => return Err(Lost::Wrong(format!("{other:?} instead of CONNACK"))),
            None => return Err(Lost::Wrong(format!("no CONNACK within {PATIENCE:?}"))),
        };
        if present && self.connect.clean {
            return Err(Lost::Wrong("a clean session that was there".to_owned()));
        }
        self.window = usize::from(most).min(self.most_under_way);
        if !present {
            self.incoming.clear();
            self.outgoing.retain(|sent| !sent.released);
        }
        for sent in &mut self.outgoing {
            sent.message.dup = present;
            let bytes = if sent.released {
                Ack::PubRel.bytes(sent.message.packet_id)
            } else {
                sent.message.bytes(self.version)
            };
            link.send(&bytes).await?;
        }
        self.link = Some(link);
        Ok(present)
    }

    /// Sends any bytes.
    ///
    /// # Errors
    /// There is no connection now.
    pub async fn send(&mut self, bytes: &[u8]) -> Result<(), Lost> {
        let link = self.link.as_mut().ok_or(Lost::Closed)?;
        let sent = link.send(bytes).await;
        if sent.is_err() {
            self.link = None;
        }
        sent
    }

    /// Publishes a message; `token` is told when it is answered. With `upto`, it dies after so
    /// many of its bytes. It is under way from now on in any case.
    ///
    /// # Errors
    /// There is no connection now.
    pub async fn publish(
        &mut self,
        token: u64,
        mut message: Message,
        upto: Option<usize>,
    ) -> Result<(), Lost> {
        if message.qos > 0 {
            message.packet_id = self.packet_id();
        }
        let bytes = message.bytes(self.version);
        if message.qos > 0 {
            self.outgoing.push_back(UnderWay {
                token,
                message,
                released: false,
            });
        }
        match upto {
            Some(upto) => {
                let sent = self.send(&bytes[..upto.min(bytes.len() - 1)]).await;
                self.die();
                sent
            }
            None => self.send(&bytes).await,
        }
    }

    /// Subscribes. Returns the packet identifier of the answer.
    ///
    /// # Errors
    /// There is no connection now.
    pub async fn subscribe(&mut self, filters: &[(&str, u8)]) -> Result<u16, Lost> {
        let id = self.packet_id();
        let bytes = packet::subscribe(self.version, id, filters);
        self.send(&bytes).await.map(|()| id)
    }

    /// Unsubscribes. Returns the packet identifier of the answer.
    ///
    /// # Errors
    /// There is no connection now.
    pub async fn unsubscribe(&mut self, filters: &[&str]) -> Result<u16, Lost> {
        let id = self.packet_id();
        let bytes = packet::unsubscribe(self.version, id, filters);
        self.send(&bytes).await.map(|()| id)
    }

    /// The next event, or `None` after `within`. Messages are acknowledged when they arrive.
    ///
    /// # Errors
    /// There is no connection any more.
    pub async fn next(&mut self, within: Duration) -> Result<Option<Event>, Lost> {
        let deadline = Instant::now() + within;
        loop {
            let Some(link) = self.link.as_mut() else {
                return Err(self.lost.take().unwrap_or(Lost::Closed));
            };
            let received = match link.next(self.version, deadline).await {
                Ok(Some(received)) => received,
                Ok(None) => return Ok(None),
                Err(lost) => {
                    self.link = None;
                    return Err(lost);
                }
            };
            let event = self.take(received).await;
            match event {
                Ok(None) => {}
                Err(lost) => {
                    self.link = None;
                    return Err(lost);
                }
                event => return event,
            }
        }
    }

    async fn take(&mut self, received: Received) -> Result<Option<Event>, Lost> {
        Ok(match received {
            Received::Publish(message) => self.arrived(message).await?.map(Event::Message),
            Received::Ack(ack, packet_id, reason) => {
                self.acknowledged(ack, packet_id, reason).await?
            }
            Received::SubAck(packet_id, codes) => Some(Event::Subscribed(packet_id, codes)),
            Received::UnsubAck(packet_id, _) => Some(Event::Unsubscribed(packet_id)),
            Received::Pong => Some(Event::Pong),
            Received::Disconnect(reason) => return Err(Lost::Told(reason)),
            Received::ConnAck { .. } => return Err(Lost::Wrong("second CONNACK".to_owned())),
        })
    }

    async fn arrived(&mut self, message: Message) -> Result<Option<Message>, Lost> {
        let id = message.packet_id;
        if message.qos == 0 {
            return Ok(Some(message));
        }
        if !self.open.insert(id) {
            return Err(Lost::Wrong(format!(
                "packet identifier {id} came again on one connection"
            )));
        }
        let (open, most) = (self.open.len(), self.connect.receive_maximum);
        if self.version == Version::V5 && open > usize::from(most) {
            return Err(Lost::Wrong(format!(
                "{open} messages under way, and not {most}"
            )));
        }
        if message.qos == 1 {
            if !self.withholds {
                self.open.remove(&id);
                self.acknowledge(Ack::PubAck, id).await;
            }
            return Ok(Some(message));
        }
        let new = self.incoming.insert(id);
        if !new && !message.dup {
            return Err(Lost::Wrong(format!(
                "QoS 2 identifier {id} is not released and has a new message"
            )));
        }
        if !self.withholds {
            self.acknowledge(Ack::PubRec, id).await;
        }
        Ok(new.then_some(message))
    }

    /// Sends an acknowledgement. Where the connection is over, the message has arrived all the
    /// same: that is told by the next call.
    async fn acknowledge(&mut self, ack: Ack, packet_id: u16) {
        if let Err(lost) = self.send(&ack.bytes(packet_id)).await {
            self.lost = Some(lost);
        }
    }

    async fn acknowledged(
        &mut self,
        ack: Ack,
        packet_id: u16,
        reason: u8,
    ) -> Result<Option<Event>, Lost> {
        if ack == Ack::PubRel {
            self.incoming.remove(&packet_id);
            self.open.remove(&packet_id);
            self.send(&Ack::PubComp.bytes(packet_id)).await?;
            return Ok(None);
        }
        let wrong = || Err(Lost::Wrong(format!("{ack:?} {packet_id} for nothing")));
        let of_packet = |sent: &UnderWay| sent.message.packet_id == packet_id;
        let Some(place) = self.outgoing.iter().position(of_packet) else {
            return wrong();
        };
        let sent = &mut self.outgoing[place];
        let token = sent.token;
        match (ack, sent.message.qos, sent.released) {
            (Ack::PubAck, 1, _) => drop(self.outgoing.remove(place)),
            (Ack::PubRec, 2, false) if reason >= 0x80 => drop(self.outgoing.remove(place)),
            (Ack::PubRec, 2, again) => {
                sent.released = true;
                self.acknowledge(Ack::PubRel, packet_id).await;
                if again {
                    return Ok(None);
                }
            }
            (Ack::PubComp, 2, true) => {
                self.outgoing.remove(place);
                return Ok(None);
            }
            _ => return wrong(),
        }
        Ok(Some(Event::Answered(token, reason)))
    }

    /// An identifier that is not under way.
    fn packet_id(&mut self) -> u16 {
        loop {
            self.last_packet_id = self.last_packet_id.checked_add(1).unwrap_or(1);
            let id = self.last_packet_id;
            if self
                .outgoing
                .iter()
                .all(|sent| sent.message.packet_id != id)
            {
                return id;
            }
        }
    }

    /// Leaves without a word.
    pub fn die(&mut self) {
        self.link = None;
        self.ghost = None;
    }

    /// Says goodbye and closes at once.
    ///
    /// # Errors
    /// There was no connection any more.
    pub async fn die_politely(&mut self) -> Result<(), Lost> {
        let sent = self.send(&packet::DISCONNECT).await;
        self.die();
        sent
    }

    /// Says goodbye, and waits until the broker has seen it.
    pub async fn leave(&mut self) {
        if self.send(&packet::DISCONNECT).await.is_ok() {
            // The broker closes the connection: then it has seen it.
            while let Ok(Some(_)) = self.next(Duration::from_secs(1)).await {}
        }
        self.die();
    }

    /// Ends its session for good.
    ///
    /// # Errors
    /// There is no broker to tell.
    pub async fn end_session(&mut self) -> Result<(), Lost> {
        self.outgoing.clear();
        self.connect.clean = true;
        self.connect.expiry_seconds = 0;
        self.connect.will = None;
        self.connect().await?;
        self.leave().await;
        Ok(())
    }
}
