//! Properties of MQTT 5.0 as bytes, for packets that a test makes up.

use super::text;

/// A variable byte integer in its shortest form.
pub fn variable(mut value: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = (value & 0x7f) as u8;
        value >>= 7;
        bytes.push(if value > 0 { low | 0x80 } else { low });
        if value == 0 {
            return bytes;
        }
    }
}

pub fn byte(id: u8, value: u8) -> Vec<u8> {
    vec![id, value]
}

pub fn two(id: u8, value: u16) -> Vec<u8> {
    [&[id][..], &value.to_be_bytes()].concat()
}

pub fn four(id: u8, value: u32) -> Vec<u8> {
    [&[id][..], &value.to_be_bytes()].concat()
}

pub fn string(id: u8, value: &str) -> Vec<u8> {
    [&[id][..], &text(value)].concat()
}

pub fn user(key: &str, value: &str) -> Vec<u8> {
    [&[0x26][..], &text(key), &text(value)].concat()
}

/// The subscription identifier.
pub fn identifier(value: usize) -> Vec<u8> {
    [&[0x0b][..], &variable(value)].concat()
}

/// The identifiers of all properties with a defined type.
pub const ALL: [u8; 27] = [
    0x01, 0x02, 0x03, 0x08, 0x09, 0x0b, 0x11, 0x12, 0x13, 0x15, 0x16, 0x17, 0x18, 0x19, 0x1a, 0x1c,
    0x1f, 0x21, 0x22, 0x23, 0x24, 0x25, 0x26, 0x27, 0x28, 0x29, 0x2a,
];

/// A property with a value that is valid for its type.
pub fn sample(id: u8) -> Vec<u8> {
    match id {
        0x01 | 0x17 | 0x19 | 0x24 | 0x25 | 0x28 | 0x29 | 0x2a => byte(id, 1),
        0x13 | 0x21 | 0x22 | 0x23 => two(id, 10),
        0x02 | 0x11 | 0x18 | 0x27 => four(id, 1_000),
        0x0b => identifier(1),
        0x26 => user("k", "v"),
        _ => string(id, "t"),
    }
}
