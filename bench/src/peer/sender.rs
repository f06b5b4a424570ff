//! The peer's load: every node sends sample after sample, a message a point.

use std::sync::Arc;
use std::time::Duration;

use anyhow::ensure;
use hostbus_wire::{NodePath, Sample};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::Load;
use crate::load::{self, POINTS};
use crate::packet;
use crate::publisher::agent::Agent;
use crate::server::Server;

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

/// What became of a load.
pub(super) struct Carried {
    pub(super) sent: u64,
    pub(super) arrived: u64,
    /// Until the last of them arrived.
    pub(super) took: Duration,
}

/// Has all nodes send for as long as the load says, then waits until nothing more arrives.
pub(super) async fn send(
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
    stream
        .write_all(&packet::connect(&path.to_string()))
        .await?;
    let mut input = bytes::BytesMut::new();
    let ack = packet::next(&mut stream, &mut input).await?;
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
            packet::publish(&mut output, 0x30, topic, &payload);
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
                    if number == 0 && series.has_instances() {
                        // collectd knows no series of several instances.
                        let instance = field.replace('/', "_");
                        names.push(format!("{series_name}-{instance}/gauge-value"));
                    } else if number == 0 {
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
pub(super) fn keys(nodes: u32) -> anyhow::Result<Vec<String>> {
    let names = Metrics::new().names;
    let mut keys = Vec::new();
    for number in 0..nodes {
        let path = path(number)?;
        keys.extend(names.iter().map(|name| format!("collectd/{path}/{name}")));
    }
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_point_of_a_sample_has_a_topic_of_its_own() {
        let metrics = Metrics::new();
        let mut names = metrics.names.clone();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), POINTS);
        for name in &names {
            // collectd reads <plugin>-<instance>/<type>-<instance>.
            assert_eq!(name.matches('/').count(), 1, "{name}");
            assert!(name.contains("/gauge-"), "{name}");
        }
        assert!(metrics.values.iter().all(|values| values.len() == POINTS));
        assert!(names.contains(&"filesystem-_srv/gauge-used_bytes".to_owned()));
    }
}
