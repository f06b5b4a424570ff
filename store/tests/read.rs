//! Reading back: pages, late rows in their place, rows that are none.

mod fixture;

use fixture::{at, entries, entry, fixture, node, numbers};
use hostbus_store::Entry;

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
