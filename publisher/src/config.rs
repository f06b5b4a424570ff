//! The `[publisher]` section, and its check before anything is opened.

use std::time::Duration;

use hostbus_wire::{NodeId, NodePath, SiteId};
use serde::Deserialize;

use crate::collectors::{self, CollectorsConfig, INTERVALS};
use crate::error::Error;
use crate::inventory;
use crate::outbox::OutboxConfig;

/// The `[publisher]` section.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The site this host belongs to. Default `home`.
    pub site: SiteId,
    /// This host's name in the site. Absent: made from the host name.
    pub node: Option<NodeId>,
    /// The time from sample to sample, 0.1 to 3600 seconds. Default 10.
    pub interval_seconds: f64,
    /// How samples are kept until they are in Redis.
    pub outbox: OutboxConfig,
    /// What is collected.
    pub collectors: CollectorsConfig,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            site: SiteId::default(),
            node: None,
            interval_seconds: 10.0,
            outbox: OutboxConfig::default(),
            collectors: CollectorsConfig::default(),
        }
    }
}

impl Config {
    /// Checks the settings.
    ///
    /// # Errors
    /// A value is out of range; the error names it.
    pub fn check(&self) -> Result<(), Error> {
        if !INTERVALS.contains(&self.interval_seconds) {
            return Err(Error::Interval {
                key: "interval_seconds".to_owned(),
                value: self.interval_seconds,
            });
        }
        self.collectors.check()?;
        self.outbox.check()
    }

    /// The time from sample to sample.
    #[must_use]
    pub fn interval(&self) -> Duration {
        Duration::from_secs_f64(self.interval_seconds)
    }

    /// The time from reading to reading of the collector `name`: its own, or that of the samples.
    #[must_use]
    pub fn interval_of(&self, name: &str) -> Duration {
        let entry = collectors::ALL.iter().find(|entry| entry.name == name);
        entry.map_or(self.interval(), |entry| {
            self.collectors.interval(entry, self.interval())
        })
    }

    /// The node whose topics this publisher writes.
    ///
    /// # Errors
    /// No node is set, and the host name gives none.
    pub fn path(&self) -> Result<NodePath, Error> {
        let node = match &self.node {
            Some(node) => node.clone(),
            None => {
                let hostname = inventory::hostname().unwrap_or_default();
                NodeId::from_hostname(&hostname).ok_or(Error::Node { hostname })?
            }
        };
        Ok(NodePath::new(self.site.clone(), node))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_out_of_range_is_named_with_its_key_and_what_was_expected() {
        let check = |change: fn(&mut Config), parts: [&str; 3]| {
            let mut config = Config::default();
            assert!(config.check().is_ok());
            change(&mut config);
            let text = config.check().unwrap_err().to_string();
            assert!(parts.iter().all(|part| text.contains(part)), "{text}");
        };
        check(
            |c| c.interval_seconds = 0.0,
            ["interval_seconds", "`0`", "0.1 to 3600"],
        );
        check(
            |c| c.interval_seconds = f64::NAN,
            ["interval_seconds", "NaN", "0.1 to 3600"],
        );
        check(
            |c| c.outbox.max_bytes = 5,
            ["outbox.max_bytes", "`5`", "expected"],
        );
        check(
            |c| c.outbox.catch_up_per_second = 0.0,
            ["outbox.catch_up_per_second", "`0`", "expected"],
        );
        check(
            |c| c.outbox.resend_after_seconds = -1.0,
            ["outbox.resend_after_seconds", "`-1`", "expected"],
        );
    }

    #[test]
    fn an_unknown_key_is_refused() {
        let parse = |json: &str| serde_json::from_str::<Config>(json);
        assert!(parse(r#"{"collectors": {"disks": {"exclude": ["sd*"]}}}"#).is_ok());
        assert!(parse(r#"{"collectors": {"disks": {"exclud": ["sd*"]}}}"#).is_err());
        assert!(parse(r#"{"collectors": {"disc": {}}}"#).is_err());
    }

    #[test]
    fn a_node_that_is_set_wins_over_the_host_name() {
        let config = Config {
            node: Some("web1".parse().unwrap()),
            ..Config::default()
        };
        assert_eq!(config.path().unwrap().to_string(), "home.web1");
    }
}
