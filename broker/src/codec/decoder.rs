//! Takes frames out of a growing buffer and hands each to its packet type.
//!
//! A frame up to [`COPY_BELOW_BYTES`] is copied out of the buffer, so that a message that waits in
//! a queue or as retained never holds a whole read buffer in memory; a longer one takes its part of
//! the buffer along without a copy. Texts and payload are then slices of the frame.
//!
//! What a single packet can show to be wrong is refused here. What depends on the session (rights,
//! topic aliases, quotas) is the connection's matter.

use bytes::{Buf, Bytes, BytesMut};

use super::body;
use super::error::DecodeError;
use super::packet::{Packet, Version};
use super::reader::Reader;

/// Frames up to this length are copied out of the read buffer.
pub const COPY_BELOW_BYTES: usize = 16 * 1024;

/// The longest CONNECT, its fixed header not counted: no client is known yet that could answer for
/// more. A will has room for about 60 KiB in it, beside client id, names and password.
pub const MAX_CONNECT_BYTES: usize = 64 * 1024;

/// Takes packets out of one client's stream of bytes.
#[derive(Debug)]
pub struct Decoder {
    version: Option<Version>,
    max_packet_bytes: usize,
}

impl Decoder {
    /// A decoder for a new connection: the first packet must be CONNECT, and it sets the version.
    /// Packets that claim to be longer than `max_packet_bytes`, or CONNECT than
    /// [`MAX_CONNECT_BYTES`], are refused before they arrive.
    #[must_use]
    pub fn new(max_packet_bytes: usize) -> Self {
        Self {
            version: None,
            max_packet_bytes,
        }
    }

    /// A decoder for packets of this version without a CONNECT before them.
    pub(crate) fn of(version: Version) -> Self {
        Self {
            version: Some(version),
            max_packet_bytes: usize::MAX,
        }
    }

    /// The version of the connection, as far as it is known.
    #[must_use]
    pub fn version(&self) -> Option<Version> {
        self.version
    }

    /// Takes the next packet out of `buffer`; `None` when it has not arrived whole.
    ///
    /// # Errors
    /// What is wrong with the bytes. The stream can't be read any further.
    pub fn decode(&mut self, buffer: &mut BytesMut) -> Result<Option<Packet>, DecodeError> {
        let Some((header_bytes, body_bytes)) = self.frame_length(buffer)? else {
            return Ok(None);
        };
        let total = header_bytes + body_bytes;
        if buffer.len() < total {
            return Ok(None);
        }
        let first = buffer[0];
        let body = if total <= COPY_BELOW_BYTES {
            let body = Bytes::copy_from_slice(&buffer[header_bytes..total]);
            buffer.advance(total);
            body
        } else {
            buffer.split_to(total).freeze().slice(header_bytes..)
        };
        let packet = self.packet(first, body)?;
        // 3.1.1 does not ask for the shortest form, and CONNECT tells the version.
        let shortest = header_bytes == 2 || body_bytes >> (7 * (header_bytes - 2)) > 0;
        if !shortest && self.version == Some(Version::V5) {
            return Err(DecodeError::Malformed("length not in its shortest form"));
        }
        Ok(Some(packet))
    }

    /// The lengths of the fixed header and of what follows it, once they can be read.
    fn frame_length(&self, buffer: &[u8]) -> Result<Option<(usize, usize)>, DecodeError> {
        let Some(&first) = buffer.first() else {
            return Ok(None);
        };
        self.check_type(first)?;
        let max_bytes = if self.version.is_some() {
            self.max_packet_bytes
        } else {
            self.max_packet_bytes.min(MAX_CONNECT_BYTES)
        };
        let mut body_bytes = 0;
        for (index, byte) in buffer.iter().skip(1).take(4).enumerate() {
            body_bytes |= usize::from(byte & 0x7f) << (7 * index);
            if byte & 0x80 == 0 {
                if body_bytes > max_bytes {
                    return Err(DecodeError::TooLarge {
                        bytes: body_bytes,
                        max_bytes,
                    });
                }
                return Ok(Some((index + 2, body_bytes)));
            }
        }
        if buffer.len() > 4 {
            return Err(DecodeError::Malformed(
                "remaining length of more than 4 bytes",
            ));
        }
        Ok(None)
    }

    /// Checks the first byte: type and reserved flags.
    fn check_type(&self, first: u8) -> Result<(), DecodeError> {
        let (kind, flags) = (first >> 4, first & 0x0f);
        if (kind == 1) == self.version.is_some() {
            return Err(DecodeError::Protocol(if kind == 1 {
                "second CONNECT"
            } else {
                "the first packet is not CONNECT"
            }));
        }
        match kind {
            0 => return Err(DecodeError::Malformed("reserved packet type 0")),
            2 | 9 | 11 | 13 => {
                return Err(DecodeError::Protocol("packet that only a server sends"));
            }
            15 if self.version != Some(Version::V5) => {
                return Err(DecodeError::Malformed("reserved packet type 15"));
            }
            _ => {}
        }
        // MQTT 3.1 let a client set DUP where 3.1.1 reserved the bit.
        let flags = if self.version == Some(Version::V31) {
            flags & !0b1000
        } else {
            flags
        };
        let valid = match kind {
            3 => flags & 0b0110 != 0b0110,
            6 | 8 | 10 => flags == 0b0010,
            _ => flags == 0,
        };
        if valid {
            Ok(())
        } else {
            Err(DecodeError::Malformed("reserved flags, or QoS 3"))
        }
    }

    fn packet(&mut self, first: u8, body: Bytes) -> Result<Packet, DecodeError> {
        let mut reader = Reader::new(body);
        let v5 = self.version == Some(Version::V5);
        let packet = match first >> 4 {
            1 => {
                let connect = body::connect(&mut reader)?;
                self.version = Some(connect.version);
                Packet::Connect(Box::new(connect))
            }
            3 => return body::publish(reader, first, v5).map(Packet::Publish),
            4 => Packet::PubAck(body::ack(&mut reader, v5)?),
            5 => Packet::PubRec(body::ack(&mut reader, v5)?),
            6 => Packet::PubRel(body::ack(&mut reader, v5)?),
            7 => Packet::PubComp(body::ack(&mut reader, v5)?),
            8 => Packet::Subscribe(body::subscribe(&mut reader, v5)?),
            10 => Packet::Unsubscribe(body::unsubscribe(&mut reader, v5)?),
            12 => Packet::PingReq,
            14 => Packet::Disconnect(body::disconnect(&mut reader, v5)?),
            // Enhanced authentication is never offered: what AUTH holds does not matter.
            15 => return Ok(Packet::Auth),
            _ => return Err(DecodeError::Malformed("unknown packet type")),
        };
        reader.end()?;
        Ok(packet)
    }
}

#[cfg(test)]
mod tests {
    use super::super::fuzz_decode;
    use super::super::reason::Reason;
    use super::*;
    use proptest::prelude::*;

    /// CONNECT of client `c`, without anything else.
    fn connect_bytes(level: u8) -> Vec<u8> {
        let mut body = vec![0, 4, b'M', b'Q', b'T', b'T', level, 2, 0, 0];
        if level == 5 {
            body.push(0);
        }
        body.extend([0, 1, b'c']);
        frame(0x10, &body)
    }

    fn frame(first: u8, body: &[u8]) -> Vec<u8> {
        let mut bytes = vec![first, u8::try_from(body.len()).unwrap()];
        bytes.extend(body);
        bytes
    }

    /// What the packet in `bytes` decodes to, after CONNECT at `level`.
    fn second(level: u8, bytes: &[u8]) -> Result<Option<Packet>, DecodeError> {
        let mut decoder = Decoder::new(1024);
        let mut buffer = BytesMut::from(&connect_bytes(level)[..]);
        decoder.decode(&mut buffer).unwrap().unwrap();
        buffer.extend_from_slice(bytes);
        decoder.decode(&mut buffer)
    }

    fn first(bytes: &[u8]) -> Result<Option<Packet>, DecodeError> {
        Decoder::new(1024).decode(&mut BytesMut::from(bytes))
    }

    #[test]
    fn packets_that_are_wrong_are_refused_with_the_right_reason() {
        let check = |level: u8, bytes: &[u8], reason: Reason| {
            let error = second(level, bytes).expect_err(&format!("{bytes:02x?}"));
            assert_eq!(error.reason(), reason, "{bytes:02x?}: {error}");
        };
        let (malformed, protocol) = (Reason::MALFORMED_PACKET, Reason::PROTOCOL_ERROR);
        for level in [4, 5] {
            check(level, &connect_bytes(level), protocol);
            check(level, &[0x00, 0], malformed);
            check(level, &[0x20, 2, 0, 0], protocol);
            check(level, &[0x90, 3, 0, 1, 0], protocol);
            check(level, &[0xb0, 2, 0, 1], protocol);
            check(level, &[0xd0, 0], protocol);
            check(level, &[0x36, 5, 0, 1, b'a', 0, 1], malformed);
            check(level, &[0x38, 4, 0, 1, b'a', 0], malformed);
            check(level, &[0x80, 6, 0, 1, 0, 1, b'a', 0], malformed);
            check(level, &[0x60, 2, 0, 1], malformed);
            check(level, &[0xc1, 0], malformed);
            check(level, &[0xc0, 1, 0], malformed);
            check(level, &[0x32, 5, 0, 1, b'a', 0, 0], malformed);
            check(level, &[0x40, 2, 0, 0], malformed);
            check(level, &[0x30, 4, 0, 1, b'+', 0], Reason::TOPIC_NAME_INVALID);
            check(
                level,
                &[0x30, 5, 0, 2, b'a', b'#', 0],
                Reason::TOPIC_NAME_INVALID,
            );
            check(level, &[0x30, 3, 0, 0, 0], protocol);
            check(level, &[0x30, 4, 0, 1, 0, 0], malformed);
            check(level, &[0x30, 4, 0, 1, 0xff, 0], malformed);
            check(level, &[0x30, 6, 0, 3, 0xed, 0xa0, 0x80, 0], malformed);
            check(level, &[0x30, 2, 0, 9], malformed);
            check(level, &[0x30, 0xff, 0xff, 0xff, 0xff, 1], malformed);
            check(
                level,
                &[0x30, 0xff, 0xff, 0xff, 0x7f],
                Reason::PACKET_TOO_LARGE,
            );
        }
        check(4, &[0x82, 2, 0, 1], protocol);
        check(4, &[0xa2, 2, 0, 1], protocol);
        check(4, &[0x82, 6, 0, 1, 0, 1, b'a', 3], malformed);
        check(4, &[0x82, 6, 0, 1, 0, 1, b'a', 4], malformed);
        check(
            4,
            &[0x82, 7, 0, 1, 0, 2, b'a', b'#', 0],
            Reason::TOPIC_FILTER_INVALID,
        );
        check(4, &[0xf0, 0], malformed);
        check(5, &[0x82, 7, 0, 1, 0, 0, 1, b'a', 0xc0], malformed);
        check(5, &[0x82, 7, 0, 1, 0, 0, 1, b'a', 0x30], protocol);
        check(5, &[0x82, 3, 0, 1, 0], protocol);
        // Subscription identifier 0, and twice.
        check(5, &[0x82, 9, 0, 1, 2, 0x0b, 0, 0, 1, b'a', 0], protocol);
        check(
            5,
            &[0x82, 11, 0, 1, 4, 0x0b, 1, 0x0b, 1, 0, 1, b'a', 0],
            protocol,
        );
        // PUBLISH: unknown property, one of CONNECT, alias 0, expiry twice, payload format 2.
        check(5, &[0x30, 6, 0, 1, b'a', 2, 0x7e, 0], malformed);
        check(5, &[0x30, 9, 0, 1, b'a', 5, 0x11, 0, 0, 0, 1], malformed);
        check(
            5,
            &[0x30, 7, 0, 1, b'a', 3, 0x23, 0, 0],
            Reason::TOPIC_ALIAS_INVALID,
        );
        check(
            5,
            &[0x30, 14, 0, 1, b'a', 10, 2, 0, 0, 0, 1, 2, 0, 0, 0, 1],
            protocol,
        );
        check(5, &[0x30, 6, 0, 1, b'a', 2, 1, 2], protocol);
        // Properties longer than the packet, and a length not in its shortest form.
        check(5, &[0x30, 4, 0, 1, b'a', 9], malformed);
        check(5, &[0x30, 5, 0, 1, b'a', 0x80, 0], malformed);
    }

    #[test]
    fn a_wrong_connect_is_refused() {
        let check = |bytes: &[u8], reason: Reason| {
            let error = first(bytes).expect_err(&format!("{bytes:02x?}"));
            assert_eq!(error.reason(), reason, "{bytes:02x?}: {error}");
        };
        check(&[0xc0, 0], Reason::PROTOCOL_ERROR);
        check(&[0x30, 3, 0, 1, b'a'], Reason::PROTOCOL_ERROR);
        check(&connect_bytes(6), Reason::UNSUPPORTED_PROTOCOL_VERSION);
        check(&connect_bytes(3), Reason::UNSUPPORTED_PROTOCOL_VERSION);
        let changed = |at: usize, byte: u8| {
            let mut bytes = connect_bytes(4);
            bytes[at] = byte;
            bytes
        };
        check(&changed(0, 0x11), Reason::MALFORMED_PACKET);
        check(&changed(4, b'X'), Reason::MALFORMED_PACKET);
        check(&changed(9, 0x03), Reason::MALFORMED_PACKET);
        check(&changed(9, 0x0a), Reason::MALFORMED_PACKET);
        check(&changed(9, 0x22), Reason::MALFORMED_PACKET);
        check(&changed(9, 0x1e), Reason::MALFORMED_PACKET);
        check(&changed(9, 0x42), Reason::MALFORMED_PACKET);
        check(&changed(13, 9), Reason::MALFORMED_PACKET);
    }

    #[test]
    fn connect_is_shorter_than_what_comes_after_it() {
        let check = |bytes: &[u8], expected: Option<usize>| {
            let mut decoder = Decoder::new(1024 * 1024);
            let error = match decoder.decode(&mut BytesMut::from(bytes)) {
                Ok(_) => None,
                Err(DecodeError::TooLarge { max_bytes, .. }) => Some(max_bytes),
                Err(other) => panic!("{other}"),
            };
            assert_eq!(error, expected, "{bytes:02x?}");
        };
        check(&[0x10, 0x80, 0x80, 4], None);
        check(&[0x10, 0x81, 0x80, 4], Some(MAX_CONNECT_BYTES));
        let mut decoder = Decoder::new(1024 * 1024);
        let mut buffer = BytesMut::from(&connect_bytes(4)[..]);
        decoder.decode(&mut buffer).unwrap().unwrap();
        buffer.extend_from_slice(&[0x30, 0x80, 0x80, 0x40]);
        assert_eq!(decoder.decode(&mut buffer), Ok(None));
    }

    #[test]
    fn a_packet_is_the_same_however_its_bytes_arrive() {
        let mut bytes = connect_bytes(5);
        bytes.extend([
            0x33, 17, 0, 3, b'a', b'/', b'b', 0, 7, 7, 0x26, 0, 1, b'k', 0, 1, b'v',
        ]);
        bytes.extend([b'h', b'i']);
        for piece in 1..=bytes.len() {
            let mut decoder = Decoder::new(1024);
            let mut buffer = BytesMut::new();
            let mut packets = Vec::new();
            for part in bytes.chunks(piece) {
                buffer.extend_from_slice(part);
                while let Some(packet) = decoder.decode(&mut buffer).unwrap() {
                    packets.push(packet);
                }
            }
            let [Packet::Connect(_), Packet::Publish(publish)] = &packets[..] else {
                panic!("{packets:?}")
            };
            assert_eq!(&publish.topic, "a/b");
            assert_eq!(publish.packet_id, 7);
            assert!(publish.retain);
            assert_eq!(&publish.passed_on[..], [0x26, 0, 1, b'k', 0, 1, b'v']);
            assert_eq!(&publish.payload[..], b"hi");
        }
    }

    #[test]
    fn own_properties_of_a_message_are_taken_out_of_what_is_passed_on() {
        let bytes = [
            0x30, 16, 0, 1, b'a', 11, 0x03, 0, 1, b'x', 2, 0, 0, 0, 9, 1, 1, b'p',
        ];
        let Ok(Some(Packet::Publish(publish))) = second(5, &bytes) else {
            panic!()
        };
        assert_eq!(publish.expiry_seconds, Some(9));
        assert_eq!(&publish.passed_on[..], [0x03, 0, 1, b'x', 1, 1]);
        assert_eq!(&publish.payload[..], b"p");
    }

    #[test]
    fn the_oldest_protocol_version_is_understood() {
        let body = [
            0, 6, b'M', b'Q', b'I', b's', b'd', b'p', 3, 2, 0, 0, 0, 1, b'c',
        ];
        let Ok(Some(Packet::Connect(connect))) = first(&frame(0x10, &body)) else {
            panic!()
        };
        assert_eq!(connect.version, Version::V31);
    }

    fn good_stream() -> Vec<u8> {
        let mut bytes = vec![7];
        bytes.extend(connect_bytes(5));
        bytes.extend([0x82, 9, 0, 1, 2, 0x0b, 5, 0, 1, b'#', 0]);
        bytes.extend([
            0x32, 16, 0, 1, b'a', 0, 1, 8, 0x26, 0, 1, b'k', 0, 2, b'v', b'v', 1, 2,
        ]);
        bytes.extend([0x40, 3, 0, 1, 0]);
        bytes.extend([0xa2, 6, 0, 2, 0, 0, 1, b'#']);
        bytes.extend([0xe0, 7, 0, 5, 0x11, 0, 0, 0, 9]);
        bytes
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_decoder_panic(data in prop::collection::vec(any::<u8>(), 0..512)) {
            fuzz_decode(&data);
        }

        #[test]
        fn no_mutation_of_good_packets_makes_the_decoder_panic(
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
            cut in any::<prop::sample::Index>(),
        ) {
            let mut data = good_stream();
            for (at, byte) in changes {
                let at = at.index(data.len());
                data[at] = byte;
            }
            fuzz_decode(&data);
            data.truncate(cut.index(data.len()));
            fuzz_decode(&data);
        }
    }
}
