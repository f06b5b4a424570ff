//! Why a well-formed sample can't be taken.

use thiserror::Error;

use crate::guard::MAX_POINTS;
use crate::ids::Name;

/// Why a well-formed sample can't be taken.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SampleError {
    /// Its version is newer than this reader.
    #[error("version {v} is newer than this reader knows")]
    Version {
        /// The version it carries.
        v: u32,
    },
    /// `boot`, `seq` and `first` don't stand together.
    #[error("`boot`, `seq` and `first` must all be there with 1 <= first <= seq, or none of them")]
    Place,
    /// It carries more than [`MAX_POINTS`] numbers and instances that have none.
    #[error("{points} points are more than {MAX_POINTS}; an instance without any counts as one")]
    Points {
        /// How many it carries.
        points: usize,
    },
    /// An instance stands twice in its section.
    #[error("`{name}` stands twice in the section {section}")]
    Duplicate {
        /// The section's series name.
        section: &'static str,
        /// The instance.
        name: Name,
    },
}
