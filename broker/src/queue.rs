//! What waits for one session, bounded in messages and bytes.
//!
//! QoS 0 stands in one line, QoS 1 and 2 in another; they are joined by their order of arrival. So
//! the oldest QoS 0 message is found at once when room is needed, and QoS 0 still flows while the
//! others wait for the client's acknowledgements. The queue knows no session and no clock.

use std::collections::VecDeque;

use crate::codec::QoS;
use crate::disk::Ticket;
use crate::message::Outgoing;

/// A queue of this length or shorter may grow although all queues together are full: so a client
/// that keeps up is not cut off because others are away.
const FREE_MESSAGES: usize = 64;

#[derive(Debug)]
struct Waiting {
    arrival: u64,
    outgoing: Outgoing,
}

impl Waiting {
    /// Whether it may be sent: a QoS 2 message that is stored must be safe first, with its packet
    /// identifier, or the client could get it twice after a restart.
    fn is_ready(&self, safe: Ticket) -> bool {
        self.outgoing.qos != QoS::ExactlyOnce
            || self
                .outgoing
                .stored
                .is_none_or(|stored| stored.ticket <= safe)
    }
}

/// The queue of one session.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    at_most_once: VecDeque<Waiting>,
    acknowledged: VecDeque<Waiting>,
    arrivals: u64,
    bytes: usize,
    /// How many came by a shared subscription.
    shared: usize,
    max_messages: usize,
    max_bytes: usize,
}

/// What else is held, besides what waits in this queue.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    /// Bytes under way to the client, which count against its limit too.
    pub(crate) under_way_bytes: usize,
    /// The most messages that this queue may have for the sake of all queues together.
    pub(crate) most_messages: usize,
}

impl Default for Load {
    fn default() -> Self {
        Self {
            under_way_bytes: 0,
            most_messages: usize::MAX,
        }
    }
}

/// What happened to a message that was pushed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pushed {
    /// It waits; so many QoS 0 messages had to go for it.
    Kept(u64),
    /// It is QoS 0 and nothing could go for it: it was dropped, after so many others.
    Dropped(u64),
    /// Only QoS 1 and 2 are left: it was kept over the limit, and the caller must end the
    /// connection or make room with [`Queue::shed`]. So many QoS 0 messages went.
    Over(u64),
}

impl Queue {
    pub(crate) fn new(max_messages: usize, max_bytes: usize) -> Self {
        Self {
            max_messages,
            max_bytes,
            ..Self::default()
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.at_most_once.len() + self.acknowledged.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The most messages that it may have while all queues together are full: no more than now, so
    /// that one goes for each that comes.
    pub(crate) fn most_messages_when_crowded(&self) -> usize {
        self.len().max(FREE_MESSAGES)
    }

    fn is_over(&self, messages: usize, bytes: usize, load: Load) -> bool {
        self.len() + messages > self.max_messages
            || self.bytes + bytes + load.under_way_bytes > self.max_bytes
            || self.len() + messages > load.most_messages
    }

    /// Appends a message.
    pub(crate) fn push(&mut self, outgoing: Outgoing, load: Load) -> Pushed {
        let cost = outgoing.message.cost_bytes();
        let mut gone = 0;
        while self.is_over(1, cost, load) {
            let Some(oldest) = self.at_most_once.pop_front() else {
                if outgoing.qos == QoS::AtMostOnce {
                    return Pushed::Dropped(gone);
                }
                self.append(outgoing, cost);
                return Pushed::Over(gone);
            };
            self.left(&oldest);
            gone += 1;
        }
        self.append(outgoing, cost);
        Pushed::Kept(gone)
    }

    fn append(&mut self, outgoing: Outgoing, cost: usize) {
        let waiting = Waiting {
            arrival: self.arrivals,
            outgoing,
        };
        self.arrivals += 1;
        self.bytes += cost;
        self.shared += usize::from(waiting.outgoing.shared.is_some());
        match waiting.outgoing.qos {
            QoS::AtMostOnce => self.at_most_once.push_back(waiting),
            _ => self.acknowledged.push_back(waiting),
        }
    }

    /// Counts a message that is no longer in its line.
    fn left(&mut self, waiting: &Waiting) {
        self.bytes -= waiting.outgoing.message.cost_bytes();
        self.shared -= usize::from(waiting.outgoing.shared.is_some());
    }

    /// Takes the oldest message out while the limits are exceeded. The last message stays, so that
    /// a small limit can't starve a session.
    pub(crate) fn shed(&mut self, load: Load) -> Option<Outgoing> {
        if self.len() > 1 && self.is_over(0, 0, load) {
            self.pop(true, Ticket::MAX)
        } else {
            None
        }
    }

    /// Drops all QoS 0 messages, which don't wait for an absent client.
    pub(crate) fn drop_at_most_once(&mut self) {
        for waiting in std::mem::take(&mut self.at_most_once) {
            self.left(&waiting);
        }
    }

    /// Takes the oldest message that may be sent: QoS 1 and 2 only where `window_open`, and what
    /// must be safe on disk only where that is `safe`.
    pub(crate) fn pop(&mut self, window_open: bool, safe: Ticket) -> Option<Outgoing> {
        let first = |line: &VecDeque<Waiting>| line.front().map_or(u64::MAX, |w| w.arrival);
        let next_is_ready =
            window_open && self.acknowledged.front().is_some_and(|w| w.is_ready(safe));
        let line = if next_is_ready && first(&self.acknowledged) < first(&self.at_most_once) {
            &mut self.acknowledged
        } else {
            &mut self.at_most_once
        };
        let waiting = line.pop_front()?;
        if line.is_empty() && line.capacity() > 64 {
            line.shrink_to(0);
        }
        self.left(&waiting);
        Some(waiting.outgoing)
    }

    /// Whether the next message has its packet identifier already.
    pub(crate) fn next_is_numbered(&self) -> bool {
        self.acknowledged.front().is_some_and(|waiting| {
            let stored = waiting.outgoing.stored;
            stored.is_some_and(|stored| stored.packet_id != 0)
        })
    }

    /// Whether the next message waits for the disk.
    pub(crate) fn waits_for_disk(&self, safe: Ticket) -> bool {
        self.acknowledged.front().is_some_and(|w| !w.is_ready(safe))
    }

    /// The shared subscriptions by which messages came, again for each message.
    pub(crate) fn shares(&self) -> impl Iterator<Item = &str> {
        let lines = self.at_most_once.iter().chain(&self.acknowledged);
        lines.filter_map(|waiting| waiting.outgoing.shared.as_deref())
    }

    /// Takes out what came by the shared subscription `shared`.
    pub(crate) fn take_shared(&mut self, shared: &str) -> Vec<Outgoing> {
        if self.shared == 0 {
            return Vec::new();
        }
        let mut taken = Vec::new();
        for line in [&mut self.at_most_once, &mut self.acknowledged] {
            let mut kept = VecDeque::new();
            for waiting in line.drain(..) {
                if waiting.outgoing.shared.as_deref() == Some(shared) {
                    self.bytes -= waiting.outgoing.message.cost_bytes();
                    self.shared -= 1;
                    taken.push(waiting);
                } else {
                    kept.push_back(waiting);
                }
            }
            *line = kept;
        }
        taken.sort_by_key(|waiting| waiting.arrival);
        taken.into_iter().map(|waiting| waiting.outgoing).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Message, Stored};
    use std::sync::Arc;

    fn outgoing(qos: QoS, name: &'static str) -> Outgoing {
        let mut message = Message::own(name, "x".repeat(100 - name.len()));
        message.qos = qos;
        Outgoing {
            message: Arc::new(message),
            qos,
            retain: false,
            identifiers: Vec::new(),
            shared: None,
            stored: None,
            frames: None,
        }
    }

    fn names(queue: &mut Queue, window_open: bool) -> Vec<String> {
        std::iter::from_fn(|| queue.pop(window_open, Ticket::NONE))
            .map(|o| o.message.topic.to_string())
            .collect()
    }

    fn under_way(bytes: usize) -> Load {
        Load {
            under_way_bytes: bytes,
            ..Load::default()
        }
    }

    const ZERO: QoS = QoS::AtMostOnce;
    const ONE: QoS = QoS::AtLeastOnce;

    #[test]
    fn messages_leave_in_the_order_of_their_arrival() {
        let mut queue = Queue::new(10, 10_000);
        for (qos, name) in [(ONE, "a"), (ZERO, "b"), (ZERO, "c"), (ONE, "d")] {
            assert_eq!(
                queue.push(outgoing(qos, name), Load::default()),
                Pushed::Kept(0)
            );
        }
        assert_eq!(names(&mut queue, true), ["a", "b", "c", "d"]);
        assert_eq!(queue.bytes, 0);
    }

    #[test]
    fn a_closed_window_holds_back_qos_1_only() {
        let mut queue = Queue::new(10, 10_000);
        for (qos, name) in [(ONE, "a"), (ZERO, "b"), (ONE, "c")] {
            queue.push(outgoing(qos, name), Load::default());
        }
        assert_eq!(names(&mut queue, false), ["b"]);
        assert_eq!(names(&mut queue, true), ["a", "c"]);
    }

    #[test]
    fn the_oldest_qos_0_goes_when_the_messages_are_too_many() {
        let mut queue = Queue::new(2, 10_000);
        queue.push(outgoing(ONE, "a"), Load::default());
        queue.push(outgoing(ZERO, "b"), Load::default());
        assert_eq!(
            queue.push(outgoing(ZERO, "c"), Load::default()),
            Pushed::Kept(1)
        );
        assert_eq!(
            queue.push(outgoing(ONE, "d"), Load::default()),
            Pushed::Kept(1)
        );
        assert_eq!(
            queue.push(outgoing(ZERO, "e"), Load::default()),
            Pushed::Dropped(0)
        );
        assert_eq!(names(&mut queue, true), ["a", "d"]);
    }

    #[test]
    fn bytes_under_way_count_against_the_limit() {
        let mut queue = Queue::new(100, 900);
        assert_eq!(
            queue.push(outgoing(ZERO, "a"), under_way(300)),
            Pushed::Kept(0)
        );
        assert_eq!(
            queue.push(outgoing(ZERO, "b"), under_way(300)),
            Pushed::Kept(0)
        );
        assert_eq!(
            queue.push(outgoing(ZERO, "c"), under_way(300)),
            Pushed::Kept(1)
        );
        assert_eq!(names(&mut queue, true), ["b", "c"]);
    }

    #[test]
    fn shedding_drops_the_oldest_qos_1() {
        let mut queue = Queue::new(2, 10_000);
        queue.push(outgoing(ONE, "a"), Load::default());
        queue.push(outgoing(ONE, "b"), Load::default());
        assert_eq!(
            queue.push(outgoing(ONE, "c"), Load::default()),
            Pushed::Over(0)
        );
        assert!(queue.shed(Load::default()).is_some());
        assert!(queue.shed(Load::default()).is_none());
        assert_eq!(names(&mut queue, true), ["b", "c"]);
    }

    #[test]
    fn a_short_queue_grows_although_all_are_full_together() {
        let mut queue = Queue::new(1_000, 1_000_000);
        let crowded = |queue: &Queue| Load {
            most_messages: queue.most_messages_when_crowded(),
            ..Load::default()
        };
        for _ in 0..FREE_MESSAGES {
            let load = crowded(&queue);
            assert_eq!(queue.push(outgoing(ONE, "a"), load), Pushed::Kept(0));
        }
        let load = crowded(&queue);
        assert_eq!(queue.push(outgoing(ZERO, "b"), load), Pushed::Dropped(0));
        assert_eq!(queue.push(outgoing(ONE, "b"), load), Pushed::Over(0));
        assert!(queue.shed(load).is_some());
        assert!(queue.shed(load).is_none());
    }

    #[test]
    fn a_long_queue_loses_one_for_each_that_comes_while_all_are_full_together() {
        let mut queue = Queue::new(1_000, 1_000_000);
        for _ in 0..500 {
            queue.push(outgoing(ONE, "a"), Load::default());
        }
        let load = Load {
            most_messages: queue.most_messages_when_crowded(),
            ..Load::default()
        };
        assert_eq!(queue.push(outgoing(ONE, "b"), load), Pushed::Over(0));
        assert!(queue.shed(load).is_some());
        assert!(queue.shed(load).is_none());
        assert_eq!(queue.len(), 500);
    }

    #[test]
    fn a_stored_qos_2_message_waits_until_it_is_safe() {
        let mut queue = Queue::new(10, 10_000);
        let mut two = outgoing(QoS::ExactlyOnce, "a");
        two.stored = Some(Stored {
            entry: 1,
            ticket: Ticket::MAX,
            packet_id: 1,
        });
        queue.push(two, Load::default());
        assert!(queue.next_is_numbered());
        queue.push(outgoing(ONE, "b"), Load::default());
        queue.push(outgoing(ZERO, "c"), Load::default());
        assert!(queue.waits_for_disk(Ticket::NONE));
        assert_eq!(names(&mut queue, true), ["c"]);
        assert!(!queue.waits_for_disk(Ticket::MAX));
        assert!(queue.pop(true, Ticket::MAX).is_some());
        assert!(!queue.next_is_numbered());
        assert_eq!(names(&mut queue, true), ["b"]);
    }

    #[test]
    fn what_came_by_a_shared_subscription_can_be_taken_out() {
        let mut queue = Queue::new(10, 10_000);
        for (qos, name) in [(ONE, "a"), (ZERO, "b"), (ONE, "c")] {
            let mut outgoing = outgoing(qos, name);
            outgoing.shared = (name != "a").then(|| "$share/g/#".into());
            queue.push(outgoing, Load::default());
        }
        assert!(queue.take_shared("$share/h/#").is_empty());
        let taken = queue.take_shared("$share/g/#");
        let taken: Vec<&str> = taken.iter().map(|o| &*o.message.topic).collect();
        assert_eq!(taken, ["b", "c"]);
        assert_eq!(names(&mut queue, true), ["a"]);
        assert_eq!(queue.bytes, 0);
    }
}
