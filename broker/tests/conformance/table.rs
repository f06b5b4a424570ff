//! Holds `docs/mqtt-conformance.md` to the numbers of the standards and to the tests that there are.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::ops::RangeInclusive;
use std::path::Path;

/// The numbers in appendix B of MQTT 3.1.1, by section.
const V311: &[(&str, RangeInclusive<u32>)] = &[
    ("1.5.3", 1..=3),
    ("2.2.2", 1..=2),
    ("2.3.1", 1..=7),
    ("3.1.0", 1..=2),
    ("3.1.2", 1..=24),
    ("3.1.3", 1..=11),
    ("3.1.4", 1..=5),
    ("3.2.0", 1..=1),
    ("3.2.2", 1..=6),
    ("3.3.1", 1..=12),
    ("3.3.2", 1..=3),
    ("3.3.4", 1..=1),
    ("3.3.5", 1..=2),
    ("3.6.1", 1..=1),
    ("3.8.1", 1..=1),
    ("3.8.3", 1..=4),
    ("3.8.4", 1..=6),
    ("3.9.3", 1..=2),
    ("3.10.1", 1..=1),
    ("3.10.3", 1..=2),
    ("3.10.4", 1..=6),
    ("3.12.4", 1..=1),
    ("3.14.1", 1..=1),
    ("3.14.4", 1..=3),
    ("4.1.0", 1..=2),
    ("4.3.1", 1..=1),
    ("4.3.2", 1..=2),
    ("4.3.3", 1..=2),
    ("4.4.0", 1..=1),
    ("4.5.0", 1..=2),
    ("4.6.0", 1..=6),
    ("4.7.1", 1..=3),
    ("4.7.2", 1..=1),
    ("4.7.3", 1..=4),
    ("4.8.0", 1..=2),
    ("6.0.0", 1..=4),
    ("7.0.0", 1..=2),
    ("7.1.1", 1..=1),
    ("7.1.2", 1..=1),
];

/// The numbers in appendix B of MQTT 5.0, by section.
const V5: &[(&str, RangeInclusive<u32>)] = &[
    ("1.5.4", 1..=3),
    ("1.5.5", 1..=1),
    ("1.5.7", 1..=1),
    ("2.1.3", 1..=1),
    ("2.2.1", 2..=6),
    ("2.2.2", 1..=1),
    ("3.1.0", 1..=2),
    ("3.1.2", 1..=30),
    ("3.1.3", 1..=12),
    ("3.1.4", 1..=6),
    ("3.2.0", 1..=2),
    ("3.2.2", 1..=22),
    ("3.3.1", 1..=13),
    ("3.3.2", 1..=20),
    ("3.3.4", 1..=10),
    ("3.4.2", 1..=3),
    ("3.5.2", 1..=3),
    ("3.6.1", 1..=1),
    ("3.6.2", 1..=3),
    ("3.7.2", 1..=3),
    ("3.8.1", 1..=1),
    ("3.8.3", 1..=5),
    ("3.8.4", 1..=8),
    ("3.9.2", 1..=2),
    ("3.9.3", 1..=2),
    ("3.10.1", 1..=1),
    ("3.10.3", 1..=2),
    ("3.10.4", 1..=6),
    ("3.11.2", 1..=2),
    ("3.11.3", 1..=2),
    ("3.12.4", 1..=1),
    ("3.14.0", 1..=1),
    ("3.14.1", 1..=1),
    ("3.14.2", 1..=4),
    ("3.14.4", 1..=3),
    ("3.15.1", 1..=1),
    ("3.15.2", 1..=3),
    ("4.1.0", 1..=2),
    ("4.2.0", 1..=1),
    ("4.3.1", 1..=1),
    ("4.3.2", 1..=5),
    ("4.3.3", 1..=13),
    ("4.4.0", 1..=2),
    ("4.5.0", 1..=2),
    ("4.6.0", 1..=6),
    ("4.7.0", 1..=1),
    ("4.7.1", 1..=2),
    ("4.7.2", 1..=1),
    ("4.7.3", 1..=4),
    ("4.8.2", 1..=6),
    ("4.9.0", 1..=3),
    ("4.12.0", 1..=7),
    ("4.12.1", 1..=2),
    ("4.13.1", 1..=1),
    ("4.13.2", 1..=1),
    ("6.0.0", 1..=4),
];

/// One line of a table.
struct Row {
    statement: String,
    held: String,
}

fn folder() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The rows of each table, by the heading above it.
fn tables() -> BTreeMap<String, Vec<Row>> {
    let text = fs::read_to_string(folder().join("../docs/mqtt-conformance.md")).unwrap();
    let mut tables = BTreeMap::new();
    let mut rows: &mut Vec<Row> = tables.entry(String::new()).or_default();
    for line in text.lines() {
        if let Some(heading) = line.strip_prefix("## ") {
            rows = tables.entry(heading.to_owned()).or_default();
        }
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        if let ["", statement, words, held, ""] = cells[..]
            && let Some(statement) = statement.strip_prefix("MQTT-")
        {
            assert!(!words.is_empty() && !held.is_empty(), "{line}");
            rows.push(Row {
                statement: statement.to_owned(),
                held: held.to_owned(),
            });
        }
    }
    tables
}

/// The tests that a cell names, as `file::test`.
fn named(held: &str) -> BTreeSet<String> {
    let quoted = held.split('`').skip(1).step_by(2);
    quoted
        .filter(|name| name.contains("::"))
        .map(str::to_owned)
        .collect()
}

/// The tests in the files of a folder, except those of this file.
fn written(folder: &Path) -> BTreeSet<String> {
    let mut tests = BTreeSet::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let module = path.file_stem().unwrap().to_str().unwrap();
        if module == "table" || path.extension().is_none_or(|name| name != "rs") {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let mut lines = text.lines();
        while let Some(line) = lines.next() {
            if !line.starts_with("#[tokio::test") && line != "#[test]" {
                continue;
            }
            // Other attributes may stand between.
            let head = lines.find_map(|line| line.trim_start_matches("async ").strip_prefix("fn "));
            let name = head.unwrap().split('(').next().unwrap();
            tests.insert(format!("{module}::{name}"));
        }
    }
    tests
}

#[test]
fn every_statement_stands_once() {
    let tables = tables();
    for (heading, numbers, count) in [("MQTT 3.1.1", V311, 141), ("MQTT 5.0", V5, 251)] {
        let wanted: Vec<String> = numbers
            .iter()
            .flat_map(|(section, range)| range.clone().map(move |n| format!("{section}-{n}")))
            .collect();
        assert_eq!(wanted.len(), count);
        let there: Vec<&String> = tables[heading].iter().map(|row| &row.statement).collect();
        let wanted: Vec<&String> = wanted.iter().collect();
        assert_eq!(
            there, wanted,
            "{heading}: the numbers, in the standard's order"
        );
    }
}

#[test]
fn the_tests_that_are_named_are_there_and_all_that_are_there_are_named() {
    let tables = tables();
    let rows = tables.values().flatten();
    let named: BTreeSet<String> = rows.flat_map(|row| named(&row.held)).collect();
    let suite = written(&folder().join("tests/conformance"));
    assert!(suite.len() > 100, "the list of tests can't be right");
    let others = written(&folder().join("tests"));
    let missing: Vec<_> = named
        .iter()
        .filter(|name| !suite.contains(*name) && !others.contains(*name))
        .collect();
    assert!(missing.is_empty(), "named, but not there: {missing:#?}");
    let unnamed: Vec<_> = suite.difference(&named).collect();
    assert!(unnamed.is_empty(), "there, but not named: {unnamed:#?}");
}

#[test]
fn what_is_said_to_be_absent_is_absent() {
    let websockets = folder().join("tests/websockets.rs").exists();
    for row in tables().values().flatten() {
        assert!(
            !websockets || row.held != "no WebSocket listener",
            "MQTT-{}: there is one",
            row.statement
        );
    }
}

#[test]
fn a_statement_is_held_by_tests_or_says_why_not() {
    for row in tables().values().flatten() {
        let tests = named(&row.held);
        let list: Vec<String> = tests.iter().map(|name| format!("`{name}`")).collect();
        let only_tests = row
            .held
            .split(", ")
            .all(|part| list.iter().any(|name| name == part));
        let reason = row.held.split('`').next().unwrap();
        assert!(
            only_tests || reason.trim().len() > 10,
            "MQTT-{}: {:?} is neither tests nor a reason",
            row.statement,
            row.held
        );
    }
}

#[test]
fn the_summary_counts_right() {
    let text = fs::read_to_string(folder().join("../docs/mqtt-conformance.md")).unwrap();
    for (heading, rows) in tables() {
        if rows.is_empty() {
            continue;
        }
        let client = rows
            .iter()
            .filter(|row| row.held == "binds the client")
            .count();
        let tests = rows.iter().filter(|row| row.held.starts_with('`')).count();
        let rest = rows.len() - client - tests;
        let line = format!(
            "| {heading} | {} | {tests} | {client} | {rest} |",
            rows.len()
        );
        assert!(text.contains(&line), "expected: {line}");
    }
}
