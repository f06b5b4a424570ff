//! Sessions: who gets which, what it holds, when it ends.

use std::time::Duration;

use crate::broker;
use crate::raw::{Broker, Client, connect, property};

/// Whether the session of client `p` was there.
async fn present(broker: &Broker, level: u8) -> (Client, bool) {
    let (client, answer) = connect(level, "p", "admin").lasting().open(broker).await;
    assert_eq!(answer[1], 0);
    (client, answer[0] == 1)
}

#[tokio::test]
async fn session_present_tells_whether_there_was_one() {
    let broker = broker(|_| {}).await;
    for level in [4, 5] {
        let (client, there) = present(&broker, level).await;
        assert!(!there, "a new one");
        client.goodbye().await;
        for _ in 0..2 {
            let (client, there) = present(&broker, level).await;
            assert!(there, "it goes on");
            drop(client);
        }
        // A clean one says no, whatever was there, and leaves nothing.
        let (client, answer) = connect(level, "p", "admin").open(&broker).await;
        assert_eq!(answer[..2], [0, 0]);
        client.goodbye().await;
        let (client, there) = present(&broker, level).await;
        assert!(!there, "a clean one ended it");
        client.goodbye().await;
        connect(level, "p", "admin")
            .go(&broker)
            .await
            .goodbye()
            .await;
    }
}

#[tokio::test]
async fn a_session_keeps_its_subscriptions_and_what_it_misses() {
    let broker = broker(|_| {}).await;
    for level in [4, 5] {
        let mut writer = connect(level, "w", "admin").go(&broker).await;
        let (mut client, _) = present(&broker, level).await;
        client.subscribe_all(&[], &[("a", 1), ("b/#", 0)]).await;
        client.goodbye().await;
        for number in 0..20 {
            writer.put(0b10, "a", &[], &number.to_string()).await;
        }
        let (mut client, there) = present(&broker, level).await;
        assert!(there);
        for number in 0..20 {
            let (message, _) = client.take().await;
            assert_eq!((message.first, message.payload), (0x32, number.to_string()));
        }
        writer.put(0b10, "b/c", &[], "live").await;
        let (message, _) = client.take().await;
        assert_eq!((message.first, &*message.payload), (0x30, "live"));
        client.nothing_waits().await;
        connect(level, "p", "admin").go(&broker).await;
    }
}

#[tokio::test]
async fn a_clean_start_drops_all_that_the_session_held() {
    let broker = broker(|_| {}).await;
    for level in [4, 5] {
        let mut writer = connect(level, "w", "admin").go(&broker).await;
        let (mut client, _) = present(&broker, level).await;
        client.subscribe("a", 1).await;
        writer.put(0b10, "a", &[], "unacknowledged").await;
        client.message().await;
        drop(client);
        writer.put(0b10, "a", &[], "queued").await;
        let mut client = connect(level, "p", "admin").go(&broker).await;
        writer.put(0b10, "a", &[], "not subscribed").await;
        client.nothing_waits().await;
        client.goodbye().await;
        let (mut client, there) = present(&broker, level).await;
        assert!(!there);
        client.nothing_waits().await;
        client.goodbye().await;
        connect(level, "p", "admin")
            .go(&broker)
            .await
            .goodbye()
            .await;
    }
}

#[tokio::test]
async fn a_clean_session_ends_with_its_connection() {
    let broker = broker(|_| {}).await;
    for level in [4, 5] {
        let mut client = connect(level, "p", "admin").go(&broker).await;
        client.subscribe("a", 1).await;
        drop(client);
        // Whatever ends the connection first, the session is not there any more.
        let (mut client, there) = present(&broker, level).await;
        assert!(!there);
        client.put(0b10, "a", &[], "x").await;
        client.nothing_waits().await;
        client.goodbye().await;
        connect(level, "p", "admin")
            .go(&broker)
            .await
            .goodbye()
            .await;
    }
    // In 5.0 it is the expiry that says so: absent or 0, whatever clean start says.
    for expiry in [vec![], property::four(0x11, 0)] {
        let mut packet = connect(5, "q", "admin").with(&expiry);
        packet.clean = false;
        packet.go(&broker).await.goodbye().await;
        let (_, answer) = connect(5, "q", "admin").lasting().open(&broker).await;
        assert_eq!(answer[..2], [0, 0]);
        connect(5, "q", "admin").go(&broker).await.goodbye().await;
    }
    // And a clean start may begin a session that lasts.
    let packet = connect(5, "q", "admin").with(&property::four(0x11, 60));
    packet.go(&broker).await.goodbye().await;
    let (_, answer) = connect(5, "q", "admin").lasting().open(&broker).await;
    assert_eq!(answer[..2], [1, 0]);
}

/// Waits until the session of client `p` has ended.
async fn ended(broker: &Broker) {
    for _ in 0..100 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let mut client = connect(5, "look", "admin").go(broker).await;
        if client.publish_acked(0, "a", "x").await == 0x10 {
            return;
        }
    }
    panic!("the session does not end");
}

#[tokio::test]
async fn a_session_ends_when_its_expiry_has_passed() {
    let broker = broker(|_| {}).await;
    let packet = || connect(5, "p", "admin").with(&property::four(0x11, 1));
    let mut client = packet().go(&broker).await;
    client.subscribe("a", 1).await;
    // Not while the connection is open.
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    client.put(0b10, "a", &[], "x").await;
    assert_eq!(client.payload().await, "x");
    drop(client);
    ended(&broker).await;
    assert!(!present(&broker, 5).await.1);
}

#[tokio::test]
async fn disconnect_may_change_the_expiry() {
    let broker = broker(|_| {}).await;
    let goodbye = async |mut client: Client, seconds: u32| {
        client.subscribe("a", 1).await;
        let body = [&[0, 5][..], &property::four(0x11, seconds)].concat();
        client.send(&super::raw::packet(0xe0, &body)).await;
        assert_eq!(client.frame().await, None);
    };
    // To 0, and to something shorter.
    for (seconds, there) in [(0, false), (3_600, true)] {
        let (client, _) = present(&broker, 5).await;
        goodbye(client, seconds).await;
        let (client, found) = present(&broker, 5).await;
        assert_eq!(found, there, "{seconds}");
        client.goodbye().await;
        connect(5, "p", "admin").go(&broker).await.goodbye().await;
    }
    let (client, _) = present(&broker, 5).await;
    goodbye(client, 1).await;
    ended(&broker).await;
    // Not from 0 to something else.
    let mut client = connect(5, "p", "admin").go(&broker).await;
    let body = [&[0, 5][..], &property::four(0x11, 9)].concat();
    client.send(&super::raw::packet(0xe0, &body)).await;
    client.cut_off(0x82).await;
}

#[tokio::test]
async fn a_session_that_never_expires_is_cut_to_the_limit_and_told() {
    let broker = broker(|config| config.limits.session_expiry_max_seconds = 9).await;
    let packet = connect(5, "c", "admin").with(&property::four(0x11, u32::MAX));
    let (_client, answer) = packet.open(&broker).await;
    let told = property::four(0x11, 9);
    assert!(answer.windows(5).any(|window| window == told));
}

#[tokio::test]
async fn the_client_id_says_whose_session_it_is() {
    let broker = broker(|_| {}).await;
    for level in [4, 5] {
        let mut writer = connect(level, "w", "admin").go(&broker).await;
        for id in ["one", "two", "One"] {
            let mut client = connect(level, id, "admin").lasting().go(&broker).await;
            client.subscribe("a", 1).await;
            client.goodbye().await;
        }
        writer.put(0b10, "a", &[], "x").await;
        for id in ["two", "One", "one"] {
            let (mut client, answer) = connect(level, id, "admin").lasting().open(&broker).await;
            assert_eq!(answer[0], 1);
            assert_eq!(client.payload().await, "x");
            client.nothing_waits().await;
            client.goodbye().await;
            connect(level, id, "admin")
                .go(&broker)
                .await
                .goodbye()
                .await;
        }
    }
}

#[tokio::test]
async fn a_session_goes_on_from_one_version_to_the_other() {
    let broker = broker(|_| {}).await;
    let mut writer = connect(5, "w", "admin").go(&broker).await;
    for (from, to) in [(4, 5), (5, 4)] {
        let (mut client, _) = present(&broker, from).await;
        client.subscribe("a", 1).await;
        client.goodbye().await;
        let own = property::user("k", "v");
        writer.put(0b10, "a", &own, "x").await;
        let (mut client, there) = present(&broker, to).await;
        assert!(there);
        let (message, _) = client.take().await;
        let expected = if to == 5 { own } else { vec![] };
        assert_eq!((&*message.payload, message.properties), ("x", expected));
        client.goodbye().await;
        connect(to, "p", "admin").go(&broker).await.goodbye().await;
    }
}
