//! What Redis says of itself: version, persistence, eviction, memory, time.

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
    /// What it does when its memory is full; `noeviction` keeps everything.
    pub maxmemory_policy: String,
    /// The memory it uses, in bytes.
    pub used_memory_bytes: u64,
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
        Some(Self {
            version: (*entries.get("redis_version")?).to_owned(),
            append_only: *entries.get("aof_enabled")? == "1",
            maxmemory_policy: (*entries.get("maxmemory_policy")?).to_owned(),
            used_memory_bytes: entries.get("used_memory")?.parse().ok()?,
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

#[cfg(test)]
mod tests {
    use super::*;

    const INFO: &str = "# Server\r\nredis_version:7.0.15\r\nprocess_id:42\r\n\
        # Memory\r\nused_memory:1048576\r\nmaxmemory_policy:noeviction\r\n\
        # Persistence\r\naof_enabled:1\r\n";

    #[test]
    fn the_facts_are_read_from_info() {
        let facts = Facts::parse(INFO, 7).unwrap();
        assert_eq!((facts.version.as_str(), facts.process), ("7.0.15", 42));
        assert_eq!(
            (facts.append_only, facts.used_memory_bytes),
            (true, 1 << 20)
        );
        assert!(Facts::parse("redis_version:7.0.15\r\n", 7).is_none());
    }

    #[test]
    fn versions_from_6_2_on_are_supported() {
        let check = |version: &str, supported: bool| {
            let facts = Facts {
                version: version.to_owned(),
                ..Facts::parse(INFO, 7).unwrap()
            };
            assert_eq!(facts.is_supported(), supported, "{version}");
        };
        check("6.2.0", true);
        check("10.0.1", true);
        check("6.0.16", false);
        check("5", false);
    }
}
