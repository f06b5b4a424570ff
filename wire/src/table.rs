//! The one table of the contract: each kind of topic with its shape, delivery and rights.

use crate::pattern::Pattern;
use crate::role::Role::{self, Ingester, Joining, Notifier, Operator, Publisher, Viewer};
use crate::root::TopicRoot;

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
    Acknowledgement,
    Told,
    Lease,
    Admin,
    AdminReply,
    PublisherHealth,
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
/// Besides the notifier: scripts, with an operator's or their own node's credentials.
const RAISERS: &[Role] = &[Publisher, Notifier, Operator];
/// A publisher hears on its own `info` whether another one uses its node's name.
const INFO_READERS: &[Role] = &[Publisher, Ingester, Notifier, Viewer, Operator];

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
const CLAIM: (QoS, bool, bool) = (QoS::AtLeastOnce, true, false);
const MESSAGE: (QoS, bool, bool) = (QoS::AtLeastOnce, false, true);

/// The contract: every topic with its delivery and its rights.
#[rustfmt::skip]
pub const TABLE: &[Row] = &[
    row(Kind::Metrics,        "{site}/{node}/metrics",         "Sample, CBOR",               LIVE,    &[Publisher],          READERS),
    row(Kind::Status,         "{site}/{node}/status",          "`online` or `offline`, text", STATE,  &[Publisher],          READERS),
    row(Kind::Info,           "{site}/{node}/info",            "inventory, CBOR",            STATE,   &[Publisher],          INFO_READERS),
    row(Kind::Details,        "{site}/{node}/details/+",       "table, CBOR",                LIVE,    &[Publisher],          READERS),
    row(Kind::Events,         "{site}/{node}/events",          "event, CBOR",                MESSAGE, &[Publisher, Ingester, Notifier], READERS),
    row(Kind::Committed,      "{site}/{node}/committed",       "committed mark, CBOR",       LIVE,    &[Ingester],           &[Publisher, Ingester, Notifier, Viewer, Operator]),
    row(Kind::Alert,          "{site}/{node}/alerts/+",        "alert, CBOR or JSON; empty when gone", STATE, RAISERS,       READERS),
    row(Kind::InstanceAlert,  "{site}/{node}/alerts/+/+",      "alert, CBOR or JSON; empty when gone", STATE, RAISERS,       READERS),
    row(Kind::ConfigDesired,  "{site}/{node}/config/desired",  "wanted settings, CBOR",      STATE,   &[],                   &[Publisher]),
    row(Kind::ConfigReported, "{site}/{node}/config/reported", "applied settings, CBOR",     STATE,   &[Publisher],          &[]),
    row(Kind::Command,        "{site}/{node}/command/+",       "command, CBOR",              MESSAGE, &[],                   &[Publisher]),
    row(Kind::Reply,          "{site}/{node}/reply/+",         "reply, CBOR",                MESSAGE, &[Publisher],          &[]),
    row(Kind::EnrolRequest,   "{site}/_enrol/{id}/request",    "request to join, CBOR",      STATE,   &[Joining],            &[Joining]),
    row(Kind::EnrolGrant,     "{site}/_enrol/{id}/grant",      "credential, CBOR",           STATE,   &[],                   &[Joining]),
    row(Kind::Rule,           "{site}/_rules/+",               "rule, TOML text",            STATE,   &[],                   READERS),
    row(Kind::Silence,        "{site}/_silences/+",            "silence, CBOR or JSON",      STATE,   &[Notifier, Operator], READERS),
    row(Kind::Acknowledgement, "{site}/_acknowledgements/+",   "acknowledgement, CBOR or JSON", STATE, &[Notifier, Operator], READERS),
    row(Kind::Told,           "{site}/_told/+/+",              "what a channel was told, CBOR", STATE, &[Notifier],          READERS),
    row(Kind::Lease,          "{site}/_lease/+",               "who is active, CBOR",        CLAIM,   &[Notifier, Ingester], READERS),
    row(Kind::Admin,          "{site}/_admin/+",               "request, CBOR",              MESSAGE, &[],                   &[]),
    row(Kind::AdminReply,     "{site}/_admin/reply/+",         "reply, CBOR",                MESSAGE, &[],                   &[]),
    row(Kind::PublisherHealth, "{site}/_system/publisher/{node}", "health, CBOR",             LIVE,    &[Publisher],          READERS),
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

impl TopicRoot {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kinds_filter_covers_all_nodes() {
        let root: TopicRoot = "x".parse().unwrap();
        assert_eq!(root.filter(Kind::Metrics), "x/+/+/metrics");
        assert_eq!(root.filter(Kind::EnrolRequest), "x/+/_enrol/+/request");
    }
}
