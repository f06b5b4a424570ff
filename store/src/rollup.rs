//! Summing up: many rows of a series become the one row of their bucket. No I/O, no clock.
//!
//! ```text
//! gauges and rates   <field>      the average, of finer rows weighted by their `n`
//!                    <field>_min  the smallest value
//!                    <field>_max  the largest value
//! states             <field>      the last value known
//! the row            n            how many rows as they came it was made from
//! ```
//! A value that was unknown in all rows is unknown in theirs. What is no field of the contract is a
//! gauge. Instances that are fields of one series, as single cores are, share the field that describes them.
//!
//! The same rows in the order of time give the same bits, whether they are added as they come or
//! are read back later. Averages of the contract's fields are rounded: to whole numbers where the
//! unit is bytes or bits, else to two decimals more than their source knows.

use std::collections::HashMap;
use std::sync::LazyLock;

use hostbus_wire::number::round;
use hostbus_wire::sample::{Custom, all_fields, shared_field};
use hostbus_wire::{Field, FieldKind, Unit};

/// The field of a rolled-up row that tells how many rows as they came it was made from.
pub const ROWS: &str = "n";
/// What the name of a field's smallest value ends with.
pub const MIN: &str = "_min";
/// What the name of a field's largest value ends with.
pub const MAX: &str = "_max";

/// Decimals that an average keeps beyond those that the field's source knows.
const MORE_DECIMALS: u8 = 2;

/// The fields of a series, and how each is summed up. They only ever grow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fields {
    section: Box<str>,
    fields: Vec<Summed>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Summed {
    name: Box<str>,
    /// The names of the smallest and the largest value; none of a state.
    extremes: Option<[Box<str>; 2]>,
    /// To how many decimals the average is rounded.
    decimals: Option<u8>,
}

impl Fields {
    /// No fields yet, of the series `series`: `cpu`, `filesystem:/`.
    #[must_use]
    pub fn new(series: &str) -> Self {
        let section = series
            .split_once(':')
            .map_or(series, |(section, _)| section);
        Self {
            section: section.into(),
            fields: Vec::new(),
        }
    }

    /// The fields `names` of the series `series`, in this order.
    #[must_use]
    pub fn of<'n>(series: &str, names: impl IntoIterator<Item = &'n str>) -> Self {
        let mut fields = Self::new(series);
        for name in names {
            fields.push(name);
        }
        fields
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.fields.len()
    }

    /// There are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// Adds a field after the others.
    pub fn push(&mut self, name: &str) {
        let field = field(&self.section, name);
        let extremes = match field.map(|field| field.kind) {
            Some(FieldKind::State) => None,
            Some(FieldKind::Gauge | FieldKind::Rate) | None => {
                Some([[name, MIN].concat().into(), [name, MAX].concat().into()])
            }
        };
        self.fields.push(Summed {
            name: name.into(),
            extremes,
            decimals: field.and_then(|field| decimals(&self.section, field)),
        });
    }

    /// The place of the field `name`, most likely `position`; it is added when it is not there.
    pub fn place(&mut self, position: usize, name: &str) -> usize {
        let is_it = |field: &Summed| *field.name == *name;
        if self.fields.get(position).is_some_and(is_it) {
            return position;
        }
        if let Some(place) = self.fields.iter().position(is_it) {
            return place;
        }
        self.push(name);
        self.fields.len() - 1
    }

    /// The names of the fields of a row of `bucket`, in the order of [`Bucket::values`].
    pub fn names<'f>(&'f self, bucket: &Bucket) -> impl Iterator<Item = &'f str> {
        self.fields[..bucket.sums.len().min(self.fields.len())]
            .iter()
            .flat_map(|field| {
                let extremes = field.extremes.as_ref().map(<[Box<str>; 2]>::as_slice);
                std::iter::once(&field.name).chain(extremes.unwrap_or_default())
            })
            .map(|name| &**name)
            .chain(std::iter::once(ROWS))
    }
}

/// How the contract describes a field; `None` when it does not.
fn field(section: &str, name: &str) -> Option<&'static Field> {
    static KNOWN: LazyLock<HashMap<(&str, &str), &Field>> = LazyLock::new(|| {
        let fields = all_fields().into_iter();
        fields
            .map(|(section, field)| ((section, field.name), field))
            .collect()
    });
    shared_field(section).or_else(|| KNOWN.get(&(section, name)).copied())
}

/// To how many decimals the average of a field is rounded. Nobody knows how small somebody's own
/// values are.
fn decimals(section: &str, field: &Field) -> Option<u8> {
    match field.unit {
        _ if section == Custom::SERIES => None,
        Unit::Bytes | Unit::BytesPerSecond | Unit::BitsPerSecond => Some(0),
        _ => Some(field.decimals + MORE_DECIMALS),
    }
}

/// Where the columns of rolled-up rows belong, so that these can be summed up further.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Finer {
    parts: Vec<Part>,
    rows: Option<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Average(usize),
    Min(usize),
    Max(usize),
    Rows,
}

impl Finer {
    /// Notes the columns `names` of the finer rows, of which some may be known, and adds their fields
    /// to `fields`.
    pub fn learn(&mut self, names: &[String], fields: &mut Fields) {
        for name in names.iter().skip(self.parts.len()) {
            let base = |suffix| {
                let base = name.strip_suffix(suffix)?;
                fields.fields.iter().position(|field| *field.name == *base)
            };
            let part = if name == ROWS {
                self.rows = Some(self.parts.len());
                Part::Rows
            } else if let Some(place) = base(MIN) {
                Part::Min(place)
            } else if let Some(place) = base(MAX) {
                Part::Max(place)
            } else {
                Part::Average(fields.place(fields.len(), name))
            };
            self.parts.push(part);
        }
    }
}

/// The rows of one bucket, summed up so far. A series may use one of them for bucket after bucket.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Bucket {
    start_ms: u64,
    rows: u64,
    sums: Vec<Sum>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Sum {
    sum: f64,
    weight: f64,
    min: f64,
    max: f64,
    last: f64,
}

impl Sum {
    const NOTHING: Self = Self {
        sum: 0.0,
        weight: 0.0,
        min: f64::INFINITY,
        max: f64::NEG_INFINITY,
        last: 0.0,
    };

    fn add(&mut self, value: f64, weight: f64) {
        // A negative zero is written as `0`, and so read back as a positive one.
        let value = value + 0.0;
        self.sum += value * weight;
        self.weight += weight;
        self.spread(value);
        self.last = value;
    }

    fn spread(&mut self, value: f64) {
        self.min = self.min.min(value + 0.0);
        self.max = self.max.max(value + 0.0);
    }

    /// The average, within the extremes whatever rounding does.
    fn average(&self, decimals: Option<u8>) -> f64 {
        let average = self.sum / self.weight;
        let average = if average.is_finite() {
            decimals.map_or(average, |decimals| round(average, decimals))
        } else {
            self.min / 2.0 + self.max / 2.0
        };
        average.max(self.min).min(self.max) + 0.0
    }
}

impl Bucket {
    /// An empty bucket that begins at `start_ms`.
    #[must_use]
    pub fn new(start_ms: u64) -> Self {
        Self {
            start_ms,
            ..Self::default()
        }
    }

    /// Empties it for the bucket that begins at `start_ms`.
    pub fn begin(&mut self, start_ms: u64) {
        self.start_ms = start_ms;
        self.rows = 0;
        self.sums.clear();
    }

    /// When it begins, in milliseconds since 1970-01-01 UTC.
    #[must_use]
    pub fn start_ms(&self) -> u64 {
        self.start_ms
    }

    /// How many rows as they came are in it.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Nothing was added.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Adds a row as it came: a finite value or none for each field, in the order of its [`Fields`].
    /// It may have fewer than other rows.
    ///
    /// Rows are to be added in the order of time.
    pub fn add(&mut self, values: impl IntoIterator<Item = Option<f64>>) {
        for (place, value) in values.into_iter().enumerate() {
            if place == self.sums.len() {
                self.sums.push(Sum::NOTHING);
            }
            if let Some(value) = value {
                self.sums[place].add(value, 1.0);
            }
        }
        self.rows += 1;
    }

    /// Adds a rolled-up row, its values in the order of the columns that `finer` has learnt. Tells
    /// whether it was one: without a count of its rows it is left out.
    ///
    /// Rows are to be added in the order of time.
    pub fn merge(&mut self, finer: &Finer, values: &[Option<f64>]) -> bool {
        let rows = finer
            .rows
            .and_then(|column| values.get(column).copied().flatten());
        // Not 0, no fraction, and not beyond what is exact.
        let Some(weight) =
            rows.filter(|rows| *rows >= 1.0 && rows.fract() == 0.0 && *rows < MAX_ROWS)
        else {
            return false;
        };
        for (value, part) in values.iter().zip(&finer.parts) {
            let (Part::Average(place) | Part::Min(place) | Part::Max(place)) = *part else {
                continue;
            };
            if place >= self.sums.len() {
                self.sums.resize(place + 1, Sum::NOTHING);
            }
            match (part, value) {
                (Part::Average(_), Some(value)) => self.sums[place].add(*value, weight),
                // Without its average a field was unknown.
                (Part::Min(_) | Part::Max(_), Some(value)) => self.sums[place].spread(*value),
                _ => {}
            }
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a whole number from 1 to 2^53"
        )]
        let rows = weight as u64;
        self.rows = self.rows.saturating_add(rows);
        true
    }

    /// The values of its row, in the order of [`Fields::names`]. `fields` must be those of the rows
    /// that were added.
    pub fn values(&self, fields: &Fields) -> impl Iterator<Item = Option<f64>> {
        #[expect(clippy::cast_precision_loss, reason = "as many as nobody counts")]
        let rows = self.rows as f64;
        self.sums
            .iter()
            .zip(&fields.fields)
            .flat_map(|(sum, field)| {
                let known = |value| (sum.weight > 0.0).then_some(value);
                let (values, count) = if field.extremes.is_some() {
                    let average = known(sum.average(field.decimals));
                    ([average, known(sum.min), known(sum.max)], 3)
                } else {
                    ([known(sum.last), None, None], 1)
                };
                values.into_iter().take(count)
            })
            .chain(std::iter::once(Some(rows)))
    }
}

/// More rows than any bucket has; below it whole numbers are exact.
const MAX_ROWS: f64 = 9_007_199_254_740_992.0;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::row::{Columns, UNKNOWN};

    fn rolled(fields: &Fields, bucket: &Bucket) -> Vec<(String, Option<f64>)> {
        let names = fields.names(bucket).map(str::to_owned);
        names.zip(bucket.values(fields)).collect()
    }

    fn check(fields: &Fields, bucket: &Bucket, expected: &[(&str, Option<f64>)]) {
        let expected: Vec<_> = expected
            .iter()
            .map(|(name, value)| ((*name).to_owned(), *value))
            .collect();
        assert_eq!(rolled(fields, bucket), expected);
    }

    #[test]
    fn gauges_and_rates_are_averaged_and_of_states_the_last_is_kept() {
        let fields = Fields::of("memory", ["total_bytes", "used_percent", "own"]);
        let mut bucket = Bucket::new(60_000);
        bucket.add([Some(8.0), Some(1.0), Some(-0.0)]);
        bucket.add([Some(9.0), None, Some(0.5)]);
        bucket.add([None, Some(2.5), Some(1.0)]);
        let expected = [
            ("total_bytes", Some(9.0)),
            ("used_percent", Some(1.75)),
            ("used_percent_min", Some(1.0)),
            ("used_percent_max", Some(2.5)),
            ("own", Some(0.5)),
            ("own_min", Some(0.0)),
            ("own_max", Some(1.0)),
            ("n", Some(3.0)),
        ];
        check(&fields, &bucket, &expected);
        assert_eq!((bucket.start_ms(), bucket.rows()), (60_000, 3));
    }

    #[test]
    fn what_was_never_known_is_unknown_and_what_never_came_is_absent() {
        let fields = Fields::of("cores", ["0", "1"]);
        let mut bucket = Bucket::new(0);
        check(&fields, &bucket, &[("n", Some(0.0))]);
        bucket.add([None]);
        let unknown = [
            ("0", None),
            ("0_min", None),
            ("0_max", None),
            ("n", Some(1.0)),
        ];
        check(&fields, &bucket, &unknown);
        bucket.begin(60_000);
        assert!(bucket.is_empty());
        check(&fields, &bucket, &[("n", Some(0.0))]);
    }

    #[test]
    fn averages_are_rounded_to_what_the_field_can_say() {
        let third = |series: &str, name: &str| {
            let fields = Fields::of(series, [name]);
            let mut bucket = Bucket::new(0);
            for value in [0.0, 0.0, 1.0] {
                bucket.add([Some(value)]);
            }
            bucket.values(&fields).next().unwrap()
        };
        assert_eq!(third("cpu", "usage_percent"), Some(0.3333));
        assert_eq!(third("cores", "17"), Some(0.3333));
        assert_eq!(third("sensors", "nvme/composite"), Some(0.333));
        assert_eq!(third("fans", "%6E"), Some(0.33));
        assert_eq!(third("disk:sda", "read_bytes_per_second"), Some(0.0));
        assert_eq!(third("custom:x", "value"), Some(1.0 / 3.0));
        assert_eq!(third("filesystem:a:b", "own"), Some(1.0 / 3.0));
    }

    #[test]
    fn finer_rows_are_weighted_by_their_rows() {
        let (mut fields, mut finer) = (Fields::new("memory"), Finer::default());
        let names = ["total_bytes", "x", "x_min", "x_max", "n"].map(str::to_owned);
        finer.learn(&names, &mut fields);
        let mut bucket = Bucket::new(0);
        assert!(bucket.merge(
            &finer,
            &[Some(1.0), Some(4.0), Some(3.0), Some(5.0), Some(1.0)]
        ));
        assert!(bucket.merge(&finer, &[None, Some(8.0), Some(2.0), Some(9.0), Some(3.0)]));
        assert!(bucket.merge(&finer, &[Some(2.0), None, None, None, Some(6.0)]));
        let expected = [
            ("total_bytes", Some(2.0)),
            ("x", Some(7.0)),
            ("x_min", Some(2.0)),
            ("x_max", Some(9.0)),
            ("n", Some(10.0)),
        ];
        check(&fields, &bucket, &expected);
        for n in [None, Some(0.0), Some(-1.0), Some(1.5), Some(1e300)] {
            let before = bucket.clone();
            assert!(
                !bucket.merge(&finer, &[None, Some(1.0), None, None, n]),
                "{n:?}"
            );
            assert_eq!(bucket, before);
        }
        let own = [
            "total_bytes",
            "x",
            "x_min",
            "x_max",
            "n",
            "late",
            "late_max",
        ]
        .map(str::to_owned);
        finer.learn(&own, &mut fields);
        assert_eq!(fields, Fields::of("memory", ["total_bytes", "x", "late"]));
    }

    /// A row for three fields of "memory": a state, a gauge in bytes, one of somebody's own.
    fn row() -> impl Strategy<Value = Vec<Option<f64>>> {
        let any_value = prop_oneof![
            (-1.0e6..1.0e6_f64).prop_map(|value| round(value, 2)),
            any::<f64>().prop_filter("finite", |value| value.is_finite()),
            (0..u64::MAX).prop_map(|value| value as f64),
        ];
        prop::collection::vec(prop::option::weighted(0.9, any_value), 0..4)
    }

    const NAMES: [&str; 3] = ["total_bytes", "used_percent", "own"];

    proptest! {
        #[test]
        fn rows_read_back_from_text_give_the_same_bits(rows in prop::collection::vec(row(), 1..20)) {
            let fields = Fields::of("memory", NAMES);
            let mut seen = Bucket::new(0);
            let (mut read, mut columns) = (Bucket::new(0), Columns::default());
            for row in rows.iter().filter(|row| !row.is_empty()) {
                seen.add(row.iter().copied());
                let mut text = "1".to_owned();
                for (name, value) in NAMES.iter().zip(row) {
                    let value = value.map(hostbus_wire::Value::Float);
                    let value = value.map_or_else(|| UNKNOWN.to_owned(), |value| value.to_string());
                    text = format!("{text} {name} {value}");
                }
                let row = columns.late_row(text.as_bytes()).unwrap();
                read.add(row.values);
            }
            let bits = |bucket: &Bucket| -> Vec<Option<u64>> {
                bucket.values(&fields).map(|value| value.map(f64::to_bits)).collect()
            };
            prop_assert_eq!(bits(&seen), bits(&read));
        }

        #[test]
        fn a_row_agrees_with_a_plain_model(rows in prop::collection::vec(row(), 1..20)) {
            let fields = Fields::of("memory", NAMES);
            let mut bucket = Bucket::new(0);
            for row in &rows {
                bucket.add(row.iter().copied());
            }
            let rolled: HashMap<String, Option<f64>> = rolled(&fields, &bucket).into_iter().collect();
            prop_assert_eq!(rolled["n"], Some(rows.len() as f64));
            for (place, name) in NAMES.iter().enumerate() {
                let known: Vec<f64> = rows.iter().filter_map(|row| row.get(place).copied().flatten()).collect();
                let get = |suffix: &str| rolled.get(&format!("{name}{suffix}")).copied().flatten();
                if place == 0 {
                    prop_assert_eq!(get(""), known.last().copied());
                    continue;
                }
                prop_assert_eq!(get("_min"), known.iter().copied().reduce(f64::min));
                prop_assert_eq!(get("_max"), known.iter().copied().reduce(f64::max));
                let Some(average) = get("") else {
                    prop_assert!(known.is_empty());
                    continue;
                };
                prop_assert!(average.is_finite());
                prop_assert!(get("_min").unwrap() <= average && average <= get("_max").unwrap());
                let largest = known.iter().fold(1.0_f64, |most, value| most.max(value.abs()));
                let mean = known.iter().map(|value| value / known.len() as f64).sum::<f64>();
                prop_assert!((average - mean).abs() <= largest * 1e-9 + 0.5, "{} {}", average, mean);
            }
        }

        #[test]
        fn a_row_of_finer_rows_has_the_extremes_and_the_count_of_all(
            parts in prop::collection::vec(prop::collection::vec(row(), 1..5), 1..6),
        ) {
            let fields = Fields::of("memory", NAMES);
            let (mut whole, mut merged) = (Bucket::new(0), Bucket::new(0));
            let (mut finer, mut columns, mut known) = (Finer::default(), Vec::<String>::new(), Fields::new("memory"));
            for part in &parts {
                let mut bucket = Bucket::new(0);
                for row in part {
                    whole.add(row.iter().copied());
                    bucket.add(row.iter().copied());
                }
                let mut values = vec![None; columns.len()];
                for (name, value) in rolled(&fields, &bucket) {
                    let column = columns.iter().position(|have| *have == name).unwrap_or(columns.len());
                    if column == columns.len() {
                        columns.push(name);
                        values.push(None);
                    }
                    values[column] = value;
                }
                finer.learn(&columns, &mut known);
                prop_assert!(merged.merge(&finer, &values));
            }
            let rows: HashMap<String, Option<f64>> = rolled(&known, &merged).into_iter().collect();
            for (name, value) in rolled(&fields, &whole) {
                let exact = !NAMES[1..].contains(&name.as_str());
                if exact {
                    prop_assert_eq!(rows[&name], value, "{}", name);
                } else {
                    prop_assert_eq!(rows[&name].is_some(), value.is_some(), "{}", name);
                    prop_assert!(rows[&name].is_none_or(f64::is_finite));
                }
            }
        }
    }
}
