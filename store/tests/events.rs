//! Events and the log of alerts, read back by time.

#![expect(clippy::unwrap_used, reason = "what is not there fails the test")]

mod fixture;

use fixture::{fixture, node};
use hostbus_store::{AlertLog, Log, Order, Reader, Record, Records, Transition};

fn add(redis: &mut redis::Connection, key: &str, at_ms: u64, kind: &str) {
    let mut add = redis::cmd("XADD");
    // Of one time each comes after those before it.
    let seq: u64 = redis::cmd("XLEN").arg(key).query(redis).unwrap();
    let id = format!("{at_ms}-{}", seq + 1);
    add.arg(key).arg(id).arg("kind").arg(kind);
    add.exec(redis).unwrap();
}

fn kinds(records: &[Record]) -> Vec<&str> {
    records
        .iter()
        .map(|record| &*record.fields["kind"])
        .collect()
}

/// All kinds within a range, page by page.
async fn paged(reader: &Reader, log: Log<'_>, order: Order, range: (u64, u64)) -> Vec<String> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let Records { records, next, .. } = reader
            .records(log, order, range, after.as_deref(), 2)
            .await
            .unwrap();
        all.extend(kinds(&records).iter().map(|&kind| kind.to_owned()));
        after = next;
        if after.is_none() {
            return all;
        }
    }
}

#[tokio::test]
async fn records_are_read_by_time_in_pages_from_either_end() {
    let fixture = fixture().await;
    let (a, mut redis) = (node("a"), fixture.redis());
    for (at_ms, kind) in [
        (10, "one"),
        (20, "two"),
        (20, "three"),
        (30, "four"),
        (40, "five"),
    ] {
        for key in ["hb:{home.a}:events", "hb:alerts:log"] {
            add(&mut redis, key, at_ms, kind);
        }
    }
    add(&mut redis, "hb:events", 25, "other");
    let reader = fixture.reader();
    for log in [Log::Events(&a), Log::Alerts] {
        let oldest = paged(&reader, log, Order::Oldest, (20, 40)).await;
        assert_eq!(oldest, ["two", "three", "four", "five"]);
        let newest = paged(&reader, log, Order::Newest, (10, 30)).await;
        assert_eq!(newest, ["four", "three", "two", "one"]);
    }
    assert_eq!(
        paged(&reader, Log::AllEvents, Order::Newest, (0, 100)).await,
        ["other"]
    );
    let b = node("b");
    assert!(
        paged(&reader, Log::Events(&b), Order::Oldest, (0, 100))
            .await
            .is_empty()
    );
}

#[tokio::test]
async fn what_is_no_record_is_counted() {
    let fixture = fixture().await;
    let mut redis = fixture.redis();
    let mut odd = redis::cmd("XADD");
    odd.arg("hb:events")
        .arg("5-0")
        .arg("kind")
        .arg(&b"\xff"[..]);
    odd.exec(&mut redis).unwrap();
    add(&mut redis, "hb:events", 7, "good");
    let page = fixture
        .reader()
        .records(Log::AllEvents, Order::Oldest, (0, 100), None, 10)
        .await
        .unwrap();
    assert_eq!((kinds(&page.records), page.malformed), (vec!["good"], 1));
    assert_eq!((page.records[0].at_ms, page.next), (7, None));
}

#[tokio::test]
async fn a_transition_that_is_heard_again_is_logged_once() {
    let fixture = fixture().await;
    let entry = |kind, ts, channel: &str| Transition {
        ts,
        node: "home.a".to_owned(),
        rule: "disk-full".to_owned(),
        instance: "/".to_owned(),
        kind,
        severity: "critical",
        channel: channel.to_owned(),
        ..Transition::default()
    };
    let mut log = AlertLog::open(&fixture.config).unwrap();
    for (kind, ts, channel, added) in [
        ("firing", 1, "", true),
        ("firing", 1, "", false),
        ("told-firing", 2, "mail", true),
        ("told-firing", 2, "chat", true),
        ("firing", 1, "", false),
        ("acknowledged", 3, "", true),
        ("resolved", 4, "", true),
        ("acknowledged", 3, "", false),
        ("firing", 5, "", true),
    ] {
        let entry = entry(kind, ts, channel);
        assert_eq!(log.append(&entry, false).await.unwrap(), added, "{entry:?}");
    }
    // A later run knows it from the log itself.
    let mut log = AlertLog::open(&fixture.config).unwrap();
    assert!(!log.append(&entry("firing", 5, ""), false).await.unwrap());
    assert!(
        !log.append(&entry("told-firing", 2, "mail"), false)
            .await
            .unwrap()
    );
    // What its author gave no time is heard again at a later one.
    assert!(!log.append(&entry("firing", 9, ""), true).await.unwrap());
    assert!(log.append(&entry("resolved", 6, ""), true).await.unwrap());
    // Between the two it was something else, which nobody heard.
    assert!(log.append(&entry("resolved", 7, ""), false).await.unwrap());
    let reader = fixture.reader();
    let all = paged(&reader, Log::Alerts, Order::Oldest, (0, u64::MAX)).await;
    let expected = "firing told-firing told-firing acknowledged resolved firing resolved resolved";
    assert_eq!(all.join(" "), expected);
}
