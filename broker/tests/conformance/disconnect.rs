//! DISCONNECT, and how connections end.

use crate::broker;
use crate::raw::{Client, connect, packet, properties, property, text};

#[tokio::test]
async fn after_a_clients_disconnect_the_broker_closes_without_a_word() {
    let broker = broker(|_| {}).await;
    let mut witness = connect(4, "witness", "admin").go(&broker).await;
    witness.subscribe("#", 0).await;
    for level in [4, 5] {
        let mut client = connect(level, "c", "admin").go(&broker).await;
        // What comes after it is not processed.
        let publish = [&text("a")[..], &properties(level, &[]), b"x"].concat();
        let bytes = [vec![0xe0, 0], packet(0x30, &publish), vec![0xc0, 0]];
        client.send(&bytes.concat()).await;
        assert_eq!(client.frame().await, None);
        witness.nothing_waits().await;
    }
    for body in [&[0][..], &[0x04], &[0, 0], &[0x80, 0]] {
        let mut client = connect(5, "c", "admin").go(&broker).await;
        client.send(&packet(0xe0, body)).await;
        assert_eq!(client.frame().await, None);
    }
}

#[tokio::test]
async fn an_error_ends_its_connection_and_no_other() {
    let broker = broker(|_| {}).await;
    let mut witness = connect(5, "witness", "admin").go(&broker).await;
    witness.subscribe("#", 0).await;
    for level in [4, 5] {
        for (wrong, reason) in [
            (vec![0, 0], 0x81),
            (vec![0xd0, 0], 0x82),
            (vec![0x30, 0xff, 0xff, 0xff, 0x7f], 0x95),
            (packet(0x30, &text("#")), 0x90),
            (connect(level, "c", "admin").bytes(), 0x82),
        ] {
            let mut client = connect(level, "c", "admin").go(&broker).await;
            client.subscribe("a", 0).await;
            // What follows the mistake is not processed, nor is anything sent after DISCONNECT.
            let more = client.publish_bytes(0, "a", 0, &[], b"x");
            client.send(&[wrong, more, vec![0xc0, 0]].concat()).await;
            client.cut_off(reason).await;
            witness.nothing_waits().await;
        }
    }
}

#[tokio::test]
async fn what_came_before_an_error_is_processed() {
    let broker = broker(|_| {}).await;
    for level in [4, 5] {
        let mut client = connect(level, "c", "admin").go(&broker).await;
        let before = client.publish_bytes(0b10, "a", 7, &[], b"x");
        client.send(&[before, vec![0, 0]].concat()).await;
        client.expect_ack(0x40, 7, 0x10).await;
        client.cut_off(0x81).await;
    }
}

#[tokio::test]
async fn no_disconnect_comes_before_connack() {
    let broker = broker(|_| {}).await;
    let mut wrong = connect(5, "c", "admin");
    wrong.password = Some("wrong");
    for bytes in [
        wrong.bytes(),
        connect(5, "c", "admin").with(&[0, 0]).bytes(),
        vec![0xe0, 0],
        vec![0x10, 0xff, 0xff, 0xff, 0x7f],
    ] {
        let mut client = Client::new(broker.address, 5).await;
        client.send(&bytes).await;
        while let Some((first, _)) = client.frame().await {
            assert_eq!(first, 0x20);
        }
    }
}

#[tokio::test]
async fn a_broker_that_stops_tells_its_clients() {
    let broker = broker(|_| {}).await;
    let mut new = connect(5, "new", "admin").go(&broker).await;
    let mut old = connect(4, "old", "admin").go(&broker).await;
    broker.broker.running.stop().await.unwrap();
    new.cut_off(0x8b).await;
    old.cut_off(0x8b).await;
}

#[tokio::test]
async fn a_client_over_its_quota_is_told() {
    let broker = broker(|config| {
        config.limits.queue_messages = 20;
        config.limits.receive_maximum = 5;
    })
    .await;
    let packet = connect(5, "slow", "admin").with(&property::two(0x21, 5));
    let mut slow = packet.go(&broker).await;
    slow.subscribe("a", 1).await;
    let mut writer = connect(4, "w", "admin").go(&broker).await;
    for _ in 0..60 {
        writer.put(0b10, "a", &[], "x").await;
    }
    assert_eq!(slow.ended().await, Some(0x97));
}
