//! When late rows are merged: when no more of them come, so that a node that sends what it has kept does not
//! have the same block written anew again and again. No I/O, no clock.

/// How long no new one comes before they are merged. A keeper comes again after a minute.
const QUIET_MS: u64 = 45_000;
/// So many are merged though more come.
const MOST_ROWS: u64 = 5_000;
/// After so long they are merged though more come.
const LONGEST_MS: u64 = 3_600_000;

/// Late rows of a series, as long as they are gathered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Gathering {
    /// How many there were when they were last counted.
    rows: u64,
    /// When the first were seen.
    begun_ms: u64,
    /// When there were last more than before.
    grown_ms: u64,
}

impl Gathering {
    /// Those of a visit at `now_ms` that finds `rows` of them; `before` as the visit before left it.
    pub(super) fn of(before: Option<Self>, rows: u64, now_ms: u64) -> Self {
        let mut gathering = before.unwrap_or(Self {
            rows,
            begun_ms: now_ms,
            grown_ms: now_ms,
        });
        if rows > gathering.rows {
            gathering.grown_ms = now_ms;
        }
        gathering.rows = rows;
        gathering
    }

    /// Tells whether it is time to merge them.
    pub(super) fn is_over(self, now_ms: u64) -> bool {
        now_ms.saturating_sub(self.grown_ms) >= QUIET_MS
            || now_ms.saturating_sub(self.begun_ms) >= LONGEST_MS
            || self.rows >= MOST_ROWS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn late_rows_are_merged_when_no_more_come_or_they_are_many_or_it_takes_long() {
        let check = |visits: &[(u64, u64)], over: bool| {
            let mut gathering = None;
            for (second, rows) in visits {
                gathering = Some(Gathering::of(gathering, *rows, 1_000 * second));
            }
            let (last, _) = visits[visits.len() - 1];
            assert_eq!(gathering.unwrap().is_over(1_000 * last), over, "{visits:?}");
        };
        check(&[(0, 1)], false);
        check(&[(0, 1), (44, 1)], false);
        check(&[(0, 1), (45, 1)], true);
        check(&[(0, 1), (60, 2)], false);
        check(&[(0, 1), (60, 2), (120, 2)], true);
        // Some were too old, or merged by another keeper.
        check(&[(0, 9), (30, 5), (45, 5)], true);
        check(&[(0, 4_999)], false);
        check(&[(0, 5_000)], true);
        let steadily: Vec<(u64, u64)> = (0..=60).map(|minute| (60 * minute, minute)).collect();
        check(&steadily[..60], false);
        check(&steadily, true);
    }
}
