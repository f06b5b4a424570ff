//! What senders and receivers of one round know of each other: how much is sent, how much arrived,
//! and how much more may be on its way.

use std::cell::{Cell, RefCell};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use tokio::sync::Notify;

/// The state of one round. The paced sender, which has a thread of its own, touches the atomics
/// only.
#[derive(Debug)]
pub(crate) struct Shared {
    /// The beginning of all times in payloads.
    epoch: Instant,
    pub(crate) sent: AtomicU64,
    pub(crate) stop: AtomicBool,
}

impl Shared {
    pub(crate) fn new() -> Self {
        Self {
            epoch: Instant::now(),
            sent: AtomicU64::new(0),
            stop: AtomicBool::new(false),
        }
    }

    pub(crate) fn now_ns(&self) -> u64 {
        self.epoch.elapsed().as_nanos() as u64
    }

    pub(crate) fn is_over(&self) -> bool {
        self.stop.load(Relaxed)
    }
}

/// What the tasks of the generator's main thread share.
#[derive(Debug)]
pub(crate) struct Flow {
    /// How often each message arrives.
    subscribers: u64,
    /// How many messages may be on their way.
    window: u64,
    pub(crate) delivered: Cell<u64>,
    /// The times between sending and arriving, while they are recorded.
    pub(crate) latencies_ns: RefCell<Option<Vec<u64>>>,
    /// Where a receiver reads into; one at a time.
    pub(crate) space: RefCell<Vec<u8>>,
    room: Notify,
}

/// Bytes that a receiver takes at once.
const SPACE_BYTES: usize = 256 * 1024;

impl Flow {
    pub(crate) fn new(subscribers: u64, window: u64) -> Self {
        Self {
            subscribers,
            window,
            delivered: Cell::new(0),
            latencies_ns: RefCell::new(None),
            space: RefCell::new(vec![0; SPACE_BYTES]),
            room: Notify::new(),
        }
    }

    /// How many more messages may be sent now.
    fn room(&self, shared: &Shared) -> u64 {
        let arrived = self.delivered.get() / self.subscribers;
        let under_way = shared.sent.load(Relaxed).saturating_sub(arrived);
        self.window.saturating_sub(under_way)
    }

    /// Waits until at least a part of `wanted` messages may be sent; returns how many.
    pub(crate) async fn reserve(&self, shared: &Shared, wanted: u64) -> u64 {
        loop {
            let granted = self.room(shared).min(wanted);
            if granted * 2 >= wanted {
                shared.sent.fetch_add(granted, Relaxed);
                // Someone else may find room too.
                self.room.notify_one();
                return granted;
            }
            self.room.notified().await;
        }
    }

    /// Notes that so many messages arrived.
    pub(crate) fn arrived(&self, messages: u64) {
        self.delivered.set(self.delivered.get() + messages);
        if self.window != u64::MAX {
            self.room.notify_one();
        }
    }
}
