//! Which of several notifiers of a site is the active one: a lease that they hold on the bus.
//!
//! ```text
//! _lease/notifier   {"holder": "main/1f0c…", "term": 7, "at": …}   retained, renewed every 3 s
//!
//! a later term beats an earlier one; of two claims of one term the lesser holder's holds
//! 3 s    the holder renews
//! 8 s    a holder that has not heard its own renewal acts no longer
//! 10 s   the others take a holder that is not heard for lost, and claim the next term
//! at once a holder that hears a lesser claim, or joins the bus, says its own again
//! 1 s    a claim is heard for so long without a better one before its claimant acts
//! ```
//! Every notifier hears the same claims, and which one is best does not depend on their order, so all
//! come to the same holder. A holder stops acting before another one can begin, as long as the clocks
//! of two hosts run equally fast. It needs nothing of the broker but that it passes messages on.
//!
//! A holder that says good-bye, or whose will the broker publishes, need not be waited for; nor need
//! an earlier run of the same instance. It is an earlier one while we have not claimed yet; after that another
//! run of our name is a notifier as any other one, whose operator gave two the same name. Where no other notifier was ever heard, the holder goes on
//! without the bus: there is nobody who could have taken over. Else a holder that loses the bus acts no
//! longer, and when it is back not before its claim has been heard for as long as a new one.
//!
//! Times here are of a clock that never steps, in milliseconds.

use hostbus_wire::lease::Lease;

const RENEW_MS: u64 = 3_000;
const FENCE_MS: u64 = 8_000;
const LAPSE_MS: u64 = 10_000;
const SETTLE_MS: u64 = 1_000;
/// Claims of later terms are none.
const LAST_TERM: u64 = 1 << 53;

/// One notifier's view of the lease.
#[derive(Debug)]
pub struct Tenancy {
    instance: String,
    holder: String,
    best: Option<Heard>,
    /// When our own claim of the best term was first heard.
    settled_from: Option<u64>,
    /// When our own claim was last heard.
    echo: Option<u64>,
    /// When we claimed or renewed last.
    sent: Option<u64>,
    /// A claim of ours was heard: another run of our name is no earlier one.
    claimed: bool,
    others: bool,
}

#[derive(Debug)]
struct Heard {
    lease: Lease,
    at: u64,
}

impl Tenancy {
    /// The view of the instance `instance`, whose present run is `run`: no two runs have the same one.
    #[must_use]
    pub fn new(instance: &str, run: &str) -> Self {
        Self {
            instance: instance.to_owned(),
            holder: format!("{instance}/{run}"),
            best: None,
            settled_from: None,
            echo: None,
            sent: None,
            claimed: false,
            others: false,
        }
    }

    /// A claim was heard, our own ones too. Returns whether it is of another run of our own name that lives.
    pub fn heard(&mut self, lease: Lease, now: u64) -> bool {
        // Nobody gets there by renewals: it is somebody's mischief, and no claim could follow it.
        if lease.term > LAST_TERM {
            return false;
        }
        let own = lease.holder == self.holder;
        let named_so = instance(&lease.holder) == self.instance;
        let twin = !own && named_so && self.claimed && !lease.released;
        self.claimed |= own;
        if twin || !named_so && !lease.released {
            self.others = true;
        }
        let best = match &mut self.best {
            Some(best) if best.lease.holder == lease.holder && best.lease.term == lease.term => {
                // A claim that was given back stays so, whatever is heard late.
                best.lease.released |= lease.released;
                best.at = now;
                true
            }
            Some(best) if !better(&lease, &best.lease) => {
                // Somebody has not heard of ours: it is said again.
                if best.lease.holder == self.holder {
                    self.sent = None;
                }
                false
            }
            _ => {
                self.best = Some(Heard { lease, at: now });
                self.settled_from = own.then_some(now);
                true
            }
        };
        if own && best {
            self.echo = Some(now);
            self.settled_from = self.settled_from.or(Some(now));
        }
        twin
    }

    /// Another notifier of our own name lives: it may take over as any other one.
    pub fn has_twin(&mut self) {
        self.others = true;
    }

    /// The bus was joined: what we claimed may be lost, and is said again.
    pub fn joined(&mut self) {
        self.sent = None;
    }

    /// The bus is away. Where there are others, one of them may take over without our hearing of it; a
    /// broker that died may have forgotten what we heard of our claim.
    pub fn away(&mut self) {
        if self.others {
            self.echo = None;
            self.settled_from = None;
        }
    }

    /// The notifier `instance` was heard: it lives, or it stopped or was lost by the broker.
    pub fn neighbour(&mut self, name: &str, lives: bool) {
        if name == self.instance {
            return;
        }
        if lives {
            self.others = true;
        } else if let Some(best) = &mut self.best
            && instance(&best.lease.holder) == name
        {
            best.lease.released = true;
        }
    }

    /// Whether we hold it and may act.
    #[must_use]
    pub fn is_active(&self, now: u64) -> bool {
        let settled = |from: u64| now.saturating_sub(from) >= SETTLE_MS;
        let fresh = |echo: u64| now.saturating_sub(echo) < FENCE_MS;
        self.holds()
            && self.settled_from.is_some_and(settled)
            && (!self.others || self.echo.is_some_and(fresh))
    }

    /// Whether another one holds it.
    #[must_use]
    pub fn is_anothers(&self) -> bool {
        self.holder().is_some_and(|holder| holder != self.holder)
    }

    /// What is to be published now: a claim or a renewal. To be asked again within a second.
    pub fn due(&mut self, now: u64, at: u64) -> Option<Lease> {
        let ago = |past: Option<u64>| past.map_or(u64::MAX, |past| now.saturating_sub(past));
        let term = match &self.best {
            None => 1,
            Some(_) if self.holds() => {
                if ago(self.sent) < RENEW_MS {
                    return None;
                }
                self.term()
            }
            Some(best) => {
                let earlier_run = !self.claimed && instance(&best.lease.holder) == self.instance;
                let lost = ago(Some(best.at)) >= LAPSE_MS;
                if !(best.lease.released || earlier_run || lost) {
                    return None;
                }
                best.lease.term + 1
            }
        };
        // A claim that is on its way is not made twice.
        if !self.holds() && ago(self.sent) < SETTLE_MS {
            return None;
        }
        self.sent = Some(now);
        Some(Lease {
            holder: self.holder.clone(),
            term,
            at,
            released: false,
        })
    }

    /// What is to be published at the end, if we hold it.
    #[must_use]
    pub fn release(&self, at: u64) -> Option<Lease> {
        self.holds().then(|| Lease {
            holder: self.holder.clone(),
            term: self.term(),
            at,
            released: true,
        })
    }

    /// Who holds it, as far as we know.
    #[must_use]
    pub fn holder(&self) -> Option<&str> {
        let best = self.best.as_ref()?;
        (!best.lease.released).then_some(best.lease.holder.as_str())
    }

    fn holds(&self) -> bool {
        self.holder() == Some(self.holder.as_str())
    }

    fn term(&self) -> u64 {
        self.best.as_ref().map_or(0, |best| best.lease.term)
    }
}

fn better(one: &Lease, other: &Lease) -> bool {
    one.term > other.term || (one.term == other.term && one.holder < other.holder)
}

/// The instance of a holder, `main` of `main/1f0c…`.
fn instance(holder: &str) -> &str {
    holder
        .split_once('/')
        .map_or(holder, |(instance, _)| instance)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Notifiers around a bus that passes each message to all that are connected, and keeps the last one.
    struct Site {
        now: u64,
        notifiers: Vec<(Tenancy, bool)>,
        retained: Option<Lease>,
    }

    impl Site {
        fn new(count: usize) -> Self {
            let notifier = |n: usize| (Tenancy::new(&format!("n{n}"), "r"), true);
            Self {
                now: 100,
                notifiers: (0..count).map(notifier).collect(),
                retained: None,
            }
        }

        /// Lets 100 ms go by. Claims made in one step are heard after all have made theirs.
        fn step(&mut self) {
            self.now += 100;
            let now = self.now;
            let connected = self
                .notifiers
                .iter_mut()
                .filter(|(_, connected)| *connected);
            let claims: Vec<Lease> = connected.filter_map(|(n, _)| n.due(now, now)).collect();
            for claim in claims {
                self.retained = Some(claim.clone());
                for (notifier, _) in self.notifiers.iter_mut().filter(|(_, on)| *on) {
                    notifier.heard(claim.clone(), now);
                }
            }
        }

        fn run(&mut self, ms: u64) {
            for _ in 0..ms / 100 {
                self.step();
                assert!(
                    self.active().len() <= 1,
                    "{:?} at {}",
                    self.active(),
                    self.now
                );
            }
        }

        fn active(&self) -> Vec<usize> {
            let active = |n: &usize| self.notifiers[*n].0.is_active(self.now);
            (0..self.notifiers.len()).filter(active).collect()
        }

        fn disconnect(&mut self, n: usize) {
            self.notifiers[n].1 = false;
            self.notifiers[n].0.away();
        }

        fn connect(&mut self, n: usize) {
            self.notifiers[n].1 = true;
            self.notifiers[n].0.joined();
            if let Some(lease) = self.retained.clone() {
                self.notifiers[n].0.heard(lease, self.now);
            }
        }
    }

    #[test]
    fn one_alone_is_active_soon_and_stays_so_without_the_bus() {
        let mut site = Site::new(1);
        site.run(1_300);
        assert_eq!(site.active(), [0]);
        site.disconnect(0);
        site.run(60_000);
        assert_eq!(site.active(), [0]);
    }

    #[test]
    fn another_takes_over_within_15_seconds_and_the_first_does_not_come_back() {
        let mut site = Site::new(2);
        site.run(3_000);
        assert_eq!(site.active(), [0]);
        site.disconnect(0);
        site.run(15_000);
        assert_eq!(site.active(), [1]);
        site.connect(0);
        site.run(30_000);
        assert_eq!(site.active(), [1]);
    }

    #[test]
    fn a_good_bye_or_a_will_hands_over_at_once() {
        for by_will in [false, true] {
            let mut site = Site::new(2);
            site.run(3_000);
            let release = site.notifiers[0].0.release(site.now).unwrap();
            assert_eq!(site.notifiers[1].0.release(site.now), None);
            site.disconnect(0);
            if by_will {
                site.notifiers[1].0.neighbour("n0", false);
            } else {
                site.notifiers[1].0.heard(release.clone(), site.now);
                site.notifiers[0].0.heard(release, site.now);
            }
            let left = site.notifiers.remove(0);
            site.run(1_300);
            assert_eq!(site.active(), [0]);
            drop(left);
        }
    }

    #[test]
    fn a_broker_that_forgot_a_claim_when_it_died_does_not_make_two_active() {
        let mut site = Site::new(2);
        site.run(3_000);
        site.notifiers[1].0.neighbour("n0", false);
        site.run(1_300);
        let before = site.retained.clone();
        site.notifiers[0].0.neighbour("n1", false);
        site.run(1_300);
        assert_eq!(site.active(), [0]);
        // The broker dies with the last claim; the other one comes back first, in a new run.
        site.retained = before;
        site.disconnect(0);
        site.notifiers[1] = (Tenancy::new("n1", "later"), true);
        site.connect(1);
        site.run(500);
        site.connect(0);
        site.run(5_000);
        assert_eq!(site.active(), [0]);
    }

    #[test]
    fn two_of_one_name_do_not_steal_from_each_other() {
        for later in [false, true] {
            let mut site = Site::new(2);
            for (n, (notifier, _)) in site.notifiers.iter_mut().enumerate() {
                *notifier = Tenancy::new("main", &format!("r{n}"));
            }
            if later {
                site.disconnect(1);
                site.run(5_000);
                site.connect(1);
            }
            site.run(3_000);
            let active = site.active();
            assert_eq!(active.len(), 1, "started later: {later}");
            let term = site.retained.as_ref().unwrap().term;
            site.run(60_000);
            assert_eq!(site.active(), active);
            assert_eq!(site.retained.as_ref().unwrap().term, term);
            // The active one learns of the other by its health.
            site.notifiers[active[0]].0.has_twin();
            site.disconnect(active[0]);
            site.run(15_000);
            assert_eq!(site.active(), [1 - active[0]]);
        }
    }

    #[test]
    fn an_earlier_run_of_the_same_instance_is_not_waited_for() {
        let mut site = Site::new(1);
        site.run(3_000);
        site.notifiers[0] = (Tenancy::new("n0", "later"), true);
        site.connect(0);
        site.run(1_300);
        assert_eq!(site.active(), [0]);
    }

    proptest! {
        #[test]
        fn never_are_two_active_and_soon_one_is(
            steps in prop::collection::vec((0_usize..3, any::<bool>(), 0_u64..200), 1..40)
        ) {
            let mut site = Site::new(3);
            // Who has heard of the others may not go on without them.
            site.run(3_000);
            for (n, connected, wait) in steps {
                if connected { site.connect(n) } else { site.disconnect(n) }
                site.run(wait * 100);
            }
            (0..3).for_each(|n| site.connect(n));
            site.run(15_000);
            prop_assert_eq!(site.active().len(), 1);
        }
    }
}
