//! Keeps the series of a node in order, one visit after the other.
//!
//! | module | owns |
//! |---|---|
//! | `visit` | reading and changing without harm to another keeper or the writer |
//! | `due` | which series of a node have something to do, in one question for all |
//! | `look` | what there is of a series |
//! | `retain` | what is too old, and series of which nothing is left |
//! | `since` | from when on a tier has its rows, where it was once kept for a shorter time |
//! | `roll` | rolled-up rows that are missing, or that late rows change |
//! | `sums` | which buckets are missing, and their rows: pure |
//! | `gather` | when late rows are merged: pure |
//! | `late` | late rows put where they belong |
//! | `rewrite` | a stream written anew with rows put in |
//! | `pack` | blocks of what is older than the stream |
//! | `rows` | the rows of a tier, wherever they stand |
//!
//! A visit reads a bounded part. Whatever it is interrupted in, another one begins with what it finds.

mod due;
mod gather;
mod late;
mod look;
mod pack;
mod retain;
mod rewrite;
mod roll;
mod rows;
mod since;
mod sums;
mod visit;

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

use hostbus_wire::NodePath;

use self::gather::Gathering;
use self::look::Look;
use self::visit::{Halt, Visit};
use crate::answers::Answer;
use crate::config::{Retention, StoreConfig};
use crate::connection::Connection;
use crate::error::StoreError;
use crate::keys::{self, NodeKeys};
use crate::tier::Tier;

/// How many names are asked for at once.
const SCAN_COUNT: u32 = 250;

/// What a visit to a series did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tended {
    /// Rolled-up rows that were written.
    pub rolled_up_rows: u64,
    /// Late rows that found their place.
    pub merged_rows: u64,
    /// Streams that were written anew for it.
    pub rewritten_streams: u64,
    /// Blocks that were written anew for it.
    pub rewritten_blocks: u64,
    /// Blocks that were packed.
    pub packed_blocks: u64,
    /// The rows in them.
    pub packed_rows: u64,
    /// Blocks that were too old.
    pub dropped_blocks: u64,
    /// Rows, blocks and names that can't be read. They were passed over.
    pub malformed: u64,
    /// What Redis refused, or a block could not take.
    pub refused: u64,
    /// Another keeper was there, or the writer in between.
    pub contended: bool,
    /// There is more to do now.
    pub more: bool,
    /// Late rows wait for their bucket to be closed, or for no more of them to come.
    pub waiting: bool,
    /// Nothing was left of the series: it was removed.
    pub gone: bool,
}

/// Keeps series in order. Has a connection of its own.
#[derive(Debug)]
pub struct Keeper {
    connection: Connection,
    retention: Retention,
    nodes: HashMap<NodePath, Node>,
    token: String,
}

/// What is remembered of a node. All of it can be read again.
#[derive(Debug, Default)]
struct Node {
    /// The count of the keeper's changes that all of it was read under.
    changes: Option<u64>,
    series: HashMap<Box<str>, Progress>,
    visited: bool,
}

/// What is remembered of a series.
#[derive(Debug, Default)]
struct Progress {
    /// When it was last looked what each tier holds.
    looked_ms: Option<u64>,
    /// The starts of the oldest and of the newest block of each tier.
    packed: [Option<(u64, u64)>; 4],
    /// The time of the oldest row of any tier.
    oldest_ms: u64,
    /// When the next block is to be packed.
    seal_due_ms: u64,
    /// All is rolled up of a series whose newest row is of this time.
    settled_ms: Option<u64>,
    /// Late rows before this can't be put in their places.
    late_from_ms: u64,
    /// Late rows that wait for no more of them to come.
    gathering: Option<Gathering>,
}

impl Progress {
    /// Forgets all that is to be read again. Since when late rows are gathered can't be: where Redis is lost
    /// again and again, they would never be merged.
    fn forget(&mut self) {
        *self = Self {
            gathering: self.gathering,
            ..Self::default()
        };
    }
}

impl Keeper {
    /// A keeper with a connection of its own. Connects on first use.
    ///
    /// # Errors
    /// The settings are wrong.
    pub fn open(config: &StoreConfig) -> Result<Self, StoreError> {
        Ok(Self {
            connection: Connection::open(config)?,
            retention: config.retention.clone(),
            nodes: HashMap::new(),
            // Two keepers never have the same.
            token: format!("{:016x}", RandomState::new().hash_one("keeper")),
        })
    }

    /// Brings one series up to date. `now_ms` is the clock by which rows grow old.
    ///
    /// # Errors
    /// Redis failed. Some of it may be done; the next visit does the rest.
    pub async fn tend(
        &mut self,
        node: &NodePath,
        series: &str,
        now_ms: u64,
    ) -> Result<Tended, StoreError> {
        if !self.nodes.contains_key(node) {
            self.nodes.insert(node.clone(), Node::default());
        }
        let Some(known) = self.nodes.get_mut(node) else {
            return Ok(Tended::default());
        };
        known.visited = true;
        let mut progress = known.series.remove(series).unwrap_or_default();
        let mut visit = Visit {
            connection: &self.connection,
            retention: &self.retention,
            keys: &NodeKeys::new(node),
            series,
            now_ms,
            progress: &mut progress,
            changes: &mut known.changes,
            since_ms: [0; 4],
            begun: false,
            watching: false,
            outrun: false,
            token: &self.token,
            pages: Default::default(),
            rows_left: Visit::ROWS,
            tended: Tended::default(),
        };
        let done = visit.run().await;
        let (mut tended, outrun) = (visit.tended, visit.outrun);
        match done {
            Ok(()) => {}
            Err(Halt::Contended) => {
                tended.contended = true;
                tended.more = true;
                progress.forget();
            }
            Err(Halt::Store(error)) => {
                known.changes = None;
                known.series.insert(series.into(), progress);
                known.series.values_mut().for_each(Progress::forget);
                known
                    .series
                    .retain(|_, progress| progress.gathering.is_some());
                return Err(error);
            }
        }
        if outrun {
            known.series.clear();
        }
        if !tended.gone {
            known.series.insert(series.into(), progress);
        }
        Ok(tended)
    }

    /// Some of the nodes, and where the next ones are; the first ones with `from` 0, and no others with
    /// a next of 0. A node may come twice.
    ///
    /// # Errors
    /// Redis failed.
    pub async fn nodes(&self, from: u64) -> Result<(Vec<NodePath>, u64), StoreError> {
        let (pairs, next) = self.scan("ZSCAN", keys::NODES, from).await?;
        let nodes = pairs
            .chunks(2)
            .filter_map(|pair| pair.first()?.parse().ok());
        Ok((nodes.collect(), next))
    }

    /// About how many nodes there are.
    ///
    /// # Errors
    /// Redis failed.
    pub async fn count_nodes(&self) -> Result<u64, StoreError> {
        let answers = self
            .connection
            .ask_one(redis::cmd("ZCARD").arg(keys::NODES))
            .await?;
        let nodes = answers.get(0).number();
        let nodes = nodes.ok_or_else(|| StoreError::reply("ZCARD"))?;
        Ok(u64::try_from(nodes).unwrap_or(0))
    }

    /// Some of the series of a node, as [`Keeper::nodes`] does.
    ///
    /// # Errors
    /// Redis failed.
    pub async fn series(
        &self,
        node: &NodePath,
        from: u64,
    ) -> Result<(Vec<String>, u64), StoreError> {
        self.scan("SSCAN", &NodeKeys::new(node).series(), from)
            .await
    }

    async fn scan(
        &self,
        command: &str,
        key: &str,
        from: u64,
    ) -> Result<(Vec<String>, u64), StoreError> {
        let mut scan = redis::cmd(command);
        scan.arg(key).arg(from).arg("COUNT").arg(SCAN_COUNT);
        let answers = self.connection.ask_one(&scan).await?;
        let Some((next, names)) = answers.get(0).pair() else {
            return Err(StoreError::reply(command));
        };
        let next = next.text().and_then(|next| next.parse().ok());
        let names = names.items().filter_map(Answer::text);
        Ok((
            names.map(str::to_owned).collect(),
            next.ok_or_else(|| StoreError::reply(command))?,
        ))
    }

    /// Forgets the nodes that were not visited since this was called last.
    pub fn forget_unvisited(&mut self) {
        self.nodes
            .retain(|_, node| std::mem::take(&mut node.visited));
    }
}

impl Visit<'_> {
    async fn run(&mut self) -> Result<(), Halt> {
        let mut look = self.look().await?;
        self.note_retention(&look).await?;
        if self.retain(&look).await? {
            self.tended.gone = true;
            return Ok(());
        }
        self.roll_and_merge(&mut look).await?;
        self.seal(&look).await
    }

    /// Rolled-up rows first, late rows then: as long as these are where they are, the buckets they
    /// fall into are known.
    async fn roll_and_merge(&mut self, look: &mut Look) -> Result<(), Halt> {
        let closed_ms = Tier::Minute.bucket(self.closed_ms(look.top_ms));
        let all = std::mem::take(&mut look.late);
        let taken = all.len();
        let (mut late, waiting): (Vec<_>, Vec<_>) = all
            .into_iter()
            .partition(|late| late.at_ms.is_none_or(|at_ms| at_ms < closed_ms));
        self.tended.waiting = !waiting.is_empty();
        if late.is_empty() {
            self.progress.gathering = None;
        } else {
            let before = self.progress.gathering;
            let gathering = Gathering::of(before, look.late_rows, self.now_ms);
            self.progress.gathering = Some(gathering);
            if !gathering.is_over(self.now_ms) {
                // Readers find them where they are.
                self.tended.waiting = true;
                late.clear();
            }
        }
        let times: Vec<u64> = late.iter().filter_map(|late| late.at_ms).collect();
        let complete = self.roll(look, &times).await?;
        if late.is_empty() {
            return Ok(());
        }
        if complete {
            self.merge_late(late).await?;
            if taken as u64 == look.late_rows {
                // Those that come from now on are others.
                self.progress.gathering = None;
            }
        }
        // There may be others after them.
        self.tended.more = true;
        Ok(())
    }
}
