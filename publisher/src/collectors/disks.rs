//! Throughput, requests and business of whole block devices, from `/proc/diskstats`.
//!
//! Partitions are left out: only what stands in `/sys/block` counts. So are devices that never did
//! any request, such as empty card readers. The meaning of the counters is that of the kernel's
//! `Documentation/admin-guide/iostats.rst`, and that of the rates is iostat's.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io::ErrorKind;
use std::path::Path;
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
    /// and floppy drives, the hidden paths of NVMe devices, the boot areas of memory chips, and
    /// `dm-*` and `zd*`, whose traffic is counted at the disks below them already.
    pub exclude: Vec<String>,
}

impl Default for DisksConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            interval_seconds: None,
            include: Vec::new(),
            exclude: globs([
                "loop*",
                "ram*",
                "zram*",
                "sr*",
                "fd*",
                "nvme*c*n*",
                "mmcblk*boot*",
                "mmcblk*rpmb",
                "dm-*",
                "zd*",
            ]),
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
    whole: WholeDevices,
    before: HashMap<String, DiskStat>,
    read_at: Option<Instant>,
}

impl Disks {
    pub(crate) fn new(config: &DisksConfig) -> Self {
        Self {
            selection: Selection::new(&config.include, &config.exclude),
            whole: WholeDevices::default(),
            before: HashMap::new(),
            read_at: None,
        }
    }

    /// Takes the devices of one reading.
    fn read(&mut self, mut stats: Vec<DiskStat>, pass: &mut Pass) {
        add_hidden_paths(&mut stats);
        let read_at = self.read_at.replace(pass.now);
        let elapsed = read_at.map(|at| pass.now.saturating_duration_since(at));
        let mut after = HashMap::new();
        for stat in stats {
            if !self.whole.names.contains(&stat.name)
                || !self.selection.takes(&stat.name)
                || unused(&stat)
            {
                continue;
            }
            if let (Some(before), Some(elapsed)) = (self.before.get(&stat.name), elapsed) {
                pass.sample.disks.extend(disk(before, &stat, elapsed));
            }
            after.insert(stat.name.clone(), stat);
        }
        self.before = after;
    }
}

impl Collector for Disks {
    fn collect(&mut self, pass: &mut Pass) -> Result<Presence, CollectorError> {
        let text = fs::read(DISKSTATS).map_err(|e| CollectorError::read(DISKSTATS, e))?;
        let DiskStats(stats) =
            DiskStats::from_read(&*text).map_err(|source| CollectorError::Proc {
                what: DISKSTATS,
                source,
            })?;
        self.whole.refresh(&stats, Path::new(BLOCK_DEVICES))?;
        self.read(stats, pass);
        if self.before.is_empty() {
            return Ok(Presence::Nothing("no block device in use".to_owned()));
        }
        Ok(Presence::Here)
    }
}

/// Which devices are whole ones. Looked up again when a device comes or goes.
#[derive(Debug, Default)]
struct WholeDevices {
    names: HashSet<String>,
    /// All devices of which that was found out.
    of: Vec<String>,
}

impl WholeDevices {
    fn refresh(&mut self, stats: &[DiskStat], folder: &Path) -> Result<(), CollectorError> {
        if stats.iter().map(|stat| &stat.name).eq(&self.of) {
            return Ok(());
        }
        self.names = match fs::read_dir(folder) {
            Ok(entries) => entries
                .flatten()
                // A `!` stands for the `/` of names such as `cciss/c0d0`.
                .map(|entry| entry.file_name().to_string_lossy().replace('!', "/"))
                .collect(),
            Err(error) if error.kind() == ErrorKind::NotFound => HashSet::new(),
            Err(error) => return Err(CollectorError::read(folder, error)),
        };
        self.of = stats.iter().map(|stat| stat.name.clone()).collect();
        Ok(())
    }
}

/// Before Linux 6.3 an NVMe device that can be reached on several paths counts nothing itself, only
/// its hidden paths do: `nvme0c1n2` is one of `nvme0n2`.
fn add_hidden_paths(stats: &mut [DiskStat]) {
    let mut paths: HashMap<String, Vec<usize>> = HashMap::new();
    for (index, stat) in stats.iter().enumerate() {
        if let Some(device) = device_of_path(&stat.name) {
            paths.entry(device).or_default().push(index);
        }
    }
    for (device, paths) in paths {
        let head = stats.iter().position(|stat| stat.name == device);
        let Some(head) = head.filter(|head| unused(&stats[*head])) else {
            continue;
        };
        for path in paths {
            let path = stats[path].clone();
            let head = &mut stats[head];
            for (sum, part) in [
                (&mut head.reads, path.reads),
                (&mut head.writes, path.writes),
                (&mut head.sectors_read, path.sectors_read),
                (&mut head.sectors_written, path.sectors_written),
                (&mut head.time_reading, path.time_reading),
                (&mut head.time_writing, path.time_writing),
                (&mut head.time_in_progress, path.time_in_progress),
                (
                    &mut head.weighted_time_in_progress,
                    path.weighted_time_in_progress,
                ),
            ] {
                *sum = sum.saturating_add(part);
            }
        }
    }
}

/// `nvme0n2` for its hidden path `nvme0c1n2`. `None` for all other names.
fn device_of_path(name: &str) -> Option<String> {
    let (controller, rest) = name.strip_prefix("nvme")?.split_once('c')?;
    let (path, namespace) = rest.split_once('n')?;
    let numbers = [controller, path, namespace];
    let all = numbers
        .iter()
        .all(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()));
    all.then(|| format!("nvme{controller}n{namespace}"))
}

fn unused(stat: &DiskStat) -> bool {
    stat.reads == 0 && stat.writes == 0
}

/// What a device did between two readings. `None` when it is not the same one, for its requests
/// are counted anew, or its name is no name.
fn disk(before: &DiskStat, after: &DiskStat, elapsed: Duration) -> Option<Disk> {
    rise(before.reads, after.reads).and(rise(before.writes, after.writes))?;
    let mut disk = Disk::new(after.name.parse().ok()?);
    let bytes = |before: u64, after: u64| {
        whole_per_second(
            0,
            round(before, after)?.saturating_mul(SECTOR_BYTES),
            elapsed,
        )
    };
    disk.read_bytes_per_second = bytes(before.sectors_read, after.sectors_read);
    disk.write_bytes_per_second = bytes(before.sectors_written, after.sectors_written);
    disk.reads_per_second = per_second(before.reads, after.reads, elapsed);
    disk.writes_per_second = per_second(before.writes, after.writes, elapsed);
    disk.await_ms = await_ms(before, after);
    let waited_ms = round(
        before.weighted_time_in_progress,
        after.weighted_time_in_progress,
    );
    let queue = |waited_ms: u64| per_second(0, waited_ms, elapsed).map(|ms| ms / 1000.0);
    disk.queue = waited_ms.and_then(queue);
    disk.busy_percent = round(before.time_in_progress, after.time_in_progress)
        .and_then(|busy_ms| percent(busy_ms.saturating_mul(1000), elapsed.as_micros() as u64));
    Some(disk)
}

/// The rise of a counter that may have gone round: those of milliseconds do after 50 busy days, and
/// on small machines all do. Who fell by little has not gone round.
fn round(before: u64, after: u64) -> Option<u64> {
    let all = u64::from(u32::MAX) + 1;
    rise(before, after).or_else(|| {
        let risen = all.checked_sub(before)?.checked_add(after)?;
        (risen < all / 2).then_some(risen)
    })
}

/// iostat's `await`: time of all reads and writes that finished by their number.
fn await_ms(before: &DiskStat, after: &DiskStat) -> Option<f64> {
    let requests = rise(before.reads, after.reads)? + rise(before.writes, after.writes)?;
    let ms = round(before.time_reading, after.time_reading)?
        + round(before.time_writing, after.time_writing)?;
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
    fn a_counter_that_went_round_keeps_its_rate_and_one_that_fell_has_none() {
        let before = stat(" 254 0 vda 1000 0 4294967290 500 2000 0 16000 1000 0 4294966296 1500");
        let after = stat(" 254 0 vda 1100 0 4 700 2100 0 36000 1200 0 1000 1400");
        let disk = disk(&before, &after, Duration::from_secs(10)).unwrap();
        assert_eq!(disk.busy_percent, Some(20.0));
        assert_eq!(disk.read_bytes_per_second, Some(512));
        assert_eq!(disk.queue, None);
        assert_eq!(disk.reads_per_second, Some(10.0));
    }

    /// Passes over these readings, 10 seconds apart. Returns the disks of each.
    fn passes(readings: &[&str]) -> Vec<Vec<Disk>> {
        let mut disks = Disks::new(&DisksConfig::default());
        let start = Instant::now();
        let names = ["sda", "sdb", "nvme0n1"].map(str::to_owned);
        disks.whole.names = HashSet::from(names);
        let pass = |(number, lines): (u32, &&str)| {
            let mut pass = Pass::at(start + Duration::from_secs(10) * number, 0);
            disks.read(lines.lines().map(stat).collect(), &mut pass);
            pass.sample.disks
        };
        (0..).zip(readings).map(pass).collect()
    }

    #[test]
    fn a_disk_that_goes_and_another_one_that_comes_in_its_place_have_no_rate() {
        let (one, other) = (
            " 8 0 sda 1000 0 8000 500 2000 0 16000 1000 0 4000 1500",
            " 8 0 sda 5 0 90000 500 7 0 90000 1000 0 4000 1500",
        );
        let known: Vec<usize> = passes(&[one, one, other, other, "", other, other])
            .iter()
            .map(Vec::len)
            .collect();
        assert_eq!(known, [0, 1, 0, 1, 0, 0, 1]);
    }

    #[test]
    fn partitions_are_no_disks() {
        let lines = " 8 16 sdb 1 0 8 1 1 0 8 1 0 1 1\n 8 17 sdb1 1 0 8 1 1 0 8 1 0 1 1\n";
        let found = passes(&[lines, lines]);
        assert_eq!(found[1].len(), 1);
        assert_eq!(found[1][0].name.as_str(), "sdb");
    }

    #[test]
    fn an_nvme_device_on_several_paths_is_one_disk() {
        let path = |name: &str, reads: u64| {
            format!(" 259 1 {name} {reads} 0 {} 50 0 0 0 0 0 40 50\n", reads * 8)
        };
        // An old kernel: the device itself counts nothing.
        let reading = |reads: u64| {
            let head = path("nvme0n1", 0);
            head + &path("nvme0c0n1", reads) + &path("nvme0c1n1", reads)
        };
        let found = passes(&[&reading(100), &reading(200)]);
        assert_eq!(found[1].len(), 1);
        assert_eq!(found[1][0].name.as_str(), "nvme0n1");
        assert_eq!(found[1][0].reads_per_second, Some(20.0));
        // A newer one counts both.
        let reading = |reads: u64| path("nvme0n1", reads * 2) + &path("nvme0c0n1", reads);
        let found = passes(&[&reading(100), &reading(200)]);
        assert_eq!(found[1][0].reads_per_second, Some(20.0));
        for (name, device) in [
            ("nvme0c1n2", Some("nvme0n2")),
            ("nvme10c0n1", Some("nvme10n1")),
            ("nvme0n1", None),
            ("nvmec0n1", None),
            ("sdc1n2", None),
        ] {
            assert_eq!(device_of_path(name).as_deref(), device, "{name}");
        }
    }

    #[test]
    fn whole_devices_are_looked_up_when_a_device_comes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        let mut whole = WholeDevices::default();
        let lines = [
            " 8 0 sda 1 0 8 1 1 0 8 1 0 1 1",
            " 104 0 cciss/c0d0 1 0 8 1 1 0 8 1 0 1 1",
        ];
        let stats = lines.map(stat);
        fs::create_dir(path.join("sda")).unwrap();
        whole.refresh(&stats[..1], path).unwrap();
        fs::create_dir(path.join("cciss!c0d0")).unwrap();
        whole.refresh(&stats[..1], path).unwrap();
        assert_eq!(whole.names.len(), 1);
        whole.refresh(&stats, path).unwrap();
        assert!(whole.names.contains("cciss/c0d0"));
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
            ("zram0", false),
            ("zd16", false),
            ("mmcblk0", true),
            ("mmcblk0boot0", false),
            ("nvme0c0n1", false),
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
