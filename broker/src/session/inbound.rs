//! QoS 2 messages that the client is sending: taken once, known until the client releases them.

use super::{Session, State};
use crate::disk::Ticket;

/// What a QoS 2 PUBLISH is to the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Incoming {
    /// It is taken for the first time. The identifier is safe with this ticket.
    New(Ticket),
    /// It was taken before.
    Known(Ticket),
    /// More are under way than were agreed on.
    TooMany,
    /// Another connection has the session.
    TakenOver,
}

impl Session {
    /// Whether what its client sends must be safe before it is answered.
    pub(crate) fn is_stored(&self) -> bool {
        self.state().stored
    }

    /// Notes that the message `packet_id` is taken; at most `most` of them on this connection.
    pub(crate) fn take_incoming(&self, generation: u64, packet_id: u16, most: usize) -> Incoming {
        let mut state = self.state();
        let state = &mut *state;
        if !state.is_open_to(generation) {
            return Incoming::TakenOver;
        }
        let known = state.incoming.contains(&packet_id);
        if !known && state.incoming.len() >= most.saturating_add(state.incoming_before) {
            return Incoming::TooMany;
        }
        state.incoming.insert(packet_id);
        // A known one is recorded again: its first record may not be safe yet.
        let ticket = self.note_incoming(state, packet_id, true);
        if known {
            Incoming::Known(ticket)
        } else {
            Incoming::New(ticket)
        }
    }

    /// Takes a PUBREL. Returns whether the message was known, and when it is safe that it no longer
    /// is: only then may the client use its identifier again.
    pub(crate) fn release_incoming(&self, generation: u64, packet_id: u16) -> (bool, Ticket) {
        let mut state = self.state();
        let state = &mut *state;
        if !state.is_open_to(generation) || !state.incoming.remove(&packet_id) {
            return (false, Ticket::NONE);
        }
        (true, self.note_incoming(state, packet_id, false))
    }

    fn note_incoming(&self, state: &State, packet_id: u16, there: bool) -> Ticket {
        match &self.surroundings.disk {
            Some(disk) if state.stored && there => disk.put_incoming(self.key(), packet_id),
            Some(disk) if state.stored => disk.remove_incoming(self.key(), packet_id),
            _ => Ticket::NONE,
        }
    }
}
