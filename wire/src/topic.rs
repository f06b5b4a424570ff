//! The topics: the one table of their shape, delivery and rights, and their text both ways.
//!
//! ```text
//! hostbus/v1/<site>/<node>/<what>      a node's own topics
//! hostbus/v1/<site>/_<system>/...      the site's topics
//! ^ the root, configurable
//! ```
//! An instance in an alert's topic is percent-encoded: `/data` stands as `%2Fdata`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::access::Role::{self, Ingester, Joining, Notifier, Operator, Publisher, Viewer};
use crate::ids::{IdError, NodePath, SiteId};
use crate::pattern::Pattern;

/// The longest topic that MQTT allows, in bytes.
pub const MAX_TOPIC_BYTES: usize = 65_535;

/// The quality of service a topic is published with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum QoS {
    /// At most once.
    AtMostOnce = 0,
    /// At least once.
    AtLeastOnce = 1,
    /// Exactly once.
    ExactlyOnce = 2,
}

/// What kind of topic it is: one row of [`TABLE`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the table tells each row's meaning")]
pub enum Kind {
    Metrics,
    Status,
    Info,
    Details,
    Events,
    Committed,
    Alert,
    InstanceAlert,
    ConfigDesired,
    ConfigReported,
    Command,
    Reply,
    EnrolRequest,
    EnrolGrant,
    Rule,
    Silence,
    Admin,
    AdminReply,
    System,
}

/// One row of the contract's table.
#[derive(Debug)]
pub struct Row {
    /// The kind of topic.
    pub kind: Kind,
    /// Its shape below the root. `{site}`, `{node}` and `{id}` stand for one level each, `+` for
    /// any one level. A publisher's `{site}/{node}` and a joining client's `{id}` are its own.
    pub shape: &'static str,
    /// What its payload is.
    pub payload: &'static str,
    /// The quality of service it is published with.
    pub qos: QoS,
    /// Whether it is published as retained.
    pub retain: bool,
    /// Whether the broker keeps it on disk: the retained message, and what waits for an absent
    /// session.
    pub durable: bool,
    /// The roles that may publish it, besides the admin who may publish all.
    pub writers: &'static [Role],
    /// The roles that may read it, besides the admin who may read all.
    pub readers: &'static [Role],
}

const READERS: &[Role] = &[Ingester, Notifier, Viewer, Operator];

const fn row(
    kind: Kind,
    shape: &'static str,
    payload: &'static str,
    (qos, retain, durable): (QoS, bool, bool),
    writers: &'static [Role],
    readers: &'static [Role],
) -> Row {
    Row {
        kind,
        shape,
        payload,
        qos,
        retain,
        durable,
        writers,
        readers,
    }
}

const LIVE: (QoS, bool, bool) = (QoS::AtMostOnce, true, false);
const STATE: (QoS, bool, bool) = (QoS::AtLeastOnce, true, true);
const MESSAGE: (QoS, bool, bool) = (QoS::AtLeastOnce, false, true);

/// The contract: every topic with its delivery and its rights.
#[rustfmt::skip]
pub const TABLE: &[Row] = &[
    row(Kind::Metrics,        "{site}/{node}/metrics",         "Sample, CBOR",               LIVE,    &[Publisher],          READERS),
    row(Kind::Status,         "{site}/{node}/status",          "`online` or `offline`, text", STATE,  &[Publisher],          READERS),
    row(Kind::Info,           "{site}/{node}/info",            "inventory, CBOR",            STATE,   &[Publisher],          READERS),
    row(Kind::Details,        "{site}/{node}/details/+",       "table, CBOR",                LIVE,    &[Publisher],          READERS),
    row(Kind::Events,         "{site}/{node}/events",          "event, CBOR",                MESSAGE, &[Publisher, Ingester], READERS),
    row(Kind::Committed,      "{site}/{node}/committed",       "committed mark, CBOR",       LIVE,    &[Ingester],           &[Publisher, Ingester, Notifier, Viewer, Operator]),
    row(Kind::Alert,          "{site}/{node}/alerts/+",        "alert, CBOR; empty when gone", STATE, &[Notifier],           READERS),
    row(Kind::InstanceAlert,  "{site}/{node}/alerts/+/+",      "alert, CBOR; empty when gone", STATE, &[Notifier],           READERS),
    row(Kind::ConfigDesired,  "{site}/{node}/config/desired",  "wanted settings, CBOR",      STATE,   &[],                   &[Publisher]),
    row(Kind::ConfigReported, "{site}/{node}/config/reported", "applied settings, CBOR",     STATE,   &[Publisher],          &[]),
    row(Kind::Command,        "{site}/{node}/command/+",       "command, CBOR",              MESSAGE, &[],                   &[Publisher]),
    row(Kind::Reply,          "{site}/{node}/reply/+",         "reply, CBOR",                MESSAGE, &[Publisher],          &[]),
    row(Kind::EnrolRequest,   "{site}/_enrol/{id}/request",    "request to join, CBOR",      STATE,   &[Joining],            &[Joining]),
    row(Kind::EnrolGrant,     "{site}/_enrol/{id}/grant",      "credential, CBOR",           STATE,   &[],                   &[Joining]),
    row(Kind::Rule,           "{site}/_rules/+",               "rule, TOML text",            STATE,   &[],                   READERS),
    row(Kind::Silence,        "{site}/_silences/+",            "silence, CBOR",              STATE,   &[Operator],           READERS),
    row(Kind::Admin,          "{site}/_admin/+",               "request, CBOR",              MESSAGE, &[],                   &[]),
    row(Kind::AdminReply,     "{site}/_admin/reply/+",         "reply, CBOR",                MESSAGE, &[],                   &[]),
    row(Kind::System,         "{site}/_system/+/+",            "health, CBOR",               LIVE,    &[Ingester, Notifier], READERS),
];

impl Kind {
    /// This kind's row of the contract.
    ///
    /// # Panics
    /// Never: a test holds that each kind has its row.
    #[must_use]
    pub fn row(self) -> &'static Row {
        TABLE
            .iter()
            .find(|row| row.kind == self)
            .expect("every kind has its row")
    }
}

/// Where the contract's topics begin. The default is `hostbus/v1`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TopicRoot(Box<str>);

impl TopicRoot {
    /// The root as text, without a slash at its end.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The part of `topic` below this root.
    #[must_use]
    pub fn strip<'t>(&self, topic: &'t str) -> Option<&'t str> {
        topic.strip_prefix(&*self.0)?.strip_prefix('/')
    }

    /// The filter that matches the topics of `kind` on all nodes and sites.
    #[must_use]
    pub fn filter(&self, kind: Kind) -> String {
        let levels: Vec<&str> = kind
            .row()
            .shape
            .split('/')
            .map(|level| if level.starts_with('{') { "+" } else { level })
            .collect();
        format!("{self}/{}", levels.join("/"))
    }
}

impl Default for TopicRoot {
    fn default() -> Self {
        Self("hostbus/v1".into())
    }
}

impl fmt::Display for TopicRoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for TopicRoot {
    type Err = TopicError;

    fn from_str(text: &str) -> Result<Self, TopicError> {
        text.to_owned().try_into()
    }
}

impl TryFrom<String> for TopicRoot {
    type Error = TopicError;

    fn try_from(text: String) -> Result<Self, TopicError> {
        let well_formed = text.len() <= 128
            && !text.starts_with('$')
            && text.split('/').all(|level| !level.is_empty())
            && !text.chars().any(|c| c == '+' || c == '#' || c.is_control());
        if well_formed {
            Ok(Self(text.into()))
        } else {
            Err(TopicError::Root { text })
        }
    }
}

impl From<TopicRoot> for String {
    fn from(root: TopicRoot) -> Self {
        root.0.into()
    }
}

/// Why a topic is not one of the contract.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TopicError {
    /// The root is empty, too long, has an empty level, a wildcard or a control character.
    #[error(
        "`{text}` is no topic root: use levels such as `hostbus/v1`, without wildcards, empty levels or a leading `$`"
    )]
    Root {
        /// What was given.
        text: String,
    },
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
            Self::Admin(_) => Kind::Admin,
            Self::AdminReply(_) => Kind::AdminReply,
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
            Self::Admin(verb) => write!(f, "_admin/{verb}"),
            Self::AdminReply(id) => write!(f, "_admin/reply/{id}"),
            Self::System {
                component,
                instance,
            } => write!(f, "_system/{component}/{instance}"),
        }
    }
}

/// The kind of the topic `topic`, if it is one of the contract. Allocates nothing: the broker asks
/// this for each message.
#[must_use]
pub fn kind_of(root: &TopicRoot, topic: &str) -> Option<Kind> {
    let below = root.strip(topic)?;
    TABLE
        .iter()
        .find(|row| Pattern::below_root(row.shape).matches(below))
        .map(|row| row.kind)
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

    #[test]
    fn a_root_has_no_wildcards_and_no_empty_levels() {
        for good in ["hostbus/v1", "x", "a/b/c"] {
            assert!(good.parse::<TopicRoot>().is_ok(), "{good}");
        }
        for bad in ["", "/a", "a/", "a//b", "a/+", "#", "$SYS", "a\n"] {
            assert!(bad.parse::<TopicRoot>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_kinds_filter_covers_all_nodes() {
        let root: TopicRoot = "x".parse().unwrap();
        assert_eq!(root.filter(Kind::Metrics), "x/+/+/metrics");
        assert_eq!(root.filter(Kind::EnrolRequest), "x/+/_enrol/+/request");
    }
}
