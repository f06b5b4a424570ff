//! What a rule must remember of one value's past, and the value that it makes of it.
//!
//! A window is cut into thirty steps, each of which keeps one point however many samples fall into it, so a
//! window of an hour costs what one of five minutes does. It holds the steps that lie wholly within the last
//! `window_ms`, and the current one.
//!
//! A fold says nothing until it has seen enough: an aggregate and a rate the whole of their window, a
//! forecast half of it, so that nothing is raised or resolved by a window's first samples. A hole longer
//! than the window begins it anew, be it the node's or that of a notifier that was stopped. A sum and a count
//! begin anew after a shorter stop, too: values that nobody heard make them less than they are.
//!
//! | module | owns |
//! |---|---|
//! | `kept` | a memory as bytes, and back |

mod kept;

use std::collections::VecDeque;

use crate::rule::{Aggregate, Fold};

/// How many points a window keeps at most, the current step besides.
const STEPS: u64 = 30;

/// The past of one value, as its rule's fold needs it.
#[derive(Debug, Clone)]
pub(super) enum Memory {
    /// Nothing was seen yet.
    Empty,
    /// The last value, and when one differed from the one before; 0: never.
    Change { last: f64, changed_ms: u64 },
    /// When a value was heard last.
    Heard { at_ms: u64 },
    /// The values of a window.
    Window(Box<Window>),
}

/// See the module's description.
#[derive(Debug, Clone)]
pub(super) struct Window {
    /// Since when there has been no hole as long as the window.
    begun_ms: u64,
    /// From where its steps are counted.
    base_ms: u64,
    /// When its last value came.
    last_ms: u64,
    points: VecDeque<Point>,
    /// The last value of a counter, and how far it has come in all.
    last: f64,
    total: f64,
}

/// One step.
#[derive(Debug, Clone, Copy)]
struct Point {
    /// A sum, an extreme, or a counter's total at its first value, as the fold needs it.
    value: f64,
    /// The step's number since the window began.
    step: u32,
    count: u16,
    /// When its first value came, in parts of a step.
    part: u16,
}

impl Memory {
    /// Takes `value` and tells what the fold makes of it and the past; `None`: it has not seen enough.
    /// `interval_ms` is the time from one value to the next.
    pub(super) fn fold(
        &mut self,
        fold: Fold,
        value: f64,
        interval_ms: u64,
        now_ms: u64,
    ) -> Option<f64> {
        match fold {
            Fold::Last => Some(value),
            Fold::Absent { .. } => {
                *self = Self::Heard { at_ms: now_ms };
                Some(0.0)
            }
            Fold::Changed { window_ms } => Some(self.changed(value, window_ms, now_ms)),
            Fold::Aggregate { window_ms, .. }
            | Fold::Forecast { window_ms, .. }
            | Fold::Rate { window_ms } => {
                if !matches!(self, Self::Window(_)) {
                    *self = Self::Window(Box::new(Window::new(now_ms, value)));
                }
                let Self::Window(window) = self else {
                    return None;
                };
                window.make_room(fold, window_ms, interval_ms, now_ms);
                window.push(fold, window_ms, value, now_ms);
                window.read(fold, window_ms, interval_ms, now_ms)
            }
        }
    }

    /// Whether what `fold` remembers is of no use after `unheard_ms` in which nobody listened. A sum bears the
    /// loss of one value or of one step; the others say the same by fewer values.
    pub(super) fn is_spoilt(fold: Fold, unheard_ms: u64, interval_ms: u64) -> bool {
        match fold {
            Fold::Aggregate {
                how: Aggregate::Sum | Aggregate::Count,
                window_ms,
            } => unheard_ms > interval_ms.max(step_ms(window_ms)),
            _ => false,
        }
    }

    /// Takes a value that was known before we listened: nothing is judged by it.
    pub(super) fn prime(&mut self, fold: Fold, value: f64, now_ms: u64) {
        match (fold, &self) {
            (Fold::Absent { .. }, _) => *self = Self::Heard { at_ms: now_ms },
            (Fold::Changed { .. }, Self::Empty) => {
                *self = Self::Change {
                    last: value,
                    changed_ms: 0,
                };
            }
            (Fold::Changed { .. }, Self::Change { last, changed_ms }) if last.is_nan() => {
                *self = Self::Change {
                    last: value,
                    changed_ms: *changed_ms,
                };
            }
            _ => {}
        }
    }

    /// An alert of an earlier run says that the value changed at `at_ms`, not what it was. What is known
    /// may be a later change.
    pub(super) fn restore_change(&mut self, at_ms: u64) {
        *self = match *self {
            Self::Change { last, changed_ms } => Self::Change {
                last,
                changed_ms: changed_ms.max(at_ms),
            },
            _ => Self::Change {
                last: f64::NAN,
                changed_ms: at_ms,
            },
        };
    }

    /// The value that was known is not the last one.
    pub(super) fn forget_value(&mut self) {
        if let Self::Change { last, .. } = self {
            *last = f64::NAN;
        }
    }

    /// When a value was heard last, for a rule that waits for its absence; `None`: it never was.
    pub(super) fn heard_ms(&self) -> Option<u64> {
        match self {
            Self::Heard { at_ms } => Some(*at_ms),
            _ => None,
        }
    }

    /// Our clock was set to `now_ms`. The others see that themselves with their next value.
    pub(super) fn forget_future(&mut self, now_ms: u64) {
        if let Self::Heard { at_ms } = self {
            *at_ms = (*at_ms).min(now_ms);
        }
    }

    #[expect(clippy::float_cmp, reason = "any other value is a change")]
    fn changed(&mut self, value: f64, window_ms: u64, now_ms: u64) -> f64 {
        let changed_ms = match *self {
            // Nothing is known of the value before a restart.
            Self::Change { last, .. } if last != value && !last.is_nan() => now_ms,
            // By a clock that was ahead.
            Self::Change { changed_ms, .. } => changed_ms.min(now_ms),
            _ => 0,
        };
        *self = Self::Change {
            last: value,
            changed_ms,
        };
        let lately = changed_ms != 0 && now_ms.saturating_sub(changed_ms) < window_ms;
        f64::from(u8::from(lately))
    }
}

fn step_ms(window_ms: u64) -> u64 {
    window_ms.div_ceil(STEPS).max(1)
}

impl Window {
    fn new(now_ms: u64, value: f64) -> Self {
        Self {
            begun_ms: now_ms,
            base_ms: now_ms,
            last_ms: now_ms,
            points: VecDeque::new(),
            last: value,
            total: 0.0,
        }
    }

    /// Lets go what is older than the window, and all of it after a hole.
    fn make_room(&mut self, fold: Fold, window_ms: u64, interval_ms: u64, now_ms: u64) {
        let step_ms = step_ms(window_ms);
        let hole_ms = window_ms.max(interval_ms * 3);
        // A clock that stepped back leaves points of a future: none of them can be trusted.
        if now_ms < self.last_ms || now_ms - self.last_ms > hole_ms {
            *self = Self::new(now_ms, self.last);
            return;
        }
        let oldest = self.step(now_ms.saturating_sub(window_ms), step_ms);
        // A counter's change is counted from the last point before the window.
        let kept = usize::from(matches!(fold, Fold::Rate { .. }));
        while self
            .points
            .get(kept)
            .is_some_and(|point| i64::from(point.step) <= oldest)
        {
            self.points.pop_front();
        }
    }

    /// The step of a time; below 0 before the beginning.
    fn step(&self, at_ms: u64, step_ms: u64) -> i64 {
        let number = |ms: u64| i64::try_from(ms / step_ms).unwrap_or(i64::MAX);
        number(at_ms) - number(self.base_ms)
    }

    fn push(&mut self, fold: Fold, window_ms: u64, value: f64, now_ms: u64) {
        if self.points.is_empty() {
            (self.last, self.base_ms) = (value, now_ms);
        }
        self.last_ms = now_ms;
        if let Fold::Rate { .. } = fold {
            // A counter that falls began anew at nothing.
            let rise = if value >= self.last {
                value - self.last
            } else {
                value.max(0.0)
            };
            self.total += rise;
            self.last = value;
        }
        let step_ms = step_ms(window_ms);
        let step = u32::try_from(self.step(now_ms, step_ms)).unwrap_or(u32::MAX);
        match self.points.back_mut() {
            Some(point) if point.step == step => point.add(fold, value),
            _ => {
                let part = now_ms % step_ms * u64::from(u16::MAX) / step_ms;
                self.points.push_back(Point {
                    value: if let Fold::Rate { .. } = fold {
                        self.total
                    } else {
                        value
                    },
                    step,
                    count: 1,
                    part: u16::try_from(part).unwrap_or(u16::MAX),
                });
            }
        }
    }

    fn at_ms(&self, point: &Point, step_ms: u64) -> u64 {
        let step = self.base_ms / step_ms + u64::from(point.step);
        step * step_ms + (u64::from(point.part) * step_ms).div_ceil(u64::from(u16::MAX))
    }

    fn read(&self, fold: Fold, window_ms: u64, interval_ms: u64, now_ms: u64) -> Option<f64> {
        // The first value stands for the interval before it.
        let seen_ms = now_ms.saturating_sub(self.begun_ms) + interval_ms;
        match fold {
            Fold::Aggregate { how, .. } if seen_ms >= window_ms => Some(self.aggregate(how)),
            Fold::Forecast { ahead_ms, .. } if seen_ms >= window_ms / 2 => {
                self.forecast(step_ms(window_ms), ahead_ms, now_ms)
            }
            Fold::Rate { .. } if seen_ms >= window_ms => self.rate(step_ms(window_ms), now_ms),
            _ => None,
        }
    }

    fn aggregate(&self, how: Aggregate) -> f64 {
        let values = || self.points.iter().map(|point| point.value);
        match how {
            Aggregate::Minimum => return values().fold(f64::INFINITY, f64::min),
            Aggregate::Maximum => return values().fold(f64::NEG_INFINITY, f64::max),
            Aggregate::Average | Aggregate::Sum | Aggregate::Count => {}
        }
        let (mut count, mut sum) = (0_u32, 0.0);
        for point in &self.points {
            count += u32::from(point.count);
            sum += point.value;
        }
        match how {
            Aggregate::Average => sum / f64::from(count),
            Aggregate::Count => f64::from(count),
            _ => sum,
        }
    }

    fn rate(&self, step_ms: u64, now_ms: u64) -> Option<f64> {
        let oldest = self.points.front()?;
        let over_ms = now_ms.saturating_sub(self.at_ms(oldest, step_ms));
        (over_ms > 0).then(|| (self.total - oldest.value) / seconds(over_ms))
    }

    /// The value in `ahead_ms` by the line of least squares through the steps' averages, each weighing
    /// as much as it has values.
    fn forecast(&self, step_ms: u64, ahead_ms: u64, now_ms: u64) -> Option<f64> {
        let newest = self.points.back()?;
        // Times are steps after the newest point: small numbers, so that no digits are lost.
        let at = |point: &Point| {
            let parts = f64::from(point.part) - f64::from(newest.part);
            f64::from(point.step) - f64::from(newest.step) + parts / f64::from(u16::MAX)
        };
        let (mut weight, mut times, mut values) = (0.0, 0.0, 0.0);
        let (mut squares, mut products) = (0.0, 0.0);
        for point in &self.points {
            let (count, time) = (f64::from(point.count), at(point));
            weight += count;
            times += count * time;
            values += point.value;
            squares += count * time * time;
            products += point.value * time;
        }
        let spread = weight * squares - times * times;
        let slope = (weight * products - times * values) / spread;
        let since_newest_ms = now_ms.saturating_sub(self.at_ms(newest, step_ms));
        let ahead = seconds(ahead_ms + since_newest_ms) / seconds(step_ms);
        (spread > 0.0).then(|| values / weight + slope * (ahead - times / weight))
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "spans of time are far below 2^53 ms"
)]
fn seconds(span_ms: u64) -> f64 {
    span_ms as f64 / 1000.0
}

impl Point {
    fn add(&mut self, fold: Fold, value: f64) {
        // A step of hours, heard ten times a second: what it has says enough.
        if self.count == u16::MAX {
            return;
        }
        self.count += 1;
        match fold {
            Fold::Aggregate {
                how: Aggregate::Minimum,
                ..
            } => self.value = self.value.min(value),
            Fold::Aggregate {
                how: Aggregate::Maximum,
                ..
            } => self.value = self.value.max(value),
            // A step keeps its first total.
            Fold::Rate { .. } => {}
            _ => self.value += value,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WINDOW_MS: u64 = 60_000;
    const INTERVAL_MS: u64 = 5_000;

    /// What a fold makes of all values of the window, looked through one by one.
    fn plain(fold: Fold, past: &[(u64, f64)]) -> Option<f64> {
        let (now_ms, _) = *past.last()?;
        let step_ms = WINDOW_MS / STEPS;
        let hole = |pair: &[(u64, f64)]| pair[1].0 - pair[0].0 > WINDOW_MS;
        let begun = past.windows(2).rposition(hole).map_or(0, |place| place + 1);
        let past = &past[begun..];
        let seen_ms = now_ms - past[0].0 + INTERVAL_MS;
        let is_within = |at_ms: u64| at_ms / step_ms > (now_ms - WINDOW_MS) / step_ms;
        let within: Vec<(u64, f64)> = past
            .iter()
            .copied()
            .filter(|(at, _)| is_within(*at))
            .collect();
        let values = || within.iter().map(|(_, value)| *value);
        #[expect(clippy::cast_precision_loss, reason = "few")]
        let count = within.len() as f64;
        match fold {
            Fold::Aggregate { how, .. } => (seen_ms >= WINDOW_MS).then(|| match how {
                Aggregate::Average => values().sum::<f64>() / count,
                Aggregate::Sum => values().sum(),
                Aggregate::Count => count,
                Aggregate::Minimum => values().fold(f64::INFINITY, f64::min),
                Aggregate::Maximum => values().fold(f64::NEG_INFINITY, f64::max),
            }),
            Fold::Rate { .. } => {
                let first = past
                    .iter()
                    .rposition(|(at, _)| !is_within(*at))
                    .unwrap_or(0);
                let rises = past[first..].windows(2).map(|pair| {
                    let (before, after) = (pair[0].1, pair[1].1);
                    if after >= before {
                        after - before
                    } else {
                        after
                    }
                });
                let over_ms = now_ms - past[first].0;
                (seen_ms >= WINDOW_MS && over_ms > 0).then(|| rises.sum::<f64>() / seconds(over_ms))
            }
            Fold::Forecast { ahead_ms, .. } => {
                let at = |at_ms: u64| -seconds(now_ms - at_ms);
                let time = within.iter().map(|(ms, _)| at(*ms)).sum::<f64>() / count;
                let value = values().sum::<f64>() / count;
                let off = |ms: u64| at(ms) - time;
                let spread: f64 = within.iter().map(|(ms, _)| off(*ms).powi(2)).sum();
                let along: f64 = within.iter().map(|(ms, v)| off(*ms) * (v - value)).sum();
                (seen_ms >= WINDOW_MS / 2 && within.len() > 1)
                    .then(|| value + along / spread * (seconds(ahead_ms) - time))
            }
            _ => None,
        }
    }

    fn check(fold: Fold, steps: &[(u64, f64)], slack: f64) -> Result<(), TestCaseError> {
        let mut memory = Memory::Empty;
        let mut past = Vec::new();
        let mut now_ms = 1_763_630_000_000;
        for (span_ms, value) in steps {
            now_ms += span_ms;
            past.push((now_ms, *value));
            let folded = memory.fold(fold, *value, INTERVAL_MS, now_ms);
            let expected = plain(fold, &past);
            let near = match (folded, expected) {
                (Some(folded), Some(expected)) => {
                    (folded - expected).abs() <= slack * expected.abs().max(100.0)
                }
                (folded, expected) => folded == expected,
            };
            prop_assert!(near, "{folded:?} is not {expected:?} after {past:?}");
        }
        Ok(())
    }

    fn steps(least_ms: u64) -> impl Strategy<Value = Vec<(u64, f64)>> {
        let span = prop_oneof![20 => least_ms..9_000_u64, 1 => 50_000..70_000_u64];
        proptest::collection::vec((span, (0..100_u8).prop_map(f64::from)), 1..60)
    }

    proptest! {
        #[test]
        fn an_aggregate_is_that_of_all_values_in_its_window(steps in steps(1)) {
            for how in [
                Aggregate::Average,
                Aggregate::Minimum,
                Aggregate::Maximum,
                Aggregate::Sum,
                Aggregate::Count,
            ] {
                check(Fold::Aggregate { how, window_ms: WINDOW_MS }, &steps, 1e-9)?;
            }
        }

        // A step keeps the time of its first value only, so here each value has its own.
        #[test]
        fn a_rate_and_a_forecast_are_those_of_all_values_in_their_window(steps in steps(2_000)) {
            check(Fold::Rate { window_ms: WINDOW_MS }, &steps, 1e-3)?;
            check(Fold::Forecast { ahead_ms: 30_000, window_ms: WINDOW_MS }, &steps, 1e-2)?;
        }
    }
}
