//! Every key that hostbus has in Redis. No other place makes one.
//!
//! ```text
//! hb:{S.N}:raw:<series>    stream      id <ms>-0, one row a sample: field -> shortest decimal text.
//!                                      Only the fields that this host has: those that were ever
//!                                      known since the writer's start, in the order of the contract,
//!                                      `nan` when unknown now
//! hb:{S.N}:<tier>:<series> stream      id <bucket start in ms>-0, one row a bucket of the tier 1m,
//!                                      10m, 1h: average as the field's own name, `<field>_min`,
//!                                      `<field>_max`, and `n`, the rows that it was made from; the
//!                                      id <ms>-1 where the series fell silent within the bucket
//! hb:{S.N}:packed:<tier>:<series>
//!                          hash        what is older than the stream of the tier raw, 1m, 10m,
//!                                      1h: <block start in ms> -> the rows of a block, column by
//!                                      column
//! hb:{S.N}:late:<series>   sorted set  rows that came too late for the stream, by ms; a member is
//!                                      the text `<ms> <field> <value> <field> <value> ...` of
//!                                      what is known
//! hb:{S.N}:kept            hash        the keeper's own: <series> -> the times in ms up to which its rows of
//!                                      1m, 10m and 1h are complete; `changes` counts its changes
//! hb:{S.N}:merging:<token> stream      a stream while late rows are put into it; renamed, or
//!                                      expires within the hour
//! hb:{S.N}:last            string      the sample written last, as JSON, at most one a second;
//!                                      expires after three intervals, but not before five minutes
//! hb:{S.N}:info            hash        the inventory, one field each; a collector's state stands in
//!                                      `collector.<name>`; `status` online or offline;
//!                                      `committed_boot`, `committed_seq`: the mark;
//!                                      `seen`: ms of the last sample's arrival
//! hb:{S.N}:series          set         names of the series: cpu, memory, filesystem:/, gpu:0
//! hb:{S.N}:events          stream      ts, kind, severity, message, details (JSON); about 1,000
//! hb:nodes                 sorted set  S.N by ms of the last sample's arrival
//! hb:events                stream      the events of all nodes, with `node`; about 10,000
//! hb:alerts:log            stream      the transitions of alerts: ts, node, rule, instance, kind,
//!                                      severity, message, value, channel, by; about 100,000
//! hb:fields                hash        cpu.usage_percent -> `<unit> <meaning>`
//! hb:ingester              string      the word of the one ingester that writes here, with its site; expires
//! ```
//! `S.N` is site and node. The braces make it the hash tag: all keys of a node share one slot of a
//! Redis Cluster. Streams and late rows expire an hour after the retention, so that a dead node's
//! rows go; its `info`, `series` and place in `hb:nodes` stay.

use hostbus_wire::NodePath;

use crate::tier::Tier;

/// All nodes, by the arrival of their last sample.
pub const NODES: &str = "hb:nodes";
/// The events of all nodes.
pub const EVENTS: &str = "hb:events";
/// The transitions of alerts.
pub const ALERTS: &str = "hb:alerts:log";
/// Unit and meaning of each field.
pub const FIELDS: &str = "hb:fields";

/// About how many events of one node are kept.
pub const NODE_EVENTS_KEPT: u32 = 1_000;
/// About how many events of all nodes are kept.
pub const EVENTS_KEPT: u32 = 10_000;
/// About how many transitions of alerts are kept.
pub const ALERTS_KEPT: u32 = 100_000;

/// The claim of the one ingester.
pub(crate) const INGESTER: &str = "hb:ingester";

/// Fields of a node's `info` that are no inventory.
pub mod info {
    /// `online` or `offline`.
    pub const STATUS: &str = "status";
    /// The mark's run of the publisher.
    pub const COMMITTED_BOOT: &str = "committed_boot";
    /// The mark's number in that run.
    pub const COMMITTED_SEQ: &str = "committed_seq";
    /// When the last sample arrived, in ms.
    pub const SEEN: &str = "seen";
    /// What the state of a collector begins with.
    pub const COLLECTOR: &str = "collector.";
}

/// The key of the late rows that belong to the stream `raw`.
pub(crate) fn late_of(raw: &str) -> Option<String> {
    let (prefix, series) = raw.split_once("}:raw:")?;
    Some(format!("{prefix}}}:late:{series}"))
}

/// The series whose stream is `raw`.
pub(crate) fn series_of(raw: &str) -> Option<&str> {
    Some(raw.split_once("}:raw:")?.1)
}

/// The keys of one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeKeys {
    prefix: String,
}

impl NodeKeys {
    /// The keys of `node`.
    #[must_use]
    pub fn new(node: &NodePath) -> Self {
        Self {
            prefix: format!("hb:{{{node}}}:"),
        }
    }

    /// The stream of the series `series` as it came.
    #[must_use]
    pub fn raw(&self, series: &str) -> String {
        self.rows(Tier::Raw, series)
    }

    /// The stream of one tier of the series `series`.
    #[must_use]
    pub fn rows(&self, tier: Tier, series: &str) -> String {
        [&self.prefix, tier.name(), ":", series].concat()
    }

    /// The packed blocks of one tier of the series `series`.
    #[must_use]
    pub fn packed(&self, tier: Tier, series: &str) -> String {
        [&self.prefix, "packed:", tier.name(), ":", series].concat()
    }

    /// The late rows of the series `series`.
    #[must_use]
    pub fn late(&self, series: &str) -> String {
        self.key("late:", series)
    }

    /// How far the keeper has come with each series.
    #[must_use]
    pub fn kept(&self) -> String {
        self.key("kept", "")
    }

    /// A stream that is to take another one's place.
    #[must_use]
    pub fn merging(&self, token: &str) -> String {
        self.key("merging:", token)
    }

    /// The sample written last.
    #[must_use]
    pub fn last(&self) -> String {
        self.key("last", "")
    }

    /// Inventory, status and mark.
    #[must_use]
    pub fn info(&self) -> String {
        self.key("info", "")
    }

    /// The names of the node's series.
    #[must_use]
    pub fn series(&self) -> String {
        self.key("series", "")
    }

    /// The node's events.
    #[must_use]
    pub fn events(&self) -> String {
        self.key("events", "")
    }

    /// What every key of the node begins with.
    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The pattern that matches the keys of the node, and no others. Nothing in a node's path has a
    /// meaning in a pattern.
    pub(crate) fn pattern(&self) -> String {
        [&self.prefix, "*"].concat()
    }

    fn key(&self, what: &str, series: &str) -> String {
        [&self.prefix, what, series].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_stand_as_documented() {
        let keys = NodeKeys::new(&"home.web1".parse().unwrap());
        assert_eq!(keys.raw("filesystem:/"), "hb:{home.web1}:raw:filesystem:/");
        assert_eq!(keys.late("cpu"), "hb:{home.web1}:late:cpu");
        assert_eq!(keys.rows(Tier::Hour, "cpu"), "hb:{home.web1}:1h:cpu");
        assert_eq!(
            keys.packed(Tier::Raw, "disk:sda"),
            "hb:{home.web1}:packed:raw:disk:sda"
        );
        assert_eq!(
            late_of(&keys.raw("filesystem:/}:raw:")),
            Some(keys.late("filesystem:/}:raw:"))
        );
        assert_eq!(series_of(&keys.raw("filesystem:/")), Some("filesystem:/"));
        assert_eq!(keys.last(), "hb:{home.web1}:last");
        assert_eq!(keys.info(), "hb:{home.web1}:info");
        assert_eq!(keys.series(), "hb:{home.web1}:series");
        assert_eq!(keys.events(), "hb:{home.web1}:events");
    }
}
