//! The committed mark of a node: how far its samples are in Redis.

use hostbus_wire::sample::Place;

/// All samples of `boot` up to `seq`, and all of earlier boots, are in Redis.
///
/// Marks are ordered as samples are: by boot, then by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mark {
    /// The publisher's run.
    pub boot: u64,
    /// The number in that run.
    pub seq: u64,
}

impl Mark {
    /// Reads a mark from its two texts; `None` when one is missing or no number.
    pub(crate) fn parse(boot: Option<&[u8]>, seq: Option<&[u8]>) -> Option<Self> {
        let number = |text: Option<&[u8]>| std::str::from_utf8(text?).ok()?.parse().ok();
        Some(Self {
            boot: number(boot)?,
            seq: number(seq)?,
        })
    }
}

impl From<Place> for Mark {
    fn from(place: Place) -> Self {
        Self {
            boot: place.boot,
            seq: place.seq,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_two_numbers_or_none() {
        let check = |boot: &str, seq: &str, expected: Option<(u64, u64)>| {
            let mark = Mark::parse(Some(boot.as_bytes()), Some(seq.as_bytes()));
            assert_eq!(
                mark.map(|mark| (mark.boot, mark.seq)),
                expected,
                "{boot} {seq}"
            );
        };
        check("7", "42", Some((7, 42)));
        check("7", "", None);
        check("-1", "2", None);
        check("x", "2", None);
        assert_eq!(Mark::parse(Some(b"7"), None), None);
    }
}
