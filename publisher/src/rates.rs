//! Rates from two readings of a counter. A counter that fell was reset or has wrapped: its rate is
//! then unknown for one sample, never negative and never huge.

use std::time::Duration;

/// How far a counter went from one reading to the next.
pub(crate) fn rise(before: u64, after: u64) -> Option<u64> {
    after.checked_sub(before)
}

/// How fast a counter went, per second.
pub(crate) fn per_second(before: u64, after: u64, elapsed: Duration) -> Option<f64> {
    if elapsed.is_zero() {
        return None;
    }
    Some(rise(before, after)? as f64 / elapsed.as_secs_f64())
}

/// How fast a counter went, per second, as a whole number.
pub(crate) fn whole_per_second(before: u64, after: u64, elapsed: Duration) -> Option<u64> {
    per_second(before, after, elapsed).map(|rate| rate.round() as u64)
}

/// `part` of `whole` in percent, 0 to 100.
pub(crate) fn percent(part: u64, whole: u64) -> Option<f64> {
    if whole == 0 {
        return None;
    }
    Some((part as f64 / whole as f64 * 100.0).min(100.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_the_rise_over_the_time() {
        let second = Duration::from_secs(1);
        assert_eq!(per_second(100, 150, second * 10), Some(5.0));
        assert_eq!(per_second(7, 7, second), Some(0.0));
        assert_eq!(whole_per_second(0, 15, second * 10), Some(2));
    }

    #[test]
    fn a_counter_that_was_reset_or_wrapped_has_no_rate() {
        let second = Duration::from_secs(1);
        assert_eq!(per_second(1_000_000, 3, second), None);
        assert_eq!(whole_per_second(u64::from(u32::MAX), 10, second), None);
        assert_eq!(per_second(1, 2, Duration::ZERO), None);
    }

    #[test]
    fn a_percentage_stays_within_its_range() {
        assert_eq!(percent(1, 4), Some(25.0));
        assert_eq!(percent(5, 4), Some(100.0));
        assert_eq!(percent(0, 0), None);
    }
}
