//! `hostbus-broker` as a program: its flags, files and exit codes.

#![expect(clippy::unwrap_used, reason = "test code")]

mod raw;

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use raw::{Broker, Client, DEADLINE, connect};

fn program(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hostbus-broker"));
    command
        .args(arguments)
        .env_remove("HOSTBUS_DATA")
        .env_remove("HOSTBUS_CONFIG");
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn output(arguments: &[&str]) -> Output {
    program(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

struct Serving(Child);

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts the program and waits for its ready file.
fn serve(arguments: &[&str], ready: &Path) -> (Serving, std::net::SocketAddr) {
    let mut command = program(arguments);
    command.args([
        "--listen",
        "127.0.0.1:0",
        "--ready-file",
        ready.to_str().unwrap(),
    ]);
    let serving = Serving(command.stderr(Stdio::null()).spawn().unwrap());
    (serving, address_in(ready))
}

/// Waits for the ready file.
fn address_in(ready: &Path) -> std::net::SocketAddr {
    let begun = Instant::now();
    while !ready.exists() {
        assert!(begun.elapsed() < DEADLINE, "no ready file");
        std::thread::sleep(Duration::from_millis(20));
    }
    let object: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(ready).unwrap()).unwrap();
    let address = object["mqtt"]
        .as_str()
        .unwrap()
        .strip_prefix("mqtt://")
        .unwrap();
    address.parse().unwrap()
}

#[test]
fn the_ready_file_tells_where_the_figures_are() {
    let folder = tempfile::tempdir().unwrap();
    let ready = folder.path().join("ready");
    let flags = ["--anonymous", "admin", "--metrics-listen", "127.0.0.1:0"];
    let (_serving, address) = serve(&flags, &ready);
    let object: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(&ready).unwrap()).unwrap();
    let url = object["metrics"].as_str().unwrap();
    let host = url.strip_prefix("http://").unwrap();
    let host = host.strip_suffix("/metrics").unwrap();
    assert_ne!(host, address.to_string());
    let mut stream = std::net::TcpStream::connect(host).unwrap();
    stream
        .write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains("\nhostbus_broker_sessions 0\n"), "{answer}");
}

#[tokio::test]
async fn identities_are_added_listed_used_and_removed() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let data = data.to_str().unwrap();
    let node = [
        "identity",
        "add",
        "web1",
        "--role",
        "publisher",
        "--node",
        "home.web1",
    ];
    let added = output(&[&node[..], &["--data", data]].concat());
    assert!(added.status.success(), "{}", text(&added.stderr));
    let secret = text(&added.stdout).trim().to_owned();
    assert_eq!(secret.len(), 64);

    let person = [
        "identity",
        "add",
        "ann",
        "--role",
        "viewer",
        "--password-stdin",
        "--data",
        data,
    ];
    let mut adding = program(&person).stdin(Stdio::piped()).spawn().unwrap();
    adding
        .stdin
        .take()
        .unwrap()
        .write_all(b"correct horse\n")
        .unwrap();
    let added = adding.wait_with_output().unwrap();
    assert!(added.status.success() && added.stdout.is_empty());

    let listed = output(&["identity", "list", "--data", data]);
    let lines: Vec<Vec<&str>> = text(&listed.stdout)
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(
        lines,
        [
            &["ann", "viewer"][..],
            &["web1", "publisher", "home.web1"][..]
        ]
    );

    let (serving, address) = serve(&["--data", data], &folder.path().join("ready"));
    let running = raw::broker(|_| {}).await.running;
    let broker = Broker { address, running };
    let secret: &'static str = secret.leak();
    for (user, password) in [("web1", secret), ("ann", "correct horse")] {
        let mut packet = connect(5, "c", user);
        packet.password = Some(password);
        packet.go(&broker).await.goodbye().await;
    }
    let busy = output(&["identity", "list", "--data", data]);
    assert_eq!(busy.status.code(), Some(3));
    assert!(
        text(&busy.stderr).contains("running broker"),
        "{}",
        text(&busy.stderr)
    );
    let second = output(&["--listen", "127.0.0.1:0", "--data", data]);
    assert_eq!(second.status.code(), Some(3));
    drop(serving);

    assert!(
        output(&["identity", "remove", "ann", "--data", data])
            .status
            .success()
    );
    let again = output(&["identity", "remove", "ann", "--data", data]);
    assert_eq!(again.status.code(), Some(1));
    let listed = output(&["identity", "list", "--json", "--data", data]);
    let rows: serde_json::Value = serde_json::from_str(text(&listed.stdout)).unwrap();
    assert_eq!(rows.as_array().map(Vec::len), Some(1), "{rows}");
}

#[tokio::test]
async fn an_anonymous_broker_lets_anybody_in_and_stops_on_a_signal() {
    let folder = tempfile::tempdir().unwrap();
    let (mut serving, address) = serve(&["--anonymous", "admin"], &folder.path().join("ready"));
    let running = raw::broker(|_| {}).await.running;
    let mut packet = connect(5, "c", "");
    (packet.user, packet.password) = (None, None);
    let mut client = packet.go(&Broker { address, running }).await;
    assert_eq!(client.subscribe("#", 1).await, 1);
    let pid = serving.0.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-TERM", &pid])
            .status()
            .unwrap()
            .success()
    );
    assert_eq!(client.ended().await, Some(0x8b));
    assert!(serving.0.wait().unwrap().success());
}

/// Starts the program under `limits`, as options of `ulimit`, with its log in a file.
fn serve_under(limits: &str, folder: &Path) -> (Serving, std::net::SocketAddr, PathBuf) {
    let (log, ready) = (folder.join("log"), folder.join("ready"));
    let script = format!("{limits} && exec \"$0\" \"$@\"");
    let mut command = Command::new("sh");
    command
        .args(["-c", &script, env!("CARGO_BIN_EXE_hostbus-broker")])
        .args(["--listen", "127.0.0.1:0", "--anonymous", "admin"])
        .args(["--ready-file", ready.to_str().unwrap()])
        .env_remove("HOSTBUS_DATA")
        .env_remove("HOSTBUS_CONFIG")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(&log).unwrap());
    let serving = Serving(command.spawn().unwrap());
    let address = address_in(&ready);
    (serving, address, log)
}

async fn anonymous(broker: &Broker) -> Client {
    let mut packet = connect(4, "", "");
    (packet.user, packet.password) = (None, None);
    packet.go(broker).await
}

#[tokio::test]
async fn more_clients_connect_than_the_soft_limit_on_open_files_allows() {
    let folder = tempfile::tempdir().unwrap();
    let (_serving, address, log) = serve_under("ulimit -Sn 60", folder.path());
    let running = raw::broker(|_| {}).await.running;
    let broker = Broker { address, running };
    let mut clients = Vec::new();
    for _ in 0..200 {
        clients.push(anonymous(&broker).await);
    }
    for client in &mut clients {
        client.nothing_waits().await;
    }
    let told = std::fs::read_to_string(log).unwrap();
    assert!(!told.contains("can't be accepted"), "{told}");
}

#[tokio::test]
async fn a_low_limit_on_open_files_is_told_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    let (_serving, address, log) = serve_under("ulimit -n 100", folder.path());
    let running = raw::broker(|_| {}).await.running;
    let broker = Broker { address, running };
    let mut clients = Vec::new();
    for _ in 0..50 {
        clients.push(anonymous(&broker).await);
    }
    for _ in 0..100 {
        let begun = Instant::now();
        let mut refused = Client::new(address, 4).await;
        assert_eq!(refused.frame().await, None);
        assert!(begun.elapsed() < DEADLINE / 4, "not closed at once");
    }
    clients.pop().unwrap().goodbye().await;
    anonymous(&broker).await.nothing_waits().await;
    let told = std::fs::read_to_string(log).unwrap();
    assert!(told.contains("LimitNOFILE"), "{told}");
    assert_eq!(told.matches("too many connections").count(), 1, "{told}");
    assert!(!told.contains("can't be accepted"), "{told}");
}

#[tokio::test]
async fn accepting_goes_on_after_file_descriptors_ran_out() {
    let folder = tempfile::tempdir().unwrap();
    // Fewer than the broker and its share of connections need.
    let (_serving, address, log) = serve_under("ulimit -n 16", folder.path());
    let told = || std::fs::read_to_string(&log).unwrap();
    let running = raw::broker(|_| {}).await.running;
    let broker = Broker { address, running };
    let mut clients = Vec::new();
    let begun = Instant::now();
    while !told().contains("can't be accepted") {
        assert!(begun.elapsed() < DEADLINE, "{}", told());
        let mut client = Client::new(address, 4).await;
        let mut packet = connect(4, "", "");
        (packet.user, packet.password) = (None, None);
        client.send(&packet.bytes()).await;
        clients.push(client);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    clients.clear();
    anonymous(&broker).await.nothing_waits().await;
    assert_eq!(told().matches("can't be accepted").count(), 1, "{}", told());
}

#[test]
fn a_wrong_setting_is_named_with_the_exit_code_of_usage() {
    let check = |arguments: &[&str], named: &str| {
        let output = output(arguments);
        let told = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{told}");
        assert!(told.contains(named), "{told}");
    };
    check(&["--listen", "0.0.0.0:0"], "broker.insecure_listen");
    check(&["--listen", "nowhere"], "broker.listen");
    check(
        &["--listen", "127.0.0.1:0", "--metrics-listen", "0.0.0.0:0"],
        "broker.insecure_metrics_listen",
    );
    check(
        &["--listen", "127.0.0.1:0", "--anonymous", "publisher"],
        "broker.anonymous",
    );
    check(&["--anonymous", "king"], "broker.anonymous");
    check(
        &[
            "identity",
            "add",
            "x",
            "--role",
            "publisher",
            "--data",
            "/nowhere",
        ],
        "site.node",
    );
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("broker.toml");
    std::fs::write(&file, "[broker.limits]\nqueue_byte = 1\n").unwrap();
    check(&["--config", file.to_str().unwrap()], "queue_bytes");
    std::fs::write(&file, "[runtime]\nthreads = 0\n").unwrap();
    check(&["--config", file.to_str().unwrap()], "runtime.threads");
}

#[test]
fn help_fits_one_screen_with_examples() {
    let help = output(&["--help"]);
    let told = text(&help.stdout);
    assert!(
        told.contains("Examples:") && told.lines().count() <= 40,
        "{told}"
    );
}
