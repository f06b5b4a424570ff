//! NVIDIA graphics processors, through NVIDIA's management library (NVML).
//!
//! The library is loaded at run time: a host without it simply has no GPUs. A driver that fails is
//! left alone for some minutes and then tried anew, because a lost GPU or an update of the driver
//! can't be mended with an open library.

use std::time::{Duration, Instant};

use hostbus_wire::Sample;
use hostbus_wire::sample::Gpu;
use nvml_wrapper::Nvml;
use nvml_wrapper::enum_wrappers::device::{Clock, TemperatureSensor};
use nvml_wrapper::error::NvmlError;
use tracing::info;

use super::{Collector, Pass, Presence};
use crate::error::{CollectorError, DriverError};
use crate::rates::percent;

/// How long a library that is absent or fails is left alone.
const TRY_AGAIN: Duration = Duration::from_secs(300);

/// The version of the NVIDIA driver on this host.
///
/// # Errors
/// There is no library, or it does not work with the kernel module.
pub fn driver_version() -> Result<String, DriverError> {
    let version = Nvml::init().and_then(|library| library.sys_driver_version());
    version.map_err(|error| explain(&error))
}

/// Reads graphics processors.
#[derive(Default)]
pub(crate) struct Gpus {
    library: Library,
    absence_told: bool,
}

#[derive(Default)]
enum Library {
    #[default]
    Unopened,
    Open(Box<Nvml>),
    /// There is none (`failure` is absent), or its driver failed.
    Closed {
        until: Instant,
        failure: Option<DriverError>,
    },
}

impl Collector for Gpus {
    fn collect(&mut self, pass: &mut Pass) -> Result<Presence, CollectorError> {
        if let Library::Closed { until, failure } = &self.library
            && pass.now < *until
        {
            return match failure {
                None => Ok(no_library()),
                Some(failure) => Err(failure.clone().into()),
            };
        }
        match self.read(&mut pass.sample) {
            Ok(0) => Ok(Presence::Nothing("no NVIDIA GPU".to_owned())),
            Ok(_) => Ok(Presence::Here),
            Err(error) => self.close(pass.now, &error),
        }
    }
}

impl Gpus {
    /// Adds all GPUs to the sample and tells how many there are.
    fn read(&mut self, sample: &mut Sample) -> Result<usize, NvmlError> {
        if !matches!(self.library, Library::Open(_)) {
            self.library = Library::Open(Box::new(Nvml::init()?));
        }
        let Library::Open(library) = &self.library else {
            return Ok(0);
        };
        let count = library.device_count()?;
        for index in 0..count {
            sample.gpus.push(gpu(library, index)?);
        }
        Ok(sample.gpus.len())
    }

    fn close(&mut self, now: Instant, error: &NvmlError) -> Result<Presence, CollectorError> {
        let until = now + TRY_AGAIN;
        if is_absence(error) {
            if !self.absence_told {
                info!("no NVIDIA library on this host, so no GPUs are collected");
                self.absence_told = true;
            }
            self.library = Library::Closed {
                until,
                failure: None,
            };
            return Ok(no_library());
        }
        let failure = explain(error);
        self.library = Library::Closed {
            until,
            failure: Some(failure.clone()),
        };
        Err(failure.into())
    }
}

fn no_library() -> Presence {
    Presence::Nothing("no NVIDIA library on this host".to_owned())
}

/// No library is a host without NVIDIA GPUs, not a failure.
fn is_absence(error: &NvmlError) -> bool {
    matches!(
        error,
        NvmlError::LibloadingError(_) | NvmlError::LibraryNotFound
    )
}

/// What it means for a person, where NVIDIA's own words leave one guessing.
fn explain(error: &NvmlError) -> DriverError {
    let reason = match error {
        NvmlError::LibRmVersionMismatch => {
            "library and kernel module have different versions: reboot, or reload the module".into()
        }
        NvmlError::LibloadingError(_) | NvmlError::LibraryNotFound => {
            "its library libnvidia-ml.so.1 is not there".into()
        }
        NvmlError::DriverNotLoaded => "the kernel module is not loaded".into(),
        NvmlError::GpuLost => "a GPU has fallen off the bus".into(),
        NvmlError::ResetRequired => "a GPU must be reset before it can be used again".into(),
        NvmlError::NoPermission => "no permission to use the device files".into(),
        other => other.to_string(),
    };
    DriverError { reason }
}

/// What a board can't tell is absent: consumer boards, virtual GPUs and partitioned ones leave
/// things out. Only errors that concern the whole device count.
fn gpu(library: &Nvml, index: u32) -> Result<Gpu, NvmlError> {
    let device = library.device_by_index(index)?;
    let model = known(device.name())?.and_then(|model| model.parse().ok());
    let name = index.to_string().parse().expect("digits are a name");
    let mut gpu = Gpu::new(name, model);
    gpu.usage_percent = known(device.utilization_rates())?.map(|usage| usage.gpu.into());
    if let Some(memory) = known(device.memory_info())? {
        gpu.memory_total_bytes = Some(memory.total);
        gpu.memory_used_bytes = Some(memory.used);
        gpu.memory_used_percent = percent(memory.used, memory.total);
    }
    gpu.temperature_celsius = known(device.temperature(TemperatureSensor::Gpu))?.map(f64::from);
    let watts = |milliwatts: u32| f64::from(milliwatts) / 1000.0;
    gpu.power_watts = known(device.power_usage())?.map(watts);
    gpu.power_limit_watts = known(device.enforced_power_limit())?.map(watts);
    gpu.fan_percent = known(device.fan_speed(0))?.map(f64::from);
    gpu.clock_mhz = known(device.clock_info(Clock::SM))?.map(f64::from);
    gpu.memory_clock_mhz = known(device.clock_info(Clock::Memory))?.map(f64::from);
    Ok(gpu)
}

/// Turns "can't tell" into absence, and keeps the errors that mean the device is in trouble.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collectors::tests::collect_once;

    #[test]
    fn what_a_board_cannot_tell_is_absent_and_a_lost_one_is_an_error() {
        assert_eq!(known::<u32>(Ok(5)).unwrap(), Some(5));
        assert_eq!(known::<u32>(Err(NvmlError::NotSupported)).unwrap(), None);
        assert_eq!(
            known::<u32>(Err(NvmlError::FailedToLoadSymbol("x".into()))).unwrap(),
            None
        );
        assert!(known::<u32>(Err(NvmlError::GpuLost)).is_err());
    }

    #[test]
    fn a_failing_driver_is_left_alone_and_then_tried_anew() {
        let start = Instant::now();
        let mut gpus = Gpus::default();
        let error = gpus
            .close(start, &NvmlError::LibRmVersionMismatch)
            .unwrap_err();
        assert!(error.to_string().contains("reboot"), "{error}");
        let (_, soon) = collect_once(&mut gpus, start + TRY_AGAIN / 2);
        assert_eq!(soon.unwrap_err().to_string(), error.to_string());
        assert!(
            matches!(&gpus.library, Library::Closed { until, .. } if *until == start + TRY_AGAIN)
        );
        let _ = collect_once(&mut gpus, start + TRY_AGAIN);
        // It was opened, or is closed anew for as long.
        let closed_before =
            matches!(&gpus.library, Library::Closed { until, .. } if *until == start + TRY_AGAIN);
        assert!(!closed_before);
    }

    #[test]
    fn a_host_without_the_library_has_no_gpus_and_no_error() {
        let mut gpus = Gpus::default();
        let presence = gpus
            .close(Instant::now(), &NvmlError::LibraryNotFound)
            .unwrap();
        assert!(matches!(presence, Presence::Nothing(_)));
    }
}
