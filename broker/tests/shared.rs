//! Shared subscriptions: who gets what, and what becomes of a dead member's messages.

mod raw;

use raw::{Broker, Client, broker, connect, packet, properties, property, text};

async fn member(id: &'static str, broker: &Broker, qos: u8, expiry: u8) -> Client {
    let mut packet = connect(5, id, "admin");
    packet.clean = false;
    packet.properties = vec![0x11, 0, 0, 0, expiry];
    let (mut client, answer) = packet.open(broker).await;
    if answer[0] == 0 {
        assert_eq!(client.subscribe("$share/g/a/#", qos).await, qos);
    }
    client
}

async fn payloads(client: &mut Client, messages: usize) -> Vec<String> {
    let mut found = Vec::new();
    for _ in 0..messages {
        let message = client.message().await;
        if message.packet_id > 0 {
            client.acknowledge(message.packet_id).await;
        }
        found.push(message.payload);
    }
    found
}

#[tokio::test]
async fn each_message_goes_to_one_member_and_to_all_others_who_asked() {
    let broker = broker(|_| {}).await;
    let mut writer = connect(4, "w", "admin").go(&broker).await;
    let mut witness = connect(4, "x", "admin").go(&broker).await;
    witness.subscribe("a/#", 0).await;
    let mut one = member("one", &broker, 0, 0).await;
    let mut two = member("two", &broker, 0, 0).await;
    for number in 0..10 {
        writer.publish(0, "a/b", &number.to_string()).await;
        // So that both are free again when the next one comes.
        assert_eq!(payloads(&mut witness, 1).await, [number.to_string()]);
    }
    let mut all = payloads(&mut one, 5).await;
    all.extend(payloads(&mut two, 5).await);
    all.sort();
    let wanted: Vec<String> = (0..10).map(|number| number.to_string()).collect();
    assert_eq!(all, wanted);
    one.nothing_waits().await;
    two.nothing_waits().await;
}

#[tokio::test]
async fn what_a_dead_member_did_not_acknowledge_goes_to_the_living() {
    for expiry in [0, 60] {
        let broker = broker(|_| {}).await;
        let mut writer = connect(4, "w", "admin").go(&broker).await;
        let mut dies = member("dies", &broker, 1, expiry).await;
        writer.publish_acked(0, "a/b", "1").await;
        assert_eq!(dies.message().await.payload, "1");
        let mut lives = member("lives", &broker, 1, expiry).await;
        drop(dies);
        assert_eq!(payloads(&mut lives, 1).await, ["1"]);
        // It comes back to nothing.
        let mut back = member("dies", &broker, 1, expiry).await;
        back.nothing_waits().await;
        lives.nothing_waits().await;
    }
}

#[tokio::test]
async fn an_absent_group_keeps_its_backlog_for_the_first_who_comes_back() {
    let broker = broker(|_| {}).await;
    let mut writer = connect(4, "w", "admin").go(&broker).await;
    for id in ["one", "two"] {
        member(id, &broker, 1, 60).await.goodbye().await;
    }
    for number in 0..6 {
        writer.publish_acked(0, "a/b", &number.to_string()).await;
    }
    let mut two = member("two", &broker, 1, 60).await;
    let mut all = payloads(&mut two, 6).await;
    all.sort();
    assert_eq!(all, ["0", "1", "2", "3", "4", "5"]);
    let mut one = member("one", &broker, 1, 60).await;
    one.nothing_waits().await;
}

#[tokio::test]
async fn a_share_name_that_is_none_is_refused_and_retained_messages_are_not_sent() {
    let broker = broker(|_| {}).await;
    let mut client = connect(5, "c", "admin").go(&broker).await;
    client.publish_acked(1, "a/b", "kept").await;
    for filter in ["$share/g", "$share//a", "$share/g/", "$share/+/a"] {
        assert_eq!(client.subscribe(filter, 1).await, 0x8f, "{filter}");
    }
    assert_eq!(client.subscribe("$share/g/a/#", 1).await, 1);
    client.nothing_waits().await;
    assert_eq!(client.subscribe("a/#", 1).await, 1);
    assert_eq!(client.message().await.payload, "kept");
}

#[tokio::test]
async fn what_a_member_leaves_behind_goes_to_another_one() {
    let broker = broker(|_| {}).await;
    let mut a = connect(5, "a", "admin")
        .with(&property::two(0x21, 1))
        .go(&broker)
        .await;
    a.subscribe("$share/g/t", 1).await;
    let mut w = connect(5, "w", "admin").go(&broker).await;
    for n in 0..5 {
        w.publish_acked(0, "t", &n.to_string()).await;
    }
    assert_eq!(a.message().await.payload, "0");
    let mut b = connect(5, "b", "admin").go(&broker).await;
    b.subscribe("$share/g/t", 1).await;
    // A worker that goes in order: unsubscribes, then leaves.
    let mut body = vec![0, 9];
    body.extend(properties(5, &[]));
    body.extend(text("$share/g/t"));
    a.send(&packet(0xa2, &body)).await;
    assert_eq!(a.frame().await.unwrap().0, 0xb0);
    a.goodbye().await;
    for n in 0..5 {
        let message = b.message().await;
        assert_eq!(message.payload, n.to_string());
        b.acknowledge(message.packet_id).await;
    }
}
