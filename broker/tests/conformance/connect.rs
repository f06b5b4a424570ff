//! CONNECT and CONNACK: what is let in, what is refused and how.

use std::collections::HashSet;

use crate::broker;
use crate::raw::answer::Answer;
use crate::raw::{Broker, Client, connect, packet, properties, property, text};

/// Sends a first packet that must be refused. Returns the reason code where the broker told one in
/// CONNACK; the connection is closed, and there is nothing else on it.
async fn refused(broker: &Broker, level: u8, bytes: &[u8]) -> Option<u8> {
    let mut client = Client::new(broker.address, level).await;
    client.send(bytes).await;
    let (first, body) = client.frame().await?;
    assert_eq!(first, 0x20, "{body:02x?}");
    assert_eq!(body[0], 0, "session present: {body:02x?}");
    assert_ne!(body[1], 0, "let in: {bytes:02x?}");
    assert_eq!(client.frame().await, None);
    Some(body[1])
}

/// Sends a malformed CONNECT: 3.1.1 is not answered, 5.0 may be.
async fn malformed(broker: &Broker, level: u8, bytes: &[u8]) {
    let told = refused(broker, level, bytes).await;
    let allowed: &[Option<u8>] = match level {
        5 => &[None, Some(0x81), Some(0x82)],
        _ => &[None],
    };
    assert!(allowed.contains(&told), "{told:02x?} for {bytes:02x?}");
}

/// CONNECT with these flags and this payload, right or wrong.
fn connect_bytes(level: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    let head = [&text("MQTT")[..], &[level, flags, 0, 0]].concat();
    packet(
        0x10,
        &[head, properties(level, &[]), payload.to_vec()].concat(),
    )
}

#[tokio::test]
async fn the_first_packet_must_be_connect() {
    let broker = broker(|_| {}).await;
    let body = [text("a"), vec![0]].concat();
    for bytes in [
        packet(0x30, &body),
        packet(0x40, &[0, 1]),
        packet(0x50, &[0, 1]),
        packet(0x62, &[0, 1]),
        packet(0x70, &[0, 1]),
        packet(0x82, &[&[0, 1][..], &body].concat()),
        packet(0xa2, &[&[0, 1][..], &text("a")].concat()),
        vec![0xc0, 0],
        vec![0xe0, 0],
        vec![0xf0, 0],
        vec![0, 0],
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
    ] {
        // A CONNECT after it does not help.
        let bytes = [bytes, connect(4, "c", "admin").bytes()].concat();
        assert_eq!(refused(&broker, 4, &bytes).await, None, "{bytes:02x?}");
    }
}

#[tokio::test]
async fn a_second_connect_closes_the_connection() {
    let broker = broker(|_| {}).await;
    for level in [4, 5] {
        let mut client = connect(level, "c", "admin").go(&broker).await;
        client.send(&connect(level, "c", "admin").bytes()).await;
        client.cut_off(0x82).await;
    }
}

#[tokio::test]
async fn an_unknown_protocol_name_is_not_served() {
    let broker = broker(|_| {}).await;
    for level in [4, 5] {
        for name in ["mqtt", "MQTTX", "MQT", "", "HTTP", "MQIsdp"] {
            let bytes = connect(level, "c", "admin").bytes();
            // Behind the name: 2 bytes of header, the name, and all the rest.
            let body = [&text(name)[..], &bytes[8..]].concat();
            let told = refused(&broker, level, &packet(0x10, &body)).await;
            assert!(
                matches!(told, None | Some(0x84) | Some(1)),
                "{name} {told:02x?}"
            );
        }
    }
}

#[tokio::test]
async fn an_unsupported_protocol_level_is_told_and_closed() {
    let broker = broker(|_| {}).await;
    for level in [0, 1, 2, 3, 6, 7, 0x80, 0xff] {
        let mut bytes = connect(4, "c", "admin").bytes();
        bytes[8] = level;
        assert_eq!(refused(&broker, 4, &bytes).await, Some(1), "{level}");
    }
}

#[tokio::test]
async fn the_reserved_connect_flag_closes_the_connection() {
    let broker = broker(|_| {}).await;
    for level in [4, 5] {
        malformed(&broker, level, &connect_bytes(level, 0b11, &text("c"))).await;
    }
}

#[tokio::test]
async fn flags_and_payload_of_connect_must_agree() {
    let broker = broker(|config| config.anonymous = Some(hostbus_wire::Role::Admin)).await;
    for level in [4, 5] {
        let id = text("c");
        let will = [properties(level, &[]), text("will"), text("gone")].concat();
        let check = async |flags: u8, payload: &[&[u8]]| {
            let bytes = connect_bytes(level, flags, &payload.concat());
            malformed(&broker, level, &bytes).await;
        };
        // Will QoS and will retain without a will; will QoS 3.
        check(0b0000_1010, &[&id]).await;
        check(0b0001_0010, &[&id]).await;
        check(0b0010_0010, &[&id]).await;
        check(0b0001_1110, &[&id, &will]).await;
        // A will that is announced and missing, cut short, or there without being announced.
        check(0b0000_0110, &[&id]).await;
        check(0b0000_0110, &[&id, &will[..will.len() - 1]]).await;
        check(0b0000_0110, &[&id, &properties(level, &[]), &text("will")]).await;
        check(0b0000_0010, &[&id, &will]).await;
        // User name and password, likewise.
        check(0b1000_0010, &[&id]).await;
        check(0b0000_0010, &[&id, &text("u")]).await;
        check(0b1100_0010, &[&id, &text("u")]).await;
        check(0b1000_0010, &[&id, &text("u"), &text("p")]).await;
        check(0b1100_0010, &[&id, &text("u"), &[0, 5, b'p']]).await;
        // No client id at all, and bytes after the end.
        check(0b0000_0010, &[]).await;
        check(0b0000_0010, &[&[0, 9, b'c']]).await;
        check(0b0000_0010, &[&id, &[0]]).await;
        // The same without the mistake is let in.
        let mut client = Client::new(broker.address, level).await;
        let bytes = connect_bytes(level, 0b0010_1110, &[id, will].concat());
        client.send(&bytes).await;
        assert_eq!(client.frame().await.unwrap().1[1], 0);
    }
    // A password needs a user name in 3.1.1 only.
    let payload = [text("c"), text("p")].concat();
    malformed(&broker, 4, &connect_bytes(4, 0b0100_0010, &payload)).await;
    let mut client = Client::new(broker.address, 5).await;
    client.send(&connect_bytes(5, 0b0100_0010, &payload)).await;
    assert_eq!(client.frame().await.unwrap().0, 0x20);
}

#[tokio::test]
async fn a_will_topic_that_is_no_topic_name_is_refused() {
    let broker = broker(|_| {}).await;
    for level in [4, 5] {
        for topic in ["", "a/#", "+/b"] {
            let bytes = connect(level, "c", "admin").will(topic, "x", 0).bytes();
            let told = refused(&broker, level, &bytes).await;
            assert!(level == 5 || told.is_none(), "{topic} {told:02x?}");
        }
    }
}

#[tokio::test]
async fn every_client_id_that_must_be_allowed_is_allowed() {
    const LETTERS: &str = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    let broker = broker(|_| {}).await;
    for level in [4, 5] {
        for start in 0..LETTERS.len() {
            let id = LETTERS.get(start..(start + 23).min(LETTERS.len())).unwrap();
            connect(level, id, "admin").go(&broker).await;
            connect(level, &id[..1], "admin").go(&broker).await;
        }
    }
}

#[tokio::test]
async fn a_client_id_that_is_not_allowed_is_refused_and_told() {
    let long: &'static str = Box::leak("x".repeat(300).into_boxed_str());
    let broker = broker(|_| {}).await;
    for (level, reason) in [(4, 2), (5, 0x85)] {
        let bytes = connect(level, long, "admin").bytes();
        assert_eq!(refused(&broker, level, &bytes).await, Some(reason));
    }
    // Without a client id nobody could come back to the session.
    let bytes = connect(4, "", "admin").lasting().bytes();
    assert_eq!(refused(&broker, 4, &bytes).await, Some(2));
}

#[tokio::test]
async fn clients_without_a_client_id_get_one_of_their_own() {
    let broker = broker(|_| {}).await;
    let mut clients = Vec::new();
    let mut ids = HashSet::new();
    for level in [4, 5] {
        for _ in 0..5 {
            let mut client = Client::new(broker.address, level).await;
            client.send(&connect(level, "", "admin").bytes()).await;
            let Answer::ConnAck {
                present,
                reason,
                properties,
            } = client.answer().await
            else {
                panic!("no CONNACK");
            };
            assert!(!present && reason == 0);
            if level == 5 {
                let id = properties.text(0x12).expect("an assigned client id");
                assert!(!id.is_empty() && ids.insert(id), "twice");
            }
            clients.push(client);
        }
    }
    // Nobody took over anybody's session.
    for client in &mut clients {
        client.nothing_waits().await;
    }
}

#[tokio::test]
async fn the_assigned_client_id_is_the_clients_from_then_on() {
    let broker = broker(|_| {}).await;
    let mut client = Client::new(broker.address, 5).await;
    let first = connect(5, "", "admin").lasting();
    client.send(&first.bytes()).await;
    let Answer::ConnAck { properties, .. } = client.answer().await else {
        panic!("no CONNACK");
    };
    let id = properties.text(0x12).unwrap();
    client.subscribe("a", 1).await;
    client.goodbye().await;
    let id: &'static str = Box::leak(id.into_boxed_str());
    let (mut client, answer) = connect(5, id, "admin").lasting().open(&broker).await;
    assert_eq!(answer[..2], [1, 0]);
    client.put(0, "a", &[], "x").await;
    assert_eq!(client.payload().await, "x");
}

#[tokio::test]
async fn connack_comes_first_and_once() {
    let broker = broker(|_| {}).await;
    // A session with a message that waits.
    for level in [4, 5] {
        let mut client = connect(level, "p", "admin").lasting().go(&broker).await;
        client.subscribe("a", 1).await;
        client.goodbye().await;
        let mut writer = connect(4, "w", "admin").go(&broker).await;
        writer.put(0b10, "a", &[], "x").await;
        let mut client = Client::new(broker.address, level).await;
        let none = properties(level, &[]);
        let subscribe = [&[0, 1][..], &none, &text("b"), &[0]].concat();
        let bytes = [
            connect(level, "p", "admin").lasting().bytes(),
            vec![0xc0, 0],
            packet(0x82, &subscribe),
            packet(0x30, &[&text("b")[..], &none, b"y"].concat()),
        ];
        client.send(&bytes.concat()).await;
        assert_eq!(client.frame().await.unwrap().0, 0x20);
        let mut rest = Vec::new();
        for _ in 0..4 {
            rest.push(client.frame().await.unwrap().0);
        }
        rest.sort_unstable();
        assert_eq!(rest, [0x30, 0x32, 0x90, 0xd0]);
        client.nothing_waits().await;
        connect(level, "p", "admin").go(&broker).await;
    }
}

#[tokio::test]
async fn nothing_after_a_refused_connect_is_processed() {
    let broker = broker(|_| {}).await;
    let mut witness = connect(4, "witness", "admin").go(&broker).await;
    witness.subscribe("#", 0).await;
    for level in [4, 5] {
        let mut refused_packet = connect(level, "c", "admin");
        refused_packet.password = Some("wrong");
        let publish = [&text("a")[..], &properties(level, &[]), b"x"].concat();
        let bytes = [refused_packet.bytes(), packet(0x31, &publish)].concat();
        let wrong = if level == 5 { 0x86 } else { 4 };
        assert_eq!(refused(&broker, level, &bytes).await, Some(wrong));
        witness.nothing_waits().await;
    }
    // Nor was it retained.
    witness.subscribe("a", 0).await;
    witness.nothing_waits().await;
}

#[tokio::test]
async fn each_reason_to_refuse_is_told_by_its_code() {
    let broker = broker(|config| config.limits.failed_logins_per_minute = 4).await;
    for (level, wrong, none) in [(4, 4, 5), (5, 0x86, 0x87)] {
        let mut packet = connect(level, "c", "admin");
        packet.password = Some("wrong");
        assert_eq!(refused(&broker, level, &packet.bytes()).await, Some(wrong));
        let mut packet = connect(level, "c", "");
        (packet.user, packet.password) = (None, None);
        assert_eq!(refused(&broker, level, &packet.bytes()).await, Some(none));
        // A will that the client has no right to publish.
        let packet = connect(level, "c", "viewer").will("a", "x", 0);
        assert_eq!(refused(&broker, level, &packet.bytes()).await, Some(none));
    }
    // After too many failures passwords are not checked for a while.
    let mut last = None;
    for _ in 0..6 {
        let mut packet = connect(4, "c", "viewer");
        packet.password = Some("wrong");
        last = refused(&broker, 4, &packet.bytes()).await;
    }
    assert_eq!(last, Some(3));
}

#[tokio::test]
async fn a_new_connection_takes_the_client_over() {
    let broker = broker(|_| {}).await;
    for old in [4, 5] {
        for new in [4, 5] {
            for lasting in [false, true] {
                let with = |level| {
                    let packet = connect(level, "c", "admin");
                    if lasting { packet.lasting() } else { packet }
                };
                let mut first = with(old).go(&broker).await;
                let mut second = with(new).go(&broker).await;
                first.cut_off(0x8e).await;
                second.nothing_waits().await;
                second.goodbye().await;
                connect(4, "c", "admin").go(&broker).await.goodbye().await;
            }
        }
    }
}

#[tokio::test]
async fn connack_announces_what_the_broker_takes() {
    let broker = broker(|config| {
        config.limits.receive_maximum = 17;
        config.limits.max_packet_bytes = 4_096;
        config.limits.session_expiry_max_seconds = 60;
    })
    .await;
    let mut client = Client::new(broker.address, 5).await;
    let packet = connect(5, "c", "admin").with(&property::four(0x11, 61));
    client.send(&packet.bytes()).await;
    let Answer::ConnAck { properties, .. } = client.answer().await else {
        panic!("no CONNACK");
    };
    assert_eq!(properties.number(0x21), Some(17), "receive maximum");
    assert_eq!(properties.number(0x27), Some(4_096), "maximum packet size");
    assert_eq!(properties.number(0x11), Some(60), "session expiry");
    assert!(properties.number(0x22) > Some(0), "topic alias maximum");
    // Retained messages, wildcards and subscription identifiers are there: absent or 1.
    for id in [0x25, 0x28, 0x29] {
        assert!(matches!(properties.number(id), None | Some(1)), "{id:#x}");
    }
    // Server references and authentication are not.
    for id in [0x12, 0x15, 0x16, 0x1a, 0x1c] {
        assert_eq!(properties.get(id), None, "{id:#x}");
    }
}

#[tokio::test]
async fn response_information_is_not_sent() {
    let broker = broker(|_| {}).await;
    for asked in [0, 1] {
        let mut client = Client::new(broker.address, 5).await;
        let packet = connect(5, "c", "admin").with(&[0x19, asked]);
        client.send(&packet.bytes()).await;
        let Answer::ConnAck { properties, .. } = client.answer().await else {
            panic!("no CONNACK");
        };
        assert_eq!(properties.get(0x1a), None);
    }
}

#[tokio::test]
async fn enhanced_authentication_is_refused() {
    let broker = broker(|_| {}).await;
    let method = property::string(0x15, "SCRAM-SHA-256");
    let packet = connect(5, "c", "admin").with(&method);
    assert_eq!(refused(&broker, 5, &packet.bytes()).await, Some(0x8c));
    let packet = packet.with(&property::string(0x16, "n,,n=user"));
    // Data in AUTH that comes along is not processed.
    let bytes = [packet.bytes(), vec![0xf0, 0]].concat();
    assert_eq!(refused(&broker, 5, &bytes).await, Some(0x8c));
    // Data without a method is a mistake in the packet.
    let packet = connect(5, "c", "admin").with(&property::string(0x16, "n,,n=user"));
    malformed(&broker, 5, &packet.bytes()).await;
    // AUTH on a connection that has no method: also as an attempt to authenticate anew.
    let with_method = [&[0x19][..], &properties(5, &method)].concat();
    for body in [&[][..], &[0x18, 0], &with_method] {
        let mut client = connect(5, "c", "admin").go(&broker).await;
        client.send(&super::raw::packet(0xf0, body)).await;
        client.cut_off(0x82).await;
    }
}
