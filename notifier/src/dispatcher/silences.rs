//! Silences, checked: which alerts each means and when it holds. Who put a wrong one is told why it is
//! refused; the others go on.

use std::collections::BTreeMap;

use hostbus_wire::SiteId;
use hostbus_wire::alert::{Alert, AlertKey};
use hostbus_wire::silence::Silence;
use serde::{Deserialize, Serialize};

use super::clock::Correction;
use super::config::SettingError;
use super::matcher::{Matcher, Written};
use super::window::Window;

/// The longest text of who and why, in bytes.
const MAX_TEXT_BYTES: usize = 1_024;
/// The longest a silence may last after its arrival: ten years. It is there to catch milliseconds where
/// seconds were meant.
const MAX_SECONDS: u64 = 10 * 366 * 86_400;

/// One checked silence.
#[derive(Debug, Clone)]
pub(super) struct Held {
    /// As it was put.
    pub(super) silence: Silence,
    /// When this notifier saw it first.
    pub(super) arrived_ms: u64,
    matcher: Matcher,
    from_ms: u64,
    /// `None`: it recurs for ever.
    until_ms: Option<u64>,
    window: Option<Window>,
}

impl Held {
    /// Checks a silence that was first seen at `arrived_ms`.
    ///
    /// # Errors
    /// It would never begin or never end, or a matcher or its window makes no sense.
    pub(super) fn new(silence: Silence, arrived_ms: u64) -> Result<Self, SettingError> {
        for (key, text) in [("by", &silence.by), ("why", &silence.why)] {
            if text.len() > MAX_TEXT_BYTES {
                let expected = format!("at most {MAX_TEXT_BYTES} bytes");
                return Err(SettingError::new(key, text, expected));
            }
        }
        let (from_ms, until_ms) = span(&silence, arrived_ms)?;
        let window = match &silence.weekly {
            Some(weekly) => Some(Window::new(weekly, "weekly.")?),
            None => None,
        };
        let written = Written {
            severities: &silence.severities,
            nodes: &silence.nodes,
            groups: &[],
            rules: &silence.rules,
            instances: &silence.instances,
            labels: &silence.labels,
        };
        let matcher = Matcher::new(&written, "")?;
        Ok(Self {
            silence,
            arrived_ms,
            matcher,
            from_ms,
            until_ms,
            window,
        })
    }

    /// It was first seen at another time than was thought.
    pub(super) fn correct(&mut self, correction: Correction) {
        correction.past(&mut self.arrived_ms);
        if let Ok(span) = span(&self.silence, self.arrived_ms) {
            (self.from_ms, self.until_ms) = span;
        }
    }

    /// Whether it means the alert at `key`, whenever it holds.
    pub(super) fn means(&self, key: &AlertKey, alert: &Alert) -> bool {
        self.matcher.takes(key, alert, &[])
    }

    /// Whether it holds at `now_ms`.
    pub(super) fn holds(&self, now_ms: u64) -> bool {
        self.from_ms <= now_ms
            && self.until_ms.is_none_or(|until| now_ms < until)
            && self
                .window
                .as_ref()
                .is_none_or(|window| window.standing(now_ms).open)
    }

    /// When it is over for good; `None`: never.
    pub(super) fn over_ms(&self) -> Option<u64> {
        self.until_ms
    }

    /// Until when [`holds`](Self::holds) says the same as at `now_ms`; `None`: for ever.
    pub(super) fn same_until(&self, now_ms: u64) -> Option<u64> {
        if now_ms < self.from_ms {
            return Some(self.from_ms);
        }
        if self.until_ms.is_some_and(|until| until <= now_ms) {
            return None;
        }
        let edge_ms = self
            .window
            .as_ref()
            .map(|window| window.standing(now_ms).until_ms);
        edge_ms.into_iter().chain(self.until_ms).min()
    }
}

/// From when until when a silence holds that was first seen at `arrived_ms`.
fn span(silence: &Silence, arrived_ms: u64) -> Result<(u64, Option<u64>), SettingError> {
    let from_ms = silence.from.unwrap_or(arrived_ms);
    let until_ms = match (silence.until, silence.seconds) {
        (_, Some(seconds)) if seconds == 0 || seconds > MAX_SECONDS => {
            let expected = "1 to 316224000 seconds";
            return Err(SettingError::new("seconds", &seconds.to_string(), expected));
        }
        (until, Some(seconds)) => {
            let over_ms = from_ms.saturating_add(seconds * 1_000);
            Some(until.map_or(over_ms, |until| until.min(over_ms)))
        }
        (Some(until), None) => Some(until),
        (None, None) if silence.weekly.is_some() => None,
        (None, None) => {
            let expected =
                "a silence ends: give until (milliseconds since 1970), seconds or weekly";
            return Err(SettingError::new("until", "", expected));
        }
    };
    if let (Some(from), Some(until)) = (silence.from, until_ms)
        && until <= from
    {
        let expected = "a time after from, in milliseconds since 1970";
        return Err(SettingError::new("until", &until.to_string(), expected));
    }
    Ok((from_ms, until_ms))
}

/// Which silence: ids are those of a site, and so is what a silence may hold.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct SilenceId {
    pub(super) site: SiteId,
    pub(super) id: Box<str>,
}

/// The silences by their ids.
pub(super) type ById = BTreeMap<SilenceId, Entry>;

/// A silence and whether it held when it was looked at last.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) held: Held,
    pub(super) holds: bool,
    /// Whether it was heard since the bus was last joined.
    pub(super) heard: bool,
    /// It stands on the bus without the time of its end.
    pub(super) unsaid: bool,
    /// When it must be looked at again.
    pub(super) wake_ms: Option<u64>,
}

/// The first silence that holds and means the alert at `key`.
pub(super) fn holding<'a>(
    silences: &'a ById,
    key: &AlertKey,
    alert: &Alert,
    now_ms: u64,
) -> Option<&'a str> {
    silences
        .iter()
        .find(|(id, entry)| {
            id.site == key.node.site && entry.held.means(key, alert) && entry.held.holds(now_ms)
        })
        .map(|(id, _)| &*id.id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hostbus_wire::silence::Weekly;

    fn nightly() -> Weekly {
        Weekly {
            from: "22:00".to_owned(),
            to: "06:00".to_owned(),
            ..Weekly::default()
        }
    }

    #[test]
    fn a_silence_holds_from_its_beginning_to_before_its_end() {
        let check = |silence: &Silence, now_ms, holds, until| {
            let held = Held::new(silence.clone(), 1_000).unwrap();
            let got = (held.holds(now_ms), held.same_until(now_ms));
            assert_eq!(got, (holds, until), "{silence:?} at {now_ms}");
        };
        let hour = Silence {
            seconds: Some(3_600),
            ..Silence::default()
        };
        check(&hour, 1_000, true, Some(3_601_000));
        check(&hour, 3_601_000, false, None);
        // What comes first ends it.
        for (until, over_ms) in [(5_000, 5_000), (9_000_000, 3_601_000)] {
            let both = Silence {
                until: Some(until),
                ..hour.clone()
            };
            check(&both, over_ms - 1, true, Some(over_ms));
            check(&both, over_ms, false, None);
        }
        let later = Silence {
            from: Some(5_000),
            until: Some(6_000),
            ..Silence::default()
        };
        check(&later, 4_999, false, Some(5_000));
        check(&later, 5_000, true, Some(6_000));
        check(&later, 6_000, false, None);
        let for_ever = Silence {
            weekly: Some(nightly()),
            ..Silence::default()
        };
        check(&for_ever, 3_600_000, true, Some(6 * 3_600_000));
        check(&for_ever, 6 * 3_600_000, false, Some(22 * 3_600_000));
        let two_days = Silence {
            seconds: Some(100_000),
            ..for_ever
        };
        check(&two_days, 23 * 3_600_000, true, Some(100_001_000));
        check(&two_days, 100_001_000, false, None);
    }

    #[test]
    fn a_silence_that_makes_no_sense_is_refused_by_name() {
        let check = |silence: Silence, key: &str| {
            let error = Held::new(silence, 1_000).unwrap_err();
            assert_eq!(error.key, key, "{error}");
        };
        let none = Silence::default;
        check(none(), "until");
        check(
            Silence {
                from: Some(5),
                until: Some(5),
                ..none()
            },
            "until",
        );
        check(
            Silence {
                seconds: Some(0),
                ..none()
            },
            "seconds",
        );
        check(
            Silence {
                seconds: Some(u64::MAX),
                ..none()
            },
            "seconds",
        );
        let bad = Weekly {
            from: "25:00".to_owned(),
            ..nightly()
        };
        check(
            Silence {
                weekly: Some(bad),
                ..none()
            },
            "weekly.from",
        );
        let many = vec!["x".to_owned(); 257];
        check(
            Silence {
                seconds: Some(5),
                nodes: many,
                ..none()
            },
            "nodes",
        );
        check(
            Silence {
                seconds: Some(5),
                why: "x".repeat(1_025),
                ..none()
            },
            "why",
        );
    }
}
