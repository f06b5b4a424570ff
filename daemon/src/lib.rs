//! How any hostbus process starts and stops.
//!
//! | module | owns |
//! |---|---|
//! | [`config`] | settings from flags, environment, file and defaults; unknown keys are errors |
//! | [`secret`] | a password or token that never shows in a log |
//! | `trust` | whose signature counts in TLS, with the feature `tls` |
//! | [`logging`] | logs to stderr, for people or as JSON |
//! | [`running`] | a component that runs: where it listens, how to stop it, how it ended |
//! | [`shutdown`] | the signals that end a process, and how long ending may take |
//! | [`reload`] | the signal that asks a process to read its settings again |
//! | [`notify`] | what systemd is told: ready, reloading, stopping, still at work |
//! | [`ready`] | the file that tells scripts where a process listens |
//! | [`backoff`] | growing, jittered waits between tries |
//! | [`clock`] | wall-clock time as the bus counts it |
//! | [`exit`] | exit codes, and the last word of a program that failed |

pub mod backoff;
pub mod clock;
pub mod config;
pub mod exit;
pub mod logging;
pub mod notify;
pub mod ready;
pub mod reload;
pub mod running;
pub mod secret;
pub mod shutdown;
#[cfg(feature = "tls")]
pub mod trust;

pub use backoff::Backoff;
pub use running::Running;
pub use secret::Secret;
pub use tokio_util::sync::CancellationToken;
