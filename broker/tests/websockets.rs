//! MQTT in WebSockets, with and without TLS, right and wrong.

#![expect(clippy::unwrap_used, reason = "test code")]

mod listening;
mod raw;

use std::net::SocketAddr;

use hostbus_broker::Config;
use hostbus_broker::listeners::{self, TransportKind};
use listening::{CONNACK, authority, listening, listening_with, plain, read_packet};
use raw::{DEADLINE, connect, packet, text};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Asks for a WebSocket; the answer's head.
async fn upgrade(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    path: &str,
    protocol: &str,
) -> String {
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{protocol}\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        let byte = timeout(DEADLINE, stream.read_u8()).await.unwrap();
        answer.push(byte.unwrap());
    }
    String::from_utf8(answer).unwrap()
}

const MQTT: &str = "Sec-WebSocket-Protocol: mqtt\r\n";

/// A client's frame of less than 126 bytes.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![
        first,
        0x80 | u8::try_from(payload.len()).unwrap(),
        1,
        2,
        3,
        4,
    ];
    assert!(payload.len() < 126);
    bytes.extend(
        payload
            .iter()
            .zip([1, 2, 3, 4].iter().cycle())
            .map(|(byte, mask)| byte ^ mask),
    );
    bytes
}

/// The next frame from the broker, of less than 126 bytes.
async fn read_frame(stream: &mut (impl AsyncRead + Unpin)) -> (u8, Vec<u8>) {
    let read = read_packet(stream).await;
    (read[0], read[2..].to_vec())
}

async fn websocket(address: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let answer = upgrade(&mut stream, "/mqtt", MQTT).await;
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    assert!(
        answer.contains("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"),
        "{answer}"
    );
    assert!(
        answer.contains("Sec-WebSocket-Protocol: mqtt\r\n"),
        "{answer}"
    );
    stream
}

#[tokio::test]
async fn packets_span_frames_and_share_them() {
    let (broker, addresses) = listening(vec![plain(TransportKind::Ws)]).await;
    let mut stream = websocket(addresses[0]).await;
    let bytes = connect(4, "", "viewer").bytes();
    // A fragmented message, a byte a frame, a ping in the middle.
    for (at, byte) in bytes.iter().enumerate() {
        let opcode = if at == 0 { 2 } else { 0 };
        let fin = if at + 1 == bytes.len() { 0x80 } else { 0 };
        stream
            .write_all(&frame(fin | opcode, &[*byte]))
            .await
            .unwrap();
        if at == 3 {
            stream.write_all(&frame(0x89, b"hi")).await.unwrap();
        }
    }
    assert_eq!(read_frame(&mut stream).await, (0x8a, b"hi".to_vec()));
    assert_eq!(read_frame(&mut stream).await, (0x82, CONNACK.to_vec()));
    // Two packets and a half in one frame.
    let mut body = vec![0, 9];
    body.extend(text("hostbus/v1/+/+/info"));
    body.push(0);
    let subscribe = packet(0x82, &body);
    let both = [&[0xc0, 0][..], &subscribe, &[0xc0]].concat();
    stream.write_all(&frame(0x82, &both)).await.unwrap();
    let mut got = Vec::new();
    while got.len() < 7 {
        got.extend(read_frame(&mut stream).await.1);
    }
    assert_eq!(got, [0xd0, 0, 0x90, 3, 0, 9, 0]);
    stream.write_all(&frame(0x82, &[0])).await.unwrap();
    assert_eq!(read_frame(&mut stream).await, (0x82, vec![0xd0, 0]));
    let mut publisher = connect(5, "p", "web1").go(&broker).await;
    publisher
        .publish(0, "hostbus/v1/home/web1/info", "hello")
        .await;
    let (first, message) = read_frame(&mut stream).await;
    assert_eq!(
        (first, &message[message.len() - 5..]),
        (0x82, &b"hello"[..])
    );
    // DISCONNECT and the close of the WebSocket, answered by a close.
    let end = [frame(0x82, &[0xe0, 0]), frame(0x88, &[0x03, 0xe8])].concat();
    stream.write_all(&end).await.unwrap();
    assert_eq!(read_frame(&mut stream).await, (0x88, vec![0x03, 0xe8]));
    assert_eq!(
        timeout(DEADLINE, stream.read(&mut [0]))
            .await
            .unwrap()
            .unwrap(),
        0
    );
}

#[tokio::test]
async fn what_is_no_mqtt_in_a_websocket_is_told_so() {
    async fn check(address: SocketAddr, bytes: &[u8], code: u16) {
        let mut stream = websocket(address).await;
        stream.write_all(bytes).await.unwrap();
        let expected = (0x88, code.to_be_bytes().to_vec());
        assert_eq!(read_frame(&mut stream).await, expected, "{bytes:02x?}");
        let end = timeout(DEADLINE, stream.read(&mut [0])).await.unwrap();
        assert_eq!(end.unwrap_or(0), 0);
    }
    let listener = plain(TransportKind::Ws);
    let (_broker, addresses) = listening_with(vec![listener], |config| {
        config.limits.max_packet_bytes = 1_000;
    })
    .await;
    check(addresses[0], &frame(0x81, b"hello"), 1003).await;
    check(addresses[0], &[0x82, 2, 0xc0, 0], 1002).await;
    check(addresses[0], &frame(0xc2, b"x"), 1002).await;
    // 1,006 bytes, and 256 MB.
    check(addresses[0], &[0x82, 0xfe, 3, 0xee, 0, 0, 0, 0], 1009).await;
    check(
        addresses[0],
        &[0x82, 0xff, 0, 0, 0, 0, 0x10, 0, 0, 0, 0, 0, 0, 0],
        1009,
    )
    .await;
}

#[tokio::test]
async fn a_wrong_http_request_gets_an_http_answer() {
    let mut listener = plain(TransportKind::Ws);
    listener.path = Some("/bus".to_owned());
    let (broker, addresses) = listening(vec![listener]).await;
    for (path, protocol, status) in [
        ("/bus", "", "400 "),
        ("/bus", "Sec-WebSocket-Protocol: chat\r\n", "400 "),
        ("/mqtt", MQTT, "404 "),
        ("/bus", MQTT, "101 "),
    ] {
        let mut stream = TcpStream::connect(addresses[0]).await.unwrap();
        let answer = upgrade(&mut stream, path, protocol).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")),
            "{answer}"
        );
    }
    let mut listener = plain(TransportKind::Ws);
    listener.address = addresses[0];
    let urls = listeners::urls(
        &Config {
            listeners: vec![listener],
            ..Config::default()
        },
        &[broker.address, addresses[0]],
    );
    assert_eq!(urls[1], format!("ws://{}/mqtt", addresses[0]));
}

#[tokio::test]
async fn a_websocket_in_tls_serves_too_and_is_closed_in_order() {
    let authority = authority();
    let (broker, addresses) = listening(vec![authority.listener(TransportKind::Wss)]).await;
    let mut stream = authority.dial(addresses[0]).await.unwrap();
    let answer = upgrade(&mut stream, "/mqtt", MQTT).await;
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    let bytes = connect(5, "c", "viewer").bytes();
    stream.write_all(&frame(0x82, &bytes)).await.unwrap();
    assert_eq!(read_frame(&mut stream).await.1[0], 0x20);
    let stopped = tokio::spawn(broker.running.stop());
    let (_, told) = read_frame(&mut stream).await;
    assert_eq!((told[0], told[2]), (0xe0, 0x8b));
    assert_eq!(read_frame(&mut stream).await, (0x88, vec![0x03, 0xe8]));
    assert_eq!(
        timeout(DEADLINE, stream.read(&mut [0]))
            .await
            .unwrap()
            .unwrap(),
        0
    );
    stopped.await.unwrap().unwrap();
}
