//! What about a Redis can cost history: decided from what it says of itself.

use thiserror::Error;

use crate::facts::Facts;

/// A Redis that is so full will soon take nothing more.
const FULL_PERCENT: u64 = 90;

/// Something about a Redis that can cost history.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Caution {
    /// It lacks what hostbus uses.
    #[error("version {version} is too old")]
    TooOld {
        /// Its version.
        version: String,
    },
    /// A crash of it loses history.
    #[error("it keeps no append-only file: a crash of Redis loses history")]
    NotDurable,
    /// It drops keys when its memory is full.
    #[error(
        "maxmemory-policy is {policy}: when its memory is full, Redis drops history in silence"
    )]
    Evicts {
        /// The policy.
        policy: String,
    },
    /// It will soon take nothing more.
    #[error(
        "{used_bytes} of {max_bytes} bytes of maxmemory are used: when it is full, samples wait with their publishers"
    )]
    NearlyFull {
        /// What is used.
        used_bytes: u64,
        /// What may be used.
        max_bytes: u64,
    },
    /// It takes no writes.
    #[error("it is a replica: it takes no samples")]
    Replica,
    /// It is a part of a cluster.
    #[error(
        "it is a node of a Redis Cluster: samples go to this node only, and need it to have all slots"
    )]
    Cluster,
    /// It could not write its file, or its last snapshot.
    #[error("it can't write to its disk: it takes no samples, or loses them with a crash")]
    DiskFailed,
}

impl Caution {
    /// Whether history is lost, or not taken, as things stand; otherwise it could be.
    #[must_use]
    pub fn is_error(&self) -> bool {
        !matches!(
            self,
            Self::NotDurable | Self::NearlyFull { .. } | Self::Cluster
        )
    }

    /// What to do about it.
    #[must_use]
    pub fn mend(&self) -> &'static str {
        match self {
            Self::TooOld { .. } => "use 6.2 or newer, or Valkey",
            Self::NotDurable => "redis-cli CONFIG SET appendonly yes, and CONFIG REWRITE",
            Self::Evicts { .. } => {
                "redis-cli CONFIG SET maxmemory-policy noeviction, and CONFIG REWRITE"
            }
            Self::NearlyFull { .. } => {
                "raise maxmemory, keep less ([redis.retention]), or remove a node (hostbus forget)"
            }
            Self::Replica => "let redis.url name the primary, or promote it: REPLICAOF NO ONE",
            Self::Cluster => "use a Redis that is no cluster, or a cluster of one master",
            Self::DiskFailed => "free space on the disk of Redis; its log says more",
        }
    }
}

/// What to be told about a Redis with these facts; nothing when all is well.
#[must_use]
pub fn cautions(facts: &Facts) -> Vec<Caution> {
    let mut found = Vec::new();
    if !facts.is_supported() {
        let version = facts.version.clone();
        found.push(Caution::TooOld { version });
    }
    if facts.is_replica {
        found.push(Caution::Replica);
    }
    if facts.is_cluster {
        found.push(Caution::Cluster);
    }
    if facts.disk_failed {
        found.push(Caution::DiskFailed);
    }
    if facts.maxmemory_policy != "noeviction" {
        let policy = facts.maxmemory_policy.clone();
        found.push(Caution::Evicts { policy });
    }
    let (used_bytes, max_bytes) = (facts.used_memory_bytes, facts.maxmemory_bytes);
    if max_bytes > 0 && used_bytes.saturating_mul(100) >= max_bytes.saturating_mul(FULL_PERCENT) {
        found.push(Caution::NearlyFull {
            used_bytes,
            max_bytes,
        });
    }
    if !facts.append_only {
        found.push(Caution::NotDurable);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::tests::facts;

    fn check(change: impl FnOnce(&mut Facts), expected: &[Caution]) {
        let mut facts = facts();
        change(&mut facts);
        assert_eq!(cautions(&facts), expected);
    }

    #[test]
    fn a_redis_that_could_lose_rows_is_told() {
        check(|_| {}, &[]);
        check(|f| f.append_only = false, &[Caution::NotDurable]);
        check(|f| f.is_replica = true, &[Caution::Replica]);
        check(|f| f.is_cluster = true, &[Caution::Cluster]);
        check(|f| f.disk_failed = true, &[Caution::DiskFailed]);
        let version = "6.0.16".to_owned();
        check(
            |f| f.version.clone_from(&version),
            &[Caution::TooOld {
                version: version.clone(),
            }],
        );
        // It may have no limit today and have one tomorrow.
        let policy = "allkeys-lru".to_owned();
        check(
            |f| f.maxmemory_policy.clone_from(&policy),
            &[Caution::Evicts {
                policy: policy.clone(),
            }],
        );
    }

    #[test]
    fn a_redis_that_is_nearly_full_is_told_before_it_is() {
        let full = |used_bytes| Caution::NearlyFull {
            used_bytes,
            max_bytes: 1_000,
        };
        let with = |used: u64, max: u64| {
            move |facts: &mut Facts| {
                facts.used_memory_bytes = used;
                facts.maxmemory_bytes = max;
            }
        };
        check(with(899, 1_000), &[]);
        check(with(900, 1_000), &[full(900)]);
        check(with(1_200, 1_000), &[full(1_200)]);
        check(with(1_200, 0), &[]);
    }
}
