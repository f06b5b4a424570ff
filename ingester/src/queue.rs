//! The bounded way from the intake to the writers.
//!
//! It is bounded in bytes of payload. The intake never waits: when the queue is full a sample is
//! refused, and its publisher sends it again when it is asked to.

use std::sync::Arc;

use hostbus_store::{Entry, Mark};
use hostbus_wire::NodePath;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

/// The most items in the queue; what takes no memory to speak of is bounded by this.
pub const ITEMS: usize = 65_536;
/// What an item weighs besides its payload.
const ITEM_BYTES: usize = 512;

/// Room in the queue; given back when dropped.
pub type Room = OwnedSemaphorePermit;

/// What the writer has to do, in this order for each node.
#[derive(Debug)]
pub enum Work {
    /// Write a sample.
    Write(Box<Entry>, Room),
    /// Read a node's mark from Redis, once all before it is written.
    Recover(Arc<NodePath>),
    /// Tell a node its mark, once all before it is written.
    Answer(Arc<NodePath>, Answer),
    /// Forget a node that is silent.
    Forget(Arc<NodePath>),
}

/// What a node is to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// What is committed.
    Mark,
    /// To send again what follows this, or what follows the committed mark if that is of the same
    /// boot.
    Resend(Mark),
}

/// The intake's end.
#[derive(Debug)]
pub struct Queue {
    items: mpsc::Sender<Work>,
    bytes: Arc<Semaphore>,
}

/// A queue for at most `bytes` of payload.
#[must_use]
pub fn queue(bytes: usize) -> (Queue, mpsc::Receiver<Work>) {
    let (sender, receiver) = mpsc::channel(ITEMS);
    (
        Queue {
            items: sender,
            bytes: Arc::new(Semaphore::new(bytes)),
        },
        receiver,
    )
}

impl Queue {
    /// Room for a payload of `bytes`; `None` when the queue is full.
    #[must_use]
    pub fn room(&self, bytes: usize) -> Option<Room> {
        let weight = u32::try_from(bytes.saturating_add(ITEM_BYTES)).ok()?;
        Arc::clone(&self.bytes).try_acquire_many_owned(weight).ok()
    }

    /// Puts an item in. Tells whether there was a place.
    #[must_use]
    pub fn put(&self, work: Work) -> bool {
        self.items.try_send(work).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_queue_is_bounded_in_bytes_and_room_comes_back() {
        let (queue, _works) = queue(10_000);
        let room = queue.room(9_000).unwrap();
        assert!(queue.room(9_000).is_none());
        drop(room);
        assert!(queue.room(9_000).is_some());
    }
}
