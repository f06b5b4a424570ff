//! The rolled-up rows of a series: those that are missing, those that late rows change.
//!
//! A bucket is closed when the series has a row of a later bucket, for what comes for it after that
//! comes late. Where a series falls silent its last buckets are closed after some hours; their rows have
//! the id `<ms>-1`, and are made anew when the series goes on.
//!
//! Coarse rows are written first, and late rows leave their place last: whatever is interrupted, what
//! is still to be done can be seen from what is not there.

use std::collections::BTreeMap;
use std::ops::Range;

use super::look::{Look, checked_text};
use super::rewrite::Edit;
use super::rows::{Found, entry_id, named, replace_rows};
use super::sums::{Cascade, Made, gaps, join};
use super::visit::{Halt, Visit};
use crate::answers::Answer;
use crate::config::Retention;
use crate::row::Columns;
use crate::tier::Tier;

/// How long a series is silent before its last buckets are closed, unless the rows that they are made of
/// would be gone by then.
const CLOSE_AFTER_MS: u64 = 6 * 3_600_000;

/// Buckets between two that are made anew with them.
const FEW_BUCKETS: u64 = 10;

/// Of no more buckets the rows are read ahead. They have a row each, as a rule.
const MOST_AHEAD: u64 = 500;

/// The rows made in this visit, by tier.
#[derive(Debug, Default)]
struct Fresh([BTreeMap<u64, Made>; 4]);

impl Visit<'_> {
    /// Up to where all that will ever come for a bucket has come, or is among the late rows.
    pub(super) fn closed_ms(&self, top_ms: u64) -> u64 {
        closed_ms(self.retention, top_ms, self.now_ms)
    }

    /// Makes the rows of closed buckets that are missing, and those of the buckets of `late`. Tells
    /// whether that is done with: whether the late rows may leave their place.
    pub(super) async fn roll(&mut self, look: &Look, late: &[u64]) -> Result<bool, Halt> {
        let tiers: Vec<Tier> = Tier::ROLLUPS
            .into_iter()
            .filter(|tier| self.kept(*tier).seconds > 0)
            .collect();
        let closed_ms = self.closed_ms(look.top_ms);
        let behind = is_behind(self.retention, look, closed_ms);
        let settled = self.progress.settled_ms == Some(look.top_ms);
        if tiers.is_empty() || late.is_empty() && (!behind || settled) {
            return Ok(true);
        }
        self.read_ahead(self.ahead(&tiers, look, closed_ms)).await?;
        let mut limit_ms = closed_ms;
        let mut fresh = Fresh::default();
        let mut checked = [0; 4];
        for tier in &tiers {
            let tier = *tier;
            let from = self.floor(tier).max(look.checked_ms(tier));
            let (missing, seen_ms) = self.missing(tier, from, tier.bucket(limit_ms)).await?;
            limit_ms = limit_ms.min(seen_ms.max(from));
            for range in missing {
                let until = self.sum_up(tier, range.clone(), &mut fresh, true).await?;
                if until < range.end {
                    limit_ms = limit_ms.min(until);
                    break;
                }
            }
            let done = tier.bucket(limit_ms).min(tier.bucket(look.top_ms));
            checked[tier as usize] = look.checked_ms(tier).max(done);
        }
        let complete = limit_ms == closed_ms;
        if complete {
            // Last, for these read as much as they must.
            for tier in tiers {
                for range in touched(tier, late, self.floor(tier), closed_ms) {
                    self.sum_up(tier, range, &mut fresh, false).await?;
                }
            }
        }
        self.put(look, fresh, checked, late.is_empty()).await?;
        self.tended.more |= !complete;
        // Of a silent series there is nothing left to be closed.
        let settled = complete && Tier::Hour.bucket(closed_ms) > look.top_ms;
        self.progress.settled_ms = settled.then_some(look.top_ms);
        Ok(complete)
    }

    /// The stretches of `tiers` that are to be looked through, with the rows before them that the next
    /// tier's buckets are made of too; but for those that are too long to be read at once.
    fn ahead(&self, tiers: &[Tier], look: &Look, closed_ms: u64) -> Vec<(Tier, Range<u64>)> {
        let from = |tier: Tier| self.floor(tier).max(look.checked_ms(tier));
        let mut ahead = Vec::with_capacity(tiers.len());
        for (place, tier) in tiers.iter().copied().enumerate() {
            let (mut start, end) = (from(tier), tier.bucket(closed_ms));
            if let Some(coarser) = tiers.get(place + 1).copied()
                && from(coarser) < coarser.bucket(closed_ms)
            {
                start = start.min(from(coarser));
            }
            let buckets = end.saturating_sub(start) / tier.span_ms().unwrap_or(1);
            if start < end && buckets < MOST_AHEAD {
                ahead.push((tier, start..end));
            }
        }
        ahead
    }

    /// From where on the buckets of a tier are kept, and there are rows to make them of.
    pub(super) fn floor(&self, tier: Tier) -> u64 {
        let sources = Tier::ALL.into_iter().filter(|finer| *finer < tier);
        let oldest = sources
            .filter(|finer| self.kept(*finer).seconds > 0)
            .map(|finer| self.begins_ms(finer))
            .min();
        let kept = self.kept(tier).cutoff_ms(self.now_ms);
        whole(tier, kept.max(oldest.unwrap_or(kept)))
    }

    /// The buckets from `from` to `to` that have no row, or one that is not the last word, and how
    /// far that was looked for.
    async fn missing(
        &mut self,
        tier: Tier,
        from: u64,
        to: u64,
    ) -> Result<(Vec<Range<u64>>, u64), Halt> {
        let mut have = Vec::new();
        let mut cursor = from;
        while cursor < to && self.rows_left > 0 {
            let found = self.rows(tier, cursor, to, Columns::default()).await?;
            let Found {
                rows,
                open,
                until_ms,
                ..
            } = found;
            let last_word = |at_ms: &u64| tier.bucket(*at_ms) == *at_ms && !open.contains(at_ms);
            have.extend(rows.iter().map(|row| row.at_ms).filter(last_word));
            cursor = until_ms;
        }
        let seen_ms = if cursor < to { tier.bucket(cursor) } else { to };
        let oldest = tier.bucket(self.progress.oldest_ms);
        let mut missing = gaps(
            &have,
            from.max(oldest),
            seen_ms,
            tier.span_ms().unwrap_or(1),
        );
        missing.retain(|range| range.start < range.end);
        // Nothing was looked at: what follows is not known to be complete.
        let seen_ms = if cursor < to { seen_ms } else { u64::MAX };
        Ok((missing, seen_ms))
    }

    /// Makes the rows of the buckets of `range`. Returns up to where: where the visit has read enough
    /// it ends after some of them.
    async fn sum_up(
        &mut self,
        tier: Tier,
        range: Range<u64>,
        fresh: &mut Fresh,
        bounded: bool,
    ) -> Result<u64, Halt> {
        let mut start = range.start;
        while start < range.end {
            let (base, mut end) = self.base(tier, start);
            end = end.min(range.end);
            let mut cascade = Cascade::new(self.series, base, tier);
            let mut columns = Columns::default();
            let mut cursor = start;
            let mut enough = false;
            while cursor < end && !enough {
                let mut found = self.rows(base, cursor, end, columns).await?;
                let made = fresh.0[base as usize].range(cursor..found.until_ms);
                let made: Vec<_> = made
                    .map(|(_, made)| named(&mut found.columns, made))
                    .collect();
                if !made.is_empty() {
                    replace_rows(&mut found.rows, made);
                }
                for row in &found.rows {
                    cascade.take(&found.columns.names, row);
                }
                cursor = found.until_ms;
                columns = found.columns;
                enough = bounded && self.rows_left == 0 && cascade.finished() > 0;
            }
            let until = if cursor < end {
                tier.bucket(cursor)
            } else {
                end
            };
            let (made, malformed) = cascade.finish(until);
            self.tended.malformed += malformed;
            let made = made.into_iter().map(|made| (made.at_ms, made));
            fresh.0[tier as usize].extend(made);
            if until < end {
                return Ok(until);
            }
            start = end;
            if bounded && self.rows_left == 0 {
                return Ok(start);
            }
        }
        Ok(start)
    }

    /// The coarsest tier whose rows the buckets of `tier` from `start` on can be made of, and until
    /// where.
    fn base(&self, tier: Tier, start: u64) -> (Tier, u64) {
        let mut until = u64::MAX;
        let mut base = tier.finer();
        while let Some(finer) = base.filter(|finer| *finer != Tier::Raw) {
            let kept = self.kept(finer);
            if kept.seconds > 0 {
                let from = whole(tier, self.begins_ms(finer));
                if from <= start {
                    return (finer, until);
                }
                until = until.min(from);
            }
            base = finer.finer();
        }
        (Tier::Raw, until)
    }

    /// The time of the last row of each stream that there is something for, from here on watched.
    async fn tops(&mut self, fresh: &Fresh) -> Result<[Option<u64>; 4], Halt> {
        let mut queries = Vec::new();
        let mut tiers = Vec::new();
        for tier in Tier::ROLLUPS {
            if !fresh.0[tier as usize].is_empty() {
                queries.push(redis::cmd("WATCH").arg(self.stream(tier)).clone());
                queries.push(last_entry(&self.stream(tier)));
                tiers.push(tier);
            }
        }
        let answers = self.read(queries).await?;
        let mut tops = [None; 4];
        for (place, tier) in tiers.into_iter().enumerate() {
            let last = answers.get(2 * place + 1).items().first();
            tops[tier as usize] = last.and_then(entry_id).map(|id| id.at_ms);
        }
        Ok(tops)
    }

    /// Writes the rows that were made, the coarse ones first. Those that are `new` come after the last
    /// rows of their streams, as a rule.
    async fn put(
        &mut self,
        look: &Look,
        mut fresh: Fresh,
        checked: [u64; 4],
        new: bool,
    ) -> Result<(), Halt> {
        let mut tops = [None; 4];
        if new {
            tops = self.tops(&fresh).await?;
        }
        let is_after = |tier: Tier| {
            let first = fresh.0[tier as usize].first_key_value();
            let top_ms = tops[tier as usize];
            first.is_none_or(|(first, _)| top_ms.is_some_and(|top_ms| top_ms < *first))
        };
        if !new || !Tier::ROLLUPS.into_iter().all(is_after) {
            for tier in Tier::ROLLUPS.into_iter().rev() {
                self.put_inside(tier, look, &mut fresh.0[tier as usize])
                    .await?;
            }
            // What is left comes after the last row of its stream.
            tops = self.tops(&fresh).await?;
        }
        let mut commands = Vec::new();
        for tier in Tier::ROLLUPS {
            let rows = &fresh.0[tier as usize];
            let Some((first, _)) = rows.first_key_value() else {
                continue;
            };
            if tops[tier as usize].is_some_and(|top_ms| top_ms >= *first) {
                // The writer was faster: its row is the same, but there may be others.
                return Err(Halt::Contended);
            }
            let stream = self.stream(tier);
            // Before those of the finer tiers.
            let mut own = Vec::with_capacity(rows.len() + 2);
            if tops[tier as usize].is_none() {
                // A stream whose rows are gone still takes none from before its last one.
                own.push(redis::cmd("UNLINK").arg(&stream).clone());
            }
            for made in rows.values() {
                own.push(self.edit(tier, look, made).command(&stream));
            }
            own.push(self.expire(tier, &stream));
            self.tended.rolled_up_rows += rows.len() as u64;
            own.append(&mut commands);
            commands = own;
        }
        let done = checked_text(checked);
        if commands.is_empty() && done == look.noted_text {
            return Ok(());
        }
        let mut note = redis::cmd("HSET");
        commands.push(
            note.arg(self.keys.kept())
                .arg(self.series)
                .arg(done)
                .clone(),
        );
        self.commit(&commands).await
    }

    /// Puts those of `fresh` in their places that do not come after the last row of the stream, and
    /// takes them out of `fresh`.
    async fn put_inside(
        &mut self,
        tier: Tier,
        look: &Look,
        fresh: &mut BTreeMap<u64, Made>,
    ) -> Result<(), Halt> {
        if fresh.is_empty() {
            return Ok(());
        }
        let stream = self.stream(tier);
        let mut queries = vec![last_entry(&stream), first_entry(&stream)];
        for start in fresh.keys() {
            queries.push(super::rows::entries(&stream, *start, start + 1, 2));
        }
        let answers = self.read(queries).await?;
        let end = |place| entry_id(answers.get(place).items().first()?).map(|id| id.at_ms);
        let (Some(top_ms), Some(first_ms)) = (end(0), end(1)) else {
            let packed: BTreeMap<u64, Made> = self.take_packed(tier, fresh, u64::MAX);
            return self.put_packed(tier, packed).await;
        };
        let mut have = BTreeMap::new();
        let mut columns = Columns::default();
        for entry in answers.iter().skip(2).flat_map(Answer::items) {
            if let (Some(row), Some(id)) = (columns.stream_row(entry), entry_id(entry)) {
                have.insert(id, row);
            }
        }
        let packed = self.take_packed(tier, fresh, first_ms);
        self.put_packed(tier, packed).await?;
        let later = fresh.split_off(&(top_ms.saturating_add(1)));
        let inside = std::mem::replace(fresh, later);
        let mut edits = Vec::new();
        for made in inside.values() {
            let edit = self.edit(tier, look, made);
            let new = named(&mut columns, made);
            let stands = have
                .get(&edit.id())
                .is_some_and(|row| super::rows::is_same(row, &new));
            if !stands {
                edits.push(edit);
            }
        }
        if edits.is_empty() {
            return Ok(());
        }
        self.tended.rolled_up_rows += edits.len() as u64;
        self.rewrite(tier, edits, Vec::new()).await
    }

    /// Takes out of `fresh` what belongs into blocks: what is before the stream's first row, and old
    /// enough.
    fn take_packed(
        &self,
        tier: Tier,
        fresh: &mut BTreeMap<u64, Made>,
        first_ms: u64,
    ) -> BTreeMap<u64, Made> {
        let before_ms = self.in_blocks_before_ms(tier);
        let rest = fresh.split_off(&before_ms.min(first_ms));
        std::mem::replace(fresh, rest)
    }

    fn edit(&self, tier: Tier, look: &Look, made: &Made) -> Edit {
        let open = made.at_ms >= tier.bucket(look.top_ms);
        Edit::row(made, u64::from(open))
    }
}

/// Up to where the buckets of a series are closed whose newest row is of `top_ms`.
pub(super) fn closed_ms(retention: &Retention, top_ms: u64, now_ms: u64) -> u64 {
    let shortest = Tier::ALL.into_iter().map(|tier| retention.of(tier).seconds);
    let shortest = shortest.filter(|seconds| *seconds > 0).min().unwrap_or(0);
    let after_ms = CLOSE_AFTER_MS.min(shortest.saturating_mul(500));
    top_ms.max(now_ms.saturating_sub(after_ms))
}

/// Tells whether there are closed buckets that were not looked through. Minutes are when there are ten
/// minutes to be made of them.
pub(super) fn is_behind(retention: &Retention, look: &Look, closed_ms: u64) -> bool {
    let kept = |tier: &Tier| retention.of(*tier).seconds > 0;
    Tier::ROLLUPS.into_iter().filter(kept).any(|tier| {
        let step = tier.max(Tier::TenMinutes);
        step.bucket(look.checked_ms(tier)) < step.bucket(closed_ms)
    })
}

/// The start of the first whole bucket at or after `at_ms`.
fn whole(tier: Tier, at_ms: u64) -> u64 {
    let start = tier.bucket(at_ms);
    if start < at_ms {
        start.saturating_add(tier.span_ms().unwrap_or(0))
    } else {
        start
    }
}

/// The closed buckets that the rows `late` fall into, with those between them where these are few:
/// made anew they are the same, and reading them costs less than asking once more.
fn touched(tier: Tier, late: &[u64], floor: u64, limit_ms: u64) -> Vec<Range<u64>> {
    let span = tier.span_ms().unwrap_or(1);
    let starts = late.iter().map(|at_ms| tier.bucket(*at_ms));
    let touched = starts.filter(|start| (floor..tier.bucket(limit_ms)).contains(start));
    join(
        touched.map(|start| start..start + span).collect(),
        FEW_BUCKETS * span,
    )
}

fn first_entry(stream: &str) -> redis::Cmd {
    let mut query = redis::cmd("XRANGE");
    query.arg(stream).arg("-").arg("+").arg("COUNT").arg(1);
    query
}

fn last_entry(stream: &str) -> redis::Cmd {
    let mut query = redis::cmd("XREVRANGE");
    query.arg(stream).arg("+").arg("-").arg("COUNT").arg(1);
    query
}
