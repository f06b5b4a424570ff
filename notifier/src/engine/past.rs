//! What the evaluator remembers, for the run after this one.

use super::Engine;
use crate::evaluator::{Evaluator, Kept};

impl Engine {
    /// Takes what an earlier run remembered. Call it before anything is heard.
    pub fn take_back(&mut self, kept: Kept) {
        self.evaluator.take_back(kept);
    }

    /// What judges samples, for what is to be kept of it.
    #[must_use]
    pub fn evaluator(&self) -> &Evaluator {
        &self.evaluator
    }
}
