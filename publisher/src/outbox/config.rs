//! The `[publisher.outbox]` section.

use std::path::PathBuf;

use serde::Deserialize;

use super::folder::default_folder;
use crate::error::Error;

/// When samples are written to disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Persist {
    /// Never: what was not sent is lost with the process.
    Never,
    /// When the bus is away for a while, and at a stop.
    Away,
    /// Each one as it is taken.
    Always,
}

/// The `[publisher.outbox]` section.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OutboxConfig {
    /// When samples are written to disk. Default `away`.
    pub persist: Persist,
    /// The folder for samples on disk. Absent: `$STATE_DIRECTORY`; else `/var/lib/hostbus-publisher`
    /// for root; else `hostbus-publisher` in `$XDG_STATE_HOME` or `~/.local/state`.
    pub folder: Option<PathBuf>,
    /// How long a sample waits for its mark in memory before all go to disk, 0.1 to 86,400 seconds.
    /// Default 60.
    pub spill_after_seconds: f64,
    /// How much waits in memory before all goes to disk, 65,536 bytes to 1 GiB. Default 1 MiB.
    pub memory_bytes: u64,
    /// How much may wait, in memory and on disk, 65,536 bytes to 1 TiB. When it is full the oldest
    /// samples are dropped. Default 64 MiB.
    pub max_bytes: u64,
    /// How many samples a second are sent to catch up, 1 to 100,000. Default 200.
    pub catch_up_per_second: f64,
    /// How long to wait for a mark before the oldest sample is sent again, 0.1 to 300 seconds. The
    /// wait grows with each try, up to 300. Default 5.
    pub resend_after_seconds: f64,
}

impl Default for OutboxConfig {
    fn default() -> Self {
        Self {
            persist: Persist::Away,
            folder: None,
            spill_after_seconds: 60.0,
            memory_bytes: 1024 * 1024,
            max_bytes: 64 * 1024 * 1024,
            catch_up_per_second: 200.0,
            resend_after_seconds: 5.0,
        }
    }
}

impl OutboxConfig {
    /// The folder for what must outlive the process. `None` when nothing is to be kept, or there is
    /// no folder to be had.
    #[must_use]
    pub fn folder(&self) -> Option<PathBuf> {
        match self.persist {
            Persist::Never => None,
            Persist::Away | Persist::Always => self.folder.clone().or_else(default_folder),
        }
    }

    /// Checks the ranges.
    ///
    /// # Errors
    /// A value is out of range; the error names it.
    pub fn check(&self) -> Result<(), Error> {
        let wrong = |key, value: String, expected| {
            Err(Error::Outbox {
                key,
                value,
                expected,
            })
        };
        let (max, memory) = (self.max_bytes, self.memory_bytes);
        if !(65_536..=1 << 40).contains(&max) {
            return wrong("max_bytes", max.to_string(), "65536 to 1099511627776 bytes");
        }
        if !(65_536..=1 << 30).contains(&memory) {
            return wrong(
                "memory_bytes",
                memory.to_string(),
                "65536 to 1073741824 bytes",
            );
        }
        for (key, value, range, expected) in [
            (
                "spill_after_seconds",
                self.spill_after_seconds,
                0.1..=86_400.0,
                "0.1 to 86400 seconds",
            ),
            (
                "catch_up_per_second",
                self.catch_up_per_second,
                1.0..=100_000.0,
                "1 to 100000",
            ),
            (
                "resend_after_seconds",
                self.resend_after_seconds,
                0.1..=300.0,
                "0.1 to 300 seconds",
            ),
        ] {
            if !range.contains(&value) {
                return wrong(key, value.to_string(), expected);
            }
        }
        match &self.folder {
            Some(folder) if !folder.is_absolute() => wrong(
                "folder",
                folder.display().to_string(),
                "an absolute path, such as /var/lib/hostbus-publisher",
            ),
            _ => Ok(()),
        }
    }
}
