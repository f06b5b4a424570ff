//! A series in Redis as the writer leaves it, and the plain model of its tiers.

use std::collections::BTreeMap;

use crate::fixture::{Fixture, fixture, node};
use hostbus_store::keys::NodeKeys;
use hostbus_store::rollup::{Bucket, Fields, Finer};
use hostbus_store::{Keeper, Kept, StoreConfig, Tended, Tier, block};
use hostbus_wire::NodePath;
use redis::Connection;

pub(crate) const MINUTE: u64 = 60_000;
pub(crate) const HOUR: u64 = 60 * MINUTE;
/// A whole day, so that hours and blocks begin with it.
pub(crate) const T: u64 = 1_763_596_800_000;
pub(crate) const SERIES: &str = "memory";
pub(crate) const NAMES: [&str; 3] = ["total_bytes", "used_percent", "own"];

/// The known values of a row by name.
pub(crate) type Values = BTreeMap<String, f64>;
/// Rows by time; those of one time in their order.
pub(crate) type Rows = Vec<(u64, Values)>;

/// A series in Redis, written as the writer writes it.
pub(crate) struct Site {
    pub(crate) fixture: Fixture,
    pub(crate) node: NodePath,
    pub(crate) redis: Connection,
}

impl Site {
    pub(crate) async fn new() -> Self {
        let fixture = fixture().await;
        let redis = fixture.redis();
        Self {
            node: (*node("a")).clone(),
            redis,
            fixture,
        }
    }

    pub(crate) fn keys(&self) -> NodeKeys {
        NodeKeys::new(&self.node)
    }

    pub(crate) fn keeper(&self, kept: &[(Tier, u64, Option<u64>)]) -> Keeper {
        let mut config: StoreConfig = self.fixture.config.clone();
        for (tier, seconds, stream_seconds) in kept {
            let kept = Kept {
                seconds: *seconds,
                stream_seconds: *stream_seconds,
            };
            match tier {
                Tier::Raw => config.retention.raw = kept,
                Tier::Minute => config.retention.minute = kept,
                Tier::TenMinutes => config.retention.ten_minutes = kept,
                Tier::Hour => config.retention.hour = kept,
            }
        }
        Keeper::open(&config).unwrap()
    }

    /// Writes a row as the writer does: what is late is put aside, what is there already is not.
    pub(crate) fn write(&mut self, at_ms: u64, values: &[Option<f64>]) {
        let keys = self.keys();
        let texts: Vec<String> = NAMES
            .iter()
            .zip(values)
            .flat_map(|(name, value)| {
                [
                    (*name).to_owned(),
                    value.map_or("nan".to_owned(), |value| value.to_string()),
                ]
            })
            .collect();
        let mut add = redis::cmd("XADD");
        add.arg(keys.raw(SERIES))
            .arg(format!("{at_ms}-0"))
            .arg(&texts);
        if add.query::<String>(&mut self.redis).is_err() {
            let mut same = redis::cmd("XRANGE");
            same.arg(keys.raw(SERIES)).arg(at_ms).arg(at_ms);
            let same: Vec<(String, Vec<String>)> = same.query(&mut self.redis).unwrap();
            if !same.iter().any(|(_, there)| *there == texts) {
                let member = format!("{at_ms} {}", texts.join(" "));
                let mut put = redis::cmd("ZADD");
                put.arg(keys.late(SERIES)).arg(at_ms).arg(member);
                put.query::<()>(&mut self.redis).unwrap();
            }
        }
        self.ask::<()>("SADD", &[&keys.series(), SERIES]);
    }

    pub(crate) fn ask<R: redis::FromRedisValue>(&mut self, command: &str, arguments: &[&str]) -> R {
        redis::cmd(command)
            .arg(arguments)
            .query(&mut self.redis)
            .unwrap()
    }

    pub(crate) fn stream(&mut self, tier: Tier) -> Vec<(String, BTreeMap<String, String>)> {
        let key = self.keys().rows(tier, SERIES);
        self.ask("XRANGE", &[&key, "-", "+"])
    }

    pub(crate) fn blocks(&mut self, tier: Tier) -> BTreeMap<u64, Vec<u8>> {
        let key = self.keys().packed(tier, SERIES);
        self.ask("HGETALL", &[&key])
    }

    /// All rows of a tier, packed or not.
    pub(crate) fn rows(&mut self, tier: Tier) -> Rows {
        let mut rows = Rows::new();
        for (start, bytes) in self.blocks(tier) {
            let block = block::decode(&bytes, None).unwrap();
            for row in block.rows {
                assert_eq!(tier.block(row.at_ms), start);
                let values = block.fields.iter().cloned().zip(row.values);
                rows.push((
                    row.at_ms,
                    values
                        .filter_map(|(name, value)| Some((name, value?)))
                        .collect(),
                ));
            }
        }
        for (id, texts) in self.stream(tier) {
            let at_ms = id.split_once('-').unwrap().0.parse().unwrap();
            let values = texts.into_iter().filter(|(_, text)| text != "nan");
            rows.push((
                at_ms,
                values
                    .map(|(name, text)| (name, text.parse().unwrap()))
                    .collect(),
            ));
        }
        assert!(rows.is_sorted_by_key(|(at_ms, _)| *at_ms), "{tier}");
        rows
    }

    pub(crate) fn late(&mut self) -> usize {
        let key = self.keys().late(SERIES);
        self.ask("ZCARD", &[&key])
    }

    /// Tends until there is nothing more to do, also when no more late rows come, and adds up what was
    /// done.
    pub(crate) async fn tend(&self, keeper: &mut Keeper, mut now_ms: u64) -> Tended {
        let mut all = Tended::default();
        let mut again = true;
        for _ in 0..200 {
            let tended = keeper.tend(&self.node, SERIES, now_ms).await.unwrap();
            all.rolled_up_rows += tended.rolled_up_rows;
            all.merged_rows += tended.merged_rows;
            all.rewritten_streams += tended.rewritten_streams;
            all.rewritten_blocks += tended.rewritten_blocks;
            all.packed_blocks += tended.packed_blocks;
            all.packed_rows += tended.packed_rows;
            all.dropped_blocks += tended.dropped_blocks;
            all.malformed += tended.malformed;
            all.refused += tended.refused;
            all.contended |= tended.contended;
            all.waiting = tended.waiting;
            all.gone |= tended.gone;
            if !tended.more {
                if !tended.waiting || !std::mem::take(&mut again) {
                    return all;
                }
                now_ms += MINUTE;
            }
        }
        panic!("there is always more to do");
    }
}

pub(crate) fn values(names: &[String], row: impl Iterator<Item = Option<f64>>) -> Values {
    let known = names.iter().cloned().zip(row);
    known
        .filter_map(|(name, value)| Some((name, value?)))
        .collect()
}

/// What the tiers should hold of `raw`, which is sorted, when all buckets before `closed_ms` are closed.
pub(crate) fn model(raw: &[(u64, Vec<Option<f64>>)], closed_ms: u64) -> [Rows; 4] {
    let fields = Fields::of(SERIES, NAMES);
    let mut tiers: [Rows; 4] = Default::default();
    let names: Vec<String> = NAMES.map(str::to_owned).to_vec();
    tiers[0] = raw
        .iter()
        .map(|(at_ms, row)| (*at_ms, values(&names, row.iter().copied())))
        .collect();
    let mut buckets: BTreeMap<u64, Bucket> = BTreeMap::new();
    for (at_ms, row) in raw {
        let start = Tier::Minute.bucket(*at_ms);
        buckets
            .entry(start)
            .or_insert_with(|| Bucket::new(start))
            .add(row.iter().copied());
    }
    for tier in Tier::ROLLUPS {
        let mut finer = Finer::default();
        let mut known = Fields::new(SERIES);
        let mut coarser: BTreeMap<u64, Bucket> = BTreeMap::new();
        for (start, bucket) in buckets {
            let names: Vec<String> = fields.names(&bucket).map(str::to_owned).collect();
            let row: Vec<Option<f64>> = bucket.values(&fields).collect();
            finer.learn(&names, &mut known);
            if start + tier.span_ms().unwrap() <= closed_ms {
                tiers[tier as usize].push((start, values(&names, row.iter().copied())));
            }
            let next = match tier {
                Tier::Raw | Tier::Minute => Tier::TenMinutes,
                Tier::TenMinutes | Tier::Hour => Tier::Hour,
            };
            let start = next.bucket(start);
            assert!(
                coarser
                    .entry(start)
                    .or_insert_with(|| Bucket::new(start))
                    .merge(&finer, &row)
            );
        }
        buckets = coarser;
    }
    tiers
}

pub(crate) fn row(number: u64) -> Vec<Option<f64>> {
    vec![
        Some(1e9 + (number / 100) as f64),
        Some((number % 1000) as f64 / 8.0),
        (!number.is_multiple_of(3)).then_some(0.1 * number as f64),
    ]
}

/// A row every ten seconds from `from` on, before `to`.
pub(crate) fn steady(from: u64, to: u64) -> Vec<(u64, Vec<Option<f64>>)> {
    (from..to)
        .step_by(10_000)
        .map(|at_ms| (at_ms, row((at_ms - T) / 10_000)))
        .collect()
}

pub(crate) fn check(site: &mut Site, raw: &[(u64, Vec<Option<f64>>)], closed_ms: u64) {
    let expected = model(raw, closed_ms);
    for tier in Tier::ALL {
        let rows = site.rows(tier);
        assert_eq!(rows.len(), expected[tier as usize].len(), "rows of {tier}");
        for (row, expected) in rows.iter().zip(&expected[tier as usize]) {
            assert_eq!(row, expected, "{tier}");
        }
    }
}
