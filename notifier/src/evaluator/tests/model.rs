//! The semantics of one alert, plain and slow: the whole history is kept and looked through each time.

use hostbus_wire::alert::{AlertSeverity, AlertState};

use crate::rule::Rule;

/// How one value stood under the rules of its time.
#[derive(Debug, Clone)]
struct Past {
    at_ms: u64,
    /// The worst severity by thresholds.
    worst: Option<AlertSeverity>,
    /// The worst severity by clear values, where each severity fires.
    kept: [Option<AlertSeverity>; 3],
}

/// What stands: state, severity, since, since when worse ones hold, since when it is over.
pub(super) type Stands = (
    AlertState,
    AlertSeverity,
    u64,
    Vec<(AlertSeverity, u64)>,
    Option<u64>,
);

/// See the module's description.
#[derive(Debug, Clone, Default)]
pub(super) struct Model {
    past: Vec<Past>,
    now: Option<(AlertState, AlertSeverity, u64)>,
}

impl Model {
    pub(super) fn value(&mut self, rule: &Rule, value: f64, now_ms: u64) {
        let worst = |threshold: &dyn Fn(&crate::rule::Level) -> f64| {
            let bad = rule
                .levels
                .iter()
                .filter(|level| level.operator.holds(value, threshold(level)));
            bad.map(|level| level.severity).max()
        };
        self.past.push(Past {
            at_ms: now_ms,
            worst: worst(&|level| level.threshold),
            kept: AlertSeverity::ALL.map(|firing| {
                worst(&|level| {
                    if level.severity <= firing {
                        level.clear
                    } else {
                        level.threshold
                    }
                })
            }),
        });
        self.now = self.judge(rule, now_ms);
    }

    /// Since when `is` has been true without a break, until now.
    fn since(&self, is: impl Fn(&Past) -> bool) -> Option<u64> {
        self.past
            .iter()
            .rev()
            .take_while(|past| is(past))
            .last()
            .map(|past| past.at_ms)
    }

    fn held(&self, rule: &Rule, severity: AlertSeverity) -> Option<u64> {
        let defined = rule.levels.iter().any(|level| level.severity == severity);
        self.since(|past| past.worst >= Some(severity))
            .filter(|_| defined)
    }

    fn judge(&self, rule: &Rule, now_ms: u64) -> Option<(AlertState, AlertSeverity, u64)> {
        let ripe = AlertSeverity::ALL.into_iter().rev().find(|severity| {
            self.held(rule, *severity)
                .is_some_and(|since| now_ms - since >= rule.for_ms)
        });
        match self.now {
            Some((AlertState::Firing, firing, since)) => {
                let place = firing as usize;
                if let Some(risen) = ripe.filter(|ripe| *ripe > firing) {
                    return Some((AlertState::Firing, risen, since));
                }
                if let Some(kept) = self.past.last()?.kept[place] {
                    return Some((AlertState::Firing, kept.min(firing), since));
                }
                let over = self.since(|past| past.kept[place].is_none())?;
                if now_ms - over >= rule.keep_firing_ms {
                    return Some((AlertState::Resolved, firing, now_ms));
                }
                self.now
            }
            before => match (ripe, self.past.last()?.worst) {
                (Some(severity), _) => Some((AlertState::Firing, severity, now_ms)),
                (None, Some(_)) => {
                    let holds = AlertSeverity::ALL.into_iter();
                    let holds =
                        holds.filter_map(|severity| Some((self.held(rule, severity)?, severity)));
                    let (since, severity) = holds
                        .min_by_key(|(since, severity)| (*since, std::cmp::Reverse(*severity)))?;
                    Some((AlertState::Pending, severity, since))
                }
                (None, None) => before.filter(|(state, _, _)| *state == AlertState::Resolved),
            },
        }
    }

    /// Time passes: what was resolved long ago is removed.
    pub(super) fn pass(&mut self, now_ms: u64) {
        self.now = self.now.filter(|(state, _, since)| {
            *state != AlertState::Resolved || now_ms < since + super::super::RESOLVED_MS
        });
    }

    /// The alert ends whatever its value is.
    pub(super) fn end(&mut self, now_ms: u64) {
        self.past.clear();
        self.now = match self.now {
            Some((AlertState::Firing, severity, _)) => {
                Some((AlertState::Resolved, severity, now_ms))
            }
            Some((AlertState::Pending, ..)) | None => None,
            resolved => resolved,
        };
    }

    pub(super) fn stands(&self, rule: Option<&Rule>) -> Option<Stands> {
        let (state, severity, since) = self.now?;
        let rule = rule.filter(|_| state != AlertState::Resolved);
        let worse = AlertSeverity::ALL
            .into_iter()
            .filter(|worse| *worse > severity);
        let worse = worse
            .filter_map(|worse| Some((worse, self.held(rule?, worse)?)))
            .collect();
        let over = (state == AlertState::Firing)
            .then(|| self.since(|past| past.kept[severity as usize].is_none()))
            .flatten();
        Some((state, severity, since, worse, over))
    }
}
