//! The private server's append-only file, looked through before a start, and mended when its end is
//! torn or not what Redis writes.
//!
//! ```text
//! appendonlydir/appendonly.aof.manifest      Redis 7 and newer: `file <name> seq <n> type b|i|h`;
//!                                            Redis 8 puts more after it
//! appendonlydir/appendonly.aof.<n>.incr.aof  commands, `*<count>\r\n` and so many
//!                                            `$<bytes>\r\n<argument>\r\n`; lines that begin with `#`
//! appendonly.aof                             Redis 6.2: the same, or a snapshot and then the same
//! ```
//! What comes after the last whole command is cut off, kept beside the file, and told; a transaction
//! without its EXEC is not whole. Redis itself mends only an end that is missing, and refuses to start
//! with one that is wrong, as a lost power leaves it. A snapshot is Redis' own to check.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::ServerError;

/// The longest line that begins an argument or a command, or tells the time.
const LONGEST_LINE_BYTES: u64 = 128;
/// The longest argument that Redis takes.
const LONGEST_ARGUMENT_BYTES: u64 = 512 * 1024 * 1024;
/// More than any command has.
const MOST_ARGUMENTS: u64 = 16 * 1024 * 1024;
/// The longest name of a command, with room.
const LONGEST_NAME_BYTES: u64 = 64;
/// How much of a long argument is read at once.
const READ_BYTES: usize = 256 * 1024;
/// What a snapshot begins with: of Redis and of a Valkey before 9, of a later Valkey.
const SNAPSHOTS: [&[u8]; 2] = [b"REDIS", b"VALKEY"];
/// The folder of Redis 7 and newer.
const PARTS: &str = "appendonlydir";
/// What the name of a piece that was cut off has after the name of its file.
const CUT: &str = ".cut-at-";

/// What was cut off a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Cut {
    /// The file.
    pub(super) file: PathBuf,
    /// Where its good part ends.
    pub(super) at: u64,
    /// How much was cut off.
    pub(super) bytes: u64,
    /// What was wrong there.
    pub(super) reason: &'static str,
    /// Where that is kept.
    pub(super) kept: PathBuf,
}

/// Looks through the append-only files in `folder`, and cuts off what is damaged.
pub(super) fn mend(folder: &Path) -> Result<Vec<Cut>, ServerError> {
    let mut cuts = Vec::new();
    for file in files(folder) {
        let mended = mend_file(&file);
        let failed = |source| ServerError::Folder {
            path: file.clone(),
            source,
        };
        cuts.extend(mended.map_err(failed)?);
    }
    Ok(cuts)
}

/// The files with commands. What is not there, or names nothing that is, is left for Redis to tell.
fn files(folder: &Path) -> Vec<PathBuf> {
    let parts = folder.join(PARTS);
    let manifest = fs::read_to_string(parts.join("appendonly.aof.manifest")).unwrap_or_default();
    let of_parts = manifest.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let (Some("file"), Some(name)) = (words.next(), words.next()) else {
            return None;
        };
        // What a rewrite has left behind is not read any more.
        let is_history = words.skip_while(|word| *word != "type").nth(1) == Some("h");
        // Nor is a snapshot ours to judge, however it begins.
        let is_ours = !name.contains('/') && !name.ends_with(".rdb") && !is_history;
        is_ours.then(|| parts.join(name))
    });
    of_parts
        .chain([folder.join("appendonly.aof")])
        .filter(|path| path.is_file())
        .collect()
}

fn mend_file(path: &Path) -> io::Result<Option<Cut>> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    let (at, reason) = match check(BufReader::with_capacity(READ_BYTES, &file))? {
        Found::Whole | Found::Snapshot => return Ok(None),
        Found::Damaged { at, reason } => (at, reason),
    };
    let kept = beside(path, at);
    // The copy must be on disk before the only other one is cut.
    file.seek(SeekFrom::Start(at))?;
    let bytes = copy(&mut file, &kept).inspect_err(|_| {
        // Half a copy would take the room that somebody makes for a whole one.
        let _ = fs::remove_file(&kept);
    })?;
    let file = OpenOptions::new().write(true).open(path)?;
    file.set_len(at)?;
    file.sync_all()?;
    debug_assert_eq!(at + bytes, length, "nobody else writes it");
    Ok(Some(Cut {
        file: path.to_owned(),
        at,
        bytes,
        reason,
        kept,
    }))
}

/// Copies the rest of a file, until it is on disk.
fn copy(file: &mut impl Read, to: &Path) -> io::Result<u64> {
    let mut copy = File::create(to)?;
    let bytes = io::copy(file, &mut copy)?;
    copy.sync_all()?;
    Ok(bytes)
}

/// What was cut off files in `folder` in the past, and is still kept.
pub(super) fn kept(folder: &Path) -> Vec<PathBuf> {
    let folders = [folder.to_owned(), folder.join(PARTS)];
    let entries = folders
        .iter()
        .filter_map(|folder| fs::read_dir(folder).ok());
    let mut kept: Vec<PathBuf> = entries
        .flat_map(|entries| entries.flatten().map(|entry| entry.path()))
        .filter(|path| {
            path.file_name()
                .is_some_and(|name| name.to_string_lossy().contains(CUT))
        })
        .collect();
    kept.sort_unstable();
    kept
}

/// A name for what is cut off that nothing has yet.
fn beside(path: &Path, at: u64) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    (0..)
        .map(|n: u32| match n {
            0 => format!("{name}{CUT}{at}"),
            n => format!("{name}{CUT}{at}-{n}"),
        })
        .map(|name| path.with_file_name(name))
        .find(|path| !path.exists())
        .unwrap_or_else(|| path.with_extension("cut"))
}

/// What a file is.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    /// Whole commands only.
    Whole,
    /// It begins with a snapshot.
    Snapshot,
    /// Whole commands up to `at`.
    Damaged { at: u64, reason: &'static str },
}

/// Why a command can't be read.
enum Wrong {
    Reading(io::Error),
    Damage(&'static str),
}

impl From<io::Error> for Wrong {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::Damage(TORN),
            _ => Self::Reading(error),
        }
    }
}

const TORN: &str = "its last command is not whole";
const GARBAGE: &str = "what stands there is no command";
const OPEN: &str = "its last transaction is not whole";

fn check(file: impl BufRead) -> io::Result<Found> {
    let mut commands = Commands { file, at: 0 };
    let begin = commands.file.fill_buf()?;
    if SNAPSHOTS.iter().any(|magic| begin.starts_with(magic)) {
        return Ok(Found::Snapshot);
    }
    // Where what is whole ends, and the transaction that has begun since.
    let (mut good, mut transaction) = (0, false);
    loop {
        match commands.skip() {
            Ok(None) if transaction => {
                return Ok(Found::Damaged {
                    at: good,
                    reason: OPEN,
                });
            }
            Ok(None) => return Ok(Found::Whole),
            Ok(Some(Command::Multi)) => transaction = true,
            Ok(Some(Command::Exec)) => transaction = false,
            Ok(Some(Command::Other)) => {}
            Err(Wrong::Damage(reason)) => return Ok(Found::Damaged { at: good, reason }),
            Err(Wrong::Reading(error)) => return Err(error),
        }
        if !transaction {
            good = commands.at;
        }
    }
}

enum Command {
    Multi,
    Exec,
    Other,
}

/// Reads commands, and keeps none.
struct Commands<R> {
    file: R,
    at: u64,
}

impl<R: BufRead> Commands<R> {
    /// The next command; `None` at the end of the file.
    fn skip(&mut self) -> Result<Option<Command>, Wrong> {
        let mut line = Vec::new();
        loop {
            self.line(&mut line)?;
            match line.first() {
                None => return Ok(None),
                Some(b'#') => {}
                Some(_) => break,
            }
        }
        let count = number(&line, b'*', MOST_ARGUMENTS)?;
        if count == 0 {
            return Err(Wrong::Damage(GARBAGE));
        }
        let name = self.name(&mut line)?;
        for _ in 1..count {
            let bytes = self.argument_length(&mut line)?;
            self.skip_bytes(bytes)?;
            self.end_of_argument()?;
        }
        Ok(Some(match &name.to_ascii_uppercase()[..] {
            b"MULTI" => Command::Multi,
            b"EXEC" => Command::Exec,
            _ => Command::Other,
        }))
    }

    /// The command's name: a word.
    fn name(&mut self, line: &mut Vec<u8>) -> Result<Vec<u8>, Wrong> {
        let bytes = self.argument_length(line)?;
        if bytes == 0 || bytes > LONGEST_NAME_BYTES {
            return Err(Wrong::Damage(GARBAGE));
        }
        let mut name = Vec::new();
        self.at += (&mut self.file).take(bytes).read_to_end(&mut name)? as u64;
        if name.len() as u64 != bytes {
            return Err(Wrong::Damage(TORN));
        }
        if !name.iter().all(u8::is_ascii_graphic) {
            return Err(Wrong::Damage(GARBAGE));
        }
        self.end_of_argument()?;
        Ok(name)
    }

    fn argument_length(&mut self, line: &mut Vec<u8>) -> Result<u64, Wrong> {
        self.line(line)?;
        if line.is_empty() {
            return Err(Wrong::Damage(TORN));
        }
        number(line, b'$', LONGEST_ARGUMENT_BYTES)
    }

    fn end_of_argument(&mut self) -> Result<(), Wrong> {
        let mut end = [0; 2];
        self.file.read_exact(&mut end)?;
        self.at += 2;
        if end == *b"\r\n" {
            Ok(())
        } else {
            Err(Wrong::Damage(GARBAGE))
        }
    }

    fn skip_bytes(&mut self, bytes: u64) -> Result<(), Wrong> {
        let mut left = bytes;
        while left > 0 {
            let here = self.file.fill_buf()?.len();
            if here == 0 {
                return Err(Wrong::Damage(TORN));
            }
            let taken = here.min(usize::try_from(left).unwrap_or(usize::MAX));
            self.file.consume(taken);
            left -= taken as u64;
        }
        self.at += bytes;
        Ok(())
    }

    /// Reads a line with its end; empty at the end of the file.
    fn line(&mut self, line: &mut Vec<u8>) -> Result<(), Wrong> {
        line.clear();
        let read = (&mut self.file)
            .take(LONGEST_LINE_BYTES)
            .read_until(b'\n', line)?;
        self.at += read as u64;
        match line.last() {
            None | Some(b'\n') => Ok(()),
            Some(_) if line.len() as u64 == LONGEST_LINE_BYTES => Err(Wrong::Damage(GARBAGE)),
            Some(_) => Err(Wrong::Damage(TORN)),
        }
    }
}

/// The number in `*3\r\n`.
fn number(line: &[u8], sign: u8, most: u64) -> Result<u64, Wrong> {
    let digits = line
        .strip_prefix(&[sign])
        .and_then(|rest| rest.strip_suffix(b"\r\n"));
    digits
        .filter(|digits| !digits.is_empty() && digits.iter().all(u8::is_ascii_digit))
        .and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok())
        .filter(|number| *number <= most)
        .ok_or(Wrong::Damage(GARBAGE))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SET: &[u8] = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$2\r\nvv\r\n";
    const MULTI: &[u8] = b"*1\r\n$5\r\nMULTI\r\n";
    const EXEC: &[u8] = b"*1\r\n$4\r\nEXEC\r\n";

    fn found(parts: &[&[u8]]) -> Found {
        check(&parts.concat()[..]).unwrap()
    }

    #[test]
    fn whole_commands_are_left_alone() {
        assert_eq!(found(&[]), Found::Whole);
        assert_eq!(found(&[SET, SET]), Found::Whole);
        assert_eq!(found(&[b"#TS:1763630000\r\n", SET]), Found::Whole);
        assert_eq!(found(&[MULTI, SET, EXEC, SET]), Found::Whole);
        for snapshot in [&b"REDIS0010\xfa..."[..], b"VALKEY080\xfa..."] {
            assert_eq!(found(&[snapshot, SET]), Found::Snapshot);
        }
    }

    #[test]
    fn wherever_it_is_torn_it_is_cut_after_the_last_whole_command() {
        let text = [SET, MULTI, SET, EXEC, SET].concat();
        let whole = [0, SET.len(), text.len() - SET.len(), text.len()];
        for end in 0..=text.len() {
            let good = *whole.iter().rfind(|whole| **whole <= end).unwrap();
            match check(&text[..end]).unwrap() {
                Found::Whole => assert_eq!(end, good),
                Found::Damaged { at, reason } => {
                    assert_eq!(at, good as u64, "torn at {end}");
                    assert!([TORN, OPEN].contains(&reason), "{reason}");
                }
                Found::Snapshot => unreachable!(),
            }
        }
    }

    #[test]
    fn what_is_no_command_is_told_and_where_it_begins() {
        let at = SET.len() as u64;
        for garbage in [
            &b"garbage\r\n"[..],
            &[0; 4096],
            b"*0\r\n",
            b"*-1\r\n",
            b"*1\r\n$0\r\n\r\n",
            b"*1\r\n$3\r\nG\0T\r\n",
            b"*1\r\n$3\r\nGETxx",
            b"*1\r\n$99999999999\r\n",
            b"*99999999999999999999\r\n$1\r\na\r\n",
            b"$3\r\nGET\r\n",
            b"*2\r\n*3\r\n",
        ] {
            let damaged = Found::Damaged {
                at,
                reason: GARBAGE,
            };
            assert_eq!(found(&[SET, garbage, SET]), damaged, "{garbage:?}");
        }
    }

    #[test]
    fn what_is_cut_off_is_kept_beside_the_file_each_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("appendonly.aof");
        for (time, name) in ["appendonly.aof.cut-at-28", "appendonly.aof.cut-at-28-1"]
            .into_iter()
            .enumerate()
        {
            let tail = format!("garbage {time}");
            fs::write(&path, [SET, tail.as_bytes()].concat()).unwrap();
            let cuts = mend(folder.path()).unwrap();
            assert_eq!(
                cuts,
                [Cut {
                    file: path.clone(),
                    at: SET.len() as u64,
                    bytes: tail.len() as u64,
                    reason: TORN,
                    kept: folder.path().join(name),
                }]
            );
            assert_eq!(fs::read(&path).unwrap(), SET);
            assert_eq!(fs::read_to_string(folder.path().join(name)).unwrap(), tail);
            assert_eq!(mend(folder.path()).unwrap(), []);
        }
        assert_eq!(kept(folder.path()).len(), 2);
    }
}
