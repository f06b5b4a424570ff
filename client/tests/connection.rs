//! A connection against a broker of a few bytes: it comes back, and never pretends to be there.

use std::time::Duration;

use hostbus_client::{BusConfig, ClientError, Connection, Event, Options};
use hostbus_wire::QoS;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

const DEADLINE: Duration = Duration::from_secs(20);

/// Takes one client: reads its CONNECT and SUBSCRIBE, and accepts both.
async fn welcome(listener: &TcpListener) -> TcpStream {
    let (mut stream, _) = listener.accept().await.expect("a client comes");
    assert_eq!(packet(&mut stream).await[0] >> 4, 1, "CONNECT");
    stream.write_all(&[0x20, 2, 0, 0]).await.expect("CONNACK");
    let subscribe = packet(&mut stream).await;
    assert_eq!(subscribe[0] >> 4, 8, "SUBSCRIBE");
    let ack = [0x90, 3, subscribe[2], subscribe[3], 0];
    stream.write_all(&ack).await.expect("SUBACK");
    stream
}

/// One packet of less than 128 bytes.
async fn packet(stream: &mut TcpStream) -> Vec<u8> {
    let mut head = [0; 2];
    stream.read_exact(&mut head).await.expect("a packet's head");
    let mut packet = head.to_vec();
    packet.resize(2 + usize::from(head[1]), 0);
    stream.read_exact(&mut packet[2..]).await.expect("a packet");
    packet
}

async fn bus() -> (TcpListener, Connection) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    let config = BusConfig {
        url: format!("mqtt://{address}"),
        ..BusConfig::default()
    };
    let options = Options {
        component: "test".to_owned(),
        filters: vec![("a/#".to_owned(), QoS::AtMostOnce)],
        will: None,
        ..Options::default()
    };
    let connection = Connection::open(&config, options).expect("the settings are good");
    (listener, connection)
}

async fn next(connection: &mut Connection) -> Event {
    timeout(DEADLINE, connection.next())
        .await
        .expect("an event in time")
}

#[tokio::test]
async fn nothing_is_published_before_the_broker_has_taken_us() {
    let (listener, mut connection) = bus().await;
    let sender = connection.sender();
    let refused = sender.publish("a", QoS::AtMostOnce, false, "x").await;
    assert!(matches!(refused, Err(ClientError::NotConnected)));
    let mut stream = welcome(&listener).await;
    assert!(matches!(next(&mut connection).await, Event::Connected));
    sender
        .publish("a", QoS::AtMostOnce, true, "x")
        .await
        .unwrap();
    assert_eq!(packet(&mut stream).await, b"\x31\x04\x00\x01ax");
}

#[tokio::test]
async fn a_lost_connection_is_told_and_comes_back_with_its_subscriptions() {
    let (listener, mut connection) = bus().await;
    let sender = connection.sender();
    let stream = welcome(&listener).await;
    assert!(matches!(next(&mut connection).await, Event::Connected));
    drop(stream);
    assert!(matches!(next(&mut connection).await, Event::Disconnected));
    assert!(!sender.is_connected());
    let mut stream = welcome(&listener).await;
    assert!(matches!(next(&mut connection).await, Event::Connected));
    stream
        .write_all(b"\x31\x06\x00\x03a/bx")
        .await
        .expect("PUBLISH");
    let Event::Message(message) = next(&mut connection).await else {
        panic!("no message");
    };
    assert_eq!(
        (message.topic.as_str(), &message.payload[..]),
        ("a/b", &b"x"[..])
    );
    assert!(message.retained);
}

#[tokio::test]
async fn a_filter_that_is_added_is_subscribed_to_and_is_no_new_connection() {
    let (listener, mut connection) = bus().await;
    let sender = connection.sender();
    let early = sender.subscribe("more", QoS::AtMostOnce);
    assert!(matches!(early, Err(ClientError::NotConnected)));
    let mut stream = welcome(&listener).await;
    assert!(matches!(next(&mut connection).await, Event::Connected));
    sender.subscribe("more", QoS::AtLeastOnce).unwrap();
    let subscribe = packet(&mut stream).await;
    assert_eq!(subscribe[0], 0x82, "SUBSCRIBE");
    assert_eq!(&subscribe[4..], b"\x00\x04more\x01");
    // Refused or not, it changes nothing else.
    let ack = [0x90, 3, subscribe[2], subscribe[3], 0x80];
    stream.write_all(&ack).await.expect("SUBACK");
    stream
        .write_all(b"\x31\x06\x00\x03a/bx")
        .await
        .expect("PUBLISH");
    assert!(matches!(next(&mut connection).await, Event::Message(_)));
}

#[tokio::test]
async fn closing_sends_what_was_published_and_says_good_bye() {
    let (listener, mut connection) = bus().await;
    let mut stream = welcome(&listener).await;
    assert!(matches!(next(&mut connection).await, Event::Connected));
    let sender = connection.sender();
    sender
        .publish("a", QoS::AtLeastOnce, true, "bye")
        .await
        .unwrap();
    let broker = async {
        let publish = packet(&mut stream).await;
        assert_eq!(publish[0], 0x33, "PUBLISH");
        // The good-bye waits for this answer.
        let early = timeout(Duration::from_millis(200), packet(&mut stream)).await;
        assert!(early.is_err(), "{early:?}");
        let ack = [0x40, 2, publish[5], publish[6]];
        stream.write_all(&ack).await.expect("PUBACK");
        assert_eq!(packet(&mut stream).await, [0xe0, 0], "DISCONNECT");
    };
    tokio::join!(connection.close(), broker);
    assert!(matches!(
        sender.publish("a", QoS::AtMostOnce, false, "x").await,
        Err(ClientError::NotConnected)
    ));
}

#[tokio::test]
async fn closing_does_not_wait_for_a_broker_that_is_away() {
    let (listener, connection) = bus().await;
    drop(listener);
    timeout(DEADLINE, connection.close()).await.unwrap();
}

#[tokio::test]
async fn an_acknowledged_publish_has_the_brokers_word_or_fails() {
    for answers in [true, false] {
        let (listener, mut connection) = bus().await;
        let mut stream = welcome(&listener).await;
        assert!(matches!(next(&mut connection).await, Event::Connected));
        let sender = connection.sender();
        let publish = sender.publish_acknowledged("a", QoS::AtLeastOnce, false, "x");
        let broker = async {
            let publish = packet(&mut stream).await;
            assert_eq!(publish[0], 0x32, "PUBLISH");
            if answers {
                let ack = [0x40, 2, publish[5], publish[6]];
                stream.write_all(&ack).await.expect("PUBACK");
                return Some(stream);
            }
            None
        };
        let both = async { tokio::join!(publish, broker) };
        let (published, stream) = timeout(DEADLINE, both).await.expect("an end in time");
        assert_eq!(published.is_ok(), answers);
        assert_eq!(stream.is_some(), answers);
    }
}
