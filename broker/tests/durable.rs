//! What survives a restart of the broker. (How it dies does not matter here: `tests` kills it.)

mod raw;

use std::path::Path;

use hostbus_broker::Config;
use raw::{Broker, Client, broker, connect};

async fn at(folder: &Path) -> Broker {
    broker(|config: &mut Config| config.data = Some(folder.to_owned())).await
}

async fn stop(broker: Broker) {
    broker.running.stop().await.expect("it stops");
}

async fn persistent(id: &'static str, seconds: u8, broker: &Broker) -> (Client, bool) {
    let mut packet = connect(5, id, "admin");
    packet.clean = false;
    packet.properties = vec![0x11, 0, 0, 0, seconds];
    let (client, answer) = packet.open(broker).await;
    assert_eq!(answer[1], 0);
    (client, answer[0] == 1)
}

#[tokio::test]
async fn a_session_has_its_subscriptions_and_its_messages_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let broker = at(folder.path()).await;
    let (mut reader, present) = persistent("r", 60, &broker).await;
    assert!(!present);
    assert_eq!(reader.subscribe_with("a/+", 0b1001, &[0x0b, 9]).await, 1);
    assert_eq!(reader.subscribe("gone", 1).await, 1);
    reader
        .send(&[0xa2, 9, 0, 9, 0, 0, 4, b'g', b'o', b'n', b'e'])
        .await;
    assert_eq!(reader.frame().await.unwrap().0, 0xb0);
    reader.goodbye().await;
    let mut writer = connect(5, "w", "admin").go(&broker).await;
    for payload in ["1", "2"] {
        assert_eq!(writer.publish_acked(1, "a/b", payload).await, 0);
    }
    assert_eq!(writer.publish_acked(0, "gone", "x").await, 0x10);
    stop(broker).await;

    let broker = at(folder.path()).await;
    let (mut reader, present) = persistent("r", 60, &broker).await;
    assert!(present);
    for payload in ["1", "2"] {
        let message = reader.message().await;
        assert_eq!(message.payload, payload);
        // DUP, QoS 1 and retain as published; the subscription identifier.
        assert_eq!(message.first, 0x3b);
        assert_eq!(message.properties, [0x0b, 9]);
        reader.acknowledge(message.packet_id).await;
    }
    let mut writer = connect(5, "w", "admin").go(&broker).await;
    writer.publish_acked(0, "a/c", "3").await;
    let message = reader.message().await;
    assert_eq!((message.first, &*message.payload), (0x32, "3"));
    reader.acknowledge(message.packet_id).await;
    reader.nothing_waits().await;
    stop(broker).await;

    // What was acknowledged is not sent again.
    let broker = at(folder.path()).await;
    let (mut reader, _) = persistent("r", 60, &broker).await;
    reader.nothing_waits().await;
}

#[tokio::test]
async fn a_session_that_ended_does_not_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let broker = at(folder.path()).await;
    let (mut reader, _) = persistent("over", 1, &broker).await;
    reader.subscribe("a", 1).await;
    reader.goodbye().await;
    let (mut reader, _) = persistent("clean", 60, &broker).await;
    reader.subscribe("a", 1).await;
    drop(reader);
    let reader = connect(5, "clean", "admin").go(&broker).await;
    drop(reader);
    stop(broker).await;
    tokio::time::sleep(std::time::Duration::from_millis(1_100)).await;

    let broker = at(folder.path()).await;
    let mut writer = connect(5, "w", "admin").go(&broker).await;
    for id in ["over", "clean"] {
        assert!(!persistent(id, 60, &broker).await.1, "{id}");
    }
    assert_eq!(writer.publish_acked(0, "a", "x").await, 0x10);
}

#[tokio::test]
async fn retained_messages_are_there_again_but_those_of_live_topics() {
    let folder = tempfile::tempdir().unwrap();
    let broker = at(folder.path()).await;
    let mut writer = connect(5, "w", "admin").go(&broker).await;
    let topics = [
        ("hostbus/v1/home/web1/status", true),
        ("hostbus/v1/home/web1/metrics", false),
        ("garden/door", true),
        ("garden/cleared", false),
    ];
    for (topic, _) in topics {
        writer.publish_acked(1, topic, topic).await;
    }
    writer.publish_acked(1, "garden/cleared", "").await;
    stop(broker).await;

    let broker = at(folder.path()).await;
    let mut reader = connect(5, "r", "admin").go(&broker).await;
    for (topic, there) in topics {
        reader.subscribe(topic, 1).await;
        if there {
            let message = reader.message().await;
            assert_eq!((message.first, &*message.payload), (0x33, topic));
            reader.acknowledge(message.packet_id).await;
        }
        reader.nothing_waits().await;
    }
}

#[tokio::test]
async fn many_messages_at_once_are_all_answered_although_each_waits_for_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().to_owned();
    let broker = broker(|config: &mut Config| {
        config.data = Some(data);
        config.limits.receive_maximum = 2;
    })
    .await;
    let mut writer = connect(4, "w", "admin").go(&broker).await;
    // One write, and nothing after it: what was read must not wait for more to come.
    let mut bytes = Vec::new();
    for packet_id in 1..=50 {
        bytes.extend(writer.publish_bytes(0b11, "a", packet_id, &[], b"x"));
    }
    writer.send(&bytes).await;
    for packet_id in 1..=50_u16 {
        let (first, body) = writer.frame().await.expect("PUBACK");
        assert_eq!((first, body), (0x40, packet_id.to_be_bytes().to_vec()));
    }
}

#[tokio::test]
async fn a_session_that_has_become_short_leaves_nothing_on_disk() {
    let folder = tempfile::tempdir().unwrap();
    let broker = at(folder.path()).await;
    let mut r = connect(5, "r", "admin").lasting().go(&broker).await;
    r.subscribe("a", 2).await;
    r.goodbye().await;
    let mut w = connect(5, "w", "admin").go(&broker).await;
    w.publish(0b101, "a", "keep me").await;
    w.expect_ack(0x50, 7, 0).await;
    w.send_ack(0x62, 7).await;
    w.expect_ack(0x70, 7, 0).await;
    // Goes on with the session, which ends with this connection (expiry 0).
    let mut packet = connect(5, "r", "admin");
    packet.clean = false;
    let (mut r, body) = packet.open(&broker).await;
    assert_eq!(body[0], 1);
    let message = r.message().await;
    r.send_ack(0x50, message.packet_id).await;
    r.expect_ack(0x62, message.packet_id, 0).await;
    r.goodbye().await;
    broker.running.stop().await.unwrap();
    let broker = at(folder.path()).await;
    let mut r = connect(5, "r2", "admin").go(&broker).await;
    r.subscribe("a", 0).await;
    assert_eq!(r.message().await.payload, "keep me");
}

#[tokio::test]
async fn an_identifier_that_the_client_may_hold_is_not_used_for_a_recorded_message() {
    let folder = tempfile::tempdir().unwrap();
    let broker = at(folder.path()).await;
    let mut reader = connect(5, "r", "admin").lasting().go(&broker).await;
    for what in ["metrics", "status"] {
        let topic = format!("hostbus/v1/home/web1/{what}");
        reader.subscribe(&topic, 2).await;
    }
    let mut writer = connect(5, "w", "web1").go(&broker).await;
    // Not a durable topic: nothing of it is recorded.
    writer
        .publish(0b100, "hostbus/v1/home/web1/metrics", "m")
        .await;
    let first = reader.message().await;
    drop((reader, writer));
    stop(broker).await;

    let broker = at(folder.path()).await;
    let (mut reader, body) = connect(5, "r", "admin").lasting().open(&broker).await;
    assert_eq!(body[0], 1);
    let mut writer = connect(5, "w", "web1").go(&broker).await;
    writer
        .publish(0b100, "hostbus/v1/home/web1/status", "s")
        .await;
    let second = reader.message().await;
    assert_ne!(first.packet_id, second.packet_id);
}
