//! The table of mounts as a file, which is read no more often than there is reason to.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::FilesystemsConfig;
use super::mounts::{Choice, Mounts, take};

pub(super) const MOUNTS: &str = "/proc/self/mountinfo";

/// A small table is read each time, and what the kernel itself made read-only shows at once. A
/// larger one, which takes the kernel milliseconds to write, is read when it changed and now and
/// then.
const SMALL_BYTES: usize = 32 * 1024;
const REREAD_LARGE_AFTER: Duration = Duration::from_secs(60);

/// The table, read again when there is reason to.
pub(super) struct Table {
    choice: Choice,
    /// A large table, which tells when it changes.
    file: Option<File>,
    read_at: Option<Instant>,
    mounts: Arc<Mounts>,
    /// A small table as it was read last, and room for reading it again.
    text: Vec<u8>,
    text_before: Vec<u8>,
}

impl Table {
    pub(super) fn new(config: &FilesystemsConfig) -> Self {
        Self {
            choice: Choice::new(config),
            file: None,
            read_at: None,
            mounts: Arc::default(),
            text: Vec::new(),
            text_before: Vec::new(),
        }
    }

    /// The table as it is now, or was a short while ago.
    pub(super) fn read(&mut self, now: Instant) -> io::Result<Arc<Mounts>> {
        let old = self
            .read_at
            .is_none_or(|at| now.saturating_duration_since(at) >= REREAD_LARGE_AFTER);
        if old || self.changed() {
            // Opened anew: what changes from here on shows in the next poll.
            let file = File::open(MOUNTS)?;
            self.read_from(file)?;
            self.read_at = Some(now);
        }
        Ok(Arc::clone(&self.mounts))
    }

    fn read_from(&mut self, file: File) -> io::Result<()> {
        self.text.clear();
        (&file)
            .take(SMALL_BYTES as u64 + 1)
            .read_to_end(&mut self.text)?;
        let small = self.text.len() <= SMALL_BYTES;
        if !small || self.text != self.text_before {
            let whole = self.text.as_slice().chain(&file);
            self.mounts = Arc::new(take(BufReader::new(whole), &self.choice)?);
        }
        if small {
            std::mem::swap(&mut self.text, &mut self.text_before);
            self.file = None;
        } else {
            (self.text, self.text_before) = (Vec::new(), Vec::new());
            self.file = Some(file);
        }
        Ok(())
    }

    /// Whether something was mounted or unmounted since the table was read. A filesystem that the
    /// kernel made read-only is no such change.
    fn changed(&self) -> bool {
        let Some(file) = &self.file else { return true };
        let mut asked = [PollFd::from_borrowed_fd(file.as_fd(), PollFlags::PRI)];
        let at_once = Timespec::default();
        poll(&mut asked, Some(&at_once)).is_err()
            || asked[0]
                .revents()
                .intersects(PollFlags::PRI | PollFlags::ERR)
    }
}

#[cfg(test)]
mod tests {
    use super::super::mounts::tests::TABLE;
    use super::*;

    #[test]
    fn a_table_is_read_again_when_it_changed_whether_small_or_large() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mountinfo");
        let mut table = Table::new(&FilesystemsConfig::default());
        let mut read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            table.read_from(File::open(&path).unwrap()).unwrap();
            Arc::clone(&table.mounts)
        };
        let small = read(TABLE);
        assert_eq!(small.taken.len(), 6);
        assert!(Arc::ptr_eq(&read(TABLE), &small));
        let other = TABLE.replace("/dev/vda rw", "/dev/vda ro");
        assert!(read(&other).taken[0].read_only);
        let large = format!("{}{other}", "a line of no mount\n".repeat(SMALL_BYTES));
        assert_eq!(read(&large).taken, read(&other).taken);
    }
}
