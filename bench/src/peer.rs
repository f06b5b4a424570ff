//! The pipeline's peer: the same samples of the same nodes by mosquitto, by collectd's MQTT reader
//! and its Redis writer.
//!
//! As people have it: a message a point, `collectd/<node>/<section>-<instance>/gauge-<field>` with
//! the payload `<seconds>:<value>`, and in Redis a sorted set a metric. Nothing there tells a
//! publisher what has arrived, so the pace is set by Redis' own count of what was written: so many
//! points may be under way.
//!
//! | module | owns |
//! |---|---|
//! | [`sender`] | the load |
//! | [`collectd`] | collectd and its redis-server |

mod collectd;
mod sender;

use std::path::Path;

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use self::collectd::Redis;
use crate::broker::server::{Program, Server as Broker};
use crate::figures::figure;
use crate::parts;
use crate::publisher::agent;
use crate::publisher::footprint;

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
        let broker = Broker::start(&self.mosquitto)?;
        let mut writer = collectd::start(&self.collectd, &broker.address, &redis.port)?;
        collectd::wait(&mut writer, &broker.address, &mut server).await?;

        let processes = [
            ("generator", std::process::id()),
            ("broker", broker.id()),
            ("collectd", writer.id()),
            ("redis", redis.id()),
        ];
        let cpu = || -> anyhow::Result<Vec<f64>> {
            let used = processes.map(|(_, process)| footprint::cpu_time(process));
            used.into_iter()
                .map(|used| Ok(used?.as_secs_f64()))
                .collect()
        };
        let (before, cpu_before) = (server.used_bytes().await?, cpu()?);
        let carried = sender::send(load, &broker.address, &mut server, &mut writer).await?;
        let (after, cpu_after) = (server.used_bytes().await?, cpu()?);

        let keys = sender::keys(load.nodes)?;
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
                "collectd": parts::resident_bytes(writer.id())?,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_tells_how_many_times_better_ours_is() {
        let ours = json!({
            "points_per_second": 100.0,
            "redis_bytes_per_point": 5.0,
            "cpu_seconds_per_million_points":
                {"generator": 9.0, "broker": 1.0, "ingester": 1.0, "redis": 2.0},
        });
        let peer = json!({
            "points_per_second": 20.0,
            "redis_bytes_per_point": 50.0,
            "cpu_seconds_per_million_points":
                {"generator": 9.0, "broker": 10.0, "collectd": 20.0, "redis": 10.0},
        });
        let ratios = ratios(&ours, &peer).unwrap();
        assert_eq!(
            ratios,
            json!({"points_per_second": 5.0, "cpu_seconds": 10.0, "redis_bytes": 10.0})
        );
        assert!(super::ratios(&ours, &json!({})).is_err());
    }
}
