//! The state machine of one alert: a value in, what stands out. It knows no rule's name, no node and no text.
//!
//! ```text
//! nothing ──bad──> pending ──for──> firing ──worse for `for`──> firing, severity up
//!    ^                │                │  └──clear of the worse──> firing, severity down
//!    └────not bad─────┘                └──clear, then keep_firing_for──> resolved
//! ```
//! Each severity has its own time: an alert that became a warning at ten and critical at twelve fires as a
//! warning at ten and `for`, and rises at twelve and `for`. Where a severity holds, the milder ones do.
//! Only values move it: no value, no change.

use hostbus_wire::alert::AlertSeverity;

use crate::rule::Level;

/// Where an alert is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Pending,
    Firing,
    Resolved,
}

/// How an alert stands: all that decides its future, and all of it is on the bus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Standing {
    pub(super) phase: Phase,
    pub(super) severity: AlertSeverity,
    /// The beginning of the phase.
    pub(super) since: u64,
    /// Since when each severity has held that is not firing yet, the mildest first; 0: it does not hold.
    pub(super) held: [u64; 3],
    /// Since when the condition is over though it is kept firing; 0: it is not.
    pub(super) over: u64,
}

/// By what an alert is judged.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Terms {
    /// The worst first.
    pub(super) levels: Vec<Level>,
    pub(super) for_ms: u64,
    pub(super) keep_firing_ms: u64,
}

impl Standing {
    /// As it is right after its condition was met.
    pub(super) fn resolved(self, now_ms: u64) -> Self {
        Self {
            phase: Phase::Resolved,
            since: now_ms,
            held: [0; 3],
            over: 0,
            ..self
        }
    }
}

impl Terms {
    /// The worst severity that `value` has, where `firing` fires already: that one and the milder ones
    /// last until their clear values.
    pub(super) fn worst(&self, value: f64, firing: Option<AlertSeverity>) -> Option<AlertSeverity> {
        let bad = |level: &&Level| {
            let clear = firing.is_some_and(|severity| level.severity <= severity);
            let threshold = if clear { level.clear } else { level.threshold };
            level.operator.holds(value, threshold)
        };
        self.levels.iter().find(bad).map(|level| level.severity)
    }

    /// The level of `severity`, or the next milder one, or the mildest.
    pub(super) fn level(&self, severity: AlertSeverity) -> Option<&Level> {
        let found = self.levels.iter().find(|level| level.severity <= severity);
        found.or(self.levels.last())
    }

    fn defines(&self, severity: AlertSeverity) -> bool {
        self.levels.iter().any(|level| level.severity == severity)
    }

    /// What stands once `value` was seen.
    pub(super) fn step(&self, was: Option<Standing>, value: f64, now_ms: u64) -> Option<Standing> {
        match was {
            Some(standing) if standing.phase == Phase::Firing => {
                Some(self.firing(standing, value, now_ms))
            }
            Some(standing) if standing.phase == Phase::Pending => {
                let worst = self.worst(value, None)?;
                Some(self.pending(standing.held, worst, now_ms))
            }
            other => match self.worst(value, None) {
                Some(worst) => Some(self.pending([0; 3], worst, now_ms)),
                None => other,
            },
        }
    }

    /// Severities up to `worst` that are above `firing` begin to hold or go on, the others do not hold.
    fn hold(
        &self,
        held: [u64; 3],
        firing: Option<AlertSeverity>,
        worst: AlertSeverity,
        now_ms: u64,
    ) -> [u64; 3] {
        let mut next = [0; 3];
        for severity in AlertSeverity::ALL {
            let place = severity as usize;
            if firing.is_none_or(|firing| severity > firing)
                && severity <= worst
                && self.defines(severity)
            {
                // A clock that stepped back must not hold up an alert for as long as it stepped.
                next[place] = match held[place] {
                    since if since == 0 || since > now_ms => now_ms,
                    since => since,
                };
            }
        }
        next
    }

    /// The worst severity that has held for long enough.
    fn ripe(&self, held: [u64; 3], now_ms: u64) -> Option<AlertSeverity> {
        let ripe = |severity: &AlertSeverity| {
            let since = held[*severity as usize];
            since != 0 && now_ms.saturating_sub(since) >= self.for_ms
        };
        AlertSeverity::ALL.into_iter().rev().find(ripe)
    }

    fn pending(&self, held: [u64; 3], worst: AlertSeverity, now_ms: u64) -> Standing {
        let mut held = self.hold(held, None, worst, now_ms);
        if let Some(severity) = self.ripe(held, now_ms) {
            held[..=severity as usize].fill(0);
            return Standing {
                phase: Phase::Firing,
                severity,
                since: now_ms,
                held,
                over: 0,
            };
        }
        // It will fire as what holds the longest, the worst of those.
        let since = held.into_iter().filter(|since| *since != 0).min();
        let since = since.unwrap_or(now_ms);
        let first = AlertSeverity::ALL
            .into_iter()
            .rfind(|severity| held[*severity as usize] == since);
        Standing {
            phase: Phase::Pending,
            severity: first.unwrap_or(worst),
            since,
            held,
            over: 0,
        }
    }

    fn firing(&self, was: Standing, value: f64, now_ms: u64) -> Standing {
        let Some(worst) = self.worst(value, Some(was.severity)) else {
            let over = if was.over == 0 || was.over > now_ms {
                now_ms
            } else {
                was.over
            };
            if now_ms - over >= self.keep_firing_ms {
                return was.resolved(now_ms);
            }
            return Standing {
                held: [0; 3],
                over,
                ..was
            };
        };
        let mut held = self.hold(was.held, Some(was.severity), worst, now_ms);
        let severity = match self.ripe(held, now_ms) {
            Some(risen) => risen,
            None => worst.min(was.severity),
        };
        held[..=severity as usize].fill(0);
        Standing {
            severity,
            held,
            over: 0,
            ..was
        }
    }
}
