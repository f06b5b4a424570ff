//! The pipeline's peer: the same samples of the same nodes by mosquitto, by collectd's MQTT reader
//! and its Redis writer.
//!
//! As people have it: a message a point, `collectd/<node>/<section>-<instance>/gauge-<field>` with
//! the payload `<seconds>:<value>`, and in Redis a sorted set a metric. Nothing there tells a
//! publisher what has arrived, so the pace is set by Redis' own count of what was written: so many
//! points may be under way.

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use hostbus_wire::{NodePath, Sample};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::broker::server::{self as broker, Program};
use crate::figures::figure;
use crate::load::{self, POINTS};
use crate::publisher::agent::{self, Agent};
use crate::publisher::footprint;
use crate::server::Server;
use crate::{node, parts};

/// Points that may be under way: more than a second's worth.
const WINDOW: usize = 600 * POINTS;
/// How often what has arrived is asked.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// After so long without an arrival nothing is under way any more.
const SILENT: Duration = Duration::from_secs(3);
/// How long nothing may arrive.
const LOST: Duration = Duration::from_secs(15);
/// Different samples.
const VARIANTS: u64 = 256;

/// Whom the pipeline is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Peer {
    /// mosquitto, collectd's `mqtt` and `write_redis`, and Redis.
    Collectd,
    /// Nobody.
    None,
}

/// The peer's programs on this machine.
pub(crate) struct Installed {
    mosquitto: Program,
    collectd: agent::Installed,
}

/// The load, as the pipeline has it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    pub(crate) nodes: u32,
    pub(crate) seconds: u64,
    /// The time of the first sample.
    pub(crate) first_ts: u64,
}

impl Installed {
    /// Looks for them.
    ///
    /// # Errors
    /// One is missing; the error says how to install it.
    pub(crate) fn find() -> anyhow::Result<Self> {
        let how = "`apt install mosquitto collectd-core libhiredis0.14 libmosquitto1`";
        let mosquitto = ["/usr/sbin/mosquitto", "mosquitto"]
            .iter()
            .find_map(|path| Program::new(Path::new(path)).ok())
            .with_context(|| format!("mosquitto is not installed: {how}"))?;
        let collectd = agent::Peer::Collectd
            .find()
            .map_err(|_| anyhow::anyhow!("collectd is not installed: {how}"))?;
        Ok(Self {
            mosquitto,
            collectd,
        })
    }

    /// Measures it under `load`.
    pub(crate) async fn measure(&self, load: Load) -> anyhow::Result<Value> {
        let redis = Redis::start()?;
        let mut server = redis.open().await?;
        let broker = broker::Server::start(&self.mosquitto)?;
        let mut collectd = start_collectd(&self.collectd, &broker.address, &redis.port)?;
        wait_for_collectd(&mut collectd, &broker.address, &mut server).await?;

        let processes = [
            ("generator", std::process::id()),
            ("broker", broker.id()),
            ("collectd", collectd.id()),
            ("redis", redis.child.id()),
        ];
        let cpu = || -> anyhow::Result<Vec<f64>> {
            let used = processes.map(|(_, process)| footprint::cpu_time(process));
            used.into_iter()
                .map(|used| Ok(used?.as_secs_f64()))
                .collect()
        };
        let (before, cpu_before) = (server.used_bytes().await?, cpu()?);
        let carried = send(load, &broker.address, &mut server, &mut collectd).await?;
        let (after, cpu_after) = (server.used_bytes().await?, cpu()?);

        let keys = keys(load.nodes)?;
        let members = server.members(&keys).await?;
        ensure!(
            members == carried.arrived,
            "{} points were written, but Redis has {members}",
            carried.arrived
        );
        let points = members as f64;
        let seconds = carried.took.as_secs_f64();
        let mut cpu_seconds = serde_json::Map::new();
        for ((name, _), (before, after)) in processes.iter().zip(cpu_before.iter().zip(&cpu_after))
        {
            cpu_seconds.insert((*name).to_owned(), json!((after - before) / points * 1e6));
        }
        Ok(json!({
            "broker": self.mosquitto.name,
            "collectd": self.collectd.version,
            "seconds": seconds,
            "points": points,
            "points_lost": carried.sent.saturating_sub(carried.arrived),
            "points_per_second": points / seconds,
            "points_per_key": points / keys.len() as f64,
            "cpu_seconds_per_million_points": cpu_seconds,
            "redis_bytes_per_point": after.saturating_sub(before) as f64 / points,
            "append_only_bytes_per_point": parts::folder_bytes(redis.folder.path())? as f64 / points,
            "resident_bytes": {
                "broker": broker.resident_bytes()?,
                "collectd": parts::resident_bytes(collectd.id())?,
            },
        }))
    }
}

/// How many times better `ours` are than the `peer`'s figures; CPU without the generator's.
pub(crate) fn ratios(ours: &Value, peer: &Value) -> anyhow::Result<Value> {
    let cpu = |figures: &Value, parts: [&str; 3]| -> anyhow::Result<f64> {
        let used =
            parts.map(|part| figure(figures, &format!("/cpu_seconds_per_million_points/{part}")));
        used.into_iter().sum()
    };
    let times =
        |name: &str| -> anyhow::Result<f64> { Ok(figure(ours, name)? / figure(peer, name)?) };
    Ok(json!({
        "points_per_second": times("/points_per_second")?,
        "cpu_seconds": cpu(peer, ["broker", "collectd", "redis"])? / cpu(ours, ["broker", "ingester", "redis"])?,
        "redis_bytes": 1.0 / times("/redis_bytes_per_point")?,
    }))
}

/// What became of a load.
struct Carried {
    sent: u64,
    arrived: u64,
    /// Until the last of them arrived.
    took: Duration,
}

/// Has all nodes send for as long as the load says, then waits until nothing more arrives.
async fn send(
    load: Load,
    address: &str,
    server: &mut Server,
    collectd: &mut Agent,
) -> anyhow::Result<Carried> {
    let room = Arc::new(Semaphore::new(WINDOW));
    let metrics = Arc::new(Metrics::new());
    let mut nodes = JoinSet::new();
    let before = server.calls("zadd").await?;
    let begun = Instant::now();
    for number in 0..load.nodes {
        let (room, metrics) = (Arc::clone(&room), Arc::clone(&metrics));
        let stream = TcpStream::connect(address).await?;
        let node = run_node(stream, path(number)?, load.first_ts, metrics, room);
        nodes.spawn(node);
    }
    let until = begun + Duration::from_secs(load.seconds);
    let (mut arrived, mut heard) = (0, begun);
    // The connections stay open until the end: a broker may drop what a closed one sent.
    let (mut sent, mut done) = (0, Vec::new());
    loop {
        sleep(LOOK_EVERY).await;
        collectd.check()?;
        let now = server.calls("zadd").await? - before;
        if now > arrived {
            room.add_permits(usize::try_from(now - arrived)?);
            (arrived, heard) = (now, Instant::now());
        } else if heard.elapsed() > SILENT && !nodes.is_empty() && !room.is_closed() {
            // What is under way by our count was lost.
            room.add_permits(WINDOW - room.available_permits().min(WINDOW));
        }
        if Instant::now() >= until {
            room.close();
        }
        while let Some(node) = nodes.try_join_next() {
            let (points, stream) = node??;
            sent += points;
            done.push(stream);
        }
        ensure!(
            heard.elapsed() < LOST,
            "nothing has arrived in Redis for {} s: {}",
            LOST.as_secs(),
            collectd.log()
        );
        if nodes.is_empty() && (arrived >= sent || heard.elapsed() > SILENT) {
            return Ok(Carried {
                sent,
                arrived,
                took: heard - begun,
            });
        }
    }
}

/// One node: sends sample after sample, a message a point, until the room is closed.
async fn run_node(
    mut stream: TcpStream,
    path: NodePath,
    first_ts: u64,
    metrics: Arc<Metrics>,
    room: Arc<Semaphore>,
) -> anyhow::Result<(u64, TcpStream)> {
    stream.set_nodelay(true)?;
    stream.write_all(&node::connect(&path.to_string())).await?;
    let mut input = bytes::BytesMut::new();
    let ack = node::packet(&mut stream, &mut input).await?;
    ensure!(ack.get(3) == Some(&0), "the broker refused {path}");
    let topics: Vec<String> = metrics
        .names
        .iter()
        .map(|name| format!("collectd/{path}/{name}"))
        .collect();
    let mut output = Vec::new();
    let (mut samples, mut payload) = (0_u64, Vec::new());
    while let Ok(permit) = room.acquire_many(u32::try_from(POINTS)?).await {
        permit.forget();
        samples += 1;
        let ts = first_ts + samples * 10_000;
        let values = &metrics.values[usize::try_from(samples)? % metrics.values.len()];
        let seconds = format!("{}.{:03}:", ts / 1000, ts % 1000);
        output.clear();
        for (topic, value) in topics.iter().zip(values) {
            payload.clear();
            payload.extend(seconds.as_bytes());
            payload.extend(value.as_bytes());
            node::publish(&mut output, 0x30, topic, &payload);
        }
        stream.write_all(&output).await?;
    }
    Ok((samples * POINTS as u64, stream))
}

/// The metrics of a sample, and their values in some variants of it.
struct Metrics {
    names: Vec<String>,
    values: Vec<Vec<String>>,
}

impl Metrics {
    fn new() -> Self {
        let samples: Vec<Sample> = (1..=VARIANTS).map(load::sample).collect();
        let mut names = Vec::new();
        let mut values = Vec::new();
        for (number, sample) in samples.iter().enumerate() {
            let mut row = Vec::with_capacity(POINTS);
            sample.for_each_series(|series| {
                // A part of a topic holds no slash.
                let series_name = series.name().replacen(':', "-", 1).replace('/', "_");
                series.for_each_field(|field, value| {
                    let Some(value) = value else { return };
                    if number == 0 {
                        names.push(format!("{series_name}/gauge-{field}"));
                    }
                    row.push(value.to_string());
                });
            });
            values.push(row);
        }
        Self { names, values }
    }
}

fn path(number: u32) -> anyhow::Result<NodePath> {
    Ok(format!("bench.n{number}").parse()?)
}

/// The sorted sets of all nodes.
fn keys(nodes: u32) -> anyhow::Result<Vec<String>> {
    let names = Metrics::new().names;
    let mut keys = Vec::new();
    for number in 0..nodes {
        let path = path(number)?;
        keys.extend(names.iter().map(|name| format!("collectd/{path}/{name}")));
    }
    Ok(keys)
}

/// A redis-server with its append-only file on, as ours; on a port, as collectd knows no socket.
struct Redis {
    child: Child,
    port: String,
    folder: TempDir,
}

impl Redis {
    fn start() -> anyhow::Result<Self> {
        let folder = tempfile::tempdir().context("failed to make a temporary folder")?;
        let address = broker::free_address()?;
        let (host, port) = address.rsplit_once(':').context("an address has a port")?;
        let log = File::create(folder.path().join("log"))?;
        let child = Command::new("redis-server")
            .args(["--port", port, "--bind", host, "--save", "", "--dir"])
            .arg(folder.path())
            .args(["--appendonly", "yes", "--appendfsync", "everysec"])
            .stdin(Stdio::null())
            .stdout(log)
            .spawn()
            .context("redis-server is not installed: `apt install redis-server`")?;
        Ok(Self {
            child,
            port: port.to_owned(),
            folder,
        })
    }

    async fn open(&self) -> anyhow::Result<Server> {
        let begun = Instant::now();
        loop {
            match Server::open(&format!("redis://127.0.0.1:{}", self.port)).await {
                Ok(server) => return Ok(server),
                Err(error) if begun.elapsed() > LOST => return Err(error),
                Err(_) => sleep(LOOK_EVERY).await,
            }
        }
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        // It holds nothing that outlives the measurement.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn start_collectd(
    found: &agent::Installed,
    broker: &str,
    redis_port: &str,
) -> anyhow::Result<Agent> {
    let folder = tempfile::tempdir().context("failed to make a temporary folder")?;
    let settings = folder.path().join("collectd.conf");
    let (host, port) = broker.rsplit_once(':').context("an address has a port")?;
    let base = folder.path().display();
    let text = format!(
        r#"Hostname "bench"
FQDNLookup false
BaseDir "{base}"
PIDFile "{base}/pid"
Interval 10
LoadPlugin mqtt
LoadPlugin write_redis
<Plugin mqtt>
  <Subscribe "bench">
    Host "{host}"
    Port "{port}"
    Topic "collectd/#"
    QoS 0
  </Subscribe>
</Plugin>
<Plugin write_redis>
  <Node "bench">
    Host "127.0.0.1"
    Port "{redis_port}"
    Timeout 1000
  </Node>
</Plugin>
"#
    );
    std::fs::write(&settings, text)?;
    let arguments = [
        "-f".to_owned(),
        "-C".to_owned(),
        settings.display().to_string(),
    ];
    Agent::start("collectd", &found.version, &found.path, folder, &arguments)
}

/// Sends a metric of its own until collectd has written it: then it has subscribed.
async fn wait_for_collectd(
    collectd: &mut Agent,
    broker: &str,
    server: &mut Server,
) -> anyhow::Result<()> {
    let mut stream = TcpStream::connect(broker).await?;
    stream.write_all(&node::connect("bench.probe")).await?;
    for seconds in 1_000_000.. {
        let mut output = Vec::new();
        let payload = format!("{seconds}:1");
        node::publish(
            &mut output,
            0x30,
            "collectd/probe/bench/gauge-up",
            payload.as_bytes(),
        );
        stream.write_all(&output).await?;
        sleep(LOOK_EVERY * 5).await;
        collectd.check()?;
        if server.calls("zadd").await? > 0 {
            break;
        }
        ensure!(
            seconds < 1_000_200,
            "collectd writes nothing to Redis; it needs its plugins mqtt and write_redis, with \
             their libraries `apt install libhiredis0.14 libmosquitto1`: {}",
            collectd.log()
        );
    }
    // What of the probe is still under way.
    sleep(LOOK_EVERY * 25).await;
    Ok(())
}
