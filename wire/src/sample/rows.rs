//! A sample as the rows of its series, in buffers that are kept from sample to sample.

use super::series::Instances;
use super::shape::{Form, SECTIONS};
use super::{Head, MAX_POINTS, Sample, Series, walk};
use crate::codec::DecodeError;
use crate::number::Value;

/// How many values, and bytes of names, may stay allocated from one sample to the next.
const KEPT: usize = 2 * MAX_POINTS;

/// What a [`Sample`] is to those who only look at its series: the same rows, without a struct and a text
/// for each. Reading the next one into it allocates nothing once it has grown.
#[derive(Debug, Clone, Default)]
pub struct Rows {
    pub(super) head: Head,
    /// In the order of [`SECTIONS`]; a section's instances in that of the sample.
    pub(super) rows: Vec<Row>,
    /// The names of all instances, one after the other.
    pub(super) names: String,
    /// The values of all rows, one after the other.
    pub(super) values: Vec<Option<Value>>,
    /// The numbers of the one list that a section has: cores.
    pub(super) list: Vec<f64>,
}

/// One section or instance.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row {
    /// Its section's place in [`SECTIONS`].
    pub(super) section: u8,
    /// Where its name begins.
    pub(super) name: usize,
    /// How long its name is.
    pub(super) name_bytes: usize,
    /// Where its values begin.
    pub(super) values: usize,
}

impl Rows {
    /// Reads a sample as it came from the bus, instead of what was there. After an error nothing is there.
    ///
    /// # Errors
    /// Those of [`Sample::decode`], for the same bytes.
    pub fn read(&mut self, bytes: &[u8]) -> Result<(), DecodeError> {
        self.clear();
        if walk::walk(bytes, self).is_some() {
            return Ok(());
        }
        self.clear();
        self.fill(&Sample::decode(bytes)?);
        Ok(())
    }

    /// What the sample says of itself.
    #[must_use]
    pub fn head(&self) -> Head {
        self.head
    }

    /// Visits each series that the sample has a row for, as [`Sample::for_each_series`] does.
    pub fn for_each_series(&self, mut visit: impl FnMut(Series<'_>)) {
        for rows in self.rows.chunk_by(|one, next| one.section == next.section) {
            let Some(first) = rows.first() else { continue };
            let section = &SECTIONS[usize::from(first.section)];
            let shape = &section.shape;
            if section.form == Form::Together {
                let together = Together { rows, all: self };
                visit(Series::instances(shape.series, &together));
                continue;
            }
            for row in rows {
                let instance = (section.form == Form::Each).then(|| self.name(row));
                let values = &self.values[row.values..row.values + shape.fields.len()];
                visit(Series::fixed(shape.series, instance, shape.fields, values));
            }
            if shape.has_list() && !self.list.is_empty() {
                visit(Series::cores(&self.list));
            }
        }
    }

    /// Lets go of all that was read, and of most of the memory that a large sample took.
    fn clear(&mut self) {
        self.head = Head::default();
        self.rows.clear();
        self.names.clear();
        self.values.clear();
        self.list.clear();
        self.rows.shrink_to(KEPT);
        self.names.shrink_to(KEPT);
        self.values.shrink_to(KEPT);
        self.list.shrink_to(KEPT);
    }

    /// Takes the rows of `sample`.
    fn fill(&mut self, sample: &Sample) {
        self.head = sample.head();
        sample.for_each_series(|series| {
            let place = SECTIONS
                .iter()
                .position(|section| section.shape.series == series.section());
            let section = place.and_then(|place| u8::try_from(place).ok());
            match section {
                // A series of its own that is no section: the list of one.
                None => self.list.extend(
                    (0..series.width()).filter_map(|place| Some(series.value(place)?.as_f64())),
                ),
                Some(section) if series.has_instances() => {
                    for place in 0..series.width() {
                        self.push(section, series.instance_at(place), [series.value(place)]);
                    }
                }
                Some(section) => {
                    let values = (0..series.width()).map(|place| series.value(place));
                    self.push(section, series.instance(), values);
                }
            }
        });
    }

    fn push(
        &mut self,
        section: u8,
        name: Option<&str>,
        values: impl IntoIterator<Item = Option<Value>>,
    ) {
        let name = name.unwrap_or_default();
        self.rows.push(Row {
            section,
            name: self.names.len(),
            name_bytes: name.len(),
            values: self.values.len(),
        });
        self.names.push_str(name);
        self.values.extend(values);
    }

    pub(super) fn name(&self, row: &Row) -> &str {
        let name = self.names.get(row.name..row.name + row.name_bytes);
        name.unwrap_or_default()
    }
}

impl From<&Sample> for Rows {
    fn from(sample: &Sample) -> Self {
        let mut rows = Self::default();
        rows.fill(sample);
        rows
    }
}

/// The instances of one section that make one series.
#[derive(Debug)]
struct Together<'r> {
    rows: &'r [Row],
    all: &'r Rows,
}

impl Instances for Together<'_> {
    fn count(&self) -> usize {
        self.rows.len()
    }

    fn get(&self, place: usize) -> Option<(&str, Option<Value>)> {
        let row = self.rows.get(place)?;
        let value = self.all.values.get(row.values).copied().flatten();
        Some((self.all.name(row), value))
    }
}

#[cfg(test)]
mod tests;
