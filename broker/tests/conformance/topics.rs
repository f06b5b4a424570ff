//! Topic names and filters: which are valid, and which match.

use crate::broker;
use crate::raw::{connect, packet, properties, text};

/// Filters with topics that they match and topics that they don't.
const MATCHES: &[(&str, &[&str], &[&str])] = &[
    ("a", &["a"], &["A", "a/", "/a", "b", "a/b"]),
    ("a/b", &["a/b"], &["a", "a/b/c", "a/bc"]),
    ("a/+", &["a/b", "a/"], &["a", "a/b/c", "ab/c"]),
    ("+", &["a", "b"], &["/a", "a/b"]),
    ("/+", &["/a", "/"], &["a", "a/b", "/a/b"]),
    ("+/+", &["/a", "a/b", "a/", "/"], &["a", "a/b/c"]),
    ("a/+/c", &["a/b/c", "a//c"], &["a/c", "a/b/c/d", "a/b/b/c"]),
    ("+/b/#", &["a/b", "a/b/c", "/b/c/d"], &["b", "a/c/b"]),
    ("a/#", &["a", "a/b", "a/b/c", "a/"], &["ab", "b/a", "/a"]),
    ("#", &["a", "/a", "a/b/c", "/"], &[]),
    ("a//b", &["a//b"], &["a/b"]),
    ("a/$b", &["a/$b"], &["a/b"]),
];

#[tokio::test]
async fn filters_match_what_they_should_and_nothing_else() {
    let broker = broker(|_| {}).await;
    for level in [4, 5] {
        let mut writer = connect(level, "w", "admin").go(&broker).await;
        for (filter, right, wrong) in MATCHES {
            let mut reader = connect(level, "r", "admin").go(&broker).await;
            assert_eq!(reader.subscribe(filter, 0).await, 0);
            for topic in wrong.iter().chain(*right) {
                writer.put(0b11, topic, &[], topic).await;
            }
            for topic in *right {
                let message = reader.message().await;
                assert_eq!((&*message.topic, message.first), (*topic, 0x30), "{filter}");
            }
            reader.nothing_waits().await;
            // And those that are retained.
            reader.subscribe(filter, 0).await;
            let mut topics = Vec::new();
            for _ in *right {
                topics.push(reader.message().await.topic);
            }
            reader.nothing_waits().await;
            topics.sort_unstable();
            let mut expected = right.to_vec();
            expected.sort_unstable();
            assert_eq!(topics, expected, "retained for {filter}");
            for topic in wrong.iter().chain(*right) {
                writer.put(0b11, topic, &[], "").await;
            }
        }
    }
}

#[tokio::test]
async fn a_leading_wildcard_does_not_match_topics_that_begin_with_a_dollar() {
    let broker = broker(|config| config.sys_interval_seconds = 1).await;
    for level in [4, 5] {
        let mut blind = connect(level, "blind", "admin").go(&broker).await;
        let mut seeing = connect(level, "seeing", "admin").go(&broker).await;
        for filter in ["#", "+/#", "+/broker/#", "+/broker/uptime"] {
            blind.subscribe(filter, 0).await;
        }
        seeing.subscribe("$SYS/broker/uptime", 0).await;
        // Retained ones, and those that are published while it is subscribed.
        for _ in 0..3 {
            assert_eq!(seeing.message().await.topic, "$SYS/broker/uptime");
        }
        // The broker's health may come, which stands elsewhere.
        blind.send(&[0xc0, 0]).await;
        loop {
            let (first, body) = blind.frame().await.unwrap();
            if first == 0xd0 {
                break;
            }
            let topic = blind.parse(first, &body).topic;
            assert!(topic.starts_with("hostbus/"), "{topic}");
        }
        // A wildcard further on does.
        for filter in ["$SYS/#", "$SYS/+/uptime"] {
            let mut client = connect(level, "c", "admin").go(&broker).await;
            client.subscribe(filter, 0).await;
            assert!(client.message().await.topic.starts_with("$SYS/"));
        }
    }
}

#[tokio::test]
async fn misplaced_wildcards_in_a_filter_close_the_connection() {
    let broker = broker(|_| {}).await;
    for level in [4, 5] {
        for filter in [
            "a#", "a/b#", "#a", "#/a", "a/#/b", "a+", "+a", "a/+b", "a/b+/c", "##", "++",
        ] {
            let none = properties(level, &[]);
            for bytes in [
                packet(0x82, &[&[0, 1][..], &none, &text(filter), &[0]].concat()),
                packet(0xa2, &[&[0, 1][..], &none, &text(filter)].concat()),
            ] {
                let mut client = connect(level, "c", "admin").go(&broker).await;
                client.send(&bytes).await;
                client.cut_off(0x8f).await;
            }
        }
    }
}

#[tokio::test]
async fn wildcards_in_a_topic_name_close_the_connection() {
    let broker = broker(|_| {}).await;
    for level in [4, 5] {
        for topic in ["#", "+", "a/#", "a/+/b", "a+", "a#b"] {
            let mut client = connect(level, "c", "admin").go(&broker).await;
            client.publish(0, topic, "x").await;
            client.cut_off(0x90).await;
        }
    }
}

#[tokio::test]
async fn empty_topics_and_filters_close_the_connection() {
    let broker = broker(|_| {}).await;
    for level in [4, 5] {
        let none = properties(level, &[]);
        for (bytes, reason) in [
            (packet(0x30, &[&text("")[..], &none, b"x"].concat()), 0x82),
            (
                packet(0x82, &[&[0, 1][..], &none, &text(""), &[0]].concat()),
                0x8f,
            ),
            (
                packet(0xa2, &[&[0, 1][..], &none, &text("")].concat()),
                0x8f,
            ),
        ] {
            let mut client = connect(level, "c", "admin").go(&broker).await;
            client.send(&bytes).await;
            client.cut_off(reason).await;
        }
    }
}

#[tokio::test]
async fn the_longest_topic_is_carried() {
    let topic = "x".repeat(65_535);
    let broker = broker(|config| config.limits.max_topic_bytes = 65_535).await;
    for level in [4, 5] {
        let mut client = connect(level, "c", "admin").go(&broker).await;
        assert_eq!(client.subscribe(&topic, 0).await, 0);
        client.publish(0, &topic, "x").await;
        assert_eq!(client.message().await.topic, topic);
    }
}
