//! `hostbus forget`: a node removed whole from a running site.

#![expect(clippy::unwrap_used, reason = "test code")]

use anyhow::ensure;
use hostbus_daemon::clock;
use hostbus_tests::mosquitto::Version;
use hostbus_tests::service::Service;
use hostbus_tests::site::{NODE, Site};
use hostbus_tests::{poll, tool};
use hostbus_wire::sample::Memory;
use hostbus_wire::{Sample, encode};
use serde_json::Value;

const GONE: &str = "gone";

/// A site with rows of this host, and with a node that published once and is no more.
fn site() -> Site {
    let site = Site::start();
    let history = site.history();
    let root = format!("hostbus/v1/home/{GONE}");
    let publish = |what: &str, payload: &[u8]| {
        let file = site.folder.join("payload");
        std::fs::write(&file, payload).expect("failed to write a payload");
        let program = tool::of_system("mosquitto_pub", "mosquitto-clients");
        let admin = site.account("admin").arguments(Version::V5);
        let published = Service::new("mosquitto_pub", &program, site.folder.path())
            .args(admin)
            .args(["-q", "1", "-r", "-t", &format!("{root}/{what}"), "-f"])
            .args([file])
            .finish();
        assert_eq!(published.code, Some(0), "{published:?}");
    };
    let mut memory = Memory::new();
    memory.used_bytes = Some(7);
    let sample = Sample {
        ts: Some(clock::unix_ms()),
        memory: Some(memory),
        ..Sample::default()
    };
    publish("metrics", &encode(&sample).expect("CBOR"));
    publish("status", b"offline");
    publish("config/desired", b"\xa0");
    publish("alerts/disk-full/%2F", b"\xa0");
    publish("details/processes", b"\xa0");
    poll::until("rows of both nodes", || {
        ensure!(history.count("home.here", "cpu")? >= 1);
        ensure!(history.count("home.gone", "memory")? == 1);
        ensure!(history.info("home.gone")?.contains_key("status"));
        Ok(())
    });
    site
}

fn keys(site: &Site, node: &str) -> Vec<String> {
    let pattern = format!("hb:{{home.{node}}}:*");
    site.history().ask(&["KEYS", &pattern]).unwrap()
}

fn nodes(site: &Site) -> Vec<String> {
    site.history()
        .ask(&["ZRANGE", "hb:nodes", "0", "-1"])
        .unwrap()
}

#[test]
fn a_node_goes_from_redis_and_from_the_bus_and_others_stay() {
    let site = site();
    let asked = site.command(&["forget", GONE]).finish();
    assert_eq!(asked.code, Some(1), "{asked:?}");
    assert!(asked.stderr.contains("--yes"), "{asked:?}");
    let before = keys(&site, GONE).len();
    assert!(before >= 4);

    let done = site.command(&["forget", GONE, "--yes", "--json"]).finish();
    assert_eq!(done.code, Some(0), "{done:?}");
    let told: Value = serde_json::from_str(&done.stdout).unwrap();
    assert_eq!(told["node"], "home.gone");
    assert_eq!(
        (&told["series"], &told["was_listed"]),
        (&1.into(), &true.into())
    );
    assert_eq!(told["keys"], before);
    let topics: Vec<&str> = told["topics"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(Value::as_str)
        .collect();
    for what in [
        "metrics",
        "status",
        "config/desired",
        "alerts/disk-full/%2F",
        "details/processes",
    ] {
        let topic = format!("hostbus/v1/home/{GONE}/{what}");
        assert!(topics.contains(&topic.as_str()), "{topic}: {topics:?}");
    }
    assert_eq!(keys(&site, GONE), Vec::<String>::new());
    assert_eq!(nodes(&site), ["home.here"]);
    assert!(!keys(&site, NODE).is_empty());

    // Nothing of it is heard on the bus any more; what is retained of the other node is.
    let everything =
        site.account("admin")
            .subscribe(&site.folder, Version::V5, &["hostbus/v1/home/+/#"]);
    everything.wait_for("this host's status", |message| {
        message.topic == format!("hostbus/v1/home/{NODE}/status")
    });
    let heard = everything.received();
    assert!(heard.iter().all(|message| !message.topic.contains(GONE)));

    let again = site.command(&["forget", "home.gone", "--yes"]).finish();
    assert_eq!(again.code, Some(0), "{again:?}");
    assert!(again.stdout.contains("nothing of home.gone was there"));
    let unknown = site.command(&["forget", GONE, "--yes"]).finish();
    assert_eq!(unknown.code, Some(1), "{unknown:?}");
}

#[test]
fn a_node_that_publishes_is_refused_and_is_back_when_forced() {
    let site = site();
    let refused = site.command(&["forget", NODE, "--yes"]).finish();
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("--force"), "{refused:?}");
    assert!(!keys(&site, NODE).is_empty());

    let first: Vec<u64> = rows(&site);
    let forced = site.command(&["forget", NODE, "--yes", "--force"]).finish();
    assert!(forced.stdout.contains("keys removed"), "{forced:?}");
    let after = poll::until("rows after the removal", || {
        let rows = rows(&site);
        ensure!(!rows.is_empty());
        Ok(rows)
    });
    assert!(after[0] > first[0], "its old rows are still there");
    poll::until("its place among the nodes", || {
        ensure!(nodes(&site).contains(&"home.here".to_owned()));
        Ok(())
    });
}

fn rows(site: &Site) -> Vec<u64> {
    let rows = site.history().rows("home.here", "cpu").unwrap();
    rows.iter().map(|row| row.ms).collect()
}

#[test]
fn whoever_may_not_clear_the_bus_is_told_what_is_left() {
    let site = site();
    let done = site
        .command(&["forget", GONE, "--yes", "--user", "viewer"])
        .finish();
    assert_eq!(done.code, Some(1), "{done:?}");
    let left = format!("not removed: hostbus/v1/home/{GONE}/metrics");
    assert!(done.stdout.contains(&left), "{done:?}");
    assert_eq!(keys(&site, GONE), Vec::<String>::new());

    let nowhere = ["--user", "admin", "--password-file", "nothing"];
    let forget = ["forget", "home.gone", "--yes"];
    let done = site.command(&[&forget[..], &nowhere].concat()).finish();
    assert_eq!(done.code, Some(1), "{done:?}");
    assert!(
        done.stdout.contains("bus     nothing removed: "),
        "{done:?}"
    );
    let without = [&forget[..], &nowhere, &["--redis-only"]].concat();
    let done = site.command(&without).finish();
    assert_eq!(done.code, Some(0), "{done:?}");
}
