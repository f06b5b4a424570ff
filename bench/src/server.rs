//! A redis-server under measurement: what it holds, takes and gives, by its own account.

use std::collections::HashMap;

use anyhow::Context;
use redis::aio::MultiplexedConnection;

use crate::publisher::footprint;

/// How many commands go at once where many keys are asked.
const AT_ONCE: usize = 1_000;

/// A connection of its own, for looking only.
pub(crate) struct Server {
    connection: MultiplexedConnection,
    process: u32,
}

impl Server {
    /// Connects to the server at `url`.
    pub(crate) async fn open(url: &str) -> anyhow::Result<Self> {
        let client = redis::Client::open(url)?;
        let mut connection = client.get_multiplexed_async_connection().await?;
        let process = number(&info(&mut connection, "server").await?, "process_id")?;
        Ok(Self {
            connection,
            process: u32::try_from(process)?,
        })
    }

    pub(crate) fn process(&self) -> u32 {
        self.process
    }

    /// The memory that it has given out, its own included.
    pub(crate) async fn used_bytes(&mut self) -> anyhow::Result<u64> {
        let memory = info(&mut self.connection, "memory").await?;
        number(&memory, "used_memory")
    }

    /// What it has sent to all clients, in bytes.
    pub(crate) async fn sent_bytes(&mut self) -> anyhow::Result<u64> {
        let stats = info(&mut self.connection, "stats").await?;
        number(&stats, "total_net_output_bytes")
    }

    /// All keys; for a server that has few.
    pub(crate) async fn keys(&mut self) -> anyhow::Result<Vec<String>> {
        let mut command = redis::cmd("KEYS");
        Ok(command.arg("*").query_async(&mut self.connection).await?)
    }

    /// The CPU time that it has used.
    pub(crate) fn cpu_seconds(&self) -> anyhow::Result<f64> {
        Ok(footprint::cpu_time(self.process)?.as_secs_f64())
    }

    /// How often `command` was called, by anyone.
    pub(crate) async fn calls(&mut self, command: &str) -> anyhow::Result<u64> {
        let stats = info(&mut self.connection, "commandstats").await?;
        let Some(line) = stats.get(&format!("cmdstat_{command}")) else {
            return Ok(0);
        };
        let calls = line
            .split(',')
            .find_map(|part| part.strip_prefix("calls="))
            .context("no count of calls")?;
        Ok(calls.parse()?)
    }

    /// The bytes that each key takes, its name and its place among the keys included; 0 for one
    /// that is not there.
    pub(crate) async fn memory_usage(&mut self, keys: &[String]) -> anyhow::Result<u64> {
        self.sum(keys, |pipeline, key| {
            // Without samples: all of it is counted.
            pipeline.cmd("MEMORY").arg("USAGE").arg(key);
            pipeline.arg("SAMPLES").arg(0);
        })
        .await
    }

    /// The members of sorted sets.
    pub(crate) async fn members(&mut self, keys: &[String]) -> anyhow::Result<u64> {
        self.sum(keys, |pipeline, key| {
            pipeline.cmd("ZCARD").arg(key);
        })
        .await
    }

    /// The rows of streams.
    pub(crate) async fn rows(&mut self, keys: &[String]) -> anyhow::Result<u64> {
        self.sum(keys, |pipeline, key| {
            pipeline.cmd("XLEN").arg(key);
        })
        .await
    }

    async fn sum(
        &mut self,
        keys: &[String],
        ask: impl Fn(&mut redis::Pipeline, &str),
    ) -> anyhow::Result<u64> {
        let mut sum = 0;
        for part in keys.chunks(AT_ONCE) {
            let mut pipeline = redis::Pipeline::with_capacity(part.len());
            part.iter().for_each(|key| ask(&mut pipeline, key));
            let counts: Vec<Option<u64>> = pipeline.query_async(&mut self.connection).await?;
            sum += counts.into_iter().flatten().sum::<u64>();
        }
        Ok(sum)
    }
}

async fn info(
    connection: &mut MultiplexedConnection,
    section: &str,
) -> anyhow::Result<HashMap<String, String>> {
    let mut command = redis::cmd("INFO");
    let text: String = command.arg(section).query_async(connection).await?;
    let entries = text
        .lines()
        .filter_map(|line| line.trim_end().split_once(':'));
    Ok(entries
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect())
}

fn number(entries: &HashMap<String, String>, name: &str) -> anyhow::Result<u64> {
    let value = entries
        .get(name)
        .with_context(|| format!("the server tells no {name}"))?;
    Ok(value.parse()?)
}
