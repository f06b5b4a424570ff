//! The QoS 1 and 2 messages under way to one client: sent and not yet acknowledged, in order.
//!
//! The window outlives a connection: what was not acknowledged is sent again, with the same packet
//! identifier, to the next one. A QoS 2 message that the client has received is released: its
//! content is forgotten, its identifier stays until the client has forgotten it too. The window
//! knows no queue and no session.

use std::collections::{HashSet, VecDeque};

use crate::codec::QoS;
use crate::disk::Ticket;
use crate::message::{Outgoing, Stored};

#[derive(Debug)]
struct UnderWay {
    packet_id: u16,
    outgoing: Outgoing,
    /// It went out on an earlier connection already.
    again: bool,
}

#[derive(Debug, Clone, Copy)]
struct Released {
    packet_id: u16,
    stored: Option<Stored>,
    /// When it is safe that this message was received.
    ticket: Ticket,
}

/// What is to be written now.
#[derive(Debug)]
pub(crate) enum Ready {
    /// PUBLISH.
    Publish {
        outgoing: Outgoing,
        /// 0 for QoS 0.
        packet_id: u16,
        dup: bool,
    },
    /// PUBREL, for the second time or later.
    Release { packet_id: u16, ticket: Ticket },
}

/// What a PUBREC is about.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Received {
    /// A message that has just become released.
    Now(Option<Stored>),
    /// One that was released before; since when that is safe.
    Before(Ticket),
    /// None that is known.
    Unknown,
}

/// The first of the packet identifiers for messages that are recorded with theirs. So many of those
/// are needed at once as messages wait, of the others only as many as are under way.
const FIRST_RECORDED: u16 = 0x2000;

/// The packet identifiers of one session that stand for a message.
///
/// Those that are recorded and those that are not have ranges of their own: after a restart, the
/// client may still hold a QoS 2 message whose identifier nobody recorded. A recorded message must
/// not come under the same one, or the client would take it for that message.
#[derive(Debug, Default)]
pub(crate) struct PacketIds {
    taken: HashSet<u16>,
    unrecorded: usize,
    last: u16,
    last_recorded: u16,
}

impl PacketIds {
    /// One that will not be recorded; `None` when all of them are taken.
    pub(crate) fn take(&mut self) -> Option<u16> {
        if !self.any_is_free() {
            return None;
        }
        loop {
            self.last = (self.last + 1) % FIRST_RECORDED;
            if self.last != 0 && self.taken.insert(self.last) {
                self.unrecorded += 1;
                return Some(self.last);
            }
        }
    }

    /// One that will be recorded; `None` when all of them are taken.
    pub(crate) fn take_recorded(&mut self) -> Option<u16> {
        let all = usize::from(u16::MAX - FIRST_RECORDED) + 1;
        if self.taken.len() - self.unrecorded >= all {
            return None;
        }
        loop {
            self.last_recorded = self
                .last_recorded
                .checked_add(1)
                .unwrap_or(0)
                .max(FIRST_RECORDED);
            if self.taken.insert(self.last_recorded) {
                return Some(self.last_recorded);
            }
        }
    }

    /// Whether one that is not recorded is free.
    pub(crate) fn any_is_free(&self) -> bool {
        self.unrecorded < usize::from(FIRST_RECORDED) - 1
    }

    /// Takes this recorded one, which was taken before a restart.
    pub(crate) fn restore(&mut self, packet_id: u16) {
        if self.taken.insert(packet_id) && packet_id < FIRST_RECORDED {
            self.unrecorded += 1;
        }
        self.last_recorded = self.last_recorded.max(packet_id);
    }

    pub(crate) fn free(&mut self, packet_id: u16) {
        if self.taken.remove(&packet_id) && packet_id < FIRST_RECORDED {
            self.unrecorded -= 1;
        }
        if self.taken.is_empty() && self.taken.capacity() > 64 {
            self.taken = HashSet::new();
        }
    }
}

/// The window of one session.
#[derive(Debug, Default)]
pub(crate) struct Window {
    under_way: VecDeque<UnderWay>,
    bytes: usize,
    /// The first so many went out on this connection.
    sent: usize,
    /// In the order in which the client received them.
    released: VecDeque<Released>,
    /// The first so many were released on this connection, or told to it again.
    told: usize,
    /// How many may be under way on this connection; 0 without one.
    size: usize,
}

impl Window {
    /// Begins a new connection that takes `size` messages at once, at most 65,535. All that is
    /// under way is to be sent again.
    pub(crate) fn begin(&mut self, size: usize) {
        self.size = size.min(usize::from(u16::MAX));
        self.sent = 0;
        self.told = 0;
    }

    /// Ends the connection.
    pub(crate) fn pause(&mut self) {
        for message in self.under_way.iter_mut().take(self.sent) {
            message.again = true;
        }
        self.begin(0);
    }

    /// What the messages under way cost, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many messages are under way, the released ones included.
    pub(crate) fn len(&self) -> usize {
        self.under_way.len() + self.released.len()
    }

    /// Whether a new message may be sent.
    pub(crate) fn is_open(&self) -> bool {
        self.sent == self.under_way.len() && self.sent + self.released.len() < self.size
    }

    /// What an earlier connection left unfinished, one by one: released messages first, then those
    /// without acknowledgement.
    pub(crate) fn next_again(&mut self) -> Option<Ready> {
        if self.size == 0 {
            return None;
        }
        if let Some(released) = self.released.get(self.told) {
            self.told += 1;
            return Some(Ready::Release {
                packet_id: released.packet_id,
                ticket: released.ticket,
            });
        }
        if self.sent + self.released.len() >= self.size {
            return None;
        }
        let message = self.under_way.get(self.sent)?;
        self.sent += 1;
        Some(Ready::Publish {
            outgoing: message.outgoing.clone(),
            packet_id: message.packet_id,
            dup: message.again,
        })
    }

    /// Puts a new message under way. The window must be open.
    pub(crate) fn send(&mut self, packet_id: u16, outgoing: Outgoing) -> Ready {
        self.bytes += outgoing.message.cost_bytes();
        self.sent += 1;
        self.under_way.push_back(UnderWay {
            packet_id,
            outgoing: outgoing.clone(),
            again: false,
        });
        // It was read from the disk: nobody knows whether it went out before the broker died.
        let dup = outgoing
            .stored
            .is_some_and(|stored| stored.ticket == Ticket::NONE);
        Ready::Publish {
            outgoing,
            packet_id,
            dup,
        }
    }

    /// Puts back what was under way before a restart of the broker.
    pub(crate) fn restore_released(&mut self, packet_id: u16, stored: Stored) {
        self.released.push_back(Released {
            packet_id,
            stored: Some(stored),
            ticket: Ticket::NONE,
        });
    }

    /// Takes the message `packet_id` of this quality out, if it went out on this connection.
    fn take(&mut self, packet_id: u16, qos: QoS) -> Option<Outgoing> {
        // Clients acknowledge in order: it is nearly always the first.
        let place = self
            .under_way
            .iter()
            .take(self.sent)
            .position(|sent| sent.packet_id == packet_id && sent.outgoing.qos == qos)?;
        let done = self.under_way.remove(place)?;
        self.sent -= 1;
        self.bytes -= done.outgoing.message.cost_bytes();
        if self.under_way.is_empty() && self.under_way.capacity() > 64 {
            self.under_way.shrink_to(0);
        }
        Some(done.outgoing)
    }

    /// Takes a PUBACK; one for a message that was not sent on this connection says nothing.
    pub(crate) fn acknowledged(&mut self, packet_id: u16) -> Option<Outgoing> {
        self.take(packet_id, QoS::AtLeastOnce)
    }

    /// Takes a PUBREC that tells of a failure: the message is done.
    pub(crate) fn refused(&mut self, packet_id: u16) -> Option<Outgoing> {
        self.take(packet_id, QoS::ExactlyOnce)
    }

    /// Takes a PUBREC. Where it is the first one, [`Self::release_is_safe_at`] is to follow.
    pub(crate) fn received(&mut self, packet_id: u16) -> Received {
        if let Some(outgoing) = self.take(packet_id, QoS::ExactlyOnce) {
            // The client is told now, so it stands before those that are to be told again.
            let released = Released {
                packet_id,
                stored: outgoing.stored,
                ticket: Ticket::NONE,
            };
            self.released.insert(self.told, released);
            self.told += 1;
            return Received::Now(outgoing.stored);
        }
        let mut released = self.released.iter();
        match released.find(|released| released.packet_id == packet_id) {
            Some(released) => Received::Before(released.ticket),
            None => Received::Unknown,
        }
    }

    /// Notes when it is safe that the message `packet_id` is released.
    pub(crate) fn release_is_safe_at(&mut self, packet_id: u16, ticket: Ticket) {
        let mut released = self.released.iter_mut();
        if let Some(released) = released.find(|released| released.packet_id == packet_id) {
            released.ticket = ticket;
        }
    }

    /// Takes a PUBCOMP. Returns where the message lay on disk, if it is known.
    pub(crate) fn completed(&mut self, packet_id: u16) -> Option<Option<Stored>> {
        let place = self
            .released
            .iter()
            .position(|released| released.packet_id == packet_id)?;
        let done = self.released.remove(place)?;
        if place < self.told {
            self.told -= 1;
        }
        if self.released.is_empty() && self.released.capacity() > 64 {
            self.released.shrink_to(0);
        }
        Some(done.stored)
    }

    /// The shared subscriptions by which messages came, again for each message.
    pub(crate) fn shares(&self) -> impl Iterator<Item = &str> {
        let messages = self.under_way.iter();
        messages.filter_map(|message| message.outgoing.shared.as_deref())
    }

    /// Takes out the QoS 1 messages that came by the shared subscription `shared`, with their
    /// identifiers; not while a connection goes on.
    pub(crate) fn take_shared(&mut self, shared: &str) -> Vec<(u16, Outgoing)> {
        let mut taken = Vec::new();
        let mut kept = VecDeque::new();
        for message in self.under_way.drain(..) {
            if message.outgoing.qos == QoS::AtLeastOnce
                && message.outgoing.shared.as_deref() == Some(shared)
            {
                self.bytes -= message.outgoing.message.cost_bytes();
                taken.push((message.packet_id, message.outgoing));
            } else {
                kept.push_back(message);
            }
        }
        self.under_way = kept;
        self.sent = 0;
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Message;
    use std::sync::Arc;

    fn outgoing(qos: QoS) -> Outgoing {
        let message = Arc::new(Message::own("a", "x".to_owned()));
        Outgoing {
            message,
            qos,
            retain: false,
            identifiers: Vec::new(),
            shared: None,
            stored: None,
            frames: None,
        }
    }

    fn send(window: &mut Window, packet_id: u16) {
        window.send(packet_id, outgoing(QoS::AtLeastOnce));
    }

    fn again(window: &mut Window) -> Option<(u16, bool)> {
        match window.next_again()? {
            Ready::Publish { packet_id, dup, .. } => Some((packet_id, dup)),
            Ready::Release { .. } => panic!("a release"),
        }
    }

    #[test]
    fn the_window_closes_when_full_and_opens_with_an_acknowledgement() {
        let mut window = Window::default();
        assert!(!window.is_open(), "without a connection");
        window.begin(2);
        send(&mut window, 1);
        send(&mut window, 2);
        assert!(!window.is_open());
        assert!(window.acknowledged(9).is_none());
        assert!(!window.is_open());
        assert!(window.acknowledged(2).is_some());
        assert!(window.is_open());
        assert!(window.acknowledged(1).is_some());
        assert_eq!((window.bytes(), window.len()), (0, 0));
    }

    #[test]
    fn what_was_not_acknowledged_is_sent_again_before_anything_new() {
        let mut window = Window::default();
        window.begin(3);
        for packet_id in 1..=3 {
            send(&mut window, packet_id);
        }
        window.acknowledged(2);
        window.pause();
        assert!(window.acknowledged(1).is_none());
        // The next connection takes one at a time.
        window.begin(1);
        assert!(!window.is_open());
        assert_eq!(again(&mut window), Some((1, true)));
        assert_eq!(again(&mut window), None);
        assert!(window.acknowledged(3).is_none());
        window.acknowledged(1);
        assert_eq!(again(&mut window), Some((3, true)));
        window.acknowledged(3);
        assert!(window.is_open());
    }

    #[test]
    fn a_qos_2_message_is_released_once_and_stays_until_it_is_complete() {
        let mut window = Window::default();
        window.begin(1);
        window.send(7, outgoing(QoS::ExactlyOnce));
        assert!(window.acknowledged(7).is_none(), "PUBACK is for QoS 1");
        assert_eq!(window.received(7), Received::Now(None));
        assert_eq!(window.received(7), Received::Before(Ticket::NONE));
        assert_eq!(window.received(8), Received::Unknown);
        assert!(!window.is_open(), "the client may still hold it");
        window.pause();
        window.begin(1);
        let Some(Ready::Release { packet_id: 7, .. }) = window.next_again() else {
            panic!("PUBREL is sent again");
        };
        assert!(window.next_again().is_none());
        assert_eq!(window.completed(7), Some(None));
        assert_eq!(window.completed(7), None);
        assert!(window.is_open());
    }

    #[test]
    fn releases_are_told_again_in_the_order_of_their_receipt() {
        let mut window = Window::default();
        window.begin(10);
        for packet_id in 1..=3 {
            window.send(packet_id, outgoing(QoS::ExactlyOnce));
        }
        for packet_id in [2, 1] {
            window.received(packet_id);
        }
        window.pause();
        window.begin(10);
        let mut told = Vec::new();
        while let Some(ready) = window.next_again() {
            told.push(match ready {
                Ready::Release { packet_id, .. } => -i32::from(packet_id),
                Ready::Publish { packet_id, .. } => i32::from(packet_id),
            });
        }
        assert_eq!(told, [-2, -1, 3]);
    }

    #[test]
    fn an_identifier_that_is_taken_is_not_given_again() {
        let mut ids = PacketIds::default();
        assert_eq!(ids.take(), Some(1));
        ids.last = FIRST_RECORDED - 1;
        assert_eq!(ids.take(), Some(2));
        ids.free(1);
        ids.last = FIRST_RECORDED - 1;
        assert_eq!(ids.take(), Some(1));
        while ids.take().is_some() {}
        assert!(!ids.any_is_free());
        assert_eq!(ids.unrecorded, usize::from(FIRST_RECORDED) - 1);
    }

    #[test]
    fn recorded_identifiers_are_others_and_stay_taken_over_a_restart() {
        let mut ids = PacketIds::default();
        assert_eq!(ids.take(), Some(1));
        assert_eq!(ids.take_recorded(), Some(FIRST_RECORDED));
        assert_eq!(ids.take_recorded(), Some(FIRST_RECORDED + 1));
        let mut ids = PacketIds::default();
        ids.restore(FIRST_RECORDED + 7);
        assert_eq!(ids.take_recorded(), Some(FIRST_RECORDED + 8));
        ids.last_recorded = u16::MAX;
        assert_eq!(ids.take_recorded(), Some(FIRST_RECORDED));
        while ids.take_recorded().is_some() {}
        assert_eq!(ids.taken.len(), 0x1_0000 - usize::from(FIRST_RECORDED));
        ids.free(FIRST_RECORDED + 7);
        assert_eq!(ids.take_recorded(), Some(FIRST_RECORDED + 7));
        assert!(ids.any_is_free());
    }
}
