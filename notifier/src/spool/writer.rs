//! The thread that works on the file: it writes what changed, and opens the file again after a failure.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use hostbus_daemon::clock;
use hostbus_tablefile::{Fault, set_aside};
use tracing::{error, info, warn};

use super::file::File;
use super::{Found, Shared, Shelf, Ticket};
use crate::error::Error;

/// The wait after a failure.
const RETRY: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) struct Writer {
    path: PathBuf,
    shared: Arc<Shared>,
    file: Option<File>,
    /// What stood in the file before this run was read.
    loaded: bool,
}

/// How long what nobody waits for may stay in memory only.
const LAZY: Duration = Duration::from_millis(100);

/// What there is to do.
enum Work {
    Write,
    End { write: bool },
}

impl Writer {
    /// Opens the file and reads it onto the shelf.
    ///
    /// # Errors
    /// Another process has it.
    pub(super) fn open(path: PathBuf, shared: Arc<Shared>) -> Result<(Self, Found), Error> {
        shared.shelf().keep();
        let mut writer = Self {
            path,
            shared,
            file: None,
            loaded: false,
        };
        let mut found = Found::default();
        match writer.reopen(false) {
            Ok(of_the_file) => found = of_the_file,
            Err(Fault::InUse) => return Err(Error::SpoolInUse { path: writer.path }),
            Err(Fault::Damaged(reason)) => {
                found.set_aside = writer.put_aside(reason);
                if found.set_aside.is_some()
                    && let Err(fault) = writer.reopen(false)
                {
                    writer.tell_failure(&fault);
                }
            }
            Err(other) => writer.tell_failure(&other),
        }
        Ok((writer, found))
    }

    /// Writes until the spool is closed.
    pub(super) fn run(mut self) {
        loop {
            match self.work() {
                Work::Write => self.write(),
                Work::End { write } => {
                    if write {
                        self.write();
                    }
                    return;
                }
            }
            if self.has_failed() {
                self.rest();
            }
        }
    }

    /// Waits until there is something to do.
    fn work(&self) -> Work {
        let mut shelf = self.shared.shelf();
        let mut waited = false;
        loop {
            #[cfg(test)]
            if shelf.killed {
                return Work::End { write: false };
            }
            if shelf.closing {
                return Work::End {
                    write: !shelf.is_written(),
                };
            }
            // A disk that failed is tried again, also when nothing waits for it.
            if shelf.urgent || waited || self.has_failed() {
                return Work::Write;
            }
            if shelf.is_written() {
                let woken = self.shared.work.wait(shelf);
                shelf = woken.unwrap_or_else(PoisonError::into_inner);
            } else {
                let woken = self.shared.work.wait_timeout_while(shelf, LAZY, may_rest);
                shelf = woken.unwrap_or_else(PoisonError::into_inner).0;
                waited = true;
            }
        }
    }

    /// Waits before the next try, unless the spool is closed.
    fn rest(&self) {
        let shelf = self.shared.shelf();
        drop(
            self.shared
                .work
                .wait_timeout_while(shelf, RETRY, |shelf| !must_end(shelf)),
        );
    }

    fn has_failed(&self) -> bool {
        self.shared.disk.borrow().failure.is_some()
    }

    fn write(&mut self) {
        match self.try_write() {
            Ok(safe) => {
                let failed = self.has_failed();
                self.shared.disk.send_modify(|disk| {
                    disk.safe = disk.safe.max(safe);
                    disk.failure = None;
                });
                if failed {
                    info!(path = %self.path.display(), "the spool's disk works again");
                }
            }
            Err(Fault::Damaged(reason)) => {
                if self.put_aside(reason).is_some() {
                    self.shared.shelf().rewrite();
                }
            }
            Err(fault) => self.tell_failure(&fault),
        }
    }

    fn try_write(&mut self) -> Result<Ticket, Fault> {
        if self.file.is_none() {
            self.reopen(true)?;
        }
        let Some(file) = &self.file else {
            return Err(Fault::InUse);
        };
        let (batch, put_back) = self.shared.shelf().batch();
        if batch.writes.is_empty() {
            return Ok(batch.ticket);
        }
        if let Err(fault) = file.commit(&batch.writes) {
            put_back(&mut self.shared.shelf());
            // The library takes nothing more after an error until the file is opened again.
            self.file = None;
            return Err(fault);
        }
        Ok(batch.ticket)
    }

    /// Opens the file; what stands in it is read the first time. `begun`: this run went on without it.
    fn reopen(&mut self, begun: bool) -> Result<Found, Fault> {
        let file = File::open(&self.path)?;
        let mut found = Found::default();
        if !self.loaded {
            let loaded = file.load()?;
            found.entries.clone_from(&loaded.entries);
            found.notices = loaded.notices.len();
            let ids = loaded.notices.iter().map(|(notice, _)| notice.id);
            found.last_id = ids.max().unwrap_or(0);
            found.damaged = loaded.damaged;
            if loaded.damaged > 0 {
                let path = self.path.display();
                warn!(rows = loaded.damaged, %path, "damaged rows of the spool were left out");
            }
            self.shared.shelf().take_in(loaded, begun);
            self.shared.changed.send_replace(());
            self.loaded = true;
        }
        self.file = Some(file);
        Ok(found)
    }

    fn put_aside(&mut self, reason: String) -> Option<(PathBuf, String)> {
        self.file = None;
        match set_aside(&self.path, "damaged", clock::unix_ms() / 1000) {
            Ok(aside) => {
                // What stood there is lost; the new file is ours from its beginning.
                self.loaded = true;
                error!(reason, aside = %aside.display(), "the spool's file is damaged and was put aside");
                Some((aside, reason))
            }
            Err(error) => {
                self.tell_failure(&Fault::System(error));
                None
            }
        }
    }

    fn tell_failure(&self, fault: &Fault) {
        let failure: Arc<str> = format!("{}: {fault}", self.path.display()).into();
        let known = self.shared.disk.borrow().failure.clone();
        if known.as_ref() != Some(&failure) {
            warn!(%failure, "the spool can't be written, notices are kept in memory until it can");
        }
        self.shared
            .disk
            .send_modify(|disk| disk.failure = Some(failure));
    }
}

fn may_rest(shelf: &mut Shelf) -> bool {
    !shelf.urgent && !must_end(shelf)
}

fn must_end(shelf: &Shelf) -> bool {
    #[cfg(test)]
    if shelf.killed {
        return true;
    }
    shelf.closing
}
