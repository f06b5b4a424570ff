//! Times, durations and numbers as people read them, in English and Chinese.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Deserialize;

/// A language that notices are written in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Language {
    /// English.
    #[default]
    En,
    /// Simplified Chinese.
    Zh,
}

/// In which language and time zone a notice is written.
#[derive(Debug, Clone)]
pub struct Style {
    /// The language.
    pub language: Language,
    /// The time zone of its times.
    pub zone: TimeZone,
}

/// A point in time with its offset: `2026-11-21 18:40:05 +08:00`.
#[must_use]
pub fn time(ms: u64, zone: &TimeZone) -> String {
    let timestamp = i64::try_from(ms)
        .ok()
        .and_then(|ms| Timestamp::from_millisecond(ms).ok());
    match timestamp {
        Some(timestamp) => {
            let zoned = timestamp.to_zoned(zone.clone());
            zoned.strftime("%Y-%m-%d %H:%M:%S %:z").to_string()
        }
        None => format!("{ms} ms"),
    }
}

/// How long, in its two largest units: `45 s`, `12 min`, `2 h 5 min`, `3 d 4 h`.
#[must_use]
pub fn duration(ms: u64, language: Language) -> String {
    let units = match language {
        Language::En => ["d", "h", "min", "s"],
        Language::Zh => ["天", "小时", "分钟", "秒"],
    };
    let seconds = ms / 1000;
    let parts = [
        seconds / 86_400,
        seconds / 3600 % 24,
        seconds / 60 % 60,
        seconds % 60,
    ];
    let first = parts.iter().position(|part| *part > 0).unwrap_or(3);
    // Seconds beside minutes say more than they are worth, but for the first minutes.
    let second = match first {
        2 if parts[2] >= 5 => 3,
        _ => (first + 2).min(4),
    };
    let shown: Vec<_> = (first..second)
        .filter(|at| *at == first || parts[*at] > 0)
        .map(|at| format!("{} {}", parts[at], units[at]))
        .collect();
    shown.join(" ")
}

/// A value with its unit: `93.5%`, `1.5 GiB`, `75 °C`. Units are those of `hostbus_wire::Unit`; another
/// one is put after the number as it is.
#[must_use]
pub fn quantity(value: f64, unit: Option<&str>) -> String {
    match unit {
        None | Some("" | "1") => number(value),
        Some("%") => format!("{}%", number(value)),
        Some(unit @ ("B" | "B/s")) => {
            let (scaled, prefix) = scale(value, 1024.0, &["", "Ki", "Mi", "Gi", "Ti", "Pi"]);
            format!("{} {prefix}{unit}", number(scaled))
        }
        Some(unit @ "bit/s") => {
            let (scaled, prefix) = scale(value, 1000.0, &["", "k", "M", "G", "T"]);
            format!("{} {prefix}{unit}", number(scaled))
        }
        Some(unit) => format!("{} {unit}", number(value)),
    }
}

/// A number with at most two decimals.
#[must_use]
pub fn number(value: f64) -> String {
    if value != 0.0 && (value.abs() < 0.01 || value.abs() >= 1e15) {
        return format!("{value:.2e}");
    }
    let text = format!("{value:.2}");
    let short = text.trim_end_matches('0').trim_end_matches('.');
    match short {
        "-0" | "" => "0".to_owned(),
        _ => short.to_owned(),
    }
}

fn scale<'a>(value: f64, step: f64, prefixes: &[&'a str]) -> (f64, &'a str) {
    let (mut scaled, mut at) = (value, 0);
    while scaled.abs() >= step && at + 1 < prefixes.len() {
        scaled /= step;
        at += 1;
    }
    (scaled, prefixes[at])
}

/// `… and 37 more`.
#[must_use]
pub fn more(language: Language, count: usize) -> String {
    match language {
        Language::En => format!("… and {count} more"),
        Language::Zh => format!("……另有 {count} 条未列出"),
    }
}

/// That a channel's own template failed.
#[must_use]
pub fn fallback(language: Language, error: &str) -> String {
    match language {
        Language::En => {
            format!("(This channel's own template failed, this is the built-in text: {error})")
        }
        Language::Zh => format!("（此通道的自定义模板出错，以上为内置文本：{error}）"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_people_say_them() {
        let check = |ms, en: &str, zh: &str| {
            assert_eq!(duration(ms, Language::En), en);
            assert_eq!(duration(ms, Language::Zh), zh);
        };
        check(0, "0 s", "0 秒");
        check(45_999, "45 s", "45 秒");
        check(90_000, "1 min 30 s", "1 分钟 30 秒");
        check(12 * 60_000 + 5_000, "12 min", "12 分钟");
        check(7_500_000, "2 h 5 min", "2 小时 5 分钟");
        check(7_200_000, "2 h", "2 小时");
        check(86_400_000 * 3 + 3_600_000 * 4, "3 d 4 h", "3 天 4 小时");
    }

    #[test]
    fn values_carry_their_unit() {
        let check = |value, unit, expected: &str| {
            assert_eq!(quantity(value, unit), expected);
        };
        check(93.456, Some("%"), "93.46%");
        check(90.0, Some("%"), "90%");
        check(1.5 * 1024.0 * 1024.0 * 1024.0, Some("B"), "1.5 GiB");
        check(512.0, Some("B/s"), "512 B/s");
        check(12_500_000.0, Some("bit/s"), "12.5 Mbit/s");
        check(75.0, Some("°C"), "75 °C");
        check(0.0004, None, "4.00e-4");
        check(1e18, None, "1.00e18");
        check(-0.001_f64.powi(9), Some("1"), "-1.00e-27");
        check(-0.0, None, "0");
        check(1e300, Some("B"), "8.88e284 PiB");
    }

    #[test]
    fn times_carry_the_offset_of_their_zone() {
        let zone = TimeZone::fixed(jiff::tz::offset(8));
        assert_eq!(time(1_700_000_000_000, &zone), "2023-11-15 06:13:20 +08:00");
        assert_eq!(time(u64::MAX, &zone), "18446744073709551615 ms");
    }
}
