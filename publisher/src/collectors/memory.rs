//! Main memory and swap, from `/proc/meminfo`.

use std::fs;

use hostbus_wire::sample::Memory;

use super::{Collector, Pass, Presence};
use crate::error::CollectorError;
use crate::rates::percent;

const MEMINFO: &str = "/proc/meminfo";

/// Reads memory and swap.
pub(crate) struct Memories;

impl Collector for Memories {
    fn collect(&mut self, pass: &mut Pass) -> Result<Presence, CollectorError> {
        pass.sample.memory = Some(read()?);
        Ok(Presence::Here)
    }
}

/// The memory at this moment.
pub(crate) fn read() -> Result<Memory, CollectorError> {
    let text = fs::read_to_string(MEMINFO).map_err(|e| CollectorError::read(MEMINFO, e))?;
    parse(&text).ok_or_else(|| CollectorError::parse(MEMINFO))
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
    use super::*;

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

    #[test]
    fn this_hosts_values_are_sane() {
        let memory = read().unwrap();
        let (total, used) = (memory.total_bytes.unwrap(), memory.used_bytes.unwrap());
        assert!(used > 0 && used < total, "{memory:?}");
    }
}
