//! `metrics`: one sample of one host, its sections, and the series they become.
//!
//! ```text
//! {"v": 1, "ts": 1763630000123, "boot": 1763600000, "seq": 42, "first": 42, "interval_ms": 10000,
//!  "cpu": {...}, "memory": {...}, "filesystems": [{"name": "/", ...}], "disks": [...],
//!  "pressure": {...}, "networks": [...], "gpus": [...], "sensors": [...], "fans": [...],
//!  "voltages": [...], "power_supplies": [...], "custom": [...]}
//! ```
//! The node stands in the topic only. Instances stand in lists, their names are values. Each
//! section or instance becomes one series: `cpu`, `filesystem:/`, `gpu:0`. Cores, sensors, fans and
//! voltages have one value each: each of these lists becomes one series, `cores`, `sensors`, with a field
//! an instance.
//!
//! [`sections`] has the fields, [`series`] the rows, [`error`] what makes a sample unusable, [`rows`] a
//! sample for those who want its rows alone, and fast.

pub mod error;
pub mod rows;
pub mod sections;
pub mod series;

pub(crate) mod shape;
mod walk;

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use crate::codec::{self, DecodeError};
use crate::ids::Name;

pub use crate::guard::MAX_POINTS;
pub use error::SampleError;
pub use rows::Rows;
pub use sections::{
    Cpu, Custom, Disk, Fan, Filesystem, Gpu, Memory, Network, PowerSupply, Pressure, Sensor,
    Voltage,
};
pub use series::{CORES, Series, all_fields, shared_field};

/// The version this code writes. A reader refuses a higher one.
pub const VERSION: u32 = 1;

/// One sample of one host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// The payload's version; absent means 1.
    #[serde(default = "version")]
    pub v: u32,
    /// When it was taken, in milliseconds since 1970-01-01 UTC. Absent: the time of its arrival.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ts: Option<u64>,
    /// Which run of the publisher took it; see [`Place`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot: Option<u64>,
    /// Its number in that run; see [`Place`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    /// The oldest number the outbox still holds; see [`Place`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first: Option<u64>,
    /// The time to the next sample in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval_ms: Option<u32>,
    /// Processors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Cpu>,
    /// Memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Memory>,
    /// How long tasks waited for processors, memory and disks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pressure: Option<Pressure>,
    /// Filesystems.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub filesystems: Vec<Filesystem>,
    /// Block devices.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub disks: Vec<Disk>,
    /// Network interfaces.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub networks: Vec<Network>,
    /// Graphics processors.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gpus: Vec<Gpu>,
    /// Temperature sensors.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sensors: Vec<Sensor>,
    /// Fans.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fans: Vec<Fan>,
    /// Voltages.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub voltages: Vec<Voltage>,
    /// Batteries and mains.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub power_supplies: Vec<PowerSupply>,
    /// Values of somebody's own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub custom: Vec<Custom>,
}

fn version() -> u32 {
    VERSION
}

impl Default for Sample {
    fn default() -> Self {
        Self {
            v: VERSION,
            ts: None,
            boot: None,
            seq: None,
            first: None,
            interval_ms: None,
            cpu: None,
            memory: None,
            pressure: None,
            filesystems: Vec::new(),
            disks: Vec::new(),
            networks: Vec::new(),
            gpus: Vec::new(),
            sensors: Vec::new(),
            fans: Vec::new(),
            voltages: Vec::new(),
            power_supplies: Vec::new(),
            custom: Vec::new(),
        }
    }
}

/// A sample's place in its publisher's order.
///
/// `boot` rises at each start of the publisher, `seq` counts from 1 without gaps, and `first` is the
/// oldest sample of this boot that the outbox held when this one was sent. A publisher begins to
/// send a boot only when nothing older is left in its outbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The run of the publisher, seconds since 1970 at its start or one more than the last run's.
    pub boot: u64,
    /// The number in this run, from 1.
    pub seq: u64,
    /// The oldest number of this run that the outbox still holds; at most `seq`.
    pub first: u64,
}

/// What a sample says of itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Head {
    /// When it was taken, in milliseconds since 1970-01-01 UTC. Absent: the time of its arrival.
    pub ts: Option<u64>,
    /// The time to the next sample in milliseconds.
    pub interval_ms: Option<u32>,
    /// Its place in its publisher's order; `None` from those that keep none.
    pub place: Option<Place>,
}

impl Sample {
    /// Reads a sample as it came from the bus.
    ///
    /// # Errors
    /// The bytes break a limit of the contract, are no CBOR, or are no sample.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let sample = codec::decode_sample(bytes)?;
        sample.check()?;
        Ok(sample)
    }

    fn check(&self) -> Result<(), SampleError> {
        if self.v > VERSION {
            return Err(SampleError::Version { v: self.v });
        }
        place(self.boot, self.seq, self.first)?;
        let points = self.weight();
        if points > MAX_POINTS {
            return Err(SampleError::Points { points });
        }
        distinct(
            Filesystem::SERIES,
            self.filesystems.iter().map(|item| &item.name),
        )?;
        distinct(Disk::SERIES, self.disks.iter().map(|item| &item.name))?;
        distinct(Network::SERIES, self.networks.iter().map(|item| &item.name))?;
        distinct(Gpu::SERIES, self.gpus.iter().map(|item| &item.name))?;
        distinct(Sensor::SERIES, self.sensors.iter().map(|item| &item.name))?;
        distinct(Fan::SERIES, self.fans.iter().map(|item| &item.name))?;
        distinct(Voltage::SERIES, self.voltages.iter().map(|item| &item.name))?;
        distinct(
            PowerSupply::SERIES,
            self.power_supplies.iter().map(|item| &item.name),
        )?;
        distinct(Custom::SERIES, self.custom.iter().map(|item| &item.name))
    }

    /// The sample's place in its publisher's order; `None` from those that keep none.
    #[must_use]
    pub fn place(&self) -> Option<Place> {
        Some(Place {
            boot: self.boot?,
            seq: self.seq?,
            first: self.first?,
        })
    }

    /// What it says of itself.
    #[must_use]
    pub fn head(&self) -> Head {
        Head {
            ts: self.ts,
            interval_ms: self.interval_ms,
            place: self.place(),
        }
    }

    /// Rounds every value to what its source knows, as it is to be sent.
    pub fn round(&mut self) {
        if let Some(cpu) = &mut self.cpu {
            cpu.round();
        }
        if let Some(memory) = &mut self.memory {
            memory.round();
        }
        if let Some(pressure) = &mut self.pressure {
            pressure.round();
        }
        self.filesystems.iter_mut().for_each(Filesystem::round);
        self.disks.iter_mut().for_each(Disk::round);
        self.networks.iter_mut().for_each(Network::round);
        self.gpus.iter_mut().for_each(Gpu::round);
        self.sensors.iter_mut().for_each(Sensor::round);
        self.fans.iter_mut().for_each(Fan::round);
        self.voltages.iter_mut().for_each(Voltage::round);
        self.power_supplies.iter_mut().for_each(PowerSupply::round);
        self.custom.iter_mut().for_each(Custom::round);
    }

    /// Adds the sections of `part`, which was read of the same host at the same moment.
    pub fn append(&mut self, part: Self) {
        self.cpu = part.cpu.or(self.cpu.take());
        self.memory = part.memory.or(self.memory.take());
        self.pressure = part.pressure.or(self.pressure.take());
        self.filesystems.extend(part.filesystems);
        self.disks.extend(part.disks);
        self.networks.extend(part.networks);
        self.gpus.extend(part.gpus);
        self.sensors.extend(part.sensors);
        self.fans.extend(part.fans);
        self.voltages.extend(part.voltages);
        self.power_supplies.extend(part.power_supplies);
        self.custom.extend(part.custom);
    }

    /// Shortens its longest lists of instances by a quarter of the longest. Returns how many
    /// instances went; 0 when no list has two.
    pub fn shorten(&mut self) -> usize {
        let lengths = self.lengths();
        let longest = lengths.into_iter().max().unwrap_or(0);
        if longest < 2 {
            return 0;
        }
        let keep = longest - longest.div_ceil(4);
        self.filesystems.truncate(keep);
        self.disks.truncate(keep);
        self.networks.truncate(keep);
        self.gpus.truncate(keep);
        self.sensors.truncate(keep);
        self.fans.truncate(keep);
        self.voltages.truncate(keep);
        self.power_supplies.truncate(keep);
        self.custom.truncate(keep);
        lengths.into_iter().sum::<usize>() - self.lengths().into_iter().sum::<usize>()
    }

    fn lengths(&self) -> [usize; 9] {
        [
            self.filesystems.len(),
            self.disks.len(),
            self.networks.len(),
            self.gpus.len(),
            self.sensors.len(),
            self.fans.len(),
            self.voltages.len(),
            self.power_supplies.len(),
            self.custom.len(),
        ]
    }

    /// How many numbers the sections carry.
    #[must_use]
    pub fn points(&self) -> usize {
        let mut points = 0;
        self.for_each_series(|series| points += series.points());
        points
    }

    /// What counts against [`MAX_POINTS`]: its numbers, and each instance that has none.
    #[must_use]
    pub fn weight(&self) -> usize {
        let mut weight = 0;
        self.for_each_series(|series| {
            weight += if series.has_instances() {
                series.width()
            } else {
                let least = usize::from(series.instance().is_some());
                series.points().max(least)
            };
        });
        weight
    }

    /// Visits each series that this sample has a row for.
    pub fn for_each_series(&self, mut visit: impl FnMut(Series<'_>)) {
        macro_rules! whole {
            ($section:expr, $Section:ident) => {
                if let Some(section) = $section {
                    visit(Series::fixed(
                        $Section::SERIES,
                        None,
                        $Section::FIELDS,
                        &section.values(),
                    ));
                }
            };
        }
        macro_rules! instances {
            ($list:expr, $Section:ident) => {
                for item in $list {
                    let name = Some(item.name.as_str());
                    visit(Series::fixed(
                        $Section::SERIES,
                        name,
                        $Section::FIELDS,
                        &item.values(),
                    ));
                }
            };
        }
        macro_rules! together {
            ($list:expr, $Section:ident) => {
                if !$list.is_empty() {
                    visit(Series::instances($Section::SERIES, $list));
                }
            };
        }
        whole!(&self.cpu, Cpu);
        if let Some(cpu) = self.cpu.as_ref().filter(|cpu| !cpu.cores.is_empty()) {
            visit(Series::cores(&cpu.cores));
        }
        whole!(&self.memory, Memory);
        whole!(&self.pressure, Pressure);
        instances!(&self.filesystems, Filesystem);
        instances!(&self.disks, Disk);
        instances!(&self.networks, Network);
        instances!(&self.gpus, Gpu);
        together!(&self.sensors, Sensor);
        together!(&self.fans, Fan);
        together!(&self.voltages, Voltage);
        instances!(&self.power_supplies, PowerSupply);
        instances!(&self.custom, Custom);
    }
}

/// The place that these three say; `None`: none.
fn place(
    boot: Option<u64>,
    seq: Option<u64>,
    first: Option<u64>,
) -> Result<Option<Place>, SampleError> {
    match (boot, seq, first) {
        (None, None, None) => Ok(None),
        (Some(boot), Some(seq), Some(first)) if 1 <= first && first <= seq => {
            Ok(Some(Place { boot, seq, first }))
        }
        _ => Err(SampleError::Place),
    }
}

fn distinct<'n>(
    section: &'static str,
    mut names: impl ExactSizeIterator<Item = &'n Name> + Clone,
) -> Result<(), SampleError> {
    let place = repeated(names.clone().map(Name::as_str));
    match place.and_then(|place| names.nth(place)) {
        Some(name) => {
            let name = name.clone();
            Err(SampleError::Duplicate { section, name })
        }
        None => Ok(()),
    }
}

const FEW: usize = 16;

/// The place of the first name that stood before.
fn repeated<'n>(names: impl ExactSizeIterator<Item = &'n str>) -> Option<usize> {
    if names.len() < 2 {
        return None;
    }
    // Few names are compared faster than they are hashed.
    if names.len() <= FEW {
        let mut earlier = [""; FEW];
        for (place, name) in names.enumerate() {
            if earlier[..place].contains(&name) {
                return Some(place);
            }
            earlier[place] = name;
        }
        return None;
    }
    let mut seen = HashSet::with_capacity(names.len());
    for (place, name) in names.enumerate() {
        if !seen.insert(name) {
            return Some(place);
        }
    }
    None
}
