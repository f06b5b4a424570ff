//! A short temporary folder: a path of a Unix socket has at most 107 bytes.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// A folder that goes with its owner.
#[derive(Debug)]
pub struct Folder(tempfile::TempDir);

impl Folder {
    /// A new folder in `/tmp`, readable for its owner only.
    ///
    /// # Panics
    /// There is no room for it.
    #[must_use]
    #[expect(
        clippy::new_without_default,
        reason = "a new folder is no default value"
    )]
    pub fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("hb-").tempdir_in("/tmp");
        Self(folder.expect("failed to make a folder in /tmp"))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// The path of `name` in it.
    #[must_use]
    pub fn join(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// Writes a file that only its owner can read, and returns its path.
    ///
    /// # Panics
    /// It can't be written.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.join(name);
        fs::create_dir_all(path.parent().expect("a file lies in a folder"))
            .expect("failed to make a folder");
        let file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&path);
        file.and_then(|mut file| file.write_all(text.as_bytes()))
            .unwrap_or_else(|error| panic!("failed to write {}: {error}", path.display()));
        path
    }
}
