//! One node with a past, as writer and keeper leave it: made in a time of its own that runs as fast
//! as they do.
//!
//! Every row goes through the writer, and the keeper tends each series every few hours of it. Where
//! raw rows are long gone, a sample every ten minutes stands for those between: of what is kept of
//! that time, only `n` differs.

use std::sync::Arc;

use anyhow::ensure;
use hostbus_store::{Appender, Entry, Keeper, Mark, Retention, Step, StoreConfig};
use hostbus_wire::{NodePath, Sample};

use crate::life::Life;
use crate::meter::{Cost, Meter};
use crate::server::Server;

pub(crate) const HOUR_MS: u64 = 3_600_000;
pub(crate) const DAY_MS: u64 = 24 * HOUR_MS;
/// From sample to sample.
pub(crate) const EVERY_MS: u64 = 10_000;
/// From sample to sample where raw rows are long gone.
const SPARSE_MS: u64 = 600_000;
/// How far the tiers reach back by default.
const REACH_DAYS: u64 = 400;
/// How often the keeper comes, unless this many samples are made before.
const TEND_MS: u64 = 12 * HOUR_MS;
const BATCH: u64 = 360;
/// In how many visits a series is up to date.
const MOST_VISITS: u32 = 10_000;
/// The most series of the node.
const MOST_SERIES: usize = 100;
const BOOT: u64 = 1;

/// How long a past is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Days {
    /// All of it.
    reach: u64,
    /// Of that, the days with a sample every ten seconds.
    pub(crate) dense: u64,
}

impl Days {
    /// As far as the tiers reach.
    pub(crate) fn whole(dense: u64) -> anyhow::Result<Self> {
        ensure!(
            (1..REACH_DAYS).contains(&dense),
            "--days {dense}: expected 1 to {}",
            REACH_DAYS - 1
        );
        Ok(Self {
            reach: REACH_DAYS,
            dense,
        })
    }

    /// What is made within seconds.
    pub(crate) fn quick() -> Self {
        Self {
            reach: 35,
            dense: 2,
        }
    }

    /// The default retention, but no raw rows of the time with few samples: their blocks would be
    /// all but empty.
    pub(crate) fn retention(self) -> Retention {
        let mut retention = Retention::default();
        retention.raw.seconds = retention.raw.seconds.min(self.dense * DAY_MS / 1_000);
        retention
    }
}

/// The node.
pub(crate) struct Past {
    pub(crate) node: Arc<NodePath>,
    /// Its series, and how many known points a row of each has.
    pub(crate) series: Vec<(String, u64)>,
    appender: Appender,
    keeper: Keeper,
    life: Life,
    seq: u64,
    /// Samples since the past became dense.
    pub(crate) dense_samples: u64,
    /// What the writer's work on these cost, and the keeper's.
    pub(crate) writing: Cost,
    pub(crate) keeping: Cost,
}

impl Past {
    /// Makes it until `now_ms`.
    pub(crate) async fn make(
        store: &StoreConfig,
        server: &Server,
        days: Days,
        now_ms: u64,
    ) -> anyhow::Result<Self> {
        let node = Arc::new("bench.past".parse::<NodePath>()?);
        let mut life = Life::new(1);
        let mut past = Self {
            series: series(life.next(0)),
            appender: Appender::open(store, MOST_SERIES)?,
            keeper: Keeper::open(store)?,
            node,
            life,
            seq: 0,
            dense_samples: 0,
            writing: Cost::default(),
            keeping: Cost::default(),
        };
        let dense_ms = now_ms - days.dense * DAY_MS;
        let first_ms = now_ms - days.reach * DAY_MS;
        past.live(server, first_ms, dense_ms, SPARSE_MS).await?;
        (past.writing, past.keeping) = (Cost::default(), Cost::default());
        let before = past.seq;
        past.live(server, dense_ms, now_ms, EVERY_MS).await?;
        past.dense_samples = past.seq - before;
        Ok(past)
    }

    /// Lives from `from_ms` to `to_ms`, a sample every `every_ms`.
    async fn live(
        &mut self,
        server: &Server,
        from_ms: u64,
        to_ms: u64,
        every_ms: u64,
    ) -> anyhow::Result<()> {
        let mut entries = Vec::new();
        let mut at_ms = from_ms;
        while at_ms < to_ms {
            for _ in 0..BATCH.min(TEND_MS / every_ms) {
                if at_ms < to_ms {
                    entries.push(self.entry(at_ms));
                    at_ms += every_ms;
                }
            }
            let meter = Meter::begin(server)?;
            self.append(&mut entries, at_ms).await?;
            self.writing.add(meter.end(server)?);
            let meter = Meter::begin(server)?;
            self.tend(at_ms).await?;
            self.keeping.add(meter.end(server)?);
        }
        Ok(())
    }

    /// Writes samples for times that are there already, a little off them, as a clock that stepped
    /// back would make them. Returns how many rows that were.
    pub(crate) async fn write_late(
        &mut self,
        times_ms: &[u64],
        now_ms: u64,
    ) -> anyhow::Result<u64> {
        let mut entries = Vec::new();
        for at_ms in times_ms {
            entries.push(Entry {
                step: None,
                ..self.entry(*at_ms)
            });
            self.seq -= 1;
        }
        let written = self.appender.append(&mut entries, now_ms).await?;
        self.appender.commit(now_ms).await?;
        ensure!(
            written.late_rows > 0 && written.refusal.is_none(),
            "late samples made no late rows: {written:?}"
        );
        Ok(written.late_rows)
    }

    /// Has the keeper bring all series up to date.
    pub(crate) async fn tend(&mut self, now_ms: u64) -> anyhow::Result<()> {
        for (series, _) in &self.series {
            for visit in 0.. {
                let tended = self.keeper.tend(&self.node, series, now_ms).await?;
                ensure!(
                    tended.refused == 0 && tended.malformed == 0 && visit < MOST_VISITS,
                    "the keeper does not come to an end with {series}: {tended:?}"
                );
                if !tended.more {
                    break;
                }
            }
        }
        Ok(())
    }

    async fn append(&mut self, entries: &mut Vec<Entry>, now_ms: u64) -> anyhow::Result<()> {
        let samples = entries.len() as u64;
        let written = self.appender.append(entries, now_ms).await?;
        self.appender.commit(now_ms).await?;
        ensure!(
            written.samples == samples && written.refusal.is_none(),
            "{samples} samples, and of these were written: {written:?}"
        );
        Ok(())
    }

    fn entry(&mut self, at_ms: u64) -> Entry {
        let mark = |seq| Mark { boot: BOOT, seq };
        let after = (self.seq > 0).then(|| mark(self.seq));
        self.seq += 1;
        let mut sample = self.life.next(at_ms).clone();
        sample.ts = Some(at_ms);
        Entry {
            node: Arc::clone(&self.node),
            at_ms,
            own_time: false,
            sample,
            step: Some(Step {
                after,
                mark: mark(self.seq),
            }),
        }
    }
}

/// The series of a sample with the known points of their rows.
pub(crate) fn series(sample: &Sample) -> Vec<(String, u64)> {
    let mut series = Vec::new();
    sample.for_each_series(|row| series.push((row.name().into_owned(), row.points() as u64)));
    series
}
