//! Texts: what is no UTF-8, NUL, and what must be left as it is.

use crate::broker;
use crate::raw::{Broker, Client, connect, packet, properties, text};

/// Bytes that are no UTF-8: stray and missing continuations, overlong forms, surrogates, a code
/// point beyond the last one.
const ILL_FORMED: [&[u8]; 8] = [
    b"a\x80",
    b"a\xff",
    b"\xe2\x82",
    b"\xc0\x80",
    b"\xe0\x80\xaf",
    b"\xed\xa0\x80",
    b"\xed\xbf\xbf",
    b"\xf4\x90\x80\x80",
];

fn raw_text(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u16).to_be_bytes()[..], bytes].concat()
}

/// Puts `wrong` in each place of a packet that holds a text, one at a time.
async fn check(broker: &Broker, level: u8, wrong: &[u8]) {
    let wrong = raw_text(wrong);
    let none = properties(level, &[]);
    let mut later = vec![
        packet(0x30, &[&wrong[..], &none, b"x"].concat()),
        packet(0x82, &[&[0, 1][..], &none, &wrong, &[0]].concat()),
        packet(
            0x82,
            &[&[0, 1][..], &none, &text("a"), &[0], &wrong, &[0]].concat(),
        ),
        packet(0xa2, &[&[0, 1][..], &none, &wrong].concat()),
    ];
    if level == 5 {
        for property in [
            [&[0x03][..], &wrong].concat(),
            [&[0x08][..], &wrong].concat(),
            [&[0x26][..], &wrong, &text("v")].concat(),
            [&[0x26][..], &text("k"), &wrong].concat(),
        ] {
            let property = properties(5, &property);
            later.push(packet(0x30, &[&text("a")[..], &property].concat()));
        }
        for property in [
            [&[0x1f][..], &wrong].concat(),
            [&[0x26][..], &wrong, &text("v")].concat(),
        ] {
            let property = properties(5, &property);
            for first in [0x40, 0x50, 0x62, 0x70] {
                later.push(packet(first, &[&[0, 1, 0][..], &property].concat()));
            }
            later.push(packet(0xe0, &[&[0][..], &property].concat()));
        }
    }
    for bytes in later {
        let mut client = connect(level, "c", "admin").go(broker).await;
        client.send(&bytes).await;
        client.cut_off(0x81).await;
    }
    let head = |flags| [&text("MQTT")[..], &[level, flags, 0, 0], &none].concat();
    let (id, pw) = (text("c"), text("pw"));
    let mut first = vec![
        [&head(0b1100_0010)[..], &wrong, &text("admin"), &pw].concat(),
        [&head(0b1100_0010)[..], &id, &wrong, &pw].concat(),
        [
            &head(0b1100_0110)[..],
            &id,
            &none,
            &wrong,
            &pw,
            &text("admin"),
            &pw,
        ]
        .concat(),
        [
            &wrong[..],
            &head(0b1100_0010)[6..],
            &id,
            &text("admin"),
            &pw,
        ]
        .concat(),
    ];
    if level == 5 {
        for id in [0x15, 0x26] {
            let property = properties(5, &[&[id][..], &wrong, &wrong].concat());
            let head: Vec<u8> = [&text("MQTT")[..], &[5, 2, 0, 0], &property].concat();
            first.push([head, text("c")].concat());
        }
    }
    for body in first {
        let mut client = Client::new(broker.address, level).await;
        client.send(&packet(0x10, &body)).await;
        if let Some((first, answer)) = client.frame().await {
            assert_eq!((level, first), (5, 0x20));
            assert!(answer[1] >= 0x80, "{answer:02x?}");
            assert_eq!(client.frame().await, None);
        }
    }
}

#[tokio::test]
async fn ill_formed_text_closes_the_connection() {
    let broker = broker(|_| {}).await;
    for level in [4, 5] {
        for wrong in ILL_FORMED {
            check(&broker, level, wrong).await;
        }
    }
}

#[tokio::test]
async fn nul_in_a_text_closes_the_connection() {
    let broker = broker(|_| {}).await;
    for level in [4, 5] {
        check(&broker, level, b"a\0b").await;
        check(&broker, level, b"\0").await;
    }
}

#[tokio::test]
async fn text_is_neither_stripped_nor_normalized() {
    let broker = broker(|_| {}).await;
    // A byte order mark, composed and decomposed letters, the longest code point, spaces.
    let topics = [
        "a",
        "\u{feff}a",
        "A",
        "a ",
        " a",
        "\u{e9}",
        "e\u{301}",
        "\u{10ffff}",
        "a/",
        "/a",
        "a//",
    ];
    for level in [4, 5] {
        let mut reader = connect(level, "r", "admin").go(&broker).await;
        let mut writer = connect(level, "w", "admin").go(&broker).await;
        for (index, filter) in topics.iter().enumerate() {
            reader.subscribe(filter, 0).await;
            for topic in topics {
                writer.put(0b10, topic, &[], topic).await;
            }
            let message = reader.message().await;
            assert_eq!((&*message.topic, &*message.payload), (*filter, *filter));
            reader.nothing_waits().await;
            assert_eq!(
                reader.unsubscribe_all(&[topics[index]]).await.len(),
                usize::from(level == 5)
            );
        }
    }
}
