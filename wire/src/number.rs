//! How numbers travel: rounding, the shortest float on the wire, the shortest decimal text.
//!
//! A float is rounded to what its source really knows, then sent as f32 where reading that f32 back
//! gives the very same number, and as f64 otherwise. `12.51` so costs 5 bytes instead of 9. The
//! codec's library narrows further to a half float where that is exact, as RFC 8949 section 4.1
//! prefers. A reader takes an integer where a float is expected, and a whole float where an integer
//! is expected: other languages write 5.0 as 5, or 5 as 5.0.

use std::fmt;

use serde::de::{self, Deserializer, Visitor};
use serde::ser::Serializer;

/// The value of one field.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value {
    /// A counter or an amount of bytes.
    Integer(u64),
    /// A measured number; always finite.
    Float(f64),
}

impl Value {
    /// The value as a float; integers beyond 2^53 are rounded.
    #[must_use]
    pub fn as_f64(self) -> f64 {
        match self {
            #[expect(clippy::cast_precision_loss, reason = "documented")]
            Self::Integer(value) => value as f64,
            Self::Float(value) => value,
        }
    }
}

/// The shortest decimal text that reads back as the same number, without exponent.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Integer(value) => value.fmt(f),
            // Negative zero would read as a sign that nobody measured.
            Self::Float(value) if *value == 0.0 => f.write_str("0"),
            Self::Float(value) => value.fmt(f),
        }
    }
}

/// Rounds to `decimals` places after the point. Numbers too large to have such places stay as they
/// are.
#[must_use]
pub fn round(value: f64, decimals: u8) -> f64 {
    let scale = 10_f64.powi(decimals.into());
    let scaled = value * scale;
    if scaled.abs() < 9.0e15 {
        scaled.round() / scale
    } else {
        value
    }
}

/// The number that a publisher meant when it sent this f32: the nearest with up to three decimals
/// if there is one, else the shortest decimal that names this f32.
#[must_use]
pub fn from_f32(sent: f32) -> f64 {
    let exact = f64::from(sent);
    let rounded = round(exact, 3);
    #[expect(
        clippy::cast_possible_truncation,
        reason = "rounding to f32 is the question asked"
    )]
    if rounded as f32 == sent {
        return rounded;
    }
    sent.to_string().parse().unwrap_or(exact)
}

/// The f32 to send for `value`, when it reads back as the very same number.
fn as_f32(value: f64) -> Option<f32> {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "checked by reading it back"
    )]
    let short = value as f32;
    (short.is_finite() && from_f32(short) == value).then_some(short)
}

/// A type that a field can have.
pub trait Point: Copy + Sized {
    /// Any field's value.
    fn value(self) -> Value;
    /// Rounded to what the source knows.
    #[must_use]
    fn rounded(self, decimals: u8) -> Self;
    #[doc(hidden)]
    fn from_unsigned(value: u64) -> Option<Self>;
    #[doc(hidden)]
    fn from_float(value: f64) -> Option<Self>;
    #[doc(hidden)]
    const EXPECTED: &'static str;
    #[doc(hidden)]
    const IS_WHOLE: bool;
}

impl Point for u64 {
    fn value(self) -> Value {
        Value::Integer(self)
    }

    fn rounded(self, _decimals: u8) -> Self {
        self
    }

    fn from_unsigned(value: u64) -> Option<Self> {
        Some(value)
    }

    fn from_float(value: f64) -> Option<Self> {
        // 2^64 itself would saturate.
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "checked"
        )]
        (value.fract() == 0.0 && (0.0..18_446_744_073_709_551_616.0).contains(&value))
            .then_some(value as Self)
    }

    const EXPECTED: &'static str = "a whole number from 0 to 2^64-1";
    const IS_WHOLE: bool = true;
}

impl Point for f64 {
    fn value(self) -> Value {
        Value::Float(self)
    }

    fn rounded(self, decimals: u8) -> Self {
        round(self, decimals)
    }

    fn from_unsigned(value: u64) -> Option<Self> {
        #[expect(
            clippy::cast_precision_loss,
            reason = "a float is what the field holds"
        )]
        Some(value as Self)
    }

    fn from_float(value: f64) -> Option<Self> {
        if !value.is_finite() {
            return None;
        }
        #[expect(
            clippy::cast_possible_truncation,
            reason = "checked by widening it again"
        )]
        let short = value as f32;
        Some(if f64::from(short) == value {
            from_f32(short)
        } else {
            value
        })
    }

    const EXPECTED: &'static str = "a finite number";
    const IS_WHOLE: bool = false;
}

/// Writes a number as short as it goes.
pub(crate) fn serialize_value<S: Serializer>(value: Value, out: S) -> Result<S::Ok, S::Error> {
    match value {
        Value::Integer(value) => out.serialize_u64(value),
        Value::Float(value) => match as_f32(value) {
            Some(short) => out.serialize_f32(short),
            None => out.serialize_f64(value),
        },
    }
}

struct PointVisitor<T>(std::marker::PhantomData<T>);

impl<T: Point> Visitor<'_> for PointVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(T::EXPECTED)
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<T, E> {
        T::from_unsigned(value)
            .ok_or_else(|| E::invalid_value(de::Unexpected::Unsigned(value), &self))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<T, E> {
        #[expect(
            clippy::cast_precision_loss,
            reason = "a negative integer can only be a float"
        )]
        T::from_float(value as f64)
            .ok_or_else(|| E::invalid_value(de::Unexpected::Signed(value), &self))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<T, E> {
        T::from_float(value).ok_or_else(|| E::invalid_value(de::Unexpected::Float(value), &self))
    }
}

pub(crate) fn deserialize_point<'de, T: Point, D: Deserializer<'de>>(
    input: D,
) -> Result<T, D::Error> {
    input.deserialize_any(PointVisitor(std::marker::PhantomData))
}

/// `#[serde(with)]` for an optional field of a section. `null` is refused: unknown is absent.
pub(crate) mod optional {
    use super::{Deserializer, Point, Serializer, deserialize_point, serialize_value};

    #[expect(clippy::ref_option, reason = "serde gives a reference")]
    pub(crate) fn serialize<T: Point, S: Serializer>(
        point: &Option<T>,
        out: S,
    ) -> Result<S::Ok, S::Error> {
        match point {
            Some(point) => serialize_value(point.value(), out),
            None => out.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, T: Point, D: Deserializer<'de>>(
        input: D,
    ) -> Result<Option<T>, D::Error> {
        deserialize_point(input).map(Some)
    }
}

/// `#[serde(with)]` for a list of numbers.
pub(crate) mod list {
    use serde::de::{SeqAccess, Visitor};
    use serde::ser::SerializeSeq;
    use serde::{Deserialize, Serialize};

    use super::{Deserializer, Point, Serializer, Value, deserialize_point, fmt, serialize_value};

    struct Out(f64);

    impl Serialize for Out {
        fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
            serialize_value(Value::Float(self.0), out)
        }
    }

    struct In<T>(T);

    impl<'de, T: Point> Deserialize<'de> for In<T> {
        fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
            deserialize_point(input).map(In)
        }
    }

    struct ListVisitor;

    impl<'de> Visitor<'de> for ListVisitor {
        type Value = Vec<f64>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list of numbers")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Vec<f64>, A::Error> {
            let mut list = Vec::new();
            while let Some(In(item)) = items.next_element()? {
                list.push(item);
            }
            Ok(list)
        }
    }

    pub(crate) fn serialize<S: Serializer>(list: &[f64], out: S) -> Result<S::Ok, S::Error> {
        let mut items = out.serialize_seq(Some(list.len()))?;
        for item in list {
            items.serialize_element(&Out(*item))?;
        }
        items.end()
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<Vec<f64>, D::Error> {
        input.deserialize_seq(ListVisitor)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_print_as_the_shortest_decimal() {
        let check = |value: f64, text: &str| assert_eq!(Value::Float(value).to_string(), text);
        check(5.0, "5");
        check(12.51, "12.51");
        check(0.1, "0.1");
        check(-0.0, "0");
        check(1e21, "1000000000000000000000");
        assert_eq!(Value::Integer(u64::MAX).to_string(), "18446744073709551615");
    }

    #[test]
    fn rounding_keeps_what_the_source_knows() {
        assert_eq!(round(12.345_678, 2), 12.35);
        assert_eq!(round(-0.05, 1), -0.1);
        assert_eq!(round(1.0e300, 2), 1.0e300);
        assert_eq!(round(0.1 + 0.2, 3), 0.3);
    }

    proptest! {
        #[test]
        fn a_float_sent_short_reads_back_as_itself(value in any::<f64>().prop_filter("finite", |v| v.is_finite())) {
            if let Some(short) = as_f32(value) {
                prop_assert_eq!(from_f32(short), value);
            }
        }

        #[test]
        fn every_number_below_a_thousand_with_two_decimals_is_sent_short(hundredths in 0_u32..100_000) {
            let value = round(f64::from(hundredths) / 100.0, 2);
            prop_assert!(as_f32(value).is_some(), "{}", value);
        }
    }
}
