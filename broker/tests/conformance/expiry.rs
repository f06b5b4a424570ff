//! Message expiry.

use std::time::Duration;

use crate::broker;
use crate::raw::{connect, property};

#[tokio::test]
async fn what_is_left_of_its_lifetime_comes_with_the_message() {
    let broker = broker(|_| {}).await;
    let mut reader = connect(5, "r", "admin").lasting().go(&broker).await;
    reader.subscribe("a", 1).await;
    let mut writer = connect(5, "w", "admin").go(&broker).await;
    writer
        .put(0b10, "a", &property::four(0x02, 100), "at once")
        .await;
    let left = reader.take().await.1.number(0x02);
    assert!(matches!(left, Some(99..=100)), "{left:?}");
    reader.goodbye().await;
    writer
        .put(0b10, "a", &property::four(0x02, 100), "late")
        .await;
    writer
        .put(0b11, "kept", &property::four(0x02, 100), "kept")
        .await;
    tokio::time::sleep(Duration::from_millis(2_100)).await;
    let mut reader = connect(5, "r", "admin").lasting().go(&broker).await;
    let left = reader.take().await.1.number(0x02);
    assert!(matches!(left, Some(96..=98)), "{left:?}");
    reader.subscribe("kept", 0).await;
    let left = reader.take().await.1.number(0x02);
    assert!(matches!(left, Some(96..=98)), "{left:?}");
    // Without one there is none.
    writer.put(0b10, "a", &[], "x").await;
    assert_eq!(reader.take().await.1.number(0x02), None);
}

#[tokio::test]
async fn a_message_whose_time_has_passed_is_not_delivered() {
    let broker = broker(|_| {}).await;
    for level in [4, 5] {
        let mut reader = connect(level, "r", "admin").lasting().go(&broker).await;
        reader.subscribe("a", 1).await;
        reader.goodbye().await;
        let mut writer = connect(5, "w", "admin").go(&broker).await;
        writer
            .put(0b10, "a", &property::four(0x02, 1), "short")
            .await;
        writer
            .put(0b10, "a", &property::four(0x02, 60), "long")
            .await;
        writer
            .put(0b11, "kept", &property::four(0x02, 1), "short")
            .await;
        tokio::time::sleep(Duration::from_millis(1_200)).await;
        let mut reader = connect(level, "r", "admin").lasting().go(&broker).await;
        assert_eq!(reader.payload().await, "long");
        reader.subscribe("kept", 1).await;
        reader.nothing_waits().await;
        connect(level, "r", "admin").go(&broker).await;
    }
}

#[tokio::test]
async fn a_message_that_was_sent_is_sent_again_though_its_time_has_passed() {
    // An acknowledgement is under way perhaps: only what was never sent expires.
    let broker = broker(|_| {}).await;
    let mut reader = connect(5, "r", "admin").lasting().go(&broker).await;
    reader.subscribe("a", 1).await;
    let mut writer = connect(5, "w", "admin").go(&broker).await;
    writer.put(0b10, "a", &property::four(0x02, 1), "x").await;
    let first = reader.message().await;
    drop(reader);
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    let mut reader = connect(5, "r", "admin").lasting().go(&broker).await;
    let again = reader.message().await;
    assert_eq!((again.first, again.packet_id), (0x3a, first.packet_id));
}
