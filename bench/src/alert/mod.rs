//! `alert`: from a sample on the bus that crosses a threshold to the webhook that is told, at an even rate
//! of samples through 100 rules, and what the notifier takes.
//!
//! | module | owns |
//! |---|---|
//! | [`settings`] | the notifier's settings and rules |
//! | [`samples`] | samples at an even pace, some of which cross the threshold |
//! | [`sink`] | the webhook |
//!
//! A notifier puts together what comes fast for one channel, so there are 100 channels, and none is told
//! of more than one crossing in 12.5 seconds.

mod samples;
mod settings;
mod sink;

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::figures;
use crate::parts::{self, Process};
use crate::publisher::footprint::cpu_time;
use samples::Samples;
use sink::Pending;

/// Samples a second of each phase.
const RATES: [u32; 2] = [1_000, 10_000];
/// How long a webhook is waited for after the last sample; what comes later counts as missing.
const LATE: Duration = Duration::from_secs(5);
/// How long the notifier may take until it is active.
const ACTIVE_WITHIN: Duration = Duration::from_secs(60);

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Nodes that send the samples, in turn.
    #[arg(long, default_value_t = 10_000)]
    nodes: usize,
    /// For how long at each rate, in seconds.
    #[arg(long, default_value_t = 120)]
    seconds: u64,
    /// Within a minute: 15 seconds instead of `--seconds`.
    #[arg(long)]
    quick: bool,
    /// Print the figures as JSON on the last line.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    ensure!(
        args.nodes >= settings::CHANNELS,
        "--nodes {}: expected {} at least",
        args.nodes,
        settings::CHANNELS
    );
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let figures = runtime.block_on(measure(args))?;
    figures::print(&figures, ROWS, args.json)
}

const ROWS: &[figures::Row<'_>] = &[
    ("rules", "/rules", 0),
    ("nodes", "/nodes", 0),
    ("samples/s", "/at_1000/samples_per_second", 0),
    ("  crossings told", "/at_1000/told", 0),
    ("  crossings not told", "/at_1000/missing", 0),
    ("  ms until half were told", "/at_1000/latency_ms/p50", 1),
    ("  ms until 99 % were told", "/at_1000/latency_ms/p99", 1),
    (
        "  ms until the last was told",
        "/at_1000/latency_ms/most",
        1,
    ),
    (
        "  CPU seconds a million samples, notifier",
        "/at_1000/cpu_seconds_per_million",
        2,
    ),
    ("  resident bytes, notifier", "/at_1000/resident_bytes", 0),
    ("samples/s", "/at_10000/samples_per_second", 0),
    ("  crossings told", "/at_10000/told", 0),
    ("  crossings not told", "/at_10000/missing", 0),
    ("  ms until half were told", "/at_10000/latency_ms/p50", 1),
    ("  ms until 99 % were told", "/at_10000/latency_ms/p99", 1),
    (
        "  ms until the last was told",
        "/at_10000/latency_ms/most",
        1,
    ),
    (
        "  CPU seconds a million samples, notifier",
        "/at_10000/cpu_seconds_per_million",
        2,
    ),
    ("  resident bytes, notifier", "/at_10000/resident_bytes", 0),
];

async fn measure(args: &Args) -> anyhow::Result<Value> {
    let folder = tempfile::tempdir().context("failed to make a temporary folder")?;
    let pending = Arc::new(Mutex::new(Pending::default()));
    let url = sink::start(Arc::clone(&pending)).await?;
    let (_broker, address) = broker(folder.path())?;
    let settings = settings::write(folder.path(), &url, args.nodes)?;
    let settings = settings.to_str().context("a folder that is no text")?;
    let ready = folder.path().join("notifier.json");
    let bus = format!("mqtt://{address}");
    let notifier = Process::start(&["notifier", &bus, settings], &ready)?;

    let mut samples = Samples::connect(&address, args.nodes).await?;
    let begun = Instant::now();
    // Until it is active nobody is told; each try clears what the one before has raised.
    while sink::of(&pending).told.is_empty() {
        ensure!(
            begun.elapsed() < ACTIVE_WITHIN,
            "nobody was told within {} s",
            ACTIVE_WITHIN.as_secs()
        );
        samples.probe(&pending).await?;
        sleep(Duration::from_millis(500)).await;
    }
    // All nodes are known before anything is measured.
    samples.round(RATES[0] * 5).await?;
    sleep(Duration::from_secs(2)).await;

    let mut figures = json!({"rules": settings::RULES, "nodes": args.nodes});
    for rate in RATES {
        *sink::of(&pending) = Pending::default();
        let process = notifier.id();
        let (cpu, begun) = (cpu_time(process)?, Instant::now());
        let length = Duration::from_secs(if args.quick { 15 } else { args.seconds });
        let sent = samples.send(rate, length, &pending).await?;
        let seconds = begun.elapsed().as_secs_f64();
        wait_for_the_last(&pending).await;
        let cpu_seconds = (cpu_time(process)?.saturating_sub(cpu)).as_secs_f64();
        let pending = sink::of(&pending);
        ensure!(
            !pending.told.is_empty(),
            "nobody was told at {rate} samples/s"
        );
        figures[format!("at_{rate}")] = json!({
            "samples": sent,
            "samples_per_second": sent as f64 / seconds,
            "seconds": seconds,
            "told": pending.told.len(),
            "missing": pending.crossed.len(),
            "latency_ms": pending.latency(),
            "cpu_seconds_per_million": cpu_seconds / sent as f64 * 1e6,
            "resident_bytes": parts::resident_bytes(process)?,
        });
    }
    Ok(figures)
}

fn broker(folder: &Path) -> anyhow::Result<(Process, String)> {
    let ready = folder.join("broker.json");
    let broker = Process::start(&["broker"], &ready)?;
    let address: Value = serde_json::from_slice(&std::fs::read(&ready)?)?;
    let address = address["mqtt"].as_str();
    let address = address.context("no address of the broker")?.to_owned();
    Ok((broker, address))
}

async fn wait_for_the_last(pending: &Mutex<Pending>) {
    let begun = Instant::now();
    while begun.elapsed() < LATE && !sink::of(pending).crossed.is_empty() {
        sleep(Duration::from_millis(50)).await;
    }
}
