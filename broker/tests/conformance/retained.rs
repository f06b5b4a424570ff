//! Retained messages.

use crate::broker;
use crate::raw::{Broker, connect, property};

/// What a new subscriber to `filter` gets, with its QoS, in order of payload.
async fn kept(broker: &Broker, level: u8, filter: &str, options: u8) -> Vec<(u8, String)> {
    let mut client = connect(level, "kept", "admin").go(broker).await;
    client.subscribe("end", 0).await;
    client.subscribe(filter, options).await;
    let mut writer = connect(level, "end", "admin").go(broker).await;
    writer.put(0b10, "end", &[], "end").await;
    let mut found = Vec::new();
    loop {
        let (message, _) = client.take().await;
        if message.topic == "end" {
            break;
        }
        found.push((message.first, message.payload));
    }
    found.sort();
    found
}

fn one(first: u8, payload: &str) -> Vec<(u8, String)> {
    vec![(first, payload.to_owned())]
}

#[tokio::test]
async fn the_last_retained_message_is_kept_with_its_qos() {
    let broker = broker(|_| {}).await;
    for level in [4, 5] {
        let mut writer = connect(level, "w", "admin").go(&broker).await;
        for (qos, payload) in [(1, "one"), (0, "two"), (1, "three")] {
            writer.put(qos << 1 | 1, "a", &[], payload).await;
            writer.put(0b10, "sync", &[], "").await;
            for wanted in [0, 1] {
                let first = 0x31 | qos.min(wanted) << 1;
                assert_eq!(kept(&broker, level, "a", wanted).await, one(first, payload));
            }
        }
    }
}

#[tokio::test]
async fn every_topic_that_matches_a_new_subscription_is_sent() {
    let broker = broker(|_| {}).await;
    for level in [4, 5] {
        let mut writer = connect(level, "w", "admin").go(&broker).await;
        for topic in ["a/1", "a/2", "a/2/3", "b"] {
            writer.put(0b11, topic, &[], topic).await;
        }
        let all = kept(&broker, level, "a/#", 0).await;
        let expected = ["a/1", "a/2", "a/2/3"].map(|topic| (0x31, topic.to_owned()));
        assert_eq!(all, expected);
        assert_eq!(kept(&broker, level, "a/+", 0).await, expected[..2]);
    }
}

#[tokio::test]
async fn a_message_that_is_not_retained_changes_nothing() {
    let broker = broker(|_| {}).await;
    for level in [4, 5] {
        let mut writer = connect(level, "w", "admin").go(&broker).await;
        writer.put(0b11, "a", &[], "kept").await;
        for bits in [0, 0b10] {
            writer.put(bits, "a", &[], "passing").await;
            writer.put(bits, "a", &[], "").await;
            writer.put(bits, "b", &[], "passing").await;
        }
        assert_eq!(kept(&broker, level, "#", 0).await, one(0x31, "kept"));
    }
}

#[tokio::test]
async fn an_empty_retained_message_clears_and_is_delivered_but_not_kept() {
    let broker = broker(|_| {}).await;
    for level in [4, 5] {
        let mut reader = connect(level, "r", "admin").go(&broker).await;
        reader.subscribe("a", 1).await;
        let mut writer = connect(level, "w", "admin").go(&broker).await;
        for bits in [0b01, 0b11] {
            writer.put(0b11, "a", &[], "kept").await;
            assert_eq!(reader.payload().await, "kept");
            assert_eq!(kept(&broker, level, "a", 0).await.len(), 1);
            writer.put(bits, "a", &[], "").await;
            let (message, _) = reader.take().await;
            assert_eq!((message.first, &*message.payload), (0x30 | bits & 0b10, ""));
            assert_eq!(kept(&broker, level, "a", 0).await, []);
        }
    }
}

#[tokio::test]
async fn the_retain_flag_is_set_for_new_subscriptions_only() {
    let broker = broker(|_| {}).await;
    for level in [4, 5] {
        let mut reader = connect(level, "r", "admin").go(&broker).await;
        reader.subscribe("a", 0).await;
        let mut writer = connect(level, "w", "admin").go(&broker).await;
        writer.put(0b11, "a", &[], "x").await;
        assert_eq!(reader.message().await.first, 0x30);
        reader.subscribe("a", 0).await;
        assert_eq!(reader.message().await.first, 0x31);
        writer.put(0b11, "a", &[], "").await;
    }
}

#[tokio::test]
async fn retain_as_published_keeps_the_flag() {
    let broker = broker(|_| {}).await;
    let mut reader = connect(5, "r", "admin").go(&broker).await;
    let mut writer = connect(4, "w", "admin").go(&broker).await;
    writer.put(0b11, "r", &[], "kept").await;
    for as_published in [0, 0b1000] {
        reader.subscribe("a", as_published | 0x20).await;
        for bits in [0b00, 0b01, 0b10, 0b11] {
            writer.put(bits, "a", &[], "x").await;
            let expected = if as_published > 0 {
                0x30 | bits & 1
            } else {
                0x30
            };
            assert_eq!(reader.message().await.first, expected);
        }
        // What stood before the subscription is always marked.
        reader.subscribe("r", as_published).await;
        assert_eq!(reader.message().await.first, 0x31);
    }
}

#[tokio::test]
async fn retain_handling_says_when_retained_messages_are_sent() {
    let broker = broker(|_| {}).await;
    let mut writer = connect(4, "w", "admin").go(&broker).await;
    writer.put(0b11, "a", &[], "kept").await;
    // The handling of a first and of a second SUBSCRIBE, and how many messages come.
    for (first, second, expected) in [
        (0, 0, [1, 1]),
        (0, 1, [1, 0]),
        (0, 2, [1, 0]),
        (1, 0, [1, 1]),
        (1, 1, [1, 0]),
        (2, 0, [0, 1]),
        (2, 1, [0, 0]),
        (2, 2, [0, 0]),
    ] {
        let mut reader = connect(5, "r", "admin").go(&broker).await;
        reader.subscribe("end", 0).await;
        for (handling, count) in [first, second].into_iter().zip(expected) {
            reader.subscribe("a", handling << 4).await;
            writer.put(0b10, "end", &[], "").await;
            let mut found = 0;
            while reader.message().await.topic != "end" {
                found += 1;
            }
            assert_eq!(found, count, "{first} {second}");
        }
        // After an UNSUBSCRIBE it is a new subscription again.
        reader.unsubscribe_all(&["a"]).await;
        reader.subscribe("a", 1 << 4).await;
        assert_eq!(reader.message().await.topic, "a");
    }
}

#[tokio::test]
async fn a_subscription_of_the_session_that_goes_on_exists_already() {
    let broker = broker(|_| {}).await;
    let mut writer = connect(4, "w", "admin").go(&broker).await;
    writer.put(0b11, "a", &[], "kept").await;
    let mut reader = connect(5, "r", "admin").lasting().go(&broker).await;
    reader.subscribe("a", 1 << 4).await;
    assert_eq!(reader.payload().await, "kept");
    reader.goodbye().await;
    let mut reader = connect(5, "r", "admin").lasting().go(&broker).await;
    reader.subscribe("a", 1 << 4).await;
    writer.put(0b10, "a", &[], "new").await;
    assert_eq!(reader.payload().await, "new");
    reader.nothing_waits().await;
}

#[tokio::test]
async fn retained_messages_outlive_the_session_that_published_them() {
    let broker = broker(|_| {}).await;
    for level in [4, 5] {
        let mut writer = connect(level, "w", "admin").go(&broker).await;
        writer.put(0b11, "a", &[], "kept").await;
        writer.goodbye().await;
        assert_eq!(kept(&broker, level, "a", 0).await, one(0x31, "kept"));
        let mut writer = connect(level, "w", "admin").lasting().go(&broker).await;
        writer.put(0b11, "a", &[], "again").await;
        drop(writer);
        connect(level, "w", "admin").go(&broker).await;
        assert_eq!(kept(&broker, level, "a", 0).await, one(0x31, "again"));
    }
}

#[tokio::test]
async fn a_retained_message_keeps_its_properties() {
    let broker = broker(|_| {}).await;
    let own = [
        property::byte(0x01, 1),
        property::string(0x03, "text/plain"),
        property::user("k", "2"),
        property::user("k", "1"),
    ]
    .concat();
    let mut writer = connect(5, "w", "admin").go(&broker).await;
    writer.put(0b11, "a", &own, "x").await;
    let mut reader = connect(5, "r", "admin").go(&broker).await;
    reader.subscribe("a", 0).await;
    assert_eq!(reader.message().await.properties, own);
}
