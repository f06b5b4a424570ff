//! Chaos in one run: clients of both versions publish, subscribe, die in mid-packet, take each other
//! over, share, read slowly, leave wills, and send packets that are wrong. The broker must serve all
//! the while, lose nothing that it acknowledged, double nothing with QoS 2, and give its memory back.
//!
//! `HOSTBUS_CHAOS_SECONDS` sets the length (15), `HOSTBUS_CHAOS_SEED` repeats a run as far as
//! concurrency allows. The seed is printed. In a release build the watchdog, which asks ten times a
//! second, must always be served within a second:
//!
//! ```sh
//! cargo build --release -p hostbus-broker
//! HOSTBUS_CHAOS_SECONDS=1200 cargo test --release -p hostbus-tests --test broker_chaos -- --nocapture
//! ```

#![expect(clippy::print_stdout, reason = "figures that a person wants to see")]

use std::sync::Arc;
use std::time::Duration;

use hostbus_tests::chaos::broker::Broker;
use hostbus_tests::chaos::cast::{Cast, expect_no_violations};
use hostbus_tests::chaos::retained::{Histories, inspect, keep};
use hostbus_tests::chaos::stage::{Phase, Stage};
use hostbus_tests::chaos::watchdog::watch;
use hostbus_tests::chaos::{crowd, will};
use hostbus_tests::random;
use tokio::task::JoinSet;

/// Queues so long that the policy of a full queue never has to act; sessions that soon expire.
const LIMITS: &str = "\
queue_messages = 10000000
queue_bytes = 4294967296
total_queue_bytes = 4294967296
session_expiry_max_seconds = 10
";

/// The dropped messages that there must not be.
const NEVER_DROPPED: [&str; 2] = ["queue-full", "absent-queue-full"];

/// How long the watchdog may wait. A debug build on a busy machine is slow.
const MOST_WAIT: Duration = Duration::from_secs(if cfg!(debug_assertions) { 5 } else { 1 });

/// How much more memory than before the broker may have after the storm, in KiB.
const MOST_GROWTH_KIB: u64 = 64 * 1024;

#[test]
fn chaos_loses_nothing_and_leaves_nothing_behind() {
    let seconds = random::setting("HOSTBUS_CHAOS_SECONDS", 15);
    let seed = random::setting("HOSTBUS_CHAOS_SEED", random::seed());
    println!("seed {seed}, {seconds} s");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(run(seed, Duration::from_secs(seconds)));
}

async fn run(seed: u64, length: Duration) {
    let mut broker = Broker::start(LIMITS);
    let before = broker.figures().await;
    let before_kib = broker.memory_kib();
    let stage = Arc::new(Stage::new(broker.address(), seed, false));
    let interval = Duration::from_millis(100);
    let watchdog = tokio::spawn(watch(Arc::clone(&stage), interval, MOST_WAIT));
    let cast = Cast {
        publishers: 6,
        pause_ms: 40,
        misbehaves_in: 60,
        away_ms: 1_500,
    };
    let playing = cast.enter(&stage).await;
    let histories = Arc::new(Histories::default());
    let mut others = JoinSet::new();
    for number in 0..2 {
        others.spawn(keep(Arc::clone(&stage), Arc::clone(&histories), number));
        others.spawn(will::bequeath(Arc::clone(&stage), 4_000 + number));
        others.spawn(crowd::mutate(Arc::clone(&stage), 5_000 + number));
    }
    for number in 0..4 {
        others.spawn(crowd::wander(Arc::clone(&stage), 6_000 + number));
    }
    others.spawn(crowd::storm(Arc::clone(&stage), 7_000));
    others.spawn(inspect(Arc::clone(&stage), Arc::clone(&histories)));

    let mut peak_kib = 0;
    let end = tokio::time::Instant::now() + length;
    while tokio::time::Instant::now() < end {
        tokio::time::sleep(Duration::from_secs(1)).await;
        broker.check();
        peak_kib = peak_kib.max(broker.memory_kib());
    }
    stage.begin(Phase::Settle);
    while let Some(ended) = others.join_next().await {
        ended.expect("an actor");
    }
    playing.settle(&stage).await;
    let latencies = watchdog.await.expect("the watchdog");
    broker.check();

    let (sent, answered, received) = stage.ledger().totals();
    println!("{sent} messages sent, {answered} acknowledged, {received} received");
    println!("watchdog: {latencies}");
    println!("{:#?}", stage.deeds());
    expect_no_violations(&stage);

    let after = broker
        .figures_when(
            "all clients and sessions of the storm are gone",
            |figures| {
                let level = |name: &str| figures[name] <= before[name];
                level("clients/connected") && level("clients/total") && level("subscriptions/count")
            },
        )
        .await;
    for cause in NEVER_DROPPED {
        let name = format!("publish/messages/dropped/{cause}");
        assert_eq!(after[&name], 0, "{name}");
    }
    let after_kib = broker.memory_kib();
    println!("memory before {before_kib} KiB, most {peak_kib} KiB, after {after_kib} KiB");
    assert!(
        after_kib < before_kib + MOST_GROWTH_KIB,
        "memory did not come back: {before_kib} KiB before, {after_kib} KiB after"
    );
    broker.check();
}
