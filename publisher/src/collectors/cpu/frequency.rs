//! The average frequency of all cores, from cpufreq (`Documentation/admin-guide/pm/cpufreq.rst`) or,
//! where the kernel scales nothing, as on most virtual machines, from `/proc/cpuinfo`.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use crate::collectors::attribute;

pub(super) struct Frequency {
    cpuinfo: PathBuf,
    /// One file a frequency domain; empty on hosts without frequency scaling.
    domains: Vec<PathBuf>,
}

impl Frequency {
    pub(super) fn below(root: &Path) -> Self {
        Self {
            cpuinfo: root.join("proc/cpuinfo"),
            domains: domains(&root.join("sys/devices/system/cpu/cpufreq")),
        }
    }

    pub(super) fn mhz(&self) -> Option<f64> {
        if self.domains.is_empty() {
            // A kilobyte and more a core: never held as a whole.
            return average(cpuinfo_mhz(BufReader::new(File::open(&self.cpuinfo).ok()?)));
        }
        let khz = self
            .domains
            .iter()
            .filter_map(|path| attribute::number(path));
        average(khz.map(|khz| khz as f64 / 1000.0))
    }
}

fn domains(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    entries
        .flatten()
        .map(|entry| entry.path().join("scaling_cur_freq"))
        .filter(|path| path.exists())
        .collect()
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

fn average(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values.fold((0.0, 0_u32), |(sum, count), value| (sum + value, count + 1));
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
        let mhz = || Frequency::below(machine.root()).mhz();
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
    }
}
