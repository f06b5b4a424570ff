//! A memory as bytes, and back: exact to the bit.
//!
//! ```text
//! empty    0
//! change   1  the last value: real  changed: past
//! heard    2  at: past
//! window   3  begun, base, last: past  the last value, the total: numbers  points: count, each:
//!               steps since the point before, doubled; 1 more where the count is another one: whole
//!               the count: whole, where it is another one
//!               its part less that of the point before: signed
//!               its value: number
//! ```
//! A number that is whole in thousandths is one more than its difference to the number before: whole; any
//! other one is 0 and then real. Most values have few digits and differ little, so this is a third of the
//! size.

use std::collections::VecDeque;

use super::{Memory, Point, Window, step_ms};
use crate::evaluator::kept::bytes::{Packer, Unpacker, unzigzag, zigzag};
use crate::rule::Fold;

/// The most points that are read: some more than a window has.
const MAX_POINTS: usize = 64;
const THOUSANDTHS: f64 = 1000.0;
/// Up to here a double holds all whole numbers.
const EXACT: f64 = 9_007_199_254_740_992.0;

impl Memory {
    /// Whether there is nothing to keep.
    pub(in crate::evaluator) fn is_empty(&self) -> bool {
        matches!(self, Self::Empty)
    }

    pub(in crate::evaluator) fn pack(&self, to: &mut Packer, kept_ms: u64) {
        match self {
            Self::Empty => to.byte(0),
            Self::Change { last, changed_ms } => {
                to.byte(1);
                to.real(*last);
                to.past(*changed_ms, kept_ms);
            }
            Self::Heard { at_ms } => {
                to.byte(2);
                to.past(*at_ms, kept_ms);
            }
            // By a clock that was set back since: its next value begins it anew, too.
            Self::Window(window) if window.last_ms > kept_ms => to.byte(0),
            Self::Window(window) => {
                to.byte(3);
                window.pack(to, kept_ms);
            }
        }
    }

    /// Whether it ends before or with the step of `kept_ms`, as all that `fold` remembers does.
    pub(in crate::evaluator) fn is_past(&self, fold: Fold, kept_ms: u64) -> bool {
        let (
            Self::Window(window),
            Fold::Aggregate { window_ms, .. }
            | Fold::Forecast { window_ms, .. }
            | Fold::Rate { window_ms },
        ) = (self, fold)
        else {
            return true;
        };
        let step_ms = step_ms(window_ms);
        let newest = window.points.back();
        newest.is_none_or(|point| window.step(kept_ms, step_ms) >= i64::from(point.step))
    }

    /// The memory that comes next; `None`: there is none.
    pub(in crate::evaluator) fn unpack(from: &mut Unpacker<'_>, kept_ms: u64) -> Option<Self> {
        match from.byte()? {
            0 => Some(Self::Empty),
            1 => Some(Self::Change {
                last: from.real()?,
                changed_ms: from.past(kept_ms)?,
            }),
            2 => Some(Self::Heard {
                at_ms: from.past(kept_ms)?,
            }),
            3 => {
                let window = Window::unpack(from, kept_ms)?;
                Some(Self::Window(Box::new(window)))
            }
            _ => None,
        }
    }
}

impl Window {
    fn pack(&self, to: &mut Packer, kept_ms: u64) {
        for at_ms in [self.begun_ms, self.base_ms, self.last_ms] {
            to.past(at_ms, kept_ms);
        }
        let mut numbers = Numbers::default();
        numbers.pack(to, self.last);
        numbers.pack(to, self.total);
        to.count(self.points.len());
        let (mut step, mut count, mut part) = (0, 0, 0);
        for point in &self.points {
            let steps = u64::from(point.step.saturating_sub(step));
            to.whole(steps << 1 | u64::from(point.count != count));
            if point.count != count {
                to.whole(point.count.into());
            }
            to.signed(i64::from(point.part) - i64::from(part));
            numbers.pack(to, point.value);
            (step, count, part) = (point.step, point.count, point.part);
        }
    }

    fn unpack(from: &mut Unpacker<'_>, kept_ms: u64) -> Option<Self> {
        let [begun_ms, base_ms, last_ms] = [
            from.past(kept_ms)?,
            from.past(kept_ms)?,
            from.past(kept_ms)?,
        ];
        let mut numbers = Numbers::default();
        let (last, total) = (numbers.unpack(from)?, numbers.unpack(from)?);
        let points_left = from.count().filter(|points| *points <= MAX_POINTS)?;
        let mut points = VecDeque::with_capacity(points_left);
        let (mut step, mut count, mut part) = (0_u32, 0_u16, 0_u16);
        for _ in 0..points_left {
            let head = from.whole()?;
            step = step.checked_add(u32::try_from(head >> 1).ok()?)?;
            if head & 1 == 1 {
                count = u16::try_from(from.whole()?).ok()?;
            }
            part = u16::try_from(i64::from(part).checked_add(from.signed()?)?).ok()?;
            // A point stands for a value at least.
            if count == 0 {
                return None;
            }
            points.push_back(Point {
                value: numbers.unpack(from)?,
                step,
                count,
                part,
            });
        }
        Some(Self {
            begun_ms,
            base_ms,
            last_ms,
            points,
            last,
            total,
        })
    }
}

/// Numbers one after the other.
#[derive(Debug, Default)]
struct Numbers {
    /// The number before, in thousandths.
    before: i64,
}

impl Numbers {
    fn pack(&mut self, to: &mut Packer, number: f64) {
        if let Some(thousandths) = thousandths(number) {
            to.whole(1 + zigzag(thousandths - self.before));
            self.before = thousandths;
        } else {
            to.byte(0);
            to.real(number);
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "a larger one was never packed")]
    fn unpack(&mut self, from: &mut Unpacker<'_>) -> Option<f64> {
        match from.whole()? {
            0 => from.real(),
            more => {
                self.before = self.before.checked_add(unzigzag(more - 1))?;
                Some(self.before as f64 / THOUSANDTHS)
            }
        }
    }
}

/// `number` in thousandths, where that is the same number.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "it is smaller than what a double holds exactly"
)]
fn thousandths(number: f64) -> Option<i64> {
    let scaled = (number * THOUSANDTHS).round();
    if scaled.abs() > EXACT || scaled.is_nan() {
        return None;
    }
    let whole = scaled as i64;
    (((whole as f64) / THOUSANDTHS).to_bits() == number.to_bits()).then_some(whole)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::rule::Aggregate;

    const NOW_MS: u64 = 1_763_630_000_000;

    fn there_and_back(memory: &Memory, kept_ms: u64) -> Memory {
        let mut packer = Packer::default();
        memory.pack(&mut packer, kept_ms);
        let bytes = packer.into_bytes();
        let mut unpacker = Unpacker::new(&bytes);
        let back = Memory::unpack(&mut unpacker, kept_ms).unwrap();
        assert_eq!(unpacker.left(), 0);
        for cut in 0..bytes.len() {
            assert!(Memory::unpack(&mut Unpacker::new(&bytes[..cut]), kept_ms).is_none());
        }
        back
    }

    #[test]
    fn a_number_comes_back_to_the_bit() {
        let odd = f64::from_bits(0x7ff8_0000_0000_1234);
        for number in [
            0.0,
            -0.0,
            0.1,
            0.1 + 0.2,
            -12.345,
            1e-9,
            9e12,
            9.1e15,
            f64::MAX,
            f64::MIN_POSITIVE,
            f64::INFINITY,
            f64::NEG_INFINITY,
            odd,
        ] {
            let mut packer = Packer::default();
            let mut numbers = Numbers::default();
            numbers.pack(&mut packer, 77.7);
            numbers.pack(&mut packer, number);
            let bytes = packer.into_bytes();
            let (mut unpacker, mut numbers) = (Unpacker::new(&bytes), Numbers::default());
            assert_eq!(numbers.unpack(&mut unpacker), Some(77.7));
            let back = numbers.unpack(&mut unpacker).unwrap();
            assert_eq!(back.to_bits(), number.to_bits(), "{number}");
        }
    }

    #[test]
    fn a_change_and_a_time_come_back() {
        let never = Memory::Change {
            last: f64::NAN,
            changed_ms: 0,
        };
        for memory in [
            Memory::Empty,
            Memory::Heard { at_ms: NOW_MS - 1 },
            Memory::Change {
                last: 2.0,
                changed_ms: NOW_MS - 90_000,
            },
            never,
        ] {
            let back = there_and_back(&memory, NOW_MS);
            assert_eq!(format!("{back:?}"), format!("{memory:?}"));
        }
    }

    #[test]
    fn a_window_without_values_in_a_point_is_refused() {
        let mut packer = Packer::default();
        packer.byte(3);
        for number in [1, 1, 1, 1, 1, 1, 0, 0, 1] {
            packer.whole(number);
        }
        let bytes = packer.into_bytes();
        assert!(Memory::unpack(&mut Unpacker::new(&bytes), NOW_MS).is_none());
    }

    #[test]
    fn a_window_of_a_time_to_come_is_not_kept_and_not_taken() {
        let fold = Fold::Rate { window_ms: 60_000 };
        let (mut memory, mut bytes) = (Memory::Empty, Packer::default());
        for number in 0..6_u32 {
            let now_ms = NOW_MS + u64::from(number) * 10_000;
            memory.fold(fold, f64::from(number), 10_000, now_ms);
        }
        let last_ms = NOW_MS + 50_000;
        assert!(!there_and_back(&memory, last_ms).is_empty());
        assert!(there_and_back(&memory, last_ms - 1).is_empty());
        assert!(memory.is_past(fold, last_ms));
        assert!(!memory.is_past(fold, last_ms - 10_000));
        // A file that says so all the same.
        let Memory::Window(window) = memory else {
            panic!("{memory:?}");
        };
        bytes.byte(3);
        window.pack(&mut bytes, NOW_MS);
        let bytes = bytes.into_bytes();
        let back = Memory::unpack(&mut Unpacker::new(&bytes), NOW_MS).unwrap();
        assert!(!back.is_past(fold, NOW_MS));
    }

    proptest! {
        #[test]
        fn a_window_comes_back_as_it_was(
            values in proptest::collection::vec((1..40_000_u64, -1e6..1e6_f64, any::<bool>()), 1..90),
            window_ms in 5_000..3_600_000_u64,
        ) {
            for fold in [
                Fold::Aggregate { how: Aggregate::Average, window_ms },
                Fold::Rate { window_ms },
                Fold::Forecast { ahead_ms: 1000, window_ms },
            ] {
                let (mut memory, mut now_ms) = (Memory::Empty, NOW_MS);
                for (span_ms, value, round) in &values {
                    now_ms += span_ms;
                    let value = if *round { value.round() / 100.0 } else { *value };
                    memory.fold(fold, value, 5_000, now_ms);
                }
                let back = there_and_back(&memory, now_ms + 1);
                prop_assert_eq!(format!("{back:?}"), format!("{memory:?}"));
            }
        }

        #[test]
        fn any_bytes_make_a_memory_that_can_be_used_or_none(
            bytes in proptest::collection::vec(any::<u8>(), 0..60),
            kind in 0..4_u8,
        ) {
            let bytes = [vec![kind], bytes].concat();
            let Some(mut memory) = Memory::unpack(&mut Unpacker::new(&bytes), NOW_MS) else {
                return Ok(());
            };
            for fold in [
                Fold::Rate { window_ms: 60_000 },
                Fold::Forecast { ahead_ms: 1000, window_ms: 60_000 },
                Fold::Changed { window_ms: 60_000 },
            ] {
                memory.fold(fold, 1.0, 10_000, NOW_MS + 1000);
            }
        }
    }
}
