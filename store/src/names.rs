//! The names of a series whose fields are instances, which come and go. No I/O, no clock.

use hostbus_wire::Series;

use crate::rollup::{Bucket, Fields};

/// More instances than a host has of one kind. A row of more is refused, and so is one whose new names
/// would make them more: nobody could read a series back whose fields are others in each row.
pub(crate) const MOST_NAMES: usize = 512;
/// How often room for new names is looked for.
const LOOK_EVERY_MS: u64 = 60_000;

/// The names of the fields of one series, and where each of them stood in the last row.
#[derive(Debug, Default)]
pub(crate) struct Names {
    names: Vec<Name>,
    /// The place in `names` of each field of the row that was learnt last.
    places: Vec<usize>,
    looked_ms: Option<u64>,
}

#[derive(Debug)]
struct Name {
    name: Box<str>,
    used_ms: u64,
}

/// How a row goes with the names that are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Learnt {
    /// All of them have a place.
    All,
    /// So they have, but others had to go: the places are not those of the rows before.
    Anew,
    /// There would be too many, whoever had to go.
    TooMany,
}

impl Names {
    /// Finds or makes a place for each field of `series`. Those without a row since `cutoff_ms` go where
    /// room is wanted.
    pub(crate) fn learn(&mut self, series: &Series<'_>, now_ms: u64, cutoff_ms: u64) -> Learnt {
        // Not looked for at all: each of so many names would be compared with all that are known.
        if series.width() > MOST_NAMES {
            return Learnt::TooMany;
        }
        if self.place(series, now_ms) {
            return Learnt::All;
        }
        let lately = |at: u64| now_ms.saturating_sub(at) < LOOK_EVERY_MS;
        if self.looked_ms.is_some_and(lately) {
            return Learnt::TooMany;
        }
        self.looked_ms = Some(now_ms);
        self.names.retain(|name| name.used_ms >= cutoff_ms);
        if self.place(series, now_ms) {
            Learnt::Anew
        } else {
            Learnt::TooMany
        }
    }

    /// Tells whether all fields of `series` have a place now. If not, none is made for new ones.
    fn place(&mut self, series: &Series<'_>, now_ms: u64) -> bool {
        let known = self.names.len();
        self.places.clear();
        series.for_each_field(|name, _| {
            let is_it = |have: &Name| *have.name == *name;
            // Samples of one node come with the same instances.
            let hint = self.places.len();
            let place = if self.names.get(hint).is_some_and(is_it) {
                Some(hint)
            } else {
                self.names.iter().position(is_it)
            };
            let place = place.unwrap_or(self.names.len());
            match self.names.get_mut(place) {
                Some(known) => known.used_ms = now_ms,
                // One more than there may be tells that there are too many.
                None if place <= MOST_NAMES => self.names.push(Name {
                    name: name.into(),
                    used_ms: now_ms,
                }),
                None => {}
            }
            self.places.push(place);
        });
        let fits = self.names.len() <= MOST_NAMES;
        if !fits {
            self.names.truncate(known);
        }
        fits
    }

    /// The place of each field of the row that was learnt last.
    pub(crate) fn places(&self) -> &[usize] {
        &self.places
    }

    /// The columns of the row of `bucket` with their values, without those of instances that were unknown
    /// in all of it.
    pub(crate) fn columns(&self, section: &str, bucket: &Bucket) -> Vec<(String, Option<f64>)> {
        let fields = Fields::of(section, self.names.iter().map(|name| &*name.name));
        let columns = fields.names(bucket).zip(bucket.values(&fields));
        columns
            .filter(|(_, value)| value.is_some())
            .map(|(name, value)| (name.to_owned(), value))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use hostbus_wire::Sample;
    use hostbus_wire::sample::Sensor;

    use super::*;

    fn learn(names: &mut Names, sensors: &[String], (now_ms, cutoff_ms): (u64, u64)) -> Learnt {
        let sensors = sensors
            .iter()
            .map(|name| Sensor::new(name.parse().unwrap()));
        let sample = Sample {
            sensors: sensors.collect(),
            ..Sample::default()
        };
        let mut learnt = None;
        sample.for_each_series(|series| {
            learnt = Some(names.learn(&series, now_ms, cutoff_ms));
        });
        learnt.unwrap()
    }

    fn numbered(numbers: std::ops::Range<usize>) -> Vec<String> {
        numbers.map(|number| format!("s{number}")).collect()
    }

    #[test]
    fn a_field_keeps_its_place_whoever_comes_and_goes() {
        let mut names = Names::default();
        for (sensors, places) in [
            ("a b", &[0, 1][..]),
            ("b", &[1]),
            ("c b", &[2, 1]),
            ("a b c", &[0, 1, 2]),
        ] {
            let sensors: Vec<String> = sensors.split(' ').map(str::to_owned).collect();
            assert_eq!(learn(&mut names, &sensors, (0, 0)), Learnt::All);
            assert_eq!(names.places(), places);
        }
    }

    #[test]
    fn a_series_has_no_more_instances_than_it_may() {
        let mut names = Names::default();
        let most = MOST_NAMES;
        let mut check = |numbers, times, expected| {
            assert_eq!(learn(&mut names, &numbered(numbers), times), expected);
        };
        check(0..most + 1, (0, 0), Learnt::TooMany);
        check(0..most, (0, 0), Learnt::All);
        check(1..most + 1, (0, 0), Learnt::TooMany);
        check(1..most, (50_000, 0), Learnt::All);
        // Looked for a moment ago, and then the first one is too old.
        check(1..most + 1, (59_000, 1_000), Learnt::TooMany);
        check(1..most + 1, (60_000, 1_000), Learnt::Anew);
        check(1..most + 1, (60_000, 1_000), Learnt::All);
        check(0..most, (200_000, 1_000), Learnt::TooMany);
    }

    #[test]
    fn a_row_of_more_instances_than_may_be_is_not_looked_at() {
        let mut names = Names::default();
        let (all, other) = (numbered(0..MOST_NAMES), numbered(1..MOST_NAMES + 1));
        assert_eq!(learn(&mut names, &all, (0, 0)), Learnt::All);
        let wide = numbered(0..MOST_NAMES + 1);
        assert_eq!(learn(&mut names, &wide, (1_000, 0)), Learnt::TooMany);
        // Room was not looked for, and is now.
        assert_eq!(learn(&mut names, &other, (2_000, 1_000)), Learnt::Anew);
    }

    #[test]
    fn instances_unknown_in_a_whole_bucket_have_no_columns() {
        let mut names = Names::default();
        learn(&mut names, &numbered(0..3), (0, 0));
        let mut bucket = Bucket::new(0);
        bucket.add([None, Some(2.0), None]);
        let columns = names.columns("fans", &bucket);
        let columns: Vec<_> = columns.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(columns, ["s1", "s1_min", "s1_max", "n"]);
    }
}
