//! Growing, jittered waits between tries.

use std::time::Duration;

/// Waits that double from `first` up to `longest`, each shortened at random by up to a half so that
/// many hosts don't come back in the same second.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    tries: u32,
}

impl Backoff {
    /// Waits from `first` to `longest`.
    #[must_use]
    pub fn new(first: Duration, longest: Duration) -> Self {
        Self {
            first,
            longest,
            tries: 0,
        }
    }

    /// The next wait.
    pub fn next_wait(&mut self) -> Duration {
        let wait = self
            .first
            .saturating_mul(2_u32.saturating_pow(self.tries))
            .min(self.longest);
        self.tries = self.tries.saturating_add(1);
        wait.mul_f64(0.5 + 0.5 * random_share())
    }

    /// Begins again with the first wait, after a success.
    pub fn reset(&mut self) {
        self.tries = 0;
    }
}

/// A random number from 0 to 1. Without random numbers from the system it is always 1: jitter is
/// a courtesy, not a guarantee.
fn random_share() -> f64 {
    getrandom::u32().map_or(1.0, |bits| f64::from(bits) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_begin_again_after_a_success() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
        let check = |wait: Duration, full_ms: u64| {
            let full = Duration::from_millis(full_ms);
            assert!(wait >= full / 2 && wait <= full, "{wait:?} of {full:?}");
        };
        for full_ms in [100, 200, 400, 800, 1000, 1000] {
            check(backoff.next_wait(), full_ms);
        }
        for _ in 0..100 {
            check(backoff.next_wait(), 1000);
        }
        backoff.reset();
        check(backoff.next_wait(), 100);
    }
}
