//! What is subscribed to, and messages read into what they say.

use hostbus_client::Message;
use hostbus_wire::alert::{Alert, AlertKey};
use hostbus_wire::event::Event;
use hostbus_wire::info::Info;
use hostbus_wire::silence::Acknowledgement;
use hostbus_wire::status::Status;
use hostbus_wire::told::Told;
use hostbus_wire::topic::{NodeTopic, SiteTopic};
use hostbus_wire::{DecodeError, Kind, NodePath, QoS, Sample, Topic, TopicRoot};
use hostbus_wire::{decode, decode_open};

const KINDS: [Kind; 8] = [
    Kind::Metrics,
    Kind::Info,
    Kind::Events,
    Kind::Status,
    Kind::Alert,
    Kind::InstanceAlert,
    Kind::Acknowledgement,
    Kind::Told,
];

/// The filters of an ingester.
#[must_use]
pub fn filters(root: &TopicRoot) -> Vec<(String, QoS)> {
    filters_of(root, &KINDS)
}

/// The filters of what a node said of itself once, and which stands retained.
#[must_use]
pub fn retained(root: &TopicRoot) -> Vec<(String, QoS)> {
    filters_of(root, &[Kind::Info, Kind::Status])
}

fn filters_of(root: &TopicRoot, kinds: &[Kind]) -> Vec<(String, QoS)> {
    kinds
        .iter()
        .map(|kind| (root.filter(*kind), kind.row().qos))
        .collect()
}

/// What a message says.
#[derive(Debug)]
pub enum Said {
    /// A sample.
    Sample(Box<Sample>),
    /// An inventory.
    Info(Box<Info>),
    /// An event.
    Event(Event),
    /// Whether a publisher is there.
    Status(Status),
    /// An alert stands so; `None`: it is gone.
    Alert(AlertKey, Option<Box<Alert>>),
    /// A channel told people of an alert.
    Told(Box<str>, Box<Told>),
    /// Nothing: a retained message was removed.
    Nothing,
}

/// Who said it.
#[derive(Debug)]
pub enum Heard {
    /// Something of one node.
    Node(NodePath, Said),
    /// Somebody acknowledged the alert of this fingerprint; `None`: took it back.
    Acknowledgement(Box<str>, Option<Acknowledgement>),
}

/// Why a message says nothing to us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mistake {
    /// Its topic is none of a node.
    Topic,
    /// Its payload is not what its topic carries.
    Payload {
        /// Whose topic it is.
        node: NodePath,
        /// The kind of mistake, to be told once for each node.
        kind: &'static str,
        /// What is wrong.
        error: String,
    },
}

/// Reads a message that came at `now_ms`.
///
/// # Errors
/// It is not what its topic carries.
pub fn read(root: &TopicRoot, message: &Message, now_ms: u64) -> Result<Heard, Mistake> {
    let payload = &*message.payload;
    match Topic::parse(root, &message.topic) {
        Ok(Topic::Node(node, topic)) => match of_node(&node, topic, payload, now_ms) {
            Ok(said) => Ok(Heard::Node(node, said)),
            Err(Some((kind, error))) => Err(Mistake::Payload { node, kind, error }),
            Err(None) => Err(Mistake::Topic),
        },
        Ok(Topic::Site(_, SiteTopic::Acknowledgement(fingerprint))) => {
            let said = (!payload.is_empty()).then(|| decode_open(payload));
            // The notifier tells who wrote what can't be read.
            let said = said.transpose().map_err(|_| Mistake::Topic)?;
            Ok(Heard::Acknowledgement(fingerprint, said))
        }
        Ok(Topic::Site(_, SiteTopic::Told { channel, .. })) => {
            // An empty one is forgotten, which is no news.
            let told: Told = decode(payload).map_err(|_| Mistake::Topic)?;
            let node = told.alert.node.clone();
            Ok(Heard::Node(node, Said::Told(channel, Box::new(told))))
        }
        _ => Err(Mistake::Topic),
    }
}

/// What a topic of `node` says. `None` for a topic that is none of ours, else the kind of mistake.
fn of_node(
    node: &NodePath,
    topic: NodeTopic,
    payload: &[u8],
    now_ms: u64,
) -> Result<Said, Option<(&'static str, String)>> {
    if let NodeTopic::Alert { rule, instance } = topic {
        let key = AlertKey {
            node: node.clone(),
            rule,
            instance,
        };
        let alert = Alert::decode(&key, payload, now_ms).map_err(|error| Some(of(&error)))?;
        return Ok(Said::Alert(key, alert.map(Box::new)));
    }
    if payload.is_empty() {
        return Ok(Said::Nothing);
    }
    let said = match topic {
        NodeTopic::Metrics => Sample::decode(payload).map(|sample| Said::Sample(Box::new(sample))),
        NodeTopic::Info => decode(payload).map(|info| Said::Info(Box::new(info))),
        NodeTopic::Events => decode(payload).map(Said::Event),
        NodeTopic::Status => {
            let status = Status::decode(payload);
            return status
                .map(Said::Status)
                .map_err(|error| Some(("status", error.to_string())));
        }
        _ => return Err(None),
    };
    said.map_err(|error| Some(of(&error)))
}

fn of(error: &DecodeError) -> (&'static str, String) {
    let kind = match error {
        DecodeError::Refused(_) | DecodeError::Foreign { .. } => "refused",
        DecodeError::Unexpected { .. } | DecodeError::Json { .. } => "unexpected",
        DecodeError::Sample(_) => "sample",
    };
    (kind, error.to_string())
}

#[cfg(test)]
mod tests {
    use hostbus_wire::encode;

    use super::*;

    fn message(topic: &str, payload: &[u8]) -> Message {
        Message {
            topic: topic.to_owned(),
            payload: payload.to_vec().into(),
            retained: false,
        }
    }

    #[test]
    fn a_message_says_what_its_topic_carries() {
        let root = TopicRoot::default();
        let sample = encode(&Sample::default()).unwrap();
        let read = |topic, payload| read(&root, &message(topic, payload), 7);
        match read("hostbus/v1/home/a/metrics", &sample) {
            Ok(Heard::Node(node, Said::Sample(_))) => assert_eq!(node.to_string(), "home.a"),
            other => panic!("{other:?}"),
        }
        assert!(matches!(
            read("hostbus/v1/home/a/status", b"online"),
            Ok(Heard::Node(_, Said::Status(Status::Online)))
        ));
        assert!(matches!(
            read("hostbus/v1/home/a/metrics", b""),
            Ok(Heard::Node(_, Said::Nothing))
        ));
        assert!(matches!(
            read("hostbus/v1/home/a/alerts/x", b""),
            Ok(Heard::Node(_, Said::Alert(_, None)))
        ));
        assert!(matches!(
            read("hostbus/v1/home/_acknowledgements/0f", b"{\"by\": \"ann\"}"),
            Ok(Heard::Acknowledgement(_, Some(_)))
        ));
        for (topic, payload, kind) in [
            ("hostbus/v1/home/a/metrics", &b"\xff"[..], "refused"),
            ("hostbus/v1/home/a/metrics", b"\x01", "unexpected"),
            ("hostbus/v1/home/a/metrics", b"\xa1\x61v\x02", "sample"),
            ("hostbus/v1/home/a/status", b"on", "status"),
            ("hostbus/v1/home/a/alerts/x", b"firing", "refused"),
        ] {
            assert!(
                matches!(read(topic, payload), Err(Mistake::Payload { kind: have, .. }) if have == kind),
                "{topic} {payload:?}"
            );
        }
        for topic in [
            "hostbus/v1/home/A/metrics",
            "other/home/a/metrics",
            "hostbus/v1/home/_x/info",
            "hostbus/v1/home/_told/mail/0f",
        ] {
            assert!(matches!(read(topic, b"x"), Err(Mistake::Topic)), "{topic}");
        }
    }

    #[test]
    fn the_topics_of_all_nodes_are_subscribed_to() {
        let filters = filters(&TopicRoot::default());
        assert_eq!(
            filters[0],
            ("hostbus/v1/+/+/metrics".to_owned(), QoS::AtMostOnce)
        );
        assert_eq!(
            filters[2],
            ("hostbus/v1/+/+/events".to_owned(), QoS::AtLeastOnce)
        );
        assert_eq!(filters.len(), 8);
    }
}
