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

#[tokio::test]
async fn while_redis_is_full_each_series_makes_what_room_it_can() {
    let mut site = site().await;
    let client = redis::Client::open(site.store.url.as_deref().unwrap()).unwrap();
    let mut redis = client.get_connection().unwrap();
    let now_ms = clock::unix_ms();
    // Old rows, and new ones that are to be summed up: there is no room for that.
    for node in ["home.a", "home.b", "home.c"] {
        let mut rows = redis::pipe();
        for at_ms in [now_ms - 90_000 * 1_000, now_ms - 300_000, now_ms - 60_000] {
            let key = format!("hb:{{{node}}}:raw:cpu");
            rows.cmd("XADD").arg(key).arg(at_ms).arg(&["load1", "0.5"]);
        }
        rows.cmd("SADD")
            .arg(format!("hb:{{{node}}}:series"))
            .arg("cpu");
        rows.cmd("ZADD").arg("hb:nodes").arg(now_ms).arg(node);
        rows.query::<()>(&mut redis).unwrap();
    }
    redis::cmd("CONFIG")
        .arg(&["SET", "maxmemory", "100kb"])
        .exec(&mut redis)
        .unwrap();
    site.store.retention.raw.seconds = 86_400;
    site.store.retention.raw.stream_seconds = None;
    let ingester = site.ingester().await;
    for node in ["home.a", "home.b", "home.c"] {
        until("old rows are gone", async || {
            ask(&mut redis, "XLEN", &format!("hb:{{{node}}}:raw:cpu")) == 2
        })
        .await;
    }
    ingester.stop().await.unwrap();
}

#[tokio::test]
async fn what_is_denied_of_one_node_is_counted_and_passed_over() {
    let site = site().await;
    let client = redis::Client::open(site.store.url.as_deref().unwrap()).unwrap();
    let mut redis = client.get_connection().unwrap();
    write(&mut redis);
    redis::cmd("ACL")
        .arg("SETUSER")
        .arg("default")
        .arg(&["resetkeys", "~hb:[^{]*", "~hb:{home.b}:*"])
        .exec(&mut redis)
        .unwrap();
    let mut listener = site.listen("hostbus/v1/home/_system/ingester/main").await;
    let ingester = site.ingester().await;
    let health = listener
        .health(|health| health.counters["keeper_refused"] > 0)
        .await;
    assert_eq!(health.counters["keeper_visits"], 0);
    ingester.stop().await.unwrap();
}
