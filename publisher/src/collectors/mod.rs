//! What a collector is, and the list of all of them.
//!
//! A collector reads raw counters and turns two readings into a section of the sample. It knows no
//! topic and no schedule. "Nothing here" (no GPU, no sensor) is no failure.
//!
//! | collector | section | source |
//! |---|---|---|
//! | `cpu` | `cpu` | `/proc/stat`, `/proc/loadavg`, cpufreq |
//! | `memory` | `memory` | `/proc/meminfo` |
//! | `filesystems` | `filesystems` | `/proc/self/mountinfo`, `statvfs` |
//! | `disks` | `disks` | `/proc/diskstats`, `/sys/block` |
//! | `networks` | `networks` | `/proc/net/dev` |
//! | `gpus` | `gpus` | NVIDIA's management library, loaded at run time |
//! | `sensors` | `sensors` | `/sys/class/hwmon` |

pub(crate) mod cpu;
pub(crate) mod disks;
pub(crate) mod filesystems;
pub(crate) mod gpus;
pub(crate) mod memory;
pub(crate) mod networks;
pub(crate) mod sensors;

use std::time::Instant;

use hostbus_wire::Sample;
use serde::Deserialize;

use crate::error::CollectorError;

pub use cpu::CpuConfig;
pub use disks::DisksConfig;
pub use filesystems::FilesystemsConfig;
pub use gpus::{GpusConfig, driver_version};
pub use memory::MemoryConfig;
pub use networks::NetworksConfig;
pub use sensors::SensorsConfig;

/// Reads one kind of vital signs.
pub(crate) trait Collector: Send {
    /// Adds what it knows to the sample. The first call finds no rates: there is nothing yet to
    /// compare with. On an error the sample keeps what was found before it.
    fn collect(&mut self, now: Instant, sample: &mut Sample) -> Result<Presence, CollectorError>;
}

/// Whether a host has what a collector reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Presence {
    /// It has.
    Here,
    /// It has not, and why we think so.
    Nothing(String),
}

/// Makes a collector, unless the settings turn it off.
pub(crate) type Make = fn(&CollectorsConfig) -> Option<Box<dyn Collector>>;

/// Every collector: its name in settings, events and `info`, and how to make it.
pub(crate) const ALL: [(&str, Make); 7] = [
    ("cpu", |c| enabled(c.cpu.enabled, cpu::Cpus::new)),
    ("memory", |c| enabled(c.memory.enabled, || memory::Memories)),
    ("filesystems", |c| {
        enabled(c.filesystems.enabled, || {
            filesystems::Filesystems::new(&c.filesystems)
        })
    }),
    ("disks", |c| {
        enabled(c.disks.enabled, || disks::Disks::new(&c.disks))
    }),
    ("networks", |c| {
        enabled(c.networks.enabled, || networks::Networks::new(&c.networks))
    }),
    ("gpus", |c| enabled(c.gpus.enabled, gpus::Gpus::default)),
    ("sensors", |c| {
        enabled(c.sensors.enabled, || sensors::Sensors::new(&c.sensors))
    }),
];

fn enabled<C: Collector + 'static>(
    enabled: bool,
    make: impl FnOnce() -> C,
) -> Option<Box<dyn Collector>> {
    enabled.then(|| -> Box<dyn Collector> { Box::new(make()) })
}

/// The `[publisher.collectors]` section.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CollectorsConfig {
    /// Processors.
    pub cpu: CpuConfig,
    /// Memory and swap.
    pub memory: MemoryConfig,
    /// Filesystems.
    pub filesystems: FilesystemsConfig,
    /// Block devices.
    pub disks: DisksConfig,
    /// Network interfaces.
    pub networks: NetworksConfig,
    /// NVIDIA graphics processors.
    pub gpus: GpusConfig,
    /// Temperature sensors.
    pub sensors: SensorsConfig,
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Two readings a moment apart, as a running publisher makes them.
    pub(crate) fn collect_twice(collector: &mut dyn Collector) -> Sample {
        let start = Instant::now();
        let mut sample = Sample::default();
        collector.collect(start, &mut sample).unwrap();
        while start.elapsed().as_millis() < 60 {
            std::hint::spin_loop();
        }
        let mut sample = Sample::default();
        collector.collect(Instant::now(), &mut sample).unwrap();
        sample.round();
        sample
    }

    #[test]
    fn a_collector_that_is_turned_off_is_not_made() {
        let mut config = CollectorsConfig::default();
        assert!(ALL.iter().all(|(_, make)| make(&config).is_some()));
        config.cpu.enabled = false;
        config.gpus.enabled = false;
        let made: Vec<&str> = ALL
            .iter()
            .filter(|(_, make)| make(&config).is_some())
            .map(|(name, _)| *name)
            .collect();
        assert_eq!(
            made,
            ["memory", "filesystems", "disks", "networks", "sensors"]
        );
    }
}
