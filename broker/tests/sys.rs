//! What the broker tells on the bus about itself: below `$SYS` and in `_system`.

#![expect(clippy::unwrap_used, reason = "test code")]

mod raw;
mod scrape;

use std::collections::{BTreeMap, BTreeSet};

use hostbus_wire::decode;
use hostbus_wire::health::{Health, HealthState};
use raw::{Client, broker, connect};
use scrape::measured;

const HEALTH: &str = "hostbus/v1/home/_system/broker/main";

/// What mosquitto 2.0 publishes, and what we have besides, both below `$SYS/broker/`.
const CUSTOMARY: [&str; 31] = [
    "bytes/received",
    "bytes/sent",
    "clients/active",
    "clients/connected",
    "clients/disconnected",
    "clients/expired",
    "clients/inactive",
    "clients/maximum",
    "clients/rests",
    "clients/total",
    "heap/current",
    "heap/maximum",
    "messages/received",
    "messages/sent",
    "messages/stored",
    "publish/bytes/received",
    "publish/bytes/sent",
    "publish/messages/dropped",
    "publish/messages/received",
    "publish/messages/sent",
    "queued/bytes",
    "queued/messages",
    "retained messages/count",
    "shared_subscriptions/count",
    "store/messages/bytes",
    "store/messages/count",
    "subscriptions/count",
    "uptime",
    "version",
    // Not mosquitto's:
    "connects/refused",
    "publish/messages/refused",
];
const CAUSES: [&str; 5] = [
    "queue-full",
    "absent-queue-full",
    "expired",
    "too-large",
    "retained-full",
];
const LOADS: [&str; 9] = [
    "bytes/received",
    "bytes/sent",
    "connections",
    "messages/received",
    "messages/sent",
    "publish/dropped",
    "publish/received",
    "publish/sent",
    "sockets",
];

const REFUSALS: [&str; 7] = [
    "full",
    "crowded",
    "too-often",
    "too-slow",
    "proxy",
    "tls",
    "websocket",
];

fn customary() -> BTreeSet<String> {
    let own = CUSTOMARY.map(str::to_owned);
    let causes = CAUSES.map(|cause| format!("publish/messages/dropped/{cause}"));
    let refusals = REFUSALS.map(|cause| format!("connections/refused/{cause}"));
    let loads = LOADS
        .iter()
        .flat_map(|load| ["1min", "5min", "15min"].map(|span| format!("load/{load}/{span}")));
    own.into_iter()
        .chain(causes)
        .chain(refusals)
        .chain(loads)
        .collect()
}

fn is_well_formed(topic: &str, text: &str) -> bool {
    let whole = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    match topic {
        "version" => text.starts_with("hostbus-broker "),
        "uptime" => text.strip_suffix(" seconds").is_some_and(whole),
        _ if topic.starts_with("load/") => text
            .split_once('.')
            .is_some_and(|(whole_part, rest)| whole(whole_part) && rest.len() == 2 && whole(rest)),
        _ => whole(text),
    }
}

#[tokio::test]
async fn sys_has_the_customary_topics_and_tells_what_changed() {
    let (broker, _) = measured(|config| config.sys_interval_seconds = 1).await;
    let mut viewer = connect(4, "v", "viewer").go(&broker).await;
    assert_eq!(viewer.subscribe("$SYS/#", 0).await, 0);
    let mut told: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut retained = BTreeSet::new();
    while told.get("uptime").is_none_or(|told| told.len() < 4) {
        let message = viewer.message().await;
        let topic = message.topic.strip_prefix("$SYS/broker/").unwrap();
        assert!(is_well_formed(topic, &message.payload), "{message:?}");
        if message.first & 1 == 1 {
            assert!(retained.insert(topic.to_owned()), "{message:?}");
        }
        told.entry(topic.to_owned())
            .or_default()
            .push(message.payload);
    }
    assert_eq!(retained, customary());
    for (topic, values) in &told {
        // The retained one may be told once more where the subscription came in between.
        let repeated = values.windows(2).skip(1).filter(|two| two[0] == two[1]);
        assert_eq!(repeated.count(), 0, "{topic}: {values:?}");
    }
    assert!(
        told["version"].len() <= 2 && told["clients/expired"].len() <= 2,
        "{told:?}"
    );
    assert_eq!(told["clients/connected"].last().unwrap(), "1");
    assert_eq!(told["clients/total"].last().unwrap(), "1");
    assert_eq!(told["clients/maximum"].last().unwrap(), "1");
    assert_eq!(told["subscriptions/count"].last().unwrap(), "1");
    let bytes: f64 = told["load/bytes/sent/1min"]
        .last()
        .unwrap()
        .parse()
        .unwrap();
    assert!(bytes > 0.0);
}

#[tokio::test]
async fn what_was_not_retained_is_told_again() {
    let broker = broker(|config| {
        config.sys_interval_seconds = 1;
        config.limits.retained_messages = 3;
    })
    .await;
    let mut viewer = connect(4, "v", "viewer").go(&broker).await;
    viewer.subscribe("$SYS/broker/clients/expired", 0).await;
    for _ in 0..2 {
        let message = viewer.message().await;
        assert_eq!((message.first & 1, message.payload.as_str()), (0, "0"));
    }
}

async fn health(client: &mut Client) -> Health {
    loop {
        let (first, body) = client.frame().await.expect("a message");
        if first >> 4 == 3 {
            let (topic, rest) = body[2..].split_at(HEALTH.len());
            assert_eq!(topic, HEALTH.as_bytes());
            // In 5.0 the empty properties come first.
            let properties = usize::from(client.level == 5);
            return decode(&rest[properties..]).unwrap();
        }
    }
}

#[tokio::test]
async fn health_stands_in_system_until_the_broker_says_goodbye() {
    let (broker, metrics) = measured(|config| {
        config.sys_interval_seconds = 1;
        config.limits.max_connections = 3;
    })
    .await;
    let mut viewer = connect(4, "v", "viewer").go(&broker).await;
    assert_eq!(viewer.subscribe(HEALTH, 0).await, 0);
    let first = health(&mut viewer).await;
    assert_eq!((first.state, first.reason), (HealthState::Ok, None));
    assert_eq!(first.version, env!("CARGO_PKG_VERSION"));
    let mut admin = connect(4, "a", "admin").go(&broker).await;
    for _ in 0..3 {
        admin.publish_acked(0, "t", "x").await;
    }
    let later = loop {
        let health = health(&mut viewer).await;
        if health.counters["clients_connected"] == 2 {
            break health;
        }
    };
    assert!(later.ts > first.ts);
    assert_eq!(later.counters["messages_received"], 3);
    assert_eq!(later.counters["messages_dropped_queue_full"], 0);
    assert_eq!(later.counters["connects_accepted"], 2);
    // The same figures under the same names as for Prometheus.
    let scraped: BTreeSet<String> = scrape::figures(metrics)
        .await
        .into_keys()
        .filter_map(|name| {
            let name = name.strip_prefix("hostbus_broker_")?;
            let name = name.replace("_total{cause=\"", "_").replace("\"}", "");
            Some(name.strip_suffix("_total").unwrap_or(&name).to_owned())
        })
        .filter(|name| !name.starts_with("matching_") && !name.starts_with("info{"))
        .collect();
    let counters = later.counters.into_keys();
    let counters: BTreeSet<String> = counters.filter(|n| !n.starts_with("matching_")).collect();
    assert_eq!(counters, scraped);

    let third = connect(4, "b", "admin").go(&broker).await;
    let full = loop {
        let health = health(&mut viewer).await;
        if health.state != HealthState::Ok {
            break health;
        }
    };
    assert_eq!(full.state, HealthState::Degraded);
    assert_eq!(full.reason.as_deref(), Some("all 3 connections are in use"));
    third.goodbye().await;
    let (stopped, _) = tokio::join!(
        async {
            loop {
                let health = health(&mut viewer).await;
                if health.state == HealthState::Stopped {
                    return health;
                }
            }
        },
        broker.running.stop(),
    );
    assert_eq!(stopped.reason, None);
}

#[tokio::test]
async fn who_reads_metrics_reads_the_figures_and_nobody_else() {
    let (broker, _) = measured(|_| {}).await;
    for user in ["viewer", "operator", "ingester", "admin"] {
        let mut reader = connect(5, "r", user).go(&broker).await;
        assert_eq!(reader.subscribe("$SYS/broker/uptime", 0).await, 0, "{user}");
        assert_eq!(reader.message().await.topic, "$SYS/broker/uptime", "{user}");
        assert_eq!(reader.subscribe(HEALTH, 0).await, 0, "{user}");
        assert_eq!(health(&mut reader).await.state, HealthState::Ok, "{user}");
        assert_eq!(
            reader.publish_acked(0, "$SYS/broker/uptime", "x").await,
            0x87
        );
    }
    let mut publisher = connect(5, "p", "web1").go(&broker).await;
    for filter in ["$SYS/#", "$SYS/broker/uptime", HEALTH] {
        assert_eq!(publisher.subscribe(filter, 0).await, 0x87, "{filter}");
    }
    assert_eq!(publisher.publish_acked(1, HEALTH, "x").await, 0x87);
    publisher.subscribe("#", 0).await;
    publisher.nothing_waits().await;
}

#[tokio::test]
async fn an_interval_of_0_publishes_nothing() {
    let broker = broker(|_| {}).await;
    let mut admin = connect(4, "a", "admin").go(&broker).await;
    for filter in ["$SYS/#", "#"] {
        admin.subscribe(filter, 0).await;
    }
    admin.nothing_waits().await;
    let (told, _) = tokio::join!(admin.frame(), broker.running.stop());
    assert_eq!(told, None);
}
