//! What the process takes, as the system counts it. In `hostbus up` that is the whole site.

use procfs::WithCurrentSystemInfo;
use procfs::process::{LimitValue, Process};

/// The process now.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Usage {
    /// Memory in RAM, mapped files included.
    pub(crate) resident_bytes: u64,
    /// Memory in RAM that no file stands behind: heap and stacks.
    pub(crate) anonymous_bytes: u64,
    pub(crate) cpu_seconds: f64,
    pub(crate) open_files: u64,
    /// How many files may be open; `None` for no limit.
    pub(crate) most_open_files: Option<u64>,
    /// When it started, in seconds since 1970-01-01 UTC.
    pub(crate) started_seconds: f64,
}

/// What this process takes; `None` where `/proc` does not tell.
pub(crate) fn usage() -> Option<Usage> {
    let process = Process::myself().ok()?;
    let status = process.status().ok()?;
    let stat = process.stat().ok()?;
    let ticks = procfs::ticks_per_second();
    let open = process.limits().ok()?.max_open_files.soft_limit;
    #[expect(
        clippy::cast_precision_loss,
        reason = "seconds and ticks stay far below 2^52"
    )]
    Some(Usage {
        resident_bytes: stat.rss_bytes().get(),
        anonymous_bytes: status.rssanon? * 1_024,
        cpu_seconds: (stat.utime + stat.stime) as f64 / ticks as f64,
        open_files: process.fd_count().ok()? as u64,
        most_open_files: match open {
            LimitValue::Value(most) => Some(most),
            LimitValue::Unlimited => None,
        },
        started_seconds: procfs::boot_time_secs().ok()? as f64
            + stat.starttime as f64 / ticks as f64,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_takes_something() {
        let held = vec![1_u8; 32 * 1_024 * 1_024];
        let usage = usage().expect("/proc");
        assert!(usage.anonymous_bytes >= held.len() as u64, "{usage:?}");
        assert!(usage.resident_bytes > usage.anonymous_bytes, "{usage:?}");
        assert!(usage.open_files > 2, "{usage:?}");
        let now = hostbus_daemon::clock::unix_ms() / 1_000;
        let age = now as f64 - usage.started_seconds;
        assert!((-2.0..3_600.0).contains(&age), "{age} {usage:?}");
    }
}
