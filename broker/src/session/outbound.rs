//! What goes to the client: queueing it, handing it to the connection, its acknowledgements.

use std::sync::Arc;
use std::time::Instant;

use super::{Backlog, Session, State};
use crate::codec::packet::QoS;
use crate::codec::reason::Reason;
use crate::counters::Drop;
use crate::disk::Ticket;
use crate::message::Outgoing;
use crate::queue::{Load, Pushed};
use crate::retained::Retained;
use crate::window::{Ready, Received};

/// Bytes handed to a connection at once.
const BATCH_BYTES: usize = 64 * 1024;

/// Steps through the retained messages at once.
const BATCH_STEPS: usize = 8;

/// What a connection finds when it asks for messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Drained {
    /// That was all; the connection will be woken.
    All,
    /// That was all until the disk has told more to be safe; the connection may be woken before.
    UntilSafe,
    /// There may be more.
    More,
    /// The connection has to end, for this reason.
    Ended(Reason),
}

impl Session {
    /// Queues a message; never waits. What a full queue does stands at `Limits::queue_bytes`.
    /// Returns when it is safe. A message of a shared subscription comes back where no connection
    /// would take it now, unless it `stays` anyway.
    pub(crate) fn push(&self, mut outgoing: Outgoing, stays: bool) -> Result<Ticket, Outgoing> {
        let mut state = self.state();
        let state = &mut *state;
        let served = state.link.is_some() && state.ending.is_none();
        if outgoing.shared.is_some() && (state.over || (!served && !stays)) {
            return Err(outgoing);
        }
        if state.over || (!served && outgoing.qos == QoS::AtMostOnce) {
            return Ok(Ticket::NONE);
        }
        let counters = &self.surroundings.counters;
        let cause = if served {
            Drop::QueueFull
        } else {
            Drop::AbsentQueueFull
        };
        if !self.record(state, &mut outgoing) {
            counters.drop_messages(cause, 1);
            if served {
                state.end_connection(Reason::QUOTA_EXCEEDED);
            }
            return Ok(Ticket::NONE);
        }
        let ticket = outgoing.stored.map_or(Ticket::NONE, |stored| stored.ticket);
        let all_bytes = self.surroundings.limits.total_queue_bytes as u64;
        let mut load = Load {
            under_way_bytes: state.window.bytes(),
            ..Load::default()
        };
        if counters.queued_bytes.get() > all_bytes {
            load.most_messages = state.queue.most_messages_when_crowded();
        }
        match state.queue.push(outgoing, load) {
            Pushed::Kept(gone) => counters.drop_messages(cause, gone),
            Pushed::Dropped(gone) => counters.drop_messages(cause, gone + 1),
            Pushed::Over(gone) => {
                counters.drop_messages(cause, gone);
                if served {
                    state.end_connection(Reason::QUOTA_EXCEEDED);
                } else {
                    while let Some(gone) = state.queue.shed(load) {
                        self.forget(state, &gone);
                        counters.drop_messages(Drop::AbsentQueueFull, 1);
                    }
                }
            }
        }
        self.settle(state);
        state.wake();
        Ok(ticket)
    }

    /// Records a message that must survive the broker; not so one that needs no record. Returns
    /// false where no packet identifier is left for it.
    fn record(&self, state: &mut State, outgoing: &mut Outgoing) -> bool {
        outgoing.stored = None;
        let Some(disk) = &self.surroundings.disk else {
            return true;
        };
        if !state.stored || outgoing.qos == QoS::AtMostOnce || !outgoing.message.durable {
            return true;
        }
        let packet_id = if outgoing.qos == QoS::ExactlyOnce {
            let Some(packet_id) = state.packet_ids.take_recorded() else {
                return false;
            };
            packet_id
        } else {
            0
        };
        state.last_entry += 1;
        disk.put_entry(self.key(), outgoing, state.last_entry, packet_id);
        true
    }

    /// Lets go of a message that has left the queue or the window.
    fn forget(&self, state: &mut State, outgoing: &Outgoing) {
        let Some(stored) = outgoing.stored else {
            return;
        };
        if stored.packet_id != 0 {
            state.packet_ids.free(stored.packet_id);
        }
        self.forget_entry(stored.entry);
    }

    fn forget_entry(&self, entry: u64) {
        if let Some(disk) = &self.surroundings.disk {
            disk.remove_entry(self.key(), entry);
        }
    }

    /// Hands the connection `generation` what it may send now. What the disk has told to be
    /// `safe` may need to be.
    pub(crate) fn drain(
        &self,
        generation: u64,
        retained: &Retained,
        safe: Ticket,
        now: Instant,
        ready: &mut Vec<Ready>,
    ) -> Drained {
        let mut state = self.state();
        let state = &mut *state;
        if let Some(reason) = state.ended(generation) {
            return Drained::Ended(reason);
        }
        let mut bytes = 0;
        while bytes < BATCH_BYTES
            && let Some(again) = state.window.next_again()
        {
            if let Ready::Publish { outgoing, .. } = &again {
                bytes += outgoing.message.cost_bytes();
            }
            ready.push(again);
        }
        let blocked = self.send_retained(state, retained, now, ready, &mut bytes);
        while bytes < BATCH_BYTES {
            let open =
                state.may_send() || (state.window.is_open() && state.queue.next_is_numbered());
            let Some(outgoing) = state.queue.pop(open, safe) else {
                break;
            };
            bytes += self.send(state, outgoing, now, ready);
        }
        self.settle(state);
        if bytes < BATCH_BYTES && (blocked || state.backlogs.is_empty()) {
            state.parked = true;
            return if state.queue.waits_for_disk(safe) {
                Drained::UntilSafe
            } else {
                Drained::All
            };
        }
        Drained::More
    }

    /// Goes on with the retained messages of new subscriptions. Returns whether acknowledgements
    /// must come in first.
    fn send_retained(
        &self,
        state: &mut State,
        retained: &Retained,
        now: Instant,
        ready: &mut Vec<Ready>,
        bytes: &mut usize,
    ) -> bool {
        // Half of a batch, so that live messages are served meanwhile.
        let limit = *bytes + BATCH_BYTES / 2;
        for _ in 0..BATCH_STEPS {
            if *bytes >= limit {
                return false;
            }
            let Some(mut backlog) = state.backlogs.pop_front() else {
                return false;
            };
            if backlog.qos != QoS::AtMostOnce && !state.may_send() {
                state.backlogs.push_front(backlog);
                return true;
            }
            let Backlog {
                cursor,
                qos,
                identifier,
                filtered,
            } = &mut backlog;
            let more = cursor.step(retained, now, |message| {
                if *filtered && !self.access().may_read(&message.topic) {
                    return true;
                }
                let outgoing = Outgoing {
                    message: Arc::clone(message),
                    qos: message.qos.min(*qos),
                    retain: true,
                    identifiers: identifier.iter().copied().collect(),
                    shared: None,
                    stored: None,
                    frames: None,
                };
                *bytes += self.send(state, outgoing, now, ready);
                *bytes < limit && (*qos == QoS::AtMostOnce || state.may_send())
            });
            if more {
                state.backlogs.push_front(backlog);
            }
        }
        false
    }

    /// Makes a message ready; QoS 1 and 2 are under way from now on. Returns its cost.
    fn send(
        &self,
        state: &mut State,
        outgoing: Outgoing,
        now: Instant,
        ready: &mut Vec<Ready>,
    ) -> usize {
        let cost = outgoing.message.cost_bytes();
        let counters = &self.surroundings.counters;
        if outgoing.message.is_expired(now) {
            counters.drop_messages(Drop::Expired, 1);
            self.forget(state, &outgoing);
            return cost;
        }
        if let Some(link) = &state.link
            && outgoing.delivery(1, false, now).packet_bytes(link.version) > link.max_packet_bytes
        {
            counters.drop_messages(Drop::TooLarge, 1);
            self.forget(state, &outgoing);
            return cost;
        }
        if outgoing.qos == QoS::AtMostOnce {
            ready.push(Ready::Publish {
                outgoing,
                packet_id: 0,
                dup: false,
            });
            return cost;
        }
        let of_disk = outgoing.stored.map_or(0, |stored| stored.packet_id);
        let packet_id = if of_disk == 0 {
            state
                .packet_ids
                .take()
                .expect("an identifier is free while messages may be sent")
        } else {
            of_disk
        };
        ready.push(state.window.send(packet_id, outgoing));
        cost
    }

    /// Why the connection `generation` has to end, if it has to.
    pub(crate) fn must_end(&self, generation: u64) -> Option<Reason> {
        self.state().ended(generation)
    }

    /// Takes a PUBACK.
    pub(crate) fn acknowledged(&self, generation: u64, packet_id: u16) {
        let mut state = self.state();
        let state = &mut *state;
        if state.generation != generation {
            return;
        }
        if let Some(done) = state.window.acknowledged(packet_id) {
            state.packet_ids.free(packet_id);
            self.forget(state, &done);
            self.settle(state);
        }
    }

    /// Takes a PUBREC. Returns the reason of the PUBREL that answers it and when it may go, or
    /// `None` where there is none.
    pub(crate) fn received(
        &self,
        generation: u64,
        packet_id: u16,
        failure: bool,
    ) -> Option<(Reason, Ticket)> {
        let mut state = self.state();
        let state = &mut *state;
        if state.generation != generation {
            return None;
        }
        if failure {
            if let Some(done) = state.window.refused(packet_id) {
                state.packet_ids.free(packet_id);
                self.forget(state, &done);
                self.settle(state);
            }
            return None;
        }
        match state.window.received(packet_id) {
            Received::Now(stored) => {
                let ticket = match (&self.surroundings.disk, stored) {
                    // A PUBREL that the broker forgets would have the message sent again. A session
                    // that is no longer on disk must leave nothing there.
                    (Some(disk), Some(stored)) if state.stored => {
                        disk.release_entry(self.key(), stored)
                    }
                    _ => Ticket::NONE,
                };
                state.window.release_is_safe_at(packet_id, ticket);
                self.settle(state);
                Some((Reason::SUCCESS, ticket))
            }
            Received::Before(ticket) => Some((Reason::SUCCESS, ticket)),
            Received::Unknown => Some((Reason::PACKET_IDENTIFIER_NOT_FOUND, Ticket::NONE)),
        }
    }

    /// Takes a PUBCOMP.
    pub(crate) fn completed(&self, generation: u64, packet_id: u16) {
        let mut state = self.state();
        let state = &mut *state;
        if state.generation != generation {
            return;
        }
        if let Some(stored) = state.window.completed(packet_id) {
            state.packet_ids.free(packet_id);
            if let Some(stored) = stored {
                self.forget_entry(stored.entry);
            }
            self.settle(state);
        }
    }

    /// Takes out what came by the shared subscription `shared` and that another member may get:
    /// all but QoS 2 messages that went out already. Not while a connection takes messages.
    pub(crate) fn take_shared(&self, shared: &str) -> Vec<Outgoing> {
        let mut state = self.state();
        let state = &mut *state;
        if state.is_connected() {
            return Vec::new();
        }
        let mut taken = Vec::new();
        for (packet_id, outgoing) in state.window.take_shared(shared) {
            state.packet_ids.free(packet_id);
            taken.push(outgoing);
        }
        taken.extend(state.queue.take_shared(shared));
        for outgoing in &taken {
            self.forget(state, outgoing);
        }
        self.settle(state);
        taken
    }
}

impl State {
    /// Whether a new message that needs an acknowledgement may be sent.
    fn may_send(&self) -> bool {
        self.window.is_open() && self.packet_ids.any_is_free()
    }
}
