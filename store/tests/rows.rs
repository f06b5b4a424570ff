//! Which fields a row has, and when marks and the last sample are written.

mod fixture;

use std::sync::Arc;

use fixture::{WriteWhole, at, entries, entry, fixture, kill, mark, node, numbers, sample, write};
use hostbus_store::Entry;
use hostbus_wire::sample::{Cpu, Sensor};
use hostbus_wire::{NodePath, Sample};

/// The fields and values of each row of a stream, as they stand in Redis.
#[expect(clippy::unwrap_used, reason = "what is not there fails the test")]
fn stream(fixture: &fixture::Fixture, key: &str) -> Vec<String> {
    let rows: redis::Value = redis::cmd("XRANGE")
        .arg(key)
        .arg("-")
        .arg("+")
        .query(&mut fixture.redis())
        .unwrap();
    let rows: Vec<(String, Vec<String>)> = redis::from_redis_value(rows).unwrap();
    rows.into_iter().map(|(_, texts)| texts.join(" ")).collect()
}

/// The sample `seq`, of which only these are known.
fn cpu(node: &Arc<NodePath>, seq: u64, user: Option<f64>, load: Option<f64>) -> Entry {
    let mut cpu = Cpu::new();
    (cpu.user_percent, cpu.load1) = (user, load);
    let mut entry = entry(node, seq);
    entry.sample.cpu = Some(cpu);
    entry
}

#[tokio::test]
async fn a_field_has_room_in_the_rows_once_it_was_known() {
    let fixture = fixture().await;
    let a = node("a");
    let samples = [
        cpu(&a, 1, None, None),
        cpu(&a, 2, None, Some(2.0)),
        cpu(&a, 3, Some(3.0), None),
        cpu(&a, 4, None, None),
    ];
    let outcome = fixture.appender().write(&samples, at(4)).await.unwrap();
    assert_eq!((outcome.samples, outcome.rows), (4, 11));
    let expected = [
        "load1 2",
        "user_percent 3 load1 nan",
        "user_percent nan load1 nan",
    ];
    assert_eq!(stream(&fixture, "hb:{home.a}:raw:cpu"), expected);
    let range = fixture
        .reader()
        .range(&a, "cpu", 0, u64::MAX, 9)
        .await
        .unwrap();
    assert_eq!(range.fields, ["load1", "user_percent"]);
    let rows: Vec<_> = range.rows.into_iter().map(|row| row.values).collect();
    let expected = [[Some(2.0), None], [None, Some(3.0)], [None, None]];
    assert_eq!(rows, expected);
}

#[tokio::test]
async fn a_row_written_again_by_one_who_knows_fewer_fields_is_the_same_row() {
    let fixture = fixture().await;
    let a = node("a");
    let late = Entry {
        at_ms: at(1) + 1,
        ..cpu(&a, 3, None, Some(3.0))
    };
    let samples = [
        cpu(&a, 1, Some(1.0), None),
        cpu(&a, 2, None, Some(2.0)),
        late,
        cpu(&a, 4, None, Some(4.0)),
    ];
    fixture.appender().write(&samples, at(4)).await.unwrap();
    redis::cmd("HSET")
        .arg("hb:{home.a}:info")
        .arg("committed_seq")
        .arg(1)
        .exec(&mut fixture.redis())
        .unwrap();
    let outcome = fixture
        .appender()
        .write(&samples[1..], at(4))
        .await
        .unwrap();
    assert_eq!(outcome.samples, 3);
    let range = fixture
        .reader()
        .range(&a, "cpu", 0, u64::MAX, 9)
        .await
        .unwrap();
    let loads: Vec<_> = range.points("load1").map(|point| point.value).collect();
    assert_eq!(loads, [None, Some(3.0), Some(2.0), Some(4.0)]);
}

/// The entry of a sample with these sensors alone.
#[expect(clippy::unwrap_used, reason = "a fixed name is well formed")]
fn sensors(node: &Arc<NodePath>, seq: u64, sensors: &[(&str, Option<f64>)]) -> Entry {
    let mut entry = entry(node, seq);
    let sensors = sensors.iter().map(|(name, celsius)| Sensor {
        celsius: *celsius,
        ..Sensor::new(name.parse().unwrap())
    });
    entry.sample = Sample {
        sensors: sensors.collect(),
        ..Sample::default()
    };
    entry
}

#[tokio::test]
async fn sensors_are_fields_of_one_row_and_come_and_go() {
    let fixture = fixture().await;
    let a = node("a");
    let samples = [
        // Nothing is known of it yet.
        sensors(&a, 1, &[("cpu/0", None)]),
        sensors(&a, 2, &[("cpu/0", Some(40.5)), ("nvme/composite", None)]),
        sensors(&a, 3, &[("cpu/0", None), ("nvme/composite", Some(30.0))]),
        sensors(&a, 4, &[("my disk", Some(-1.0)), ("nvme/composite", None)]),
        sensors(&a, 5, &[("cpu/0", Some(41.0))]),
        // Too late for the stream.
        Entry {
            at_ms: at(4) - 1,
            ..sensors(&a, 6, &[("my disk", Some(7.0)), ("cpu/0", Some(42.0))])
        },
    ];
    let mut appender = fixture.appender();
    let outcome = appender.write(&samples, at(6)).await.unwrap();
    assert_eq!((outcome.rows, outcome.late_rows, outcome.points), (5, 1, 6));
    let expected = [
        "cpu/0 40.5 nvme/composite nan",
        "cpu/0 nan nvme/composite 30",
        "my%20disk -1 nvme/composite nan",
        "cpu/0 41",
    ];
    assert_eq!(stream(&fixture, "hb:{home.a}:raw:sensors"), expected);
    let reader = fixture.reader();
    assert_eq!(reader.series(&a).await.unwrap(), ["sensors"]);
    let range = reader.range(&a, "sensors", 0, u64::MAX, 9).await.unwrap();
    assert_eq!((range.rows.len(), range.malformed), (5, 0));
    let values = |field: &str| -> Vec<_> { range.points(field).map(|point| point.value).collect() };
    assert_eq!(
        values("cpu/0"),
        [Some(40.5), None, Some(42.0), None, Some(41.0)]
    );
    assert_eq!(
        values("my%20disk"),
        [None, None, Some(7.0), Some(-1.0), None]
    );
    assert_eq!(
        values("nvme/composite"),
        [None, Some(30.0), None, None, None]
    );
}

#[tokio::test]
async fn more_sensors_than_a_host_has_are_refused_and_nothing_else_is() {
    let fixture = fixture().await;
    let a = node("a");
    let mut appender = fixture.appender();
    for seq in 1..=6 {
        let names: Vec<String> = (0..100).map(|number| format!("{seq}-{number}")).collect();
        let values: Vec<_> = names
            .iter()
            .map(|name| (name.as_str(), Some(1.0)))
            .collect();
        let mut entry = entry(&a, seq);
        entry.sample.sensors = sensors(&a, seq, &values).sample.sensors;
        let outcome = appender.write(&[entry], at(seq)).await.unwrap();
        let refused = u64::from(seq == 6);
        assert_eq!(
            (outcome.samples, outcome.excess_rows),
            (1, refused),
            "{seq}"
        );
        assert_eq!(outcome.excess_nodes.len() as u64, refused);
    }
    assert_eq!(stream(&fixture, "hb:{home.a}:raw:sensors").len(), 5);
    assert_eq!(stream(&fixture, "hb:{home.a}:raw:cpu").len(), 6);
}

#[tokio::test]
async fn a_sensor_of_its_own_from_before_reads_as_it_stands() {
    let fixture = fixture().await;
    let a = node("a");
    let mut redis = fixture.redis();
    for (key, row) in [
        ("raw", "celsius 40.5"),
        ("1m", "celsius 40 celsius_min 39 n 6"),
    ] {
        redis::cmd("XADD")
            .arg(format!("hb:{{home.a}}:{key}:sensor:cpu/0"))
            .arg(at(1))
            .arg(row.split(' ').collect::<Vec<_>>())
            .exec(&mut redis)
            .unwrap();
    }
    let reader = fixture.reader();
    let range = reader
        .range(&a, "sensor:cpu/0", 0, u64::MAX, 9)
        .await
        .unwrap();
    let values: Vec<_> = range.points("celsius").map(|point| point.value).collect();
    assert_eq!(values, [Some(40.5)]);
}

#[tokio::test]
async fn rows_wait_for_their_mark_until_it_is_committed() {
    let fixture = fixture().await;
    let a = node("a");
    let mut appender = fixture.appender();
    let mut batch = entries(&a, 1..=2);
    let outcome = appender.append(&mut batch, at(2)).await.unwrap();
    assert_eq!(
        (outcome.samples, outcome.marks.len(), batch.len()),
        (2, 0, 0)
    );
    let outcome = appender
        .append(&mut entries(&a, 3..=3), at(3))
        .await
        .unwrap();
    assert!(outcome.broken.is_empty());
    assert!(appender.has_uncommitted());
    assert_eq!(appender.remembered(&a), Some(None));
    let reader = fixture.reader();
    assert_eq!(reader.mark(&a).await.unwrap(), None);
    assert_eq!(numbers(&reader, &a).await, [1, 2, 3]);
    let outcome = appender.commit(at(3)).await.unwrap();
    assert_eq!(outcome.marks, [(Arc::clone(&a), mark(3))]);
    assert_eq!(reader.mark(&a).await.unwrap(), Some(mark(3)));
    assert_eq!(appender.remembered(&a), Some(Some(mark(3))));
    assert!(!appender.has_uncommitted());
    assert!(appender.commit(at(4)).await.unwrap().marks.is_empty());
}

#[tokio::test]
async fn the_last_sample_is_written_once_a_second_and_the_newest_stays() {
    let fixture = fixture().await;
    let (a, reader) = (node("a"), fixture.reader());
    let mut appender = fixture.appender();
    appender.write(&entries(&a, 1..=1), at(1)).await.unwrap();
    appender
        .write(&entries(&a, 2..=4), at(1) + 999)
        .await
        .unwrap();
    assert_eq!(reader.last(&a).await.unwrap(), Some(sample(1)));
    assert!(appender.has_uncommitted());
    let until = std::time::Instant::now() + std::time::Duration::from_secs(20);
    // Redis fails in between. What it answered for is in its file by then: a mark that it lost would make
    // a gap of what comes next.
    while !appender.settled().await.unwrap() {
        assert!(std::time::Instant::now() < until, "the file lags");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    kill(fixture.process());
    while appender.commit(at(1) + 1_000).await.is_err() {
        assert!(
            std::time::Instant::now() < until,
            "redis does not come back"
        );
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let reader = fixture.reader();
    assert_eq!(reader.last(&a).await.unwrap(), Some(sample(4)));
    assert!(!appender.has_uncommitted());
    assert_eq!(reader.nodes().await.unwrap()[0].seen_ms, at(1) + 999);
    appender
        .write(&entries(&a, 5..=5), at(1) + 1_500)
        .await
        .unwrap();
    appender.commit_all().await.unwrap();
    assert_eq!(reader.last(&a).await.unwrap(), Some(sample(5)));
}

#[tokio::test]
async fn what_another_connection_left_undone_is_not_gone_on_from() {
    let fixture = fixture().await;
    let a = node("a");
    let mut appender = fixture.appender();
    appender
        .append(&mut entries(&a, 1..=2), at(2))
        .await
        .unwrap();
    // A Redis that lost it all.
    kill(fixture.process());
    assert!(appender.settled().await.is_err());
    assert_eq!(appender.remembered(&a), None);
    let until = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while appender.ping().await.is_err() {
        assert!(
            std::time::Instant::now() < until,
            "redis does not come back"
        );
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    redis::cmd("FLUSHALL").exec(&mut fixture.redis()).unwrap();
    let outcome = write(&mut appender, &entries(&a, 3..=3), at(3)).await;
    assert_eq!((outcome.broken.len(), outcome.rows), (1, 0));
}
