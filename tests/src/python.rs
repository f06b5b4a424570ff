//! Python, for what other programs make of our payloads and files.

use std::io::Write;
use std::process::{Command, Stdio};

use crate::tool;

/// Runs a script of `tests/python`, and returns what it prints.
///
/// # Panics
/// The script fails.
#[must_use]
#[track_caller]
pub fn run(script: &str, arguments: &[&str], input: &str) -> String {
    let mut child = Command::new(tool::python())
        .arg(tool::workspace().join("tests/python").join(script))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("failed to start Python");
    let mut stdin = child.stdin.take().expect("its standard input is a pipe");
    // A script that fails early does not read; its own words follow below.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    let output = child.wait_with_output().expect("failed to wait for Python");
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script} failed:\n{complaint}");
    String::from_utf8(output.stdout).expect("Python prints UTF-8")
}
