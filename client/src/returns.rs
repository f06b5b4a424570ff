//! When to try again: how long a client waits before it comes back.
//!
//! A broker that restarts loses all its clients in one moment. Those that would all come back in the next
//! one can be told to spread: each then waits a random part of that time, whatever the others do. A
//! client that never was connected does not: somebody has just started it.

use std::time::Duration;

use hostbus_daemon::Backoff;

const FIRST_WAIT: Duration = Duration::from_millis(250);
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// The waits of one connection.
#[derive(Debug)]
pub(crate) struct Returns {
    spread: Duration,
    /// It was connected, and has not tried since.
    just_lost: bool,
    backoff: Backoff,
}

impl Returns {
    /// Waits whose first after a loss is spread over `spread`.
    pub(crate) fn new(spread: Duration) -> Self {
        Self {
            spread,
            just_lost: false,
            backoff: Backoff::new(FIRST_WAIT, LONGEST_WAIT),
        }
    }

    /// The connection is there.
    pub(crate) fn on_connected(&mut self) {
        self.just_lost = true;
        // Who finds the broker still away must not fall into step with the others, either.
        let first = FIRST_WAIT.max(self.spread);
        self.backoff = Backoff::new(first, LONGEST_WAIT.max(first));
    }

    /// How long to wait before the next try.
    pub(crate) fn next_wait(&mut self) -> Duration {
        if std::mem::take(&mut self.just_lost) && !self.spread.is_zero() {
            return self.spread.mul_f64(random_share());
        }
        self.backoff.next_wait()
    }
}

/// A random number from 0 to 1; a half without random numbers from the system.
fn random_share() -> f64 {
    getrandom::u32().map_or(0.5, |bits| f64::from(bits) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first wait of `hosts` that lose their broker, in tenths of `spread`.
    fn tenths(hosts: usize, spread: Duration) -> [usize; 10] {
        let mut tenths = [0; 10];
        for _ in 0..hosts {
            let mut returns = Returns::new(spread);
            returns.on_connected();
            let wait = returns.next_wait();
            assert!(wait <= spread, "{wait:?}");
            let tenth = (wait.as_secs_f64() / spread.as_secs_f64() * 10.0) as usize;
            tenths[tenth.min(9)] += 1;
        }
        tenths
    }

    #[test]
    fn a_thousand_hosts_come_back_evenly_over_the_time_they_have() {
        let tenths = tenths(1000, Duration::from_secs(10));
        // 100 are expected in each, with a deviation of 9.5: five of them once in a million runs.
        assert!(
            tenths.iter().all(|count| (52..=148).contains(count)),
            "{tenths:?}"
        );
    }

    #[test]
    fn who_finds_the_broker_still_away_stays_spread() {
        let spread = Duration::from_secs(10);
        let mut returns = Returns::new(spread);
        returns.on_connected();
        returns.next_wait();
        let second = returns.next_wait();
        assert!(second >= spread / 2 && second <= spread, "{second:?}");
    }

    #[test]
    fn a_client_that_was_never_connected_or_need_not_spread_is_quick() {
        let quick = |wait: Duration| assert!(wait <= FIRST_WAIT, "{wait:?}");
        quick(Returns::new(Duration::from_secs(10)).next_wait());
        let mut returns = Returns::new(Duration::ZERO);
        returns.on_connected();
        quick(returns.next_wait());
    }
}
