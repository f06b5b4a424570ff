//! A notice: what one channel is to tell people at once. It is data, kept in the spool until it is
//! delivered; how it reads is the templates' business, how it travels the channels'.

use hostbus_wire::alert::{Alert, AlertKey, AlertSeverity, AlertState};
use hostbus_wire::told::Told;
use serde::{Deserialize, Serialize};

/// Two beginnings that are not further apart are the same one: an alert whose author named none began
/// when it arrived, which is not the same moment at two notifiers.
pub(crate) const SAME_BEGINNING_MS: u64 = 5_000;

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
    /// A line is covered by the mark of the same alert, state, severity and beginning; a repetition
    /// only by a mark of its own time.
    pub fn cover(&mut self, told: &Told) -> bool {
        let repeats = self.reason == Reason::Repeat;
        let formed_ms = self.formed_ms;
        let before = self.lines.len();
        self.lines.retain(|line| {
            let same = line.key == told.alert
                && line.alert.state == told.state
                && line.alert.severity == told.severity
                && line.firing_since.abs_diff(told.since) <= SAME_BEGINNING_MS;
            let old = (repeats || line.repeated)
                && told.state == AlertState::Firing
                && told.at.saturating_add(SAME_REPETITION_MS) < formed_ms;
            !same || old
        });
        self.lines.len() < before
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

    fn notice(reason: Reason, states: &[AlertState]) -> Notice {
        let lines = states.iter().enumerate().map(|(at, &state)| Line {
            key: key(at),
            alert: Alert {
                state,
                since: 5_000,
                ..Alert::default()
            },
            firing_since: 1_000_000,
            was: None,
            flaps: 0,
            repeated: reason == Reason::Repeat,
        });
        Notice {
            id: 1,
            channel: "ops".to_owned(),
            reason,
            group: "all".to_owned(),
            formed_ms: 2_000_000,
            lines: lines.collect(),
            still_firing: 0,
        }
    }

    fn key(at: usize) -> AlertKey {
        AlertKey {
            node: "home.web1".parse().unwrap(),
            rule: format!("r{at}").into(),
            instance: None,
        }
    }

    #[test]
    fn a_mark_covers_the_line_of_its_own_change_only() {
        use AlertState::{Firing, Resolved};
        let mark = Told {
            alert: key(0),
            state: Firing,
            severity: AlertSeverity::Warning,
            since: 1_000_000,
            at: 1_000_100,
            given_up: false,
        };
        let check = |reason, told: Told, left: &[usize]| {
            let mut queued = notice(reason, &[Firing, Resolved]);
            let dropped = queued.cover(&told);
            let keys: Vec<AlertKey> = queued.lines.into_iter().map(|line| line.key).collect();
            let expected: Vec<AlertKey> = left.iter().map(|&at| key(at)).collect();
            assert_eq!(keys, expected, "{reason:?} {told:?}");
            assert_eq!(dropped, left.len() < 2);
        };
        let at_0 = || mark.clone();
        check(Reason::Firing, at_0(), &[1]);
        check(
            Reason::Digest,
            Told {
                since: 1_004_000,
                ..at_0()
            },
            &[1],
        );
        check(
            Reason::Firing,
            Told {
                since: 1_400_000,
                ..at_0()
            },
            &[0, 1],
        );
        check(
            Reason::Firing,
            Told {
                state: Resolved,
                ..at_0()
            },
            &[0, 1],
        );
        let critical = AlertSeverity::Critical;
        check(
            Reason::Firing,
            Told {
                severity: critical,
                ..at_0()
            },
            &[0, 1],
        );
        check(
            Reason::Firing,
            Told {
                alert: key(1),
                ..at_0()
            },
            &[0, 1],
        );
        check(
            Reason::Resolved,
            Told {
                alert: key(1),
                state: Resolved,
                ..at_0()
            },
            &[0],
        );
        check(Reason::Repeat, at_0(), &[0, 1]);
        check(
            Reason::Repeat,
            Told {
                at: 1_980_000,
                ..at_0()
            },
            &[1],
        );
    }
}
