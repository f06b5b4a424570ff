//! The rows of one series, and how they are shown.

use std::fmt::Write;
use std::io;

use jiff::tz::TimeZone;
use serde_json::{Map, Value, json};

use super::chart;
use super::span;

/// Rows of one series by time; `None` is unknown.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Table {
    pub(crate) fields: Vec<String>,
    pub(crate) rows: Vec<(u64, Vec<Option<f64>>)>,
}

impl Table {
    /// Only the column `field`; `None` when there is no such column.
    pub(crate) fn only(&self, field: &str) -> Option<Self> {
        let column = self.fields.iter().position(|have| have == field)?;
        let rows = self
            .rows
            .iter()
            .map(|(ms, values)| (*ms, vec![values.get(column).copied().flatten()]));
        Some(Self {
            fields: vec![field.to_owned()],
            rows: rows.collect(),
        })
    }

    /// At most `wanted` rows: each the average of the known values in an equal stretch of time,
    /// under the time of the stretch's first row.
    pub(crate) fn averaged(&self, wanted: usize) -> Self {
        let (Some((first, _)), Some((last, _))) = (self.rows.first(), self.rows.last()) else {
            return self.clone();
        };
        if self.rows.len() <= wanted.max(1) {
            return self.clone();
        }
        let width_ms = (last - first) / wanted.max(1) as u64 + 1;
        let chunks = self
            .rows
            .chunk_by(|(a, _), (b, _)| (a - first) / width_ms == (b - first) / width_ms);
        let rows = chunks.map(|chunk| {
            let average = |column: usize| {
                let known = chunk.iter().filter_map(|(_, values)| *values.get(column)?);
                let (sum, count) = known.fold((0.0, 0_u32), |(sum, n), value| (sum + value, n + 1));
                (count > 0).then(|| sum / f64::from(count))
            };
            (chunk[0].0, (0..self.fields.len()).map(average).collect())
        });
        Self {
            fields: self.fields.clone(),
            rows: rows.collect(),
        }
    }

    /// A table for people.
    pub(crate) fn text(&self, zone: &TimeZone) -> String {
        let widths: Vec<usize> = self
            .fields
            .iter()
            .map(|field| field.len().max(10))
            .collect();
        let mut text = format!("{:<19}", "TIME");
        for (field, width) in self.fields.iter().zip(&widths) {
            // Writing to a String can't fail, here and below.
            let _ = write!(text, "  {field:>width$}");
        }
        text.push('\n');
        for (ms, values) in &self.rows {
            let _ = write!(text, "{:<19}", span::shown(*ms, zone));
            for (value, width) in values.iter().zip(&widths) {
                let shown = value.map_or_else(|| "-".to_owned(), chart::short);
                let _ = write!(text, "  {shown:>width$}");
            }
            text.push('\n');
        }
        text
    }

    /// A chart of the only column. Empty without known values.
    pub(crate) fn chart(&self, zone: &TimeZone) -> String {
        #[expect(clippy::cast_precision_loss, reason = "milliseconds fit into 53 bits")]
        let points: Vec<(f64, f64)> = self
            .rows
            .iter()
            .filter_map(|(ms, values)| Some((*ms as f64, values.first().copied().flatten()?)))
            .collect();
        let end = |row: Option<&(u64, Vec<Option<f64>>)>| {
            row.map(|(ms, _)| span::shown(*ms, zone))
                .unwrap_or_default()
        };
        chart::draw(&points, &end(self.rows.first()), &end(self.rows.last()))
    }

    /// Each row as an object: `ts` in milliseconds, then the fields, `null` when unknown.
    pub(crate) fn json(&self) -> Value {
        let rows = self.rows.iter().map(|(ms, values)| {
            let mut row = Map::new();
            row.insert("ts".to_owned(), json!(ms));
            for (field, value) in self.fields.iter().zip(values) {
                row.insert(field.clone(), json!(value));
            }
            Value::Object(row)
        });
        Value::Array(rows.collect())
    }

    /// CSV with a head line; unknown is empty.
    pub(crate) fn csv(&self, out: impl io::Write) -> anyhow::Result<()> {
        let mut writer = csv::Writer::from_writer(out);
        writer.write_record(std::iter::once("ts").chain(self.fields.iter().map(String::as_str)))?;
        for (ms, values) in &self.rows {
            let cells = values
                .iter()
                .map(|value| value.map(|v| v.to_string()).unwrap_or_default());
            writer.write_record(std::iter::once(ms.to_string()).chain(cells))?;
        }
        writer.flush()?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        Table {
            fields: vec!["a".to_owned(), "b".to_owned()],
            rows: vec![
                (1_000, vec![Some(1.0), None]),
                (2_000, vec![Some(3.0), Some(12.51)]),
                (11_000, vec![None, Some(1.0)]),
            ],
        }
    }

    #[test]
    fn unknown_is_null_empty_or_a_dash_and_never_0() {
        let json = table().json();
        assert_eq!(json[0], json!({"ts": 1000, "a": 1.0, "b": null}));
        let mut csv = Vec::new();
        table().csv(&mut csv).unwrap();
        assert_eq!(
            String::from_utf8(csv).unwrap(),
            "ts,a,b\n1000,1,\n2000,3,12.51\n11000,,1\n"
        );
        let text = table().text(&TimeZone::UTC);
        assert_eq!(
            text.lines().nth(1).unwrap(),
            "1970-01-01 00:00:01           1           -"
        );
    }

    #[test]
    fn averages_pass_over_what_is_unknown() {
        let averaged = table().averaged(2);
        assert_eq!(
            averaged.rows,
            [
                (1_000, vec![Some(2.0), Some(12.51)]),
                (11_000, vec![None, Some(1.0)])
            ]
        );
        assert_eq!(table().averaged(3), table());
        assert_eq!(Table::default().averaged(1), Table::default());
    }

    #[test]
    fn one_column_can_be_taken_alone() {
        let only = table().only("b").unwrap();
        assert_eq!(only.rows[1], (2_000, vec![Some(12.51)]));
        assert!(table().only("c").is_none());
        assert!(only.chart(&TimeZone::UTC).contains("12.51"));
    }
}
