//! The command line on a running site: what scripts read of it.

use anyhow::ensure;
use hostbus_tests::folder::Folder;
use hostbus_tests::service::{Finished, Service};
use hostbus_tests::site::{NODE, Site};
use hostbus_tests::{poll, tool};
use serde_json::Value;

/// A site with some rows in it.
fn site() -> Site {
    let site = Site::start();
    let history = site.history();
    poll::until("rows of this host's cpu", || {
        let rows = history.count("home.here", "cpu")?;
        ensure!(rows >= 3, "{rows} rows");
        Ok(())
    });
    site
}

#[track_caller]
fn done(service: Service) -> String {
    let Finished {
        code,
        stdout,
        stderr,
    } = service.finish();
    assert_eq!(code, Some(0), "{stderr}{stdout}");
    stdout
}

#[track_caller]
fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn watch_prints_a_json_document_a_line() {
    let site = site();
    let metrics = format!("hostbus/v1/home/{NODE}/metrics");
    let printed = done(site.command(&["watch", &metrics, "--count", "2"]));
    let lines: Vec<Value> = printed.lines().map(json).collect();
    assert_eq!(lines.len(), 2, "{printed}");
    for line in &lines {
        assert_eq!(line["topic"], metrics.as_str());
        assert!(line["payload"]["memory"]["total_bytes"].is_u64(), "{line}");
    }
    let seq = |line: &Value| line["payload"]["seq"].as_u64().unwrap();
    assert!(seq(&lines[0]) < seq(&lines[1]));
    assert_eq!(lines[0]["retained"], true);
    assert_eq!(lines[1]["retained"], false);

    let status = format!("hostbus/v1/home/{NODE}/status");
    let printed = done(site.command(&["watch", &status, "--count", "1"]));
    assert_eq!(json(&printed)["payload"], "online");
    let raw = done(site.command(&["watch", &status, "--count", "1", "--raw"]));
    assert_eq!(raw, "online");
}

#[test]
fn top_prints_a_json_array_of_nodes() {
    let site = site();
    let nodes = json(&done(site.command(&["top", "--json", "--wait", "3"])));
    let nodes = nodes.as_array().unwrap();
    assert_eq!(nodes.len(), 1, "{nodes:?}");
    let node = &nodes[0];
    assert_eq!(
        (&node["node"], &node["status"]),
        (&"home.here".into(), &"online".into())
    );
    for percent in ["cpu_percent", "memory_percent", "disk_percent"] {
        let percent = node[percent].as_f64();
        assert!(
            percent.is_some_and(|percent| (0.0..=100.0).contains(&percent)),
            "{node}"
        );
    }
    assert!(
        node["load1"].is_number() && node["age_ms"].is_u64(),
        "{node}"
    );
    let plain = done(site.command(&["top", "--once", "--wait", "3"]));
    assert!(plain.contains(NODE) && plain.contains("online"), "{plain}");
}

#[test]
fn history_prints_what_redis_holds() {
    let site = site();
    let nodes = json(&done(site.command(&["history", "--json"])));
    assert_eq!(nodes[0]["node"], "home.here");
    assert_eq!(nodes[0]["status"], "online");
    let series = json(&done(site.command(&["history", NODE, "--json"])));
    let series: Vec<&str> = series
        .as_array()
        .unwrap()
        .iter()
        .filter_map(Value::as_str)
        .collect();
    for wanted in ["cpu", "memory", "filesystem:/"] {
        assert!(series.contains(&wanted), "{series:?}");
    }

    let rows = json(&done(site.command(&["history", NODE, "cpu", "--json"])));
    let rows = rows.as_array().unwrap();
    let stored = site.history().rows("home.here", "cpu").unwrap();
    assert!(rows.len() >= 3 && rows.len() <= stored.len());
    for (row, stored) in rows.iter().zip(&stored) {
        assert_eq!(row["ts"].as_u64(), Some(stored.ms));
        for (field, text) in &stored.fields {
            let shown = row[field].as_f64();
            assert_eq!(
                shown,
                text.parse().ok().filter(|value: &f64| !value.is_nan()),
                "{field}"
            );
        }
    }

    let csv = done(site.command(&["history", "home.here", "cpu.usage_percent", "--csv"]));
    let mut lines = csv.lines();
    assert_eq!(lines.next(), Some("ts,usage_percent"));
    let lines: Vec<&str> = lines.collect();
    assert!(lines.len() >= 3, "{csv}");
    for (line, stored) in lines
        .iter()
        .zip(&site.history().rows("home.here", "cpu").unwrap())
    {
        let value = stored.fields["usage_percent"].replace("nan", "");
        assert_eq!(*line, format!("{},{value}", stored.ms));
    }

    let table = done(site.command(&["history", NODE, "memory.used_percent", "--rows", "2"]));
    assert!(
        table.contains("used_percent") && table.lines().count() == 3,
        "{table}"
    );

    let points = [
        "history",
        "here,home.here",
        "cpu.usage_percent",
        "--points",
        "2",
    ];
    let points = json(&done(site.command(&[&points[..], &["--json"]].concat())));
    let points = points.as_array().unwrap();
    assert!((1..=2).contains(&points.len()), "{points:?}");
    let known = points
        .iter()
        .filter(|point| point["usage_percent"].is_number());
    assert!(known.clone().count() > 0, "{points:?}");
    for point in known {
        let part = |suffix: &str| point[format!("usage_percent{suffix}")].as_f64().unwrap();
        assert!(
            part("_min") <= part("") && part("") <= part("_max"),
            "{point}"
        );
    }
    let raw = [
        "history", NODE, "cpu", "--from", "5m", "--tier", "raw", "--csv",
    ];
    let raw = done(site.command(&raw));
    assert!(raw.starts_with("ts,") && raw.lines().count() > 3, "{raw}");
    let events = json(&done(site.command(&["history", NODE, "events", "--json"])));
    assert!(events.is_array(), "{events}");
    assert_eq!(
        done(site.command(&["history", "*", "alerts", "--json"])),
        "[]\n"
    );

    for wrong in ["nobody", "home.nobody"] {
        let finished = site.command(&["history", wrong]).finish();
        assert_eq!(finished.code, Some(1), "{finished:?}");
        assert!(finished.stderr.contains("home.here"), "{}", finished.stderr);
    }
    let finished = site.command(&["history", NODE, "cpu.nothing"]).finish();
    assert_eq!(finished.code, Some(1), "{finished:?}");
    assert!(finished.stderr.contains("load1"), "{}", finished.stderr);
    let finished = site.command(&["history", NODE, "gpu:9"]).finish();
    assert_eq!(finished.code, Some(1), "{finished:?}");
    assert!(finished.stderr.contains("memory"), "{}", finished.stderr);
    let finished = site
        .command(&["history", NODE, "cpu", "--tier", "2m"])
        .finish();
    assert!(
        finished.stderr.contains("raw, 1m, 10m, 1h"),
        "{}",
        finished.stderr
    );
}

#[test]
fn doctor_finds_no_error_on_a_good_site_and_the_error_on_a_bad_one() {
    let site = site();
    let findings = json(&done(site.command(&["doctor", "--json"])));
    let findings = findings.as_array().unwrap();
    for check in [
        "settings",
        "data",
        "credentials",
        "broker",
        "ingester",
        "publishers",
        "redis",
        "persistence",
        "memory",
    ] {
        let found = findings.iter().find(|finding| finding["check"] == check);
        let found = found.unwrap_or_else(|| panic!("no {check} in {findings:?}"));
        assert_eq!(found["level"], "ok", "{found}");
        if check == "broker" {
            let told = found["found"].as_str().unwrap();
            let clients = told.split_once("; ").unwrap().1;
            let clients = clients.split_once(" clients, ").unwrap().0;
            assert!(clients.parse::<u32>().is_ok(), "{told}");
        }
    }
    let notifier = findings.iter().find(|one| one["check"] == "notifier");
    let told = notifier.unwrap()["found"].as_str().unwrap();
    assert!(
        told.ends_with("channels 0: nobody is told of alerts"),
        "{told}"
    );
    let _: () = site
        .history()
        .ask(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"])
        .unwrap();
    let viewer = site.credentials["viewer"].display().to_string();
    std::process::Command::new("chmod")
        .args(["644", &viewer])
        .status()
        .unwrap();
    let finished = site.command(&["doctor", "--json"]).finish();
    assert_eq!(finished.code, Some(1), "{finished:?}");
    let findings = json(&finished.stdout);
    for (check, mend) in [("credentials", "chmod 600"), ("memory", "noeviction")] {
        let found = findings
            .as_array()
            .unwrap()
            .iter()
            .find(|one| one["check"] == check)
            .unwrap();
        assert_eq!(found["level"], "error", "{found}");
        assert!(found["mend"].as_str().unwrap().contains(mend), "{found}");
    }
    let text = site.command(&["doctor"]).finish().stdout;
    assert!(text.lines().any(|line| line.starts_with("error")), "{text}");
}

#[test]
fn doctor_finds_the_setting_for_which_a_site_would_not_start() {
    let folder = Folder::new();
    let file = "[redis.retention]\n1m = { seconds = 90 }\n";
    std::fs::write(folder.join("site.toml"), file).unwrap();
    let service = Service::new("doctor", &tool::ours("hostbus"), folder.path());
    let asked = [
        "doctor",
        "--json",
        "--data",
        "data",
        "--config",
        "site.toml",
    ];
    let finished = service.args(asked).finish();
    assert_eq!(finished.code, Some(1), "{finished:?}");
    let found = &json(&finished.stdout)[0];
    assert_eq!(
        (&found["check"], &found["level"]),
        (&"settings".into(), &"error".into())
    );
    let told = found["found"].as_str().unwrap();
    assert!(told.contains("redis.retention.1m.seconds is 90"), "{told}");
}

#[test]
fn without_a_site_the_commands_say_how_to_get_one() {
    let folder = Folder::new();
    for verb in [&["watch"][..], &["top", "--once"], &["history"]] {
        let service = Service::new(verb[0], &tool::ours("hostbus"), folder.path());
        let finished = service.args(verb).args(["--data", "data"]).finish();
        assert_eq!(finished.code, Some(1), "{finished:?}");
        assert!(
            finished.stderr.contains("`hostbus up`"),
            "{}",
            finished.stderr
        );
        assert!(!folder.join("data").exists(), "reading has made a folder");
    }
}
