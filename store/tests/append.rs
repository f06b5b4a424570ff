//! What is written is what is read, once, whatever happens in between.

mod fixture;

use std::sync::Arc;

use fixture::{
    BOOT, WriteWhole, at, entries, entry, fixture, kill, mark, node, numbers, sample, write,
};
use hostbus_store::{Entry, Kept, Step};
use hostbus_wire::Sample;

#[tokio::test]
async fn a_node_that_was_forgotten_goes_on_where_it_was() {
    let fixture = fixture().await;
    let mut appender = fixture.appender();
    let a = node("a");
    write(&mut appender, &entries(&a, 1..=2), at(2)).await;
    assert_eq!(appender.remembered(&a), Some(Some(mark(2))));
    appender.forget(&a);
    assert_eq!(appender.remembered(&a), None);
    let outcome = write(&mut appender, &entries(&a, 2..=3), at(3)).await;
    assert_eq!((outcome.samples, outcome.stored_before), (1, 1));
    assert_eq!(numbers(&fixture.reader(), &a).await, [1, 2, 3]);
}

#[tokio::test]
async fn what_is_written_reads_back_equal() {
    let fixture = fixture().await;
    let a = node("a");
    let outcome = fixture
        .appender()
        .write(&entries(&a, 1..=3), at(3))
        .await
        .unwrap();
    assert_eq!((outcome.samples, outcome.rows, outcome.points), (3, 12, 18));
    assert_eq!(outcome.marks, [(Arc::clone(&a), mark(3))]);

    let reader = fixture.reader();
    let range = reader.range(&a, "cpu", at(2), at(3), 10).await.unwrap();
    assert_eq!(range.fields, ["usage_percent", "load1"]);
    assert_eq!(range.rows.len(), 2);
    assert_eq!(range.rows[0].at_ms, at(2));
    assert_eq!(range.rows[0].values, [Some(0.5), Some(0.51)]);
    assert!(!range.more);
    let used: Vec<_> = reader
        .range(&a, "memory", 0, u64::MAX, 2)
        .await
        .unwrap()
        .points("used_bytes")
        .map(|point| point.value)
        .collect();
    assert_eq!(used, [Some(1_000_000_008.0), Some(1_000_000_009.0)]);
    assert!(
        reader
            .range(&a, "memory", 0, u64::MAX, 2)
            .await
            .unwrap()
            .more
    );

    assert_eq!(
        reader.series(&a).await.unwrap(),
        ["cores", "cpu", "filesystem:/", "memory"]
    );
    assert_eq!(reader.mark(&a).await.unwrap(), Some(mark(3)));
    assert_eq!(reader.last(&a).await.unwrap(), Some(sample(3)));
    let nodes = reader.nodes().await.unwrap();
    assert_eq!(nodes.len(), 1);
    assert_eq!((&nodes[0].node, nodes[0].seen_ms), (&*a, at(3)));
    assert_eq!(nodes[0].last, Some(sample(3)));
}

#[tokio::test]
async fn a_row_stands_in_redis_as_documented() {
    let fixture = fixture().await;
    fixture
        .appender()
        .write(&entries(&node("a"), 1..=1), at(1))
        .await
        .unwrap();
    let mut redis = fixture.redis();
    let rows: redis::Value = redis::cmd("XRANGE")
        .arg("hb:{home.a}:raw:cores")
        .arg("-")
        .arg("+")
        .query(&mut redis)
        .unwrap();
    let expected = format!(
        "{:?}",
        [(format!("{}-0", at(1)), vec!["0", "1.5", "1", "2"])]
    );
    let rows: Vec<(String, Vec<String>)> = redis::from_redis_value(rows).unwrap();
    assert_eq!(format!("{rows:?}"), expected);
    let row: Vec<(String, Vec<String>)> = redis::cmd("XRANGE")
        .arg("hb:{home.a}:raw:filesystem:/")
        .arg("-")
        .arg("+")
        .query(&mut redis)
        .unwrap();
    assert_eq!(row[0].1, ["used_percent", "40.25"]);
    let info: Vec<String> = redis::cmd("HMGET")
        .arg("hb:{home.a}:info")
        .arg(&["committed_boot", "committed_seq", "seen"])
        .query(&mut redis)
        .unwrap();
    assert_eq!(info, [BOOT.to_string(), "1".to_owned(), at(1).to_string()]);
    let left: i64 = redis::cmd("TTL")
        .arg("hb:{home.a}:raw:cpu")
        .query(&mut redis)
        .unwrap();
    assert!((2_595_590..=2_595_600).contains(&left), "{left}");
    let left: i64 = redis::cmd("TTL")
        .arg("hb:{home.a}:last")
        .query(&mut redis)
        .unwrap();
    assert!((295..=300).contains(&left), "{left}");
}

#[tokio::test]
async fn a_batch_written_twice_changes_nothing() {
    let fixture = fixture().await;
    let a = node("a");
    let batch = entries(&a, 1..=5);
    fixture.appender().write(&batch, at(5)).await.unwrap();
    let again = fixture.appender().write(&batch, at(5)).await.unwrap();
    assert_eq!((again.stored_before, again.samples, again.rows), (5, 0, 0));
    assert_eq!(again.marks.last(), Some(&(Arc::clone(&a), mark(5))));
    assert_eq!(numbers(&fixture.reader(), &a).await, [1, 2, 3, 4, 5]);
}

#[tokio::test]
async fn rows_without_their_mark_are_completed() {
    let fixture = fixture().await;
    let a = node("a");
    fixture
        .appender()
        .write(&entries(&a, 1..=5), at(5))
        .await
        .unwrap();
    // As a crash between rows and mark leaves it, with one row of sample 5 missing.
    let mut redis = fixture.redis();
    redis::cmd("HSET")
        .arg("hb:{home.a}:info")
        .arg("committed_seq")
        .arg(3)
        .exec(&mut redis)
        .unwrap();
    redis::cmd("XDEL")
        .arg("hb:{home.a}:raw:memory")
        .arg(format!("{}-0", at(5)))
        .exec(&mut redis)
        .unwrap();
    let outcome = fixture
        .appender()
        .write(&entries(&a, 4..=6), at(6))
        .await
        .unwrap();
    assert_eq!(
        (outcome.samples, outcome.duplicate_rows, outcome.late_rows),
        (3, 7, 1)
    );
    assert_eq!(numbers(&fixture.reader(), &a).await, [1, 2, 3, 4, 5, 6]);
    let memory = fixture
        .reader()
        .range(&a, "memory", 0, u64::MAX, 100)
        .await
        .unwrap();
    let times: Vec<u64> = memory.rows.iter().map(|row| row.at_ms).collect();
    assert_eq!(times, (1..=6).map(at).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_refused_row_does_not_fail_its_batch() {
    let fixture = fixture().await;
    let a = node("a");
    redis::cmd("SET")
        .arg("hb:{home.a}:raw:memory")
        .arg("mine")
        .exec(&mut fixture.redis())
        .unwrap();
    let outcome = fixture
        .appender()
        .write(&entries(&a, 1..=3), at(3))
        .await
        .unwrap();
    assert_eq!((outcome.refused_rows, outcome.rows), (3, 9));
    assert!(outcome.refusal.unwrap().contains("WRONGTYPE"));
    assert_eq!(outcome.marks, [(Arc::clone(&a), mark(3))]);
    assert_eq!(numbers(&fixture.reader(), &a).await, [1, 2, 3]);
}

#[tokio::test]
async fn streams_are_trimmed_by_the_writers_clock() {
    let mut fixture = fixture().await;
    fixture.config.retention.raw = Kept {
        seconds: 3600,
        stream_seconds: None,
    };
    let a = node("a");
    let mut appender = fixture.appender();
    let length = |fixture: &fixture::Fixture| -> u64 {
        redis::cmd("XLEN")
            .arg("hb:{home.a}:raw:cpu")
            .query(&mut fixture.redis())
            .unwrap()
    };
    // 360 rows are an hour. The samples' own times say that four hours have passed.
    appender
        .write(&entries(&a, 1..=1_500), at(1))
        .await
        .unwrap();
    assert_eq!(length(&fixture), 1_500);
    for seq in 1_501..=2_000 {
        appender.write(&[entry(&a, seq)], at(seq)).await.unwrap();
    }
    let left = length(&fixture);
    // A node of a stream, of up to 1,000 rows, goes when all of it is too old.
    assert!((360..=1_420).contains(&left), "{left}");
    assert_eq!(numbers(&fixture.reader(), &a).await.last(), Some(&2_000));
}

#[tokio::test]
async fn a_sample_under_the_writers_own_time_is_stored_once() {
    let fixture = fixture().await;
    let a = node("a");
    let mut appender = fixture.appender();
    appender.write(&entries(&a, 1..=2), at(2)).await.unwrap();
    let ahead = Entry {
        at_ms: at(3) + 77,
        own_time: true,
        ..entry(&a, 3)
    };
    let outcome = appender
        .write(&[ahead.clone(), entry(&a, 4)], at(4))
        .await
        .unwrap();
    assert_eq!((outcome.samples, outcome.late_rows), (2, 0));
    // Sent again to a writer that remembers nothing, it now gets another time.
    let again = Entry {
        at_ms: at(5) + 5,
        ..ahead
    };
    let outcome = fixture.appender().write(&[again], at(5)).await.unwrap();
    assert_eq!((outcome.stored_before, outcome.rows), (1, 0));
    assert_eq!(numbers(&fixture.reader(), &a).await, [1, 2, 3, 4]);
    // Where the stream is past that time already, the row is late and still there.
    let behind = Entry {
        at_ms: at(1) + 3,
        own_time: true,
        ..entry(&a, 5)
    };
    let outcome = appender.write(&[behind], at(5)).await.unwrap();
    assert_eq!(outcome.late_rows, 4);
    assert_eq!(numbers(&fixture.reader(), &a).await, [1, 5, 2, 3, 4]);
    assert_eq!(fixture.reader().mark(&a).await.unwrap(), Some(mark(5)));
}

#[tokio::test]
async fn samples_without_a_number_are_stored_by_time_once() {
    let fixture = fixture().await;
    let a = node("a");
    let foreign = |at_ms: u64, usage: u64| {
        let whole = sample(usage);
        let sample = Sample {
            cpu: whole.cpu,
            ts: Some(at_ms),
            ..Sample::default()
        };
        Entry {
            node: Arc::clone(&a),
            at_ms,
            own_time: false,
            sample,
            step: None,
        }
    };
    let mut appender = fixture.appender();
    let outcome = appender
        .write(
            &[
                foreign(at(3), 3),
                foreign(at(1), 1),
                foreign(at(3), 9),
                foreign(at(1), 1),
            ],
            at(3),
        )
        .await
        .unwrap();
    assert_eq!((outcome.late_rows, outcome.marks.len()), (2 * 2, 0));
    let outcome = appender
        .write(&[foreign(at(1), 8), foreign(at(3), 3)], at(3))
        .await
        .unwrap();
    assert_eq!((outcome.duplicate_rows, outcome.late_rows), (4, 0));
    assert_eq!(numbers(&fixture.reader(), &a).await, [1, 3]);
    assert_eq!(fixture.reader().mark(&a).await.unwrap(), None);
}

#[tokio::test]
async fn series_beyond_the_limit_are_refused_and_the_node_named() {
    let fixture = fixture().await;
    let a = node("a");
    let mut appender = hostbus_store::Appender::open(&fixture.config, 2).unwrap();
    let outcome = appender.write(&entries(&a, 1..=2), at(2)).await.unwrap();
    assert_eq!((outcome.excess_rows, outcome.rows), (4, 4));
    assert_eq!(outcome.excess_nodes, [a]);
}

#[tokio::test]
async fn what_does_not_continue_redis_is_not_written() {
    let fixture = fixture().await;
    let (a, b) = (node("a"), node("b"));
    let mut batch = entries(&a, 5..=6);
    batch.push(entry(&b, 1));
    let outcome = fixture.appender().write(&batch, at(6)).await.unwrap();
    assert_eq!(outcome.broken, [Arc::clone(&a)]);
    assert_eq!(outcome.marks, [(b, mark(1))]);
    assert_eq!(fixture.reader().mark(&a).await.unwrap(), None);
    let start = Entry {
        step: Some(Step {
            after: None,
            mark: mark(5),
        }),
        ..entry(&a, 5)
    };
    assert!(
        fixture
            .appender()
            .write(&[start], at(6))
            .await
            .unwrap()
            .broken
            .is_empty()
    );
}

#[tokio::test]
async fn every_sample_is_there_once_after_redis_was_killed_in_mid_stream() {
    let fixture = fixture().await;
    let nodes = [node("a"), node("b"), node("c")];
    let mut appender = fixture.appender();
    let mut settled = 0;
    for batch in 0..60_u64 {
        if batch % 20 == 10 {
            kill(fixture.process());
        }
        let seqs = batch * 10 + 1..=batch * 10 + 10;
        let samples: Vec<Entry> = nodes
            .iter()
            .flat_map(|node| entries(node, seqs.clone()))
            .collect();
        let outcome = write(&mut appender, &samples, at(600)).await;
        if !outcome.broken.is_empty() {
            // Redis lost what it had answered for but not written: only what it never called
            // settled may be gone.
            let have = fixture.reader().mark(&nodes[0]).await.unwrap().unwrap().seq;
            assert!(have >= settled, "{have} {settled}");
            let missing: Vec<Entry> = nodes
                .iter()
                .flat_map(|node| entries(node, have + 1..=*seqs.end()))
                .collect();
            assert!(
                write(&mut appender, &missing, at(600))
                    .await
                    .broken
                    .is_empty()
            );
        }
        if appender.settled().await.unwrap_or(false) {
            settled = *seqs.end();
        }
    }
    for node in &nodes {
        assert_eq!(
            numbers(&fixture.reader(), node).await,
            (1..=600).collect::<Vec<_>>()
        );
        assert_eq!(fixture.reader().mark(node).await.unwrap(), Some(mark(600)));
    }
}

#[tokio::test]
async fn another_sample_at_a_time_that_is_taken_is_kept_too() {
    let fixture = fixture().await;
    let a = node("a");
    let mut appender = fixture.appender();
    let same_time = Entry {
        at_ms: at(1),
        ..entry(&a, 2)
    };
    let outcome = appender
        .write(&[entry(&a, 1), same_time], at(2))
        .await
        .unwrap();
    // Cores and filesystem are the same in both samples: one row says as much as two.
    assert_eq!((outcome.late_rows, outcome.duplicate_rows), (2, 2));
    assert_eq!(numbers(&fixture.reader(), &a).await, [1, 2]);
}

#[tokio::test]
async fn a_write_that_arrives_after_all_is_not_repeated_under_another_time() {
    let fixture = fixture().await;
    let a = node("a");
    let mut appender = fixture.appender();
    appender.write(&entries(&a, 1..=2), at(2)).await.unwrap();
    // As a transaction from before an interruption leaves it, which we believe undone.
    redis::cmd("HSET")
        .arg("hb:{home.a}:info")
        .arg("committed_seq")
        .arg(3)
        .exec(&mut fixture.redis())
        .unwrap();
    let ahead = Entry {
        own_time: true,
        ..entry(&a, 3)
    };
    let outcome = appender.write(&[ahead], at(3)).await.unwrap();
    assert_eq!((outcome.stored_before, outcome.rows), (1, 0));
    assert_eq!(numbers(&fixture.reader(), &a).await, [1, 2]);
    assert_eq!(fixture.reader().mark(&a).await.unwrap(), Some(mark(3)));
}
