//! One series while its chart is made: rows go in, tier after tier, points come out. No I/O.

use super::grid::Grid;
use super::{Chart, Curve, Line};
use crate::frame::{Frame, known};
use crate::rollup::{Bucket, Fields, Finer, MAX, MIN, ROWS};
use crate::scan::FramePage;
use crate::tier::Tier;

/// A longer silence than so many usual distances is a gap; in tenths.
const GAP_TENTHS: u64 = 25;

/// A series of which rows are being read.
#[derive(Debug)]
pub(super) struct LineState {
    line: Line,
    grid: Grid,
    tier: Tier,
    /// The tier that is being read.
    reading: Tier,
    /// Rows as they came, as long as they are few enough to be points themselves.
    rows: Option<Frame>,
    fields: Fields,
    finer: Finer,
    buckets: Vec<Option<Bucket>>,
    /// The first row that was found.
    first_ms: Option<u64>,
    /// Before this there are no rows in the tiers that were read; absent: nobody has looked.
    oldest_ms: Option<u64>,
    /// The end of what has been read.
    end_ms: Option<u64>,
    malformed: u64,
    broken_blocks: u64,
}

impl LineState {
    pub(super) fn new(line: Line, grid: Grid, tier: Tier) -> Self {
        Self {
            fields: Fields::new(&line.series),
            buckets: vec![None; grid.points],
            rows: (tier == Tier::Raw).then(Frame::default),
            reading: tier,
            finer: Finer::default(),
            first_ms: None,
            oldest_ms: None,
            end_ms: None,
            malformed: 0,
            broken_blocks: 0,
            line,
            grid,
            tier,
        }
    }

    pub(super) fn line(&self) -> &Line {
        &self.line
    }

    /// From where the next finer tier goes on.
    pub(super) fn read_until_ms(&self) -> u64 {
        self.end_ms.unwrap_or(if self.tier == Tier::Raw {
            self.grid.from_ms
        } else {
            self.grid.start_ms
        })
    }

    /// The range begins well before the first row that was found.
    pub(super) fn misses_head(&self) -> bool {
        let step_ms = self.grid.step_ms.max(self.tier.span_ms().unwrap_or(0));
        let from_ms = self.grid.start_ms.saturating_add(2 * step_ms);
        self.first_ms.is_none_or(|first_ms| first_ms > from_ms)
    }

    /// The oldest row that there is at all, in what was read, in the range or before it. `None`:
    /// there are no rows.
    pub(super) fn begins(&mut self, oldest_ms: Option<u64>) {
        self.oldest_ms = Some(oldest_ms.unwrap_or(u64::MAX));
    }

    /// The rows of `coarser` that stand for the time before the oldest row that there is. One that
    /// reaches beyond it was made of rows that are there.
    pub(super) fn missing_head(&self, coarser: Tier) -> Option<(u64, u64)> {
        let first = coarser.bucket(self.grid.start_ms);
        let last = self.oldest_ms?.checked_sub(coarser.span_ms()?)?;
        (last >= first).then_some((first, last.min(self.grid.to_ms)))
    }

    /// What is taken next are rows of `tier`.
    pub(super) fn begin(&mut self, tier: Tier) {
        self.reading = tier;
        self.finer = Finer::default();
    }

    /// Takes some rows.
    pub(super) fn take(&mut self, page: &FramePage) {
        self.malformed += page.malformed;
        self.broken_blocks += page.broken_blocks;
        let frame = &page.frame;
        let (Some(first_ms), Some(last_ms)) = (frame.times_ms.first(), frame.times_ms.last())
        else {
            return;
        };
        self.first_ms = Some(
            self.first_ms
                .map_or(*first_ms, |before| before.min(*first_ms)),
        );
        let tier = self.reading;
        // The next coarser tier goes on before these.
        if let Some(oldest_ms) = &mut self.oldest_ms {
            *oldest_ms = (*oldest_ms).min(*first_ms);
        }
        let end_ms = last_ms.saturating_add(tier.span_ms().unwrap_or(1));
        self.end_ms = self.end_ms.max(Some(end_ms));
        match &mut self.rows {
            Some(rows) if tier == Tier::Raw => {
                rows.append(frame, 0, frame.len());
                if rows.len() > self.grid.asked {
                    self.reduce();
                }
            }
            _ => {
                self.reduce();
                self.sum_up(frame);
            }
        }
    }

    /// From now on rows are summed up, those that are there first.
    fn reduce(&mut self) {
        if let Some(rows) = self.rows.take() {
            let reading = std::mem::replace(&mut self.reading, Tier::Raw);
            self.sum_up(&rows);
            self.reading = reading;
        }
    }

    fn sum_up(&mut self, frame: &Frame) {
        match self.reading {
            Tier::Raw => self.add_rows(frame),
            tier => self.merge_rows(frame, tier),
        }
    }

    fn add_rows(&mut self, frame: &Frame) {
        let mut columns: Vec<Option<&[f64]>> = Vec::new();
        for (position, (name, values)) in frame.fields.iter().zip(&frame.values).enumerate() {
            let place = self.fields.place(position, name);
            columns.resize(columns.len().max(place + 1), None);
            columns[place] = Some(values);
        }
        for (row, at_ms) in frame.times_ms.iter().enumerate() {
            let values = columns
                .iter()
                .map(|column| known(column.map_or(f64::NAN, |column| column[row])));
            self.bucket(self.grid.index(*at_ms)).add(values);
        }
    }

    fn merge_rows(&mut self, frame: &Frame, tier: Tier) {
        let mut finer = std::mem::take(&mut self.finer);
        finer.learn(&frame.fields, &mut self.fields);
        let span_ms = tier.span_ms().unwrap_or(1);
        let mut values = Vec::with_capacity(frame.fields.len());
        for (row, at_ms) in frame.times_ms.iter().enumerate() {
            values.clear();
            values.extend(frame.row(row));
            // A row of a coarser tier than the points are stands for all that it covers.
            let last_ms = at_ms.saturating_add(span_ms - 1);
            let mut taken = true;
            for index in self.grid.index(*at_ms)..=self.grid.index(last_ms) {
                taken &= self.bucket(index).merge(&finer, &values);
            }
            self.malformed += u64::from(!taken);
        }
        self.finer = finer;
    }

    fn bucket(&mut self, index: usize) -> &mut Bucket {
        let start_ms = self.grid.time_ms(index);
        self.buckets[index].get_or_insert_with(|| Bucket::new(start_ms))
    }

    pub(super) fn into_chart(mut self) -> Chart {
        if let Some(rows) = self.rows.take() {
            let times_ms = with_gaps(&rows.times_ms);
            if times_ms.len() <= self.grid.asked {
                return self.plain(&rows, &times_ms);
            }
            self.rows = Some(rows);
            self.reduce();
        }
        self.summed()
    }

    /// The rows themselves are the points.
    fn plain(self, rows: &Frame, times_ms: &[(u64, bool)]) -> Chart {
        let curves = rows.fields.iter().zip(&rows.values).map(|(field, values)| {
            let mut values = values.iter().map(|value| known(*value));
            let at = |(_, is_row): &(u64, bool)| {
                if *is_row {
                    values.next().flatten()
                } else {
                    None
                }
            };
            Curve {
                field: field.clone(),
                values: times_ms.iter().map(at).collect(),
                ..Curve::default()
            }
        });
        Chart {
            tier: self.tier,
            step_ms: None,
            curves: curves.collect(),
            times_ms: times_ms.iter().map(|(at_ms, _)| *at_ms).collect(),
            malformed: self.malformed,
            broken_blocks: self.broken_blocks,
            line: self.line,
        }
    }

    fn summed(self) -> Chart {
        // A bucket with all fields tells how the values of each stand in a row.
        let mut whole = Bucket::new(0);
        whole.add(vec![None; self.fields.len()]);
        let names: Vec<&str> = self
            .fields
            .names(&whole)
            .filter(|name| *name != ROWS)
            .collect();
        let mut columns: Vec<Vec<Option<f64>>> = vec![vec![None; self.grid.points]; names.len()];
        for (point, bucket) in self.buckets.iter().enumerate() {
            let Some(bucket) = bucket.as_ref().filter(|bucket| !bucket.is_empty()) else {
                continue;
            };
            // Without the count of rows at the end.
            let values = bucket.values(&self.fields);
            let known = self.fields.names(bucket).count() - 1;
            for (column, value) in columns.iter_mut().zip(values.take(known)) {
                column[point] = value;
            }
        }
        let mut curves: Vec<Curve> = Vec::with_capacity(self.fields.len());
        for (name, column) in names.into_iter().zip(columns) {
            match curves.last_mut() {
                Some(curve) if is_part(name, &curve.field, MIN) && curve.min.is_empty() => {
                    curve.min = column;
                }
                Some(curve) if is_part(name, &curve.field, MAX) && !curve.min.is_empty() => {
                    curve.max = column;
                }
                _ => curves.push(Curve {
                    field: name.to_owned(),
                    values: column,
                    ..Curve::default()
                }),
            }
        }
        let times = 0..if self.fields.is_empty() {
            0
        } else {
            self.grid.points
        };
        Chart {
            tier: self.tier,
            step_ms: Some(self.grid.step_ms),
            times_ms: times.map(|point| self.grid.time_ms(point)).collect(),
            curves,
            malformed: self.malformed,
            broken_blocks: self.broken_blocks,
            line: self.line,
        }
    }
}

fn is_part(name: &str, field: &str, suffix: &str) -> bool {
    name.strip_suffix(suffix) == Some(field)
}

/// The times of rows, and between two that are much farther apart than usual one of no row.
fn with_gaps(times_ms: &[u64]) -> Vec<(u64, bool)> {
    let mut distances: Vec<u64> = times_ms.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let middle = distances.len() / 2;
    let usual_ms = if distances.is_empty() {
        0
    } else {
        *distances.select_nth_unstable(middle).1
    };
    let mut times: Vec<(u64, bool)> = Vec::with_capacity(times_ms.len());
    for at_ms in times_ms {
        if let Some((before_ms, _)) = times.last()
            && usual_ms > 0
            && (at_ms - before_ms).saturating_mul(10) > usual_ms.saturating_mul(GAP_TENTHS)
        {
            times.push((before_ms + usual_ms, false));
        }
        times.push((*at_ms, true));
    }
    times
}
