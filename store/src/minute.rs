//! The minute that a writer sums up of each stream while its rows go by. No I/O, no clock.
//!
//! A bucket is told only when the writer has seen all of it: when it began after a row that Redis is
//! known to have taken, and no row was refused since. All others are left to be summed up from the
//! rows in Redis: after a start, after a failure, around rows that came late.

use std::collections::HashMap;
use std::sync::LazyLock;

use hostbus_wire::sample::{CORES, all_fields, shared_field};
use hostbus_wire::{Series, Value};

use crate::names::Names;
use crate::rollup::{Bucket, Fields, ROWS};
use crate::streams::{Fields as KnownFields, TEND_EVERY_MS};
use crate::tier::Tier;

/// Of hosts with more cores than this the minutes are summed up from the rows in Redis.
const MOST_CORES: usize = 512;

/// More fields than a section has. Only single cores may be more.
const MOST_FIELDS: usize = 32;
/// Every how many rows a stream is tended.
const TEND_EVERY: u8 = 60;

/// What is known of the current minute of one stream.
#[derive(Debug, Default)]
pub(crate) struct Minute {
    /// The row taken last, and the batch in which the first one since nothing was known was sent.
    since: Option<(u64, u64)>,
    /// All of the bucket goes by.
    whole: bool,
    bucket: Bucket,
    /// After how many rows of closed minutes their stream is tended next.
    rows_to_tend: u8,
    tended_ms: u64,
}

impl Minute {
    /// The bucket that a row at `at_ms` closes, if all of it was seen.
    pub(crate) fn closed_by(&self, at_ms: u64) -> Option<&Bucket> {
        let closes = self.whole && Tier::Minute.bucket(at_ms) > self.bucket.start_ms();
        closes.then_some(&self.bucket)
    }

    /// Takes the row of `series` at `at_ms`, sent in the batch number `batch`. Where its fields are instances,
    /// they stand in the bucket at their places in `names`.
    pub(crate) fn take(
        &mut self,
        series: &Series<'_>,
        names: Option<&Names>,
        at_ms: u64,
        batch: u64,
    ) {
        if series.width() > MOST_CORES {
            return self.forget();
        }
        let start_ms = Tier::Minute.bucket(at_ms);
        match self.since {
            None => {
                self.since = Some((at_ms, batch));
                self.bucket.begin(start_ms);
            }
            // The stream is past it.
            Some((last_ms, _)) if at_ms <= last_ms => return self.forget(),
            Some((_, first_batch)) => {
                self.since = Some((at_ms, first_batch));
                if start_ms > self.bucket.start_ms() {
                    self.bucket.begin(start_ms);
                    // A batch is sent only when the one before it is answered for.
                    self.whole = first_batch < batch;
                }
            }
        }
        match names {
            _ if !self.whole => {}
            Some(names) => self.add_instances(series, names.places()),
            None => self.add(series),
        }
    }

    fn add_instances(&mut self, series: &Series<'_>, places: &[usize]) {
        let width = places.iter().max().map_or(0, |last| last + 1);
        let mut values = vec![None; width];
        let mut place = places.iter();
        series.for_each_field(|_, value| {
            if let Some(place) = place.next() {
                values[*place] = value.map(Value::as_f64);
            }
        });
        self.bucket.add(values);
    }

    fn add(&mut self, series: &Series<'_>) {
        let mut values = [None; MOST_FIELDS];
        let (mut width, mut more) = (0, Vec::new());
        series.for_each_field(|_, value| {
            // As it reads back from its text.
            let value = value.map(Value::as_f64);
            match values.get_mut(width) {
                Some(place) => {
                    *place = value;
                    width += 1;
                }
                None => more.push(value),
            }
        });
        self.bucket.add(values.into_iter().take(width).chain(more));
    }

    /// Tells whether the row of the next closed minute also sets its stream's expiry and trims it. The
    /// first of this process does, every 60th, and the first after a quarter of an hour.
    pub(crate) fn is_to_tend(&self, now_ms: u64) -> bool {
        self.rows_to_tend == 0 || now_ms.saturating_sub(self.tended_ms) >= TEND_EVERY_MS
    }

    /// Notes that the row of a closed minute is on its way.
    pub(crate) fn told(&mut self, now_ms: u64) {
        if self.is_to_tend(now_ms) {
            self.rows_to_tend = TEND_EVERY;
            self.tended_ms = now_ms;
        }
        self.rows_to_tend -= 1;
    }

    /// Forgets all: a row was refused.
    pub(crate) fn forget(&mut self) {
        self.since = None;
        self.whole = false;
    }
}

/// The columns of a row of a closed minute.
#[derive(Debug)]
pub(crate) struct Columns {
    fields: Fields,
    /// Each with the place of the field that it tells of.
    names: Vec<(Box<str>, Option<usize>)>,
}

impl Columns {
    /// Those of a section's series; `None` of one whose fields are instances.
    pub(crate) fn of(section: &str) -> Option<&'static Self> {
        static ALL: LazyLock<HashMap<&str, Columns>> = LazyLock::new(|| {
            let mut sections: HashMap<&str, Vec<&str>> = HashMap::new();
            for (section, field) in all_fields() {
                if shared_field(section).is_none() {
                    sections.entry(section).or_default().push(field.name);
                }
            }
            let cores: Vec<String> = (0..MOST_CORES).map(|core| core.to_string()).collect();
            sections.insert(CORES, cores.iter().map(String::as_str).collect());
            let columns = sections.into_iter();
            columns
                .map(|(section, names)| (section, Columns::new(section, &names)))
                .collect()
        });
        ALL.get(section)
    }

    fn new(section: &str, names: &[&str]) -> Self {
        let fields = Fields::of(section, names.iter().copied());
        let mut bucket = Bucket::new(0);
        bucket.add(names.iter().map(|_| None));
        // The columns of one field stand together, and the first has its name.
        let mut place = None;
        let names = fields
            .names(&bucket)
            .map(|column| {
                if names.contains(&column) {
                    place = Some(place.map_or(0, |place: usize| place + 1));
                }
                let place = place.filter(|_| column != ROWS);
                (column.into(), place)
            })
            .collect();
        Self { fields, names }
    }

    /// The columns of the row of `bucket` with their values: those of the fields that `has` has.
    pub(crate) fn row(
        &'static self,
        bucket: &Bucket,
        has: KnownFields,
    ) -> impl Iterator<Item = (&'static str, Option<f64>)> {
        let count = bucket.values(&self.fields).count() - 1;
        let last = self.names.len() - 1;
        let names = self.names[..count].iter().chain(&self.names[last..]);
        let columns = names.zip(bucket.values(&self.fields));
        columns
            .filter(move |((_, place), _)| place.is_none_or(|place| has.has(place)))
            .map(|((name, _), value)| (&**name, value))
    }
}

#[cfg(test)]
mod tests {
    use hostbus_wire::Sample;
    use hostbus_wire::sample::{Cpu, Memory};

    use super::*;
    use crate::row::UNKNOWN;

    const START: u64 = 1_763_630_040_000;

    /// A sample of which the memory has a state and a gauge.
    fn sample(used: Option<u64>) -> Sample {
        let mut memory = Memory::new();
        (memory.total_bytes, memory.used_bytes) = (Some(64), used);
        Sample {
            memory: Some(memory),
            ..Sample::default()
        }
    }

    /// Takes a row `second` seconds after the start. Tells the row of the minute that it closes.
    fn take(minute: &mut Minute, second: u64, used: Option<u64>, batch: u64) -> Option<String> {
        let mut told = None;
        sample(used).for_each_series(|series| {
            let at_ms = START + 1_000 * second;
            if let Some(bucket) = minute.closed_by(at_ms) {
                let columns = Columns::of(series.section()).unwrap();
                let mut fields = KnownFields::default();
                fields.learn(&series);
                let mut text = format!("{}", (bucket.start_ms() - START) / 60_000);
                for (name, value) in columns.row(bucket, fields) {
                    let value = value.map_or_else(|| UNKNOWN.to_owned(), |value| value.to_string());
                    text = format!("{text} {name} {value}");
                }
                told = Some(text);
            }
            minute.take(&series, None, at_ms, batch);
        });
        told
    }

    #[test]
    fn a_minute_is_told_when_all_of_it_was_seen() {
        let mut minute = Minute::default();
        // Of the first one some may have gone by before.
        assert_eq!(take(&mut minute, 0, Some(1), 0), None);
        assert_eq!(take(&mut minute, 30, Some(1), 1), None);
        assert_eq!(take(&mut minute, 60, Some(2), 2), None);
        assert_eq!(take(&mut minute, 90, None, 3), None);
        assert_eq!(take(&mut minute, 119, Some(5), 4), None);
        let row = "1 total_bytes 64 used_bytes 4 used_bytes_min 2 used_bytes_max 5 n 3";
        assert_eq!(take(&mut minute, 240, Some(9), 5).as_deref(), Some(row));
        let row = "4 total_bytes 64 used_bytes 9 used_bytes_min 9 used_bytes_max 9 n 1";
        assert_eq!(take(&mut minute, 300, Some(9), 6).as_deref(), Some(row));
    }

    #[test]
    fn a_minute_that_began_in_the_batch_of_the_first_row_is_not_told() {
        let mut minute = Minute::default();
        // Nobody knows yet whether Redis takes the first row.
        for second in [0, 60, 120, 180] {
            assert_eq!(take(&mut minute, second, Some(1), 7), None);
        }
        assert_eq!(take(&mut minute, 240, Some(1), 8), None);
        assert!(take(&mut minute, 300, Some(1), 8).is_some());
    }

    #[test]
    fn after_a_row_that_is_late_or_refused_it_begins_anew() {
        for refused in [false, true] {
            let mut minute = Minute::default();
            for second in [0, 60, 70] {
                assert_eq!(take(&mut minute, second, Some(1), second), None);
            }
            if refused {
                minute.forget();
            } else {
                assert_eq!(take(&mut minute, 65, Some(1), 71), None);
            }
            for second in [80, 120] {
                assert_eq!(take(&mut minute, second, Some(1), second), None, "{second}");
            }
            assert!(take(&mut minute, 180, Some(1), 180).is_some());
        }
    }

    #[test]
    fn a_stream_is_tended_with_the_first_minute_and_again_by_rows_or_by_time() {
        let check = |every_ms: u64, expected: &[u64]| {
            let mut minute = Minute::default();
            let tended: Vec<u64> = (0..130)
                .filter(|row| {
                    let now_ms = START + row * every_ms;
                    let tends = minute.is_to_tend(now_ms);
                    minute.told(now_ms);
                    tends
                })
                .collect();
            assert_eq!(tended, expected, "a row each {every_ms} ms");
        };
        check(1_000, &[0, 60, 120]);
        check(20_000, &[0, 45, 90]);
        check(3_600_000, &(0..130).collect::<Vec<_>>());
    }

    #[test]
    fn the_minutes_of_more_cores_than_have_columns_are_left_alone() {
        let mut minute = Minute::default();
        for (second, cores, told) in [
            (0, 2, false),
            (60, 2, false),
            (120, 513, true),
            (180, 2, false),
            (240, 2, false),
        ] {
            let mut cpu = Cpu::new();
            cpu.cores = vec![1.0; cores];
            let sample = Sample {
                cpu: Some(cpu),
                ..Sample::default()
            };
            sample.for_each_series(|series| {
                if series.section() == CORES {
                    let at_ms = START + 1_000 * second;
                    assert_eq!(minute.closed_by(at_ms).is_some(), told, "{second}");
                    minute.take(&series, None, at_ms, second);
                }
            });
        }
    }

    #[test]
    fn every_column_of_a_section_belongs_to_its_field() {
        let columns = Columns::of("memory").unwrap();
        let of = |name: &str| {
            let column = columns
                .names
                .iter()
                .find(|(have, _)| **have == *name)
                .unwrap();
            column.1
        };
        assert_eq!(of("total_bytes"), Some(0));
        assert_eq!((of("used_bytes"), of("used_bytes_max")), (Some(1), Some(1)));
        assert_eq!(of("oom_kills"), Some(Memory::FIELDS.len() - 1));
        assert_eq!(of(ROWS), None);
    }
}
