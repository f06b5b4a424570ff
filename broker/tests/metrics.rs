//! What the broker tells about itself: below `$SYS`, in `_system` and to Prometheus.

#![expect(clippy::unwrap_used, reason = "test code")]

mod raw;
#[expect(unreachable_pub, reason = "test code")]
mod scrape;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use hostbus_broker::Config;
use hostbus_wire::decode;
use hostbus_wire::health::{Health, HealthState};
use raw::{Broker, Client, Connect, DEADLINE, broker, connect, packet};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

const METRICS: &str = "hostbus/v1/home/web1/metrics";
const FOREIGN: &str = "hostbus/v1/home/web2/metrics";
const HEALTH: &str = "hostbus/v1/home/_system/broker/main";

/// A broker with its HTTP port. It publishes its figures at its start and then no more, unless
/// `change` says so.
async fn measured(change: impl FnOnce(&mut Config)) -> (Broker, SocketAddr) {
    let broker = broker(|config| {
        config.metrics_listen = Some(([127, 0, 0, 1], 0).into());
        config.sys_interval_seconds = 86_400;
        change(config);
    })
    .await;
    let metrics = *broker.running.addresses().last().unwrap();
    assert_ne!(metrics, broker.address);
    let begun = Instant::now();
    while value(metrics, "hostbus_broker_retained_messages").await < 50.0 {
        assert!(begun.elapsed() < DEADLINE, "the first figures");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    (broker, metrics)
}

async fn value(metrics: SocketAddr, name: &str) -> f64 {
    let figures = scrape::figures(metrics).await;
    *figures
        .get(name)
        .unwrap_or_else(|| panic!("{name} in {figures:?}"))
}

async fn reaches(metrics: SocketAddr, name: &str, expected: f64) {
    let begun = Instant::now();
    loop {
        let now = value(metrics, name).await;
        if now == expected {
            return;
        }
        assert!(
            begun.elapsed() < DEADLINE,
            "{name} is {now}, not {expected}"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

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

/// What mosquitto 2.0 publishes, and what we have besides, both below `$SYS/broker/`.
const CUSTOMARY: [&str; 27] = [
    "bytes/received",
    "bytes/sent",
    "clients/active",
    "clients/connected",
    "clients/disconnected",
    "clients/expired",
    "clients/inactive",
    "clients/maximum",
    "clients/total",
    "heap/current",
    "heap/maximum",
    "messages/received",
    "messages/sent",
    "messages/stored",
    "publish/bytes/received",
    "publish/bytes/sent",
    "publish/messages/dropped",
    "publish/messages/received",
    "publish/messages/sent",
    "retained messages/count",
    "store/messages/bytes",
    "store/messages/count",
    "subscriptions/count",
    "uptime",
    "version",
    // Not mosquitto's:
    "connects/refused",
    "publish/messages/refused",
];
const CAUSES: [&str; 5] = [
    "queue-full",
    "absent-queue-full",
    "expired",
    "too-large",
    "retained-full",
];
const LOADS: [&str; 9] = [
    "bytes/received",
    "bytes/sent",
    "connections",
    "messages/received",
    "messages/sent",
    "publish/dropped",
    "publish/received",
    "publish/sent",
    "sockets",
];

fn customary() -> BTreeSet<String> {
    let own = CUSTOMARY.map(str::to_owned);
    let causes = CAUSES.map(|cause| format!("publish/messages/dropped/{cause}"));
    let loads = LOADS
        .iter()
        .flat_map(|load| ["1min", "5min", "15min"].map(|span| format!("load/{load}/{span}")));
    own.into_iter().chain(causes).chain(loads).collect()
}

fn is_well_formed(topic: &str, text: &str) -> bool {
    let whole = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    match topic {
        "version" => text.starts_with("hostbus-broker "),
        "uptime" => text.strip_suffix(" seconds").is_some_and(whole),
        _ if topic.starts_with("load/") => text
            .split_once('.')
            .is_some_and(|(whole_part, rest)| whole(whole_part) && rest.len() == 2 && whole(rest)),
        _ => whole(text),
    }
}

#[tokio::test]
async fn sys_has_the_customary_topics_and_tells_what_changed() {
    let (broker, _) = measured(|config| config.sys_interval_seconds = 1).await;
    let mut viewer = connect(4, "v", "viewer").go(&broker).await;
    assert_eq!(viewer.subscribe("$SYS/#", 0).await, 0);
    let mut told: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut retained = BTreeSet::new();
    while told.get("uptime").is_none_or(|told| told.len() < 4) {
        let message = viewer.message().await;
        let topic = message.topic.strip_prefix("$SYS/broker/").unwrap();
        assert!(is_well_formed(topic, &message.payload), "{message:?}");
        if message.first & 1 == 1 {
            assert!(retained.insert(topic.to_owned()), "{message:?}");
        }
        told.entry(topic.to_owned())
            .or_default()
            .push(message.payload);
    }
    assert_eq!(retained, customary());
    for (topic, values) in &told {
        // The retained one may be told once more where the subscription came in between.
        let repeated = values.windows(2).skip(1).filter(|two| two[0] == two[1]);
        assert_eq!(repeated.count(), 0, "{topic}: {values:?}");
    }
    assert!(
        told["version"].len() <= 2 && told["clients/expired"].len() <= 2,
        "{told:?}"
    );
    assert_eq!(told["clients/connected"].last().unwrap(), "1");
    assert_eq!(told["clients/total"].last().unwrap(), "1");
    assert_eq!(told["clients/maximum"].last().unwrap(), "1");
    assert_eq!(told["subscriptions/count"].last().unwrap(), "1");
    let bytes: f64 = told["load/bytes/sent/1min"]
        .last()
        .unwrap()
        .parse()
        .unwrap();
    assert!(bytes > 0.0);
}

async fn health(client: &mut Client) -> Health {
    loop {
        let (first, body) = client.frame().await.expect("a message");
        if first >> 4 == 3 {
            let (topic, rest) = body[2..].split_at(HEALTH.len());
            assert_eq!(topic, HEALTH.as_bytes());
            // In 5.0 the empty properties come first.
            let properties = usize::from(client.level == 5);
            return decode(&rest[properties..]).unwrap();
        }
    }
}

#[tokio::test]
async fn health_stands_in_system_until_the_broker_says_goodbye() {
    let (broker, metrics) = measured(|config| {
        config.sys_interval_seconds = 1;
        config.limits.max_connections = 3;
    })
    .await;
    let mut viewer = connect(4, "v", "viewer").go(&broker).await;
    assert_eq!(viewer.subscribe(HEALTH, 0).await, 0);
    let first = health(&mut viewer).await;
    assert_eq!((first.state, first.reason), (HealthState::Ok, None));
    assert_eq!(first.version, env!("CARGO_PKG_VERSION"));
    let mut admin = connect(4, "a", "admin").go(&broker).await;
    for _ in 0..3 {
        admin.publish_acked(0, "t", "x").await;
    }
    let later = loop {
        let health = health(&mut viewer).await;
        if health.counters["clients_connected"] == 2 {
            break health;
        }
    };
    assert!(later.ts > first.ts);
    assert_eq!(later.counters["messages_received"], 3);
    assert_eq!(later.counters["messages_dropped_queue_full"], 0);
    assert_eq!(later.counters["connects_accepted"], 2);
    // The same figures under the same names as for Prometheus.
    let scraped: BTreeSet<String> = scrape::figures(metrics)
        .await
        .into_keys()
        .filter_map(|name| {
            let name = name.strip_prefix("hostbus_broker_")?;
            let name = name.replace("_total{cause=\"", "_").replace("\"}", "");
            Some(name.strip_suffix("_total").unwrap_or(&name).to_owned())
        })
        .filter(|name| !name.starts_with("matching_") && !name.starts_with("info{"))
        .collect();
    let counters = later.counters.into_keys();
    let counters: BTreeSet<String> = counters.filter(|n| !n.starts_with("matching_")).collect();
    assert_eq!(counters, scraped);

    let third = connect(4, "b", "admin").go(&broker).await;
    let full = loop {
        let health = health(&mut viewer).await;
        if health.state != HealthState::Ok {
            break health;
        }
    };
    assert_eq!(full.state, HealthState::Degraded);
    assert_eq!(full.reason.as_deref(), Some("all 3 connections are in use"));
    third.goodbye().await;
    let (stopped, _) = tokio::join!(
        async {
            loop {
                let health = health(&mut viewer).await;
                if health.state == HealthState::Stopped {
                    return health;
                }
            }
        },
        broker.running.stop(),
    );
    assert_eq!(stopped.reason, None);
}

#[tokio::test]
async fn who_reads_metrics_reads_the_figures_and_nobody_else() {
    let (broker, _) = measured(|_| {}).await;
    for user in ["viewer", "operator", "ingester", "admin"] {
        let mut reader = connect(5, "r", user).go(&broker).await;
        assert_eq!(reader.subscribe("$SYS/broker/uptime", 0).await, 0, "{user}");
        assert_eq!(reader.message().await.topic, "$SYS/broker/uptime", "{user}");
        assert_eq!(reader.subscribe(HEALTH, 0).await, 0, "{user}");
        assert_eq!(health(&mut reader).await.state, HealthState::Ok, "{user}");
        assert_eq!(
            reader.publish_acked(0, "$SYS/broker/uptime", "x").await,
            0x87
        );
    }
    let mut publisher = connect(5, "p", "web1").go(&broker).await;
    for filter in ["$SYS/#", "$SYS/broker/uptime", HEALTH] {
        assert_eq!(publisher.subscribe(filter, 0).await, 0x87, "{filter}");
    }
    assert_eq!(publisher.publish_acked(1, HEALTH, "x").await, 0x87);
    publisher.subscribe("#", 0).await;
    publisher.nothing_waits().await;
}

#[tokio::test]
async fn an_interval_of_0_publishes_nothing() {
    let broker = broker(|_| {}).await;
    let mut admin = connect(4, "a", "admin").go(&broker).await;
    for filter in ["$SYS/#", "#"] {
        admin.subscribe(filter, 0).await;
    }
    admin.nothing_waits().await;
    let (told, _) = tokio::join!(admin.frame(), broker.running.stop());
    assert_eq!(told, None);
}

#[tokio::test]
async fn the_port_speaks_http_and_serves_one_page() {
    let (_broker, metrics) = measured(|_| {}).await;
    let page = scrape::get(metrics, "/metrics").await.unwrap();
    assert_eq!(page.status, 200);
    let content_type = "text/plain; version=0.0.4; charset=utf-8";
    assert_eq!(page.headers["content-type"], content_type);
    assert_eq!(page.headers["content-length"], page.body.len().to_string());
    assert_eq!(page.headers["connection"], "close");
    let query = scrape::get(metrics, "/metrics?x=1").await.unwrap();
    assert_eq!(query.status, 200);

    let head = scrape::ask(metrics, b"HEAD /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await;
    let head = head.unwrap();
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    assert_eq!(head.headers["content-type"], content_type);
    assert!(head.headers["content-length"].parse::<usize>().unwrap() > 1_000);

    let old = scrape::ask(metrics, b"GET /metrics HTTP/1.0\r\n\r\n")
        .await
        .unwrap();
    assert_eq!(old.status, 200);
    for path in ["/", "/metrics/", "/metric", "//metrics"] {
        assert_eq!(
            scrape::get(metrics, path).await.unwrap().status,
            404,
            "{path}"
        );
    }
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "BREW"] {
        let request = format!("{method} /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n");
        let answer = scrape::ask(metrics, request.as_bytes()).await.unwrap();
        assert_eq!(answer.status, 405, "{method}");
        assert_eq!(answer.headers["allow"], "GET, HEAD", "{method}");
    }
}

#[tokio::test]
async fn garbage_is_answered_with_an_error_or_nothing() {
    let (broker, metrics) = measured(|_| {}).await;
    let long = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(100_000));
    let wide = format!(
        "GET /metrics HTTP/1.1\r\nx: {}\r\n\r\n",
        "x".repeat(100_000)
    );
    let many = format!("GET /metrics HTTP/1.1\r\n{}\r\n", "x: y\r\n".repeat(1_000));
    let mqtt = connect(5, "c", "admin").bytes();
    let garbage: [&[u8]; 8] = [
        b"\r\n\r\n\r\n x",
        b"GET /metrics HTTP/9.9\r\n\r\n",
        b"GET /metrics\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        &[0xff; 20_000],
        long.as_bytes(),
        wide.as_bytes(),
        many.as_bytes(),
    ];
    for request in garbage.into_iter().chain([&mqtt[..]]) {
        let begun = Instant::now();
        let answer = scrape::ask(metrics, request).await;
        let status = answer.map(|answer| answer.status);
        let refused = matches!(status, None | Some(400 | 404 | 414 | 431 | 505));
        assert!(
            refused,
            "{status:?} {:?}",
            String::from_utf8_lossy(&request[..20])
        );
        assert!(begun.elapsed() < DEADLINE / 2, "not closed");
    }
    assert!(value(metrics, "hostbus_broker_uptime_seconds").await < 600.0);
    connect(5, "c", "admin").go(&broker).await.goodbye().await;
}

#[tokio::test]
async fn slow_clients_keep_no_scraper_out() {
    let (_broker, metrics) = measured(|_| {}).await;
    let mut slow = Vec::new();
    for round in 0..40 {
        for _ in 0..10 {
            let mut stream = TcpStream::connect(metrics).await.unwrap();
            let _ = stream.write_all(b"GET /metrics HTTP/1.1\r\n").await;
            slow.push(stream);
        }
        // All those that are still there go on, a byte at a time.
        for stream in &mut slow {
            let _ = stream.write_all(b"x").await;
        }
        let begun = Instant::now();
        scrape::figures(metrics).await;
        assert!(begun.elapsed() < Duration::from_secs(1), "round {round}");
    }
    let open = value(metrics, "process_open_fds").await;
    // This process has both ends of the sockets.
    let ours = slow.len() as f64;
    assert!(
        open < ours + 150.0,
        "{open} of which {ours} are the clients' ends"
    );
    // The last ones are closed too, in time.
    let begun = Instant::now();
    for stream in &mut slow {
        let mut byte = [0];
        let _ = tokio::time::timeout(DEADLINE, tokio::io::AsyncReadExt::read(stream, &mut byte))
            .await
            .expect("closed in time");
    }
    assert!(
        begun.elapsed() < Duration::from_secs(8),
        "{:?}",
        begun.elapsed()
    );
}
