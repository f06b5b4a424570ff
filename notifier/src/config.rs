//! The `[notifier]` section.

use hostbus_wire::{NodeId, SiteId};
use serde::Deserialize;

/// The settings of a notifier.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The site under whose `_system` its health stands. Default `home`.
    pub site: SiteId,
    /// Its name among several notifiers. Default `main`.
    pub instance: NodeId,
    /// Files of rules, below the folder of this process where they are relative; the name of a file may be
    /// a glob, `rules/*.toml`. Default: none.
    pub rules: Vec<String>,
    /// Whether the rules that ship with hostbus hold too. Default true.
    pub default_rules: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            site: SiteId::default(),
            instance: "main".parse().expect("`main` is a well-formed id"),
            rules: Vec::new(),
            default_rules: true,
        }
    }
}
