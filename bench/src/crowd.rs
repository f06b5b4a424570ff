//! `crowd`: many publishers connected at once, each at its interval: memory and CPU of every part,
//! and how late the latest sample is.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::ensure;
use hostbus_daemon::clock;
use hostbus_store::keys::NodeKeys;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::broker::machine;
use crate::figures;
use crate::load::{POINTS, Variants};
use crate::paced::{self, Plan, Tally};
use crate::system::{Look, System};

/// What a sample may be late.
const WANTED_MS: usize = 2_000;
/// How often the parts are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// Files that a broker opens besides its connections, and more.
const OTHER_FILES: u64 = 200;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How many publishers.
    #[arg(long, default_value_t = 10_000)]
    publishers: u32,
    /// Seconds from sample to sample of each.
    #[arg(long, default_value_t = 10.0)]
    interval: f64,
    /// For how long, in seconds.
    #[arg(long, default_value_t = 600)]
    seconds: u64,
    /// Within a minute: 30 seconds instead of `--seconds`.
    #[arg(long)]
    quick: bool,
    /// Print the figures as JSON on the last line.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    ensure!(
        (0.01..=3600.0).contains(&args.interval),
        "--interval {}: expected 0.01 to 3600 seconds",
        args.interval
    );
    let open_files = machine::raise_open_files();
    ensure!(
        open_files > u64::from(args.publishers) + OTHER_FILES,
        "{} connections need a limit on open files above {open_files}: `ulimit -Hn`",
        args.publishers
    );
    // One thread: the generator shares the machine with what it measures.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let figures = runtime.block_on(measure(args))?;
    figures::print(&figures, ROWS, args.json)
}

const ROWS: &[figures::Row<'_>] = &[
    ("publishers", "/publishers", 0),
    ("seconds", "/seconds", 1),
    ("samples stored, each once", "/samples", 0),
    ("samples sent again", "/samples_sent_again", 0),
    ("points per second", "/points_per_second", 0),
    (
        "ms from sample to mark, half of them within",
        "/late_ms/p50",
        0,
    ),
    ("ms from sample to mark, 99 % within", "/late_ms/p99", 0),
    ("ms from sample to mark, the latest", "/late_ms/most", 0),
    (
        "samples later than two seconds",
        "/later_than_two_seconds",
        0,
    ),
    (
        "most resident bytes, broker",
        "/most_resident_bytes/broker",
        0,
    ),
    (
        "most resident bytes, ingester",
        "/most_resident_bytes/ingester",
        0,
    ),
    (
        "most resident bytes, both",
        "/most_resident_bytes/all_but_redis",
        0,
    ),
    (
        "most resident bytes, Redis",
        "/most_resident_bytes/redis",
        0,
    ),
    ("percent of a core, generator", "/cpu_percent/generator", 1),
    ("percent of a core, broker", "/cpu_percent/broker", 1),
    ("percent of a core, ingester", "/cpu_percent/ingester", 1),
    ("percent of a core, Redis", "/cpu_percent/redis", 1),
];

async fn measure(args: &Args) -> anyhow::Result<Value> {
    let mut system = System::start(None).await?;
    let alone = system.look().await?;
    let plan = Arc::new(Plan {
        address: system.address.clone(),
        variants: Variants::new(256)?,
        interval: Duration::from_secs_f64(args.interval),
        boot: clock::unix_ms() / 1000,
        tally: Tally::default(),
    });
    let publishers = paced::connect(&plan, args.publishers).await?;
    let before = system.look().await?;
    let begun = Instant::now();
    let until = begun + Duration::from_secs(if args.quick { 30 } else { args.seconds });
    let mut running = paced::start(&plan, publishers, until);
    let most = watch(&mut running, &plan.tally, &mut system).await?;
    let seconds = begun.elapsed().as_secs_f64();
    let after = system.look().await?;

    let tally = &plan.tally;
    let made = tally.made.load(Ordering::Relaxed);
    let mut keys = Vec::new();
    for number in 0..args.publishers {
        keys.push(NodeKeys::new(&paced::path(number)?).raw("cpu"));
    }
    let rows = system.server.rows(&keys).await?;
    ensure!(
        rows == made,
        "{made} samples were made, but Redis has {rows} rows of cpu"
    );
    let figures = json!({
        "publishers": args.publishers,
        "interval_seconds": args.interval,
        "seconds": seconds,
        "samples": made,
        "samples_sent_again": tally.sent_again.load(Ordering::Relaxed),
        "points_per_second": made as f64 * POINTS as f64 / seconds,
        "late_ms": {
            "p50": tally.late_ms(0.5),
            "p99": tally.late_ms(0.99),
            "p99.9": tally.late_ms(0.999),
            "most": tally.late_ms(1.0),
        },
        "later_than_two_seconds": tally.later_than(WANTED_MS),
        "resident_bytes_alone": alone.memory(),
        "resident_bytes_connected": before.memory(),
        "resident_bytes": after.memory(),
        "most_resident_bytes": most,
        "cpu_percent": after.cpu_percent(&before, seconds),
    });
    system.stop().await;
    Ok(figures)
}

/// Looks at the parts until all publishers are done. Gives the most memory that each part had.
async fn watch(
    running: &mut JoinSet<anyhow::Result<()>>,
    tally: &Tally,
    system: &mut System,
) -> anyhow::Result<Value> {
    let mut clock = interval(LOOK_EVERY);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    clock.tick().await;
    let mut last = system.look().await?;
    let mut looked = Instant::now();
    let mut most = last;
    let mut out = std::io::stdout();
    writeln!(
        out,
        "{:>8} {:>10} {:>10} {:>10}   broker, ingester, Redis: MiB and % of a core",
        "seconds", "stored", "again", "latest ms"
    )?;
    let begun = looked;
    loop {
        tokio::select! {
            joined = running.join_next() => match joined {
                Some(done) => done??,
                None => break,
            },
            _ = clock.tick() => {
                let now = system.look().await?;
                let share = now.cpu_percent(&last, looked.elapsed().as_secs_f64());
                write!(
                    out,
                    "{:>8.0} {:>10} {:>10} {:>10} ",
                    begun.elapsed().as_secs_f64(),
                    tally.committed.load(Ordering::Relaxed),
                    tally.sent_again.load(Ordering::Relaxed),
                    tally.worst_ms_since()
                )?;
                for (name, taken) in now.parts().into_iter().skip(1) {
                    let mib = taken.resident_bytes as f64 / 1_048_576.0;
                    let percent = share[name].as_f64().unwrap_or_default();
                    write!(out, " {mib:>8.1} {percent:>5.1} %")?;
                }
                writeln!(out)?;
                most = most.or_more(&now);
                (last, looked) = (now, Instant::now());
            }
        }
    }
    let now: Look = system.look().await?;
    Ok(most.or_more(&now).memory())
}
