//! The form of packets: flags, lengths, packet identifiers, types.

use crate::broker;
use crate::raw::{Broker, Client, connect, packet, properties, text};

/// Sends `bytes` to a connected client's broker, which must end the connection.
async fn check(broker: &Broker, level: u8, bytes: &[u8], reason: u8) {
    let mut client = connect(level, "c", "admin").go(broker).await;
    client.send(bytes).await;
    client.cut_off(reason).await;
}

#[tokio::test]
async fn reserved_flags_close_the_connection() {
    let broker = broker(|_| {}).await;
    for level in [4, 5] {
        let types: &[(u8, u8)] = &[
            (4, 0),
            (5, 0),
            (6, 2),
            (7, 0),
            (8, 2),
            (10, 2),
            (12, 0),
            (14, 0),
            (15, 0),
        ];
        let known = if level == 5 { 9 } else { 8 };
        for &(kind, right) in &types[..known] {
            for flags in (0..16).filter(|flags| *flags != right) {
                check(&broker, level, &[kind << 4 | flags, 2, 0, 1], 0x81).await;
            }
        }
        for flags in 1..16 {
            let mut bytes = connect(level, "c", "admin").bytes();
            bytes[0] |= flags;
            let mut client = Client::new(broker.address, level).await;
            client.send(&bytes).await;
            assert_eq!(client.frame().await, None, "CONNECT with {flags:04b}");
        }
    }
}

#[tokio::test]
async fn both_qos_bits_close_the_connection() {
    let broker = broker(|_| {}).await;
    for level in [4, 5] {
        let mut body = text("a");
        body.extend([0, 1]);
        body.extend(properties(level, &[]));
        for first in [0x36, 0x37, 0x3e, 0x3f] {
            check(&broker, level, &packet(first, &body), 0x81).await;
        }
    }
}

#[tokio::test]
async fn dup_on_a_qos_0_message_closes_the_connection() {
    let broker = broker(|_| {}).await;
    for level in [4, 5] {
        let body = [text("a"), properties(level, &[])].concat();
        for first in [0x38, 0x39] {
            check(&broker, level, &packet(first, &body), 0x81).await;
        }
    }
}

#[tokio::test]
async fn a_packet_identifier_of_0_closes_the_connection() {
    let broker = broker(|_| {}).await;
    for level in [4, 5] {
        let none = properties(level, &[]);
        let subscribe = [&[0, 0][..], &none, &text("a"), &[0]].concat();
        let unsubscribe = [&[0, 0][..], &none, &text("a")].concat();
        let publish = [&text("a")[..], &[0, 0], &none].concat();
        for bytes in [
            packet(0x82, &subscribe),
            packet(0xa2, &unsubscribe),
            packet(0x32, &publish),
            packet(0x34, &publish),
            packet(0x40, &[0, 0]),
            packet(0x50, &[0, 0]),
            packet(0x62, &[0, 0]),
            packet(0x70, &[0, 0]),
        ] {
            check(&broker, level, &bytes, 0x81).await;
        }
    }
}

#[tokio::test]
async fn a_qos_0_message_has_no_packet_identifier() {
    // Bytes in its place belong to the payload, and none goes out to a subscriber.
    let broker = broker(|_| {}).await;
    for level in [4, 5] {
        let mut client = connect(level, "c", "admin").go(&broker).await;
        client.subscribe("a", 2).await;
        let body = [&text("a")[..], &properties(level, &[]), b"\x01\x02x"].concat();
        client.send(&packet(0x30, &body)).await;
        client.expect(&packet(0x30, &body)).await;
    }
}

#[tokio::test]
async fn packets_that_are_cut_short_or_too_long_close_the_connection() {
    let broker = broker(|_| {}).await;
    for level in [4, 5] {
        let none = properties(level, &[]);
        let subscribe = [&[0, 1][..], &none, &text("a"), &[0]].concat();
        let unsubscribe = [&[0, 1][..], &none, &text("a")].concat();
        for (first, body) in [(0x82, subscribe), (0xa2, unsubscribe)] {
            for cut in [1, 2, body.len() - 1] {
                let bytes = packet(first, &body[..body.len() - cut]);
                check(&broker, level, &bytes, 0x81).await;
            }
            let bytes = packet(first, &[&body[..], &[0]].concat());
            check(&broker, level, &bytes, 0x81).await;
        }
        for first in [0x40, 0x50, 0x62, 0x70] {
            check(&broker, level, &packet(first, &[0]), 0x81).await;
            // In 5.0 a reason code and properties follow.
            let rest = if level == 5 {
                &[0, 1, 0, 0, 9][..]
            } else {
                &[0, 1, 0]
            };
            check(&broker, level, &packet(first, rest), 0x81).await;
        }
        check(&broker, level, &[0xc0, 1, 0], 0x81).await;
        check(&broker, level, &packet(0x32, &[0, 1, b'a', 0]), 0x81).await;
        check(&broker, level, &packet(0x30, &[0, 9, b'a']), 0x81).await;
    }
    check(&broker, 4, &[0xe0, 1, 0], 0x81).await;
    check(&broker, 5, &[0xe0, 3, 0, 0, 0], 0x81).await;
    // Properties longer than the packet.
    check(&broker, 5, &packet(0x30, &[0, 1, b'a', 9]), 0x81).await;
}

#[tokio::test]
async fn a_length_that_is_not_in_its_shortest_form_closes_the_connection() {
    let broker = broker(|_| {}).await;
    for level in [4, 5] {
        let bytes = [0x30, 0xff, 0xff, 0xff, 0xff, 1];
        check(&broker, level, &bytes, 0x81).await;
    }
    check(&broker, 5, &[0xc0, 0x80, 0], 0x81).await;
    let mut connect = connect(5, "c", "admin").bytes();
    connect[1] |= 0x80;
    connect.insert(2, 0);
    let mut client = Client::new(broker.address, 5).await;
    client.send(&connect).await;
    assert_eq!(client.frame().await, None);
    // The longest packet with a length of one byte, and the shortest with two.
    let mut client = crate::raw::connect(5, "c", "admin").go(&broker).await;
    client.subscribe("a", 0).await;
    for bytes in [127, 128] {
        client.put(0, "a", &[], &"x".repeat(bytes - 4)).await;
        assert_eq!(client.message().await.payload.len(), bytes - 4);
    }
    check(&broker, 5, &[0xe0, 0x81, 0x80, 0, 0], 0x81).await;
    // The length of properties, and a subscription identifier.
    check(&broker, 5, &[0x30, 5, 0, 1, b'a', 0x80, 0], 0x81).await;
    let body = [&[0, 1, 3, 0x0b, 0x81, 0][..], &text("a"), &[0]].concat();
    check(&broker, 5, &packet(0x82, &body), 0x81).await;
    let body = [&[0, 1, 5, 0x0b, 0xff, 0xff, 0xff, 0xff, 1][..], &text("a")].concat();
    check(&broker, 5, &packet(0x82, &body), 0x81).await;
}

#[tokio::test]
async fn packets_that_only_a_server_sends_close_the_connection() {
    let broker = broker(|_| {}).await;
    for level in [4, 5] {
        for bytes in [&[0x20, 2, 0, 0][..], &[0x90, 3, 0, 1, 0], &[0xb0, 2, 0, 1]] {
            check(&broker, level, bytes, 0x82).await;
        }
        check(&broker, level, &[0xd0, 0], 0x82).await;
        check(&broker, level, &[0, 0], 0x81).await;
    }
    // Only 5.0 has AUTH.
    check(&broker, 4, &[0xf0, 0], 0x81).await;
}

#[tokio::test]
async fn packets_may_come_in_pieces_and_in_heaps() {
    let broker = broker(|_| {}).await;
    for level in [4, 5] {
        let mut client = Client::new(broker.address, level).await;
        let none = properties(level, &[]);
        let subscribe = [&[0, 1][..], &none, &text("a"), &[0]].concat();
        let publish = [&text("a")[..], &none, b"x"].concat();
        let all = [
            connect(level, "c", "admin").bytes(),
            packet(0x82, &subscribe),
            packet(0x30, &publish),
            vec![0xc0, 0],
        ]
        .concat();
        for heap in [false, true] {
            if heap {
                client = Client::new(broker.address, level).await;
                client.send(&all).await;
            } else {
                for byte in &all {
                    client.send(&[*byte]).await;
                    tokio::task::yield_now().await;
                }
            }
            assert_eq!(client.frame().await.unwrap().0, 0x20);
            assert_eq!(client.frame().await.unwrap().0, 0x90);
            let mut rest = [
                client.frame().await.unwrap().0,
                client.frame().await.unwrap().0,
            ];
            rest.sort_unstable();
            assert_eq!(rest, [0x30, 0xd0]);
        }
    }
}

#[tokio::test]
async fn a_packet_longer_than_the_broker_takes_closes_the_connection() {
    let broker = broker(|config| config.limits.max_packet_bytes = 1_000).await;
    for level in [4, 5] {
        let body = [&text("a")[..], &properties(level, &[]), &[b'x'; 2_000]].concat();
        check(&broker, level, &packet(0x30, &body), 0x95).await;
        // It is refused for what it claims, before it arrives.
        check(&broker, level, &[0x30, 0xff, 0xff, 0xff, 0x7f], 0x95).await;
    }
}
