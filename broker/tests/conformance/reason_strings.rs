//! Reason strings and user properties that the broker adds.

use crate::broker;
use crate::raw::answer::{Answer, Properties};
use crate::raw::{Client, connect, packet, properties, property, text};

/// Requests that fail, and the properties of their answers.
async fn failures(client: &mut Client) -> Vec<Properties> {
    let mut found = Vec::new();
    client.publish(0b10, "other", "x").await;
    found.push(client.expect_ack(0x40, 7, 0x87).await);
    let none = properties(5, &[]);
    let subscribe = [&[0, 1][..], &none, &text("other"), &[0]].concat();
    let unsubscribe = [&[0, 1][..], &none, &text("other")].concat();
    for (bytes, code) in [
        (packet(0x82, &subscribe), 0x87),
        (packet(0xa2, &unsubscribe), 0x11),
    ] {
        client.send(&bytes).await;
        match client.answer().await {
            Answer::Codes {
                codes, properties, ..
            } => {
                assert_eq!(codes, [code]);
                found.push(properties);
            }
            other => panic!("{other:02x?}"),
        }
    }
    found
}

#[tokio::test]
async fn a_client_that_wants_no_problem_information_gets_none() {
    let broker = broker(|_| {}).await;
    let packet = connect(5, "c", "web1").with(&[0x17, 0]);
    let mut client = packet.go(&broker).await;
    for properties in failures(&mut client).await {
        assert_eq!(properties, Properties::default());
    }
}

#[tokio::test]
async fn a_failure_says_why_in_words() {
    let broker = broker(|_| {}).await;
    for asked in [vec![], vec![0x17, 1]] {
        let packet = connect(5, "c", "web1").with(&asked);
        let mut client = packet.go(&broker).await;
        let found = failures(&mut client).await;
        let words = found[0].text(0x1f).expect("a reason string in PUBACK");
        assert!(words.len() > 5, "{words}");
        // Also when it is the end.
        client.publish(0, "wild/+", "x").await;
        match client.answer().await {
            Answer::Disconnect { reason, properties } => {
                assert_eq!(reason, 0x90);
                let words = properties.text(0x1f).expect("a reason string");
                assert!(words.len() > 5, "{words}");
            }
            other => panic!("{other:02x?}"),
        }
    }
}

#[tokio::test]
async fn a_reason_string_is_left_out_where_it_does_not_fit() {
    let broker = broker(|_| {}).await;
    let with = |most: u32| {
        let packet = connect(5, "c", "web1").with(&property::four(0x27, most));
        let mut packet = packet;
        packet.keep_alive = 60;
        packet
    };
    let mut client = with(10_000).go(&broker).await;
    client.publish(0b10, "other", "x").await;
    let (first, body) = client.frame().await.unwrap();
    let whole = packet(first, &body).len() as u32;
    assert!(whole > 40, "a reason string of some length: {whole}");
    // Exactly fitting, and one byte less.
    for (most, there) in [(whole, true), (whole - 1, false)] {
        let mut client = with(most).go(&broker).await;
        client.publish(0b10, "other", "x").await;
        let properties = client.expect_ack(0x40, 7, 0x87).await;
        assert_eq!(properties.get(0x1f).is_some(), there, "{most}");
    }
}
