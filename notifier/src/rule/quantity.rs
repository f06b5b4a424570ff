//! Thresholds in bytes as people write them: `"2GiB"`, `"500 MB"`.

const UNITS: [(&str, f64); 9] = [
    ("B", 1.0),
    ("kB", 1e3),
    ("MB", 1e6),
    ("GB", 1e9),
    ("TB", 1e12),
    ("KiB", 1024.0),
    ("MiB", 1_048_576.0),
    ("GiB", 1_073_741_824.0),
    ("TiB", 1_099_511_627_776.0),
];

/// The bytes that `text` means; `None` when it is no quantity of them.
pub(super) fn bytes(text: &str) -> Option<f64> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (number, unit) = text.split_at(end);
    let (_, bytes) = UNITS.iter().find(|(name, _)| *name == unit.trim_start())?;
    let number: f64 = number.parse().ok()?;
    Some(number * bytes).filter(|bytes| bytes.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantity_is_a_number_with_a_unit() {
        let check = |text: &str, expected| assert_eq!(bytes(text), expected, "{text}");
        check("2GiB", Some(2_147_483_648.0));
        check("1.5 KiB", Some(1536.0));
        check("500 MB", Some(5e8));
        check("0B", Some(0.0));
        for wrong in [
            "", "2", "GiB", "2gib", "2 G", "-2GiB", "1.2.3kB", "2GiB!", "é",
        ] {
            check(wrong, None);
        }
        check(&format!("{}TB", "9".repeat(310)), None);
    }
}
