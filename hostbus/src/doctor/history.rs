//! Checks of the site's Redis: is it there, and as it should be?

use hostbus_daemon::clock;
use hostbus_store::{
    Caution, Connection, Extent, Facts, StoreConfig, StoreError, append_fsync, cautions, rights,
};

use super::finding::Finding;

/// Clocks that differ by more than this mislead.
const SKEW_MS: u64 = 2_000;

/// Is the Redis at `url` there, new enough, durable, safe from eviction, and on our time?
pub(super) async fn redis(settings: &StoreConfig, url: &str) -> Vec<Finding> {
    let settings = StoreConfig {
        url: Some(url.to_owned()),
        ..settings.clone()
    };
    match ask(&settings).await {
        Ok(told) => judge(&told, clock::unix_ms()),
        Err(error) => {
            let mend = match &error {
                StoreError::Denied { .. } => format!(
                    "correct redis.user and its password, or give it its rights: {}",
                    rights::command(settings.user.as_deref().unwrap_or("hostbus"))
                ),
                _ => "look at redis.log in the data folder, or at the Redis that redis.url names"
                    .to_owned(),
            };
            vec![Finding::error("redis", error.to_string(), mend)]
        }
    }
}

/// What a Redis tells.
struct Told {
    facts: Facts,
    /// How often it syncs its file, if we may know.
    append_fsync: Option<String>,
    extent: Extent,
}

async fn ask(settings: &StoreConfig) -> Result<Told, StoreError> {
    let connection = Connection::open(settings)?;
    Ok(Told {
        facts: Facts::ask(&connection).await?,
        append_fsync: append_fsync(&connection).await?,
        extent: Extent::ask(&connection).await?,
    })
}

fn judge(told: &Told, now_ms: u64) -> Vec<Finding> {
    let Told {
        facts,
        append_fsync,
        extent,
    } = told;
    let synced = match append_fsync.as_deref() {
        Some("always") => ", synced with each write",
        Some("everysec") => ", synced every second",
        Some("no") => ", synced when the system likes",
        _ => "",
    };
    let used = size(facts.used_memory_bytes);
    let memory = match facts.maxmemory_bytes {
        0 => format!("{used} used, no limit, nothing is evicted"),
        limit => format!("{used} of {} used, nothing is evicted", size(limit)),
    };
    let mut findings: Vec<Finding> = Vec::new();
    let cautions = cautions(facts);
    for (check, good) in [
        ("redis", format!("version {}", facts.version)),
        ("persistence", format!("append-only file on{synced}")),
        ("memory", memory),
    ] {
        let told = cautions.iter().filter(|caution| check_of(caution) == check);
        let told: Vec<Finding> = told
            .map(|caution| caution_finding(check, caution))
            .collect();
        if told.is_empty() {
            findings.push(Finding::ok(check, good));
        } else {
            findings.extend(told);
        }
    }
    let each = extent.bytes_per_node.map_or_else(String::new, |bytes| {
        format!("; about {} of memory a node", size(bytes))
    });
    let (nodes, series) = (extent.nodes, extent.series);
    let found = format!("nodes {nodes}, series {series}{each}");
    findings.push(Finding::ok("history", found));
    let skew_ms = facts.time_ms.abs_diff(now_ms);
    findings.push(if skew_ms <= SKEW_MS {
        Finding::ok("time", format!("Redis and we differ by {skew_ms} ms"))
    } else {
        let found = format!("the clocks of Redis and this host differ by {skew_ms} ms");
        Finding::warning("time", found, "synchronise both hosts' clocks")
    });
    findings
}

/// The check that a caution belongs to.
fn check_of(caution: &Caution) -> &'static str {
    match caution {
        Caution::TooOld { .. } | Caution::Replica | Caution::Cluster => "redis",
        Caution::NotDurable | Caution::DiskFailed => "persistence",
        Caution::Evicts { .. } | Caution::NearlyFull { .. } => "memory",
    }
}

fn caution_finding(check: &'static str, caution: &Caution) -> Finding {
    if caution.is_error() {
        Finding::error(check, caution.to_string(), caution.mend())
    } else {
        Finding::warning(check, caution.to_string(), caution.mend())
    }
}

fn size(bytes: u64) -> String {
    if bytes < 1 << 20 {
        return format!("{} KiB", bytes.div_ceil(1 << 10));
    }
    let tenths = bytes.saturating_mul(10) >> 20;
    format!("{}.{} MiB", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    fn told() -> Told {
        let facts = Facts {
            version: "7.0.15".to_owned(),
            append_only: true,
            disk_failed: false,
            maxmemory_policy: "noeviction".to_owned(),
            maxmemory_bytes: 64 << 20,
            used_memory_bytes: 5 << 20,
            is_replica: false,
            is_cluster: false,
            time_ms: 1_000_000,
            process: 1,
        };
        Told {
            facts,
            append_fsync: Some("everysec".to_owned()),
            extent: Extent {
                nodes: 2,
                series: 30,
                bytes_per_node: Some(3 << 19),
            },
        }
    }

    #[track_caller]
    fn check(change: impl FnOnce(&mut Told), check: &str, level: Level, expected: &str) {
        let mut told = told();
        change(&mut told);
        let findings = judge(&told, 1_000_500);
        let found = findings.iter().find(|finding| finding.check == check);
        let found = found.unwrap();
        assert_eq!(found.level, level, "{found:?}");
        assert!(found.found.contains(expected), "{found:?}");
    }

    #[test]
    fn version_settings_and_extent_are_told() {
        check(|_| {}, "redis", Level::Ok, "version 7.0.15");
        check(|_| {}, "persistence", Level::Ok, "synced every second");
        check(|_| {}, "memory", Level::Ok, "5.0 MiB of 64.0 MiB used");
        check(|_| {}, "time", Level::Ok, "500 ms");
        let told = "nodes 2, series 30; about 1.5 MiB of memory a node";
        check(|_| {}, "history", Level::Ok, told);
        check(
            |t| t.append_fsync = None,
            "persistence",
            Level::Ok,
            "file on",
        );
        check(
            |t| t.facts.maxmemory_bytes = 0,
            "memory",
            Level::Ok,
            "no limit",
        );
    }

    #[test]
    fn a_redis_that_could_lose_rows_is_told_with_the_mend() {
        let old = |t: &mut Told| t.facts.version = "6.0.16".to_owned();
        check(old, "redis", Level::Error, "too old");
        check(
            |t| t.facts.is_replica = true,
            "redis",
            Level::Error,
            "replica",
        );
        let off = |t: &mut Told| t.facts.append_only = false;
        check(off, "persistence", Level::Warning, "crash");
        let broken = |t: &mut Told| t.facts.disk_failed = true;
        check(broken, "persistence", Level::Error, "disk");
        let lru = |t: &mut Told| t.facts.maxmemory_policy = "allkeys-lru".to_owned();
        check(lru, "memory", Level::Error, "in silence");
        let full = |t: &mut Told| t.facts.used_memory_bytes = 60 << 20;
        check(full, "memory", Level::Warning, "samples wait");
        check(
            |t| t.facts.time_ms = 5_000_000,
            "time",
            Level::Warning,
            "differ",
        );
    }
}
