//! The sockets that have not finished CONNECT, bounded in total and for each address.
//!
//! Where there is no place left, the oldest newcomer gives way if it had its time already: silent
//! sockets make others wait for that time at most, and a client that is under way gets through even
//! while thousands come at once. Who finds no place is closed and comes again. An IPv6 address
//! counts as its /64 network, which one host has for itself. Nothing here knows sockets or CONNECT.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::limits::Limits;
use crate::lock::Held;

/// The time that a newcomer has to itself.
pub(crate) const PATIENCE: Duration = Duration::from_secs(1);

/// Where connections wait until they have sent CONNECT and it is answered.
#[derive(Debug)]
pub(crate) struct Entrance {
    newcomers: Mutex<Newcomers>,
    most: usize,
    most_of_one_address: usize,
}

#[derive(Debug, Default)]
struct Newcomers {
    arrivals: u64,
    by_arrival: BTreeMap<u64, Newcomer>,
    by_address: HashMap<IpAddr, BTreeSet<u64>>,
}

#[derive(Debug)]
struct Newcomer {
    address: IpAddr,
    since: Instant,
    leave: CancellationToken,
}

/// A newcomer's place, until it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    entrance: Arc<Entrance>,
    arrival: u64,
    /// Cancelled when another one got the place.
    pub(crate) leave: CancellationToken,
}

impl Entrance {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            newcomers: Mutex::default(),
            most: limits.max_connecting.min(limits.max_connections / 2).max(1),
            most_of_one_address: limits.max_connecting_per_address,
        }
    }

    /// Takes a place for a connection from `address`; `None` when there is none.
    pub(crate) fn enter(self: &Arc<Self>, address: IpAddr, now: Instant) -> Option<Place> {
        let address = network(address);
        let mut newcomers = self.newcomers.held();
        let newcomers = &mut *newcomers;
        let of_address = newcomers.by_address.get(&address);
        let in_the_way = if of_address.is_some_and(|own| own.len() >= self.most_of_one_address) {
            of_address.and_then(BTreeSet::first).copied()
        } else if newcomers.by_arrival.len() >= self.most {
            newcomers.by_arrival.keys().next().copied()
        } else {
            None
        };
        if let Some(oldest) = in_the_way {
            let since = newcomers.by_arrival.get(&oldest)?.since;
            if now.saturating_duration_since(since) < PATIENCE {
                return None;
            }
            if let Some(gone) = newcomers.remove(oldest) {
                gone.leave.cancel();
            }
        }
        newcomers.arrivals += 1;
        let arrival = newcomers.arrivals;
        let leave = CancellationToken::new();
        let newcomer = Newcomer {
            address,
            since: now,
            leave: leave.clone(),
        };
        newcomers.by_arrival.insert(arrival, newcomer);
        newcomers
            .by_address
            .entry(address)
            .or_default()
            .insert(arrival);
        Some(Place {
            entrance: Arc::clone(self),
            arrival,
            leave,
        })
    }
}

impl Newcomers {
    fn remove(&mut self, arrival: u64) -> Option<Newcomer> {
        let gone = self.by_arrival.remove(&arrival)?;
        if let Some(own) = self.by_address.get_mut(&gone.address) {
            own.remove(&arrival);
            if own.is_empty() {
                self.by_address.remove(&gone.address);
            }
        }
        Some(gone)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.entrance.newcomers.held().remove(self.arrival);
    }
}

/// What counts as one address.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let prefix = address.to_bits() >> 64 << 64;
            Ipv6Addr::from_bits(prefix).into()
        }
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entrance(most: usize, most_of_one_address: usize) -> Arc<Entrance> {
        Arc::new(Entrance::new(&Limits {
            max_connections: 100,
            max_connecting: most,
            max_connecting_per_address: most_of_one_address,
            ..Limits::default()
        }))
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn places_are_bounded_in_total_and_for_each_address() {
        let now = Instant::now();
        let entrance = entrance(4, 2);
        let mut places = Vec::new();
        let mut check = |from: &str, enters: bool| {
            let place = entrance.enter(address(from), now);
            assert_eq!(place.is_some(), enters, "{from}");
            places.extend(place);
        };
        check("127.0.0.1", true);
        check("127.0.0.1", true);
        check("127.0.0.1", false);
        check("::ffff:127.0.0.1", false);
        check("2001:db8::1", true);
        check("2001:db8::2", true);
        check("2001:db8::3", false);
        check("2001:db8:0:1::3", false);
        places.pop();
        let place = entrance.enter(address("10.0.0.1"), now);
        assert!(place.is_some());
        places.clear();
        drop(place);
        let newcomers = entrance.newcomers.held();
        assert!(newcomers.by_address.is_empty() && newcomers.by_arrival.is_empty());
    }

    #[test]
    fn newcomers_leave_half_of_all_connections_to_clients() {
        let entrance = entrance(1_000, 1_000);
        let now = Instant::now();
        let places: Vec<_> = (0..100)
            .filter_map(|_| entrance.enter(address("::1"), now))
            .collect();
        assert_eq!(places.len(), 50);
    }

    #[test]
    fn the_oldest_gives_way_once_it_had_its_time() {
        let now = Instant::now();
        let entrance = entrance(3, 2);
        let (here, there) = (address("127.0.0.1"), address("127.0.0.2"));
        let first = entrance.enter(here, now).unwrap();
        let later = now + PATIENCE / 2;
        let second = entrance.enter(here, later).unwrap();
        assert!(entrance.enter(here, later).is_none());
        let now = now + PATIENCE;
        let third = entrance.enter(here, now).unwrap();
        assert!(first.leave.is_cancelled() && !second.leave.is_cancelled());
        // The first one's place is the third one's by now.
        drop(first);
        assert!(entrance.enter(here, now).is_none());
        let _there = entrance.enter(there, now).unwrap();
        assert!(entrance.enter(there, now).is_none());
        // In total, too, the oldest gives way, whatever its address.
        let _also_there = entrance.enter(there, now + PATIENCE / 2).unwrap();
        assert!(second.leave.is_cancelled() && !third.leave.is_cancelled());
    }
}
