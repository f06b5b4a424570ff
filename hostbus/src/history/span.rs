//! From when until when: `30m`, `7d`, or a time of day and date.

use anyhow::Context;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, Unit};

/// A stretch of time in milliseconds since 1970-01-01 UTC, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stretch {
    pub(crate) from_ms: u64,
    pub(crate) until_ms: u64,
}

impl Stretch {
    /// Reads the two flags. A time without zone is in the zone `zone`.
    pub(crate) fn read(
        since: &str,
        until: Option<&str>,
        now_ms: u64,
        zone: &TimeZone,
    ) -> anyhow::Result<Self> {
        let from_ms = moment("--since", since, now_ms, zone)?;
        let until_ms = until.map_or(Ok(now_ms), |until| moment("--until", until, now_ms, zone))?;
        anyhow::ensure!(from_ms <= until_ms, "--since {since} lies after the end");
        Ok(Self { from_ms, until_ms })
    }
}

fn moment(flag: &str, text: &str, now_ms: u64, zone: &TimeZone) -> anyhow::Result<u64> {
    let wrong = || {
        format!(
            "{flag} {text}: expected a span such as 30m, 1h or 7d, or a time such as 2026-11-20T08:00"
        )
    };
    let now = Timestamp::from_millisecond(i64::try_from(now_ms)?)?;
    if let Ok(span) = text.parse::<Span>() {
        let zoned = now.to_zoned(zone.clone());
        let ms = span
            .total((Unit::Millisecond, &zoned))
            .with_context(wrong)?;
        anyhow::ensure!(ms >= 0.0, wrong());
        let then = zoned.checked_sub(span).with_context(wrong)?;
        return Ok(u64::try_from(then.timestamp().as_millisecond()).unwrap_or(0));
    }
    let then = match text.parse::<Timestamp>() {
        Ok(then) => then,
        Err(_) => {
            let civil: DateTime = text.parse().with_context(wrong)?;
            civil
                .to_zoned(zone.clone())
                .with_context(wrong)?
                .timestamp()
        }
    };
    u64::try_from(then.as_millisecond()).with_context(wrong)
}

/// A moment as people read it, `2026-11-20 08:15:30`.
pub(crate) fn shown(ms: u64, zone: &TimeZone) -> String {
    i64::try_from(ms)
        .ok()
        .and_then(|ms| Timestamp::from_millisecond(ms).ok())
        .map_or_else(
            || ms.to_string(),
            |time| {
                time.to_zoned(zone.clone())
                    .strftime("%Y-%m-%d %H:%M:%S")
                    .to_string()
            },
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2025-11-20T09:13:20Z.
    const NOW_MS: u64 = 1_763_630_000_000;

    #[test]
    fn spans_reach_back_from_now_and_times_stand_for_themselves() {
        let check = |since: &str, before_ms: u64| {
            let stretch = Stretch::read(since, None, NOW_MS, &TimeZone::UTC).unwrap();
            assert_eq!(
                stretch,
                Stretch {
                    from_ms: NOW_MS - before_ms,
                    until_ms: NOW_MS
                },
                "{since}"
            );
        };
        check("90s", 90_000);
        check("30m", 1_800_000);
        check("1h", 3_600_000);
        check("1h30m", 5_400_000);
        check("7d", 7 * 86_400_000);
        check("2025-11-20T09:13:10Z", 10_000);
        check("2025-11-20T09:13", 20_000);
    }

    #[test]
    fn what_is_no_time_is_said_with_an_example() {
        for (since, until) in [
            ("yesterday", None),
            ("1h", Some("2h")),
            ("-1h", None),
            ("", None),
        ] {
            let error = Stretch::read(since, until, NOW_MS, &TimeZone::UTC).unwrap_err();
            assert!(error.to_string().contains("--since"), "{error}");
        }
    }
}
