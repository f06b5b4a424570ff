//! What outlives a connection: retained messages, wills, sessions; and what a slow reader costs.

mod raw;

use std::time::Duration;

use raw::{Broker, Client, DEADLINE, broker, connect};

#[tokio::test]
async fn both_versions_meet() {
    let broker = broker(|_| {}).await;
    for (publisher, subscriber) in [(4, 5), (5, 4), (4, 4), (5, 5)] {
        for qos in [0, 1] {
            let mut reader = connect(subscriber, "r", "admin").go(&broker).await;
            let mut writer = connect(publisher, "w", "admin").go(&broker).await;
            assert_eq!(reader.subscribe("a/+", qos).await, qos);
            writer.publish_acked(0, "a/b", "hello").await;
            let message = reader.message().await;
            assert_eq!(
                (message.topic.as_str(), message.payload.as_str()),
                ("a/b", "hello")
            );
            assert_eq!(message.first, 0x30 | qos << 1);
        }
    }
}

#[tokio::test]
async fn a_retained_message_is_given_replaced_and_cleared() {
    let broker = broker(|_| {}).await;
    let mut writer = connect(4, "w", "admin").go(&broker).await;
    for payload in ["one", "two"] {
        writer.publish_acked(1, "a", payload).await;
        let mut reader = connect(5, "r", "admin").go(&broker).await;
        reader.subscribe("a", 0).await;
        let message = reader.message().await;
        assert_eq!((message.first, message.payload.as_str()), (0x31, payload));
        reader.nothing_waits().await;
    }
    writer.publish_acked(1, "a", "").await;
    let mut reader = connect(4, "r", "admin").go(&broker).await;
    reader.subscribe("a", 0).await;
    reader.nothing_waits().await;
}

#[tokio::test]
async fn a_wildcard_gets_every_retained_message_whatever_the_queue_holds() {
    let broker = broker(|config| {
        config.limits.queue_messages = 10;
        config.limits.receive_maximum = 7;
    })
    .await;
    let mut writer = connect(4, "w", "admin").go(&broker).await;
    for number in 0..1_500 {
        writer
            .publish_acked(1, &format!("n/{number}/state"), "on")
            .await;
    }
    for qos in [0, 1] {
        let mut reader = connect(4, "r", "admin").go(&broker).await;
        reader.subscribe("n/+/state", qos).await;
        let mut topics = std::collections::HashSet::new();
        for _ in 0..1_500 {
            let message = reader.message().await;
            if qos == 1 {
                reader.acknowledge(message.packet_id).await;
            }
            assert!(topics.insert(message.topic), "twice");
        }
        reader.nothing_waits().await;
    }
}

#[tokio::test]
async fn a_publisher_keeps_no_more_topics_than_its_quota() {
    let broker = broker(|config| config.limits.retained_messages_per_user = 3).await;
    // Under whatever client id, it is the user who counts.
    for number in 0..6 {
        let client_id = ["w1", "w2"][number % 2];
        let mut writer = connect(4, client_id, "web1").go(&broker).await;
        let topic = format!("hostbus/v1/home/web1/details/{number}");
        writer.publish_acked(1, &topic, "table").await;
    }
    let mut admin = connect(4, "a", "admin").go(&broker).await;
    for number in 0..6 {
        admin.publish_acked(1, &format!("a/{number}"), "x").await;
    }
    let mut other = connect(4, "w", "web2").go(&broker).await;
    let topic = "hostbus/v1/home/web2/details/0";
    other.publish_acked(1, topic, "table").await;
    let check = async |filter: &str, expected: usize| {
        let mut reader = connect(4, "r", "admin").go(&broker).await;
        reader.subscribe(filter, 0).await;
        for _ in 0..expected {
            reader.message().await;
        }
        reader.nothing_waits().await;
    };
    check("hostbus/v1/home/web1/#", 3).await;
    check("hostbus/v1/home/web2/#", 1).await;
    check("a/#", 6).await;
}

#[tokio::test]
async fn a_will_is_published_when_its_client_is_lost_and_not_when_it_says_goodbye() {
    let broker = broker(|_| {}).await;
    let mut reader = connect(5, "r", "viewer").go(&broker).await;
    reader.subscribe("hostbus/v1/+/+/status", 1).await;
    let with_will = |level| {
        let mut packet = connect(level, "w", "web1");
        packet.will = Some(("hostbus/v1/home/web1/status", "offline", 0b11));
        packet
    };
    for level in [4, 5] {
        with_will(level).go(&broker).await.goodbye().await;
        reader.nothing_waits().await;
        // Lost, cut off for a wrong packet, and taken over.
        drop(with_will(level).go(&broker).await);
        let lost = reader.message().await;
        assert_eq!(lost.payload, "offline");
        reader.acknowledge(lost.packet_id).await;
        let mut wrong = with_will(level).go(&broker).await;
        wrong.send(&[0, 0]).await;
        let cut_off = reader.message().await;
        reader.acknowledge(cut_off.packet_id).await;
        let _old = with_will(level).go(&broker).await;
        let new = with_will(level).go(&broker).await;
        let taken_over = reader.message().await;
        reader.acknowledge(taken_over.packet_id).await;
        new.goodbye().await;
        reader.nothing_waits().await;
    }
    let mut late = connect(4, "late", "viewer").go(&broker).await;
    late.subscribe("hostbus/v1/+/+/status", 1).await;
    assert_eq!(late.message().await.first, 0x33);
}

#[tokio::test]
async fn a_delayed_will_is_not_published_when_its_client_comes_back() {
    let broker = broker(|_| {}).await;
    let mut reader = connect(5, "r", "admin").go(&broker).await;
    reader.subscribe("will", 0).await;
    let with_will = |payload| {
        let mut packet = connect(5, "w", "admin");
        packet.clean = false;
        packet.properties = vec![0x11, 0, 0, 0, 60];
        packet.will = Some(("will", payload, 0));
        packet.will_properties = vec![0x18, 0, 0, 0, 1];
        packet
    };
    drop(with_will("first").go(&broker).await);
    drop(with_will("second").go(&broker).await);
    assert_eq!(reader.message().await.payload, "second");
}

/// A session that outlives its connection.
async fn persistent(level: u8, broker: &Broker) -> (Client, bool) {
    let mut packet = connect(level, "p", "admin");
    packet.clean = false;
    if level == 5 {
        packet.properties = vec![0x11, 0, 0, 0, 60];
    }
    let (client, answer) = packet.open(broker).await;
    assert_eq!(answer[1], 0);
    (client, answer[0] == 1)
}

#[tokio::test]
async fn a_persistent_session_gets_what_it_missed_and_what_it_did_not_acknowledge() {
    for level in [4, 5] {
        let broker = broker(|_| {}).await;
        let mut writer = connect(4, "w", "admin").go(&broker).await;
        let (mut reader, present) = persistent(level, &broker).await;
        assert!(!present);
        reader.subscribe("a", 1).await;
        writer.publish_acked(0, "a", "1").await;
        let first = reader.message().await;
        reader.goodbye().await;
        writer.publish_acked(0, "a", "2").await;
        writer.publish(0, "a", "QoS 0 is not kept").await;
        writer.publish_acked(0, "a", "3").await;
        let (mut reader, present) = persistent(level, &broker).await;
        assert!(present);
        let again = reader.message().await;
        assert_eq!(
            (again.first, again.packet_id),
            (0x3a, first.packet_id),
            "DUP, same id"
        );
        reader.acknowledge(again.packet_id).await;
        for payload in ["2", "3"] {
            let message = reader.message().await;
            assert_eq!((message.first, message.payload.as_str()), (0x32, payload));
            reader.acknowledge(message.packet_id).await;
        }
        reader.nothing_waits().await;
        reader.goodbye().await;
        // A clean start ends it.
        connect(level, "p", "admin")
            .go(&broker)
            .await
            .goodbye()
            .await;
        assert!(!persistent(level, &broker).await.1);
    }
}

#[tokio::test]
async fn a_session_ends_when_its_time_is_over() {
    let broker = broker(|config| config.limits.session_expiry_max_seconds = 1).await;
    let (mut client, _) = persistent(4, &broker).await;
    client.subscribe("a", 1).await;
    client.goodbye().await;
    let gone = async {
        let mut beat = tokio::time::interval(Duration::from_millis(100));
        loop {
            beat.tick().await;
            let mut admin = connect(4, "look", "admin").go(&broker).await;
            // Whether anybody is subscribed shows in the reason code of 5.0 only.
            admin.nothing_waits().await;
            let mut writer = connect(5, "w", "admin").go(&broker).await;
            if writer.publish_acked(0, "a", "x").await == 0x10 {
                break;
            }
        }
    };
    tokio::time::timeout(DEADLINE, gone)
        .await
        .expect("the session ends");
    assert!(!persistent(4, &broker).await.1);
}

/// A figure of `$SYS/broker/`, once `wanted` holds for it.
async fn figure(broker: &Broker, name: &str, wanted: impl Fn(u64) -> bool) -> u64 {
    let mut client = connect(4, "figures", "admin").go(broker).await;
    client.subscribe(&format!("$SYS/broker/{name}"), 0).await;
    let mut last = 0;
    let found = async {
        loop {
            last = client
                .message()
                .await
                .payload
                .parse()
                .expect("a figure is a number");
            if wanted(last) {
                return;
            }
        }
    };
    let in_time = tokio::time::timeout(DEADLINE, found).await.is_ok();
    assert!(in_time, "{name} is {last}");
    last
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stalled_reader_loses_the_oldest_counted_and_disturbs_nobody() {
    const COUNT: u64 = 60_000;
    let broker = broker(|config| {
        config.limits.queue_messages = 1_000;
        config.sys_interval_seconds = 1;
    })
    .await;
    let mut stalled = connect(4, "s", "admin").go(&broker).await;
    stalled.subscribe("load", 0).await;
    let mut writer = connect(4, "w", "admin").go(&broker).await;
    let bytes = writer.publish_bytes(0, "load", 0, &[], &[b'x'; 1_000]);
    let mut good = connect(4, "g", "admin").go(&broker).await;
    good.subscribe("load", 0).await;
    let bunch = bytes.repeat(20);
    for _ in 0..COUNT / 20 {
        writer.send(&bunch).await;
        for _ in 0..20 {
            good.message().await;
        }
    }
    writer.publish_acked(0, "load", "end").await;
    let mut received = 0;
    while stalled.message().await.payload != "end" {
        received += 1;
    }
    assert!(received >= 1_000, "{received}");
    assert!(
        received < COUNT,
        "the reader was not slow enough to lose anything"
    );
    let lost = figure(&broker, "publish/messages/dropped", |lost| {
        lost >= COUNT - received
    })
    .await;
    assert_eq!(lost, COUNT - received);
}

#[tokio::test]
async fn a_connected_reader_that_leaves_qos_1_waiting_is_cut_off_and_others_are_not() {
    let broker = broker(|config| {
        config.limits.queue_messages = 50;
        config.limits.receive_maximum = 10;
    })
    .await;
    let mut slow = connect(5, "slow", "admin").go(&broker).await;
    let mut good = connect(5, "good", "admin").go(&broker).await;
    slow.subscribe("a", 1).await;
    good.subscribe("a", 1).await;
    let mut writer = connect(4, "w", "admin").go(&broker).await;
    for number in 0..200 {
        writer.publish_acked(0, "a", &number.to_string()).await;
        let message = good.message().await;
        assert_eq!(message.payload, number.to_string());
        good.acknowledge(message.packet_id).await;
    }
    assert_eq!(slow.ended().await, Some(0x97));
}

#[tokio::test]
async fn an_absent_session_loses_its_oldest_messages_counted() {
    let broker = broker(|config| {
        config.limits.queue_messages = 50;
        config.sys_interval_seconds = 1;
    })
    .await;
    let (mut reader, _) = persistent(4, &broker).await;
    reader.subscribe("a", 1).await;
    reader.goodbye().await;
    let mut writer = connect(4, "w", "admin").go(&broker).await;
    for number in 0..200 {
        writer.publish_acked(0, "a", &number.to_string()).await;
    }
    let (mut reader, _) = persistent(4, &broker).await;
    for number in 150..200 {
        let message = reader.message().await;
        assert_eq!(message.payload, number.to_string());
        reader.acknowledge(message.packet_id).await;
    }
    reader.nothing_waits().await;
    let name = "publish/messages/dropped/absent-queue-full";
    assert_eq!(figure(&broker, name, |lost| lost > 0).await, 150);
}

#[tokio::test]
async fn a_client_that_reads_no_answers_still_has_its_messages_taken() {
    let broker = broker(|_| {}).await;
    let mut reader = connect(4, "r", "admin").go(&broker).await;
    reader.subscribe("end", 0).await;
    let mut writer = connect(4, "w", "admin").go(&broker).await;
    let bytes = writer.publish_bytes(0b10, "a", 7, &[], b"x").repeat(1_000);
    for _ in 0..50 {
        writer.send(&bytes).await;
    }
    writer.publish(0, "end", "x").await;
    assert_eq!(reader.message().await.payload, "x");
}

#[tokio::test]
async fn the_windows_of_both_sides_are_honoured() {
    let broker = broker(|_| {}).await;
    let mut packet = connect(5, "r", "admin");
    packet.properties = vec![0x21, 0, 2];
    let mut reader = packet.go(&broker).await;
    reader.subscribe("a", 1).await;
    let mut writer = connect(4, "w", "admin").go(&broker).await;
    for number in 0..5 {
        writer.publish_acked(0, "a", &number.to_string()).await;
    }
    let first = reader.message().await;
    reader.message().await;
    reader.nothing_waits().await;
    reader.acknowledge(first.packet_id).await;
    assert_eq!(reader.message().await.payload, "2");
    reader.nothing_waits().await;
}

#[tokio::test]
async fn stopping_tells_the_clients_and_publishes_no_will() {
    let broker = broker(|_| {}).await;
    let mut reader = connect(5, "r", "viewer").go(&broker).await;
    reader.subscribe("hostbus/v1/#", 1).await;
    let mut packet = connect(4, "w", "web1");
    packet.will = Some(("hostbus/v1/home/web1/status", "offline", 0b11));
    let mut old = packet.go(&broker).await;
    let mut silent = Client::new(broker.address, 4).await;
    old.publish_acked(0, "hostbus/v1/home/web1/events", "last")
        .await;
    let begun = std::time::Instant::now();
    broker.running.stop().await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(4));
    assert_eq!(reader.message().await.payload, "last");
    assert_eq!(reader.frame().await, Some((0xe0, vec![0x8b, 0])));
    assert_eq!(reader.frame().await, None);
    assert_eq!(old.frame().await, None);
    assert_eq!(silent.frame().await, None);
}

#[tokio::test]
async fn a_client_that_publishes_too_fast_waits_and_loses_nothing() {
    let broker = broker(|config| config.limits.messages_per_second = 20).await;
    let mut writer = connect(4, "w", "operator").go(&broker).await;
    let begun = std::time::Instant::now();
    let mut bytes = Vec::new();
    for packet_id in 1..=50 {
        bytes.extend(writer.publish_bytes(0b10, "a", packet_id, &[], b"x"));
    }
    writer.send(&bytes).await;
    for packet_id in 1..=50_u16 {
        let (first, body) = writer.frame().await.expect("PUBACK");
        assert_eq!((first, body), (0x40, packet_id.to_be_bytes().to_vec()));
    }
    // 20 at once, the others at 20 a second.
    assert!(begun.elapsed() >= Duration::from_secs(1));
}

#[tokio::test]
async fn a_session_loses_one_message_for_each_that_comes_while_all_queues_are_full() {
    let broker = broker(|config| config.limits.total_queue_bytes = 300 * 1024).await;
    for id in ["r", "hog"] {
        let mut r = connect(5, id, "admin").lasting().go(&broker).await;
        r.subscribe(id, 1).await;
        r.goodbye().await;
    }
    let mut w = connect(5, "w", "admin").go(&broker).await;
    for _ in 0..500 {
        w.publish_acked(0, "r", "x").await;
    }
    // Somebody else fills what all have together.
    for _ in 0..3 {
        w.publish_acked(0, "hog", &"x".repeat(100_000)).await;
    }
    w.publish_acked(0, "r", "last").await;
    let mut r = connect(5, "r", "admin").lasting().go(&broker).await;
    for _ in 0..499 {
        let message = r.message().await;
        assert_eq!(message.payload, "x");
        r.acknowledge(message.packet_id).await;
    }
    assert_eq!(r.message().await.payload, "last");
}
