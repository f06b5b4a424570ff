//! PUBLISH: how it is answered, and what its subscribers get.

use crate::broker;
use crate::raw::{connect, packet, properties, text};

#[tokio::test]
async fn a_message_is_answered_as_its_qos_asks_for() {
    let broker = broker(|_| {}).await;
    for level in [4, 5] {
        let mut client = connect(level, "c", "admin").go(&broker).await;
        client.subscribe("a", 0).await;
        for id in [1, 0x0102, 0xffff] {
            client.publish(0, "a", "x").await;
            assert_eq!(client.message().await.payload, "x");
            client.nothing_waits().await;
            let bytes = client.publish_bytes(0b10, "a", id, &[], b"x");
            client.send(&bytes).await;
            // The message to itself may come before or after.
            let (mut ack, mut message) = (0, 0);
            for _ in 0..2 {
                match client.frame().await.unwrap() {
                    (0x40, body) => {
                        assert_eq!(body, id.to_be_bytes());
                        ack += 1;
                    }
                    (0x30, _) => message += 1,
                    other => panic!("{other:02x?}"),
                }
            }
            assert_eq!((ack, message), (1, 1));
        }
    }
}

#[tokio::test]
async fn acknowledgements_come_in_the_order_of_the_messages() {
    let broker = broker(|_| {}).await;
    for level in [4, 5] {
        let mut client = connect(level, "c", "admin").go(&broker).await;
        client.subscribe("b", 0).await;
        let mut bytes = Vec::new();
        for id in [9, 3, 700, 1, 2] {
            bytes.extend(client.publish_bytes(0b10, "a", id, &[], b"x"));
        }
        client.send(&bytes).await;
        for id in [9, 3, 700, 1, 2] {
            client
                .expect_ack(0x40, id, if level == 5 { 0x10 } else { 0 })
                .await;
        }
    }
}

#[tokio::test]
async fn the_same_identifier_after_puback_is_a_new_message() {
    let broker = broker(|_| {}).await;
    for level in [4, 5] {
        let mut reader = connect(level, "r", "admin").go(&broker).await;
        reader.subscribe("a", 1).await;
        let mut writer = connect(level, "w", "admin").go(&broker).await;
        for (dup, payload) in [(0, "one"), (0b1000, "two"), (0b1000, "three"), (0, "four")] {
            writer.put(0b10 | dup, "a", &[], payload).await;
            let (message, _) = reader.take().await;
            // Nor is DUP passed on.
            assert_eq!((message.first, &*message.payload), (0x32, payload));
        }
    }
}

#[tokio::test]
async fn a_publish_without_the_right_is_answered_and_goes_nowhere() {
    let broker = broker(|_| {}).await;
    for level in [4, 5] {
        let mut witness = connect(level, "witness", "admin").go(&broker).await;
        witness.subscribe("#", 1).await;
        let mut client = connect(level, "c", "viewer").go(&broker).await;
        for bits in [0b00, 0b01] {
            client.publish(bits, "a", "x").await;
            client.nothing_waits().await;
        }
        for bits in [0b10, 0b11] {
            client.publish(bits, "a", "x").await;
            client.expect_ack(0x40, 7, 0x87).await;
        }
        witness.nothing_waits().await;
        witness.subscribe("a", 0).await;
        witness.nothing_waits().await;
    }
}

#[tokio::test]
async fn the_payload_arrives_as_it_was_whatever_it_is() {
    let broker = broker(|_| {}).await;
    for level in [4, 5] {
        let mut client = connect(level, "c", "admin").go(&broker).await;
        client.subscribe("a", 0).await;
        for payload in [vec![], vec![0], (0..=255).collect(), vec![0xff; 200_000]] {
            let body = [&text("a")[..], &properties(level, &[]), &payload].concat();
            client.send(&packet(0x30, &body)).await;
            client.expect(&packet(0x30, &body)).await;
        }
    }
}

#[tokio::test]
async fn a_message_reaches_every_session_that_subscribed() {
    let broker = broker(|_| {}).await;
    let mut absent = Vec::new();
    for (level, id) in [(4, "absent4"), (5, "absent5")] {
        let mut client = connect(level, id, "admin").lasting().go(&broker).await;
        client.subscribe("a/+", 1).await;
        client.goodbye().await;
        absent.push((level, id));
    }
    let mut readers = Vec::new();
    for (level, id) in [(4, "r1"), (5, "r2"), (4, "r3"), (5, "r4")] {
        let mut reader = connect(level, id, "admin").go(&broker).await;
        reader.subscribe("a/#", 1).await;
        readers.push(reader);
    }
    let mut writer = connect(4, "w", "admin").go(&broker).await;
    for number in 0..10 {
        writer.put(0b10, "a/b", &[], &number.to_string()).await;
    }
    for (level, id) in absent {
        readers.push(connect(level, id, "admin").lasting().go(&broker).await);
    }
    for reader in &mut readers {
        for number in 0..10 {
            assert_eq!(reader.payload().await, number.to_string());
        }
        reader.nothing_waits().await;
    }
}
