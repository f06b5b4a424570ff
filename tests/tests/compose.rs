//! The container files: what they promise, and that the programs take the very commands and
//! settings that stand in them.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use anyhow::ensure;
use hostbus_tests::folder::Folder;
use hostbus_tests::redis_server::RedisServer;
use hostbus_tests::service::Service;
use hostbus_tests::{loopback, poll, python, tool};
use serde_json::Value;

/// Where the containers keep the credentials, and which folder the images' programs start in.
const HOME: &str = "/var/lib/hostbus";
/// Where the image has the settings of `docker/`.
const SETTINGS: &str = "/etc/hostbus";

/// `docker-compose.yml`.
fn compose() -> Value {
    let text = read("docker-compose.yml");
    serde_json::from_str(&python::run("yaml_to_json.py", &[], &text)).expect("JSON")
}

fn read(name: &str) -> String {
    fs::read_to_string(tool::workspace().join(name))
        .unwrap_or_else(|error| panic!("failed to read {name}: {error}"))
}

/// The words of a list of texts.
fn words(list: &Value) -> Vec<&str> {
    list.as_array()
        .map(|list| list.iter().filter_map(Value::as_str).collect())
        .unwrap_or_default()
}

#[test]
fn each_service_is_checked_kept_up_and_no_root() {
    let compose = compose();
    let services = compose["services"].as_object().unwrap();
    let names: Vec<&str> = services.keys().map(String::as_str).collect();
    let expected = [
        "broker",
        "ingester",
        "notifier",
        "publisher",
        "redis",
        "setup",
    ];
    assert_eq!(names, expected);
    let volumes: BTreeSet<&str> = compose["volumes"]
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    for (name, service) in services {
        let user = service["user"].as_str().unwrap();
        assert!(
            !user.starts_with('0') && user != "root",
            "{name} runs as {user}"
        );
        let mounts = words(&service["volumes"]);
        assert!(!mounts.is_empty(), "{name} has no volume");
        for mount in mounts {
            let source = mount.split(':').next().unwrap();
            assert!(volumes.contains(source), "{name} mounts {mount}");
        }
        if name == "setup" {
            assert_eq!(service["restart"], "no");
            continue;
        }
        assert_eq!(service["restart"], "unless-stopped", "{name}");
        let check = words(&service["healthcheck"]["test"]).join(" ");
        assert!(check.starts_with("CMD"), "{name}: {check}");
        for port in words(&service["ports"]) {
            assert!(port.starts_with("127.0.0.1:"), "{name} publishes {port}");
        }
    }
    assert!(words(&services["redis"]["command"]).contains(&"--appendonly"));
    assert_eq!(services["publisher"]["network_mode"], "host");
    assert_eq!(services["publisher"]["pid"], "host");
}

#[test]
fn the_image_has_the_programs_and_runs_them_without_root() {
    let text = read("Dockerfile");
    // Continued lines are one instruction.
    let text = text.replace("\\\n", " ");
    let of = |name: &str| -> Vec<String> {
        text.lines()
            .filter_map(|line| line.strip_prefix(name)?.strip_prefix(' '))
            .map(|rest| rest.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect()
    };
    let stages = of("FROM");
    assert_eq!(stages.len(), 2, "{stages:?}");
    let msrv: toml::Table = read("Cargo.toml").parse().unwrap();
    let msrv = msrv["workspace"]["package"]["rust-version"]
        .as_str()
        .unwrap();
    assert_eq!(stages[0], format!("rust:{msrv}-bookworm AS build"));
    assert!(stages[1].starts_with("debian:bookworm-slim"));
    assert_eq!(of("USER"), ["10001:10001"]);
    assert_eq!(of("WORKDIR").last().unwrap(), HOME);
    let copies = of("COPY").join("\n");
    for (program, profile, folder) in [
        ("hostbus", "--release", "release"),
        ("hostbus-broker", "--release", "release"),
        ("hostbus-publisher", "--profile light", "light"),
        ("hostbus-ingester", "--release", "release"),
        ("hostbus-notifier", "--release", "release"),
    ] {
        let path = format!("/build/target/{folder}/{program} ");
        assert!(copies.contains(&path), "{program} is not copied");
        let built = of("RUN")
            .iter()
            .any(|run| run.contains(profile) && run.split_whitespace().any(|word| word == program));
        assert!(built, "{program} is not built");
    }
    assert!(copies.contains(&format!("docker {SETTINGS}")));
}

#[test]
fn setup_makes_private_secrets_once() {
    let folder = Folder::new();
    make_credentials(&folder);
    let names = || -> Vec<(String, String)> {
        let mut all: Vec<_> = fs::read_dir(folder.join("credentials"))
            .unwrap()
            .map(|entry| {
                let path = entry.unwrap().path();
                let mode = fs::metadata(&path).unwrap().permissions().mode();
                assert_eq!(mode & 0o777, 0o600, "{}", path.display());
                let name = path.file_name().unwrap().to_string_lossy().into_owned();
                (name, fs::read_to_string(&path).unwrap())
            })
            .collect();
        all.sort();
        all
    };
    let first = names();
    assert_eq!(first.len(), 6);
    for (name, secret) in &first {
        assert!(
            secret.len() == 64 && secret.bytes().all(|b| b.is_ascii_hexdigit()),
            "{name}"
        );
    }
    make_credentials(&folder);
    assert_eq!(names(), first);
}

/// Does what the service `setup` does.
#[track_caller]
fn make_credentials(folder: &Folder) {
    fs::create_dir_all(folder.join("credentials")).expect("failed to make a folder");
    let compose = compose();
    let command = words(&compose["services"]["setup"]["command"]);
    let arguments = command[1..].iter().map(|word| word.replace("$$", "$"));
    let status = Command::new(command[0])
        .args(arguments)
        .current_dir(folder.path())
        .status();
    assert!(status.expect("failed to run the setup").success());
}

/// The program of a service with its command and settings from the files, started as in its
/// container: in the folder that has the credentials.
fn service(compose: &Value, name: &str, folder: &Folder) -> Service {
    let command = words(&compose["services"][name]["command"]);
    let arguments = command[1..]
        .iter()
        .map(|word| match word.strip_prefix(SETTINGS) {
            Some(file) => format!("{}{file}", tool::workspace().join("docker").display()),
            None => (*word).to_owned(),
        });
    Service::new(name, &tool::ours(command[0]), folder.path()).args(arguments)
}

/// Runs a service's health check as its container would, on this bus.
fn is_healthy(compose: &Value, name: &str, folder: &Folder, address: SocketAddr) -> bool {
    let test = words(&compose["services"][name]["healthcheck"]["test"]);
    assert_eq!(test[0], "CMD-SHELL");
    let script = test[1]
        .replace("$$", "$")
        .replace("mqtt://127.0.0.1:1883", &format!("mqtt://{address}"))
        .replace("mqtt://broker:1883", &format!("mqtt://{address}"));
    let programs = tool::ours("hostbus")
        .parent()
        .map(Path::to_owned)
        .expect("a folder");
    let path = std::env::var("PATH").unwrap_or_default();
    Command::new("sh")
        .args(["-c", &script])
        .current_dir(folder.path())
        .env("PATH", format!("{}:{path}", programs.display()))
        .status()
        .expect("failed to run a health check")
        .success()
}

#[test]
fn the_commands_and_settings_form_a_healthy_pipeline() {
    let compose = compose();
    let folder = Folder::new();
    make_credentials(&folder);
    let redis = RedisServer::start(&folder);
    let address = SocketAddr::from((loopback::address(), 1883));
    let url = format!("mqtt://{address}");

    let broker = service(&compose, "broker", &folder);
    let _broker = broker
        .env("HOSTBUS_BROKER__LISTEN", address.to_string())
        .started();
    let healthy = |name: &str| {
        poll::until(&format!("a healthy {name}"), || {
            ensure!(
                is_healthy(&compose, name, &folder, address),
                "its health check fails"
            );
            Ok(())
        });
    };
    healthy("broker");
    let ingester = service(&compose, "ingester", &folder);
    let ingester = ingester
        .env("HOSTBUS_BUS__URL", &url)
        .env("HOSTBUS_REDIS__URL", redis.url());
    let _ingester = ingester.started();
    healthy("ingester");
    let notifier = service(&compose, "notifier", &folder);
    let _notifier = notifier
        .env("HOSTBUS_BUS__URL", &url)
        .env("HOSTBUS_NOTIFIER__SPOOL__FOLDER", folder.join("spool"))
        .started();
    healthy("notifier");
    assert!(
        !is_healthy(&compose, "publisher", &folder, address),
        "it is not there yet"
    );
    let publisher = service(&compose, "publisher", &folder);
    let publisher = publisher.env("HOSTBUS_BUS__URL", &url);
    let _publisher = publisher
        .env("HOSTBUS_PUBLISHER__INTERVAL_SECONDS", "0.5")
        .started();
    healthy("publisher");
    let history = redis.history();
    poll::until("rows of this host in Redis", || {
        let rows = history.count("home.docker", "cpu")?;
        ensure!(rows >= 3, "{rows} rows");
        Ok(())
    });
}
