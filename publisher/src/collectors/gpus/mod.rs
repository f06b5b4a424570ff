//! Graphics processors: NVIDIA's through its management library, AMD's through the kernel's files.
//!
//! | file | owns |
//! |---|---|
//! | `nvidia` | NVIDIA's GPUs over time: opening the library, what is lost, asleep, or back |
//! | `nvml` | the calls of NVIDIA's library |
//! | `roster` | which NVIDIA GPU has which name |
//! | `processes` | memory by process, `details/gpu-processes` |
//! | `amd` | AMD's GPUs |
//! | `pci` | what the kernel's list of devices tells without waking one |
//!
//! A GPU's name is NVIDIA's index, `0`, or the slot of an AMD GPU, `0000:03:00.0`. GPUs of others are
//! not read. What a GPU can't tell is absent: consumer boards have no ECC, servers' no fan, and those
//! that are partitioned (MIG, vGPU) hide much of the rest.

mod amd;
mod nvidia;
mod nvml;
mod pci;
mod processes;
mod roster;

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{Collector, Pass, Presence, Public};
use crate::error::{CollectorError, DriverError, Error};
use crate::selection::Selection;

use amd::Amd;
use nvidia::Nvidia;
use processes::Turns;

pub(super) use processes::NAME as PROCESSES;

const PCI_DEVICES: &str = "/sys/bus/pci/devices";
const CARDS: &str = "/sys/class/drm";

/// The version of the NVIDIA driver on this host, from the library at a path, or where the loader
/// looks.
///
/// # Errors
/// There is no library, or it does not work with the kernel module.
pub fn driver_version(library: Option<&Path>) -> Result<String, DriverError> {
    nvml::driver_version(library).map_err(nvml::Trouble::into_error)
}

/// The `[publisher.collectors.gpus]` section.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GpusConfig {
    /// Whether to collect. Default true.
    pub enabled: bool,
    /// The time from reading to reading, 0.1 to 3600 seconds. Absent: that of the samples.
    pub interval_seconds: Option<f64>,
    /// Globs of names, `0` or `0000:03:00.0`. If given, only these are taken.
    pub include: Vec<String>,
    /// Globs of names to leave out. Default: none.
    pub exclude: Vec<String>,
    /// Where NVIDIA's library is, an absolute path. Absent: where the loader looks for
    /// `libnvidia-ml.so.1`.
    pub library: Option<PathBuf>,
    /// Whether to publish the memory of NVIDIA's GPUs by process, once a minute at most. Default true.
    pub processes: bool,
}

impl Default for GpusConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            interval_seconds: None,
            include: Vec::new(),
            exclude: Vec::new(),
            library: None,
            processes: true,
        }
    }
}

impl GpusConfig {
    /// A path of a library is code that is run: it is the file's to say, and never changed from afar.
    pub(super) fn public(&mut self) -> Public<'_> {
        Public {
            enabled: &mut self.enabled,
            interval_seconds: &mut self.interval_seconds,
            include: Some(&mut self.include),
            exclude: Some(&mut self.exclude),
        }
    }

    pub(super) fn check(&self) -> Result<(), Error> {
        match &self.library {
            Some(path) if !path.is_absolute() => Err(Error::GpuLibrary { path: path.clone() }),
            _ => Ok(()),
        }
    }
}

/// Reads graphics processors.
pub(crate) struct Gpus {
    selection: Selection,
    nvidia: Nvidia,
    amd: Amd,
    /// When the table of processes is due; `None` when it is not wanted.
    processes: Option<Turns>,
    /// The last table that was given had rows.
    table_has_rows: bool,
}

impl Gpus {
    pub(crate) fn new(config: &GpusConfig) -> Self {
        Self::below(Path::new(PCI_DEVICES), Path::new(CARDS), config)
    }

    fn below(pci_devices: &Path, cards: &Path, config: &GpusConfig) -> Self {
        Self {
            selection: Selection::new(&config.include, &config.exclude),
            nvidia: Nvidia::new(config.library.clone(), pci_devices),
            amd: Amd::at(cards),
            processes: config.processes.then(Turns::default),
            table_has_rows: false,
        }
    }

    /// Adds the table of processes when it is due. One that was given last is not left standing when
    /// there is nobody to ask any more.
    fn add_processes(&mut self, pass: &mut Pass) {
        let Some(turns) = &mut self.processes else {
            return;
        };
        if self.nvidia.rests() || !turns.take(pass.now) {
            return;
        }
        let found = self.nvidia.processes(&self.selection);
        if found.is_none() && !self.table_has_rows {
            return;
        }
        let table = processes::table(pass.ts, found.unwrap_or_default(), processes::name_of);
        self.table_has_rows = !table.rows.is_empty();
        pass.details.push((processes::NAME, table));
    }
}

impl Collector for Gpus {
    fn collect(&mut self, pass: &mut Pass) -> Result<Presence, CollectorError> {
        // One maker's trouble is not the other's.
        let amd = self.amd.collect(pass, &self.selection);
        let nvidia = self.nvidia.collect(pass, &self.selection);
        self.add_processes(pass);
        Ok(match (nvidia?, amd) {
            (Presence::Nothing(nvidia), Presence::Nothing(amd)) => {
                Presence::Nothing(format!("{nvidia}; {amd}"))
            }
            _ => Presence::Here,
        })
    }
}

#[cfg(test)]
mod tests;
