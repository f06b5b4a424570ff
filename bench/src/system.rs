//! Broker, ingester and Redis that run for a measurement, and what each of them takes.

use anyhow::Context;
use hostbus_store::PrivateServer;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::parts::{self, Process};
use crate::publisher::footprint::cpu_time;
use crate::server::Server;

/// The parts. Dropping them ends them.
pub(crate) struct System {
    pub(crate) address: String,
    pub(crate) server: Server,
    broker: Process,
    ingester: Process,
    redis: PrivateServer,
    redis_process: u32,
    /// Goes when everything else is gone.
    _folder: TempDir,
}

/// What the parts take at one moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Look {
    pub(crate) broker: Taken,
    pub(crate) ingester: Taken,
    pub(crate) redis: Taken,
    pub(crate) generator: Taken,
    /// The memory that Redis has given out.
    pub(crate) redis_used_bytes: u64,
}

/// What one process takes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Taken {
    pub(crate) resident_bytes: u64,
    pub(crate) cpu_seconds: f64,
}

impl System {
    /// Starts all parts; rows are kept for `keep_seconds`, or for very long.
    pub(crate) async fn start(keep_seconds: Option<u64>) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir().context("failed to make a temporary folder")?;
        let redis = PrivateServer::start(&folder.path().join("redis")).await?;
        let ready = folder.path().join("broker.json");
        let broker = Process::start(&["broker"], &ready)?;
        let address: Value = serde_json::from_slice(&std::fs::read(&ready)?)?;
        let address = address["mqtt"]
            .as_str()
            .context("no address of the broker")?
            .to_owned();
        let bus = format!("mqtt://{address}");
        let ready = folder.path().join("ingester.json");
        let (url, kept) = (redis.url(), keep_seconds.map(|seconds| seconds.to_string()));
        let mut arguments = vec!["ingester", &bus, &url];
        if let Some(kept) = &kept {
            arguments.extend(["--keep-seconds", kept]);
        }
        let ingester = Process::start(&arguments, &ready)?;
        let server = Server::open(&url).await?;
        Ok(Self {
            address,
            redis_process: server.process(),
            server,
            broker,
            ingester,
            redis,
            _folder: folder,
        })
    }

    pub(crate) async fn look(&mut self) -> anyhow::Result<Look> {
        Ok(Look {
            broker: Taken::of(self.broker.id())?,
            ingester: Taken::of(self.ingester.id())?,
            redis: Taken::of(self.redis_process)?,
            generator: Taken::of(std::process::id())?,
            redis_used_bytes: self.server.used_bytes().await?,
        })
    }

    pub(crate) async fn stop(self) {
        drop(self.ingester);
        drop(self.broker);
        self.redis.stop().await;
    }
}

impl Taken {
    fn of(process: u32) -> anyhow::Result<Self> {
        Ok(Self {
            resident_bytes: parts::resident_bytes(process)?,
            cpu_seconds: cpu_time(process)?.as_secs_f64(),
        })
    }
}

impl Look {
    /// The parts and their names.
    pub(crate) fn parts(&self) -> [(&'static str, Taken); 4] {
        [
            ("generator", self.generator),
            ("broker", self.broker),
            ("ingester", self.ingester),
            ("redis", self.redis),
        ]
    }

    /// Of each part's memory, the more.
    #[must_use]
    pub(crate) fn or_more(&self, other: &Self) -> Self {
        let more = |a: Taken, b: Taken| Taken {
            resident_bytes: a.resident_bytes.max(b.resident_bytes),
            ..b
        };
        Self {
            broker: more(self.broker, other.broker),
            ingester: more(self.ingester, other.ingester),
            redis: more(self.redis, other.redis),
            generator: more(self.generator, other.generator),
            redis_used_bytes: self.redis_used_bytes.max(other.redis_used_bytes),
        }
    }

    /// What of a core each part took since `before`, `seconds` ago, in percent.
    pub(crate) fn cpu_percent(&self, before: &Self, seconds: f64) -> Value {
        let parts = self.parts().into_iter().zip(before.parts());
        parts
            .map(|((name, now), (_, before))| {
                let used = now.cpu_seconds - before.cpu_seconds;
                (name.to_owned(), json!(used / seconds * 100.0))
            })
            .collect::<serde_json::Map<_, _>>()
            .into()
    }

    /// The memory of each part, and all parts but Redis and the generator together.
    pub(crate) fn memory(&self) -> Value {
        let (broker, ingester) = (self.broker.resident_bytes, self.ingester.resident_bytes);
        json!({
            "broker": broker,
            "ingester": ingester,
            "all_but_redis": broker + ingester,
            "redis": self.redis.resident_bytes,
            "redis_used": self.redis_used_bytes,
            "generator": self.generator.resident_bytes,
        })
    }
}
