//! QoS 2 from the broker to a subscriber.

use std::collections::HashSet;

use crate::broker;
use crate::raw::{Broker, Client, Message, connect, packet, properties, property};

/// A reader with a session that lasts and a QoS 2 subscription, and a writer.
async fn pair(broker: &Broker, level: u8) -> (Client, Client) {
    connect(level, "r", "admin")
        .go(broker)
        .await
        .goodbye()
        .await;
    let mut reader = again(broker, level).await;
    assert_eq!(reader.subscribe("a", 2).await, 2);
    (reader, connect(level, "w", "admin").go(broker).await)
}

async fn again(broker: &Broker, level: u8) -> Client {
    connect(level, "r", "admin").lasting().go(broker).await
}

/// The next message, which must be this one with QoS 2.
async fn received(reader: &mut Client, dup: bool, payload: &str) -> Message {
    let message = reader.message().await;
    let first = if dup { 0x3c } else { 0x34 };
    assert_eq!((message.first, &*message.payload), (first, payload));
    message
}

#[tokio::test]
async fn a_message_is_released_after_pubrec() {
    let broker = broker(|_| {}).await;
    for level in [4, 5] {
        let (mut reader, mut writer) = pair(&broker, level).await;
        writer.put(0b100, "a", &[], "x").await;
        let id = received(&mut reader, false, "x").await.packet_id;
        // Nothing until PUBREC.
        reader.nothing_waits().await;
        reader.send_ack(0x50, id).await;
        let [high, low] = id.to_be_bytes();
        reader.expect(&[0x62, 2, high, low]).await;
        reader.nothing_waits().await;
        reader.send_ack(0x70, id).await;
        reader.nothing_waits().await;
        // That is all: nothing comes on the next connection.
        drop(reader);
        again(&broker, level).await.nothing_waits().await;
    }
}

#[tokio::test]
async fn the_qos_of_a_message_is_the_lower_of_the_two() {
    let broker = broker(|_| {}).await;
    for level in [4, 5] {
        let mut writer = connect(level, "w", "admin").go(&broker).await;
        for granted in 0..3 {
            let mut reader = connect(level, "r", "admin").go(&broker).await;
            assert_eq!(reader.subscribe("a", granted).await, granted);
            for published in 0..3 {
                writer.put(published << 1 | 1, "a", &[], "x").await;
                let qos = granted.min(published);
                assert_eq!(reader.take().await.0.first, 0x30 | qos << 1);
                // Retained with its QoS, too.
                let mut late = connect(level, "late", "admin").go(&broker).await;
                late.subscribe("a", granted).await;
                assert_eq!(late.take().await.0.first, 0x31 | qos << 1);
            }
            reader.nothing_waits().await;
            reader.goodbye().await;
            writer.put(0b11, "a", &[], "").await;
        }
    }
}

#[tokio::test]
async fn what_the_client_left_open_goes_on_at_the_next_connection() {
    let broker = broker(|_| {}).await;
    for level in [4, 5] {
        let (mut reader, mut writer) = pair(&broker, level).await;
        for payload in ["1", "2", "3"] {
            writer.put(0b100, "a", &[], payload).await;
        }
        let mut ids = Vec::new();
        for payload in ["1", "2", "3"] {
            ids.push(received(&mut reader, false, payload).await.packet_id);
        }
        reader.send_ack(0x50, ids[0]).await;
        reader.expect_ack(0x62, ids[0], 0).await;
        for _ in 0..2 {
            drop(reader);
            reader = again(&broker, level).await;
            // PUBREL where PUBREC had come, the message with DUP where it had not.
            let mut seen = Vec::new();
            for _ in 0..3 {
                let (first, body) = reader.frame().await.unwrap();
                if first == 0x62 {
                    seen.push((first, u16::from_be_bytes([body[0], body[1]])));
                } else {
                    let message = reader.parse(first, &body);
                    seen.push((first, message.packet_id));
                }
            }
            let mut messages = seen.clone();
            messages.retain(|(first, _)| *first != 0x62);
            assert!(seen.contains(&(0x62, ids[0])), "{seen:02x?}");
            assert_eq!(messages, [(0x3c, ids[1]), (0x3c, ids[2])]);
            reader.nothing_waits().await;
        }
        reader.send_ack(0x70, ids[0]).await;
        for id in [ids[1], ids[2]] {
            reader.send_ack(0x50, id).await;
            reader.expect_ack(0x62, id, 0).await;
            reader.send_ack(0x70, id).await;
        }
        reader.nothing_waits().await;
        drop(reader);
        again(&broker, level).await.nothing_waits().await;
    }
}

#[tokio::test]
async fn an_absent_session_gets_its_messages_in_order() {
    let broker = broker(|config| config.limits.receive_maximum = 7).await;
    for level in [4, 5] {
        let (reader, mut writer) = pair(&broker, level).await;
        reader.goodbye().await;
        for number in 0..30 {
            writer.put(0b100, "a", &[], &number.to_string()).await;
        }
        let mut reader = again(&broker, level).await;
        let (mut next, mut released) = (0, 0);
        while released < 30 {
            let (first, body) = reader.frame().await.unwrap();
            if first == 0x62 {
                reader
                    .send_ack(0x70, u16::from_be_bytes([body[0], body[1]]))
                    .await;
                released += 1;
            } else {
                let message = reader.parse(first, &body);
                assert_eq!((message.first, message.payload), (0x34, next.to_string()));
                next += 1;
                reader.send_ack(0x50, message.packet_id).await;
            }
        }
        assert_eq!(next, 30);
        reader.nothing_waits().await;
    }
}

#[tokio::test]
async fn a_pubrec_with_an_error_ends_the_delivery() {
    let broker = broker(|_| {}).await;
    let (mut reader, mut writer) = pair(&broker, 5).await;
    for reason in [0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99] {
        writer.put(0b100, "a", &[], "x").await;
        let id = received(&mut reader, false, "x").await.packet_id;
        let [high, low] = id.to_be_bytes();
        reader.send(&[0x50, 3, high, low, reason]).await;
        reader.nothing_waits().await;
        drop(reader);
        reader = again(&broker, 5).await;
        reader.nothing_waits().await;
    }
    // One below 0x80 is none.
    writer.put(0b100, "a", &[], "x").await;
    let id = received(&mut reader, false, "x").await.packet_id;
    let told = properties(5, &property::user("k", "v"));
    let body = [&id.to_be_bytes()[..], &[0x10], &told].concat();
    reader.send(&packet(0x50, &body)).await;
    reader.expect_ack(0x62, id, 0).await;
}

#[tokio::test]
async fn a_pubrec_for_an_unknown_message_is_told_so() {
    let broker = broker(|_| {}).await;
    for level in [4, 5] {
        let mut reader = connect(level, "r", "admin").go(&broker).await;
        reader.send_ack(0x50, 9).await;
        reader.expect_ack(0x62, 9, 0x92).await;
        // A PUBCOMP or a PUBACK says nothing.
        reader.send_ack(0x70, 9).await;
        reader.send_ack(0x40, 9).await;
        reader.nothing_waits().await;
    }
}

#[tokio::test]
async fn an_acknowledgement_of_the_wrong_kind_does_not_end_a_delivery() {
    let broker = broker(|_| {}).await;
    let (mut reader, mut writer) = pair(&broker, 4).await;
    writer.put(0b100, "a", &[], "x").await;
    let id = received(&mut reader, false, "x").await.packet_id;
    reader.send_ack(0x70, id).await;
    drop(reader);
    let mut reader = again(&broker, 4).await;
    received(&mut reader, true, "x").await;
}

#[tokio::test]
async fn a_repeated_pubrec_is_answered_again() {
    let broker = broker(|_| {}).await;
    for level in [4, 5] {
        let (mut reader, mut writer) = pair(&broker, level).await;
        writer.put(0b100, "a", &[], "x").await;
        let id = received(&mut reader, false, "x").await.packet_id;
        for _ in 0..2 {
            reader.send_ack(0x50, id).await;
            reader.expect_ack(0x62, id, 0).await;
        }
        reader.send_ack(0x70, id).await;
        reader.nothing_waits().await;
    }
}

#[tokio::test]
async fn an_identifier_is_in_use_until_pubcomp() {
    let broker = broker(|config| config.limits.receive_maximum = 51).await;
    for level in [4, 5] {
        let (mut reader, mut writer) = pair(&broker, level).await;
        let mut under_way = HashSet::new();
        for number in 0..150 {
            writer.put(0b100, "a", &[], "x").await;
            let id = received(&mut reader, false, "x").await.packet_id;
            assert!(under_way.insert(id), "twice");
            reader.send_ack(0x50, id).await;
            reader.expect_ack(0x62, id, 0).await;
            if number % 3 != 0 {
                reader.send_ack(0x70, id).await;
                under_way.remove(&id);
            }
        }
        reader.goodbye().await;
    }
}

#[tokio::test]
async fn both_qos_share_the_receive_maximum() {
    let broker = broker(|_| {}).await;
    let packet = connect(5, "r", "admin").with(&property::two(0x21, 2));
    let mut reader = packet.go(&broker).await;
    reader.subscribe("a", 2).await;
    let mut writer = connect(5, "w", "admin").go(&broker).await;
    for (bits, payload) in [(0b100, "1"), (0b010, "2"), (0b100, "3"), (0b010, "4")] {
        writer.put(bits, "a", &[], payload).await;
    }
    let first = reader.message().await.packet_id;
    let second = reader.message().await.packet_id;
    reader.nothing_waits().await;
    // PUBREC makes no room, PUBCOMP does.
    reader.send_ack(0x50, first).await;
    reader.expect_ack(0x62, first, 0).await;
    reader.nothing_waits().await;
    reader.send_ack(0x70, first).await;
    let third = received(&mut reader, false, "3").await.packet_id;
    reader.nothing_waits().await;
    reader.send_ack(0x40, second).await;
    assert_eq!(reader.payload().await, "4");
    // A PUBREC with an error does, too.
    writer.put(0b100, "a", &[], "5").await;
    let [high, low] = third.to_be_bytes();
    let fifth = received(&mut reader, false, "5").await.packet_id;
    writer.put(0b100, "a", &[], "6").await;
    reader.nothing_waits().await;
    reader.send(&[0x50, 3, high, low, 0x80]).await;
    received(&mut reader, false, "6").await;
    assert_ne!(fifth, third);
}

#[tokio::test]
async fn a_message_under_way_does_not_expire() {
    let broker = broker(|_| {}).await;
    let (mut reader, mut writer) = pair(&broker, 5).await;
    writer.put(0b100, "a", &property::four(0x02, 1), "x").await;
    let id = reader.message().await.packet_id;
    drop(reader);
    tokio::time::sleep(std::time::Duration::from_millis(1_200)).await;
    let mut reader = again(&broker, 5).await;
    assert_eq!(received(&mut reader, true, "x").await.packet_id, id);
    reader.send_ack(0x50, id).await;
    reader.expect_ack(0x62, id, 0).await;
    reader.send_ack(0x70, id).await;
    reader.nothing_waits().await;
}

#[tokio::test]
async fn an_unsubscribe_does_not_stop_what_is_under_way() {
    let broker = broker(|_| {}).await;
    for level in [4, 5] {
        let (mut reader, mut writer) = pair(&broker, level).await;
        writer.put(0b100, "a", &[], "x").await;
        let id = received(&mut reader, false, "x").await.packet_id;
        reader.unsubscribe_all(&["a"]).await;
        drop(reader);
        let mut reader = again(&broker, level).await;
        received(&mut reader, true, "x").await;
        reader.send_ack(0x50, id).await;
        reader.expect_ack(0x62, id, 0).await;
        reader.send_ack(0x70, id).await;
        reader.nothing_waits().await;
    }
}

#[tokio::test]
async fn overlapping_subscriptions_get_the_highest_qos() {
    let broker = broker(|_| {}).await;
    for level in [4, 5] {
        let mut reader = connect(level, "r", "admin").go(&broker).await;
        reader
            .subscribe_all(&[], &[("a", 1), ("+", 2), ("#", 0)])
            .await;
        let mut writer = connect(level, "w", "admin").go(&broker).await;
        writer.put(0b100, "a", &[], "x").await;
        assert_eq!(reader.take().await.0.first, 0x34);
        reader.nothing_waits().await;
    }
}

#[tokio::test]
async fn messages_too_long_for_the_client_are_left_out() {
    let broker = broker(|_| {}).await;
    let packet = connect(5, "r", "admin").with(&property::four(0x27, 100));
    let mut reader = packet.with(&property::two(0x21, 1)).go(&broker).await;
    reader.subscribe("a", 2).await;
    let mut writer = connect(5, "w", "admin").go(&broker).await;
    for _ in 0..3 {
        writer.put(0b100, "a", &[], &"x".repeat(200)).await;
        writer.put(0b100, "a", &[], "short").await;
        assert_eq!(reader.payload().await, "short");
    }
    reader.nothing_waits().await;
}
