//! MQTT 3.1, 3.1.1 and 5.0 on the wire: bytes to checked packets, answers to bytes.
//!
//! | module | owns |
//! |---|---|
//! | [`packet`] | one model of the packets that a client may send, for all versions |
//! | [`decoder`] | frames out of a growing buffer |
//! | `body` | what each type of packet holds |
//! | [`reader`] | the field types: integers, UTF-8 text, binary data |
//! | [`properties`] | the properties of 5.0: which may stand where, and how often |
//! | [`writer`] | the packets that a server sends |
//! | [`reason`] | reason codes of 5.0 and their 3.1.1 counterparts |
//! | [`error`] | what is wrong with a client's bytes |
//!
//! Nothing in here knows sessions, rights or sockets. No bytes, however wrong, make it panic.

mod body;
pub mod decoder;
pub mod error;
pub mod packet;
pub mod properties;
pub mod reader;
pub mod reason;
pub mod writer;

pub use decoder::Decoder;
pub use error::DecodeError;
pub use packet::{Packet, QoS, Version};
pub use reason::Reason;

use bytes::BytesMut;

/// Decodes `data` as a client's stream, for fuzzing: the first byte chooses how large the pieces
/// are in which the rest arrives. Whatever the bytes, it must neither panic nor take more memory
/// than a small multiple of them.
pub fn fuzz_decode(data: &[u8]) {
    let Some((&first, rest)) = data.split_first() else {
        return;
    };
    let mut decoder = Decoder::new(64 * 1024);
    let mut buffer = BytesMut::new();
    for piece in rest.chunks(usize::from(first).max(1)) {
        buffer.extend_from_slice(piece);
        loop {
            match decoder.decode(&mut buffer) {
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(_) => return,
            }
        }
    }
}
