//! Charts: one or many series over a range, in no more points than asked for.
//!
//! The tier is the one read the quickest of those that give about a row a point; what it does not have yet, because its
//! newest bucket is open, is summed up from the finer tiers, and what it has no longer is taken from
//! the coarser ones. All series are read together, a few round trips in all.

mod grid;
mod line;

use hostbus_wire::NodePath;
use redis::{Pipeline, Value};

use self::grid::Grid;
use self::line::LineState;
use crate::error::StoreError;
use crate::keys::NodeKeys;
use crate::read::Reader;
use crate::rollup::{MAX, MIN, ROWS};
use crate::row::{id_ms, items, text};
use crate::scan::{Scan, next_frames};
use crate::tier::Tier;

/// How many series are read at once.
const SERIES_AT_ONCE: usize = 32;

/// No chart has more points, however many are asked for.
const MAX_POINTS: usize = 100_000;

/// What a chart is to show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChartQuery {
    /// The series, of one node or of several.
    pub lines: Vec<Line>,
    /// From when, in milliseconds since 1970-01-01 UTC.
    pub from_ms: u64,
    /// Until when, included.
    pub to_ms: u64,
    /// No series gets more points; from 1 to 100,000.
    pub points: usize,
    /// The tier to read; absent: the one that fits.
    pub tier: Option<Tier>,
}

/// One series of a chart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Whose.
    pub node: NodePath,
    /// Which: `cpu`, `filesystem:/`.
    pub series: String,
    /// Its fields; all when there are none.
    pub fields: Vec<String>,
}

/// One series, ready to be drawn.
#[derive(Debug, Clone, PartialEq)]
pub struct Chart {
    /// Which.
    pub line: Line,
    /// The tier that most of it comes from.
    pub tier: Tier,
    /// The span of a point in milliseconds; absent: these are the rows as they came.
    pub step_ms: Option<u64>,
    /// The time of each point: when its span begins, in milliseconds since 1970-01-01 UTC. Where
    /// nothing is known there is a point without values, so that a line breaks there.
    pub times_ms: Vec<u64>,
    /// A curve a field.
    pub curves: Vec<Curve>,
    /// Rows in Redis that can't be read.
    pub malformed: u64,
    /// Packed blocks in Redis that can't be read.
    pub broken_blocks: u64,
}

/// One field of a chart; each list has a value a point, `None` where nothing is known.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Curve {
    /// The field.
    pub field: String,
    /// The average, of a state the last value.
    pub values: Vec<Option<f64>>,
    /// The smallest value of each point; empty for a state, and for rows as they came.
    pub min: Vec<Option<f64>>,
    /// The largest value of each point; empty likewise.
    pub max: Vec<Option<f64>>,
}

impl Reader {
    /// Reads charts, one for each line of `query`, in its order. One of an unknown node or series
    /// has no curves.
    ///
    /// # Errors
    /// Redis failed.
    pub async fn chart(&self, query: &ChartQuery) -> Result<Vec<Chart>, StoreError> {
        let to_ms = query.to_ms.max(query.from_ms);
        let points = query.points.clamp(1, MAX_POINTS);
        let tier = query
            .tier
            .unwrap_or_else(|| grid::fitting(query.from_ms, to_ms, points, self.retention()));
        let grid = Grid::new(query.from_ms, to_ms, points, tier);
        let mut charts = Vec::with_capacity(query.lines.len());
        for lines in query.lines.chunks(SERIES_AT_ONCE) {
            let mut states: Vec<LineState> = lines
                .iter()
                .map(|line| LineState::new(line.clone(), grid.clone(), tier))
                .collect();
            // Its own rows, then what is newer than they are, from tier to finer tier.
            let mut next = Some(tier);
            while let Some(tier) = next {
                let range = |state: &LineState| Some((state.read_until_ms(), to_ms));
                self.read_tier(&mut states, tier, range).await?;
                next = tier.finer();
            }
            // What is older than all that these tiers have, from the coarser ones.
            self.look_for_oldest(&mut states, tier).await?;
            for coarser in Tier::ALL.into_iter().filter(|other| *other > tier) {
                let range = |state: &LineState| state.missing_head(coarser);
                self.read_tier(&mut states, coarser, range).await?;
            }
            charts.extend(states.into_iter().map(LineState::into_chart));
        }
        Ok(charts)
    }

    /// Tells the lines whose range begins before their first row how old the rows of `tier` and of
    /// the finer tiers are: is there an older one, then nothing is known of the time in between.
    async fn look_for_oldest(
        &self,
        states: &mut [LineState],
        tier: Tier,
    ) -> Result<(), StoreError> {
        let tiers: Vec<Tier> = Tier::ALL
            .into_iter()
            .filter(|other| *other <= tier)
            .collect();
        let mut missing: Vec<&mut LineState> = states
            .iter_mut()
            .filter(|state| tier < Tier::Hour && state.misses_head())
            .collect();
        let mut pipeline = Pipeline::new();
        for state in &missing {
            let (keys, series) = (NodeKeys::new(&state.line().node), &state.line().series);
            for tier in &tiers {
                let first = pipeline.cmd("XRANGE").arg(keys.rows(*tier, series));
                first.arg("-").arg("+").arg("COUNT").arg(1);
                pipeline.cmd("HKEYS").arg(keys.packed(*tier, series));
            }
        }
        let replies = self.connection().pipeline(&pipeline).await?;
        for (state, replies) in missing.iter_mut().zip(replies.chunks(2 * tiers.len())) {
            let times = replies.iter().filter_map(oldest_ms);
            state.begins(times.min());
        }
        Ok(())
    }

    /// Reads one tier of each line that has a range there.
    async fn read_tier(
        &self,
        states: &mut [LineState],
        tier: Tier,
        range: impl Fn(&LineState) -> Option<(u64, u64)>,
    ) -> Result<(), StoreError> {
        let (mut scans, mut owners): (Vec<Scan>, Vec<usize>) = (Vec::new(), Vec::new());
        for (owner, state) in states.iter_mut().enumerate() {
            let Some((from_ms, to_ms)) = range(state) else {
                continue;
            };
            state.begin(tier);
            let line = state.line();
            let fields = fields_in(tier, &line.fields);
            let fields: Option<Vec<&str>> = fields
                .as_ref()
                .map(|fields| fields.iter().map(String::as_str).collect());
            let fields = fields.as_deref();
            scans.push(self.scan_tier(&line.node, &line.series, tier, fields, from_ms, to_ms));
            owners.push(owner);
        }
        loop {
            let pages = next_frames(&mut scans).await?;
            if pages.iter().all(Option::is_none) {
                return Ok(());
            }
            for (owner, page) in owners.iter().zip(pages) {
                if let Some(page) = page {
                    states[*owner].take(&page);
                }
            }
        }
    }
}

/// The smallest time in a reply: ids of rows, or starts of blocks.
fn oldest_ms(reply: &Value) -> Option<u64> {
    let times = items(reply)?.iter().filter_map(|item| match item {
        Value::Array(row) => id_ms(text(row.first()?)?),
        start => text(start)?.parse().ok(),
    });
    times.min()
}

/// The columns that hold `fields` in `tier`; `None` for all.
fn fields_in(tier: Tier, fields: &[String]) -> Option<Vec<String>> {
    if fields.is_empty() {
        return None;
    }
    let mut columns = fields.to_vec();
    if tier != Tier::Raw {
        for field in fields {
            columns.push([field, MIN].concat());
            columns.push([field, MAX].concat());
        }
        columns.push(ROWS.to_owned());
    }
    Some(columns)
}
