//! A look at Redis now and then, and a word in the log about what could cost history: a policy that
//! evicts, no append-only file, memory that is nearly full, another ingester that writes there too.

use std::mem::discriminant;
use std::sync::Arc;
use std::time::Duration;

use hostbus_store::{Caution, Claim, Connection, Facts, StoreError, cautions};
use hostbus_wire::SiteId;
use tokio::time::{MissedTickBehavior, interval};
use tracing::{info, warn};

use crate::counters::Counters;

/// How often Redis is asked.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// Looks at Redis.
#[derive(Debug)]
pub struct Lookout {
    connection: Connection,
    claim: Claim,
    counters: Arc<Counters>,
    told: Vec<Caution>,
    shared: bool,
    told_failure: bool,
}

impl Lookout {
    /// A lookout with a connection of its own, for the ingester of `site`.
    #[must_use]
    pub fn new(connection: Connection, site: &SiteId, counters: Arc<Counters>) -> Self {
        Self {
            claim: Claim::new(connection.clone(), site),
            connection,
            counters,
            told: Vec::new(),
            shared: false,
            told_failure: false,
        }
    }

    /// Looks until it is dropped. That Redis is away is the writer's to tell.
    pub async fn run(mut self) {
        let mut look = interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            look.tick().await;
            self.claim().await;
            if let Ok(facts) = Facts::ask(&self.connection).await {
                let found = cautions(&facts);
                for caution in new(&found, &self.told) {
                    warn!(%caution, mend = caution.mend(), "redis may lose history");
                }
                if found.is_empty() && !self.told.is_empty() {
                    info!("redis is set up well again");
                }
                self.told = found;
            }
        }
    }

    async fn claim(&mut self) {
        match self.claim.renew().await {
            Ok(shared) => {
                if shared && !self.shared {
                    warn!(
                        "another ingester writes to this redis, of this site or of another; only one may: end the other"
                    );
                }
                self.shared = shared;
                self.counters.set_shared(shared);
            }
            Err(StoreError::Unavailable { .. } | StoreError::Full) => {}
            Err(error) => {
                if !std::mem::replace(&mut self.told_failure, true) {
                    warn!(%error, "whether another ingester writes to this redis can't be told");
                }
            }
        }
    }
}

/// Those of `found` of whose kind none was told.
fn new<'f>(found: &'f [Caution], told: &'f [Caution]) -> impl Iterator<Item = &'f Caution> {
    found.iter().filter(|caution| {
        told.iter()
            .all(|other| discriminant(other) != discriminant(caution))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caution_is_told_once_and_again_when_it_comes_back() {
        let full = |used_bytes| Caution::NearlyFull {
            used_bytes,
            max_bytes: 10,
        };
        let told = [full(9)];
        let found = [full(10), Caution::NotDurable];
        let news: Vec<&Caution> = new(&found, &told).collect();
        assert_eq!(news, [&Caution::NotDurable]);
        assert_eq!(new(&found, &[]).count(), 2);
    }
}
