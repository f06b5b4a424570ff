//! Rows of one series column by column: less memory than row by row, and quick to go through.

use crate::row::{Point, Row};

/// Rows of one series, column by column.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Frame {
    /// The names of the fields.
    pub fields: Vec<String>,
    /// The time of each row in milliseconds since 1970-01-01 UTC, ascending.
    pub times_ms: Vec<u64>,
    /// For each field its values, one a row; NaN is unknown.
    pub values: Vec<Vec<f64>>,
}

impl Frame {
    /// No rows yet, of the fields `names`.
    pub(crate) fn of(names: &[String]) -> Self {
        Self {
            fields: names.to_vec(),
            times_ms: Vec::new(),
            values: vec![Vec::new(); names.len()],
        }
    }

    /// How many rows there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.times_ms.len()
    }

    /// There are no rows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.times_ms.is_empty()
    }

    /// The column of the field `name`.
    #[must_use]
    pub fn column(&self, name: &str) -> Option<&[f64]> {
        let column = self.fields.iter().position(|field| field == name)?;
        self.values.get(column).map(Vec::as_slice)
    }

    /// The values of one row, in the order of the fields.
    pub fn row(&self, row: usize) -> impl Iterator<Item = Option<f64>> {
        let value = move |column: &Vec<f64>| column.get(row).copied().and_then(known);
        self.values.iter().map(value)
    }

    /// The points of one field; none when there is no such field.
    pub fn points(&self, field: &str) -> impl Iterator<Item = Point> {
        let values = self.column(field).unwrap_or_default();
        let pairs = self.times_ms.iter().zip(values);
        pairs.map(|(at_ms, value)| Point {
            at_ms: *at_ms,
            value: known(*value),
        })
    }

    /// The same, row by row.
    #[must_use]
    pub fn into_rows(self) -> Vec<Row> {
        let rows = self.times_ms.iter().enumerate().map(|(row, at_ms)| Row {
            at_ms: *at_ms,
            values: self.row(row).collect(),
        });
        rows.collect()
    }

    /// The column of the field `name`, added when it is not there, as long as all rows before.
    fn open(&mut self, name: &str, hint: usize) -> usize {
        let is_it = |field: &String| field == name;
        let column = if self.fields.get(hint).is_some_and(is_it) {
            hint
        } else {
            self.fields.iter().position(is_it).unwrap_or_else(|| {
                self.fields.push(name.to_owned());
                self.fields.len() - 1
            })
        };
        if column >= self.values.len() {
            self.values.resize(column + 1, Vec::new());
        }
        self.values[column].resize(self.times_ms.len(), f64::NAN);
        column
    }

    /// Adds the rows `from..to` of `other` after all others.
    pub(crate) fn append(&mut self, other: &Self, from: usize, to: usize) {
        for (position, (name, values)) in other.fields.iter().zip(&other.values).enumerate() {
            let column = self.open(name, position);
            self.values[column].extend_from_slice(&values[from..to]);
        }
        self.times_ms.extend_from_slice(&other.times_ms[from..to]);
        self.close();
    }

    /// Adds a row after all others, its values in the order of this frame's fields or of the names
    /// in `fields`, which begin with them.
    pub(crate) fn push(&mut self, fields: &[String], row: &Row) {
        for name in fields.iter().skip(self.fields.len()) {
            self.fields.push(name.clone());
            self.values.push(vec![f64::NAN; self.times_ms.len()]);
        }
        for (column, values) in self.values.iter_mut().enumerate() {
            let value = row.values.get(column).copied().flatten();
            values.push(value.unwrap_or(f64::NAN));
        }
        self.times_ms.push(row.at_ms);
    }

    /// Makes all columns as long as the times.
    fn close(&mut self) {
        self.values.resize(self.fields.len(), Vec::new());
        for values in &mut self.values {
            values.resize(self.times_ms.len(), f64::NAN);
        }
    }

    /// Sorts the rows by time. Rows of one time keep their order; of those from `late_from` on, one
    /// that is like another of its time goes: it is the same, written twice.
    pub(crate) fn sort(&mut self, late_from: usize) {
        let (times, values) = (&self.times_ms, &self.values);
        if late_from >= times.len() && times.is_sorted() {
            return;
        }
        let same = |a: usize, b: usize| {
            let like = |a: f64, b: f64| a == b || (a.is_nan() && b.is_nan());
            values.iter().all(|column| like(column[a], column[b]))
        };
        let mut order: Vec<usize> = (0..times.len()).collect();
        order.sort_by_key(|row| times[*row]);
        let mut kept: Vec<usize> = Vec::with_capacity(order.len());
        for row in order {
            let mut others = kept.iter().rev().copied();
            let twice = row >= late_from
                && others
                    .by_ref()
                    .take_while(|other| times[*other] == times[row])
                    .any(|other| same(row, other));
            if !twice {
                kept.push(row);
            }
        }
        self.times_ms = kept.iter().map(|row| times[*row]).collect();
        for column in &mut self.values {
            *column = kept.iter().map(|row| column[*row]).collect();
        }
    }
}

/// NaN is unknown.
pub(crate) fn known(value: f64) -> Option<f64> {
    (!value.is_nan()).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(fields: &[&str], rows: &[(u64, &[f64])]) -> Frame {
        let fields: Vec<String> = fields.iter().map(|&name| name.to_owned()).collect();
        let mut frame = Frame::default();
        for (at_ms, values) in rows {
            let values = values.iter().map(|value| known(*value)).collect();
            let at_ms = *at_ms;
            frame.push(&fields, &Row { at_ms, values });
        }
        frame
    }

    #[test]
    fn frames_of_other_fields_are_joined_by_name() {
        let mut joined = frame(&["a", "b"], &[(1, &[1.0, 2.0])]);
        joined.append(
            &frame(&["b", "c"], &[(2, &[3.0, 4.0]), (3, &[5.0, 6.0])]),
            0,
            1,
        );
        assert_eq!(joined.fields, ["a", "b", "c"]);
        assert_eq!(
            joined.clone().into_rows()[1].values,
            [None, Some(3.0), Some(4.0)]
        );
        assert_eq!(
            joined.row(0).collect::<Vec<_>>(),
            [Some(1.0), Some(2.0), None]
        );
        let points: Vec<_> = joined.points("b").map(|point| point.value).collect();
        assert_eq!(points, [Some(2.0), Some(3.0)]);
        assert_eq!(joined.points("other").count(), 0);
    }

    #[test]
    fn a_late_row_takes_its_place_unless_it_is_there() {
        let rows: &[(u64, &[f64])] = &[
            (1, &[1.0]),
            (3, &[f64::NAN]),
            (3, &[f64::NAN]),
            (5, &[5.0]),
            (3, &[f64::NAN]),
            (1, &[7.0]),
            (2, &[2.0]),
        ];
        let mut frame = frame(&["a"], rows);
        frame.sort(4);
        assert_eq!(frame.times_ms, [1, 1, 2, 3, 3, 5]);
        assert_eq!(frame.values[0][..3], [1.0, 7.0, 2.0]);
    }
}
