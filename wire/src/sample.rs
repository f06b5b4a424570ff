//! `metrics`: one sample of one host, its sections, and the series they become.
//!
//! ```text
//! {"v": 1, "ts": 1763630000123, "boot": 1763600000, "seq": 42, "first": 42, "interval_ms": 10000,
//!  "cpu": {...}, "memory": {...}, "filesystems": [{"name": "/", ...}], "disks": [...],
//!  "networks": [...], "gpus": [...], "sensors": [...], "custom": [...]}
//! ```
//! The node stands in the topic only. Instances stand in lists, their names are values. Each
//! section or instance becomes one series: `cpu`, `filesystem:/`, `gpu:0`; the list of cores
//! becomes the series `cores` with a field a core.

use std::borrow::Cow;
use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use crate::codec::{self, DecodeError};
use crate::field::{Field, FieldKind, Unit};
use crate::ids::Name;
use crate::number::Value;
use crate::section::section;

/// The version this code writes. A reader refuses a higher one.
pub const VERSION: u32 = 1;

/// The most numbers that a sample may carry in its sections.
pub const MAX_POINTS: usize = 4096;

section! {
    /// Processor time, load and frequency of the whole host.
    pub struct Cpu as "cpu" {
        list {
            /// Busy time of each logical core in percent, by core number.
            cores
        }
        fields {
            usage_percent: f64, Percent, Rate, 2, "busy time of all cores: all but idle and iowait";
            user_percent: f64, Percent, Rate, 2, "time in user mode, niced and guest time included";
            system_percent: f64, Percent, Rate, 2, "time in the kernel, interrupts included";
            iowait_percent: f64, Percent, Rate, 2, "idle time while a disk request was pending";
            irq_percent: f64, Percent, Rate, 2, "time in hard and soft interrupts";
            steal_percent: f64, Percent, Rate, 2, "time that the hypervisor gave to other guests";
            load1: f64, None, Gauge, 2, "runnable and blocked tasks, averaged over 1 minute";
            load5: f64, None, Gauge, 2, "runnable and blocked tasks, averaged over 5 minutes";
            load15: f64, None, Gauge, 2, "runnable and blocked tasks, averaged over 15 minutes";
            frequency_mhz: f64, Megahertz, Gauge, 0, "current frequency, average of all cores";
        }
    }
}

section! {
    /// Main memory and swap.
    pub struct Memory as "memory" {
        fields {
            total_bytes: u64, Bytes, State, 0, "main memory that the system can use";
            used_bytes: u64, Bytes, Gauge, 0, "total less available";
            available_bytes: u64, Bytes, Gauge, 0, "what can be had without swapping";
            used_percent: f64, Percent, Gauge, 2, "used of total";
            cached_bytes: u64, Bytes, Gauge, 0, "page cache and reclaimable kernel memory";
            buffers_bytes: u64, Bytes, Gauge, 0, "block device buffers";
            swap_total_bytes: u64, Bytes, State, 0, "swap space";
            swap_used_bytes: u64, Bytes, Gauge, 0, "swap space in use";
        }
    }
}

impl Default for Cpu {
    fn default() -> Self {
        Self::new()
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}

section! {
    /// One mounted filesystem.
    pub struct Filesystem as "filesystem" {
        labels {
            /// Where it is mounted.
            name: Name,
            /// What is mounted there, `/dev/vda1`.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            device: Option<Name>,
            /// Its type, `ext4`.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            kind: Option<Name>,
        }
        fields {
            total_bytes: u64, Bytes, State, 0, "its size";
            used_bytes: u64, Bytes, Gauge, 0, "space in use";
            available_bytes: u64, Bytes, Gauge, 0, "space that an ordinary user can still fill";
            used_percent: f64, Percent, Gauge, 2, "used of used and available, as df shows it";
            inodes_used_percent: f64, Percent, Gauge, 2, "inodes in use";
        }
    }
}

section! {
    /// One block device.
    pub struct Disk as "disk" {
        labels {
            /// Its kernel name, `vda`.
            name: Name,
        }
        fields {
            read_bytes_per_second: u64, BytesPerSecond, Rate, 0, "read from the device";
            write_bytes_per_second: u64, BytesPerSecond, Rate, 0, "written to the device";
            reads_per_second: f64, PerSecond, Rate, 2, "read requests completed";
            writes_per_second: f64, PerSecond, Rate, 2, "write requests completed";
            busy_percent: f64, Percent, Rate, 2, "time with at least one request in flight";
            await_ms: f64, Milliseconds, Rate, 3, "average time from request to completion, absent without requests";
            queue: f64, Count, Rate, 3, "average number of requests in flight";
        }
    }
}

section! {
    /// One network interface.
    pub struct Network as "network" {
        labels {
            /// Its name, `eth0`.
            name: Name,
        }
        fields {
            rx_bytes_per_second: u64, BytesPerSecond, Rate, 0, "received";
            tx_bytes_per_second: u64, BytesPerSecond, Rate, 0, "sent";
            rx_packets_per_second: f64, PerSecond, Rate, 2, "packets received";
            tx_packets_per_second: f64, PerSecond, Rate, 2, "packets sent";
            rx_errors_per_second: f64, PerSecond, Rate, 2, "receive errors";
            tx_errors_per_second: f64, PerSecond, Rate, 2, "send errors";
            rx_drops_per_second: f64, PerSecond, Rate, 2, "received packets dropped";
            tx_drops_per_second: f64, PerSecond, Rate, 2, "packets dropped before they were sent";
        }
    }
}

section! {
    /// One graphics processor.
    pub struct Gpu as "gpu" {
        labels {
            /// Its index, `0`.
            name: Name,
            /// Its model.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            model: Option<Name>,
        }
        fields {
            usage_percent: f64, Percent, Rate, 0, "time with at least one kernel running";
            memory_total_bytes: u64, Bytes, State, 0, "its memory";
            memory_used_bytes: u64, Bytes, Gauge, 0, "memory in use";
            memory_used_percent: f64, Percent, Gauge, 2, "memory used of total";
            temperature_celsius: f64, Celsius, Gauge, 0, "temperature of the chip";
            power_watts: f64, Watts, Gauge, 2, "power drawn by the board";
            power_limit_watts: f64, Watts, State, 2, "power that the board may draw";
            fan_percent: f64, Percent, Gauge, 0, "fan speed; absent without a fan";
            clock_mhz: f64, Megahertz, Gauge, 0, "clock of the streaming processors";
            memory_clock_mhz: f64, Megahertz, Gauge, 0, "clock of the memory";
        }
    }
}

section! {
    /// One temperature sensor.
    pub struct Sensor as "sensor" {
        labels {
            /// Chip and label, `coretemp/package-id-0`.
            name: Name,
        }
        fields {
            celsius: f64, Celsius, Gauge, 1, "temperature";
        }
    }
}

section! {
    /// One value of somebody's own.
    pub struct Custom as "custom" {
        labels {
            /// What it is.
            name: Name,
        }
        fields {
            value: f64, None, Gauge, 6, "whatever its publisher means";
        }
    }
}

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
            filesystems: Vec::new(),
            disks: Vec::new(),
            networks: Vec::new(),
            gpus: Vec::new(),
            sensors: Vec::new(),
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

/// Why a well-formed sample can't be taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SampleError {
    /// Its version is newer than this reader.
    #[error("version {v} is newer than this reader, which knows {VERSION}")]
    Version {
        /// The version it carries.
        v: u32,
    },
    /// `boot`, `seq` and `first` don't stand together.
    #[error("`boot`, `seq` and `first` must all be there with 1 <= first <= seq, or none of them")]
    Place,
    /// It carries more than [`MAX_POINTS`] numbers.
    #[error("{points} points are more than {MAX_POINTS}")]
    Points {
        /// How many it carries.
        points: usize,
    },
    /// An instance stands twice in its section.
    #[error("the {section} `{name}` stands there twice")]
    Duplicate {
        /// The section's series name.
        section: &'static str,
        /// The instance.
        name: Name,
    },
}

impl Sample {
    /// Reads a sample as it came from the bus.
    ///
    /// # Errors
    /// The bytes break a limit of the contract, are no CBOR, or are no sample.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let sample: Self = codec::decode(bytes)?;
        sample.check()?;
        Ok(sample)
    }

    fn check(&self) -> Result<(), SampleError> {
        if self.v > VERSION {
            return Err(SampleError::Version { v: self.v });
        }
        match (self.boot, self.seq, self.first) {
            (None, None, None) => {}
            (Some(_), Some(seq), Some(first)) if 1 <= first && first <= seq => {}
            _ => return Err(SampleError::Place),
        }
        let points = self.points();
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

    /// Rounds every value to what its source knows, as it is to be sent.
    pub fn round(&mut self) {
        if let Some(cpu) = &mut self.cpu {
            cpu.round();
        }
        if let Some(memory) = &mut self.memory {
            memory.round();
        }
        self.filesystems.iter_mut().for_each(Filesystem::round);
        self.disks.iter_mut().for_each(Disk::round);
        self.networks.iter_mut().for_each(Network::round);
        self.gpus.iter_mut().for_each(Gpu::round);
        self.sensors.iter_mut().for_each(Sensor::round);
        self.custom.iter_mut().for_each(Custom::round);
    }

    /// How many numbers the sections carry.
    #[must_use]
    pub fn points(&self) -> usize {
        let mut points = 0;
        self.for_each_series(|series| points += series.points());
        points
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
        whole!(&self.cpu, Cpu);
        if let Some(cpu) = self.cpu.as_ref().filter(|cpu| !cpu.cores.is_empty()) {
            visit(Series {
                section: CORES,
                instance: None,
                row: Row::Cores(&cpu.cores),
            });
        }
        whole!(&self.memory, Memory);
        instances!(&self.filesystems, Filesystem);
        instances!(&self.disks, Disk);
        instances!(&self.networks, Network);
        instances!(&self.gpus, Gpu);
        instances!(&self.sensors, Sensor);
        instances!(&self.custom, Custom);
    }
}

fn distinct<'n>(
    section: &'static str,
    names: impl ExactSizeIterator<Item = &'n Name>,
) -> Result<(), SampleError> {
    if names.len() < 2 {
        return Ok(());
    }
    let mut seen = HashSet::with_capacity(names.len());
    for name in names {
        if !seen.insert(name) {
            return Err(SampleError::Duplicate {
                section,
                name: name.clone(),
            });
        }
    }
    Ok(())
}

/// The name of the series of single cores.
pub const CORES: &str = "cores";

/// The field description that all single cores share; a core's field name is its number.
pub const CORE_FIELD: Field = Field {
    name: "<core>",
    unit: Unit::Percent,
    kind: FieldKind::Rate,
    decimals: 2,
    meaning: "busy time of one logical core",
};

/// One row of one series.
#[derive(Debug, Clone, Copy)]
pub struct Series<'s> {
    section: &'static str,
    instance: Option<&'s str>,
    row: Row<'s>,
}

#[derive(Debug, Clone, Copy)]
enum Row<'s> {
    Fixed(&'static [Field], &'s [Option<Value>]),
    Cores(&'s [f64]),
}

impl<'s> Series<'s> {
    fn fixed(
        section: &'static str,
        instance: Option<&'s str>,
        fields: &'static [Field],
        values: &'s [Option<Value>],
    ) -> Self {
        Self {
            section,
            instance,
            row: Row::Fixed(fields, values),
        }
    }

    /// The series' name: `cpu`, `filesystem:/`, `gpu:0`.
    #[must_use]
    pub fn name(&self) -> Cow<'s, str> {
        match self.instance {
            None => Cow::Borrowed(self.section),
            Some(instance) => Cow::Owned(format!("{}:{instance}", self.section)),
        }
    }

    /// The section part of the name.
    #[must_use]
    pub fn section(&self) -> &'static str {
        self.section
    }

    /// The instance part of the name.
    #[must_use]
    pub fn instance(&self) -> Option<&'s str> {
        self.instance
    }

    /// How many values are known.
    #[must_use]
    pub fn points(&self) -> usize {
        match self.row {
            Row::Fixed(_, values) => values.iter().flatten().count(),
            Row::Cores(cores) => cores.len(),
        }
    }

    /// How many fields the row has, unknown ones included.
    #[must_use]
    pub fn width(&self) -> usize {
        match self.row {
            Row::Fixed(fields, _) => fields.len(),
            Row::Cores(cores) => cores.len(),
        }
    }

    /// Visits every field in its fixed order; `None` is unknown.
    pub fn for_each_field(&self, mut visit: impl FnMut(&str, Option<Value>)) {
        match self.row {
            Row::Fixed(fields, values) => {
                for (field, value) in fields.iter().zip(values) {
                    visit(field.name, *value);
                }
            }
            Row::Cores(cores) => {
                for (number, usage) in cores.iter().enumerate() {
                    visit(&number.to_string(), Some(Value::Float(*usage)));
                }
            }
        }
    }
}

/// Every field of the contract with the section it belongs to, in a fixed order.
#[must_use]
pub fn all_fields() -> Vec<(&'static str, &'static Field)> {
    const SECTIONS: [(&str, &[Field]); 9] = [
        (Cpu::SERIES, Cpu::FIELDS),
        (CORES, &[CORE_FIELD]),
        (Memory::SERIES, Memory::FIELDS),
        (Filesystem::SERIES, Filesystem::FIELDS),
        (Disk::SERIES, Disk::FIELDS),
        (Network::SERIES, Network::FIELDS),
        (Gpu::SERIES, Gpu::FIELDS),
        (Sensor::SERIES, Sensor::FIELDS),
        (Custom::SERIES, Custom::FIELDS),
    ];
    SECTIONS
        .iter()
        .flat_map(|(section, fields)| fields.iter().map(move |field| (*section, field)))
        .collect()
}
