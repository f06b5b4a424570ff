//! `info`: the inventory of a host, retained. What can't be found out is absent.

use serde::{Deserialize, Serialize};

use crate::codec::Map;

/// What a host is, and what its publisher collects.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Info {
    /// The payload's version.
    pub v: u32,
    /// When it was put together, in milliseconds since 1970-01-01 UTC.
    pub ts: u64,
    /// The publisher's run, as in its samples. Two of them live mean two publishers of one node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boot: Option<u64>,
    /// The host's own name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// Maker and model of the machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub machine: Option<String>,
    /// Name and version of the operating system.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub os: Option<String>,
    /// The kernel's version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel: Option<String>,
    /// The processor architecture, `x86_64`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arch: Option<String>,
    /// What runs this machine if it is a virtual one: `kvm`, `vmware`, `hyperv`, `xen`, `aws` …,
    /// or `other`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub virtualization: Option<String>,
    /// What the publisher is shut in, if it is: `docker`, `podman`, `lxc`, `systemd-nspawn`,
    /// `kubernetes`, `wsl` …
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// The processor's model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_model: Option<String>,
    /// How many logical cores there are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_cores: Option<u32>,
    /// How many of them are cores of their own: the others share one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_physical_cores: Option<u32>,
    /// Main memory in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// The memory modules; empty slots are left out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub memory_modules: Vec<MemoryModule>,
    /// Whole disks.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub disks: Vec<DiskInfo>,
    /// Network interfaces and their addresses; those of containers are left out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub networks: Vec<InterfaceInfo>,
    /// When the host was started, in seconds since 1970-01-01 UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boot_time: Option<u64>,
    /// The publisher's version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub publisher: Option<String>,
    /// The time from sample to sample in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval_ms: Option<u32>,
    /// Each collector with its state: `on`, or why it is off.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub collectors: Map<String>,
    /// The unit of each field that this publisher can send, by `section.field`.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub units: Map<String>,
}

/// One memory module.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct MemoryModule {
    /// Where it is plugged in, `DIMM_A1`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slot: Option<String>,
    /// Its size.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<u64>,
    /// What it is, `DDR5`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// How fast it is run, in million transfers per second; how fast it could be run where that is
    /// all that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub speed_mts: Option<u32>,
    /// Who made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub maker: Option<String>,
}

/// One whole disk.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct DiskInfo {
    /// Its kernel name, `nvme0n1`.
    pub name: String,
    /// Its model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Its size.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<u64>,
    /// Whether it has platters that turn.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rotational: Option<bool>,
}

/// One network interface.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct InterfaceInfo {
    /// Its name, `eth0`.
    pub name: String,
    /// Its hardware address, `52:54:00:12:34:56`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
    /// Its IPv4 and IPv6 addresses, those of the link alone left out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<String>,
}
