//! Inventory, status, events and fields as they stand in Redis.

mod fixture;

use fixture::{T, WriteWhole, entries, fixture, mark, node};
use hostbus_store::{Describer, StoreError, Told};
use hostbus_wire::event::{Event, Severity};
use hostbus_wire::info::Info;
use hostbus_wire::status::Status;

#[tokio::test]
async fn an_inventory_replaces_the_former_one_and_nothing_else() {
    let fixture = fixture().await;
    let a = node("a");
    let describer = Describer::open(&fixture.config).unwrap();
    fixture
        .appender()
        .write(&entries(&a, 1..=1), T)
        .await
        .unwrap();
    let mut inventory = Info {
        hostname: Some("a".to_owned()),
        machine: Some("box".to_owned()),
        cpu_cores: Some(4),
        ..Info::default()
    };
    inventory
        .collectors
        .insert("gpu".to_owned(), "off: no library".to_owned());
    describer.info(&a, &inventory, T).await.unwrap();
    describer.status(&a, Status::Online, T).await.unwrap();
    let reader = fixture.reader();
    let read = reader.info(&a).await.unwrap();
    assert_eq!(
        (read["machine"].as_str(), read["cpu_cores"].as_str()),
        ("box", "4")
    );
    assert_eq!(read["collector.gpu"], "off: no library");

    describer
        .info(
            &a,
            &Info {
                machine: None,
                ..inventory
            },
            T,
        )
        .await
        .unwrap();
    let read = reader.info(&a).await.unwrap();
    assert!(!read.contains_key("machine"));
    assert_eq!(read["status"], "online");
    assert_eq!(reader.mark(&a).await.unwrap(), Some(mark(1)));
    assert_eq!(
        reader.nodes().await.unwrap()[0].status,
        Some(Status::Online)
    );
}

#[tokio::test]
async fn a_node_that_only_spoke_is_among_the_nodes() {
    let fixture = fixture().await;
    Describer::open(&fixture.config)
        .unwrap()
        .status(&node("a"), Status::Offline, T)
        .await
        .unwrap();
    let nodes = fixture.reader().nodes().await.unwrap();
    assert_eq!(
        (nodes[0].seen_ms, nodes[0].status),
        (T, Some(Status::Offline))
    );
    assert_eq!(nodes[0].last, None);
}

#[tokio::test]
async fn an_event_stands_with_its_node_and_with_all() {
    let fixture = fixture().await;
    let event = Event {
        ts: T,
        kind: "clock-ahead".to_owned(),
        severity: Severity::Warning,
        message: "m".to_owned(),
        details: [("by_ms".to_owned(), hostbus_wire::Scalar::Integer(7))].into(),
    };
    Describer::open(&fixture.config)
        .unwrap()
        .event(&node("a"), &event)
        .await
        .unwrap();
    let read = |key: &str| -> Vec<(String, Vec<String>)> {
        redis::cmd("XRANGE")
            .arg(key)
            .arg("-")
            .arg("+")
            .query(&mut fixture.redis())
            .unwrap()
    };
    let ts = T.to_string();
    let own = [
        "ts",
        &ts,
        "kind",
        "clock-ahead",
        "severity",
        "warning",
        "message",
        "m",
        "details",
        "{\"by_ms\":7}",
    ];
    assert_eq!(read("hb:{home.a}:events")[0].1, own);
    assert_eq!(
        read("hb:events")[0].1,
        [&["node", "home.a"][..], &own].concat()
    );
}

#[tokio::test]
async fn every_field_has_its_unit_and_meaning() {
    let fixture = fixture().await;
    let describer = Describer::open(&fixture.config).unwrap();
    assert_eq!(describer.known_fields().await.unwrap(), 0);
    describer.fields().await.unwrap();
    let fields = fixture.reader().fields().await.unwrap();
    assert_eq!(fields["cpu.usage_percent"].0, "%");
    assert_eq!(
        fields["disk.read_bytes_per_second"],
        ("B/s".to_owned(), "read from the device".to_owned())
    );
    assert_eq!(fields.len(), hostbus_wire::sample::all_fields().len());
    let known = describer.known_fields().await.unwrap();
    assert_eq!(known, fields.len() as u64);
}

#[tokio::test]
async fn what_is_denied_of_one_description_costs_the_others_nothing() {
    let fixture = fixture().await;
    redis::cmd("ACL")
        .arg("SETUSER")
        .arg("default")
        .arg(&["resetkeys", "~hb:{*", "~hb:nodes"])
        .exec(&mut fixture.redis())
        .unwrap();
    let event = Event {
        ts: T,
        kind: "tested".to_owned(),
        severity: Severity::Info,
        message: "m".to_owned(),
        details: [].into(),
    };
    let inventory = Info {
        machine: Some("box".to_owned()),
        ..Info::default()
    };
    let (a, b) = (node("a"), node("b"));
    let told = [
        (&*a, Told::Status(Status::Online)),
        (&*a, Told::Event(&event)),
        (&*b, Told::Info(&inventory)),
    ];
    let describer = Describer::open(&fixture.config).unwrap();
    let refused = describer.write(&told, T).await.unwrap();
    assert!(
        matches!(refused[..], [None, Some(StoreError::Denied { .. }), None]),
        "{refused:?}"
    );
    let reader = fixture.reader();
    assert_eq!(reader.info(&a).await.unwrap()["status"], "online");
    assert_eq!(reader.info(&b).await.unwrap()["machine"], "box");
}

#[tokio::test]
async fn of_what_meets_a_full_memory_only_the_rest_is_written_again() {
    const EVENTS: usize = 40;
    let fixture = fixture().await;
    let mut redis = fixture.redis();
    let about: String = redis::cmd("INFO").arg("memory").query(&mut redis).unwrap();
    let used = about
        .lines()
        .find_map(|line| line.strip_prefix("used_memory:"));
    let used: u64 = used.unwrap().parse().unwrap();
    let mut limit = |bytes: u64| {
        redis::cmd("CONFIG")
            .arg(&["SET", "maxmemory", &bytes.to_string()])
            .exec(&mut redis)
            .unwrap();
    };
    // There is room for some of the five megabytes.
    limit(used + 2_000_000);
    let event = Event {
        ts: T,
        kind: "tested".to_owned(),
        severity: Severity::Info,
        message: "m".repeat(60_000),
        details: [].into(),
    };
    let a = node("a");
    let mut told = vec![(&*a, Told::Event(&event)); EVENTS];
    let describer = Describer::open(&fixture.config).unwrap();
    let outcomes = describer.write(&told, T).await.unwrap();
    assert!(outcomes[0].is_none());
    assert!(matches!(outcomes[EVENTS - 1], Some(StoreError::Full)));
    let mut outcomes = outcomes.iter();
    told.retain(|_| outcomes.next().unwrap().is_some());
    limit(0);
    let outcomes = describer.write(&told, T).await.unwrap();
    assert!(outcomes.iter().all(Option::is_none), "{outcomes:?}");
    for key in ["hb:{home.a}:events", "hb:events"] {
        let stand: usize = redis::cmd("XLEN").arg(key).query(&mut redis).unwrap();
        // The memory may have ended between the two entries of one event.
        assert!((EVENTS..=EVENTS + 1).contains(&stand), "{key}: {stand}");
    }
}
