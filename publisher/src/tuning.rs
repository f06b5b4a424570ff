//! The settings of collecting that may change while the publisher runs.

use std::time::Duration;

use hostbus_wire::codec::Map;

use crate::collectors::{self, CollectorsConfig};
use crate::config::Config;

/// How samples are taken.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Tuning {
    /// The time from sample to sample.
    pub(crate) interval: Duration,
    /// What is collected.
    pub(crate) collectors: CollectorsConfig,
}

impl Tuning {
    pub(crate) fn new(config: &Config) -> Self {
        let mut collectors = config.collectors.clone();
        // Without a node's name nothing starts.
        let path = config.path().ok();
        collectors.networks.traffic_file = config
            .outbox
            .folder()
            .zip(path)
            .map(|(folder, path)| folder.join(format!("traffic-{path}")));
        Self {
            interval: config.interval(),
            collectors,
        }
    }

    /// The time from reading to reading of each collector. One that is off calls for no samples of
    /// its own.
    pub(crate) fn intervals(&self) -> impl Iterator<Item = Duration> {
        collectors::ALL.iter().map(|entry| {
            if self.collectors.enabled(entry) {
                self.collectors.interval(entry, self.interval)
            } else {
                self.interval
            }
        })
    }

    /// The time from sample to sample as the bus tells it.
    pub(crate) fn interval_ms(&self) -> u64 {
        u64::try_from(self.interval.as_millis()).unwrap_or(u64::MAX)
    }

    /// Whether each collector is on, by name.
    pub(crate) fn switches(&self) -> Map<bool> {
        let switches = self.collectors.switches();
        switches.map(|(name, on)| (name.to_owned(), on)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn publishers_of_two_nodes_on_one_host_keep_their_traffic_apart() {
        let file = |node: &str| {
            let mut config = Config {
                node: Some(node.parse().unwrap()),
                ..Config::default()
            };
            config.outbox.folder = Some("/var/lib/hostbus-publisher".into());
            Tuning::new(&config).collectors.networks.traffic_file
        };
        let path = "/var/lib/hostbus-publisher/traffic-home.web1";
        assert_eq!(file("web1"), Some(path.into()));
        assert_ne!(file("web1"), file("web2"));
    }
}
