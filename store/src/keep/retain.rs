//! Retention: what is too old goes, and so does what the settings no longer keep.

use redis::{Cmd, Pipeline};

use super::look::{Held, Look};
use super::visit::{Halt, Visit};
use crate::error::StoreError;
use crate::tier::Tier;

impl Visit<'_> {
    /// Drops what is too old, when it was looked what each tier holds, and has the rest expire later.
    /// Tells whether nothing is left of the series.
    pub(super) async fn retain(&mut self, look: &Look) -> Result<bool, Halt> {
        let Some(tiers) = &look.tiers else {
            return Ok(false);
        };
        let mut commands = Vec::new();
        let mut left = false;
        let mut expiries = Pipeline::new();
        for (tier, held) in Tier::ALL.into_iter().zip(tiers) {
            left |= self.retain_tier(tier, held, &mut commands);
            if held.is_there && self.kept(tier).seconds > 0 {
                // The settings may have changed, and the writer of a slow series comes seldom.
                expiries.add_command(self.expire(tier, &self.stream(tier)));
                expiries.add_command(self.expire(tier, &self.keys.packed(tier, self.series)));
            }
        }
        // They change nothing that another keeper reads.
        self.connection.ask(&expiries).await?;
        let raw_cutoff_ms = self.kept(Tier::Raw).cutoff_ms(self.now_ms);
        left |= look
            .late
            .iter()
            .any(|late| late.at_ms.is_none_or(|at_ms| at_ms >= raw_cutoff_ms));
        // Where the writer goes on meanwhile, what is too old goes all the same.
        if !left {
            match self.bury().await {
                Ok(true) => return Ok(true),
                // It is buried another time, and makes room now.
                Ok(false) | Err(Halt::Store(StoreError::Full)) => {}
                Err(halt) => return Err(halt),
            }
        }
        if look
            .late
            .iter()
            .any(|late| late.at_ms.is_some_and(|at_ms| at_ms < raw_cutoff_ms))
        {
            let mut remove = redis::cmd("ZREMRANGEBYSCORE");
            remove
                .arg(self.keys.late(self.series))
                .arg("-inf")
                .arg(format!("({raw_cutoff_ms}"));
            commands.push(remove);
        }
        if look.checked_text() != look.noted_text && !look.noted_text.is_empty() {
            // Of a tier that is not kept nothing is complete, should it be kept again.
            let mut note = redis::cmd("HSET");
            note.arg(self.keys.kept()).arg(self.series);
            commands.push(note.arg(look.checked_text()).clone());
        }
        if !commands.is_empty() {
            self.make_room(&commands).await?;
        }
        Ok(false)
    }

    /// Removes what is too old. A Redis whose memory is full takes no transaction, but it takes what
    /// makes room.
    async fn make_room(&mut self, commands: &[Cmd]) -> Result<(), Halt> {
        match self.commit(commands).await {
            Err(Halt::Store(StoreError::Full)) => {
                let mut pipeline = Pipeline::with_capacity(commands.len());
                for command in commands {
                    pipeline.add_command(command.clone());
                }
                self.connection.ask(&pipeline).await?;
                Ok(())
            }
            done => done,
        }
    }

    /// Adds the commands for one tier. Tells whether anything of it is left.
    fn retain_tier(&mut self, tier: Tier, held: &Held, commands: &mut Vec<Cmd>) -> bool {
        let kept = self.kept(tier);
        let (stream, packed) = (self.stream(tier), self.keys.packed(tier, self.series));
        if kept.seconds == 0 {
            if held.is_there {
                commands.push(redis::cmd("UNLINK").arg(&stream).arg(&packed).clone());
                self.progress.packed[tier as usize] = None;
            }
            return false;
        }
        let cutoff_ms = kept.cutoff_ms(self.now_ms);
        if held.first_ms.is_some_and(|first_ms| first_ms < cutoff_ms) {
            let mut trim = redis::cmd("XTRIM");
            commands.push(
                trim.arg(&stream)
                    .arg("MINID")
                    .arg("=")
                    .arg(cutoff_ms)
                    .clone(),
            );
        }
        let gone = held
            .blocks
            .partition_point(|start| start + tier.block_ms() <= cutoff_ms);
        if gone > 0 {
            let mut remove = redis::cmd("HDEL");
            remove.arg(&packed);
            for start in &held.blocks[..gone] {
                remove.arg(*start);
            }
            commands.push(remove);
            self.tended.dropped_blocks += gone as u64;
        }
        self.progress.packed[tier as usize] = match &held.blocks[gone..] {
            [] => None,
            [only] => Some((*only, *only)),
            [first, .., last] => Some((*first, *last)),
        };
        held.last_ms.is_some_and(|last_ms| last_ms >= cutoff_ms) || gone < held.blocks.len()
    }

    /// Removes a series of which nothing is left.
    async fn bury(&mut self) -> Result<bool, Halt> {
        let mut queries = Vec::new();
        for key in [self.stream(Tier::Raw), self.keys.late(self.series)] {
            queries.push(redis::cmd("WATCH").arg(key).clone());
        }
        let mut newest = redis::cmd("XREVRANGE");
        newest
            .arg(self.stream(Tier::Raw))
            .arg("+")
            .arg(self.kept(Tier::Raw).cutoff_ms(self.now_ms));
        queries.push(newest.arg("COUNT").arg(1).clone());
        let answers = self.read(queries).await?;
        if !answers.last().items().is_empty() {
            return Ok(false);
        }
        let mut remove = redis::cmd("UNLINK");
        remove.arg(self.keys.late(self.series));
        for tier in Tier::ALL {
            remove
                .arg(self.stream(tier))
                .arg(self.keys.packed(tier, self.series));
        }
        let mut forget = redis::cmd("SREM");
        forget.arg(self.keys.series()).arg(self.series);
        let mut note = redis::cmd("HDEL");
        note.arg(self.keys.kept()).arg(self.series);
        self.commit(&[remove, forget, note]).await?;
        Ok(true)
    }
}
