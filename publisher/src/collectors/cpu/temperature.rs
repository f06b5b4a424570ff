//! The temperature of the hottest processor package.
//!
//! ```text
//! hwmon coretemp          "Package id N"       Intel (Documentation/hwmon/coretemp.rst)
//! hwmon k10temp, zenpower "Tdie", else "Tctl"  AMD (Documentation/hwmon/k10temp.rst)
//! hwmon cpu*_thermal …     its only input       boards with a thermal zone of that name
//! thermal zone cpu* …                          boards whose zones have no chip
//! ```
//! Tctl is what the fans are to be driven by, on some processors some degrees more than the true
//! Tdie.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::collectors::attribute;
use crate::collectors::hwmon::{self, Chip, Input};
use crate::collectors::sensors::celsius;

/// Drivers may be loaded, and loaded anew, after the publisher's start.
const LOOK_AGAIN: Duration = Duration::from_secs(300);

/// How the thermal zones of boards begin: those of processors, or else that of the system on a chip
/// with all that is on it. The kernel shows most of them as chips too, `cpu_thermal`.
const ZONES: [&[&str]; 2] = [
    &["cpu", "package", "bigcore", "littlecore", "x86_pkg_temp"],
    &["soc"],
];

pub(super) struct Thermometers {
    chips: PathBuf,
    zones: PathBuf,
    /// The files of temperatures of packages.
    inputs: Vec<PathBuf>,
    looked_at: Option<Instant>,
}

impl Thermometers {
    pub(super) fn below(root: &Path) -> Self {
        Self {
            chips: root.join(hwmon::CHIPS),
            zones: root.join("sys/class/thermal"),
            inputs: Vec::new(),
            looked_at: None,
        }
    }

    /// `None` when no package has a thermometer, as on virtual machines.
    pub(super) fn hottest_celsius(&mut self, now: Instant) -> Option<f64> {
        if self
            .looked_at
            .is_none_or(|at| now.saturating_duration_since(at) >= LOOK_AGAIN)
        {
            self.inputs = self.look();
            self.looked_at = Some(now);
        }
        let values = self
            .inputs
            .iter()
            .filter_map(|path| attribute::number(path));
        values.filter_map(celsius).reduce(f64::max)
    }

    fn look(&self) -> Vec<PathBuf> {
        let chips = hwmon::chips(&self.chips).unwrap_or_default();
        let packages: Vec<PathBuf> = chips.iter().flat_map(packages).collect();
        if !packages.is_empty() {
            return packages;
        }
        let board_chips = chips.iter().filter_map(|chip| {
            let zone = chip.name.strip_suffix("_thermal")?.to_owned();
            Some((zone, temperatures(chip, "").into_iter().next()?))
        });
        let mut found = of_processors(board_chips.collect());
        if found.is_empty() {
            found = of_processors(zones(&self.zones));
        }
        found
    }
}

/// The temperatures of a chip that stand for a package as a whole.
fn packages(chip: &Chip) -> Vec<PathBuf> {
    let either = |first: &str, second: &str| {
        let found = temperatures(chip, first);
        if found.is_empty() {
            temperatures(chip, second)
        } else {
            found
        }
    };
    match chip.name.as_str() {
        // Processors before 2011 have thermometers at their cores only.
        "coretemp" => either("Package id", "Core"),
        "k10temp" | "zenpower" => either("Tdie", "Tctl"),
        _ => Vec::new(),
    }
}

/// The temperatures of a chip whose label begins so.
fn temperatures(chip: &Chip, label: &str) -> Vec<PathBuf> {
    let begins_so = |input: &Input| {
        let own = input.label.as_deref().unwrap_or_default();
        input.id.starts_with("temp") && own.starts_with(label)
    };
    let inputs = chip.inputs().into_iter().filter(begins_so);
    inputs.map(|input| input.value).collect()
}

/// The thermal zones by their type (`Documentation/driver-api/thermal/sysfs-api.rst`).
fn zones(folder: &Path) -> Vec<(String, PathBuf)> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    entries
        .flatten()
        .map(|entry| entry.path())
        .filter_map(|path| Some((attribute::text(&path.join("type"))?, path.join("temp"))))
        .filter(|(_, path)| path.exists())
        .collect()
}

/// The files of the zones that are processors', or of the whole chip where none is.
fn of_processors(zones: Vec<(String, PathBuf)>) -> Vec<PathBuf> {
    let begins_so = |zone: &str, starts: &[&str]| {
        let zone = zone.to_lowercase();
        starts.iter().any(|start| zone.starts_with(start))
    };
    let begin = ZONES
        .into_iter()
        .find(|starts| zones.iter().any(|(zone, _)| begins_so(zone, starts)))
        .unwrap_or_default();
    let found = zones.into_iter().filter(|(zone, _)| begins_so(zone, begin));
    found.map(|(_, path)| path).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collectors::machines::{
        Machine, amd_server, dell_server, intel_desktop, raspberry_pi, thinkpad,
    };

    fn hottest(machine: &Machine) -> Option<f64> {
        Thermometers::below(machine.root()).hottest_celsius(Instant::now())
    }

    #[test]
    fn the_hottest_package_counts_and_not_its_cores_or_other_chips() {
        assert_eq!(hottest(&intel_desktop()), Some(51.5));
        assert_eq!(hottest(&amd_server()), Some(55.0));
        assert_eq!(hottest(&raspberry_pi()), Some(48.312));
        assert_eq!(hottest(&dell_server()), Some(47.0));
        assert_eq!(hottest(&thinkpad()), None);
        assert_eq!(hottest(&Machine::new()), None);
    }

    #[test]
    fn an_old_processor_is_as_hot_as_its_hottest_core() {
        let machine = Machine::new();
        machine.chip(
            "hwmon0",
            "coretemp.0",
            &[
                ("name", "coretemp"),
                ("temp2_label", "Core 0"),
                ("temp2_input", "40000"),
                ("temp3_label", "Core 1"),
                ("temp3_input", "43000"),
            ],
        );
        assert_eq!(hottest(&machine), Some(43.0));
    }

    #[test]
    fn a_board_without_chips_has_its_thermal_zones_those_of_processors_first() {
        let machine = Machine::new();
        let zone = |number: u32, kind: &str, temp: &str| {
            let folder = format!("sys/class/thermal/thermal_zone{number}");
            machine.folder(&folder, &[("type", kind), ("temp", temp)]);
        };
        zone(0, "gpu-thermal", "70000");
        zone(1, "soc-thermal", "46500");
        machine.folder(
            "sys/class/thermal/cooling_device0",
            &[("type", "cpufreq-cpu0")],
        );
        assert_eq!(hottest(&machine), Some(46.5));
        zone(2, "CPU-therm", "45000");
        assert_eq!(hottest(&machine), Some(45.0));
        machine.chip(
            "hwmon0",
            "thermal_zone3",
            &[("name", "bigcore0_thermal"), ("temp1_input", "51000")],
        );
        assert_eq!(hottest(&machine), Some(51.0));
    }

    #[test]
    fn a_driver_that_is_loaded_late_is_found() {
        let machine = Machine::new();
        let mut thermometers = Thermometers::below(machine.root());
        let start = Instant::now();
        assert_eq!(thermometers.hottest_celsius(start), None);
        machine.chip(
            "hwmon0",
            "thermal_zone0",
            &[("name", "cpu_thermal"), ("temp1_input", "40000")],
        );
        assert_eq!(thermometers.hottest_celsius(start + LOOK_AGAIN), Some(40.0));
    }
}
