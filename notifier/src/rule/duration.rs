//! Spans of time as rules have them: `30s`, `5m`, `1h30m`.
//!
//! ```text
//! ms  s  m  h  d  w      whole numbers, the longest unit first, each once at most
//! ```

const UNITS: [(&str, u64); 6] = [
    ("w", 7 * 86_400_000),
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// The milliseconds that `text` means; `None` when it is no span.
#[must_use]
pub fn parse(text: &str) -> Option<u64> {
    let (mut rest, mut total_ms) = (text.trim(), 0_u64);
    let mut units = UNITS.iter();
    loop {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let (number, after) = rest.split_at(digits);
        let letters = after
            .find(|c: char| !c.is_ascii_lowercase())
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(letters);
        let (_, unit_ms) = units.find(|(name, _)| *name == unit)?;
        let part_ms = number.parse::<u64>().ok()?.checked_mul(*unit_ms)?;
        total_ms = total_ms.checked_add(part_ms)?;
        rest = after;
        if rest.is_empty() {
            return Some(total_ms);
        }
    }
}

/// The same, the other way: `5400000` is `1h30m`.
#[must_use]
pub fn text(mut ms: u64) -> String {
    if ms == 0 {
        return "0s".to_owned();
    }
    let mut text = String::new();
    for (unit, unit_ms) in UNITS {
        if ms >= unit_ms {
            text.push_str(&format!("{}{unit}", ms / unit_ms));
            ms %= unit_ms;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_span_is_numbers_with_units() {
        let check = |text: &str, ms| assert_eq!(parse(text), ms, "{text}");
        check("500ms", Some(500));
        check("30s", Some(30_000));
        check("5m", Some(300_000));
        check("1h30m", Some(5_400_000));
        check("24h", Some(86_400_000));
        check("1w2d", Some(9 * 86_400_000));
        check("0s", Some(0));
        check(" 5m ", Some(300_000));
        for wrong in [
            "",
            "5",
            "m",
            "5 m",
            "5min",
            "1.5h",
            "-5m",
            "5m1h",
            "5m5m",
            "5M",
            "∞s",
            "5m3",
            "99999999999999999999s",
            "18446744073709551615w",
        ] {
            check(wrong, None);
        }
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(ms in any::<u64>()) {
            prop_assert_eq!(parse(&text(ms)), Some(ms));
        }

        #[test]
        fn any_text_is_a_span_or_none(text in any::<String>()) {
            prop_assert!(parse(&text).is_none_or(|ms| parse(&super::text(ms)) == Some(ms)));
        }
    }
}
