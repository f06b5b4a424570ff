//! What a collector is, and the list of all of them.
//!
//! A collector reads raw counters and turns two readings into a section of the sample. It knows no
//! topic and no schedule. "Nothing here" (no GPU, no sensor) is no failure.
//!
//! | collector | section | source |
//! |---|---|---|
//! | `cpu` | `cpu` | `/proc/stat`, `/proc/loadavg`, cpufreq, `/sys/class/hwmon`, `/sys/class/powercap` |
//! | `memory` | `memory` | `/proc/meminfo`, `/proc/vmstat` |
//! | `pressure` | `pressure` | `/proc/pressure` |
//! | `filesystems` | `filesystems` | `/proc/self/mountinfo`, `statvfs` |
//! | `disks` | `disks` | `/proc/diskstats`, `/sys/block` |
//! | `networks` | `networks`, `details/traffic` | `/proc/net/dev`, `/sys/class/net` |
//! | `gpus` | `gpus` | NVIDIA's management library, loaded at run time; AMD's files in `/sys/class/drm` |
//! | `sensors` | `sensors`, `fans`, `voltages` | `/sys/class/hwmon` |
//! | `power_supplies` | `power_supplies` | `/sys/class/power_supply` |
//!
//! Besides them, `attribute` and `hwmon` read what several collectors need.

mod attribute;
pub(crate) mod cpu;
pub(crate) mod disks;
pub(crate) mod filesystems;
pub(crate) mod gpus;
mod hwmon;
#[cfg(test)]
mod machines;
pub(crate) mod memory;
pub(crate) mod networks;
pub(crate) mod power_supplies;
pub(crate) mod pressure;
pub(crate) mod sensors;

use std::time::{Duration, Instant};

use hostbus_wire::Sample;
use hostbus_wire::details::Details;
use hostbus_wire::event::Event;
use serde::Deserialize;

use crate::error::{CollectorError, Error};

pub use disks::DisksConfig;
pub use filesystems::FilesystemsConfig;
pub use gpus::{GpusConfig, driver_version};
pub use networks::NetworksConfig;
pub use power_supplies::PowerSuppliesConfig;
pub use sensors::SensorsConfig;

/// Reads one kind of vital signs.
pub(crate) trait Collector: Send {
    /// Adds what it knows to the pass. The first call finds no rates: there is nothing yet to
    /// compare with. On an error the pass keeps what was found before it. May block: it has a
    /// thread of its own for as long as it takes.
    fn collect(&mut self, pass: &mut Pass) -> Result<Presence, CollectorError>;
}

/// One collector's turn: when it is, and what it found.
#[derive(Debug)]
pub(crate) struct Pass {
    /// For rates: a clock that is never set.
    pub(crate) now: Instant,
    /// For events and details: milliseconds since 1970-01-01 UTC.
    pub(crate) ts: u64,
    /// The sections that the collector filled.
    pub(crate) sample: Sample,
    /// What happened since its last turn.
    pub(crate) events: Vec<Event>,
    /// Tables that are no time series, by the last level of their topic.
    pub(crate) details: Vec<(&'static str, Details)>,
}

impl Pass {
    pub(crate) fn at(now: Instant, ts: u64) -> Self {
        Self {
            now,
            ts,
            sample: Sample::default(),
            events: Vec::new(),
            details: Vec::new(),
        }
    }
}

/// Whether a host has what a collector reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Presence {
    /// It has.
    Here,
    /// It has, and a part of it can't be read. The collector tells of that by an event of its own.
    Partly(String),
    /// It has not, and why we think so.
    Nothing(String),
}

/// One row of the list of collectors.
pub(crate) struct Entry {
    /// Its name in settings, events and `info`.
    pub(crate) name: &'static str,
    /// Its settings that may be changed from afar.
    pub(crate) public: fn(&mut CollectorsConfig) -> Public<'_>,
    /// Makes it, whether it is on or off.
    pub(crate) make: fn(&CollectorsConfig) -> Box<dyn Collector>,
    /// Tells whether two settings are the same for it.
    pub(crate) same: fn(&CollectorsConfig, &CollectorsConfig) -> bool,
    /// The tables that it makes, by the last level of their topic.
    pub(crate) details: &'static [&'static str],
}

/// The settings of one collector that may be changed from afar: no paths, no secrets.
pub(crate) struct Public<'c> {
    pub(crate) enabled: &'c mut bool,
    pub(crate) interval_seconds: &'c mut Option<f64>,
    /// Globs of instances, where it has instances.
    pub(crate) include: Option<&'c mut Vec<String>>,
    pub(crate) exclude: Option<&'c mut Vec<String>>,
}

macro_rules! entry {
    ($name:ident, $make:expr) => {
        entry!($name, $make, [])
    };
    ($name:ident, $make:expr, $details:expr) => {
        Entry {
            name: stringify!($name),
            public: |config| config.$name.public(),
            make: |config| Box::new($make(&config.$name)),
            same: |one, other| one.$name == other.$name,
            details: &$details,
        }
    };
}

/// Every collector.
pub(crate) const ALL: [Entry; 9] = [
    entry!(cpu, |_| cpu::Cpus::new()),
    entry!(memory, |_| memory::Memories::new()),
    entry!(pressure, |_| pressure::Pressures::new()),
    entry!(filesystems, filesystems::Filesystems::new),
    entry!(disks, disks::Disks::new),
    entry!(networks, networks::Networks::new, [networks::TRAFFIC]),
    entry!(gpus, gpus::Gpus::new, [gpus::PROCESSES]),
    entry!(sensors, sensors::Sensors::new),
    entry!(power_supplies, power_supplies::PowerSupplies::new),
];

/// The tables that the collector `name` makes.
pub(crate) fn details(name: &str) -> &'static [&'static str] {
    let entry = ALL.iter().find(|entry| entry.name == name);
    entry.map_or(&[], |entry| entry.details)
}

/// The `[publisher.collectors]` section.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CollectorsConfig {
    /// Processors.
    pub cpu: PlainConfig,
    /// Memory and swap.
    pub memory: PlainConfig,
    /// How long tasks wait for processors, memory and disks.
    pub pressure: PlainConfig,
    /// Filesystems.
    pub filesystems: FilesystemsConfig,
    /// Block devices.
    pub disks: DisksConfig,
    /// Network interfaces.
    pub networks: NetworksConfig,
    /// Graphics processors.
    pub gpus: GpusConfig,
    /// Temperatures, fans and voltages.
    pub sensors: SensorsConfig,
    /// Batteries and mains.
    pub power_supplies: PowerSuppliesConfig,
}

/// The settings of a collector that has nothing to choose.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PlainConfig {
    /// Whether to collect. Default true.
    pub enabled: bool,
    /// The time from reading to reading, 0.1 to 3600 seconds. Absent: that of the samples.
    pub interval_seconds: Option<f64>,
}

impl Default for PlainConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            interval_seconds: None,
        }
    }
}

impl PlainConfig {
    fn public(&mut self) -> Public<'_> {
        Public {
            enabled: &mut self.enabled,
            interval_seconds: &mut self.interval_seconds,
            include: None,
            exclude: None,
        }
    }
}

/// The times from sample to sample, and from reading to reading of one collector, in seconds.
pub(crate) const INTERVALS: std::ops::RangeInclusive<f64> = 0.1..=3600.0;

impl CollectorsConfig {
    /// Checks the ranges.
    ///
    /// # Errors
    /// A value is out of range; the error names it.
    pub fn check(&self) -> Result<(), Error> {
        let mut config = self.clone();
        for entry in &ALL {
            let interval = *(entry.public)(&mut config).interval_seconds;
            if let Some(value) = interval.filter(|value| !INTERVALS.contains(value)) {
                let key = format!("collectors.{}.interval_seconds", entry.name);
                return Err(Error::Interval { key, value });
            }
        }
        self.gpus.check()
    }

    /// Every collector's name, and whether it is on.
    pub fn switches(&self) -> impl Iterator<Item = (&'static str, bool)> {
        ALL.iter().map(|entry| (entry.name, self.enabled(entry)))
    }

    pub(crate) fn enabled(&self, entry: &Entry) -> bool {
        *(entry.public)(&mut self.clone()).enabled
    }

    /// The time from reading to reading of one collector.
    pub(crate) fn interval(&self, entry: &Entry, of_samples: Duration) -> Duration {
        let own = *(entry.public)(&mut self.clone()).interval_seconds;
        own.map_or(of_samples, Duration::from_secs_f64)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// One turn of a collector.
    pub(crate) fn collect_once(
        collector: &mut dyn Collector,
        now: Instant,
    ) -> (Pass, Result<Presence, CollectorError>) {
        let mut pass = Pass::at(now, 1_763_630_000_000);
        let outcome = collector.collect(&mut pass);
        (pass, outcome)
    }

    /// Two readings a moment apart, as a running publisher makes them.
    pub(crate) fn collect_twice(collector: &mut dyn Collector) -> Sample {
        let start = Instant::now();
        collect_once(collector, start).1.unwrap();
        while start.elapsed().as_millis() < 60 {
            std::hint::spin_loop();
        }
        let (mut pass, outcome) = collect_once(collector, Instant::now());
        outcome.unwrap();
        pass.sample.round();
        pass.sample
    }

    #[test]
    fn the_public_settings_of_each_collector_are_its_own() {
        let defaults = CollectorsConfig::default();
        for entry in &ALL {
            let mut config = defaults.clone();
            *(entry.public)(&mut config).enabled = false;
            let changed: Vec<&str> = ALL
                .iter()
                .filter(|other| !(other.same)(&config, &defaults))
                .map(|other| other.name)
                .collect();
            assert_eq!(changed, [entry.name]);
            assert!(defaults.enabled(entry) && !config.enabled(entry));
        }
    }

    #[test]
    fn an_interval_out_of_range_is_named_with_its_collector() {
        for entry in &ALL {
            for wrong in [0.0, 3601.0, f64::NAN] {
                let mut config = CollectorsConfig::default();
                *(entry.public)(&mut config).interval_seconds = Some(wrong);
                let text = config.check().unwrap_err().to_string();
                let key = format!("publisher.collectors.{}.interval_seconds", entry.name);
                assert!(text.contains(&key), "{text}");
            }
        }
    }
}
