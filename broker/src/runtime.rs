//! The threads that the program serves with.

use std::num::NonZeroU8;

use anyhow::Context;
use serde::Deserialize;
use tokio::runtime::{Builder, Runtime};

/// The `[runtime]` section.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RuntimeConfig {
    /// Threads that serve connections. 1 to 255, default 1: one serves a million messages a second,
    /// and a message that stays in its thread costs less CPU than one that wakes another. More are
    /// for sites where one is always busy. Passwords are checked on further threads.
    pub(crate) threads: NonZeroU8,
}

impl Default for RuntimeConfig {
    fn default() -> Self {
        Self {
            threads: NonZeroU8::MIN,
        }
    }
}

impl RuntimeConfig {
    /// Starts the runtime.
    pub(crate) fn build(&self) -> anyhow::Result<Runtime> {
        let mut builder = match self.threads.get() {
            1 => Builder::new_current_thread(),
            threads => {
                let mut builder = Builder::new_multi_thread();
                builder.worker_threads(threads.into());
                builder
            }
        };
        builder
            .enable_all()
            .build()
            .context("failed to start threads")
    }
}
