//! The minutes that a writer sums up are those that the rows in Redis give.

mod fixture;

use std::collections::BTreeMap;

use fixture::{Fixture, WriteWhole, at, entries, entry, fixture, mark, node};
use hostbus_store::rollup::{Bucket, Fields};
use hostbus_store::{Entry, Kept, Step, Tier};
use hostbus_wire::NodePath;
use hostbus_wire::sample::{Cpu, Network, Sensor};

/// The rows of a stream as they stand in Redis, by their id in milliseconds: field -> text.
#[expect(clippy::unwrap_used, reason = "what is not there fails the test")]
fn stream(fixture: &Fixture, key: &str) -> BTreeMap<u64, BTreeMap<String, String>> {
    let rows: redis::Value = redis::cmd("XRANGE")
        .arg(key)
        .arg("-")
        .arg("+")
        .query(&mut fixture.redis())
        .unwrap();
    let rows: Vec<(String, Vec<String>)> = redis::from_redis_value(rows).unwrap();
    let rows = rows.into_iter().map(|(id, texts)| {
        let at_ms = id.split_once('-').unwrap().0.parse().unwrap();
        let fields = texts
            .chunks(2)
            .map(|pair| (pair[0].clone(), pair[1].clone()))
            .collect();
        (at_ms, fields)
    });
    rows.collect()
}

/// The rows of the minutes, as the rows in the stream give them. Without what is unknown: which fields
/// have room in a row is no matter of values.
#[expect(clippy::unwrap_used, reason = "what is not there fails the test")]
async fn summed(
    fixture: &Fixture,
    node: &NodePath,
    series: &str,
) -> BTreeMap<u64, BTreeMap<String, f64>> {
    let reader = fixture.reader();
    let range = reader
        .range(node, series, 0, u64::MAX, 100_000)
        .await
        .unwrap();
    let fields = Fields::of(series, range.fields.iter().map(String::as_str));
    let mut buckets: BTreeMap<u64, Bucket> = BTreeMap::new();
    for row in range.rows {
        let start_ms = Tier::Minute.bucket(row.at_ms);
        let bucket = buckets
            .entry(start_ms)
            .or_insert_with(|| Bucket::new(start_ms));
        bucket.add(row.values);
    }
    let rows = buckets.into_iter().map(|(start_ms, bucket)| {
        let names = fields.names(&bucket).map(str::to_owned);
        let known = names.zip(bucket.values(&fields));
        let known = known.filter_map(|(name, value)| Some((name, value?)));
        (start_ms, known.collect())
    });
    rows.collect()
}

#[expect(clippy::unwrap_used, reason = "what is not there fails the test")]
fn minutes(
    fixture: &Fixture,
    node: &NodePath,
    series: &str,
) -> BTreeMap<u64, BTreeMap<String, f64>> {
    let rows = stream(fixture, &format!("hb:{{{node}}}:1m:{series}")).into_iter();
    rows.map(|(at_ms, fields)| {
        let known = fields.into_iter().filter(|(_, text)| text != "nan");
        (
            at_ms,
            known
                .map(|(name, text)| (name, text.parse().unwrap()))
                .collect(),
        )
    })
    .collect()
}

/// A sample with values of all kinds, some of them unknown.
#[expect(clippy::unwrap_used, reason = "a fixed name is well formed")]
fn rich(node: &std::sync::Arc<NodePath>, seq: u64) -> Entry {
    let mut entry = entry(node, seq);
    let number = seq as f64;
    let mut cpu = Cpu::new();
    cpu.usage_percent = Some((number * 7.13) % 100.0);
    cpu.load1 = (!seq.is_multiple_of(3)).then_some(number / 3.0);
    cpu.temperature_celsius = (seq > 40).then_some(-0.5);
    cpu.cores = vec![number % 10.0 + 0.1, 100.0 / 3.0];
    let mut network = Network::new("eth0".parse().unwrap());
    network.rx_bytes_per_second = Some(seq * 1_000_000_007);
    network.speed_bits_per_second = Some(1_000_000_000 + seq);
    entry.sample.cpu = Some(cpu);
    entry.sample.networks = vec![network];
    // One comes, one goes, one is called as a column is, and their order changes.
    let mut sensors = vec![
        ("n", Some(number / 7.0)),
        ("cpu", Some(40.0 + number % 3.0)),
        ("late", Some(number)),
        ("cpu_min", (seq % 20 > 5).then_some(number)),
    ];
    if seq.is_multiple_of(4) {
        sensors.reverse();
    }
    sensors.retain(|(name, _)| match *name {
        "late" => seq > 33,
        "n" => seq < 71,
        _ => true,
    });
    let sensors = sensors.into_iter().map(|(name, celsius)| Sensor {
        celsius,
        ..Sensor::new(name.parse().unwrap())
    });
    entry.sample.sensors = sensors.collect();
    entry
}

#[tokio::test]
async fn the_minutes_in_redis_are_those_that_the_rows_give() {
    let fixture = fixture().await;
    let a = node("a");
    let mut appender = fixture.appender();
    for seq in 1..=100 {
        appender.write(&[rich(&a, seq)], at(seq)).await.unwrap();
    }
    for series in [
        "cpu",
        "cores",
        "memory",
        "network:eth0",
        "filesystem:/",
        "sensors",
    ] {
        let mut expected = summed(&fixture, &a, series).await;
        // Of the first minute the writer can't know that it saw all; the last is still open.
        expected.pop_first();
        expected.pop_last();
        assert!(expected.len() > 10, "{}", expected.len());
        assert_eq!(minutes(&fixture, &a, series), expected, "{series}");
    }
    let key = "hb:{home.a}:1m:cpu";
    let left: i64 = redis::cmd("TTL")
        .arg(key)
        .query(&mut fixture.redis())
        .unwrap();
    assert!((89_990..=90_000).contains(&left), "{left}");
}

#[tokio::test]
async fn no_minute_is_told_that_another_writer_saw_a_part_of() {
    let fixture = fixture().await;
    let a = node("a");
    for seqs in [1..=20, 21..=40, 35..=80_u64] {
        // Each time another writer; the last one begins with samples that are there already.
        let mut appender = fixture.appender();
        if *seqs.start() == 35 {
            redis::cmd("HSET")
                .arg("hb:{home.a}:info")
                .arg("committed_seq")
                .arg(34)
                .exec(&mut fixture.redis())
                .unwrap();
        }
        for seq in seqs {
            appender.write(&[rich(&a, seq)], at(seq)).await.unwrap();
        }
    }
    let expected = summed(&fixture, &a, "cpu").await;
    let have = minutes(&fixture, &a, "cpu");
    assert!(
        have.len() + 8 >= expected.len(),
        "{} of {}",
        have.len(),
        expected.len()
    );
    for (start_ms, row) in have {
        assert_eq!(Some(&row), expected.get(&start_ms), "{start_ms}");
    }
}

#[tokio::test]
async fn around_late_rows_minutes_are_left_alone() {
    let fixture = fixture().await;
    let a = node("a");
    let mut appender = fixture.appender();
    for seq in 1..=60_u64 {
        let mut entry = rich(&a, seq);
        if seq == 30 || seq == 31 {
            entry.at_ms = at(seq - 12) + 5;
        }
        entry.step = Some(Step {
            after: (seq > 1).then(|| mark(seq - 1)),
            mark: mark(seq),
        });
        appender.write(&[entry], at(seq)).await.unwrap();
    }
    let key = "hb:{home.a}:1m:cpu";
    let told: Vec<u64> = stream(&fixture, key).into_keys().collect();
    let late = [at(18), at(19)].map(|at_ms| Tier::Minute.bucket(at_ms));
    let expected = summed(&fixture, &a, "cpu").await;
    for start_ms in told.iter().filter(|start_ms| !late.contains(start_ms)) {
        assert_eq!(
            minutes(&fixture, &a, "cpu").get(start_ms),
            expected.get(start_ms)
        );
    }
    // The minute in which they came, and that of the first row after them, which may be the same.
    let came = Tier::Minute.bucket(at(29));
    assert!(!told.contains(&came) && told.contains(&Tier::Minute.bucket(at(50))));
}

#[tokio::test]
async fn no_minutes_are_kept_where_none_are_wanted() {
    let mut fixture = fixture().await;
    fixture.config.retention.minute = Kept {
        seconds: 0,
        stream_seconds: None,
    };
    let a = node("a");
    let mut appender = fixture.appender();
    for entry in entries(&a, 1..=30) {
        appender.write(&[entry], at(30)).await.unwrap();
    }
    let key = "hb:{home.a}:1m:cpu";
    assert!(stream(&fixture, key).is_empty());
}
