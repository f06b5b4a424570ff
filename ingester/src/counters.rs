//! What the ingester counts since its start, and whether Redis serves.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// The counters. Their names are those in the health message.
        #[derive(Debug, Default)]
        pub struct Counters {
            $($(#[$doc])* pub $name: AtomicU64,)*
            writers_away: AtomicUsize,
            shared: AtomicBool,
            missed: AtomicBool,
            to_ask: AtomicBool,
        }

        impl Counters {
            /// All of them by name.
            #[must_use]
            pub fn all(&self) -> BTreeMap<String, u64> {
                [$((stringify!($name), &self.$name),)*]
                    .into_iter()
                    .map(|(name, counter)| (name.to_owned(), counter.load(Ordering::Relaxed)))
                    .collect()
            }
        }
    };
}

counters! {
    /// Messages from the bus.
    messages,
    /// Samples written.
    samples,
    /// Known values written.
    points,
    /// Rows written.
    rows,
    /// Rows kept among the late ones.
    late_rows,
    /// Rows that were there already.
    duplicate_rows,
    /// Samples that were accepted before.
    duplicates,
    /// Samples beyond a gap.
    gaps,
    /// Samples that their publishers let go before they could be sent.
    skipped,
    /// Samples whose clock is ahead.
    clock_ahead,
    /// Samples that are older than rows are kept: they are gone as soon as they are stored.
    too_old,
    /// Messages that are not what their topic carries.
    refused_payloads,
    /// Messages on topics that no node has.
    refused_topics,
    /// Samples refused because the queue was full.
    refused_queue_full,
    /// Samples refused because Redis was away.
    refused_redis_away,
    /// Samples and descriptions of nodes beyond the limit.
    refused_nodes,
    /// Retained samples without a place and a usable time: when they were taken can't be told, and
    /// they come again with each connection.
    refused_retained,
    /// Rows that Redis refused.
    refused_rows,
    /// Rows of series beyond a node's limit.
    refused_series,
    /// Inventories, statuses and events given up.
    descriptions_dropped,
    /// Marks published.
    marks,
    /// Visits of the keeper to a series.
    keeper_visits,
    /// Rolled-up rows that the keeper wrote.
    keeper_rolled_up_rows,
    /// Late rows that the keeper put in their places.
    keeper_merged_rows,
    /// Blocks that the keeper packed.
    keeper_packed_blocks,
    /// Visits that another keeper or the writer came in between of.
    keeper_contended,
    /// What the keeper could not read, and passed over.
    keeper_malformed,
    /// What Redis refused the keeper, or had no room.
    keeper_refused,
    /// Failures of Redis.
    redis_errors,
}

impl Counters {
    /// Notes that Redis does not serve one of the writers.
    pub fn writer_away(&self) {
        self.writers_away.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes that Redis serves one of them again. Tells whether it now serves all.
    pub fn writer_back(&self) -> bool {
        self.writers_away.fetch_sub(1, Ordering::Relaxed) == 1
    }

    /// Notes whether another ingester writes to the same Redis.
    pub fn set_shared(&self, shared: bool) {
        self.shared.store(shared, Ordering::Relaxed);
    }

    /// Notes that there was no room for what stands retained on the bus. While Redis is there nothing is
    /// noted: a node that talks without end would have all others asked without end.
    pub fn miss(&self) {
        if self.redis_away() {
            self.missed.store(true, Ordering::Relaxed);
        }
    }

    /// Notes that all descriptions that waited are written: there is room for what was missed.
    pub fn catch_up(&self) {
        if self.missed.swap(false, Ordering::Relaxed) {
            self.to_ask.store(true, Ordering::Relaxed);
        }
    }

    /// Tells whether what was missed is to be asked for, once.
    #[must_use]
    pub fn take_missed(&self) -> bool {
        self.to_ask.swap(false, Ordering::Relaxed)
    }

    /// What is wrong with Redis now, in a few words; `None` when nothing is.
    #[must_use]
    pub fn trouble(&self) -> Option<&'static str> {
        if self.redis_away() {
            Some("redis is away")
        } else if self.shared.load(Ordering::Relaxed) {
            Some("another ingester writes to this redis")
        } else {
            None
        }
    }

    /// Tells whether Redis is away for any of the writers.
    #[must_use]
    pub fn redis_away(&self) -> bool {
        self.writers_away.load(Ordering::Relaxed) > 0
    }
}

/// Adds to a counter.
pub fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_missed_while_redis_was_away_is_asked_for_once_it_has_caught_up() {
        let counters = Counters::default();
        counters.miss();
        counters.catch_up();
        assert!(!counters.take_missed());
        counters.writer_away();
        counters.miss();
        counters.writer_back();
        assert!(!counters.take_missed());
        counters.catch_up();
        assert!(counters.take_missed());
        assert!(!counters.take_missed());
    }

    #[test]
    fn the_trouble_with_redis_is_told_until_it_is_over() {
        let counters = Counters::default();
        assert_eq!(counters.trouble(), None);
        counters.set_shared(true);
        assert!(
            counters
                .trouble()
                .is_some_and(|told| told.contains("another ingester"))
        );
        counters.writer_away();
        assert_eq!(counters.trouble(), Some("redis is away"));
        counters.writer_back();
        counters.set_shared(false);
        assert_eq!(counters.trouble(), None);
    }
}
