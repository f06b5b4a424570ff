//! Properties of 5.0: where they may stand, and what is passed on.

use crate::broker;
use crate::raw::{Broker, Client, connect, packet, properties, property, text};

/// Sends a packet with these properties on a new connection. Which reason ended it, if one did.
async fn sent(broker: &Broker, kind: u8, encoded: &[u8]) -> Option<u8> {
    let encoded = properties(5, encoded);
    let body = match kind {
        3 => [&text("a")[..], &encoded].concat(),
        4..=7 => [&[0, 1, 0][..], &encoded].concat(),
        8 => [&[0, 1][..], &encoded, &text("a"), &[0]].concat(),
        10 => [&[0, 1][..], &encoded, &text("a")].concat(),
        _ => [&[0][..], &encoded].concat(),
    };
    let flags = if matches!(kind, 6 | 8 | 10) { 2 } else { 0 };
    let mut client = connect(5, "c", "admin").go(broker).await;
    client.send(&packet(kind << 4 | flags, &body)).await;
    if kind != 14 {
        client.send(&[0xc0, 0]).await;
    }
    while let Some((first, body)) = client.frame().await {
        match first {
            0xd0 => return None,
            0xe0 => return Some(body[0]),
            _ => {}
        }
    }
    assert_eq!(kind, 14, "closed without a word");
    None
}

/// The properties that a client may send in each type of packet.
const ALLOWED: &[(u8, &[u8])] = &[
    (3, &[0x01, 0x02, 0x03, 0x08, 0x09, 0x23, 0x26]),
    (4, &[0x1f, 0x26]),
    (5, &[0x1f, 0x26]),
    (6, &[0x1f, 0x26]),
    (7, &[0x1f, 0x26]),
    (8, &[0x0b, 0x26]),
    (10, &[0x26]),
    // The session expiry is told where it may be.
    (14, &[0x1f, 0x26]),
];

#[tokio::test]
async fn a_property_that_does_not_belong_in_its_packet_closes_the_connection() {
    let broker = broker(|_| {}).await;
    for (kind, allowed) in ALLOWED {
        for id in property::ALL {
            let told = sent(&broker, *kind, &property::sample(id)).await;
            if allowed.contains(&id) {
                assert_eq!(told, None, "{kind} {id:#x}");
            } else if matches!((kind, id), (3, 0x0b) | (14, 0x11)) {
                assert_eq!(told, Some(0x82), "{kind} {id:#x}");
            } else if (*kind, id) != (14, 0x1c) {
                assert_eq!(told, Some(0x81), "{kind} {id:#x}");
            }
        }
        for unknown in [0, 0x04, 0x0a, 0x2b, 0x7f, 0xff] {
            assert_eq!(sent(&broker, *kind, &[unknown, 0]).await, Some(0x81));
        }
    }
}

#[tokio::test]
async fn a_property_that_stands_twice_closes_the_connection() {
    let broker = broker(|_| {}).await;
    for (kind, allowed) in ALLOWED {
        for id in *allowed {
            let twice = property::sample(*id).repeat(2);
            let expected = (*id != 0x26).then_some(0x82);
            assert_eq!(
                sent(&broker, *kind, &twice).await,
                expected,
                "{kind} {id:#x}"
            );
        }
    }
}

#[tokio::test]
async fn a_property_that_is_cut_short_closes_the_connection() {
    let broker = broker(|_| {}).await;
    for (kind, allowed) in ALLOWED {
        for id in *allowed {
            let whole = property::sample(*id);
            let cut = &whole[..whole.len() - 1];
            assert_eq!(
                sent(&broker, *kind, cut).await,
                Some(0x81),
                "{kind} {id:#x}"
            );
        }
    }
}

#[tokio::test]
async fn values_out_of_range_close_the_connection() {
    let broker = broker(|_| {}).await;
    assert_eq!(sent(&broker, 3, &[0x01, 2]).await, Some(0x82));
    assert_eq!(sent(&broker, 3, &[0x23, 0, 0]).await, Some(0x94));
    for topic in ["a/#", "+/b", ""] {
        let told = sent(&broker, 3, &property::string(0x08, topic)).await;
        assert!(matches!(told, Some(0x81 | 0x82 | 0x90)), "{topic} {told:?}");
    }
}

#[tokio::test]
async fn connect_takes_its_own_properties_only() {
    let broker = broker(|_| {}).await;
    let check = async |packet: crate::raw::Connect, good: bool| {
        let mut client = Client::new(broker.address, 5).await;
        client.send(&packet.bytes()).await;
        let answer = client.frame().await;
        let reason = answer.map(|(_, body)| body[1]);
        if good {
            assert_eq!(reason, Some(0));
        } else {
            assert!(matches!(reason, None | Some(0x80..)), "{reason:?}");
            assert_eq!(client.frame().await, None);
        }
    };
    let allowed = [0x11, 0x17, 0x19, 0x21, 0x22, 0x26, 0x27];
    let in_will = [0x01, 0x02, 0x03, 0x08, 0x09, 0x18, 0x26];
    for id in property::ALL {
        let sample = property::sample(id);
        let packet = || connect(5, "c", "admin");
        let will = |encoded: Vec<u8>| {
            let mut packet = connect(5, "c", "admin").will("a", "x", 0);
            packet.will_properties = encoded;
            packet
        };
        check(packet().with(&sample), allowed.contains(&id)).await;
        check(will(sample.clone()), in_will.contains(&id)).await;
        let twice = sample.repeat(2);
        check(packet().with(&twice), id == 0x26).await;
        check(will(twice), id == 0x26).await;
    }
    for wrong in [
        vec![0x17, 2],
        vec![0x19, 2],
        property::two(0x21, 0),
        property::four(0x27, 0),
    ] {
        check(connect(5, "c", "admin").with(&wrong), false).await;
    }
}

#[tokio::test]
async fn properties_of_a_message_are_passed_on_unaltered_and_in_order() {
    let broker = broker(|_| {}).await;
    let mut reader = connect(5, "r", "admin").go(&broker).await;
    let mut old = connect(4, "old", "admin").go(&broker).await;
    reader.subscribe("a", 1).await;
    old.subscribe("a", 1).await;
    let mut writer = connect(5, "w", "admin").go(&broker).await;
    let sets: [&[Vec<u8>]; 7] = [
        &[property::byte(0x01, 0)],
        &[property::byte(0x01, 1)],
        &[property::string(0x08, "answer/\u{e9}")],
        &[property::string(0x09, "\0\u{1}")],
        &[property::string(0x03, "")],
        &[
            property::user("b", "1"),
            property::user("a", "2"),
            property::user("b", "1"),
            property::user("", ""),
            property::user("b", "0"),
        ],
        &[
            property::user("first", "\u{feff}"),
            property::string(0x03, "text/plain; charset=utf-8"),
            property::string(0x09, "correlation"),
            property::byte(0x01, 1),
            property::user("middle", &"x".repeat(500)),
            property::string(0x08, "answer"),
            property::user("last", ""),
        ],
    ];
    for set in sets {
        for bits in [0, 0b10] {
            writer.put(bits, "a", &set.concat(), "x").await;
            let (message, _) = reader.take().await;
            assert_eq!((message.properties, &*message.payload), (set.concat(), "x"));
            let (message, _) = old.take().await;
            assert_eq!(&*message.payload, "x");
        }
    }
    // What is between publisher and broker is not: the topic alias.
    let own = [
        property::user("a", "1"),
        property::two(0x23, 1),
        property::user("b", "2"),
    ];
    writer.put(0b10, "a", &own.concat(), "x").await;
    let (message, _) = reader.take().await;
    assert_eq!(message.properties, [&own[0][..], &own[2]].concat());
}
