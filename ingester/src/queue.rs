//! The bounded way from the intake to the writers.
//!
//! Each writer has its share of the nodes, and each node one writer: what is put in for a node comes
//! out in its order. All together are bounded in bytes of payload. The intake never waits: when the queue is full a sample is
//! refused, and its publisher sends it again when it is asked to.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use hostbus_store::{Entry, Mark};
use hostbus_wire::NodePath;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

/// The most items on the way to one writer; what takes no memory to speak of is bounded by this.
pub const ITEMS: usize = 65_536;
/// What an item weighs besides its payload.
pub(crate) const ITEM_BYTES: usize = 512;

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

impl Work {
    /// The node that it is about.
    fn node(&self) -> &NodePath {
        match self {
            Self::Write(entry, _) => &entry.node,
            Self::Recover(node) | Self::Answer(node, _) | Self::Forget(node) => node,
        }
    }
}

/// The intake's end.
#[derive(Debug)]
pub struct Queue {
    /// One a writer.
    items: Vec<mpsc::Sender<Work>>,
    bytes: Arc<Semaphore>,
}

/// A queue for at most `bytes` of payload, with an end for each of `writers`.
#[must_use]
pub fn queue(bytes: usize, writers: usize) -> (Queue, Vec<mpsc::Receiver<Work>>) {
    let (items, works) = (0..writers.max(1)).map(|_| mpsc::channel(ITEMS)).unzip();
    let bytes = Arc::new(Semaphore::new(bytes));
    (Queue { items, bytes }, works)
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
        let mut hasher = DefaultHasher::new();
        work.node().hash(&mut hasher);
        let hash = usize::try_from(hasher.finish() >> 33).unwrap_or_default();
        let writer = self.items.get(hash % self.items.len());
        writer.is_some_and(|writer| writer.try_send(work).is_ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_queue_is_bounded_in_bytes_and_room_comes_back() {
        let (queue, _works) = queue(10_000, 1);
        let room = queue.room(9_000).unwrap();
        assert!(queue.room(9_000).is_none());
        drop(room);
        assert!(queue.room(9_000).is_some());
    }

    #[test]
    fn each_node_has_one_writer_and_each_writer_some_nodes() {
        let (queue, mut works) = queue(10_000, 3);
        let paths: Vec<Arc<NodePath>> = (0..60)
            .map(|number| Arc::new(format!("home.n{number}").parse().unwrap()))
            .collect();
        for _ in 0..2 {
            for path in &paths {
                assert!(queue.put(Work::Forget(Arc::clone(path))));
            }
        }
        let mut all = Vec::new();
        for works in &mut works {
            let mut own = Vec::new();
            while let Ok(work) = works.try_recv() {
                own.push(work.node().clone());
            }
            let (first, second) = own.split_at(own.len() / 2);
            assert_eq!(first, second);
            assert!(first.len() > 5, "{}", first.len());
            all.extend_from_slice(first);
        }
        assert_eq!(all.len(), paths.len());
    }
}
