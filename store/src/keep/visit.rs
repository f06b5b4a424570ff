//! A visit to one series, and how it is kept from doing harm when another keeper is there.
//!
//! ```text
//! 1  WATCH kept, HGET kept changes    with the first reading, and the first after a change
//! 2  MULTI, what is to be changed, HINCRBY kept changes 1, EXEC
//! ```
//! A keeper that finds another count than it left, or whose EXEC is refused, has read what is no longer so:
//! it ends its visit, forgets what it remembers of the node, and comes again. The writer does not
//! count: it only adds rows after a stream's last one, cuts old ones, and puts late rows aside. Where
//! that matters the stream itself is watched.

use redis::{Cmd, Pipeline};

use super::rows::Found;
use super::{Progress, Tended};
use crate::answers::{Answer, Answers};
use crate::config::{Kept, Retention};
use crate::connection::Connection;
use crate::error::StoreError;
use crate::keys::NodeKeys;
use crate::tier::Tier;

/// The field that counts the keeper's changes. No series has this name.
pub(super) const CHANGES: &str = "changes";
/// How long after the retention a key expires that nobody touches any more.
const EXPIRE_AFTER_SECONDS: u64 = 3_600;
/// About how many rows are read in one visit.
const ROWS_A_VISIT: usize = 20_000;

/// Why a visit ends early.
#[derive(Debug)]
pub(super) enum Halt {
    /// Somebody else changed what was read.
    Contended,
    /// Redis failed.
    Store(StoreError),
}

impl From<StoreError> for Halt {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// A visit to one series.
#[derive(Debug)]
pub(super) struct Visit<'k> {
    pub(super) connection: &'k Connection,
    pub(super) retention: &'k Retention,
    pub(super) keys: &'k NodeKeys,
    pub(super) series: &'k str,
    pub(super) now_ms: u64,
    /// What the keeper remembers of the series.
    pub(super) progress: &'k mut Progress,
    /// How many changes the node had when it was read; none before the first reading.
    pub(super) changes: &'k mut Option<u64>,
    /// Before this the rows of each tier may be gone, though its settings would keep them by now.
    pub(super) since_ms: [u64; 4],
    /// Something was read.
    pub(super) begun: bool,
    /// What other keepers change is watched since it was read.
    pub(super) watching: bool,
    /// Another keeper has changed something of the node: what is remembered of it may be wrong.
    pub(super) outrun: bool,
    /// Makes names of streams that nobody else has.
    pub(super) token: &'k str,
    /// Rows that were read for what comes next, a stretch of each tier.
    pub(super) pages: [Option<Found>; 4],
    /// How many rows may still be read.
    pub(super) rows_left: usize,
    pub(super) tended: Tended,
}

impl Visit<'_> {
    /// What a visit may read.
    pub(super) const ROWS: usize = ROWS_A_VISIT;

    pub(super) fn kept(&self, tier: Tier) -> Kept {
        self.retention.of(tier)
    }

    /// From where on the rows of a tier are there.
    pub(super) fn begins_ms(&self, tier: Tier) -> u64 {
        let cutoff_ms = self.kept(tier).cutoff_ms(self.now_ms);
        cutoff_ms.max(self.since_ms[tier as usize])
    }

    pub(super) fn stream(&self, tier: Tier) -> String {
        self.keys.rows(tier, self.series)
    }

    /// The time before which the rows of `tier` are packed, when it packs.
    pub(super) fn packed_before_ms(&self, tier: Tier) -> Option<u64> {
        let kept = self.kept(tier);
        let stream_ms = kept
            .stream_seconds
            .filter(|_| kept.packs())?
            .saturating_mul(1_000);
        Some(tier.block(self.now_ms.saturating_sub(stream_ms)))
    }

    /// The time before which what is older than the stream goes into blocks: where `tier` packs, or has
    /// packed before its settings changed.
    pub(super) fn in_blocks_before_ms(&self, tier: Tier) -> u64 {
        let newest = self.progress.packed[tier as usize].map(|(_, newest)| newest);
        let packed = newest.map_or(0, |newest| newest + tier.block_ms());
        packed.max(self.packed_before_ms(tier).unwrap_or(0))
    }

    /// The command that has `key` of `tier` expire.
    pub(super) fn expire(&self, tier: Tier, key: &str) -> Cmd {
        let seconds = self.kept(tier).seconds.saturating_add(EXPIRE_AFTER_SECONDS);
        let mut expire = redis::cmd("EXPIRE");
        // Redis refuses what it can't add to its clock in milliseconds.
        expire.arg(key).arg(seconds.min(u64::from(u32::MAX)));
        expire
    }

    /// Notes that rows were read.
    pub(super) fn spend(&mut self, rows: usize) {
        // An empty page costs too.
        self.rows_left = self.rows_left.saturating_sub(rows + 50);
    }

    /// Reads, and watches that no other keeper changes anything of the node from here on.
    pub(super) async fn read(
        &mut self,
        queries: impl IntoIterator<Item = Cmd>,
    ) -> Result<Answers, Halt> {
        let mut pipeline = Pipeline::new();
        let first = !self.begun;
        if first {
            // What earlier visits have watched is of no interest any more.
            pipeline.cmd("UNWATCH");
        }
        if !self.watching {
            let kept = self.keys.kept();
            pipeline.cmd("WATCH").arg(&kept);
            pipeline.cmd("HGET").arg(&kept).arg(CHANGES);
        }
        let own = pipeline.len();
        for query in queries {
            pipeline.add_command(query);
        }
        if pipeline.is_empty() {
            return Ok(Answers::default());
        }
        let mut answers = match self.connection.ask(&pipeline).await {
            // Somebody may have closed the connection while nobody asked; to read again does no harm.
            Err(StoreError::Unavailable { .. }) if first => self.connection.ask(&pipeline).await?,
            answers => answers?,
        };
        self.begun = true;
        if !std::mem::replace(&mut self.watching, true) {
            let found = answers.get(own - 1).text();
            let found = found.and_then(|text| text.parse().ok()).unwrap_or(0);
            if self.changes.is_some_and(|changes| changes != found) {
                self.outrun = true;
                if !first {
                    return Err(Halt::Contended);
                }
            }
            *self.changes = Some(found);
        }
        answers.skip(own);
        self.tended.refused += refused(answers.iter());
        Ok(answers)
    }

    /// Changes all of it or nothing, unless something watched has changed since it was read.
    pub(super) async fn commit(&mut self, commands: &[Cmd]) -> Result<(), Halt> {
        let kept = self.keys.kept();
        let mut whole = Pipeline::with_capacity(commands.len() + 1);
        whole.atomic();
        for command in commands {
            whole.add_command(command.clone());
        }
        whole.cmd("HINCRBY").arg(&kept).arg(CHANGES).arg(1);
        // What was watched is so no longer, whatever comes of it.
        self.watching = false;
        self.pages = Default::default();
        let answers = self.connection.ask(&whole).await?;
        let done = answers.last();
        if let Some(reason) = done.refusal() {
            return Err(Halt::Store(StoreError::Refused {
                command: "EXEC".to_owned(),
                reason: reason.to_owned(),
            }));
        }
        if done.is_nil() {
            return Err(Halt::Contended);
        }
        let done = done.list().ok_or_else(|| StoreError::reply("EXEC"))?;
        self.tended.refused += refused(done);
        let changes = done.last().and_then(Answer::number);
        *self.changes = changes.and_then(|changes| u64::try_from(changes).ok());
        Ok(())
    }
}

/// How many of these are refusals.
fn refused<'a>(answers: impl Iterator<Item = Answer<'a>>) -> u64 {
    answers
        .map(|answer| u64::from(answer.refusal().is_some()))
        .sum()
}
