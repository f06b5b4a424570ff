//! From a breach on the bus to people, with real parts: broker, ingester, Redis, one or two notifiers,
//! an HTTP endpoint and mosquitto's clients.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::ensure;
use hostbus_tests::host::{Host, Speaker};
use hostbus_tests::mosquitto::Version;
use hostbus_tests::pipeline::Pipeline;
use hostbus_tests::poll;
use hostbus_tests::sink::{Mood, Sink, Taken};
use hostbus_wire::decode_open;
use hostbus_wire::silence::Silence;
use serde_json::Value;

const BUSY: &str = r#"
[[rule]]
name = "busy"
metric = "cpu.usage_percent"
warning = { above = 80, clear = 70 }
critical = { above = 95, clear = 90 }
"#;

/// Without a rule of the processor: that of the host that runs the test may be busy.
const DOWN: &str = r#"
[[rule]]
name = "down"
metric = "node.down"
severity = "critical"
"#;

/// One channel to `sink`, and one route with `more`.
fn settings(sink: &Sink, more: &str) -> String {
    format!(
        "[notifier.channels.hook]\ntype = \"webhook\"\nurl = \"{}\"\n[[notifier.routes]]\nchannels = [\"hook\"]\nwait_seconds = 0\ninterval_seconds = 0\ncooldown_seconds = 0\n{more}",
        sink.url()
    )
}

/// What was told of each alert, in order: `web1/busy firing warning`.
fn told(taken: &[Taken]) -> Vec<String> {
    let line = |alert: &Value| {
        let text = |key: &str| alert[key].as_str().unwrap_or_default().to_owned();
        let node = text("node");
        let node = node.strip_prefix("home.").unwrap_or(&node);
        let mut line = format!("{node}/{}", text("rule"));
        if let Some(instance) = alert["instance"].as_str() {
            let _ = write!(line, "/{instance}");
        }
        let _ = write!(line, " {} {}", text("state"), text("severity"));
        line
    };
    let alerts = taken
        .iter()
        .flat_map(|taken| taken.body["alerts"].as_array().into_iter().flatten());
    alerts.map(line).collect()
}

#[track_caller]
fn until_told(sink: &Sink, expected: &[&str]) {
    poll::until("what is told", || {
        let told = told(&sink.taken());
        ensure!(told == expected, "{told:?}");
        Ok(())
    });
}

/// Waits until a notifier is active.
#[track_caller]
fn until_active(pipeline: &Pipeline, instance: &str) {
    let topic = format!("hostbus/v1/home/_system/notifier/{instance}");
    let watcher = pipeline
        .account("viewer")
        .subscribe(&pipeline.folder, Version::V5, &[&topic])
        .ready();
    poll::until("an active notifier", || {
        let received = watcher.received();
        let last = received.last().map(|last| last.payload.clone());
        let last = last.unwrap_or_default();
        let health: hostbus_wire::health::Health = hostbus_wire::decode(&last)?;
        ensure!(health.counters.get("active") == Some(&1), "{health:?}");
        Ok(())
    });
}

#[test]
fn a_breach_is_told_once_and_so_is_its_end() {
    let pipeline = Pipeline::start();
    let sink = Sink::start();
    let _notifier = pipeline
        .notifier("main", BUSY, &settings(&sink, ""))
        .started();
    let mut host = Host::start(&pipeline.bus("home.web1"), "home.web1", 500);
    host.sample(10.0, 0.0);
    until_active(&pipeline, "main");
    host.sample(85.0, 0.0);
    host.sample(86.0, 0.0);
    until_told(&sink, &["web1/busy firing warning"]);
    host.sample(97.0, 0.0);
    let critical = ["web1/busy firing warning", "web1/busy firing critical"];
    until_told(&sink, &critical);
    // Above what clears it: nothing is over.
    host.sample(75.0, 0.0);
    host.sample(60.0, 0.0);
    poll::until("the end is told", || {
        let told = told(&sink.taken());
        let last = told.last().map(String::as_str).unwrap_or_default();
        ensure!(last.starts_with("web1/busy resolved"), "{told:?}");
        let firing = told.iter().filter(|line| line.contains("firing")).count();
        // That it became less bad may have been told on the way.
        ensure!((2..=3).contains(&firing), "{told:?}");
        Ok(())
    });
    let history = pipeline.history();
    poll::until("the log of alerts", || {
        let log: Vec<(String, Vec<String>)> =
            history.ask(&["XRANGE", "hb:alerts:log", "-", "+"])?;
        let kind = |entry: &(String, Vec<String>)| {
            let at = entry.1.iter().position(|text| text == "kind");
            at.and_then(|at| entry.1.get(at + 1)).cloned()
        };
        let kinds: Vec<String> = log.iter().filter_map(kind).collect();
        let count = |wanted: &str| kinds.iter().filter(|kind| *kind == wanted).count();
        ensure!(
            count("resolved") == 1 && count("told-resolved") == 1,
            "{kinds:?}"
        );
        ensure!(
            count("firing") >= 2 && count("told-firing") >= 2,
            "{kinds:?}"
        );
        Ok(())
    });
}

#[test]
fn a_script_raises_an_alert_and_a_silence_holds_back_what_is_told_afterwards() {
    let pipeline = Pipeline::start();
    let sink = Sink::start();
    let _notifier = pipeline
        .notifier("main", "", &settings(&sink, ""))
        .started();
    until_active(&pipeline, "main");
    let folder = &pipeline.folder;
    let script = pipeline.account("home.web1");
    let topic = "hostbus/v1/home/web1/alerts/backup";
    let alert = br#"{"summary": "backup failed", "severity": "critical"}"#;
    script.publish_retained(folder, Version::V311, topic, alert);
    until_told(&sink, &["web1/backup firing critical"]);
    assert_eq!(
        sink.taken()[0].body["alerts"][0]["summary"],
        "backup failed"
    );
    // Another host's alerts are not its business.
    let other = "hostbus/v1/home/web2/alerts/backup";
    script.publish_retained(folder, Version::V311, other, alert);
    let silence = br#"{"nodes": ["web1"], "seconds": 3600, "by": "test", "why": "test"}"#;
    let operator = pipeline.account("operator");
    let silences = "hostbus/v1/home/_silences/s1";
    operator.publish_retained(folder, Version::V5, silences, silence);
    let watcher = pipeline
        .account("viewer")
        .subscribe(folder, Version::V5, &[silences])
        .ready();
    watcher.wait_for("the silence with its end", |received| {
        let silence: Result<Silence, _> = decode_open(&received.payload);
        silence.is_ok_and(|silence| silence.until.is_some() && silence.seconds == Some(3_600))
    });
    let disk = "hostbus/v1/home/web1/alerts/disk/%2Fdata";
    script.publish_retained(folder, Version::V5, disk, b"{}");
    script.publish_retained(folder, Version::V5, topic, b"");
    // It is over, and the silence is heard of all: nothing is told but what a script says afterwards.
    let witness = "hostbus/v1/home/web2/alerts/witness";
    operator.publish_retained(folder, Version::V5, witness, b"{}");
    let so_far = ["web1/backup firing critical", "web2/witness firing warning"];
    until_told(&sink, &so_far);
    operator.publish_retained(folder, Version::V5, silences, b"");
    poll::until("what was held back", || {
        let mut told = told(&sink.taken());
        told.sort();
        let expected = [
            "web1/backup firing critical",
            "web1/backup resolved critical",
            "web1/disk//data firing warning",
            "web2/witness firing warning",
        ];
        ensure!(told == expected, "{told:?}");
        Ok(())
    });
}

#[test]
fn a_host_that_dies_is_told_and_one_that_stops_is_not() {
    let pipeline = Pipeline::start();
    let sink = Sink::start();
    let _notifier = pipeline
        .notifier("main", DOWN, &settings(&sink, ""))
        .started();
    let mut dies = Host::start(&pipeline.bus("home.web1"), "home.web1", 1000);
    dies.sample(10.0, 0.0);
    let mut publisher = pipeline
        .publisher_of("web2", pipeline.address, 1.0, "")
        .started();
    until_active(&pipeline, "main");
    let history = pipeline.history();
    poll::until("samples of the real publisher", || {
        ensure!(history.count("home.web2", "cpu")? >= 2);
        Ok(())
    });
    // Within two intervals of its start the notifier holds nobody for down.
    sleep(Duration::from_secs(3));
    dies.sample(10.0, 0.0);
    publisher.interrupt(Duration::from_secs(10));
    drop(dies);
    until_told(&sink, &["web1/down firing critical"]);
    let mut back = Host::start(&pipeline.bus("home.web1"), "home.web1", 1000);
    back.sample(10.0, 0.0);
    until_told(
        &sink,
        &["web1/down firing critical", "web1/down resolved critical"],
    );
}

#[test]
fn of_two_notifiers_one_takes_over_and_nothing_is_missing_or_doubled() {
    let pipeline = Pipeline::start();
    let sink = Sink::start();
    let settings = settings(&sink, "");
    let mut first = pipeline.notifier("first", BUSY, &settings).started();
    until_active(&pipeline, "first");
    let _second = pipeline.notifier("second", BUSY, &settings).started();
    let speaker = Speaker::start(&pipeline.bus("operator"), None);
    speaker.say("web1/alerts/one", true, b"{}");
    until_told(&sink, &["web1/one firing warning"]);
    // What the first one can't deliver, the second one does.
    sink.set(Mood::Busy);
    speaker.say("web1/alerts/two", true, b"{}");
    sleep(Duration::from_secs(1));
    first.kill();
    let killed = Instant::now();
    speaker.say("web1/alerts/three", true, b"{}");
    sink.set(Mood::Takes);
    poll::until("what the first one left", || {
        let told: BTreeSet<String> = told(&sink.taken()).into_iter().collect();
        ensure!(told.len() == 3, "{told:?}");
        Ok(())
    });
    let took = killed.elapsed();
    assert!(took < Duration::from_secs(30), "{took:?}");
    first.start();
    speaker.say("web1/alerts/one", true, b"");
    poll::until("the end of the first alert", || {
        let told = told(&sink.taken());
        ensure!(
            told.iter().any(|line| line.contains("one resolved")),
            "{told:?}"
        );
        Ok(())
    });
    let told = told(&sink.taken());
    assert_eq!(told.len(), 4, "{told:?}");
}

#[test]
fn a_window_goes_on_after_a_restart() {
    const LOAD: &str = "\
        [[rule]]\nname = \"load\"\nmetric = \"cpu.usage_percent\"\naggregate = \"min\"\nwindow = \"40s\"\n\
        warning = { above = 80 }\n";
    let pipeline = Pipeline::start();
    let sink = Sink::start();
    let mut notifier = pipeline
        .notifier("main", LOAD, &settings(&sink, ""))
        .started();
    until_active(&pipeline, "main");
    let mut host = Host::start(&pipeline.bus("home.web1"), "home.web1", 500);
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(25) {
        host.sample(90.0, 0.0);
        sleep(Duration::from_millis(500));
    }
    let stopped = notifier.interrupt(Duration::from_secs(10));
    assert!(stopped.success(), "{stopped:?}");
    assert!(pipeline.folder.join("spool/windows-main.kept").exists());
    notifier.start();
    let started = Instant::now();
    poll::until("what is told", || {
        host.sample(90.0, 0.0);
        let told = told(&sink.taken());
        ensure!(told == ["web1/load firing warning"], "{told:?}");
        Ok(())
    });
    // Anew it would have taken 40 s.
    let took = started.elapsed();
    assert!(took < Duration::from_secs(35), "{took:?}");
}

#[test]
fn a_storm_is_a_few_notices_in_which_all_are_named() {
    const NODES: usize = 1_000;
    let pipeline = Pipeline::start();
    let sink = Sink::start();
    let route = "[notifier.channels.hook]\ntype = \"webhook\"\nurl = \"URL\"\n[[notifier.routes]]\nchannels = [\"hook\"]\nwait_seconds = 1\ninterval_seconds = 5\n";
    let route = route.replace("URL", &sink.url());
    let _notifier = pipeline.notifier("main", "", &route).started();
    until_active(&pipeline, "main");
    let speaker = Speaker::start(&pipeline.bus("operator"), None);
    let say_all = |payload: &[u8]| {
        for n in 0..NODES {
            speaker.say(&format!("n{n}/alerts/node-down"), true, payload);
        }
    };
    for (payload, state) in [
        (&br#"{"severity": "critical"}"#[..], "firing"),
        (b"", "resolved"),
    ] {
        let before = sink.taken().len();
        say_all(payload);
        poll::until("all are named", || {
            let taken = sink.taken();
            let named: BTreeSet<String> = told(&taken[before..]).into_iter().collect();
            let named = named.iter().filter(|line| line.contains(state)).count();
            ensure!(named == NODES, "{named} of {NODES}");
            Ok(())
        });
        let taken = sink.taken();
        let lines = told(&taken[before..]).len();
        assert_eq!(lines, NODES, "one was told twice");
        let notices = taken.len() - before;
        assert!(notices <= 20, "{notices} notices");
    }
}
