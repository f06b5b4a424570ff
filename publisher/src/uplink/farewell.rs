//! What a stop leaves behind, and what people are told of it.

use std::time::Duration;

/// How many samples without a mark are nothing unusual at a stop.
const FEW_SAMPLES: usize = 3;
/// In what time a sample's mark comes when all is well. At short intervals this is many samples.
const MARKED_WITHIN: Duration = Duration::from_secs(1);

/// What is left when the publisher stops.
#[derive(Debug, Clone, Copy)]
pub(super) struct Left {
    /// Samples without a mark.
    pub(super) unmarked: usize,
    /// Of those, the ones that were never sent.
    pub(super) unsent: usize,
    /// Of those without a mark, the ones that no disk has.
    pub(super) in_memory: usize,
    pub(super) connected: bool,
}

/// What a stop leaves behind.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Farewell {
    /// At most a few samples that were sent a moment ago: they are most likely taken, and their mark
    /// is on its way.
    Clean,
    /// All that no mark covers is on disk, and is sent at the next start.
    Kept,
    /// Samples that no mark came for, though it had the time: Redis or the ingester is away.
    Unsure,
    /// Samples that did not get through.
    Lost,
}

impl Farewell {
    pub(super) fn of(left: Left, interval: Duration) -> Self {
        let sent_lately = (MARKED_WITHIN.as_secs_f64() / interval.as_secs_f64()) as usize;
        if left.unmarked == 0 {
            Self::Clean
        } else if left.in_memory == 0 {
            Self::Kept
        } else if left.unsent > 0 || !left.connected {
            Self::Lost
        } else if left.unmarked > sent_lately.max(FEW_SAMPLES) {
            Self::Unsure
        } else {
            Self::Clean
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stop_tells_of_samples_that_were_never_confirmed() {
        let check = |unmarked, unsent, in_memory, connected, seconds, expected: Farewell| {
            let left = Left {
                unmarked,
                unsent,
                in_memory,
                connected,
            };
            let interval = Duration::from_secs_f64(seconds);
            assert_eq!(Farewell::of(left, interval), expected, "{left:?} {seconds}");
        };
        check(0, 0, 0, false, 10.0, Farewell::Clean);
        check(3, 0, 3, true, 10.0, Farewell::Clean);
        check(4, 0, 4, true, 10.0, Farewell::Unsure);
        check(1_000, 0, 1_000, true, 10.0, Farewell::Unsure);
        check(10, 0, 10, true, 0.1, Farewell::Clean);
        check(11, 0, 11, true, 0.1, Farewell::Unsure);
        check(4, 1, 4, true, 10.0, Farewell::Lost);
        check(1, 0, 1, false, 10.0, Farewell::Lost);
        check(1_000, 500, 0, false, 10.0, Farewell::Kept);
        check(1_000, 500, 1, false, 10.0, Farewell::Lost);
    }
}
