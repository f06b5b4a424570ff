//! Faster sampling for as long as somebody looks. Reads no clock itself.
//!
//! Each asker has a lease of its own, which ends by itself. While there are several the shortest
//! interval holds, so that who asks for less takes nothing from who asked for more.

use std::time::{Duration, Instant};

/// The leases that run.
#[derive(Debug, Default)]
pub(crate) struct Leases {
    /// None of them outdoes another: the shorter its interval, the sooner it ends.
    running: Vec<Lease>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Lease {
    interval: Duration,
    until: Instant,
}

impl Lease {
    fn outdoes(&self, other: &Self) -> bool {
        self.interval <= other.interval && self.until >= other.until
    }
}

impl Leases {
    /// Samples at `interval` until `until`.
    pub(crate) fn grant(&mut self, interval: Duration, until: Instant) {
        let lease = Lease { interval, until };
        if !self.running.iter().any(|other| other.outdoes(&lease)) {
            self.running.retain(|other| !lease.outdoes(other));
            self.running.push(lease);
        }
    }

    /// The shortest interval of those that run at `now`.
    pub(crate) fn interval(&self, now: Instant) -> Option<Duration> {
        let running = self.running.iter().filter(|lease| lease.until > now);
        running.map(|lease| lease.interval).min()
    }

    /// Lets those go that have ended. Tells whether there were any.
    pub(crate) fn end(&mut self, now: Instant) -> bool {
        let before = self.running.len();
        self.running.retain(|lease| lease.until > now);
        self.running.len() < before
    }

    /// When the next one ends.
    pub(crate) fn wake(&self) -> Option<Instant> {
        self.running.iter().map(|lease| lease.until).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_lease_ends_by_itself() {
        let start = Instant::now();
        let mut leases = Leases::default();
        assert_eq!((leases.interval(start), leases.wake()), (None, None));
        leases.grant(SECOND, start + SECOND * 60);
        assert_eq!(leases.interval(start + SECOND * 59), Some(SECOND));
        assert_eq!(leases.wake(), Some(start + SECOND * 60));
        assert!(!leases.end(start + SECOND * 59));
        assert_eq!(leases.interval(start + SECOND * 60), None);
        assert!(leases.end(start + SECOND * 60));
        assert_eq!(leases.wake(), None);
    }

    #[test]
    fn a_lease_is_renewed_by_the_same_again() {
        let start = Instant::now();
        let mut leases = Leases::default();
        leases.grant(SECOND, start + SECOND * 10);
        leases.grant(SECOND, start + SECOND * 30);
        leases.grant(SECOND, start + SECOND * 20);
        assert_eq!(leases.running.len(), 1);
        assert_eq!(leases.wake(), Some(start + SECOND * 30));
    }

    #[test]
    fn a_slower_lease_neither_shortens_nor_prolongs_a_faster_one() {
        let start = Instant::now();
        let mut leases = Leases::default();
        leases.grant(SECOND, start + SECOND * 10);
        leases.grant(SECOND * 5, start + SECOND * 30);
        leases.grant(SECOND * 2, start + SECOND * 5);
        assert_eq!(leases.interval(start + SECOND * 9), Some(SECOND));
        assert_eq!(leases.interval(start + SECOND * 10), Some(SECOND * 5));
        assert_eq!(leases.interval(start + SECOND * 30), None);
        leases.grant(SECOND, start + SECOND * 60);
        assert_eq!(leases.running.len(), 1, "it outdoes all others");
    }
}
