//! Main memory and swap, from `/proc/meminfo`; major faults and processes killed for want of memory,
//! from `/proc/vmstat` (`Documentation/filesystems/proc.rst`).
//!
//! Both tell of the whole host, in a container too: the limit of a container stands in neither,
//! unless something such as lxcfs puts files of its own there.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Instant;

use hostbus_wire::sample::Memory;

use super::{Collector, Pass, Presence};
use crate::error::CollectorError;
use crate::events;
use crate::rates::{per_second, percent, rise};

const MEMINFO: &str = "proc/meminfo";
const VMSTAT: &str = "proc/vmstat";
/// More than the events of any kernel take today, so that the text is read at one go.
const VMSTAT_BYTES: usize = 8192;

/// Reads memory and swap.
pub(crate) struct Memories {
    root: PathBuf,
    before: Option<(Instant, VmStat)>,
}

impl Memories {
    pub(crate) fn new() -> Self {
        Self::below(Path::new("/"))
    }

    fn below(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            before: None,
        }
    }
}

impl Collector for Memories {
    fn collect(&mut self, pass: &mut Pass) -> Result<Presence, CollectorError> {
        let mut memory = read_below(&self.root)?;
        // Some containers hide it; memory is worth telling without.
        if let Some(after) = VmStat::read(&self.root.join(VMSTAT)) {
            memory.oom_kills = after.oom_kills;
            if let Some((at, before)) = self.before.replace((pass.now, after)) {
                let elapsed = pass.now.saturating_duration_since(at);
                let faults = before.major_faults.zip(after.major_faults);
                memory.major_faults_per_second =
                    faults.and_then(|(before, after)| per_second(before, after, elapsed));
                let kills = before.oom_kills.zip(after.oom_kills);
                if let Some(killed @ 1..) = kills.and_then(|(before, after)| rise(before, after)) {
                    pass.events.push(events::oom_kill(pass.ts, killed));
                }
            }
        }
        pass.sample.memory = Some(memory);
        Ok(Presence::Here)
    }
}

/// The memory at this moment.
pub(crate) fn read() -> Result<Memory, CollectorError> {
    read_below(Path::new("/"))
}

fn read_below(root: &Path) -> Result<Memory, CollectorError> {
    let path = root.join(MEMINFO);
    let text = fs::read_to_string(&path).map_err(|e| CollectorError::read(&path, e))?;
    parse(&text).ok_or_else(|| CollectorError::parse(&path))
}

/// What `/proc/vmstat` counts since the start of the host.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct VmStat {
    major_faults: Option<u64>,
    /// Absent before Linux 4.13.
    oom_kills: Option<u64>,
}

impl VmStat {
    fn read(path: &Path) -> Option<Self> {
        let mut text = String::with_capacity(VMSTAT_BYTES);
        File::open(path).ok()?.read_to_string(&mut text).ok()?;
        Some(Self::parse(&text))
    }

    /// Reads `key 123` lines.
    fn parse(text: &str) -> Self {
        let mut stat = Self::default();
        for line in text.lines() {
            if let Some(count) = line.strip_prefix("pgmajfault ") {
                stat.major_faults = count.trim().parse().ok();
            } else if let Some(count) = line.strip_prefix("oom_kill ") {
                stat.oom_kills = count.trim().parse().ok();
            }
        }
        stat
    }
}

/// Reads `Key:   123 kB` lines. `None` when there is not even a total.
fn parse(text: &str) -> Option<Memory> {
    let mut memory = Memory::new();
    let (mut cached, mut reclaimable, mut swap_free) = (None, None, None);
    for line in text.lines() {
        let Some((key, value)) = line.split_once(':') else {
            continue;
        };
        let slot = match key {
            "MemTotal" => &mut memory.total_bytes,
            "MemAvailable" => &mut memory.available_bytes,
            "Buffers" => &mut memory.buffers_bytes,
            "SwapTotal" => &mut memory.swap_total_bytes,
            "Cached" => &mut cached,
            "SReclaimable" => &mut reclaimable,
            "SwapFree" => &mut swap_free,
            _ => continue,
        };
        *slot = kibibytes(value);
    }
    let total = memory.total_bytes?;
    memory.cached_bytes = cached.map(|cached| cached.saturating_add(reclaimable.unwrap_or(0)));
    // Containers may show more available than there is in total for a moment.
    memory.used_bytes = memory
        .available_bytes
        .map(|available| total.saturating_sub(available));
    memory.used_percent = memory.used_bytes.and_then(|used| percent(used, total));
    memory.swap_used_bytes = memory
        .swap_total_bytes
        .zip(swap_free)
        .map(|(total, free)| total.saturating_sub(free));
    Some(memory)
}

fn kibibytes(value: &str) -> Option<u64> {
    value
        .trim()
        .strip_suffix("kB")?
        .trim_end()
        .parse::<u64>()
        .ok()?
        .checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::collectors::machines::Machine;
    use crate::collectors::tests::collect_once;

    const LAPTOP: &str = "\
MemTotal:       16000000 kB
MemFree:          500000 kB
MemAvailable:   12000000 kB
Buffers:          200000 kB
Cached:          9000000 kB
SwapCached:            0 kB
SwapTotal:       2000000 kB
SwapFree:        1500000 kB
SReclaimable:     400000 kB
HugePages_Total:       0
";

    #[test]
    fn used_is_what_is_not_available() {
        let memory = parse(LAPTOP).unwrap();
        assert_eq!(memory.total_bytes, Some(16_000_000 * 1024));
        assert_eq!(memory.used_bytes, Some(4_000_000 * 1024));
        assert_eq!(memory.used_percent, Some(25.0));
        assert_eq!(memory.cached_bytes, Some(9_400_000 * 1024));
        assert_eq!(memory.swap_used_bytes, Some(500_000 * 1024));
    }

    #[test]
    fn what_a_kernel_does_not_tell_is_absent() {
        let memory = parse("MemTotal: 1000 kB\nMemFree: 10 kB\n").unwrap();
        assert_eq!(memory.total_bytes, Some(1_024_000));
        assert_eq!(memory.used_bytes, None);
        assert_eq!(memory.cached_bytes, None);
        assert_eq!(memory.swap_used_bytes, None);
    }

    #[test]
    fn odd_numbers_never_underflow() {
        let text = "MemTotal: 10 kB\nMemAvailable: 20 kB\nSwapTotal: 0 kB\nSwapFree: 8 kB\n";
        let memory = parse(text).unwrap();
        assert_eq!(memory.used_bytes, Some(0));
        assert_eq!(memory.swap_used_bytes, Some(0));
        assert_eq!(parse("MemTotal: lots kB\n"), None);
        assert_eq!(parse(""), None);
    }

    fn turn(memories: &mut Memories, now: Instant) -> Pass {
        let (pass, outcome) = collect_once(memories, now);
        assert_eq!(outcome.unwrap(), Presence::Here);
        pass
    }

    #[test]
    fn faults_have_a_rate_and_kills_are_told_once_and_never_at_the_first_reading() {
        let machine = Machine::new();
        machine.write("proc/meminfo", LAPTOP);
        let counts = |faults: u64, kills: u64| {
            let text = format!(
                "pgfault 987654\npgmajfault {faults}\noom_kill {kills}\noom_kill_disable 7\n"
            );
            machine.write("proc/vmstat", &text);
        };
        let mut memories = Memories::below(machine.root());
        let start = Instant::now();
        let second = Duration::from_secs(1);

        counts(500, 3);
        let first = turn(&mut memories, start);
        let memory = first.sample.memory.unwrap();
        assert_eq!(memory.major_faults_per_second, None);
        assert_eq!((memory.oom_kills, first.events), (Some(3), vec![]));

        counts(600, 5);
        let next = turn(&mut memories, start + second * 10);
        let memory = next.sample.memory.unwrap();
        assert_eq!(memory.major_faults_per_second, Some(10.0));
        assert_eq!(memory.oom_kills, Some(5));
        assert_eq!(next.events, [events::oom_kill(next.ts, 2)]);

        assert_eq!(turn(&mut memories, start + second * 20).events, []);
    }

    #[test]
    fn a_host_that_hides_its_counters_still_has_memory() {
        let machine = Machine::new();
        machine.write("proc/meminfo", LAPTOP);
        let mut memories = Memories::below(machine.root());
        let start = Instant::now();
        let pass = turn(&mut memories, start);
        let memory = pass.sample.memory.unwrap();
        assert_eq!(memory.used_percent, Some(25.0));
        assert_eq!(memory.oom_kills, None);

        machine.write("proc/vmstat", "pgmajfault 5\noom_kill 3\n");
        let later = turn(&mut memories, start + Duration::from_secs(1));
        assert_eq!(later.events, [], "there is nothing to compare with");
    }

    #[test]
    fn this_hosts_values_are_sane() {
        let memory = read().unwrap();
        let (total, used) = (memory.total_bytes.unwrap(), memory.used_bytes.unwrap());
        assert!(used > 0 && used < total, "{memory:?}");
    }
}
