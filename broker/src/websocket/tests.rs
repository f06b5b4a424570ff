//! Frames in all shapes, right and wrong.

use super::*;

use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A client's frame.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [0xa5, 0x5a, 0x0f, 0x99];
    let mut bytes = vec![first];
    match payload.len() {
        length @ 0..=125 => bytes.push(MASKED | u8::try_from(length).unwrap()),
        length @ 126..=0xffff => {
            bytes.push(MASKED | 126);
            bytes.extend(u16::try_from(length).unwrap().to_be_bytes());
        }
        length => {
            bytes.push(MASKED | 127);
            bytes.extend((length as u64).to_be_bytes());
        }
    }
    bytes.extend(mask);
    bytes.extend(
        payload
            .iter()
            .enumerate()
            .map(|(at, byte)| byte ^ mask[at % 4]),
    );
    bytes
}

/// All of MQTT's bytes in `pieces`.
fn decode(frames: &mut Frames, pieces: &[&[u8]]) -> Result<(Vec<u8>, Vec<Control>), Wrong> {
    let (mut all, mut controls) = (Vec::new(), Vec::new());
    for piece in pieces {
        let mut piece = piece.to_vec();
        let kept = frames.decode(&mut piece, &mut controls)?;
        all.extend(&piece[..kept]);
    }
    Ok((all, controls))
}

proptest! {
    #[test]
    fn bytes_arrive_whatever_the_frames_and_the_pieces(
        parts in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..300), any::<bool>(), any::<bool>()), 1..12),
        cuts in prop::collection::vec(1_usize..200, 0..40),
    ) {
        let (mut bytes, mut expected) = (Vec::new(), Vec::<u8>::new());
        let (mut pings, mut inside) = (0, false);
        for (payload, fin, ping) in &parts {
            let opcode = if inside { CONTINUATION } else { BINARY };
            bytes.extend(frame(opcode | if *fin { FIN } else { 0 }, payload));
            inside = !fin;
            expected.extend(payload);
            if *ping {
                bytes.extend(frame(FIN | PING, b"are you there"));
                pings += 1;
            }
        }
        let (mut pieces, mut rest) = (Vec::new(), &bytes[..]);
        for cut in cuts {
            let (piece, after) = rest.split_at(cut.min(rest.len()));
            pieces.push(piece);
            rest = after;
        }
        pieces.push(rest);
        let (all, controls) = decode(&mut Frames::new(1 << 20), &pieces).unwrap();
        prop_assert_eq!(all, expected);
        prop_assert_eq!(controls, (0..pings).map(|_| Control::Ping(b"are you there".to_vec())).collect::<Vec<_>>());
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..2_000)) {
        let _ = decode(&mut Frames::new(1_000), &[&bytes]);
    }
}

#[test]
fn what_breaks_the_rules_ends_it_with_the_right_code() {
    let check = |bytes: &[u8], code: u16| {
        let wrong = decode(&mut Frames::new(1_000), &[bytes]).expect_err("wrong");
        assert_eq!(wrong.code, code, "{wrong:?}");
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(decode(&mut Frames::new(1_000), &single), Err(wrong));
    };
    check(&frame(FIN | TEXT, b"hello"), 1003);
    check(&[FIN | BINARY, 3, 1, 2, 3], 1002);
    check(&frame(FIN | 0x40 | BINARY, b"x"), 1002);
    check(&frame(FIN | 3, b"x"), 1002);
    check(&frame(FIN | CONTINUATION, b"x"), 1002);
    let twice = [frame(BINARY, b"x"), frame(FIN | BINARY, b"x")].concat();
    check(&twice, 1002);
    check(&frame(PING, b"x"), 1002);
    check(&frame(FIN | PING, &[0; 126]), 1002);
    check(&[FIN | BINARY, MASKED | 126, 0, 125, 0, 0, 0, 0], 1002);
    check(
        &[
            FIN | BINARY,
            MASKED | 127,
            0,
            0,
            0,
            0,
            0,
            0,
            0xff,
            0xff,
            0,
            0,
            0,
            0,
        ],
        1002,
    );
    check(&frame(FIN | BINARY, &[0; 1_001]), 1009);
    check(
        &[
            FIN | BINARY,
            MASKED | 127,
            0x7f,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
        ],
        1009,
    );
    let long = [frame(BINARY, &[0; 600]), frame(CONTINUATION, &[0; 600])].concat();
    check(&long, 1009);
    check(&frame(FIN | CLOSE, &[3]), 1002);
    check(&frame(FIN | CLOSE, &[0x03, 0xed]), 1002);
    check(&frame(FIN | CLOSE, &[0x03, 0xe8, 0xff]), 1002);
}

#[tokio::test]
async fn pings_and_close_are_answered_and_the_rest_is_a_stream() {
    let (mut client, server) = tokio::io::duplex(1 << 16);
    let early = BytesMut::from(&frame(BINARY, b"ear")[..]);
    let mut socket = WebSocket::new(server, early, 1_000);
    client
        .write_all(&frame(FIN | CONTINUATION, b"ly"))
        .await
        .unwrap();
    client.write_all(&frame(FIN | PING, b"?")).await.unwrap();
    client
        .write_all(&frame(FIN | BINARY, b" bird"))
        .await
        .unwrap();
    let mut got = [0; 10];
    socket.read_exact(&mut got).await.unwrap();
    assert_eq!(&got, b"early bird");
    socket.write_all(&[7; 300]).await.unwrap();
    client
        .write_all(&frame(FIN | CLOSE, &[0x03, 0xe9]))
        .await
        .unwrap();
    assert_eq!(socket.read(&mut got).await.unwrap(), 0);
    socket.shutdown().await.unwrap();
    let mut sent = Vec::new();
    client.read_to_end(&mut sent).await.unwrap();
    let expected = [
        &[FIN | PONG, 1, b'?'][..],
        &[FIN | BINARY, 126, 1, 44],
        &[7; 300],
        &[FIN | CLOSE, 2, 0x03, 0xe9],
    ];
    assert_eq!(sent, expected.concat());
}

#[tokio::test]
async fn a_long_write_is_split_and_arrives() {
    let (mut client, server) = tokio::io::duplex(1_000);
    let mut socket = WebSocket::new(server, BytesMut::new(), 1_000);
    let long: Vec<u8> = (0..200_000_u32).map(|number| number as u8).collect();
    let sent = long.clone();
    let write = async move {
        socket.write_all(&sent).await.unwrap();
        socket.shutdown().await.unwrap();
    };
    let read = async {
        let mut bytes = Vec::new();
        client.read_to_end(&mut bytes).await.unwrap();
        bytes
    };
    let ((), bytes) = tokio::join!(write, read);
    let (mut rest, mut payload) = (&bytes[..], Vec::<u8>::new());
    while rest[0] == FIN | BINARY {
        let (length, header) = match rest[1] {
            126 => (usize::from(u16::from_be_bytes([rest[2], rest[3]])), 4),
            short => (usize::from(short), 2),
        };
        assert!(length <= MAX_SENT_BYTES);
        payload.extend(&rest[header..header + length]);
        rest = &rest[header + length..];
    }
    assert_eq!(rest, [FIN | CLOSE, 2, 0x03, 0xe8]);
    assert!(payload == long);
}

#[tokio::test]
async fn what_is_wrong_is_told_in_a_close_frame() {
    let (mut client, server) = tokio::io::duplex(1_000);
    let mut socket = WebSocket::new(server, BytesMut::new(), 1_000);
    client
        .write_all(&frame(FIN | TEXT, b"hello"))
        .await
        .unwrap();
    assert!(socket.read_u8().await.is_err());
    drop(socket);
    let mut sent = Vec::new();
    client.read_to_end(&mut sent).await.unwrap();
    assert_eq!(sent, [FIN | CLOSE, 2, 0x03, 0xeb]);
}
