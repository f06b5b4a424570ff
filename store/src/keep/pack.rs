//! Blocks: what is older than the stream goes into them, and late rows into those that are there.

use std::collections::BTreeMap;

use redis::Cmd;

use super::look::Look;
use super::rows::{adopt, entry_id, join_rows, named, replace_rows};
use super::sums::Made;
use super::visit::{Halt, Visit};
use crate::block::{self, Block, BlockError};
use crate::row::{Columns, Row};
use crate::tier::Tier;

/// How many rows of a stream are read at once.
const PAGE_ROWS: usize = 2_000;

impl Visit<'_> {
    /// Packs the blocks that are older than their stream is to be.
    pub(super) async fn seal(&mut self, look: &Look) -> Result<(), Halt> {
        if self.now_ms < self.progress.seal_due_ms {
            return Ok(());
        }
        let mut due_ms = u64::MAX;
        for tier in Tier::ALL {
            let Some(before_ms) = self.packed_before_ms(tier) else {
                continue;
            };
            let mut ends = self.ends_of(tier, look);
            loop {
                let next_ms = self.seal_first(tier, before_ms, ends.take()).await?;
                let Some(start) = next_ms.map(|next_ms| tier.block(next_ms)) else {
                    break;
                };
                if start >= before_ms {
                    due_ms = due_ms.min(self.now_ms + (start + tier.block_ms() - before_ms));
                    break;
                }
                if self.rows_left == 0 {
                    self.tended.more = true;
                    return Ok(());
                }
            }
        }
        self.progress.seal_due_ms = due_ms;
        Ok(())
    }

    /// The times of the first and the last row of a stream as the look found them, when this visit has
    /// put no row before the first one or taken it away.
    fn ends_of(&self, tier: Tier, look: &Look) -> Option<(u64, u64)> {
        let held = &look.tiers.as_ref()?[tier as usize];
        let (first_ms, last_ms) = held.first_ms.zip(held.last_ms)?;
        let stands = self.tended.rewritten_streams == 0
            && first_ms >= self.kept(tier).cutoff_ms(self.now_ms);
        stands.then_some((first_ms, last_ms))
    }

    /// Packs the block that the first row of the stream falls into, if it is due; `ends` are the times of
    /// its first row and of one after it, where they are known. Returns when the first row is that is
    /// left; none when there is nothing to wait for.
    async fn seal_first(
        &mut self,
        tier: Tier,
        before_ms: u64,
        ends: Option<(u64, u64)>,
    ) -> Result<Option<u64>, Halt> {
        let (stream, packed) = (self.stream(tier), self.keys.packed(tier, self.series));
        let ends = match ends {
            Some(ends) => Some(ends),
            None => self.ends(&stream).await?,
        };
        let Some((first_ms, last_ms)) = ends else {
            return Ok(None);
        };
        let start = tier.block(first_ms);
        if start >= before_ms {
            return Ok(Some(first_ms));
        }
        let end = start + tier.block_ms();
        let mut columns = Columns::default();
        let mut rows: Vec<Row> = Vec::new();
        let mut malformed = 0;
        let mut from = format!("{start}");
        let existing = loop {
            let mut queries = Vec::with_capacity(3);
            if last_ms < end {
                // The next row may still fall into the block.
                queries.push(redis::cmd("WATCH").arg(&stream).clone());
            }
            let mut page = redis::cmd("XRANGE");
            queries.push(
                page.arg(&stream)
                    .arg(&from)
                    .arg(end - 1)
                    .arg("COUNT")
                    .arg(PAGE_ROWS)
                    .clone(),
            );
            queries.push(redis::cmd("HGET").arg(&packed).arg(start).clone());
            let place = queries.len() - 2;
            let answers = self.read(queries).await?;
            let entries = answers.get(place).items();
            rows.reserve(entries.len());
            for entry in entries {
                let Some(id) = entry_id(entry) else {
                    return Err(crate::error::StoreError::reply("XRANGE").into());
                };
                if id.seq > 0 && tier != Tier::Raw && id.at_ms >= self.floor(tier) {
                    // Not the last word: it is made anew when the series goes on. What it was made of is
                    // gone for those before.
                    return Ok(None);
                }
                from = format!("({}-{}", id.at_ms, id.seq);
                match columns.stream_row(entry) {
                    Some(row) => rows.push(row),
                    None => malformed += 1,
                }
            }
            if entries.len() < PAGE_ROWS {
                break answers.last().bulk().map(<[u8]>::to_vec);
            }
            if !block::fits(columns.names.len(), rows.len()) {
                self.tended.refused += 1;
                return Ok(None);
            }
        };
        self.spend(rows.len());
        let streamed = rows.len() as u64;
        let Some(bytes) = self.with_block(tier, existing.as_deref(), columns, rows) else {
            return Ok(None);
        };
        let mut trim = redis::cmd("XTRIM");
        trim.arg(&stream).arg("MINID").arg("=").arg(end);
        let commands = [
            set_block(&packed, start, &bytes),
            trim,
            self.expire(tier, &packed),
            self.expire(tier, &stream),
        ];
        self.commit(&commands).await?;
        self.note_block(tier, start);
        self.tended.packed_blocks += 1;
        self.tended.packed_rows += streamed;
        self.tended.malformed += malformed;
        Ok(Some(end))
    }

    /// The times of the first and of the last row of a stream; none when there are no rows.
    async fn ends(&mut self, stream: &str) -> Result<Option<(u64, u64)>, Halt> {
        let mut ends = [redis::cmd("XRANGE"), redis::cmd("XREVRANGE")];
        ends[0].arg(stream).arg("-").arg("+").arg("COUNT").arg(1);
        ends[1].arg(stream).arg("+").arg("-").arg("COUNT").arg(1);
        let answers = self.read(ends).await?;
        let time = |place| entry_id(answers.get(place).items().first()?).map(|id| id.at_ms);
        Ok(time(0).zip(time(1)))
    }

    /// The bytes of a block with `rows` put into what it holds; none when that can't be.
    fn with_block(
        &mut self,
        tier: Tier,
        existing: Option<&[u8]>,
        mut columns: Columns,
        rows: Vec<Row>,
    ) -> Option<Vec<u8>> {
        let mut all = match existing.map(|bytes| block::decode(bytes, None)) {
            None => Vec::new(),
            Some(Ok(block)) => adopt(&mut columns, block),
            Some(Err(BlockError::Version(_) | BlockError::TooLarge { .. })) => {
                self.tended.refused += 1;
                return None;
            }
            // Nobody can read it.
            Some(Err(_)) => {
                self.tended.malformed += 1;
                Vec::new()
            }
        };
        if tier == Tier::Raw {
            join_rows(&mut all, rows);
        } else {
            replace_rows(&mut all, rows);
        }
        if !block::fits(columns.names.len(), all.len()) {
            self.tended.refused += 1;
            return None;
        }
        Some(block::encode(&columns.names, &all))
    }

    /// Puts `rows` with the fields `names` into the block that begins at `start`, and does `also` in
    /// the same moment. Returns how many rows are new; none when the block can't take them.
    pub(super) async fn edit_block(
        &mut self,
        tier: Tier,
        start: u64,
        names: &[String],
        rows: Vec<Row>,
        also: Cmd,
    ) -> Result<Option<u64>, Halt> {
        let packed = self.keys.packed(tier, self.series);
        let query = redis::cmd("HGET").arg(&packed).arg(start).clone();
        let answers = self.read([query]).await?;
        let existing = answers.get(0).bulk();
        let have = existing.and_then(|bytes| block::decode(bytes, None).ok());
        let have: usize = have.map_or(0, |block: Block| block.rows.len());
        let mut columns = Columns::default();
        columns.names.extend_from_slice(names);
        let Some(bytes) = self.with_block(tier, existing, columns, rows) else {
            return Ok(None);
        };
        let mut commands = Vec::with_capacity(3);
        if existing != Some(bytes.as_slice()) {
            commands.push(set_block(&packed, start, &bytes));
            commands.push(self.expire(tier, &packed));
            self.tended.rewritten_blocks += 1;
        }
        commands.push(also);
        self.commit(&commands).await?;
        self.note_block(tier, start);
        let now = block::decode(&bytes, Some(&[])).map_or(0, |block| block.rows.len());
        self.spend(now);
        Ok(Some(now.saturating_sub(have) as u64))
    }

    /// Puts rolled-up rows into their blocks.
    pub(super) async fn put_packed(
        &mut self,
        tier: Tier,
        made: BTreeMap<u64, Made>,
    ) -> Result<(), Halt> {
        let mut blocks: BTreeMap<u64, (Columns, Vec<Row>)> = BTreeMap::new();
        for made in made.values() {
            let (columns, rows) = blocks.entry(tier.block(made.at_ms)).or_default();
            let row = named(columns, made);
            rows.push(row);
        }
        for (start, (columns, rows)) in blocks {
            let count = rows.len() as u64;
            let expire = self.expire(tier, &self.keys.packed(tier, self.series));
            if self
                .edit_block(tier, start, &columns.names, rows, expire)
                .await?
                .is_some()
            {
                self.tended.rolled_up_rows += count;
            }
        }
        Ok(())
    }

    fn note_block(&mut self, tier: Tier, start: u64) {
        let packed = &mut self.progress.packed[tier as usize];
        let (oldest, newest) = packed.unwrap_or((start, start));
        *packed = Some((oldest.min(start), newest.max(start)));
    }
}

fn set_block(packed: &str, start: u64, bytes: &[u8]) -> Cmd {
    let mut set = redis::cmd("HSET");
    set.arg(packed).arg(start).arg(bytes);
    set
}
