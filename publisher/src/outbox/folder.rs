//! The folder of the outbox: which one it is, and whose.
//!
//! ```text
//! FOLDER/                                    0700
//!   outbox-<site>.<node>.lock                held while the publisher runs; the last boots, a line each
//!   outbox-<site>.<node>.redb                samples that wait; there only when some do
//!   outbox-<site>.<node>.redb.broken-<unix seconds>   a file that could not be read, kept aside
//!   traffic-<site>.<node>                    what its interfaces carried: the networks collector's
//! ```

use std::env;
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use hostbus_daemon::clock;
use hostbus_tablefile::set_aside;
use hostbus_wire::NodePath;
use rustix::process::geteuid;

/// The system's folder for what a publisher keeps.
const OF_ROOT: &str = "/var/lib/hostbus-publisher";
const NAME: &str = "hostbus-publisher";
/// How many boots are remembered, and how many more lines may stand there before the oldest go.
const BOOTS: usize = 64;
const LONGEST_TEXT_BYTES: u64 = 64 * 1024;

/// Where a publisher keeps samples when the settings name no folder. `None` without a home.
#[must_use]
pub(super) fn default_folder() -> Option<PathBuf> {
    choose(
        |name| env::var_os(name).map(PathBuf::from),
        geteuid().is_root(),
    )
}

fn choose(variable: impl Fn(&str) -> Option<PathBuf>, is_root: bool) -> Option<PathBuf> {
    let absolute = |name| variable(name).filter(|path: &PathBuf| path.is_absolute());
    // systemd names several folders with colons in between; the first is ours.
    let of_systemd = variable("STATE_DIRECTORY").and_then(|list| {
        let text = list.to_str()?;
        let first = text.split(':').next().unwrap_or_default();
        Some(PathBuf::from(first)).filter(|path| path.is_absolute())
    });
    if of_systemd.is_some() {
        return of_systemd;
    }
    if is_root {
        return Some(OF_ROOT.into());
    }
    let state = absolute("XDG_STATE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".local/state")));
    state.map(|state| state.join(NAME))
}

/// The paths of one node's files.
#[derive(Debug, Clone)]
pub(super) struct Paths {
    pub(super) folder: PathBuf,
    pub(super) samples: PathBuf,
    lock: PathBuf,
}

impl Paths {
    pub(super) fn new(folder: &Path, node: &NodePath) -> Self {
        Self {
            folder: folder.to_owned(),
            samples: folder.join(format!("outbox-{node}.redb")),
            lock: folder.join(format!("outbox-{node}.lock")),
        }
    }

    pub(super) fn create_folder(&self) -> io::Result<()> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.folder)
    }

    /// Puts a damaged file where nobody uses it, and tells where.
    pub(super) fn set_aside(&self) -> io::Result<PathBuf> {
        set_aside(&self.samples, "broken", clock::unix_ms() / 1000)
    }
}

/// The lock on one node's files. It ends with the process, however that ends.
#[derive(Debug)]
pub(super) struct Lock {
    file: File,
}

impl Lock {
    /// Takes the lock; `None` when another process has it.
    pub(super) fn take(paths: &Paths) -> io::Result<Option<Self>> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&paths.lock)?;
        match file.try_lock() {
            // A file system without locks keeps nobody out, and must not keep us out either.
            Ok(()) => Ok(Some(Self { file })),
            Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => {
                Ok(Some(Self { file }))
            }
            Err(TryLockError::Error(error)) => Err(error),
            Err(TryLockError::WouldBlock) => Ok(None),
        }
    }

    /// The boots that were used last.
    pub(super) fn boots(&mut self) -> io::Result<Vec<u64>> {
        let mut text = Vec::new();
        self.file.seek(SeekFrom::Start(0))?;
        (&self.file)
            .take(LONGEST_TEXT_BYTES)
            .read_to_end(&mut text)?;
        let text = String::from_utf8_lossy(&text);
        Ok(text.lines().filter_map(|line| line.parse().ok()).collect())
    }

    /// Notes boots that are used from now on. What a power cut leaves of a line reads as an earlier boot,
    /// which does no harm; a boot that is missing costs no sample either, it may be sent twice.
    pub(super) fn note_boots(&mut self, new: &[u64]) -> io::Result<()> {
        let mut boots = self.boots()?;
        let text: String = if boots.len() < 2 * BOOTS {
            self.file.seek(SeekFrom::End(0))?;
            // A line that a power cut left unended must not make one number with the next.
            new.iter().map(|boot| format!("\n{boot}\n")).collect()
        } else {
            boots.extend(new);
            self.file.set_len(0)?;
            self.file.seek(SeekFrom::Start(0))?;
            let last = &boots[boots.len() - BOOTS..];
            last.iter().map(|boot| format!("{boot}\n")).collect()
        };
        self.file.write_all(text.as_bytes())?;
        self.file.sync_data()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn the_folder_is_the_one_that_fits_who_runs_us() {
        let check = |variables: &[(&str, &str)], is_root, expected: Option<&str>| {
            let variables: HashMap<_, _> = variables.iter().copied().collect();
            let folder = choose(|name| variables.get(name).map(PathBuf::from), is_root);
            assert_eq!(folder.as_deref(), expected.map(Path::new), "{variables:?}");
        };
        let home = ("HOME", "/home/a");
        check(
            &[home, ("STATE_DIRECTORY", "/s/x:/s/y")],
            true,
            Some("/s/x"),
        );
        check(&[home], true, Some("/var/lib/hostbus-publisher"));
        check(
            &[home, ("XDG_STATE_HOME", "/state")],
            false,
            Some("/state/hostbus-publisher"),
        );
        check(
            &[home, ("XDG_STATE_HOME", "relative")],
            false,
            Some("/home/a/.local/state/hostbus-publisher"),
        );
        check(&[], false, None);
    }

    #[test]
    fn the_last_boots_are_remembered_and_a_second_process_is_kept_out() {
        let folder = tempfile::tempdir().unwrap();
        let paths = Paths::new(folder.path(), &"home.a".parse().unwrap());
        let mut lock = Lock::take(&paths).unwrap().unwrap();
        assert!(lock.boots().unwrap().is_empty());
        lock.note_boots(&[1_763_600_000, 1_763_600_007]).unwrap();
        assert!(Lock::take(&paths).unwrap().is_none());
        drop(lock);
        let mut lock = Lock::take(&paths).unwrap().unwrap();
        assert_eq!(lock.boots().unwrap(), [1_763_600_000, 1_763_600_007]);
        // The end of a line that a power cut left out.
        let length = lock.file.metadata().unwrap().len();
        lock.file.set_len(length - 1).unwrap();
        lock.note_boots(&[1_763_600_009]).unwrap();
        assert_eq!(
            lock.boots().unwrap(),
            [1_763_600_000, 1_763_600_007, 1_763_600_009]
        );
        for boot in 1..1000 {
            lock.note_boots(&[boot]).unwrap();
            let boots = lock.boots().unwrap();
            assert_eq!(boots.last(), Some(&boot));
            assert!(boots.len() <= 2 * BOOTS, "{}", boots.len());
        }
    }
}
