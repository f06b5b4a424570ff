//! How long something took, in buckets: atomics only, no lock.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// The upper bounds of the buckets, in nanoseconds; one more bucket is for all above.
pub(crate) const BOUNDS_NS: [u64; 12] = [
    500,
    1_000,
    2_500,
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    1_000_000,
    10_000_000,
    100_000_000,
];

/// Durations that were measured.
#[derive(Debug, Default)]
pub(crate) struct Histogram {
    buckets: [AtomicU64; BOUNDS_NS.len() + 1],
    sum_ns: AtomicU64,
}

/// The state of a histogram at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Measured {
    /// How many durations were in each bucket; not cumulated.
    pub(crate) buckets: [u64; BOUNDS_NS.len() + 1],
    pub(crate) sum_ns: u64,
}

impl Histogram {
    /// Adds a duration.
    pub(crate) fn add(&self, duration: Duration) {
        let ns = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let bucket = BOUNDS_NS.partition_point(|bound| *bound < ns);
        self.buckets[bucket].fetch_add(1, Relaxed);
        self.sum_ns.fetch_add(ns, Relaxed);
    }

    /// What was measured so far.
    pub(crate) fn measured(&self) -> Measured {
        Measured {
            buckets: std::array::from_fn(|place| self.buckets[place].load(Relaxed)),
            sum_ns: self.sum_ns.load(Relaxed),
        }
    }
}

impl Measured {
    /// How many durations there were.
    pub(crate) fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_in_the_first_bucket_that_holds_it() {
        let histogram = Histogram::default();
        for ns in [0, 500, 501, 1_000, 100_000_000, 100_000_001] {
            histogram.add(Duration::from_nanos(ns));
        }
        let measured = histogram.measured();
        assert_eq!(measured.buckets, [2, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1]);
        assert_eq!(measured.count(), 6);
        assert_eq!(measured.sum_ns, 200_002_002);
    }
}
