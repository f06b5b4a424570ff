//! The `[ingester]` section.

use hostbus_wire::SiteId;
use hostbus_wire::ids::is_id;
use serde::Deserialize;

use crate::error::Error;

/// The `[ingester]` section.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The site under which the ingester tells its health. It takes the samples of all sites, and no other
    /// may take them into the same Redis.
    pub site: SiteId,
    /// Its name among ingesters: the health stands at `_system/ingester/<instance>`.
    pub instance: String,
    /// How long the first sample of a batch waits for others, in milliseconds; at most 10,000.
    pub batch_ms: u64,
    /// The most samples in a batch, 1 to 100,000.
    pub batch_samples: usize,
    /// How many writers there are, 1 to 16, each with its share of the nodes and connections of its
    /// own: while Redis works for one, the next batch is made by another.
    pub writers: usize,
    /// The most memory for samples that wait for Redis, in bytes of payload; at least 1 MiB. What does
    /// not fit is refused, and asked for again later. Inventories, states, events and alerts have half as
    /// much besides.
    pub queue_bytes: usize,
    /// The most nodes that are taken; those beyond are refused. A node that was silent for an hour
    /// makes room for a new one.
    pub max_nodes: usize,
    /// The most series of one node; rows of those beyond are refused. A series without a row for as
    /// long as rows are kept makes room for a new one.
    pub max_series_per_node: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            site: SiteId::default(),
            instance: "main".to_owned(),
            batch_ms: 50,
            batch_samples: 1_000,
            writers: 2,
            queue_bytes: 64 * 1024 * 1024,
            max_nodes: 20_000,
            max_series_per_node: 2_000,
        }
    }
}

const MIB: usize = 1024 * 1024;

impl Config {
    /// Checks what can be checked before anything is connected.
    ///
    /// # Errors
    /// The first setting that is out of its range.
    pub fn check(&self) -> Result<(), Error> {
        let wrong = |key, value: String, expected| {
            Err(Error::Setting {
                key,
                value,
                expected,
            })
        };
        if !is_id(&self.instance) {
            return wrong(
                "instance",
                self.instance.clone(),
                "1 to 31 of a-z, 0-9 and '-'",
            );
        }
        if self.batch_ms > 10_000 {
            return wrong("batch_ms", self.batch_ms.to_string(), "0 to 10000");
        }
        if !(1..=100_000).contains(&self.batch_samples) {
            return wrong(
                "batch_samples",
                self.batch_samples.to_string(),
                "1 to 100000",
            );
        }
        if !(1..=16).contains(&self.writers) {
            return wrong("writers", self.writers.to_string(), "1 to 16");
        }
        if !(MIB..=4096 * MIB - 1).contains(&self.queue_bytes) {
            return wrong(
                "queue_bytes",
                self.queue_bytes.to_string(),
                "1048576 to 4294967295",
            );
        }
        for (key, value) in [
            ("max_nodes", self.max_nodes),
            ("max_series_per_node", self.max_series_per_node),
        ] {
            if !(1..=1_000_000).contains(&value) {
                return wrong(key, value.to_string(), "1 to 1000000");
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_out_of_range_is_named() {
        Config::default().check().unwrap();
        let check = |config: Config, key: &str| {
            let error = config.check().unwrap_err().to_string();
            assert!(error.contains(key), "{error}");
        };
        check(
            Config {
                instance: "A".to_owned(),
                ..Config::default()
            },
            "ingester.instance",
        );
        check(
            Config {
                batch_samples: 0,
                ..Config::default()
            },
            "ingester.batch_samples",
        );
        for writers in [0, 17] {
            check(
                Config {
                    writers,
                    ..Config::default()
                },
                "ingester.writers",
            );
        }
        check(
            Config {
                queue_bytes: 1,
                ..Config::default()
            },
            "ingester.queue_bytes",
        );
        check(
            Config {
                max_nodes: 0,
                ..Config::default()
            },
            "ingester.max_nodes",
        );
    }
}
