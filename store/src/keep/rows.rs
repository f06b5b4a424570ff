//! The rows of one tier over a stretch of time, wherever they stand: in blocks, in the stream, among
//! the late ones.

use std::ops::Range;

use redis::Cmd;

use super::sums::Made;
use super::visit::{Halt, Visit};
use crate::answers::{Answer, Answers};
use crate::block::{self, Block};
use crate::row::{Columns, Row};
use crate::tier::Tier;

/// How many rows of the stream, and how many late ones, are read at once.
pub(super) const PAGE_ROWS: usize = 1_000;
/// How many blocks are read at once.
const BLOCKS_AT_ONCE: usize = 2;

/// Rows of one tier, as far as they were read.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) columns: Columns,
    pub(super) rows: Vec<Row>,
    /// The times of the rows that may not be the last word: their series fell silent within them.
    pub(super) open: Vec<u64>,
    /// From here on they were asked for.
    pub(super) from_ms: u64,
    /// All rows before this are here, and none after.
    pub(super) until_ms: u64,
}

impl Found {
    /// The rows from `from_ms` on and before `to_ms`; `None` when they do not begin here.
    fn part(&self, from_ms: u64, to_ms: u64) -> Option<Self> {
        if !(self.from_ms..self.until_ms).contains(&from_ms) {
            return None;
        }
        let until_ms = to_ms.min(self.until_ms);
        let range = from_ms..until_ms;
        let begin = self.rows.partition_point(|row| row.at_ms < from_ms);
        let end = self.rows.partition_point(|row| row.at_ms < until_ms);
        let open = self.open.iter().copied();
        Some(Self {
            columns: self.columns.clone(),
            rows: self.rows.get(begin..end).unwrap_or_default().to_vec(),
            open: open.filter(|at_ms| range.contains(at_ms)).collect(),
            from_ms,
            until_ms,
        })
    }
}

/// What is asked for to get rows of one tier.
#[derive(Debug)]
struct Question {
    tier: Tier,
    from_ms: u64,
    until_ms: u64,
    /// The stream is read from its end.
    backward: bool,
    queries: Vec<Cmd>,
    blocks: usize,
}

/// The place of an entry in its stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct EntryId {
    pub(super) at_ms: u64,
    pub(super) seq: u64,
}

/// The id of an entry of XRANGE.
pub(super) fn entry_id(entry: Answer<'_>) -> Option<EntryId> {
    parse_id(entry.items().first()?.text()?)
}

/// Reads an id, `<ms>-<seq>`.
pub(super) fn parse_id(id: &str) -> Option<EntryId> {
    let (at_ms, seq) = id.split_once('-')?;
    Some(EntryId {
        at_ms: at_ms.parse().ok()?,
        seq: seq.parse().ok()?,
    })
}

/// The time of a late row's member.
pub(super) fn member_ms(member: &[u8]) -> Option<u64> {
    std::str::from_utf8(member)
        .ok()?
        .split_once(' ')?
        .0
        .parse()
        .ok()
}

/// The query for at most `count` entries of a stream from `from` on, before `to`.
pub(super) fn entries(stream: &str, from: u64, to: u64, count: usize) -> Cmd {
    let mut query = redis::cmd("XRANGE");
    query
        .arg(stream)
        .arg(from)
        .arg(to.saturating_sub(1))
        .arg("COUNT")
        .arg(count);
    query
}

/// The same, the last ones first.
fn entries_backward(stream: &str, from: u64, to: u64, count: usize) -> Cmd {
    let mut query = redis::cmd("XREVRANGE");
    query
        .arg(stream)
        .arg(to.saturating_sub(1))
        .arg(from)
        .arg("COUNT")
        .arg(count);
    query
}

/// A row under the columns of others.
pub(super) fn named(columns: &mut Columns, made: &Made) -> Row {
    let mut values = vec![None; columns.names.len()];
    for (position, (name, value)) in made.names.iter().zip(&made.values).enumerate() {
        let Some(column) = columns.column(position, name) else {
            continue;
        };
        if column >= values.len() {
            values.resize(column + 1, None);
        }
        values[column] = *value;
    }
    Row {
        at_ms: made.at_ms,
        values,
    }
}

/// The rows of a block under the columns of others.
pub(super) fn adopt(columns: &mut Columns, block: Block) -> Vec<Row> {
    let places: Vec<Option<usize>> = block
        .fields
        .iter()
        .enumerate()
        .map(|(position, name)| columns.column(position, name))
        .collect();
    let same = places
        .iter()
        .enumerate()
        .all(|(position, place)| *place == Some(position));
    let width = columns.names.len();
    let mut rows = block.rows;
    if !same {
        for row in &mut rows {
            let mut values = vec![None; width];
            for (place, value) in places.iter().zip(&row.values) {
                if let Some(place) = place {
                    values[*place] = *value;
                }
            }
            row.values = values;
        }
    }
    rows
}

/// Tells whether two rows say the same: what is unknown may be absent.
pub(super) fn is_same(one: &Row, other: &Row) -> bool {
    let longest = one.values.len().max(other.values.len());
    let value = |row: &Row, place: usize| row.values.get(place).copied().flatten();
    one.at_ms == other.at_ms && (0..longest).all(|place| value(one, place) == value(other, place))
}

/// Adds `more` to `rows`, both sorted by time, but for those that are there already. Of one time
/// those of `rows` come first. Returns how many were added.
pub(super) fn join_rows(rows: &mut Vec<Row>, more: Vec<Row>) -> u64 {
    let mut new: Vec<Row> = Vec::with_capacity(more.len());
    for row in more {
        let first = rows.partition_point(|have| have.at_ms < row.at_ms);
        let of_its_time = rows[first..]
            .iter()
            .take_while(|have| have.at_ms == row.at_ms);
        let just_now = new.iter().rev().take_while(|have| have.at_ms == row.at_ms);
        if !of_its_time.chain(just_now).any(|have| is_same(have, &row)) {
            new.push(row);
        }
    }
    let added = new.len() as u64;
    if added > 0 {
        rows.extend(new);
        rows.sort_by_key(|row| row.at_ms);
    }
    added
}

/// Puts `more` into `rows`, both sorted by time, in the place of those that have the same time.
pub(super) fn replace_rows(rows: &mut Vec<Row>, more: Vec<Row>) {
    rows.extend(more);
    rows.sort_by_key(|row| row.at_ms);
    rows.reverse();
    // Stable, so of one time the last that came is now the first.
    rows.dedup_by_key(|row| row.at_ms);
    rows.reverse();
}

impl Visit<'_> {
    /// Reads the rows of `tier` from `from` on and before `to`, as many as fit a page. Their columns
    /// come after those of `columns`.
    pub(super) async fn rows(
        &mut self,
        tier: Tier,
        from: u64,
        to: u64,
        columns: Columns,
    ) -> Result<Found, Halt> {
        let page = self.pages[tier as usize].as_ref();
        if columns.names.is_empty()
            && let Some(part) = page.and_then(|page| page.part(from, to))
        {
            return Ok(part);
        }
        let mut question = self.question(tier, from, to, false);
        let answers = self.read(std::mem::take(&mut question.queries)).await?;
        Ok(self.found(&question, &answers, 0, columns))
    }

    /// Reads stretches of tiers whose rows are wanted next, all at once. They are at the end of their
    /// streams, and are read from there: Redis goes through the rows before them otherwise.
    pub(super) async fn read_ahead(
        &mut self,
        stretches: impl IntoIterator<Item = (Tier, Range<u64>)>,
    ) -> Result<(), Halt> {
        let mut questions: Vec<Question> = stretches
            .into_iter()
            .map(|(tier, range)| self.question(tier, range.start, range.end, true))
            .collect();
        let mut queries: Vec<Cmd> = Vec::with_capacity(3 * questions.len());
        let mut places = Vec::with_capacity(questions.len());
        for question in &mut questions {
            places.push(queries.len());
            queries.append(&mut question.queries);
        }
        let answers = self.read(queries).await?;
        for (question, place) in questions.iter().zip(places) {
            // A page that is full lacks what comes first.
            if answers.get(place).items().len() < PAGE_ROWS {
                let found = self.found(question, &answers, place, Columns::default());
                self.pages[question.tier as usize] = Some(found);
            }
        }
        Ok(())
    }

    fn question(&self, tier: Tier, from: u64, to: u64, backward: bool) -> Question {
        let stream = self.stream(tier);
        let mut until_ms = to;
        let mut fields = redis::cmd("HMGET");
        fields.arg(self.keys.packed(tier, self.series));
        let mut blocks = 0;
        if let Some((oldest, newest)) = self.progress.packed[tier as usize] {
            let mut start = tier.block(from).max(oldest);
            while start <= newest && start < to && blocks < BLOCKS_AT_ONCE {
                fields.arg(start);
                blocks += 1;
                start += tier.block_ms();
            }
            if start <= newest && start < to {
                until_ms = start;
            }
        }
        let mut queries = Vec::with_capacity(3);
        queries.push(if backward {
            entries_backward(&stream, from, until_ms, PAGE_ROWS)
        } else {
            entries(&stream, from, until_ms, PAGE_ROWS)
        });
        if tier == Tier::Raw {
            let mut late = redis::cmd("ZRANGEBYSCORE");
            late.arg(self.keys.late(self.series))
                .arg(from)
                .arg(format!("({until_ms}"));
            queries.push(late.arg("LIMIT").arg(0).arg(PAGE_ROWS).clone());
        }
        if blocks > 0 {
            queries.push(fields);
        }
        Question {
            tier,
            from_ms: from,
            until_ms,
            backward,
            queries,
            blocks,
        }
    }

    /// The rows that the answers to a question have, of which the first is the one at `place`.
    fn found(
        &mut self,
        question: &Question,
        answers: &Answers,
        place: usize,
        columns: Columns,
    ) -> Found {
        let (tier, from) = (question.tier, question.from_ms);
        let mut until_ms = question.until_ms;
        let mut in_stream: Vec<Answer<'_>> = answers.get(place).items().collect();
        if question.backward {
            in_stream.reverse();
        }
        let (late, packed): (Vec<&[u8]>, _) = if tier == Tier::Raw {
            let late = answers.get(place + 1).items();
            (late.filter_map(Answer::bulk).collect(), place + 2)
        } else {
            (Vec::new(), place + 1)
        };
        let last = in_stream.last().copied();
        let ends = [
            (in_stream.len(), last.and_then(entry_id).map(|id| id.at_ms)),
            (late.len(), late.last().copied().and_then(member_ms)),
        ];
        for (rows, end) in ends {
            if rows >= PAGE_ROWS {
                // Rows of one time stay together, unless they fill a page.
                let end = end.unwrap_or(from);
                until_ms = until_ms.min(end.max(from.saturating_add(1)));
            }
        }
        let mut found = Found {
            columns,
            from_ms: from,
            until_ms,
            ..Found::default()
        };
        if question.blocks > 0 {
            for bytes in answers.get(packed).items().filter_map(Answer::bulk) {
                match block::decode(bytes, None) {
                    Ok(block) => found.rows.extend(adopt(&mut found.columns, block)),
                    Err(_) => self.tended.malformed += 1,
                }
            }
        }
        let mut streamed = Vec::with_capacity(in_stream.len());
        for entry in in_stream {
            match (found.columns.stream_row(entry), entry_id(entry)) {
                (Some(row), Some(id)) => {
                    if id.seq > 0 && tier != Tier::Raw {
                        found.open.push(id.at_ms);
                    }
                    streamed.push(row);
                }
                _ => self.tended.malformed += 1,
            }
        }
        // What is malformed among the late ones is counted when it is merged.
        let late: Vec<Row> = late
            .iter()
            .filter_map(|member| found.columns.late_row(member))
            .collect();
        if tier == Tier::Raw {
            found.rows.extend(streamed);
            found.rows.sort_by_key(|row| row.at_ms);
            join_rows(&mut found.rows, late);
        } else {
            replace_rows(&mut found.rows, streamed);
        }
        found
            .rows
            .retain(|row| (from..found.until_ms).contains(&row.at_ms));
        found.open.retain(|at_ms| *at_ms < found.until_ms);
        self.spend(found.rows.len());
        found
    }
}
