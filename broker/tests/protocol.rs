//! What the broker answers to right and wrong packets.

mod raw;

use raw::{Client, broker, connect, packet, text};

#[tokio::test]
async fn a_client_without_the_right_password_is_told_the_same_as_one_unknown() {
    let broker = broker(|_| {}).await;
    for (level, wrong, none) in [(4, 4, 5), (5, 0x86, 0x87)] {
        for (user, password) in [("viewer", "no"), ("nobody", "pw"), ("nobody", "")] {
            let mut packet = connect(level, "c", user);
            packet.password = Some(password);
            let (mut client, answer) = packet.open(&broker).await;
            assert_eq!(answer[1], wrong, "{user} {password}");
            assert_eq!(client.frame().await, None);
        }
        let mut packet = connect(level, "c", "");
        (packet.user, packet.password) = (None, None);
        assert_eq!(packet.open(&broker).await.1[1], none);
    }
}

#[tokio::test]
async fn a_packet_that_is_wrong_ends_its_connection_and_no_other() {
    let broker = broker(|config| config.limits.max_packet_bytes = 2_000).await;
    let mut witness = connect(4, "witness", "admin").go(&broker).await;
    let check = async |level: u8, bytes: Vec<u8>, reason: u8| {
        let mut client = connect(level, "c", "admin").go(&broker).await;
        client.send(&bytes).await;
        let expected = if level == 5 { Some(reason) } else { None };
        assert_eq!(client.ended().await, expected, "{level} {bytes:02x?}");
    };
    for level in [4, 5] {
        check(level, vec![0x00, 0], 0x81).await;
        check(level, vec![0xd0, 0], 0x82).await;
        check(level, vec![0x36, 5, 0, 1, b'a', 0, 1], 0x81).await;
        check(level, connect(level, "c", "admin").bytes(), 0x82).await;
        check(level, vec![0x30, 4, 0, 1, b'#', 0], 0x90).await;
        check(level, vec![0x30, 0xff, 0xff, 0xff, 0x7f], 0x95).await;
        check(
            level,
            packet(0x30, &[&text("a")[..], &[0; 3_000]].concat()),
            0x95,
        )
        .await;
        check(
            level,
            packet(0x30, &[&text(&"a/".repeat(40))[..], &[0]].concat()),
            0x90,
        )
        .await;
        // PUBREL without its flag.
        check(level, vec![0x60, 2, 0, 1], 0x81).await;
    }
    check(5, vec![0xf0, 0], 0x82).await;
    // A topic alias that was never set, and one above the maximum.
    check(5, vec![0x30, 6, 0, 0, 3, 0x23, 0, 1], 0x82).await;
    check(5, vec![0x30, 7, 0, 1, b'a', 3, 0x23, 0, 99], 0x94).await;
    // Session expiry in DISCONNECT where CONNECT had none.
    check(5, vec![0xe0, 7, 0, 5, 0x11, 0, 0, 0, 9], 0x82).await;
    witness.nothing_waits().await;
}

#[tokio::test]
async fn a_first_packet_that_is_no_connect_gets_no_answer() {
    let broker = broker(|_| {}).await;
    for bytes in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        &[0xc0, 0],
        &[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc],
    ] {
        let mut client = Client::new(broker.address, 4).await;
        client.send(bytes).await;
        assert_eq!(client.frame().await, None);
    }
}

#[tokio::test]
async fn an_unknown_protocol_level_is_told() {
    let broker = broker(|_| {}).await;
    let mut client = Client::new(broker.address, 4).await;
    let mut bytes = connect(4, "c", "admin").bytes();
    bytes[8] = 6;
    client.send(&bytes).await;
    assert_eq!(client.frame().await, Some((0x20, vec![0, 1])));
    assert_eq!(client.frame().await, None);
}

#[tokio::test]
async fn a_client_that_stays_silent_is_cut_off() {
    let broker = broker(|config| config.limits.connect_timeout_seconds = 1).await;
    let mut silent = Client::new(broker.address, 4).await;
    let mut half = Client::new(broker.address, 4).await;
    half.send(&connect(4, "c", "admin").bytes()[..9]).await;
    let mut packet = connect(5, "k", "admin");
    packet.keep_alive = 1;
    let mut keep_alive = packet.go(&broker).await;
    assert_eq!(silent.frame().await, None);
    assert_eq!(half.frame().await, None);
    assert_eq!(keep_alive.ended().await, Some(0x8d));
}

#[tokio::test]
async fn a_client_that_pings_is_kept() {
    let broker = broker(|_| {}).await;
    let mut packet = connect(5, "k", "admin");
    packet.keep_alive = 1;
    let mut client = packet.go(&broker).await;
    let begun = std::time::Instant::now();
    let mut beat = tokio::time::interval(std::time::Duration::from_millis(500));
    while begun.elapsed().as_millis() < 3_000 {
        beat.tick().await;
        client.nothing_waits().await;
    }
}

#[tokio::test]
async fn connack_tells_what_the_broker_can_do() {
    let broker = broker(|config| config.limits.session_expiry_max_seconds = 60).await;
    let mut packet = connect(5, "", "admin");
    packet.properties = vec![0x11, 0, 0, 1, 0];
    let (_client, answer) = packet.open(&broker).await;
    let told = |bytes: &[u8]| answer.windows(bytes.len()).any(|window| window == bytes);
    assert!(told(&[0x11, 0, 0, 0, 60]), "session expiry: {answer:02x?}");
    assert!(told(&[0x27, 0, 0x10, 0, 0]), "maximum packet size");
    assert!(told(&[0x13, 0x0e, 0x10]), "server keep alive");
    assert!(told(b"auto-"), "assigned client id");
    let mut packet = connect(4, "", "admin");
    packet.clean = false;
    assert_eq!(packet.open(&broker).await.1, [0, 2]);
}

#[tokio::test]
async fn subscriptions_end_at_their_limit() {
    let broker = broker(|config| config.limits.max_subscriptions = 3).await;
    let mut client = connect(5, "c", "admin").go(&broker).await;
    for filter in ["a", "b/+", "c/#", "a"] {
        assert_eq!(client.subscribe(filter, 0).await, 0, "{filter}");
    }
    assert_eq!(client.subscribe("d", 0).await, 0x97);
    assert_eq!(client.subscribe(&"a/".repeat(40), 0).await, 0x8f);
}

#[tokio::test]
async fn subscription_options_of_5_0_are_honoured() {
    let broker = broker(|_| {}).await;
    let mut client = connect(5, "c", "admin").go(&broker).await;
    let mut other = connect(5, "o", "admin").go(&broker).await;
    // No-local.
    client.subscribe("own", 0b0100).await;
    client.publish(0, "own", "mine").await;
    client.nothing_waits().await;
    other.publish(0, "own", "yours").await;
    assert_eq!(client.message().await.payload, "yours");
    // Overlapping subscriptions: once, with all identifiers and the highest QoS.
    client.subscribe_with("a/b", 0, &[0x0b, 5]).await;
    client.subscribe_with("a/+", 1, &[0x0b, 0xc8, 1]).await;
    other.publish_acked(0, "a/b", "both").await;
    let message = client.message().await;
    assert_eq!((message.first, message.payload.as_str()), (0x32, "both"));
    let mut identifiers = [message.properties.clone(), vec![]].concat();
    identifiers.sort_unstable();
    assert_eq!(
        identifiers,
        [1, 5, 0x0b, 0x0b, 0xc8],
        "{:02x?}",
        message.properties
    );
    client.acknowledge(message.packet_id).await;
    client.nothing_waits().await;
    // Retain as published, and retain handling.
    other.publish_acked(1, "r", "kept").await;
    client.subscribe("r", 0b00_1000).await;
    assert_eq!(client.message().await.first, 0x31);
    client.subscribe("r", 0b01_1000).await;
    client.nothing_waits().await;
    client.subscribe("r", 0b10_1000).await;
    client.nothing_waits().await;
    other.publish_acked(1, "r", "again").await;
    assert_eq!(client.message().await.first, 0x31);
    client.subscribe("r", 0b10_0000).await;
    other.publish_acked(1, "r", "again").await;
    assert_eq!(client.message().await.first, 0x30);
}

#[tokio::test]
async fn properties_of_a_message_are_passed_on_and_aliases_resolved() {
    let broker = broker(|_| {}).await;
    let mut reader = connect(5, "r", "admin").go(&broker).await;
    let mut old = connect(4, "old", "admin").go(&broker).await;
    reader.subscribe("#", 0).await;
    old.subscribe("#", 0).await;
    let mut writer = connect(5, "w", "admin").go(&broker).await;
    let user = [&[0x26][..], &text("k"), &text("v")].concat();
    let own = [&[0x23, 0, 3, 0x02, 0, 0, 0, 60][..], &user].concat();
    writer
        .send(&writer.publish_bytes(0, "a/b", 0, &own, b"1"))
        .await;
    writer
        .send(&writer.publish_bytes(0, "", 0, &[0x23, 0, 3], b"2"))
        .await;
    let first = reader.message().await;
    let expiry = [&[0x02, 0, 0, 0][..], &first.properties[4..5], &user].concat();
    assert_eq!((first.topic.as_str(), first.properties), ("a/b", expiry));
    let second = reader.message().await;
    assert_eq!(
        (second.topic.as_str(), second.payload.as_str()),
        ("a/b", "2")
    );
    assert_eq!(second.properties, [0_u8; 0]);
    for payload in ["1", "2"] {
        let message = old.message().await;
        assert_eq!(
            (message.topic.as_str(), message.payload.as_str()),
            ("a/b", payload)
        );
    }
}

#[tokio::test]
async fn a_message_longer_than_its_reader_takes_is_left_out() {
    let broker = broker(|_| {}).await;
    let mut packet = connect(5, "small", "admin");
    packet.properties = vec![0x27, 0, 0, 0, 100];
    let mut small = packet.go(&broker).await;
    small.subscribe("a", 1).await;
    let mut writer = connect(5, "w", "admin").go(&broker).await;
    writer.publish_acked(0, "a", &"x".repeat(200)).await;
    writer.publish_acked(0, "a", "short").await;
    assert_eq!(small.message().await.payload, "short");
}

#[tokio::test]
async fn what_has_arrived_is_handled_once_the_rest_is_over() {
    let broker = broker(|config| config.limits.messages_per_second = 10).await;
    let mut w = connect(5, "w", "web1").go(&broker).await;
    let one = w.publish_bytes(0b10, "hostbus/v1/home/web1/status", 7, &[], b"x");
    w.send(&one.repeat(15)).await;
    for _ in 0..15 {
        w.expect_ack(0x40, 7, 0x10).await;
    }
}

#[tokio::test]
async fn what_one_packet_may_ask_for_is_bounded() {
    let broker = broker(|config| {
        config.limits.max_subscriptions = 3;
        config.limits.max_topic_bytes = 64;
    })
    .await;
    let mut client = connect(5, "c", "admin").go(&broker).await;
    let (fits, long) = ("x".repeat(64), "x".repeat(65));
    assert_eq!(client.subscribe(&fits, 0).await, 0);
    assert_eq!(client.subscribe(&long, 0).await, 0x8f);
    client.publish(0, &long, "x").await;
    assert_eq!(client.ended().await, Some(0x90));
    let mut client = connect(5, "c", "admin").go(&broker).await;
    let filters: Vec<u8> = (0..4)
        .flat_map(|_| [&text("a")[..], &[0]].concat())
        .collect();
    client
        .send(&packet(0x82, &[&[0, 1, 0], &filters[..]].concat()))
        .await;
    assert_eq!(client.ended().await, Some(0x97));
}
