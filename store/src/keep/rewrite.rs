//! A stream written anew with rows put in or replaced, in small steps.
//!
//! ```text
//! 1  page by page: XRANGE of the stream, XADD to another one, with what belongs in between
//! 2  WATCH the stream, XRANGE of what came since
//! 3  MULTI: XADD of that, RENAME over the stream, EXPIRE, what goes with it; EXEC
//! ```
//! Rows before those that are put in have to be copied too: the ids of a stream only rise.

use redis::{Cmd, Pipeline, RedisWrite};

use super::rows::{EntryId, entry_id};
use super::sums::Made;
use super::visit::{Halt, Visit};
use crate::answers::Answer;
use crate::row::UNKNOWN;
use crate::tier::Tier;

/// How many rows are copied at once.
const PAGE_ROWS: usize = 500;
/// How often the last step is tried while the writer adds rows.
const TRIES: usize = 8;
/// When an unfinished copy expires.
const UNFINISHED_SECONDS: u64 = 1_800;

/// A row that is put into a stream.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Edit {
    at_ms: u64,
    /// With an id of its own it takes the place of the rows of its time; else it comes after them.
    seq: Option<u64>,
    /// Fields and values, in turn.
    texts: Vec<Vec<u8>>,
}

impl Edit {
    /// A rolled-up row, in the place of the one that is there.
    pub(super) fn row(made: &Made, seq: u64) -> Self {
        let mut texts = Vec::with_capacity(2 * made.names.len());
        for (name, value) in made.names.iter().zip(&made.values) {
            texts.push(name.clone().into_bytes());
            let text = value.map(|value| hostbus_wire::Value::Float(value).to_string());
            texts.push(text.map_or_else(|| UNKNOWN.as_bytes().to_vec(), String::into_bytes));
        }
        Self {
            at_ms: made.at_ms,
            seq: Some(seq),
            texts,
        }
    }

    /// A row that came late, after those of its time.
    pub(super) fn late(at_ms: u64, texts: Vec<Vec<u8>>) -> Self {
        Self {
            at_ms,
            seq: None,
            texts,
        }
    }

    /// Its id; of a row without one the first of its time.
    pub(super) fn id(&self) -> EntryId {
        EntryId {
            at_ms: self.at_ms,
            seq: self.seq.unwrap_or(0),
        }
    }

    /// The command that adds it to a stream.
    pub(super) fn command(&self, stream: &str) -> Cmd {
        add(stream, self.id(), self.texts.iter().map(Vec::as_slice))
    }
}

/// What goes to the new stream, in order: existing entries with the edits between them.
struct Merge<'s> {
    stream: &'s str,
    edits: std::iter::Peekable<std::vec::IntoIter<Edit>>,
    last: Option<EntryId>,
    commands: Vec<Cmd>,
    malformed: u64,
}

impl Merge<'_> {
    /// Takes an entry of the old stream.
    fn take(&mut self, entry: Answer<'_>) {
        let (Some(id), Some(texts)) = (entry_id(entry), texts_of(entry)) else {
            self.malformed += 1;
            return;
        };
        self.edits_before(id.at_ms);
        let replaced = self
            .edits
            .peek()
            .is_some_and(|edit| edit.at_ms == id.at_ms && edit.seq.is_some());
        if !replaced {
            self.commands
                .push(add(self.stream, id, texts.iter().copied()));
            self.last = Some(id);
        }
    }

    fn edits_before(&mut self, at_ms: u64) {
        while let Some(edit) = self.edits.next_if(|edit| edit.at_ms < at_ms) {
            self.edit(&edit);
        }
    }

    fn edit(&mut self, edit: &Edit) {
        let mut id = edit.id();
        if let Some(last) = self.last.filter(|last| *last >= id) {
            id.seq = last.seq.saturating_add(1);
        }
        self.commands
            .push(add(self.stream, id, edit.texts.iter().map(Vec::as_slice)));
        self.last = Some(id);
    }
}

impl Visit<'_> {
    /// Writes the stream of `tier` anew with `edits` put in, which are sorted by time. `also` is done in the
    /// same moment.
    pub(super) async fn rewrite(
        &mut self,
        tier: Tier,
        edits: Vec<Edit>,
        also: Vec<Cmd>,
    ) -> Result<(), Halt> {
        let stream = self.stream(tier);
        let copy = self
            .keys
            .merging(&format!("{}-{}", self.token, tier.name()));
        let mut merge = Merge {
            stream: &copy,
            edits: edits.into_iter().peekable(),
            last: None,
            commands: vec![redis::cmd("UNLINK").arg(&copy).clone()],
            malformed: 0,
        };
        let mut cursor: Option<EntryId> = None;
        for _ in 0..TRIES {
            loop {
                let queries = [
                    redis::cmd("WATCH").arg(&stream).clone(),
                    page(&stream, cursor),
                ];
                let answers = self.read(queries).await?;
                let mut entries = answers.last().items();
                if let Some(copied) = cursor {
                    // What was copied last must still be there, or the stream is another one.
                    if entries.next().and_then(entry_id) != Some(copied) {
                        return Err(Halt::Contended);
                    }
                }
                let count = entries.len();
                for entry in entries {
                    merge.take(entry);
                    cursor = entry_id(entry).or(cursor);
                }
                if count < PAGE_ROWS {
                    break;
                }
                self.copy(&copy, &mut merge.commands).await?;
            }
            // From here on the copy holds all rows but those in hand, which stay in hand if EXEC is refused.
            let mut last = merge.commands.clone();
            let mut rest = Merge {
                stream: &copy,
                edits: merge.edits.clone(),
                last: merge.last,
                commands: Vec::new(),
                malformed: 0,
            };
            rest.edits_before(u64::MAX);
            last.append(&mut rest.commands);
            last.push(redis::cmd("RENAME").arg(&copy).arg(&stream).clone());
            last.push(self.expire(tier, &stream));
            last.extend(also.iter().cloned());
            match self.commit(&last).await {
                Ok(()) => {
                    self.tended.rewritten_streams += 1;
                    self.tended.malformed += merge.malformed;
                    return Ok(());
                }
                Err(Halt::Contended) => {}
                Err(other) => return Err(other),
            }
        }
        Err(Halt::Contended)
    }

    /// Sends rows to the copy.
    async fn copy(&mut self, copy: &str, commands: &mut Vec<Cmd>) -> Result<(), Halt> {
        self.spend(commands.len());
        let mut pipeline = Pipeline::with_capacity(commands.len() + 1);
        for command in commands.drain(..) {
            pipeline.add_command(command);
        }
        pipeline.cmd("EXPIRE").arg(copy).arg(UNFINISHED_SECONDS);
        self.connection.ask(&pipeline).await?;
        Ok(())
    }
}

/// The query for the next rows after `cursor`, with the one at it.
fn page(stream: &str, cursor: Option<EntryId>) -> Cmd {
    let mut query = redis::cmd("XRANGE");
    query.arg(stream);
    match cursor {
        Some(id) => query.arg(format!("{}-{}", id.at_ms, id.seq)),
        None => query.arg("-"),
    };
    let more = usize::from(cursor.is_some());
    query.arg("+").arg("COUNT").arg(PAGE_ROWS + more);
    query
}

fn add<'t>(stream: &str, id: EntryId, texts: impl Iterator<Item = &'t [u8]>) -> Cmd {
    let mut add = redis::cmd("XADD");
    add.arg(stream);
    add.write_arg_fmt(format_args!("{}-{}", id.at_ms, id.seq));
    for text in texts {
        add.write_arg(text);
    }
    add
}

/// The fields and values of an entry, in turn.
fn texts_of(entry: Answer<'_>) -> Option<Vec<&[u8]>> {
    let (_, texts) = entry.pair()?;
    texts.list()?.map(Answer::bulk).collect()
}
