//! `outbox-<site>.<node>.redb`: opening it, writing a batch, reading back.
//!
//! ```text
//! meta      "format" -> 1
//! boots     key -> boot                    only of runs that moved to another boot
//! samples   (key, seq) -> crc32 u32, ts u64 (unix ms), payload (CBOR)
//! ```
//! Integers in a row are little-endian; the checksum is over key, seq, ts and payload, so that a row in
//! a wrong place is told from a right one. A batch is one transaction: it is there as a whole or not
//! at all, whenever the power fails. The database library checks only what it reads to repair itself;
//! what a disk damages later is found by the checksum, or as an error or panic of the library.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io;
use std::ops::Bound;
use std::os::unix::fs::OpenOptionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use thiserror::Error;

use super::folder::Paths;
use super::{Batch, FoundRow, FoundRun, Place, ReadRow};

const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const BOOTS: TableDefinition<'_, u64, u64> = TableDefinition::new("boots");
const SAMPLES: TableDefinition<'_, (u64, u64), &[u8]> = TableDefinition::new("samples");
const FORMAT: u64 = 1;
/// What a row has before its payload.
const HEAD_BYTES: usize = 12;
/// Pages that the database may hold in memory.
const CACHE_BYTES: usize = 256 * 1024;

/// Why the file can't be used.
#[derive(Debug, Error)]
pub(super) enum Fault {
    /// Another process has it.
    #[error("another process has it open")]
    InUse,
    /// The system refuses: no right, no room, a device that fails. Says nothing about the content.
    #[error(transparent)]
    System(io::Error),
    /// It is damaged, or no file of ours.
    #[error("{0}")]
    Damaged(String),
}

impl<E: Into<redb::Error>> From<E> for Fault {
    fn from(error: E) -> Self {
        match error.into() {
            redb::Error::DatabaseAlreadyOpen => Self::InUse,
            redb::Error::Io(error) if is_of_the_system(&error) => Self::System(error),
            // The library refuses to go on after an error of the system until it is opened again.
            redb::Error::PreviousIo => Self::System(io::Error::other("an earlier error")),
            other => Self::Damaged(other.to_string()),
        }
    }
}

/// An error that says nothing about what the file holds.
fn is_of_the_system(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidData, InvalidInput, UnexpectedEof};
    !matches!(error.kind(), UnexpectedEof | InvalidData | InvalidInput)
}

/// On a damaged file the library may panic.
fn guarded<T>(work: impl FnOnce() -> Result<T, Fault>) -> Result<T, Fault> {
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|_| Err(Fault::Damaged("the database library gave up".to_owned())))
}

/// The open file.
#[derive(Debug)]
pub(super) struct SampleFile {
    database: Database,
}

/// What a scan of the file found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Scan {
    pub(super) runs: Vec<FoundRun>,
    pub(super) damaged: u64,
}

impl SampleFile {
    /// Opens the file, or begins a new one.
    pub(super) fn open(paths: &Paths) -> Result<Self, Fault> {
        let is_new = !paths.samples.try_exists().map_err(Fault::System)?;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&paths.samples)
            .map_err(Fault::System)?;
        let opened = guarded(|| {
            let mut builder = Database::builder();
            builder.set_cache_size(CACHE_BYTES);
            let database = builder.create_file(file)?;
            let writing = database.begin_write()?;
            let found = {
                let mut meta = writing.open_table(META)?;
                let found = meta.get("format")?.map(|format| format.value());
                if found.is_none() {
                    meta.insert("format", FORMAT)?;
                }
                found
            };
            match found {
                Some(FORMAT) => writing.abort()?,
                Some(other) => {
                    return Err(Fault::Damaged(format!(
                        "it has format {other}, of another version of this program"
                    )));
                }
                None => {
                    writing.open_table(BOOTS)?;
                    writing.open_table(SAMPLES)?;
                    writing.commit()?;
                }
            }
            Ok(Self { database })
        })?;
        if is_new {
            paths.sync_folder().map_err(Fault::System)?;
        }
        Ok(opened)
    }

    /// What is in it. Damaged rows are removed.
    pub(super) fn scan(&self) -> Result<Scan, Fault> {
        guarded(|| {
            let mut runs: BTreeMap<u64, FoundRun> = BTreeMap::new();
            let mut damaged = Vec::new();
            let reading = self.database.begin_read()?;
            let boots = reading.open_table(BOOTS)?;
            for row in reading.open_table(SAMPLES)?.iter()? {
                let (place, row) = row?;
                let (key, seq) = place.value();
                let Some((ts_ms, payload)) = parse(key, seq, row.value()) else {
                    damaged.push((key, seq));
                    continue;
                };
                let found = FoundRow {
                    seq,
                    ts_ms,
                    bytes: payload.len(),
                };
                if let Some(run) = runs.get_mut(&key) {
                    run.rows.push(found);
                    continue;
                }
                let boot = boots.get(key)?.map_or(key, |boot| boot.value());
                let rows = vec![found];
                runs.insert(key, FoundRun { key, boot, rows });
            }
            if !damaged.is_empty() {
                let writing = self.database.begin_write()?;
                {
                    let mut samples = writing.open_table(SAMPLES)?;
                    for place in &damaged {
                        samples.remove(place)?;
                    }
                }
                writing.commit()?;
            }
            Ok(Scan {
                runs: runs.into_values().collect(),
                damaged: damaged.len() as u64,
            })
        })
    }

    /// Writes a batch; it is on disk when this returns. After an error nothing of it counts.
    pub(super) fn commit(&self, batch: &Batch) -> Result<(), Fault> {
        guarded(|| {
            let writing = self.database.begin_write()?;
            {
                let mut boots = writing.open_table(BOOTS)?;
                let mut samples = writing.open_table(SAMPLES)?;
                for (key, boot) in &batch.moved {
                    boots.insert(key, boot)?;
                }
                for row in &batch.write {
                    let Place { key, seq } = row.place;
                    if !batch.moved.iter().any(|(moved, _)| *moved == key) {
                        // What an earlier run of this key may have left.
                        boots.remove(key)?;
                    }
                    let bytes = compose(key, seq, row.ts_ms, &row.payload);
                    samples.insert((key, seq), &bytes[..])?;
                }
                for (key, upto) in &batch.remove {
                    samples.retain_in((*key, 0)..=(*key, *upto), |_, _| false)?;
                    let empty = samples
                        .range((*key, 0)..=(*key, u64::MAX))?
                        .next()
                        .is_none();
                    let moves = batch.moved.iter().any(|(moved, _)| moved == key);
                    if empty && !moves {
                        boots.remove(key)?;
                    }
                }
            }
            Ok(writing.commit()?)
        })
    }

    /// Samples of one run from `from` on and before `end`, at least one and else as many as
    /// `max_bytes` hold. One that is missing or damaged has no payload.
    pub(super) fn read(
        &self,
        from: Place,
        end: u64,
        max_bytes: usize,
    ) -> Result<Vec<ReadRow>, Fault> {
        guarded(|| {
            let key = from.key;
            let reading = self.database.begin_read()?;
            let samples = reading.open_table(SAMPLES)?;
            let mut rows = Vec::new();
            let (mut next, mut bytes) = (from.seq, 0);
            let range = (
                Bound::Included((key, from.seq)),
                Bound::Excluded((key, end)),
            );
            for row in samples.range::<(u64, u64)>(range)? {
                let (place, row) = row?;
                let seq = place.value().1;
                bytes += row.value().len();
                if bytes > max_bytes && !rows.is_empty() {
                    return Ok(rows);
                }
                rows.extend((next..seq).map(|seq| (Place { key, seq }, None)));
                let payload = parse(key, seq, row.value()).map(|(_, payload)| payload.to_vec());
                rows.push((Place { key, seq }, payload));
                next = seq + 1;
            }
            rows.extend((next..end).map(|seq| (Place { key, seq }, None)));
            Ok(rows)
        })
    }
}

fn checksum(key: u64, seq: u64, rest: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&key.to_le_bytes());
    hasher.update(&seq.to_le_bytes());
    hasher.update(rest);
    hasher.finalize()
}

fn compose(key: u64, seq: u64, ts_ms: u64, payload: &[u8]) -> Vec<u8> {
    let mut row = Vec::with_capacity(HEAD_BYTES + payload.len());
    row.extend([0; 4]);
    row.extend(ts_ms.to_le_bytes());
    row.extend(payload);
    let sum = checksum(key, seq, &row[4..]);
    row[..4].copy_from_slice(&sum.to_le_bytes());
    row
}

/// The time and the payload of a row; `None` when it is damaged.
fn parse(key: u64, seq: u64, row: &[u8]) -> Option<(u64, &[u8])> {
    let (sum, rest) = row.split_first_chunk::<4>()?;
    if u32::from_le_bytes(*sum) != checksum(key, seq, rest) {
        return None;
    }
    let (ts_ms, payload) = rest.split_first_chunk::<8>()?;
    Some((u64::from_le_bytes(*ts_ms), payload))
}
