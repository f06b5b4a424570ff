//! The moving averages below `$SYS/broker/load/`, as mosquitto counts them: how many of something
//! came in a minute, averaged over 1, 5 and 15 minutes.
//!
//! After an interval in which `n` came, each average moves towards `n` a minute:
//! `average = rate + exp(-interval / span) × (average - rate)`. All begin at 0.

use std::time::Duration;

/// The spans, by the last level of the topic.
pub(crate) const SPANS: [(&str, Duration); 3] = [
    ("1min", Duration::from_secs(60)),
    ("5min", Duration::from_secs(300)),
    ("15min", Duration::from_secs(900)),
];

/// The averages of one counter.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Load {
    total: u64,
    averages: [f64; SPANS.len()],
}

impl Load {
    /// Takes the counter's `total` after one more `interval`; returns the averages, a minute.
    pub(crate) fn update(&mut self, total: u64, interval: Duration) -> [f64; SPANS.len()] {
        let seconds = interval.as_secs_f64();
        if seconds > 0.0 {
            #[expect(clippy::cast_precision_loss, reason = "an average of two decimals")]
            let rate = total.saturating_sub(self.total) as f64 * 60.0 / seconds;
            for (average, (_, span)) in self.averages.iter_mut().zip(SPANS) {
                let rest = (-seconds / span.as_secs_f64()).exp();
                *average = rate + rest * (*average - rate);
            }
        }
        self.total = total;
        self.averages
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn averages_move_to_the_rate_and_back() {
        let ten = Duration::from_secs(10);
        let mut load = Load::default();
        let first = load.update(100, ten);
        // 600 a minute, of which 1 - exp(-10/60) is seen after the first ten seconds.
        let expected = [92.11, 19.67, 6.63];
        for (got, expected) in first.into_iter().zip(expected) {
            assert!((got - expected).abs() < 0.005, "{got} {expected}");
        }
        for step in 2..=1_000 {
            load.update(step * 100, ten);
        }
        let steady = load.update(100_100, ten);
        assert!(
            steady.iter().all(|a| (a - 600.0).abs() < 0.01),
            "{steady:?}"
        );
        assert_eq!(load.update(100_100, Duration::ZERO), steady);
        let after_a_minute = load.update(100_100, Duration::from_secs(60));
        assert!((after_a_minute[0] - 600.0 / std::f64::consts::E).abs() < 0.01);
    }
}
