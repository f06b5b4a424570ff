//! A range of one series, page by page, the oldest first: packed blocks, stream and late rows, joined.
//!
//! Each page is one look at all three, so that a row which moves from one to the other in between is
//! neither missed nor seen twice. Where the range is long, the blocks that are there are listed, and
//! those alone are asked for; a block that came since the list was made makes the page be asked for
//! again. Memory is bounded by the page, whatever the range.

use redis::Pipeline;

use crate::answers::{Answer, List};
use crate::block;
use crate::connection::Connection;
use crate::error::StoreError;
use crate::frame::Frame;
use crate::keys::NodeKeys;
use crate::row::{Columns, Row, id_ms};
use crate::tier::Tier;

/// How many rows of the stream, and how many late ones, are fetched at once.
const PAGE_ROWS: usize = 2_000;
/// About how many values a page has, times included.
const PAGE_CELLS: usize = 1 << 18;
/// In a range of so few blocks each is asked for, whether it is there or not.
const FEW_BLOCKS: u64 = 32;
/// How many listed blocks the first page asks for, and any page at most.
const FIRST_BLOCKS: usize = 16;
const MOST_BLOCKS: usize = 256;

/// What is to be read of one series.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) tier: Tier,
    /// All fields when absent.
    pub(crate) fields: Option<Vec<String>>,
    pub(crate) from_ms: u64,
    pub(crate) to_ms: u64,
}

/// A range that is being read.
#[derive(Debug)]
pub struct Scan {
    connection: Connection,
    tier: Tier,
    stream: String,
    packed: String,
    /// Rows as they came may be late.
    late: Option<String>,
    /// From where the next page reads; `None` at the end.
    from_ms: Option<u64>,
    to_ms: u64,
    columns: Columns,
    listing: Listing,
    /// How many listed blocks the next page asks for.
    blocks: usize,
}

/// How the blocks of the range are found.
#[derive(Debug)]
enum Listing {
    /// They are few: each is asked for.
    None,
    /// They are to be listed first.
    Due,
    /// Their starts, ascending.
    Done(Vec<u64>),
}

/// Some rows in the order of time. A row has a value for each field that was known when it was
/// read: [`Scan::fields`] may have more names by the end.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Page {
    /// The rows.
    pub rows: Vec<Row>,
    /// Rows in Redis that can't be read.
    pub malformed: u64,
    /// Packed blocks in Redis that can't be read.
    pub broken_blocks: u64,
}

/// The same, column by column.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FramePage {
    /// The rows.
    pub frame: Frame,
    /// Rows in Redis that can't be read.
    pub malformed: u64,
    /// Packed blocks in Redis that can't be read.
    pub broken_blocks: u64,
}

/// One look at a series: until when it goes, and the blocks that it asks for.
#[derive(Debug)]
struct Look {
    from_ms: u64,
    until_ms: u64,
    blocks: Vec<u64>,
    /// How many replies it gets.
    commands: usize,
    /// Its commands are one transaction.
    whole: bool,
}

impl Scan {
    pub(crate) fn new(
        connection: Connection,
        keys: &NodeKeys,
        series: &str,
        wanted: Wanted,
    ) -> Self {
        let Wanted {
            tier,
            fields,
            from_ms,
            to_ms,
        } = wanted;
        let few = from_ms <= to_ms
            && (tier.block(to_ms) - tier.block(from_ms)) / tier.block_ms() < FEW_BLOCKS;
        Self {
            connection,
            tier,
            stream: keys.rows(tier, series),
            packed: keys.packed(tier, series),
            late: (tier == Tier::Raw).then(|| keys.late(series)),
            from_ms: (from_ms <= to_ms).then_some(from_ms),
            to_ms,
            columns: Columns::of(fields),
            listing: if few { Listing::None } else { Listing::Due },
            blocks: FIRST_BLOCKS,
        }
    }

    /// The names of the fields seen so far, in the order of each row's values.
    #[must_use]
    pub fn fields(&self) -> &[String] {
        &self.columns.names
    }

    pub(crate) fn into_fields(self) -> Vec<String> {
        self.columns.names
    }

    /// The next page; `None` at the end. A page may be empty though others follow.
    ///
    /// # Errors
    /// Redis failed; may be called again for the same page.
    pub async fn next_page(&mut self) -> Result<Option<Page>, StoreError> {
        let page = self.next_frame().await?;
        Ok(page.map(|page| Page {
            rows: page.frame.into_rows(),
            malformed: page.malformed,
            broken_blocks: page.broken_blocks,
        }))
    }

    /// The next page column by column; `None` at the end. A page may be empty though others follow.
    ///
    /// # Errors
    /// Redis failed; may be called again for the same page.
    pub async fn next_frame(&mut self) -> Result<Option<FramePage>, StoreError> {
        let pages = next_frames(std::slice::from_mut(self)).await?;
        Ok(pages.into_iter().next().flatten())
    }

    /// Adds the commands of the next look to `pipeline`, as one transaction where it is to be
    /// `whole`; `None` at the end.
    fn ask(&self, pipeline: &mut Pipeline, whole: bool) -> Option<Look> {
        let from_ms = self.from_ms?;
        let first = self.tier.block(from_ms);
        let mut until_ms = self.to_ms;
        let blocks: Vec<u64> = match &self.listing {
            Listing::Due => {
                pipeline.cmd("HKEYS").arg(&self.packed);
                return Some(Look {
                    from_ms,
                    until_ms,
                    blocks: Vec::new(),
                    commands: 1,
                    whole: false,
                });
            }
            Listing::None => (0..FEW_BLOCKS)
                .map_while(|block| first.checked_add(block * self.tier.block_ms()))
                .take_while(|start| *start <= until_ms)
                .collect(),
            Listing::Done(listed) => {
                let rest = &listed[listed.partition_point(|start| *start < first)..];
                if let Some(next) = rest.get(self.blocks) {
                    until_ms = until_ms.min(next - 1);
                }
                let asked = rest.iter().take(self.blocks).copied();
                asked.take_while(|start| *start <= until_ms).collect()
            }
        };
        let commands = pipeline.len();
        if whole {
            pipeline.cmd("MULTI");
        }
        pipeline
            .cmd("XRANGE")
            .arg(&self.stream)
            .arg(from_ms)
            .arg(until_ms)
            .arg("COUNT")
            .arg(PAGE_ROWS);
        if let Some(late) = &self.late {
            pipeline
                .cmd("ZRANGEBYSCORE")
                .arg(late)
                .arg(from_ms)
                .arg(until_ms)
                .arg("LIMIT")
                .arg(0)
                .arg(PAGE_ROWS);
        }
        if matches!(self.listing, Listing::Done(_)) {
            pipeline.cmd("HKEYS").arg(&self.packed);
        }
        if !blocks.is_empty() {
            pipeline.cmd("HMGET").arg(&self.packed).arg(&blocks);
        }
        if whole {
            pipeline.cmd("EXEC");
        }
        Some(Look {
            from_ms,
            until_ms,
            blocks,
            commands: pipeline.len() - commands,
            whole,
        })
    }

    /// Reads the replies to a look. `None`: there are blocks that it did not ask for; ask again.
    fn take(
        &mut self,
        look: &Look,
        answers: &[Answer<'_>],
    ) -> Result<Option<FramePage>, StoreError> {
        if let (Listing::Due, [listed]) = (&self.listing, answers) {
            let starts = listed.list().ok_or_else(|| StoreError::reply("HKEYS"))?;
            self.listing = Listing::Done(self.starts(starts));
            return Ok(None);
        }
        let mut results = results(answers, look.whole)?.into_iter();
        let mut next = || {
            let list = results.next().and_then(Answer::list);
            list.ok_or_else(|| StoreError::reply("a range"))
        };
        let stream = next()?;
        let late = if self.late.is_some() {
            Some(next()?)
        } else {
            None
        };
        let late: Vec<Answer<'_>> = late.into_iter().flatten().collect();
        if matches!(self.listing, Listing::Done(_)) {
            let listed = self.starts(next()?);
            let first = self.tier.block(look.from_ms);
            let mut within = listed
                .iter()
                .filter(|start| (first..=look.until_ms).contains(start));
            let missed = within.any(|start| look.blocks.binary_search(start).is_err());
            self.listing = Listing::Done(listed);
            if missed {
                return Ok(None);
            }
        }
        let packed = if look.blocks.is_empty() {
            None
        } else {
            Some(next()?)
        };

        let mut until_ms = look.until_ms;
        // Where one of the two has more, the page ends before its last row's time, so that rows
        // of one time stay together.
        let ends = [
            (stream.len(), stream.last().and_then(entry_ms)),
            (late.len(), late.last().copied().and_then(member_ms)),
        ];
        for (rows, last_ms) in ends {
            if rows >= PAGE_ROWS {
                let end = last_ms.unwrap_or(look.from_ms);
                until_ms = until_ms.min(end.saturating_sub(1).max(look.from_ms));
            }
        }
        let mut page = FramePage {
            frame: Frame::of(&self.columns.names),
            ..FramePage::default()
        };
        if let Some(packed) = packed {
            self.take_blocks(look, packed, &mut until_ms, &mut page);
        }
        self.columns.names.clone_from(&page.frame.fields);
        let within = |ms: Option<u64>| ms.is_none_or(|ms| ms <= until_ms);
        for entry in stream.filter(|entry| within(entry_ms(*entry))) {
            let row = self.columns.stream_row(entry);
            page.push(&self.columns, row);
        }
        let late_from = page.frame.len();
        for member in late.into_iter().filter(|member| within(member_ms(*member))) {
            let row = member
                .bulk()
                .and_then(|member| self.columns.late_row(member));
            page.push(&self.columns, row);
        }
        // Stable: of two rows with one time, the packed one comes first, then the stream's.
        page.frame.sort(late_from);
        self.from_ms = (until_ms < self.to_ms).then(|| until_ms + 1);
        Ok(Some(page))
    }

    /// Adds the rows of the blocks to the page until it is full; then it ends before the next block.
    fn take_blocks(
        &mut self,
        look: &Look,
        packed: List<'_>,
        until_ms: &mut u64,
        page: &mut FramePage,
    ) {
        let wanted: Option<Vec<&str>> = self
            .columns
            .wanted()
            .map(|wanted| wanted.iter().map(String::as_str).collect());
        let (mut cells, mut taken) = (0_usize, 0_usize);
        for (start, packed) in look.blocks.iter().zip(packed) {
            if *start > *until_ms {
                break;
            }
            if cells >= PAGE_CELLS && *start > look.from_ms {
                *until_ms = start - 1;
                break;
            }
            if packed.is_nil() {
                continue;
            }
            taken += 1;
            let last = start.saturating_add(self.tier.block_ms() - 1);
            let rows = packed
                .bulk()
                .and_then(|bytes| block::decode_columns(bytes, wanted.as_deref()).ok())
                .filter(|rows| {
                    let ends = [rows.times_ms.first(), rows.times_ms.last()];
                    ends.iter()
                        .flatten()
                        .all(|at_ms| (start..=&last).contains(at_ms))
                });
            let Some(rows) = rows else {
                page.broken_blocks += 1;
                continue;
            };
            cells += rows.len() * (1 + rows.values.len());
            let begin = rows.times_ms.partition_point(|at_ms| *at_ms < look.from_ms);
            let end = rows.times_ms.partition_point(|at_ms| *at_ms <= *until_ms);
            page.frame.append(&rows, begin, end);
        }
        if let Some(cells_a_block) = cells.checked_div(taken) {
            self.blocks = (PAGE_CELLS / cells_a_block.max(1)).clamp(1, MOST_BLOCKS);
        }
    }

    /// The starts of the blocks, ascending. What is none is passed over.
    fn starts(&self, listed: List<'_>) -> Vec<u64> {
        let mut starts: Vec<u64> = listed
            .filter_map(|start| start.text()?.parse().ok())
            .filter(|start| self.tier.block(*start) == *start)
            .collect();
        starts.sort_unstable();
        starts.dedup();
        starts
    }
}

/// The next page of each scan, all in one round trip; `None` for those at their end. All scans are
/// of one Redis.
pub(crate) async fn next_frames(scans: &mut [Scan]) -> Result<Vec<Option<FramePage>>, StoreError> {
    let mut pages = vec![None; scans.len()];
    let Some(connection) = scans.first().map(|scan| scan.connection.clone()) else {
        return Ok(pages);
    };
    let mut waiting: Vec<usize> = (0..scans.len()).collect();
    while !waiting.is_empty() {
        let look = |whole: bool| {
            let mut pipeline = Pipeline::new();
            let looks: Vec<(usize, Look)> = waiting
                .iter()
                .filter_map(|scan| Some((*scan, scans[*scan].ask(&mut pipeline, whole)?)))
                .collect();
            (pipeline, looks)
        };
        let (pipeline, looks) = look(true);
        let (looks, answers) = match connection.ask(&pipeline).await {
            // A Redis whose memory is full takes no transaction, though this one only reads. Nor does
            // it take a block: no row moves meanwhile.
            Err(StoreError::Full) => {
                let (pipeline, looks) = look(false);
                (looks, connection.ask(&pipeline).await?)
            }
            answers => (looks, answers?),
        };
        let answers: Vec<Answer<'_>> = answers.iter().collect();
        let mut answers = answers.as_slice();
        waiting.clear();
        for (scan, look) in looks {
            let (own, others) = answers
                .split_at_checked(look.commands)
                .ok_or_else(|| StoreError::reply("a range"))?;
            answers = others;
            pages[scan] = scans[scan].take(&look, own)?;
            if pages[scan].is_none() {
                waiting.push(scan);
            }
        }
    }
    Ok(pages)
}

/// What EXEC, the last of `answers`, gives for the commands before it; without a transaction the
/// answers themselves.
fn results<'a>(answers: &[Answer<'a>], whole: bool) -> Result<Vec<Answer<'a>>, StoreError> {
    let refused = |reason: &str| StoreError::Refused {
        command: "a range".to_owned(),
        reason: reason.to_owned(),
    };
    let results: Vec<Answer<'a>> = if whole {
        let exec = answers.last().copied();
        if let Some(reason) = exec.and_then(Answer::refusal) {
            return Err(refused(reason));
        }
        let results = exec.and_then(Answer::list);
        results
            .ok_or_else(|| StoreError::reply("a range"))?
            .collect()
    } else {
        answers.to_vec()
    };
    match results.iter().find_map(|result| result.refusal()) {
        Some(reason) => Err(refused(reason)),
        None => Ok(results),
    }
}

impl FramePage {
    fn push(&mut self, columns: &Columns, row: Option<Row>) {
        match row {
            Some(row) => self.frame.push(&columns.names, &row),
            None => self.malformed += 1,
        }
    }
}

fn entry_ms(entry: Answer<'_>) -> Option<u64> {
    id_ms(entry.items().first()?.text()?)
}

fn member_ms(member: Answer<'_>) -> Option<u64> {
    member.text()?.split_once(' ')?.0.parse().ok()
}
