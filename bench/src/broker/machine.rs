//! What the whole machine does, and how many files a process may open.

use anyhow::Context;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::parts;

/// How many CPUs there are.
pub(crate) fn cpus() -> f64 {
    std::thread::available_parallelism().map_or(1.0, |cpus| cpus.get() as f64)
}

/// CPU seconds that the machine has not idled so far, all CPUs together: proc_stat(5).
pub(crate) fn busy_seconds() -> anyhow::Result<f64> {
    let stat = std::fs::read_to_string("/proc/stat")?;
    let line = stat.lines().next().context("an empty /proc/stat")?;
    let fields: Vec<f64> = line
        .split_whitespace()
        .skip(1)
        .map(str::parse)
        .collect::<Result<_, _>>()?;
    // user, nice, system, idle, iowait, irq, softirq, steal; guests stand in user already.
    let busy: f64 = [0, 1, 2, 5, 6].iter().map(|place| fields[*place]).sum();
    Ok(busy / rustix::param::clock_ticks_per_second() as f64)
}

/// CPU seconds that all threads of `process` have used, to the nanosecond where the kernel tells
/// that (`/proc/PID/task/TID/schedstat`), else to its clock tick.
pub(crate) fn cpu_seconds(process: u32) -> anyhow::Result<f64> {
    let mut ns = 0;
    for thread in std::fs::read_dir(format!("/proc/{process}/task"))? {
        let schedstat = std::fs::read_to_string(thread?.path().join("schedstat"));
        let used = schedstat
            .ok()
            .and_then(|text| text.split(' ').next()?.parse().ok());
        ns += used.unwrap_or(0_u64);
    }
    if ns == 0 {
        return parts::cpu_seconds(process);
    }
    Ok(ns as f64 / 1e9)
}

/// Lets this process and those it starts open as many files as they may. Returns how many.
pub(crate) fn raise_open_files() -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    let limit = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => maximum,
        Err(_) => current,
    };
    limit.unwrap_or(u64::MAX)
}

/// The CPU's name, as far as it is told.
pub(crate) fn cpu_name() -> String {
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or_else(|| "unknown".to_owned(), |(_, name)| name.to_owned())
}
