//! What a mark of another notifier makes needless.

use hostbus_wire::told::Told;

use crate::notice::{Line, Notice};

/// `notice` without the lines that `told` covers; `None` when it covers none. A notice without lines
/// is left when all of them are covered.
pub(super) fn without(notice: &Notice, told: &Told) -> Option<Notice> {
    let covered = |line: &Line| {
        line.key == told.alert
            && line.alert.state == told.state
            && line.alert.severity == told.severity
            && line.firing_since == told.since
    };
    if !notice.lines.iter().any(covered) {
        return None;
    }
    let mut rest = notice.clone();
    rest.lines.retain(|line| !covered(line));
    Some(rest)
}
