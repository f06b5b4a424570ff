//! Hosts whose clocks are wrong: no row is lost, and no series is blocked.

use anyhow::ensure;
use hostbus_daemon::clock;
use hostbus_tests::mosquitto::Version;
use hostbus_tests::pipeline::Pipeline;
use hostbus_tests::service::Service;
use hostbus_tests::{poll, tool};
use hostbus_wire::sample::Custom;
use hostbus_wire::{Sample, encode};
use serde_json::Value;

const NODE: &str = "home.web1";
const SERIES: &str = "custom:value";

/// A pipeline whose ingester listens.
fn pipeline() -> Pipeline {
    let pipeline = Pipeline::start();
    let health = "hostbus/v1/home/_system/ingester/main";
    let viewer = pipeline
        .account("viewer")
        .subscribe(&pipeline.folder, Version::V5, &[health]);
    viewer.wait_for("the health of the ingester", |message| {
        message.topic == health
    });
    pipeline
}

/// Publishes a sample without a sequence number that was taken at `ms`.
#[track_caller]
fn publish(pipeline: &Pipeline, ms: u64, value: f64) {
    let mut custom = Custom::new("value".parse().expect("a name"));
    custom.value = Some(value);
    let sample = Sample {
        ts: Some(ms),
        custom: vec![custom],
        ..Sample::default()
    };
    let payload = encode(&sample).expect("a sample");
    let topic = "hostbus/v1/home/web1/metrics";
    let account = pipeline.account(NODE);
    let said = account.publish(&pipeline.folder, Version::V311, topic, &payload);
    assert_eq!(said.code, Some(0), "{said:?}");
}

/// What the command line shows of the series: times and values.
fn shown(pipeline: &Pipeline) -> anyhow::Result<Vec<(u64, f64)>> {
    let finished = Service::new("history", &tool::ours("hostbus"), pipeline.folder.path())
        .args([
            "history",
            "web1",
            SERIES,
            "--json",
            "--redis",
            &pipeline.redis.url(),
        ])
        .finish();
    ensure!(finished.code == Some(0), "{}", finished.stderr);
    let rows: Vec<Value> = serde_json::from_str(&finished.stdout)?;
    let pair = |row: &Value| row["ts"].as_u64().zip(row["value"].as_f64());
    Ok(rows.iter().filter_map(pair).collect())
}

#[test]
fn rows_of_a_clock_that_steps_back_are_kept_in_their_place() {
    let pipeline = pipeline();
    let now = clock::unix_ms();
    let sent = [
        (now - 30_000, 1.0),
        (now - 10_000, 3.0),
        (now - 20_000, 2.0),
        (now, 4.0),
    ];
    for (ms, value) in sent {
        publish(&pipeline, ms, value);
    }
    let mut expected = sent.to_vec();
    expected.sort_by_key(|(ms, _)| *ms);
    poll::until("all rows in the order of their times", || {
        let shown = shown(&pipeline)?;
        ensure!(shown == expected, "{shown:?}, expected {expected:?}");
        Ok(())
    });
}

#[test]
fn a_clock_that_is_ahead_does_not_block_its_series() {
    let pipeline = pipeline();
    let events = "hostbus/v1/home/web1/events";
    let viewer = pipeline.account("viewer");
    let events = viewer
        .subscribe(&pipeline.folder, Version::V5, &[events])
        .ready();
    let before = clock::unix_ms();
    publish(&pipeline, before + 3_600_000, 1.0);
    let history = pipeline.history();
    let row = poll::until("the row of the sample from the future", || {
        let rows = history.rows(NODE, SERIES)?;
        ensure!(rows.len() == 1, "{rows:?}");
        Ok(rows[0].clone())
    });
    assert!((before..=clock::unix_ms()).contains(&row.ms), "{row:?}");
    publish(&pipeline, row.ms + 1_000, 2.0);
    poll::until("the row of the next sample", || {
        let rows = history.rows(NODE, SERIES)?;
        ensure!(
            rows.last().is_some_and(|row| row.fields["value"] == "2"),
            "{rows:?}"
        );
        Ok(())
    });
    events.wait_for("a clock-ahead event", |message| {
        message
            .payload
            .windows(11)
            .any(|part| part == b"clock-ahead")
    });
}
