//! The settings of collecting that may change while the publisher runs.

use std::time::Duration;

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
        Self {
            interval: config.interval(),
            collectors: config.collectors.clone(),
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
}
