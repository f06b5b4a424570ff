//! A rule as the evaluator uses it, checked.
//!
//! | module | owns |
//! |---|---|
//! | [`document`] | rules in TOML: what is written, and the mistakes in it |
//! | [`metric`], [`duration`], [`summary`] | what stands in its values |
//! | `levels`, `quantity`, `fold`, `item`, `nesting` | thresholds, windows, and the reading of one value |
//! | [`mistake`] | what is wrong in a document |
//! | [`defaults`] | the rules that hold without any |
//! | [`book`] | the rules in force: defaults, files, the bus |
//! | [`files`] | documents from files |

pub mod book;
pub mod defaults;
pub mod document;
pub mod duration;
pub mod files;
pub mod metric;
pub mod mistake;
pub mod summary;

mod fold;
mod item;
mod levels;
mod nesting;
mod quantity;

pub use book::{Book, Origin};
pub use document::Written;
pub use files::Files;
pub use mistake::Mistake;

use hostbus_wire::Field;
use hostbus_wire::alert::AlertSeverity;

use crate::globs::Globs;

/// What turns samples into alerts: what is watched, where, and when it is bad.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// Its name: `[a-z0-9][a-z0-9-]{0,62}`, a level of the alert's topic.
    pub name: Box<str>,
    /// What it watches.
    pub watch: Watch,
    /// How the values of a time become one, before they are held against thresholds.
    pub fold: Fold,
    /// On which nodes: globs of `web1` or `home.web1`.
    pub nodes: Globs,
    /// Never on these.
    pub except_nodes: Globs,
    /// On nodes that have one of these groups.
    pub groups: Globs,
    /// On which instances.
    pub instances: Globs,
    /// Never on these.
    pub except_instances: Globs,
    /// The thresholds, the worst severity first; each severity once, one at least.
    pub levels: Vec<Level>,
    /// Other thresholds for some nodes and instances; the first that fits holds.
    pub overrides: Vec<Override>,
    /// For how long a threshold must be crossed until the alert fires, in milliseconds.
    pub for_ms: u64,
    /// For how long an alert goes on firing once its condition is over, in milliseconds.
    pub keep_firing_ms: u64,
    /// The sentence of its alerts, with `{node}`, `{instance}`, `{value}` and `{threshold}` with their
    /// units, `{severity}`; `None` is the built-in one.
    pub summary: Option<String>,
    /// Put into its alerts as they are.
    pub labels: Vec<(String, String)>,
}

/// What a rule watches.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Watch {
    /// One field of a section: `filesystems.used_percent`.
    Field(Source),
    /// One field in percent of another one of its section.
    Ratio {
        /// The part.
        part: Source,
        /// The whole.
        whole: Source,
    },
    /// `node.down`: 1 while the node is silent or said to be lost, 0 while it is there.
    Down,
    /// `node.clock_offset_seconds`: how far the node's clock is ahead of ours (below 0: behind).
    ClockOffset,
}

/// Where a value stands in a sample.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Source {
    /// The section's name among series: `cpu`, `cores`, `filesystem`.
    pub section: &'static str,
    /// The field.
    pub field: &'static Field,
}

/// How values over time become the one that is judged.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Fold {
    /// The last value.
    Last,
    /// One of all values of the last `window_ms`.
    Aggregate {
        /// Which.
        how: Aggregate,
        /// Over how long.
        window_ms: u64,
    },
    /// The value in `ahead_ms` by the linear trend of the last `window_ms`.
    Forecast {
        /// How far ahead.
        ahead_ms: u64,
        /// The trend of how long.
        window_ms: u64,
    },
    /// The change of a counter per second over the last `window_ms`; a counter that falls began anew.
    Rate {
        /// Over how long.
        window_ms: u64,
    },
    /// 1 when the value was not heard for `silent_ms` though it was before, else 0.
    Absent {
        /// For how long.
        silent_ms: u64,
    },
    /// 1 when the value is not what it was, within the last `window_ms`, else 0.
    Changed {
        /// Within how long.
        window_ms: u64,
    },
}

/// One of several values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Aggregate {
    Average,
    Minimum,
    Maximum,
    Sum,
    Count,
}

/// From where on an alert of one severity fires.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Level {
    /// How bad it is.
    pub severity: AlertSeverity,
    /// How the value is held against the threshold.
    pub operator: Operator,
    /// The threshold, in the unit of what is watched.
    pub threshold: f64,
    /// Once it fires, it is over when the operator no longer holds for this value in the place of the
    /// threshold: the hysteresis. The same as `threshold` without one.
    pub clear: f64,
}

/// How a value is held against a threshold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Operator {
    Above,
    AtLeast,
    Below,
    AtMost,
    Equals,
}

impl Operator {
    /// Whether `value` is bad, held against `threshold`.
    #[must_use]
    #[expect(
        clippy::float_cmp,
        reason = "states are whole numbers, and equal means equal"
    )]
    pub fn holds(self, value: f64, threshold: f64) -> bool {
        match self {
            Self::Above => value > threshold,
            Self::AtLeast => value >= threshold,
            Self::Below => value < threshold,
            Self::AtMost => value <= threshold,
            Self::Equals => value == threshold,
        }
    }
}

/// Other thresholds for some nodes and instances.
#[derive(Debug, Clone, PartialEq)]
pub struct Override {
    /// For these nodes.
    pub nodes: Globs,
    /// For nodes that have one of these groups.
    pub groups: Globs,
    /// For these instances.
    pub instances: Globs,
    /// The thresholds there; none: the rule does not hold there.
    pub levels: Vec<Level>,
    /// In the place of the rule's `for_ms`.
    pub for_ms: Option<u64>,
}
