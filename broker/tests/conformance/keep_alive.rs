//! Keep alive: who is cut off for silence, and when.

use std::time::{Duration, Instant};

use crate::broker;
use crate::raw::answer::Answer;
use crate::raw::{Client, connect};

#[tokio::test]
async fn a_silent_client_is_cut_off_after_one_and_a_half_times_its_keep_alive() {
    let check = async |level| {
        let broker = broker(|_| {}).await;
        let mut witness = connect(4, "witness", "admin").go(&broker).await;
        witness.subscribe("will", 0).await;
        let mut packet = connect(level, "c", "admin").will("will", "gone", 0);
        packet.keep_alive = 1;
        let begun = Instant::now();
        let mut client = packet.go(&broker).await;
        client.cut_off(0x8d).await;
        let passed = begun.elapsed();
        assert!(passed >= Duration::from_millis(1_500), "{passed:?}");
        assert!(passed < Duration::from_millis(2_900), "{passed:?}");
        // As if the network had failed.
        assert_eq!(witness.message().await.payload, "gone");
    };
    tokio::join!(check(4), check(5));
}

#[tokio::test]
async fn any_packet_keeps_a_client_alive() {
    let check = async |level| {
        let broker = broker(|_| {}).await;
        let mut packet = connect(level, "c", "admin");
        packet.keep_alive = 1;
        let mut client = packet.go(&broker).await;
        let begun = Instant::now();
        let mut beat = tokio::time::interval(Duration::from_millis(700));
        let mut number = 0;
        while begun.elapsed() < Duration::from_millis(3_500) {
            beat.tick().await;
            number += 1;
            match number % 3 {
                0 => client.put(0b10, "a", &[], "x").await,
                1 => drop(client.subscribe("b", 0).await),
                _ => client.put(0, "a", &[], "x").await,
            }
        }
        client.nothing_waits().await;
    };
    tokio::join!(check(4), check(5));
}

#[tokio::test]
async fn without_keep_alive_silence_is_allowed() {
    let broker = broker(|_| {}).await;
    let mut client = connect(4, "c", "admin").go(&broker).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    client.nothing_waits().await;
}

#[tokio::test]
async fn a_ping_is_answered() {
    let broker = broker(|_| {}).await;
    for level in [4, 5] {
        let mut client = connect(level, "c", "admin").go(&broker).await;
        client.send(&[0xc0, 0, 0xc0, 0]).await;
        client.expect(&[0xd0, 0]).await;
        client.expect(&[0xd0, 0]).await;
    }
}

#[tokio::test]
async fn the_keep_alive_that_holds_is_told() {
    let check = async |asked: u16, told: Option<u32>| {
        let broker = broker(|config| config.limits.keep_alive_max_seconds = 2).await;
        let mut packet = connect(5, "c", "admin");
        packet.keep_alive = asked;
        let mut client = Client::new(broker.address, 5).await;
        let begun = Instant::now();
        client.send(&packet.bytes()).await;
        let Answer::ConnAck { properties, .. } = client.answer().await else {
            panic!("no CONNACK");
        };
        assert_eq!(properties.number(0x13), told, "{asked}");
        // Without a word about it, the client's own holds.
        client.cut_off(0x8d).await;
        let least = Duration::from_millis(1_500) * if asked == 1 { 1 } else { 2 };
        assert!(begun.elapsed() >= least, "{asked}: {:?}", begun.elapsed());
        assert!(begun.elapsed() < least + Duration::from_secs(1), "{asked}");
    };
    tokio::join!(
        check(1, None),
        check(2, None),
        check(60, Some(2)),
        check(0, Some(2)),
    );
}
