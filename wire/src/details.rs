//! `details/<what>`: a table that is no time series, such as the top processes. Retained.

use serde::{Deserialize, Serialize};

use crate::scalar::Scalar;

/// A table at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Details {
    /// When, in milliseconds since 1970-01-01 UTC.
    pub ts: u64,
    /// The names of the columns; a number's column carries its unit, `memory_bytes`.
    pub columns: Vec<String>,
    /// The rows, each as long as `columns`.
    pub rows: Vec<Vec<Scalar>>,
}
