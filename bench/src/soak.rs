//! `soak`: an even load for long with a short retention: whether the memory of ingester and Redis
//! stays as it is once the retention is reached.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::ensure;
use hostbus_daemon::clock;
use serde_json::{Value, json};
use tokio::time::{Instant, interval};

use crate::figures;
use crate::load::{POINTS, Variants};
use crate::paced::{self, Plan, Tally};
use crate::system::{Look, System};

/// Memory that grows by less than this share an hour is flat.
const FLAT_PERCENT: f64 = 2.0;
/// How many looks a verdict needs.
const LOOKS: usize = 10;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Points a second of all nodes.
    #[arg(long, default_value_t = 150_000)]
    points: u32,
    /// How many simulated nodes.
    #[arg(long, default_value_t = 1_000)]
    nodes: u32,
    /// For how long, in seconds.
    #[arg(long, default_value_t = 3600)]
    seconds: u64,
    /// How long rows of each tier are kept, in seconds; 60 at least. From 120 on minutes are kept, too: each
    /// series then fills a node of its stream, for 80 minutes, before the first of them goes.
    #[arg(long, default_value_t = 60)]
    keep: u64,
    /// How often the parts are looked at, in seconds.
    #[arg(long, default_value_t = 60)]
    every: u64,
    /// Within a minute; too short for a verdict.
    #[arg(long)]
    quick: bool,
    /// Print the figures as JSON on the last line.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    ensure!(args.keep >= 60, "--keep {}: expected 60 or more", args.keep);
    ensure!(args.every >= 1, "--every 0: expected 1 or more");
    ensure!(
        args.points >= 1 && args.nodes >= 1,
        "--points and --nodes: expected 1 or more"
    );
    // One thread: the generator shares the machine with what it measures.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let figures = runtime.block_on(measure(args))?;
    // The figures end with their JSON.
    writeln!(std::io::stdout(), "{}", verdict(&figures))?;
    figures::print(&figures, ROWS, args.json)
}

const ROWS: &[figures::Row<'_>] = &[
    ("seconds", "/seconds", 1),
    ("samples stored", "/samples", 0),
    ("points per second", "/points_per_second", 0),
    ("ms from sample to mark, 99 % within", "/late_ms/p99", 0),
    ("ms from sample to mark, the latest", "/late_ms/most", 0),
    ("percent of a core, ingester", "/cpu_percent/ingester", 1),
    ("percent of a core, Redis", "/cpu_percent/redis", 1),
    ("resident bytes, ingester", "/resident_bytes/ingester", 0),
    ("bytes used, Redis", "/resident_bytes/redis_used", 0),
    ("% an hour, ingester", "/percent_an_hour/ingester", 2),
    ("% an hour, Redis", "/percent_an_hour/redis", 2),
];

async fn measure(args: &Args) -> anyhow::Result<Value> {
    let (seconds, every) = if args.quick {
        (30, 2)
    } else {
        (args.seconds, args.every)
    };
    let mut system = System::start(Some(args.keep)).await?;
    let samples_per_second = f64::from(args.points) / POINTS as f64;
    let plan = Arc::new(Plan {
        address: system.address.clone(),
        variants: Variants::new(256)?,
        interval: Duration::from_secs_f64(f64::from(args.nodes) / samples_per_second),
        boot: clock::unix_ms() / 1000,
        tally: Tally::default(),
    });
    let publishers = paced::connect(&plan, args.nodes).await?;
    let before = system.look().await?;
    let begun = Instant::now();
    let mut running = paced::start(&plan, publishers, begun + Duration::from_secs(seconds));
    let mut out = std::io::stdout();
    writeln!(
        out,
        "{:>8} {:>12} {:>10} {:>15} {:>15}",
        "seconds", "stored", "latest ms", "ingester, MiB", "Redis, MiB"
    )?;
    let mut looks = Vec::new();
    let mut clock = interval(Duration::from_secs(every));
    clock.tick().await;
    loop {
        tokio::select! {
            joined = running.join_next() => match joined {
                Some(done) => done??,
                None => break,
            },
            _ = clock.tick() => {
                let look = system.look().await?;
                let at = begun.elapsed().as_secs_f64();
                let mib = |bytes: u64| bytes as f64 / 1_048_576.0;
                writeln!(
                    out,
                    "{at:>8.0} {:>12} {:>10} {:>15.2} {:>15.2}",
                    plan.tally.committed.load(Ordering::Relaxed),
                    plan.tally.worst_ms_since(),
                    mib(look.ingester.resident_bytes),
                    mib(look.redis_used_bytes)
                )?;
                looks.push((at, look));
            }
        }
    }
    let took = begun.elapsed().as_secs_f64();
    let after = system.look().await?;
    // Trimming comes in steps: the retention is reached for all when it has passed twice.
    let settled = 2.0 * args.keep as f64;
    looks.retain(|(at, _)| *at >= settled);
    let stored = plan.tally.committed.load(Ordering::Relaxed);
    let figures = json!({
        "nodes": args.nodes,
        "keep_seconds": args.keep,
        "seconds": took,
        "samples": stored,
        "points_per_second": stored as f64 * POINTS as f64 / took,
        "late_ms": {"p99": plan.tally.late_ms(0.99), "most": plan.tally.late_ms(1.0)},
        "cpu_percent": after.cpu_percent(&before, took),
        "resident_bytes": after.memory(),
        "looks_once_settled": looks.len(),
        "percent_an_hour": {
            "ingester": percent_an_hour(&looks, |look| look.ingester.resident_bytes),
            "redis": percent_an_hour(&looks, |look| look.redis_used_bytes),
        },
    });
    system.stop().await;
    Ok(figures)
}

fn percent_an_hour(looks: &[(f64, Look)], bytes: impl Fn(&Look) -> u64) -> Option<f64> {
    let points: Vec<(f64, f64)> = looks
        .iter()
        .map(|(at, look)| (*at, bytes(look) as f64))
        .collect();
    growth(&points).filter(|_| points.len() >= LOOKS)
}

/// How much the values grow in an hour by the straight line that fits them best, in percent of
/// their mean. `None` when no line does.
fn growth(points: &[(f64, f64)]) -> Option<f64> {
    let count = points.len() as f64;
    let mean = |value: fn(&(f64, f64)) -> f64| points.iter().map(value).sum::<f64>() / count;
    let (at, height) = (mean(|point| point.0), mean(|point| point.1));
    let spread: f64 = points.iter().map(|(x, _)| (x - at).powi(2)).sum();
    let together: f64 = points.iter().map(|(x, y)| (x - at) * (y - height)).sum();
    let slope = together / spread;
    let percent = slope * 3600.0 / height * 100.0;
    percent.is_finite().then_some(percent)
}

fn verdict(figures: &Value) -> String {
    let mut words = Vec::new();
    for part in ["ingester", "redis"] {
        let growth = figures["percent_an_hour"][part].as_f64();
        words.push(match growth {
            None => format!("{part}: too short for a verdict"),
            Some(growth) if growth <= FLAT_PERCENT => format!("{part}: flat"),
            Some(growth) => format!("{part}: grows by {growth:.1} % an hour"),
        });
    }
    words.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_is_the_slope_of_the_line_that_fits_best() {
        let line = |a: f64, b: f64| -> Vec<(f64, f64)> {
            (0..60)
                .map(|minute| f64::from(minute) * 60.0)
                .map(|at| (at, a + b * at))
                .collect()
        };
        assert!(growth(&line(100.0, 0.0)).unwrap().abs() < 1e-9);
        // From 100 to 200 in an hour, around a mean of 149.2.
        let percent = growth(&line(100.0, 100.0 / 3600.0)).unwrap();
        assert!((percent - 67.0).abs() < 0.1, "{percent}");
        assert_eq!(growth(&[(1.0, 5.0)]), None);
        assert_eq!(growth(&[]), None);
    }

    #[test]
    fn the_verdict_names_what_grows() {
        let figures = |ingester: Option<f64>, redis: Option<f64>| {
            verdict(&json!({"percent_an_hour": {"ingester": ingester, "redis": redis}}))
        };
        assert_eq!(
            figures(Some(-3.0), Some(1.9)),
            "ingester: flat, redis: flat"
        );
        assert_eq!(
            figures(None, Some(7.0)),
            "ingester: too short for a verdict, redis: grows by 7.0 % an hour"
        );
    }
}
