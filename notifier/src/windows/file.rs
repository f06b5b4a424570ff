//! `windows-<instance>.kept`: writing it and reading it. It is there whole, or as it was before.
//!
//! ```text
//! header  "hbwindow"  version: u16  written_ms: u64
//! slice   its length: u32, not 0  its bytes, see the evaluator's `kept`
//! end     0: u32  CRC-32 of all before: u32
//! ```
//! Numbers have their lowest byte first. Whoever changes what a slice holds, or what a point of a window is,
//! raises the version: nothing is read of another one, and windows fill anew.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use thiserror::Error;
use tokio::sync::mpsc;

use crate::evaluator::Kept;

const MAGIC: [u8; 8] = *b"hbwindow";
const VERSION: u16 = 1;
const HEADER_BYTES: usize = 18;
/// A larger file is not read.
const MAX_BYTES: u64 = 512 * 1024 * 1024;
/// A file that has so many bytes gets no further slice.
pub(super) const FULL_BYTES: u64 = 256 * 1024 * 1024;
/// No window is longer.
const MAX_AGE_MS: u64 = 24 * 3_600_000;
/// A file may be so far ahead of a clock that was set since.
const MAX_AHEAD_MS: u64 = 60_000;

/// What is written next.
#[derive(Debug)]
pub(super) enum Part {
    Slice(Vec<u8>),
    End,
}

/// Why a file is of no use.
#[derive(Debug, Error)]
pub(super) enum Unusable {
    #[error("{0}")]
    System(#[from] io::Error),
    #[error("it is no file of windows")]
    Foreign,
    #[error("it has format {found}, and this program reads {VERSION}")]
    Version { found: u16 },
    #[error("it is damaged")]
    Damaged,
    #[error("it has more than {MAX_BYTES} bytes")]
    TooLarge,
    #[error("it is {hours} hours old, and no window is longer than 24")]
    Old { hours: u64 },
    #[error("it was written {seconds} seconds from now: a clock was set")]
    Ahead { seconds: u64 },
}

/// What stands in the file; `None`: there is none.
pub(super) fn read(path: &Path, now_ms: u64) -> Result<Option<Kept>, Unusable> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(Unusable::TooLarge);
    }
    parse(&Bytes::from(bytes), now_ms).map(Some)
}

fn parse(bytes: &Bytes, now_ms: u64) -> Result<Kept, Unusable> {
    if !bytes.starts_with(&MAGIC) {
        return Err(Unusable::Foreign);
    }
    let short = Unusable::Damaged;
    let (header, _) = bytes.split_first_chunk::<HEADER_BYTES>().ok_or(short)?;
    let found = u16::from_le_bytes([header[8], header[9]]);
    if found != VERSION {
        return Err(Unusable::Version { found });
    }
    let (written, sum) = bytes.split_last_chunk::<4>().ok_or(Unusable::Damaged)?;
    if crc32fast::hash(written) != u32::from_le_bytes(*sum) {
        return Err(Unusable::Damaged);
    }
    let (_, written_ms) = header.split_last_chunk::<8>().ok_or(Unusable::Damaged)?;
    let written_ms = u64::from_le_bytes(*written_ms);
    if now_ms.saturating_sub(written_ms) > MAX_AGE_MS {
        let hours = (now_ms - written_ms) / 3_600_000;
        return Err(Unusable::Old { hours });
    }
    if written_ms.saturating_sub(now_ms) > MAX_AHEAD_MS {
        let seconds = (written_ms - now_ms) / 1000;
        return Err(Unusable::Ahead { seconds });
    }
    slices(&bytes.slice(HEADER_BYTES..written.len())).ok_or(Unusable::Damaged)
}

/// The slices, with nothing behind their end.
fn slices(bytes: &Bytes) -> Option<Kept> {
    let mut kept = Kept::default();
    let mut at = 0;
    loop {
        let (length, _) = bytes.get(at..)?.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
        at += 4;
        if length == 0 {
            return (at == bytes.len()).then_some(kept);
        }
        let end = at.checked_add(length).filter(|end| *end <= bytes.len())?;
        kept.add(bytes.slice(at..end)).ok()?;
        at = end;
    }
}

/// Writes the parts as they come, and tells how many bytes they are once they are on disk; `None`: their end
/// did not come, and the file is as it was. Blocks.
pub(super) fn write(
    path: &Path,
    written_ms: u64,
    parts: mpsc::Receiver<Part>,
) -> io::Result<Option<u64>> {
    let beside = beside(path);
    let written = write_beside(&beside, written_ms, parts);
    match written {
        Ok(Some(_)) => {
            fs::rename(&beside, path)?;
            // Without this the name may stand for the older file after the host was lost.
            if let Some(folder) = path.parent() {
                File::open(folder)?.sync_all()?;
            }
        }
        Ok(None) | Err(_) => {
            // What is left there is written over next time.
            let _ = fs::remove_file(&beside);
        }
    }
    written
}

fn beside(path: &Path) -> PathBuf {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    beside.into()
}

fn write_beside(
    path: &Path,
    written_ms: u64,
    mut parts: mpsc::Receiver<Part>,
) -> io::Result<Option<u64>> {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?;
    let mut summed = Summed::new(file);
    summed.write_all(&MAGIC)?;
    summed.write_all(&VERSION.to_le_bytes())?;
    summed.write_all(&written_ms.to_le_bytes())?;
    while let Some(part) = parts.blocking_recv() {
        match part {
            Part::Slice(slice) => {
                let length = u32::try_from(slice.len()).map_err(io::Error::other)?;
                summed.write_all(&length.to_le_bytes())?;
                summed.write_all(&slice)?;
            }
            Part::End => return summed.end().map(Some),
        }
    }
    Ok(None)
}

/// A file on its way, and the sum of what stands in it.
struct Summed {
    file: BufWriter<File>,
    sum: crc32fast::Hasher,
    bytes: u64,
}

impl Summed {
    fn new(file: File) -> Self {
        Self {
            file: BufWriter::new(file),
            sum: crc32fast::Hasher::new(),
            bytes: 0,
        }
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.sum.update(bytes);
        self.bytes += bytes.len() as u64;
        self.file.write_all(bytes)
    }

    fn end(mut self) -> io::Result<u64> {
        self.write_all(&0_u32.to_le_bytes())?;
        let sum = self.sum.clone().finalize();
        self.write_all(&sum.to_le_bytes())?;
        let file = self
            .file
            .into_inner()
            .map_err(io::IntoInnerError::into_error)?;
        file.sync_all()?;
        Ok(self.bytes)
    }
}
