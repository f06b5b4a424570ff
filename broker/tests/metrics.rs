//! Counters are exact, whoever asks.

mod raw;
mod scrape;

use raw::{Broker, Client, Connect, connect, packet};
use scrape::{measured, reaches, value};

const METRICS: &str = "hostbus/v1/home/web1/metrics";
const FOREIGN: &str = "hostbus/v1/home/web2/metrics";

/// A client that counts all its bytes and packets.
struct Counting {
    client: Client,
    sent: Vec<usize>,
    received: Vec<usize>,
}

impl Counting {
    async fn connect(packet: Connect, broker: &Broker) -> Self {
        let mut counting = Self {
            client: Client::new(broker.address, packet.level).await,
            sent: Vec::new(),
            received: Vec::new(),
        };
        counting.send(&packet.bytes()).await;
        assert_eq!(counting.frame().await.0, 0x20);
        counting
    }

    async fn send(&mut self, bytes: &[u8]) {
        self.client.send(bytes).await;
        self.sent.push(bytes.len());
    }

    async fn frame(&mut self) -> (u8, Vec<u8>) {
        let (first, body) = self.client.frame().await.expect("a packet");
        self.received.push(packet(first, &body).len());
        (first, body)
    }

    async fn publish(&mut self, bits: u8, topic: &str, payload: &str) {
        let bytes = self
            .client
            .publish_bytes(bits, topic, 7, &[], payload.as_bytes());
        self.send(&bytes).await;
    }
}

#[tokio::test]
async fn figures_are_exact_after_a_scripted_scenario() {
    let (broker, metrics) = measured(|_| {}).await;
    let mut reader = Counting::connect(connect(4, "r", "viewer"), &broker).await;
    let mut subscribe = vec![0, 1];
    subscribe.extend(raw::text("hostbus/v1/+/+/metrics"));
    subscribe.push(1);
    reader.send(&packet(0x82, &subscribe)).await;
    assert_eq!(reader.frame().await.0, 0x90);

    let mut web1 = Counting::connect(connect(5, "w", "web1"), &broker).await;
    for payload in ["", "four", "sixteen letters."] {
        web1.publish(0b10, METRICS, payload).await;
        assert_eq!(web1.frame().await.0, 0x40);
        let (first, body) = reader.frame().await;
        let message = reader.client.parse(first, &body);
        assert_eq!(message.payload, payload);
        let [high, low] = message.packet_id.to_be_bytes();
        reader.send(&[0x40, 2, high, low]).await;
    }
    web1.publish(0, METRICS, "at most once").await;
    reader.frame().await;
    web1.publish(0b10, FOREIGN, "forged").await;
    assert_eq!(web1.frame().await.0, 0x40);
    web1.send(&[0xc0, 0]).await;
    assert_eq!(web1.frame().await.0, 0xd0);

    let now = scrape::figures(metrics).await;
    let now = |name: &str| now[&format!("hostbus_broker_{name}")];
    assert_eq!(now("connections"), 2.0);
    assert_eq!(now("clients_connected"), 2.0);
    assert_eq!(now("sessions"), 2.0);
    assert_eq!(now("sessions_absent"), 0.0);
    assert_eq!(now("subscriptions"), 1.0);

    let mut refused = connect(5, "x", "admin");
    refused.password = Some("guessed");
    let refused_sent = refused.bytes().len();
    let (mut refused, body) = refused.open(&broker).await;
    assert_eq!(body[1], 0x86);
    assert_eq!(refused.frame().await, None);
    let refused_received = packet(0x20, &body).len();

    // Its session stays.
    let mut stays = connect(5, "s", "operator");
    stays.properties = vec![0x11, 0, 0, 0, 60];
    let mut stays = Counting::connect(stays, &broker).await;
    // It breaks the rules, and is told so.
    stays.send(&packet(0x30, &[0, 1, b'+', 0])).await;
    assert_eq!(stays.frame().await.0, 0xe0);
    for client in [&mut reader, &mut web1] {
        client.send(&[0xe0, 0]).await;
        assert_eq!(client.client.frame().await, None);
    }
    reaches(metrics, "hostbus_broker_connections", 0.0).await;

    let clients = [&reader, &web1, &stays];
    let sum = |counts: fn(&Counting) -> &[usize]| {
        let all = clients.into_iter().flat_map(counts);
        (all.clone().count() as f64, all.sum::<usize>() as f64)
    };
    let (packets_received, received_bytes) = sum(|client| &client.sent);
    let (packets_sent, sent_bytes) = sum(|client| &client.received);
    let payloads = ("four".len() + "sixteen letters.".len() + "at most once".len()) as f64;
    let expected = [
        ("clients_connected", 0.0),
        ("clients_maximum", 3.0),
        ("connections_accepted_total", 4.0),
        ("connects_accepted_total", 3.0),
        ("connects_refused_total", 1.0),
        ("sessions", 1.0),
        ("sessions_absent", 1.0),
        ("sessions_expired_total", 0.0),
        ("subscriptions", 0.0),
        // With the refused CONNECT, but not what was no packet.
        ("packets_received_total", packets_received + 1.0 - 1.0),
        ("packets_sent_total", packets_sent + 1.0),
        ("messages_received_total", 5.0),
        ("messages_sent_total", 4.0),
        (
            "payload_received_bytes_total",
            payloads + "forged".len() as f64,
        ),
        ("payload_sent_bytes_total", payloads),
        ("received_bytes_total", received_bytes + refused_sent as f64),
        ("sent_bytes_total", sent_bytes + refused_received as f64),
        ("publishes_refused_total", 1.0),
    ];
    let figures = scrape::figures(metrics).await;
    let got = expected.map(|(name, _)| (name, figures[&format!("hostbus_broker_{name}")]));
    assert_eq!(got, expected);
    let dropped: f64 = figures
        .iter()
        .filter(|(name, _)| name.contains("_dropped_total{"))
        .map(|(_, value)| value)
        .sum();
    assert_eq!(dropped, 0.0);
}

#[tokio::test]
async fn every_drop_is_counted_under_its_cause() {
    let (broker, metrics) = measured(|config| {
        config.limits.queue_messages = 4;
        config.limits.retained_messages_per_user = 1;
    })
    .await;
    let mut admin = connect(5, "a", "admin").go(&broker).await;
    let burst = |topic: &str, bits: u8, properties: &[u8], payload: &[u8]| {
        let one = Client::publish_bytes(&admin, bits, topic, 7, properties, payload);
        one.repeat(10)
    };
    let (fast, absent) = (
        burst("fast", 0, &[], b"x"),
        burst("absent", 0b10, &[], b"x"),
    );
    // Ten that are over when they come: a lifetime of 0 seconds.
    let late = burst("late", 0b10, &[0x02, 0, 0, 0, 0], b"x");
    let long = burst("long", 0, &[], &[b'x'; 200]);

    // One read of the broker takes the ten, and its reader has no turn in between.
    let mut reader = connect(5, "r", "admin").go(&broker).await;
    reader.subscribe("fast", 0).await;
    admin.send(&fast).await;
    for _ in 0..4 {
        assert_eq!(reader.message().await.topic, "fast");
    }
    reader.nothing_waits().await;

    let stays = |client_id| {
        let mut packet = connect(5, client_id, "admin");
        packet.properties = vec![0x11, 0, 0, 0, 60];
        packet
    };
    let mut away = stays("away").go(&broker).await;
    away.subscribe("absent", 1).await;
    away.goodbye().await;
    admin.send(&absent).await;
    for _ in 0..10 {
        assert_eq!(admin.frame().await.unwrap().0, 0x40);
    }

    let mut patient = connect(5, "p", "admin").go(&broker).await;
    patient.subscribe("late", 1).await;
    for one in late.chunks(late.len() / 10) {
        admin.send(one).await;
        assert_eq!(admin.frame().await.unwrap().0, 0x40);
        patient.nothing_waits().await;
    }

    let mut narrow = connect(5, "n", "admin");
    narrow.properties = vec![0x27, 0, 0, 0, 100];
    let mut narrow = narrow.go(&broker).await;
    narrow.subscribe("long", 0).await;
    for one in long.chunks(long.len() / 10) {
        admin.send(one).await;
        admin.nothing_waits().await;
        narrow.nothing_waits().await;
    }

    let mut web1 = connect(5, "w", "web1").go(&broker).await;
    for number in 0..3 {
        let topic = format!("hostbus/v1/home/web1/details/{number}");
        web1.publish_acked(1, &topic, "table").await;
    }

    for (cause, expected) in [
        ("queue_full", 6.0),
        ("absent_queue_full", 6.0),
        ("expired", 10.0),
        ("too_large", 10.0),
        ("retained_full", 2.0),
    ] {
        let name = format!("hostbus_broker_messages_dropped_total{{cause=\"{cause}\"}}");
        assert_eq!(value(metrics, &name).await, expected, "{cause}");
    }
}

#[tokio::test]
async fn a_session_that_ends_while_its_client_is_away_counts_as_expired() {
    let (broker, metrics) = measured(|_| {}).await;
    for (client_id, seconds) in [("short", 1), ("long", 60)] {
        let mut packet = connect(5, client_id, "viewer");
        packet.properties = vec![0x11, 0, 0, 0, seconds];
        packet.go(&broker).await.goodbye().await;
    }
    reaches(metrics, "hostbus_broker_sessions_expired_total", 1.0).await;
    assert_eq!(value(metrics, "hostbus_broker_sessions").await, 1.0);
    assert_eq!(value(metrics, "hostbus_broker_sessions_absent").await, 1.0);
}

#[tokio::test]
async fn one_message_in_64_is_timed() {
    let (broker, metrics) = measured(|_| {}).await;
    let count = "hostbus_broker_matching_seconds_count";
    let before = value(metrics, count).await;
    let mut admin = connect(4, "a", "admin").go(&broker).await;
    for _ in 0..640 {
        admin.publish(0, "t", "x").await;
    }
    admin.nothing_waits().await;
    assert_eq!(value(metrics, count).await, before + 10.0);
    let sum = value(metrics, "hostbus_broker_matching_seconds_sum").await;
    assert!(sum > 0.0 && sum < 1.0, "{sum}");
}
