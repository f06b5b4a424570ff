//! From when on a tier has its rows. A tier that is kept longer than before does not get back what is gone:
//! nothing may be summed up from what is left there.
//!
//! ```text
//! hb:{S.N}:kept  retention   <since> <seconds> of raw, of 1m, of 10m, of 1h: under which settings the
//!                            node was visited last, and before which ms rows were dropped under
//!                            shorter ones
//! ```

use super::look::Look;
use super::visit::{Halt, Visit};
use crate::config::Retention;
use crate::tier::Tier;

/// The field of what is kept of a node that has it. No series has this name.
pub(super) const RETENTION: &str = "retention";

/// Under which settings a node was kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Since {
    /// Before this the rows of each tier may be gone.
    since_ms: [u64; 4],
    /// How long each was kept; none when nobody knows.
    seconds: [Option<u64>; 4],
}

impl Since {
    /// Reads what stands in Redis. What is none, is as if nothing had been there.
    pub(super) fn parse(text: &str) -> Self {
        let mut numbers = text.split(' ').map(|number| number.parse().ok());
        let mut since = Self::default();
        for tier in Tier::ALL {
            since.since_ms[tier as usize] = numbers.next().flatten().unwrap_or(0);
            since.seconds[tier as usize] = numbers.next().flatten();
        }
        since
    }

    fn text(self) -> String {
        let pairs = self.since_ms.iter().zip(self.seconds);
        let texts = pairs.map(|(since_ms, seconds)| format!("{since_ms} {}", seconds.unwrap_or(0)));
        texts.collect::<Vec<_>>().join(" ")
    }

    /// The same under the settings of now.
    pub(super) fn under(self, retention: &Retention, now_ms: u64) -> Self {
        let mut now = self;
        let mut finer_ms: Option<u64> = None;
        for tier in Tier::ALL {
            let (place, seconds) = (tier as usize, retention.of(tier).seconds);
            let since_ms = &mut now.since_ms[place];
            match self.seconds[place] {
                // Switched on, it is made of what the finer ones have.
                Some(0) if seconds > 0 => *since_ms = finer_ms.unwrap_or(now_ms),
                Some(before) if seconds > before => {
                    let dropped_ms = now_ms.saturating_sub(before.saturating_mul(1_000));
                    *since_ms = dropped_ms.max(*since_ms);
                }
                _ => {}
            }
            now.seconds[place] = Some(seconds);
            if seconds > 0 {
                let begins_ms = retention.of(tier).cutoff_ms(now_ms).max(*since_ms);
                finer_ms = Some(finer_ms.map_or(begins_ms, |finer_ms| finer_ms.min(begins_ms)));
            }
        }
        now
    }
}

impl Visit<'_> {
    /// Takes in since when the tiers have their rows, and notes it where the settings have changed.
    pub(super) async fn note_retention(&mut self, look: &Look) -> Result<(), Halt> {
        let now = look.since.under(self.retention, self.now_ms);
        self.since_ms = now.since_ms;
        if now == look.since {
            return Ok(());
        }
        let mut note = redis::cmd("HSET");
        note.arg(self.keys.kept()).arg(RETENTION).arg(now.text());
        match self.commit(&[note]).await {
            // What is too old goes all the same.
            Err(Halt::Store(crate::error::StoreError::Full)) => Ok(()),
            done => done,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3_600_000;

    fn retention(hours: [u64; 4]) -> Retention {
        let mut retention = Retention::default();
        let [raw, minute, ten_minutes, hour] = hours;
        retention.raw.seconds = raw * 3_600;
        retention.minute.seconds = minute * 3_600;
        retention.ten_minutes.seconds = ten_minutes * 3_600;
        retention.hour.seconds = hour * 3_600;
        retention
    }

    #[test]
    fn rows_that_were_dropped_under_other_settings_stay_gone() {
        let mut since = Since::default();
        let mut check = |hours: [u64; 4], at_hour: u64, expected: [u64; 4]| {
            since = since.under(&retention(hours), at_hour * HOUR);
            assert_eq!(
                since.since_ms,
                expected.map(|hour| hour * HOUR),
                "{hours:?}"
            );
            assert_eq!(Since::parse(&since.text()), since);
        };
        check([2, 10, 0, 100], 1_000, [0, 0, 0, 0]);
        check([2, 10, 0, 100], 1_001, [0, 0, 0, 0]);
        // Kept longer.
        check([5, 10, 0, 100], 1_100, [1_098, 0, 0, 0]);
        // Shorter is no news, and longer again what it last was.
        check([3, 10, 0, 100], 1_200, [1_098, 0, 0, 0]);
        check([9, 10, 0, 100], 1_300, [1_297, 0, 0, 0]);
        // Made of the minutes.
        check([9, 10, 50, 100], 1_400, [1_297, 0, 1_390, 0]);
        check([9, 0, 50, 100], 1_500, [1_297, 0, 1_390, 0]);
        // Of raw rows, which are there since then.
        check([900, 700, 50, 100], 1_510, [1_501, 1_501, 1_390, 0]);
    }

    #[test]
    fn what_is_no_note_is_none() {
        for text in ["", "x", "1", "a b c d e f g h", "-1 -1"] {
            let since = Since::parse(text);
            assert_eq!(since.seconds, [None; 4], "{text}");
            let now = since.under(&Retention::default(), 7);
            assert!(now.since_ms.iter().all(|since_ms| *since_ms <= 1));
        }
    }
}
