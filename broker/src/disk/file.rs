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
use std::path::Path;

use bytestring::ByteString;
use hostbus_daemon::clock;
use hostbus_tablefile::{Fault, Layout, guarded, reopen, set_aside};
use redb::{Database, TableDefinition};
use tracing::{error, info};

use super::load::{Loaded, count_references, read};
use super::pending::Pending;
use super::references::References;
use super::rows::{Entry, Now, message_bytes};
use crate::error::Error;

pub(super) const SESSIONS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("sessions");
pub(super) const FILTERS: TableDefinition<'_, (u64, &str), &[u8]> = TableDefinition::new("filters");
pub(super) const ENTRIES: TableDefinition<'_, (u64, u64), &[u8]> = TableDefinition::new("entries");
pub(super) const INCOMING: TableDefinition<'_, (u64, u16), ()> = TableDefinition::new("incoming");
pub(super) const MESSAGES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("messages");
pub(super) const RETAINED: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("retained");

const LAYOUT: Layout = Layout {
    format: 1,
    cache_bytes: 4 * 1024 * 1024,
    tables: |writing| {
        writing.open_table(SESSIONS)?;
        writing.open_table(FILTERS)?;
        writing.open_table(ENTRIES)?;
        writing.open_table(INCOMING)?;
        writing.open_table(MESSAGES)?;
        writing.open_table(RETAINED)?;
        Ok(())
    },
};

/// The open file.
#[derive(Debug)]
pub(super) struct File {
    /// Absent after a failure, until it could be opened again.
    database: Option<Database>,
    references: HashMap<u64, u64>,
}

/// Opens the file at `path`, or begins a new one, and reads it. A damaged one is kept aside.
pub(super) fn open(path: &Path) -> Result<(File, Loaded), Error> {
    let problem = match open_and_read(path) {
        Err(Fault::Damaged(problem)) => problem,
        done => return done.map_err(|fault| of(path, fault)),
    };
    let aside = set_aside(path, "damaged", clock::unix_ms() / 1000)
        .map_err(|source| of(path, Fault::System(source)))?;
    error!(
        path = %path.display(),
        kept = %aside.display(),
        fault = %problem,
        "state is damaged: sessions and retained messages begin anew; the old file is kept"
    );
    open_and_read(path).map_err(|fault| of(path, fault))
}

fn open_and_read(path: &Path) -> Result<(File, Loaded), Fault> {
    let database = LAYOUT.open(path)?;
    let loaded = guarded(|| read(&database))?;
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
    Ok((file, loaded))
}

fn of(path: &Path, fault: Fault) -> Error {
    let path = path.to_owned();
    match fault {
        Fault::InUse => Error::InUse { path },
        Fault::System(source) => Error::Data { path, source },
        Fault::Format(format) => Error::Format {
            path,
            found: format!("format {format}"),
        },
        Fault::Damaged(problem) => Error::State { path, problem },
    }
}

impl File {
    /// Opens the file again after a failure.
    pub(super) fn reopen(&mut self, path: &Path) -> Result<(), Fault> {
        // The old one must let go of the file first.
        self.database = None;
        let database = reopen(path, LAYOUT.cache_bytes)?;
        // What failed may be there all the same: the flush of a commit comes last.
        self.references = count_references(&database)?;
        self.database = Some(database);
        Ok(())
    }

    /// Writes a batch; it is on disk when this returns. After an error nothing of it counts.
    pub(super) fn commit(&mut self, batch: &Pending) -> Result<(), Fault> {
        let Some(database) = &self.database else {
            return Err(redb::Error::DatabaseClosed.into());
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
}
