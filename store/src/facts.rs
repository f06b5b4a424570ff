//! What Redis says of itself: version, persistence, eviction, memory, role, time.

use std::collections::HashMap;

use redis::{Pipeline, Value};

use crate::connection::Connection;
use crate::error::StoreError;
use crate::row::{items, text};

/// The oldest version that serves, major and minor.
const OLDEST: (u32, u32) = (6, 2);

/// What Redis says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Its version, `7.0.15`.
    pub version: String,
    /// Whether it keeps an append-only file.
    pub append_only: bool,
    /// Its last write to its disk failed.
    pub disk_failed: bool,
    /// What it does when its memory is full; `noeviction` keeps everything.
    pub maxmemory_policy: String,
    /// The memory it may use, in bytes; 0 for no limit.
    pub maxmemory_bytes: u64,
    /// The memory it uses, in bytes.
    pub used_memory_bytes: u64,
    /// It follows another server, and takes no writes.
    pub is_replica: bool,
    /// It is a node of a Redis Cluster.
    pub is_cluster: bool,
    /// Its clock, in milliseconds since 1970-01-01 UTC.
    pub time_ms: u64,
    /// Its process id.
    pub process: u32,
}

impl Facts {
    /// Asks Redis.
    ///
    /// # Errors
    /// Redis failed, or answers in a way that no Redis does.
    pub async fn ask(connection: &Connection) -> Result<Self, StoreError> {
        let mut pipeline = Pipeline::new();
        pipeline.cmd("INFO").cmd("TIME");
        let replies = connection.pipeline(&pipeline).await?;
        let [info, time] = &replies[..] else {
            return Err(StoreError::reply("INFO"));
        };
        let info = text(info).ok_or_else(|| StoreError::reply("INFO"))?;
        let time_ms = milliseconds(time).ok_or_else(|| StoreError::reply("TIME"))?;
        Self::parse(info, time_ms).ok_or_else(|| StoreError::reply("INFO"))
    }

    fn parse(info: &str, time_ms: u64) -> Option<Self> {
        let entries: HashMap<&str, &str> = info
            .lines()
            .filter_map(|line| line.trim_end().split_once(':'))
            .collect();
        let is = |name: &str, value: &str| entries.get(name).is_some_and(|has| *has == value);
        Some(Self {
            version: (*entries.get("redis_version")?).to_owned(),
            append_only: *entries.get("aof_enabled")? == "1",
            disk_failed: is("aof_last_write_status", "err") || is("rdb_last_bgsave_status", "err"),
            maxmemory_policy: (*entries.get("maxmemory_policy")?).to_owned(),
            maxmemory_bytes: entries.get("maxmemory")?.parse().ok()?,
            used_memory_bytes: entries.get("used_memory")?.parse().ok()?,
            is_replica: is("role", "slave"),
            is_cluster: is("cluster_enabled", "1"),
            time_ms,
            process: entries.get("process_id")?.parse().ok()?,
        })
    }

    /// Tells whether this version has all that hostbus uses.
    #[must_use]
    pub fn is_supported(&self) -> bool {
        let mut numbers = self
            .version
            .split('.')
            .map(|number| number.parse().unwrap_or(0));
        (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= OLDEST
    }
}

/// The reply of TIME, seconds and microseconds, in milliseconds.
fn milliseconds(reply: &Value) -> Option<u64> {
    let [seconds, micros] = items(reply)? else {
        return None;
    };
    let number = |part: &Value| text(part)?.parse::<u64>().ok();
    Some(number(seconds)? * 1000 + number(micros)? / 1000)
}

/// How often Redis syncs its append-only file: `always`, `everysec`, `no`; `None` when we may not ask.
///
/// # Errors
/// Redis failed.
pub async fn append_fsync(connection: &Connection) -> Result<Option<String>, StoreError> {
    let mut query = redis::cmd("CONFIG");
    query.arg("GET").arg("appendfsync");
    let reply = match connection.command(&query).await {
        Ok(reply) => reply,
        // A user of few rights may not, and a server of somebody else may not know it.
        Err(StoreError::Denied { .. } | StoreError::Refused { .. }) => return Ok(None),
        Err(error) => return Err(error),
    };
    Ok(match items(&reply) {
        Some([_, value]) => text(value).map(str::to_owned),
        _ => None,
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    const INFO: &str = "# Server\r\nredis_version:7.0.15\r\nprocess_id:42\r\n\
        # Memory\r\nused_memory:1048576\r\nmaxmemory:2097152\r\nmaxmemory_policy:noeviction\r\n\
        # Persistence\r\naof_enabled:1\r\naof_last_write_status:ok\r\n\
        # Replication\r\nrole:master\r\n";

    /// Those of a Redis with which all is well.
    pub(crate) fn facts() -> Facts {
        Facts::parse(INFO, 7).unwrap()
    }

    #[test]
    fn the_facts_are_read_from_info() {
        let facts = facts();
        assert_eq!((facts.version.as_str(), facts.process), ("7.0.15", 42));
        assert_eq!(
            (facts.used_memory_bytes, facts.maxmemory_bytes),
            (1 << 20, 2 << 20)
        );
        assert_eq!(
            (facts.append_only, facts.is_replica, facts.disk_failed),
            (true, false, false)
        );
        assert!(Facts::parse("redis_version:7.0.15\r\n", 7).is_none());
        let worse = INFO
            .replace(
                "role:master",
                "role:slave\r\n# Cluster\r\ncluster_enabled:1",
            )
            .replace("write_status:ok", "write_status:err");
        let worse = Facts::parse(&worse, 7).unwrap();
        assert!(worse.is_replica && worse.disk_failed && worse.is_cluster);
    }

    #[test]
    fn versions_from_6_2_on_are_supported() {
        let check = |version: &str, supported: bool| {
            let facts = Facts {
                version: version.to_owned(),
                ..facts()
            };
            assert_eq!(facts.is_supported(), supported, "{version}");
        };
        check("6.2.0", true);
        check("10.0.1", true);
        check("6.0.16", false);
        check("5", false);
    }
}
