//! Which retentions go together. What is summed up from a tier, or packed out of it, must still
//! find its rows there.

use super::Retention;
use crate::error::StoreError;
use crate::tier::Tier;

/// How long raw rows are kept at least.
const LEAST_RAW_SECONDS: u64 = 60;
/// How long after a bucket's end its rows may be wanted for a summary: all series are gone through
/// in some minutes.
const MARGIN_SECONDS: u64 = 600;
/// What a stream that is packed holds at least: the rows of the longest bucket. Only blocks that are
/// wholly older leave it, so it holds up to a block more.
const LEAST_STREAM_SECONDS: u64 = 3_600;
/// A hundred years. Redis refuses an expiry that its clock can't reach.
const MOST_SECONDS: u64 = 100 * 365 * 86_400;

/// Checks what can be checked without Redis; the first wrong combination is told.
pub(super) fn check(retention: &Retention) -> Result<(), StoreError> {
    for tier in Tier::ALL {
        of_seconds(retention, tier)?;
        of_stream(retention, tier)?;
    }
    Ok(())
}

fn of_seconds(retention: &Retention, tier: Tier) -> Result<(), StoreError> {
    let seconds = retention.of(tier).seconds;
    let wrong = |expected: String| wrong(tier, "seconds", seconds, expected);
    if seconds > MOST_SECONDS {
        return Err(wrong(format!(
            "at most {MOST_SECONDS}, which is a hundred years"
        )));
    }
    let Some(span_seconds) = tier.span_ms().map(|span| span / 1_000) else {
        return if seconds < LEAST_RAW_SECONDS {
            Err(wrong(format!("at least {LEAST_RAW_SECONDS}")))
        } else {
            Ok(())
        };
    };
    if seconds == 0 {
        return Ok(());
    }
    if seconds < 2 * span_seconds {
        let least = 2 * span_seconds;
        return Err(wrong(format!(
            "0 to keep no such rows, or at least {least}"
        )));
    }
    // The rows of a minute are made while the raw rows go by.
    let least = span_seconds + MARGIN_SECONDS;
    let finer = Tier::ALL.into_iter().filter(|finer| *finer < tier);
    let longest = finer.map(|finer| retention.of(finer).seconds).max();
    if tier != Tier::Minute && longest.is_some_and(|longest| longest < least) {
        return Err(wrong(format!(
            "0, or a finer tier that is kept for at least {least}: {tier} is summed up from it"
        )));
    }
    Ok(())
}

fn of_stream(retention: &Retention, tier: Tier) -> Result<(), StoreError> {
    let kept = retention.of(tier);
    let Some(stream_seconds) = kept.stream_seconds else {
        return Ok(());
    };
    // A tier that is switched off has nothing to be wrong with.
    if kept.seconds == 0 {
        return Ok(());
    }
    let wrong = |expected: String| Err(wrong(tier, "stream_seconds", stream_seconds, expected));
    if stream_seconds > kept.seconds {
        let seconds = kept.seconds;
        return wrong(format!("at most the {seconds} of {tier}.seconds"));
    }
    if kept.packs() && stream_seconds < LEAST_STREAM_SECONDS {
        return wrong(format!(
            "at least {LEAST_STREAM_SECONDS}, or nothing to pack nothing"
        ));
    }
    Ok(())
}

fn wrong(tier: Tier, key: &'static str, value: u64, expected: String) -> StoreError {
    StoreError::Retention {
        tier,
        key,
        value,
        expected,
    }
}

#[cfg(test)]
mod tests {
    use super::super::Kept;
    use super::*;

    fn with(change: impl FnOnce(&mut Retention)) -> Result<(), String> {
        let mut retention = Retention::default();
        change(&mut retention);
        check(&retention).map_err(|error| error.to_string())
    }

    fn kept(seconds: u64, stream_seconds: impl Into<Option<u64>>) -> Kept {
        Kept {
            seconds,
            stream_seconds: stream_seconds.into(),
        }
    }

    #[test]
    fn what_serves_is_taken() {
        with(|_| {}).unwrap();
        with(|r| r.raw = kept(60, None)).unwrap();
        with(|r| r.hour = kept(0, None)).unwrap();
        with(|r| r.hour.seconds = 0).unwrap();
        with(|r| {
            r.minute = kept(0, None);
            r.ten_minutes = kept(0, None);
            r.hour = kept(0, None);
        })
        .unwrap();
        // What is not kept is summed up from the next finer tier that is.
        with(|r| {
            r.minute = kept(0, None);
            r.ten_minutes = kept(0, None);
        })
        .unwrap();
        with(|r| {
            r.raw = kept(600, 600);
            r.minute = kept(1_200, None);
            r.ten_minutes = kept(4_200, 3_600);
            r.hour = kept(7_200, 3_600);
        })
        .unwrap();
        with(|r| r.raw = kept(MOST_SECONDS, 3_600)).unwrap();
    }

    #[test]
    fn each_wrong_combination_is_told_with_its_key_and_what_was_expected() {
        let check = |change: fn(&mut Retention), told: &str, expected: &str| {
            let error = with(change).unwrap_err();
            assert!(error.contains(told) && error.contains(expected), "{error}");
        };
        check(
            |r| r.raw = kept(59, None),
            "raw.seconds is 59",
            "at least 60",
        );
        check(|r| r.raw = kept(0, None), "raw.seconds is 0", "at least 60");
        check(
            |r| r.raw = kept(MOST_SECONDS + 1, None),
            "raw.seconds",
            "a hundred years",
        );
        check(
            |r| r.raw = kept(86_400, 3_599),
            "raw.stream_seconds is 3599",
            "at least 3600",
        );
        check(
            |r| r.raw = kept(86_400, 0),
            "raw.stream_seconds is 0",
            "at least 3600",
        );
        check(
            |r| r.raw = kept(600, 601),
            "raw.stream_seconds is 601",
            "at most the 600",
        );
        check(
            |r| r.minute = kept(119, None),
            "1m.seconds is 119",
            "at least 120",
        );
        check(
            |r| {
                r.raw = kept(1_199, None);
                r.minute = kept(1_199, None);
            },
            "10m.seconds is",
            "kept for at least 1200",
        );
        check(
            |r| {
                r.raw = kept(600, None);
                r.minute = kept(0, None);
                r.ten_minutes = kept(4_199, None);
            },
            "10m.seconds is 4199",
            "10m is summed up",
        );
        check(
            |r| {
                r.raw = kept(600, None);
                r.minute = kept(1_200, None);
                r.ten_minutes = kept(4_199, None);
            },
            "1h.seconds is",
            "kept for at least 4200",
        );
        check(
            |r| r.hour = kept(7_199, None),
            "1h.seconds is 7199",
            "at least 7200",
        );
    }
}
