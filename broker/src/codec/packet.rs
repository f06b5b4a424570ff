//! One model of the packets that a client may send, for 3.1, 3.1.1 and 5.0 alike.
//!
//! Texts and payloads are slices of the frame they arrived in; cloning one copies nothing. What
//! only 5.0 has is absent or at its default for the older versions.

use bytes::Bytes;
use bytestring::ByteString;

pub use hostbus_wire::QoS;

use super::reason::Reason;

/// The protocol version of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// 3.1 (`MQIsdp`, level 3).
    V31,
    /// 3.1.1 (level 4).
    V311,
    /// 5.0 (level 5).
    V5,
}

impl Version {
    /// Tells whether packets of this version carry properties and reason codes.
    #[must_use]
    pub fn is_v5(self) -> bool {
        self == Self::V5
    }
}

/// A packet from a client.
#[derive(Debug, Clone, PartialEq)]
pub enum Packet {
    /// Opens the connection.
    Connect(Box<Connect>),
    /// A message.
    Publish(Publish),
    /// Acknowledges a QoS 1 message.
    PubAck(Ack),
    /// First answer to a QoS 2 message.
    PubRec(Ack),
    /// Second step of a QoS 2 message.
    PubRel(Ack),
    /// Last answer to a QoS 2 message.
    PubComp(Ack),
    /// Asks for topics.
    Subscribe(Subscribe),
    /// Asks no longer.
    Unsubscribe(Unsubscribe),
    /// Shows that it lives.
    PingReq,
    /// Ends the connection in order.
    Disconnect(Disconnect),
    /// Enhanced authentication of 5.0.
    Auth,
}

/// CONNECT.
#[derive(Debug, Clone, PartialEq)]
pub struct Connect {
    /// The protocol version of all packets to come.
    pub version: Version,
    /// Begin with an empty session; in 3.1.1 also: end it with the connection.
    pub clean_start: bool,
    /// 0 means no keep alive.
    pub keep_alive_seconds: u16,
    /// Empty: the server chooses.
    pub client_id: ByteString,
    /// What to publish when the connection is lost.
    pub will: Option<Will>,
    /// User name.
    pub user_name: Option<ByteString>,
    /// Password.
    pub password: Option<Bytes>,
    /// The properties.
    pub properties: ConnectProperties,
}

/// The properties of CONNECT.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ConnectProperties {
    /// Absent means 0: the session ends with the connection. `u32::MAX` means never.
    pub session_expiry_seconds: Option<u32>,
    /// QoS 1 and 2 messages that may be under way to the client. Absent means 65,535.
    pub receive_maximum: Option<u16>,
    /// The longest packet that the client takes. Absent means no limit.
    pub maximum_packet_bytes: Option<u32>,
    /// The highest topic alias that the client takes. Absent means 0: none.
    pub topic_alias_maximum: u16,
    /// The client wants no reason strings but in CONNACK and DISCONNECT.
    pub no_problem_information: bool,
    /// The client asks for enhanced authentication.
    pub authentication_method: bool,
}

/// The last will in CONNECT.
#[derive(Debug, Clone, PartialEq)]
pub struct Will {
    /// Topic.
    pub topic: ByteString,
    /// Payload.
    pub payload: Bytes,
    /// Quality of service.
    pub qos: QoS,
    /// Publish it as retained.
    pub retain: bool,
    /// How long to wait for the client to come back first.
    pub delay_seconds: u32,
    /// Lifetime of the message, from its publication on.
    pub expiry_seconds: Option<u32>,
    /// The properties that go on to subscribers as they came, encoded.
    pub passed_on: Bytes,
}

/// PUBLISH.
#[derive(Debug, Clone, PartialEq)]
pub struct Publish {
    /// It may have been sent before.
    pub dup: bool,
    /// Quality of service.
    pub qos: QoS,
    /// Keep it as the topic's retained message.
    pub retain: bool,
    /// Topic; empty when the topic alias stands for it.
    pub topic: ByteString,
    /// 0 for QoS 0, never 0 otherwise.
    pub packet_id: u16,
    /// Lifetime of the message.
    pub expiry_seconds: Option<u32>,
    /// Number that stands, or shall stand, for the topic; never 0.
    pub topic_alias: Option<u16>,
    /// The properties that go on to subscribers as they came, encoded.
    pub passed_on: Bytes,
    /// Payload.
    pub payload: Bytes,
}

/// PUBACK, PUBREC, PUBREL, PUBCOMP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ack {
    /// Which packet; never 0.
    pub packet_id: u16,
    /// How it went.
    pub reason: Reason,
}

/// SUBSCRIBE.
#[derive(Debug, Clone, PartialEq)]
pub struct Subscribe {
    /// Never 0.
    pub packet_id: u16,
    /// Comes back with each message; 1 to 268,435,455.
    pub identifier: Option<u32>,
    /// At least one.
    pub filters: Vec<Request>,
}

/// One filter of SUBSCRIBE.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The topic filter, well formed.
    pub filter: ByteString,
    /// The highest quality of service wanted.
    pub qos: QoS,
    /// Nothing that the client published itself.
    pub no_local: bool,
    /// Keep the retain flag as it was published.
    pub retain_as_published: bool,
    /// When to send retained messages.
    pub retain_handling: RetainHandling,
}

/// When a subscription gets the retained messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetainHandling {
    /// At each SUBSCRIBE.
    Always,
    /// When the subscription is new.
    IfNew,
    /// Never.
    Never,
}

/// UNSUBSCRIBE.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsubscribe {
    /// Never 0.
    pub packet_id: u16,
    /// At least one.
    pub filters: Vec<ByteString>,
}

/// DISCONNECT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disconnect {
    /// Why.
    pub reason: Reason,
    /// Replaces the session expiry of CONNECT.
    pub session_expiry_seconds: Option<u32>,
}
