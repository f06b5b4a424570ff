//! Checks of the running site: does the broker let us in, is Redis as it should be?

use std::time::Duration;

use hostbus_client::{BusConfig, Event};
use hostbus_daemon::clock;
use hostbus_store::{Connection, Facts, StoreConfig};
use hostbus_wire::health::Health;
use hostbus_wire::{QoS, decode};
use tokio::time::timeout;

use super::finding::Finding;
use crate::folder::{Endpoints, Folder};
use crate::reach;

/// Clocks that differ by more than this mislead.
const SKEW_MS: u64 = 2_000;

/// How long the broker's word on itself may take; it is retained.
const HEALTH_WITHIN: Duration = Duration::from_secs(2);

/// Can a viewer log in, and what does the broker say of itself?
pub(super) async fn broker(folder: &Folder, endpoints: &Endpoints) -> Finding {
    let check = "broker";
    let bus = BusConfig {
        url: endpoints.mqtt.clone(),
        user: Some("viewer".to_owned()),
        password_file: Some(folder.credential("viewer")),
        root: endpoints.root.clone(),
        ..BusConfig::default()
    };
    let filters = vec![(format!("{}/+/_system/broker/+", bus.root), QoS::AtMostOnce)];
    match reach::connect(&bus, "doctor", filters).await {
        Ok(mut connection) => {
            let health = timeout(HEALTH_WITHIN, health(&mut connection)).await;
            connection.close().await;
            health.map_or_else(
                |_| Finding::ok(check, "lets the viewer in"),
                |health| judge_broker(&health),
            )
        }
        Err(error) => Finding::error(
            check,
            format!("{error:#}"),
            format!(
                "remove {} and start `hostbus up` again: it makes a new one",
                folder.credential("viewer").display()
            ),
        ),
    }
}

/// The first health that comes.
async fn health(connection: &mut hostbus_client::Connection) -> Health {
    loop {
        if let Event::Message(message) = connection.next().await
            && let Ok(health) = decode(&message.payload)
        {
            return health;
        }
    }
}

fn judge_broker(health: &Health) -> Finding {
    let counters = &health.counters;
    let count = |name: &str| counters.get(name).copied().unwrap_or_default();
    let dropped: u64 = counters
        .iter()
        .filter(|(name, _)| name.starts_with("messages_dropped_"))
        .map(|(_, messages)| messages)
        .sum();
    let found = format!(
        "lets the viewer in; {} clients, {} retained messages, {dropped} dropped",
        count("clients_connected"),
        count("retained_messages"),
    );
    match &health.reason {
        None => Finding::ok("broker", found),
        Some(reason) => Finding::warning(
            "broker",
            format!("{found}; {reason}"),
            "raise the limit under [broker.limits], or find out who takes so much",
        ),
    }
}

/// Is Redis there, new enough, durable, safe from eviction, and on our time?
pub(super) async fn redis(settings: &StoreConfig, endpoints: &Endpoints) -> Vec<Finding> {
    let check = "redis";
    let settings = StoreConfig {
        url: Some(endpoints.redis.clone()),
        ..settings.clone()
    };
    let facts = match Connection::open(&settings) {
        Ok(connection) => Facts::ask(&connection).await,
        Err(error) => Err(error),
    };
    match facts {
        Ok(facts) => judge(&facts, clock::unix_ms()),
        Err(error) => {
            let mend = "look at redis.log in the data folder, or at the Redis that redis.url names";
            vec![Finding::error(check, format!("{error}"), mend)]
        }
    }
}

fn judge(facts: &Facts, now_ms: u64) -> Vec<Finding> {
    let mut findings = Vec::new();
    findings.push(if facts.is_supported() {
        Finding::ok("redis", format!("version {}", facts.version))
    } else {
        let found = format!("version {} is too old", facts.version);
        Finding::error("redis", found, "use 6.2 or newer, or Valkey")
    });
    findings.push(if facts.append_only {
        Finding::ok("persistence", "append-only file on")
    } else {
        let mend = "redis-cli CONFIG SET appendonly yes, and CONFIG REWRITE";
        Finding::warning("persistence", "a crash of Redis loses history", mend)
    });
    findings.push(match facts.maxmemory_policy.as_str() {
        "noeviction" => Finding::ok(
            "memory",
            format!(
                "{} MiB used, nothing is evicted",
                facts.used_memory_bytes >> 20
            ),
        ),
        policy => {
            let found = format!("maxmemory-policy is {policy}: Redis may drop history in silence");
            Finding::error(
                "memory",
                found,
                "redis-cli CONFIG SET maxmemory-policy noeviction",
            )
        }
    });
    let skew_ms = facts.time_ms.abs_diff(now_ms);
    findings.push(if skew_ms <= SKEW_MS {
        Finding::ok("time", format!("Redis and we differ by {skew_ms} ms"))
    } else {
        let found = format!("the clocks of Redis and this host differ by {skew_ms} ms");
        Finding::warning("time", found, "synchronise both hosts' clocks")
    });
    findings
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    fn facts() -> Facts {
        Facts {
            version: "7.0.15".to_owned(),
            append_only: true,
            maxmemory_policy: "noeviction".to_owned(),
            used_memory_bytes: 5 << 20,
            time_ms: 1_000_000,
            process: 1,
        }
    }

    #[test]
    fn a_redis_that_could_lose_rows_is_told_with_the_mend() {
        let level = |facts: &Facts, check: &str| {
            let findings = judge(facts, 1_000_500);
            findings
                .iter()
                .find(|finding| finding.check == check)
                .unwrap()
                .level
        };
        for check in ["redis", "persistence", "memory", "time"] {
            assert_eq!(level(&facts(), check), Level::Ok, "{check}");
        }
        assert_eq!(
            level(
                &Facts {
                    version: "6.0.16".to_owned(),
                    ..facts()
                },
                "redis"
            ),
            Level::Error
        );
        assert_eq!(
            level(
                &Facts {
                    append_only: false,
                    ..facts()
                },
                "persistence"
            ),
            Level::Warning
        );
        let lru = Facts {
            maxmemory_policy: "allkeys-lru".to_owned(),
            ..facts()
        };
        assert_eq!(level(&lru, "memory"), Level::Error);
        assert_eq!(
            level(
                &Facts {
                    time_ms: 5_000_000,
                    ..facts()
                },
                "time"
            ),
            Level::Warning
        );
    }
}
