//! What is to be written: for each thing its last state, so that what comes and goes between two
//! writes costs no disk.

use std::collections::HashMap;
use std::sync::Arc;

use bytestring::ByteString;

use super::rows::{Entry, Options, SessionRow};
use super::ticket::Ticket;
use crate::message::{Message, Outgoing, Stored};

/// A message that waits, or waited, for a session.
#[derive(Debug)]
pub(super) struct EntryChange {
    /// Absent: it is gone.
    pub(super) entry: Option<Entry>,
    /// The message, where it is not on disk yet.
    pub(super) message: Option<Arc<Message>>,
}

/// One batch. Keys of sessions are never used again, so a removed session stays removed.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) ticket: Ticket,
    /// Somebody waits for it.
    pub(super) urgent: bool,
    /// The broker stops.
    pub(super) closing: bool,
    pub(super) sessions: HashMap<u64, Option<SessionRow>>,
    pub(super) filters: HashMap<(u64, Box<str>), Option<Options>>,
    pub(super) entries: HashMap<(u64, u64), EntryChange>,
    pub(super) incoming: HashMap<(u64, u16), bool>,
    pub(super) retained: HashMap<ByteString, Option<Arc<Message>>>,
}

impl Pending {
    pub(super) fn new() -> Self {
        Self {
            ticket: Ticket::NONE.next(),
            urgent: false,
            closing: false,
            sessions: HashMap::new(),
            filters: HashMap::new(),
            entries: HashMap::new(),
            incoming: HashMap::new(),
            retained: HashMap::new(),
        }
    }

    /// The empty batch that follows.
    pub(super) fn next(&self) -> Self {
        Self {
            ticket: self.ticket.next(),
            closing: self.closing,
            ..Self::new()
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.sessions.is_empty()
            && self.filters.is_empty()
            && self.entries.is_empty()
            && self.incoming.is_empty()
            && self.retained.is_empty()
            && !self.urgent
    }

    pub(super) fn put_session(&mut self, key: u64, row: SessionRow) {
        self.sessions.insert(key, Some(row));
    }

    pub(super) fn remove_session(&mut self, key: u64) {
        self.sessions.insert(key, None);
    }

    /// Whether the session has ended: then what else stands here of it is not written.
    pub(super) fn has_ended(&self, key: u64) -> bool {
        matches!(self.sessions.get(&key), Some(None))
    }

    pub(super) fn put_filter(&mut self, key: u64, filter: &str, options: Option<Options>) {
        self.filters.insert((key, filter.into()), options);
    }

    pub(super) fn put_entry(&mut self, key: u64, outgoing: &Outgoing, number: u64, packet_id: u16) {
        let entry = Entry {
            message: outgoing.message.sequence,
            qos: outgoing.qos,
            retain: outgoing.retain,
            released: false,
            packet_id,
            identifiers: outgoing.identifiers.clone(),
            shared: outgoing.shared.clone(),
        };
        let change = EntryChange {
            entry: Some(entry),
            message: Some(Arc::clone(&outgoing.message)),
        };
        self.entries.insert((key, number), change);
    }

    pub(super) fn release_entry(&mut self, key: u64, stored: Stored) {
        let released = Entry {
            message: 0,
            qos: crate::codec::QoS::ExactlyOnce,
            retain: false,
            released: true,
            packet_id: stored.packet_id,
            identifiers: Vec::new(),
            shared: None,
        };
        let change = EntryChange {
            entry: Some(released),
            message: None,
        };
        self.entries.insert((key, stored.entry), change);
    }

    pub(super) fn remove_entry(&mut self, key: u64, number: u64) {
        let place = (key, number);
        let unwritten = self
            .entries
            .get(&place)
            .is_some_and(|change| change.message.is_some());
        if unwritten {
            self.entries.remove(&place);
        } else {
            let change = EntryChange {
                entry: None,
                message: None,
            };
            self.entries.insert(place, change);
        }
    }

    pub(super) fn set_incoming(&mut self, key: u64, packet_id: u16, there: bool) {
        self.incoming.insert((key, packet_id), there);
    }

    pub(super) fn put_retained(&mut self, topic: ByteString, message: Option<Arc<Message>>) {
        self.retained.insert(topic, message);
    }
}
