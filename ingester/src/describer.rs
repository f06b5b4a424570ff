//! Inventory, status and events into Redis, beside the samples' way and with a connection of its own.

use std::sync::Arc;
use std::time::Duration;

use hostbus_daemon::{Backoff, clock};
use hostbus_store::{AlertLog, Describer, StoreError, Transition};
use hostbus_wire::NodePath;
use hostbus_wire::event::Event;
use hostbus_wire::info::Info;
use hostbus_wire::status::Status;
use tokio::sync::mpsc;
use tokio::time::sleep;
use tracing::warn;

use crate::counters::{Counters, add};
use crate::queue::Room;

const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// Something to be written of a node.
#[derive(Debug)]
pub struct Description {
    /// Which node.
    pub node: Arc<NodePath>,
    /// What.
    pub what: What,
    /// Its room in memory, given back once it is written.
    pub room: Room,
}

/// What is written of a node.
#[derive(Debug)]
pub enum What {
    /// Its inventory.
    Info(Box<Info>),
    /// Whether its publisher is there.
    Status(Status),
    /// Something that happened.
    Event(Event),
    /// What became of an alert, and whether it was retained.
    Transition(Box<Transition>, bool),
}

/// Writes descriptions as they come. While Redis is away they wait; what then finds no room is
/// dropped and counted: inventory and status stand retained on the bus.
#[derive(Debug)]
pub struct DescriberTask {
    describer: Describer,
    log: AlertLog,
    descriptions: mpsc::Receiver<Description>,
    counters: Arc<Counters>,
}

impl DescriberTask {
    /// A task that writes what comes through `descriptions`.
    #[must_use]
    pub fn new(
        describer: Describer,
        log: AlertLog,
        descriptions: mpsc::Receiver<Description>,
        counters: Arc<Counters>,
    ) -> Self {
        Self {
            describer,
            log,
            descriptions,
            counters,
        }
    }

    /// Writes the meaning of the fields, then descriptions until there are no more.
    pub async fn run(mut self) -> &'static str {
        let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
        while let Err(error) = self.describer.fields().await
            && may_retry(&error)
        {
            sleep(backoff.next_wait()).await;
        }
        while let Some(description) = self.descriptions.recv().await {
            self.write(&description).await;
        }
        "describer"
    }

    /// Tries until Redis has taken it, or refused it for good.
    async fn write(&mut self, description: &Description) {
        let Description { node, what, .. } = description;
        let now_ms = clock::unix_ms();
        let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
        loop {
            let written = match what {
                What::Info(info) => self.describer.info(node, info, now_ms).await,
                What::Status(status) => self.describer.status(node, *status, now_ms).await,
                What::Event(event) => self.describer.event(node, event).await,
                What::Transition(entry, again) => self.log.append(entry, *again).await.map(drop),
            };
            match written {
                Ok(()) => return,
                Err(error) if may_retry(&error) => sleep(backoff.next_wait()).await,
                Err(_) => {
                    add(&self.counters.descriptions_dropped, 1);
                    return;
                }
            }
        }
    }
}

/// Tells whether to try again. That Redis is away is told by the writer; a refusal is told here.
fn may_retry(error: &StoreError) -> bool {
    if !error.may_retry() {
        warn!(%error, "redis refuses a description");
    }
    error.may_retry()
}
