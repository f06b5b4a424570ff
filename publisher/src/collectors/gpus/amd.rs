//! AMD's graphics processors, from the files of the kernel's driver `amdgpu`.
//!
//! ```text
//! /sys/class/drm/card1/device -> ../../../0000:03:00.0
//!   driver -> .../amdgpu
//!   gpu_busy_percent           37
//!   mem_busy_percent           12
//!   mem_info_vram_total        17163091968      bytes
//!   mem_info_vram_used         1219645440       bytes
//!   product_name               Instinct MI210   on some boards only
//!   vendor, device             0x1002, 0x744c
//!   hwmon/hwmon4/temp1_input   46000            thousandths of a degree Celsius
//!   hwmon/hwmon4/power1_average 29000000        millionths of a watt; power1_input on newer boards
//!   hwmon/hwmon4/power1_cap    303000000        millionths of a watt
//!   hwmon/hwmon4/fan1_input    1200             turns a minute, of fan1_max; or pwm1 of 255
//!   hwmon/hwmon4/freq1_input   1500000000       hertz, of the shaders; freq2_input of the memory
//! ```
//! A GPU's name is the address of its slot, `0000:03:00.0`: the numbers of cards change from boot to
//! boot, and an index could be one of NVIDIA's. One whose power the kernel has taken is left asleep.
//! Memory errors and memory by process are not read.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use hostbus_wire::Name;
use hostbus_wire::sample::Gpu;

use super::pci;
use crate::collectors::{Pass, Presence, attribute};
use crate::events;
use crate::rates::percent;
use crate::selection::Selection;

const DRIVER: &str = "amdgpu";
/// Cards come and go with their driver.
const LOOK_AGAIN: Duration = Duration::from_secs(300);

/// AMD's GPUs.
pub(super) struct Amd {
    folder: PathBuf,
    cards: Vec<Card>,
    looked_at: Option<Instant>,
}

struct Card {
    name: Name,
    model: Option<Name>,
    device: PathBuf,
    sensors: Option<PathBuf>,
    /// It told something once.
    worked: bool,
    lost: bool,
}

impl Amd {
    /// The kernel lists cards in this folder.
    pub(super) fn at(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
            cards: Vec::new(),
            looked_at: None,
        }
    }

    /// Adds the GPUs to the pass.
    pub(super) fn collect(&mut self, pass: &mut Pass, selection: &Selection) -> Presence {
        let fresh = self
            .looked_at
            .is_some_and(|at| pass.now.saturating_duration_since(at) < LOOK_AGAIN);
        if !fresh {
            self.look();
            self.looked_at = Some(pass.now);
        }
        let (mut read, mut asleep) = (0, 0);
        for card in &mut self.cards {
            if !selection.takes(card.name.as_str()) {
                continue;
            }
            if pci::is_asleep(&card.device) {
                asleep += 1;
                continue;
            }
            let gpu = card.read();
            let works = gpu != Gpu::new(card.name.clone(), card.model.clone());
            if works && card.lost {
                pass.events.push(events::gpu_back(pass.ts, &card.name));
            } else if !works && card.worked && !card.lost {
                let event = events::gpu_lost(pass.ts, &card.name, "answers nothing any more", None);
                pass.events.push(event);
            }
            card.lost = !works && card.worked;
            card.worked |= works;
            if works {
                pass.sample.gpus.push(gpu);
                read += 1;
            }
        }
        let why = match (read, asleep, self.cards.len()) {
            (1.., _, _) => return Presence::Here,
            (_, 1.., _) => "AMD's GPUs are asleep, and left so",
            (_, _, 0) => "no AMD GPU",
            _ => "AMD's GPUs tell nothing",
        };
        Presence::Nothing(why.to_owned())
    }

    /// Looks for cards. One that is gone stays on the list, for it may come back.
    fn look(&mut self) {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        for found in entries.filter_map(|entry| Card::find(&entry.path())) {
            match self.cards.iter_mut().find(|card| card.name == found.name) {
                Some(card) => {
                    card.device = found.device;
                    card.sensors = found.sensors;
                }
                None => self.cards.push(found),
            }
        }
        self.cards.sort_by(|one, other| one.name.cmp(&other.name));
    }
}

impl Card {
    /// The card of a folder such as `card1`. Connectors, `card1-DP-1`, have no device.
    fn find(folder: &Path) -> Option<Self> {
        let number = folder.file_name()?.to_str()?.strip_prefix("card")?;
        if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let device = fs::canonicalize(folder.join("device")).ok()?;
        let driver = fs::read_link(device.join("driver")).ok()?;
        if driver.file_name()? != DRIVER {
            return None;
        }
        let mut sensors = fs::read_dir(device.join("hwmon")).into_iter().flatten();
        Some(Self {
            name: device.file_name()?.to_str()?.parse().ok()?,
            model: model(&device),
            sensors: sensors.find_map(|entry| Some(entry.ok()?.path())),
            device,
            worked: false,
            lost: false,
        })
    }

    fn read(&self) -> Gpu {
        let count = |number: i64| u64::try_from(number).ok();
        let of_device = |file: &str| attribute::number(&self.device.join(file)).and_then(count);
        let sensor = |file: &str| attribute::number(&self.sensors.as_ref()?.join(file));
        let scaled = |file: &str, unit: f64| sensor(file).map(|value| value as f64 / unit);
        let mut gpu = Gpu::new(self.name.clone(), self.model.clone());
        let share = |value: Option<u64>| value.filter(|value| *value <= 100).map(|it| it as f64);
        gpu.usage_percent = share(of_device("gpu_busy_percent"));
        gpu.memory_busy_percent = share(of_device("mem_busy_percent"));
        gpu.memory_total_bytes = of_device("mem_info_vram_total").filter(|total| *total > 0);
        if let Some(total) = gpu.memory_total_bytes {
            gpu.memory_used_bytes = of_device("mem_info_vram_used").filter(|used| *used <= total);
            gpu.memory_used_percent = gpu.memory_used_bytes.and_then(|used| percent(used, total));
        }
        gpu.temperature_celsius = scaled("temp1_input", 1e3);
        gpu.power_watts = scaled("power1_average", 1e6).or_else(|| scaled("power1_input", 1e6));
        gpu.power_limit_watts = scaled("power1_cap", 1e6);
        let fan = |file: &str| sensor(file).and_then(count);
        let turning = || percent(fan("fan1_input")?, fan("fan1_max")?);
        gpu.fan_percent = turning().or_else(|| percent(fan("pwm1")?, 255));
        gpu.clock_mhz = scaled("freq1_input", 1e6);
        gpu.memory_clock_mhz = scaled("freq2_input", 1e6);
        gpu
    }
}

/// The name that the board has of itself, or the numbers of its vendor and kind.
fn model(device: &Path) -> Option<Name> {
    let text = |file: &str| attribute::text(&device.join(file));
    let numbers = || {
        let (vendor, kind) = (text("vendor")?, text("device")?);
        let hex = |text: &str| text.trim_start_matches("0x").to_owned();
        Some(format!("{}:{}", hex(&vendor), hex(&kind)))
    };
    text("product_name").or_else(numbers)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use tempfile::TempDir;

    use super::*;

    /// A folder that stands in for `/sys`, with one card.
    struct Sys(TempDir);

    impl Sys {
        /// What a Radeon RX 7900 shows.
        const FILES: [(&str, &str); 14] = [
            ("vendor", "0x1002\n"),
            ("device", "0x744c\n"),
            ("gpu_busy_percent", "37\n"),
            ("mem_busy_percent", "12\n"),
            ("mem_info_vram_total", "25753026560\n"),
            ("mem_info_vram_used", "6438256640\n"),
            ("hwmon/hwmon4/temp1_input", "46000\n"),
            ("hwmon/hwmon4/power1_average", "29000000\n"),
            ("hwmon/hwmon4/power1_cap", "303000000\n"),
            ("hwmon/hwmon4/fan1_input", "800\n"),
            ("hwmon/hwmon4/fan1_max", "3200\n"),
            ("hwmon/hwmon4/pwm1", "51\n"),
            ("hwmon/hwmon4/freq1_input", "1500000000\n"),
            ("hwmon/hwmon4/freq2_input", "96000000\n"),
        ];

        fn new() -> Self {
            let sys = Self(TempDir::new().unwrap());
            sys.card("card1", "0000:03:00.0", "amdgpu");
            for (file, text) in Self::FILES {
                sys.write(file, text);
            }
            sys
        }

        fn card(&self, card: &str, slot: &str, driver: &str) {
            let device = self.0.path().join("devices").join(slot);
            let drivers = self.0.path().join("drivers").join(driver);
            let card = self.cards().join(card);
            for folder in [&device, &drivers, &card] {
                fs::create_dir_all(folder).unwrap();
            }
            symlink(&device, card.join("device")).unwrap();
            symlink(drivers, device.join("driver")).unwrap();
        }

        fn cards(&self) -> PathBuf {
            self.0.path().join("drm")
        }

        fn path(&self, file: &str) -> PathBuf {
            self.0.path().join("devices/0000:03:00.0").join(file)
        }

        fn write(&self, file: &str, text: &str) {
            let path = self.path(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
    }

    fn turn(amd: &mut Amd, now: Instant) -> (Pass, Presence) {
        let mut pass = Pass::at(now, 5);
        let presence = amd.collect(&mut pass, &Selection::new(&[], &[]));
        (pass, presence)
    }

    #[test]
    fn a_cards_files_are_read_in_their_units() {
        let sys = Sys::new();
        sys.card("card0", "0000:00:02.0", "i915");
        fs::create_dir_all(sys.cards().join("card1-DP-1")).unwrap();
        let mut amd = Amd::at(&sys.cards());
        let (pass, presence) = turn(&mut amd, Instant::now());
        assert_eq!(presence, Presence::Here);
        let model = "1002:744c".parse().ok();
        let mut gpu = Gpu::new("0000:03:00.0".parse().unwrap(), model);
        gpu.usage_percent = Some(37.0);
        gpu.memory_busy_percent = Some(12.0);
        gpu.memory_total_bytes = Some(25_753_026_560);
        gpu.memory_used_bytes = Some(6_438_256_640);
        gpu.memory_used_percent = Some(25.0);
        gpu.temperature_celsius = Some(46.0);
        gpu.power_watts = Some(29.0);
        gpu.power_limit_watts = Some(303.0);
        gpu.fan_percent = Some(25.0);
        gpu.clock_mhz = Some(1500.0);
        gpu.memory_clock_mhz = Some(96.0);
        assert_eq!(pass.sample.gpus, [gpu]);
    }

    #[test]
    fn newer_and_simpler_boards_have_other_files() {
        let sys = Sys::new();
        sys.write("product_name", "AMD Instinct MI210\n");
        sys.write("hwmon/hwmon4/power1_input", "41000000\n");
        for gone in ["power1_average", "fan1_max", "freq2_input"] {
            fs::remove_file(sys.path("hwmon/hwmon4").join(gone)).unwrap();
        }
        let (pass, _) = turn(&mut Amd::at(&sys.cards()), Instant::now());
        let gpu = &pass.sample.gpus[0];
        assert_eq!(gpu.model, "AMD Instinct MI210".parse().ok());
        assert_eq!(gpu.power_watts, Some(41.0));
        assert_eq!(gpu.fan_percent, Some(20.0));
        assert_eq!(gpu.memory_clock_mhz, None);
    }

    #[test]
    fn a_sleeping_card_is_left_asleep() {
        let sys = Sys::new();
        sys.write("power/runtime_status", "suspended\n");
        let mut amd = Amd::at(&sys.cards());
        let start = Instant::now();
        let (pass, presence) = turn(&mut amd, start);
        assert!(pass.sample.gpus.is_empty());
        assert!(matches!(presence, Presence::Nothing(why) if why.contains("asleep")));
        sys.write("power/runtime_status", "active\n");
        let (pass, _) = turn(&mut amd, start);
        assert_eq!(pass.sample.gpus.len(), 1);
    }

    #[test]
    fn a_card_that_falls_silent_is_told_once_and_so_is_its_return() {
        let sys = Sys::new();
        let mut amd = Amd::at(&sys.cards());
        let start = Instant::now();
        let mut events = |seconds| {
            let (pass, _) = turn(&mut amd, start + Duration::from_secs(seconds));
            let kinds = pass.events.into_iter().map(|event| event.kind);
            (pass.sample.gpus.len(), kinds.collect::<Vec<_>>())
        };
        assert_eq!(events(0), (1, vec![]));
        let away = sys.0.path().join("away");
        fs::rename(sys.path(""), &away).unwrap();
        assert_eq!(events(10), (0, vec!["gpu-lost".to_owned()]));
        assert_eq!(events(20), (0, vec![]));
        // Not found anew, and still not forgotten.
        assert_eq!(events(400), (0, vec![]));
        fs::rename(&away, sys.path("")).unwrap();
        assert_eq!(events(410), (1, vec!["gpu-back".to_owned()]));
    }

    #[test]
    fn a_host_without_cards_has_no_amd_gpu() {
        let folder = TempDir::new().unwrap();
        let (_, presence) = turn(&mut Amd::at(folder.path()), Instant::now());
        assert_eq!(presence, Presence::Nothing("no AMD GPU".to_owned()));
    }
}
