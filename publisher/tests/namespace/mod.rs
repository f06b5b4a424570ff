//! A test that runs again in a process with mounts, or a network, that nobody else sees.

use std::process::Command;

/// Set for the process that has its own.
const INSIDE: &str = "HOSTBUS_TEST_INSIDE";

/// Runs the test `name` again under `unshare` with `kinds`. Returns whether this is that process;
/// in the other one the test is over.
pub(crate) fn inside(name: &str, kinds: &[&str]) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let mut unshare = Command::new("unshare");
    unshare.args(kinds);
    if !rustix::process::geteuid().is_root() {
        unshare.args(["--user", "--map-root-user"]);
    }
    let status = unshare
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(INSIDE, "1")
        .status()
        .expect("unshare is needed for this test: apt-get install util-linux");
    assert!(
        status.success(),
        "{name} failed in a namespace of its own, which needs root or user namespaces: {status}"
    );
    false
}
