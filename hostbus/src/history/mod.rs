//! `hostbus history`: what Redis holds of a node, as a table, JSON, CSV or a small chart.
//!
//! [`span`] reads the flags of time, [`table`] shows rows, [`chart`] draws one field.

mod chart;
mod span;
mod table;

use std::io::{IsTerminal, Write};

use anyhow::{Context, bail};
use hostbus_daemon::{clock, exit};
use hostbus_store::{NodeSummary, Reader};
use hostbus_wire::NodePath;
use hostbus_wire::status::Status;
use jiff::tz::TimeZone;
use serde_json::json;
use span::Stretch;
use table::Table;

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
    let node = find(wanted, &nodes)?;
    match &args.series {
        None => list_series(args, &reader, &node).await,
        Some(series) => show_series(args, &reader, &node, series, stretch, &zone).await,
    }
}

fn open(args: &HistoryArgs) -> anyhow::Result<Reader> {
    let store = reach::store(&args.redis, args.data.as_deref())?;
    Ok(Reader::open(&store)?)
}

/// The node that `wanted` means: `site.node`, or a node's name when only one site has it.
pub(crate) fn find(wanted: &str, nodes: &[NodeSummary]) -> anyhow::Result<NodePath> {
    let known = || {
        let names: Vec<String> = nodes
            .iter()
            .take(20)
            .map(|node| node.node.to_string())
            .collect();
        if names.is_empty() {
            "none yet".to_owned()
        } else {
            names.join(", ")
        }
    };
    if wanted.contains(['.', '/']) {
        let path: NodePath = wanted.parse()?;
        if nodes.iter().any(|node| node.node == path) {
            return Ok(path);
        }
        bail!("no node `{wanted}` in Redis; it knows: {}", known());
    }
    let found: Vec<&NodePath> = nodes
        .iter()
        .map(|node| &node.node)
        .filter(|path| path.node.as_str() == wanted)
        .collect();
    match found[..] {
        [path] => Ok(path.clone()),
        [] => bail!("no node `{wanted}` in Redis; it knows: {}", known()),
        _ => bail!("several sites have a node `{wanted}`: write it as <site>.{wanted}"),
    }
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

async fn show_series(
    args: &HistoryArgs,
    reader: &Reader,
    node: &NodePath,
    wanted: &str,
    stretch: Stretch,
    zone: &TimeZone,
) -> anyhow::Result<()> {
    let known = reader.series(node).await?;
    let (series, field) = split(wanted, &known).with_context(|| {
        format!("{node} has no series `{wanted}`; `hostbus history {node}` lists them")
    })?;
    let mut scan = reader.scan(node, series, stretch.from_ms, stretch.until_ms);
    let (mut rows, mut malformed) = (Vec::new(), 0);
    while let Some(page) = scan.next_page().await? {
        rows.extend(page.rows.into_iter().map(|row| (row.at_ms, row.values)));
        malformed += page.malformed;
    }
    let fields = scan.fields().to_vec();
    // A field that began later is unknown before.
    rows.iter_mut()
        .for_each(|(_, values)| values.resize(fields.len(), None));
    let mut table = Table { fields, rows };
    if malformed > 0 {
        tracing::warn!(
            malformed,
            series,
            "rows in Redis that can't be read were left out"
        );
    }
    if let Some(field) = field
        && !table.rows.is_empty()
    {
        table = table.only(field).with_context(|| {
            format!(
                "{series} has no field `{field}`; it has: {}",
                table.fields.join(", ")
            )
        })?;
    }
    print(args, &table, zone)
}

/// Series and field of `cpu.usage_percent`, `filesystem:/mnt/a.b` or `filesystem:/.used_percent`.
fn split<'w>(wanted: &'w str, known: &[String]) -> Option<(&'w str, Option<&'w str>)> {
    let is_known = |series: &str| known.iter().any(|name| name == series);
    if is_known(wanted) {
        return Some((wanted, None));
    }
    let (series, field) = wanted.rsplit_once('.')?;
    is_known(series).then_some((series, Some(field)))
}

fn print(args: &HistoryArgs, table: &Table, zone: &TimeZone) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    if args.json {
        writeln!(out, "{}", table.json())?;
    } else if args.csv {
        table.csv(&mut out)?;
    } else if table.rows.is_empty() {
        writeln!(out, "no rows since {}", args.since)?;
    } else {
        if table.fields.len() == 1 && std::io::stdout().is_terminal() {
            writeln!(out, "{}", table.chart(zone))?;
        }
        write!(out, "{}", table.averaged(args.rows).text(zone))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_what_follows_the_last_dot_of_a_known_series() {
        let known: Vec<String> = ["cpu", "filesystem:/", "filesystem:/mnt/a.b"]
            .map(str::to_owned)
            .into();
        let check = |wanted: &str, expected: Option<(&str, Option<&str>)>| {
            assert_eq!(split(wanted, &known), expected, "{wanted}");
        };
        check("cpu", Some(("cpu", None)));
        check("cpu.load1", Some(("cpu", Some("load1"))));
        check(
            "filesystem:/.used_percent",
            Some(("filesystem:/", Some("used_percent"))),
        );
        check("filesystem:/mnt/a.b", Some(("filesystem:/mnt/a.b", None)));
        check(
            "filesystem:/mnt/a.b.used_bytes",
            Some(("filesystem:/mnt/a.b", Some("used_bytes"))),
        );
        check("gpu", None);
        check("gpu:0.x", None);
    }

    #[test]
    fn a_node_is_found_by_its_name_alone_when_only_one_site_has_it() {
        let node = |path: &str| NodeSummary {
            node: path.parse().unwrap(),
            seen_ms: 0,
            status: None,
            last: None,
        };
        let nodes = [node("home.a"), node("home.b"), node("lab.b")];
        assert_eq!(find("a", &nodes).unwrap().to_string(), "home.a");
        assert_eq!(find("lab.b", &nodes).unwrap().to_string(), "lab.b");
        assert!(
            find("b", &nodes)
                .unwrap_err()
                .to_string()
                .contains("<site>.b")
        );
        assert!(
            find("c", &nodes)
                .unwrap_err()
                .to_string()
                .contains("home.a, home.b, lab.b")
        );
        assert!(find("lab.a", &nodes).is_err());
    }
}
