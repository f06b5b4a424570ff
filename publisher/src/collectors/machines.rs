//! Stand-ins for machines: the files of `/proc` and `/sys` that the collectors read, as they are on
//! some real ones.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

/// A machine's files, below a folder that goes with it.
pub(crate) struct Machine {
    root: PathBuf,
}

/// How many were made, for a folder of its own each.
static MADE: AtomicUsize = AtomicUsize::new(0);

const HWMON: &str = "sys/class/hwmon";

impl Machine {
    /// One without any file.
    pub(crate) fn new() -> Self {
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let name = format!("hostbus-machine-{}-{number}", std::process::id());
        let root = std::env::temp_dir().join(name);
        let _ = fs::remove_dir_all(&root);
        fs::create_dir_all(&root).unwrap();
        Self { root }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn write(&self, path: &str, text: &str) {
        let path = self.root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Writes the files of one folder.
    pub(crate) fn folder(&self, folder: &str, files: &[(&str, &str)]) {
        fs::create_dir_all(self.root.join(folder)).unwrap();
        for (file, text) in files {
            self.write(&format!("{folder}/{file}"), &format!("{text}\n"));
        }
    }

    /// A sensor chip of a device.
    pub(crate) fn chip(&self, hwmon: &str, device: &str, files: &[(&str, &str)]) {
        let folder = format!("{HWMON}/{hwmon}");
        self.folder(&folder, files);
        let link = self.root.join(folder).join("device");
        let _ = fs::remove_file(&link);
        symlink(format!("../../../{device}"), link).unwrap();
    }

    pub(crate) fn power_supply(&self, name: &str, files: &[(&str, &str)]) {
        self.folder(&format!("sys/class/power_supply/{name}"), files);
    }

    /// Removes a file or a folder.
    pub(crate) fn remove(&self, path: &str) {
        let path = self.root.join(path);
        if path.is_dir() {
            fs::remove_dir_all(path).unwrap();
        } else {
            fs::remove_file(path).unwrap();
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.root);
    }
}

/// One socket, a Super-I/O chip with fans and voltages, an NVMe drive; energy counters for the
/// package, its cores, the platform, and the package once more by memory-mapped registers.
pub(crate) fn intel_desktop() -> Machine {
    let machine = Machine::new();
    machine.chip(
        "hwmon0",
        "thermal_zone0",
        &[("name", "acpitz"), ("temp1_input", "27800")],
    );
    machine.chip(
        "hwmon1",
        "nvme0",
        &[
            ("name", "nvme"),
            ("temp1_label", "Composite"),
            ("temp1_input", "38850"),
            ("temp1_crit", "84850"),
        ],
    );
    machine.chip(
        "hwmon2",
        "coretemp.0",
        &[
            ("name", "coretemp"),
            ("temp1_label", "Package id 0"),
            ("temp1_input", "51500"),
            ("temp1_max", "100000"),
            ("temp2_label", "Core 0"),
            ("temp2_input", "53000"),
            ("temp3_label", "Core 4"),
            ("temp3_input", "49000"),
        ],
    );
    machine.chip(
        "hwmon3",
        "nct6775.656",
        &[
            ("name", "nct6798"),
            ("in0_input", "888"),
            ("in1_input", "1000"),
            ("in7_label", "3VSB"),
            ("in7_input", "3376"),
            ("fan1_input", "0"),
            ("fan2_label", "CPU Fan"),
            ("fan2_input", "1183"),
            ("fan2_min", "0"),
            ("fan7_input", "65535"),
            ("temp1_label", "SYSTIN"),
            ("temp1_input", "31000"),
            ("temp1_fault", "0"),
            ("temp4_label", "AUXTIN1"),
            ("temp4_input", "-128000"),
            ("temp5_label", "AUXTIN2"),
            ("temp5_input", "127000"),
            ("temp8_label", "PCH_CHIP_TEMP"),
            ("temp8_input", "0"),
            ("temp9_label", "AUXTIN3"),
            ("temp9_input", "24000"),
            ("temp9_fault", "1"),
        ],
    );
    machine.energy("intel-rapl:0", "package-0", "1000000000", "262143328850");
    machine.energy("intel-rapl:0:0", "core", "700000000", "262143328850");
    machine.energy("intel-rapl:1", "psys", "9000000000", "262143328850");
    machine.energy(
        "intel-rapl-mmio:0",
        "package-0",
        "1000000000",
        "262143328850",
    );
    machine
}

/// Two sockets, of which one tells its true temperature besides that for the fans.
pub(crate) fn amd_server() -> Machine {
    let machine = Machine::new();
    machine.chip(
        "hwmon0",
        "0000:00:18.3",
        &[
            ("name", "k10temp"),
            ("temp1_label", "Tctl"),
            ("temp1_input", "48125"),
            ("temp3_label", "Tccd1"),
            ("temp3_input", "61500"),
        ],
    );
    machine.chip(
        "hwmon1",
        "0000:00:19.3",
        &[
            ("name", "k10temp"),
            ("temp1_label", "Tctl"),
            ("temp1_input", "82000"),
            ("temp2_label", "Tdie"),
            ("temp2_input", "55000"),
        ],
    );
    machine.energy("intel-rapl:0", "package-0", "65532000000", "65532610987");
    machine.energy("intel-rapl:0:0", "core", "5000000", "65532610987");
    machine.energy("intel-rapl:1", "package-1", "1000000", "65532610987");
    machine
}

/// One thermal zone, known to both interfaces, and a fan.
pub(crate) fn raspberry_pi() -> Machine {
    let machine = Machine::new();
    machine.chip(
        "hwmon0",
        "thermal_zone0",
        &[("name", "cpu_thermal"), ("temp1_input", "48312")],
    );
    machine.chip(
        "hwmon1",
        "soc:firmware:hwmon",
        &[("name", "rpi_volt"), ("in0_lcrit_alarm", "0")],
    );
    machine.chip(
        "hwmon2",
        "cooling_fan",
        &[("name", "pwmfan"), ("fan1_input", "2978"), ("pwm1", "75")],
    );
    machine.folder(
        "sys/class/thermal/thermal_zone0",
        &[("type", "cpu-thermal"), ("temp", "48312")],
    );
    machine
}

/// Two batteries, one of which is being emptied, the mains away, and a mouse.
pub(crate) fn thinkpad() -> Machine {
    let machine = Machine::new();
    machine.chip(
        "hwmon4",
        "thinkpad_hwmon",
        &[
            ("name", "thinkpad"),
            ("fan1_input", "2641"),
            ("temp1_label", "CPU"),
            ("temp1_input", "46000"),
            ("temp2_label", "GPU"),
            ("temp2_input", ""),
            ("temp3_input", "0"),
        ],
    );
    machine.power_supply("AC", &[("type", "Mains"), ("online", "0")]);
    machine.power_supply(
        "BAT0",
        &[
            ("type", "Battery"),
            ("present", "1"),
            ("status", "Not charging"),
            ("capacity", "79"),
            ("energy_full_design", "24050000"),
            ("energy_full", "21120000"),
            ("energy_now", "16770000"),
            ("power_now", "0"),
            ("voltage_now", "11910000"),
        ],
    );
    machine.power_supply(
        "BAT1",
        &[
            ("type", "Battery"),
            ("present", "1"),
            ("status", "Discharging"),
            ("capacity", "40"),
            ("energy_full_design", "24050000"),
            ("energy_full", "18000000"),
            ("energy_now", "7200000"),
            ("power_now", "6540000"),
            ("voltage_now", "11206000"),
        ],
    );
    machine.power_supply(
        "hidpp_battery_0",
        &[
            ("type", "Battery"),
            ("scope", "Device"),
            ("online", "1"),
            ("status", "Discharging"),
            ("capacity", "90"),
            ("voltage_now", "4010000"),
        ],
    );
    machine
}

/// Two sockets, disks, network ports of which two have a chip each, and none of the fans and
/// voltages that only the management controller sees.
pub(crate) fn dell_server() -> Machine {
    let machine = Machine::new();
    for (socket, celsius) in [("0", "41000"), ("1", "47000")] {
        machine.chip(
            &format!("hwmon{socket}"),
            &format!("coretemp.{socket}"),
            &[
                ("name", "coretemp"),
                ("temp1_label", &format!("Package id {socket}")),
                ("temp1_input", celsius),
                ("temp2_label", "Core 0"),
                ("temp2_input", "39000"),
            ],
        );
    }
    machine.chip(
        "hwmon2",
        "0000:04:00.0",
        &[
            ("name", "i350bb"),
            ("temp1_label", "loc1"),
            ("temp1_input", "52000"),
        ],
    );
    machine.chip(
        "hwmon3",
        "0:0:0:0",
        &[("name", "drivetemp"), ("temp1_input", "29000")],
    );
    machine.chip(
        "hwmon4",
        "0:0:1:0",
        &[("name", "drivetemp"), ("temp1_input", "30000")],
    );
    machine.chip(
        "hwmon5",
        "ACPI000D:00",
        &[("name", "power_meter"), ("power1_average", "168000000")],
    );
    machine
}

impl Machine {
    /// Sets an energy counter.
    pub(crate) fn energy(&self, zone: &str, name: &str, energy_uj: &str, range_uj: &str) {
        self.folder(
            &format!("sys/class/powercap/{zone}"),
            &[
                ("name", name),
                ("energy_uj", energy_uj),
                ("max_energy_range_uj", range_uj),
            ],
        );
    }
}
