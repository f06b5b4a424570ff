//! SUBSCRIBE and SUBACK, and what a subscription gets.

use crate::broker;
use crate::raw::{connect, packet, properties, property, text};

#[tokio::test]
async fn suback_has_a_code_for_each_filter_in_their_order() {
    let broker = broker(|config| config.limits.max_topic_levels = 4).await;
    for level in [4, 5] {
        let mut client = connect(level, "c", "admin").go(&broker).await;
        let filters = [("a", 0), ("a/b/c/d/e", 0), ("b", 1), ("c/#", 2), ("+", 0)];
        let failed = if level == 5 { 0x8f } else { 0x80 };
        let codes = client.subscribe_all(&[], &filters).await;
        assert_eq!(codes, [0, failed, 1, 2, 0]);
        // All bytes of it.
        let none = properties(level, &[]);
        let body = [&[0xab, 0xcd][..], &none, &text("a"), &[1]].concat();
        client.send(&packet(0x82, &body)).await;
        let answer = [&[0xab, 0xcd][..], &none, &[1]].concat();
        client.expect(&packet(0x90, &answer)).await;
    }
    // What a client has no right to.
    for (level, refused) in [(4, 0x80), (5, 0x87)] {
        let mut client = connect(level, "c", "web1").go(&broker).await;
        assert_eq!(client.subscribe("other", 0).await, refused);
    }
}

#[tokio::test]
async fn many_filters_in_one_packet_are_as_many_packets() {
    let broker = broker(|_| {}).await;
    for level in [4, 5] {
        let mut writer = connect(level, "w", "admin").go(&broker).await;
        writer.put(0b11, "kept", &[], "kept").await;
        let mut client = connect(level, "c", "admin").go(&broker).await;
        // The second of two equal filters replaces the first.
        let filters = [("a", 0), ("b", 1), ("kept", 0), ("a", 1)];
        assert_eq!(client.subscribe_all(&[], &filters).await, [0, 1, 0, 1]);
        assert_eq!(client.payload().await, "kept");
        writer.put(0b10, "a", &[], "1").await;
        writer.put(0b10, "b", &[], "2").await;
        for payload in ["1", "2"] {
            let (message, _) = client.take().await;
            assert_eq!((message.first, &*message.payload), (0x32, payload));
        }
        client.nothing_waits().await;
    }
}

#[tokio::test]
async fn a_subscribe_without_a_filter_closes_the_connection() {
    let broker = broker(|_| {}).await;
    for level in [4, 5] {
        let mut client = connect(level, "c", "admin").go(&broker).await;
        let body = [&[0, 1][..], &properties(level, &[])].concat();
        client.send(&packet(0x82, &body)).await;
        client.cut_off(0x82).await;
    }
}

#[tokio::test]
async fn reserved_subscription_options_close_the_connection() {
    let broker = broker(|_| {}).await;
    let check = async |level: u8, options: u8, reason: u8| {
        let mut client = connect(level, "c", "admin").go(&broker).await;
        let none = properties(level, &[]);
        let body = [&[0, 1][..], &none, &text("a"), &[options]].concat();
        client.send(&packet(0x82, &body)).await;
        client.cut_off(reason).await;
    };
    for level in [4, 5] {
        check(level, 3, 0x81).await;
        for bit in 2..8 {
            if level == 4 || bit > 5 {
                check(level, 1 << bit, 0x81).await;
            }
        }
    }
    // Retain handling 3.
    check(5, 0x30, 0x82).await;
}

#[tokio::test]
async fn an_equal_filter_replaces_the_subscription() {
    let broker = broker(|_| {}).await;
    for level in [4, 5] {
        let mut writer = connect(level, "w", "admin").go(&broker).await;
        writer.put(0b11, "a/b", &[], "kept").await;
        let mut client = connect(level, "c", "admin").go(&broker).await;
        for (options, first) in [(1, 0x33), (0, 0x31), (1, 0x33)] {
            assert_eq!(client.subscribe("a/+", options).await, options);
            // The retained message comes each time.
            let (message, _) = client.take().await;
            assert_eq!((message.first, &*message.payload), (first, "kept"));
            // And a new message once, with the new QoS.
            writer.put(0b10, "a/c", &[], "new").await;
            let (message, _) = client.take().await;
            assert_eq!((message.first, &*message.payload), (first & 0xfe, "new"));
            client.nothing_waits().await;
        }
    }
}

#[tokio::test]
async fn replacing_a_subscription_loses_and_doubles_nothing() {
    let broker = broker(|_| {}).await;
    for level in [4, 5] {
        let mut client = connect(level, "c", "admin").go(&broker).await;
        client.subscribe("a", 1).await;
        let mut writer = connect(level, "w", "admin").go(&broker).await;
        let written = tokio::spawn(async move {
            for number in 0..500 {
                writer.put(0b10, "a", &[], &number.to_string()).await;
            }
        });
        let body = [&[0, 9][..], &properties(level, &[]), &text("a"), &[1]].concat();
        let again = packet(0x82, &body);
        let (mut expected, mut answers) = (0, 0);
        while expected < 500 {
            if expected % 10 == 0 {
                client.send(&again).await;
            }
            let (first, body) = client.frame().await.unwrap();
            if first == 0x90 {
                answers += 1;
                continue;
            }
            let message = client.parse(first, &body);
            assert_eq!(message.payload, expected.to_string());
            client.acknowledge(message.packet_id).await;
            expected += 1;
        }
        written.await.unwrap();
        assert!(answers > 10);
    }
}

#[tokio::test]
async fn overlapping_subscriptions_get_one_copy_with_the_highest_qos() {
    let broker = broker(|_| {}).await;
    for level in [4, 5] {
        let mut writer = connect(level, "w", "admin").go(&broker).await;
        for filters in [["a/#", "a/b"], ["a/b", "a/#"]] {
            let mut client = connect(level, "c", "admin").go(&broker).await;
            client
                .subscribe_all(&[], &[(filters[0], 0), (filters[1], 1)])
                .await;
            writer.put(0b10, "a/b", &[], "x").await;
            let (message, _) = client.take().await;
            assert_eq!(message.first, 0x32);
            client.nothing_waits().await;
        }
    }
}

#[tokio::test]
async fn all_subscription_identifiers_come_with_the_message() {
    let broker = broker(|_| {}).await;
    let mut client = connect(5, "c", "admin").go(&broker).await;
    let most = 268_435_455;
    for (filter, identifier) in [("a/b", 1), ("a/+", 300), ("a/#", most), ("+/b", 300)] {
        let identifier = property::identifier(identifier);
        client.subscribe_all(&identifier, &[(filter, 1)]).await;
    }
    client.subscribe("#", 0).await;
    let mut writer = connect(4, "w", "admin").go(&broker).await;
    for (topic, expected) in [
        ("a/b", &[1, 300, 300, most as u32][..]),
        ("a/c", &[300, most as u32]),
        ("a", &[most as u32]),
        ("c", &[]),
    ] {
        for bits in [0, 0b10] {
            writer.put(bits, topic, &[], topic).await;
            let (message, properties) = client.take().await;
            assert_eq!(message.topic, topic);
            let mut identifiers = properties.identifiers();
            let mut expected = expected.to_vec();
            // Two subscriptions with the same identifier may be told as one.
            identifiers.dedup();
            expected.dedup();
            assert_eq!(identifiers, expected, "{topic}");
            client.nothing_waits().await;
        }
    }
    // A new subscription replaces the identifier, or takes it away; the retained message has it.
    writer.put(0b11, "r", &[], "kept").await;
    assert_eq!(client.payload().await, "kept");
    client.unsubscribe_all(&["#"]).await;
    for identifier in [Some(5), Some(6), None] {
        let encoded = identifier.map_or(Vec::new(), property::identifier);
        client.subscribe_all(&encoded, &[("r", 0)]).await;
        let (_, retained) = client.take().await;
        writer.put(0, "r", &[], "x").await;
        let (_, live) = client.take().await;
        let expected: Vec<u32> = identifier.iter().map(|id| *id as u32).collect();
        assert_eq!(
            (retained.identifiers(), live.identifiers()),
            (expected.clone(), expected)
        );
    }
}

#[tokio::test]
async fn subscription_identifiers_that_are_wrong_close_the_connection() {
    let broker = broker(|_| {}).await;
    let twice = [property::identifier(1), property::identifier(2)].concat();
    for encoded in [property::identifier(0), twice] {
        let mut client = connect(5, "c", "admin").go(&broker).await;
        let body = [&[0, 1][..], &properties(5, &encoded), &text("a"), &[0]].concat();
        client.send(&packet(0x82, &body)).await;
        client.cut_off(0x82).await;
    }
    // A client does not send them with a message.
    let mut client = connect(5, "c", "admin").go(&broker).await;
    let bytes = client.publish_bytes(0, "a", 0, &property::identifier(1), b"x");
    client.send(&bytes).await;
    client.cut_off(0x82).await;
}

#[tokio::test]
async fn no_local_keeps_a_clients_own_messages_from_it() {
    let broker = broker(|_| {}).await;
    let mut client = connect(5, "c", "admin").lasting().go(&broker).await;
    let mut other = connect(5, "o", "admin").go(&broker).await;
    client.subscribe("a", 0b0101).await;
    client.subscribe("b", 1).await;
    client.put(0b10, "a", &[], "own").await;
    client.nothing_waits().await;
    other.put(0b10, "a", &[], "other").await;
    assert_eq!(client.payload().await, "other");
    client.put(0b10, "b", &[], "own").await;
    assert_eq!(client.payload().await, "own");
    // On its next connection too.
    client.goodbye().await;
    let mut client = connect(5, "c", "admin").lasting().go(&broker).await;
    client.put(0b10, "a", &[], "own").await;
    client.nothing_waits().await;
    // An overlapping subscription without it gets them.
    client.subscribe("+", 0).await;
    client.put(0b10, "a", &[], "own").await;
    let (message, _) = client.take().await;
    assert_eq!((message.first, &*message.payload), (0x30, "own"));
    client.nothing_waits().await;
}

#[tokio::test]
async fn a_message_matches_the_subscription_that_it_is_sent_for() {
    let broker = broker(|_| {}).await;
    for level in [4, 5] {
        let mut client = connect(level, "c", "admin").go(&broker).await;
        client.subscribe_all(&[], &[("a/+/c", 0), ("d", 0)]).await;
        let mut writer = connect(level, "w", "admin").go(&broker).await;
        for topic in ["a/b/c", "a/b", "d", "d/e", "a/x/c"] {
            writer.put(0b10, topic, &[], topic).await;
        }
        for topic in ["a/b/c", "d", "a/x/c"] {
            let message = client.message().await;
            assert_eq!((&*message.topic, &*message.payload), (topic, topic));
        }
        client.nothing_waits().await;
    }
}

#[tokio::test]
async fn the_qos_of_a_message_is_the_lower_of_the_two_up_to_1() {
    let broker = broker(|_| {}).await;
    for level in [4, 5] {
        let mut writer = connect(level, "w", "admin").go(&broker).await;
        for granted in [0, 1] {
            let mut client = connect(level, "c", "admin").go(&broker).await;
            assert_eq!(client.subscribe("a", granted).await, granted);
            for published in [0, 1] {
                writer.put(published << 1, "a", &[], "x").await;
                let (message, _) = client.take().await;
                assert_eq!(message.first, 0x30 | granted.min(published) << 1);
            }
            client.nothing_waits().await;
        }
    }
}
