//! `hostbus rules check`: the mistakes in files of rules.

use std::io::Write;

use hostbus_daemon::exit;
use hostbus_notifier::rule::{Book, Mistake, Origin, document};
use serde_json::{Value, json};

use super::args::CheckArgs;
use super::{read, sources, told};

/// What was found in one file.
struct Found {
    file: String,
    /// The number of its rules, or its mistakes.
    rules: Result<usize, Vec<Mistake>>,
}

pub(super) fn check(args: &CheckArgs) -> anyhow::Result<u8> {
    let found = if args.files.is_empty() {
        of_settings(args)?
    } else {
        let mut found = Vec::new();
        for path in &args.files {
            let rules = document::read(&read(path)?);
            found.push(Found {
                file: path.display().to_string(),
                rules: rules.map(|rules| rules.len()),
            });
        }
        found
    };
    let mut out = std::io::stdout().lock();
    if args.json {
        let list: Vec<Value> = found.iter().map(object).collect();
        writeln!(out, "{}", serde_json::to_string_pretty(&list)?)?;
    } else {
        for one in &found {
            match &one.rules {
                Ok(1) => writeln!(out, "{}: 1 rule, no mistake", one.file)?,
                Ok(rules) => writeln!(out, "{}: {rules} rules, no mistake", one.file)?,
                Err(mistakes) => {
                    for mistake in mistakes {
                        writeln!(out, "{}", told(&one.file, mistake))?;
                    }
                }
            }
        }
        if found.is_empty() {
            writeln!(
                out,
                "notifier.rules names no files: name some, or give --config"
            )?;
        }
    }
    Ok(if found.iter().all(|one| one.rules.is_ok()) {
        exit::OK
    } else {
        exit::FAILED
    })
}

/// The files that the settings name.
fn of_settings(args: &CheckArgs) -> anyhow::Result<Vec<Found>> {
    let settings = crate::up::Settings::read(args.config.as_deref())?.notifier;
    let mut book = Book::new(false);
    sources::add_files(&mut book, &settings);
    let mut found: Vec<Found> = book
        .mistakes()
        .map(|(origin, mistakes)| Found {
            file: origin.to_string(),
            rules: Err(mistakes.to_vec()),
        })
        .collect();
    let mut origins: Vec<&Origin> = book.entries().iter().map(|entry| entry.origin).collect();
    origins.sort();
    for origins in origins.chunk_by(|a, b| a == b) {
        found.push(Found {
            file: origins[0].to_string(),
            rules: Ok(origins.len()),
        });
    }
    found.sort_by(|a, b| a.file.cmp(&b.file));
    Ok(found)
}

fn object(found: &Found) -> Value {
    let mistakes = found.rules.as_ref().err().map(Vec::as_slice);
    let mistakes: Vec<Value> = mistakes.unwrap_or_default().iter().map(mistake).collect();
    json!({
        "file": found.file,
        "rules": found.rules.as_ref().ok(),
        "mistakes": mistakes,
    })
}

/// A mistake as JSON.
pub(super) fn mistake(mistake: &Mistake) -> Value {
    json!({
        "line": mistake.line,
        "rule": mistake.rule,
        "key": mistake.key,
        "problem": mistake.problem,
    })
}
