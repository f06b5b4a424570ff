//! Topic aliases that the broker uses towards a client.

use std::collections::{HashMap, HashSet};

use crate::broker;
use crate::raw::{Broker, Client, connect, property};

async fn reader(broker: &Broker, most: u16) -> Client {
    let packet = connect(5, "r", "admin").with(&property::two(0x22, most));
    let mut reader = packet.go(broker).await;
    reader.subscribe("#", 1).await;
    reader
}

#[tokio::test]
async fn aliases_are_within_what_the_client_takes_and_stand_for_the_right_topic() {
    let broker = broker(|_| {}).await;
    let mut writer = connect(5, "w", "admin").go(&broker).await;
    for most in [1, 2, 5, u16::MAX] {
        let mut reader = reader(&broker, most).await;
        let mut topics = HashMap::new();
        let mut used = HashSet::new();
        for number in 0..60 {
            // Few topics often, and many once.
            let topic = match number % 3 {
                0 => format!("a/long/topic/number/{}", number % 2),
                1 => "the/same/topic/again".to_owned(),
                _ => format!("another/topic/{number}"),
            };
            let bits = if number % 2 == 0 { 0 } else { 0b10 };
            writer.put(bits, &topic, &[], &number.to_string()).await;
            let (message, properties) = reader.take().await;
            assert_eq!(message.payload, number.to_string());
            let alias = properties.number(0x23);
            if let Some(alias) = alias {
                assert!((1..=u32::from(most)).contains(&alias), "{alias}");
            }
            if message.topic.is_empty() {
                let alias = alias.expect("a topic or an alias");
                assert_eq!(topics.get(&alias), Some(&topic), "{alias}");
                used.insert(alias);
            } else {
                assert_eq!(message.topic, topic);
                topics.extend(alias.map(|alias| (alias, topic)));
            }
        }
        assert!(!used.is_empty(), "no alias was used");
        reader.goodbye().await;
    }
}

#[tokio::test]
async fn aliases_end_with_the_connection() {
    let broker = broker(|_| {}).await;
    let mut writer = connect(5, "w", "admin").go(&broker).await;
    for _ in 0..2 {
        let packet = connect(5, "r", "admin").lasting();
        let mut reader = packet.with(&property::two(0x22, 10)).go(&broker).await;
        reader.subscribe("a/topic", 1).await;
        for number in 0..5 {
            writer.put(0b10, "a/topic", &[], "x").await;
            let (message, _) = reader.take().await;
            assert!(number > 0 || message.topic == "a/topic");
        }
        // What is sent again names its topic on the new connection.
        writer.put(0b10, "a/topic", &[], "again").await;
        reader.message().await;
        drop(reader);
        let packet = connect(5, "r", "admin").lasting();
        let mut reader = packet.with(&property::two(0x22, 10)).go(&broker).await;
        let (message, _) = reader.take().await;
        assert_eq!((&*message.topic, message.first), ("a/topic", 0x3a));
    }
}
