//! Inventory, status and events into Redis, beside the samples' way and with a connection of its own.

use std::collections::HashSet;
use std::mem::discriminant;
use std::sync::Arc;
use std::time::Duration;

use hostbus_daemon::{Backoff, clock};
use hostbus_store::{AlertLog, Describer, StoreError, Told, Transition};
use hostbus_wire::NodePath;
use hostbus_wire::event::Event;
use hostbus_wire::info::Info;
use hostbus_wire::status::Status;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::sleep;
use tracing::warn;

use crate::counters::{Counters, add};
use crate::queue::{ITEM_BYTES, ITEMS};

const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(2);
/// How many descriptions are written at once.
const BATCH: usize = 1_024;
/// How long after a batch others are gathered for the next. A node that talks without end does not
/// write to its hash more often than this.
const GATHER: Duration = Duration::from_millis(50);
/// How much of the room one node's descriptions may hold, in bytes of payload: all its alerts, heard anew.
const NODE_BYTES: usize = 2 * 1024 * 1024;

/// Something to be written of a node.
#[derive(Debug)]
pub struct Description {
    /// Which node.
    pub node: Arc<NodePath>,
    /// What.
    pub what: What,
    /// Its room in memory, its node's and all nodes', given back once it is written.
    _room: [OwnedSemaphorePermit; 2],
}

/// The room that the descriptions of one node may hold.
#[derive(Debug, Clone)]
pub struct NodeRoom(Arc<Semaphore>);

impl Default for NodeRoom {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(NODE_BYTES)))
    }
}

/// The intake's end of the way to the describer. It has room of its own, so that no talk keeps samples
/// out.
#[derive(Debug)]
pub struct Descriptions {
    sender: mpsc::Sender<Description>,
    bytes: Arc<Semaphore>,
}

/// A way for at most `bytes` of payload.
#[must_use]
pub fn descriptions(bytes: usize) -> (Descriptions, mpsc::Receiver<Description>) {
    let (sender, receiver) = mpsc::channel(ITEMS);
    let bytes = Arc::new(Semaphore::new(bytes));
    (Descriptions { sender, bytes }, receiver)
}

impl Descriptions {
    /// Puts in what is told of a node, whose payload has so many bytes. Tells whether there was a place.
    #[must_use]
    pub fn put(&self, node: &Arc<NodePath>, room: &NodeRoom, what: What, bytes: usize) -> bool {
        let weight = u32::try_from(bytes.saturating_add(ITEM_BYTES)).unwrap_or(u32::MAX);
        let take = |room: &Arc<Semaphore>| Arc::clone(room).try_acquire_many_owned(weight).ok();
        let (Some(own), Some(all)) = (take(&room.0), take(&self.bytes)) else {
            return false;
        };
        let node = Arc::clone(node);
        let room = [own, all];
        let description = Description {
            node,
            what,
            _room: room,
        };
        self.sender.try_send(description).is_ok()
    }
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
    /// What became of an alert, and whether it was heard again with the time of its arrival alone.
    Transition(Box<Transition>, bool),
}

/// Writes descriptions as they come, many at once. While Redis is away they wait; what then finds no room is
/// dropped and counted: inventory and status stand retained on the bus, and are asked for once there is room.
#[derive(Debug)]
pub struct DescriberTask {
    describer: Describer,
    log: AlertLog,
    descriptions: mpsc::Receiver<Description>,
    counters: Arc<Counters>,
    told_refusal: bool,
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
            told_refusal: false,
        }
    }

    /// Writes descriptions until there are no more.
    pub async fn run(mut self) -> &'static str {
        let mut batch = Vec::new();
        while self.descriptions.recv_many(&mut batch, BATCH).await > 0 {
            self.write(&batch).await;
            for Description { what, .. } in batch.drain(..) {
                if let What::Transition(entry, undated) = what {
                    self.log(&entry, undated).await;
                }
            }
            if self.descriptions.is_empty() {
                self.counters.catch_up();
            }
            sleep(GATHER).await;
        }
        "describer"
    }

    /// Writes what is no transition. Tries until Redis has taken it, or refused it for good.
    async fn write(&mut self, batch: &[Description]) {
        let mut left = Left::of(latest(batch));
        let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
        while !left.told.is_empty() {
            let written = self.describer.write(left.next(), clock::unix_ms()).await;
            let wait = match written {
                Ok(outcomes) => {
                    let settled = left.settle(outcomes);
                    for error in settled.refusals {
                        self.give_up(&error, 1);
                    }
                    settled.again
                }
                Err(error) if error.may_retry() => {
                    left.lost();
                    true
                }
                Err(error) => return self.give_up(&error, left.told.len()),
            };
            if wait {
                sleep(backoff.next_wait()).await;
            }
        }
    }

    /// Writes a transition, as the others are written.
    async fn log(&mut self, entry: &Transition, undated: bool) {
        let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
        loop {
            match self.log.append(entry, undated).await {
                Ok(_) => return,
                Err(error) if self.may_retry(&error) => sleep(backoff.next_wait()).await,
                Err(error) => return self.give_up(&error, 1),
            }
        }
    }

    /// Tells whether to try again. What is denied us while samples are written is one key alone.
    fn may_retry(&self, error: &StoreError) -> bool {
        let denied = matches!(error, StoreError::Denied { .. }) && !self.counters.redis_away();
        error.may_retry() && !denied
    }

    /// That Redis is away is told by the writer; a refusal is told here, once.
    fn give_up(&mut self, error: &StoreError, count: usize) {
        if !std::mem::replace(&mut self.told_refusal, true) {
            warn!(%error, "redis refuses a description; other refusals are only counted");
        }
        add(&self.counters.descriptions_dropped, count as u64);
    }
}

/// What of a batch is still to be written. Each write of an event is an entry: none is repeated that Redis
/// is known to have taken, and few of which it can't be known.
#[derive(Debug)]
struct Left<'b> {
    told: Vec<(&'b NodePath, Told<'b>)>,
    at_once: usize,
}

/// What came of a write.
#[derive(Debug)]
struct Settled {
    /// Why Redis refuses some of it for good.
    refusals: Vec<StoreError>,
    /// Some of it is to be tried again.
    again: bool,
}

impl<'b> Left<'b> {
    fn of(told: Vec<(&'b NodePath, Told<'b>)>) -> Self {
        let at_once = told.len().max(1);
        Self { told, at_once }
    }

    /// What is written next.
    fn next(&self) -> &[(&'b NodePath, Told<'b>)] {
        &self.told[..self.at_once.min(self.told.len())]
    }

    /// Lets go of what was written or refused for good, by what came of each of the next ones.
    fn settle(&mut self, outcomes: Vec<Option<StoreError>>) -> Settled {
        let mut settled = Settled {
            refusals: Vec::new(),
            again: false,
        };
        let mut outcomes = outcomes.into_iter();
        self.told.retain(|_| match outcomes.next() {
            None => true,
            Some(None) => false,
            // What we may not do there concerns that key alone.
            Some(Some(error))
                if error.may_retry() && !matches!(error, StoreError::Denied { .. }) =>
            {
                settled.again = true;
                true
            }
            Some(Some(error)) => {
                settled.refusals.push(error);
                false
            }
        });
        self.at_once = self.at_once.saturating_mul(2);
        settled
    }

    /// Takes fewer at once: whether the next ones were written can't be known.
    fn lost(&mut self) {
        self.at_once = self.at_once.min(self.told.len()).div_ceil(2).max(1);
    }
}

/// What is to be written of a batch: of each node's inventories and states the newest.
fn latest(batch: &[Description]) -> Vec<(&NodePath, Told<'_>)> {
    let mut newer = HashSet::new();
    let mut told: Vec<_> = batch
        .iter()
        .rev()
        .filter_map(|Description { node, what, .. }| {
            let told = match what {
                What::Info(info) => Told::Info(info),
                What::Status(status) => Told::Status(*status),
                What::Event(event) => return Some((&**node, Told::Event(event))),
                What::Transition(..) => return None,
            };
            let first = newer.insert((node, discriminant(what)));
            first.then_some((&**node, told))
        })
        .collect();
    told.reverse();
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_what_stands_once_only_the_newest_is_written() {
        let (way, mut works) = descriptions(1_000_000);
        let [a, b] = ["home.a", "home.b"].map(|path| Arc::new(path.parse().unwrap()));
        let room = NodeRoom::default();
        let event = |ts| What::Event(Event { ts, ..tested() });
        for (node, what) in [
            (&a, What::Status(Status::Offline)),
            (&a, event(1)),
            (&b, What::Status(Status::Offline)),
            (&a, What::Status(Status::Online)),
            (&a, event(2)),
        ] {
            assert!(way.put(node, &room, what, 10));
        }
        let mut batch = Vec::new();
        while let Ok(description) = works.try_recv() {
            batch.push(description);
        }
        let told: Vec<String> = latest(&batch)
            .into_iter()
            .map(|(node, told)| match told {
                Told::Info(_) => format!("{node} info"),
                Told::Status(status) => format!("{node} {}", status.as_str()),
                Told::Event(event) => format!("{node} {}", event.ts),
            })
            .collect();
        assert_eq!(
            told,
            ["home.a 1", "home.b offline", "home.a online", "home.a 2"]
        );
    }

    #[test]
    fn what_redis_has_taken_or_refused_is_not_written_again() {
        let node: NodePath = "home.a".parse().unwrap();
        let events: Vec<Event> = (0..5).map(|ts| Event { ts, ..tested() }).collect();
        let told = events.iter().map(|event| (&node, Told::Event(event)));
        let mut left = Left::of(told.collect());
        let next = |left: &Left<'_>| -> Vec<u64> {
            let event = |told: &(&NodePath, Told<'_>)| match told.1 {
                Told::Event(event) => event.ts,
                _ => unreachable!(),
            };
            left.next().iter().map(event).collect()
        };
        let denied = || StoreError::Denied {
            reason: "NOPERM".to_owned(),
        };
        assert_eq!(next(&left), [0, 1, 2, 3, 4]);
        let settled = left.settle(vec![
            None,
            Some(denied()),
            None,
            Some(StoreError::Full),
            None,
        ]);
        assert!(settled.again);
        assert!(matches!(settled.refusals[..], [StoreError::Denied { .. }]));
        assert_eq!(next(&left), [3]);
        assert!(!left.settle(vec![None]).again);
        assert!(left.told.is_empty());
    }

    #[test]
    fn after_a_lost_connection_less_and_less_is_written_at_once() {
        let node: NodePath = "home.a".parse().unwrap();
        let told = vec![(&node, Told::Status(Status::Online)); 5];
        let mut left = Left::of(told);
        for expected in [5, 3, 2, 1, 1] {
            assert_eq!(left.next().len(), expected);
            left.lost();
        }
        left.settle(vec![None]);
        assert_eq!((left.next().len(), left.told.len()), (2, 4));
    }

    #[test]
    fn a_node_that_talks_without_end_leaves_room_for_others() {
        let (way, _works) = descriptions(2 * NODE_BYTES);
        let node = Arc::new("home.a".parse().unwrap());
        let (loud, quiet) = (NodeRoom::default(), NodeRoom::default());
        let put = |room: &NodeRoom| way.put(&node, room, What::Event(tested()), 100_000);
        let taken = (0..100).filter(|_| put(&loud)).count();
        assert_eq!(taken, NODE_BYTES / (100_000 + ITEM_BYTES));
        assert!(put(&quiet));
    }

    fn tested() -> Event {
        Event {
            ts: 0,
            kind: "tested".to_owned(),
            severity: hostbus_wire::event::Severity::Info,
            message: String::new(),
            details: [].into(),
        }
    }
}
