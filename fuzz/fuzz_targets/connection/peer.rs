//! One client: what it has sent, as the broker's own decoder reads it, and what the broker may
//! answer to that.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use bytes::BytesMut;
use hostbus_broker::codec::{DecodeError, Decoder, Packet};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::time::timeout;

use crate::packet::{self, Ack, Received, Version};

/// No time at all while there is work.
const MOMENT: Duration = Duration::from_millis(1);

/// The broker's limits, see `hostbus_broker::fuzz`.
const MAX_PACKET_BYTES: usize = 4_096;

/// What is under way from the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum UnderWay {
    Once,
    Exactly,
    Released,
}

/// A connection, or none.
#[derive(Default)]
pub(crate) struct Peer {
    line: Option<Line>,
}

struct Line {
    pipe: DuplexStream,
    decoder: Decoder,
    sent: BytesMut,
    received: Vec<u8>,
    version: Option<Version>,
    /// What was sent can't be read any more.
    wrong: bool,
    /// CONNACK came, and let it in.
    let_in: bool,
    /// The last packet of the broker came.
    over: bool,
    subscribed: bool,
    stalled: bool,
    /// It did not read for a while: acknowledgements and messages have crossed.
    crossed: bool,
    receive_maximum: usize,
    /// Requests that may be answered: of which kind, with which identifier; the number of filters
    /// of each.
    requests: HashMap<(u8, u16), VecDeque<usize>>,
    under_way: HashMap<u16, UnderWay>,
}

impl Peer {
    pub(crate) fn is_connected(&self) -> bool {
        self.line.is_some()
    }

    pub(crate) fn begin(&mut self, pipe: DuplexStream) {
        self.line = Some(Line {
            pipe,
            decoder: Decoder::new(MAX_PACKET_BYTES),
            sent: BytesMut::new(),
            received: Vec::new(),
            version: None,
            wrong: false,
            let_in: false,
            over: false,
            subscribed: false,
            stalled: false,
            crossed: false,
            receive_maximum: usize::from(u16::MAX),
            requests: HashMap::new(),
            under_way: HashMap::new(),
        });
    }

    pub(crate) fn die(&mut self) {
        self.line = None;
    }

    pub(crate) fn stall(&mut self) {
        if let Some(line) = &mut self.line {
            line.stalled = !line.stalled;
            line.crossed = true;
        }
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        let Some(line) = &mut self.line else { return };
        line.note(bytes);
        // A broker that is blocked by our stalled reading takes no more.
        let sent = timeout(MOMENT, line.pipe.write_all(bytes)).await;
        if !matches!(sent, Ok(Ok(()))) && !line.over && line.stalled {
            self.line = None;
        }
    }

    /// Takes all that has come.
    pub(crate) async fn receive(&mut self) {
        let Some(line) = &mut self.line else { return };
        if line.stalled {
            tokio::time::sleep(MOMENT).await;
            return;
        }
        loop {
            match timeout(MOMENT, line.pipe.read_buf(&mut line.received)).await {
                Err(_) => break,
                Ok(Ok(1..)) => line.take_all(),
                Ok(_) => {
                    assert!(
                        line.received.is_empty(),
                        "it ends in mid-packet: {:02x?}",
                        line.received
                    );
                    self.line = None;
                    break;
                }
            }
        }
    }
}

impl Line {
    fn request(&mut self, kind: u8, packet_id: u16, filters: usize) {
        let same = self.requests.entry((kind, packet_id)).or_default();
        same.push_back(filters);
    }

    /// Notes what the broker will read in `bytes`.
    fn note(&mut self, bytes: &[u8]) {
        self.sent.extend_from_slice(bytes);
        while !self.wrong {
            match self.decoder.decode(&mut self.sent) {
                Ok(Some(packet)) => self.note_packet(packet),
                Ok(None) => return,
                Err(error) => {
                    self.wrong = true;
                    if matches!(error, DecodeError::Version(_)) {
                        // Of whatever version it is, it is told in 3.1.1.
                        self.version = Some(Version::V311);
                    }
                }
            }
        }
    }

    fn note_packet(&mut self, packet: Packet) {
        match packet {
            Packet::Connect(connect) if self.version.is_none() => {
                let v5 = connect.version.is_v5();
                self.version = Some(if v5 { Version::V5 } else { Version::V311 });
                if let Some(most) = connect.properties.receive_maximum {
                    self.receive_maximum = most.into();
                }
                // A session that is there may have subscriptions.
                self.subscribed |= !connect.clean_start;
            }
            Packet::Publish(publish) => match publish.qos as u8 {
                0 => {}
                1 => self.request(4, publish.packet_id, 0),
                _ => self.request(5, publish.packet_id, 0),
            },
            Packet::PubRel(ack) => self.request(7, ack.packet_id, 0),
            Packet::PubRec(ack) if ack.reason.is_failure() => {
                // That ends the exchange, and a PUBREL may not come.
                self.done(ack.packet_id, UnderWay::Exactly);
            }
            Packet::PubRec(ack) => self.request(6, ack.packet_id, 0),
            Packet::PubAck(ack) => self.done(ack.packet_id, UnderWay::Once),
            Packet::PubComp(ack) => {
                self.done(ack.packet_id, UnderWay::Released);
                // Before its PUBREL: rude, and the end of the exchange all the same.
                if self.requests.contains_key(&(6, ack.packet_id)) {
                    self.done(ack.packet_id, UnderWay::Exactly);
                }
            }
            Packet::Subscribe(subscribe) => {
                self.subscribed = true;
                self.request(9, subscribe.packet_id, subscribe.filters.len());
            }
            Packet::Unsubscribe(unsubscribe) => {
                self.request(11, unsubscribe.packet_id, unsubscribe.filters.len());
            }
            Packet::PingReq => self.request(13, 0, 0),
            _ => {}
        }
    }

    fn done(&mut self, packet_id: u16, state: UnderWay) {
        match self.under_way.get(&packet_id) {
            Some(known) if *known == state => drop(self.under_way.remove(&packet_id)),
            Some(_) => {}
            // It may be on its way: then the broker takes it for acknowledged, and sends more than
            // we know to be free.
            None => self.crossed = true,
        }
    }

    fn take_all(&mut self) {
        let version = self.version.expect("a word before CONNECT");
        while let Some(received) =
            packet::take(&mut self.received, version).expect("a server's packet")
        {
            assert!(!self.over, "{received:?} after the last word");
            if let Received::ConnAck { reason, .. } = received {
                assert!(!self.let_in, "second CONNACK");
                self.let_in = reason == 0;
                self.over = reason != 0;
                continue;
            }
            assert!(self.let_in, "{received:?} before CONNACK");
            self.check(received);
        }
    }

    fn check(&mut self, received: Received) {
        match received {
            Received::Publish(message) => {
                assert!(self.subscribed, "{message:?} without a subscription");
                self.arrived(message.packet_id, message.qos, message.dup);
            }
            Received::Ack(Ack::PubRel, packet_id, _) => {
                // It may belong to an earlier connection of this session.
                if self.under_way.contains_key(&packet_id) && !self.crossed {
                    self.answered(6, packet_id);
                    self.under_way.insert(packet_id, UnderWay::Released);
                }
            }
            Received::Ack(ack, packet_id, _) => drop(self.answered(ack as u8, packet_id)),
            Received::SubAck(packet_id, codes) => {
                let filters = self.answered(9, packet_id);
                assert!(
                    filters == codes.len() || self.crossed,
                    "{codes:?} for {filters} filters"
                );
            }
            Received::UnsubAck(packet_id, codes) => {
                let filters = self.answered(11, packet_id);
                let expected = if self.version == Some(Version::V5) {
                    filters
                } else {
                    0
                };
                assert!(
                    expected == codes.len() || self.crossed,
                    "{codes:?} for {filters} filters"
                );
            }
            Received::Pong => drop(self.answered(13, 0)),
            Received::Disconnect(_) => self.over = true,
            Received::ConnAck { .. } => {}
        }
    }

    /// Takes a request off; returns its number of filters.
    fn answered(&mut self, kind: u8, packet_id: u16) -> usize {
        let same = self.requests.get_mut(&(kind, packet_id));
        same.and_then(VecDeque::pop_front)
            .unwrap_or_else(|| panic!("answer {kind} to {packet_id}, which was not asked"))
    }

    fn arrived(&mut self, packet_id: u16, qos: u8, dup: bool) {
        if qos == 0 || self.crossed {
            return;
        }
        let state = if qos == 1 {
            UnderWay::Once
        } else {
            UnderWay::Exactly
        };
        let old = self.under_way.insert(packet_id, state);
        assert!(
            old.is_none(),
            "{packet_id} (DUP {dup}) is under way: {old:?}"
        );
        assert!(
            self.under_way.len() <= self.receive_maximum,
            "{} messages under way",
            self.under_way.len()
        );
    }
}
