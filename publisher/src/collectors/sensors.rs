//! Temperatures of the host's chips, from `/sys/class/hwmon`.
//!
//! ```text
//! hwmon2/name            coretemp
//! hwmon2/temp1_label     Package id 0          absent: temp1
//! hwmon2/temp1_input     51000                 thousandths of a degree Celsius
//! ```
//! This sensor is `coretemp/package-id-0`. When chips share a name, the device is a part of it:
//! `nvme-nvme1/composite`.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use hostbus_wire::Name;
use hostbus_wire::sample::Sensor;
use serde::Deserialize;

use super::{Collector, Pass, Presence, Public};
use crate::error::CollectorError;
use crate::selection::Selection;

const CHIPS: &str = "/sys/class/hwmon";
/// Chips come and go with their drivers.
const LOOK_AGAIN: Duration = Duration::from_secs(300);
/// What a sensor without a probe shows lies outside.
const PLAUSIBLE_CELSIUS: std::ops::RangeInclusive<f64> = -60.0..=150.0;

/// The `[publisher.collectors.sensors]` section.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SensorsConfig {
    /// Whether to collect. Default true.
    pub enabled: bool,
    /// The time from reading to reading, 0.1 to 3600 seconds. Absent: that of the samples.
    pub interval_seconds: Option<f64>,
    /// Globs of names such as `coretemp/*`. If given, only these are taken.
    pub include: Vec<String>,
    /// Globs of names to leave out. Default: none.
    pub exclude: Vec<String>,
}

impl Default for SensorsConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            interval_seconds: None,
            include: Vec::new(),
            exclude: Vec::new(),
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

/// Reads temperature sensors.
pub(crate) struct Sensors {
    folder: PathBuf,
    selection: Selection,
    probes: Vec<Probe>,
    looked_at: Option<Instant>,
}

/// One temperature input of a chip.
#[derive(Debug, PartialEq, Eq)]
struct Probe {
    name: Name,
    input: PathBuf,
}

impl Sensors {
    pub(crate) fn new(config: &SensorsConfig) -> Self {
        Self::below(Path::new(CHIPS), config)
    }

    fn below(folder: &Path, config: &SensorsConfig) -> Self {
        Self {
            folder: folder.to_owned(),
            selection: Selection::new(&config.include, &config.exclude),
            probes: Vec::new(),
            looked_at: None,
        }
    }
}

impl Collector for Sensors {
    fn collect(&mut self, pass: &mut Pass) -> Result<Presence, CollectorError> {
        if self
            .looked_at
            .is_none_or(|at| pass.now.saturating_duration_since(at) >= LOOK_AGAIN)
        {
            self.probes = probes(&self.folder)?;
            self.probes
                .retain(|probe| self.selection.takes(probe.name.as_str()));
            self.looked_at = Some(pass.now);
        }
        for probe in &self.probes {
            // A chip that sleeps, or whose probe is missing, answers with an error: unknown.
            let Some(celsius) = fs::read_to_string(&probe.input)
                .ok()
                .and_then(|t| celsius(&t))
            else {
                continue;
            };
            let mut sensor = Sensor::new(probe.name.clone());
            sensor.celsius = Some(celsius);
            pass.sample.sensors.push(sensor);
        }
        if self.probes.is_empty() {
            return Ok(Presence::Nothing("no temperature sensor".to_owned()));
        }
        Ok(Presence::Here)
    }
}

/// Thousandths of a degree, when they are plausible.
fn celsius(text: &str) -> Option<f64> {
    let celsius = text
        .trim()
        .parse::<i32>()
        .ok()
        .map(|milli| f64::from(milli) / 1000.0)?;
    PLAUSIBLE_CELSIUS.contains(&celsius).then_some(celsius)
}

/// All temperature inputs, by name. Where two would have one name, the first stays.
fn probes(folder: &Path) -> Result<Vec<Probe>, CollectorError> {
    let chips = match fs::read_dir(folder) {
        Ok(chips) => chips,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(CollectorError::read(folder, error)),
    };
    let mut chips: Vec<(String, PathBuf)> = chips
        .flatten()
        .map(|chip| chip.path())
        .filter_map(|path| Some((line(&path.join("name"))?, path)))
        .collect();
    chips.sort_unstable_by(|(_, a), (_, b)| a.cmp(b));
    let mut of_name: HashMap<String, usize> = HashMap::new();
    for (name, _) in &chips {
        *of_name.entry(name.clone()).or_default() += 1;
    }
    let mut probes = Vec::new();
    for (name, path) in &chips {
        let chip = if of_name[name] == 1 {
            name.clone()
        } else {
            format!("{name}-{}", device(path))
        };
        inputs(path, &chip, &mut probes);
    }
    probes.sort_by(|a: &Probe, b| a.name.cmp(&b.name));
    probes.dedup_by(|later, first| later.name == first.name);
    Ok(probes)
}

/// The temperature inputs of one chip.
fn inputs(path: &Path, chip: &str, probes: &mut Vec<Probe>) {
    let Ok(entries) = fs::read_dir(path) else {
        return;
    };
    let mut files: Vec<String> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    files.sort_unstable();
    for file in files {
        let Some(input) = file
            .strip_suffix("_input")
            .filter(|input| input.starts_with("temp"))
        else {
            continue;
        };
        let label = line(&path.join(format!("{input}_label"))).unwrap_or_else(|| input.to_owned());
        if let Ok(name) = format!("{}/{}", dashed(chip), dashed(&label)).parse() {
            probes.push(Probe {
                name,
                input: path.join(file),
            });
        }
    }
}

/// The last part of the path of a chip's device: `nvme0`, `0000:00:18.3`.
fn device(path: &Path) -> String {
    let target = fs::read_link(path.join("device")).unwrap_or_else(|_| path.to_owned());
    target
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
}

fn line(path: &Path) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

fn dashed(text: &str) -> String {
    text.to_lowercase().replace([' ', '/', '\t'], "-")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::collectors::tests::collect_once;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("hostbus-{}-{name}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        fn chip(&self, hwmon: &str, device: &str, files: &[(&str, &str)]) {
            let chip = self.0.join(hwmon);
            fs::create_dir_all(&chip).unwrap();
            symlink(format!("../../{device}"), chip.join("device")).unwrap();
            for (file, text) in files {
                fs::write(chip.join(file), text).unwrap();
            }
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn readings(folder: &Folder, config: &SensorsConfig) -> Vec<(String, f64)> {
        let mut sensors = Sensors::below(&folder.0, config);
        let (pass, outcome) = collect_once(&mut sensors, Instant::now());
        outcome.unwrap();
        pass.sample
            .sensors
            .iter()
            .map(|s| (s.name.to_string(), s.celsius.unwrap()))
            .collect()
    }

    #[test]
    fn sensors_are_named_by_chip_and_label() {
        let folder = Folder::new("sensors-names");
        folder.chip(
            "hwmon0",
            "coretemp.0",
            &[
                ("name", "coretemp\n"),
                ("temp1_input", "51500\n"),
                ("temp1_label", "Package id 0\n"),
                ("temp1_max", "100000\n"),
                ("fan1_input", "1200\n"),
            ],
        );
        folder.chip(
            "hwmon1",
            "nvme0",
            &[("name", "nvme"), ("temp1_input", "38850")],
        );
        folder.chip(
            "hwmon2",
            "nvme1",
            &[("name", "nvme"), ("temp1_input", "-5000")],
        );
        assert_eq!(
            readings(&folder, &SensorsConfig::default()),
            [
                ("coretemp/package-id-0".to_owned(), 51.5),
                ("nvme-nvme0/temp1".to_owned(), 38.85),
                ("nvme-nvme1/temp1".to_owned(), -5.0),
            ]
        );
        let config = SensorsConfig {
            exclude: vec!["nvme*".to_owned()],
            ..Default::default()
        };
        assert_eq!(readings(&folder, &config).len(), 1);
    }

    #[test]
    fn a_probe_that_is_not_there_has_no_value() {
        for (text, value) in [
            ("25000", Some(25.0)),
            ("-128000", None),
            ("255000", None),
            ("", None),
            ("x", None),
        ] {
            assert_eq!(celsius(text), value, "{text}");
        }
    }

    #[test]
    fn a_host_without_sensors_is_no_failure() {
        let folder = Path::new("/nonexistent/hwmon");
        let mut sensors = Sensors::below(folder, &SensorsConfig::default());
        let (_, outcome) = collect_once(&mut sensors, Instant::now());
        assert!(matches!(outcome, Ok(Presence::Nothing(_))));
    }
}
