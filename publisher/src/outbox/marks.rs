//! What a mark of the ingester changes, or the lack of one.

use std::hash::{BuildHasher, RandomState};
use std::time::Instant;

use hostbus_wire::committed::Committed;

use super::{Notice, Outbox, SAME_WISH};

/// Seconds, as boots are: few, so that a clock that is right again is soon ahead of them.
const LONGEST_LEAP: u64 = 1000;

impl Outbox {
    /// A mark came from the ingester.
    pub(crate) fn on_committed(&mut self, mark: Committed, now: Instant) {
        self.listen_until = None;
        let live = self.held.live();
        let live_boot = live.boot;
        if mark.boot > live_boot || (mark.boot == live_boot && mark.seq > live.newest_sent) {
            self.on_foreign_mark(mark);
            return;
        }
        let known = self.held.knows(mark.boot);
        let ours = known || self.known_boots.contains(&mark.boot);
        if !ours && mark.seq > 0 && self.held.front().boot < mark.boot {
            // A run that our folder knows nothing of: it says nothing about the runs before it.
            self.move_behind(mark.boot, 0);
            return;
        }
        // With `seq` 0 nothing of ours was taken, though someone asks for it.
        self.recognised |= known && mark.seq > 0;
        let had_older = self.held.has_older();
        let before = self.held.len();
        // With `seq` 0 the ingester has taken nothing of that boot, and says nothing of those before.
        while mark.seq > 0 && self.held.is_covered(mark) {
            self.release_oldest(now);
        }
        if self.held.len() < before {
            self.on_progress(now);
            if had_older && !self.catching_up {
                // Someone takes the old ones: what follows them is to come in order.
                self.catch_up();
            }
        }
        if mark.resend && known {
            self.on_wish(now);
        }
    }

    pub(super) fn on_progress(&mut self, now: Instant) {
        self.keeping.on_progress(&self.held);
        self.probe_wait.reset();
        let front = self.held.front();
        let waits = front.first <= front.newest_sent;
        self.probe_at = waits.then(|| now + self.probe_wait.next_wait());
        if self.held.bytes() <= self.max_bytes / 2
            && let Some(dropped) = self.dropping.take()
        {
            self.notices.push(Notice::DropsEnded { dropped });
        }
    }

    /// The ingester wants all after its mark again.
    fn on_wish(&mut self, now: Instant) {
        let front = self.held.front();
        let (key, first) = (front.key, front.first);
        let again = self.last_wish.is_some_and(|(old_key, old_first, at)| {
            (old_key, old_first) == (key, first) && now.saturating_duration_since(at) < SAME_WISH
        });
        if again || self.held.len() == 0 {
            return;
        }
        self.last_wish = Some((key, first, now));
        self.probe_wait.reset();
        self.probe_at = Some(now + self.probe_wait.next_wait());
        self.catch_up();
    }

    fn catch_up(&mut self) {
        self.probing = false;
        self.catching_up = true;
        self.cursor = self.held.front().first;
    }

    /// A mark that our samples can't have caused: of a later boot, or past what we sent.
    fn on_foreign_mark(&mut self, mark: Committed) {
        let live_boot = self.held.live().boot;
        if self.recognised {
            if mark.boot > live_boot && !self.other_told {
                self.other_told = true;
                self.notices.push(Notice::OtherPublisher { mark });
            } else if mark.boot == live_boot && !self.impossible_told {
                self.impossible_told = true;
                self.notices.push(Notice::ImpossibleMark { mark });
            }
        } else if mark.seq > 0 && mark.boot < u64::MAX >> 1 {
            // Nothing of ours was taken yet: the last run began later by the clock, or in the same
            // second. Whatever we sent was dropped as old.
            self.move_behind(mark.boot, some_leap());
        }
    }

    fn move_behind(&mut self, boot: u64, leap: u64) {
        let from = self.held.live().boot;
        if !self.held.move_behind(boot, leap) {
            return;
        }
        let to = self.held.live().boot;
        if from != to {
            self.notices.push(Notice::BootMoved { from, to });
            self.held.forget_sending_live();
        }
        self.keeping.on_moved();
        // The cursor of a past that was under way means nothing to the probe.
        self.probing = true;
        self.catching_up = false;
    }
}

/// How far beyond the next boot a run goes that moves. Two runs that no folder tells of each other may
/// see the same mark, when the first one's is not committed yet: under one boot the ingester would
/// take the samples of the second for those of the first.
pub(super) fn some_leap() -> u64 {
    RandomState::new().hash_one(()) % LONGEST_LEAP
}
