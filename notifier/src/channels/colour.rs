//! The colour of a notice, the same in all services that show one.

use hostbus_wire::alert::{AlertSeverity, AlertState};

use crate::notice::{Notice, Reason};

/// A colour, as 24 bits of red, green and blue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Colour(u32);

impl Colour {
    /// Red, orange or blue by the worst that fires, green when all is over, grey for a test.
    #[must_use]
    pub fn of(notice: &Notice) -> Self {
        if notice.reason == Reason::Test {
            return Self(0x60_7d8b);
        }
        Self(match worst_firing(notice) {
            None => 0x2e_7d32,
            Some(AlertSeverity::Info) => 0x15_65c0,
            Some(AlertSeverity::Warning) => 0xef_6c00,
            Some(AlertSeverity::Critical) => 0xc6_2828,
        })
    }

    /// As HTML writes it: `#c62828`.
    #[must_use]
    pub fn hex(self) -> String {
        format!("#{:06x}", self.0)
    }

    /// As a number.
    #[must_use]
    pub fn number(self) -> u32 {
        self.0
    }
}

/// The worst severity that still fires; `None` when all of it is over.
#[must_use]
pub fn worst_firing(notice: &Notice) -> Option<AlertSeverity> {
    let lines = notice.lines.iter();
    lines
        .filter(|line| line.alert.state == AlertState::Firing)
        .map(|line| line.alert.severity)
        .max()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channels::examples;

    #[test]
    fn the_worst_that_fires_decides_and_what_is_over_is_green() {
        let check = |notice: &Notice, hex: &str| assert_eq!(Colour::of(notice).hex(), hex);
        let mut notice = examples::storm("main-1", 2).notice;
        notice.lines[0].alert.severity = AlertSeverity::Info;
        check(&notice, "#c62828");
        notice.lines[1].alert.severity = AlertSeverity::Warning;
        check(&notice, "#ef6c00");
        notice.lines[1].alert.state = AlertState::Resolved;
        check(&notice, "#1565c0");
        notice.lines[0].alert.state = AlertState::Resolved;
        check(&notice, "#2e7d32");
        notice.reason = Reason::Test;
        check(&notice, "#607d8b");
    }
}
