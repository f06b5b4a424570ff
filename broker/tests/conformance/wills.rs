//! Wills: when they are published, when not, and how.

use std::time::{Duration, Instant};

use crate::broker;
use crate::raw::{Broker, Client, Connect, connect, packet, properties, property, text};

async fn reader(broker: &Broker, level: u8) -> Client {
    let mut reader = connect(level, "reader", "admin").go(broker).await;
    reader.subscribe("will", 1).await;
    reader
}

fn with_will(level: u8) -> Connect {
    connect(level, "w", "admin").will("will", "gone", 0b10)
}

#[tokio::test]
async fn a_will_is_published_whatever_else_ends_the_connection() {
    let broker = broker(|_| {}).await;
    for level in [4, 5] {
        let mut reader = reader(&broker, level).await;
        // The network fails.
        drop(with_will(level).go(&broker).await);
        assert_eq!(reader.payload().await, "gone");
        // The client sends what it may not send, of all kinds.
        for wrong in [
            vec![0, 0],
            vec![0xe1, 0],
            vec![0x30, 0xff, 0xff, 0xff, 0xff, 1],
            packet(0x30, &[&text("#")[..], &properties(level, &[])].concat()),
            packet(0x30, b"\0\x01\xff\0"),
            with_will(level).bytes(),
        ] {
            let mut client = with_will(level).go(&broker).await;
            client.send(&wrong).await;
            assert_eq!(reader.payload().await, "gone", "{wrong:02x?}");
        }
        // Its keep alive passes.
        let mut silent = with_will(level);
        silent.keep_alive = 1;
        let _silent = silent.go(&broker).await;
        assert_eq!(reader.payload().await, "gone");
        // Another connection takes the client over.
        let _old = with_will(level).go(&broker).await;
        let new = with_will(level).go(&broker).await;
        assert_eq!(reader.payload().await, "gone");
        // A clean goodbye is none of these.
        new.goodbye().await;
        reader.nothing_waits().await;
    }
}

#[tokio::test]
async fn a_goodbye_discards_the_will() {
    let broker = broker(|_| {}).await;
    for level in [4, 5] {
        let mut reader = reader(&broker, level).await;
        with_will(level).go(&broker).await.goodbye().await;
        reader.nothing_waits().await;
        // Also with all that DISCONNECT may say in 5.0.
        if level == 5 {
            for body in [&[0][..], &[0, 0], &[0, 3, 0x1f, 0, 0]] {
                let mut client = with_will(5).go(&broker).await;
                client.send(&packet(0xe0, body)).await;
                assert_eq!(client.frame().await, None);
                reader.nothing_waits().await;
            }
            // It may ask for the will after all, or tell of an error.
            for reason in [0x04, 0x80, 0x82] {
                let mut client = with_will(5).go(&broker).await;
                client.send(&packet(0xe0, &[reason])).await;
                assert_eq!(client.frame().await, None);
                assert_eq!(reader.payload().await, "gone", "{reason:#x}");
            }
        }
        // A lasting session does not remember it.
        let lasting = || with_will(level).lasting();
        lasting().go(&broker).await.goodbye().await;
        drop(connect(level, "w", "admin").lasting().go(&broker).await);
        connect(level, "w", "admin")
            .go(&broker)
            .await
            .goodbye()
            .await;
        reader.nothing_waits().await;
    }
}

#[tokio::test]
async fn a_will_is_published_once() {
    let broker = broker(|_| {}).await;
    for level in [4, 5] {
        let mut reader = reader(&broker, level).await;
        drop(with_will(level).lasting().go(&broker).await);
        assert_eq!(reader.payload().await, "gone");
        // The session goes on, without a will this time.
        drop(connect(level, "w", "admin").lasting().go(&broker).await);
        connect(level, "w", "admin")
            .go(&broker)
            .await
            .goodbye()
            .await;
        reader.nothing_waits().await;
    }
}

#[tokio::test]
async fn without_a_will_nothing_is_published() {
    let broker = broker(|_| {}).await;
    for level in [4, 5] {
        let mut reader = connect(level, "reader", "admin").go(&broker).await;
        reader.subscribe("#", 1).await;
        drop(connect(level, "w", "admin").go(&broker).await);
        let mut wrong = connect(level, "w", "admin").go(&broker).await;
        wrong.send(&[0, 0]).await;
        wrong.cut_off(0x81).await;
        reader.nothing_waits().await;
    }
}

#[tokio::test]
async fn a_will_is_retained_where_it_says_so() {
    let broker = broker(|_| {}).await;
    for level in [4, 5] {
        for (bits, kept) in [(0b00, false), (0b01, true), (0b10, false), (0b11, true)] {
            let mut reader = reader(&broker, level).await;
            let packet = connect(level, "w", "admin").will("will", "gone", bits);
            drop(packet.go(&broker).await);
            let (message, _) = reader.take().await;
            assert_eq!(message.first, 0x30 | bits & 0b110);
            let mut late = connect(level, "late", "admin").go(&broker).await;
            late.subscribe("will", 1).await;
            if kept {
                let (message, _) = late.take().await;
                assert_eq!((message.first, &*message.payload), (0x30 | bits, "gone"));
                late.put(0b11, "will", &[], "").await;
            } else {
                late.nothing_waits().await;
            }
        }
    }
}

#[tokio::test]
async fn a_will_keeps_its_properties_in_their_order() {
    let broker = broker(|_| {}).await;
    let mut reader = reader(&broker, 5).await;
    let passed_on = [
        property::user("b", "1"),
        property::byte(0x01, 1),
        property::user("a", "2"),
        property::string(0x08, "answer/here"),
        property::string(0x09, "\u{1}\u{2}"),
        property::user("b", "1"),
        property::string(0x03, "text/plain"),
    ]
    .concat();
    let mut packet = with_will(5);
    packet.will_properties = [&property::four(0x18, 0)[..], &passed_on].concat();
    drop(packet.go(&broker).await);
    assert_eq!(reader.take().await.0.properties, passed_on);
    // Its lifetime begins with its publication.
    let mut packet = with_will(5);
    packet.will_properties = property::four(0x02, 100);
    drop(packet.go(&broker).await);
    let left = reader.take().await.1.number(0x02).expect("an expiry");
    assert!((98..=100).contains(&left), "{left}");
}

/// A will that waits for `delay` seconds, in a session that waits for `expiry` seconds.
fn delayed(delay: u32, expiry: u32) -> Connect {
    let mut packet = with_will(5).with(&property::four(0x11, expiry));
    packet.clean = false;
    packet.will_properties = property::four(0x18, delay);
    packet
}

#[tokio::test]
async fn a_delayed_will_waits_for_its_delay_or_the_end_of_the_session() {
    let broker = broker(|_| {}).await;
    let mut reader = reader(&broker, 5).await;
    // The delay, the session's end by its expiry, and one that is at once.
    for (delay, expiry, least_ms) in [(1, 60, 1_000), (60, 1, 1_000), (60, 0, 0), (0, 60, 0)] {
        drop(delayed(delay, expiry).go(&broker).await);
        let begun = Instant::now();
        assert_eq!(reader.payload().await, "gone");
        let passed = begun.elapsed();
        // The drop may be noticed a little before the clock starts.
        let least = Duration::from_millis(least_ms).saturating_sub(Duration::from_millis(50));
        assert!(passed >= least, "{delay} {expiry}: {passed:?}");
        assert!(passed < least + Duration::from_secs(4), "{passed:?}");
    }
    // A clean start ends the session, and its will comes at once.
    drop(delayed(60, 60).go(&broker).await);
    reader.nothing_waits().await;
    let client = connect(5, "w", "admin").go(&broker).await;
    assert_eq!(reader.payload().await, "gone");
    client.goodbye().await;
}

#[tokio::test]
async fn a_client_that_comes_back_in_time_cancels_its_delayed_will() {
    let broker = broker(|_| {}).await;
    let mut reader = reader(&broker, 5).await;
    drop(delayed(1, 60).go(&broker).await);
    let client = delayed(1, 60).go(&broker).await;
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    reader.nothing_waits().await;
    // And so does one that takes over a connection that is still open.
    let mut again = delayed(1, 60).go(&broker).await;
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    reader.nothing_waits().await;
    drop(client);
    again.nothing_waits().await;
    again.goodbye().await;
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    reader.nothing_waits().await;
}
