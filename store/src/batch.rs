//! What is to be written, and what became of it.

use std::sync::Arc;

use hostbus_wire::{NodePath, Sample};

use crate::chain::Step;
use crate::mark::Mark;

/// A sample to be written.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Whose it is.
    pub node: Arc<NodePath>,
    /// The time it is stored under, in milliseconds since 1970-01-01 UTC.
    pub at_ms: u64,
    /// That time is the ingester's, not the sample's.
    pub own_time: bool,
    /// The sample.
    pub sample: Sample,
    /// Its place among the node's samples; `None` from a publisher that keeps none.
    pub step: Option<Step>,
}

/// What became of the samples of one write.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Samples written.
    pub samples: u64,
    /// Samples that the mark in Redis covers: they were written before.
    pub stored_before: u64,
    /// Rows written, late ones included.
    pub rows: u64,
    /// Known values in these rows.
    pub points: u64,
    /// Rows that were there already.
    pub duplicate_rows: u64,
    /// Rows put among the late ones.
    pub late_rows: u64,
    /// Rows that Redis refuses, of any kind.
    pub refused_rows: u64,
    /// Why it refused the last of them.
    pub refusal: Option<String>,
    /// Rows of series beyond the limit of their node, and of more instances than a series may have.
    pub excess_rows: u64,
    /// Nodes that have such rows.
    pub excess_nodes: Vec<Arc<NodePath>>,
    /// Nodes whose samples do not continue what Redis holds. They were not written; their order
    /// must be read again from Redis.
    pub broken: Vec<Arc<NodePath>>,
    /// The new mark of each node that has one.
    pub marks: Vec<(Arc<NodePath>, Mark)>,
}
