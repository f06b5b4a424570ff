//! Processors: their time by mode and by core, load averages, context switches, frequency,
//! temperature and power.
//!
//! | file | source |
//! |---|---|
//! | `stat` | `/proc/stat` |
//! | `frequency` | cpufreq, or `/proc/cpuinfo` |
//! | `temperature` | `/sys/class/hwmon`, `/sys/class/thermal` |
//! | `energy` | the energy counters below `/sys/class/powercap` |

mod energy;
mod frequency;
mod stat;
mod temperature;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use hostbus_wire::sample::Cpu;
use procfs::{FromRead, LoadAverage};

use super::{Collector, Pass, Presence};
use crate::error::CollectorError;
use crate::rates::per_second;
use energy::Packages;
use frequency::Frequency;
use stat::Stat;
use temperature::Thermometers;

/// Reads processors.
pub(crate) struct Cpus {
    stat: PathBuf,
    load: PathBuf,
    before: Option<(Instant, Stat)>,
    frequency: Frequency,
    thermometers: Thermometers,
    packages: Packages,
}

impl Cpus {
    pub(crate) fn new() -> Self {
        Self::below(Path::new("/"))
    }

    fn below(root: &Path) -> Self {
        Self {
            stat: root.join("proc/stat"),
            load: root.join("proc/loadavg"),
            before: None,
            frequency: Frequency::below(root),
            thermometers: Thermometers::below(root),
            packages: Packages::below(root),
        }
    }
}

impl Collector for Cpus {
    fn collect(&mut self, pass: &mut Pass) -> Result<Presence, CollectorError> {
        let text =
            fs::read_to_string(&self.stat).map_err(|e| CollectorError::read(&self.stat, e))?;
        let stat = Stat::parse(&text).ok_or_else(|| CollectorError::parse(&self.stat))?;
        let mut cpu = Cpu::new();
        if let Some((at, before)) = &self.before {
            stat::usage(before, &stat, &mut cpu);
            let switches = before.context_switches.zip(stat.context_switches);
            cpu.context_switches_per_second = switches.and_then(|(before, after)| {
                per_second(before, after, pass.now.saturating_duration_since(*at))
            });
        }
        self.before = Some((pass.now, stat));
        cpu.frequency_mhz = self.frequency.mhz(pass.now);
        cpu.temperature_celsius = self.thermometers.hottest_celsius(pass.now);
        cpu.package_watts = self.packages.watts(pass.now);
        let load = LoadAverage::from_file(&self.load);
        if let Ok(load) = &load {
            cpu.load1 = Some(load.one.into());
            cpu.load5 = Some(load.five.into());
            cpu.load15 = Some(load.fifteen.into());
        }
        pass.sample.cpu = Some(cpu);
        load.map_err(|source| CollectorError::Proc {
            what: "/proc/loadavg",
            source,
        })?;
        Ok(Presence::Here)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::collectors::machines::{Machine, amd_server, intel_desktop};
    use crate::collectors::tests::{collect_once, collect_twice};

    fn at(machine: &Machine, switches: u64, idle: u64) {
        let text =
            format!("cpu  100 0 0 {idle}\ncpu0 100 0 0 {idle}\nintr 9 1 1\nctxt {switches}\n");
        machine.write("proc/stat", &text);
        machine.write("proc/loadavg", "0.20 0.18 0.12 1/80 11206\n");
    }

    fn turn(cpus: &mut Cpus, now: Instant) -> Cpu {
        let (mut pass, outcome) = collect_once(cpus, now);
        assert_eq!(outcome.unwrap(), Presence::Here);
        pass.sample.round();
        pass.sample.cpu.unwrap()
    }

    #[test]
    fn a_desktop_tells_what_it_does_and_how_hot_and_hungry_it_is() {
        let machine = intel_desktop();
        let mut cpus = Cpus::below(machine.root());
        let start = Instant::now();
        at(&machine, 5_000, 100);
        let first = turn(&mut cpus, start);
        assert_eq!((first.usage_percent, first.package_watts), (None, None));
        assert_eq!(first.temperature_celsius, Some(51.5));
        assert_eq!(first.load1, Some(0.2));

        at(&machine, 25_000, 200);
        machine.energy("intel-rapl:0", "package-0", "1350000000", "262143328850");
        let second = turn(&mut cpus, start + Duration::from_secs(10));
        assert_eq!(second.usage_percent, Some(0.0));
        assert_eq!(second.context_switches_per_second, Some(2000.0));
        assert_eq!(second.package_watts, Some(35.0));
    }

    #[test]
    fn a_load_that_cannot_be_read_keeps_nothing_else_back() {
        let machine = amd_server();
        at(&machine, 1, 1);
        machine.write("proc/loadavg", "none\n");
        let mut cpus = Cpus::below(machine.root());
        let (pass, outcome) = collect_once(&mut cpus, Instant::now());
        assert!(outcome.unwrap_err().to_string().contains("/proc/loadavg"));
        assert_eq!(pass.sample.cpu.unwrap().temperature_celsius, Some(55.0));
    }

    #[test]
    fn this_hosts_values_are_sane() {
        let sample = collect_twice(&mut Cpus::new());
        let cpu = sample.cpu.unwrap();
        assert!(
            (0.0..=100.0).contains(&cpu.usage_percent.unwrap()),
            "{cpu:?}"
        );
        assert!(!cpu.cores.is_empty() && cpu.cores.iter().all(|c| (0.0..=100.0).contains(c)));
        assert!(cpu.load1.unwrap() >= 0.0);
        assert!(cpu.context_switches_per_second.unwrap() > 0.0);
    }
}
