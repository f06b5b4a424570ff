//! The time that samples carry: rising by at least a millisecond, and honest when the clock is set.
//! Reads no clock itself.

use std::time::Duration;

/// Smaller differences are the slewing of a time service, and the coarseness of clocks.
const STEP_MS: i64 = 1000;
/// A clock that lags by no more than this is corrected, so that times rise.
const LAG_MS: u64 = 5;

/// Follows the wall clock against a clock that is never set.
#[derive(Debug, Default)]
pub(crate) struct Timeline {
    last: Option<Moment>,
}

/// One moment on both clocks.
#[derive(Debug, Clone, Copy)]
struct Moment {
    wall_ms: u64,
    ts: u64,
    /// Time since the host was started, the time it slept included.
    steady: Duration,
}

/// A sample's time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// Milliseconds since 1970-01-01 UTC.
    pub(crate) ts: u64,
    /// By how much the clock was set since the last sample.
    pub(crate) step_ms: Option<i64>,
}

impl Timeline {
    /// The time of a sample that is taken now. A clock that was set back is believed: the true
    /// time is worth more than a rising one, and readers expect it.
    pub(crate) fn stamp(&mut self, wall_ms: u64, steady: Duration) -> Stamp {
        let mut stamp = Stamp {
            ts: wall_ms,
            step_ms: None,
        };
        if let Some(last) = self.last {
            let passed = signed_ms(steady.saturating_sub(last.steady).as_millis());
            let step = signed_ms(wall_ms.into()) - signed_ms(last.wall_ms.into()) - passed;
            if step.abs() >= STEP_MS {
                stamp.step_ms = Some(step);
            } else if wall_ms <= last.ts && last.ts - wall_ms <= LAG_MS {
                stamp.ts = last.ts + 1;
            }
        }
        self.last = Some(Moment {
            wall_ms,
            ts: stamp.ts,
            steady,
        });
        stamp
    }
}

fn signed_ms(ms: u128) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamps(moments: &[(u64, u64)]) -> Vec<(u64, Option<i64>)> {
        let mut timeline = Timeline::default();
        moments
            .iter()
            .map(|(wall_ms, steady_ms)| {
                let stamp = timeline.stamp(*wall_ms, Duration::from_millis(*steady_ms));
                (stamp.ts, stamp.step_ms)
            })
            .collect()
    }

    #[test]
    fn times_rise_though_the_clock_lags_a_little() {
        assert_eq!(
            stamps(&[(1000, 0), (1000, 0), (999, 1), (2000, 1000)]),
            [(1000, None), (1001, None), (1002, None), (2000, None)]
        );
    }

    #[test]
    fn a_clock_that_is_set_is_told_once_and_believed() {
        assert_eq!(
            stamps(&[(9_000_000, 0), (5_410_000, 10_000), (5_420_000, 20_000)]),
            [
                (9_000_000, None),
                (5_410_000, Some(-3_600_000)),
                (5_420_000, None)
            ]
        );
        assert_eq!(
            stamps(&[(1000, 0), (71_000, 10_000)]),
            [(1000, None), (71_000, Some(60_000))]
        );
    }

    #[test]
    fn a_host_that_slept_had_its_clock_not_set() {
        assert_eq!(stamps(&[(1000, 0), (3_601_000, 3_600_000)])[1].1, None);
    }
}
