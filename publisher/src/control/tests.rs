//! What holds, after what came from the bus and from the host's own settings.

use hostbus_wire::Scalar;
use hostbus_wire::control::Command;
use serde_json::{Value, json};

use super::*;
use crate::Config;

const SECOND: Duration = Duration::from_secs(1);
const NOW_MS: u64 = 1_763_630_000_000;

fn control() -> Control {
    Control::new(Tuning::new(&Config::default()))
}

fn every(seconds: f64) -> Config {
    Config {
        interval_seconds: seconds,
        ..Config::default()
    }
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "documents are written in place"
)]
fn desired(control: &mut Control, document: Value) -> ConfigReported {
    control.on_desired(&codec::encode(&document).unwrap());
    report(control)
}

/// The report that is due, taken as told.
fn report(control: &mut Control) -> ConfigReported {
    let report = control.report().expect("a report is due");
    control.reported();
    assert_eq!(control.report(), None, "it is told once");
    report
}

fn resample(control: &mut Control, id: &str, seconds: u64, interval_ms: u64, now: Instant) {
    let args = [("seconds", seconds), ("interval_ms", interval_ms)];
    let command = Command {
        id: id.to_owned(),
        expires: NOW_MS + 1000,
        args: args
            .map(|(key, value)| (key.to_owned(), Scalar::Integer(value)))
            .into(),
    };
    let payload = codec::encode(&command).unwrap();
    let outcome = control.on_command("resample", &payload, false, now, NOW_MS);
    assert!(outcome.reply.is_some_and(|reply| reply.ok));
}

#[test]
fn a_good_document_is_applied_and_answered_with_what_is_in_force() {
    let mut control = control();
    let document = json!({"revision": 7, "interval_ms": 2000, "collectors": {"gpus": false}});
    let report = desired(&mut control, document);
    assert_eq!((report.revision, report.interval_ms), (7, Some(2000)));
    assert_eq!(report.source, Some(ConfigSource::Desired));
    assert!(report.refused.is_empty());
    assert!(!report.collectors["gpus"] && report.collectors["cpu"]);
    assert_eq!(report.collectors.len(), crate::collectors::ALL.len());
    let tuning = control.tuning(Instant::now());
    assert_eq!(tuning.interval, SECOND * 2);
    assert!(!tuning.collectors.gpus.enabled && tuning.collectors.cpu.enabled);
}

#[test]
fn a_bad_document_changes_nothing_and_gets_its_reasons() {
    let mut control = control();
    desired(&mut control, json!({"revision": 7, "interval_ms": 2000}));
    let before = control.tuning(Instant::now());
    let report = desired(
        &mut control,
        json!({"revision": 8, "interval_ms": 3000, "collectors": {"dsks": false}}),
    );
    assert_eq!(control.tuning(Instant::now()), before);
    assert_eq!((report.revision, report.interval_ms), (8, Some(2000)));
    assert_eq!(report.source, Some(ConfigSource::Desired));
    let reason = "no such collector, did you mean disks?".to_owned();
    assert_eq!(
        report.refused,
        [("collectors.dsks".to_owned(), reason)].into()
    );
    // Mended, nothing is left of it.
    let report = desired(&mut control, json!({"revision": 9, "interval_ms": 3000}));
    assert!(report.refused.is_empty() && report.interval_ms == Some(3000));
}

#[test]
fn bytes_that_are_no_document_are_answered_without_a_revision() {
    for bytes in [
        &b"\xff"[..],
        b"interval = 5",
        b"\xa1\x6binterval_ms\x19\x13\x88",
    ] {
        let mut control = control();
        desired(&mut control, json!({"revision": 7, "interval_ms": 2000}));
        control.on_desired(bytes);
        let report = report(&mut control);
        assert_eq!((report.revision, report.interval_ms), (0, Some(2000)));
        assert_eq!(report.refused.keys().collect::<Vec<_>>(), [""]);
        assert!(!report.refused[""].is_empty());
    }
    let mut control = control();
    control.on_desired(&codec::encode(&"é".repeat(2000)).unwrap());
    let reason = &report(&mut control).refused[""];
    assert!(reason.len() <= MAX_REASON_BYTES, "{reason}");
}

#[test]
fn what_stands_on_the_topic_holds_whatever_its_number() {
    let mut control = control();
    desired(&mut control, json!({"revision": 7, "interval_ms": 2000}));
    let report = desired(
        &mut control,
        json!({"revision": 3, "collectors": {"disks": false}}),
    );
    assert_eq!((report.revision, report.interval_ms), (3, Some(10_000)));
    assert!(report.refused.is_empty() && !report.collectors["disks"]);
}

#[test]
fn an_empty_payload_gives_the_host_its_own_settings_back() {
    let mut control = control();
    desired(&mut control, json!({"revision": 7, "interval_ms": 2000}));
    control.on_desired(b"");
    let report = report(&mut control);
    assert_eq!((report.revision, report.interval_ms), (0, Some(10_000)));
    assert_eq!(report.source, Some(ConfigSource::File));
    assert_eq!(
        control.tuning(Instant::now()),
        Tuning::new(&Config::default())
    );
}

#[test]
fn a_connection_without_a_document_gives_the_host_its_own_settings_back() {
    let start = Instant::now();
    let mut control = control();
    control.on_connected(start);
    assert_eq!(control.report(), None, "a document may be on its way");
    desired(&mut control, json!({"revision": 7, "interval_ms": 2000}));
    assert_eq!(control.wake(), None);
    control.tick(start + SETTLE * 10);
    assert_eq!(control.interval(), SECOND * 2);

    // Away for long: nobody knows what stands there.
    control.on_disconnected();
    control.tick(start + SETTLE * 20);
    assert_eq!((control.interval(), control.report()), (SECOND * 2, None));

    let again = start + SETTLE * 30;
    control.on_connected(again);
    control.tick(again + SETTLE - SECOND);
    assert_eq!(control.interval(), SECOND * 2);
    assert_eq!(control.wake(), Some(again + SETTLE));
    control.tick(again + SETTLE);
    assert_eq!(report(&mut control).source, Some(ConfigSource::File));
    assert_eq!(control.interval(), SECOND * 10);
}

#[test]
fn a_bad_document_is_a_document_when_a_connection_settles() {
    let start = Instant::now();
    let mut control = control();
    desired(&mut control, json!({"revision": 7, "interval_ms": 2000}));
    control.on_connected(start);
    desired(&mut control, json!({"revision": 8, "interval_ms": 1}));
    control.tick(start + SETTLE);
    assert_eq!(control.interval(), SECOND * 2);
}

#[test]
fn a_file_that_is_read_again_is_the_new_ground_below_the_document() {
    let mut control = control();
    desired(
        &mut control,
        json!({"revision": 7, "collectors": {"disks": false}}),
    );
    let mut config = every(30.0);
    config.collectors.sensors.enabled = false;
    control.rebase(Tuning::new(&config));
    let reported = report(&mut control);
    assert_eq!((reported.revision, reported.interval_ms), (7, Some(30_000)));
    assert!(!reported.collectors["disks"] && !reported.collectors["sensors"]);
    control.on_desired(b"");
    assert!(report(&mut control).collectors["disks"]);
    assert_eq!(control.tuning(Instant::now()), Tuning::new(&config));
}

#[test]
fn a_lease_is_on_top_of_all_settings_and_ends() {
    let start = Instant::now();
    let mut control = control();
    resample(&mut control, "1", 60, 1000, start);
    let tuning = control.tuning(start);
    assert_eq!(tuning.interval, SECOND);
    assert_eq!(tuning.collectors, control.file.collectors);
    assert_eq!(control.interval(), SECOND * 10, "it is no setting");
    assert_eq!(control.report(), None);
    assert_eq!(control.wake(), Some(start + SECOND * 60));

    desired(&mut control, json!({"revision": 1, "interval_ms": 500}));
    assert_eq!(
        control.tuning(start).interval,
        SECOND / 2,
        "it slows nothing down"
    );
    desired(&mut control, json!({"revision": 2, "interval_ms": 60_000}));
    assert_eq!(control.tuning(start).interval, SECOND);

    control.tick(start + SECOND * 60);
    assert_eq!(control.tuning(start + SECOND * 60).interval, SECOND * 60);
    assert_eq!(control.wake(), None);
}

#[test]
fn a_change_is_told_once() {
    let start = Instant::now();
    let mut control = control();
    assert_eq!(control.take_change(start), None);
    desired(&mut control, json!({"revision": 1, "interval_ms": 2000}));
    assert_eq!(control.take_change(start).unwrap().interval, SECOND * 2);
    assert_eq!(control.take_change(start), None);
    resample(&mut control, "1", 10, 1000, start);
    assert_eq!(control.take_change(start).unwrap().interval, SECOND);
    control.tick(start + SECOND * 9);
    assert_eq!(control.take_change(start + SECOND * 9), None);
    let end = start + SECOND * 10;
    control.tick(end);
    assert_eq!(control.take_change(end).unwrap().interval, SECOND * 2);
    let mut config = Config::default();
    config.collectors.sensors.enabled = false;
    control.rebase(Tuning::new(&config));
    assert!(control.take_change(end).is_some());
}

#[test]
fn what_asks_for_nothing_new_is_answered_and_no_change() {
    let now = Instant::now();
    let mut control = control();
    desired(&mut control, json!({"revision": 1, "interval_ms": 2000}));
    assert!(control.take_change(now).is_some());
    let again = desired(&mut control, json!({"revision": 2, "interval_ms": 2000}));
    assert_eq!((again.revision, control.take_change(now)), (2, None));
    control.rebase(Tuning::new(&Config::default()));
    assert_eq!(report(&mut control).revision, 2);
    assert_eq!(control.take_change(now), None);
    // Below the document, and not seen until it goes.
    control.rebase(Tuning::new(&every(30.0)));
    assert_eq!(control.take_change(now), None);
    control.on_desired(b"");
    let interval = control.take_change(now).unwrap().interval;
    assert_eq!(interval, SECOND * 30);
}

#[test]
fn a_broker_that_takes_its_time_switches_nothing() {
    let start = Instant::now();
    let mut control = control();
    control.on_connected(start);
    desired(&mut control, json!({"revision": 1, "interval_ms": 2000}));
    assert!(control.take_change(start).is_some());
    control.on_disconnected();
    control.on_connected(start);
    let late = start + SECOND * 29;
    control.tick(late);
    desired(&mut control, json!({"revision": 1, "interval_ms": 2000}));
    assert_eq!(control.take_change(late), None);
}

#[test]
fn a_lease_that_is_renewed_runs_a_minute_from_then() {
    let start = Instant::now();
    let mut control = control();
    for number in 0..20 {
        resample(
            &mut control,
            &number.to_string(),
            60,
            1000,
            start + SECOND * number,
        );
    }
    assert_eq!(control.wake(), Some(start + SECOND * 79));
}

#[test]
fn a_retained_command_is_neither_done_nor_answered() {
    let command = Command {
        id: "1".to_owned(),
        expires: NOW_MS + 1000,
        args: Map::new(),
    };
    let payload = codec::encode(&command).unwrap();
    let mut control = control();
    let now = Instant::now();
    let kept = control.on_command("refresh", &payload, true, now, NOW_MS);
    assert_eq!(kept, Outcome::default());
    let live = control.on_command("refresh", &payload, false, now, NOW_MS);
    assert_eq!(live.order, Some(Order::Refresh));
}

#[test]
fn a_document_that_comes_before_the_subscription_is_acknowledged_holds() {
    let mut control = control();
    let now = Instant::now();
    for revision in 7..9 {
        desired(
            &mut control,
            json!({"revision": revision, "interval_ms": 2000}),
        );
        control.on_connected(now);
        control.tick(now + SETTLE * 2);
        assert_eq!(control.interval(), SECOND * 2);
        control.on_disconnected();
    }
    // Cleared while we were away.
    control.on_connected(now);
    control.tick(now + SETTLE * 2);
    assert_eq!(report(&mut control).source, Some(ConfigSource::File));
}
