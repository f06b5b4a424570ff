//! What clients that say nothing, too much or the wrong thing can take from the others.
//!
//! The figures behind the last tests: `cargo test --release -p hostbus-broker --test entrance --
//! --ignored --nocapture`.

#![expect(clippy::unwrap_used, reason = "test code")]

mod raw;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use hostbus_broker::listeners::{ListenerConfig, TransportKind};
use raw::{Broker, Client, DEADLINE, broker, connect, packet, text};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpSocket;
use tokio::task::JoinSet;

/// A broker that waits for CONNECT longer than a test.
async fn patient_broker(max_connecting: usize, per_address: usize) -> Broker {
    broker(|config| {
        config.limits.connect_timeout_seconds = 600;
        config.limits.max_connecting = max_connecting;
        config.limits.max_connecting_per_address = per_address;
    })
    .await
}

/// Connects once. The client, if it was let in.
async fn attempt(address: SocketAddr, from: [u8; 4]) -> Option<Client> {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((from, 0).into()).unwrap();
    let stream = socket.connect(address).await.ok()?;
    let mut client = Client::over(stream, 4);
    let bytes = connect(4, "", "viewer").bytes();
    // The broker may close before it has read this.
    client.stream.write_all(&bytes).await.ok()?;
    let (first, body) = client.frame().await?;
    assert_eq!((first, &body[..]), (0x20, &[0, 0][..]));
    Some(client)
}

/// Connects until it is let in.
async fn persist(address: SocketAddr, from: [u8; 4]) -> Client {
    let begun = Instant::now();
    loop {
        if let Some(client) = attempt(address, from).await {
            return client;
        }
        assert!(begun.elapsed() < DEADLINE, "never let in");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn silent_sockets_can_not_keep_a_client_out() {
    let broker = patient_broker(100, 20).await;
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.push(Client::new(broker.address, 4).await);
    }
    // Too many of one address, and no concern of another one.
    let mut refused = Client::new(broker.address, 4).await;
    assert_eq!(refused.frame().await, None);
    let elsewhere = attempt(broker.address, [127, 0, 0, 2]).await;
    assert!(elsewhere.is_some());
    let mut client = persist(broker.address, [127, 0, 0, 1]).await;
    client.nothing_waits().await;
    assert_eq!(silent[0].frame().await, None, "the oldest gives way");
}

#[tokio::test]
async fn a_burst_from_one_address_is_slowed_and_gets_in() {
    let broker = patient_broker(100, 8).await;
    let address = broker.address;
    let mut burst = JoinSet::new();
    for _ in 0..300 {
        burst.spawn(persist(address, [127, 0, 0, 1]));
    }
    let mut clients = burst.join_all().await;
    assert_eq!(clients.len(), 300);
    for client in &mut clients {
        client.nothing_waits().await;
    }
}

#[tokio::test]
async fn a_long_packet_is_refused_before_its_sender_is_known() {
    let broker = patient_broker(100, 20).await;
    let mut client = Client::new(broker.address, 4).await;
    client.send(&[0x10, 0x80, 0x80, 0x08]).await;
    assert_eq!(client.frame().await, None);
}

/// How long a good client may wait, with room for a busy machine.
const SOON: Duration = Duration::from_secs(2);

/// A certificate in files.
fn certificate() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(folder.path().join("c.pem"), cert.pem()).unwrap();
    std::fs::write(folder.path().join("k.pem"), signing_key.serialize_pem()).unwrap();
    folder
}

fn listener(transport: TransportKind, files: &TempDir, proxy_protocol: bool) -> ListenerConfig {
    let file = |name: &str| transport.is_encrypted().then(|| files.path().join(name));
    ListenerConfig {
        address: ([127, 0, 0, 1], 0).into(),
        transport,
        certificate: file("c.pem"),
        key: file("k.pem"),
        client_ca: None,
        path: None,
        proxy_protocol,
        trusted_proxies: None,
    }
}

/// A broker with the default limits, and a TLS listener beside the plain one.
async fn broker_with_tls() -> (Broker, SocketAddr) {
    let files = certificate();
    let broker = broker(|config| {
        config.listeners = vec![listener(TransportKind::Tls, &files, false)];
    })
    .await;
    let tls = broker.running.addresses()[1];
    (broker, tls)
}

/// The longest of some connects one after the other, each until CONNACK.
async fn longest_connect(address: SocketAddr) -> Duration {
    let mut longest = Duration::ZERO;
    for _ in 0..50 {
        let begun = Instant::now();
        let client = attempt(address, [127, 0, 0, 1]).await;
        assert!(client.is_some(), "a good client was refused");
        longest = longest.max(begun.elapsed());
    }
    longest
}

/// A TLS ClientHello of a real client, byte by byte what goes over the wire.
fn client_hello() -> Vec<u8> {
    use tokio_rustls::rustls::crypto::ring;
    use tokio_rustls::rustls::pki_types::ServerName;
    use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore};
    let config = ClientConfig::builder_with_provider(std::sync::Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    let mut client = ClientConnection::new(std::sync::Arc::new(config), name).unwrap();
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).unwrap();
    bytes
}

/// A thousand sockets to `address` that have sent `bytes` and are silent from then on.
async fn thousand(address: SocketAddr, bytes: &[u8]) -> Vec<Client> {
    let mut clients = Vec::new();
    for _ in 0..1_000 {
        let mut client = Client::new(address, 4).await;
        client.send(bytes).await;
        clients.push(client);
    }
    clients
}

async fn under_silence() -> Duration {
    let (broker, _) = broker_with_tls().await;
    let _silent = thousand(broker.address, b"").await;
    longest_connect(broker.address).await
}

async fn under_half_finished_handshakes() -> Duration {
    let (broker, tls) = broker_with_tls().await;
    let hello = client_hello();
    // Half of a ClientHello, and one without the answer to what the broker says.
    let mut half = thousand(tls, &hello[..hello.len() / 2]).await;
    let during = longest_connect(broker.address).await;
    half.clear();
    let hellos = thousand(tls, &hello);
    let (_whole, longest) = tokio::join!(hellos, longest_connect(broker.address));
    during.max(longest)
}

async fn under_guessing() -> Duration {
    let (broker, _) = broker_with_tls().await;
    let address = broker.address;
    let guessing = tokio::spawn(async move {
        let mut throttled = 0;
        for _ in 0..200 {
            let mut client = Client::new(address, 5).await;
            let mut guess = connect(5, "", "viewer");
            guess.password = Some("guess");
            client.send(&guess.bytes()).await;
            let (_, body) = client.frame().await.expect("CONNACK");
            match body[1] {
                0x86 => {}
                0x9f => throttled += 1,
                other => panic!("answered with {other:#04x}"),
            }
        }
        throttled
    });
    let longest = longest_connect(address).await;
    assert_eq!(guessing.await.unwrap(), 200 - 60, "60 guesses a minute");
    longest
}

async fn under_subscriptions() -> Duration {
    let (broker, _) = broker_with_tls().await;
    let mut viewer = connect(5, "many", "viewer").go(&broker).await;
    let mut codes = Vec::new();
    for hundred in 0..100 {
        let mut body = vec![0, 9, 0];
        for number in 0..100 {
            body.extend(text(&format!(
                "hostbus/v1/home/n{hundred}x{number}/metrics"
            )));
            body.push(0);
        }
        viewer.send(&packet(0x82, &body)).await;
        let (first, body) = viewer.frame().await.expect("SUBACK");
        assert_eq!(first, 0x90);
        codes.extend_from_slice(&body[3..]);
    }
    let (granted, refused) = codes.split_at(1_000);
    assert!(granted.iter().all(|code| *code == 0));
    assert!(refused.len() == 9_000 && refused.iter().all(|code| *code == 0x97));
    longest_connect(broker.address).await
}

async fn under_long_claims() -> Duration {
    let (broker, _) = broker_with_tls().await;
    for _ in 0..100 {
        let mut client = connect(5, "", "web1").go(&broker).await;
        client
            .send(&[0x30, 0xff, 0xff, 0xff, 0x7f, 0, 1, b'a'])
            .await;
        assert_eq!(client.ended().await, Some(0x95), "packet too large");
        let mut early = Client::new(broker.address, 5).await;
        early.send(&[0x10, 0xff, 0xff, 0xff, 0x7f]).await;
        assert_eq!(early.frame().await, None);
    }
    longest_connect(broker.address).await
}

#[tokio::test]
async fn good_clients_connect_soon_whatever_others_do() {
    for (what, longest) in [
        ("1,000 silent sockets", under_silence().await),
        (
            "1,000 half-finished TLS handshakes",
            under_half_finished_handshakes().await,
        ),
        ("claims of 256 MB", under_long_claims().await),
        ("10,000 subscriptions", under_subscriptions().await),
        ("guessing passwords", under_guessing().await),
    ] {
        assert!(longest < SOON, "{what}: {longest:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "prints figures, which mean something in a release build only"]
async fn how_long_good_clients_wait() {
    let (broker, _) = broker_with_tls().await;
    println!("undisturbed: {:?}", longest_connect(broker.address).await);
    println!("silent: {:?}", under_silence().await);
    println!(
        "half-finished TLS: {:?}",
        under_half_finished_handshakes().await
    );
    println!("claims of 256 MB: {:?}", under_long_claims().await);
    println!("subscriptions: {:?}", under_subscriptions().await);
    println!("guessing: {:?}", under_guessing().await);
}

#[tokio::test]
async fn silent_sockets_are_closed_at_each_stage() {
    let files = certificate();
    let broker = broker(|config| {
        config.limits.connect_timeout_seconds = 1;
        config.listeners = vec![
            listener(TransportKind::Tls, &files, true),
            listener(TransportKind::Tls, &files, false),
            listener(TransportKind::Ws, &files, false),
        ];
    })
    .await;
    let beginnings: [&[u8]; 4] = [
        b"\x10",
        b"PROXY TCP4",
        b"\x16\x03\x01",
        b"GET /mqtt HTTP/1.1\r\n",
    ];
    for (address, beginning) in broker.running.addresses().iter().zip(beginnings) {
        let mut client = Client::new(*address, 4).await;
        client.send(beginning).await;
        let begun = Instant::now();
        assert_eq!(client.frame().await, None);
        let passed = begun.elapsed();
        assert!(
            passed > Duration::from_millis(500),
            "{beginning:?} too early"
        );
    }
}
