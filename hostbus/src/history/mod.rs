//! `hostbus history`: what Redis holds of a node, as a table, JSON, CSV or a small chart.
//!
//! [`span`] reads the flags of time, [`target`] finds node, series and field, [`rows`] writes JSON and
//! CSV, [`table`] shows rows to people, [`chart`] draws one field, [`events`] is all of its own.

mod chart;
mod events;
mod rows;
pub(crate) mod span;
mod table;
mod target;

use std::io::{BufWriter, IsTerminal, Write};

use anyhow::ensure;
use hostbus_daemon::{clock, exit};
use hostbus_store::{Chart, ChartQuery, Frame, NodeSummary, Reader, Scan, Tier};
use hostbus_wire::NodePath;
use hostbus_wire::status::Status;
use jiff::tz::TimeZone;
use rows::{Format, RowWriter};
use serde_json::json;
use span::Stretch;
use table::Table;
use target::Target;

pub(crate) use self::span::shown;
pub(crate) use self::target::find;

use crate::cli::HistoryArgs;
use crate::reach;

pub(crate) fn run(args: &HistoryArgs) -> anyhow::Result<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(history(args))?;
    Ok(exit::OK)
}

async fn history(args: &HistoryArgs) -> anyhow::Result<()> {
    let zone = TimeZone::system();
    let now_ms = clock::unix_ms();
    let stretch = Stretch::read(&args.since, args.until.as_deref(), now_ms, &zone)?;
    let reader = open(args)?;
    let nodes = reader.nodes().await?;
    let Some(wanted) = &args.node else {
        return list_nodes(args, &nodes, now_ms);
    };
    let asked = args.series.as_deref();
    if let Some(what @ (events::EVENTS | events::ALERTS)) = asked {
        let node = match wanted.as_str() {
            target::ALL => None,
            one => Some(find(one, &nodes)?),
        };
        return events::show(args, &reader, what, node.as_ref(), stretch, &zone).await;
    }
    let found = target::find_all(wanted, &nodes)?;
    match asked {
        None => {
            ensure!(
                found.len() == 1,
                "which series of these nodes? Name one, such as cpu"
            );
            list_series(args, &reader, &found[0]).await
        }
        Some(series) => {
            let targets = target::choose(&reader, found, series).await?;
            show_series(args, &reader, &targets, stretch, &zone).await
        }
    }
}

fn open(args: &HistoryArgs) -> anyhow::Result<Reader> {
    let store = reach::store(&args.redis, args.data.as_deref())?;
    Ok(Reader::open(&store)?)
}

fn list_nodes(args: &HistoryArgs, nodes: &[NodeSummary], now_ms: u64) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    if args.json {
        let list: Vec<_> = nodes
            .iter()
            .map(|node| {
                json!({
                    "node": node.node,
                    "status": node.status.map(Status::as_str),
                    "seen": node.seen_ms,
                })
            })
            .collect();
        writeln!(out, "{}", serde_json::to_string_pretty(&list)?)?;
    } else if args.csv {
        writeln!(out, "node,status,seen")?;
        for node in nodes {
            let status = node.status.map_or("", Status::as_str);
            writeln!(out, "{},{status},{}", node.node, node.seen_ms)?;
        }
    } else {
        writeln!(out, "{:<40} {:<8} LAST SEEN", "NODE", "STATUS")?;
        for node in nodes {
            let status = node.status.map_or("-", Status::as_str);
            let ago = now_ms.saturating_sub(node.seen_ms) / 1000;
            writeln!(out, "{:<40} {status:<8} {ago} s ago", node.node.to_string())?;
        }
    }
    Ok(())
}

async fn list_series(args: &HistoryArgs, reader: &Reader, node: &NodePath) -> anyhow::Result<()> {
    let series = reader.series(node).await?;
    let mut out = std::io::stdout().lock();
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&series)?)?;
    } else {
        if args.csv {
            writeln!(out, "series")?;
        }
        for name in series {
            writeln!(out, "{name}")?;
        }
    }
    Ok(())
}

/// How many points the table is made from at least.
const TABLE_POINTS: usize = 200;

async fn show_series(
    args: &HistoryArgs,
    reader: &Reader,
    targets: &[Target],
    stretch: Stretch,
    zone: &TimeZone,
) -> anyhow::Result<()> {
    let format = match (args.json, args.csv) {
        (true, _) => Some(Format::Json),
        (_, true) => Some(Format::Csv),
        _ => None,
    };
    let exactly = args.points.map(|points| points as usize);
    match (format, exactly) {
        (Some(format), None) => every_row(args, reader, targets, stretch, format).await,
        (_, points) => {
            let query = ChartQuery {
                lines: targets.iter().map(Target::line).collect(),
                from_ms: stretch.from_ms,
                to_ms: stretch.until_ms,
                points: points.unwrap_or(args.rows.saturating_mul(10).max(TABLE_POINTS)),
                tier: args.tier,
            };
            let charts = reader.chart(&query).await?;
            let (malformed, broken) = charts.iter().fold((0, 0), |(malformed, broken), chart| {
                (malformed + chart.malformed, broken + chart.broken_blocks)
            });
            warn(malformed, broken);
            match format {
                Some(format) => write_points(&charts, format),
                None => print_tables(args, &charts, zone),
            }
        }
    }
}

fn warn(malformed: u64, broken_blocks: u64) {
    if malformed + broken_blocks > 0 {
        tracing::warn!(
            malformed,
            broken_blocks,
            "rows and packed blocks in Redis that can't be read were left out"
        );
    }
}

/// Writes all rows of a tier as they stand in Redis, page by page.
async fn every_row(
    args: &HistoryArgs,
    reader: &Reader,
    targets: &[Target],
    stretch: Stretch,
    format: Format,
) -> anyhow::Result<()> {
    let tier = args.tier.unwrap_or(Tier::Raw);
    let scan = |target: &Target| -> Scan {
        let fields = target.columns(tier);
        let fields: Option<Vec<&str>> = fields
            .as_ref()
            .map(|fields| fields.iter().map(String::as_str).collect());
        let (from_ms, to_ms) = (stretch.from_ms, stretch.until_ms);
        let (node, series) = (&target.node, &target.series);
        reader.scan_tier(node, series, tier, fields.as_deref(), from_ms, to_ms)
    };
    let mut columns: Vec<String> = Vec::new();
    if format == Format::Csv {
        columns = csv_columns(targets, tier, scan).await?;
    }
    let out = BufWriter::new(std::io::stdout().lock());
    let mut writer = RowWriter::new(out, format, columns, targets.len() > 1)?;
    let (mut malformed, mut broken) = (0, 0);
    for target in targets {
        let (mut scan, node) = (scan(target), target.node.to_string());
        while let Some(page) = scan.next_frame().await? {
            malformed += page.malformed;
            broken += page.broken_blocks;
            writer.write(&node, &page.frame)?;
        }
    }
    let left_out = writer.finish()?;
    if !left_out.is_empty() {
        let fields = left_out.join(", ");
        tracing::warn!(
            fields,
            "fields that began within the range have no column: name them"
        );
    }
    warn(malformed, broken);
    Ok(())
}

/// The columns of CSV, which stand above the rows: those of the first rows and of the newest.
async fn csv_columns(
    targets: &[Target],
    tier: Tier,
    scan: impl Fn(&Target) -> Scan,
) -> anyhow::Result<Vec<String>> {
    let mut columns: Vec<String> = Vec::new();
    for target in targets {
        let mut scan = scan(target);
        while let Some(page) = scan.next_frame().await?
            && page.frame.is_empty()
        {}
        let newest = if tier == Tier::Raw {
            target.newest()
        } else {
            Vec::new()
        };
        for field in scan.fields().iter().chain(&newest) {
            if !columns.contains(field) {
                columns.push(field.clone());
            }
        }
    }
    Ok(columns)
}

/// The curves of a chart as columns, a field's extremes behind it.
fn frame(chart: &Chart, extremes: bool) -> Frame {
    let mut frame = Frame {
        times_ms: chart.times_ms.clone(),
        ..Frame::default()
    };
    for curve in &chart.curves {
        let parts = [
            ("", &curve.values),
            ("_min", &curve.min),
            ("_max", &curve.max),
        ];
        for (suffix, values) in parts {
            if suffix.is_empty() || (extremes && !values.is_empty()) {
                frame.fields.push(format!("{}{suffix}", curve.field));
                let values = values.iter().map(|value| value.unwrap_or(f64::NAN));
                frame.values.push(values.collect());
            }
        }
    }
    frame
}

fn write_points(charts: &[Chart], format: Format) -> anyhow::Result<()> {
    let frames: Vec<Frame> = charts.iter().map(|chart| frame(chart, true)).collect();
    let mut columns: Vec<String> = Vec::new();
    for field in frames.iter().flat_map(|frame| &frame.fields) {
        if !columns.contains(field) {
            columns.push(field.clone());
        }
    }
    let out = BufWriter::new(std::io::stdout().lock());
    let mut writer = RowWriter::new(out, format, columns, charts.len() > 1)?;
    for (chart, frame) in charts.iter().zip(&frames) {
        writer.write(&chart.line.node.to_string(), frame)?;
    }
    writer.finish()?;
    Ok(())
}

fn print_tables(args: &HistoryArgs, charts: &[Chart], zone: &TimeZone) -> anyhow::Result<()> {
    let terminal = std::io::stdout().is_terminal();
    let mut out = std::io::stdout().lock();
    for (number, chart) in charts.iter().enumerate() {
        if charts.len() > 1 {
            let gap = if number > 0 { "\n" } else { "" };
            writeln!(out, "{gap}{}", chart.line.node)?;
        }
        let table = Table::of(&frame(chart, args.points.is_some()));
        if table.rows.is_empty() {
            writeln!(out, "no rows since {}", args.since)?;
            continue;
        }
        if table.fields.len() == 1 && terminal {
            writeln!(out, "{}", table.chart(zone))?;
        }
        let table = match args.points {
            Some(_) => table,
            None => table.averaged(args.rows),
        };
        write!(out, "{}", table.text(zone))?;
    }
    Ok(())
}
