//! The plain model of one series: its rows in a map, and what each tier says of them. It shares no
//! code with the crate but the spans of the tiers.

use std::collections::{BTreeMap, BTreeSet};

use hostbus_store::Tier;
use hostbus_wire::number::round;
use hostbus_wire::sample::{CORES, all_fields};
use hostbus_wire::{FieldKind, Unit};

/// The known values of a row by name.
pub(crate) type Values = BTreeMap<String, f64>;
/// Rows by time.
pub(crate) type Rows = BTreeMap<u64, Values>;

/// One series.
#[derive(Debug, Default)]
pub(crate) struct Series {
    pub(crate) name: String,
    /// The rows as they came; of one time those that say something else.
    pub(crate) rows: BTreeMap<u64, Vec<Values>>,
    /// Rows that came when they were too old.
    pub(crate) too_late: Vec<(u64, Values)>,
    /// The fields that the writer has seen a value of since it began.
    pub(crate) known: BTreeSet<String>,
    /// The newest time that its stream has had.
    pub(crate) top_ms: u64,
    pub(crate) tiers: [Buckets; 4],
}

/// What is known of the buckets of one tier.
#[derive(Debug, Default)]
pub(crate) struct Buckets {
    /// Those that have had rows since the keeper was done with them.
    pub(crate) unsettled: BTreeSet<u64>,
    /// Those of whose rows some may have been gone before they were summed up.
    pub(crate) uncertain: BTreeSet<u64>,
    /// Their rows as they were read last.
    pub(crate) read: Rows,
}

/// The row of one bucket, field by field.
#[derive(Debug, Clone, Default)]
struct Summary {
    rows: f64,
    fields: BTreeMap<String, Part>,
}

#[derive(Debug, Clone, Copy)]
struct Part {
    average: f64,
    min: f64,
    max: f64,
    last: f64,
}

impl Series {
    pub(crate) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            ..Self::default()
        }
    }

    /// Takes a row. Tells whether it is a new one.
    pub(crate) fn insert(&mut self, at_ms: u64, values: Values) {
        let rows = self.rows.entry(at_ms).or_default();
        if rows.contains(&values) {
            return;
        }
        rows.push(values);
        for tier in Tier::ROLLUPS {
            let unsettled = &mut self.tiers[tier as usize].unsettled;
            unsettled.insert(tier.bucket(at_ms));
        }
    }

    /// What each tier says when all buckets are closed that end by `closed_ms`.
    pub(crate) fn tiers(&self, closed_ms: u64) -> [Rows; 4] {
        let mut finer: BTreeMap<u64, Vec<Summary>> = BTreeMap::new();
        for (at_ms, rows) in &self.rows {
            let minute = finer.entry(Tier::Minute.bucket(*at_ms)).or_default();
            minute.extend(rows.iter().map(of_row));
        }
        let mut tiers: [Rows; 4] = Default::default();
        for tier in Tier::ROLLUPS {
            let span_ms = tier.span_ms().unwrap();
            let mut coarser: BTreeMap<u64, Vec<Summary>> = BTreeMap::new();
            for (start, rows) in finer {
                let summary = self.sum_up(&rows);
                if start + span_ms <= closed_ms {
                    tiers[tier as usize].insert(start, self.shown(&summary));
                }
                let next = match tier {
                    Tier::Raw | Tier::Minute => Tier::TenMinutes,
                    Tier::TenMinutes | Tier::Hour => Tier::Hour,
                };
                coarser.entry(next.bucket(start)).or_default().push(summary);
            }
            finer = coarser;
        }
        tiers
    }

    fn sum_up(&self, rows: &[Summary]) -> Summary {
        let mut all = Summary::default();
        let names: BTreeSet<&String> = rows.iter().flat_map(|row| row.fields.keys()).collect();
        all.rows = rows.iter().map(|row| row.rows).sum();
        for name in names {
            let (mut sum, mut weight) = (0.0, 0.0);
            let (mut min, mut max, mut last) = (f64::INFINITY, f64::NEG_INFINITY, 0.0);
            for (rows, part) in rows
                .iter()
                .filter_map(|row| Some((row.rows, row.fields.get(name)?)))
            {
                sum += part.average * rows;
                weight += rows;
                min = min.min(part.min);
                max = max.max(part.max);
                last = part.last;
            }
            let average: f64 = sum / weight;
            let average = if average.is_finite() {
                self.decimals(name)
                    .map_or(average, |decimals| round(average, decimals))
            } else {
                min / 2.0 + max / 2.0
            };
            let part = Part {
                average: average.max(min).min(max),
                min,
                max,
                last,
            };
            all.fields.insert(name.clone(), part);
        }
        all
    }

    fn shown(&self, summary: &Summary) -> Values {
        let mut values = Values::from([("n".to_owned(), summary.rows)]);
        for (name, part) in &summary.fields {
            if self.kind(name) == FieldKind::State {
                values.insert(name.clone(), part.last);
            } else {
                values.insert(name.clone(), part.average);
                values.insert(format!("{name}_min"), part.min);
                values.insert(format!("{name}_max"), part.max);
            }
        }
        values
    }

    fn section(&self) -> &str {
        self.name.split(':').next().unwrap()
    }

    fn kind(&self, name: &str) -> FieldKind {
        field(self.section(), name).map_or(FieldKind::Gauge, |(kind, ..)| kind)
    }

    /// Whole numbers of bytes and bits, else two decimals more than the source knows; somebody's own
    /// values are not rounded.
    fn decimals(&self, name: &str) -> Option<u8> {
        let (_, unit, decimals) = field(self.section(), name)?;
        match unit {
            _ if self.section() == "custom" => None,
            Unit::Bytes | Unit::BytesPerSecond | Unit::BitsPerSecond => Some(0),
            _ => Some(decimals + 2),
        }
    }
}

fn of_row(values: &Values) -> Summary {
    let part = |value: &f64| Part {
        average: *value,
        min: *value,
        max: *value,
        last: *value,
    };
    Summary {
        rows: 1.0,
        fields: values
            .iter()
            .map(|(name, value)| (name.clone(), part(value)))
            .collect(),
    }
}

fn field(section: &str, name: &str) -> Option<(FieldKind, Unit, u8)> {
    let fields = all_fields().into_iter();
    let mut fields =
        fields.filter(|(of, field)| *of == section && (section == CORES || field.name == name));
    fields
        .next()
        .map(|(_, field)| (field.kind, field.unit, field.decimals))
}
