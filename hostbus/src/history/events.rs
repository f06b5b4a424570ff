//! Events and the log of alerts, as a table, JSON or CSV.

use std::io::Write;

use anyhow::bail;
use hostbus_store::{Log, Order, Reader, Record};
use hostbus_wire::NodePath;
use jiff::tz::TimeZone;
use serde_json::{Map, Value, json};

use super::span::{self, Stretch};
use crate::cli::HistoryArgs;

/// How many records are read at once.
const PAGE: usize = 500;

/// What stands in the place of a series to ask for events.
pub(super) const EVENTS: &str = "events";
/// What stands in the place of a series to ask for the log of alerts.
pub(super) const ALERTS: &str = "alerts";

/// Prints the events of `node`, or of all nodes, or the log of alerts; the oldest first.
pub(super) async fn show(
    args: &HistoryArgs,
    reader: &Reader,
    what: &str,
    node: Option<&NodePath>,
    stretch: Stretch,
    zone: &TimeZone,
) -> anyhow::Result<()> {
    let log = match (what, node) {
        (EVENTS, Some(node)) => Log::Events(node),
        (EVENTS, None) => Log::AllEvents,
        (_, None) => Log::Alerts,
        (_, Some(node)) => bail!("alerts are those of all nodes: write `*` instead of {node}"),
    };
    let range = (stretch.from_ms, stretch.until_ms);
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let (mut after, mut first, mut malformed) = (None, true, 0);
    loop {
        let page = reader.records(log, Order::Oldest, range, after.as_deref(), PAGE);
        let page = page.await?;
        malformed += page.malformed;
        for record in &page.records {
            if args.json {
                write!(out, "{}{}", if first { "[" } else { "," }, object(record))?;
            } else if args.csv {
                if first {
                    writeln!(out, "ts,node,severity,kind,message,details")?;
                }
                csv_line(&mut out, record)?;
            } else {
                line(&mut out, record, zone)?;
            }
            first = false;
        }
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    match (args.json, first) {
        (true, true) => writeln!(out, "[]")?,
        (true, false) => writeln!(out, "]")?,
        (false, true) if !args.csv => writeln!(out, "no {what} since {}", args.since)?,
        (false, _) => {}
    }
    out.flush()?;
    if malformed > 0 {
        tracing::warn!(
            malformed,
            "entries in Redis that can't be read were left out"
        );
    }
    Ok(())
}

fn field<'r>(record: &'r Record, name: &str) -> &'r str {
    record.fields.get(name).map_or("", String::as_str)
}

/// When it happened; when it was written, if it does not tell.
fn happened_ms(record: &Record) -> u64 {
    field(record, "ts").parse().unwrap_or(record.at_ms)
}

fn object(record: &Record) -> Value {
    let mut object = Map::new();
    for (name, text) in &record.fields {
        let value = match name.as_str() {
            "ts" => json!(happened_ms(record)),
            "details" => serde_json::from_str(text).unwrap_or_else(|_| json!(text)),
            _ => json!(text),
        };
        object.insert(name.clone(), value);
    }
    object.insert("written".to_owned(), json!(record.at_ms));
    Value::Object(object)
}

fn csv_line(out: &mut impl Write, record: &Record) -> anyhow::Result<()> {
    let mut writer = csv::Writer::from_writer(out);
    let ts = happened_ms(record).to_string();
    let names = ["node", "severity", "kind", "message", "details"];
    let texts = names.into_iter().map(|name| field(record, name));
    writer.write_record(std::iter::once(ts.as_str()).chain(texts))?;
    writer.flush()?;
    Ok(())
}

fn line(out: &mut impl Write, record: &Record, zone: &TimeZone) -> anyhow::Result<()> {
    let at = span::shown(happened_ms(record), zone);
    let (node, severity) = (field(record, "node"), field(record, "severity"));
    let (kind, message) = (field(record, "kind"), field(record, "message"));
    let text = format!("{at}  {node:<24} {severity:<8} {kind:<20} {message}");
    // What others wrote must not drive the terminal.
    let plain: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    writeln!(out, "{}", plain.trim_end())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(fields: &[(&str, &str)]) -> Record {
        let pairs = fields.iter();
        Record {
            id: "5000-0".to_owned(),
            at_ms: 5_000,
            fields: pairs
                .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()))
                .collect(),
        }
    }

    #[test]
    fn a_record_is_an_object_a_line_of_csv_and_a_line_for_people() {
        let record = record(&[
            ("ts", "4000"),
            ("kind", "unit-failed"),
            ("severity", "error"),
            ("message", "a, \u{1b}b"),
            ("details", r#"{"unit":"x"}"#),
        ]);
        assert_eq!(
            object(&record),
            json!({"ts": 4000, "written": 5000, "kind": "unit-failed", "severity": "error",
                   "message": "a, \u{1b}b", "details": {"unit": "x"}})
        );
        let mut text = Vec::new();
        csv_line(&mut text, &record).unwrap();
        let text = String::from_utf8(text).unwrap();
        assert_eq!(
            text,
            "4000,,error,unit-failed,\"a, \u{1b}b\",\"{\"\"unit\"\":\"\"x\"\"}\"\n"
        );
        let mut text = Vec::new();
        line(&mut text, &record, &TimeZone::UTC).unwrap();
        let text = String::from_utf8(text).unwrap();
        assert!(
            text.starts_with("1970-01-01 00:00:04 ") && text.ends_with("a,  b\n"),
            "{text}"
        );
    }
}
