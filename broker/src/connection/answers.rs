//! The acknowledgements of one connection: each goes out once what it tells is safe, in the order in
//! which its packet came.

use std::collections::VecDeque;

use bytes::BytesMut;
use tokio::sync::watch;

use crate::codec::reason::Reason;
use crate::codec::writer::{self, Dialect};
use crate::disk::Ticket;
use crate::hub::Hub;

/// The answer to one packet.
#[derive(Debug)]
pub(super) enum Answer {
    PubAck(u16, Reason),
    PubRec(u16, Reason),
    PubRel(u16, Reason),
    PubComp(u16, Reason),
    SubAck(u16, Vec<Reason>),
    UnsubAck(u16, Vec<Reason>),
}

impl Answer {
    fn write(&self, out: &mut BytesMut, dialect: Dialect) {
        match self {
            Self::PubAck(packet_id, reason) => writer::puback(out, dialect, *packet_id, *reason),
            Self::PubRec(packet_id, reason) => writer::pubrec(out, dialect, *packet_id, *reason),
            Self::PubRel(packet_id, reason) => writer::pubrel(out, dialect, *packet_id, *reason),
            Self::PubComp(packet_id, reason) => writer::pubcomp(out, dialect, *packet_id, *reason),
            Self::SubAck(packet_id, codes) => {
                writer::suback(out, dialect.version, *packet_id, codes);
            }
            Self::UnsubAck(packet_id, codes) => {
                writer::unsuback(out, dialect.version, *packet_id, codes);
            }
        }
    }
}

/// Answers that wait.
#[derive(Debug)]
pub(super) struct Answers {
    waiting: VecDeque<(Ticket, Answer)>,
    /// Absent: there is no disk to wait for.
    safe: Option<watch::Receiver<Ticket>>,
    /// So many are many.
    many: usize,
    /// How many were written since somebody asked.
    written: u64,
}

impl Answers {
    pub(super) fn new(hub: &Hub) -> Self {
        Self {
            waiting: VecDeque::new(),
            safe: hub.disk().map(|disk| disk.safe()),
            many: hub.limits().receive_maximum.into(),
            written: 0,
        }
    }

    /// What is safe by now.
    pub(super) fn safe(&self) -> Ticket {
        self.safe
            .as_ref()
            .map_or(Ticket::NONE, |safe| *safe.borrow())
    }

    /// Waits until `ticket` is safe.
    pub(super) async fn until(&mut self, ticket: Ticket) {
        while ticket != Ticket::NONE && self.safe() < ticket {
            self.safer().await;
        }
    }

    /// Waits until more is safe.
    pub(super) async fn safer(&mut self) {
        let told = match &mut self.safe {
            Some(safe) => safe.changed().await.is_ok(),
            None => false,
        };
        if !told {
            // The disk is closed: nothing becomes safe any more.
            std::future::pending::<()>().await;
        }
    }

    /// How many were written since the last call.
    pub(super) fn take_written(&mut self) -> u64 {
        std::mem::take(&mut self.written)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// So many wait that nothing should be read that asks for more.
    pub(super) fn are_many(&self) -> bool {
        self.waiting.len() >= self.many
    }

    /// Writes the answer, now if its `ticket` is safe, and after those that came before.
    pub(super) fn give(
        &mut self,
        ticket: Ticket,
        answer: Answer,
        out: &mut BytesMut,
        dialect: Dialect,
    ) {
        if self.waiting.is_empty() && (ticket == Ticket::NONE || ticket <= self.safe()) {
            answer.write(out, dialect);
            self.written += 1;
        } else {
            self.waiting.push_back((ticket, answer));
        }
    }

    /// Writes what is safe by now.
    pub(super) fn write_due(&mut self, safe: Ticket, out: &mut BytesMut, dialect: Dialect) {
        while let Some((_, answer)) = self.waiting.pop_front_if(|(ticket, _)| *ticket <= safe) {
            answer.write(out, dialect);
            self.written += 1;
        }
        if self.waiting.is_empty() && self.waiting.capacity() > 64 {
            self.waiting.shrink_to(0);
        }
    }
}
