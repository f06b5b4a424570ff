//! A window of each week: the hours of a route, the recurring maintenance of a silence. Days and times
//! are those of its zone, so that it begins at eight in summer and in winter. A time that the clocks
//! skip is taken as long after midnight as it would have been; of one that they show twice the first counts.

use hostbus_wire::silence::Weekly;
use jiff::civil::{Date, Time, Weekday};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

use super::config::SettingError;

const DAYS: [(&str, Weekday); 7] = [
    ("mon", Weekday::Monday),
    ("tue", Weekday::Tuesday),
    ("wed", Weekday::Wednesday),
    ("thu", Weekday::Thursday),
    ("fri", Weekday::Friday),
    ("sat", Weekday::Saturday),
    ("sun", Weekday::Sunday),
];

/// A checked window.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Window {
    /// The days on which it begins.
    days: Vec<Weekday>,
    from: Time,
    to: Time,
    zone: TimeZone,
}

/// How a window stands at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Standing {
    /// It is within it.
    pub(super) open: bool,
    /// Until this moment nothing changes, in milliseconds since 1970-01-01 UTC; it may not change then.
    pub(super) until_ms: u64,
}

impl Window {
    /// Checks a window; `at` is the key that its names are below, with its dot.
    pub(super) fn new(weekly: &Weekly, at: &str) -> Result<Self, SettingError> {
        let mut days = Vec::new();
        for name in &weekly.days {
            let Some((_, day)) = DAYS.iter().find(|(known, _)| known == name) else {
                let expected = "days are mon, tue, wed, thu, fri, sat and sun";
                return Err(SettingError::new(format!("{at}days"), name, expected));
            };
            if !days.contains(day) {
                days.push(*day);
            }
        }
        if days.is_empty() {
            days = DAYS.iter().map(|(_, day)| *day).collect();
        }
        let name = weekly.zone.as_deref().unwrap_or("UTC");
        let zone = TimeZone::get(name).map_err(|_| {
            let expected = "a time zone that this system knows, such as Europe/Berlin \
                            (the package is called tzdata)";
            SettingError::new(format!("{at}zone"), name, expected)
        })?;
        Ok(Self {
            days,
            from: time(&weekly.from, &format!("{at}from"))?,
            to: time(&weekly.to, &format!("{at}to"))?,
            zone,
        })
    }

    /// How it stands at `now_ms`.
    pub(super) fn standing(&self, now_ms: u64) -> Standing {
        let now = i64::try_from(now_ms)
            .ok()
            .and_then(|ms| Timestamp::from_millisecond(ms).ok())
            .unwrap_or(Timestamp::MAX);
        let today = self.zone.to_datetime(now).date();
        let mut open = false;
        // Look again tomorrow at the latest.
        let mut until_ms = now_ms.saturating_add(24 * 3_600_000);
        for ahead in -2..=7_i64 {
            let Ok(day) = today.checked_add(ahead.days()) else {
                continue;
            };
            if !self.days.contains(&day.weekday()) {
                continue;
            }
            let (Some(from_ms), Some(to_ms)) = (self.moment(day, self.from), self.end(day)) else {
                continue;
            };
            open |= from_ms <= now_ms && now_ms < to_ms;
            for edge_ms in [from_ms, to_ms] {
                if edge_ms > now_ms {
                    until_ms = until_ms.min(edge_ms);
                }
            }
        }
        Standing { open, until_ms }
    }

    /// The end of the window that begins on `day`.
    fn end(&self, day: Date) -> Option<u64> {
        let day = if self.to <= self.from {
            day.tomorrow().ok()?
        } else {
            day
        };
        self.moment(day, self.to)
    }

    fn moment(&self, day: Date, time: Time) -> Option<u64> {
        let zoned = self.zone.to_ambiguous_zoned(day.to_datetime(time));
        let ms = zoned.compatible().ok()?.timestamp().as_millisecond();
        Some(u64::try_from(ms).unwrap_or(0))
    }
}

fn time(text: &str, key: &str) -> Result<Time, SettingError> {
    let parsed = text.split_once(':').and_then(|(hour, minute)| {
        let digits = |part: &str| part.len() == 2 && part.bytes().all(|b| b.is_ascii_digit());
        if !digits(hour) || !digits(minute) {
            return None;
        }
        Time::new(hour.parse().ok()?, minute.parse().ok()?, 0, 0).ok()
    });
    parsed.ok_or_else(|| SettingError::new(key, text, "a time as HH:MM, from 00:00 to 23:59"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(days: &[&str], from: &str, to: &str, zone: &str) -> Result<Window, SettingError> {
        let weekly = Weekly {
            days: days.iter().map(|&day| day.to_owned()).collect(),
            from: from.to_owned(),
            to: to.to_owned(),
            zone: Some(zone.to_owned()),
        };
        Window::new(&weekly, "between.")
    }

    fn ms(moment: &str) -> u64 {
        let moment: Timestamp = moment.parse().unwrap();
        moment.as_millisecond().unsigned_abs()
    }

    #[test]
    fn a_window_is_that_of_its_own_zone_in_summer_and_in_winter() {
        let check = |days: &[&str], from, to, moment, open, until| {
            let standing = window(days, from, to, "Europe/Berlin")
                .unwrap()
                .standing(ms(moment));
            let expected = Standing {
                open,
                until_ms: ms(until),
            };
            assert_eq!(standing, expected, "{days:?} {from} {to} {moment}");
        };
        let work = ["mon", "tue", "wed", "thu", "fri"];
        // Monday 2026-01-05 is in winter (UTC+1), Monday 2026-07-06 in summer (UTC+2).
        check(
            &work,
            "08:00",
            "18:00",
            "2026-01-05T06:59:59Z",
            false,
            "2026-01-05T07:00:00Z",
        );
        check(
            &work,
            "08:00",
            "18:00",
            "2026-01-05T07:00:00Z",
            true,
            "2026-01-05T17:00:00Z",
        );
        check(
            &work,
            "08:00",
            "18:00",
            "2026-07-06T06:00:00Z",
            true,
            "2026-07-06T16:00:00Z",
        );
        check(
            &work,
            "08:00",
            "18:00",
            "2026-07-06T16:00:00Z",
            false,
            "2026-07-07T06:00:00Z",
        );
        // Over midnight it belongs to the day on which it begins.
        check(
            &["sat"],
            "22:00",
            "06:00",
            "2026-01-11T04:59:59Z",
            true,
            "2026-01-11T05:00:00Z",
        );
        check(
            &["sat"],
            "22:00",
            "06:00",
            "2026-01-10T04:00:00Z",
            false,
            "2026-01-10T21:00:00Z",
        );
        // The same time twice is a whole day.
        check(
            &["sun"],
            "00:00",
            "00:00",
            "2026-01-11T12:00:00Z",
            true,
            "2026-01-11T23:00:00Z",
        );
        // 02:00 to 03:00 does not exist on 2026-03-29; 02:30 is half an hour after the jump.
        check(
            &["sun"],
            "02:30",
            "04:00",
            "2026-03-29T01:15:00Z",
            false,
            "2026-03-29T01:30:00Z",
        );
        check(
            &["sun"],
            "02:30",
            "04:00",
            "2026-03-29T01:45:00Z",
            true,
            "2026-03-29T02:00:00Z",
        );
        // 02:30 is there twice on 2026-10-25; the first one counts.
        check(
            &["sun"],
            "02:30",
            "03:30",
            "2026-10-25T00:29:00Z",
            false,
            "2026-10-25T00:30:00Z",
        );
        check(
            &["sun"],
            "02:30",
            "03:30",
            "2026-10-25T01:45:00Z",
            true,
            "2026-10-25T02:30:00Z",
        );
        // Nothing for days: ask again tomorrow.
        check(
            &["fri"],
            "10:00",
            "11:00",
            "2026-01-10T12:00:00Z",
            false,
            "2026-01-11T12:00:00Z",
        );
    }

    #[test]
    fn a_window_that_makes_no_sense_is_refused_by_name() {
        let check = |days: &[&str], from, to, zone, key: &str| {
            let error = window(days, from, to, zone).unwrap_err();
            assert_eq!(error.key, format!("between.{key}"), "{error}");
        };
        check(&["monday"], "08:00", "18:00", "UTC", "days");
        check(&[], "8:00", "18:00", "UTC", "from");
        check(&[], "08:00", "24:00", "UTC", "to");
        check(&[], "08:00", "+1:00", "UTC", "to");
        check(&[], "08:00", "", "UTC", "to");
        check(&[], "08:00", "18:00", "Europe/Atlantis", "zone");
        check(&[], "08:00", "18:00", "../../../etc/passwd", "zone");
    }

    #[test]
    fn the_end_of_time_is_no_panic() {
        for now_ms in [0, u64::MAX, i64::MAX.unsigned_abs(), 253_402_207_200_000] {
            window(&[], "08:00", "18:00", "UTC")
                .unwrap()
                .standing(now_ms);
        }
    }
}
