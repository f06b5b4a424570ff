//! A notice: what one channel is to tell people at once. It is data, kept in the spool until it is
//! delivered; how it reads is the templates' business, how it travels the channels'.

use hostbus_wire::alert::{Alert, AlertKey, AlertSeverity, AlertState};
use hostbus_wire::told::Told;
use serde::{Deserialize, Serialize};

/// Two beginnings that are not further apart are the same one: an alert whose author named none began
/// when it arrived, which is not the same moment at two notifiers.
pub(crate) const SAME_BEGINNING_MS: u64 = 2_000;

/// A repetition that was told this long before ours was formed is the same one: two notifiers do not
/// come to it at the same moment. The least repeat time is twice this.
const SAME_REPETITION_MS: u64 = 30_000;

/// What one channel is to tell.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Notice {
    /// Rises by one with each notice of this notifier; with its name it is the key by which an endpoint
    /// can tell a repetition.
    pub id: u64,
    /// The channel's name in the settings.
    pub channel: String,
    /// Why it is told.
    pub reason: Reason,
    /// What its alerts have in common: `node home.web1`, `rule disk-full`, `silence backup` for what that
    /// silence held back; `rule cpu and 11 more` where many groups came at once.
    pub group: String,
    /// When it was formed, in milliseconds since 1970-01-01 UTC.
    pub formed_ms: u64,
    /// Its alerts, all of them: firing before resolved, the worst first, then by key.
    pub lines: Vec<Line>,
    /// How many alerts of these groups fire, as this channel knows them once it has told this notice.
    #[serde(default)]
    pub still_firing: usize,
}

impl Notice {
    /// Drops the lines that another notifier has told through the same channel already, and says
    /// whether there were any. A notice without lines is not to be told at all.
    ///
    /// A mark says what people heard last of an alert. It covers that, and what is older than that: what
    /// began earlier, and of the same beginning the lesser severities on the way up. A repetition is
    /// covered by a mark of its own time alone.
    pub fn cover(&mut self, told: &Told) -> bool {
        let formed_ms = self.formed_ms;
        let before = self.lines.len();
        self.lines
            .retain(|line| line.key != told.alert || !line.is_covered(told, formed_ms));
        self.lines.len() < before
    }
}

impl Line {
    fn is_covered(&self, told: &Told, formed_ms: u64) -> bool {
        if self.firing_since > told.since.saturating_add(SAME_BEGINNING_MS) {
            return false;
        }
        let same = self.firing_since.abs_diff(told.since) <= SAME_BEGINNING_MS;
        let (firing, severity) = (self.alert.state == AlertState::Firing, self.alert.severity);
        if told.state != AlertState::Firing || !same {
            return true;
        }
        if self.repeated {
            return told.at.saturating_add(SAME_REPETITION_MS) >= formed_ms;
        }
        if self.was.is_some_and(|was| was > severity) {
            return severity == told.severity;
        }
        firing && severity <= told.severity
    }
}

/// Why a notice is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reason {
    /// Something fires that did not, or fires worse.
    Firing,
    /// All of it is over.
    Resolved,
    /// It still fires, unacknowledged, after the repeat time.
    Repeat,
    /// What was held back by a silence or a time of day and still fires.
    Digest,
    /// Somebody asked whether this channel works.
    Test,
}

/// One alert of a notice.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// Which alert.
    pub key: AlertKey,
    /// How it stood when the notice was formed: firing or resolved.
    pub alert: Alert,
    /// Since when it has been firing, or had been until it was over, in milliseconds since 1970-01-01 UTC.
    pub firing_since: u64,
    /// The severity that this channel was told before, where it is another one now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub was: Option<AlertSeverity>,
    /// How often it came back since this channel was told of it last: it flaps.
    #[serde(default)]
    pub flaps: u32,
    /// It was told before and nothing has changed.
    #[serde(default)]
    pub repeated: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use AlertSeverity::{Critical, Info, Warning};
    use AlertState::{Firing, Resolved};

    const SINCE: u64 = 1_000_000;

    fn key(rule: &str) -> AlertKey {
        AlertKey {
            node: "home.web1".parse().unwrap(),
            rule: rule.into(),
            instance: None,
        }
    }

    /// A warning that began at [`SINCE`], in a notice that was formed a second later.
    fn line() -> Line {
        Line {
            key: key("cpu"),
            alert: Alert::default(),
            firing_since: SINCE,
            was: None,
            flaps: 0,
            repeated: false,
        }
    }

    fn over() -> Line {
        let mut line = line();
        line.alert.state = Resolved;
        line
    }

    fn worse(was: AlertSeverity, severity: AlertSeverity) -> Line {
        let mut line = line();
        line.was = Some(was);
        line.alert.severity = severity;
        line
    }

    #[test]
    fn a_mark_covers_what_was_told_and_what_is_older() {
        let check = |line: Line, state, severity, since_ms: u64, at_ms: u64, covered| {
            let other = Line {
                key: key("fan"),
                ..line.clone()
            };
            let mut notice = Notice {
                id: 1,
                channel: "ops".to_owned(),
                reason: Reason::Firing,
                group: "all".to_owned(),
                formed_ms: SINCE + 1_000,
                lines: vec![line.clone(), other.clone()],
                still_firing: 0,
            };
            let told = Told {
                alert: key("cpu"),
                state,
                severity,
                since: since_ms,
                at: at_ms,
                given_up: false,
            };
            assert_eq!(notice.cover(&told), covered, "{line:?} by {told:?}");
            let left = if covered {
                vec![other]
            } else {
                vec![line, other]
            };
            assert_eq!(notice.lines, left, "by {told:?}");
        };
        let at = SINCE + 900;
        check(line(), Firing, Warning, SINCE, at, true);
        check(line(), Firing, Warning, SINCE + 2_000, at, true);
        check(line(), Firing, Warning, SINCE - 2_001, at, false);
        check(line(), Firing, Warning, SINCE + 60_000, at, true);
        check(line(), Resolved, Warning, SINCE, at, true);
        check(line(), Resolved, Warning, SINCE - 2_001, at, false);
        check(line(), Firing, Critical, SINCE, at, true);
        check(line(), Firing, Info, SINCE, at, false);
        check(over(), Firing, Warning, SINCE, at, false);
        check(over(), Resolved, Critical, SINCE, at, true);
        check(over(), Firing, Warning, SINCE + 60_000, at, true);
        check(worse(Info, Warning), Firing, Warning, SINCE, at, true);
        check(worse(Info, Warning), Firing, Info, SINCE, at, false);
        check(worse(Info, Warning), Firing, Critical, SINCE, at, true);
        // On the way down the worse is the older.
        check(worse(Critical, Warning), Firing, Critical, SINCE, at, false);
        check(worse(Critical, Warning), Firing, Warning, SINCE, at, true);
        let mut again = line();
        again.repeated = true;
        check(again.clone(), Firing, Warning, SINCE, SINCE - 29_000, true);
        check(again.clone(), Firing, Warning, SINCE, SINCE - 29_001, false);
        check(again.clone(), Firing, Info, SINCE, SINCE - 29_000, true);
        check(again, Resolved, Warning, SINCE, SINCE - 29_001, true);
    }
}
