//! Shapes of topics: does a topic fit, does a subscription filter reach it, is it all within it.
//!
//! A shape has more to say than an MQTT filter: `{site}` and `{node}` stand for ids only, so that
//! `{site}/{node}/committed` can never reach `home/_rules/committed`. MQTT filters are read as MQTT
//! 3.1.1 and 5.0 define them (section 4.7).

use std::borrow::Cow;

use crate::ids::is_id;

/// The longest topic that MQTT allows, in bytes.
pub const MAX_TOPIC_BYTES: usize = 65_535;

/// A shape of topics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern<'p> {
    shape: Cow<'p, str>,
}

/// How much of what a filter asks for lies within a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// No topic fits both.
    None,
    /// Some topics that the filter asks for fit, others do not.
    Part,
    /// Every topic that the filter asks for fits.
    Full,
}

/// What one level of a shape accepts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Level<'l> {
    Literal(&'l str),
    /// An id: begins with no `_`.
    Id,
    /// Any one level.
    One,
    /// This and all that follow.
    Rest,
}

impl<'l> Level<'l> {
    fn read(text: &'l str) -> Self {
        match text {
            "{site}" | "{node}" => Self::Id,
            "{id}" | "+" => Self::One,
            "#" => Self::Rest,
            literal => Self::Literal(literal),
        }
    }

    fn accepts(self, level: &str) -> bool {
        match self {
            Self::Literal(literal) => literal == level,
            Self::Id => is_id(level),
            Self::One => !level.is_empty(),
            Self::Rest => true,
        }
    }
}

impl<'p> Pattern<'p> {
    /// A shape of the contract's table, to be matched below the root.
    #[must_use]
    pub const fn below_root(shape: &'p str) -> Self {
        Self {
            shape: Cow::Borrowed(shape),
        }
    }

    /// A shape for whole topics.
    #[must_use]
    pub fn whole(shape: String) -> Pattern<'static> {
        Pattern {
            shape: Cow::Owned(shape),
        }
    }

    /// Tells whether `topic` has this shape.
    #[must_use]
    pub fn matches(&self, topic: &str) -> bool {
        let mut levels = topic.split('/');
        for wanted in self.shape.split('/').map(Level::read) {
            if wanted == Level::Rest {
                return true;
            }
            if !levels.next().is_some_and(|level| wanted.accepts(level)) {
                return false;
            }
        }
        levels.next().is_none()
    }

    /// Tells how much of the MQTT filter `filter` lies within this shape.
    #[must_use]
    pub fn reach(&self, filter: &str) -> Reach {
        let mut asked = filter.split('/');
        let mut reach = Reach::Full;
        for wanted in self.shape.split('/').map(Level::read) {
            let asked_level = asked.next();
            match (wanted, asked_level) {
                (Level::Rest, _) => return reach,
                (_, Some("#")) => return Reach::Part,
                (_, None) => return Reach::None,
                (Level::One, Some("+")) => {}
                (Level::Literal(_) | Level::Id, Some("+")) => reach = Reach::Part,
                (level, Some(literal)) if level.accepts(literal) => {}
                _ => return Reach::None,
            }
        }
        match asked.next() {
            None => reach,
            // `a/#` also asks for `a` itself.
            Some("#") => Reach::Part,
            Some(_) => Reach::None,
        }
    }
}

/// Tells whether `topic` fits the MQTT filter `filter`, as a broker would match it.
#[must_use]
pub fn filter_matches(filter: &str, topic: &str) -> bool {
    if topic.starts_with('$') && !filter.starts_with('$') {
        return false;
    }
    let mut levels = topic.split('/');
    for wanted in filter.split('/') {
        if wanted == "#" {
            return true;
        }
        match levels.next() {
            Some(level) if wanted == "+" || wanted == level => {}
            _ => return false,
        }
    }
    levels.next().is_none()
}

/// Tells whether `filter` is a well-formed MQTT filter: wildcards stand alone in their level and
/// `#` is the last.
#[must_use]
pub fn is_filter(filter: &str) -> bool {
    if filter.is_empty() || filter.len() > MAX_TOPIC_BYTES || filter.contains('\0') {
        return false;
    }
    let mut levels = filter.split('/').peekable();
    while let Some(level) = levels.next() {
        let well_formed = match level {
            "+" => true,
            "#" => levels.peek().is_none(),
            text => !text.contains(['+', '#']),
        };
        if !well_formed {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_level_never_reaches_the_systems_own_names() {
        let committed = Pattern::below_root("{site}/{node}/committed");
        assert!(committed.matches("home/web1/committed"));
        assert!(!committed.matches("home/_rules/committed"));
        assert_eq!(committed.reach("home/_rules/committed"), Reach::None);
        assert!(!committed.matches("home/web1/committed/x"));
        assert!(!committed.matches("home/web1"));
    }

    #[test]
    fn the_reach_of_a_filter_is_none_part_or_full() {
        let check = |shape: &str, filter: &str, reach: Reach| {
            assert_eq!(
                Pattern::below_root(shape).reach(filter),
                reach,
                "{shape} {filter}"
            );
        };
        let metrics = "{site}/{node}/metrics";
        check(metrics, "home/web1/metrics", Reach::Full);
        check(metrics, "home/+/metrics", Reach::Part);
        check(metrics, "+/+/+", Reach::Part);
        check(metrics, "#", Reach::Part);
        check(metrics, "home/#", Reach::Part);
        check(metrics, "home/web1/metrics/#", Reach::Part);
        check(metrics, "home/web1/status", Reach::None);
        check(metrics, "home/web1", Reach::None);
        check(metrics, "home/web1/metrics/x", Reach::None);
        check("{site}/_rules/+", "home/_rules/+", Reach::Full);
        check("{site}/_rules/+", "home/+/x", Reach::Part);
        check("#", "anything/at/#", Reach::Full);
        check("$SYS/#", "$SYS/broker/+", Reach::Full);
        check("$SYS/#", "$SYS/#", Reach::Full);
    }

    #[test]
    fn filters_match_as_mqtt_defines() {
        let check = |filter: &str, topic: &str, fits: bool| {
            assert_eq!(filter_matches(filter, topic), fits, "{filter} {topic}");
        };
        check("a/#", "a", true);
        check("a/#", "a/b/c", true);
        check("a/+", "a/b", true);
        check("a/+", "a", false);
        check("a/+", "a/b/c", false);
        check("+/+", "/x", true);
        check("+", "/x", false);
        check("#", "$SYS/x", false);
        check("+/x", "$SYS/x", false);
        check("$SYS/#", "$SYS/x", true);
    }

    #[test]
    fn malformed_filters_are_known() {
        for good in ["#", "+", "a/+/b/#", "/", "a//b", "é/#"] {
            assert!(is_filter(good), "{good}");
        }
        for bad in ["", "a#", "#/a", "a/b+", "a\0b", "+a"] {
            assert!(!is_filter(bad), "{bad}");
        }
    }
}
