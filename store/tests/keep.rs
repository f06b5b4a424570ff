//! What the keeper makes of a series is what a plain model makes of the same samples.

#![expect(clippy::unwrap_used, reason = "what is not there fails the test")]

mod fixture;

use std::collections::{BTreeMap, BTreeSet};

use std::pin::pin;
use std::task::Poll;

use fixture::{Fixture, fixture, node};
use hostbus_store::keys::NodeKeys;
use hostbus_store::rollup::{Bucket, Fields, Finer};
use hostbus_store::{Keeper, Kept, StoreConfig, StoreError, Tended, Tier, block};
use hostbus_wire::NodePath;
use proptest::prelude::*;
use redis::Connection;

const MINUTE: u64 = 60_000;
const HOUR: u64 = 60 * MINUTE;
/// A whole day, so that hours and blocks begin with it.
const T: u64 = 1_763_596_800_000;
const SERIES: &str = "memory";
const NAMES: [&str; 3] = ["total_bytes", "used_percent", "own"];

/// The known values of a row by name.
type Values = BTreeMap<String, f64>;
/// Rows by time; those of one time in their order.
type Rows = Vec<(u64, Values)>;

/// A series in Redis, written as the writer writes it.
struct Site {
    fixture: Fixture,
    node: NodePath,
    redis: Connection,
}

impl Site {
    async fn new() -> Self {
        let fixture = fixture().await;
        let redis = fixture.redis();
        Self {
            node: (*node("a")).clone(),
            redis,
            fixture,
        }
    }

    fn keys(&self) -> NodeKeys {
        NodeKeys::new(&self.node)
    }

    fn keeper(&self, kept: &[(Tier, u64, Option<u64>)]) -> Keeper {
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
    fn write(&mut self, at_ms: u64, values: &[Option<f64>]) {
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

    fn ask<R: redis::FromRedisValue>(&mut self, command: &str, arguments: &[&str]) -> R {
        redis::cmd(command)
            .arg(arguments)
            .query(&mut self.redis)
            .unwrap()
    }

    fn stream(&mut self, tier: Tier) -> Vec<(String, BTreeMap<String, String>)> {
        let key = self.keys().rows(tier, SERIES);
        self.ask("XRANGE", &[&key, "-", "+"])
    }

    fn blocks(&mut self, tier: Tier) -> BTreeMap<u64, Vec<u8>> {
        let key = self.keys().packed(tier, SERIES);
        self.ask("HGETALL", &[&key])
    }

    /// All rows of a tier, packed or not.
    fn rows(&mut self, tier: Tier) -> Rows {
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

    fn late(&mut self) -> usize {
        let key = self.keys().late(SERIES);
        self.ask("ZCARD", &[&key])
    }

    /// Tends until there is nothing more to do, and adds up what was done.
    async fn tend(&self, keeper: &mut Keeper, now_ms: u64) -> Tended {
        let mut all = Tended::default();
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
                return all;
            }
        }
        panic!("there is always more to do");
    }
}

fn values(names: &[String], row: impl Iterator<Item = Option<f64>>) -> Values {
    let known = names.iter().cloned().zip(row);
    known
        .filter_map(|(name, value)| Some((name, value?)))
        .collect()
}

/// What the tiers should hold of `raw`, which is sorted, when all buckets before `closed_ms` are closed.
fn model(raw: &[(u64, Vec<Option<f64>>)], closed_ms: u64) -> [Rows; 4] {
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

fn row(number: u64) -> Vec<Option<f64>> {
    vec![
        Some(1e9 + (number / 100) as f64),
        Some((number % 1000) as f64 / 8.0),
        (!number.is_multiple_of(3)).then_some(0.1 * number as f64),
    ]
}

/// A row every ten seconds from `from` on, before `to`.
fn steady(from: u64, to: u64) -> Vec<(u64, Vec<Option<f64>>)> {
    (from..to)
        .step_by(10_000)
        .map(|at_ms| (at_ms, row((at_ms - T) / 10_000)))
        .collect()
}

fn check(site: &mut Site, raw: &[(u64, Vec<Option<f64>>)], closed_ms: u64) {
    let expected = model(raw, closed_ms);
    for tier in Tier::ALL {
        let rows = site.rows(tier);
        assert_eq!(rows.len(), expected[tier as usize].len(), "rows of {tier}");
        for (row, expected) in rows.iter().zip(&expected[tier as usize]) {
            assert_eq!(row, expected, "{tier}");
        }
    }
}

#[tokio::test]
async fn closed_buckets_are_made_of_the_rows_of_the_finer_tier() {
    let mut site = Site::new().await;
    let mut keeper = site.keeper(&[]);
    let raw = steady(T + 20_000, T + 2 * HOUR + 7 * MINUTE);
    for (at_ms, row) in &raw {
        site.write(*at_ms, row);
    }
    let top_ms = raw.last().unwrap().0;
    let tended = site.tend(&mut keeper, top_ms).await;
    check(&mut site, &raw, top_ms);
    assert_eq!(tended.rolled_up_rows, 126 + 12 + 2);
    assert_eq!(
        (tended.malformed, tended.refused, tended.contended),
        (0, 0, false)
    );
    let again = site.tend(&mut keeper, top_ms).await;
    assert_eq!(again, Tended::default());
    let restarted = site.tend(&mut site.keeper(&[]), top_ms).await;
    assert_eq!(restarted, Tended::default());
}

#[tokio::test]
async fn late_rows_find_their_place_in_stream_block_and_buckets() {
    let mut site = Site::new().await;
    let mut keeper = site.keeper(&[]);
    let mut raw = steady(T, T + 5 * HOUR + 2 * MINUTE);
    for (at_ms, row) in &raw {
        site.write(*at_ms, row);
    }
    let top_ms = raw.last().unwrap().0;
    let tended = site.tend(&mut keeper, top_ms).await;
    assert_eq!((tended.packed_blocks, tended.packed_rows), (2, 720));
    check(&mut site, &raw, top_ms);
    // In a block, in the stream, at a time that has a row, and one that is there already.
    for (at_ms, number) in [
        (T + 30 * MINUTE + 5_000, 7),
        (T + 4 * HOUR + 1, 8),
        (T + 5 * HOUR, 9),
    ] {
        site.write(at_ms, &row(number));
        raw.push((at_ms, row(number)));
    }
    site.write(T + 10_000, &row(1));
    assert_eq!(site.late(), 4);
    raw.sort_by_key(|(at_ms, _)| *at_ms);
    let tended = site.tend(&mut keeper, top_ms).await;
    check(&mut site, &raw, top_ms);
    assert_eq!((site.late(), tended.merged_rows), (0, 3));
    assert_eq!(tended.rewritten_blocks, 1);
    assert_eq!(site.tend(&mut keeper, top_ms).await, Tended::default());
    // The writer goes on where it was.
    let next = top_ms + 10_000;
    site.write(next, &row(1));
    assert_eq!(site.late(), 0);
}

#[tokio::test]
async fn a_late_row_of_an_open_bucket_waits_until_that_is_closed() {
    let mut site = Site::new().await;
    let mut keeper = site.keeper(&[]);
    let mut raw = vec![(T, row(1)), (T + 40_000, row(2))];
    for (at_ms, row) in &raw {
        site.write(*at_ms, row);
    }
    site.write(T + 30_000, &row(3));
    raw.insert(1, (T + 30_000, row(3)));
    let tended = site.tend(&mut keeper, T + 40_000).await;
    assert_eq!(
        (tended.waiting, tended.merged_rows, site.late()),
        (true, 0, 1)
    );
    raw.push((T + 60_000, row(4)));
    site.write(T + 60_000, &row(4));
    let tended = site.tend(&mut keeper, T + 60_000).await;
    assert_eq!(
        (tended.waiting, tended.merged_rows, site.late()),
        (false, 1, 0)
    );
    check(&mut site, &raw, T + 60_000);
}

#[tokio::test]
async fn a_row_that_the_writer_missed_is_put_between_those_that_it_wrote() {
    let mut site = Site::new().await;
    let mut keeper = site.keeper(&[]);
    let raw = steady(T, T + 30 * MINUTE + 10_000);
    for (at_ms, row) in &raw {
        site.write(*at_ms, row);
    }
    let top_ms = raw.last().unwrap().0;
    let minutes = NodeKeys::new(&site.node).rows(Tier::Minute, SERIES);
    for (at_ms, row) in &model(&raw, top_ms)[Tier::Minute as usize] {
        if ![3, 4, 17, 29].contains(&((at_ms - T) / MINUTE)) {
            let texts: Vec<String> = row
                .iter()
                .flat_map(|(name, value)| [name.clone(), value.to_string()])
                .collect();
            let id = format!("{at_ms}-0");
            let mut add = redis::cmd("XADD");
            add.arg(&minutes)
                .arg(id)
                .arg(texts)
                .query::<()>(&mut site.redis)
                .unwrap();
        }
    }
    let tended = site.tend(&mut keeper, top_ms).await;
    check(&mut site, &raw, top_ms);
    assert_eq!(
        (tended.rolled_up_rows, tended.rewritten_streams),
        (4 + 3, 1)
    );
}

#[tokio::test]
async fn a_series_that_falls_silent_is_closed_and_goes_on_as_if_it_had_not() {
    let mut site = Site::new().await;
    let mut keeper = site.keeper(&[]);
    let mut raw = steady(T, T + 75 * MINUTE + 30_000);
    for (at_ms, row) in &raw {
        site.write(*at_ms, row);
    }
    let top_ms = raw.last().unwrap().0;
    site.tend(&mut keeper, top_ms).await;
    site.tend(&mut keeper, top_ms + HOUR).await;
    check(&mut site, &raw, top_ms);
    for now_ms in [top_ms + 8 * HOUR, top_ms + 9 * HOUR] {
        site.tend(&mut keeper, now_ms).await;
        check(&mut site, &raw, u64::MAX);
    }
    assert_eq!(
        site.stream(Tier::Hour).last().unwrap().0,
        format!("{}-1", T + HOUR)
    );
    // What it had kept comes, in order.
    let rest = steady(top_ms + 10_000, T + 125 * MINUTE);
    for (at_ms, row) in &rest {
        site.write(*at_ms, row);
    }
    raw.extend(rest);
    let top_ms = raw.last().unwrap().0;
    for mut keeper in [keeper, site.keeper(&[])] {
        site.tend(&mut keeper, T + 12 * HOUR).await;
        check(&mut site, &raw, u64::MAX);
    }
    site.write(T + 12 * HOUR, &row(5));
    raw.push((T + 12 * HOUR, row(5)));
    site.tend(&mut site.keeper(&[]), T + 12 * HOUR).await;
    check(&mut site, &raw, T + 12 * HOUR);
    assert!(
        site.stream(Tier::Hour)
            .iter()
            .all(|(id, _)| id.ends_with("-0")),
        "{top_ms}"
    );
}

#[tokio::test]
async fn what_is_too_old_goes_and_a_series_with_nothing_left_is_removed() {
    let mut site = Site::new().await;
    let kept = [
        (Tier::Raw, 4 * 3600, Some(3600)),
        (Tier::Minute, 2 * 3600, None),
        (Tier::TenMinutes, 0, None),
        (Tier::Hour, 86_400, None),
    ];
    let mut keeper = site.keeper(&[]);
    let raw = steady(T, T + 6 * HOUR);
    for (at_ms, row) in &raw {
        site.write(*at_ms, row);
    }
    let now_ms = T + 6 * HOUR;
    site.tend(&mut keeper, now_ms).await;
    assert!(!site.rows(Tier::TenMinutes).is_empty());
    let mut keeper = site.keeper(&kept);
    let tended = site.tend(&mut keeper, now_ms).await;
    assert_eq!(tended.dropped_blocks, 2);
    assert_eq!(
        site.blocks(Tier::Raw).into_keys().collect::<Vec<_>>(),
        [T + 2 * HOUR, T + 3 * HOUR, T + 4 * HOUR]
    );
    assert_eq!(site.rows(Tier::Raw).first().unwrap().0, T + 2 * HOUR);
    assert_eq!(site.rows(Tier::Minute).first().unwrap().0, T + 4 * HOUR);
    let expected: [Rows; 4] = model(&raw, T + 6 * HOUR - 10_000);
    assert_eq!(site.rows(Tier::Hour), expected[Tier::Hour as usize]);
    let keys = site.keys();
    let gone: usize = site.ask("EXISTS", &[&keys.rows(Tier::TenMinutes, SERIES)]);
    assert_eq!(gone, 0);
    for (key, seconds) in [
        (keys.packed(Tier::Raw, SERIES), 5 * 3600),
        (keys.rows(Tier::Minute, SERIES), 3 * 3600),
        (keys.rows(Tier::Hour, SERIES), 25 * 3600),
    ] {
        let left: i64 = site.ask("TTL", &[&key]);
        assert!((seconds - 60..=seconds).contains(&left), "{key}: {left}");
    }
    for now_ms in [T + 10 * HOUR, T + 11 * HOUR] {
        assert!(!site.tend(&mut keeper, now_ms).await.gone);
    }
    assert!(site.rows(Tier::Raw).is_empty());
    let later = [T + 40 * HOUR, T + 42 * HOUR];
    let gone = [
        site.tend(&mut keeper, later[0]).await.gone,
        site.tend(&mut keeper, later[1]).await.gone,
    ];
    assert!(gone.contains(&true));
    let left: Vec<String> = site.ask("KEYS", &["*"]);
    assert_eq!(left, [keys.kept()]);
}

#[tokio::test]
async fn packing_may_be_switched_on_and_off() {
    let mut site = Site::new().await;
    let raw = steady(T, T + 4 * HOUR);
    for (at_ms, row) in &raw {
        site.write(*at_ms, row);
    }
    let now_ms = T + 4 * HOUR;
    let top_ms = raw.last().unwrap().0;
    for (stream_seconds, packed) in [
        (None, 0),
        (Some(7200), 2),
        (Some(3600), 3),
        (None, 3),
        (Some(86_400), 3),
    ] {
        let mut keeper = site.keeper(&[(Tier::Raw, 86_400, stream_seconds)]);
        site.tend(&mut keeper, now_ms).await;
        assert_eq!(site.blocks(Tier::Raw).len(), packed, "{stream_seconds:?}");
        check(&mut site, &raw, top_ms);
    }
}

#[tokio::test]
async fn two_keepers_do_each_other_no_harm() {
    let mut site = Site::new().await;
    let mut raw = steady(T, T + 6 * HOUR);
    for (at_ms, row) in &raw {
        site.write(*at_ms, row);
    }
    for number in 0..40 {
        let at_ms = T + number * 500_000 + 77;
        site.write(at_ms, &row(number));
        raw.push((at_ms, row(number)));
    }
    raw.sort_by_key(|(at_ms, _)| *at_ms);
    let (mut one, mut other) = (site.keeper(&[]), site.keeper(&[]));
    let now_ms = T + 6 * HOUR;
    tokio::join!(site.tend(&mut one, now_ms), site.tend(&mut other, now_ms));
    site.tend(&mut one, now_ms).await;
    check(&mut site, &raw, now_ms - 10_000);
    assert_eq!(site.late(), 0);
}

#[tokio::test]
async fn garbage_is_passed_over_and_counted() {
    let mut site = Site::new().await;
    let mut keeper = site.keeper(&[]);
    let keys = site.keys();
    for seconds in 0..90 {
        site.write(T + seconds * 10_000, &row(seconds));
    }
    let raw = keys.raw(SERIES);
    site.ask::<String>(
        "XADD",
        &[&raw, &format!("{}-0", T + 900_000), "used_percent", "many"],
    );
    site.ask::<String>(
        "XADD",
        &[&raw, &format!("{}-0", T + 5 * HOUR), "used_percent", "1"],
    );
    let late = keys.late(SERIES);
    site.ask::<i64>(
        "ZADD",
        &[
            &late,
            "1",
            "no row",
            "-inf",
            "nothing",
            "inf",
            "9 a b",
            &T.to_string(),
            "x y z",
        ],
    );
    let packed = keys.packed(Tier::Raw, SERIES);
    site.ask::<i64>(
        "HSET",
        &[&packed, &T.to_string(), "\u{1}no block", "a", "b", "7", "c"],
    );
    site.ask::<i64>("HSET", &[&keys.rows(Tier::Hour, SERIES), "a", "b"]);
    site.ask::<String>("XADD", &[&keys.rows(Tier::Minute, SERIES), "7-7", "a", "b"]);
    let tended = site.tend(&mut keeper, T + 5 * HOUR).await;
    assert!(tended.malformed >= 5 && tended.refused > 0, "{tended:?}");
    assert_eq!(site.late(), 0);
    assert_eq!(tended.packed_rows, 90);
    assert_eq!(site.rows(Tier::Minute).len(), 15);
    // All of it is somebody else's.
    let fresh = Site::new().await;
    let mut site = fresh;
    let mut keeper = site.keeper(&[]);
    for tier in Tier::ALL {
        site.ask::<()>("SET", &[&keys.rows(tier, SERIES), "x"]);
        site.ask::<()>("SET", &[&keys.packed(tier, SERIES), "x"]);
    }
    site.ask::<()>("SET", &[&keys.late(SERIES), "x"]);
    site.tend(&mut keeper, T).await;
    site.ask::<()>("SET", &[&keys.kept(), "x"]);
    let tended = keeper.tend(&site.node, SERIES, T).await;
    assert!(tended.is_ok_and(|tended| tended.refused > 0));
}

#[derive(Debug, Clone)]
enum Step {
    /// Rows every ten seconds for so many minutes.
    Steady(u64),
    /// Silence for so many minutes.
    Silence(u64),
    /// A row so many seconds before the newest.
    Late(u64),
    /// Rows that were written before, from so many rows back on.
    Again(usize),
    Tend,
    /// A visit that ends after so many waits, whatever it is in, and another keeper after it.
    Killed(usize),
    RestartKeeper,
    Settings(usize),
}

const SETTINGS: [[(u64, Option<u64>); 4]; 4] = [
    [
        (10 * 86_400, Some(3 * 3600)),
        (10 * 86_400, None),
        (10 * 86_400, Some(86_400)),
        (20 * 86_400, Some(86_400)),
    ],
    [
        (10 * 86_400, Some(3600)),
        (10 * 86_400, Some(3600)),
        (10 * 86_400, None),
        (20 * 86_400, None),
    ],
    [
        (10 * 86_400, None),
        (10 * 86_400, Some(12 * 3600)),
        (10 * 86_400, Some(3600)),
        (20 * 86_400, Some(3600)),
    ],
    [
        (10 * 86_400, Some(7200)),
        (86_400, None),
        (10 * 86_400, Some(7200)),
        (20 * 86_400, None),
    ],
];

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1..90_u64).prop_map(Step::Steady),
        2 => (1..600_u64).prop_map(Step::Silence),
        4 => (1..40_000_u64).prop_map(Step::Late),
        1 => (1..300_usize).prop_map(Step::Again),
        4 => Just(Step::Tend),
        3 => (1..40_usize).prop_map(Step::Killed),
        1 => Just(Step::RestartKeeper),
        1 => (0..SETTINGS.len()).prop_map(Step::Settings),
    ]
}

/// Drops a visit after so many waits for Redis.
async fn kill_after(waits: usize, visit: impl Future<Output = Result<Tended, StoreError>>) {
    let mut visit = pin!(visit);
    let mut waited = 0;
    std::future::poll_fn(|context| {
        waited += 1;
        match visit.as_mut().poll(context) {
            Poll::Pending if waited <= waits => Poll::Pending,
            Poll::Pending | Poll::Ready(_) => Poll::Ready(()),
        }
    })
    .await;
}

/// Runs `steps`, and holds what is in Redis against the model.
async fn run(steps: Vec<Step>) {
    let mut site = Site::new().await;
    let mut kept = SETTINGS[0];
    let keeper = |site: &Site, kept: &[(u64, Option<u64>); 4]| {
        let kept: Vec<_> = Tier::ALL
            .into_iter()
            .zip(kept)
            .map(|(tier, kept)| (tier, kept.0, kept.1))
            .collect();
        site.keeper(&kept)
    };
    let mut tending = keeper(&site, &kept);
    let mut raw: Vec<(u64, Vec<Option<f64>>)> = Vec::new();
    let mut now_ms = T + 3 * MINUTE;
    let mut number = 0;
    let mut late_times = BTreeSet::new();
    // Before this rows are gone, or may be: a longer retention does not bring them back.
    let mut gone = [0; 4];
    for step in steps {
        for (gone, kept) in gone.iter_mut().zip(kept) {
            *gone = (now_ms - kept.0 * 1000).next_multiple_of(HOUR).max(*gone);
        }
        match step {
            Step::Steady(minutes) => {
                for _ in 0..minutes * 6 {
                    now_ms += 10_000;
                    number += 1;
                    site.write(now_ms, &row(number));
                    raw.push((now_ms, row(number)));
                }
            }
            Step::Silence(minutes) => now_ms += minutes * MINUTE,
            Step::Late(seconds) => {
                let newest = raw.iter().map(|(at_ms, _)| *at_ms).max();
                let Some(at_ms) = newest
                    .map(|newest| newest.saturating_sub(seconds * 1000))
                    .filter(|at_ms| *at_ms > T)
                else {
                    continue;
                };
                if !late_times.insert(at_ms) {
                    continue;
                }
                number += 1;
                site.write(at_ms, &row(number));
                raw.push((at_ms, row(number)));
            }
            Step::Again(back) => {
                for (at_ms, row) in raw.clone().iter().rev().take(back).rev() {
                    site.write(*at_ms, row);
                }
            }
            Step::Tend => {
                let _ = tending.tend(&site.node, SERIES, now_ms).await.unwrap();
            }
            Step::Killed(waits) => {
                kill_after(waits, tending.tend(&site.node, SERIES, now_ms)).await;
                tending = keeper(&site, &kept);
            }
            Step::RestartKeeper => tending = keeper(&site, &kept),
            Step::Settings(which) => {
                kept = SETTINGS[which];
                tending = keeper(&site, &kept);
            }
        }
    }
    if raw.is_empty() {
        return;
    }
    raw.sort_by_key(|(at_ms, _)| *at_ms);
    // The next day goes on, so that all is closed.
    now_ms = Tier::Hour.bucket(now_ms) + HOUR;
    site.write(now_ms, &row(0));
    raw.push((now_ms, row(0)));
    site.tend(&mut tending, now_ms).await;
    assert_eq!(site.late(), 0);
    let expected = model(&raw, now_ms);
    for tier in Tier::ALL {
        let from = (now_ms - kept[tier as usize].0 * 1000)
            .next_multiple_of(HOUR)
            .max(gone[tier as usize]);
        let after = |rows: Rows| {
            rows.into_iter()
                .filter(|(at_ms, _)| *at_ms >= from)
                .collect::<Rows>()
        };
        let (have, want) = (
            after(site.rows(tier)),
            after(expected[tier as usize].clone()),
        );
        assert_eq!(have.len(), want.len(), "rows of {tier}");
        for (have, want) in have.iter().zip(&want) {
            let have_row = &have.1;
            assert_eq!((have.0, have_row), (want.0, &want.1), "{tier}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_each_tier_is_what_the_model_says(steps in prop::collection::vec(step(), 1..30)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(run(steps));
    }
}
