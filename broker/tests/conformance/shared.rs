//! Shared subscriptions.

use std::time::{Duration, Instant};

use crate::broker;
use crate::raw::{Broker, Client, DEADLINE, Message, connect, packet, properties, property, text};

const GROUP: &str = "$share/g/a/+";

/// A member of the group.
async fn member(broker: &Broker, level: u8, id: &'static str, qos: u8) -> Client {
    let mut member = connect(level, id, "admin").lasting().go(broker).await;
    assert_eq!(member.subscribe(GROUP, qos).await, qos);
    member
}

/// What is there for a client by now, acknowledged to the end.
async fn drain(client: &mut Client) -> Vec<Message> {
    client.send(&[0xc0, 0]).await;
    let mut found = Vec::new();
    let (mut open, mut pinged) = (0, false);
    while open > 0 || !pinged {
        let (first, body) = client.frame().await.unwrap();
        match first {
            0xd0 => pinged = true,
            0x62 => {
                client.send(&[0x70, 2, body[0], body[1]]).await;
                open -= 1;
            }
            _ => {
                let message = client.parse(first, &body);
                match first >> 1 & 3 {
                    1 => client.acknowledge(message.packet_id).await,
                    2 => {
                        client.send_ack(0x50, message.packet_id).await;
                        open += 1;
                    }
                    _ => {}
                }
                found.push(message);
            }
        }
    }
    found
}

/// What each of these clients gets of `count` messages, and no more than these. They may come
/// after their publisher had its answer.
async fn gather(clients: &mut [&mut Client], count: usize) -> Vec<Vec<Message>> {
    let mut found = vec![Vec::new(); clients.len()];
    let begun = Instant::now();
    let mut complete = false;
    loop {
        for (client, found) in clients.iter_mut().zip(&mut found) {
            found.extend(drain(client).await);
        }
        let total: usize = found.iter().map(Vec::len).sum();
        assert!(total <= count, "{total} of {count}");
        if complete {
            return found;
        }
        complete = total == count;
        assert!(begun.elapsed() < DEADLINE, "{total} of {count}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The numbers in the payloads of messages, sorted.
fn numbers(messages: &[Vec<Message>]) -> Vec<u32> {
    let payloads = messages.iter().flatten().map(|message| &message.payload);
    let mut numbers: Vec<u32> = payloads.map(|text| text.parse().unwrap()).collect();
    numbers.sort_unstable();
    numbers
}

#[tokio::test]
async fn each_message_goes_to_one_member_and_the_load_is_shared() {
    let broker = broker(|_| {}).await;
    let mut members = Vec::new();
    for (level, id) in [(4, "one"), (5, "two"), (5, "three")] {
        members.push(member(&broker, level, id, 1).await);
    }
    let mut plain = connect(5, "plain", "admin").go(&broker).await;
    plain.subscribe("a/+", 0).await;
    let mut writer = connect(4, "w", "admin").go(&broker).await;
    for number in 0..60 {
        writer.put(0b10, "a/b", &[], &number.to_string()).await;
    }
    let mut all: Vec<&mut Client> = members.iter_mut().collect();
    let got = gather(&mut all, 60).await;
    for part in &got {
        assert!(part.len() >= 5, "a member got {}", part.len());
    }
    assert_eq!(numbers(&got), (0..60).collect::<Vec<_>>());
    // Those who subscribe on their own get all.
    gather(&mut [&mut plain], 60).await;
}

#[tokio::test]
async fn groups_are_independent_of_each_other_and_of_plain_subscriptions() {
    let broker = broker(|_| {}).await;
    let mut client = connect(5, "c", "admin").go(&broker).await;
    let filters = [
        ("$share/g/a", 0),
        ("$share/h/a", 0),
        ("$share/g/+", 0),
        ("a", 0),
    ];
    assert_eq!(client.subscribe_all(&[], &filters).await, [0; 4]);
    let mut writer = connect(4, "w", "admin").go(&broker).await;
    writer.put(0b10, "a", &[], "x").await;
    // The plain subscription and each group have one to give.
    gather(&mut [&mut client], 4).await;
    let mut other = connect(5, "o", "admin").go(&broker).await;
    other.subscribe("$share/i/a", 0).await;
    writer.put(0b10, "a", &[], "y").await;
    assert_eq!(gather(&mut [&mut other], 1).await[0][0].payload, "y");
}

#[tokio::test]
async fn no_retained_message_is_sent() {
    let broker = broker(|_| {}).await;
    let mut writer = connect(4, "w", "admin").go(&broker).await;
    writer.put(0b11, "a/b", &[], "kept").await;
    for level in [4, 5] {
        for handling in [0, 1] {
            if level == 4 && handling > 0 {
                continue;
            }
            let mut client = connect(level, "c", "admin").go(&broker).await;
            assert_eq!(client.subscribe(GROUP, handling << 4).await, 0);
            client.nothing_waits().await;
            client.subscribe(GROUP, handling << 4).await;
            client.nothing_waits().await;
            client.goodbye().await;
        }
    }
}

#[tokio::test]
async fn no_local_on_a_shared_subscription_closes_the_connection() {
    let broker = broker(|_| {}).await;
    let mut client = connect(5, "c", "admin").go(&broker).await;
    let body = [&[0, 1][..], &properties(5, &[]), &text(GROUP), &[0b100]].concat();
    client.send(&packet(0x82, &body)).await;
    client.cut_off(0x82).await;
}

#[tokio::test]
async fn share_names_that_are_wrong_are_refused() {
    let broker = broker(|_| {}).await;
    // They break the rules: refused in SUBACK, or the connection ends.
    for level in [4, 5] {
        for filter in [
            "$share/",
            "$share/g",
            "$share/g/",
            "$share//a",
            "$share/+/a",
            "$share/#/a",
            "$share/g+/a",
            "$share/#",
        ] {
            let mut client = connect(level, "c", "admin").go(&broker).await;
            let none = properties(level, &[]);
            let body = [&[0, 9][..], &none, &text(filter), &[0]].concat();
            client.send(&packet(0x82, &body)).await;
            match client.frame().await {
                Some((0x90, body)) => {
                    let refused = if level == 5 { 0x8f } else { 0x80 };
                    assert_eq!(body.last(), Some(&refused), "{filter}");
                }
                Some((0xe0, body)) => assert!(matches!(body[0], 0x81 | 0x82 | 0x8f)),
                Some(other) => panic!("{other:02x?}"),
                None => assert_eq!(level, 4),
            }
        }
    }
}

#[tokio::test]
async fn each_member_gets_its_messages_with_its_own_qos() {
    let broker = broker(|_| {}).await;
    let mut members = Vec::new();
    for (id, qos) in [("zero", 0), ("one", 1), ("two", 2)] {
        members.push((member(&broker, 5, id, qos).await, qos));
    }
    let mut writer = connect(4, "w", "admin").go(&broker).await;
    for published in [2, 1, 0] {
        for _ in 0..9 {
            writer.put(published << 1, "a/b", &[], "x").await;
        }
        let mut all: Vec<&mut Client> = members.iter_mut().map(|(member, _)| member).collect();
        let got = gather(&mut all, 9).await;
        for ((_, qos), messages) in members.iter().zip(got) {
            for message in messages {
                assert_eq!(message.first, 0x30 | published.min(*qos) << 1);
            }
        }
    }
}

#[tokio::test]
async fn what_a_member_that_ended_did_not_acknowledge_goes_to_the_living() {
    let broker = broker(|_| {}).await;
    for level in [4, 5] {
        let mut dying = connect(level, "dying", "admin").go(&broker).await;
        assert_eq!(dying.subscribe(GROUP, 1).await, 1);
        let mut writer = connect(4, "w", "admin").go(&broker).await;
        for number in 0..10 {
            writer.put(0b10, "a/b", &[], &number.to_string()).await;
        }
        // The first is acknowledged, the second seen, all others under way.
        assert_eq!(dying.payload().await, "0");
        assert_eq!(dying.message().await.payload, "1");
        dying.nothing_came(8).await;
        let mut living = connect(level, "living", "admin").go(&broker).await;
        assert_eq!(living.subscribe(GROUP, 1).await, 1);
        drop(dying);
        let mut got = Vec::new();
        for _ in 1..10 {
            got.push(living.payload().await.parse::<u32>().unwrap());
        }
        got.sort_unstable();
        assert_eq!(got, (1..10).collect::<Vec<_>>());
        living.nothing_waits().await;
        living.goodbye().await;
    }
}

impl Client {
    /// Takes this many messages without acknowledging them.
    async fn nothing_came(&mut self, count: usize) {
        for _ in 0..count {
            self.message().await;
        }
    }
}

#[tokio::test]
async fn a_qos_2_message_under_way_stays_with_its_member() {
    let broker = broker(|_| {}).await;
    // The member comes back and goes on.
    let mut reader = member(&broker, 5, "m", 2).await;
    let mut writer = connect(4, "w", "admin").go(&broker).await;
    writer.put(0b100, "a/b", &[], "x").await;
    let message = reader.message().await;
    assert_eq!(message.first, 0x34);
    let mut other = member(&broker, 5, "other", 2).await;
    drop(reader);
    other.nothing_waits().await;
    let mut reader = connect(5, "m", "admin").lasting().go(&broker).await;
    let again = reader.message().await;
    assert_eq!((again.first, again.packet_id), (0x3c, message.packet_id));
    // Its session ends: nobody else gets it.
    reader.goodbye().await;
    connect(5, "m", "admin").go(&broker).await.goodbye().await;
    other.nothing_waits().await;
}

#[tokio::test]
async fn a_message_that_a_member_refuses_goes_to_nobody_else() {
    let broker = broker(|_| {}).await;
    for (bits, ack) in [(0b010, 0x40), (0b100, 0x50)] {
        let mut refusing = member(&broker, 5, "refusing", 2).await;
        let mut writer = connect(4, "w", "admin").go(&broker).await;
        writer.put(bits, "a/b", &[], "x").await;
        let [high, low] = refusing.message().await.packet_id.to_be_bytes();
        let mut other = member(&broker, 5, "other", 2).await;
        refusing.send(&[ack, 3, high, low, 0x80]).await;
        refusing.nothing_waits().await;
        other.nothing_waits().await;
        refusing.goodbye().await;
        connect(5, "refusing", "admin")
            .go(&broker)
            .await
            .goodbye()
            .await;
        other.nothing_waits().await;
        other.goodbye().await;
        connect(5, "other", "admin")
            .go(&broker)
            .await
            .goodbye()
            .await;
    }
}

#[tokio::test]
async fn a_member_leaves_with_unsubscribe() {
    let broker = broker(|_| {}).await;
    for level in [4, 5] {
        let mut leaving = connect(level, "leaving", "admin").go(&broker).await;
        // Twice the same is one membership.
        leaving.subscribe(GROUP, 0).await;
        leaving.subscribe(GROUP, 1).await;
        let mut staying = connect(level, "staying", "admin").go(&broker).await;
        staying.subscribe(GROUP, 1).await;
        let codes = leaving.unsubscribe_all(&["a/+", GROUP, GROUP]).await;
        assert!(level == 4 || codes == [0x11, 0, 0x11], "{codes:02x?}");
        let mut writer = connect(4, "w", "admin").go(&broker).await;
        for number in 0..10 {
            writer.put(0b10, "a/b", &[], &number.to_string()).await;
        }
        gather(&mut [&mut staying], 10).await;
        leaving.nothing_waits().await;
        staying.unsubscribe_all(&[GROUP]).await;
        writer.put(0b10, "a/b", &[], "x").await;
        staying.nothing_waits().await;
    }
}

#[tokio::test]
async fn a_group_whose_members_are_absent_keeps_what_comes() {
    let broker = broker(|_| {}).await;
    for level in [4, 5] {
        let one = member(&broker, level, "one", 1).await;
        let two = member(&broker, level, "two", 1).await;
        one.goodbye().await;
        two.goodbye().await;
        let mut writer = connect(4, "w", "admin").go(&broker).await;
        for number in 0..20 {
            writer.put(0b10, "a/b", &[], &number.to_string()).await;
        }
        let mut one = connect(level, "one", "admin").lasting().go(&broker).await;
        let mut two = connect(level, "two", "admin").lasting().go(&broker).await;
        let got = gather(&mut [&mut one, &mut two], 20).await;
        assert_eq!(numbers(&got), (0..20).collect::<Vec<_>>());
        for id in ["one", "two"] {
            connect(level, id, "admin")
                .go(&broker)
                .await
                .goodbye()
                .await;
        }
    }
}

#[tokio::test]
async fn a_member_gets_its_subscription_identifier_and_retain_as_published() {
    let broker = broker(|_| {}).await;
    let mut member = connect(5, "m", "admin").go(&broker).await;
    let identifier = property::identifier(77);
    member.subscribe_all(&identifier, &[(GROUP, 0b1000)]).await;
    let mut writer = connect(4, "w", "admin").go(&broker).await;
    writer.put(0b11, "a/b", &[], "x").await;
    let (message, properties) = member.take().await;
    assert_eq!((message.first, properties.identifiers()), (0x31, vec![77]));
}

#[tokio::test]
async fn connack_announces_shared_subscriptions() {
    let broker = broker(|_| {}).await;
    let (_client, answer) = connect(5, "c", "admin").open(&broker).await;
    assert!(!answer.windows(2).any(|pair| pair == [0x2a, 0]));
}
