//! Which of the samples in hand continue what Redis holds.
//!
//! Each numbered sample was accepted as the successor of another one. A Redis that comes back may
//! hold less than it once said; then what follows the lost samples must not be stored, or the mark
//! would cover them. So each sample is held against the mark in Redis before it is written.

use crate::mark::Mark;

/// A numbered sample's step: from the mark it follows to its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// The mark that it was accepted after; `None` when nothing was known of the node.
    pub after: Option<Mark>,
    /// Its own place.
    pub mark: Mark,
}

/// How a sample stands to the mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// It is next.
    Next,
    /// The mark covers it.
    Stored,
    /// Something between the mark and it is missing.
    Broken,
}

/// Holds a step against the mark in Redis.
#[must_use]
pub fn link(mark: Option<Mark>, step: Step) -> Link {
    if mark.is_some_and(|mark| step.mark <= mark) {
        Link::Stored
    } else if step.after == mark {
        Link::Next
    } else {
        Link::Broken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_written_only_after_the_one_it_follows() {
        let mark = |boot, seq| Mark { boot, seq };
        let check = |have: Option<Mark>, after: Option<Mark>, own: Mark, expected: Link| {
            assert_eq!(
                link(have, Step { after, mark: own }),
                expected,
                "{have:?} {after:?} {own:?}"
            );
        };
        check(None, None, mark(1, 1), Link::Next);
        check(Some(mark(1, 1)), Some(mark(1, 1)), mark(1, 2), Link::Next);
        check(Some(mark(1, 9)), Some(mark(1, 9)), mark(2, 1), Link::Next);
        check(Some(mark(1, 2)), Some(mark(1, 1)), mark(1, 2), Link::Stored);
        check(Some(mark(2, 1)), Some(mark(1, 8)), mark(1, 9), Link::Stored);
        check(Some(mark(1, 1)), Some(mark(1, 2)), mark(1, 3), Link::Broken);
        check(None, Some(mark(1, 2)), mark(1, 3), Link::Broken);
        check(Some(mark(1, 1)), None, mark(1, 3), Link::Broken);
    }
}
