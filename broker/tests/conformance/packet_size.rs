//! The longest packet that a client takes.

use crate::broker;
use crate::raw::{Client, Connect, connect, packet, properties, property, text};

fn with_most(most: u32) -> Connect {
    connect(5, "r", "admin")
        .lasting()
        .with(&property::four(0x27, most))
}

/// The length of a whole packet.
fn bytes(frame: &(u8, Vec<u8>)) -> usize {
    packet(frame.0, &frame.1).len()
}

#[tokio::test]
async fn a_message_that_is_too_long_is_left_out_and_the_others_arrive() {
    let broker = broker(|_| {}).await;
    let packet = with_most(100).with(&property::two(0x21, 2));
    let mut reader = packet.go(&broker).await;
    reader.subscribe_all(&[], &[("a", 1), ("b", 0)]).await;
    let mut writer = connect(5, "w", "admin").go(&broker).await;
    let short = "x".repeat(100 - 2 - 3 - 2 - 1);
    let long = format!("{short}y");
    for round in 0..5 {
        writer.put(0b10, "a", &[], &long).await;
        writer.put(0b10, "a", &[], &short).await;
        writer.put(0, "b", &[], &format!("{long}yyy")).await;
        // It counts as sent: it takes no place among those under way.
        let message = reader.message().await;
        assert_eq!((message.first, &message.payload), (0x32, &short), "{round}");
        reader.acknowledge(message.packet_id).await;
    }
    reader.nothing_waits().await;
    // Properties count.
    let own = property::user("key", &"v".repeat(100));
    writer.put(0b11, "a", &own, "x").await;
    reader.nothing_waits().await;
    // So does what is retained, and what was queued.
    reader.subscribe("a", 1).await;
    reader.nothing_waits().await;
    reader.goodbye().await;
    writer.put(0b10, "a", &[], &long).await;
    writer.put(0b10, "a", &[], &short).await;
    let mut reader = with_most(100).go(&broker).await;
    assert_eq!(reader.payload().await, short);
    reader.nothing_waits().await;
}

#[tokio::test]
async fn no_packet_is_longer_than_the_client_takes() {
    let broker = broker(|config| config.limits.max_topic_levels = 3).await;
    for most in (4..=90).chain([200]) {
        let mut client = Client::new(broker.address, 5).await;
        let mut packet_bytes = connect(5, "", "web1").with(&property::four(0x27, most));
        packet_bytes.keep_alive = 60_000;
        client.send(&packet_bytes.bytes()).await;
        let none = properties(5, &[]);
        let filters = [text("other"), vec![0]].concat().repeat(50);
        let names = text("other").repeat(50);
        let requests = [
            client.publish_bytes(0b10, "other", 7, &[], b"refused"),
            packet(0x82, &[&[0, 1][..], &none, &filters].concat()),
            packet(0xa2, &[&[0, 2][..], &none, &names].concat()),
            vec![0xc0, 0],
            client.publish_bytes(0, "#", 0, &[], b"wrong"),
        ];
        client.send(&requests.concat()).await;
        while let Some(frame) = client.frame().await {
            let length = bytes(&frame);
            assert!(length <= most as usize, "{length} > {most}: {frame:02x?}");
        }
    }
}
