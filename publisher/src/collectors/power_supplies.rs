//! Batteries and mains, from `/sys/class/power_supply` (`Documentation/power/power_supply_class.rst`
//! and `Documentation/ABI/testing/sysfs-class-power`).
//!
//! ```text
//! AC/type                   Mains             Battery, UPS, USB …
//! AC/online                 1                 2 for some USB supplies
//! BAT0/scope                System            Device: the battery of a mouse; absent: System
//! BAT0/status               Discharging       Charging, Full, Not charging, Unknown
//! BAT0/energy_now           7200000           microwatt-hours, or charge_now in microampere-hours
//! BAT0/energy_full          18000000
//! BAT0/energy_full_design   24050000
//! BAT0/capacity             40                percent
//! BAT0/power_now            6540000           microwatts, or current_now in microamperes
//! BAT0/voltage_now          11206000          microvolts
//! ```
//! Power and current have a sign on some drivers and none on most, so the sign is left out.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use hostbus_wire::Name;
use hostbus_wire::sample::PowerSupply;
use serde::Deserialize;

use super::{Collector, Pass, Presence, Public, attribute};
use crate::error::CollectorError;
use crate::events;
use crate::rates::percent;
use crate::selection::Selection;

/// The `[publisher.collectors.power_supplies]` section.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PowerSuppliesConfig {
    /// Whether to collect. Default true.
    pub enabled: bool,
    /// The time from reading to reading, 0.1 to 3600 seconds. Absent: that of the samples.
    pub interval_seconds: Option<f64>,
    /// Globs of kernel names such as `BAT*`. If given, only these are taken, whatever `exclude` says.
    pub include: Vec<String>,
    /// Globs of kernel names to leave out. Default: none.
    pub exclude: Vec<String>,
    /// Whether to take the batteries of devices such as mice and headsets. Default false.
    pub devices: bool,
}

impl Default for PowerSuppliesConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            interval_seconds: None,
            include: Vec::new(),
            exclude: Vec::new(),
            devices: false,
        }
    }
}

impl PowerSuppliesConfig {
    pub(super) fn public(&mut self) -> Public<'_> {
        Public {
            enabled: &mut self.enabled,
            interval_seconds: &mut self.interval_seconds,
            include: Some(&mut self.include),
            exclude: Some(&mut self.exclude),
        }
    }
}

/// Reads batteries and mains.
pub(crate) struct PowerSupplies {
    folder: PathBuf,
    selection: Selection,
    devices: bool,
    /// Whether the mains were there when that was last known.
    mains: Option<bool>,
}

impl PowerSupplies {
    pub(crate) fn new(config: &PowerSuppliesConfig) -> Self {
        Self::below(Path::new("/"), config)
    }

    fn below(root: &Path, config: &PowerSuppliesConfig) -> Self {
        Self {
            folder: root.join("sys/class/power_supply"),
            selection: Selection::new(&config.include, &config.exclude),
            devices: config.devices,
            mains: None,
        }
    }
}

impl Collector for PowerSupplies {
    fn collect(&mut self, pass: &mut Pass) -> Result<Presence, CollectorError> {
        let names = names(&self.folder)?;
        let none = names.is_empty();
        for name in names {
            if !self.selection.takes(&name) {
                continue;
            }
            let source = Source {
                folder: self.folder.join(&name),
            };
            if self.devices || !source.belongs_to_a_device() {
                pass.sample.power_supplies.extend(source.read(&name));
            }
        }
        let now = mains(&pass.sample.power_supplies);
        match (self.mains, now) {
            (Some(true), Some(false)) => pass.events.push(events::mains_lost(pass.ts)),
            (Some(false), Some(true)) => pass.events.push(events::mains_back(pass.ts)),
            _ => {}
        }
        self.mains = now.or(self.mains);
        if !pass.sample.power_supplies.is_empty() {
            return Ok(Presence::Here);
        }
        Ok(Presence::Nothing(if none {
            "neither a battery nor a mains adapter below /sys/class/power_supply".to_owned()
        } else {
            "only supplies that the settings leave out, or empty bays".to_owned()
        }))
    }
}

fn names(folder: &Path) -> Result<Vec<String>, CollectorError> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(CollectorError::read(folder, error)),
    };
    let mut names: Vec<String> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort_unstable();
    Ok(names)
}

/// Whether any mains adapter is online. `None` when none says so or otherwise.
fn mains(supplies: &[PowerSupply]) -> Option<bool> {
    let adapters = supplies.iter().filter(|supply| {
        supply
            .kind
            .as_ref()
            .is_some_and(|kind| kind.as_str() == "mains")
    });
    adapters
        .filter_map(|adapter| adapter.online)
        .map(|online| online == 1)
        .reduce(|one, other| one || other)
}

/// The attributes of one power supply.
struct Source {
    folder: PathBuf,
}

impl Source {
    fn text(&self, attribute: &str) -> Option<String> {
        attribute::text(&self.folder.join(attribute))
    }

    fn number(&self, attribute: &str) -> Option<i64> {
        attribute::number(&self.folder.join(attribute))
    }

    fn belongs_to_a_device(&self) -> bool {
        self.text("scope").as_deref() == Some("Device")
    }

    /// `None` when it is an empty bay, or gone.
    fn read(&self, name: &str) -> Option<PowerSupply> {
        let kind = self.text("type")?;
        let is_battery = kind == "Battery";
        if is_battery && self.number("present") == Some(0) {
            return None;
        }
        let mut supply = PowerSupply::new(name.parse().ok()?, word(&kind));
        if !is_battery {
            supply.online = self.number("online").map(|online| u64::from(online > 0));
        }
        if is_battery || kind == "UPS" {
            supply.charging = self.text("status").and_then(|status| charging(&status));
            supply.charge_percent = self.charge_percent();
            supply.health_percent = self
                .part("energy_full", "energy_full_design")
                .or_else(|| self.part("charge_full", "charge_full_design"));
            supply.watts = self.watts();
        }
        supply.volts = self
            .number("voltage_now")
            .filter(|microvolts| *microvolts > 0)
            .map(|microvolts| microvolts as f64 / 1e6);
        Some(supply)
    }

    /// Energy is finer than the whole percent of `capacity`, where both are told.
    fn charge_percent(&self) -> Option<f64> {
        self.part("energy_now", "energy_full")
            .or_else(|| self.part("charge_now", "charge_full"))
            .or_else(|| {
                let capacity = u64::try_from(self.number("capacity")?).ok()?;
                percent(capacity, 100)
            })
    }

    /// One attribute of another in percent.
    fn part(&self, part: &str, whole: &str) -> Option<f64> {
        let whole = u64::try_from(self.number(whole)?).ok()?;
        percent(u64::try_from(self.number(part)?).ok()?, whole)
    }

    fn watts(&self) -> Option<f64> {
        if let Some(microwatts) = self.number("power_now") {
            return Some(microwatts.unsigned_abs() as f64 / 1e6);
        }
        let microamperes = self.number("current_now")?.unsigned_abs() as f64;
        Some(microamperes * self.number("voltage_now")?.unsigned_abs() as f64 / 1e12)
    }
}

/// `battery`, `mains`, `ups`, or `usb` for all that begins so, such as `USB_PD`. What other kinds
/// there are keep the kernel's word.
fn word(kind: &str) -> Option<Name> {
    if kind == "Unknown" {
        return None;
    }
    let word = if kind.starts_with("USB") { "USB" } else { kind };
    word.to_lowercase().try_into().ok()
}

/// 1 or 0; `None` when the battery does not know.
fn charging(status: &str) -> Option<u64> {
    match status {
        "Charging" => Some(1),
        "Discharging" | "Not charging" | "Full" => Some(0),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::collectors::machines::{Machine, intel_desktop, thinkpad};
    use crate::collectors::tests::collect_once;
    use crate::selection::globs;

    fn read(machine: &Machine, config: &PowerSuppliesConfig) -> Vec<PowerSupply> {
        let mut supplies = PowerSupplies::below(machine.root(), config);
        let (mut pass, outcome) = collect_once(&mut supplies, Instant::now());
        assert_eq!(outcome.unwrap(), Presence::Here);
        pass.sample.round();
        pass.sample.power_supplies
    }

    fn supply(name: &str, kind: &str) -> PowerSupply {
        PowerSupply::new(name.parse().unwrap(), Some(kind.parse().unwrap()))
    }

    #[test]
    fn a_laptop_tells_of_its_mains_and_both_batteries_and_not_of_its_mouse() {
        let mut mains = supply("AC", "mains");
        mains.online = Some(0);
        let mut kept = supply("BAT0", "battery");
        kept.charging = Some(0);
        kept.charge_percent = Some(79.4);
        kept.health_percent = Some(87.8);
        kept.watts = Some(0.0);
        kept.volts = Some(11.91);
        let mut used = supply("BAT1", "battery");
        used.charging = Some(0);
        used.charge_percent = Some(40.0);
        used.health_percent = Some(74.8);
        used.watts = Some(6.54);
        used.volts = Some(11.206);
        let machine = thinkpad();
        let found = read(&machine, &PowerSuppliesConfig::default());
        assert_eq!(found, [mains, kept, used]);
    }

    #[test]
    fn what_is_taken_is_the_settings_choice() {
        let check = |config: PowerSuppliesConfig, expected: &[&str]| {
            let found = read(&thinkpad(), &config);
            let names: Vec<&str> = found.iter().map(|supply| supply.name.as_str()).collect();
            assert_eq!(names, expected);
        };
        let default = PowerSuppliesConfig::default;
        let devices = PowerSuppliesConfig {
            devices: true,
            ..default()
        };
        check(devices, &["AC", "BAT0", "BAT1", "hidpp_battery_0"]);
        let include = PowerSuppliesConfig {
            include: globs(["BAT*"]),
            ..default()
        };
        check(include, &["BAT0", "BAT1"]);
        let exclude = PowerSuppliesConfig {
            exclude: globs(["BAT*"]),
            ..default()
        };
        check(exclude, &["AC"]);
    }

    #[test]
    fn a_battery_that_counts_charge_and_current_is_as_good() {
        let machine = Machine::new();
        machine.power_supply(
            "BAT0",
            &[
                ("type", "Battery"),
                ("status", "Charging"),
                ("charge_full_design", "4000000"),
                ("charge_full", "4100000"),
                ("charge_now", "2050000"),
                ("current_now", "-1500000"),
                ("voltage_now", "12000000"),
            ],
        );
        let mut expected = supply("BAT0", "battery");
        expected.charging = Some(1);
        expected.charge_percent = Some(50.0);
        expected.health_percent = Some(100.0);
        expected.watts = Some(18.0);
        expected.volts = Some(12.0);
        assert_eq!(read(&machine, &PowerSuppliesConfig::default()), [expected]);
    }

    #[test]
    fn what_a_battery_does_not_know_is_absent() {
        let machine = Machine::new();
        machine.power_supply(
            "axp20x-battery",
            &[
                ("type", "Battery"),
                ("present", "1"),
                ("status", "Unknown"),
                ("capacity", "63"),
                ("energy_now", "100"),
                ("energy_full", "0"),
                ("voltage_now", "0"),
            ],
        );
        machine.power_supply("BAT1", &[("type", "Battery"), ("present", "0")]);
        let mut expected = supply("axp20x-battery", "battery");
        expected.charge_percent = Some(63.0);
        assert_eq!(read(&machine, &PowerSuppliesConfig::default()), [expected]);
    }

    #[test]
    fn other_supplies_have_their_kind_and_whether_they_are_online() {
        let machine = Machine::new();
        let usb = "ucsi-source-psy-USBC000:001";
        machine.power_supply(
            usb,
            &[
                ("type", "USB_PD"),
                ("online", "2"),
                ("voltage_now", "20000000"),
            ],
        );
        machine.power_supply(
            "ups",
            &[("type", "UPS"), ("online", "1"), ("capacity", "97")],
        );
        let found = read(&machine, &PowerSuppliesConfig::default());
        let kinds: Vec<&str> = found
            .iter()
            .map(|supply| supply.kind.as_ref().unwrap().as_str())
            .collect();
        assert_eq!(kinds, ["usb", "ups"]);
        assert_eq!((found[0].online, found[0].volts), (Some(1), Some(20.0)));
        assert_eq!(found[1].charge_percent, Some(97.0));
        for (kind, expected) in [
            ("Battery", Some("battery")),
            ("USB_DCP", Some("usb")),
            ("Wireless", Some("wireless")),
            ("Unknown", None),
        ] {
            assert_eq!(word(kind).as_ref().map(Name::as_str), expected);
        }
    }

    #[test]
    fn mains_that_come_and_go_are_told_once_and_never_at_the_first_reading() {
        let machine = thinkpad();
        let mut supplies = PowerSupplies::below(machine.root(), &PowerSuppliesConfig::default());
        let mut turn = |online: Option<&str>| {
            match online {
                Some(online) => machine.write("sys/class/power_supply/AC/online", online),
                None => machine.remove("sys/class/power_supply/AC/online"),
            }
            let (pass, outcome) = collect_once(&mut supplies, Instant::now());
            outcome.unwrap();
            let kinds = pass.events.into_iter().map(|event| event.kind);
            kinds.collect::<Vec<String>>()
        };
        assert_eq!(turn(Some("1\n")), [""; 0]);
        assert_eq!(turn(Some("1\n")), [""; 0]);
        assert_eq!(turn(Some("0\n")), ["mains-lost"]);
        assert_eq!(turn(Some("0\n")), [""; 0]);
        assert_eq!(turn(None), [""; 0]);
        assert_eq!(turn(Some("1\n")), ["mains-back"]);
    }

    #[test]
    fn one_adapter_of_two_is_enough() {
        let adapter = |online: Option<u64>| {
            let mut adapter = supply("ADP", "mains");
            adapter.online = online;
            adapter
        };
        for (one, other, expected) in [
            (Some(1), Some(0), Some(true)),
            (Some(0), Some(0), Some(false)),
            (None, Some(0), Some(false)),
            (None, None, None),
        ] {
            assert_eq!(mains(&[adapter(one), adapter(other)]), expected);
        }
        let mut usb = supply("usb", "usb");
        usb.online = Some(0);
        assert_eq!(mains(&[usb]), None);
    }

    #[test]
    fn a_host_without_supplies_is_no_failure_and_says_why() {
        let check = |machine: &Machine, config: &PowerSuppliesConfig, part: &str| {
            let mut supplies = PowerSupplies::below(machine.root(), config);
            let (_, outcome) = collect_once(&mut supplies, Instant::now());
            let Ok(Presence::Nothing(why)) = outcome else {
                panic!("{outcome:?}");
            };
            assert!(why.contains(part), "{why}");
        };
        let default = PowerSuppliesConfig::default();
        check(&intel_desktop(), &default, "neither a battery");
        let excluded = PowerSuppliesConfig {
            exclude: globs(["*"]),
            ..default
        };
        check(&thinkpad(), &excluded, "the settings leave out");
    }
}
