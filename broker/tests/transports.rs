//! MQTT in TLS and behind a proxy, with clients that are not ours, and the settings of listeners.

#![expect(clippy::unwrap_used, reason = "test code")]

mod listening;
mod raw;

use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use hostbus_broker::Config;
use hostbus_broker::listeners::{ListenerConfig, TransportKind};
use listening::{authority, listening, listening_with, log_in, plain, read_packet};
use raw::{Client, DEADLINE, connect};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::ServerName;

/// Runs a program to its end and returns what it wrote to standard output.
async fn run(mut command: Command) -> String {
    command.stdin(Stdio::null());
    let name = format!("{command:?}");
    let run = tokio::task::spawn_blocking(move || command.output());
    let output = timeout(DEADLINE, run).await.expect(&name).unwrap();
    let output = output.unwrap_or_else(|error| panic!("{name}: {error}; run scripts/install"));
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name}: {told}");
    String::from_utf8(output.stdout).unwrap()
}

fn mosquitto(program: &str, address: SocketAddr, user: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command
        .args(["-h", "localhost", "-p", &address.port().to_string()])
        .args(["-u", user, "-P", "pw"])
        .args(arguments);
    command
}

#[tokio::test]
async fn mosquittos_clients_meet_over_tls_in_both_versions() {
    let authority = authority();
    let (_broker, addresses) = listening(vec![authority.listener(TransportKind::Tls)]).await;
    let ca = authority.path("ca.pem").display().to_string();
    for (version, payload) in [("mqttv311", "old"), ("mqttv5", "new")] {
        let common = [
            "--cafile",
            &ca,
            "-V",
            version,
            "-t",
            "hostbus/v1/home/web1/info",
            "-q",
            "1",
        ];
        let publish = [&common[..], &["-r", "-m", payload]].concat();
        run(mosquitto("mosquitto_pub", addresses[0], "web1", &publish)).await;
        let subscribe = [&common[..], &["-C", "1"]].concat();
        let got = run(mosquitto(
            "mosquitto_sub",
            addresses[0],
            "viewer",
            &subscribe,
        ))
        .await;
        assert_eq!(got.trim(), payload);
    }
    // Without our CA the client itself refuses.
    let mut stranger = mosquitto(
        "mosquitto_pub",
        addresses[0],
        "web1",
        &["--tls-use-os-certs", "-t", "x", "-m", "x"],
    );
    let refused = tokio::task::spawn_blocking(move || stranger.output().unwrap().status);
    assert!(!refused.await.unwrap().success());
}

#[tokio::test]
async fn stopping_says_goodbye_in_mqtt_and_then_in_tls() {
    let authority = authority();
    let (broker, addresses) = listening(vec![authority.listener(TransportKind::Tls)]).await;
    let mut stream = authority.dial(addresses[0]).await.unwrap();
    let bytes = connect(5, "c", "viewer").bytes();
    stream.write_all(&bytes).await.unwrap();
    assert_eq!(read_packet(&mut stream).await[0], 0x20);
    let stopped = tokio::spawn(broker.running.stop());
    let told = read_packet(&mut stream).await;
    assert_eq!((told[0], told[2]), (0xe0, 0x8b));
    // Without close_notify this would be an error.
    let end = timeout(DEADLINE, stream.read(&mut [0])).await.unwrap();
    assert_eq!(end.unwrap(), 0);
    stopped.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_renewed_certificate_is_taken_while_connections_stand() {
    let authority = authority();
    let listener = authority.listener(TransportKind::Tls);
    let (_broker, addresses) = listening_with(vec![listener], |config| {
        config.certificate_check_seconds = 1;
    })
    .await;
    let serial = |stream: &TlsStream<TcpStream>| {
        let certificates = stream.get_ref().1.peer_certificates().unwrap();
        certificates[0].to_vec()
    };
    let mut before = authority.dial(addresses[0]).await.unwrap();
    log_in(&mut before).await;
    std::fs::write(authority.path("broker.key"), "not a key").unwrap();
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let during = authority.dial(addresses[0]).await.unwrap();
    assert_eq!(serial(&before), serial(&during), "the old one stays");
    authority.issue("broker", "localhost");
    let begun = Instant::now();
    loop {
        let after = authority.dial(addresses[0]).await.unwrap();
        if serial(&after) != serial(&before) {
            break;
        }
        assert!(begun.elapsed() < DEADLINE, "never taken");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    before.write_all(&[0xc0, 0]).await.unwrap();
    assert_eq!(read_packet(&mut before).await, [0xd0, 0]);
}

#[tokio::test]
async fn a_client_without_certificate_is_refused_where_one_is_asked_for() {
    let authority = authority();
    authority.issue("client", "someone");
    let mut listener = authority.listener(TransportKind::Tls);
    listener.client_ca = Some(authority.path("ca.pem"));
    let (_broker, addresses) = listening(vec![listener]).await;
    let name = || ServerName::try_from("localhost").unwrap();
    let stream = TcpStream::connect(addresses[0]).await.unwrap();
    let connector = authority.connector(Some("client"));
    let mut stream = connector.connect(name(), stream).await.unwrap();
    log_in(&mut stream).await;
    // In TLS 1.3 the refusal comes after the client's side is done.
    let mut stream = authority.dial(addresses[0]).await.unwrap();
    let _ = stream.write_all(&connect(4, "", "viewer").bytes()).await;
    let end = timeout(DEADLINE, stream.read(&mut [0])).await.unwrap();
    assert!(end.is_err(), "{end:?}");
}

#[tokio::test]
async fn a_trusted_proxy_tells_the_address_that_limits_go_by() {
    let mut listener = plain(TransportKind::Tcp);
    listener.proxy_protocol = true;
    let (_broker, addresses) = listening_with(vec![listener], |config| {
        config.limits.connects_per_minute_per_address = 3;
    })
    .await;
    let v1 = |client: &str| format!("PROXY TCP4 {client} 192.0.2.200 1 2\r\n").into_bytes();
    let v2 = |last: u8| {
        let mut bytes = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
        bytes.extend([192, 0, 2, last, 192, 0, 2, 200, 0, 1, 0, 2]);
        bytes
    };
    for (header, served) in [
        (v1("192.0.2.1"), true),
        (v2(1), true),
        (v1("192.0.2.1"), true),
        (v2(1), false),
        (v2(2), true),
        (b"PROXY UNKNOWN\r\n".to_vec(), true),
        (Vec::new(), false),
        (b"PROXY TCP4 nonsense\r\n".to_vec(), false),
    ] {
        let mut stream = TcpStream::connect(addresses[0]).await.unwrap();
        let bytes = [header.clone(), connect(4, "", "viewer").bytes()].concat();
        let _ = stream.write_all(&bytes).await;
        let mut answer = [0; 4];
        let read = timeout(DEADLINE, stream.read_exact(&mut answer)).await;
        let answered = read.unwrap().is_ok();
        assert_eq!(answered, served, "{}", String::from_utf8_lossy(&header));
    }
}

#[tokio::test]
async fn a_proxy_that_is_not_trusted_is_not_believed() {
    let mut listener = plain(TransportKind::Tcp);
    listener.proxy_protocol = true;
    listener.trusted_proxies = Some(vec!["192.0.2.0/24".parse().unwrap()]);
    let (_broker, addresses) = listening(vec![listener]).await;
    let mut client = Client::new(addresses[0], 4).await;
    let header = b"PROXY TCP4 192.0.2.1 192.0.2.200 1 2\r\n";
    let bytes = [&header[..], &connect(4, "", "viewer").bytes()].concat();
    // The broker may close before it has read this.
    let _ = client.stream.write_all(&bytes).await;
    assert_eq!(client.frame().await, None);
}

#[tokio::test]
async fn settings_of_listeners_that_make_no_sense_are_named() {
    async fn check(change: impl FnOnce(&mut ListenerConfig), named: &str) {
        let mut listener = plain(TransportKind::Tcp);
        change(&mut listener);
        let config = Config {
            listen: None,
            listeners: vec![listener],
            ..Config::default()
        };
        let started = hostbus_broker::start(config, hostbus_daemon::CancellationToken::new()).await;
        let text = started.expect_err(named).to_string();
        assert!(text.contains(named), "{text}");
    }
    let open: SocketAddr = ([0, 0, 0, 0], 0).into();
    check(|l| l.address = open, "broker.insecure_listen").await;
    check(
        |l| (l.address, l.transport) = (open, TransportKind::Ws),
        "broker.insecure_listen",
    )
    .await;
    check(
        |l| l.transport = TransportKind::Tls,
        "broker.listeners[0].certificate",
    )
    .await;
    check(
        |l| l.key = Some("k".into()),
        "broker.listeners[0].key: belongs to",
    )
    .await;
    check(
        |l| l.path = Some("/x".into()),
        "broker.listeners[0].path: belongs to",
    )
    .await;
    check(
        |l| (l.path, l.transport) = (Some("x".into()), TransportKind::Ws),
        "begins with /",
    )
    .await;
    check(
        |l| l.trusted_proxies = Some(Vec::new()),
        "proxy_protocol = true",
    )
    .await;
    let config = Config {
        listen: None,
        ..Config::default()
    };
    assert!(
        config
            .check()
            .unwrap_err()
            .to_string()
            .contains("broker.listeners is empty")
    );
}

#[tokio::test]
async fn garbage_at_each_stage_ends_that_connection_only() {
    let authority = authority();
    let mut proxied = authority.listener(TransportKind::Wss);
    proxied.proxy_protocol = true;
    let listeners = vec![
        authority.listener(TransportKind::Tls),
        plain(TransportKind::Ws),
        proxied,
    ];
    let (broker, addresses) = listening(listeners).await;
    let garbage: Vec<u8> = (0..20_000_u32)
        .map(|number| (number * 7 + 1) as u8)
        .collect();
    for address in &addresses {
        let mut client = Client::new(*address, 4).await;
        let _ = client.stream.write_all(&garbage).await;
        let mut answer = Vec::new();
        let _ = timeout(DEADLINE, client.stream.read_to_end(&mut answer))
            .await
            .unwrap();
    }
    let mut inside = authority.dial(addresses[0]).await.unwrap();
    inside.write_all(&garbage).await.unwrap();
    assert!(
        timeout(DEADLINE, inside.read(&mut [0]))
            .await
            .unwrap()
            .unwrap_or(0)
            == 0
    );
    let mut stream = TcpStream::connect(addresses[2]).await.unwrap();
    stream.write_all(b"PROXY UNKNOWN\r\n").await.unwrap();
    stream.write_all(&garbage).await.unwrap();
    let mut answer = Vec::new();
    let _ = timeout(DEADLINE, stream.read_to_end(&mut answer))
        .await
        .unwrap();
    connect(4, "", "viewer")
        .go(&broker)
        .await
        .nothing_waits()
        .await;
}
