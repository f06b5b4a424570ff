//! `_lease/<component>`: which of several instances of a component is the active one. Retained.

use serde::{Deserialize, Serialize};

/// Who is active. Claims of one term are decided by the order in which the broker passes them on: the
/// first one holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Who claims it: an instance's name and a random part of this run.
    pub holder: String,
    /// Rises by one with each change of hands.
    pub term: u64,
    /// When it was claimed or renewed, by the holder's clock, in milliseconds since 1970-01-01 UTC.
    pub at: u64,
    /// It is given back: whoever wants it may claim the next term at once.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub released: bool,
}
