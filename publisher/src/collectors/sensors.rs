//! Temperatures, fans and voltages of the host's chips, from `/sys/class/hwmon`
//! (`Documentation/hwmon/sysfs-interface.rst`).
//!
//! ```text
//! hwmon2/name            coretemp
//! hwmon2/temp1_label     Package id 0          absent: temp1
//! hwmon2/temp1_input     51000                 thousandths of a degree Celsius
//! hwmon2/temp1_fault     0                     1: the probe is broken
//! hwmon3/fan1_input      1183                  turns a minute
//! hwmon3/in7_input       3376                  thousandths of a volt
//! ```
//! The first of these is `coretemp/package-id-0`. When chips share a name, the device is a part of
//! it: `nvme-nvme1/composite`. When inputs of a chip share a label, their number is:
//! `dell_smm/other-temp3`.
//!
//! A chip's registers may stand behind a slow bus, so that one value takes milliseconds; a value is
//! never read more than once a pass. A drive with `drivetemp` may stay awake for being asked
//! (`Documentation/hwmon/drivetemp.rst`): exclude `drivetemp*` where drives shall sleep.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use hostbus_wire::Name;
use hostbus_wire::ids::MAX_NAME_BYTES;
use hostbus_wire::sample::{Fan, Sensor, Voltage};
use serde::Deserialize;

use super::hwmon::{self, Input};
use super::{Collector, Pass, Presence, Public, attribute};
use crate::error::CollectorError;
use crate::selection::{Selection, globs};

/// Chips come and go with their drivers.
const LOOK_AGAIN: Duration = Duration::from_secs(300);

/// What a temperature input without a probe shows lies outside.
const PLAUSIBLE_CELSIUS: std::ops::RangeInclusive<f64> = -60.0..=150.0;
/// What it shows inside: nothing measured, and the highest that a register of 8 or 9 bits holds.
const NO_PROBE_CELSIUS: [f64; 3] = [0.0, 127.0, 127.5];
/// A fan input that is not connected may show all ones, 65,535. 0 is a fan that stands still.
const PLAUSIBLE_RPM: std::ops::RangeInclusive<i64> = 0..=50_000;
/// From the negative supplies of a board to the mains side of a power supply.
const PLAUSIBLE_VOLTS: std::ops::RangeInclusive<f64> = -100.0..=1000.0;

/// The `[publisher.collectors.sensors]` section.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SensorsConfig {
    /// Whether to collect. Default true.
    pub enabled: bool,
    /// The time from reading to reading, 0.1 to 3600 seconds. Absent: that of the samples.
    pub interval_seconds: Option<f64>,
    /// Globs of names such as `coretemp/*`. If given, only these are taken, whatever `exclude` says.
    pub include: Vec<String>,
    /// Globs of names to leave out. Default: voltages without a label, `*/in0` to `*/in99`, whose
    /// scale only the maker of the board knows.
    pub exclude: Vec<String>,
}

impl Default for SensorsConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            interval_seconds: None,
            include: Vec::new(),
            exclude: globs(["*/in?", "*/in??"]),
        }
    }
}

impl SensorsConfig {
    pub(super) fn public(&mut self) -> Public<'_> {
        Public {
            enabled: &mut self.enabled,
            interval_seconds: &mut self.interval_seconds,
            include: Some(&mut self.include),
            exclude: Some(&mut self.exclude),
        }
    }
}

/// Reads temperatures, fans and voltages.
pub(crate) struct Sensors {
    chips: PathBuf,
    selection: Selection,
    probes: Vec<Probe>,
    /// How many probes the settings leave out.
    left_out: usize,
    looked_at: Option<Instant>,
}

/// One input of a chip.
struct Probe {
    quantity: Quantity,
    name: Name,
    value: PathBuf,
    fault: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Quantity {
    Temperature,
    Speed,
    Voltage,
}

impl Sensors {
    pub(crate) fn new(config: &SensorsConfig) -> Self {
        Self::below(Path::new("/"), config)
    }

    fn below(root: &Path, config: &SensorsConfig) -> Self {
        Self {
            chips: root.join(hwmon::CHIPS),
            selection: Selection::new(&config.include, &config.exclude),
            probes: Vec::new(),
            left_out: 0,
            looked_at: None,
        }
    }

    fn look(&mut self) -> Result<(), CollectorError> {
        self.probes = probes(&self.chips)?;
        let all = self.probes.len();
        self.probes
            .retain(|probe| self.selection.takes(probe.name.as_str()));
        self.left_out = all - self.probes.len();
        Ok(())
    }
}

impl Collector for Sensors {
    fn collect(&mut self, pass: &mut Pass) -> Result<Presence, CollectorError> {
        if self
            .looked_at
            .is_none_or(|at| pass.now.saturating_duration_since(at) >= LOOK_AGAIN)
        {
            self.look()?;
            self.looked_at = Some(pass.now);
        }
        for probe in &self.probes {
            probe.read(pass);
        }
        if !self.probes.is_empty() {
            return Ok(Presence::Here);
        }
        Ok(Presence::Nothing(if self.left_out > 0 {
            format!("the settings leave out all {} sensors", self.left_out)
        } else {
            "no chip below /sys/class/hwmon has a sensor".to_owned()
        }))
    }
}

impl Probe {
    /// Adds its value, when it has one. A chip that sleeps, or whose probe is missing, answers with
    /// an error.
    fn read(&self, pass: &mut Pass) {
        let broken = |fault: &PathBuf| attribute::number(fault) == Some(1);
        if self.fault.as_ref().is_some_and(broken) {
            return;
        }
        let Some(raw) = attribute::number(&self.value) else {
            return;
        };
        let (sample, name) = (&mut pass.sample, || self.name.clone());
        match self.quantity {
            Quantity::Temperature => sample.sensors.extend(celsius(raw).map(|celsius| {
                let mut sensor = Sensor::new(name());
                sensor.celsius = Some(celsius);
                sensor
            })),
            Quantity::Speed => sample.fans.extend(rpm(raw).map(|rpm| {
                let mut fan = Fan::new(name());
                fan.rpm = Some(rpm);
                fan
            })),
            Quantity::Voltage => sample.voltages.extend(volts(raw).map(|volts| {
                let mut voltage = Voltage::new(name());
                voltage.volts = Some(volts);
                voltage
            })),
        }
    }
}

/// Thousandths of a degree, when they are plausible.
pub(super) fn celsius(raw: i64) -> Option<f64> {
    let celsius = raw as f64 / 1000.0;
    (PLAUSIBLE_CELSIUS.contains(&celsius) && !NO_PROBE_CELSIUS.contains(&celsius))
        .then_some(celsius)
}

fn rpm(raw: i64) -> Option<u64> {
    u64::try_from(raw)
        .ok()
        .filter(|_| PLAUSIBLE_RPM.contains(&raw))
}

/// Thousandths of a volt, when they are plausible.
fn volts(raw: i64) -> Option<f64> {
    let volts = raw as f64 / 1000.0;
    PLAUSIBLE_VOLTS.contains(&volts).then_some(volts)
}

impl Quantity {
    /// What an input such as `temp1` measures, if it is one of these.
    fn of(id: &str) -> Option<Self> {
        let kind = id.trim_end_matches(|c: char| c.is_ascii_digit());
        match kind {
            "temp" => Some(Self::Temperature),
            "fan" => Some(Self::Speed),
            "in" => Some(Self::Voltage),
            _ => None,
        }
    }
}

/// All probes, by quantity and name. Where two would have one name, the first stays.
fn probes(folder: &Path) -> Result<Vec<Probe>, CollectorError> {
    let chips = hwmon::chips(folder).map_err(|error| CollectorError::read(folder, error))?;
    let mut of_name: HashMap<&str, usize> = HashMap::new();
    for chip in &chips {
        *of_name.entry(&chip.name).or_default() += 1;
    }
    let mut probes = Vec::new();
    for chip in &chips {
        if of_name[chip.name.as_str()] == 1 {
            probes_of(&chip.name, chip.inputs(), &mut probes);
        } else {
            let name = format!("{}-{}", chip.name, chip.device());
            probes_of(&name, chip.inputs(), &mut probes);
        }
    }
    probes.sort_by(|a, b| (a.quantity, &a.name).cmp(&(b.quantity, &b.name)));
    probes.dedup_by(|later, first| (later.quantity, &later.name) == (first.quantity, &first.name));
    Ok(probes)
}

/// The probes of one chip.
fn probes_of(chip: &str, inputs: Vec<Input>, probes: &mut Vec<Probe>) {
    let measured: Vec<(Quantity, Input)> = inputs
        .into_iter()
        .filter_map(|input| Some((Quantity::of(&input.id)?, input)))
        .collect();
    let mut of_label: HashMap<(Quantity, String), usize> = HashMap::new();
    for (quantity, input) in &measured {
        if let Some(label) = input.label.clone() {
            *of_label.entry((*quantity, label)).or_default() += 1;
        }
    }
    for (quantity, input) in measured {
        let label = match input.label {
            None => input.id,
            Some(label) => match of_label.get(&(quantity, label.clone())) {
                Some(2..) => format!("{label}-{}", input.id),
                _ => label,
            },
        };
        probes.extend(name(chip, &label).map(|name| Probe {
            quantity,
            name,
            value: input.value,
            fault: input.fault,
        }));
    }
}

/// `coretemp/package-id-0`, cut to the length that a name may have.
fn name(chip: &str, label: &str) -> Option<Name> {
    let mut name = format!("{}/{}", dashed(chip), dashed(label));
    name.truncate(name.floor_char_boundary(MAX_NAME_BYTES));
    name.try_into().ok()
}

fn dashed(text: &str) -> String {
    let dash = |c: char| c == '/' || c.is_whitespace() || c.is_control();
    text.to_lowercase().replace(dash, "-")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collectors::machines::{
        Machine, amd_server, dell_server, intel_desktop, raspberry_pi, thinkpad,
    };
    use crate::collectors::tests::collect_once;

    fn sensors(machine: &Machine) -> Sensors {
        Sensors::below(machine.root(), &SensorsConfig::default())
    }

    fn read(sensors: &mut Sensors, now: Instant) -> Pass {
        let (pass, outcome) = collect_once(sensors, now);
        outcome.unwrap();
        pass
    }

    fn temperatures(machine: &Machine) -> Vec<(String, f64)> {
        let pass = read(&mut sensors(machine), Instant::now());
        let values = pass.sample.sensors.iter();
        values
            .map(|s| (s.name.to_string(), s.celsius.unwrap()))
            .collect()
    }

    fn fans(machine: &Machine) -> Vec<(String, u64)> {
        let pass = read(&mut sensors(machine), Instant::now());
        let values = pass.sample.fans.iter();
        values
            .map(|f| (f.name.to_string(), f.rpm.unwrap()))
            .collect()
    }

    fn voltages(machine: &Machine, config: &SensorsConfig) -> Vec<(String, f64)> {
        let mut sensors = Sensors::below(machine.root(), config);
        let pass = read(&mut sensors, Instant::now());
        let values = pass.sample.voltages.iter();
        values
            .map(|v| (v.name.to_string(), v.volts.unwrap()))
            .collect()
    }

    fn owned<T: Copy>(list: &[(&str, T)]) -> Vec<(String, T)> {
        list.iter()
            .map(|(name, value)| ((*name).to_owned(), *value))
            .collect()
    }

    #[test]
    fn sensors_are_named_by_chip_and_label_and_those_without_a_probe_are_left_out() {
        assert_eq!(
            temperatures(&intel_desktop()),
            owned(&[
                ("acpitz/temp1", 27.8),
                ("coretemp/core-0", 53.0),
                ("coretemp/core-4", 49.0),
                ("coretemp/package-id-0", 51.5),
                ("nct6798/systin", 31.0),
                ("nvme/composite", 38.85),
            ])
        );
        assert_eq!(
            temperatures(&raspberry_pi()),
            owned(&[("cpu_thermal/temp1", 48.312)])
        );
        assert_eq!(temperatures(&thinkpad()), owned(&[("thinkpad/cpu", 46.0)]));
    }

    #[test]
    fn chips_of_one_name_are_told_apart_by_their_device() {
        assert_eq!(
            temperatures(&amd_server()),
            owned(&[
                ("k10temp-0000:00:18.3/tccd1", 61.5),
                ("k10temp-0000:00:18.3/tctl", 48.125),
                ("k10temp-0000:00:19.3/tctl", 82.0),
                ("k10temp-0000:00:19.3/tdie", 55.0),
            ])
        );
        assert_eq!(
            temperatures(&dell_server()),
            owned(&[
                ("coretemp-coretemp.0/core-0", 39.0),
                ("coretemp-coretemp.0/package-id-0", 41.0),
                ("coretemp-coretemp.1/core-0", 39.0),
                ("coretemp-coretemp.1/package-id-1", 47.0),
                ("drivetemp-0:0:0:0/temp1", 29.0),
                ("drivetemp-0:0:1:0/temp1", 30.0),
                ("i350bb/loc1", 52.0),
            ])
        );
    }

    #[test]
    fn a_name_stays_when_the_kernel_numbers_the_chips_otherwise() {
        let machine = dell_server();
        let before = temperatures(&machine);
        for (from, to) in [
            ("hwmon3", "hwmon9"),
            ("hwmon4", "hwmon3"),
            ("hwmon0", "hwmon4"),
        ] {
            let folder = machine.root().join(hwmon::CHIPS);
            std::fs::rename(folder.join(from), folder.join(to)).unwrap();
        }
        assert_eq!(temperatures(&machine), before);
    }

    #[test]
    fn inputs_of_one_label_are_told_apart_by_their_number() {
        let machine = Machine::new();
        machine.chip(
            "hwmon1",
            "dell_smm_hwmon",
            &[
                ("name", "dell_smm"),
                ("fan1_label", "Other"),
                ("fan1_input", "900"),
                ("temp1_label", "CPU"),
                ("temp1_input", "44000"),
                ("temp2_label", "Other"),
                ("temp2_input", "30000"),
                ("temp3_label", "Other"),
                ("temp3_input", "33000"),
            ],
        );
        assert_eq!(
            temperatures(&machine),
            owned(&[
                ("dell_smm/cpu", 44.0),
                ("dell_smm/other-temp2", 30.0),
                ("dell_smm/other-temp3", 33.0),
            ])
        );
        assert_eq!(fans(&machine), owned(&[("dell_smm/other", 900)]));
    }

    #[test]
    fn a_fan_that_stands_still_turns_at_0_and_one_that_is_not_there_is_absent() {
        assert_eq!(
            fans(&intel_desktop()),
            owned(&[("nct6798/cpu-fan", 1183), ("nct6798/fan1", 0)])
        );
        assert_eq!(fans(&raspberry_pi()), owned(&[("pwmfan/fan1", 2978)]));
        assert_eq!(fans(&dell_server()), []);
    }

    #[test]
    fn voltages_without_a_label_are_taken_on_request() {
        let machine = intel_desktop();
        assert_eq!(
            voltages(&machine, &SensorsConfig::default()),
            owned(&[("nct6798/3vsb", 3.376)])
        );
        let all = SensorsConfig {
            exclude: Vec::new(),
            ..SensorsConfig::default()
        };
        assert_eq!(voltages(&machine, &all).len(), 3);
    }

    #[test]
    fn values_that_no_probe_can_mean_are_unknown() {
        for (raw, value) in [
            (25_000, Some(25.0)),
            (-5_000, Some(-5.0)),
            (0, None),
            (127_000, None),
            (127_500, None),
            (-128_000, None),
            (255_000, None),
        ] {
            assert_eq!(celsius(raw), value, "{raw}");
        }
        for (raw, value) in [
            (0, Some(0)),
            (18_000, Some(18_000)),
            (65_535, None),
            (-1, None),
        ] {
            assert_eq!(rpm(raw), value, "{raw}");
        }
        for (raw, value) in [
            (0, Some(0.0)),
            (-11_950, Some(-11.95)),
            (230_500, Some(230.5)),
            (i64::from(i32::MAX), None),
        ] {
            assert_eq!(volts(raw), value, "{raw}");
        }
    }

    #[test]
    fn only_inputs_of_a_known_kind_are_probes() {
        assert_eq!(Quantity::of("temp12"), Some(Quantity::Temperature));
        assert_eq!(Quantity::of("fan1"), Some(Quantity::Speed));
        assert_eq!(Quantity::of("in0"), Some(Quantity::Voltage));
        for id in [
            "power1",
            "curr1",
            "humidity1",
            "temp1_max",
            "intrusion0",
            "",
        ] {
            assert_eq!(Quantity::of(id), None, "{id}");
        }
    }

    #[test]
    fn chips_that_come_and_go_are_seen_in_time() {
        let machine = raspberry_pi();
        let mut sensors = sensors(&machine);
        let start = Instant::now();
        assert_eq!(read(&mut sensors, start).sample.sensors.len(), 1);
        machine.remove("sys/class/hwmon/hwmon0");
        machine.chip(
            "hwmon5",
            "nvme0",
            &[("name", "nvme"), ("temp1_input", "30000")],
        );
        machine.chip(
            "hwmon6",
            "nvme1",
            &[("name", "nvme"), ("temp1_input", "31000")],
        );
        let soon = start + LOOK_AGAIN / 2;
        assert_eq!(read(&mut sensors, soon).sample.sensors, []);
        let later = read(&mut sensors, start + LOOK_AGAIN);
        let names: Vec<&str> = later
            .sample
            .sensors
            .iter()
            .map(|s| s.name.as_str())
            .collect();
        assert_eq!(names, ["nvme-nvme0/temp1", "nvme-nvme1/temp1"]);
    }

    #[test]
    fn a_name_is_cut_to_what_a_name_may_be() {
        for (label, expected) in [
            ("Package id 0", "chip/package-id-0".to_owned()),
            ("VCC 3.3/5\u{1}V", "chip/vcc-3.3-5-v".to_owned()),
            (&"x".repeat(300), format!("chip/{}", "x".repeat(123))),
            // Two bytes each, of which the last would be cut in half.
            (&"ü".repeat(300), format!("chip/{}", "ü".repeat(61))),
        ] {
            assert_eq!(name("chip", label).unwrap().as_str(), expected);
        }
    }

    #[test]
    fn a_host_without_sensors_is_no_failure_and_says_why() {
        let check = |machine: &Machine, config: &SensorsConfig, why: &str| {
            let mut sensors = Sensors::below(machine.root(), config);
            let (_, outcome) = collect_once(&mut sensors, Instant::now());
            assert_eq!(outcome.unwrap(), Presence::Nothing(why.to_owned()));
        };
        let none = "no chip below /sys/class/hwmon has a sensor";
        check(&Machine::new(), &SensorsConfig::default(), none);
        let excluded = SensorsConfig {
            exclude: globs(["*"]),
            ..SensorsConfig::default()
        };
        check(
            &raspberry_pi(),
            &excluded,
            "the settings leave out all 2 sensors",
        );
    }
}
