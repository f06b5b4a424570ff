//! When the next message may go without breaking a service's limits.

use std::collections::VecDeque;

use tokio::time::Instant;

use crate::channels::Pace;

/// Remembers when messages were sent.
#[derive(Debug)]
pub(super) struct Pacer {
    pace: Pace,
    /// When messages ended, the oldest first: of the last `window`, and the last one of all.
    sent: VecDeque<Instant>,
}

impl Pacer {
    pub(super) fn new(pace: Pace) -> Self {
        Self {
            pace,
            sent: VecDeque::new(),
        }
    }

    /// From when on a message may be sent; `None`: at once.
    pub(super) fn ready_at(&self) -> Option<Instant> {
        let last = *self.sent.back()?;
        let after_gap = last + self.pace.gap;
        if self.pace.burst > self.sent.len() {
            return Some(after_gap);
        }
        let oldest = self.sent[self.sent.len() - self.pace.burst.max(1)];
        Some(after_gap.max(oldest + self.pace.window))
    }

    /// A message was sent, whether it was taken or not.
    pub(super) fn sent(&mut self, now: Instant) {
        let window = self.pace.window;
        self.sent.retain(|sent| *sent + window > now);
        self.sent.push_back(now);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn messages_keep_the_gap_and_the_most_of_a_window() {
        let begin = Instant::now();
        let at = |ms| begin + Duration::from_millis(ms);
        let pace = Pace {
            gap: Duration::from_millis(100),
            burst: 3,
            window: Duration::from_millis(1000),
        };
        let mut pacer = Pacer::new(pace);
        assert_eq!(pacer.ready_at(), None);
        for (sent, next) in [
            (0, 100),
            (100, 200),
            // The fourth must wait until the first is a window ago, the fifth for the second.
            (200, 1000),
            (1000, 1100),
            (1100, 1200),
            (5000, 5100),
        ] {
            pacer.sent(at(sent));
            assert_eq!(pacer.ready_at(), Some(at(next)), "after {sent}");
        }
    }

    #[test]
    fn without_limits_nothing_is_remembered_but_the_last() {
        let mut pacer = Pacer::new(Pace::FREE);
        let begin = Instant::now();
        for ms in 0..1000 {
            pacer.sent(begin + Duration::from_millis(ms));
        }
        assert_eq!(pacer.sent.len(), 1);
        assert!(pacer.ready_at() <= Some(begin + Duration::from_millis(999)));
    }
}
