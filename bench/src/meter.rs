//! What a stretch of work costs: time, our own CPU and that of Redis.

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::publisher::footprint::cpu_time;
use crate::server::Server;

/// What work has cost.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Cost {
    pub(crate) seconds: f64,
    /// This process'.
    pub(crate) own_cpu: f64,
    pub(crate) redis_cpu: f64,
}

/// Where a stretch began.
pub(crate) struct Meter {
    begun: Instant,
    own_cpu: f64,
    redis_cpu: f64,
}

impl Meter {
    pub(crate) fn begin(server: &Server) -> anyhow::Result<Self> {
        Ok(Self {
            own_cpu: own_cpu()?,
            redis_cpu: server.cpu_seconds()?,
            begun: Instant::now(),
        })
    }

    pub(crate) fn end(self, server: &Server) -> anyhow::Result<Cost> {
        Ok(Cost {
            seconds: self.begun.elapsed().as_secs_f64(),
            own_cpu: own_cpu()? - self.own_cpu,
            redis_cpu: server.cpu_seconds()? - self.redis_cpu,
        })
    }
}

impl Cost {
    pub(crate) fn add(&mut self, other: Self) {
        self.seconds += other.seconds;
        self.own_cpu += other.own_cpu;
        self.redis_cpu += other.redis_cpu;
    }

    /// A share of it each: `count` is what it was done for.
    pub(crate) fn each(&self, count: f64) -> Value {
        json!({
            "seconds": self.seconds / count,
            "own_cpu_seconds": self.own_cpu / count,
            "redis_cpu_seconds": self.redis_cpu / count,
        })
    }
}

fn own_cpu() -> anyhow::Result<f64> {
    Ok(cpu_time(std::process::id())?.as_secs_f64())
}
