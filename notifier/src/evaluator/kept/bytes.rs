//! Numbers and texts in few bytes, and back. What is cut or wrong reads as `None`.
//!
//! ```text
//! whole    seven bits a byte, the lowest first; the high bit says that more follow
//! signed   0, -1, 1, -2 … as whole numbers
//! text     its bytes as a whole number, then UTF-8
//! real     the 8 bytes of a double, the lowest first
//! past     0: never, else one more than the milliseconds before `kept_ms`
//! ```

/// Bytes that grow.
#[derive(Debug, Default)]
pub(in crate::evaluator) struct Packer {
    bytes: Vec<u8>,
}

impl Packer {
    pub(in crate::evaluator) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(in crate::evaluator) fn clear(&mut self) {
        self.bytes.clear();
    }

    pub(in crate::evaluator) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    pub(in crate::evaluator) fn append(&mut self, other: &Self) {
        self.bytes.extend_from_slice(&other.bytes);
    }

    pub(in crate::evaluator) fn byte(&mut self, byte: u8) {
        self.bytes.push(byte);
    }

    #[expect(clippy::cast_possible_truncation, reason = "the low bits are meant")]
    pub(in crate::evaluator) fn whole(&mut self, mut number: u64) {
        while number > 0x7f {
            self.bytes.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.bytes.push(number as u8);
    }

    pub(in crate::evaluator) fn signed(&mut self, number: i64) {
        self.whole(zigzag(number));
    }

    pub(in crate::evaluator) fn count(&mut self, count: usize) {
        self.whole(count as u64);
    }

    pub(in crate::evaluator) fn text(&mut self, text: &str) {
        self.count(text.len());
        self.bytes.extend_from_slice(text.as_bytes());
    }

    pub(in crate::evaluator) fn real(&mut self, number: f64) {
        self.bytes.extend_from_slice(&number.to_le_bytes());
    }

    /// A time that is not after `kept_ms`; what is after it is said to be then.
    pub(in crate::evaluator) fn past(&mut self, at_ms: u64, kept_ms: u64) {
        self.whole(match at_ms {
            0 => 0,
            at_ms => 1 + kept_ms.saturating_sub(at_ms),
        });
    }
}

/// Bytes that are read from their beginning.
#[derive(Debug, Clone)]
pub(in crate::evaluator) struct Unpacker<'b> {
    rest: &'b [u8],
}

impl<'b> Unpacker<'b> {
    pub(in crate::evaluator) fn new(bytes: &'b [u8]) -> Self {
        Self { rest: bytes }
    }

    /// How many bytes are left.
    pub(in crate::evaluator) fn left(&self) -> usize {
        self.rest.len()
    }

    pub(in crate::evaluator) fn byte(&mut self) -> Option<u8> {
        let (byte, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*byte)
    }

    pub(in crate::evaluator) fn whole(&mut self) -> Option<u64> {
        let mut number = 0_u64;
        for place in 0..10_u32 {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            // The tenth byte has room for the last bit only.
            if place == 9 && bits > 1 {
                return None;
            }
            number |= bits << (7 * place);
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    pub(in crate::evaluator) fn signed(&mut self) -> Option<i64> {
        self.whole().map(unzigzag)
    }

    /// A count of things of which each has a byte at least.
    pub(in crate::evaluator) fn count(&mut self) -> Option<usize> {
        let count = usize::try_from(self.whole()?).ok()?;
        (count <= self.rest.len()).then_some(count)
    }

    pub(in crate::evaluator) fn take(&mut self, bytes: usize) -> Option<&'b [u8]> {
        let (taken, rest) = self.rest.split_at_checked(bytes)?;
        self.rest = rest;
        Some(taken)
    }

    pub(in crate::evaluator) fn text(&mut self) -> Option<&'b str> {
        let bytes = self.count()?;
        std::str::from_utf8(self.take(bytes)?).ok()
    }

    pub(in crate::evaluator) fn real(&mut self) -> Option<f64> {
        let bytes = self.take(8)?;
        Some(f64::from_le_bytes(bytes.try_into().ok()?))
    }

    pub(in crate::evaluator) fn past(&mut self, kept_ms: u64) -> Option<u64> {
        match self.whole()? {
            0 => Some(0),
            more => kept_ms.checked_sub(more - 1),
        }
    }
}

pub(in crate::evaluator) fn zigzag(number: i64) -> u64 {
    ((number << 1) ^ (number >> 63)).cast_unsigned()
}

pub(in crate::evaluator) fn unzigzag(number: u64) -> i64 {
    (number >> 1).cast_signed() ^ -(number & 1).cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_packed_is_unpacked() {
        let wholes = [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX];
        let signeds = [0, 1, -1, 63, -64, 64, i64::MAX, i64::MIN];
        let mut packer = Packer::default();
        wholes.into_iter().for_each(|number| packer.whole(number));
        signeds.into_iter().for_each(|number| packer.signed(number));
        packer.text("/srv/größe");
        packer.real(-0.0);
        for at_ms in [0, 900, 1000, 2000] {
            packer.past(at_ms, 1000);
        }
        let bytes = packer.into_bytes();
        let mut unpacker = Unpacker::new(&bytes);
        for number in wholes {
            assert_eq!(unpacker.whole(), Some(number));
        }
        for number in signeds {
            assert_eq!(unpacker.signed(), Some(number));
        }
        assert_eq!(unpacker.text(), Some("/srv/größe"));
        let zero = unpacker.real().unwrap();
        assert_eq!(zero.to_bits(), (-0.0_f64).to_bits());
        let times = [0; 4].map(|_| unpacker.past(1000).unwrap());
        assert_eq!(times, [0, 900, 1000, 1000]);
        assert_eq!(unpacker.left(), 0);
    }

    #[test]
    fn what_is_cut_or_too_large_is_nothing() {
        let check = |bytes: &[u8]| {
            let unpacker = || Unpacker::new(bytes);
            assert_eq!(unpacker().whole(), None, "{bytes:?}");
            assert_eq!(unpacker().text(), None, "{bytes:?}");
            assert_eq!(unpacker().past(5), None, "{bytes:?}");
        };
        check(&[]);
        check(&[0x80]);
        check(&[0xff; 9]);
        check(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2]);
        check(&[0xff; 11]);
        assert_eq!(Unpacker::new(&[3, b'a', b'b']).text(), None);
        assert_eq!(Unpacker::new(&[2, 0xc3, 0x28]).text(), None);
        assert_eq!(Unpacker::new(&[2]).count(), None);
        assert_eq!(Unpacker::new(&[7]).past(5), None);
        assert_eq!(Unpacker::new(&[0; 7]).real(), None);
    }
}
