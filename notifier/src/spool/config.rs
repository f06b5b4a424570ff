//! The `[notifier.spool]` section.

use std::env;
use std::path::PathBuf;

use serde::Deserialize;

use crate::error::Error;

/// Where notices wait, and how many.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SpoolConfig {
    /// The folder of the spool's file. Absent: `$STATE_DIRECTORY`, which systemd sets; without that
    /// notices wait in memory only, and are lost with the process.
    pub folder: Option<PathBuf>,
    /// How many notices may wait for one channel, 10 to 100,000. Default 1,000.
    pub max_notices: usize,
    /// How many bytes of notices may wait for one channel, 65,536 bytes to 1 GiB. Default 16 MiB.
    pub max_bytes: usize,
}

impl Default for SpoolConfig {
    fn default() -> Self {
        Self {
            folder: None,
            max_notices: 1000,
            max_bytes: 16 * 1024 * 1024,
        }
    }
}

impl SpoolConfig {
    /// The folder of the spool's file; `None` when notices wait in memory only.
    #[must_use]
    pub fn folder(&self) -> Option<PathBuf> {
        let of_systemd = || {
            // systemd names several folders with colons in between; the first is ours.
            let list = env::var("STATE_DIRECTORY").ok()?;
            let first = PathBuf::from(list.split(':').next()?);
            Some(first).filter(|path| path.is_absolute())
        };
        self.folder.clone().or_else(of_systemd)
    }

    /// Checks the ranges.
    ///
    /// # Errors
    /// A value is out of range; the error names it.
    pub fn check(&self) -> Result<(), Error> {
        let wrong = |key, value: String, expected| {
            Err(Error::Setting {
                key,
                value,
                expected,
            })
        };
        if !(10..=100_000).contains(&self.max_notices) {
            let value = self.max_notices.to_string();
            return wrong("notifier.spool.max_notices", value, "10 to 100000");
        }
        if !(65_536..=1 << 30).contains(&self.max_bytes) {
            let value = self.max_bytes.to_string();
            return wrong(
                "notifier.spool.max_bytes",
                value,
                "65536 to 1073741824 bytes",
            );
        }
        match &self.folder {
            Some(folder) if !folder.is_absolute() => wrong(
                "notifier.spool.folder",
                folder.display().to_string(),
                "an absolute path, such as /var/lib/hostbus-notifier",
            ),
            _ => Ok(()),
        }
    }
}
