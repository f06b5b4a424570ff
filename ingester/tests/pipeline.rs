//! From the bus into Redis, against mosquitto and redis-server.

mod fixture;

use std::process::Command;
use std::time::{Duration, Instant};

use fixture::{kill, numbers, site, until};
use hostbus_wire::event::Event;
use hostbus_wire::health::HealthState;
use hostbus_wire::{Sample, Scalar, decode, encode};

const HEALTH: &str = "hostbus/v1/home/_system/ingester/main";
const SOON: Duration = Duration::from_secs(10);

#[tokio::test]
async fn samples_are_stored_in_order_and_confirmed() {
    let site = site().await;
    let ingester = site.ingester().await;
    let mut publisher = site.publisher("a", 5).await;
    for _ in 0..50 {
        publisher.sample();
    }
    publisher.flush().await;
    assert_eq!(site.stored(&publisher.node).await, numbers(5, 1..=50));
    assert_eq!(publisher.held(), 0);
    // Another run of the publisher goes on behind it.
    let mut again = site.publisher("a", 6).await;
    again.sample();
    again.flush().await;
    assert_eq!(site.stored(&again.node).await.last(), Some(&600_001));
    let fields = site.reader().fields().await.unwrap();
    assert!(fields.contains_key("cpu.load1"));
    ingester.stop().await.unwrap();
}

#[tokio::test]
async fn a_gap_is_asked_for_and_filled() {
    let site = site().await;
    let _ingester = site.ingester().await;
    let mut publisher = site.publisher("a", 5).await;
    publisher.sample();
    publisher.flush().await;
    // Samples 2 and 3 are lost on the way.
    publisher.sample();
    publisher.sample();
    let mut beyond = publisher.sample().clone();
    beyond.first = Some(2);
    assert!(publisher.publish(&beyond).await);
    let mark = publisher.mark(SOON).await.unwrap();
    assert_eq!((mark.boot, mark.seq, mark.resend), (5, 1, true));
    publisher.flush().await;
    assert_eq!(site.stored(&publisher.node).await, numbers(5, 1..=4));
}

#[tokio::test]
async fn a_new_node_beyond_its_first_sample_is_asked_to_begin_there() {
    let site = site().await;
    let _ingester = site.ingester().await;
    let mut publisher = site.publisher("a", 5).await;
    publisher.sample();
    let mut beyond = publisher.sample().clone();
    beyond.first = Some(1);
    publisher.publish(&beyond).await;
    let mark = publisher.mark(SOON).await.unwrap();
    assert_eq!((mark.boot, mark.seq, mark.resend), (5, 0, true));
}

#[tokio::test]
async fn a_duplicate_is_answered_with_the_mark() {
    let site = site().await;
    let _ingester = site.ingester().await;
    let mut publisher = site.publisher("a", 5).await;
    let mut sample = publisher.sample().clone();
    publisher.flush().await;
    sample.first = Some(1);
    publisher.publish(&sample).await;
    let mark = publisher.mark(SOON).await.unwrap();
    assert_eq!((mark.boot, mark.seq, mark.resend), (5, 1, false));
    assert_eq!(site.stored(&publisher.node).await, numbers(5, 1..=1));
}

#[tokio::test]
async fn every_sample_is_there_once_after_the_ingester_was_killed() {
    let site = site().await;
    let mut program = site.program();
    let mut publisher = site.publisher("a", 5).await;
    for round in 0..30 {
        for _ in 0..20 {
            publisher.sample();
        }
        publisher.send().await;
        publisher.mark(Duration::from_millis(60)).await;
        if round % 10 == 5 {
            program.kill().unwrap();
            program.wait().unwrap();
            program = site.program();
        }
    }
    publisher.flush().await;
    program.kill().unwrap();
    program.wait().unwrap();
    assert_eq!(site.stored(&publisher.node).await, numbers(5, 1..=600));
}

#[tokio::test]
async fn every_sample_is_there_once_after_redis_was_killed() {
    let site = site().await;
    let _ingester = site.ingester().await;
    let mut publisher = site.publisher("a", 5).await;
    for round in 0..30 {
        for _ in 0..20 {
            publisher.sample();
        }
        publisher.send().await;
        publisher.mark(Duration::from_millis(60)).await;
        if round % 10 == 5 {
            kill(site.redis_process());
            until("redis is back", async || {
                site.reader().nodes().await.is_ok()
            })
            .await;
        }
    }
    publisher.flush().await;
    assert_eq!(site.stored(&publisher.node).await, numbers(5, 1..=600));
}

#[tokio::test]
async fn samples_wait_while_redis_is_away_and_the_bus_stays_served() {
    let mut site = site().await;
    let mut health = site.listen(HEALTH).await;
    site.stop_redis().await;
    let ingester = site.ingester().await;
    let degraded = health
        .health(|health| health.state == HealthState::Degraded)
        .await;
    assert_eq!(degraded.reason.as_deref(), Some("redis is away"));
    let mut publisher = site.publisher("a", 5).await;
    for _ in 0..300 {
        publisher.sample();
        publisher.send().await;
    }
    assert_eq!(publisher.mark(Duration::from_millis(300)).await, None);
    site.start_redis().await;
    // Nobody sends anything: it asks by itself for what it refused.
    let mark = publisher.mark(SOON).await.unwrap();
    assert!(mark.resend && mark.seq < 300, "{mark:?}");
    publisher.flush().await;
    assert_eq!(site.stored(&publisher.node).await, numbers(5, 1..=300));
    health
        .health(|health| health.state == HealthState::Ok)
        .await;
    ingester.stop().await.unwrap();
}

#[tokio::test]
async fn it_stops_in_time_without_redis() {
    let mut site = site().await;
    let mut health = site.listen(HEALTH).await;
    let ingester = site.ingester().await;
    let mut publisher = site.publisher("a", 5).await;
    publisher.sample();
    publisher.flush().await;
    site.stop_redis().await;
    publisher.sample();
    publisher.send().await;
    health
        .health(|health| health.state == HealthState::Degraded)
        .await;
    let begun = Instant::now();
    ingester.stop().await.unwrap();
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(3), "{took:?}");
    health
        .health(|health| health.state == HealthState::Stopped)
        .await;
}

#[tokio::test]
async fn hostile_payloads_are_counted_and_the_next_good_sample_is_stored() {
    let site = site().await;
    let ingester = site.ingester().await;
    let mut health = site.listen(HEALTH).await;
    health
        .health(|health| health.state == HealthState::Ok)
        .await;
    let hostile: [&[u8]; 6] = [
        b"\xff",
        b"\x9f\x01\xff",
        b"{\"cpu\": 1}",
        b"\xa2\x61a\x01\x61a\x01",
        b"\xa1\x63cpu\xa1\x65load1\xf9\x7e\x00",
        b"\xa1\x61v\x09",
    ];
    for payload in hostile {
        health.publish("hostbus/v1/home/a/metrics", payload).await;
    }
    health.publish("hostbus/v1/home/a/status", b"perhaps").await;
    health.publish("hostbus/v1/home/a/info", b"\x00").await;
    health
        .publish("hostbus/v1/home/NODE/metrics", b"\xa0")
        .await;
    let mut publisher = site.publisher("a", 5).await;
    publisher.sample();
    publisher.flush().await;
    ingester.stop().await.unwrap();
    let health = health
        .health(|health| health.state == HealthState::Stopped)
        .await;
    assert_eq!(health.counters["refused_payloads"], 8);
    assert_eq!(health.counters["refused_topics"], 1);
    assert_eq!(health.counters["samples"], 1);
}

#[tokio::test]
async fn an_emptied_redis_is_told_again_what_stands_there_once() {
    let site = site().await;
    let ingester = site.ingester().await;
    let bus = site.listen("nothing").await;
    let status = "hostbus/v1/home/a/status";
    bus.publish_retained(status, b"online").await;
    let node = "home.a".parse().unwrap();
    let reader = site.reader();
    let stands = async || {
        let info = reader.info(&node).await.unwrap();
        info.contains_key("status") && !reader.fields().await.unwrap().is_empty()
    };
    until("status and fields stand there", stands).await;
    site.empty_redis();
    until("they stand there again", stands).await;
    ingester.stop().await.unwrap();
}

#[tokio::test]
async fn a_state_that_found_no_room_while_redis_was_away_stands_there_after_all() {
    let mut site = site().await;
    site.stop_redis().await;
    let config = hostbus_ingester::Config {
        queue_bytes: 1024 * 1024,
        ..hostbus_ingester::Config::default()
    };
    let ingester = site.ingester_with(config).await;
    let mut bus = site.listen(HEALTH).await;
    bus.health(|health| health.reason.as_deref() == Some("redis is away"))
        .await;
    // More than half a megabyte takes, by what each weighs.
    for _ in 0..1_100 {
        bus.publish("hostbus/v1/home/b/status", b"offline").await;
    }
    bus.publish_retained("hostbus/v1/home/a/status", b"online")
        .await;
    bus.health(|health| health.counters["messages"] > 1_100)
        .await;
    site.start_redis().await;
    let node = "home.a".parse().unwrap();
    let reader = site.reader();
    until("the status stands there", async || {
        let info = reader.info(&node).await;
        info.is_ok_and(|info| info.contains_key("status"))
    })
    .await;
    ingester.stop().await.unwrap();
}

#[tokio::test]
async fn a_sample_far_ahead_is_stored_under_our_time_with_one_event() {
    let site = site().await;
    let _ingester = site.ingester().await;
    let mut events = site.listen("hostbus/v1/home/a/events").await;
    let mut publisher = site.publisher("a", 5).await;
    let now_ms = hostbus_daemon::clock::unix_ms();
    for _ in 0..3 {
        publisher.sample().ts = Some(now_ms + 3_600_000);
    }
    publisher.flush().await;
    let event: Event = decode(&events.next().await.payload).unwrap();
    assert_eq!(event.kind, "clock-ahead");
    assert!(matches!(
        event.details["ahead_ms"],
        Scalar::Integer(3_590_000..=3_600_000)
    ));
    let range = site
        .reader()
        .range(&publisher.node, "cpu", 0, u64::MAX, 10)
        .await
        .unwrap();
    assert_eq!(site.stored(&publisher.node).await, numbers(5, 1..=3));
    assert!(
        range
            .rows
            .iter()
            .all(|row| (now_ms..now_ms + 60_000).contains(&row.at_ms))
    );
    publisher.sample().ts = Some(now_ms + 30_000);
    publisher.flush().await;
    let client = redis::Client::open(site.store.url.as_deref().unwrap()).unwrap();
    let mut redis = client.get_connection().unwrap();
    until("the event is stored, once", async || {
        redis::cmd("XLEN")
            .arg("hb:{home.a}:events")
            .query::<u64>(&mut redis)
            .unwrap()
            == 1
    })
    .await;
}

#[tokio::test]
async fn a_foreign_sample_is_stored_by_its_time_or_by_its_arrival() {
    let site = site().await;
    let ingester = site.ingester().await;
    let mut health = site.listen(HEALTH).await;
    health
        .health(|health| health.state == HealthState::Ok)
        .await;
    let now_ms = hostbus_daemon::clock::unix_ms();
    let mut sample = Sample::default();
    let mut cpu = hostbus_wire::sample::Cpu::new();
    cpu.load1 = Some(1.0);
    sample.cpu = Some(cpu);
    health
        .publish("hostbus/v1/home/a/metrics", &encode(&sample).unwrap())
        .await;
    for before_ms in [1_000, 1_500, 1_000] {
        sample.ts = Some(now_ms - before_ms);
        health
            .publish("hostbus/v1/home/a/metrics", &encode(&sample).unwrap())
            .await;
    }
    let node = "home.a".parse().unwrap();
    until("three rows are stored", async || {
        site.stored(&node).await.len() == 3
    })
    .await;
    ingester.stop().await.unwrap();
    let range = site
        .reader()
        .range(&node, "cpu", 0, u64::MAX, 10)
        .await
        .unwrap();
    let times: Vec<u64> = range.rows.iter().map(|row| row.at_ms).collect();
    assert_eq!(times[..2], [now_ms - 1_500, now_ms - 1_000]);
    assert!(times[2] >= now_ms);
}

#[tokio::test]
async fn a_foreign_retained_sample_is_stored_only_if_its_own_time_can_be() {
    let site = site().await;
    let mut health = site.listen(HEALTH).await;
    let now_ms = hostbus_daemon::clock::unix_ms();
    let retained = [
        ("untimed", None),
        ("ahead", Some(now_ms + 3_600_000)),
        ("timed", Some(now_ms - 1_000)),
    ];
    for (node, ts) in retained {
        let mut cpu = hostbus_wire::sample::Cpu::new();
        cpu.load1 = Some(1.0);
        let sample = Sample {
            ts,
            cpu: Some(cpu),
            ..Sample::default()
        };
        let topic = format!("hostbus/v1/home/{node}/metrics");
        health
            .publish_retained(&topic, &encode(&sample).unwrap())
            .await;
    }
    // Each start subscribes anew, and is told all of them again.
    for _ in 0..2 {
        let ingester = site.ingester().await;
        health
            .health(|health| health.counters.get("messages") >= Some(&3))
            .await;
        ingester.stop().await.unwrap();
        let health = health
            .health(|health| health.state == HealthState::Stopped)
            .await;
        assert_eq!(health.counters["refused_retained"], 2);
    }
    for (node, rows) in [("untimed", 0), ("ahead", 0), ("timed", 1)] {
        let node = format!("home.{node}").parse().unwrap();
        assert_eq!(site.stored(&node).await.len(), rows, "{node}");
    }
}

#[tokio::test]
async fn what_was_accepted_is_written_and_confirmed_at_a_stop() {
    let site = site().await;
    let ingester = site.ingester().await;
    let mut publisher = site.publisher("a", 5).await;
    publisher.sample();
    publisher.flush().await;
    for _ in 0..500 {
        publisher.sample();
    }
    publisher.send().await;
    let begun = Instant::now();
    ingester.stop().await.unwrap();
    assert!(
        begun.elapsed() < Duration::from_secs(2),
        "{:?}",
        begun.elapsed()
    );
    let mark = site.reader().mark(&publisher.node).await.unwrap().unwrap();
    let stored = site.stored(&publisher.node).await;
    assert_eq!(stored, numbers(5, 1..=mark.seq));
    let mut told = 1;
    while let Some(mark) = publisher.mark(Duration::from_millis(300)).await {
        told = mark.seq;
    }
    assert_eq!(told, mark.seq);
}

#[tokio::test]
async fn a_wiped_redis_is_filled_from_what_the_publishers_still_hold() {
    let site = site().await;
    let ingester = site.ingester().await;
    let mut publisher = site.publisher("a", 5).await;
    for _ in 0..5 {
        publisher.sample();
    }
    publisher.flush().await;
    ingester.stop().await.unwrap();
    let client = redis::Client::open(site.store.url.as_deref().unwrap()).unwrap();
    redis::cmd("FLUSHALL")
        .exec(&mut client.get_connection().unwrap())
        .unwrap();
    let _ingester = site.ingester().await;
    for _ in 0..5 {
        publisher.sample();
    }
    publisher.flush().await;
    assert_eq!(site.stored(&publisher.node).await, numbers(5, 6..=10));
}

#[test]
fn wrong_settings_end_the_program_with_a_sentence() {
    let check = |arguments: &[&str], expected: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_hostbus-ingester"))
            .args(arguments)
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{told}");
        assert!(told.contains(expected), "{told}");
    };
    check(&[], "redis.url is not set");
    check(&["--redis", "http://x"], "redis.url");
    check(&["--redis", "redis://127.0.0.1:1", "--url", "x"], "bus.url");
    check(&["--config", "/nonexistent.toml"], "/nonexistent.toml");
    check(&["--nonsense"], "--nonsense");
}
