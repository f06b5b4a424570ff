//! Reading back: pages, late rows in their place, rows that are none.

#![expect(clippy::unwrap_used, reason = "what is not there fails the test")]

mod fixture;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use fixture::{WriteWhole, at, entries, entry, fixture, node, numbers};
use hostbus_store::{Entry, Reader, Row, Tier, block};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

#[tokio::test]
async fn late_rows_are_kept_aside_and_read_in_their_place() {
    let fixture = fixture().await;
    let a = node("a");
    let mut appender = fixture.appender();
    let late = |seq: u64, time: u64| Entry {
        at_ms: at(time) + 1,
        ..entry(&a, seq)
    };
    appender.write(&entries(&a, 1..=5), at(5)).await.unwrap();
    // The clock of the node steps back twice; then it goes on.
    let stepped = [late(6, 2), late(7, 3), late(8, 2), entry(&a, 9)];
    let outcome = appender.write(&stepped, at(9)).await.unwrap();
    assert_eq!((outcome.late_rows, outcome.duplicate_rows), (12, 0));
    let order = [1, 2, 6, 8, 3, 7, 4, 5, 9];
    let read = numbers(&fixture.reader(), &a).await;
    assert_eq!(read, order);
    // Written again after a lost mark, each is still there once.
    redis::cmd("HSET")
        .arg("hb:{home.a}:info")
        .arg("committed_seq")
        .arg(5)
        .exec(&mut fixture.redis())
        .unwrap();
    fixture.appender().write(&stepped, at(9)).await.unwrap();
    assert_eq!(numbers(&fixture.reader(), &a).await, order);
    let members: Vec<String> = redis::cmd("ZRANGE")
        .arg("hb:{home.a}:late:cores")
        .arg(0)
        .arg(-1)
        .query(&mut fixture.redis())
        .unwrap();
    assert_eq!(members[1], format!("{} 0 1.5 1 2", at(3) + 1));
}

#[tokio::test]
async fn a_long_range_is_read_in_pages_without_loss() {
    let fixture = fixture().await;
    let a = node("a");
    let mut appender = fixture.appender();
    let mut all = entries(&a, 1..=5_000);
    appender.write(&all, at(5_000)).await.unwrap();
    // As many again, each half an interval after its sample of the first half.
    for seq in 5_001..=9_999 {
        all.push(Entry {
            at_ms: at(seq - 5_000) + 5_000,
            ..entry(&a, seq)
        });
    }
    let outcome = appender.write(&all[5_000..], at(5_000)).await.unwrap();
    assert!(outcome.late_rows > 19_000, "{outcome:?}");
    let read = numbers(&fixture.reader(), &a).await;
    let expected: Vec<u64> = (1..5_000)
        .flat_map(|seq| [seq, seq + 5_000])
        .chain([5_000])
        .collect();
    assert_eq!(read, expected);
}

#[tokio::test]
async fn a_row_in_redis_that_is_none_is_passed_over_and_counted() {
    let fixture = fixture().await;
    let a = node("a");
    fixture
        .appender()
        .write(&entries(&a, 1..=2), at(2))
        .await
        .unwrap();
    let mut redis = fixture.redis();
    redis::cmd("XADD")
        .arg("hb:{home.a}:raw:cpu")
        .arg("*")
        .arg("usage_percent")
        .arg("much")
        .exec(&mut redis)
        .unwrap();
    redis::cmd("ZADD")
        .arg("hb:{home.a}:late:cpu")
        .arg(at(1))
        .arg("nonsense")
        .exec(&mut redis)
        .unwrap();
    let range = fixture
        .reader()
        .range(&a, "cpu", 0, u64::MAX, 100)
        .await
        .unwrap();
    assert_eq!((range.rows.len(), range.malformed), (2, 2));
}

const HOUR_MS: u64 = 3_600_000;

/// Reads a range page by page, one field of it.
async fn scanned(
    reader: &Reader,
    series: &str,
    from_ms: u64,
    to_ms: u64,
) -> Vec<(u64, Option<f64>)> {
    let mut scan = reader.scan_tier(&node("a"), series, Tier::Raw, Some(&["v"]), from_ms, to_ms);
    let mut rows = Vec::new();
    while let Some(page) = scan.next_frame().await.unwrap() {
        assert_eq!((page.malformed, page.broken_blocks), (0, 0));
        rows.extend(
            page.frame
                .points("v")
                .map(|point| (point.at_ms, point.value)),
        );
    }
    rows
}

fn row(at_ms: u64, value: Option<f64>) -> Row {
    let values = vec![Some(1.0), value];
    Row { at_ms, values }
}

fn packed(rows: &[Row]) -> Vec<u8> {
    block::encode(&["w".to_owned(), "v".to_owned()], rows)
}

fn shown(value: Option<f64>) -> String {
    value.map_or_else(|| "nan".to_owned(), |value| value.to_string())
}

/// The rows of one series: when, what, and where they stand: packed, in the stream, late.
#[derive(Debug, Clone)]
struct Spread {
    packed: BTreeMap<u64, Vec<Row>>,
    stream: BTreeMap<u64, Option<f64>>,
    late: Vec<(u64, Option<f64>)>,
    from_ms: u64,
    to_ms: u64,
}

impl Spread {
    /// What reads back: by time, of one time the packed first, then the stream's; a late row that is
    /// there already is not there twice.
    fn expected(&self) -> Vec<(u64, Option<f64>)> {
        let mut rows: Vec<(u64, Option<f64>)> = Vec::new();
        for row in self.packed.values().flatten() {
            rows.push((row.at_ms, row.values[1]));
        }
        rows.extend(self.stream.iter().map(|(at_ms, value)| (*at_ms, *value)));
        let mut members: Vec<(String, u64, Option<f64>)> = Vec::new();
        for (at_ms, value) in &self.late {
            if !rows.contains(&(*at_ms, *value)) {
                members.push((format!("{at_ms} w 1 v {}", shown(*value)), *at_ms, *value));
            }
        }
        members.sort_by(|a, b| (a.1, &a.0).cmp(&(b.1, &b.0)));
        members.dedup();
        rows.extend(members.into_iter().map(|(_, at_ms, value)| (at_ms, value)));
        rows.retain(|(at_ms, _)| (self.from_ms..=self.to_ms).contains(at_ms));
        rows.sort_by_key(|(at_ms, _)| *at_ms);
        rows
    }

    fn write(&self, redis: &mut redis::Connection, series: &str) {
        let mut pipeline = redis::pipe();
        for (start, rows) in &self.packed {
            let key = format!("hb:{{home.a}}:packed:raw:{series}");
            pipeline.cmd("HSET").arg(key).arg(start).arg(packed(rows));
        }
        for (at_ms, value) in &self.stream {
            let key = format!("hb:{{home.a}}:raw:{series}");
            let add = pipeline.cmd("XADD").arg(key).arg(format!("{at_ms}-0"));
            add.arg("w").arg(1).arg("v").arg(shown(*value));
        }
        for (at_ms, value) in &self.late {
            let member = format!("{at_ms} w 1 v {}", shown(*value));
            let key = format!("hb:{{home.a}}:late:{series}");
            pipeline.cmd("ZADD").arg(key).arg(at_ms).arg(member);
        }
        pipeline.query::<redis::Value>(redis).unwrap();
    }
}

fn spread() -> impl Strategy<Value = Spread> {
    let value = prop_oneof![
        Just(None),
        (0_i32..4).prop_map(|value| Some(f64::from(value) / 4.0))
    ];
    // So few times that many are the same.
    let minute =
        || (0_u64..80, 0_u64..60).prop_map(|(hour, minute)| hour * HOUR_MS + minute * 60_000);
    let rows = || vec((minute(), value.clone()), 0..150);
    let hours = prop_oneof![Just(3_u64), Just(80)];
    (rows(), rows(), rows(), hours, minute(), minute()).prop_map(
        |(mut packed, stream, late, hours, a, b)| {
            packed.sort_by_key(|(at_ms, _)| *at_ms);
            let mut blocks: BTreeMap<u64, Vec<Row>> = BTreeMap::new();
            for (at_ms, value) in packed {
                let rows = blocks.entry(Tier::Raw.block(at_ms)).or_default();
                rows.push(row(at_ms, value));
            }
            let end = a.min(b) + hours * HOUR_MS;
            Spread {
                packed: blocks,
                stream: stream.into_iter().filter(|(at_ms, _)| *at_ms > 0).collect(),
                late,
                from_ms: a.min(b),
                to_ms: if hours == 3 { end } else { u64::MAX },
            }
        },
    )
}

#[test]
fn rows_read_back_the_same_wherever_they_stand() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let fixture = runtime.block_on(fixture());
    let reader = fixture.reader();
    let redis = std::cell::RefCell::new(fixture.redis());
    let mut runner = TestRunner::new(Config::with_cases(100));
    let cases = std::cell::Cell::new(0);
    let checked = runner.run(&spread(), |spread| {
        cases.set(cases.get() + 1);
        let series = format!("s{}", cases.get());
        spread.write(&mut redis.borrow_mut(), &series);
        let read = runtime.block_on(scanned(&reader, &series, spread.from_ms, spread.to_ms));
        prop_assert_eq!(read, spread.expected());
        Ok(())
    });
    checked.unwrap();
}

/// Moves the rows of one hour after the other from the stream to blocks while somebody reads.
#[tokio::test]
async fn a_row_that_moves_is_neither_missed_nor_seen_twice() {
    const HOURS: u64 = 60;
    let fixture = fixture().await;
    let spread = Spread {
        packed: BTreeMap::new(),
        stream: (1..HOURS * 60)
            .map(|minute| (minute * 60_000, Some(0.5)))
            .collect(),
        late: Vec::new(),
        from_ms: 0,
        to_ms: u64::MAX,
    };
    spread.write(&mut fixture.redis(), "s");
    let expected = spread.expected();
    let sealed = Arc::new(AtomicBool::new(false));
    let (done, mut redis) = (Arc::clone(&sealed), fixture.redis());
    let sealer = tokio::task::spawn_blocking(move || {
        for hour in 0..HOURS {
            let start = hour * HOUR_MS;
            let times = spread.stream.range(start..start + HOUR_MS);
            let rows: Vec<Row> = times.map(|(at_ms, value)| row(*at_ms, *value)).collect();
            let mut seal = redis::pipe();
            seal.atomic();
            let key = "hb:{home.a}:packed:raw:s";
            seal.cmd("HSET").arg(key).arg(start).arg(packed(&rows));
            let trim = seal.cmd("XTRIM").arg("hb:{home.a}:raw:s");
            trim.arg("MINID").arg("=").arg(start + HOUR_MS);
            seal.query::<redis::Value>(&mut redis).unwrap();
        }
        done.store(true, Ordering::Release);
    });
    let reader = fixture.reader();
    loop {
        let last = sealed.load(Ordering::Acquire);
        assert_eq!(scanned(&reader, "s", 0, u64::MAX).await, expected);
        assert_eq!(
            scanned(&reader, "s", 0, 31 * HOUR_MS - 1).await,
            expected[..31 * 60 - 1]
        );
        if last {
            break;
        }
    }
    sealer.await.unwrap();
}

#[tokio::test]
async fn a_block_that_cannot_be_read_is_counted_and_the_rest_is_read() {
    let fixture = fixture().await;
    let (a, mut redis) = (node("a"), fixture.redis());
    let key = "hb:{home.a}:packed:raw:s";
    let good = packed(&[row(5 * HOUR_MS + 7, Some(2.5))]);
    let mut cut = good.clone();
    cut.pop();
    for (start, bytes) in [
        (0, cut),
        // Its rows are of another hour.
        (2 * HOUR_MS, good.clone()),
        (5 * HOUR_MS, good),
    ] {
        let mut set = redis::cmd("HSET");
        set.arg(key).arg(start).arg(bytes).exec(&mut redis).unwrap();
    }
    redis::cmd("HSET")
        .arg(key)
        .arg("soon")
        .arg("x")
        .exec(&mut redis)
        .unwrap();
    for to_ms in [6 * HOUR_MS, u64::MAX] {
        let range = fixture.reader().range(&a, "s", 0, to_ms, 10).await.unwrap();
        assert_eq!(range.rows, [row(5 * HOUR_MS + 7, Some(2.5))]);
        assert_eq!((range.malformed, range.broken_blocks), (0, 2));
    }
}
