//! What the notifier hears on the bus, read into what it says.

use hostbus_client::Message;
use hostbus_wire::alert::{Alert, AlertKey};
use hostbus_wire::health::{Health, HealthState};
use hostbus_wire::lease::Lease;
use hostbus_wire::sample::Rows;
use hostbus_wire::silence::{Acknowledgement, Silence};
use hostbus_wire::status::Status;
use hostbus_wire::told::Told;
use hostbus_wire::topic::{NodeTopic, SiteTopic};
use hostbus_wire::{Kind, NodeId, NodePath, QoS, SiteId, Topic, TopicRoot};
use hostbus_wire::{decode, decode_open};

/// What is subscribed to. Alerts stand first: a broker that sends what is retained in the order of the
/// filters lets what stands be known before what is new.
const KINDS: [Kind; 10] = [
    Kind::Alert,
    Kind::InstanceAlert,
    Kind::Rule,
    Kind::Silence,
    Kind::Acknowledgement,
    Kind::Told,
    Kind::Lease,
    Kind::Status,
    Kind::System,
    Kind::Metrics,
];

/// The filters of a notifier of one site.
#[must_use]
pub fn filters(root: &TopicRoot, site: &SiteId) -> Vec<(String, QoS)> {
    let of_site = |kind: &Kind| {
        let (_, below_site) = kind.row().shape.split_once('/').unwrap_or_default();
        let below_site = below_site.replace("{node}", "+");
        (format!("{root}/{site}/{below_site}"), kind.row().qos)
    };
    KINDS.iter().map(of_site).collect()
}

/// What a message says.
#[derive(Debug)]
pub enum Said {
    /// A sample of a node: its rows were read.
    Sample(NodePath),
    /// A node was removed: nothing is known of it any more.
    Gone(NodePath),
    /// Whether a node's publisher is there.
    Status(NodePath, Status),
    /// How a node's publisher is doing.
    Publisher(NodePath, HealthState),
    /// How a notifier is doing, and what it wrote its health's time as.
    Notifier(Box<str>, HealthState, u64),
    /// An alert stands so, or is gone.
    Alert(AlertKey, Option<Box<Alert>>),
    /// A rule's document by the topic's last level; `None`: removed.
    Rule(Box<str>, Option<String>),
    /// A silence; `None`: removed.
    Silence(Box<str>, Option<Box<Silence>>),
    /// An acknowledgement by the alert's fingerprint; `None`: taken back.
    Acknowledgement(Box<str>, Option<Acknowledgement>),
    /// A notifier told people; `None`: it is forgotten.
    Told(Box<str>, Option<Box<Told>>),
    /// A claim of the lease.
    Lease(Lease),
    /// Nothing that concerns us.
    Nothing,
}

/// A message that is not what its topic carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// Its topic.
    pub topic: String,
    /// What is wrong.
    pub reason: String,
}

/// Reads a message; a sample into `rows`, which are of no use after any other message.
///
/// # Errors
/// It is not what its topic carries.
pub fn read(
    root: &TopicRoot,
    message: &Message,
    now_ms: u64,
    rows: &mut Rows,
) -> Result<Said, Mistake> {
    let mistake = |reason: String| Mistake {
        topic: message.topic.clone(),
        reason,
    };
    let topic = Topic::parse(root, &message.topic).map_err(|error| mistake(error.to_string()))?;
    said(topic, &message.payload, now_ms, rows).map_err(mistake)
}

fn said(topic: Topic, payload: &[u8], now_ms: u64, rows: &mut Rows) -> Result<Said, String> {
    let present = !payload.is_empty();
    Ok(match topic {
        Topic::Node(node, NodeTopic::Alert { rule, instance }) => {
            let key = AlertKey {
                node,
                rule,
                instance,
            };
            let alert = Alert::decode(&key, payload, now_ms).map_err(text)?;
            Said::Alert(key, alert.map(Box::new))
        }
        Topic::Site(_, SiteTopic::Rule(rule)) => {
            let document = std::str::from_utf8(payload).map_err(text)?;
            Said::Rule(rule, present.then(|| document.to_owned()))
        }
        Topic::Site(_, SiteTopic::Silence(id)) => {
            let silence = present.then(|| decode_open(payload)).transpose();
            Said::Silence(id, silence.map_err(text)?.map(Box::new))
        }
        Topic::Site(_, SiteTopic::Acknowledgement(id)) => {
            let acknowledgement = present.then(|| decode_open(payload)).transpose();
            Said::Acknowledgement(id, acknowledgement.map_err(text)?)
        }
        Topic::Site(_, SiteTopic::Told { channel, .. }) => {
            let told = present.then(|| decode(payload)).transpose();
            Said::Told(channel, told.map_err(text)?.map(Box::new))
        }
        Topic::Node(node, NodeTopic::Status) if !present => Said::Gone(node),
        // What is removed of the rest says nothing: it is not there, as if it never was.
        _ if !present => Said::Nothing,
        Topic::Node(node, NodeTopic::Metrics) => {
            rows.read(payload).map_err(text)?;
            Said::Sample(node)
        }
        Topic::Node(node, NodeTopic::Status) => {
            Said::Status(node, Status::decode(payload).map_err(text)?)
        }
        Topic::Site(_, SiteTopic::Lease(component)) if &*component == "notifier" => {
            Said::Lease(decode(payload).map_err(text)?)
        }
        Topic::Site(
            site,
            SiteTopic::System {
                component,
                instance,
            },
        ) => match &*component {
            "publisher" => {
                let health: Health = decode(payload).map_err(text)?;
                let node: NodeId = instance.parse().map_err(text)?;
                Said::Publisher(NodePath::new(site, node), health.state)
            }
            "notifier" => {
                let health: Health = decode(payload).map_err(text)?;
                Said::Notifier(instance, health.state, health.ts)
            }
            _ => Said::Nothing,
        },
        _ => Said::Nothing,
    })
}

#[expect(clippy::needless_pass_by_value, reason = "fits `map_err`")]
fn text(error: impl ToString) -> String {
    error.to_string()
}

#[cfg(test)]
mod tests {
    use hostbus_wire::{Sample, encode};

    use super::*;

    fn hear(topic: &str, payload: &[u8]) -> Result<Said, Mistake> {
        let message = Message {
            topic: format!("hostbus/v1/home/{topic}"),
            payload: payload.to_vec().into(),
            retained: false,
        };
        read(&TopicRoot::default(), &message, 7, &mut Rows::default())
    }

    #[test]
    fn only_the_own_site_is_subscribed_to() {
        let filters = filters(&TopicRoot::default(), &SiteId::default());
        let filters: Vec<&str> = filters.iter().map(|(filter, _)| filter.as_str()).collect();
        assert!(filters.contains(&"hostbus/v1/home/+/alerts/+/+"));
        assert!(filters.contains(&"hostbus/v1/home/_told/+/+"));
        assert_eq!(filters.last(), Some(&"hostbus/v1/home/+/metrics"));
    }

    #[test]
    fn a_message_says_what_its_topic_carries() {
        let sample = encode(&Sample::default()).unwrap();
        assert!(matches!(hear("a/metrics", &sample), Ok(Said::Sample(..))));
        assert!(matches!(
            hear("a/status", b"offline"),
            Ok(Said::Status(_, Status::Offline))
        ));
        assert!(matches!(hear("a/status", b""), Ok(Said::Gone(_))));
        assert!(matches!(hear("a/alerts/x", b""), Ok(Said::Alert(_, None))));
        match hear("a/alerts/x/%2Fdata", b"{\"severity\": \"info\"}") {
            Ok(Said::Alert(key, Some(alert))) => {
                assert_eq!(
                    (key.to_string().as_str(), alert.since),
                    ("home.a/x//data", 7)
                );
            }
            other => panic!("{other:?}"),
        }
        assert!(matches!(
            hear("_rules/x", b"[[rule]]"),
            Ok(Said::Rule(_, Some(_)))
        ));
        assert!(matches!(
            hear("_silences/x", b"{\"seconds\": 60}"),
            Ok(Said::Silence(_, Some(_)))
        ));
        assert!(matches!(
            hear("_acknowledgements/0f", b"{}"),
            Ok(Said::Acknowledgement(_, Some(_)))
        ));
        let health = encode(&Health {
            ts: 5,
            state: HealthState::Stopped,
            reason: None,
            version: String::new(),
            counters: [].into(),
        });
        let health = health.unwrap();
        assert!(matches!(
            hear("_system/publisher/a", &health),
            Ok(Said::Publisher(_, HealthState::Stopped))
        ));
        assert!(matches!(
            hear("_system/notifier/b", &health),
            Ok(Said::Notifier(_, HealthState::Stopped, 5))
        ));
        assert!(matches!(
            hear("_system/broker/main", &health),
            Ok(Said::Nothing)
        ));
    }

    #[test]
    fn what_is_not_what_its_topic_carries_is_a_mistake() {
        for (topic, payload) in [
            ("a/metrics", &b"\xff"[..]),
            ("a/status", b"on"),
            ("a/alerts/x", b"firing"),
            ("_rules/x", b"\xff"),
            ("_silences/x", b"{\"until\": \"tomorrow\"}"),
            ("_lease/notifier", b"{}"),
            ("_told/mail/0f", b"\xa0"),
            ("_system/publisher/A", b"\xa0"),
            ("nonsense", b"x"),
        ] {
            assert!(hear(topic, payload).is_err(), "{topic}");
        }
    }
}
