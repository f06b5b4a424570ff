//! Throughput, requests and business of whole block devices, from `/proc/diskstats`.
//!
//! Partitions are left out: only what stands in `/sys/block` counts. So are devices that never did
//! any request, such as empty card readers.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::time::{Duration, Instant};

use hostbus_wire::sample::Disk;
use procfs::{DiskStat, DiskStats, FromRead};
use serde::Deserialize;

use super::{Collector, Pass, Presence, Public};
use crate::error::CollectorError;
use crate::rates::{per_second, percent, rise, whole_per_second};
use crate::selection::{Selection, globs};

const DISKSTATS: &str = "/proc/diskstats";
const BLOCK_DEVICES: &str = "/sys/block";
/// `/proc/diskstats` counts sectors of 512 bytes, whatever the device's own sectors are.
const SECTOR_BYTES: u64 = 512;

/// The `[publisher.collectors.disks]` section.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DisksConfig {
    /// Whether to collect. Default true.
    pub enabled: bool,
    /// The time from reading to reading, 0.1 to 3600 seconds. Absent: that of the samples.
    pub interval_seconds: Option<f64>,
    /// Globs of kernel names. If given, only these are taken, whatever `exclude` says.
    pub include: Vec<String>,
    /// Globs of kernel names to leave out. Default: loop, RAM and compressed RAM devices, optical
    /// and floppy drives, the hidden paths of NVMe devices, and `dm-*`, whose traffic is counted
    /// at the disks below it already.
    pub exclude: Vec<String>,
}

impl Default for DisksConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            interval_seconds: None,
            include: Vec::new(),
            exclude: globs(["loop*", "ram*", "zram*", "sr*", "fd*", "nvme*c*n*", "dm-*"]),
        }
    }
}

impl DisksConfig {
    pub(super) fn public(&mut self) -> Public<'_> {
        Public {
            enabled: &mut self.enabled,
            interval_seconds: &mut self.interval_seconds,
            include: Some(&mut self.include),
            exclude: Some(&mut self.exclude),
        }
    }
}

/// Reads block devices.
pub(crate) struct Disks {
    selection: Selection,
    before: HashMap<String, DiskStat>,
    read_at: Option<Instant>,
}

impl Disks {
    pub(crate) fn new(config: &DisksConfig) -> Self {
        Self {
            selection: Selection::new(&config.include, &config.exclude),
            before: HashMap::new(),
            read_at: None,
        }
    }
}

impl Collector for Disks {
    fn collect(&mut self, pass: &mut Pass) -> Result<Presence, CollectorError> {
        let whole = whole_devices()?;
        let text = fs::read(DISKSTATS).map_err(|e| CollectorError::read(DISKSTATS, e))?;
        let DiskStats(stats) =
            DiskStats::from_read(&*text).map_err(|source| CollectorError::Proc {
                what: DISKSTATS,
                source,
            })?;
        let elapsed = self
            .read_at
            .map(|at| pass.now.saturating_duration_since(at));
        let mut after = HashMap::new();
        for stat in stats {
            if !whole.contains(&stat.name) || !self.selection.takes(&stat.name) || unused(&stat) {
                continue;
            }
            if let (Some(before), Some(elapsed)) = (self.before.get(&stat.name), elapsed) {
                pass.sample.disks.extend(disk(before, &stat, elapsed));
            }
            after.insert(stat.name.clone(), stat);
        }
        self.before = after;
        self.read_at = Some(pass.now);
        if self.before.is_empty() {
            return Ok(Presence::Nothing("no block device in use".to_owned()));
        }
        Ok(Presence::Here)
    }
}

/// The kernel names of whole devices. In `/sys` a `!` stands for the `/` of names such as `cciss/c0d0`.
fn whole_devices() -> Result<HashSet<String>, CollectorError> {
    let entries = match fs::read_dir(BLOCK_DEVICES) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(HashSet::new()),
        Err(error) => return Err(CollectorError::read(BLOCK_DEVICES, error)),
    };
    let names = entries
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().replace('!', "/"));
    Ok(names.collect())
}

fn unused(stat: &DiskStat) -> bool {
    stat.reads == 0 && stat.writes == 0
}

/// What a device did between two readings. `None` when its name is no name.
fn disk(before: &DiskStat, after: &DiskStat, elapsed: Duration) -> Option<Disk> {
    let mut disk = Disk::new(after.name.parse().ok()?);
    let bytes = |before: u64, after: u64| {
        whole_per_second(
            before.saturating_mul(SECTOR_BYTES),
            after.saturating_mul(SECTOR_BYTES),
            elapsed,
        )
    };
    disk.read_bytes_per_second = bytes(before.sectors_read, after.sectors_read);
    disk.write_bytes_per_second = bytes(before.sectors_written, after.sectors_written);
    disk.reads_per_second = per_second(before.reads, after.reads, elapsed);
    disk.writes_per_second = per_second(before.writes, after.writes, elapsed);
    disk.await_ms = await_ms(before, after);
    // Both of these count milliseconds.
    disk.queue = per_second(
        before.weighted_time_in_progress,
        after.weighted_time_in_progress,
        elapsed,
    )
    .map(|ms| ms / 1000.0);
    disk.busy_percent = rise(before.time_in_progress, after.time_in_progress)
        .and_then(|busy_ms| percent(busy_ms * 1000, elapsed.as_micros() as u64));
    Some(disk)
}

/// iostat's `await`: time of all finished requests by their number.
fn await_ms(before: &DiskStat, after: &DiskStat) -> Option<f64> {
    let requests = rise(before.reads, after.reads)? + rise(before.writes, after.writes)?;
    let ms = rise(before.time_reading, after.time_reading)?
        + rise(before.time_writing, after.time_writing)?;
    (requests > 0).then(|| ms as f64 / requests as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stat(line: &str) -> DiskStat {
        DiskStat::from_line(line).unwrap()
    }

    const BEFORE: &str = " 254 0 vda 1000 0 8000 500 2000 0 16000 1000 0 4000 1500";

    #[test]
    fn rates_come_from_two_readings() {
        let after = stat(" 254 0 vda 1100 0 10000 700 2100 0 36000 1200 0 6000 3500 0 0 0 0 5 9");
        let disk = disk(&stat(BEFORE), &after, Duration::from_secs(10)).unwrap();
        assert_eq!(disk.read_bytes_per_second, Some(102_400));
        assert_eq!(disk.write_bytes_per_second, Some(1_024_000));
        assert_eq!(disk.reads_per_second, Some(10.0));
        assert_eq!(disk.writes_per_second, Some(10.0));
        assert_eq!(disk.await_ms, Some(2.0));
        assert_eq!(disk.busy_percent, Some(20.0));
        assert_eq!(disk.queue, Some(0.2));
    }

    #[test]
    fn a_counter_that_wrapped_is_absent_and_the_others_stay() {
        let after = stat(" 254 0 vda 1100 0 10000 700 2100 0 36000 1200 0 3 3500");
        let disk = disk(&stat(BEFORE), &after, Duration::from_secs(10)).unwrap();
        assert_eq!(disk.busy_percent, None);
        assert_eq!(disk.reads_per_second, Some(10.0));
    }

    #[test]
    fn an_idle_device_has_no_average_wait() {
        let disk = disk(&stat(BEFORE), &stat(BEFORE), Duration::from_secs(10)).unwrap();
        assert_eq!(disk.await_ms, None);
        assert_eq!(disk.busy_percent, Some(0.0));
    }

    #[test]
    fn the_default_leaves_virtual_devices_out() {
        let config = DisksConfig::default();
        let selection = Selection::new(&config.include, &config.exclude);
        for (name, taken) in [
            ("sda", true),
            ("nvme0n1", true),
            ("md0", true),
            ("dm-0", false),
            ("loop3", false),
        ] {
            assert_eq!(selection.takes(name), taken, "{name}");
        }
    }

    #[test]
    fn this_hosts_values_are_sane() {
        let sample = super::super::tests::collect_twice(&mut Disks::new(&DisksConfig::default()));
        for disk in &sample.disks {
            assert!(
                (0.0..=100.0).contains(&disk.busy_percent.unwrap()),
                "{disk:?}"
            );
        }
    }
}
