//! `store`: one writer against Redis alone, and what a node takes at the default retention.
//!
//! Three servers in turn take the same rows: with the default retention, without rollups, and with
//! one so short that streams are trimmed; the differences are what rollups and trimming cost. A
//! fourth holds one node whose past the writer and the keeper have made.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;

use anyhow::{Context, ensure};
use hostbus_daemon::clock;
use hostbus_store::keys::NodeKeys;
use hostbus_store::{
    Appender, Entry, Kept, Mark, PrivateServer, Reader, Retention, Step, StoreConfig, Tier,
};
use hostbus_wire::{NodePath, Sample};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::figures;
use crate::load::{self, POINTS};
use crate::meter::{Cost, Meter};
use crate::past::{DAY_MS, Days, EVERY_MS, HOUR_MS, Past, series};
use crate::server::Server;

/// Samples written at once, as the ingester's batches.
const BATCH: usize = 1_000;
/// Batches between two marks: some 200 ms, as in the ingester.
const BATCHES_A_MARK: u64 = 5;
/// Different samples.
const VARIANTS: u64 = 256;
/// The most series of a node.
const MOST_SERIES: usize = 100;
/// How long rows are kept where streams are trimmed: a third of what is written.
const SHORT_SECONDS: u64 = 3_600;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How many simulated nodes.
    #[arg(long, default_value_t = 200)]
    nodes: u32,
    /// How many samples of each: 1,080 are three hours.
    #[arg(long, default_value_t = 1_080)]
    samples: u64,
    /// How many days of the node with a past have a sample every ten seconds, 1 to 399.
    #[arg(long, default_value_t = 31)]
    days: u64,
    /// Within a minute: 20 nodes, and a past of 35 days, two of them such.
    #[arg(long)]
    quick: bool,
    /// Print the figures as JSON on the last line.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    // One thread: writer and Redis have a core each.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let figures = runtime.block_on(measure(args))?;
    let mut out = std::io::stdout();
    if let Some(keys) = figures["node"]["bytes"].as_object() {
        writeln!(out, "{:<24} {:>14}", "a node's keys", "bytes")?;
        for (what, bytes) in keys {
            writeln!(out, "{what:<24} {bytes:>14}")?;
        }
    }
    figures::print(&figures, ROWS, args.json)
}

const ROWS: &[figures::Row<'_>] = &[
    ("points per second of one writer", "/points_per_second", 0),
    (
        "CPU seconds a million points, writer",
        "/cpu_seconds_per_million_points/writer",
        3,
    ),
    (
        "CPU seconds a million points, Redis",
        "/cpu_seconds_per_million_points/redis",
        3,
    ),
    ("of these rollups, writer", "/rollups/writer", 3),
    ("of these rollups, Redis", "/rollups/redis", 3),
    (
        "trimming, Redis: CPU seconds a million points",
        "/trimming/redis",
        3,
    ),
    (
        "bytes a raw point in streams, of noise",
        "/stream_bytes_per_point_of_noise",
        2,
    ),
    (
        "bytes a raw point in streams",
        "/node/stream_bytes_per_point",
        2,
    ),
    (
        "bytes a raw point packed",
        "/node/packed_bytes_per_point",
        2,
    ),
    ("bytes of a node", "/node/all_bytes", 0),
    ("days of it at ten seconds", "/node/days", 0),
    (
        "keeper: its CPU seconds a million points",
        "/node/keeper/own_cpu_seconds",
        3,
    ),
    (
        "keeper: Redis' CPU seconds a million points",
        "/node/keeper/redis_cpu_seconds",
        3,
    ),
    ("late rows merged", "/node/late_rows", 0),
    (
        "seconds to merge 1,000 of them",
        "/node/late_merge/seconds",
        3,
    ),
    (
        "their CPU seconds, keeper",
        "/node/late_merge/own_cpu_seconds",
        3,
    ),
    (
        "their CPU seconds, Redis",
        "/node/late_merge/redis_cpu_seconds",
        3,
    ),
];

async fn measure(args: &Args) -> anyhow::Result<Value> {
    let (nodes, days) = if args.quick {
        (20, Days::quick())
    } else {
        (args.nodes, Days::whole(args.days)?)
    };
    let whole = write(Retention::default(), nodes, args.samples).await?;
    let rollups_off = Retention {
        minute: Kept {
            seconds: 0,
            stream_seconds: None,
        },
        ..Retention::default()
    };
    let raw_only = write(rollups_off, nodes, args.samples).await?;
    let short = Retention {
        raw: Kept {
            seconds: SHORT_SECONDS,
            stream_seconds: None,
        },
        ..Retention::default()
    };
    let trimmed = write(short, nodes, args.samples).await?;
    let node = node(days).await?;
    let million = |written: &Written| written.points as f64 / 1e6;
    let writer = |written: &Written| written.cost.own_cpu / million(written);
    let redis = |written: &Written| written.cost.redis_cpu / million(written);
    Ok(json!({
        "points": whole.points,
        "points_per_second": whole.points as f64 / whole.cost.seconds,
        "cpu_seconds_per_million_points": {"writer": writer(&whole), "redis": redis(&whole)},
        "stream_bytes_per_point_of_noise": whole.stream_bytes as f64 / whole.points as f64,
        "rollups": {
            "writer": writer(&whole) - writer(&raw_only),
            "redis": redis(&whole) - redis(&raw_only),
        },
        "trimming": {
            "writer": writer(&trimmed) - writer(&whole),
            "redis": redis(&trimmed) - redis(&whole),
        },
        "node": node,
    }))
}

/// A server of its own for one part of the measurement.
pub(crate) struct Fresh {
    pub(crate) server: Server,
    pub(crate) store: StoreConfig,
    redis: PrivateServer,
    _folder: TempDir,
}

impl Fresh {
    pub(crate) async fn start(retention: Retention) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir().context("failed to make a temporary folder")?;
        let redis = PrivateServer::start(folder.path()).await?;
        Ok(Self {
            server: Server::open(&redis.url()).await?,
            store: StoreConfig {
                url: Some(redis.url()),
                retention,
                ..StoreConfig::default()
            },
            redis,
            _folder: folder,
        })
    }

    pub(crate) async fn stop(self) {
        drop(self.server);
        self.redis.stop().await;
    }
}

struct Written {
    points: u64,
    cost: Cost,
    stream_bytes: u64,
}

/// Has one writer write `samples` of each of `nodes`, node after node within a time, as they come
/// from the bus. The time of the samples is the writer's clock.
async fn write(retention: Retention, nodes: u32, samples: u64) -> anyhow::Result<Written> {
    let mut fresh = Fresh::start(retention).await?;
    let mut appender = Appender::open(&fresh.store, MOST_SERIES)?;
    let variants: Vec<Sample> = (1..=VARIANTS).map(load::sample).collect();
    let paths: Vec<Arc<NodePath>> = (0..nodes)
        .map(|number| Ok(Arc::new(format!("bench.n{number}").parse()?)))
        .collect::<anyhow::Result<_>>()?;
    let first_ms = clock::unix_ms() - samples * EVERY_MS;
    let mut cost = Cost::default();
    let mut entries = Vec::with_capacity(BATCH);
    let (mut batches, mut stored) = (0, 0);
    for seq in 1..=samples {
        let at_ms = first_ms + seq * EVERY_MS;
        for (number, node) in paths.iter().enumerate() {
            entries.push(entry(
                node,
                at_ms,
                seq,
                &variants[(number + seq as usize) % variants.len()],
            ));
            let last = seq == samples && number + 1 == paths.len();
            if entries.len() < BATCH && !last {
                continue;
            }
            batches += 1;
            let meter = Meter::begin(&fresh.server)?;
            stored += appender.append(&mut entries, at_ms).await?.samples;
            if last || batches % BATCHES_A_MARK == 0 {
                appender.commit(at_ms).await?;
            }
            cost.add(meter.end(&fresh.server)?);
        }
    }
    let made = samples * u64::from(nodes);
    ensure!(
        stored == made,
        "{made} samples were written, {stored} stored"
    );
    let names = series(&variants[0]);
    let streams: Vec<String> = paths
        .iter()
        .flat_map(|path| {
            let keys = NodeKeys::new(path);
            names.iter().map(move |(name, _)| keys.raw(name))
        })
        .collect();
    let stream_bytes = fresh.server.memory_usage(&streams).await?;
    fresh.stop().await;
    Ok(Written {
        points: made * POINTS as u64,
        cost,
        stream_bytes,
    })
}

fn entry(node: &Arc<NodePath>, at_ms: u64, seq: u64, sample: &Sample) -> Entry {
    let mark = |seq| Mark { boot: 1, seq };
    Entry {
        node: Arc::clone(node),
        at_ms,
        own_time: false,
        sample: sample.clone(),
        step: Some(Step {
            after: (seq > 1).then(|| mark(seq - 1)),
            mark: mark(seq),
        }),
    }
}

/// One node at the default retention: what it takes, and what keeping it so costs.
async fn node(days: Days) -> anyhow::Result<Value> {
    let mut fresh = Fresh::start(days.retention()).await?;
    let now_ms = clock::unix_ms();
    let mut past = Past::make(&fresh.store, &fresh.server, days, now_ms).await?;

    let mut bytes: BTreeMap<String, u64> = BTreeMap::new();
    for key in fresh.server.keys().await? {
        let part = part_of(&key).to_owned();
        *bytes.entry(part).or_default() += fresh.server.memory_usage(&[key]).await?;
    }
    let (mut stream_points, mut all_points) = (0, 0);
    let reader = Reader::open(&fresh.store)?;
    let keys = NodeKeys::new(&past.node);
    for (name, points) in &past.series {
        stream_points += points * fresh.server.rows(&[keys.raw(name)]).await?;
        let mut scan = reader.scan(&past.node, name, 0, u64::MAX / 2);
        while let Some(page) = scan.next_frame().await? {
            all_points += points * page.frame.len() as u64;
        }
    }
    let per_point =
        |part: &str, points: u64| bytes.get(part).map(|bytes| *bytes as f64 / points as f64);

    // Two days of which every hundredth moment has a second sample.
    let from_ms = now_ms - days.dense.min(2) * DAY_MS + HOUR_MS;
    let times: Vec<u64> = (from_ms..now_ms - HOUR_MS)
        .step_by(100 * EVERY_MS as usize)
        .map(|at_ms| at_ms + EVERY_MS / 2)
        .collect();
    let late_rows = past.write_late(&times, now_ms).await?;
    // They are merged when no more come.
    past.tend(now_ms).await?;
    let meter = Meter::begin(&fresh.server)?;
    past.tend(now_ms + 60_000).await?;
    let merging = meter.end(&fresh.server)?;

    let written = (past.dense_samples * POINTS as u64) as f64 / 1e6;
    let figures = json!({
        "days": days.dense,
        "all_bytes": bytes.values().sum::<u64>(),
        "stream_bytes_per_point": per_point(Tier::Raw.name(), stream_points),
        "packed_bytes_per_point": per_point("packed raw", all_points - stream_points),
        "points_in_streams": stream_points,
        "points_packed": all_points - stream_points,
        "bytes": bytes,
        "writer": past.writing.each(written),
        "keeper": past.keeping.each(written),
        "late_rows": late_rows,
        "late_merge": merging.each(late_rows as f64 / 1_000.0),
    });
    fresh.stop().await;
    Ok(figures)
}

/// Which part of a node a key is: a tier, packed or not, or all the rest.
fn part_of(key: &str) -> String {
    let parts: Vec<&str> = key
        .split_once("}:")
        .map_or("", |(_, rest)| rest)
        .splitn(3, ':')
        .collect();
    let is_tier = |name: &str| Tier::ALL.iter().any(|tier| tier.name() == name);
    match parts[..] {
        ["packed", tier, _] => format!("packed {tier}"),
        [tier, ..] if is_tier(tier) => tier.to_owned(),
        _ => "other".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_belongs_to_a_part() {
        for (key, part) in [
            ("hb:{a.b}:raw:filesystem:/", "raw"),
            ("hb:{a.b}:1m:cpu", "1m"),
            ("hb:{a.b}:packed:10m:network:eth0", "packed 10m"),
            ("hb:{a.b}:info", "other"),
            ("hb:nodes", "other"),
        ] {
            assert_eq!(part_of(key), part, "{key}");
        }
    }
}
