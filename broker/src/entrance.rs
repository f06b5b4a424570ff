//! The sockets that have not finished CONNECT, bounded in total and for each address, and how many
//! may come a minute. TLS handshakes, PROXY headers and HTTP requests are part of this.
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

use crate::arrivals::Arrivals;
use crate::counters::Refusal;
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
    time: Duration,
    arrivals: Arrivals,
}

#[derive(Debug, Default)]
struct Newcomers {
    arrivals: u64,
    by_arrival: BTreeMap<u64, Newcomer>,
    by_address: HashMap<IpAddr, BTreeSet<u64>>,
}

#[derive(Debug)]
struct Newcomer {
    /// `None` until a proxy has told it.
    address: Option<IpAddr>,
    since: Instant,
    leave: CancellationToken,
}

/// A newcomer's place, until it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    entrance: Arc<Entrance>,
    arrival: u64,
    /// When CONNECT must have been answered.
    pub(crate) deadline: Instant,
    /// Cancelled when another one got the place.
    pub(crate) leave: CancellationToken,
}

impl Entrance {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            newcomers: Mutex::default(),
            most: limits.max_connecting.min(limits.max_connections / 2).max(1),
            most_of_one_address: limits.max_connecting_per_address,
            time: limits.connect_timeout(),
            arrivals: Arrivals::new(limits.connects_per_minute_per_address),
        }
    }

    /// Takes a place for a connection from `address`, or from a proxy that will tell it.
    ///
    /// # Errors
    /// Why there is no place.
    pub(crate) fn enter(
        self: &Arc<Self>,
        address: Option<IpAddr>,
        now: Instant,
    ) -> Result<Place, Refusal> {
        let address = address.map(network);
        if address.is_some_and(|address| !self.arrivals.admit(address, now)) {
            return Err(Refusal::TooOften);
        }
        let mut newcomers = self.newcomers.held();
        match address {
            Some(address) if newcomers.count(address) >= self.most_of_one_address => {
                newcomers.make_room(Some(address), now)?;
            }
            _ if newcomers.by_arrival.len() >= self.most => newcomers.make_room(None, now)?,
            _ => {}
        }
        newcomers.arrivals += 1;
        let arrival = newcomers.arrivals;
        let leave = CancellationToken::new();
        let newcomer = Newcomer {
            address: None,
            since: now,
            leave: leave.clone(),
        };
        newcomers.by_arrival.insert(arrival, newcomer);
        if let Some(address) = address {
            newcomers.tell(arrival, address);
        }
        Ok(Place {
            entrance: Arc::clone(self),
            arrival,
            deadline: now + self.time,
            leave,
        })
    }
}

impl Place {
    /// Notes the address that a proxy has told, which counts from now on.
    ///
    /// # Errors
    /// Why the place is none for this address.
    pub(crate) fn belongs_to(&self, address: IpAddr, now: Instant) -> Result<(), Refusal> {
        let (entrance, address) = (&self.entrance, network(address));
        if !entrance.arrivals.admit(address, now) {
            return Err(Refusal::TooOften);
        }
        let mut newcomers = entrance.newcomers.held();
        if newcomers.count(address) >= entrance.most_of_one_address {
            newcomers.make_room(Some(address), now)?;
        }
        newcomers.tell(self.arrival, address);
        Ok(())
    }
}

impl Newcomers {
    fn count(&self, address: IpAddr) -> usize {
        self.by_address.get(&address).map_or(0, BTreeSet::len)
    }

    /// Notes the address of a newcomer; it may have left meanwhile.
    fn tell(&mut self, arrival: u64, address: IpAddr) {
        if let Some(newcomer) = self.by_arrival.get_mut(&arrival) {
            newcomer.address = Some(address);
            self.by_address.entry(address).or_default().insert(arrival);
        }
    }

    /// Sends the oldest newcomer away, the oldest of `address` if given, if it had its time.
    fn make_room(&mut self, address: Option<IpAddr>, now: Instant) -> Result<(), Refusal> {
        let oldest = match address {
            Some(address) => self.by_address.get(&address).and_then(BTreeSet::first),
            None => self.by_arrival.keys().next(),
        };
        let Some(oldest) = oldest.copied() else {
            return Ok(());
        };
        let had_time = self
            .by_arrival
            .get(&oldest)
            .is_some_and(|newcomer| now.saturating_duration_since(newcomer.since) >= PATIENCE);
        if !had_time {
            return Err(Refusal::Crowded);
        }
        if let Some(gone) = self.remove(oldest) {
            gone.leave.cancel();
        }
        Ok(())
    }

    fn remove(&mut self, arrival: u64) -> Option<Newcomer> {
        let gone = self.by_arrival.remove(&arrival)?;
        if let Some(address) = gone.address
            && let Some(own) = self.by_address.get_mut(&address)
        {
            own.remove(&arrival);
            if own.is_empty() {
                self.by_address.remove(&address);
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
            let place = entrance.enter(Some(address(from)), now);
            assert_eq!(place.is_ok(), enters, "{from}");
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
        let place = entrance.enter(Some(address("10.0.0.1")), now);
        assert!(place.is_ok());
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
            .filter_map(|_| entrance.enter(Some(address("::1")), now).ok())
            .collect();
        assert_eq!(places.len(), 50);
    }

    #[test]
    fn the_oldest_gives_way_once_it_had_its_time() {
        let now = Instant::now();
        let entrance = entrance(3, 2);
        let (here, there) = (address("127.0.0.1"), address("127.0.0.2"));
        let first = entrance.enter(Some(here), now).unwrap();
        let later = now + PATIENCE / 2;
        let second = entrance.enter(Some(here), later).unwrap();
        assert!(entrance.enter(Some(here), later).is_err());
        let now = now + PATIENCE;
        let third = entrance.enter(Some(here), now).unwrap();
        assert!(first.leave.is_cancelled() && !second.leave.is_cancelled());
        // The first one's place is the third one's by now.
        drop(first);
        assert!(entrance.enter(Some(here), now).is_err());
        let _there = entrance.enter(Some(there), now).unwrap();
        assert!(entrance.enter(Some(there), now).is_err());
        // In total, too, the oldest gives way, whatever its address.
        let _also_there = entrance.enter(Some(there), now + PATIENCE / 2).unwrap();
        assert!(second.leave.is_cancelled() && !third.leave.is_cancelled());
    }

    #[test]
    fn a_proxys_client_counts_once_its_address_is_told() {
        let entrance = entrance(4, 1);
        let now = Instant::now();
        let (here, there) = (address("192.0.2.1"), address("192.0.2.2"));
        let enter = || entrance.enter(None, now).unwrap();
        let (first, second, third) = (enter(), enter(), enter());
        assert_eq!(first.belongs_to(here, now), Ok(()));
        assert_eq!(second.belongs_to(here, now), Err(Refusal::Crowded));
        assert_eq!(third.belongs_to(there, now), Ok(()));
        assert!(entrance.enter(Some(there), now).is_err());
        drop((first, second, third));
        let newcomers = entrance.newcomers.held();
        assert!(newcomers.by_address.is_empty() && newcomers.by_arrival.is_empty());
    }

    #[test]
    fn an_address_may_not_come_too_often() {
        let entrance = Arc::new(Entrance::new(&Limits {
            connects_per_minute_per_address: 2,
            ..Limits::default()
        }));
        let now = Instant::now();
        let check = |from: &str, expected: Option<Refusal>| {
            let refused = entrance.enter(Some(address(from)), now).err();
            assert_eq!(refused, expected, "{from}");
        };
        check("192.0.2.1", None);
        check("192.0.2.1", None);
        check("192.0.2.1", Some(Refusal::TooOften));
        check("192.0.2.2", None);
        check("2001:db8::1", None);
        check("2001:db8::2", None);
        check("2001:db8::3", Some(Refusal::TooOften));
    }
}
