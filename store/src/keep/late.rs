//! Late rows put where they belong: into the stream, or into a packed block.

use std::collections::BTreeMap;

use redis::{Cmd, RedisWrite};

use super::look::Late;
use super::rewrite::Edit;
use super::rows::{entries, is_same};
use super::visit::{Halt, Visit};
use crate::row::{Columns, Row};
use crate::tier::Tier;

/// How many rows of one time are looked through for one that is the same.
const ROWS_A_TIME: usize = 100;

/// A late row, both as it stands and as what it says.
#[derive(Debug)]
struct LateRow {
    member: Vec<u8>,
    row: Row,
}

impl Visit<'_> {
    /// Puts late rows in their places. Those before what is kept go, and so does what is no row.
    pub(super) async fn merge_late(&mut self, late: Vec<Late>) -> Result<(), Halt> {
        let cutoff_ms = self.kept(Tier::Raw).cutoff_ms(self.now_ms);
        let mut columns = Columns::default();
        let mut rows = Vec::with_capacity(late.len());
        let mut useless = Vec::new();
        for late in late {
            let member = late.member;
            match columns.late_row(&member) {
                Some(row) if row.at_ms >= cutoff_ms => rows.push(LateRow { member, row }),
                Some(_) => useless.push(member),
                None => {
                    self.tended.malformed += 1;
                    useless.push(member);
                }
            }
        }
        rows.sort_by_key(|late| late.row.at_ms);
        let stream = self.stream(Tier::Raw);
        let mut first = redis::cmd("XRANGE");
        first.arg(&stream).arg("-").arg("+").arg("COUNT").arg(1);
        let mut queries = vec![first];
        for late in &rows {
            let at_ms = late.row.at_ms;
            queries.push(entries(
                &stream,
                at_ms,
                at_ms.saturating_add(1),
                ROWS_A_TIME,
            ));
        }
        let answers = self.read(queries).await?;
        let first_ms = answers.get(0).items().first();
        let first_ms = first_ms.and_then(super::rows::entry_id);
        let first_ms = first_ms.map_or(u64::MAX, |id| id.at_ms);
        let packed_before_ms = self.in_blocks_before_ms(Tier::Raw).min(first_ms);
        let mut packed: BTreeMap<u64, Vec<LateRow>> = BTreeMap::new();
        let mut edits = Vec::new();
        let mut merged = useless;
        for (late, there) in rows.into_iter().zip(answers.iter().skip(1)) {
            if late.row.at_ms < packed_before_ms {
                packed
                    .entry(Tier::Raw.block(late.row.at_ms))
                    .or_default()
                    .push(late);
                continue;
            }
            let mut there = there.items().filter_map(|entry| columns.stream_row(entry));
            let known = there.any(|row| is_same(&row, &late.row));
            if !known {
                edits.push(Edit::late(late.row.at_ms, texts(&late.member)));
            }
            merged.push(late.member);
        }
        for (start, late) in packed {
            self.merge_packed(start, late, &columns).await?;
        }
        if merged.is_empty() {
            return Ok(());
        }
        let removal = self.remove(&merged);
        if edits.is_empty() {
            return self.commit(&[removal]).await;
        }
        self.tended.merged_rows += edits.len() as u64;
        self.rewrite(Tier::Raw, edits, vec![removal]).await
    }

    /// Puts late rows into their block.
    async fn merge_packed(
        &mut self,
        start: u64,
        late: Vec<LateRow>,
        columns: &Columns,
    ) -> Result<(), Halt> {
        let (members, rows): (Vec<_>, Vec<_>) =
            late.into_iter().map(|late| (late.member, late.row)).unzip();
        let removal = self.remove(&members);
        let added = self
            .edit_block(Tier::Raw, start, &columns.names, rows, removal)
            .await?;
        match added {
            Some(added) => self.tended.merged_rows += added,
            // They stay where they are, and readers find them there.
            None => self.progress.late_from_ms = start + Tier::Raw.block_ms(),
        }
        Ok(())
    }

    fn remove(&self, members: &[Vec<u8>]) -> Cmd {
        let mut remove = redis::cmd("ZREM");
        remove.arg(self.keys.late(self.series));
        for member in members {
            remove.write_arg(member);
        }
        remove
    }
}

/// The fields and values of a late row's member, in turn.
fn texts(member: &[u8]) -> Vec<Vec<u8>> {
    member
        .split(|byte| *byte == b' ')
        .skip(1)
        .map(<[u8]>::to_vec)
        .collect()
}
