//! `publisher`: our publisher beside other agents of its kind, at one interval, at the same time.
//!
//! | module | owns |
//! |---|---|
//! | [`agent`] | an agent as a process, and which there are |
//! | [`bus`] | what the publisher talks to: a broker, and marks as an ingester sends them |
//! | [`collectd`] | collectd's settings, and the receiver of what it sends |
//! | [`exporter`] | node_exporter, and its scraper |
//! | [`footprint`] | what a process takes, as the kernel counts it |
//! | [`report`] | the table, the ratios and the JSON |
//!
//! Every agent does its whole work: the publisher sends to a broker and hears marks, collectd sends
//! over its network plugin, node_exporter is scraped. All run side by side for the same window, so
//! that what else the machine does hits all of them. CPU time is the kernel's own count for the
//! process, its ended threads included, to the nanosecond.

pub(crate) mod agent;
mod bus;
mod collectd;
mod exporter;
pub(crate) mod footprint;
mod report;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, ensure};
use tokio::time::{Instant, sleep};

use agent::{Agent, Peer};
use footprint::Footprint;
use report::{Measured, Times};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Seconds from sample to sample, for every agent.
    #[arg(long, default_value_t = 10.0)]
    interval: f64,
    /// For how long, after a warm-up.
    #[arg(long, default_value_t = 3600.0)]
    seconds: f64,
    /// Within a minute, at an interval of a second.
    #[arg(long)]
    quick: bool,
    /// Print the figures as JSON on the last line.
    #[arg(long)]
    json: bool,
    /// Beside whom; nothing after it: the publisher alone.
    #[arg(long, value_enum, value_delimiter = ',', num_args = 0.., default_values = ["collectd", "node-exporter"])]
    peer: Vec<Peer>,
    /// The publisher to measure instead of ours; more than one: builds to compare the first with.
    #[arg(long, value_delimiter = ',')]
    program: Vec<PathBuf>,
}

impl Args {
    fn times(&self) -> anyhow::Result<Times> {
        let (interval, window, warm_up) = if self.quick {
            (1.0, 45.0, 5.0)
        } else {
            (self.interval, self.seconds, (self.interval * 3.0).max(30.0))
        };
        ensure!(
            (0.1..=3600.0).contains(&interval),
            "--interval {interval}: expected 0.1 to 3600 seconds"
        );
        ensure!(
            (interval..=1e7).contains(&window),
            "--seconds {window}: expected at least one interval of {interval} s"
        );
        Ok(Times {
            interval: Duration::from_secs_f64(interval),
            warm_up: Duration::from_secs_f64(warm_up),
            window: Duration::from_secs_f64(window),
        })
    }
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let times = args.times()?;
    // One thread: it shares the machine with what is measured.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let measured = runtime.block_on(measure(args, times))?;
    let mut out = std::io::stdout();
    report::table(&mut out, &measured, times)?;
    if args.json {
        use std::io::Write;
        writeln!(out, "{}", report::figures(&measured, times))?;
    }
    Ok(())
}

async fn measure(args: &Args, times: Times) -> anyhow::Result<Vec<Measured>> {
    // What is missing is told before anything runs.
    let publishers = if args.program.is_empty() {
        vec![agent::ours()?]
    } else {
        args.program.clone()
    };
    let publishers: Vec<(PathBuf, String)> = publishers
        .into_iter()
        .map(|path| agent::publisher_version(&path).map(|version| (path, version)))
        .collect::<anyhow::Result<_>>()?;
    let peers: Vec<(Peer, agent::Installed)> = args
        .peer
        .iter()
        .map(|peer| peer.find().map(|found| (*peer, found)))
        .collect::<anyhow::Result<_>>()?;

    let mut bus = bus::Bus::start()?;
    let mut agents = Vec::new();
    for (path, version) in &publishers {
        agents.push(bus.publisher(path, version, times.interval)?);
    }
    bus.listen()?;
    for (peer, found) in &peers {
        agents.push(match peer {
            Peer::Collectd => collectd::start(found, times.interval).await?,
            Peer::NodeExporter => exporter::start(found, times.interval)?,
        });
    }
    sleep(times.warm_up).await;
    let mut before = Vec::new();
    for agent in &mut agents {
        before.push(Reading::of(agent)?);
    }
    let begun = Instant::now();
    sleep(times.window).await;
    let seconds = begun.elapsed().as_secs_f64();
    let mut measured = Vec::new();
    for (agent, before) in std::iter::zip(&mut agents, before) {
        let after = Reading::of(agent)?;
        let points = after.points - before.points;
        ensure!(
            points > 0,
            "nothing came from {}: {}",
            agent.name,
            agent.log()
        );
        let passes = seconds / times.interval.as_secs_f64();
        measured.push(Measured {
            name: agent.name.clone(),
            version: agent.version.clone(),
            resident_bytes_before: before.footprint.resident_bytes,
            footprint: after.footprint,
            program_bytes: std::fs::metadata(&agent.program)
                .with_context(|| format!("failed to read {}", agent.program.display()))?
                .len(),
            seconds,
            passes,
            cpu_seconds: (after.cpu - before.cpu).as_secs_f64(),
            points_per_pass: points as f64 / passes,
            bytes_per_pass: (after.bytes - before.bytes) as f64 / passes,
        });
    }
    Ok(measured)
}

/// What an agent has taken and given so far.
struct Reading {
    footprint: Footprint,
    cpu: Duration,
    points: u64,
    bytes: u64,
}

impl Reading {
    fn of(agent: &mut Agent) -> anyhow::Result<Self> {
        agent.check()?;
        let (points, bytes) = agent.given.read();
        Ok(Self {
            footprint: Footprint::read(agent.id())?,
            cpu: footprint::cpu_time(agent.id())?,
            points,
            bytes,
        })
    }
}
