//! A publisher under remote control, on a real bus: mosquitto as the broker, and a client as the
//! admin.

#![expect(clippy::unwrap_used, reason = "a test may panic, its helpers too")]

use std::time::{SystemTime, UNIX_EPOCH};

use hostbus_client::{Connection, Message, Options};
use hostbus_daemon::{CancellationToken, Running};
use hostbus_publisher::{Config, Error};
use hostbus_wire::codec::Map;
use hostbus_wire::committed::Committed;
use hostbus_wire::control::{
    CollectorDesired, Command, ConfigDesired, ConfigReported, ConfigSource, Reply,
};
use hostbus_wire::details::Details;
use hostbus_wire::event::Event;
use hostbus_wire::health::{Health, HealthState};
use hostbus_wire::info::Info;
use hostbus_wire::{QoS, Sample, Scalar, codec};
use serde::de::DeserializeOwned;

mod mosquitto;

use mosquitto::{Broker, NODE, find, find_at};

/// Publishes as QoS 1.
async fn publish(admin: &Connection, what: &str, retain: bool, payload: Vec<u8>) {
    let topic = format!("{NODE}/{what}");
    let sender = admin.sender();
    sender
        .publish(topic, QoS::AtLeastOnce, retain, payload)
        .await
        .unwrap();
}

async fn desire(admin: &Connection, desired: &ConfigDesired) {
    let payload = codec::encode(desired).unwrap();
    publish(admin, "config/desired", true, payload).await;
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::try_from(since.as_millis()).unwrap()
}

fn command(id: &str, args: &[(&str, u64)]) -> Vec<u8> {
    let args = args
        .iter()
        .map(|(key, value)| ((*key).to_owned(), Scalar::Integer(*value)));
    codec::encode(&Command {
        id: id.to_owned(),
        expires: now_ms() + 60_000,
        args: args.collect(),
    })
    .unwrap()
}

fn read<T: DeserializeOwned>(message: &Message) -> Option<T> {
    Some(codec::decode(&message.payload).unwrap())
}

fn sample(message: &Message) -> Option<Sample> {
    Some(Sample::decode(&message.payload).unwrap())
}

async fn reported(admin: &mut Connection, revision: u64) -> ConfigReported {
    let revised = |message: &Message| {
        read(message).filter(|report: &ConfigReported| report.revision == revision)
    };
    find(admin, "config/reported", revised).await
}

async fn reply(admin: &mut Connection, id: &str) -> Reply {
    find(admin, &format!("reply/{id}"), read).await
}

const HEALTH: &str = "hostbus/v1/home/_system/publisher/web1";

async fn health(watcher: &mut Connection, state: HealthState) -> Health {
    let wanted = |message: &Message| read(message).filter(|health: &Health| health.state == state);
    find_at(watcher, HEALTH, wanted).await
}

/// Somebody who sees the site's topics too.
fn watch_all(broker: &Broker) -> Connection {
    let options = Options {
        component: "watcher".to_owned(),
        filters: vec![("hostbus/#".to_owned(), QoS::AtLeastOnce)],
        will: None,
        ..Options::default()
    };
    Connection::open(&broker.bus(), options).unwrap()
}

async fn start(broker: &Broker, config: Config) -> Running<Error> {
    hostbus_publisher::start(config, broker.bus(), CancellationToken::new())
        .await
        .unwrap()
}

async fn connected(admin: &mut Connection) {
    while !matches!(admin.next().await, hostbus_client::Event::Connected) {}
}

#[tokio::test]
async fn settings_from_the_bus_are_applied_without_a_restart() {
    let broker = Broker::start();
    let mut admin = broker.watch("#");
    let publisher = broker.publisher(3600.0).await;
    let first = find(&mut admin, "metrics", sample).await;
    assert!(first.memory.is_some() && first.cpu.is_some());

    let memory = CollectorDesired {
        enabled: Some(false),
        ..CollectorDesired::default()
    };
    let desired = ConfigDesired {
        revision: 5,
        interval_ms: Some(200),
        collectors: [("memory".to_owned(), memory)].into(),
        faults: Map::new(),
    };
    desire(&admin, &desired).await;
    let report = reported(&mut admin, 5).await;
    assert_eq!(
        (report.source, report.interval_ms),
        (Some(ConfigSource::Desired), Some(200))
    );
    assert!(report.refused.is_empty() && !report.collectors["memory"] && report.collectors["cpu"]);
    let info: Info = find(&mut admin, "info", |message| {
        read(message).filter(|info: &Info| info.collectors["memory"].starts_with("off"))
    })
    .await;
    assert_eq!(info.interval_ms, Some(200));
    let changed = |message: &Message| sample(message).filter(|sample| sample.memory.is_none());
    let later = find(&mut admin, "metrics", changed).await;
    assert!(later.cpu.is_some() && later.interval_ms.unwrap() <= 200);
    assert_eq!(
        later.place().unwrap().boot,
        first.place().unwrap().boot,
        "it is the same run"
    );

    // {"revision": 6, "interval_ms": 300, "collectors": {"dsks": false}}
    let slip = b"\xa3\x68revision\x06\x6binterval_ms\x19\x01\x2c\x6acollectors\xa1\x64dsks\xf4";
    publish(&admin, "config/desired", true, slip.to_vec()).await;
    let report = reported(&mut admin, 6).await;
    let reason = "no such collector, did you mean disks?".to_owned();
    assert_eq!(
        report.refused,
        [("collectors.dsks".to_owned(), reason)].into()
    );
    assert_eq!(report.interval_ms, Some(200), "nothing of it is applied");

    publish(&admin, "config/desired", true, Vec::new()).await;
    let report = reported(&mut admin, 0).await;
    assert_eq!(
        (report.source, report.interval_ms),
        (Some(ConfigSource::File), Some(3_600_000))
    );
    publisher.stop().await.unwrap();
}

#[tokio::test]
async fn what_stands_on_the_bus_holds_after_a_restart_and_goes_with_the_topic() {
    let mut broker = Broker::start();
    let mut admin = broker.watch("#");
    connected(&mut admin).await;
    let desired = ConfigDesired {
        revision: 1,
        interval_ms: Some(300),
        ..ConfigDesired::default()
    };
    desire(&admin, &desired).await;
    let publisher = broker.publisher(3600.0).await;
    assert_eq!(reported(&mut admin, 1).await.interval_ms, Some(300));
    // This broker forgets what it retained, and the publisher waits half a minute for it.
    broker.kill();
    broker.restart();
    let report = reported(&mut admin, 0).await;
    assert_eq!(
        (report.source, report.interval_ms),
        (Some(ConfigSource::File), Some(3_600_000))
    );
    publisher.stop().await.unwrap();
}

#[tokio::test]
async fn the_traffic_stands_on_the_bus_for_as_long_as_it_is_collected() {
    let broker = Broker::start();
    let mut admin = broker.watch("#");
    connected(&mut admin).await;
    let mut config = mosquitto::config(0.2);
    // Every machine has it, and the broker's own words go over it.
    config.collectors.networks.include = vec!["lo".to_owned()];
    let publisher = start(&broker, config.clone()).await;
    let table: Details = find(&mut admin, "details/traffic", read).await;
    assert_eq!(table.columns[0], "interface");
    assert_eq!(table.rows[0][0], Scalar::Text("lo".to_owned()));

    let networks = CollectorDesired {
        enabled: Some(false),
        ..CollectorDesired::default()
    };
    let desired = ConfigDesired {
        revision: 1,
        collectors: [("networks".to_owned(), networks)].into(),
        ..ConfigDesired::default()
    };
    desire(&admin, &desired).await;
    let cleared = |message: &Message| message.payload.is_empty().then_some(());
    find(&mut admin, "details/traffic", cleared).await;
    publisher.stop().await.unwrap();

    // One that an earlier run left behind.
    let left = codec::encode(&table).unwrap();
    publish(&admin, "details/traffic", true, left).await;
    find(&mut admin, "details/traffic", read::<Details>).await;
    config.collectors.networks.enabled = false;
    let publisher = start(&broker, config).await;
    find(&mut admin, "details/traffic", cleared).await;
    publisher.stop().await.unwrap();
}

#[tokio::test]
async fn a_lease_samples_faster_and_ends() {
    let broker = Broker::start();
    let mut admin = broker.watch("#");
    let publisher = broker.publisher(3.0).await;
    find(&mut admin, "metrics", sample).await;
    publish(
        &admin,
        "command/resample",
        false,
        command("a", &[("seconds", 2)]),
    )
    .await;
    let answer = reply(&mut admin, "a").await;
    assert!(answer.ok, "{answer:?}");
    assert_eq!(answer.data["interval_ms"], Scalar::Integer(1000));
    let every = |expected: std::ops::RangeInclusive<u32>| {
        move |message: &Message| {
            let interval_ms = sample(message)?.interval_ms?;
            expected.contains(&interval_ms).then_some(())
        }
    };
    find(&mut admin, "metrics", every(1..=1000)).await;
    find(&mut admin, "metrics", every(2000..=3000)).await;
    publisher.stop().await.unwrap();
}

#[tokio::test]
async fn a_refresh_tells_all_there_is_to_know_now() {
    let broker = Broker::start();
    let mut admin = broker.watch("#");
    let publisher = broker.publisher(3600.0).await;
    let first = find(&mut admin, "metrics", sample).await.place().unwrap();
    // What it says by itself at the start is over once its health and its inventory came.
    let mut watcher = watch_all(&broker);
    health(&mut watcher, HealthState::Ok).await;
    let mut reader = broker.watch("info");
    let _: Info = find(&mut reader, "info", read).await;
    publish(&admin, "command/refresh", false, command("r", &[])).await;
    find(&mut admin, "status", |message| {
        (message.payload == "online").then_some(())
    })
    .await;
    assert!(reply(&mut admin, "r").await.ok);
    let info: Info = find(&mut reader, "info", read).await;
    assert_eq!(info.boot, Some(first.boot));
    let second = |message: &Message| sample(message).filter(|sample| sample.seq == Some(2));
    let fresh = find(&mut admin, "metrics", second).await;
    assert!(fresh.cpu.unwrap().usage_percent.is_some());
    publisher.stop().await.unwrap();
}

#[tokio::test]
async fn what_is_no_command_is_refused_by_reply() {
    let broker = Broker::start();
    let mut admin = broker.watch("#");
    connected(&mut admin).await;
    // It stands there before the publisher comes: nobody waits for it any more.
    publish(&admin, "command/refresh", true, command("old", &[])).await;
    let publisher = broker.publisher(3600.0).await;
    find(&mut admin, "metrics", sample).await;
    let mut refused = async |name: &str, id: &str, payload: Vec<u8>| {
        publish(&admin, &format!("command/{name}"), false, payload).await;
        let answer = find(&mut admin, &format!("reply/{id}"), |message| {
            assert!(!message.topic.ends_with("/old"));
            read::<Reply>(message)
        })
        .await;
        assert!(!answer.ok && answer.id == id, "{answer:?}");
        answer.error.unwrap()
    };
    let unknown = refused("reboot", "1", command("1", &[])).await;
    assert_eq!(unknown, "no such command, known are: refresh, resample");
    let unknown = refused("rotate-credential", "2", command("2", &[])).await;
    assert_eq!(unknown, "no such command, known are: refresh, resample");
    let late = codec::encode(&Command {
        id: "3".to_owned(),
        expires: now_ms() - 1000,
        args: Map::new(),
    });
    let expired = refused("refresh", "3", late.unwrap()).await;
    assert!(expired.starts_with("expired"), "{expired}");
    let wrong = refused("resample", "4", command("4", &[("seconds", 61)])).await;
    assert_eq!(wrong, "args.seconds: expected a whole number, 1 to 60");
    publisher.stop().await.unwrap();
}

#[tokio::test]
async fn two_publishers_of_one_node_both_say_so() {
    let broker = Broker::start();
    let mut watcher = watch_all(&broker);
    connected(&mut watcher).await;
    let mut statuses = broker.watch("status");
    connected(&mut statuses).await;
    let one = broker.publisher(3600.0).await;
    let first = health(&mut watcher, HealthState::Ok).await;
    assert_eq!(first.reason, None);
    assert!(first.counters.contains_key("collector_cpu_us"), "{first:?}");
    let two = broker.publisher(3600.0).await;
    for _ in 0..2 {
        let event: Event = find(&mut watcher, "events", |message| {
            read(message).filter(|event: &Event| event.kind == "node-in-use")
        })
        .await;
        assert!(event.message.contains("publisher.node"), "{event:?}");
    }
    let said = health(&mut watcher, HealthState::Degraded).await;
    assert!(said.reason.unwrap().contains("another publisher"));
    // Each once by itself, and again because of the other one, which may have said `offline`.
    for _ in 0..3 {
        let online = |message: &Message| (message.payload == "online").then_some(());
        find(&mut statuses, "status", online).await;
    }
    two.stop().await.unwrap();
    health(&mut watcher, HealthState::Stopped).await;
    one.stop().await.unwrap();
}

#[tokio::test]
async fn samples_that_are_not_taken_any_more_are_said() {
    let broker = Broker::start();
    let mut watcher = watch_all(&broker);
    let publisher = broker.publisher(0.1).await;
    let place = find(&mut watcher, "metrics", sample).await.place().unwrap();
    let mark = |boot: u64, seq: u64| {
        codec::encode(&Committed {
            boot,
            seq,
            resend: false,
        })
        .unwrap()
    };
    let (own, later) = (mark(place.boot, place.seq), mark(place.boot + 10, 1));
    publish(&watcher, "committed", true, own.clone()).await;
    publish(&watcher, "committed", true, later).await;
    let said = health(&mut watcher, HealthState::Degraded).await;
    assert!(said.reason.unwrap().contains("restart this publisher"));
    publish(&watcher, "committed", true, own).await;
    let better = |message: &Message| {
        let reason = read::<Health>(message)?.reason.unwrap_or_default();
        (!reason.contains("restart this publisher")).then_some(())
    };
    find_at(&mut watcher, HEALTH, better).await;
    publisher.stop().await.unwrap();
}

#[tokio::test]
async fn a_clean_stop_is_the_last_word_on_its_health() {
    let broker = Broker::start();
    let publisher = broker.publisher(0.1).await;
    let mut watcher = watch_all(&broker);
    find(&mut watcher, "metrics", sample).await;
    publisher.stop().await.unwrap();
    let mut late = watch_all(&broker);
    let last = find_at(&mut late, HEALTH, read::<Health>).await;
    assert_eq!(last.state, HealthState::Stopped, "{last:?}");
    assert!(last.counters["samples_taken"] > 0, "{last:?}");
}
