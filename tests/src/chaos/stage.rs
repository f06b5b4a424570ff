//! What all actors of one run share: the broker's address, the phase, the ledger, and what they did.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::client::{Client, Lost};
use super::ledger::Ledger;
use crate::random::Random;

/// How long sessions outlive their connections.
pub const EXPIRY_SECONDS: u32 = 3_600;

/// How long a client waits before it tries again.
const WAIT: Duration = Duration::from_millis(20);

/// What the actors are to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Anything.
    Storm,
    /// Bring to an end what was begun; receive all that is due.
    Settle,
    /// Leave, and end the session.
    Over,
}

/// What the actors share.
#[derive(Debug)]
pub struct Stage {
    /// Where the broker listens.
    pub address: SocketAddr,
    seed: u64,
    broker_dies: bool,
    phase: AtomicU8,
    held: AtomicBool,
    ledger: Mutex<Ledger>,
    deeds: Mutex<BTreeMap<&'static str, u64>>,
}

impl Stage {
    /// A stage. `broker_dies`: a lost connection is no fault.
    #[must_use]
    pub fn new(address: SocketAddr, seed: u64, broker_dies: bool) -> Self {
        Self {
            address,
            seed,
            broker_dies,
            phase: AtomicU8::new(Phase::Storm as u8),
            held: AtomicBool::new(false),
            ledger: Mutex::new(Ledger::new(!broker_dies)),
            deeds: Mutex::default(),
        }
    }

    /// Chance for one actor.
    #[must_use]
    pub fn random(&self, actor: u64) -> Random {
        Random::new(self.seed, actor)
    }

    /// What is to be done.
    #[must_use]
    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::SeqCst) {
            0 => Phase::Storm,
            1 => Phase::Settle,
            _ => Phase::Over,
        }
    }

    /// Whether the broker dies now and then.
    #[must_use]
    pub fn broker_dies(&self) -> bool {
        self.broker_dies
    }

    /// Begins a phase.
    pub fn begin(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::SeqCst);
    }

    /// Holds back all connects, or lets them go.
    pub fn hold(&self, held: bool) {
        self.held.store(held, Ordering::SeqCst);
    }

    /// The ledger. Not to be held across an await.
    pub fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts what an actor did.
    pub fn did(&self, deed: &'static str) {
        let mut deeds = self.deeds.lock().unwrap_or_else(PoisonError::into_inner);
        *deeds.entry(deed).or_default() += 1;
    }

    /// What the actors did, and how often.
    #[must_use]
    pub fn deeds(&self) -> BTreeMap<&'static str, u64> {
        let deeds = self.deeds.lock().unwrap_or_else(PoisonError::into_inner);
        deeds.clone()
    }

    /// Connects, again and again where the broker may be away. `present`: the session must be
    /// there. Returns whether it was, or `None` when all is over.
    pub async fn connect(&self, client: &mut Client, present: bool) -> Option<bool> {
        self.connect_and(client, present, true).await
    }

    /// As [`Stage::connect`], for a client whose messages are not in the ledger.
    pub async fn connect_unlisted(&self, client: &mut Client, present: bool) -> Option<bool> {
        self.connect_and(client, present, false).await
    }

    async fn connect_and(&self, client: &mut Client, present: bool, listed: bool) -> Option<bool> {
        loop {
            while self.held.load(Ordering::SeqCst) {
                tokio::time::sleep(WAIT).await;
            }
            if self.phase() == Phase::Over {
                return None;
            }
            if listed {
                self.ledger().sending_again(client.unanswered());
            }
            match client.connect().await {
                Ok(there) => {
                    if present && !there {
                        let id = &client.connect.client_id;
                        let text = format!("the session of {id} was gone");
                        self.ledger().violation(text);
                    }
                    return Some(there);
                }
                Err(lost) => self.lost(client, &lost),
            }
            tokio::time::sleep(WAIT).await;
        }
    }

    /// Notes that a client which did nothing wrong has lost its connection.
    pub fn lost(&self, client: &Client, lost: &Lost) {
        let broken = matches!(lost, Lost::Closed | Lost::Unreachable);
        if !(self.broker_dies && broken) {
            let id = &client.connect.client_id;
            let text = format!("{id} ({:?}) lost its connection: {lost:?}", client.version);
            self.ledger().violation(text);
        }
    }
}
