//! Topics as text, both ways.
//!
//! ```text
//! hostbus/v1/<site>/<node>/<what>      a node's own topics
//! hostbus/v1/<site>/_<system>/...      the site's topics
//! ^ the root, configurable
//! ```
//! What each means, and who may write and read it, stands in [`crate::table`]. An instance in an
//! alert's topic is percent-encoded: `/data` stands as `%2Fdata`.

use std::fmt;

use thiserror::Error;

use crate::ids::{IdError, NodePath, SiteId};
use crate::root::TopicRoot;
use crate::table::Kind;

/// Why a topic is not one of the contract.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TopicError {
    /// The topic lies outside the root.
    #[error("the topic does not begin with the root")]
    OutsideRoot,
    /// The site or node level is no id.
    #[error(transparent)]
    Id(#[from] IdError),
    /// The rest fits no row of the table.
    #[error("no such topic in the contract")]
    Unknown,
}

/// A topic of one node.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the table tells each topic's meaning")]
pub enum NodeTopic {
    Metrics,
    Status,
    Info,
    Details(Box<str>),
    Events,
    Committed,
    Alert {
        rule: Box<str>,
        instance: Option<Box<str>>,
    },
    ConfigDesired,
    ConfigReported,
    Command(Box<str>),
    Reply(Box<str>),
}

/// A topic of the site itself.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the table tells each topic's meaning")]
pub enum SiteTopic {
    EnrolRequest(Box<str>),
    EnrolGrant(Box<str>),
    Rule(Box<str>),
    Silence(Box<str>),
    Acknowledgement(Box<str>),
    Told {
        channel: Box<str>,
        fingerprint: Box<str>,
    },
    Lease(Box<str>),
    Admin(Box<str>),
    AdminReply(Box<str>),
    System {
        component: Box<str>,
        instance: Box<str>,
    },
}

/// A topic of the contract.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Topic {
    /// Below a node.
    Node(NodePath, NodeTopic),
    /// Below a site.
    Site(SiteId, SiteTopic),
}

impl Topic {
    /// Reads a topic as it stands in a message.
    ///
    /// # Errors
    /// Tells what does not fit the contract.
    pub fn parse(root: &TopicRoot, topic: &str) -> Result<Self, TopicError> {
        let below = root.strip(topic).ok_or(TopicError::OutsideRoot)?;
        let mut levels = [""; 5];
        let mut count = 0;
        for level in below.split('/') {
            *levels.get_mut(count).ok_or(TopicError::Unknown)? = level;
            count += 1;
        }
        if count < 3 || levels[..count].iter().any(|level| level.is_empty()) {
            return Err(TopicError::Unknown);
        }
        let site: SiteId = levels[0].parse()?;
        if levels[1].starts_with('_') {
            return SiteTopic::parse(&levels[1..count]).map(|what| Self::Site(site, what));
        }
        let path = NodePath::new(site, levels[1].parse()?);
        NodeTopic::parse(&levels[2..count]).map(|what| Self::Node(path, what))
    }

    /// The topic as it stands in a message.
    #[must_use]
    pub fn text(&self, root: &TopicRoot) -> String {
        match self {
            Self::Node(path, what) => what.text(root, path),
            Self::Site(site, what) => format!("{root}/{site}/{what}"),
        }
    }

    /// The row of the table this topic belongs to.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Node(_, what) => what.kind(),
            Self::Site(_, what) => what.kind(),
        }
    }
}

impl NodeTopic {
    fn parse(levels: &[&str]) -> Result<Self, TopicError> {
        Ok(match *levels {
            ["metrics"] => Self::Metrics,
            ["status"] => Self::Status,
            ["info"] => Self::Info,
            ["details", what] => Self::Details(what.into()),
            ["events"] => Self::Events,
            ["committed"] => Self::Committed,
            ["alerts", rule] => Self::Alert {
                rule: rule.into(),
                instance: None,
            },
            ["alerts", rule, instance] => {
                let instance = percent_decode(instance).ok_or(TopicError::Unknown)?;
                Self::Alert {
                    rule: rule.into(),
                    instance: Some(instance.into()),
                }
            }
            ["config", "desired"] => Self::ConfigDesired,
            ["config", "reported"] => Self::ConfigReported,
            ["command", name] => Self::Command(name.into()),
            ["reply", id] => Self::Reply(id.into()),
            _ => return Err(TopicError::Unknown),
        })
    }

    /// The topic of the node `path` as it stands in a message.
    #[must_use]
    pub fn text(&self, root: &TopicRoot, path: &NodePath) -> String {
        format!("{root}/{}/{}/{self}", path.site, path.node)
    }

    /// The row of the table this topic belongs to.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Metrics => Kind::Metrics,
            Self::Status => Kind::Status,
            Self::Info => Kind::Info,
            Self::Details(_) => Kind::Details,
            Self::Events => Kind::Events,
            Self::Committed => Kind::Committed,
            Self::Alert { instance: None, .. } => Kind::Alert,
            Self::Alert { .. } => Kind::InstanceAlert,
            Self::ConfigDesired => Kind::ConfigDesired,
            Self::ConfigReported => Kind::ConfigReported,
            Self::Command(_) => Kind::Command,
            Self::Reply(_) => Kind::Reply,
        }
    }
}

impl fmt::Display for NodeTopic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Metrics => f.write_str("metrics"),
            Self::Status => f.write_str("status"),
            Self::Info => f.write_str("info"),
            Self::Details(what) => write!(f, "details/{what}"),
            Self::Events => f.write_str("events"),
            Self::Committed => f.write_str("committed"),
            Self::Alert {
                rule,
                instance: None,
            } => write!(f, "alerts/{rule}"),
            Self::Alert {
                rule,
                instance: Some(instance),
            } => {
                write!(f, "alerts/{rule}/{}", percent_encode(instance))
            }
            Self::ConfigDesired => f.write_str("config/desired"),
            Self::ConfigReported => f.write_str("config/reported"),
            Self::Command(name) => write!(f, "command/{name}"),
            Self::Reply(id) => write!(f, "reply/{id}"),
        }
    }
}

impl SiteTopic {
    fn parse(levels: &[&str]) -> Result<Self, TopicError> {
        Ok(match *levels {
            ["_enrol", id, "request"] => Self::EnrolRequest(id.into()),
            ["_enrol", id, "grant"] => Self::EnrolGrant(id.into()),
            ["_rules", rule] => Self::Rule(rule.into()),
            ["_silences", id] => Self::Silence(id.into()),
            ["_acknowledgements", id] => Self::Acknowledgement(id.into()),
            ["_told", channel, fingerprint] => Self::Told {
                channel: channel.into(),
                fingerprint: fingerprint.into(),
            },
            ["_lease", component] => Self::Lease(component.into()),
            ["_admin", verb] => Self::Admin(verb.into()),
            ["_admin", "reply", id] => Self::AdminReply(id.into()),
            ["_system", component, instance] => Self::System {
                component: component.into(),
                instance: instance.into(),
            },
            _ => return Err(TopicError::Unknown),
        })
    }

    /// The topic of the site `site` as it stands in a message.
    #[must_use]
    pub fn text(&self, root: &TopicRoot, site: &SiteId) -> String {
        format!("{root}/{site}/{self}")
    }

    /// The row of the table this topic belongs to.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::EnrolRequest(_) => Kind::EnrolRequest,
            Self::EnrolGrant(_) => Kind::EnrolGrant,
            Self::Rule(_) => Kind::Rule,
            Self::Silence(_) => Kind::Silence,
            Self::Acknowledgement(_) => Kind::Acknowledgement,
            Self::Told { .. } => Kind::Told,
            Self::Lease(_) => Kind::Lease,
            Self::Admin(_) => Kind::Admin,
            Self::AdminReply(_) => Kind::AdminReply,
            Self::System { component, .. } if **component == *"publisher" => Kind::PublisherHealth,
            Self::System { .. } => Kind::System,
        }
    }
}

impl fmt::Display for SiteTopic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EnrolRequest(id) => write!(f, "_enrol/{id}/request"),
            Self::EnrolGrant(id) => write!(f, "_enrol/{id}/grant"),
            Self::Rule(rule) => write!(f, "_rules/{rule}"),
            Self::Silence(id) => write!(f, "_silences/{id}"),
            Self::Acknowledgement(id) => write!(f, "_acknowledgements/{id}"),
            Self::Told {
                channel,
                fingerprint,
            } => write!(f, "_told/{channel}/{fingerprint}"),
            Self::Lease(component) => write!(f, "_lease/{component}"),
            Self::Admin(verb) => write!(f, "_admin/{verb}"),
            Self::AdminReply(id) => write!(f, "_admin/reply/{id}"),
            Self::System {
                component,
                instance,
            } => write!(f, "_system/{component}/{instance}"),
        }
    }
}

fn percent_encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                encoded.push(byte.into());
            }
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

fn percent_decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [byte, tail @ ..] = rest {
        if *byte == b'%' {
            let [high, low, tail @ ..] = tail else {
                return None;
            };
            let high = char::from(*high).to_digit(16)?;
            let low = char::from(*low).to_digit(16)?;
            bytes.push(u8::try_from(high * 16 + low).ok()?);
            rest = tail;
        } else {
            bytes.push(*byte);
            rest = tail;
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::{TABLE, kind_of};

    fn node(what: NodeTopic) -> Topic {
        Topic::Node("home.web1".parse().unwrap(), what)
    }

    fn site(what: SiteTopic) -> Topic {
        Topic::Site("home".parse().unwrap(), what)
    }

    fn every_topic() -> Vec<(Topic, &'static str)> {
        vec![
            (node(NodeTopic::Metrics), "hostbus/v1/home/web1/metrics"),
            (node(NodeTopic::Status), "hostbus/v1/home/web1/status"),
            (node(NodeTopic::Info), "hostbus/v1/home/web1/info"),
            (
                node(NodeTopic::Details("processes".into())),
                "hostbus/v1/home/web1/details/processes",
            ),
            (node(NodeTopic::Events), "hostbus/v1/home/web1/events"),
            (node(NodeTopic::Committed), "hostbus/v1/home/web1/committed"),
            (
                node(NodeTopic::Alert {
                    rule: "down".into(),
                    instance: None,
                }),
                "hostbus/v1/home/web1/alerts/down",
            ),
            (
                node(NodeTopic::Alert {
                    rule: "full".into(),
                    instance: Some("/data é".into()),
                }),
                "hostbus/v1/home/web1/alerts/full/%2Fdata%20%C3%A9",
            ),
            (
                node(NodeTopic::ConfigDesired),
                "hostbus/v1/home/web1/config/desired",
            ),
            (
                node(NodeTopic::ConfigReported),
                "hostbus/v1/home/web1/config/reported",
            ),
            (
                node(NodeTopic::Command("refresh".into())),
                "hostbus/v1/home/web1/command/refresh",
            ),
            (
                node(NodeTopic::Reply("7".into())),
                "hostbus/v1/home/web1/reply/7",
            ),
            (
                site(SiteTopic::EnrolRequest("x".into())),
                "hostbus/v1/home/_enrol/x/request",
            ),
            (
                site(SiteTopic::EnrolGrant("x".into())),
                "hostbus/v1/home/_enrol/x/grant",
            ),
            (
                site(SiteTopic::Rule("disk".into())),
                "hostbus/v1/home/_rules/disk",
            ),
            (
                site(SiteTopic::Silence("s1".into())),
                "hostbus/v1/home/_silences/s1",
            ),
            (
                site(SiteTopic::Acknowledgement("0f1e".into())),
                "hostbus/v1/home/_acknowledgements/0f1e",
            ),
            (
                site(SiteTopic::Told {
                    channel: "mail".into(),
                    fingerprint: "0f1e".into(),
                }),
                "hostbus/v1/home/_told/mail/0f1e",
            ),
            (
                site(SiteTopic::Lease("notifier".into())),
                "hostbus/v1/home/_lease/notifier",
            ),
            (
                site(SiteTopic::Admin("revoke".into())),
                "hostbus/v1/home/_admin/revoke",
            ),
            (
                site(SiteTopic::AdminReply("9".into())),
                "hostbus/v1/home/_admin/reply/9",
            ),
            (
                site(SiteTopic::System {
                    component: "ingester".into(),
                    instance: "main".into(),
                }),
                "hostbus/v1/home/_system/ingester/main",
            ),
            (
                site(SiteTopic::System {
                    component: "publisher".into(),
                    instance: "web1".into(),
                }),
                "hostbus/v1/home/_system/publisher/web1",
            ),
        ]
    }

    #[test]
    fn every_topic_reads_back_as_it_was_written() {
        let root = TopicRoot::default();
        for (topic, text) in every_topic() {
            assert_eq!(topic.text(&root), text);
            assert_eq!(Topic::parse(&root, text).as_ref(), Ok(&topic), "{text}");
            assert_eq!(kind_of(&root, text), Some(topic.kind()), "{text}");
        }
    }

    #[test]
    fn every_kind_has_one_row_and_one_topic() {
        let topics = every_topic();
        for row in TABLE {
            assert_eq!(row.kind.row().shape, row.shape);
            assert_eq!(
                topics.iter().filter(|(t, _)| t.kind() == row.kind).count(),
                1,
                "{row:?}"
            );
        }
        assert_eq!(topics.len(), TABLE.len());
    }

    #[test]
    fn foreign_topics_are_refused() {
        let root = TopicRoot::default();
        for (text, error) in [
            ("other/v1/home/web1/metrics", TopicError::OutsideRoot),
            ("hostbus/v1", TopicError::OutsideRoot),
            ("hostbus/v1x/home/web1/metrics", TopicError::OutsideRoot),
            ("hostbus/v1/home", TopicError::Unknown),
            ("hostbus/v1/home/web1", TopicError::Unknown),
            ("hostbus/v1/home/web1/metrics/", TopicError::Unknown),
            ("hostbus/v1/home/web1/metrics/x", TopicError::Unknown),
            ("hostbus/v1/home//metrics", TopicError::Unknown),
            ("hostbus/v1/home/web1/alerts/r/%zz", TopicError::Unknown),
            ("hostbus/v1/home/web1/alerts/r/i/j/k", TopicError::Unknown),
        ] {
            assert_eq!(Topic::parse(&root, text), Err(error), "{text}");
        }
        assert!(matches!(
            Topic::parse(&root, "hostbus/v1/Home/web1/metrics"),
            Err(TopicError::Id(_))
        ));
    }
}
