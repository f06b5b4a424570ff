//! Whether another notifier has our name. Two of one name speak on the same topics and hold the lease in
//! one name; only what each says of its own run tells them apart.

use std::collections::VecDeque;

use tracing::warn;

/// How many of our own healths are remembered: one comes back within seconds, and one is said each ten.
const STAMPS: usize = 64;
/// A single word may be the last one of the run before ours; the next one would come within this.
const AGAIN_WITHIN_MS: u64 = 60_000;

/// See the module's description. Times are of the steady clock.
#[derive(Debug, Default)]
pub(super) struct Twin {
    stamps: VecDeque<u64>,
    /// When a health of our name came that we had not said.
    strange_ms: Option<u64>,
    /// When it was last certain.
    seen_ms: Option<u64>,
}

impl Twin {
    /// We say how we are, with the time `stamp`.
    pub(super) fn said(&mut self, stamp: u64) {
        if self.stamps.len() >= STAMPS {
            self.stamps.pop_front();
        }
        self.stamps.push_back(stamp);
    }

    /// Somebody of our name said how it is, just now. Returns whether there are two of us.
    pub(super) fn heard(&mut self, stamp: u64, now_ms: u64) -> bool {
        if self.stamps.contains(&stamp) {
            return false;
        }
        let before = self.strange_ms.replace(now_ms);
        let again = before.is_some_and(|ms| now_ms.saturating_sub(ms) <= AGAIN_WITHIN_MS);
        if again {
            self.seen(now_ms);
        }
        again
    }

    /// It is certain that there are two of us.
    pub(super) fn seen(&mut self, now_ms: u64) {
        if self.seen_ms.replace(now_ms).is_none() {
            warn!(
                "another notifier of this site has the same name: give one of them another `notifier.instance`"
            );
        }
    }

    /// Lets time pass: one that is not heard of any more is gone.
    pub(super) fn pass(&mut self, now_ms: u64) {
        let lately = |ms: &u64| now_ms.saturating_sub(*ms) <= AGAIN_WITHIN_MS;
        self.seen_ms = self.seen_ms.filter(lately);
    }

    /// Whether there are two of us.
    pub(super) fn is_there(&self) -> bool {
        self.seen_ms.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_says_what_we_did_not_say_twice_is_another_one() {
        let mut twin = Twin::default();
        twin.said(1);
        assert!(!twin.heard(1, 0), "our own word");
        assert!(!twin.heard(2, 0), "the last word of an earlier run");
        assert!(!twin.heard(3, 60_001));
        assert!(!twin.is_there());
        assert!(twin.heard(4, 70_000));
        twin.pass(130_000);
        assert!(twin.is_there());
        twin.pass(130_001);
        assert!(!twin.is_there());
        (0..1_000).for_each(|stamp| twin.said(stamp));
        assert_eq!(twin.stamps.len(), STAMPS);
    }
}
