//! The points of a chart on the axis of time. No I/O.

use crate::config::Retention;
use crate::tier::Tier;

/// Equal spans of time, each beginning at a multiple of its length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Grid {
    /// Where the range begins; the first span may begin before.
    pub(super) from_ms: u64,
    pub(super) to_ms: u64,
    pub(super) start_ms: u64,
    pub(super) step_ms: u64,
    pub(super) points: usize,
    /// How many points there may be.
    pub(super) asked: usize,
}

/// How many packed values are read in the time of one that stands as text.
const PACKED_A_TEXT: u64 = 20;
/// How far apart rows as they came are taken to be, in seconds.
const RAW_SECONDS: u64 = 10;

/// The tier that is read the quickest, of those that have about a row a point and are kept long
/// enough: a fine one that is packed may be quicker than a coarse one in a stream. Four fifths of
/// the points are enough, as the next finer tier has many times the rows.
pub(super) fn fitting(from_ms: u64, to_ms: u64, points: usize, retention: &Retention) -> Tier {
    let step_ms = step(from_ms, to_ms, points);
    let range_seconds = (to_ms - from_ms) / 1_000;
    let is_fine = |tier: &Tier| {
        tier.span_ms()
            .is_none_or(|span| span <= step_ms + step_ms / 4)
    };
    let lasts = |tier: &Tier| {
        let kept = retention.of(*tier).seconds;
        kept > 0 && kept >= range_seconds
    };
    let cost = |tier: &Tier| {
        let kept = retention.of(*tier);
        let stream = kept
            .stream_seconds
            .unwrap_or(kept.seconds)
            .min(range_seconds);
        let values_a_row = if *tier == Tier::Raw { 1 } else { 3 };
        let row_seconds = tier.span_ms().map_or(RAW_SECONDS, |span| span / 1_000);
        (stream + (range_seconds - stream) / PACKED_A_TEXT) * values_a_row / row_seconds
    };
    let fine = Tier::ALL.into_iter().rev().filter(is_fine);
    let quickest = fine.clone().filter(lasts).min_by_key(cost);
    // What none of them has, a coarser one may have.
    let coarsest = || fine.clone().find(|tier| retention.of(*tier).seconds > 0);
    quickest.or_else(coarsest).unwrap_or(Tier::Raw)
}

/// How far apart points are at least.
fn step(from_ms: u64, to_ms: u64, points: usize) -> u64 {
    // A range that begins within a span touches one more.
    let spans = u64::try_from(points).unwrap_or(u64::MAX).saturating_sub(1);
    (to_ms - from_ms).div_ceil(spans.max(1)).max(1)
}

impl Grid {
    /// At most `points` spans from `from_ms` to `to_ms`, each of whole rows of `tier`.
    pub(super) fn new(from_ms: u64, to_ms: u64, points: usize, tier: Tier) -> Self {
        let step_ms = step(from_ms, to_ms, points);
        let unit_ms = match tier.span_ms() {
            Some(span_ms) => span_ms,
            None if step_ms >= 1_000 => 1_000,
            None => 1,
        };
        if points <= 1 {
            let start_ms = tier.bucket(from_ms);
            return Self {
                from_ms,
                to_ms,
                start_ms,
                step_ms: (to_ms - start_ms).saturating_add(1),
                points: 1,
                asked: 1,
            };
        }
        let step_ms = step_ms.div_ceil(unit_ms).saturating_mul(unit_ms);
        let start_ms = from_ms - from_ms % step_ms;
        let spans = (to_ms - start_ms) / step_ms;
        Self {
            from_ms,
            to_ms,
            start_ms,
            step_ms,
            asked: points,
            points: usize::try_from(spans)
                .map_or(points, |spans| spans.saturating_add(1).min(points)),
        }
    }

    /// The span that `at_ms` falls into; the last one for what is later.
    pub(super) fn index(&self, at_ms: u64) -> usize {
        let span = at_ms.saturating_sub(self.start_ms) / self.step_ms;
        usize::try_from(span).map_or(self.points - 1, |span| span.min(self.points - 1))
    }

    /// When the span `index` begins.
    pub(super) fn time_ms(&self, index: usize) -> u64 {
        self.start_ms + index as u64 * self.step_ms
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MINUTE: u64 = 60_000;
    const DAY: u64 = 1_440 * MINUTE;

    #[test]
    fn the_tier_has_a_row_a_point_and_is_read_quickly() {
        let retention = Retention::default();
        let check = |range_ms: u64, points: usize, expected: Tier| {
            let tier = fitting(DAY, DAY + range_ms, points, &retention);
            assert_eq!(tier, expected, "{range_ms} {points}");
        };
        check(60 * MINUTE, 1_000, Tier::Raw);
        // Packed rows are quicker than a stream of minutes.
        check(DAY, 1_000, Tier::Raw);
        check(7 * DAY, 1_000, Tier::TenMinutes);
        check(400 * DAY, 1_000, Tier::Hour);
        check(2_000 * DAY, 1_000, Tier::Hour);
        check(60 * MINUTE, 1, Tier::Hour);
        check(0, 10, Tier::Raw);
        let mut other = retention.clone();
        other.raw.stream_seconds = None;
        assert_eq!(fitting(0, DAY, 1_000, &other), Tier::Minute);
        other.minute.seconds = 0;
        assert_eq!(fitting(0, DAY, 1_000, &other), Tier::Raw);
    }

    proptest! {
        #[test]
        fn there_are_never_more_points_than_asked(
            from_ms in 0..1_u64 << 50,
            range_ms in prop_oneof![0..100_000_u64, 0..500 * DAY],
            points in 1..3_000_usize,
            tier in prop::sample::select(Tier::ALL.to_vec()),
        ) {
            let to_ms = from_ms + range_ms;
            let grid = Grid::new(from_ms, to_ms, points, tier);
            prop_assert!((1..=points).contains(&grid.points));
            prop_assert!(grid.start_ms <= from_ms);
            prop_assert!(grid.time_ms(grid.points - 1) <= to_ms);
            prop_assert!(grid.time_ms(grid.points) > to_ms);
            prop_assert_eq!(grid.index(to_ms), grid.points - 1);
            let span_ms = tier.span_ms().unwrap_or(1);
            prop_assert!(grid.start_ms.is_multiple_of(span_ms));
            prop_assert!(points == 1 || grid.step_ms.is_multiple_of(span_ms));
        }
    }
}
