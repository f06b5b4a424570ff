//! What waits for one session, bounded in messages and bytes.
//!
//! QoS 0 and QoS 1 stand in two lines that are joined by their order of arrival. So the oldest
//! QoS 0 message is found at once when room is needed, and QoS 0 still flows while QoS 1 waits for
//! the client's acknowledgements. The queue knows no session and no clock.

use std::collections::VecDeque;

use crate::codec::QoS;
use crate::message::Outgoing;

#[derive(Debug)]
struct Waiting {
    arrival: u64,
    outgoing: Outgoing,
}

/// The queue of one session.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    at_most_once: VecDeque<Waiting>,
    at_least_once: VecDeque<Waiting>,
    arrivals: u64,
    bytes: usize,
    max_messages: usize,
    max_bytes: usize,
}

/// What happened to a message that was pushed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pushed {
    /// It waits; so many QoS 0 messages had to go for it.
    Kept(u64),
    /// It is QoS 0 and nothing could go for it: it was dropped, after so many others.
    Dropped(u64),
    /// It is QoS 1 and only QoS 1 is left: it was kept over the limit, and the caller must end
    /// the connection or make room with [`Queue::shed`]. So many QoS 0 messages went.
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

    fn len(&self) -> usize {
        self.at_most_once.len() + self.at_least_once.len()
    }

    fn is_over(&self, messages: usize, bytes: usize) -> bool {
        self.len() + messages > self.max_messages || self.bytes + bytes > self.max_bytes
    }

    /// Appends a message. `under_way_bytes` counts against the limit too.
    pub(crate) fn push(&mut self, outgoing: Outgoing, under_way_bytes: usize) -> Pushed {
        let cost = outgoing.message.cost_bytes();
        let mut gone = 0;
        while self.is_over(1, cost + under_way_bytes) {
            let Some(oldest) = self.at_most_once.pop_front() else {
                if outgoing.qos == QoS::AtMostOnce {
                    return Pushed::Dropped(gone);
                }
                self.append(outgoing, cost);
                return Pushed::Over(gone);
            };
            self.bytes -= oldest.outgoing.message.cost_bytes();
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
        match waiting.outgoing.qos {
            QoS::AtMostOnce => self.at_most_once.push_back(waiting),
            _ => self.at_least_once.push_back(waiting),
        }
    }

    /// Drops the oldest messages until the limits hold again; returns how many went. The last
    /// message stays, so that a small limit can't starve a session.
    pub(crate) fn shed(&mut self, under_way_bytes: usize) -> u64 {
        let mut gone = 0;
        while self.len() > 1 && self.is_over(0, under_way_bytes) && self.pop(true).is_some() {
            gone += 1;
        }
        gone
    }

    /// Drops all QoS 0 messages, which don't wait for an absent client; returns how many went.
    pub(crate) fn drop_at_most_once(&mut self) -> u64 {
        let gone = self.at_most_once.len();
        for waiting in self.at_most_once.drain(..) {
            self.bytes -= waiting.outgoing.message.cost_bytes();
        }
        self.at_most_once.shrink_to(0);
        gone as u64
    }

    /// Takes the oldest message; QoS 1 only where `window_open`.
    pub(crate) fn pop(&mut self, window_open: bool) -> Option<Outgoing> {
        let first = |line: &VecDeque<Waiting>| line.front().map_or(u64::MAX, |w| w.arrival);
        let (zero, one) = (first(&self.at_most_once), first(&self.at_least_once));
        let line = if window_open && one < zero {
            &mut self.at_least_once
        } else {
            &mut self.at_most_once
        };
        let waiting = line.pop_front()?;
        if line.is_empty() && line.capacity() > 64 {
            line.shrink_to(0);
        }
        self.bytes -= waiting.outgoing.message.cost_bytes();
        Some(waiting.outgoing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Message;
    use std::sync::Arc;

    fn outgoing(qos: QoS, name: &'static str) -> Outgoing {
        let mut message = Message::own(name, "x".repeat(100 - name.len()));
        message.qos = qos;
        Outgoing {
            message: Arc::new(message),
            qos,
            retain: false,
            identifiers: Vec::new(),
        }
    }

    fn names(queue: &mut Queue, window_open: bool) -> Vec<String> {
        std::iter::from_fn(|| queue.pop(window_open))
            .map(|o| o.message.topic.to_string())
            .collect()
    }

    const ZERO: QoS = QoS::AtMostOnce;
    const ONE: QoS = QoS::AtLeastOnce;

    #[test]
    fn messages_leave_in_the_order_of_their_arrival() {
        let mut queue = Queue::new(10, 10_000);
        for (qos, name) in [(ONE, "a"), (ZERO, "b"), (ZERO, "c"), (ONE, "d")] {
            assert_eq!(queue.push(outgoing(qos, name), 0), Pushed::Kept(0));
        }
        assert_eq!(names(&mut queue, true), ["a", "b", "c", "d"]);
        assert_eq!(queue.bytes, 0);
    }

    #[test]
    fn a_closed_window_holds_back_qos_1_only() {
        let mut queue = Queue::new(10, 10_000);
        for (qos, name) in [(ONE, "a"), (ZERO, "b"), (ONE, "c")] {
            queue.push(outgoing(qos, name), 0);
        }
        assert_eq!(names(&mut queue, false), ["b"]);
        assert_eq!(names(&mut queue, true), ["a", "c"]);
    }

    #[test]
    fn the_oldest_qos_0_goes_when_the_messages_are_too_many() {
        let mut queue = Queue::new(2, 10_000);
        queue.push(outgoing(ONE, "a"), 0);
        queue.push(outgoing(ZERO, "b"), 0);
        assert_eq!(queue.push(outgoing(ZERO, "c"), 0), Pushed::Kept(1));
        assert_eq!(queue.push(outgoing(ONE, "d"), 0), Pushed::Kept(1));
        assert_eq!(queue.push(outgoing(ZERO, "e"), 0), Pushed::Dropped(0));
        assert_eq!(names(&mut queue, true), ["a", "d"]);
    }

    #[test]
    fn bytes_under_way_count_against_the_limit() {
        let mut queue = Queue::new(100, 900);
        assert_eq!(queue.push(outgoing(ZERO, "a"), 300), Pushed::Kept(0));
        assert_eq!(queue.push(outgoing(ZERO, "b"), 300), Pushed::Kept(0));
        assert_eq!(queue.push(outgoing(ZERO, "c"), 300), Pushed::Kept(1));
        assert_eq!(names(&mut queue, true), ["b", "c"]);
    }

    #[test]
    fn shedding_drops_the_oldest_qos_1() {
        let mut queue = Queue::new(2, 10_000);
        queue.push(outgoing(ONE, "a"), 0);
        queue.push(outgoing(ONE, "b"), 0);
        assert_eq!(queue.push(outgoing(ONE, "c"), 0), Pushed::Over(0));
        assert_eq!(queue.shed(0), 1);
        assert_eq!(names(&mut queue, true), ["b", "c"]);
    }
}
