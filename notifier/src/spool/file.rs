//! `spool-<instance>.redb`: opening it, reading it, committing a batch.
//!
//! ```text
//! meta      "format" -> 1
//! entries   key -> row of bytes              the dispatcher's state
//! notices   (channel, id) -> row of JSON     `Notice`
//! progress  (channel, id) -> row of JSON     `Progress`; none: nothing was tried
//! ```
//! What a row has around its value stands in `row`. A batch is one transaction. On a damaged file the
//! library fails or panics; both are told as [`Fault::Damaged`].

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;

use hostbus_tablefile::{Fault, Layout, guarded};
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use serde::de::DeserializeOwned;

use super::queue::Progress;
use super::row;
use crate::notice::Notice;

const ENTRIES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("entries");
const NOTICES: TableDefinition<'_, (&str, u64), &[u8]> = TableDefinition::new("notices");
const PROGRESS: TableDefinition<'_, (&str, u64), &[u8]> = TableDefinition::new("progress");
const LAYOUT: Layout = Layout {
    format: 1,
    cache_bytes: 1024 * 1024,
    tables: |writing| {
        writing.open_table(ENTRIES)?;
        writing.open_table(NOTICES)?;
        writing.open_table(PROGRESS)?;
        Ok(())
    },
};

/// One change of the file.
#[derive(Debug)]
pub(super) enum Write {
    /// An entry of the dispatcher: its value, or none when it is gone.
    Entry(Box<str>, Option<Arc<[u8]>>),
    /// A notice with its progress, or none when it is gone.
    Notice(Box<str>, u64, Option<(Arc<Notice>, Progress)>),
    /// The progress of a notice that stands there.
    Progress(Box<str>, u64, Progress),
}

/// What stands in the file.
#[derive(Debug, Default)]
pub(super) struct Loaded {
    pub(super) entries: Vec<(String, Vec<u8>)>,
    pub(super) notices: Vec<(Notice, Progress)>,
    /// Rows that could not be read. They are removed.
    pub(super) damaged: u64,
}

/// The open file.
#[derive(Debug)]
pub(super) struct File {
    database: Database,
}

impl File {
    /// Opens the file, or begins a new one, and the folder with it.
    pub(super) fn open(path: &Path) -> Result<Self, Fault> {
        let folder = path.parent().unwrap_or(Path::new("/"));
        let created = DirBuilder::new().recursive(true).mode(0o700).create(folder);
        created.map_err(Fault::System)?;
        let database = LAYOUT.open(path).map_err(Fault::format_is_damage)?;
        Ok(Self { database })
    }

    /// Reads all of it. Damaged rows are removed.
    pub(super) fn load(&self) -> Result<Loaded, Fault> {
        guarded(|| {
            let mut loaded = Loaded::default();
            let mut damaged_entries = Vec::new();
            let mut damaged_notices = Vec::new();
            let reading = self.database.begin_read()?;
            for found in reading.open_table(ENTRIES)?.iter()? {
                let (key, value) = found?;
                match row::parse(key.value(), 0, value.value()) {
                    Some(value) => {
                        let entry = (key.value().to_owned(), value.to_vec());
                        loaded.entries.push(entry);
                    }
                    None => damaged_entries.push(key.value().to_owned()),
                }
            }
            let progress_table = reading.open_table(PROGRESS)?;
            for found in reading.open_table(NOTICES)?.iter()? {
                let (key, value) = found?;
                let (channel, id) = key.value();
                let notice = read::<Notice>(channel, id, value.value());
                let notice = notice.filter(|read| read.id == id && read.channel == channel);
                let Some(notice) = notice else {
                    damaged_notices.push((channel.to_owned(), id));
                    continue;
                };
                let progress = match progress_table.get((channel, id))? {
                    None => Progress::default(),
                    Some(row) => read(channel, id, row.value()).unwrap_or_else(|| {
                        // Without it the notice is sent from its beginning.
                        loaded.damaged += 1;
                        Progress::default()
                    }),
                };
                loaded.notices.push((notice, progress));
            }
            if !damaged_entries.is_empty() || !damaged_notices.is_empty() {
                loaded.damaged += (damaged_entries.len() + damaged_notices.len()) as u64;
                let entries = damaged_entries.iter();
                let entries = entries.map(|key| Write::Entry(key.as_str().into(), None));
                let notices = damaged_notices.iter();
                let notices =
                    notices.map(|(channel, id)| Write::Notice(channel.as_str().into(), *id, None));
                let writes: Vec<Write> = entries.chain(notices).collect();
                self.commit(&writes)?;
            }
            Ok(loaded)
        })
    }

    /// Writes a batch; it is on disk when this returns. After an error nothing of it counts.
    pub(super) fn commit(&self, writes: &[Write]) -> Result<(), Fault> {
        guarded(|| {
            let writing = self.database.begin_write()?;
            {
                let mut entries = writing.open_table(ENTRIES)?;
                let mut notices = writing.open_table(NOTICES)?;
                let mut progresses = writing.open_table(PROGRESS)?;
                for write in writes {
                    match write {
                        Write::Entry(key, Some(value)) => {
                            let row = row::compose(key, 0, value);
                            entries.insert(&**key, &row[..])?;
                        }
                        Write::Entry(key, None) => {
                            entries.remove(&**key)?;
                        }
                        Write::Notice(channel, id, Some((notice, progress))) => {
                            let row = json_row(channel, *id, &**notice)?;
                            notices.insert((&**channel, *id), &row[..])?;
                            if *progress == Progress::default() {
                                progresses.remove((&**channel, *id))?;
                            } else {
                                let row = json_row(channel, *id, progress)?;
                                progresses.insert((&**channel, *id), &row[..])?;
                            }
                        }
                        Write::Notice(channel, id, None) => {
                            notices.remove((&**channel, *id))?;
                            progresses.remove((&**channel, *id))?;
                        }
                        Write::Progress(channel, id, progress) => {
                            let row = json_row(channel, *id, progress)?;
                            progresses.insert((&**channel, *id), &row[..])?;
                        }
                    }
                }
            }
            Ok(writing.commit()?)
        })
    }
}

fn json_row(channel: &str, id: u64, value: &impl serde::Serialize) -> Result<Vec<u8>, Fault> {
    let json = serde_json::to_vec(value).map_err(|error| Fault::System(error.into()))?;
    Ok(row::compose(channel, id, &json))
}

fn read<T: DeserializeOwned>(channel: &str, id: u64, row: &[u8]) -> Option<T> {
    serde_json::from_slice(row::parse(channel, id, row)?).ok()
}
