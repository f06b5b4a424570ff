//! How an alert reads on the bus: its sentence, its value and its threshold. It is plain English for any
//! client; what people are sent is written by the templates.

use hostbus_wire::alert::{Alert, AlertKey, AlertSeverity, AlertState, BY_RULES};
use hostbus_wire::{Field, Unit, number};

use hostbus_wire::codec::Map;

use super::node::Raised;
use super::standing::{Phase, Terms};
use crate::rule::{Aggregate, Fold, Operator, Rule, Watch};

/// Why an alert is over, besides its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// Its instance is not there any more.
    Gone,
    /// The rule was removed.
    Removed,
    /// The rule does not cover it any more.
    Uncovered,
}

impl End {
    fn words(self) -> &'static str {
        match self {
            Self::Gone => "gone: the host no longer reports it",
            Self::Removed => "the rule was removed",
            Self::Uncovered => "the rule no longer covers it",
        }
    }
}

/// The alert that is to stand at `key`.
pub(super) fn alert(key: &AlertKey, rule: &Rule, terms: &Terms, raised: &Raised) -> Alert {
    let standing = raised.standing;
    let level = terms.level(standing.severity);
    let held = AlertSeverity::ALL
        .into_iter()
        .filter(|severity| *severity > standing.severity)
        .filter_map(|severity| match standing.held[severity as usize] {
            0 => None,
            since => Some((severity.as_str().to_owned(), since)),
        });
    let value = raised
        .value
        .filter(|_| !is_state(rule))
        .map(|value| number::round(value, 3));
    let mut alert = Alert {
        fingerprint: key.fingerprint(),
        state: standing.phase.state(),
        severity: standing.severity,
        since: standing.since,
        summary: String::new(),
        value,
        threshold: level
            .filter(|_| !is_state(rule))
            .map(|level| level.threshold),
        labels: labels(rule, value.is_some()),
        by: BY_RULES.to_owned(),
        held: held.collect(),
        over: (standing.over != 0).then_some(standing.over),
    };
    alert.summary = match &rule.summary {
        Some(text) => filled(text, key, rule, &alert),
        None => sentence(key, rule, terms, raised),
    };
    alert
}

/// What stands of an alert that ends for another reason than its value.
pub(super) fn ended(alert: &mut Alert, end: End, now_ms: u64) {
    (alert.state, alert.since) = (AlertState::Resolved, now_ms);
    alert.summary = format!("{} ({})", alert.summary, end.words());
    (alert.held, alert.over) = (Map::new(), None);
}

/// Whether its value is yes or no, which no number tells better than words.
fn is_state(rule: &Rule) -> bool {
    rule.watch == Watch::Down || matches!(rule.fold, Fold::Absent { .. } | Fold::Changed { .. })
}

fn filled(text: &str, key: &AlertKey, rule: &Rule, alert: &Alert) -> String {
    let number = |value: Option<f64>| value.map_or(String::new(), |value| shown(value, rule));
    // One pass: a name that holds braces is no place to fill.
    let mut out = String::with_capacity(text.len() + 32);
    let mut rest = text;
    while let Some(open) = rest.find('{') {
        out.push_str(&rest[..open]);
        rest = &rest[open..];
        let places = [
            ("{node}", key.node.node.as_str().to_owned()),
            (
                "{instance}",
                key.instance.as_deref().unwrap_or_default().to_owned(),
            ),
            ("{value}", number(alert.value)),
            ("{threshold}", number(alert.threshold)),
            ("{severity}", alert.severity.to_string()),
        ];
        match places.iter().find(|(place, _)| rest.starts_with(place)) {
            Some((place, filling)) => {
                out.push_str(filling);
                rest = &rest[place.len()..];
            }
            None => {
                out.push('{');
                rest = &rest[1..];
            }
        }
    }
    out + rest
}

fn sentence(key: &AlertKey, rule: &Rule, terms: &Terms, raised: &Raised) -> String {
    let over = raised.standing.phase == Phase::Resolved;
    let node = key.node.node.as_str();
    if rule.watch == Watch::Down {
        let is = if over { "is there again" } else { "is down" };
        return format!("{node} {is}");
    }
    let what = match (&rule.watch, key.instance.as_deref()) {
        (Watch::Field(source) | Watch::Ratio { part: source, .. }, Some(instance)) => {
            format!("{} {instance} on {node}", one_of(source.section))
        }
        (Watch::Field(source) | Watch::Ratio { part: source, .. }, None) => {
            format!("{} on {node}", source.section)
        }
        _ => node.to_owned(),
    };
    let field = match &rule.watch {
        Watch::Field(source) => named(source.field),
        Watch::Ratio { part, whole } => {
            format!("{} of {}", named(part.field), named(whole.field))
        }
        Watch::ClockOffset => "clock offset".to_owned(),
        Watch::Down => String::new(),
    };
    let value = raised
        .value
        .map_or_else(|| "unknown".to_owned(), |value| shown(value, rule));
    let level = terms.level(raised.standing.severity);
    let bound = level.map_or(String::new(), |level| {
        let no_longer = if over { "no longer " } else { "" };
        let threshold = shown(level.threshold, rule);
        format!(", {no_longer}{} {threshold}", operator(level.operator))
    });
    match rule.fold {
        Fold::Last => format!("{what}: {field} is {value}{bound}"),
        Fold::Aggregate { how, window_ms } => {
            let how = aggregate(how);
            let span = span(window_ms);
            format!("{what}: {how} {field} of {span} is {value}{bound}")
        }
        Fold::Forecast { ahead_ms, .. } => {
            format!(
                "{what}: {field} will be {value} in {}{bound}",
                span(ahead_ms)
            )
        }
        Fold::Rate { .. } => format!("{what}: {field} rises by {value} per second{bound}"),
        Fold::Absent { .. } if over => format!("{what}: {field} is heard of again"),
        Fold::Absent { silent_ms } => {
            format!("{what}: {field} was not heard of for {}", span(silent_ms))
        }
        Fold::Changed { .. } if over => format!("{what}: {field} stays as it is"),
        Fold::Changed { .. } => format!("{what}: {field} changed"),
    }
}

fn operator(operator: Operator) -> &'static str {
    match operator {
        Operator::Above => "above",
        Operator::AtLeast => "at least",
        Operator::Below => "below",
        Operator::AtMost => "at most",
        Operator::Equals => "equal to",
    }
}

fn aggregate(how: Aggregate) -> &'static str {
    match how {
        Aggregate::Average => "average",
        Aggregate::Minimum => "least",
        Aggregate::Maximum => "greatest",
        Aggregate::Sum => "sum of",
        Aggregate::Count => "count of",
    }
}

/// One instance of a section, in words.
fn one_of(section: &str) -> String {
    match section {
        "cores" | "sensors" | "fans" | "voltages" => section.trim_end_matches('s').to_owned(),
        _ => section.replace('_', " "),
    }
}

/// What a field is called in words. Where each instance is a field of its own, what they share has no
/// name but its unit.
fn named(field: &Field) -> String {
    match field.unit {
        _ if !field.name.starts_with('<') => words(field.name),
        Unit::Celsius => "temperature".to_owned(),
        Unit::PerMinute => "speed".to_owned(),
        Unit::Volts => "voltage".to_owned(),
        _ => "usage".to_owned(),
    }
}

/// A field's name without its unit, in words.
fn words(field: &str) -> String {
    let units = [
        "_bits_per_second",
        "_bytes_per_second",
        "_per_second",
        "_percent",
        "_bytes",
        "_celsius",
        "_watts",
        "_mhz",
        "_ms",
    ];
    let bare = units
        .iter()
        .find_map(|unit| field.strip_suffix(unit))
        .unwrap_or(field);
    bare.replace('_', " ")
}

/// The rule's labels, and the unit of value and threshold where there is one: a number alone says little.
fn labels(rule: &Rule, has_value: bool) -> Map<String> {
    let mut labels: Map<String> = rule.labels.iter().cloned().collect();
    let unit = match rule.watch {
        Watch::ClockOffset => "s".to_owned(),
        _ => match unit(rule) {
            Unit::Count | Unit::None => return labels,
            unit => unit.to_string(),
        },
    };
    if has_value {
        labels.entry("unit".to_owned()).or_insert(unit);
    }
    labels
}

/// The unit of what is judged.
fn unit(rule: &Rule) -> Unit {
    match (&rule.watch, rule.fold) {
        (Watch::Ratio { .. }, _) => Unit::Percent,
        (
            _,
            Fold::Aggregate {
                how: Aggregate::Count,
                ..
            },
        ) => Unit::Count,
        (Watch::Field(source), _) => source.field.unit,
        (Watch::ClockOffset | Watch::Down, _) => Unit::None,
    }
}

/// A value with its unit, as people write it.
pub(super) fn shown(value: f64, rule: &Rule) -> String {
    if rule.watch == Watch::ClockOffset {
        return format!("{} s", plain(value));
    }
    match unit(rule) {
        unit @ (Unit::Bytes | Unit::BytesPerSecond) => {
            const NAMES: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
            let mut scaled = value;
            let mut name = 0;
            while scaled.abs() >= 1024.0 && name + 1 < NAMES.len() {
                scaled /= 1024.0;
                name += 1;
            }
            let per = if unit == Unit::Bytes { "" } else { "/s" };
            format!("{} {}{per}", plain(scaled), NAMES[name])
        }
        Unit::Count | Unit::None => plain(value),
        unit => format!("{} {unit}", plain(value)),
    }
}

fn plain(value: f64) -> String {
    let decimals = if value.abs() < 10.0 { 2 } else { 1 };
    hostbus_wire::Value::Float(number::round(value, decimals)).to_string()
}

fn span(span_ms: u64) -> String {
    let seconds = span_ms / 1000;
    for (name, of) in [("d", 86_400), ("h", 3600), ("m", 60)] {
        if seconds >= of && seconds.is_multiple_of(of) {
            return format!("{} {name}", seconds / of);
        }
    }
    format!("{seconds} s")
}
