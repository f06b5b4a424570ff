//! QoS 2 from a client to the broker.

use crate::broker;
use crate::raw::answer::Answer;
use crate::raw::{Client, connect, packet, properties, property};

/// Sends a QoS 2 message without waiting for anything.
async fn publish(client: &mut Client, id: u16, dup: bool, payload: &str) {
    let bits = if dup { 0b1100 } else { 0b0100 };
    let bytes = client.publish_bytes(bits, "a", id, &[], payload.as_bytes());
    client.send(&bytes).await;
}

/// The next packet must be PUBREC without an error: whether anybody subscribed, it may tell.
async fn received(client: &mut Client, id: u16) {
    match client.answer().await {
        Answer::Ack {
            first,
            packet_id,
            reason,
            ..
        } => {
            assert_eq!((first, packet_id), (0x50, id));
            assert!(reason < 0x80, "{reason:#04x}");
        }
        other => panic!("{other:02x?} instead of PUBREC {id}"),
    }
}

#[tokio::test]
async fn connack_announces_no_lower_qos() {
    let broker = broker(|_| {}).await;
    let mut client = Client::new(broker.address, 5).await;
    client.send(&connect(5, "c", "admin").bytes()).await;
    let Answer::ConnAck { properties, .. } = client.answer().await else {
        panic!("no CONNACK");
    };
    assert_eq!(properties.get(0x24), None, "absent means QoS 2");
}

#[tokio::test]
async fn a_message_is_received_released_and_complete() {
    let broker = broker(|_| {}).await;
    for level in [4, 5] {
        let mut reader = connect(level, "r", "admin").go(&broker).await;
        reader.subscribe("a", 0).await;
        let mut writer = connect(level, "w", "admin").go(&broker).await;
        for id in [1, 0x0102, 0xffff] {
            publish(&mut writer, id, false, "x").await;
            // Nothing but PUBREC, in its shortest form.
            let [high, low] = id.to_be_bytes();
            writer.expect(&[0x50, 2, high, low]).await;
            writer.nothing_waits().await;
            writer.send_ack(0x62, id).await;
            writer.expect(&[0x70, 2, high, low]).await;
            assert_eq!(reader.payload().await, "x");
            reader.nothing_waits().await;
        }
        writer.nothing_waits().await;
    }
}

#[tokio::test]
async fn a_repeated_message_is_received_again_and_delivered_once() {
    let broker = broker(|_| {}).await;
    for level in [4, 5] {
        let mut reader = connect(level, "r", "admin").go(&broker).await;
        reader.subscribe("a", 0).await;
        let mut writer = connect(level, "w", "admin").go(&broker).await;
        publish(&mut writer, 7, false, "x").await;
        received(&mut writer, 7).await;
        for dup in [true, true, false] {
            publish(&mut writer, 7, dup, "x").await;
            received(&mut writer, 7).await;
        }
        // Another identifier is another message.
        publish(&mut writer, 8, false, "y").await;
        received(&mut writer, 8).await;
        for id in [7, 8] {
            writer.send_ack(0x62, id).await;
            writer.expect_ack(0x70, id, 0).await;
        }
        let mut payloads = [reader.payload().await, reader.payload().await];
        payloads.sort_unstable();
        assert_eq!(payloads, ["x", "y"]);
        reader.nothing_waits().await;
    }
}

#[tokio::test]
async fn the_same_identifier_after_pubcomp_is_a_new_message() {
    let broker = broker(|_| {}).await;
    for level in [4, 5] {
        let mut reader = connect(level, "r", "admin").go(&broker).await;
        reader.subscribe("a", 2).await;
        let mut writer = connect(level, "w", "admin").go(&broker).await;
        for (dup, payload) in [(false, "one"), (false, "two"), (true, "three")] {
            publish(&mut writer, 7, dup, payload).await;
            received(&mut writer, 7).await;
            writer.send_ack(0x62, 7).await;
            writer.expect_ack(0x70, 7, 0).await;
            let (message, _) = reader.take().await;
            assert_eq!((message.first, &*message.payload), (0x34, payload));
        }
    }
}

#[tokio::test]
async fn a_pubrel_is_answered_whatever_it_is_for() {
    let broker = broker(|_| {}).await;
    for level in [4, 5] {
        let mut client = connect(level, "c", "admin").go(&broker).await;
        for id in [1, 0xffff] {
            client.send_ack(0x62, id).await;
            client.expect_ack(0x70, id, 0x92).await;
        }
        publish(&mut client, 7, false, "x").await;
        received(&mut client, 7).await;
        client.send_ack(0x62, 7).await;
        client.expect_ack(0x70, 7, 0).await;
        client.send_ack(0x62, 7).await;
        client.expect_ack(0x70, 7, 0x92).await;
    }
    // With a reason and properties of its own.
    let mut client = connect(5, "c", "admin").go(&broker).await;
    publish(&mut client, 7, false, "x").await;
    received(&mut client, 7).await;
    let told = properties(5, &property::string(0x1f, "found"));
    client
        .send(&packet(0x62, &[&[0, 7, 0x92][..], &told].concat()))
        .await;
    client.expect_ack(0x70, 7, 0).await;
}

#[tokio::test]
async fn a_session_remembers_what_it_has_received() {
    let broker = broker(|_| {}).await;
    for level in [4, 5] {
        let mut reader = connect(level, "r", "admin").go(&broker).await;
        reader.subscribe("a", 2).await;
        let writer = || connect(level, "w", "admin").lasting();
        let mut client = writer().go(&broker).await;
        publish(&mut client, 7, false, "x").await;
        received(&mut client, 7).await;
        assert_eq!(reader.payload().await, "x");
        drop(client);
        // The client did not see PUBREC, perhaps: it sends the message again.
        let mut client = writer().go(&broker).await;
        publish(&mut client, 7, true, "x").await;
        received(&mut client, 7).await;
        drop(client);
        // Then it does not see PUBCOMP, and sends PUBREL again.
        let mut client = writer().go(&broker).await;
        client.send_ack(0x62, 7).await;
        client.expect_ack(0x70, 7, 0).await;
        drop(client);
        let mut client = writer().go(&broker).await;
        client.send_ack(0x62, 7).await;
        client.expect_ack(0x70, 7, 0x92).await;
        reader.nothing_waits().await;
        // A clean start forgets it.
        publish(&mut client, 7, false, "y").await;
        received(&mut client, 7).await;
        assert_eq!(reader.payload().await, "y");
        client.goodbye().await;
        let mut client = connect(level, "w", "admin").go(&broker).await;
        publish(&mut client, 7, true, "z").await;
        received(&mut client, 7).await;
        assert_eq!(reader.payload().await, "z");
        client.goodbye().await;
    }
}

#[tokio::test]
async fn a_pubrec_with_an_error_ends_the_exchange() {
    let broker = broker(|_| {}).await;
    let mut witness = connect(5, "witness", "admin").go(&broker).await;
    witness.subscribe("#", 0).await;
    let mut client = connect(5, "c", "viewer").go(&broker).await;
    for _ in 0..3 {
        // Each time it is a new message.
        publish(&mut client, 7, false, "x").await;
        client.expect_ack(0x50, 7, 0x87).await;
    }
    client.send_ack(0x62, 7).await;
    client.expect_ack(0x70, 7, 0x92).await;
    // 3.1.1 has no way to be told.
    let mut client = connect(4, "c", "viewer").go(&broker).await;
    publish(&mut client, 7, false, "x").await;
    received(&mut client, 7).await;
    client.send_ack(0x62, 7).await;
    client.expect_ack(0x70, 7, 0).await;
    witness.nothing_waits().await;
}

#[tokio::test]
async fn more_messages_than_the_broker_takes_close_the_connection() {
    let broker = broker(|config| config.limits.receive_maximum = 3).await;
    let mut client = connect(5, "c", "admin").go(&broker).await;
    for id in 1..=3 {
        publish(&mut client, id, false, "x").await;
        received(&mut client, id).await;
    }
    // One that is repeated is not one more; a released one makes room; an error too.
    publish(&mut client, 2, true, "x").await;
    received(&mut client, 2).await;
    client.send_ack(0x62, 2).await;
    client.expect_ack(0x70, 2, 0).await;
    publish(&mut client, 4, false, "x").await;
    received(&mut client, 4).await;
    publish(&mut client, 5, false, "x").await;
    client.cut_off(0x93).await;
}

#[tokio::test]
async fn a_message_whose_lifetime_passes_is_acknowledged_to_the_end() {
    let broker = broker(|_| {}).await;
    let mut absent = connect(5, "r", "admin").lasting().go(&broker).await;
    absent.subscribe("a", 2).await;
    absent.goodbye().await;
    let mut client = connect(5, "c", "admin").go(&broker).await;
    let expiry = property::four(0x02, 1);
    let bytes = client.publish_bytes(0b100, "a", 7, &expiry, b"x");
    client.send(&bytes).await;
    received(&mut client, 7).await;
    tokio::time::sleep(std::time::Duration::from_millis(1_200)).await;
    client.send_ack(0x62, 7).await;
    client.expect_ack(0x70, 7, 0).await;
    let mut absent = connect(5, "r", "admin").lasting().go(&broker).await;
    absent.nothing_waits().await;
}

#[tokio::test]
async fn a_will_may_have_qos_2() {
    let broker = broker(|_| {}).await;
    for level in [4, 5] {
        let mut reader = connect(level, "r", "admin").go(&broker).await;
        assert_eq!(reader.subscribe("will", 2).await, 2);
        for bits in [0b100, 0b101] {
            let will = connect(level, "w", "admin").will("will", "gone", bits);
            drop(will.go(&broker).await);
            let (message, _) = reader.take().await;
            assert_eq!((message.first, &*message.payload), (0x34, "gone"));
        }
        let mut late = connect(level, "late", "admin").go(&broker).await;
        late.subscribe("will", 2).await;
        assert_eq!(late.take().await.0.first, 0x35);
        late.put(0b11, "will", &[], "").await;
    }
}
