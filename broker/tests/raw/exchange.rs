//! Whole exchanges with the broker, each checked step by step.

use super::answer::{self, Answer, Properties};
use super::{Client, Message, packet, properties, text};

impl Client {
    /// The next packet, taken apart.
    pub async fn answer(&mut self) -> Answer {
        let (first, body) = self.frame().await.expect("a packet");
        answer::read(self.level, first, &body)
    }

    /// The next packet that is no message, taken apart.
    pub async fn answer_to(&mut self) -> Answer {
        let (first, body) = self.reply().await.expect("an answer");
        answer::read(self.level, first, &body)
    }

    /// The next packet must be these bytes.
    pub async fn expect(&mut self, bytes: &[u8]) {
        let (first, body) = self.frame().await.expect("a packet");
        let got = packet(first, &body);
        assert_eq!(got, bytes, "got {got:02x?}, expected {bytes:02x?}");
    }

    /// The next packet must be an acknowledgement of this type with this reason code; a code of 0
    /// for the older versions, which have none.
    pub async fn expect_ack(&mut self, first: u8, packet_id: u16, reason: u8) -> Properties {
        let reason = if self.level == 5 { reason } else { 0 };
        match self.answer_to().await {
            Answer::Ack {
                first: kind,
                packet_id: id,
                reason: code,
                properties,
            } => {
                assert_eq!((kind, id, code), (first, packet_id, reason));
                properties
            }
            other => panic!("{other:02x?} instead of {first:02x} {packet_id}"),
        }
    }

    /// The broker must end the connection: with DISCONNECT and `reason` and nothing after it in
    /// 5.0, without a word in 3.1.1.
    pub async fn cut_off(&mut self, reason: u8) {
        if self.level == 5 {
            match self.answer().await {
                Answer::Disconnect { reason: told, .. } => {
                    assert_eq!(told, reason, "{told:#04x} instead of {reason:#04x}");
                }
                other => panic!("{other:02x?} instead of DISCONNECT"),
            }
        }
        assert_eq!(self.frame().await, None);
    }

    /// Sends an acknowledgement without a reason code.
    pub async fn send_ack(&mut self, first: u8, packet_id: u16) {
        let [high, low] = packet_id.to_be_bytes();
        self.send(&[first, 2, high, low]).await;
    }

    /// The next message with its properties; acknowledged, as its QoS asks for, to the end.
    pub async fn take(&mut self) -> (Message, Properties) {
        let (message, properties) = self.message_with().await;
        match message.first >> 1 & 3 {
            0 => {}
            1 => self.send_ack(0x40, message.packet_id).await,
            _ => {
                self.send_ack(0x50, message.packet_id).await;
                self.expect_ack(0x62, message.packet_id, 0).await;
                self.send_ack(0x70, message.packet_id).await;
            }
        }
        (message, properties)
    }

    /// The payload of the next message, which is acknowledged.
    pub async fn payload(&mut self) -> String {
        self.take().await.0.payload
    }

    /// The next message with its properties.
    pub async fn message_with(&mut self) -> (Message, Properties) {
        match self.answer().await {
            Answer::Publish(message, properties) => (message, properties),
            other => panic!("{other:02x?} instead of a message"),
        }
    }

    /// Publishes with these properties, to the end of what the QoS in `bits` asks for. The broker
    /// must take the message.
    pub async fn put(&mut self, bits: u8, topic: &str, encoded: &[u8], payload: &str) {
        let bytes = self.publish_bytes(bits, topic, 7, encoded, payload.as_bytes());
        self.send(&bytes).await;
        let received = match bits >> 1 & 3 {
            0 => return,
            1 => 0x40,
            _ => 0x50,
        };
        match self.answer_to().await {
            Answer::Ack {
                first,
                packet_id,
                reason,
                ..
            } => {
                assert_eq!((first, packet_id), (received, 7));
                assert!(reason < 0x80, "{reason:#04x}");
            }
            other => panic!("{other:02x?} instead of {received:02x}"),
        }
        if received == 0x50 {
            self.send_ack(0x62, 7).await;
            self.expect_ack(0x70, 7, 0).await;
        }
    }

    /// Subscribes to filters with their options and returns the codes of SUBACK.
    pub async fn subscribe_all(&mut self, encoded: &[u8], filters: &[(&str, u8)]) -> Vec<u8> {
        let mut body = vec![0x12, 0x34];
        body.extend(properties(self.level, encoded));
        for (filter, options) in filters {
            body.extend(text(filter));
            body.push(*options);
        }
        self.send(&packet(0x82, &body)).await;
        self.codes(0x90).await
    }

    /// Unsubscribes and returns the codes of UNSUBACK.
    pub async fn unsubscribe_all(&mut self, filters: &[&str]) -> Vec<u8> {
        let mut body = vec![0x12, 0x34];
        body.extend(properties(self.level, &[]));
        for filter in filters {
            body.extend(text(filter));
        }
        self.send(&packet(0xa2, &body)).await;
        self.codes(0xb0).await
    }

    async fn codes(&mut self, kind: u8) -> Vec<u8> {
        match self.answer_to().await {
            Answer::Codes {
                first,
                packet_id,
                codes,
                ..
            } => {
                assert_eq!((first, packet_id), (kind, 0x1234));
                codes
            }
            other => panic!("{other:02x?} instead of {kind:02x}"),
        }
    }
}
