//! The figures of a measurement: a table for people, and the same as JSON on the last line.

use std::io::Write;

use anyhow::Context;
use serde_json::Value;

/// A line of the table: what it says, where its figure stands in the JSON, how many decimals.
pub(crate) type Row<'r> = (&'r str, &'r str, usize);

/// Prints `rows` of `figures`; those that have no figure are left out.
pub(crate) fn print(figures: &Value, rows: &[Row<'_>], as_json: bool) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    for (label, pointer, decimals) in rows {
        if let Some(value) = figures.pointer(pointer).and_then(Value::as_f64) {
            writeln!(out, "{label:<52} {value:>16.decimals$}")?;
        }
    }
    if as_json {
        writeln!(out, "{figures}")?;
    }
    Ok(())
}

/// The figure at `pointer`.
pub(crate) fn figure(figures: &Value, pointer: &str) -> anyhow::Result<f64> {
    figures
        .pointer(pointer)
        .and_then(Value::as_f64)
        .with_context(|| format!("no figure {pointer}"))
}
