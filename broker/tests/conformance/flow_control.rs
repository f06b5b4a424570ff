//! Receive maximum towards a subscriber.

use crate::broker;
use crate::raw::{connect, property};

#[tokio::test]
async fn no_more_messages_are_under_way_than_the_client_takes() {
    let broker = broker(|_| {}).await;
    for most in [1, 2, 10] {
        let packet = connect(5, "r", "admin").with(&property::two(0x21, most));
        let mut reader = packet.go(&broker).await;
        reader.subscribe("a", 1).await;
        let mut writer = connect(4, "w", "admin").go(&broker).await;
        for number in 0..30 {
            writer.put(0b10, "a", &[], &number.to_string()).await;
        }
        let mut under_way = Vec::new();
        for number in 0..30 {
            if under_way.len() == usize::from(most) {
                reader.nothing_waits().await;
                // Any of them makes room for one.
                let id = under_way.swap_remove(under_way.len() / 2);
                reader.acknowledge(id).await;
            }
            let message = reader.message().await;
            assert_eq!(message.payload, number.to_string());
            under_way.push(message.packet_id);
        }
    }
}

#[tokio::test]
async fn everything_but_messages_goes_on_while_the_window_is_full() {
    let broker = broker(|_| {}).await;
    let packet = connect(5, "r", "admin").with(&property::two(0x21, 1));
    let mut reader = packet.go(&broker).await;
    reader.subscribe_all(&[], &[("a", 1), ("b", 0)]).await;
    let mut writer = connect(4, "w", "admin").go(&broker).await;
    writer.put(0b10, "a", &[], "1").await;
    writer.put(0b10, "a", &[], "2").await;
    let first = reader.message().await;
    reader.nothing_waits().await;
    assert_eq!(reader.subscribe("c", 0).await, 0);
    assert_eq!(reader.unsubscribe_all(&["c"]).await, [0]);
    reader.put(0b10, "d", &[], "x").await;
    // QoS 0 is not counted.
    for payload in ["x", "y"] {
        writer.put(0, "b", &[], payload).await;
        let message = reader.message().await;
        assert_eq!((message.first, &*message.payload), (0x30, payload));
    }
    reader.acknowledge(first.packet_id).await;
    assert_eq!(reader.payload().await, "2");
}

#[tokio::test]
async fn retained_messages_keep_to_the_window_too() {
    let broker = broker(|_| {}).await;
    let mut writer = connect(4, "w", "admin").go(&broker).await;
    for topic in ["a/1", "a/2", "a/3"] {
        writer.put(0b11, topic, &[], topic).await;
    }
    let packet = connect(5, "r", "admin").with(&property::two(0x21, 2));
    let mut reader = packet.go(&broker).await;
    reader.subscribe("a/+", 1).await;
    let first = reader.message().await;
    reader.message().await;
    reader.nothing_waits().await;
    reader.acknowledge(first.packet_id).await;
    reader.message().await;
    reader.nothing_waits().await;
}

#[tokio::test]
async fn the_receive_maximum_holds_for_one_connection() {
    let broker = broker(|_| {}).await;
    let with = |most: u16| {
        let packet = connect(5, "r", "admin").lasting();
        packet.with(&property::two(0x21, most))
    };
    let mut reader = with(3).go(&broker).await;
    reader.subscribe("a", 1).await;
    let mut writer = connect(4, "w", "admin").go(&broker).await;
    for number in 0..5 {
        writer.put(0b10, "a", &[], &number.to_string()).await;
    }
    for _ in 0..3 {
        reader.message().await;
    }
    drop(reader);
    // What is sent again keeps to the new one.
    let mut reader = with(1).go(&broker).await;
    for number in 0..5 {
        let message = reader.message().await;
        let again = if number < 3 { 0b1000 } else { 0 };
        assert_eq!(
            (message.first, message.payload),
            (0x32 | again, number.to_string())
        );
        reader.nothing_waits().await;
        reader.acknowledge(message.packet_id).await;
    }
    reader.nothing_waits().await;
}
