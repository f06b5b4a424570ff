//! The rows of one series, and how they are shown.

use std::fmt::Write;

use hostbus_store::Frame;
use jiff::tz::TimeZone;

use super::chart;
use super::span;

/// Rows of one series by time; `None` is unknown.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Table {
    pub(crate) fields: Vec<String>,
    pub(crate) rows: Vec<(u64, Vec<Option<f64>>)>,
}

impl Table {
    /// The rows of `frame` of which something is known.
    pub(crate) fn of(frame: &Frame) -> Self {
        let rows = frame.times_ms.iter().enumerate();
        let rows = rows.map(|(row, ms)| (*ms, frame.row(row).collect::<Vec<_>>()));
        Self {
            fields: frame.fields.clone(),
            rows: rows
                .filter(|(_, values)| values.iter().any(Option::is_some))
                .collect(),
        }
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
    fn unknown_is_a_dash_and_never_0() {
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
    fn a_row_of_which_nothing_is_known_is_not_shown() {
        let frame = Frame {
            fields: vec!["b".to_owned()],
            times_ms: vec![1_000, 2_000],
            values: vec![vec![f64::NAN, 12.51]],
        };
        let table = Table::of(&frame);
        assert_eq!(table.rows, [(2_000, vec![Some(12.51)])]);
        assert!(table.chart(&TimeZone::UTC).contains("12.51"));
    }
}
