//! When something is safe: a number that rises with each write to the disk.

/// What was recorded with this ticket is safe once the disk has told this ticket or a higher one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) struct Ticket(u64);

impl Ticket {
    /// Nothing to wait for.
    pub(crate) const NONE: Self = Self(0);

    /// Higher than any.
    pub(crate) const MAX: Self = Self(u64::MAX);

    /// The next one.
    pub(crate) fn next(self) -> Self {
        Self(self.0 + 1)
    }
}
