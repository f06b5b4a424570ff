//! The keeper beside the samples' way: what is in Redis is brought in order while the ingester runs.

#![expect(clippy::unwrap_used, reason = "what is not there fails the test")]

mod fixture;

use fixture::{site, until};
use hostbus_daemon::clock;
use redis::Connection;

const HOUR_MS: u64 = 3_600_000;

/// Writes four hours of rows of one series, which began five hours ago.
fn write(redis: &mut Connection) -> u64 {
    let begin_ms = (clock::unix_ms() - 5 * HOUR_MS).next_multiple_of(HOUR_MS);
    let mut rows = redis::pipe();
    for at_ms in (begin_ms..begin_ms + 4 * HOUR_MS).step_by(10_000) {
        rows.cmd("XADD")
            .arg("hb:{home.a}:raw:cpu")
            .arg(format!("{at_ms}-0"));
        rows.arg("load1").arg("0.5").ignore();
    }
    rows.cmd("SADD")
        .arg("hb:{home.a}:series")
        .arg("cpu")
        .ignore();
    rows.cmd("ZADD")
        .arg("hb:nodes")
        .arg(begin_ms)
        .arg("home.a")
        .ignore();
    rows.query::<()>(redis).unwrap();
    begin_ms
}

fn ask(redis: &mut Connection, command: &str, key: &str) -> u64 {
    redis::cmd(command).arg(key).query(redis).unwrap()
}

#[tokio::test]
async fn rows_are_summed_up_and_packed_and_told_in_the_health() {
    let mut site = site().await;
    let open = |site: &fixture::Site| {
        let client = redis::Client::open(site.store.url.as_deref().unwrap()).unwrap();
        client.get_connection().unwrap()
    };
    write(&mut open(&site));
    // Redis comes back while the keeper waits for it.
    site.stop_redis().await;
    let ingester = site.ingester().await;
    let mut listener = site.listen("hostbus/v1/home/_system/ingester/main").await;
    listener
        .health(|health| health.reason.as_deref() == Some("redis is away"))
        .await;
    site.start_redis().await;
    let mut redis = open(&site);
    until("the block of the first hour", async || {
        ask(&mut redis, "HLEN", "hb:{home.a}:packed:raw:cpu") > 0
    })
    .await;
    assert!(ask(&mut redis, "XLEN", "hb:{home.a}:raw:cpu") < 4 * 360);
    assert_eq!(ask(&mut redis, "XLEN", "hb:{home.a}:1m:cpu"), 4 * 60 - 1);
    assert_eq!(ask(&mut redis, "XLEN", "hb:{home.a}:10m:cpu"), 4 * 6 - 1);
    assert_eq!(ask(&mut redis, "XLEN", "hb:{home.a}:1h:cpu"), 3);
    let health = listener
        .health(|health| health.counters["keeper_packed_blocks"] > 0)
        .await;
    assert_eq!(health.counters["keeper_rolled_up_rows"], 239 + 23 + 3);
    assert_eq!(health.counters["keeper_refused"], 0);
    ingester.stop().await.unwrap();
}
