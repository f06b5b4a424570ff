//! Exit codes of every hostbus program, with its last word.

use std::fmt::Display;
use std::io::Write;
use std::process::ExitCode;

/// All went well.
pub const OK: u8 = 0;
/// It failed while it ran, or could not start for a reason outside its settings.
pub const FAILED: u8 = 1;
/// A flag, a setting or a file of settings is wrong. `clap` uses the same code.
pub const USAGE: u8 = 2;
/// Another process already runs on the same data folder.
pub const ALREADY_RUNNING: u8 = 3;

/// Tells on stderr why `program` ends, causes included: logging may be what failed.
pub fn failed(program: &str, error: &impl Display, code: u8) -> ExitCode {
    // Nobody may be reading it.
    let _ = writeln!(std::io::stderr(), "{program}: {error:#}");
    ExitCode::from(code)
}
