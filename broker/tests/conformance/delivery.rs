//! QoS 0 and 1 to a subscriber: identifiers, acknowledgements, sending again, order.

use std::collections::HashSet;

use crate::broker;
use crate::raw::{connect, property};

#[tokio::test]
async fn a_qos_0_message_is_sent_once_without_dup() {
    let broker = broker(|_| {}).await;
    for level in [4, 5] {
        let mut reader = connect(level, "r", "admin").lasting().go(&broker).await;
        reader.subscribe("a", 0).await;
        let mut writer = connect(level, "w", "admin").go(&broker).await;
        writer.put(0b10, "a", &[], "x").await;
        assert_eq!(reader.message().await.first, 0x30);
        drop(reader);
        let mut reader = connect(level, "r", "admin").lasting().go(&broker).await;
        reader.nothing_waits().await;
        connect(level, "r", "admin").go(&broker).await;
    }
}

#[tokio::test]
async fn identifiers_are_never_0_and_unused() {
    let broker = broker(|config| config.limits.receive_maximum = 301).await;
    for level in [4, 5] {
        let mut reader = connect(level, "r", "admin").go(&broker).await;
        reader.subscribe("a", 1).await;
        let mut writer = connect(level, "w", "admin").go(&broker).await;
        let mut under_way = HashSet::new();
        for number in 0..900 {
            writer.put(0b10, "a", &[], "x").await;
            let message = reader.message().await;
            assert_eq!(message.first, 0x32);
            assert!(under_way.insert(message.packet_id), "twice");
            // Two of three are acknowledged, not the oldest ones.
            if number % 3 != 0 {
                under_way.remove(&message.packet_id);
                reader.acknowledge(message.packet_id).await;
            }
        }
        assert_eq!(under_way.len(), 300);
        reader.goodbye().await;
    }
}

#[tokio::test]
async fn what_is_not_acknowledged_is_sent_again_on_the_next_connection_only() {
    let broker = broker(|_| {}).await;
    for level in [4, 5] {
        let mut reader = connect(level, "r", "admin").lasting().go(&broker).await;
        reader.subscribe("a", 1).await;
        let mut writer = connect(level, "w", "admin").go(&broker).await;
        let mut ids = Vec::new();
        for number in 0..6 {
            writer.put(0b10, "a", &[], &number.to_string()).await;
            let message = reader.message().await;
            assert_eq!(message.first, 0x32, "no DUP the first time");
            ids.push(message.packet_id);
        }
        // Some are acknowledged, not in order, with one that was never sent and one twice.
        for id in [ids[1], ids[4], 9_999, ids[4]] {
            reader.acknowledge(id).await;
        }
        // Nothing comes again on this connection.
        tokio::time::sleep(std::time::Duration::from_millis(1_500)).await;
        reader.nothing_waits().await;
        for _ in 0..2 {
            drop(reader);
            reader = connect(level, "r", "admin").lasting().go(&broker).await;
            for number in [0, 2, 3, 5] {
                let message = reader.message().await;
                assert_eq!(
                    (message.first, message.packet_id, message.payload),
                    (0x3a, ids[number], number.to_string())
                );
            }
            reader.nothing_waits().await;
        }
        for number in [0, 2, 3, 5] {
            reader.acknowledge(ids[number]).await;
        }
        reader.nothing_waits().await;
        drop(reader);
        let mut reader = connect(level, "r", "admin").lasting().go(&broker).await;
        reader.nothing_waits().await;
        connect(level, "r", "admin").go(&broker).await;
    }
}

#[tokio::test]
async fn a_puback_with_an_error_is_an_acknowledgement() {
    let broker = broker(|_| {}).await;
    let mut reader = connect(5, "r", "admin").lasting().go(&broker).await;
    reader.subscribe("a", 1).await;
    let mut writer = connect(5, "w", "admin").go(&broker).await;
    for reason in [0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99] {
        writer.put(0b10, "a", &[], "x").await;
        let [high, low] = reader.message().await.packet_id.to_be_bytes();
        reader.send(&[0x40, 3, high, low, reason]).await;
        reader.nothing_waits().await;
        drop(reader);
        reader = connect(5, "r", "admin").lasting().go(&broker).await;
        reader.nothing_waits().await;
    }
    // With its properties.
    writer.put(0b10, "a", &[], "x").await;
    let [high, low] = reader.message().await.packet_id.to_be_bytes();
    let told = [property::string(0x1f, "no"), property::user("k", "v")].concat();
    let body = [&[high, low, 0x80][..], &crate::raw::properties(5, &told)].concat();
    reader.send(&crate::raw::packet(0x40, &body)).await;
    drop(reader);
    let mut reader = connect(5, "r", "admin").lasting().go(&broker).await;
    reader.nothing_waits().await;
}

#[tokio::test]
async fn messages_arrive_in_the_order_in_which_they_came() {
    let broker = broker(|config| config.limits.receive_maximum = 10).await;
    for level in [4, 5] {
        for qos in [0, 1] {
            let mut reader = connect(level, "r", "admin").go(&broker).await;
            reader.subscribe("a/+", qos).await;
            let mut writer = connect(level, "w", "admin").go(&broker).await;
            let mut bytes = Vec::new();
            for number in 0..200 {
                let topic = format!("a/{}", number % 3);
                let payload = number.to_string();
                bytes.extend(writer.publish_bytes(qos << 1, &topic, 7, &[], payload.as_bytes()));
            }
            writer.send(&bytes).await;
            for number in 0..200 {
                assert_eq!(reader.payload().await, number.to_string(), "QoS {qos}");
            }
        }
    }
}

#[tokio::test]
async fn order_holds_over_a_lost_connection() {
    let broker = broker(|config| config.limits.receive_maximum = 5).await;
    for level in [4, 5] {
        let mut reader = connect(level, "r", "admin").lasting().go(&broker).await;
        reader.subscribe("a", 1).await;
        let mut writer = connect(level, "w", "admin").go(&broker).await;
        for number in 0..20 {
            writer.put(0b10, "a", &[], &number.to_string()).await;
        }
        // Five are under way, the rest waits; the first three are acknowledged.
        for _ in 0..3 {
            reader.take().await;
        }
        drop(reader);
        for number in 20..25 {
            writer.put(0b10, "a", &[], &number.to_string()).await;
        }
        let mut reader = connect(level, "r", "admin").lasting().go(&broker).await;
        for number in 3..25 {
            assert_eq!(reader.payload().await, number.to_string());
        }
        reader.nothing_waits().await;
        reader.goodbye().await;
        connect(level, "r", "admin").go(&broker).await;
    }
}
