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
use std::ops::Bound;

use hostbus_tablefile::{Fault, Layout, guarded};
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};

use super::folder::Paths;
use super::{Batch, FoundRow, FoundRun, Place, ReadRow};

const BOOTS: TableDefinition<'_, u64, u64> = TableDefinition::new("boots");
const SAMPLES: TableDefinition<'_, (u64, u64), &[u8]> = TableDefinition::new("samples");
/// What a row has before its payload.
const HEAD_BYTES: usize = 12;
const LAYOUT: Layout = Layout {
    format: 1,
    cache_bytes: 256 * 1024,
    tables: |writing| {
        writing.open_table(BOOTS)?;
        writing.open_table(SAMPLES)?;
        Ok(())
    },
};

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
        let database = LAYOUT
            .open(&paths.samples)
            .map_err(Fault::format_is_damage)?;
        Ok(Self { database })
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
