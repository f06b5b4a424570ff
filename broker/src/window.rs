//! The QoS 1 messages under way to one client: sent and not yet acknowledged, in order.
//!
//! The window outlives a connection: what was not acknowledged is sent again, with the same packet
//! identifier, to the next one. It knows no queue and no session.

use std::collections::VecDeque;

use crate::message::Outgoing;

#[derive(Debug)]
struct UnderWay {
    packet_id: u16,
    outgoing: Outgoing,
    /// It went out on an earlier connection already.
    again: bool,
}

/// A message to be written now.
#[derive(Debug)]
pub(crate) struct Ready {
    pub(crate) outgoing: Outgoing,
    /// 0 for QoS 0.
    pub(crate) packet_id: u16,
    pub(crate) dup: bool,
}

/// The window of one session.
#[derive(Debug, Default)]
pub(crate) struct Window {
    under_way: VecDeque<UnderWay>,
    bytes: usize,
    /// The first so many went out on this connection.
    sent: usize,
    /// How many may be under way on this connection; 0 without one.
    size: usize,
    last_packet_id: u16,
}

impl Window {
    /// Begins a new connection that takes `size` messages at once, at most 65,535. All that is
    /// under way is to be sent again.
    pub(crate) fn begin(&mut self, size: usize) {
        self.size = size.min(usize::from(u16::MAX));
        self.sent = 0;
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

    /// Whether a new message may be sent.
    pub(crate) fn is_open(&self) -> bool {
        self.sent == self.under_way.len() && self.sent < self.size
    }

    /// The next message that an earlier connection left without acknowledgement.
    pub(crate) fn next_again(&mut self) -> Option<Ready> {
        if self.sent >= self.size {
            return None;
        }
        let message = self.under_way.get(self.sent)?;
        self.sent += 1;
        Some(Ready {
            outgoing: message.outgoing.clone(),
            packet_id: message.packet_id,
            dup: message.again,
        })
    }

    /// Puts a new message under way. The window must be open.
    pub(crate) fn send(&mut self, outgoing: Outgoing) -> Ready {
        let packet_id = self.next_packet_id();
        self.bytes += outgoing.message.cost_bytes();
        self.sent += 1;
        self.under_way.push_back(UnderWay {
            packet_id,
            outgoing: outgoing.clone(),
            again: false,
        });
        Ready {
            outgoing,
            packet_id,
            dup: false,
        }
    }

    /// Takes an acknowledgement; one for a message that was not sent on this connection says
    /// nothing.
    pub(crate) fn acknowledged(&mut self, packet_id: u16) {
        // Clients acknowledge in order: it is nearly always the first.
        let Some(place) = self
            .under_way
            .iter()
            .take(self.sent)
            .position(|sent| sent.packet_id == packet_id)
        else {
            return;
        };
        if let Some(done) = self.under_way.remove(place) {
            self.sent -= 1;
            self.bytes -= done.outgoing.message.cost_bytes();
        }
        if self.under_way.is_empty() && self.under_way.capacity() > 64 {
            self.under_way.shrink_to(0);
        }
    }

    /// An identifier that is not under way; a free one exists while the window is open.
    fn next_packet_id(&mut self) -> u16 {
        loop {
            self.last_packet_id = self.last_packet_id.checked_add(1).unwrap_or(1);
            let id = self.last_packet_id;
            if !self.under_way.iter().any(|sent| sent.packet_id == id) {
                return id;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::QoS;
    use crate::message::Message;
    use std::sync::Arc;

    fn outgoing() -> Outgoing {
        let message = Arc::new(Message::own("a", "x".to_owned()));
        Outgoing {
            message,
            qos: QoS::AtLeastOnce,
            retain: false,
            identifiers: Vec::new(),
        }
    }

    #[test]
    fn the_window_closes_when_full_and_opens_with_an_acknowledgement() {
        let mut window = Window::default();
        assert!(!window.is_open(), "without a connection");
        window.begin(2);
        assert_eq!(window.send(outgoing()).packet_id, 1);
        assert_eq!(window.send(outgoing()).packet_id, 2);
        assert!(!window.is_open());
        window.acknowledged(9);
        assert!(!window.is_open());
        window.acknowledged(2);
        assert!(window.is_open());
        window.acknowledged(1);
        assert_eq!(window.bytes(), 0);
    }

    #[test]
    fn what_was_not_acknowledged_is_sent_again_before_anything_new() {
        let mut window = Window::default();
        window.begin(3);
        for _ in 0..3 {
            window.send(outgoing());
        }
        window.acknowledged(2);
        window.pause();
        window.acknowledged(1);
        // The next connection takes one at a time.
        window.begin(1);
        assert!(!window.is_open());
        let again = window.next_again().unwrap();
        assert_eq!((again.packet_id, again.dup), (1, true));
        assert!(window.next_again().is_none());
        window.acknowledged(3);
        window.acknowledged(1);
        let again = window.next_again().unwrap();
        assert_eq!((again.packet_id, again.dup), (3, true));
        window.acknowledged(3);
        assert!(window.is_open());
    }

    #[test]
    fn an_identifier_under_way_is_not_used_again() {
        let mut window = Window::default();
        window.begin(10);
        window.send(outgoing());
        window.last_packet_id = u16::MAX;
        assert_eq!(window.send(outgoing()).packet_id, 2);
    }
}
