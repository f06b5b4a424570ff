//! QoS 2 in both directions, over connections that break and a broker that starts again.

mod raw;

use std::path::Path;

use hostbus_broker::Config;
use raw::{Broker, Client, broker, connect, packet};

/// A broker that keeps its state in `folder`.
async fn at(folder: &Path) -> Broker {
    broker(|config: &mut Config| config.data = Some(folder.to_owned())).await
}

/// A session that outlives its connection and its broker.
async fn persistent(level: u8, id: &'static str, broker: &Broker) -> (Client, bool) {
    let mut packet = connect(level, id, "admin");
    packet.clean = false;
    if level == 5 {
        packet.properties = vec![0x11, 0, 0, 0, 60];
    }
    let (client, answer) = packet.open(broker).await;
    assert_eq!(answer[1], 0);
    (client, answer[0] == 1)
}

/// The session of `r` on a new connection, after a restart where `restarts`.
async fn again(level: u8, broker: &mut Option<Broker>, folder: &Path, restarts: bool) -> Client {
    let mut now = broker.take().expect("a broker");
    if restarts {
        now.running.stop().await.expect("it stops");
        now = at(folder).await;
    }
    let (client, present) = persistent(level, "r", broker.insert(now)).await;
    assert!(present);
    client
}

/// PUBACK and its relatives: the packet identifier, and the reason code where there is one.
async fn ack(client: &mut Client, kind: u8) -> (u16, u8) {
    let (first, body) = client.frame().await.expect("an acknowledgement");
    assert_eq!(first, kind, "{body:02x?}");
    let packet_id = u16::from_be_bytes([body[0], body[1]]);
    (packet_id, body.get(2).copied().unwrap_or(0))
}

async fn send_ack(client: &mut Client, kind: u8, packet_id: u16) {
    client.send(&packet(kind, &packet_id.to_be_bytes())).await;
}

#[tokio::test]
async fn a_message_is_handed_on_once_however_often_it_is_sent() {
    for level in [4, 5] {
        let broker = broker(|_| {}).await;
        let mut reader = connect(level, "r", "admin").go(&broker).await;
        assert_eq!(reader.subscribe("a", 2).await, 2);
        let (mut writer, _) = persistent(level, "w", &broker).await;
        for dup in [0, 0b1000] {
            writer.publish(0b100 | dup, "a", "x").await;
            assert_eq!(ack(&mut writer, 0x50).await, (7, 0));
        }
        // Its connection breaks, and it sends once more.
        drop(writer);
        let (mut writer, present) = persistent(level, "w", &broker).await;
        assert!(present);
        writer.publish(0b1100, "a", "x").await;
        assert_eq!(ack(&mut writer, 0x50).await, (7, 0));
        send_ack(&mut writer, 0x62, 7).await;
        assert_eq!(ack(&mut writer, 0x70).await, (7, 0));
        send_ack(&mut writer, 0x62, 7).await;
        let unknown = if level == 5 { 0x92 } else { 0 };
        assert_eq!(ack(&mut writer, 0x70).await, (7, unknown));
        // From then on the identifier is free for another message.
        writer.publish(0b100, "a", "y").await;
        ack(&mut writer, 0x50).await;

        let first = reader.message().await;
        assert_eq!((first.first, &*first.payload), (0x34, "x"));
        let second = reader.message().await;
        assert_eq!(second.payload, "y");
        for message in [&first, &second] {
            send_ack(&mut reader, 0x50, message.packet_id).await;
            assert_eq!(ack(&mut reader, 0x62).await, (message.packet_id, 0));
            send_ack(&mut reader, 0x70, message.packet_id).await;
        }
        reader.nothing_waits().await;
    }
}

#[tokio::test]
async fn each_step_is_taken_up_where_it_was_after_a_lost_connection_and_a_restart() {
    for level in [4, 5] {
        for restarts in [false, true] {
            let folder = tempfile::tempdir().unwrap();
            let broker = at(folder.path()).await;
            let mut writer = connect(4, "w", "admin").go(&broker).await;
            let (mut reader, _) = persistent(level, "r", &broker).await;
            let mut broker = Some(broker);
            reader.subscribe("a", 2).await;
            writer.publish(0b100, "a", "x").await;
            ack(&mut writer, 0x50).await;
            let sent = reader.message().await;
            drop((reader, writer));

            // Not received: the same message with the same identifier.
            let mut reader = again(level, &mut broker, folder.path(), restarts).await;
            let resent = reader.message().await;
            assert_eq!(resent.first, 0x3c, "with DUP");
            assert_eq!(
                (resent.packet_id, &resent.payload),
                (sent.packet_id, &sent.payload)
            );
            send_ack(&mut reader, 0x50, sent.packet_id).await;
            assert_eq!(ack(&mut reader, 0x62).await, (sent.packet_id, 0));
            drop(reader);
            // Received, not complete: the release alone.
            let mut reader = again(level, &mut broker, folder.path(), restarts).await;
            assert_eq!(ack(&mut reader, 0x62).await, (sent.packet_id, 0));
            send_ack(&mut reader, 0x70, sent.packet_id).await;
            reader.nothing_waits().await;
            drop(reader);
            let mut reader = again(level, &mut broker, folder.path(), restarts).await;
            reader.nothing_waits().await;
        }
    }
}

#[tokio::test]
async fn a_message_that_was_taken_is_known_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let mut broker = at(folder.path()).await;
    let (mut reader, _) = persistent(4, "r", &broker).await;
    reader.subscribe("a", 2).await;
    reader.goodbye().await;
    let (mut writer, _) = persistent(5, "w", &broker).await;
    writer.publish(0b100, "a", "x").await;
    assert_eq!(ack(&mut writer, 0x50).await, (7, 0));
    broker.running.stop().await.expect("it stops");

    broker = at(folder.path()).await;
    let (mut writer, present) = persistent(5, "w", &broker).await;
    assert!(present);
    writer.publish(0b1100, "a", "x").await;
    assert_eq!(ack(&mut writer, 0x50).await, (7, 0));
    send_ack(&mut writer, 0x62, 7).await;
    assert_eq!(ack(&mut writer, 0x70).await, (7, 0));
    let (mut reader, _) = persistent(4, "r", &broker).await;
    assert_eq!(reader.message().await.payload, "x");
    reader.nothing_waits().await;
}

#[tokio::test]
async fn more_messages_under_way_than_agreed_on_end_the_connection() {
    let broker = broker(|config| config.limits.receive_maximum = 2).await;
    let mut writer = connect(5, "w", "admin").go(&broker).await;
    for packet_id in 1..=3 {
        let bytes = writer.publish_bytes(0b100, "a", packet_id, &[], b"x");
        writer.send(&bytes).await;
    }
    // 0x10: nobody has subscribed.
    assert_eq!(ack(&mut writer, 0x50).await, (1, 0x10));
    assert_eq!(ack(&mut writer, 0x50).await, (2, 0x10));
    assert_eq!(writer.ended().await, Some(0x93));
}
