//! The average frequency of all cores, from cpufreq (`Documentation/admin-guide/pm/cpufreq.rst`) or,
//! where the kernel scales nothing, as on most virtual machines, from `/proc/cpuinfo`.
//!
//! ```text
//! cpufreq/policy0/scaling_cur_freq   1800000     kHz
//! cpufreq/policy0/affected_cpus      0 1 2 3     the cores of this domain
//! ```
//! Linux before 5.18 sleeps 10 to 20 ms over each of these files on x86, and has a domain for each
//! core; some drivers of large Arm machines take long too. All the domains of such a machine would
//! take longer than a sample waits, so they are given up for a while. `/proc/cpuinfo` sleeps once
//! for all cores.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::collectors::attribute;

/// All domains are read within this time, or given up.
const PATIENCE: Duration = Duration::from_millis(200);
/// For how long.
const ASK_AGAIN: Duration = Duration::from_secs(3600);

pub(super) struct Frequency {
    cpuinfo: PathBuf,
    /// Empty on hosts without frequency scaling.
    domains: Vec<Domain>,
    given_up_until: Option<Instant>,
}

/// Cores that have one frequency.
struct Domain {
    khz: PathBuf,
    cores: u32,
}

/// The domains take too long.
#[derive(Debug, PartialEq)]
struct TooSlow;

impl Frequency {
    pub(super) fn below(root: &Path) -> Self {
        Self {
            cpuinfo: root.join("proc/cpuinfo"),
            domains: domains(&root.join("sys/devices/system/cpu/cpufreq")),
            given_up_until: None,
        }
    }

    pub(super) fn mhz(&mut self, now: Instant) -> Option<f64> {
        let given_up = self.given_up_until.is_some_and(|until| now < until);
        if !self.domains.is_empty() && !given_up {
            let began = Instant::now();
            match of_domains(&self.domains, || began.elapsed()) {
                Ok(mhz) => return mhz,
                Err(TooSlow) => self.given_up_until = Some(now + ASK_AGAIN),
            }
        }
        // A kilobyte and more a core: never held as a whole.
        let cores = cpuinfo_mhz(BufReader::new(File::open(&self.cpuinfo).ok()?));
        average(cores.map(|mhz| (mhz, 1)))
    }
}

fn domains(folder: &Path) -> Vec<Domain> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let cores = |list: String| u32::try_from(list.split_ascii_whitespace().count()).ok();
    entries
        .flatten()
        .map(|entry| entry.path())
        .map(|folder| Domain {
            khz: folder.join("scaling_cur_freq"),
            cores: attribute::text(&folder.join("affected_cpus"))
                .and_then(cores)
                .unwrap_or(1),
        })
        .filter(|domain| domain.khz.exists())
        .collect()
}

/// The average over the cores of all domains. `elapsed` is the time that they took so far.
fn of_domains(domains: &[Domain], elapsed: impl Fn() -> Duration) -> Result<Option<f64>, TooSlow> {
    let mut cores_mhz = Vec::with_capacity(domains.len());
    for domain in domains {
        if elapsed() >= PATIENCE {
            return Err(TooSlow);
        }
        let khz = attribute::number(&domain.khz);
        cores_mhz.extend(khz.map(|khz| (khz as f64 / 1000.0, domain.cores)));
    }
    Ok(average(cores_mhz.into_iter()))
}

/// The frequencies up to the end, or to where it can't be read.
fn cpuinfo_mhz(mut text: impl BufRead) -> impl Iterator<Item = f64> {
    let mut line = String::new();
    std::iter::from_fn(move || {
        loop {
            line.clear();
            if text.read_line(&mut line).ok()? == 0 {
                return None;
            }
            if let Some(mhz) = line_mhz(&line) {
                return Some(mhz);
            }
        }
    })
}

fn line_mhz(line: &str) -> Option<f64> {
    let (_, mhz) = line.strip_prefix("cpu MHz")?.split_once(':')?;
    mhz.trim().parse().ok()
}

/// The average of values, each with how often it counts.
fn average(values: impl Iterator<Item = (f64, u32)>) -> Option<f64> {
    let add = |(sum, count): (f64, u32), (value, times): (f64, u32)| {
        (sum + value * f64::from(times), count.saturating_add(times))
    };
    let (sum, count) = values.fold((0.0, 0), add);
    (count > 0 && sum.is_finite()).then(|| sum / f64::from(count))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collectors::machines::Machine;

    const CPUINFO: &str =
        "processor\t: 0\ncpu MHz\t\t: 2000.0\n\nprocessor\t: 1\ncpu MHz\t\t: 3000.0\n";

    #[test]
    fn the_frequency_is_the_average_of_all_cores() {
        let machine = Machine::new();
        let mhz = || Frequency::below(machine.root()).mhz(Instant::now());
        assert_eq!(mhz(), None);
        machine.write("proc/cpuinfo", "processor : 0\nBogoMIPS : 50\n");
        assert_eq!(mhz(), None);
        machine.write("proc/cpuinfo", CPUINFO);
        assert_eq!(mhz(), Some(2500.0));
        for (policy, khz) in [
            ("policy0", "800000"),
            ("policy1", "4200000"),
            ("policy2", ""),
        ] {
            let folder = format!("sys/devices/system/cpu/cpufreq/{policy}");
            machine.folder(&folder, &[("scaling_cur_freq", khz)]);
        }
        assert_eq!(mhz(), Some(2500.0));
        // A domain counts by its cores.
        let folder = "sys/devices/system/cpu/cpufreq/policy0";
        machine.folder(folder, &[("affected_cpus", "0 2 4")]);
        assert_eq!(mhz(), Some(1650.0));
    }

    #[test]
    fn domains_that_take_too_long_are_given_up() {
        let machine = Machine::new();
        for policy in ["policy0", "policy1"] {
            let folder = format!("sys/devices/system/cpu/cpufreq/{policy}");
            machine.folder(&folder, &[("scaling_cur_freq", "800000")]);
        }
        let domains = domains(&machine.root().join("sys/devices/system/cpu/cpufreq"));
        assert_eq!(of_domains(&domains, || PATIENCE / 2), Ok(Some(800.0)));
        assert_eq!(of_domains(&domains, || PATIENCE), Err(TooSlow));
        // `/proc/cpuinfo` is asked meanwhile.
        machine.write("proc/cpuinfo", CPUINFO);
        let now = Instant::now();
        let mut frequency = Frequency::below(machine.root());
        frequency.given_up_until = Some(now + ASK_AGAIN);
        assert_eq!(frequency.mhz(now), Some(2500.0));
        assert_eq!(frequency.mhz(now + ASK_AGAIN), Some(800.0));
    }
}
