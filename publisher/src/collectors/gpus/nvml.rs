//! NVIDIA's management library (NVML): the only file that calls it.
//!
//! It is loaded at run time, so that a host without it is a host without NVIDIA GPUs. What it says
//! is not taken on trust: a value that can't be is absent, and so is what a board can't tell.

use std::ffi::OsStr;
use std::ops::RangeInclusive;
use std::path::Path;

use hostbus_wire::Name;
use hostbus_wire::sample::Gpu;
use nvml_wrapper::bitmasks::event::EventTypes;
use nvml_wrapper::enum_wrappers::device::{Clock, EccCounter, MemoryError, TemperatureSensor};
use nvml_wrapper::enums::device::UsedGpuMemory;
use nvml_wrapper::enums::event::XidError;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::struct_wrappers::device::ProcessInfo;
use nvml_wrapper::{Device, EventSet, Nvml};
use self_cell::self_cell;

use super::processes::{Kind, Process};
use super::roster::Identity;
use crate::error::DriverError;
use crate::rates::percent;

/// Where Windows' Linux has the library, should the loader not know.
const WSL_LIBRARY: &str = "/usr/lib/wsl/lib/libnvidia-ml.so.1";
/// More GPUs than any host has: a library that tells of more is broken.
const MAX_DEVICES: u32 = 64;
/// More processes than use a GPU at once: the list of them is asked for by this length.
const MAX_PROCESSES: u32 = 4096;
/// How many waiting Xids are taken at once.
const MAX_XIDS: usize = 32;

const CELSIUS: RangeInclusive<f64> = 0.0..=150.0;
const MILLIWATTS: RangeInclusive<f64> = 0.0..=10e6;
const MEGAHERTZ: RangeInclusive<f64> = 0.0..=20e3;
const PERCENT: RangeInclusive<f64> = 0.0..=100.0;
/// A fan may turn faster than its rated speed.
const FAN_PERCENT: RangeInclusive<f64> = 0.0..=200.0;
const MAX_MEMORY_BYTES: u64 = 1 << 50;

self_cell!(
    /// The library, and what lives in it.
    struct Loaded {
        owner: Nvml,
        #[covariant]
        dependent: Handles,
    }
);

struct Handles<'nvml> {
    /// By index. One that could not be had says why.
    devices: Vec<Result<Handle<'nvml>, Trouble>>,
    /// Where critical errors are heard of; `None` where the driver tells of none.
    xids: Option<EventSet<'nvml>>,
}

struct Handle<'nvml> {
    device: Device<'nvml>,
    identity: Identity,
}

/// The open library with the GPUs that it had when it was opened.
pub(super) struct Library(Loaded);

impl Library {
    /// Loads the library at `path`, or where the loader looks.
    pub(super) fn open(path: Option<&Path>) -> Result<Self, Trouble> {
        Ok(Self(Loaded::try_new(load(path)?, |library| {
            Handles::find(library)
        })?))
    }

    /// The GPUs by index: who they are, or why they can't be had.
    pub(super) fn devices(&self) -> impl Iterator<Item = Result<&Identity, &Trouble>> {
        let devices = self.0.borrow_dependent().devices.iter();
        devices.map(|handle| handle.as_ref().map(|handle| &handle.identity))
    }

    /// What the GPU of this index, one of [`Self::devices`], says, under the given name. The only errors are those that
    /// concern the whole device, or all of them.
    pub(super) fn read(&self, index: usize, name: Name) -> Result<Gpu, Trouble> {
        let handle = &self.0.borrow_dependent().devices[index];
        let handle = handle.as_ref().map_err(Trouble::clone)?;
        Ok(read(&handle.device, name)?)
    }

    /// The processes that use the GPU of this index.
    pub(super) fn processes(&self, index: usize) -> Vec<Process> {
        let mut all = Vec::new();
        let Ok(Handle { device, .. }) = &self.0.borrow_dependent().devices[index] else {
            return all;
        };
        let few = |count: Result<u32, NvmlError>| count.is_ok_and(|count| count <= MAX_PROCESSES);
        if few(device.running_compute_processes_count()) {
            let list = device.running_compute_processes().unwrap_or_default();
            all.extend(list.iter().map(|info| process(info, Kind::Compute)));
        }
        if few(device.running_graphics_processes_count()) {
            let list = device.running_graphics_processes().unwrap_or_default();
            all.extend(list.iter().map(|info| process(info, Kind::Graphics)));
        }
        all
    }

    /// The critical errors since the last call: the index of the GPU where it is known, and
    /// NVIDIA's code. Does not wait.
    pub(super) fn xids(&self) -> Vec<(Option<usize>, u64)> {
        let handles = self.0.borrow_dependent();
        let Some(set) = &handles.xids else {
            return Vec::new();
        };
        let mut xids = Vec::new();
        while xids.len() < MAX_XIDS {
            // "Nothing happened" is an error too.
            let Ok(event) = set.wait(0) else { break };
            if let Some(XidError::Value(xid)) = event.event_data {
                xids.push((handles.index_of(&event.device), xid));
            }
        }
        xids
    }
}

/// The version of the driver.
pub(super) fn driver_version(library: Option<&Path>) -> Result<String, Trouble> {
    Ok(load(library)?.sys_driver_version()?)
}

fn load(path: Option<&Path>) -> Result<Nvml, NvmlError> {
    let at = |path: &OsStr| Nvml::builder().lib_path(path).init();
    if let Some(path) = path {
        return at(path.as_os_str());
    }
    match Nvml::init() {
        Err(error) if is_absence(&error) && Path::new(WSL_LIBRARY).exists() => {
            at(WSL_LIBRARY.as_ref())
        }
        other => other,
    }
}

/// Why the library, or one of its GPUs, is of no use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Trouble {
    /// There is no library: a host without NVIDIA GPUs, and no failure.
    NoLibrary,
    /// One GPU is out of order, and the others may go on.
    Lost(&'static str),
    /// A GPU that may not be used, or all of them.
    Failure(DriverError),
}

impl Trouble {
    /// As a failure of the driver.
    pub(super) fn into_error(self) -> DriverError {
        let reason = match self {
            Self::NoLibrary => "its library libnvidia-ml.so.1 is not there".to_owned(),
            Self::Lost(reason) => format!("a GPU {reason}"),
            Self::Failure(error) => return error,
        };
        DriverError { reason }
    }
}

impl From<NvmlError> for Trouble {
    /// Says what it means for a person, where NVIDIA's own words leave one guessing.
    fn from(error: NvmlError) -> Self {
        let reason = match error {
            NvmlError::GpuLost => return Self::Lost("has fallen off the bus"),
            NvmlError::ResetRequired => return Self::Lost("must be reset before it works again"),
            absent if is_absence(&absent) => return Self::NoLibrary,
            NvmlError::LibRmVersionMismatch => {
                "library and kernel module have different versions: reboot, or reload the module"
                    .to_owned()
            }
            NvmlError::LibloadingError(reason) => format!("its library can't be loaded: {reason}"),
            NvmlError::FailedToLoadSymbol(_) | NvmlError::FunctionNotFound => {
                "its library lacks a function that is needed: it is too old, or another's"
                    .to_owned()
            }
            NvmlError::DriverNotLoaded => "the kernel module is not loaded".to_owned(),
            NvmlError::NoPermission => "no permission to use the device files".to_owned(),
            NvmlError::UnexpectedVariant(_) => "its library answers what can't be".to_owned(),
            other => other.to_string(),
        };
        Self::Failure(DriverError { reason })
    }
}

fn is_absence(error: &NvmlError) -> bool {
    // The loader tells in words only.
    const WORDS: &str = "No such file or directory";
    match error {
        NvmlError::LibloadingError(reason) => reason.to_string().contains(WORDS),
        other => matches!(other, NvmlError::LibraryNotFound),
    }
}

impl<'nvml> Handles<'nvml> {
    fn find(library: &'nvml Nvml) -> Result<Self, NvmlError> {
        // A host without GPUs is none of its errors.
        let count = match library.device_count() {
            Err(NvmlError::NotFound) => 0,
            other => other?,
        };
        if count > MAX_DEVICES {
            return Err(NvmlError::UnexpectedVariant(count));
        }
        let devices: Vec<_> = (0..count)
            .map(|index| Handle::find(library, index).map_err(Trouble::from))
            .collect();
        let xids = listen(library, &devices);
        Ok(Self { devices, xids })
    }

    fn index_of(&self, device: &Device<'_>) -> Option<usize> {
        let identity = identify(device);
        self.devices.iter().position(|handle| {
            handle
                .as_ref()
                .is_ok_and(|handle| handle.identity.is(&identity))
        })
    }
}

impl<'nvml> Handle<'nvml> {
    fn find(library: &'nvml Nvml, index: u32) -> Result<Self, NvmlError> {
        let device = library.device_by_index(index)?;
        let identity = identify(&device);
        Ok(Self { device, identity })
    }
}

fn identify(device: &Device<'_>) -> Identity {
    Identity {
        uuid: device.uuid().ok().filter(|uuid| !uuid.is_empty()),
        slot: device
            .pci_info()
            .ok()
            .and_then(|pci| pci.bus_id.parse().ok()),
    }
}

/// Asks to be told of critical errors of all devices that can tell.
fn listen<'nvml>(
    library: &'nvml Nvml,
    devices: &[Result<Handle<'nvml>, Trouble>],
) -> Option<EventSet<'nvml>> {
    let mut set = library.create_event_set().ok()?;
    for Handle { device, .. } in devices.iter().flatten() {
        let tells = device.supported_event_types();
        if tells.is_ok_and(|types| types.contains(EventTypes::CRITICAL_XID_ERROR)) {
            // On an error the set is gone.
            set = device
                .register_events(EventTypes::CRITICAL_XID_ERROR, set)
                .ok()?;
        }
    }
    Some(set)
}

fn read(device: &Device<'_>, name: Name) -> Result<Gpu, NvmlError> {
    let model = known(device.name())?.and_then(|model| model.parse().ok());
    let mut gpu = Gpu::new(name, model);
    if let Some(usage) = known(device.utilization_rates())? {
        gpu.usage_percent = within(usage.gpu, PERCENT);
        gpu.memory_busy_percent = within(usage.memory, PERCENT);
    }
    if let Some(memory) = known(device.memory_info())?
        && (1..=MAX_MEMORY_BYTES).contains(&memory.total)
    {
        gpu.memory_total_bytes = Some(memory.total);
        if memory.used <= memory.total {
            gpu.memory_used_bytes = Some(memory.used);
            gpu.memory_used_percent = percent(memory.used, memory.total);
        }
    }
    let watts = |milliwatts: Option<u32>| Some(within(milliwatts?, MILLIWATTS)? / 1000.0);
    let number = |value: Option<u32>, range| within(value?, range);
    gpu.temperature_celsius = number(known(device.temperature(TemperatureSensor::Gpu))?, CELSIUS);
    gpu.power_watts = watts(known(device.power_usage())?);
    gpu.power_limit_watts = watts(known(device.enforced_power_limit())?);
    gpu.fan_percent = number(known(device.fan_speed(0))?, FAN_PERCENT).map(|fan| fan.min(100.0));
    gpu.clock_mhz = number(known(device.clock_info(Clock::SM))?, MEGAHERTZ);
    gpu.memory_clock_mhz = number(known(device.clock_info(Clock::Memory))?, MEGAHERTZ);
    let errors = |kind| known(device.total_ecc_errors(kind, EccCounter::Volatile));
    gpu.ecc_corrected_errors = errors(MemoryError::Corrected)?;
    gpu.ecc_uncorrected_errors = errors(MemoryError::Uncorrected)?;
    Ok(gpu)
}

/// Turns "can't tell" into absence, and keeps the errors that mean trouble.
fn known<T>(answer: Result<T, NvmlError>) -> Result<Option<T>, NvmlError> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(
            error @ (NvmlError::GpuLost
            | NvmlError::ResetRequired
            | NvmlError::Uninitialized
            | NvmlError::DriverNotLoaded
            | NvmlError::LibRmVersionMismatch),
        ) => Err(error),
        Err(_) => Ok(None),
    }
}

fn within(value: u32, range: RangeInclusive<f64>) -> Option<f64> {
    Some(f64::from(value)).filter(|value| range.contains(value))
}

fn process(info: &ProcessInfo, kind: Kind) -> Process {
    Process {
        pid: info.pid,
        memory_bytes: match info.used_gpu_memory {
            UsedGpuMemory::Used(bytes) => Some(bytes).filter(|bytes| *bytes <= MAX_MEMORY_BYTES),
            UsedGpuMemory::Unavailable => None,
        },
        kind,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_board_cannot_tell_is_absent_and_trouble_is_an_error() {
        assert_eq!(known::<u32>(Ok(5)).unwrap(), Some(5));
        for absent in [
            NvmlError::NotSupported,
            NvmlError::NoPermission,
            NvmlError::Unknown,
            NvmlError::FailedToLoadSymbol("x".into()),
        ] {
            assert_eq!(known::<u32>(Err(absent)).unwrap(), None);
        }
        for trouble in [NvmlError::GpuLost, NvmlError::LibRmVersionMismatch] {
            assert!(known::<u32>(Err(trouble)).is_err());
        }
    }

    #[test]
    fn a_value_that_cannot_be_is_absent() {
        assert_eq!(within(100, PERCENT), Some(100.0));
        assert_eq!(within(101, PERCENT), None);
        assert_eq!(within(u32::MAX, MILLIWATTS), None);
    }
}
