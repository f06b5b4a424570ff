//! Thresholds: `critical = { above = 90, clear = 85 }`, and what three of them must be to each other.

use hostbus_wire::Unit;
use hostbus_wire::alert::AlertSeverity;

use super::item::{Item, Section};
use super::mistake::Mistake;
use super::{Aggregate, Fold, Level, Operator, Watch};

/// The keys of thresholds.
pub(super) const SEVERITIES: [&str; 3] = ["info", "warning", "critical"];
/// The key of what is bad or not, without threshold.
pub(super) const SEVERITY: &str = "severity";
const OPERATORS: [(&str, Operator); 5] = [
    ("above", Operator::Above),
    ("at_least", Operator::AtLeast),
    ("below", Operator::Below),
    ("at_most", Operator::AtMost),
    ("equals", Operator::Equals),
];
const CLEAR: &str = "clear";
const KEYS: [&str; 6] = ["above", "at_least", "below", "at_most", "equals", CLEAR];
const SHAPE: &str = "a threshold such as { above = 90, clear = 85 }";

/// Which way a value gets worse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    Up,
    Down,
    /// A state is bad, whatever the ones beside it are.
    None,
}

/// The levels that the table of a rule says, the worst first.
pub(super) fn read(rule: &Section<'_>, watch: &Watch, fold: &Fold) -> Result<Vec<Level>, Mistake> {
    let levels = merged(rule, watch, fold, Vec::new())?;
    if levels.is_empty() {
        let problem = format!(
            "expected a threshold, such as warning = {{ above = 80, clear = 75 }}, for one of {}",
            SEVERITIES.join(", ")
        );
        return Err(rule.mistake("critical", problem));
    }
    Ok(levels)
}

/// The levels `below` with those that a table says in their places; `critical = false` takes one away.
pub(super) fn merged(
    table: &Section<'_>,
    watch: &Watch,
    fold: &Fold,
    below: Vec<Level>,
) -> Result<Vec<Level>, Mistake> {
    if is_so_or_not(watch, fold) {
        return severity(table, below);
    }
    if table.get(SEVERITY).is_some() {
        let problem = "severity is for what is so or not (node.down, absent, changed); \
                       write a threshold, such as warning = { above = 80 }";
        return Err(table.mistake(SEVERITY, problem));
    }
    let mut levels = below;
    for severity in AlertSeverity::ALL {
        let Some(item) = table.get(severity.as_str()) else {
            continue;
        };
        let had = levels.len();
        levels.retain(|level| level.severity != severity);
        if item.is_false() {
            if had == levels.len() {
                return Err(item.wrong("the rule has no such threshold to take away"));
            }
            continue;
        }
        levels.push(level(&item, severity, watch, fold)?);
    }
    levels.sort_by_key(|level| std::cmp::Reverse(level.severity));
    for pair in levels.windows(2) {
        in_order(table, &pair[0], &pair[1])?;
    }
    Ok(levels)
}

/// Whether the value is 1 or 0, so that there is nothing to compare it with.
fn is_so_or_not(watch: &Watch, fold: &Fold) -> bool {
    matches!(watch, Watch::Down) || matches!(fold, Fold::Absent { .. } | Fold::Changed { .. })
}

fn severity(table: &Section<'_>, below: Vec<Level>) -> Result<Vec<Level>, Mistake> {
    if let Some(key) = SEVERITIES.iter().find(|key| table.get(key).is_some()) {
        let problem = format!("this is so or not, without threshold: write severity = \"{key}\"");
        return Err(table.mistake(key, problem));
    }
    let severity = match table.get(SEVERITY) {
        None if !below.is_empty() => return Ok(below),
        None => AlertSeverity::default(),
        Some(item) => {
            let what = "\"info\", \"warning\" or \"critical\"";
            let text = item.text(what)?;
            let known = AlertSeverity::ALL.into_iter();
            let found = known.clone().find(|known| known.as_str() == text);
            found.ok_or_else(|| item.wrong(format!("expected {what}")))?
        }
    };
    Ok(vec![Level {
        severity,
        operator: Operator::AtLeast,
        threshold: 1.0,
        clear: 1.0,
    }])
}

fn level(
    item: &Item<'_>,
    severity: AlertSeverity,
    watch: &Watch,
    fold: &Fold,
) -> Result<Level, Mistake> {
    let section = item.section(&KEYS, SHAPE)?;
    let mut given = OPERATORS
        .iter()
        .filter_map(|(key, operator)| Some((section.get(key)?, *operator)));
    let (threshold, operator) = given.next().ok_or_else(|| {
        item.wrong("expected one of above, at_least, below, at_most, equals with a number")
    })?;
    if let Some((second, _)) = given.next() {
        let problem = format!("{} says another one already", threshold.path);
        return Err(second.wrong(format!("one comparison a threshold, and {problem}")));
    }
    let unit = watch.unit();
    let at = threshold.quantity(unit)?;
    if let Some(problem) = never_or_always(watch, fold, operator, at) {
        return Err(threshold.wrong(problem));
    }
    let direction = direction(operator);
    let clear = match section.get(CLEAR) {
        None => at,
        Some(item) => {
            let clear = item.quantity(unit)?;
            let (wrong, side) = match direction {
                Direction::Up => (clear > at, "at most"),
                Direction::Down => (clear < at, "at least"),
                Direction::None => {
                    return Err(
                        item.wrong("a state has no clear: the alert is over with the state")
                    );
                }
            };
            if wrong {
                return Err(item.wrong(format!(
                    "lies on the wrong side: expected {side} {at}, the threshold, so that the alert is \
                     over when the value is better"
                )));
            }
            clear
        }
    };
    Ok(Level {
        severity,
        operator,
        threshold: at,
        clear,
    })
}

fn direction(operator: Operator) -> Direction {
    match operator {
        Operator::Above | Operator::AtLeast => Direction::Up,
        Operator::Below | Operator::AtMost => Direction::Down,
        Operator::Equals => Direction::None,
    }
}

/// Why a threshold for a percentage could never be crossed, or always would be.
fn never_or_always(
    watch: &Watch,
    fold: &Fold,
    operator: Operator,
    threshold: f64,
) -> Option<&'static str> {
    let Watch::Field(source) = watch else {
        return None;
    };
    let is_level = match fold {
        Fold::Last => true,
        Fold::Aggregate { how, .. } => !matches!(how, Aggregate::Sum | Aggregate::Count),
        _ => false,
    };
    if source.field.unit != Unit::Percent || !is_level {
        return None;
    }
    let possible = match operator {
        Operator::Above => (0.0..100.0).contains(&threshold),
        Operator::Below => 0.0 < threshold && threshold <= 100.0,
        _ => (0.0..=100.0).contains(&threshold),
    };
    (!possible)
        .then_some("a percentage lies between 0 and 100, so this is never crossed, or always")
}

/// Checks a threshold against the next lesser one.
fn in_order(table: &Section<'_>, worse: &Level, lesser: &Level) -> Result<(), Mistake> {
    let names = (worse.severity.as_str(), lesser.severity.as_str());
    let wrong = |problem: String| Err(table.mistake(names.0, problem));
    let direction = (direction(worse.operator), direction(lesser.operator));
    let (beyond, holds_longer, word) = match direction {
        (Direction::Up, Direction::Up) => (
            worse.threshold > lesser.threshold,
            worse.clear < lesser.clear,
            "above",
        ),
        (Direction::Down, Direction::Down) => (
            worse.threshold < lesser.threshold,
            worse.clear > lesser.clear,
            "below",
        ),
        (Direction::None, Direction::None) => {
            (worse.threshold != lesser.threshold, false, "apart from")
        }
        _ => {
            return wrong(format!(
                "{} and {} look different ways: expected both upwards (above, at_least), both \
                 downwards (below, at_most) or both equals",
                names.0, names.1
            ));
        }
    };
    if !beyond {
        return wrong(format!(
            "{} at {} must lie {word} {} at {}",
            names.0, worse.threshold, names.1, lesser.threshold
        ));
    }
    if holds_longer {
        return wrong(format!(
            "{} clears at {}, where {} (clear = {}) is over already",
            names.0, worse.clear, names.1, lesser.clear
        ));
    }
    Ok(())
}
