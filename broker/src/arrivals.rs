//! How many connections come from each address, and whether that is too many a minute.
//!
//! Each address has a bucket that holds the connections of one minute and fills up evenly, so that
//! a whole minute's worth may come at once. The table is bounded: addresses with full buckets are
//! forgotten, and where it is still full, newcomers share one bucket. Nothing here knows sockets.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::lock::Held;

/// Addresses remembered at most, in some 2 MiB.
const MAX_ADDRESSES: usize = 32_768;

/// The table is looked through for addresses to forget at most this often.
const CLEAN_INTERVAL: Duration = Duration::from_secs(1);

/// The connections of late, by address.
#[derive(Debug)]
pub(crate) struct Arrivals {
    per_minute: f64,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    by_address: HashMap<IpAddr, Bucket>,
    others: Option<Bucket>,
    cleaned: Option<Instant>,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    left: f64,
    at: Instant,
}

impl Bucket {
    fn refill(&mut self, most: f64, now: Instant) {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.left = (self.left + passed * most / 60.0).min(most);
        self.at = now;
    }
}

impl Arrivals {
    /// At most `per_minute` connections a minute from one address.
    pub(crate) fn new(per_minute: u32) -> Self {
        Self {
            per_minute: per_minute.into(),
            table: Mutex::default(),
        }
    }

    /// Counts a connection from `address`, which is an IPv4 address or an IPv6 network. Whether it
    /// may stay.
    pub(crate) fn admit(&self, address: IpAddr, now: Instant) -> bool {
        let most = self.per_minute;
        let mut table = self.table.held();
        let table = &mut *table;
        if !table.by_address.contains_key(&address) && table.by_address.len() >= MAX_ADDRESSES {
            table.clean(most, now);
        }
        let fresh = Bucket {
            left: most,
            at: now,
        };
        let known = table.by_address.len();
        let bucket = if known < MAX_ADDRESSES || table.by_address.contains_key(&address) {
            table.by_address.entry(address).or_insert(fresh)
        } else {
            table.others.get_or_insert(fresh)
        };
        bucket.refill(most, now);
        if bucket.left < 1.0 {
            return false;
        }
        bucket.left -= 1.0;
        true
    }
}

impl Table {
    fn clean(&mut self, most: f64, now: Instant) {
        if self
            .cleaned
            .is_some_and(|last| now.saturating_duration_since(last) < CLEAN_INTERVAL)
        {
            return;
        }
        self.cleaned = Some(now);
        self.by_address.retain(|_, bucket| {
            bucket.refill(most, now);
            bucket.left < most
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    #[test]
    fn an_address_has_its_connections_of_a_minute_at_once_and_then_evenly() {
        let arrivals = Arrivals::new(60);
        let begun = Instant::now();
        for _ in 0..60 {
            assert!(arrivals.admit(HERE, begun));
        }
        assert!(!arrivals.admit(HERE, begun));
        assert!(arrivals.admit(Ipv4Addr::new(127, 0, 0, 2).into(), begun));
        let later = begun + Duration::from_millis(2_100);
        assert!(arrivals.admit(HERE, later) && arrivals.admit(HERE, later));
        assert!(!arrivals.admit(HERE, later));
    }

    #[test]
    fn the_table_is_bounded_and_newcomers_share_a_bucket() {
        let arrivals = Arrivals::new(2);
        let begun = Instant::now();
        let address = |number: usize| Ipv4Addr::from_bits(u32::try_from(number).unwrap()).into();
        for number in 0..MAX_ADDRESSES {
            assert!(arrivals.admit(address(number), begun));
        }
        for number in 0..2 {
            assert!(arrivals.admit(address(MAX_ADDRESSES + number), begun));
        }
        assert!(!arrivals.admit(address(MAX_ADDRESSES + 2), begun));
        assert!(
            arrivals.admit(address(0), begun),
            "who is known keeps his own"
        );
        assert_eq!(arrivals.table.held().by_address.len(), MAX_ADDRESSES);
        // A minute on all are forgotten but the one that came twice, and that one soon after.
        assert!(arrivals.admit(address(MAX_ADDRESSES), begun + Duration::from_secs(61)));
        assert_eq!(arrivals.table.held().by_address.len(), 1);
    }
}
