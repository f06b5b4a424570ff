//! UNSUBSCRIBE and UNSUBACK.

use crate::broker;
use crate::raw::{connect, packet, properties, property, text};

#[tokio::test]
async fn unsuback_answers_every_unsubscribe() {
    let broker = broker(|_| {}).await;
    for level in [4, 5] {
        let mut client = connect(level, "c", "admin").go(&broker).await;
        client.subscribe_all(&[], &[("a", 0), ("b/#", 0)]).await;
        let codes = client.unsubscribe_all(&["x", "b/#", "a", "a"]).await;
        let expected: &[u8] = if level == 5 { &[0x11, 0, 0, 0x11] } else { &[] };
        assert_eq!(codes, expected);
        // All bytes of it, where nothing is there to be removed.
        let none = properties(level, &[]);
        let body = [&[0xab, 0xcd][..], &none, &text("a")].concat();
        client.send(&packet(0xa2, &body)).await;
        let codes: &[u8] = if level == 5 { &[0x11] } else { &[] };
        let answer = [&[0xab, 0xcd][..], &none, codes].concat();
        client.expect(&packet(0xb0, &answer)).await;
    }
}

#[tokio::test]
async fn only_the_very_same_filter_is_removed() {
    let broker = broker(|_| {}).await;
    for level in [4, 5] {
        let mut client = connect(level, "c", "admin").go(&broker).await;
        let mut writer = connect(level, "w", "admin").go(&broker).await;
        client.subscribe("a/+", 0).await;
        let others = ["a/b", "a/#", "#", "+/+", "A/+", "a/+/", "/a/+", "a"];
        let codes = client.unsubscribe_all(&others).await;
        assert!(codes.iter().all(|code| *code == 0x11), "{codes:02x?}");
        writer.put(0b10, "a/b", &[], "x").await;
        assert_eq!(client.payload().await, "x");
        client.unsubscribe_all(&["a/+"]).await;
        writer.put(0b10, "a/b", &[], "x").await;
        client.nothing_waits().await;
    }
}

#[tokio::test]
async fn no_new_message_comes_after_an_unsubscribe() {
    let broker = broker(|_| {}).await;
    for level in [4, 5] {
        let mut client = connect(level, "c", "admin").go(&broker).await;
        let mut writer = connect(level, "w", "admin").go(&broker).await;
        client
            .subscribe_all(&[], &[("a", 1), ("b", 1), ("#", 0)])
            .await;
        client.unsubscribe_all(&["a", "#"]).await;
        for topic in ["a", "b", "c"] {
            writer.put(0b10, topic, &[], topic).await;
        }
        assert_eq!(client.payload().await, "b");
        client.nothing_waits().await;
    }
}

#[tokio::test]
async fn messages_under_way_are_delivered_to_the_end() {
    let broker = broker(|_| {}).await;
    for level in [4, 5] {
        let mut client = connect(level, "c", "admin").lasting().go(&broker).await;
        let mut writer = connect(level, "w", "admin").go(&broker).await;
        client.subscribe("a", 1).await;
        writer.put(0b10, "a", &[], "x").await;
        let message = client.message().await;
        client.unsubscribe_all(&["a"]).await;
        drop(client);
        let mut client = connect(level, "c", "admin").lasting().go(&broker).await;
        let again = client.message().await;
        assert_eq!((again.first, again.packet_id), (0x3a, message.packet_id));
        client.acknowledge(again.packet_id).await;
        client.nothing_waits().await;
        connect(level, "c", "admin").go(&broker).await;
    }
}

#[tokio::test]
async fn an_unsubscribe_without_a_filter_closes_the_connection() {
    let broker = broker(|_| {}).await;
    for level in [4, 5] {
        let mut client = connect(level, "c", "admin").go(&broker).await;
        let body = [&[0, 1][..], &properties(level, &[])].concat();
        client.send(&packet(0xa2, &body)).await;
        client.cut_off(0x82).await;
    }
    // Its properties are checked.
    let mut client = connect(5, "c", "admin").go(&broker).await;
    let wrong = properties(5, &property::identifier(1));
    let body = [&[0, 1][..], &wrong, &text("a")].concat();
    client.send(&packet(0xa2, &body)).await;
    client.cut_off(0x81).await;
}
