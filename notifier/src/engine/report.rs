//! What the engine tells of itself, for the notifier's health.

use hostbus_wire::alert::AlertState;

use super::{Counters, Engine};
use crate::dispatcher::Counters as LookedAfter;
use crate::evaluator::Figures;

impl Engine {
    /// How many alerts stand on the bus in each state: pending, firing.
    #[must_use]
    pub fn alerts(&self) -> (usize, usize) {
        let count = |state| self.standing.count(state);
        (count(AlertState::Pending), count(AlertState::Firing))
    }

    /// What was counted.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// What the evaluator counted.
    #[must_use]
    pub fn figures(&self) -> Figures {
        self.evaluator.figures()
    }

    /// Whether something was left out because there is too much of it.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.full
    }

    /// How much the dispatcher looks after.
    #[must_use]
    pub fn looked_after(&self) -> LookedAfter {
        self.dispatcher.counters()
    }

    /// Whether the bus keeps from us what we say that people were told.
    #[must_use]
    pub fn is_unheard(&self) -> bool {
        self.telling.is_unheard()
    }

    /// Whether another notifier has our name.
    #[must_use]
    pub fn has_twin(&self) -> bool {
        self.twin.is_there()
    }

    /// Our name among notifiers.
    #[must_use]
    pub fn instance(&self) -> &str {
        &self.place.instance
    }

    /// Whether this notifier publishes and delivers.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.active
    }

    /// Whether all that stands on the bus is known.
    #[must_use]
    pub fn is_synced(&self) -> bool {
        self.connected && self.hearing.is_none()
    }

    /// Who is active, as far as is known.
    #[must_use]
    pub fn holder(&self) -> Option<&str> {
        self.tenancy.holder()
    }
}
