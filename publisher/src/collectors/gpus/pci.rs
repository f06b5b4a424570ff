//! What the kernel's list of PCI devices tells about GPUs without waking them.
//!
//! ```text
//! 0000:65:00.0/vendor                  0x10de        NVIDIA
//! 0000:65:00.0/class                   0x030000      display: VGA; 0x030200 is a 3D controller
//! 0000:65:00.0/power/runtime_status    suspended     it has no power until someone asks it
//! 0000:65:00.0/power/runtime_suspended_time  4711     milliseconds that it slept in all
//! ```

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::collectors::attribute;

const NVIDIA: &str = "0x10de";
const DISPLAY: &str = "0x03";
/// Where an NVIDIA driver works without a PCI device that the kernel shows: in a container whose
/// `/sys` is empty, in Windows' Linux, on NVIDIA's boards with a GPU on the chip.
const TRACES: [&str; 4] = [
    "/dev/nvidiactl",
    "/dev/dxg",
    "/dev/nvhost-gpu",
    "/dev/nvgpu",
];

/// Where a device is plugged in, `0000:65:00.0`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Slot {
    domain: u32,
    bus: u8,
    device: u8,
    function: u8,
}

impl FromStr for Slot {
    type Err = ();

    /// Takes the kernel's form, and NVIDIA's with a domain of eight digits.
    fn from_str(text: &str) -> Result<Self, ()> {
        let parse = || {
            let (domain, rest) = text.split_once(':')?;
            let (bus, rest) = rest.split_once(':')?;
            let (device, function) = rest.split_once('.')?;
            let byte = |text| u8::from_str_radix(text, 16).ok();
            Some(Self {
                domain: u32::from_str_radix(domain, 16).ok()?,
                bus: byte(bus)?,
                device: byte(device)?,
                function: byte(function)?,
            })
        };
        parse().ok_or(())
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            domain,
            bus,
            device,
            function,
        } = self;
        write!(f, "{domain:04x}:{bus:02x}:{device:02x}.{function:x}")
    }
}

/// The kernel's list of PCI devices.
#[derive(Debug)]
pub(super) struct Pci {
    folder: PathBuf,
}

/// What the list says about NVIDIA GPUs.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Nvidia {
    /// It is no use: there may be some all the same.
    Unknown,
    /// It has these, perhaps none.
    Slots(Vec<Slot>),
}

impl Pci {
    pub(super) fn at(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
        }
    }

    /// Looks for NVIDIA GPUs.
    pub(super) fn nvidia(&self) -> Nvidia {
        let devices: Vec<_> = fs::read_dir(&self.folder)
            .into_iter()
            .flatten()
            .flatten()
            .collect();
        let says = |folder: &Path, file: &str, what: &str| {
            attribute::text(&folder.join(file)).is_some_and(|text| text.starts_with(what))
        };
        let slots: Vec<Slot> = devices
            .iter()
            .filter(|device| says(&device.path(), "vendor", NVIDIA))
            .filter(|device| says(&device.path(), "class", DISPLAY))
            .filter_map(|device| device.file_name().to_str()?.parse().ok())
            .collect();
        let hidden = || TRACES.iter().any(|trace| Path::new(trace).exists());
        if slots.is_empty() && (devices.is_empty() || hidden()) {
            return Nvidia::Unknown;
        }
        Nvidia::Slots(slots)
    }

    /// [`Self::is_asleep`] for a device whose slot may not be known.
    pub(super) fn has_asleep(&self, slot: &Option<Slot>) -> bool {
        slot.as_ref().is_some_and(|slot| self.is_asleep(slot))
    }

    /// Whether all of some devices sleep.
    pub(super) fn all_asleep(&self, slots: &[Slot]) -> bool {
        slots.iter().all(|slot| self.is_asleep(slot))
    }

    /// Whether a device ever slept since the host was started, so that it may again.
    pub(super) fn has_slept(&self, slot: &Option<Slot>) -> bool {
        let Some(slot) = slot else { return false };
        let path = format!("{slot}/power/runtime_suspended_time");
        attribute::number(&self.folder.join(path)).is_some_and(|milliseconds| milliseconds > 0)
    }

    /// Whether the kernel has taken a device's power, which a question would bring back.
    fn is_asleep(&self, slot: &Slot) -> bool {
        let device = self.folder.join(slot.to_string());
        is_asleep(&device)
    }
}

/// Whether the kernel has taken the power of the device with this folder in `/sys`.
pub(super) fn is_asleep(device: &Path) -> bool {
    attribute::text(&device.join("power/runtime_status")).is_some_and(|it| it == "suspended")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(folder: &Path, slot: &str, vendor: &str, class: &str) {
        let device = folder.join(slot);
        fs::create_dir_all(&device).unwrap();
        fs::write(device.join("vendor"), format!("{vendor}\n")).unwrap();
        fs::write(device.join("class"), format!("{class}\n")).unwrap();
    }

    #[test]
    fn a_slot_is_the_same_in_both_ways_to_write_it() {
        let slot: Slot = "00000000:C1:00.0".parse().unwrap();
        assert_eq!(slot.to_string(), "0000:c1:00.0");
        assert_eq!(slot, "0000:c1:00.0".parse().unwrap());
        let far: Slot = "00010000:01:1f.7".parse().unwrap();
        assert_eq!(far.to_string(), "10000:01:1f.7");
        for wrong in ["", "0000:65:00", "../../etc", "0000:165:00.0", "é:65:00.0"] {
            assert!(wrong.parse::<Slot>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn only_nvidias_display_devices_are_gpus() {
        let folder = tempfile::tempdir().unwrap();
        let pci = Pci::at(folder.path());
        assert_eq!(pci.nvidia(), Nvidia::Unknown);
        device(folder.path(), "0000:00:02.0", "0x8086", "0x030000");
        device(folder.path(), "0000:65:00.1", "0x10de", "0x040300");
        let none = Nvidia::Slots(Vec::new());
        // A host with a driver of its own may say "unknown", for the driver's traces are there.
        assert!([none, Nvidia::Unknown].contains(&pci.nvidia()));
        device(folder.path(), "0000:65:00.0", "0x10de", "0x030200");
        let slots = vec!["0000:65:00.0".parse().unwrap()];
        assert_eq!(pci.nvidia(), Nvidia::Slots(slots));
    }
}
