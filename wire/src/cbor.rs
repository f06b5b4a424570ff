//! Reads a sample from CBOR (RFC 8949) that has passed the [guard](crate::guard). No other payload
//! comes by the ten thousands a second.
//!
//! It reads the bytes where they lie: a text is borrowed, the keys of a map are compared as bytes. It
//! relies on the guard for depth, sizes and finite numbers, but trusts no length: what is not there
//! is an error. Tags are passed over.

use std::fmt;

use serde::de::{self, Deserializer, IntoDeserializer, Visitor};
use serde::forward_to_deserialize_any;

use crate::guard::MAX_NUMBERS;

/// Why no value could be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mistake(String);

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Mistake {}

impl de::Error for Mistake {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self(message.to_string())
    }
}

/// The least float of 16 bits above 0, 2^-24.
const TINIEST_HALF: f64 = 1.0 / 16_777_216.0;

fn unreadable() -> Mistake {
    Mistake("no CBOR".to_owned())
}

/// Reads one value after the other.
pub(crate) struct Reader<'b> {
    rest: &'b [u8],
    /// How many more items may stand in lists. One takes far more memory than bytes of its payload.
    items_left: u64,
}

/// What an item begins with, of RFC 8949 section 3.
enum Head<'b> {
    Unsigned(u64),
    Negative(u64),
    Bytes(&'b [u8]),
    Text(&'b [u8]),
    Array(u64),
    Map(u64),
    Bool(bool),
    Null,
    Float(f64),
}

impl<'b> Reader<'b> {
    /// A reader of `bytes`.
    pub(crate) fn new(bytes: &'b [u8]) -> Self {
        Self {
            rest: bytes,
            items_left: MAX_NUMBERS as u64,
        }
    }

    /// Begins a list of so many items.
    fn list(&mut self, items: u64) -> Result<Items<'_, 'b>, Mistake> {
        let Some(left) = self.items_left.checked_sub(items) else {
            let all = format!("more than {MAX_NUMBERS} items in the lists of a sample");
            return Err(Mistake(all));
        };
        self.items_left = left;
        Ok(Items {
            reader: self,
            left: items,
        })
    }

    fn head(&mut self) -> Result<Head<'b>, Mistake> {
        loop {
            let [byte] = self.take()?;
            let argument = match byte & 0x1f {
                small @ 0..=23 => small.into(),
                24 => self.take().map(|[byte]| u64::from(byte))?,
                25 => self.take().map(u16::from_be_bytes)?.into(),
                26 => self.take().map(u32::from_be_bytes)?.into(),
                27 => self.take().map(u64::from_be_bytes)?,
                _ => return Err(unreadable()),
            };
            return Ok(match byte >> 5 {
                0 => Head::Unsigned(argument),
                1 => Head::Negative(argument),
                2 => Head::Bytes(self.bytes(argument)?),
                3 => Head::Text(self.bytes(argument)?),
                4 => Head::Array(argument),
                5 => Head::Map(argument),
                6 => continue,
                _ => simple(byte, argument)?,
            });
        }
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], Mistake> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or_else(unreadable)?;
        self.rest = rest;
        Ok(*taken)
    }

    fn bytes(&mut self, length: u64) -> Result<&'b [u8], Mistake> {
        let length = usize::try_from(length).ok();
        let split = length.and_then(|length| self.rest.split_at_checked(length));
        let (taken, rest) = split.ok_or_else(unreadable)?;
        self.rest = rest;
        Ok(taken)
    }

    /// Passes over one item.
    fn skip(&mut self) -> Result<(), Mistake> {
        let items = match self.head()? {
            Head::Array(items) => items,
            Head::Map(entries) => entries.saturating_mul(2),
            _ => 0,
        };
        for _ in 0..items {
            self.skip()?;
        }
        Ok(())
    }
}

/// An item of major type 7.
fn simple<'b>(byte: u8, argument: u64) -> Result<Head<'b>, Mistake> {
    let narrow = u32::try_from(argument).unwrap_or_default();
    Ok(match byte & 0x1f {
        20 => Head::Bool(false),
        21 => Head::Bool(true),
        22 | 23 => Head::Null,
        25 => Head::Float(half(narrow)),
        26 => Head::Float(f32::from_bits(narrow).into()),
        27 => Head::Float(f64::from_bits(argument)),
        _ => return Err(unreadable()),
    })
}

/// A float of 16 bits, as appendix D of RFC 8949 reads it: its parts stand in one of 64 bits.
pub(crate) fn half(bits: u32) -> f64 {
    let (exponent, fraction) = (u64::from((bits >> 10) & 0x1f), u64::from(bits & 0x3ff));
    let size = match exponent {
        0 => f64::from(bits & 0x3ff) * TINIEST_HALF,
        31 => f64::from_bits(0x7ff << 52 | fraction << 42),
        _ => f64::from_bits((exponent + 1023 - 15) << 52 | fraction << 42),
    };
    if bits & 0x8000 == 0 { size } else { -size }
}

fn text(bytes: &[u8]) -> Result<&str, Mistake> {
    std::str::from_utf8(bytes).map_err(|_| unreadable())
}

/// What a text was found to be instead.
fn other<'b>(head: &Head<'b>) -> de::Unexpected<'b> {
    match head {
        Head::Unsigned(value) => de::Unexpected::Unsigned(*value),
        Head::Negative(_) => de::Unexpected::Other("a negative number"),
        Head::Bytes(bytes) => de::Unexpected::Bytes(bytes),
        Head::Text(_) => de::Unexpected::Other("a text"),
        Head::Array(_) => de::Unexpected::Seq,
        Head::Map(_) => de::Unexpected::Map,
        Head::Bool(value) => de::Unexpected::Bool(*value),
        Head::Null => de::Unexpected::Unit,
        Head::Float(value) => de::Unexpected::Float(*value),
    }
}

impl<'de> Deserializer<'de> for &mut Reader<'de> {
    type Error = Mistake;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        match self.head()? {
            Head::Unsigned(value) => visitor.visit_u64(value),
            Head::Negative(value) => match i64::try_from(value) {
                Ok(value) => visitor.visit_i64(-1 - value),
                Err(_) => visitor.visit_i128(-1 - i128::from(value)),
            },
            Head::Bytes(bytes) => visitor.visit_borrowed_bytes(bytes),
            Head::Text(bytes) => visitor.visit_borrowed_str(text(bytes)?),
            Head::Array(items) => visitor.visit_seq(self.list(items)?),
            Head::Map(left) => visitor.visit_map(Items { reader: self, left }),
            Head::Bool(value) => visitor.visit_bool(value),
            Head::Null => visitor.visit_unit(),
            Head::Float(value) => visitor.visit_f64(value),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        let before = self.rest;
        if matches!(self.head()?, Head::Null) {
            return visitor.visit_none();
        }
        self.rest = before;
        visitor.visit_some(self)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        match self.head()? {
            Head::Text(bytes) => visitor.visit_borrowed_str(text(bytes)?),
            head => Err(de::Error::invalid_type(other(&head), &visitor)),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        self.deserialize_str(visitor)
    }

    /// A key is compared as it lies there.
    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        match self.head()? {
            Head::Text(bytes) => visitor.visit_borrowed_bytes(bytes),
            head => Err(de::Error::invalid_type(other(&head), &visitor)),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Mistake> {
        visitor.visit_newtype_struct(self)
    }

    /// A variant without content, by its name.
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mistake> {
        match self.head()? {
            Head::Text(bytes) => visitor.visit_enum(text(bytes)?.into_deserializer()),
            head => Err(de::Error::invalid_type(other(&head), &visitor)),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        self.skip()?;
        visitor.visit_unit()
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        match self.head()? {
            Head::Map(left) => visitor.visit_map(Items { reader: self, left }),
            head => Err(de::Error::invalid_type(other(&head), &visitor)),
        }
    }

    /// Its fields have names: a list is none.
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mistake> {
        self.deserialize_map(visitor)
    }

    fn is_human_readable(&self) -> bool {
        false
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char bytes byte_buf unit unit_struct
        seq tuple tuple_struct
    }
}

/// The items of an array, or the entries of a map, that are left.
struct Items<'r, 'b> {
    reader: &'r mut Reader<'b>,
    left: u64,
}

impl Items<'_, '_> {
    fn next(&mut self) -> bool {
        let is_left = self.left > 0;
        self.left = self.left.saturating_sub(1);
        is_left
    }

    /// No more is believed than bytes are there for.
    fn likely(&self) -> Option<usize> {
        let left = usize::try_from(self.left).unwrap_or(usize::MAX);
        Some(left.min(self.reader.rest.len()))
    }
}

impl<'b> de::SeqAccess<'b> for Items<'_, 'b> {
    type Error = Mistake;

    fn next_element_seed<T: de::DeserializeSeed<'b>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Mistake> {
        let next = self.next();
        next.then(|| seed.deserialize(&mut *self.reader))
            .transpose()
    }

    fn size_hint(&self) -> Option<usize> {
        self.likely()
    }
}

impl<'b> de::MapAccess<'b> for Items<'_, 'b> {
    type Error = Mistake;

    fn next_key_seed<K: de::DeserializeSeed<'b>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Mistake> {
        let next = self.next();
        next.then(|| seed.deserialize(&mut *self.reader))
            .transpose()
    }

    fn next_value_seed<V: de::DeserializeSeed<'b>>(
        &mut self,
        seed: V,
    ) -> Result<V::Value, Mistake> {
        seed.deserialize(&mut *self.reader)
    }

    fn size_hint(&self) -> Option<usize> {
        self.likely()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::Deserialize;

    use super::*;
    use crate::sample::{Cpu, Disk, Filesystem, Memory};
    use crate::{Sample, encode, guard};

    fn read(bytes: &[u8]) -> Result<Sample, Mistake> {
        Sample::deserialize(&mut Reader::new(bytes))
    }

    /// What another reader makes of it, whatever else it is.
    fn library(bytes: &[u8]) -> Option<Sample> {
        ciborium::from_reader(bytes).ok()
    }

    fn sample() -> Sample {
        let mut cpu = Cpu::new();
        (cpu.usage_percent, cpu.load1) = (Some(12.51), Some(1.0 / 3.0));
        cpu.cores = vec![0.5, 100.0];
        let mut memory = Memory::new();
        (memory.total_bytes, memory.oom_kills) = (Some(u64::MAX), Some(3));
        let name = |text: &str| text.parse().unwrap();
        let mut root = Filesystem::new(name("/été"), Some(name("/dev/vda1")), None);
        root.used_percent = Some(-1.0);
        Sample {
            ts: Some(1_763_630_000_123),
            boot: Some(1),
            interval_ms: Some(10_000),
            cpu: Some(cpu),
            memory: Some(memory),
            filesystems: vec![root],
            disks: vec![Disk::new(name("vda")), Disk::new(name("vdb"))],
            ..Sample::default()
        }
    }

    #[test]
    fn every_half_float_reads_as_the_library_reads_it() {
        for bits in 0..=u16::MAX {
            let [high, low] = bits.to_be_bytes();
            let expected: f64 = ciborium::from_reader(&[0xf9, high, low][..]).unwrap();
            let have = half(bits.into());
            assert!(
                have == expected || have.is_nan() && expected.is_nan(),
                "{bits:04x}"
            );
        }
    }

    #[test]
    fn what_the_contract_does_not_know_is_passed_over() {
        // {"new": [{"x": 1(0)}, h'ff', null], "cpu": {"y": "z", "load1": 2(1)}}
        let bytes =
            b"\xa2\x63new\x83\xa1\x61x\xc1\x00\x41\xff\xf6\x63cpu\xa2\x61y\x61z\x65load1\xc2\x01";
        guard::check(bytes).unwrap();
        assert_eq!(read(bytes).unwrap().cpu.unwrap().load1, Some(1.0));
    }

    #[test]
    fn bytes_that_no_guard_has_seen_do_no_harm() {
        let whole = encode(&sample()).unwrap();
        assert_eq!(read(&whole), Ok(sample()));
        for end in 0..whole.len() {
            assert!(read(&whole[..end]).is_err());
        }
        for lie in [
            &b"\xbb\xff\xff\xff\xff\xff\xff\xff\xff"[..],
            b"\xa1\x65disks\x9b\xff\xff\xff\xff\xff\xff\xff\xff",
            b"\xa1\x61x\x7b\xff\xff\xff\xff\xff\xff\xff\xff",
            b"\xff",
            b"\xa1\xf6\xf6",
            // Lists where maps belong.
            b"\x82\x01\x02",
            b"\xa1\x63cpu\x81\x01",
        ] {
            assert!(read(lie).is_err(), "{lie:02x?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_000))]
        #[test]
        fn changed_bytes_read_as_the_library_reads_them(
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        ) {
            let mut bytes = encode(&sample()).unwrap();
            for (place, byte) in changes {
                let place = place.index(bytes.len());
                bytes[place] = byte;
            }
            if guard::check(&bytes).is_ok() {
                match (read(&bytes), library(&bytes)) {
                    (Ok(own), Some(other)) => prop_assert_eq!(own, other),
                    (Err(_), None) => {}
                    // Only of tagged numbers the library makes something else.
                    (own, other) => prop_assert!(bytes.iter().any(|byte| byte >> 5 == 6), "{:?} {:?}", own, other),
                }
            }
        }
    }
}
