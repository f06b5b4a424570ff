//! The settings of routes and inhibitions: `[[notifier.routes]]` and `[[notifier.inhibit]]`.

use std::collections::BTreeMap;

use hostbus_wire::alert::AlertSeverity;
use hostbus_wire::silence::Weekly;
use serde::Deserialize;
use thiserror::Error;

/// A setting that can't be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{key}` is `{value}`: {expected}")]
pub struct SettingError {
    /// Where it stands: `notifier.routes[0].between.from`.
    pub key: String,
    /// What it says, cut at 128 characters.
    pub value: String,
    /// What is expected there.
    pub expected: String,
}

impl SettingError {
    pub(crate) fn new(key: impl Into<String>, value: &str, expected: impl Into<String>) -> Self {
        Self {
            key: key.into(),
            value: value.chars().take(128).collect(),
            expected: expected.into(),
        }
    }
}

/// Which alerts go to which channels, and how often. An empty list takes everything.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RouteConfig {
    /// The names of the channels; one at least.
    pub channels: Vec<String>,
    /// These severities.
    pub severities: Vec<AlertSeverity>,
    /// Globs of nodes, `web1` or `home.web1`.
    pub nodes: Vec<String>,
    /// Globs of the groups that a node is in; one must fit.
    pub groups: Vec<String>,
    /// Globs of rules.
    pub rules: Vec<String>,
    /// Globs of instances; an alert of the whole node has the empty one.
    pub instances: Vec<String>,
    /// A glob for each label that must fit; an alert without the label has the empty one.
    pub labels: BTreeMap<String, String>,
    /// Only within this window of each week. Outside it nothing is told by this route and the next ones
    /// are asked; what still fires when it begins is told then.
    pub between: Option<Weekly>,
    /// Which alerts share a notice. Default: those of one rule.
    pub group_by: GroupBy,
    /// From a group's first change to its notice. Default 5.
    pub wait_seconds: u64,
    /// The least time between two notices of changes in one group. Default 60.
    pub interval_seconds: u64,
    /// What fires, unacknowledged, is told again after this; 0: never. Default 14,400 (four hours).
    pub repeat_seconds: u64,
    /// What fires again within this time after it was told to be over is held back until then.
    /// Default 300.
    pub cooldown_seconds: u64,
    /// Whether to tell that an alert is over. Default true.
    pub recovery: bool,
    /// Go on to the next route that fits.
    #[serde(rename = "continue")]
    pub go_on: bool,
}

impl Default for RouteConfig {
    fn default() -> Self {
        Self {
            channels: Vec::new(),
            severities: Vec::new(),
            nodes: Vec::new(),
            groups: Vec::new(),
            rules: Vec::new(),
            instances: Vec::new(),
            labels: BTreeMap::new(),
            between: None,
            group_by: GroupBy::Rule,
            wait_seconds: 5,
            interval_seconds: 60,
            repeat_seconds: 14_400,
            cooldown_seconds: 300,
            recovery: true,
            go_on: false,
        }
    }
}

/// Which alerts share a notice.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GroupBy {
    /// Those of one rule, on all nodes.
    #[default]
    Rule,
    /// Those of one node.
    Node,
    /// None: each has its own.
    Alert,
    /// All.
    All,
}

/// While a source fires, the targets that are like it are not told.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct InhibitConfig {
    /// What hides others.
    pub source: MatchConfig,
    /// What is hidden.
    pub target: MatchConfig,
    /// What both must have in common: `node`, `instance`, `rule`, or `labels.<name>`.
    pub equal: Vec<String>,
}

/// Which alerts are meant. An empty list takes everything.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MatchConfig {
    /// These severities.
    pub severities: Vec<AlertSeverity>,
    /// Globs of nodes, `web1` or `home.web1`.
    pub nodes: Vec<String>,
    /// Globs of the groups that a node is in.
    pub groups: Vec<String>,
    /// Globs of rules.
    pub rules: Vec<String>,
    /// Globs of instances; an alert of the whole node has the empty one.
    pub instances: Vec<String>,
    /// A glob for each label; an alert without the label has the empty one.
    pub labels: BTreeMap<String, String>,
}
