//! Topic aliases that a client uses.

use crate::broker;
use crate::raw::answer::Answer;
use crate::raw::{Client, connect, property};

/// A client, and the highest alias that the broker takes from it.
async fn client(broker: &crate::raw::Broker) -> (Client, u16) {
    let mut client = Client::new(broker.address, 5).await;
    client
        .send(&connect(5, "c", "admin").lasting().bytes())
        .await;
    let Answer::ConnAck { properties, .. } = client.answer().await else {
        panic!("no CONNACK");
    };
    (client, properties.number(0x22).unwrap_or(0) as u16)
}

#[tokio::test]
async fn every_alias_that_was_offered_is_taken() {
    let broker = broker(|_| {}).await;
    let (mut client, most) = client(&broker).await;
    assert!(most > 1);
    let mut reader = connect(4, "r", "admin").go(&broker).await;
    reader.subscribe("#", 0).await;
    for alias in (1..=most).rev() {
        let topic = format!("a/{alias}");
        client
            .put(0, &topic, &property::two(0x23, alias), "set")
            .await;
        assert_eq!(reader.message().await.topic, topic);
    }
    for alias in 1..=most {
        for bits in [0, 0b10] {
            client
                .put(bits, "", &property::two(0x23, alias), "used")
                .await;
            let message = reader.message().await;
            assert_eq!(
                (message.topic, &*message.payload),
                (format!("a/{alias}"), "used")
            );
        }
    }
    // It can be given anew.
    client.put(0, "b", &property::two(0x23, 1), "x").await;
    assert_eq!(reader.message().await.topic, "b");
    client.put(0, "", &property::two(0x23, 1), "x").await;
    assert_eq!(reader.message().await.topic, "b");
}

#[tokio::test]
async fn an_alias_that_is_0_too_high_or_unknown_closes_the_connection() {
    let broker = broker(|_| {}).await;
    let (_, most) = client(&broker).await;
    for (topic, alias, reason) in [
        ("a", 0, 0x94),
        ("", 0, 0x94),
        ("a", most + 1, 0x94),
        ("a", u16::MAX, 0x94),
        ("", 1, 0x82),
        ("", most, 0x82),
    ] {
        let (mut client, _) = client(&broker).await;
        client.put(0, topic, &property::two(0x23, alias), "x").await;
        client.cut_off(reason).await;
    }
}

#[tokio::test]
async fn aliases_end_with_their_connection_and_are_the_clients_own() {
    let broker = broker(|_| {}).await;
    let (mut first, _) = client(&broker).await;
    first.put(0b10, "a", &property::two(0x23, 1), "x").await;
    let mut other = connect(5, "o", "admin").go(&broker).await;
    other.put(0, "", &property::two(0x23, 1), "x").await;
    other.cut_off(0x82).await;
    drop(first);
    // The session goes on, the alias does not.
    let (mut again, _) = client(&broker).await;
    again.put(0, "", &property::two(0x23, 1), "x").await;
    again.cut_off(0x82).await;
}

#[tokio::test]
async fn a_client_that_takes_no_alias_gets_none() {
    let broker = broker(|_| {}).await;
    for announced in [vec![], property::two(0x22, 0)] {
        let packet = connect(5, "r", "admin").with(&announced);
        let mut reader = packet.go(&broker).await;
        reader.subscribe("a", 0).await;
        let mut writer = connect(5, "w", "admin").go(&broker).await;
        writer.put(0, "a", &property::two(0x23, 1), "x").await;
        for _ in 0..20 {
            writer.put(0, "", &property::two(0x23, 1), "x").await;
        }
        for _ in 0..21 {
            let (message, properties) = reader.take().await;
            assert_eq!((&*message.topic, properties.get(0x23)), ("a", None));
        }
    }
}
