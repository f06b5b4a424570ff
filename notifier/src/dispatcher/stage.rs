//! Why an alert is told to a channel now, later or not at all: the one decision, a pure function of how
//! the alert stands and what the channel was told.

use std::fmt;

use hostbus_wire::alert::{AlertKey, AlertSeverity};

use super::routing::Pace;

/// How far an alert has come on its way to one channel, and what holds it there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Stage {
    /// No route leads it here.
    NotRouted,
    /// A silence holds it.
    Silenced {
        /// The silence's id.
        id: String,
    },
    /// Another alert hides it.
    Inhibited {
        /// The one that fires.
        by: AlertKey,
    },
    /// The alert that hid it is over; it is told if it still fires then.
    Settling,
    /// Its route tells nothing at this time of day.
    OutsideHours,
    /// It came back soon after it was told to be over; it is told if it still fires then.
    CoolingDown {
        /// Until when it is held back, in milliseconds since 1970-01-01 UTC.
        until_ms: u64,
        /// How often it came back.
        flaps: u32,
    },
    /// It is told with its group.
    Waiting {
        /// The group.
        group: String,
    },
    /// It was told, and is not as bad any more: that is told with the next notice of its group.
    Eased {
        /// The severity that was told.
        was: AlertSeverity,
    },
    /// It was told.
    Told,
    /// It was told, and somebody is at it.
    Acknowledged {
        /// Who.
        by: String,
    },
    /// It is over, and there is nothing to tell.
    Over,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotRouted => f.write_str("no route leads here"),
            Self::Silenced { id } => write!(f, "silenced by {id}"),
            Self::Inhibited { by } => write!(f, "hidden by {by}"),
            Self::Settling => f.write_str("settling after what hid it"),
            Self::OutsideHours => f.write_str("outside the hours of its route"),
            Self::CoolingDown { flaps, .. } => write!(f, "cooling down, came back {flaps} times"),
            Self::Waiting { group, .. } => write!(f, "waiting for the notice of {group}"),
            Self::Eased { was } => write!(f, "told as {was}; less now"),
            Self::Told => f.write_str("told"),
            Self::Acknowledged { by } if by.is_empty() => f.write_str("acknowledged"),
            Self::Acknowledged { by } => write!(f, "acknowledged by {by}"),
            Self::Over => f.write_str("over"),
        }
    }
}

/// How an alert stands and what its channel knows: all that the decision depends on.
#[derive(Debug)]
pub(super) struct View<'a> {
    pub(super) now_ms: u64,
    /// Its severity while it fires.
    pub(super) firing: Option<AlertSeverity>,
    pub(super) silence: Option<&'a str>,
    pub(super) inhibitor: Option<&'a AlertKey>,
    pub(super) settles_ms: Option<u64>,
    /// Who acknowledged it.
    pub(super) acknowledged: Option<&'a str>,
    /// A route leads it here.
    pub(super) routed: bool,
    /// It is outside the hours of its route.
    pub(super) shut: bool,
    pub(super) pace: Pace,
    /// What the channel was told as firing: how bad, and when.
    pub(super) told: Option<(AlertSeverity, u64)>,
    /// What the channel was told to be over: how bad it had been, and when.
    pub(super) ended: Option<(AlertSeverity, u64)>,
    pub(super) flaps: u32,
}

/// A change that is to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Change {
    /// It fires.
    New,
    /// It fires worse than it was told.
    Rise,
    /// It is over.
    Resolve,
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// Tell this with the group.
    Tell(Change),
    /// Nothing has changed that must be told for its own sake; repeat it in time, with what it is at now.
    Repeat {
        /// It is not as bad any more as was told.
        eased: bool,
    },
    /// The channel wants to hear of no recovery: it is over without a word.
    Forget,
    /// Something holds it.
    Hold(Stage),
}

/// The steps in their order: silence, inhibition, route, cooldown, group or repeat.
pub(super) fn decide(view: &View<'_>) -> Decision {
    let silenced = view.silence.map(|id| Stage::Silenced { id: id.to_owned() });
    let shut = view.shut.then_some(Stage::OutsideHours);
    let Some(severity) = view.firing else {
        return match (view.told, silenced.or(shut)) {
            (None, _) => Decision::Hold(Stage::Over),
            (Some(_), Some(held)) => Decision::Hold(held),
            (Some(_), None) if view.pace.recovery => Decision::Tell(Change::Resolve),
            (Some(_), None) => Decision::Forget,
        };
    };
    if !view.routed && view.told.is_none() {
        return Decision::Hold(Stage::NotRouted);
    }
    let inhibited = view.inhibitor.map(|by| Stage::Inhibited { by: by.clone() });
    let settling = view
        .settles_ms
        .filter(|&until_ms| until_ms > view.now_ms)
        .map(|_| Stage::Settling);
    if let Some(held) = silenced.or(inhibited).or(settling).or(shut) {
        return Decision::Hold(held);
    }
    let Some((told, _)) = view.told else {
        return match cooling_until(view, severity) {
            Some(until_ms) => Decision::Hold(Stage::CoolingDown {
                until_ms,
                flaps: view.flaps,
            }),
            None => Decision::Tell(Change::New),
        };
    };
    if severity > told {
        return Decision::Tell(Change::Rise);
    }
    if let Some(by) = view.acknowledged {
        return Decision::Hold(Stage::Acknowledged { by: by.to_owned() });
    }
    if !view.routed {
        return Decision::Hold(Stage::Told);
    }
    Decision::Repeat {
        eased: severity < told,
    }
}

/// Until when an alert that came back is held back. Worse than it was is no flapping.
fn cooling_until(view: &View<'_>, severity: AlertSeverity) -> Option<u64> {
    let (was, ended_ms) = view.ended?;
    let until_ms = ended_ms.saturating_add(view.pace.cooldown_ms);
    (severity <= was && until_ms > view.now_ms).then_some(until_ms)
}

#[cfg(test)]
mod tests {
    use super::*;
    use AlertSeverity::{Critical, Info, Warning};

    impl Stage {
        /// The reason in one word.
        fn name(&self) -> &'static str {
            match self {
                Self::NotRouted => "not-routed",
                Self::Silenced { .. } => "silenced",
                Self::Inhibited { .. } => "inhibited",
                Self::Settling => "settling",
                Self::OutsideHours => "outside-hours",
                Self::CoolingDown { .. } => "cooling-down",
                Self::Waiting { .. } => "waiting",
                Self::Eased { .. } => "eased",
                Self::Told => "told",
                Self::Acknowledged { .. } => "acknowledged",
                Self::Over => "over",
            }
        }
    }

    fn view() -> View<'static> {
        View {
            now_ms: 1_000,
            firing: Some(Warning),
            silence: None,
            inhibitor: None,
            settles_ms: None,
            acknowledged: None,
            routed: true,
            shut: false,
            pace: Pace {
                wait_ms: 0,
                interval_ms: 0,
                repeat_ms: 0,
                cooldown_ms: 500,
                recovery: true,
            },
            told: None,
            ended: None,
            flaps: 0,
        }
    }

    #[test]
    fn each_step_holds_for_a_named_reason() {
        let down = AlertKey {
            node: "home.web1".parse().unwrap(),
            rule: "node-down".into(),
            instance: None,
        };
        let check = |change: &dyn Fn(&mut View<'_>), expected: &str| {
            let mut view = view();
            // The key outlives the view: it is set here and not in the closures.
            let by = (expected == "inhibited").then_some(&down);
            view.inhibitor = by;
            change(&mut view);
            let got = match decide(&view) {
                Decision::Hold(stage) => stage.name(),
                Decision::Tell(Change::New) => "new",
                Decision::Tell(Change::Rise) => "rise",
                Decision::Tell(Change::Resolve) => "resolve",
                Decision::Repeat { eased: true } => "ease",
                Decision::Repeat { eased: false } => "repeat",
                Decision::Forget => "forget",
            };
            assert_eq!(got, expected, "{view:?}");
        };
        check(&|_| {}, "new");
        check(&|v| v.routed = false, "not-routed");
        check(&|v| v.silence = Some("s"), "silenced");
        check(&|_| {}, "inhibited");
        check(&|v| v.settles_ms = Some(1_001), "settling");
        check(&|v| v.settles_ms = Some(1_000), "new");
        check(&|v| v.shut = true, "outside-hours");
        check(&|v| v.ended = Some((Warning, 501)), "cooling-down");
        check(&|v| v.ended = Some((Warning, 500)), "new");
        check(&|v| v.ended = Some((Info, 501)), "new");
        check(&|v| v.told = Some((Warning, 0)), "repeat");
        check(&|v| v.told = Some((Critical, 0)), "ease");
        check(&|v| v.told = Some((Info, 0)), "rise");
        let acknowledge = |v: &mut View<'_>| v.acknowledged = Some("ann");
        check(&acknowledge, "new");
        check(
            &|v| {
                acknowledge(v);
                v.told = Some((Warning, 0));
            },
            "acknowledged",
        );
        check(
            &|v| {
                v.routed = false;
                v.told = Some((Warning, 0));
            },
            "told",
        );
        let over = |v: &mut View<'_>| {
            v.firing = None;
            v.told = Some((Warning, 0));
        };
        check(&|v| v.firing = None, "over");
        check(&over, "resolve");
        check(
            &|v| {
                over(v);
                v.routed = false;
                v.settles_ms = Some(2_000);
            },
            "resolve",
        );
        check(
            &|v| {
                over(v);
                v.silence = Some("s");
            },
            "silenced",
        );
        check(
            &|v| {
                over(v);
                v.shut = true;
            },
            "outside-hours",
        );
        check(
            &|v| {
                over(v);
                v.pace.recovery = false;
            },
            "forget",
        );
    }
}
