//! `hostbus up`: a whole site in one process, with a Redis of its own.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use anyhow::{Context, ensure};
use hostbus_tests::folder::Folder;
use hostbus_tests::history::Row;
use hostbus_tests::mosquitto::{VERSIONS, Version, hex_of_bytes};
use hostbus_tests::redis_server::RedisServer;
use hostbus_tests::service::Service;
use hostbus_tests::site::{NODE, Site};
use hostbus_tests::{loopback, poll, python, tool};
use rustix::process::{Pid, Signal, test_kill_process};
use serde_json::Value;

/// How `up` is known in Redis.
const PATH: &str = "home.here";
/// How long a stop may take.
const STOP_WITHIN: Duration = Duration::from_secs(5);

/// Waits for `count` rows of this host's cpu, and returns all.
#[track_caller]
fn wait_for_rows(site: &Site, count: usize) -> Vec<Row> {
    let history = site.history();
    poll::until("rows of this host's cpu", || {
        let rows = history.rows(PATH, "cpu")?;
        ensure!(rows.len() >= count, "{} rows", rows.len());
        Ok(rows)
    })
}

/// The process id of the site's redis-server.
fn redis_pid(site: &Site) -> Pid {
    let info: String = site
        .history()
        .ask(&["INFO", "server"])
        .expect("an answer of Redis");
    let pid = info
        .lines()
        .find_map(|line| line.strip_prefix("process_id:"));
    pid.and_then(|pid| Pid::from_raw(pid.trim().parse().ok()?))
        .expect("a process id")
}

fn is_there(process: Pid) -> bool {
    test_kill_process(process).is_ok()
}

fn credentials(site: &Site) -> BTreeMap<String, String> {
    site.credentials
        .iter()
        .map(|(user, path)| {
            (
                user.clone(),
                fs::read_to_string(path).expect("a credential"),
            )
        })
        .collect()
}

fn status_topic() -> String {
    format!("hostbus/v1/home/{NODE}/status")
}

#[test]
fn it_prints_how_to_read_redis_and_what_to_try() {
    let site = Site::start();
    wait_for_rows(&site, 1);
    let printed = poll::until("the words of `up`", || {
        let printed = site.up.stdout();
        ensure!(printed.contains("Ctrl-C stops it"), "{printed}");
        Ok(printed)
    });
    let port = site.address.port().to_string();
    for part in [
        &port, "hostbus", "top", "watch", "history", "viewer", "admin",
    ] {
        assert!(printed.contains(part), "no {part} in:\n{printed}");
    }
    for user in ["viewer", "admin"] {
        assert!(
            printed.contains(&site.account(user).password),
            "{user} is not shown:\n{printed}"
        );
    }
    // The line that reads Redis is a command as it stands.
    let line = printed
        .lines()
        .find_map(|line| Some(&line[line.find("redis-cli ")?..]))
        .unwrap();
    let _ = tool::of_system("redis-cli", "redis-tools");
    let output = std::process::Command::new("sh")
        .args(["-c", line])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        said.contains("usage_percent") && said.contains("load1"),
        "{line}: {said}"
    );
}

#[test]
fn what_mosquitto_hears_is_what_proc_says() {
    let site = Site::start();
    let topic = format!("hostbus/v1/home/{NODE}/metrics");
    for version in VERSIONS {
        let viewer = site
            .account("viewer")
            .subscribe(&site.folder, version, &[&topic]);
        // The first sample has no rates yet.
        let sample = poll::until("a sample with rates", || {
            let heard = viewer.received();
            let last = heard.last().context("nothing yet")?;
            let text = python::run("decode.py", &[], &hex_of_bytes(&last.payload));
            let sample: Value = serde_json::from_str(&text)?;
            ensure!(sample["cpu"]["usage_percent"].is_number(), "{sample}");
            Ok(sample)
        });
        check_against_proc(&sample);
    }
}

/// Compares a sample with what the kernel tells this process.
#[track_caller]
fn check_against_proc(sample: &Value) {
    let read = |path: &str| fs::read_to_string(path).expect("a file of /proc");
    let kib = |field: &str| -> f64 {
        let text = read("/proc/meminfo");
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(field))
            .expect("a field");
        line.trim_matches([':', ' '])
            .split(' ')
            .next()
            .and_then(|n| n.parse().ok())
            .expect("KiB")
    };
    let number = |section: &str, field: &str| -> f64 {
        sample[section][field]
            .as_f64()
            .unwrap_or_else(|| panic!("{section}.{field}: {sample}"))
    };
    let total = kib("MemTotal") * 1024.0;
    assert_eq!(number("memory", "total_bytes"), total);
    let available = kib("MemAvailable") * 1024.0;
    let apart = (number("memory", "available_bytes") - available).abs() / total;
    assert!(
        apart < 0.2,
        "available memory differs by {apart} of all: {sample}"
    );

    let cores = read("/proc/stat")
        .lines()
        .filter(|line| line.starts_with("cpu"))
        .count()
        - 1;
    assert_eq!(
        sample["cpu"]["cores"].as_array().map(Vec::len),
        Some(cores),
        "{sample}"
    );
    let load = read("/proc/loadavg");
    let load: f64 = load
        .split(' ')
        .next()
        .and_then(|load| load.parse().ok())
        .expect("a load");
    let apart = (number("cpu", "load1") - load).abs();
    assert!(apart < 2.0 + load / 4.0, "the load is {load}: {sample}");

    check_percents(sample);
    let now = hostbus_daemon::clock::unix_ms();
    let ts = sample["ts"].as_u64().expect("a time");
    assert!(ts.abs_diff(now) < 60_000, "{ts} and {now}");
    let filesystems = sample["filesystems"].as_array().expect("filesystems");
    let root = filesystems
        .iter()
        .find(|one| one["name"] == "/")
        .expect("a root filesystem");
    let statistics = rustix::fs::statvfs("/").expect("figures of /");
    let size = statistics.f_blocks * statistics.f_frsize;
    assert_eq!(root["total_bytes"].as_u64(), Some(size), "{root}");
    assert!(
        sample["seq"].as_u64() >= Some(1) && sample["first"].as_u64() >= Some(1),
        "{sample}"
    );
}

/// Every field whose name says percent is 0 to 100.
#[track_caller]
fn check_percents(value: &Value) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                if name.ends_with("_percent") {
                    let percent = field.as_f64().expect("a number");
                    assert!((0.0..=100.0).contains(&percent), "{name} is {percent}");
                }
                check_percents(field);
            }
        }
        Value::Array(items) => items.iter().for_each(check_percents),
        _ => {}
    }
}

#[test]
fn a_second_one_on_the_same_folder_says_so() {
    let site = Site::start();
    let listen = format!("{}:0", loopback::address());
    let second = site.command(&["up", "--listen", &listen]).finish();
    assert_eq!(second.code, Some(3), "{second:?}");
    assert!(second.stderr.contains("already up"), "{}", second.stderr);
    let pid = site.up.pid().as_raw_nonzero().to_string();
    assert!(second.stderr.contains(&pid), "{}", second.stderr);
    // The first one is none the worse for it.
    let rows = wait_for_rows(&site, 1).len();
    wait_for_rows(&site, rows + 1);
}

#[test]
fn ctrl_c_stops_everything_and_a_restart_keeps_everything() {
    let mut site = Site::start();
    let before = wait_for_rows(&site, 3);
    let (redis, address) = (redis_pid(&site), site.address);
    let secrets = credentials(&site);
    assert!(secrets.len() >= 5, "{:?}", secrets.keys());

    assert!(site.up.interrupt(STOP_WITHIN).success());
    assert!(!is_there(redis), "redis-server is still there");
    assert!(
        TcpStream::connect(address).is_err(),
        "the port is still open"
    );
    let log = site.up.stderr();
    let stop = log.find("stopping").map_or(log.as_str(), |at| &log[at..]);
    assert!(!stop.contains("WARN") && !stop.contains("ERROR"), "{stop}");

    site.start_again();
    let after = wait_for_rows(&site, before.len() + 2);
    assert_eq!(after[..before.len()], before);
    assert_eq!(credentials(&site), secrets);
    let viewer = site.account("viewer");
    let heard = viewer.subscribe(&site.folder, Version::V5, &[&status_topic()]);
    heard.wait_for("online", |message| message.payload == b"online");
    // What was printed once is not printed again.
    assert_eq!(site.up.stdout().matches(&viewer.password).count(), 1);
}

#[test]
fn after_a_kill_the_next_one_takes_over_redis_and_its_history() {
    let mut site = Site::start();
    let before = wait_for_rows(&site, 3);
    let redis = redis_pid(&site);
    site.up.kill();
    assert!(
        is_there(redis),
        "this test wants a redis-server that is left behind"
    );
    site.start_again();
    let after = wait_for_rows(&site, before.len() + 2);
    assert_eq!(after[..before.len()], before);
    let (_, seq) = site.history().committed(PATH).unwrap();
    assert!(seq >= 1);
    let redis = redis_pid(&site);
    assert!(site.up.interrupt(STOP_WITHIN).success());
    assert!(!is_there(redis), "redis-server is still there");
}

#[test]
fn a_redis_that_is_killed_comes_back_with_its_history() {
    let mut site = Site::start();
    let before = wait_for_rows(&site, 3);
    let history = site.history();
    poll::until("all that was answered in the hands of the system", || {
        let facts: String = history.ask(&["INFO", "persistence"])?;
        ensure!(facts.contains("aof_buffer_length:0\r"), "{facts}");
        Ok(())
    });
    let killed = redis_pid(&site);
    rustix::process::kill_process(killed, Signal::KILL).unwrap();
    let after = poll::until("more rows after the kill", || {
        let rows = history.rows(PATH, "cpu")?;
        ensure!(rows.len() >= before.len() + 3, "{} rows", rows.len());
        Ok(rows)
    });
    assert_eq!(after[..before.len()], before);
    assert_ne!(redis_pid(&site), killed);
    let (_, seq) = history.committed(PATH).unwrap();
    assert!(after.len() as u64 <= seq, "{} rows, seq {seq}", after.len());
    let redis = redis_pid(&site);
    assert!(site.up.interrupt(STOP_WITHIN).success());
    assert!(!is_there(redis), "redis-server is still there");
}

#[test]
fn a_redis_of_ones_own_is_used_and_left_running() {
    let folder = Folder::new();
    let redis = RedisServer::start(&folder);
    let mut site = Site::start_with(&["--redis", &redis.url()]);
    assert_eq!(site.redis, redis.url());
    let before = wait_for_rows(&site, 2).len();
    assert!(
        !site.folder.join("data/redis/redis.sock").exists(),
        "there is a private one too"
    );
    assert!(site.up.interrupt(STOP_WITHIN).success());
    assert!(redis.history().count(PATH, "cpu").unwrap() >= before as u64);
}

#[test]
fn the_brokers_figures_are_where_the_ready_file_says_and_under_the_site() {
    let settings = Folder::new();
    let file = settings.join("hostbus.toml");
    fs::write(&file, "[broker]\nmetrics_listen = \"127.0.0.1:0\"\n").unwrap();
    let file = file.display().to_string();
    let site = Site::start_with(&["--config", &file, "--site", "lab"]);
    let ready: Value =
        serde_json::from_str(&fs::read_to_string(site.folder.join("ready.json")).unwrap()).unwrap();
    let url = ready["metrics"]
        .as_str()
        .expect("metrics in the ready file");
    let (host, path) = url["http://".len()..].split_once('/').unwrap();
    // Publisher, ingester and notifier, once who looked whether they are there has left.
    poll::until("three clients in the figures", || {
        let mut stream = TcpStream::connect(host)?;
        write!(stream, "GET /{path} HTTP/1.1\r\nHost: {host}\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let three = answer.contains("\nhostbus_broker_clients_connected 3\n");
        ensure!(three, "{answer}");
        Ok(())
    });

    let topic = "hostbus/v1/lab/_system/broker/main";
    let watched = site.command(&["watch", topic, "--count", "1"]).finish();
    let health: Value = serde_json::from_str(&watched.stdout).expect("a JSON document");
    assert_eq!(health["payload"]["state"], "ok", "{health}");
}

#[test]
fn credentials_are_for_their_owner_only() {
    let site = Site::start();
    for (user, path) in &site.credentials {
        let mode = fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{user}");
    }
    let data = site.folder.join("data");
    assert_eq!(
        fs::metadata(&data).unwrap().permissions().mode() & 0o777,
        0o700
    );
    assert_eq!(
        fs::metadata(site.redis.trim_start_matches("unix://"))
            .unwrap()
            .permissions()
            .mode()
            & 0o077,
        0
    );
    for user in ["viewer", "admin", "ingester", "notifier", "home.here"] {
        assert!(site.credentials.contains_key(user), "{user}");
        assert_eq!(site.account(user).password.len(), 64, "{user}");
    }
    // The secrets stand in none of the logs.
    for user in site.credentials.keys() {
        assert!(
            !site.up.stderr().contains(&site.account(user).password),
            "{user}"
        );
    }
}

#[test]
fn the_status_says_offline_after_a_stop() {
    let mut site = Site::start();
    let heard = site
        .account("viewer")
        .subscribe(&site.folder, Version::V5, &[&status_topic()]);
    heard.wait_for("online", |message| message.payload == b"online");
    assert!(site.up.interrupt(STOP_WITHIN).success());
    heard.wait_for("offline", |message| message.payload == b"offline");
}

#[test]
fn the_last_will_says_offline_after_a_kill() {
    let pipeline = hostbus_tests::pipeline::Pipeline::start();
    let topic = "hostbus/v1/home/web1/status";
    let viewer = pipeline.account("viewer");
    let heard = viewer
        .subscribe(&pipeline.folder, Version::V311, &[topic])
        .ready();
    let mut publisher: Service = pipeline.publisher(1.0).started();
    heard.wait_for("online", |message| message.payload == b"online");
    publisher.signal(Signal::KILL);
    heard.wait_for("offline", |message| message.payload == b"offline");
    publisher.wait(STOP_WITHIN);
    // It stands there for those who come later.
    let late = viewer.subscribe(&pipeline.folder, Version::V5, &[topic]);
    late.wait_for("offline", |message| {
        message.retained && message.payload == b"offline"
    });
}

#[test]
fn a_wrong_setting_is_told_before_anything_starts() {
    let folder = Folder::new();
    let up = |variable: &str, value: &str| {
        Service::new("up", &tool::ours("hostbus"), folder.path())
            .args(["up", "--data", "data"])
            .env(variable, value)
            .finish()
    };
    let finished = up("HOSTBUS_PUBLISHER__INTERVALL_SECONDS", "1");
    assert_eq!(finished.code, Some(2), "{finished:?}");
    assert!(
        finished.stderr.contains("`publisher.interval_seconds`"),
        "{}",
        finished.stderr
    );
    assert!(!folder.join("data").exists(), "something was begun");
}
