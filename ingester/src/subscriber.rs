//! What is subscribed to, and messages read into what they say.

use hostbus_client::Message;
use hostbus_wire::event::Event;
use hostbus_wire::info::Info;
use hostbus_wire::status::Status;
use hostbus_wire::topic::NodeTopic;
use hostbus_wire::{DecodeError, Kind, NodePath, QoS, Sample, Topic, TopicRoot, decode};

const KINDS: [Kind; 4] = [Kind::Metrics, Kind::Info, Kind::Events, Kind::Status];

/// The filters of an ingester.
#[must_use]
pub fn filters(root: &TopicRoot) -> Vec<(String, QoS)> {
    KINDS
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
    /// Nothing: a retained message was removed.
    Nothing,
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

/// Reads a message.
///
/// # Errors
/// It is not what its topic carries.
pub fn read(root: &TopicRoot, message: &Message) -> Result<(NodePath, Said), Mistake> {
    let Ok(Topic::Node(node, topic)) = Topic::parse(root, &message.topic) else {
        return Err(Mistake::Topic);
    };
    let payload = &message.payload;
    if payload.is_empty() {
        return Ok((node, Said::Nothing));
    }
    let said = match topic {
        NodeTopic::Metrics => Sample::decode(payload).map(|sample| Said::Sample(Box::new(sample))),
        NodeTopic::Info => decode(payload).map(|info| Said::Info(Box::new(info))),
        NodeTopic::Events => decode(payload).map(Said::Event),
        NodeTopic::Status => match Status::decode(payload) {
            Ok(status) => Ok(Said::Status(status)),
            Err(error) => {
                return Err(Mistake::Payload {
                    node,
                    kind: "status",
                    error: error.to_string(),
                });
            }
        },
        _ => return Err(Mistake::Topic),
    };
    match said {
        Ok(said) => Ok((node, said)),
        Err(error) => {
            let kind = match error {
                DecodeError::Refused(_) => "refused",
                DecodeError::Unexpected { .. } => "unexpected",
                DecodeError::Sample(_) => "sample",
            };
            Err(Mistake::Payload {
                node,
                kind,
                error: error.to_string(),
            })
        }
    }
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
        let (node, said) = read(&root, &message("hostbus/v1/home/a/metrics", &sample)).unwrap();
        assert_eq!(node.to_string(), "home.a");
        assert!(matches!(said, Said::Sample(_)));
        let read = |topic, payload| read(&root, &message(topic, payload));
        assert!(matches!(
            read("hostbus/v1/home/a/status", b"online"),
            Ok((_, Said::Status(Status::Online)))
        ));
        assert!(matches!(
            read("hostbus/v1/home/a/metrics", b""),
            Ok((_, Said::Nothing))
        ));
        for (topic, payload, kind) in [
            ("hostbus/v1/home/a/metrics", &b"\xff"[..], "refused"),
            ("hostbus/v1/home/a/metrics", b"\x01", "unexpected"),
            ("hostbus/v1/home/a/metrics", b"\xa1\x61v\x02", "sample"),
            ("hostbus/v1/home/a/status", b"on", "status"),
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
        assert_eq!(filters.len(), 4);
    }
}
