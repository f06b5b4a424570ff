//! Where programs are. A missing one fails with a sentence that says how to get it.

use std::env;
use std::path::{Path, PathBuf};

/// One of the programs of this workspace, built in the same profile as the test.
///
/// # Panics
/// It was not built.
#[must_use]
pub fn ours(name: &str) -> PathBuf {
    let test = env::current_exe().expect("a test knows its own path");
    let folder = test
        .parent()
        .and_then(Path::parent)
        .expect("a test lies in target/*/deps");
    let path = folder.join(name);
    assert!(
        path.is_file(),
        "{} is missing: run `cargo build --workspace --bins` first",
        path.display()
    );
    path
}

/// A program of the system, which the Debian package `package` has.
///
/// # Panics
/// It is not installed.
#[must_use]
pub fn of_system(name: &str, package: &str) -> PathBuf {
    let path = env::var_os("PATH").unwrap_or_default();
    let sbin = ["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from);
    env::split_paths(&path)
        .chain(sbin)
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
        .unwrap_or_else(|| {
            panic!("`{name}` is missing: install it with `apt-get install {package}`")
        })
}

/// The Python that has the libraries in `tests/python/requirements.txt`.
///
/// # Panics
/// It was not set up.
#[must_use]
pub fn python() -> PathBuf {
    let path = workspace().join(".venv/bin/python");
    assert!(
        path.exists(),
        "{} is missing: make it with `scripts/python`",
        path.display()
    );
    path
}

/// The root of the workspace.
///
/// # Panics
/// Never: this crate is a folder of the workspace.
#[must_use]
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("this crate lies in the workspace")
}
