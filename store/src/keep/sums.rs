//! Which buckets are missing, and their rows made of finer ones: pure.

use std::ops::Range;
use std::sync::Arc;

use crate::rollup::{Bucket, Fields, Finer};
use crate::row::Row;
use crate::tier::Tier;

/// The row of one bucket.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Made {
    /// The bucket's start.
    pub(super) at_ms: u64,
    pub(super) names: Arc<[String]>,
    pub(super) values: Vec<Option<f64>>,
}

/// The stretches of `span` from `from` to `to` of which none is in `have`, which is sorted.
pub(super) fn gaps(have: &[u64], from: u64, to: u64, span: u64) -> Vec<Range<u64>> {
    let mut gaps = Vec::new();
    let mut next = from;
    for start in have
        .iter()
        .copied()
        .filter(|start| (from..to).contains(start))
    {
        if next < start {
            gaps.push(next..start);
        }
        next = start + span;
    }
    if next < to {
        gaps.push(next..to);
    }
    gaps
}

/// Joins stretches that are not further than `apart` from each other.
pub(super) fn join(mut ranges: Vec<Range<u64>>, apart: u64) -> Vec<Range<u64>> {
    ranges.sort_unstable_by_key(|range| range.start);
    let mut joined: Vec<Range<u64>> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match joined.last_mut() {
            Some(last) if range.start <= last.end.saturating_add(apart) => {
                last.end = last.end.max(range.end);
            }
            _ => joined.push(range),
        }
    }
    joined
}

/// Sums rows up tier by tier, from the tier that they are of to the one that is wanted.
#[derive(Debug)]
pub(super) struct Cascade {
    stages: Vec<Stage>,
    made: Vec<Made>,
    /// Rows that are none.
    pub(super) malformed: u64,
}

#[derive(Debug)]
struct Stage {
    tier: Tier,
    of_raw: bool,
    fields: Fields,
    finer: Finer,
    /// The names of the columns of the rows that came last.
    columns: Vec<String>,
    bucket: Option<Bucket>,
}

impl Cascade {
    /// Makes rows of `wanted` of the series `series` from rows of `base`, which is finer.
    pub(super) fn new(series: &str, base: Tier, wanted: Tier) -> Self {
        let mut stages = Vec::new();
        let mut tier = wanted;
        while tier > base
            && let Some(finer) = tier.finer()
        {
            stages.push(Stage {
                tier,
                of_raw: finer == Tier::Raw,
                fields: Fields::new(series),
                finer: Finer::default(),
                columns: Vec::new(),
                bucket: None,
            });
            tier = finer;
        }
        stages.reverse();
        Self {
            stages,
            made: Vec::new(),
            malformed: 0,
        }
    }

    /// Takes a row of the base tier; rows come in the order of time. `names` are those of its
    /// columns, and only grow.
    pub(super) fn take(&mut self, names: &[String], row: &Row) {
        self.feed(0, names, row);
    }

    /// How many rows of the wanted tier are finished.
    pub(super) fn finished(&self) -> usize {
        self.made.len()
    }

    /// Ends at `until`, where a bucket of the wanted tier begins: all before is finished, and what
    /// came after it is left out.
    pub(super) fn finish(mut self, until: u64) -> (Vec<Made>, u64) {
        for stage in 0..self.stages.len() {
            self.close(stage);
        }
        self.made.retain(|made| made.at_ms < until);
        (self.made, self.malformed)
    }

    fn feed(&mut self, stage: usize, names: &[String], row: &Row) {
        let start = self.stages[stage].tier.bucket(row.at_ms);
        let have = self.stages[stage].bucket.as_ref().map(Bucket::start_ms);
        if have.is_some_and(|have| have != start) {
            self.close(stage);
        }
        let stage = &mut self.stages[stage];
        stage.learn(names);
        let bucket = stage.bucket.get_or_insert_with(|| Bucket::new(start));
        if stage.of_raw {
            bucket.add(row.values.iter().copied());
        } else if !bucket.merge(&stage.finer, &row.values) {
            self.malformed += 1;
        }
    }

    /// Hands the row of a stage's bucket on.
    fn close(&mut self, stage: usize) {
        let this = &mut self.stages[stage];
        let Some(bucket) = this.bucket.take().filter(|bucket| !bucket.is_empty()) else {
            return;
        };
        let names: Vec<String> = this.fields.names(&bucket).map(str::to_owned).collect();
        let values: Vec<_> = bucket.values(&this.fields).collect();
        let at_ms = bucket.start_ms();
        if stage + 1 == self.stages.len() {
            self.made.push(Made {
                at_ms,
                names: names.into(),
                values,
            });
            return;
        }
        // The names of rows change where fields come or go: the next stage has columns for all.
        let next = &self.stages[stage + 1];
        let mut columns = next.columns.clone();
        let mut row = vec![None; columns.len()];
        for (name, value) in names.into_iter().zip(values) {
            let column = columns.iter().position(|have| *have == name);
            let column = column.unwrap_or_else(|| {
                columns.push(name);
                row.push(None);
                columns.len() - 1
            });
            row[column] = value;
        }
        self.feed(stage + 1, &columns, &Row { at_ms, values: row });
    }
}

impl Stage {
    fn learn(&mut self, names: &[String]) {
        if names.len() == self.columns.len() {
            return;
        }
        if self.of_raw {
            for name in &names[self.fields.len()..] {
                self.fields.push(name);
            }
        } else {
            self.finer.learn(names, &mut self.fields);
        }
        self.columns.extend_from_slice(&names[self.columns.len()..]);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MINUTE: u64 = 60_000;

    #[test]
    fn gaps_are_what_is_not_there() {
        let check = |have: &[u64], expected: &[(u64, u64)]| {
            let gaps = gaps(have, 20, 60, 10).into_iter();
            let gaps: Vec<_> = gaps.map(|gap| (gap.start, gap.end)).collect();
            assert_eq!(gaps, expected);
        };
        check(&[], &[(20, 60)]);
        check(&[20, 30, 40, 50], &[]);
        check(&[0, 30, 50, 60], &[(20, 30), (40, 50)]);
        let ranges = || vec![40..50, 10..20, 20..30, 25..26];
        assert_eq!(join(ranges(), 0), [10..30, 40..50]);
        assert_eq!(join(ranges(), 10).len(), 1);
    }

    #[test]
    fn a_bucket_that_is_not_whole_yet_is_left_out() {
        let mut cascade = Cascade::new("cpu", Tier::Raw, Tier::Minute);
        for at_ms in [0, 30_000, MINUTE, 3 * MINUTE] {
            let values = vec![Some(1.0)];
            cascade.take(&["load1".to_owned()], &Row { at_ms, values });
        }
        assert_eq!(cascade.finished(), 2);
        let (made, malformed) = cascade.finish(3 * MINUTE);
        let starts: Vec<u64> = made.iter().map(|made| made.at_ms).collect();
        assert_eq!((starts, malformed), (vec![0, MINUTE], 0));
        assert_eq!(made[0].values, [Some(1.0), Some(1.0), Some(1.0), Some(2.0)]);
        assert_eq!(*made[0].names, ["load1", "load1_min", "load1_max", "n"]);
    }

    proptest! {
        #[test]
        fn in_one_go_or_tier_by_tier_it_is_the_same(
            rows in prop::collection::btree_map(0..5_u64 * 60 * MINUTE, prop::collection::vec(prop::option::of(-1e6..1e6_f64), 1..4), 0..200),
        ) {
            let names = ["oom_kills", "used_percent", "own"].map(str::to_owned);
            let mut width = 0;
            let rows: Vec<(usize, Row)> = rows.into_iter().map(|(at_ms, values)| {
                width = width.max(values.len());
                (width, Row { at_ms, values })
            }).collect();
            let mut whole = Cascade::new("memory", Tier::Raw, Tier::Hour);
            for (width, row) in &rows {
                whole.take(&names[..*width], row);
            }
            let mut rows = rows.into_iter().map(|(width, row)| (names[..width].to_vec(), row)).collect::<Vec<_>>();
            for tier in Tier::ROLLUPS {
                let mut cascade = Cascade::new("memory", tier.finer().unwrap(), tier);
                for (names, row) in &rows {
                    cascade.take(names, row);
                }
                let mut columns = crate::row::Columns::default();
                rows = cascade.finish(u64::MAX).0.iter().map(|made| {
                    let row = super::super::rows::named(&mut columns, made);
                    (columns.names.clone(), row)
                }).collect();
            }
            let mut columns = crate::row::Columns::default();
            let whole: Vec<Row> = whole.finish(u64::MAX).0.iter().map(|made| super::super::rows::named(&mut columns, made)).collect();
            prop_assert_eq!(whole, rows.into_iter().map(|(_, row)| row).collect::<Vec<_>>());
        }
    }
}
