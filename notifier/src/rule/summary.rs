//! The sentence of a rule's alerts, and the words that stand for what is known only then.

use super::mistake::did_you_mean;

/// The longest sentence of a rule, in bytes.
pub const MAX_BYTES: usize = 512;

/// What may stand in braces in a summary.
pub const WORDS: [&str; 5] = ["node", "instance", "value", "threshold", "severity"];

/// Checks the braces of a summary.
pub(super) fn check(text: &str, has_instances: bool) -> Result<(), String> {
    if text.trim().is_empty() || text.len() > MAX_BYTES || text.contains(char::is_control) {
        return Err(format!("expected one line of 1 to {MAX_BYTES} bytes"));
    }
    let mut rest = text;
    while let Some(at) = rest.find(['{', '}']) {
        let after = &rest[at..];
        let word = after
            .strip_prefix('{')
            .and_then(|after| after.split_once('}'));
        let Some((word, after)) = word else {
            return Err(format!("a brace without its other half; {}", known()));
        };
        if !WORDS.contains(&word) {
            let hint = did_you_mean(word, WORDS);
            let hint = if hint.is_empty() {
                format!("; {}", known())
            } else {
                hint
            };
            let shown: String = word.chars().take(30).collect();
            return Err(format!("nothing is known as {{{shown}}}{hint}"));
        }
        if word == "instance" && !has_instances {
            return Err(
                "this metric has no instances, so nothing is known as {instance}".to_owned(),
            );
        }
        rest = after;
    }
    Ok(())
}

fn known() -> String {
    let words = WORDS.map(|word| format!("{{{word}}}"));
    format!("expected {}", words.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_in_braces_are_known_ones() {
        let good = |text: &str| assert_eq!(check(text, true), Ok(()), "{text}");
        let bad = |text: &str, expected: &str| {
            assert!(check(text, false).unwrap_err().contains(expected), "{text}");
        };
        good("{node}: {instance} is {value} full, {severity} from {threshold}");
        good("the cup is full");
        bad("", "one line");
        bad(&"x".repeat(513), "512 bytes");
        bad("a\nb", "one line");
        bad("{nod} is full", "did you mean `node`?");
        bad("{instance} is full", "no instances");
        bad("{xyz}", "expected {node}, {instance}");
        bad("100 % }", "other half");
        bad("{node", "other half");
    }
}
