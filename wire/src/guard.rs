//! The scan that every received payload passes before anything is decoded.
//!
//! It walks the CBOR (RFC 8949) once without allocating for its content, and refuses what the
//! contract forbids: more than 256 KiB, nesting deeper than 8, indefinite lengths, keys that are no
//! text, stand twice in a map or exceed 128 bytes, texts over 4,096 bytes, too many numbers,
//! numbers that are not finite, and bytes after the end. What passes can be handed to a decoder
//! without further fear.

use thiserror::Error;

/// The largest payload in bytes.
pub const MAX_BYTES: usize = 256 * 1024;
/// The deepest nesting; arrays, maps and tags count.
pub const MAX_DEPTH: usize = 8;
/// The longest key of a map in bytes.
pub const MAX_KEY_BYTES: usize = 128;
/// The longest text or byte string in bytes.
pub const MAX_TEXT_BYTES: usize = 4096;
/// The most numbers that a sample may carry in its sections.
pub const MAX_POINTS: usize = 4096;
/// The most numbers in one payload: a sample's points and its head.
pub const MAX_NUMBERS: usize = MAX_POINTS + 8;
/// The most keys of one map.
pub const MAX_KEYS: usize = 1024;

/// A limit of the contract that a payload breaks, or why it is no CBOR.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Violation {
    /// Larger than [`MAX_BYTES`].
    #[error("{bytes} bytes are more than {MAX_BYTES}")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// Nested deeper than [`MAX_DEPTH`].
    #[error("nested deeper than {MAX_DEPTH}")]
    TooDeep,
    /// An array, map or string does not tell its length at its head.
    #[error("an indefinite length")]
    Indefinite,
    /// A key stands twice in one map.
    #[error("the key `{key}` stands twice in one map")]
    DuplicateKey {
        /// The key.
        key: String,
    },
    /// A map has a key that is no text.
    #[error("a key that is no text")]
    KeyNotText,
    /// A key longer than [`MAX_KEY_BYTES`].
    #[error("a key of {bytes} bytes is longer than {MAX_KEY_BYTES}")]
    KeyTooLong {
        /// Its length.
        bytes: usize,
    },
    /// A map with more than [`MAX_KEYS`] keys.
    #[error("a map of {keys} keys has more than {MAX_KEYS}")]
    TooManyKeys {
        /// How many it claims.
        keys: u64,
    },
    /// A text or byte string longer than [`MAX_TEXT_BYTES`].
    #[error("a text of {bytes} bytes is longer than {MAX_TEXT_BYTES}")]
    TextTooLong {
        /// Its length.
        bytes: u64,
    },
    /// More than [`MAX_NUMBERS`] numbers.
    #[error("more than {MAX_NUMBERS} numbers")]
    TooManyNumbers,
    /// A number that is infinite or not a number.
    #[error("a number that is not finite")]
    NotFinite,
    /// A text that is no UTF-8.
    #[error("a text that is no UTF-8")]
    NotUtf8,
    /// Bytes after the end of the payload.
    #[error("{bytes} bytes after the end")]
    Trailing {
        /// How many.
        bytes: usize,
    },
    /// The payload ends too early.
    #[error("it ends too early")]
    Truncated,
    /// A byte that begins no item of RFC 8949.
    #[error("the byte 0x{byte:02x} begins no CBOR item")]
    Malformed {
        /// The byte.
        byte: u8,
    },
}

/// Checks `bytes` against every limit of the contract.
///
/// # Errors
/// The first limit that is broken.
pub fn check(bytes: &[u8]) -> Result<(), Violation> {
    let mut scan = Scan::new(bytes)?;
    scan.item(0)?;
    scan.end()
}

/// Checks the size of `bytes` alone, for what is not CBOR.
pub(crate) fn check_size(bytes: &[u8]) -> Result<(), Violation> {
    match bytes.len() {
        ..=MAX_BYTES => Ok(()),
        bytes => Err(Violation::TooLarge { bytes }),
    }
}

/// Up to so many keys of a map are compared with each other.
const FEW_KEYS: usize = 20;

fn duplicate(key: &[u8]) -> Violation {
    Violation::DuplicateKey {
        key: String::from_utf8_lossy(key).into_owned(),
    }
}

/// A place in a payload up to which no limit is broken.
pub(crate) struct Scan<'b> {
    rest: &'b [u8],
    numbers: usize,
}

impl<'b> Scan<'b> {
    /// At the beginning of `bytes`.
    pub(crate) fn new(bytes: &'b [u8]) -> Result<Self, Violation> {
        check_size(bytes)?;
        Ok(Self {
            rest: bytes,
            numbers: 0,
        })
    }

    /// The payload must end here.
    pub(crate) fn end(&self) -> Result<(), Violation> {
        match self.rest.len() {
            0 => Ok(()),
            bytes => Err(Violation::Trailing { bytes }),
        }
    }

    /// Walks one item that stands `depth` containers deep. Recursion ends at [`MAX_DEPTH`].
    pub(crate) fn item(&mut self, depth: usize) -> Result<(), Violation> {
        let byte = self.byte()?;
        match byte >> 5 {
            0 | 1 => {
                self.argument(byte)?;
                self.number()
            }
            2 => self.bytes(byte, MAX_TEXT_BYTES).map(drop),
            3 => self.text(byte).map(drop),
            4 => {
                let items = self.open(byte, depth)?;
                for _ in 0..items {
                    self.item(depth + 1)?;
                }
                Ok(())
            }
            5 => self.map(byte, depth),
            6 => {
                self.open(byte, depth)?;
                self.item(depth + 1)
            }
            _ => self.simple(byte),
        }
    }

    fn map(&mut self, byte: u8, depth: usize) -> Result<(), Violation> {
        let count = self.open(byte, depth)?;
        let too_many = Violation::TooManyKeys { keys: count };
        let count = usize::try_from(count)
            .ok()
            .filter(|n| *n <= MAX_KEYS)
            .ok_or(too_many)?;
        // A claim is not believed further than bytes are there to fill it: two for each entry.
        if count > self.rest.len() / 2 {
            return Err(Violation::Truncated);
        }
        if count <= FEW_KEYS {
            // Few keys are compared faster than they are sorted: most differ in length.
            let mut keys: [&[u8]; FEW_KEYS] = [&[]; FEW_KEYS];
            for key in keys.iter_mut().take(count) {
                *key = self.entry(depth)?;
            }
            let twice = |place: &usize| keys[..*place].contains(&keys[*place]);
            return match (1..count).find(twice) {
                Some(place) => Err(duplicate(keys[place])),
                None => Ok(()),
            };
        }
        let mut keys = Vec::with_capacity(count);
        for _ in 0..count {
            keys.push(self.entry(depth)?);
        }
        keys.sort_unstable();
        match keys.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(duplicate(pair[0])),
            None => Ok(()),
        }
    }

    /// Walks one entry of a map. Gives its key.
    fn entry(&mut self, depth: usize) -> Result<&'b [u8], Violation> {
        let head = self.byte()?;
        if head >> 5 != 3 {
            return Err(Violation::KeyNotText);
        }
        let key = self.text(head)?;
        if key.len() > MAX_KEY_BYTES {
            return Err(Violation::KeyTooLong { bytes: key.len() });
        }
        self.item(depth + 1)?;
        Ok(key)
    }

    fn simple(&mut self, byte: u8) -> Result<(), Violation> {
        let finite = match byte & 0x1f {
            // false, true, null, undefined
            20..=23 => return Ok(()),
            25 => {
                let [high, _] = self.take()?;
                high & 0x7c != 0x7c
            }
            26 => f32::from_be_bytes(self.take()?).is_finite(),
            27 => f64::from_be_bytes(self.take()?).is_finite(),
            31 => return Err(Violation::Indefinite),
            _ => return Err(Violation::Malformed { byte }),
        };
        if !finite {
            return Err(Violation::NotFinite);
        }
        self.number()
    }

    /// A number more was passed.
    pub(crate) fn number(&mut self) -> Result<(), Violation> {
        self.numbers += 1;
        if self.numbers > MAX_NUMBERS {
            Err(Violation::TooManyNumbers)
        } else {
            Ok(())
        }
    }

    /// Reads the argument of a container's head, and checks that it may stand at this depth.
    pub(crate) fn open(&mut self, byte: u8, depth: usize) -> Result<u64, Violation> {
        if depth >= MAX_DEPTH {
            return Err(Violation::TooDeep);
        }
        self.argument(byte)
    }

    fn text(&mut self, byte: u8) -> Result<&'b [u8], Violation> {
        let bytes = self.bytes(byte, MAX_TEXT_BYTES)?;
        // Most texts are keys, short and plain.
        if bytes.is_ascii() || std::str::from_utf8(bytes).is_ok() {
            Ok(bytes)
        } else {
            Err(Violation::NotUtf8)
        }
    }

    /// The content of a text or of bytes, at most `most` of them.
    pub(crate) fn bytes(&mut self, byte: u8, most: usize) -> Result<&'b [u8], Violation> {
        let length = self.argument(byte)?;
        let too_long = Violation::TextTooLong { bytes: length };
        let length = usize::try_from(length)
            .ok()
            .filter(|n| *n <= most)
            .ok_or(too_long)?;
        let (taken, rest) = self
            .rest
            .split_at_checked(length)
            .ok_or(Violation::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    /// The argument of an item's head, section 3 of RFC 8949.
    pub(crate) fn argument(&mut self, byte: u8) -> Result<u64, Violation> {
        match byte & 0x1f {
            small @ 0..=23 => Ok(small.into()),
            24 => self.take::<1>().map(|[value]| value.into()),
            25 => self.take().map(|bytes| u16::from_be_bytes(bytes).into()),
            26 => self.take().map(|bytes| u32::from_be_bytes(bytes).into()),
            27 => self.take().map(u64::from_be_bytes),
            31 if matches!(byte >> 5, 2..=5) => Err(Violation::Indefinite),
            _ => Err(Violation::Malformed { byte }),
        }
    }

    /// The head of the next item.
    pub(crate) fn byte(&mut self) -> Result<u8, Violation> {
        self.take::<1>().map(|[byte]| byte)
    }

    /// The next bytes, whatever they are.
    pub(crate) fn take<const N: usize>(&mut self) -> Result<[u8; N], Violation> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(Violation::Truncated)?;
        self.rest = rest;
        Ok(*taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(
        clippy::needless_pass_by_value,
        reason = "a table of cases reads better"
    )]
    fn check_is(bytes: &[u8], expected: Result<(), Violation>) {
        assert_eq!(
            check(bytes),
            expected,
            "{:02x?}",
            &bytes[..bytes.len().min(16)]
        );
    }

    /// An array head with a 2-byte length, then `items` of the byte `item`.
    fn array(items: u16, item: u8) -> Vec<u8> {
        let mut bytes = vec![0x99];
        bytes.extend(items.to_be_bytes());
        bytes.extend(std::iter::repeat_n(item, items.into()));
        bytes
    }

    fn text(length: u16) -> Vec<u8> {
        let mut bytes = vec![0x79];
        bytes.extend(length.to_be_bytes());
        bytes.extend(std::iter::repeat_n(b'x', length.into()));
        bytes
    }

    #[test]
    fn each_limit_is_refused_one_past_its_bound() {
        check_is(
            &vec![0; MAX_BYTES + 1],
            Err(Violation::TooLarge {
                bytes: MAX_BYTES + 1,
            }),
        );

        let nested = |depth: usize| [vec![0x81; depth], vec![0xf6]].concat();
        check_is(&nested(MAX_DEPTH), Ok(()));
        check_is(&nested(MAX_DEPTH + 1), Err(Violation::TooDeep));
        check_is(&[vec![0xc1; 9], vec![0]].concat(), Err(Violation::TooDeep));

        let numbers = u16::try_from(MAX_NUMBERS).unwrap();
        check_is(&array(numbers, 0x01), Ok(()));
        check_is(&array(numbers + 1, 0x01), Err(Violation::TooManyNumbers));

        check_is(&text(4096), Ok(()));
        check_is(&text(4097), Err(Violation::TextTooLong { bytes: 4097 }));

        let keyed = |length| [vec![0xa1], text(length), vec![0xf6]].concat();
        check_is(&keyed(128), Ok(()));
        check_is(&keyed(129), Err(Violation::KeyTooLong { bytes: 129 }));

        let keys = |count: u16| {
            let mut bytes = vec![0xb9];
            bytes.extend(count.to_be_bytes());
            for key in 0..count {
                bytes.push(0x64);
                bytes.extend(format!("{key:04}").bytes());
                bytes.push(0xf6);
            }
            bytes
        };
        check_is(&keys(1024), Ok(()));
        check_is(&keys(1025), Err(Violation::TooManyKeys { keys: 1025 }));
    }

    #[test]
    fn indefinite_lengths_are_refused() {
        for head in [0x5f, 0x7f, 0x9f, 0xbf, 0xff] {
            check_is(&[head, 0xff], Err(Violation::Indefinite));
        }
    }

    #[test]
    fn a_key_may_stand_once_in_its_map() {
        check_is(b"\xa2\x61a\xf6\x61b\xa1\x61a\xf6", Ok(()));
        check_is(
            b"\xa2\x61a\xf6\x61a\xf6",
            Err(Violation::DuplicateKey {
                key: "a".to_owned(),
            }),
        );
        check_is(b"\xa1\x01\xf6", Err(Violation::KeyNotText));
        for count in [2, FEW_KEYS, FEW_KEYS + 1, 100] {
            let mut bytes = vec![0xb8, u8::try_from(count).unwrap()];
            for key in 0..count {
                // The last is the first again.
                let key = key % (count - 1);
                bytes.push(0x62);
                bytes.extend(format!("{key:02}").bytes());
                bytes.push(0xf6);
            }
            let key = "00".to_owned();
            check_is(&bytes, Err(Violation::DuplicateKey { key }));
            let last = bytes.len() - 2;
            bytes[last] = b'x';
            check_is(&bytes, Ok(()));
        }
    }

    #[test]
    fn numbers_must_be_finite_in_every_width() {
        check_is(&[0xf9, 0x7b, 0xff], Ok(()));
        for bytes in [
            &[0xf9, 0x7c, 0][..],
            &[0xf9, 0xfe, 0],
            &[0xfa, 0x7f, 0x80, 0, 0],
        ] {
            check_is(bytes, Err(Violation::NotFinite));
        }
        check_is(
            &[0xfb, 0xff, 0xf0, 0, 0, 0, 0, 0, 0],
            Err(Violation::NotFinite),
        );
    }

    #[test]
    fn the_payload_is_one_whole_item() {
        check_is(&[], Err(Violation::Truncated));
        check_is(&[0xf6, 0], Err(Violation::Trailing { bytes: 1 }));
        check_is(&[0x82, 0xf6], Err(Violation::Truncated));
        check_is(&[0x62, b'a'], Err(Violation::Truncated));
        check_is(&[0x61, 0xff], Err(Violation::NotUtf8));
        check_is(&[0x1c], Err(Violation::Malformed { byte: 0x1c }));
        check_is(&[0xf8, 0xff], Err(Violation::Malformed { byte: 0xf8 }));
    }

    #[test]
    fn a_false_claim_of_length_costs_nothing() {
        check_is(&[0xb9, 0x04, 0x00], Err(Violation::Truncated));
        check_is(
            &[0x9b, 0xff, 0, 0, 0, 0, 0, 0, 0],
            Err(Violation::Truncated),
        );
        check_is(
            &[0x7b, 0xff, 0, 0, 0, 0, 0, 0, 0],
            Err(Violation::TextTooLong { bytes: 0xff << 56 }),
        );
    }
}
