//! `hostbus rules list` and `show`.

use std::fmt::Write as _;
use std::io::Write;

use anyhow::bail;
use hostbus_daemon::exit;
use hostbus_notifier::rule::book::Entry;
use hostbus_notifier::rule::{Fold, Level, Operator, Rule, duration};
use serde_json::{Value, json};
use tracing::warn;

use super::args::{ListArgs, ShowArgs};
use super::check::mistake;
use super::sources::{self, Sources};
use super::told;

pub(super) async fn list(args: &ListArgs) -> anyhow::Result<u8> {
    let sources = sources::gather(args.config.as_deref(), &args.bus).await?;
    warn_of(&sources);
    let entries = sources.book.entries();
    let mut out = std::io::stdout().lock();
    if args.json {
        let mut list: Vec<Value> = entries.iter().map(object).collect();
        list.extend(sources.book.mistakes().map(|(origin, mistakes)| {
            let mistakes: Vec<Value> = mistakes.iter().map(mistake).collect();
            json!({"origin": origin.to_string(), "mistakes": mistakes})
        }));
        writeln!(out, "{}", serde_json::to_string_pretty(&list)?)?;
    } else {
        write!(out, "{}", table(&entries))?;
    }
    Ok(exit::OK)
}

pub(super) async fn show(args: &ShowArgs) -> anyhow::Result<u8> {
    let sources = sources::gather(args.config.as_deref(), &args.bus).await?;
    warn_of(&sources);
    let entries = sources.book.entries();
    let mut named = entries
        .iter()
        .filter(|entry| *entry.written.name == *args.rule);
    let Some(entry) = named.next() else {
        let names: Vec<&str> = entries.iter().map(|entry| &*entry.written.name).collect();
        bail!("no rule `{}`; there are: {}", args.rule, names.join(", "));
    };
    let mut out = std::io::stdout().lock();
    if args.json {
        let mut object = object(entry);
        object["text"] = json!(entry.written.text);
        let hidden: Vec<String> = named.map(|entry| entry.origin.to_string()).collect();
        object["hides"] = json!(hidden);
        writeln!(out, "{}", serde_json::to_string_pretty(&object)?)?;
    } else {
        writeln!(out, "{}", entry.written.text)?;
    }
    Ok(exit::OK)
}

/// Says what is missing in what follows.
fn warn_of(sources: &Sources) {
    for (origin, mistakes) in sources.book.mistakes() {
        for mistake in mistakes {
            let mistake = told(&origin.to_string(), mistake);
            warn!(mistake, "rules with a mistake are left out");
        }
    }
    if let Some(error) = &sources.unasked {
        let error = format!("{error:#}");
        warn!(error, "the bus was not asked for its rules");
    }
}

/// What of a rule holds, in a word.
fn state(entry: &Entry<'_>) -> &'static str {
    match (entry.holds, &entry.written.rule) {
        (false, _) => "hidden",
        (true, None) => "off",
        (true, Some(_)) => "on",
    }
}

fn table(entries: &[Entry<'_>]) -> String {
    let rows: Vec<[String; 5]> = entries
        .iter()
        .map(|entry| {
            let rule = entry.written.rule.as_deref();
            [
                entry.written.name.to_string(),
                state(entry).to_owned(),
                entry.origin.to_string(),
                rule.map_or_else(String::new, |rule| rule.watch.name()),
                rule.map_or_else(String::new, condition),
            ]
        })
        .collect();
    let head = ["RULE", "STATE", "FROM", "METRIC", "WHEN"].map(str::to_owned);
    let width = |column: usize| {
        let cells = rows
            .iter()
            .chain([&head])
            .map(|row| row[column].chars().count());
        cells.max().unwrap_or_default()
    };
    let widths = [width(0), width(1), width(2), width(3)];
    let mut text = String::new();
    for row in [&head].into_iter().chain(&rows) {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(widths) {
            // Writing to a String can't fail, here and below.
            let _ = write!(line, "{cell:<width$}  ");
        }
        let _ = writeln!(text, "{}", (line + &row[4]).trim_end());
    }
    text
}

fn object(entry: &Entry<'_>) -> Value {
    let rule = entry.written.rule.as_deref();
    json!({
        "rule": entry.written.name,
        "state": state(entry),
        "origin": entry.origin.to_string(),
        "metric": rule.map(|rule| rule.watch.name()),
        "when": rule.map(condition),
        "severities": rule.map(|rule| {
            rule.levels.iter().map(|level| level.severity.as_str()).collect::<Vec<_>>()
        }),
        "for_ms": rule.map(|rule| rule.for_ms),
        "overrides": rule.map(|rule| rule.overrides.len()),
    })
}

/// When a rule fires, in words: `avg of 5m, warning above 80, critical above 90, for 5m`.
fn condition(rule: &Rule) -> String {
    let span = duration::text;
    let mut parts = Vec::new();
    let mut compares = true;
    match rule.fold {
        Fold::Last => {}
        Fold::Aggregate { how, window_ms } => {
            parts.push(format!("{} of {}", how.as_str(), span(window_ms)));
        }
        Fold::Forecast {
            ahead_ms,
            window_ms,
        } => parts.push(format!(
            "in {} by the last {}",
            span(ahead_ms),
            span(window_ms)
        )),
        Fold::Rate { window_ms } => parts.push(format!("per second over {}", span(window_ms))),
        Fold::Absent { silent_ms } => {
            parts.push(format!("absent for {}", span(silent_ms)));
            compares = false;
        }
        Fold::Changed { window_ms } => {
            parts.push(format!("changed within {}", span(window_ms)));
            compares = false;
        }
    }
    compares &= rule.watch != hostbus_notifier::rule::Watch::Down;
    let level = |level: &Level| {
        let severity = level.severity;
        if compares {
            let operator = operator(level.operator);
            format!("{severity} {operator} {}", level.threshold)
        } else {
            severity.to_string()
        }
    };
    parts.extend(rule.levels.iter().rev().map(level));
    if rule.for_ms > 0 {
        parts.push(format!("for {}", span(rule.for_ms)));
    }
    parts.join(", ")
}

/// An operator in words.
pub(super) fn operator(operator: Operator) -> &'static str {
    match operator {
        Operator::Above => "above",
        Operator::AtLeast => "at least",
        Operator::Below => "below",
        Operator::AtMost => "at most",
        Operator::Equals => "equals",
    }
}

#[cfg(test)]
mod tests {
    use hostbus_notifier::rule::{Book, Origin};

    use super::*;

    #[test]
    fn a_condition_reads_as_it_is_meant() {
        let book = Book::new(true);
        let check = |name: &str, expected: &str| {
            let rules = book.rules();
            let rule = rules.iter().find(|rule| &*rule.name == name).unwrap();
            assert_eq!(condition(rule), expected, "{name}");
        };
        check("node-down", "critical, for 1m");
        check("disk-full", "warning above 85, critical above 95, for 5m");
        check("cpu-busy", "avg of 15m, warning above 95");
        check(
            "disk-full-soon",
            "in 1d by the last 6h, warning above 99, for 30m",
        );
        check("out-of-memory", "per second over 10m, warning above 0");
    }

    #[test]
    fn the_table_tells_what_holds_and_what_is_hidden() {
        let mut book = Book::default();
        let rule = "[[rule]]\nname = \"a\"\nmetric = \"cpu.load1\"\nwarning = { above = 4 }\n";
        book.set(Origin::File("x.toml".into()), rule.as_bytes())
            .unwrap();
        let off = b"[[rule]]\nname = \"a\"\nenabled = false\n";
        book.set(Origin::Bus("a".into()), off).unwrap();
        assert_eq!(
            table(&book.entries()),
            "RULE  STATE   FROM      METRIC     WHEN\n\
             a     off     _rules/a\n\
             a     hidden  x.toml    cpu.load1  warning above 4\n"
        );
    }
}
