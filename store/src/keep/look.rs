//! What there is of a series: the first thing that a visit reads.

use redis::Cmd;

use super::Progress;
use super::rows::{entry_id, member_ms, parse_id};
use super::since::{RETENTION, Since};
use super::visit::{Halt, Visit};
use crate::answers::{Answer, Answers};
use crate::config::Retention;
use crate::tier::Tier;

/// How many late rows are taken at once.
const LATE_ROWS: usize = 500;
/// Into how many blocks of raw rows they may fall, so that what is made anew for them is bounded.
const LATE_BLOCKS: usize = 8;
/// How often it is looked what each tier holds.
pub(super) const LOOK_EVERY_MS: u64 = 3_600_000;
/// No tier has more blocks; what has more is somebody else's.
const MAX_BLOCKS: i64 = 200_000;

/// What there is of a series.
#[derive(Debug, Default)]
pub(super) struct Look {
    /// Under which settings the node was kept.
    pub(super) since: Since,
    /// Up to where each tier is complete, as it stands in Redis.
    pub(super) noted_text: String,
    checked: [u64; 4],
    /// The time of the newest row as it came.
    pub(super) top_ms: u64,
    /// The oldest of the late rows.
    pub(super) late: Vec<Late>,
    /// How many late rows there are.
    pub(super) late_rows: u64,
    /// What each tier holds; only now and then.
    pub(super) tiers: Option<[Held; 4]>,
}

/// A member of the late rows.
#[derive(Debug)]
pub(super) struct Late {
    pub(super) member: Vec<u8>,
    /// Its time; none when it is no row.
    pub(super) at_ms: Option<u64>,
}

/// What a tier holds.
#[derive(Debug, Default)]
pub(super) struct Held {
    /// The time of the first row of its stream.
    pub(super) first_ms: Option<u64>,
    /// The time of the last one.
    pub(super) last_ms: Option<u64>,
    /// The starts of its blocks, sorted.
    pub(super) blocks: Vec<u64>,
    /// There is a key of it, with rows or without.
    pub(super) is_there: bool,
}

impl Look {
    /// Takes in up to where the tiers are complete.
    pub(super) fn note(&mut self, noted: &str, retention: &Retention) {
        noted.clone_into(&mut self.noted_text);
        for (tier, number) in Tier::ROLLUPS.into_iter().zip(noted.split(' ')) {
            // A tier that was switched on begins with the oldest row.
            let kept = retention.of(tier).seconds > 0;
            let checked_ms = number.parse().ok().filter(|_| kept);
            self.checked[tier as usize] = checked_ms.unwrap_or(0);
        }
    }

    /// Up to where a tier is complete.
    pub(super) fn checked_ms(&self, tier: Tier) -> u64 {
        self.checked[tier as usize]
    }

    /// The same as it is to stand in Redis.
    pub(super) fn checked_text(&self) -> String {
        checked_text(self.checked)
    }
}

impl Visit<'_> {
    /// Looks what there is.
    pub(super) async fn look(&mut self) -> Result<Look, Halt> {
        let look = self.look_once().await?;
        if !self.outrun {
            return Ok(look);
        }
        *self.progress = Progress::default();
        self.look_once().await
    }

    async fn look_once(&mut self) -> Result<Look, Halt> {
        let full = match self.progress.looked_ms {
            Some(looked_ms) => self.now_ms.saturating_sub(looked_ms) >= LOOK_EVERY_MS,
            None => true,
        };
        let mut queries: Vec<Cmd> = Vec::with_capacity(4 + 16);
        queries.push(
            redis::cmd("HMGET")
                .arg(self.keys.kept())
                .arg(self.series)
                .arg(RETENTION)
                .clone(),
        );
        let last = redis::cmd("XREVRANGE")
            .arg(self.stream(Tier::Raw))
            .arg("+")
            .arg("-")
            .arg("COUNT")
            .arg(1)
            .clone();
        queries.push(last);
        let mut late = redis::cmd("ZRANGEBYSCORE");
        late.arg(self.keys.late(self.series))
            .arg(match self.progress.late_from_ms {
                0 => "-inf".to_owned(),
                from_ms => from_ms.to_string(),
            });
        queries.push(late.arg("+inf").arg("LIMIT").arg(0).arg(LATE_ROWS).clone());
        queries.push(redis::cmd("ZCARD").arg(self.keys.late(self.series)).clone());
        if full {
            for tier in Tier::ALL {
                let (stream, packed) = (self.stream(tier), self.keys.packed(tier, self.series));
                let mut first = redis::cmd("XRANGE");
                queries.push(
                    first
                        .arg(&stream)
                        .arg("-")
                        .arg("+")
                        .arg("COUNT")
                        .arg(1)
                        .clone(),
                );
                let mut last = redis::cmd("XREVRANGE");
                queries.push(
                    last.arg(&stream)
                        .arg("+")
                        .arg("-")
                        .arg("COUNT")
                        .arg(1)
                        .clone(),
                );
                queries.push(redis::cmd("HLEN").arg(&packed).clone());
                queries.push(redis::cmd("EXISTS").arg(&stream).arg(&packed).clone());
            }
        }
        let answers = self.read(queries).await?;
        let late_rows = answers.get(3).number();
        let mut look = Look {
            late: late_members(answers.get(2)),
            late_rows: late_rows.map_or(0, |rows| u64::try_from(rows).unwrap_or(0)),
            ..Look::default()
        };
        if let Some((checked, retention)) = answers.get(0).pair() {
            look.since = Since::parse(retention.text().unwrap_or_default());
            look.note(checked.text().unwrap_or_default(), self.retention);
        }
        if full {
            look.tiers = Some(self.tiers(&answers).await?);
        }
        let mut top_ms = first_ms(answers.get(1));
        if top_ms.is_none() {
            top_ms = self.last_generated().await?;
        }
        if let Some(top_ms) = top_ms {
            // A stream that begins anew, before what was summed up.
            if top_ms < look.checked_ms(Tier::Minute) {
                look.checked = [0; 4];
            }
        }
        let packed = self.progress.packed[Tier::Raw as usize];
        let packed_ms = packed.map(|(_, newest)| newest + Tier::Raw.block_ms() - 1);
        look.top_ms = top_ms.or(packed_ms).unwrap_or(0).min(self.now_ms);
        Ok(look)
    }

    /// The time of the last row that a stream ever had, though it is gone.
    async fn last_generated(&mut self) -> Result<Option<u64>, Halt> {
        let mut query = redis::cmd("XINFO");
        query.arg("STREAM").arg(self.stream(Tier::Raw));
        let refused = self.tended.refused;
        let answers = self.read([query]).await?;
        // No such key: that is no news.
        self.tended.refused = refused;
        let mut about = answers.get(0).items();
        let mut id = None;
        while let (Some(name), Some(value)) = (about.next(), about.next()) {
            if name.text() == Some("last-generated-id") {
                id = value.text().and_then(parse_id);
            }
        }
        Ok(id.map(|id| id.at_ms).filter(|at_ms| *at_ms > 0))
    }

    /// Reads what each tier holds, of which the answers after the first four tell a part, and remembers
    /// it.
    async fn tiers(&mut self, answers: &Answers) -> Result<[Held; 4], Halt> {
        let mut tiers: [Held; 4] = Default::default();
        let mut packs = Vec::new();
        for tier in Tier::ALL {
            let held = &mut tiers[tier as usize];
            let place = 4 + 4 * tier as usize;
            held.first_ms = first_ms(answers.get(place));
            held.last_ms = first_ms(answers.get(place + 1));
            held.is_there = answers.get(place + 3).number().is_some_and(|keys| keys > 0);
            match answers.get(place + 2).number() {
                Some(1..=MAX_BLOCKS) => packs.push(tier),
                Some(blocks) if blocks > 0 => self.tended.malformed += 1,
                _ => {}
            }
        }
        if !packs.is_empty() {
            let names = packs.iter().map(|tier| {
                redis::cmd("HKEYS")
                    .arg(self.keys.packed(*tier, self.series))
                    .clone()
            });
            let names: Vec<Cmd> = names.collect();
            let answers = self.read(names).await?;
            for (tier, names) in packs.into_iter().zip(answers.iter()) {
                for name in names.items() {
                    let start = name.text().and_then(|name| name.parse::<u64>().ok());
                    match start
                        .filter(|start| tier.block(*start) == *start && *start <= self.now_ms)
                    {
                        Some(start) => tiers[tier as usize].blocks.push(start),
                        None => self.tended.malformed += 1,
                    }
                }
                tiers[tier as usize].blocks.sort_unstable();
            }
        }
        self.progress.looked_ms = Some(self.now_ms);
        self.progress.late_from_ms = 0;
        self.progress.seal_due_ms = 0;
        let mut oldest_ms: Option<u64> = None;
        for (held, packed) in tiers.iter().zip(&mut self.progress.packed) {
            let (first, last) = (held.blocks.first(), held.blocks.last());
            *packed = first.copied().zip(last.copied());
            let oldest = oldest_ms.into_iter().chain(held.first_ms);
            oldest_ms = oldest.chain(first.copied()).min();
        }
        // Where there was nothing the writer may have begun meanwhile.
        self.progress.oldest_ms = oldest_ms.unwrap_or(0);
        Ok(tiers)
    }
}

/// Up to where the tiers are complete, as it stands in Redis.
pub(super) fn checked_text(checked: [u64; 4]) -> String {
    let [_, minute, ten_minutes, hour] = checked;
    format!("{minute} {ten_minutes} {hour}")
}

/// The time of the first of some rows.
fn first_ms(rows: Answer<'_>) -> Option<u64> {
    Some(entry_id(rows.items().first()?)?.at_ms)
}

/// The members of the late rows that one visit takes.
fn late_members(members: Answer<'_>) -> Vec<Late> {
    let mut late = Vec::new();
    let mut blocks = Vec::new();
    for member in members.items().filter_map(Answer::bulk) {
        let at_ms = member_ms(member);
        let block = Tier::Raw.block(at_ms.unwrap_or(0));
        if at_ms.is_some() && !blocks.contains(&block) {
            if blocks.len() == LATE_BLOCKS {
                break;
            }
            blocks.push(block);
        }
        late.push(Late {
            member: member.to_vec(),
            at_ms,
        });
    }
    late
}
