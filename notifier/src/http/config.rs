//! The `[notifier.http]` section.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use crate::error::Error;

/// How the web is asked. Proxies come from `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY`.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpConfig {
    /// How long an answer may take in all, 1 to 50 seconds. Default 10.
    pub timeout_seconds: u64,
    /// Certificates that are trusted besides the system's: a file in PEM form.
    pub ca_file: Option<PathBuf>,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            timeout_seconds: 10,
            ca_file: None,
        }
    }
}

impl HttpConfig {
    /// Checks the range.
    ///
    /// # Errors
    /// A value is out of range; the error names it.
    pub fn check(&self) -> Result<(), Error> {
        if (1..=50).contains(&self.timeout_seconds) {
            return Ok(());
        }
        Err(Error::Setting {
            key: "notifier.http.timeout_seconds",
            value: self.timeout_seconds.to_string(),
            expected: "1 to 50 seconds",
        })
    }

    /// How long an answer may take.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout_seconds)
    }
}
