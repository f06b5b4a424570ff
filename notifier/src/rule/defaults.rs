//! The rules that hold without any: `defaults.toml` beside this file.

use super::document::{self, Written};

/// The document of the shipped rules.
pub const TEXT: &str = include_str!("defaults.toml");

/// The shipped rules.
///
/// # Panics
/// Never: a test holds that they are without mistake.
#[must_use]
pub fn rules() -> Vec<Written> {
    document::read(TEXT.as_bytes()).expect("the shipped rules are without mistake")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rule::Fold;

    #[test]
    fn the_shipped_rules_are_without_mistake_and_each_has_its_sentence_and_its_reason() {
        let rules = document::read(TEXT.as_bytes()).unwrap();
        assert!(rules.len() >= 20);
        for written in rules {
            let rule = written
                .rule
                .unwrap_or_else(|| panic!("{} is off", written.name));
            let summary = rule.summary.as_deref().unwrap_or_default();
            assert!(summary.contains("{node}"), "{}: {summary}", rule.name);
            assert_eq!(
                summary.contains("{instance}"),
                rule.watch.has_instances(),
                "{}",
                rule.name
            );
            let is_twin = ["clock-behind", "network-send-errors"].contains(&&*rule.name);
            assert!(is_twin || written.text.starts_with("# "), "{}", rule.name);
        }
    }

    #[test]
    fn no_shipped_rule_fires_at_a_moments_value() {
        for rule in rules().into_iter().filter_map(|written| written.rule) {
            let lasts =
                rule.for_ms > 0 || matches!(rule.fold, Fold::Aggregate { .. } | Fold::Rate { .. });
            assert!(lasts, "{}", rule.name);
        }
    }
}
