//! How fast one client may publish: above its rate, nothing is read from it for a while, so that it
//! waits and loses nothing.

use std::time::{Duration, Instant};

use hostbus_wire::Identity;

use crate::limits::Limits;

/// What one second's worth of a rate is, and what is left of it.
#[derive(Debug)]
struct Bucket {
    per_second: f64,
    left: f64,
}

impl Bucket {
    fn new(per_second: u64) -> Self {
        Self {
            per_second: per_second as f64,
            left: per_second as f64,
        }
    }

    fn refill(&mut self, passed: Duration) {
        let more = self.per_second * passed.as_secs_f64();
        self.left = (self.left + more).min(self.per_second);
    }

    /// How long until something is left again.
    fn debt(&self) -> Duration {
        Duration::from_secs_f64((-self.left / self.per_second).max(0.0))
    }
}

/// The pace of one client.
#[derive(Debug)]
pub(super) struct Pace {
    /// Messages and bytes; absent for those who may publish as fast as they can.
    buckets: Option<[Bucket; 2]>,
    refilled: Instant,
    rests_until: Option<Instant>,
}

impl Pace {
    pub(super) fn new(limits: &Limits, identity: &Identity) -> Self {
        let buckets = Limits::hold_for(identity).then(|| {
            [
                Bucket::new(limits.messages_per_second),
                Bucket::new(limits.bytes_per_second),
            ]
        });
        Self {
            buckets,
            refilled: Instant::now(),
            rests_until: None,
        }
    }

    /// Notes a message of so many bytes. Returns whether the client must rest from now on.
    pub(super) fn published(&mut self, bytes: usize, now: impl FnOnce() -> Instant) -> bool {
        let Some(buckets) = &mut self.buckets else {
            return false;
        };
        let costs = [1.0, bytes as f64];
        let affordable = buckets.iter().zip(costs).all(|(b, cost)| b.left >= cost);
        let mut at = None;
        if !affordable {
            // The clock is only read when it matters.
            let now = now();
            let passed = now.saturating_duration_since(self.refilled);
            buckets.iter_mut().for_each(|bucket| bucket.refill(passed));
            self.refilled = now;
            at = Some(now);
        }
        for (bucket, cost) in buckets.iter_mut().zip(costs) {
            bucket.left -= cost;
        }
        let debt = buckets[0].debt().max(buckets[1].debt());
        let Some(now) = at.filter(|_| !debt.is_zero()) else {
            return false;
        };
        self.rests_until = Some(now + debt);
        true
    }

    /// Until when the client rests, if it does `now`.
    pub(super) fn rest(&mut self, now: impl FnOnce() -> Instant) -> Option<Instant> {
        // The clock is only read when it matters.
        let until = self.rests_until?;
        self.rests_until = (until > now()).then_some(until);
        self.rests_until
    }

    /// Until when the client rests, as far as it was last asked.
    pub(super) fn rests_until(&self) -> Option<Instant> {
        self.rests_until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_rests_when_it_has_used_up_its_second() {
        let limits = Limits {
            messages_per_second: 10,
            bytes_per_second: 1_000,
            ..Limits::default()
        };
        let mut pace = Pace::new(&limits, &Identity::Viewer);
        let begun = pace.refilled;
        for _ in 0..10 {
            assert!(!pace.published(10, || begun));
        }
        assert!(pace.published(10, || begun));
        let until = pace.rest(|| begun).expect("a rest");
        assert_eq!(until - begun, Duration::from_millis(100));
        assert_eq!(pace.rest(|| until), None);
        // After a second without a message all is there again, but no more than that.
        let later = begun + Duration::from_secs(10);
        assert!(pace.published(2_000, || later));
        assert_eq!(pace.rest(|| later), Some(later + Duration::from_secs(1)));
        let mut free = Pace::new(&limits, &Identity::Admin);
        assert!((0..100).all(|_| !free.published(10_000, || begun)));
    }
}
