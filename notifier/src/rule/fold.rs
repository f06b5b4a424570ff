//! How the values of a time become one: `aggregate`, `rate`, `changed`, `absent`, `forecast` and their
//! `window`.

use hostbus_wire::{FieldKind, Unit};

use super::item::{Item, Section};
use super::mistake::{Mistake, did_you_mean};
use super::{Aggregate, Fold, Watch, duration};

const SECOND_MS: u64 = 1_000;
const MINUTE_MS: u64 = 60 * SECOND_MS;
const HOUR_MS: u64 = 60 * MINUTE_MS;
const DAY_MS: u64 = 24 * HOUR_MS;

/// The longest window: so much of the past is kept in memory, a value an interval.
const MAX_WINDOW_MS: u64 = DAY_MS;
const MIN_WINDOW_MS: u64 = 5 * SECOND_MS;
const USUAL_WINDOW_MS: u64 = 5 * MINUTE_MS;
const MIN_SILENCE_MS: u64 = 5 * SECOND_MS;
const MAX_SILENCE_MS: u64 = 7 * DAY_MS;
/// A trend of less says nothing.
const MIN_TREND_MS: u64 = 10 * MINUTE_MS;
const MAX_AHEAD_MS: u64 = 30 * DAY_MS;
/// A forecast reaches no further than so many times its window.
const MAX_WINDOWS_AHEAD: u64 = 48;
/// A trend that has not held for so long is a moment's.
const MIN_FOR_OF_FORECAST_MS: u64 = 5 * MINUTE_MS;

const WAYS: [&str; 5] = ["aggregate", "rate", "changed", "absent", "forecast"];
const AGGREGATES: [(&str, Aggregate); 5] = [
    ("avg", Aggregate::Average),
    ("min", Aggregate::Minimum),
    ("max", Aggregate::Maximum),
    ("sum", Aggregate::Sum),
    ("count", Aggregate::Count),
];

impl Aggregate {
    /// As rules have it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        let found = AGGREGATES.iter().find(|(_, aggregate)| *aggregate == self);
        found.map_or("avg", |(name, _)| *name)
    }
}

/// The fold that the table of a rule says.
pub(super) fn read(rule: &Section<'_>, watch: &Watch, for_ms: u64) -> Result<Fold, Mistake> {
    let mut given = WAYS.iter().filter_map(|key| Some((*key, rule.get(key)?)));
    let window = rule.get("window");
    let Some((way, item)) = given.next() else {
        return match window {
            None => Ok(Fold::Last),
            Some(window) => Err(window.wrong(
                "a window needs aggregate = \"avg\", rate = true, changed = true or a forecast",
            )),
        };
    };
    if let Some((second, other)) = given.next() {
        return Err(other.wrong(format!("a rule has {way} or {second}, not both")));
    }
    if let Some(problem) = unfit(watch, way) {
        return Err(item.wrong(problem));
    }
    let window_ms = |shortest_ms: u64, usual_ms: u64| {
        let range = shortest_ms..=MAX_WINDOW_MS;
        window
            .as_ref()
            .map_or(Ok(usual_ms), |window| window.duration(range))
    };
    match way {
        "aggregate" => {
            let how = aggregate(&item)?;
            if window.is_none() {
                return Err(item.wrong("over how long? Expected a window such as window = \"5m\""));
            }
            let window_ms = window_ms(MIN_WINDOW_MS, USUAL_WINDOW_MS)?;
            Ok(Fold::Aggregate { how, window_ms })
        }
        "rate" => {
            only_true(&item)?;
            let window_ms = window_ms(MIN_WINDOW_MS, USUAL_WINDOW_MS)?;
            Ok(Fold::Rate { window_ms })
        }
        "changed" => {
            only_true(&item)?;
            let window_ms = window_ms(MIN_WINDOW_MS, USUAL_WINDOW_MS)?;
            Ok(Fold::Changed { window_ms })
        }
        "absent" => {
            if let Some(window) = &window {
                return Err(window.wrong("absent has its own time, and no window"));
            }
            let silent_ms = item.duration(MIN_SILENCE_MS..=MAX_SILENCE_MS)?;
            Ok(Fold::Absent { silent_ms })
        }
        _ => {
            let ahead_ms = item.duration(MIN_TREND_MS..=MAX_AHEAD_MS)?;
            let usual_ms = (ahead_ms / 4).clamp(MIN_TREND_MS, MAX_WINDOW_MS);
            let window_ms = window_ms(MIN_TREND_MS, usual_ms)?;
            if window_ms * MAX_WINDOWS_AHEAD < ahead_ms {
                let least = duration::text(ahead_ms.div_ceil(MAX_WINDOWS_AHEAD));
                return Err(item.wrong(format!(
                    "reaches too far for a trend of {}: expected a window of at least {least}",
                    duration::text(window_ms)
                )));
            }
            long_enough(rule, for_ms)?;
            Ok(Fold::Forecast {
                ahead_ms,
                window_ms,
            })
        }
    }
}

/// Checks the `for` of a rule with a forecast.
pub(super) fn long_enough(table: &Section<'_>, for_ms: u64) -> Result<(), Mistake> {
    if for_ms >= MIN_FOR_OF_FORECAST_MS {
        return Ok(());
    }
    let found = duration::text(for_ms);
    let problem = format!(
        "for = \"{found}\": a forecast needs at least 5m, for the trend of a moment is none"
    );
    Err(table.mistake("for", problem))
}

/// Why `way` says nothing about `watch`.
fn unfit(watch: &Watch, way: &str) -> Option<String> {
    match (watch, way) {
        (Watch::Down, _) => Some("node.down is so or not, and has no past to sum up".to_owned()),
        (Watch::ClockOffset, "aggregate" | "changed") => None,
        (Watch::ClockOffset, _) => Some(format!("{way} says nothing about a clock")),
        (Watch::Ratio { .. }, "rate") => Some("a ratio is no counter".to_owned()),
        (Watch::Field(source), "rate") => {
            let field = source.field;
            let counts = matches!(field.unit, Unit::Count | Unit::None)
                && (field.kind == FieldKind::State || source.section == "custom");
            (!counts).then(|| {
                let name = source.name();
                if field.kind == FieldKind::Rate {
                    format!("{name} is a rate already: leave it out")
                } else {
                    format!("{name} is no counter that only rises")
                }
            })
        }
        _ => None,
    }
}

fn aggregate(item: &Item<'_>) -> Result<Aggregate, Mistake> {
    let what = "\"avg\", \"min\", \"max\", \"sum\" or \"count\"";
    let text = item.text(what)?;
    let found = AGGREGATES.iter().find(|(name, _)| *name == text);
    found.map(|(_, how)| *how).ok_or_else(|| {
        let hint = did_you_mean(text, AGGREGATES.map(|(name, _)| name));
        item.wrong(format!("expected {what}{hint}"))
    })
}

/// A switch that is left out where it does not hold.
fn only_true(item: &Item<'_>) -> Result<(), Mistake> {
    if item.flag()? {
        Ok(())
    } else {
        Err(item.wrong("leave the key out instead"))
    }
}
