//! The publisher on a real bus: mosquitto as the broker, and a client that keeps the ingester's
//! rules.

#![expect(clippy::unwrap_used, reason = "a test may panic, its helpers too")]

use std::time::{Duration, Instant};

use hostbus_client::{Connection, Message};
use hostbus_daemon::CancellationToken;
use hostbus_wire::committed::Committed;
use hostbus_wire::info::Info;
use hostbus_wire::{QoS, Sample, codec};
use tokio::time::timeout;

mod mosquitto;

use mosquitto::{Broker, DEADLINE, NODE, config, find, next_message};

fn status<'w>(wanted: &'w str) -> impl Fn(&Message) -> Option<()> + 'w {
    move |message| (message.payload == wanted).then_some(())
}

fn sample(message: &Message) -> Option<Sample> {
    Some(Sample::decode(&message.payload).unwrap())
}

#[tokio::test]
async fn a_host_shows_up_is_described_and_says_good_bye() {
    let broker = Broker::start();
    let mut watcher = broker.watch("#");
    let publisher = broker.publisher(0.1).await;
    find(&mut watcher, "status", status("online")).await;
    let info: Info = find(&mut watcher, "info", |message| {
        Some(codec::decode(&message.payload).unwrap())
    })
    .await;
    assert_eq!(info.collectors["cpu"], "on");
    let first = find(&mut watcher, "metrics", sample).await;
    assert_eq!(first.place().unwrap().seq, 1);
    assert!(
        first.cpu.unwrap().usage_percent.is_some(),
        "the first sample has rates"
    );
    let second = find(&mut watcher, "metrics", sample).await;
    assert_eq!(second.place().unwrap().seq, 2);
    assert!(second.ts > first.ts);

    // As the will of an earlier connection that the broker fires late.
    let late_will = watcher.sender();
    late_will
        .publish(format!("{NODE}/status"), QoS::AtLeastOnce, true, "offline")
        .await
        .unwrap();
    find(&mut watcher, "status", status("offline")).await;
    find(&mut watcher, "status", status("online")).await;

    let stopping = Instant::now();
    publisher.stop().await.unwrap();
    assert!(
        stopping.elapsed() < Duration::from_millis(1500),
        "{:?}",
        stopping.elapsed()
    );
    find(&mut watcher, "status", status("offline")).await;

    // Who comes later finds the last word on each.
    let mut late = broker.watch("#");
    find(&mut late, "status", |message| {
        (message.retained && message.payload == "offline").then_some(())
    })
    .await;
    let mut late = broker.watch("metrics");
    let retained = find(&mut late, "metrics", sample).await.place().unwrap();
    assert!(retained.seq >= 2);
}

#[tokio::test]
async fn a_bus_that_is_away_at_the_start_is_waited_for() {
    let mut broker = Broker::start();
    broker.kill();
    let publisher = broker.publisher(0.1).await;
    broker.restart();
    let mut watcher = broker.watch("#");
    find(&mut watcher, "status", status("online")).await;
    find(&mut watcher, "metrics", sample).await;
    publisher.stop().await.unwrap();
}

/// Takes samples as the ingester does, until it has `count` of them.
async fn ingest(connection: &mut Connection, stored: &mut Vec<u64>, count: usize) {
    let sender = connection.sender();
    let ingesting = async {
        while stored.len() < count {
            let message = next_message(connection).await;
            let place = sample(&message).unwrap().place().unwrap();
            let last = stored.last().copied().unwrap_or(0);
            let resend = place.seq > last + 1 && place.seq != place.first;
            if place.seq > last && !resend {
                stored.push(place.seq);
            }
            let seq = stored.last().copied().unwrap_or(0);
            let mark = codec::encode(&Committed {
                boot: place.boot,
                seq,
                resend,
            })
            .unwrap();
            // A mark that gets lost with the connection is told again with the next sample.
            let _ = sender
                .publish(format!("{NODE}/committed"), QoS::AtMostOnce, true, mark)
                .await;
        }
    };
    timeout(DEADLINE, ingesting).await.expect("samples arrive");
}

#[tokio::test]
async fn no_sample_is_lost_or_stored_twice_when_the_broker_is_killed() {
    let mut broker = Broker::start();
    let mut ingester = broker.watch("metrics");
    let mut stored = Vec::new();
    let publisher = broker.publisher(0.1).await;
    for rounds in 1..=3 {
        ingest(&mut ingester, &mut stored, rounds * 10).await;
        broker.kill();
        broker.restart();
    }
    ingest(&mut ingester, &mut stored, 60).await;
    assert_eq!(stored, (1..=60).collect::<Vec<_>>());
    publisher.stop().await.unwrap();
}

#[tokio::test]
async fn a_reload_changes_a_running_publisher_and_a_bad_one_does_not() {
    let broker = Broker::start();
    let mut watcher = broker.watch("metrics");
    let hourly = config(3600.0);
    let token = CancellationToken::new();
    let (publisher, handle) = hostbus_publisher::start_with_handle(hourly, broker.bus(), token)
        .await
        .unwrap();
    let first = find(&mut watcher, "metrics", sample).await;
    assert!(first.cpu.is_some());

    let mut quick = config(0.1);
    quick.collectors.cpu.enabled = false;
    let mut bad = quick.clone();
    bad.interval_seconds = 0.0;
    let error = handle.reload(&bad).unwrap_err().to_string();
    assert!(error.contains("interval_seconds"), "{error}");
    assert!(handle.beats());

    handle.reload(&quick).unwrap();
    let later = find(&mut watcher, "metrics", |message| {
        sample(message).filter(|sample| sample.place().unwrap().seq >= 4)
    })
    .await;
    assert!(later.cpu.is_none() && later.memory.is_some());
    assert!(handle.beats(), "it answered the question before");
    publisher.stop().await.unwrap();
}
