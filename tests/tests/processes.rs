//! The parts as separate programs: their settings, their help, and the pipeline they form.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::ensure;
use hostbus_tests::folder::Folder;
use hostbus_tests::mosquitto::{Account, Version};
use hostbus_tests::pipeline::{self, Pipeline};
use hostbus_tests::redis_server::RedisServer;
use hostbus_tests::service::Service;
use hostbus_tests::{loopback, poll, tool};

const PROGRAMS: [&str; 3] = ["hostbus-broker", "hostbus-publisher", "hostbus-ingester"];

#[test]
fn separate_processes_with_files_of_their_own_form_the_pipeline() {
    let mut pipeline = Pipeline::start();
    let viewer = pipeline.account("viewer");
    let status = "hostbus/v1/home/web1/status";
    let bus = viewer
        .subscribe(&pipeline.folder, Version::V311, &["hostbus/v1/#"])
        .ready();
    let mut publisher = pipeline.publisher(0.2).started();
    let history = pipeline.history();
    poll::until("rows of this host's cpu", || {
        let rows = history.count("home.web1", "cpu")?;
        ensure!(rows >= 3, "{rows} rows");
        Ok(())
    });
    bus.wait_for("online", |message| {
        message.topic == status && message.payload == b"online"
    });
    for what in ["metrics", "info", "committed"] {
        let topic = format!("hostbus/v1/home/web1/{what}");
        bus.wait_for(what, |message| message.topic == topic);
    }
    let within = Duration::from_secs(10);
    assert!(publisher.interrupt(within).success());
    bus.wait_for("offline", |message| {
        message.topic == status && message.payload == b"offline"
    });
    pipeline.ingester.signal(rustix::process::Signal::TERM);
    assert!(pipeline.ingester.wait(within).success());
    assert!(pipeline.broker.interrupt(within).success());
}

#[test]
fn another_broker_carries_the_pipeline_too() {
    let folder = Folder::new();
    let redis = RedisServer::start(&folder);
    let address = loopback::address();
    let settings = format!("listener 1883 {address}\nallow_anonymous true\npersistence false\n");
    let settings = folder.write("mosquitto.conf", &settings);
    let mosquitto = tool::of_system("mosquitto", "mosquitto");
    let _mosquitto = Service::new("mosquitto", &mosquitto, folder.path())
        .args(["-c"])
        .args([settings])
        .started();
    pipeline::carried_by(&folder, &redis, SocketAddr::from((address, 1883)), false);
}

#[test]
fn an_unknown_key_is_named_with_the_nearest_known_one() {
    let folder = Folder::new();
    let cases = [
        ("hostbus-broker", "broker", "liste", "listen"),
        (
            "hostbus-publisher",
            "publisher",
            "interval_second",
            "interval_seconds",
        ),
        (
            "hostbus-ingester",
            "ingester",
            "batch_sample",
            "batch_samples",
        ),
        ("hostbus-ingester", "redis", "urk", "url"),
        ("hostbus-publisher", "bus", "passwordfile", "password_file"),
    ];
    for (program, section, wrong, right) in cases {
        let file = folder.write("wrong.toml", &format!("[{section}]\n{wrong} = \"1\"\n"));
        let in_file = pipeline::service(&folder, program, &file).finish();
        let variable = format!(
            "HOSTBUS_{}__{}",
            section.to_uppercase(),
            wrong.to_uppercase()
        );
        let in_environment = Service::new(program, &tool::ours(program), folder.path())
            .env(&variable, "1")
            .finish();
        for (finished, origin) in [(in_file, "wrong.toml"), (in_environment, &*variable)] {
            assert_eq!(finished.code, Some(2), "{program}: {finished:?}");
            let said = finished.stderr;
            for part in [
                origin,
                &format!("`{section}.{wrong}`"),
                &format!("`{section}.{right}`"),
            ] {
                assert!(said.contains(part), "{program} does not say {part}: {said}");
            }
            assert_eq!(said.lines().count(), 1, "{said}");
        }
    }
}

#[test]
fn a_wrong_value_is_refused_before_anything_starts() {
    let folder = Folder::new();
    for (program, variable, value) in [
        ("hostbus-broker", "HOSTBUS_BROKER__LISTEN", "nowhere"),
        ("hostbus-broker", "HOSTBUS_BROKER__LISTEN", "0.0.0.0:0"),
        ("hostbus-broker", "HOSTBUS_BROKER__ENGINE", "rumqttd"),
        ("hostbus-broker", "HOSTBUS_BROKER__ENGINE", "mosquitto"),
        (
            "hostbus-publisher",
            "HOSTBUS_PUBLISHER__INTERVAL_SECONDS",
            "0",
        ),
        ("hostbus-publisher", "HOSTBUS_PUBLISHER__NODE", "Web 1"),
        ("hostbus-publisher", "HOSTBUS_BUS__URL", "http://x"),
        ("hostbus-ingester", "HOSTBUS_REDIS__URL", "http://x"),
        ("hostbus-ingester", "HOSTBUS_LOG__LEVEL", "loud,,="),
    ] {
        let service = Service::new(program, &tool::ours(program), folder.path());
        let finished = service.env(variable, value).finish();
        assert_eq!(
            finished.code,
            Some(2),
            "{program} {variable}={value}: {finished:?}"
        );
        let key = variable
            .trim_start_matches("HOSTBUS_")
            .to_lowercase()
            .replace("__", ".");
        assert!(finished.stderr.contains(&key), "{key}: {}", finished.stderr);
    }
}

#[test]
fn the_brokers_development_mode_needs_no_login_and_stays_on_loopback() {
    let folder = Folder::new();
    let broker = |listen: String| {
        let arguments = [
            "--anonymous",
            "admin",
            "--ready-file",
            "ready.json",
            "--listen",
            &listen,
        ];
        Service::new("broker", &tool::ours("hostbus-broker"), folder.path()).args(arguments)
    };
    let mut development = broker(format!("{}:0", loopback::address())).started();
    let ready = development.wait_for_file(&folder.join("ready.json"));
    let ready: serde_json::Value = serde_json::from_str(&ready).unwrap();
    let url = ready["mqtt"].as_str().unwrap();
    let client = tool::of_system("mosquitto_pub", "mosquitto-clients");
    let publish = Service::new("mosquitto_pub", &client, folder.path())
        .args(["-L", &format!("{url}/any/topic"), "-q", "1", "-m", "x"])
        .finish();
    assert_eq!(
        (publish.code, &*publish.stderr),
        (Some(0), ""),
        "{publish:?}"
    );

    let refused = broker("0.0.0.0:0".to_owned()).env("HOSTBUS_BROKER__INSECURE_LISTEN", "true");
    let refused = refused.finish();
    assert_eq!(refused.code, Some(2), "{refused:?}");
    assert!(
        refused.stderr.contains("broker.anonymous"),
        "{}",
        refused.stderr
    );
}

#[test]
fn help_fits_one_screen_and_has_examples() {
    let folder = Folder::new();
    let commands: Vec<(&str, &[&str])> = PROGRAMS
        .iter()
        .map(|program| (*program, &["--help"][..]))
        .chain([
            ("hostbus", &["--help"][..]),
            ("hostbus", &["up", "--help"]),
            ("hostbus", &["watch", "--help"]),
            ("hostbus", &["history", "--help"]),
        ])
        .collect();
    for (program, arguments) in commands {
        let service = Service::new(program, &tool::ours(program), folder.path());
        let finished = service.args(arguments).finish();
        assert_eq!(finished.code, Some(0), "{finished:?}");
        let lines = finished.stdout.lines().count();
        assert!(
            lines <= 45,
            "{program} {arguments:?} has {lines} lines:\n{}",
            finished.stdout
        );
        assert!(finished.stdout.contains("Examples:"), "{}", finished.stdout);
    }
}

#[test]
fn an_identity_that_was_added_may_log_in() {
    let folder = Folder::new();
    let program = tool::ours("hostbus-broker");
    let verb = |arguments: &[&str]| {
        let service = Service::new("identity", &program, folder.path());
        let finished = service
            .args(["identity"])
            .args(arguments)
            .args(["--data", "data"])
            .finish();
        assert_eq!(finished.code, Some(0), "{finished:?}");
        finished.stdout
    };
    let secret = verb(&["add", "ann", "--role", "viewer"]);
    let secret = secret.trim();
    assert_eq!(secret.len(), 64, "{secret}");
    assert!(verb(&["list", "--json"]).contains(r#""ann""#));
    let listen = format!("{}:1883", loopback::address());
    let mut broker = Service::new("broker", &program, folder.path())
        .args([
            "--data",
            "data",
            "--ready-file",
            "ready.json",
            "--listen",
            &listen,
        ])
        .started();
    broker.wait_for_file(&folder.join("ready.json"));
    let ann = Account {
        address: listen.parse().unwrap(),
        user: "ann".to_owned(),
        password: secret.to_owned(),
    };
    let _ = ann.subscribe(&folder, Version::V5, &["#"]).ready();

    let second = Service::new("second", &program, folder.path())
        .args([
            "--data",
            "data",
            "--listen",
            &format!("{}:0", loopback::address()),
        ])
        .finish();
    assert_eq!(second.code, Some(3), "{second:?}");
}
