//! `pipeline`: simulated nodes over MQTT into Redis with its append-only file on, and what each part
//! costs.
//!
//! Generator, broker, ingester and Redis share the machine. Every node keeps the outbox rules, so
//! the pace is the pipeline's own: what is counted is committed. At the end every row is counted in
//! Redis, and a missing one fails the measurement.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, ensure};
use hostbus_daemon::clock;
use hostbus_store::{Connection, Facts, PrivateServer, Reader, StoreConfig};
use hostbus_wire::NodePath;
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::load::{POINTS, Variants};
use crate::node::{self, Counts, Plan};
use crate::parts::{self, Process};
use crate::peer::{self, Peer};

/// What is on its way at a time stays below what the broker keeps for a slow subscriber: it drops the
/// rest, and the pace would be that of sending again.
const ON_THEIR_WAY: u64 = 12_800;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How many simulated nodes.
    #[arg(long, default_value_t = 200)]
    nodes: u32,
    /// For how long new samples are made, in seconds.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// How many samples of a node may be on their way; absent: as many as make 12,800 of all nodes.
    #[arg(long)]
    window: Option<u64>,
    /// Beside whom, under the same load.
    #[arg(long, value_enum, default_value_t = Peer::Collectd)]
    peer: Peer,
    /// Ten seconds instead of `--seconds`.
    #[arg(long)]
    quick: bool,
    /// Print the figures as JSON on the last line.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    // One thread: the generator shares the machine with what it measures.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut figures = measure(args).await?;
        compare(args, &mut figures).await?;
        print(&figures, args.json)
    })
}

impl Args {
    fn seconds(&self) -> u64 {
        if self.quick { 10 } else { self.seconds }
    }
}

async fn measure(args: &Args) -> anyhow::Result<serde_json::Value> {
    let folder = tempfile::tempdir().context("failed to make a temporary folder")?;
    let redis_folder = folder.path().join("redis");
    let server = PrivateServer::start(&redis_folder).await?;
    let broker_ready = folder.path().join("broker.json");
    let broker = Process::start(&["broker"], &broker_ready)?;
    let address: serde_json::Value = serde_json::from_slice(&std::fs::read(&broker_ready)?)?;
    let address = address["mqtt"]
        .as_str()
        .context("no address of the broker")?
        .to_owned();
    let bus = format!("mqtt://{address}");
    let ingester_ready = folder.path().join("ingester.json");
    let ingester = Process::start(&["ingester", &bus, &server.url()], &ingester_ready)?;
    let store = StoreConfig {
        url: Some(server.url()),
        ..StoreConfig::default()
    };
    let connection = Connection::open(&store)?;
    let redis = Facts::ask(&connection).await?;

    let window = (ON_THEIR_WAY / u64::from(args.nodes.max(1))).max(4);
    let begun = Instant::now();
    let now_ms = clock::unix_ms();
    let plan = Arc::new(Plan {
        address,
        variants: Variants::new(256)?,
        window: args.window.unwrap_or(window),
        boot: now_ms / 1000,
        first_ts: first_ts(now_ms),
        until: begun + Duration::from_secs(args.seconds()),
        counts: Counts::default(),
    });
    let before = Cpu::read(&broker, &ingester, redis.process)?;
    let mut nodes = JoinSet::new();
    let mut paths = Vec::new();
    for number in 0..args.nodes {
        let path: NodePath = format!("bench.n{number}").parse()?;
        paths.push(path.clone());
        nodes.spawn(node::run(Arc::clone(&plan), path));
    }
    let mut made = 0;
    while let Some(node) = nodes.join_next().await {
        made += node??;
    }
    let elapsed = begun.elapsed().as_secs_f64();
    let used = Cpu::read(&broker, &ingester, redis.process)?.since(&before);
    let committed = plan.counts.committed.load(Ordering::Relaxed);
    ensure!(
        made == committed,
        "{made} samples were made, {committed} committed"
    );

    let after = Facts::ask(&connection).await?;
    let rows = count_rows(&Reader::open(&store)?, &paths).await?;
    ensure!(
        rows == made,
        "{made} samples were committed, but Redis has {rows} rows of cpu"
    );
    let sent = plan.counts.sent.load(Ordering::Relaxed);
    let payload = plan.counts.bytes.load(Ordering::Relaxed);

    #[expect(clippy::cast_precision_loss, reason = "figures for people")]
    let figures = {
        let points = (made * POINTS as u64) as f64;
        let millions = points / 1e6;
        json!({
            "nodes": args.nodes,
            "seconds": elapsed,
            "samples": made,
            "points": points,
            "points_per_second": points / elapsed,
            "samples_sent_again": sent - made,
            "rewinds": plan.counts.rewinds.load(Ordering::Relaxed),
            "payload_bytes_per_sample": payload as f64 / sent as f64,
            "cpu_seconds_per_million_points": {
                "generator": used.generator / millions,
                "broker": used.broker / millions,
                "ingester": used.ingester / millions,
                "redis": used.redis / millions,
            },
            "redis_bytes_per_point": (after.used_memory_bytes - redis.used_memory_bytes) as f64 / points,
            "append_only_bytes_per_point": parts::folder_bytes(&redis_folder)? as f64 / points,
            "resident_bytes": {
                "broker": parts::resident_bytes(broker.id())?,
                "ingester": parts::resident_bytes(ingester.id())?,
            },
        })
    };
    drop(ingester);
    drop(broker);
    server.stop().await;
    Ok(figures)
}

/// The peer's figures and the ratios, beside ours.
async fn compare(args: &Args, figures: &mut serde_json::Value) -> anyhow::Result<()> {
    if args.peer == Peer::None {
        return Ok(());
    }
    let peer = match peer::Installed::find() {
        Ok(peer) => peer,
        Err(absent) => {
            writeln!(std::io::stdout(), "no peer beside: {absent}")?;
            return Ok(());
        }
    };
    let load = peer::Load {
        nodes: args.nodes,
        seconds: args.seconds(),
        first_ts: first_ts(clock::unix_ms()),
    };
    let beside = match peer.measure(load).await {
        Ok(beside) => beside,
        // What was measured of ours stands.
        Err(error) => {
            writeln!(std::io::stdout(), "no figures of the peer: {error:#}")?;
            return Ok(());
        }
    };
    figures["ratio"] = peer::ratios(figures, &beside)?;
    figures["peer"] = beside;
    Ok(())
}

/// The time of the first sample: the nodes live in the past, and go through it faster than time.
fn first_ts(now_ms: u64) -> u64 {
    let kept_ms = parts::RETENTION.as_secs() * 1_000;
    now_ms.saturating_sub(kept_ms) + 3_600_000
}

/// CPU seconds used so far.
struct Cpu {
    generator: f64,
    broker: f64,
    ingester: f64,
    redis: f64,
}

impl Cpu {
    fn read(broker: &Process, ingester: &Process, redis: u32) -> anyhow::Result<Self> {
        Ok(Self {
            generator: parts::cpu_seconds(std::process::id())?,
            broker: parts::cpu_seconds(broker.id())?,
            ingester: parts::cpu_seconds(ingester.id())?,
            redis: parts::cpu_seconds(redis)?,
        })
    }

    fn since(&self, before: &Self) -> Self {
        Self {
            generator: self.generator - before.generator,
            broker: self.broker - before.broker,
            ingester: self.ingester - before.ingester,
            redis: self.redis - before.redis,
        }
    }
}

async fn count_rows(reader: &Reader, paths: &[NodePath]) -> anyhow::Result<u64> {
    let mut rows = 0;
    for path in paths {
        let mut scan = reader.scan(path, "cpu", 0, u64::MAX / 2);
        while let Some(page) = scan.next_page().await? {
            rows += page.rows.len() as u64;
        }
    }
    Ok(rows)
}

fn print(figures: &serde_json::Value, as_json: bool) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    let number = |pointer: &str| figures.pointer(pointer).and_then(serde_json::Value::as_f64);
    let mut row = |label: &str, pointer: &str, decimals: usize| -> anyhow::Result<()> {
        let value = number(pointer).with_context(|| format!("no figure {pointer}"))?;
        writeln!(out, "{label:<44} {value:>14.decimals$}")?;
        Ok(())
    };
    row("nodes", "/nodes", 0)?;
    row("seconds", "/seconds", 1)?;
    row("samples committed, each once", "/samples", 0)?;
    row("points per second into Redis", "/points_per_second", 0)?;
    row("samples sent again", "/samples_sent_again", 0)?;
    row("payload bytes a sample", "/payload_bytes_per_sample", 0)?;
    for part in ["generator", "broker", "ingester", "redis"] {
        let pointer = format!("/cpu_seconds_per_million_points/{part}");
        row(
            &format!("CPU seconds a million points, {part}"),
            &pointer,
            3,
        )?;
    }
    row("bytes a point in Redis", "/redis_bytes_per_point", 2)?;
    row(
        "bytes a point in the append-only file",
        "/append_only_bytes_per_point",
        2,
    )?;
    row("resident bytes, broker", "/resident_bytes/broker", 0)?;
    row("resident bytes, ingester", "/resident_bytes/ingester", 0)?;
    if figures.get("peer").is_some() {
        row("beside: points per second", "/peer/points_per_second", 0)?;
        for part in ["generator", "broker", "collectd", "redis"] {
            let pointer = format!("/peer/cpu_seconds_per_million_points/{part}");
            row(
                &format!("beside: CPU seconds a million, {part}"),
                &pointer,
                2,
            )?;
        }
        row(
            "beside: bytes a point in Redis",
            "/peer/redis_bytes_per_point",
            1,
        )?;
        row("beside: points lost", "/peer/points_lost", 0)?;
        row("beside: points a key", "/peer/points_per_key", 1)?;
        row("times its points per second", "/ratio/points_per_second", 1)?;
        row("times less CPU, generator apart", "/ratio/cpu_seconds", 1)?;
        row("times less memory a point", "/ratio/redis_bytes", 1)?;
    }
    if as_json {
        writeln!(out, "{figures}")?;
    }
    Ok(())
}
