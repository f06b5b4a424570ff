//! The shortest decimal text of a value, written without allocation.
//!
//! The text is the one that [`Value`] shows. Most numbers on the bus are whole or have up to three
//! decimals, and averages of them up to six; these are written digit by digit. All others take the
//! standard library's way.

use std::fmt::Write;

use crate::number::Value;

/// The longest text that is written in place: 20 digits of an integer, or a sign, 15 digits and a
/// point.
const MOST: usize = 20;
/// What has more digits than this may have a shorter text than those digits: 15 decimal digits always
/// tell two numbers apart.
const MOST_DIGITS: f64 = 1e15;

/// Room for the text of one value, to be used again for the next.
#[derive(Debug, Clone, Default)]
pub struct Decimal {
    digits: [u8; MOST],
    long: String,
}

impl Decimal {
    /// The shortest decimal text that reads back as the same number, without exponent.
    pub fn text(&mut self, value: Value) -> &str {
        let start = match value {
            Value::Integer(value) => Some(self.whole(MOST, value)),
            Value::Float(value) => self.decimals(value, 3).or_else(|| self.decimals(value, 6)),
        };
        match start.map(|start| std::str::from_utf8(&self.digits[start..])) {
            Some(Ok(text)) => text,
            _ => {
                self.long.clear();
                // Writing into a string does not fail.
                let _ = write!(self.long, "{value}");
                &self.long
            }
        }
    }

    /// Writes the digits of `value` so that they end before `end`. Returns where they begin.
    fn whole(&mut self, end: usize, mut value: u64) -> usize {
        let mut at = end;
        loop {
            at -= 1;
            self.digits[at] = digit(value % 10);
            value /= 10;
            if value == 0 {
                return at;
            }
        }
    }

    /// Writes a number of up to `places` decimals; `None` when it has more.
    fn decimals(&mut self, value: f64, places: u8) -> Option<usize> {
        let (scale, unit) = if places == 3 {
            (1e3, 1_000)
        } else {
            (1e6, 1_000_000)
        };
        let scaled = (value.abs() * scale).round();
        // The quotient is rounded to the nearest number, as reading the text is.
        if scaled >= MOST_DIGITS || scaled / scale != value.abs() {
            return None;
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "whole, not negative and below 10^15"
        )]
        let scaled = scaled as u64;
        let (whole, mut part) = (scaled / unit, scaled % unit);
        let mut at = MOST;
        if part > 0 {
            let mut places = places;
            while part.is_multiple_of(10) {
                part /= 10;
                places -= 1;
            }
            for _ in 0..places {
                at -= 1;
                self.digits[at] = digit(part % 10);
                part /= 10;
            }
            at -= 1;
            self.digits[at] = b'.';
        }
        at = self.whole(at, whole);
        if value < 0.0 {
            at -= 1;
            self.digits[at] = b'-';
        }
        Some(at)
    }
}

/// The digit of a number below 10.
fn digit(value: u64) -> u8 {
    b'0' + u8::try_from(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(value: Value) {
        assert_eq!(Decimal::default().text(value), value.to_string());
    }

    #[test]
    fn the_text_is_the_one_that_the_value_shows() {
        for value in [0, 9, 10, 99, 100, 1 << 53, u64::MAX] {
            check(Value::Integer(value));
        }
        for value in [
            0.0,
            0.000_001,
            -33.333_3,
            12.345_678,
            999_999_999.999_999,
            -0.0,
            0.001,
            0.01,
            0.1,
            -0.5,
            0.0005,
            1e-7,
            12.51,
            100.0,
            99.999,
            1e11,
            999_999_999_999.999,
            1e12,
            1e15,
            1e21,
            1e300,
            f64::MIN_POSITIVE,
            f64::MAX,
            f64::MIN,
            1.0 / 3.0,
            2.5e-3,
            0.3 + 1e-17,
        ] {
            check(Value::Float(value));
        }
    }

    #[test]
    fn room_that_was_used_shows_nothing_of_the_value_before() {
        let mut decimal = Decimal::default();
        assert_eq!(decimal.text(Value::Float(1.0 / 3.0)), "0.3333333333333333");
        assert_eq!(decimal.text(Value::Integer(u64::MAX)), u64::MAX.to_string());
        assert_eq!(decimal.text(Value::Float(-7.25)), "-7.25");
    }

    proptest! {
        #[test]
        fn any_value_has_the_text_that_it_shows(
            float in any::<f64>().prop_filter("finite", |value| value.is_finite()),
            whole in any::<u64>(),
            digits in any::<i64>(),
            places in 0_i32..7,
        ) {
            check(Value::Float(float));
            check(Value::Integer(whole));
            #[expect(clippy::cast_precision_loss, reason = "any number serves")]
            let shifted = (digits >> (places * 7)) as f64 / 10_f64.powi(places);
            check(Value::Float(shifted));
        }
    }
}
