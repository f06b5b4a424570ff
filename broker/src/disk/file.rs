//! `state.redb`: its tables, opening it, committing a batch. What is read at the start is in `load`.
//!
//! ```text
//! state.redb (mode 0600)
//!   meta      "format" -> 1
//!   sessions  session -> row
//!   filters   (session, filter) -> row
//!   entries   (session, number) -> row      what waits for a session, in order
//!   incoming  (session, packet id)          QoS 2 messages that its client has not released
//!   messages  sequence -> row               each once, however many entries refer to it
//!   retained  topic -> row
//! ```
//! The rows are described in `rows`. How many entries refer to a message is not stored: it is
//! counted when the file is read.

use std::collections::HashMap;
use std::fs::{self, File as FsFile, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use bytestring::ByteString;
use redb::{Database, ReadableTable, TableDefinition};
use tracing::{error, info};

use super::load::{Fault, Loaded, count_references, read};
use super::pending::Pending;
use super::references::References;
use super::rows::{Entry, Now, message_bytes};
use crate::error::Error;

const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
pub(super) const SESSIONS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("sessions");
pub(super) const FILTERS: TableDefinition<'_, (u64, &str), &[u8]> = TableDefinition::new("filters");
pub(super) const ENTRIES: TableDefinition<'_, (u64, u64), &[u8]> = TableDefinition::new("entries");
pub(super) const INCOMING: TableDefinition<'_, (u64, u16), ()> = TableDefinition::new("incoming");
pub(super) const MESSAGES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("messages");
pub(super) const RETAINED: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("retained");

const FORMAT: u64 = 1;

/// Pages that the database may hold in memory.
const CACHE_BYTES: usize = 4 * 1024 * 1024;

/// The open file.
#[derive(Debug)]
pub(super) struct File {
    /// Absent after a failure, until it could be opened again.
    database: Option<Database>,
    references: HashMap<u64, u64>,
}

/// Opens the file at `path`, or begins a new one, and reads it. A damaged one is kept aside.
pub(super) fn open(path: &Path) -> Result<(File, Loaded), Error> {
    match open_and_read(path)? {
        Ok(opened) => Ok(opened),
        Err(fault) => {
            let aside = keep_aside(path)?;
            error!(
                path = %path.display(),
                kept = %aside.display(),
                %fault,
                "state is damaged: sessions and retained messages begin anew; the old file is kept"
            );
            match open_and_read(path)? {
                Ok(opened) => Ok(opened),
                Err(fault) => Err(Error::State {
                    path: path.to_owned(),
                    problem: fault.to_string(),
                }),
            }
        }
    }
}

/// The outer error is none that another file would mend.
fn open_and_read(path: &Path) -> Result<Result<(File, Loaded), Fault>, Error> {
    let of_the_system = |source| Error::Data {
        path: path.to_owned(),
        source,
    };
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(of_the_system)?;
    // On a damaged file the library may panic.
    let opened = catch_unwind(AssertUnwindSafe(|| -> Result<_, redb::Error> {
        let database = builder().create_file(file)?;
        let format = format_of(&database)?;
        Ok((database, format))
    }));
    let (database, format) = match opened {
        Ok(Ok(opened)) => opened,
        Ok(Err(redb::Error::DatabaseAlreadyOpen)) => {
            return Err(Error::InUse {
                path: path.to_owned(),
            });
        }
        Ok(Err(redb::Error::Io(source))) if is_of_the_system(&source) => {
            return Err(of_the_system(source));
        }
        Ok(Err(error)) => return Ok(Err(error.into())),
        Err(_) => return Ok(Err(Fault::Panic)),
    };
    if format > FORMAT {
        return Err(Error::Format {
            path: path.to_owned(),
            found: format!("format {format}"),
        });
    }
    let loaded = match catch_unwind(AssertUnwindSafe(|| read(&database))) {
        Ok(Ok(loaded)) => loaded,
        Ok(Err(Fault::Database(redb::Error::Io(source)))) if is_of_the_system(&source) => {
            return Err(of_the_system(source));
        }
        Ok(Err(fault)) => return Ok(Err(fault)),
        Err(_) => return Ok(Err(Fault::Panic)),
    };
    info!(
        path = %path.display(),
        sessions = loaded.sessions.len(),
        retained = loaded.retained.len(),
        "state is open"
    );
    let file = File {
        database: Some(database),
        references: loaded.references.clone(),
    };
    Ok(Ok((file, loaded)))
}

/// An error that says nothing about what the file holds.
fn is_of_the_system(error: &std::io::Error) -> bool {
    use std::io::ErrorKind;
    !matches!(
        error.kind(),
        ErrorKind::UnexpectedEof | ErrorKind::InvalidData | ErrorKind::InvalidInput
    )
}

fn builder() -> redb::Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES);
    builder
}

/// The format of the file; a new one gets all its tables.
fn format_of(database: &Database) -> Result<u64, redb::Error> {
    let writing = database.begin_write()?;
    let format = {
        let mut meta = writing.open_table(META)?;
        let found = meta.get("format")?.map(|format| format.value());
        match found {
            Some(found) => found,
            None => {
                meta.insert("format", FORMAT)?;
                FORMAT
            }
        }
    };
    if format <= FORMAT {
        writing.open_table(SESSIONS)?;
        writing.open_table(FILTERS)?;
        writing.open_table(ENTRIES)?;
        writing.open_table(INCOMING)?;
        writing.open_table(MESSAGES)?;
        writing.open_table(RETAINED)?;
        writing.commit()?;
    }
    Ok(format)
}

fn keep_aside(path: &Path) -> Result<PathBuf, Error> {
    let fault = |source| Error::Data {
        path: path.to_owned(),
        source,
    };
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let mut seconds = since.map_or(0, |since| since.as_secs());
    loop {
        let aside = path.with_extension(format!("redb.damaged-{seconds}"));
        if !aside.try_exists().map_err(fault)? {
            fs::rename(path, &aside).map_err(fault)?;
            return Ok(aside);
        }
        seconds += 1;
    }
}

impl File {
    /// Opens the file again after a failure.
    pub(super) fn reopen(&mut self, path: &Path) -> Result<(), redb::Error> {
        // The old one must let go of the file first.
        self.database = None;
        let file = FsFile::options().read(true).write(true).open(path);
        let database = builder().create_file(file?)?;
        // What failed may be there all the same: the flush of a commit comes last.
        self.references = count_references(&database)?;
        self.database = Some(database);
        Ok(())
    }

    /// Writes a batch; it is on disk when this returns. After an error nothing of it counts.
    pub(super) fn commit(&mut self, batch: &Pending) -> Result<(), redb::Error> {
        let Some(database) = &self.database else {
            return Err(redb::Error::DatabaseClosed);
        };
        let now = Now::read();
        let mut references = References::new(&self.references);
        let writing = database.begin_write()?;
        {
            let mut sessions = writing.open_table(SESSIONS)?;
            let mut filters = writing.open_table(FILTERS)?;
            let mut entries = writing.open_table(ENTRIES)?;
            let mut incoming = writing.open_table(INCOMING)?;
            let mut messages = writing.open_table(MESSAGES)?;
            let mut retained = writing.open_table(RETAINED)?;
            for (key, row) in &batch.sessions {
                let Some(row) = row else {
                    sessions.remove(key)?;
                    filters.retain_in((*key, "")..(key + 1, ""), |_, _| false)?;
                    incoming.retain_in((*key, 0)..=(*key, u16::MAX), |_, ()| false)?;
                    for gone in
                        entries.extract_from_if((*key, 0)..=(*key, u64::MAX), |_, _| true)?
                    {
                        references.subtract(Entry::message_of(gone?.1.value()));
                    }
                    continue;
                };
                let row = serde_json::to_vec(row).map_err(std::io::Error::from)?;
                sessions.insert(key, &row[..])?;
            }
            for ((key, filter), options) in &batch.filters {
                match options {
                    _ if batch.has_ended(*key) => {}
                    Some(options) => drop(filters.insert((*key, &**filter), &options.bytes()[..])?),
                    None => drop(filters.remove((*key, &**filter))?),
                }
            }
            for (place, there) in &batch.incoming {
                match there {
                    _ if batch.has_ended(place.0) => {}
                    true => drop(incoming.insert(place, ())?),
                    false => drop(incoming.remove(place)?),
                }
            }
            for (place, change) in &batch.entries {
                if batch.has_ended(place.0) {
                    continue;
                }
                let old = match &change.entry {
                    Some(entry) => {
                        if let Some(message) = &change.message
                            && references.add(entry.message)
                        {
                            let row = message_bytes(message, now);
                            messages.insert(entry.message, &row[..])?;
                        }
                        entries.insert(place, &entry.bytes()[..])?
                    }
                    None => entries.remove(place)?,
                };
                if let Some(old) = old {
                    references.subtract(Entry::message_of(old.value()));
                }
            }
            references.remove_unused(&mut messages)?;
            for (topic, message) in &batch.retained {
                let topic: &ByteString = topic;
                match message {
                    Some(message) => {
                        let row = message_bytes(message, now);
                        retained.insert(&**topic, &row[..])?;
                    }
                    None => drop(retained.remove(&**topic)?),
                }
            }
        }
        writing.commit()?;
        let changed = references.changed;
        for (message, count) in changed {
            if count == 0 {
                self.references.remove(&message);
            } else {
                self.references.insert(message, count);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::rows::SessionRow;
    use super::*;
    use crate::codec::QoS;
    use crate::message::{Message, Outgoing};
    use std::io::ErrorKind;
    use std::sync::Arc;

    #[test]
    fn a_commit_that_failed_after_it_was_written_is_written_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.redb");
        let (mut file, _) = open(&path).unwrap();
        let mut message = Message::own("a", "x");
        message.qos = QoS::AtLeastOnce;
        message.sequence = 5;
        let outgoing = Outgoing {
            message: Arc::new(message),
            qos: QoS::AtLeastOnce,
            retain: false,
            identifiers: Vec::new(),
            shared: None,
            stored: None,
            frames: None,
        };
        let mut batch = Pending::new();
        let row = SessionRow {
            user: "u".to_owned(),
            client_id: "c".to_owned(),
            identity: hostbus_wire::Identity::Viewer,
            expiry_seconds: 60,
            ends_unix_ms: None,
        };
        batch.put_session(1, row);
        batch.put_entry(1, &outgoing, 1, 0);
        file.commit(&batch).unwrap();
        // The flush is told to have failed: nothing of the batch counts.
        file.references.clear();
        file.reopen(&path).unwrap();
        file.commit(&batch).unwrap();
        drop(file);
        let (_file, loaded) = open(&path).unwrap();
        assert_eq!(loaded.sessions[0].entries.len(), 1);
    }

    #[test]
    fn an_error_of_the_device_is_no_damage() {
        let check = |error: std::io::Error, expected: bool| {
            assert_eq!(is_of_the_system(&error), expected, "{error}");
        };
        for number in [5, 12, 13, 28, 30, 116] {
            check(std::io::Error::from_raw_os_error(number), true);
        }
        check(ErrorKind::UnexpectedEof.into(), false);
        check(ErrorKind::InvalidData.into(), false);
    }
}
