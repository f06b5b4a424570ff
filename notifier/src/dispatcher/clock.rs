//! A clock that was set back. The times that the dispatcher keeps go back with it, all at once and here
//! only, so that what waits goes on waiting for as long as it would have, and nothing is told anew.
//!
//! A clock that was set ahead is taken at its word: nobody can tell it from a machine that slept, and
//! then the time has passed. What people named by the calendar (`from`, `until`, the hours of a route)
//! is left as they named it.

use std::sync::Arc;

use hostbus_wire::alert::AlertKey;

use super::Dispatcher;
use super::agenda::Deadline;
use super::settling::SETTLE_MS;
use super::silences::SilenceId;
use super::tracked::{Known, Tracked, Word};

/// A clock that goes back by less was not set: it is drawn to the right time, or two looks at it are
/// taken out of turn.
const STEP_MS: u64 = 1_000;

/// What must be done to the times that were taken from another clock, or from ours before it was set.
#[derive(Debug, Clone, Copy)]
pub(super) enum Correction {
    /// The clock was set back by so many milliseconds.
    Back(u64),
    /// It is not known how far it was set since; now is this.
    NotAfter(u64),
}

impl Correction {
    /// A time at which something happened.
    pub(super) fn past(self, ms: &mut u64) {
        *ms = match self {
            Self::Back(by_ms) => ms.saturating_sub(by_ms),
            Self::NotAfter(now_ms) => (*ms).min(now_ms),
        };
    }

    /// A time for which something waits, `longest_ms` at most.
    pub(super) fn future(self, ms: &mut u64, longest_ms: u64) {
        *ms = match self {
            Self::Back(by_ms) => ms.saturating_sub(by_ms),
            Self::NotAfter(now_ms) => (*ms).min(now_ms.saturating_add(longest_ms)),
        };
    }
}

impl Known {
    /// What waits for its group is not bounded here: [`Dispatcher::settle`] never lets it wait longer than
    /// what comes up now.
    fn correct(&mut self, correction: Correction) {
        for Word { at_ms, .. } in self.told.iter_mut().chain(&mut self.ended) {
            correction.past(at_ms);
        }
        if let Some((_, due_ms)) = &mut self.waiting {
            correction.future(due_ms, u64::MAX);
        }
    }
}

impl Tracked {
    pub(super) fn correct(&mut self, correction: Correction) {
        if let Some(settles_ms) = &mut self.standing.settles_ms {
            correction.future(settles_ms, SETTLE_MS);
        }
        for post in &mut self.posts {
            post.known.correct(correction);
        }
    }
}

impl Dispatcher {
    /// Now is `now_ms`. Whatever comes in with a time passes here first.
    pub(super) fn mind_the_clock(&mut self, now_ms: u64) {
        let back_ms = self.latest_ms.saturating_sub(now_ms);
        if back_ms < STEP_MS {
            self.latest_ms = self.latest_ms.max(now_ms);
            return;
        }
        self.latest_ms = now_ms;
        self.set_back(Correction::Back(back_ms), now_ms);
    }

    fn set_back(&mut self, correction: Correction, now_ms: u64) {
        for (channel, state) in self.channels.iter_mut().enumerate() {
            for ms in &mut state.recent_ms {
                correction.past(ms);
            }
            let mut wake_ms = state.wake_ms;
            if let Some(ms) = &mut wake_ms {
                correction.future(ms, u64::MAX);
            }
            let deadline = Deadline::Channel(channel);
            self.agenda.wake(&mut state.wake_ms, wake_ms, deadline);
            self.changed.channels.insert(channel);
        }
        self.agenda.correct(correction);
        for tracked in self.alerts.values_mut() {
            tracked.correct(correction);
        }
        self.changed.alerts.extend(self.alerts.keys().cloned());
        for entry in self.silences.values_mut() {
            entry.held.correct(correction);
        }
        self.changed.silences.extend(self.silences.keys().cloned());
        // Only now, when all times agree.
        let silences: Vec<SilenceId> = self.silences.keys().cloned().collect();
        for id in &silences {
            self.turn_silence(id, now_ms);
        }
        let alerts: Vec<Arc<AlertKey>> = self.alerts.keys().cloned().collect();
        for key in &alerts {
            self.settle(key, now_ms);
        }
    }
}
