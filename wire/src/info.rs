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
    /// The processor's model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_model: Option<String>,
    /// How many logical cores there are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_cores: Option<u32>,
    /// Main memory in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
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
