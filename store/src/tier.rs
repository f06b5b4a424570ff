//! The tiers of a series: its rows as they came, and what is summed up of them by the minute, by ten
//! minutes and by the hour. No I/O, no clock.
//!
//! Each tier has a stream, and a hash of packed blocks for what is older than the stream. A bucket
//! begins at a multiple of its span since 1970-01-01 UTC, and so does a block.

use std::fmt;

const SECOND_MS: u64 = 1_000;
const MINUTE_MS: u64 = 60 * SECOND_MS;
const HOUR_MS: u64 = 60 * MINUTE_MS;
const DAY_MS: u64 = 24 * HOUR_MS;

/// A resolution in which a series is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tier {
    /// A row a sample.
    Raw,
    /// A row a minute.
    Minute,
    /// A row every ten minutes.
    TenMinutes,
    /// A row an hour.
    Hour,
}

impl Tier {
    /// All of them, the finest first.
    pub const ALL: [Self; 4] = [Self::Raw, Self::Minute, Self::TenMinutes, Self::Hour];
    /// Those that are summed up, the finest first.
    pub const ROLLUPS: [Self; 3] = [Self::Minute, Self::TenMinutes, Self::Hour];

    /// Its name in keys and settings.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Minute => "1m",
            Self::TenMinutes => "10m",
            Self::Hour => "1h",
        }
    }

    /// The span of one row in milliseconds; `None` for rows as they came.
    #[must_use]
    pub fn span_ms(self) -> Option<u64> {
        match self {
            Self::Raw => None,
            Self::Minute => Some(MINUTE_MS),
            Self::TenMinutes => Some(10 * MINUTE_MS),
            Self::Hour => Some(HOUR_MS),
        }
    }

    /// The tier that this one is summed up from.
    #[must_use]
    pub fn finer(self) -> Option<Self> {
        match self {
            Self::Raw => None,
            Self::Minute => Some(Self::Raw),
            Self::TenMinutes => Some(Self::Minute),
            Self::Hour => Some(Self::TenMinutes),
        }
    }

    /// The span of one packed block in milliseconds: 720 rows, or the raw rows of an hour.
    #[must_use]
    pub fn block_ms(self) -> u64 {
        match self {
            Self::Raw => HOUR_MS,
            Self::Minute => 12 * HOUR_MS,
            Self::TenMinutes => 5 * DAY_MS,
            Self::Hour => 30 * DAY_MS,
        }
    }

    /// The start of the bucket that `at_ms` falls into; itself for rows as they came.
    #[must_use]
    pub fn bucket(self, at_ms: u64) -> u64 {
        self.span_ms().map_or(at_ms, |span| at_ms - at_ms % span)
    }

    /// The start of the block that `at_ms` falls into.
    #[must_use]
    pub fn block(self, at_ms: u64) -> u64 {
        at_ms - at_ms % self.block_ms()
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_and_a_block_begin_at_a_multiple_of_their_span() {
        let at_ms = 1_763_630_512_345;
        assert_eq!(Tier::Raw.bucket(at_ms), at_ms);
        assert_eq!(Tier::Minute.bucket(at_ms), 1_763_630_460_000);
        assert_eq!(Tier::TenMinutes.bucket(at_ms), 1_763_630_400_000);
        assert_eq!(Tier::Hour.bucket(at_ms), 1_763_629_200_000);
        assert_eq!(Tier::Raw.block(at_ms), 1_763_629_200_000);
        for tier in Tier::ALL {
            assert_eq!(tier.block(at_ms) % tier.block_ms(), 0, "{tier}");
            let spans = tier.span_ms().unwrap_or(1);
            assert_eq!(tier.block_ms() % spans, 0, "{tier}");
        }
    }

    #[test]
    fn each_rollup_is_summed_up_from_the_next_finer_tier() {
        for pair in Tier::ALL.windows(2) {
            assert_eq!(pair[1].finer(), Some(pair[0]));
        }
        assert_eq!(Tier::Raw.finer(), None);
    }
}
