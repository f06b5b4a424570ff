//! `evaluator`: samples a second of one core through a notifier's evaluator, and what it remembers of many
//! nodes.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use hostbus_notifier::evaluator::{Change, Evaluator, Options};
use hostbus_notifier::globs::Globs;
use hostbus_notifier::rule::{Aggregate, Fold, Level, Operator, Rule, Source, Watch};
use hostbus_wire::alert::AlertSeverity;
use hostbus_wire::sample::{Disk, Filesystem, Network, Rows, Sensor, all_fields};
use hostbus_wire::{Name, NodePath, Sample};
use nix::time::{ClockId, clock_gettime};
use serde_json::json;

use crate::figures::{self, figure};
use crate::load::{self, Variants};
use crate::parts;
use crate::windows;

/// Rules of the measurement.
const RULES: usize = 100;
/// Of which so many keep a window: averages, forecasts and rates.
const WINDOWS: usize = 10;
/// From sample to sample of one node.
const INTERVAL_MS: u64 = 10_000;
/// When it begins, by the nodes' clocks and ours.
const BEGIN_MS: u64 = 1_763_630_000_000;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print the figures as JSON on the last line.
    #[arg(long)]
    json: bool,
    /// End within a minute.
    #[arg(long)]
    quick: bool,
    /// Nodes that send samples of 60 points.
    #[arg(long, default_value_t = 1000)]
    nodes: u32,
    /// Nodes whose memory is measured, with 30 instances each.
    #[arg(long, default_value_t = 10_000)]
    remembered: u32,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let rounds: u64 = if args.quick { 120 } else { 600 };
    let mut figures = speed(args.nodes, rounds)?;
    let memory = memory(args.remembered, if args.quick { 20 } else { 70 })?;
    figures["memory"] = memory;
    let per_node = figure(&figures, "/memory/bytes")? / f64::from(args.remembered);
    figures["memory"]["bytes_per_node"] = json!(per_node);
    figures::print(
        &figures,
        &[
            ("rules", "/rules", 0),
            ("nodes", "/nodes", 0),
            ("points a sample", "/points", 0),
            (
                "samples/s of a core, decoded and judged",
                "/samples_per_second/with_decode",
                0,
            ),
            (
                "samples/s of a core, judged",
                "/samples_per_second/judged",
                0,
            ),
            ("microseconds to judge a sample", "/judge_microseconds", 2),
            (
                "CPU seconds a million samples, decoded and judged",
                "/cpu_seconds_per_million",
                2,
            ),
            (
                "changes of alerts a second of that",
                "/changes_per_second",
                0,
            ),
            ("nodes remembered, of 30 instances", "/memory/nodes", 0),
            ("resident bytes for them", "/memory/bytes", 0),
            ("resident bytes a node", "/memory/bytes_per_node", 0),
            ("bytes of what is kept of them", "/memory/kept/bytes", 0),
            (
                "seconds to write that, in slices",
                "/memory/kept/seconds",
                3,
            ),
            (
                "milliseconds of the longest slice",
                "/memory/kept/longest_milliseconds",
                3,
            ),
            (
                "seconds to take it back with the first samples",
                "/memory/kept/taken_seconds",
                3,
            ),
            ("seconds to take other rules", "/memory/revision_seconds", 3),
        ],
        args.json,
    )
}

/// Rules over all that the samples have: most look at a value as it is, some keep a window. A few thresholds
/// are crossed now and then.
fn rules() -> anyhow::Result<Vec<Arc<Rule>>> {
    let sections = ["cpu", "memory", "filesystem", "disk", "network", "sensor"];
    let fields: Vec<Source> = all_fields()
        .into_iter()
        .filter(|(section, _)| sections.contains(section))
        .map(|(section, field)| Source { section, field })
        .collect();
    let source = |name: &str| {
        let (section, field) = name.split_once('.').context("a name without section")?;
        let found = fields
            .iter()
            .find(|source| source.section == section && source.field.name == field);
        found.copied().with_context(|| format!("no field {name}"))
    };
    let mut rules = vec![
        rule("node-down", Watch::Down, Fold::Last, 0.5),
        rule("clock", Watch::ClockOffset, Fold::Last, 60.0),
        rule(
            "cpu-spike",
            Watch::Field(source("cpu.usage_percent")?),
            Fold::Last,
            99.9,
        ),
        rule(
            "disk-full",
            Watch::Field(source("filesystem.used_percent")?),
            Fold::Last,
            99.9,
        ),
    ];
    let window_ms = 300_000;
    let average = Fold::Aggregate {
        how: Aggregate::Average,
        window_ms,
    };
    let forecast = Fold::Forecast {
        ahead_ms: 86_400_000,
        window_ms: 6 * 3_600_000,
    };
    let windows = [
        ("cpu.usage_percent", average),
        ("cpu.iowait_percent", average),
        ("memory.used_percent", average),
        ("disk.busy_percent", average),
        ("network.rx_bytes_per_second", average),
        ("network.tx_bytes_per_second", average),
        ("filesystem.used_percent", forecast),
        ("filesystem.inodes_used_percent", forecast),
        ("memory.used_percent", forecast),
        ("memory.swap_used_bytes", Fold::Rate { window_ms }),
    ];
    anyhow::ensure!(windows.len() == WINDOWS, "{} windows", windows.len());
    for (number, (name, fold)) in windows.into_iter().enumerate() {
        rules.push(rule(
            &format!("window-{number}"),
            Watch::Field(source(name)?),
            fold,
            1e18,
        ));
    }
    for source in fields.iter().cycle() {
        if rules.len() == RULES {
            break;
        }
        let name = format!("plain-{}", rules.len());
        rules.push(rule(&name, Watch::Field(*source), Fold::Last, 1e18));
    }
    Ok(rules.into_iter().map(Arc::new).collect())
}

fn rule(name: &str, watch: Watch, fold: Fold, threshold: f64) -> Rule {
    let any = || Globs::new::<&str>(&[]);
    let level = |severity, threshold| Level {
        severity,
        operator: Operator::Above,
        threshold,
        clear: threshold * 0.95,
    };
    Rule {
        name: name.into(),
        watch,
        fold,
        nodes: any(),
        except_nodes: any(),
        groups: any(),
        instances: any(),
        except_instances: Globs::new(&["/snap/*", "loop*"]),
        levels: vec![
            level(AlertSeverity::Critical, threshold * 1.1),
            level(AlertSeverity::Warning, threshold),
        ],
        overrides: Vec::new(),
        for_ms: 0,
        keep_firing_ms: 0,
        summary: None,
        labels: Vec::new(),
    }
}

fn paths(count: u32) -> anyhow::Result<Vec<NodePath>> {
    (0..count)
        .map(|number| Ok(format!("home.node-{number}").parse()?))
        .collect()
}

fn evaluator() -> anyhow::Result<Evaluator> {
    let mut evaluator = Evaluator::new(Options::default());
    evaluator.calm(BEGIN_MS);
    evaluator.set_rules(rules()?, BEGIN_MS, &mut Vec::new());
    Ok(evaluator)
}

/// The CPU time of this thread: other load on the machine does not count.
fn cpu_seconds() -> anyhow::Result<f64> {
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?;
    Ok(Duration::from(time).as_secs_f64())
}

/// All nodes in turn, round after round, as a bus brings them.
fn speed(nodes: u32, rounds: u64) -> anyhow::Result<serde_json::Value> {
    let paths = paths(nodes)?;
    let variants = Variants::new(64)?;
    let mut changes: Vec<Change> = Vec::new();
    let (mut with_decode, mut judged) = (0.0, 0.0);
    let mut told = 0;
    let mut sample = Rows::default();
    for decode in [true, false] {
        let mut evaluator = evaluator()?;
        let mut spent = 0.0;
        for seq in 1..=rounds {
            let now_ms = BEGIN_MS + seq * INTERVAL_MS;
            let payloads: Vec<Vec<u8>> = (0..u64::from(nodes))
                .map(|node| {
                    let mut payload = Vec::new();
                    // Nodes differ from each other: each is at another variant.
                    let boot = BEGIN_MS / 1000 + node;
                    variants.write(&mut payload, now_ms, boot, seq, 1);
                    payload
                })
                .collect();
            let samples: Vec<Rows> = if decode {
                Vec::new()
            } else {
                payloads
                    .iter()
                    .map(|payload| Ok(Rows::from(&Sample::decode(payload)?)))
                    .collect::<anyhow::Result<_>>()?
            };
            changes.clear();
            let begin = cpu_seconds()?;
            if decode {
                for (path, payload) in paths.iter().zip(&payloads) {
                    sample.read(payload)?;
                    evaluator.sample(path, &sample, false, now_ms, &mut changes);
                }
            } else {
                for (path, sample) in paths.iter().zip(&samples) {
                    evaluator.sample(path, sample, false, now_ms, &mut changes);
                }
            }
            evaluator.tick(now_ms, &mut changes);
            spent += cpu_seconds()? - begin;
            if decode {
                told += black_box(&changes).len();
            }
        }
        *(if decode {
            &mut with_decode
        } else {
            &mut judged
        }) = spent;
    }
    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    let (samples, told) = ((rounds * u64::from(nodes)) as f64, told as f64);
    Ok(json!({
        "rules": RULES,
        "windows": WINDOWS,
        "nodes": nodes,
        "points": load::POINTS,
        "samples": samples,
        "samples_per_second": {"with_decode": samples / with_decode, "judged": samples / judged},
        "judge_microseconds": judged / samples * 1e6,
        "cpu_seconds_per_million": with_decode / samples * 1e6,
        "changes_per_second": told / with_decode,
    }))
}

/// A sample with 30 instances.
fn wide() -> anyhow::Result<Sample> {
    let name = |text: String| -> anyhow::Result<Name> { Ok(text.parse()?) };
    let mut sample = load::sample(1);
    sample.filesystems.clear();
    sample.disks.clear();
    sample.networks.clear();
    sample.sensors.clear();
    for number in 0..6 {
        let mut filesystem = Filesystem::new(name(format!("/srv/volume-{number}"))?, None, None);
        (filesystem.used_percent, filesystem.inodes_used_percent) = (Some(50.0), Some(5.0));
        sample.filesystems.push(filesystem);
        let mut disk = Disk::new(name(format!("nvme{number}n1"))?);
        (disk.busy_percent, disk.queue) = (Some(10.0), Some(0.1));
        sample.disks.push(disk);
    }
    for number in 0..8 {
        let mut network = Network::new(name(format!("eth{number}"))?);
        network.rx_bytes_per_second = Some(1000);
        network.tx_bytes_per_second = Some(1000);
        sample.networks.push(network);
    }
    for number in 0..10 {
        let mut sensor = Sensor::new(name(format!("coretemp/core-{number}"))?);
        sensor.celsius = Some(40.0);
        sample.sensors.push(sensor);
    }
    Ok(sample)
}

fn memory(nodes: u32, rounds: u64) -> anyhow::Result<serde_json::Value> {
    let paths = paths(nodes)?;
    let mut sample = wide()?;
    let before = parts::resident_bytes(std::process::id())?;
    let mut evaluator = evaluator()?;
    let mut changes = Vec::new();
    for seq in 1..=rounds {
        let now_ms = BEGIN_MS + seq * INTERVAL_MS;
        (sample.ts, sample.interval_ms) = (Some(now_ms), Some(10_000));
        (sample.boot, sample.seq, sample.first) = (Some(1), Some(seq), Some(1));
        let rows = Rows::from(&sample);
        for path in &paths {
            evaluator.sample(path, &rows, false, now_ms, &mut changes);
        }
        evaluator.tick(now_ms, &mut changes);
        changes.clear();
    }
    let bytes = parts::resident_bytes(std::process::id())?.saturating_sub(before);
    let now_ms = BEGIN_MS + rounds * INTERVAL_MS;
    let kept = windows::measure(&evaluator, rules()?, &paths, &Rows::from(&sample), now_ms)?;
    let begin = Instant::now();
    evaluator.set_rules(rules()?, BEGIN_MS + rounds * INTERVAL_MS, &mut changes);
    let revision_seconds = begin.elapsed().as_secs_f64();
    black_box(&evaluator);
    Ok(
        json!({"nodes": nodes, "bytes": bytes, "samples_a_node": rounds, "revision_seconds": revision_seconds, "kept": kept}),
    )
}
