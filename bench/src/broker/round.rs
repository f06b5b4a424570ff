//! One round: a fresh broker, its clients, a warm-up, and what was measured after it.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::task::{JoinSet, LocalSet};

use super::flow::{Flow, Shared};
use super::packet::{self, Publishes};
use super::scenario::{Load, Pace, Times};
use super::sender;
use super::server::{Program, Server};
use super::{machine, receiver};

/// How long after the last arrival what is missing counts as lost.
const LATE: Duration = Duration::from_secs(2);

/// What one round showed.
#[derive(Debug, Clone)]
pub(crate) struct Figures {
    pub(crate) delivered_per_second: f64,
    /// Of the broker, for a million messages that arrived.
    pub(crate) cpu_seconds_per_million: f64,
    pub(crate) generator_cpu_seconds_per_million: f64,
    /// What else the machine's CPUs did, as a share of all their time.
    pub(crate) others_share: f64,
    /// Half, 99 and 99.9 percent of the messages took at most so long; at a pace only.
    pub(crate) latency_ms: Option<[f64; 3]>,
    pub(crate) sent: u64,
    /// Messages that never arrived.
    pub(crate) lost: u64,
    pub(crate) resident_bytes: u64,
}

/// Measures `load` on a fresh process of `program`.
pub(crate) fn run(program: &Program, load: Load, times: Times) -> anyhow::Result<Figures> {
    let server = Server::start(program)?;
    // One thread for all but the paced sender: brokers and generator share the machine.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    LocalSet::new()
        .block_on(&runtime, measure(&server, load, times))
        .with_context(|| format!("{load:?} on {}", program.name))
}

async fn measure(server: &Server, load: Load, times: Times) -> anyhow::Result<Figures> {
    let window = match load.pace() {
        Pace::Window(window) => window,
        _ => u64::MAX,
    };
    let shared = Arc::new(Shared::new());
    let flow = Rc::new(Flow::new(load.subscribers() as u64, window));
    let mut tasks = JoinSet::new();
    subscribe(server, load, &flow, &shared, &mut tasks).await?;
    let pacer = publish(server, load, &flow, &shared, &mut tasks).await?;

    sleep(times.warm_up, &mut tasks).await?;
    if matches!(load.pace(), Pace::PerSecond(_)) {
        *flow.latencies_ns.borrow_mut() = Some(Vec::with_capacity(1 << 20));
    }
    let before = Reading::now(server, &flow)?;
    sleep(times.measured, &mut tasks).await?;
    let after = Reading::now(server, &flow)?;
    let latencies_ns = flow.latencies_ns.borrow_mut().take();
    let resident_bytes = server.resident_bytes()?;

    shared.stop.store(true, Relaxed);
    let _connections = match pacer {
        Some(pacer) => pacer.join().ok().context("the paced sender panicked")??,
        None => Vec::new(),
    };
    let sent = drain(load, &flow, &shared, &mut tasks).await?;
    let delivered = (after.delivered - before.delivered) as f64;
    let seconds = (after.at - before.at).as_secs_f64();
    let (broker, generator) = (
        after.broker - before.broker,
        after.generator - before.generator,
    );
    let all = seconds * machine::cpus();
    Ok(Figures {
        delivered_per_second: delivered / seconds,
        cpu_seconds_per_million: broker / delivered * 1e6,
        generator_cpu_seconds_per_million: generator / delivered * 1e6,
        others_share: ((after.machine - before.machine - broker - generator) / all).max(0.0),
        latency_ms: latencies_ns.map(percentiles),
        sent,
        lost: sent - flow.delivered.get(),
        resident_bytes,
    })
}

/// What stands on the meters at one moment.
struct Reading {
    at: Instant,
    delivered: u64,
    broker: f64,
    generator: f64,
    machine: f64,
}

impl Reading {
    fn now(server: &Server, flow: &Flow) -> anyhow::Result<Self> {
        Ok(Self {
            at: Instant::now(),
            delivered: flow.delivered.get(),
            broker: server.cpu_seconds()?,
            generator: machine::cpu_seconds(std::process::id())?,
            machine: machine::busy_seconds()?,
        })
    }
}

type Tasks = JoinSet<anyhow::Result<()>>;

async fn subscribe(
    server: &Server,
    load: Load,
    flow: &Rc<Flow>,
    shared: &Arc<Shared>,
    tasks: &mut Tasks,
) -> anyhow::Result<()> {
    for number in 0..load.subscribers() {
        let id = format!("subscriber-{number}");
        let mut stream = packet::connect(&server.address, load.version, &id).await?;
        packet::subscribe(&mut stream, load.version, "bench/+/metrics", load.qos).await?;
        let receiver = receiver::run(stream, load.version, Rc::clone(flow), Arc::clone(shared));
        tasks.spawn_local(receiver);
    }
    Ok(())
}

type Pacer = std::thread::JoinHandle<std::io::Result<Vec<sender::Paced>>>;

async fn publish(
    server: &Server,
    load: Load,
    flow: &Rc<Flow>,
    shared: &Arc<Shared>,
    tasks: &mut Tasks,
) -> anyhow::Result<Option<Pacer>> {
    let mut publishers = Vec::new();
    for number in 0..load.publishers() {
        let id = format!("publisher-{number}");
        let stream = packet::connect(&server.address, load.version, &id).await?;
        let topic = format!("bench/node{number}/metrics");
        let (version, bytes) = (load.version, load.payload_bytes);
        let count = sender::BATCH as usize;
        publishers.push((
            stream,
            Publishes::new(version, &topic, load.qos, bytes, count),
        ));
    }
    let Pace::PerSecond(per_second) = load.pace() else {
        for (stream, publishes) in publishers {
            let (flow, shared) = (Rc::clone(flow), Arc::clone(shared));
            if load.qos == 0 {
                tasks.spawn_local(sender::flat_out(stream, publishes, flow, shared));
            } else {
                let version = load.version;
                tasks.spawn_local(sender::acknowledged(
                    stream, version, publishes, flow, shared,
                ));
            }
        }
        return Ok(None);
    };
    let mut paced = Vec::new();
    for (stream, publishes) in publishers {
        paced.push((stream.into_std()?, publishes));
    }
    let shared = Arc::clone(shared);
    Ok(Some(std::thread::spawn(move || {
        sender::pace(paced, per_second, &shared)
    })))
}

/// Waits while the tasks run; one that fails fails the round.
async fn sleep(time: Duration, tasks: &mut Tasks) -> anyhow::Result<()> {
    let until = tokio::time::Instant::now() + time;
    while let Ok(ended) = tokio::time::timeout_at(until, tasks.join_next()).await {
        match ended {
            Some(ended) => ended??,
            None => tokio::time::sleep_until(until).await,
        }
    }
    Ok(())
}

/// Waits until all has arrived, or nothing more comes. Returns how many arrivals there should be.
async fn drain(load: Load, flow: &Flow, shared: &Shared, tasks: &mut Tasks) -> anyhow::Result<u64> {
    let mut last = (flow.delivered.get(), Instant::now());
    loop {
        let wanted = shared.sent.load(Relaxed) * load.subscribers() as u64;
        let delivered = flow.delivered.get();
        if delivered > last.0 {
            last = (delivered, Instant::now());
        }
        if delivered >= wanted || last.1.elapsed() > LATE {
            return Ok(wanted);
        }
        sleep(Duration::from_millis(20), tasks).await?;
    }
}

/// Half, 99 and 99.9 percent, in milliseconds.
fn percentiles(mut latencies_ns: Vec<u64>) -> [f64; 3] {
    latencies_ns.sort_unstable();
    let last = latencies_ns.len().saturating_sub(1);
    [0.5, 0.99, 0.999].map(|share| {
        let place = (last as f64 * share).round() as usize;
        latencies_ns
            .get(place)
            .map_or(f64::NAN, |ns| *ns as f64 / 1e6)
    })
}
