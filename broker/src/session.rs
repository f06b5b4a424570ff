//! A session: its filters, its queue, what is under way to its client, its will.
//!
//! It does not know the hub, nor the other sessions: `subscriber` makes its filters subscriptions.
//!
//! A session outlives its connection where that was agreed. The connection that has it is told by
//! its generation: one that was replaced finds out at its next call. All state stands behind one
//! mutex that is held for short, bounded work and never across an await. Order of locks, where more
//! than one is held: the hub's sessions, a session's state, subscriptions or retained messages.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use hostbus_wire::{Access, Identity};
use tokio::sync::Notify;

use crate::codec::packet::{QoS, Version, Will};
use crate::codec::reason::Reason;
use crate::counters::{Counters, Drop};
use crate::limits::Limits;
use crate::lock::Held;
use crate::message::{Origin, Outgoing};
use crate::queue::{Pushed, Queue};
use crate::retained::{Cursor, Retained};
use crate::window::{Ready, Window};

/// Bytes handed to a connection at once.
const BATCH_BYTES: usize = 64 * 1024;

/// Steps through the retained messages at once.
const BATCH_STEPS: usize = 8;

/// Whose session it is. Client ids are per user: nobody can take over another user's session, or
/// cut off its connection, by using its client id.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Name {
    pub(crate) user: Box<str>,
    pub(crate) client_id: Box<str>,
}

/// What a connection tells its session.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) version: Version,
    /// Messages that may be under way at once.
    pub(crate) window: usize,
    /// The longest packet that the client takes.
    pub(crate) max_packet_bytes: usize,
    /// Wakes the connection when there is something for it.
    pub(crate) wake: Arc<Notify>,
}

/// What a connection finds when it asks for messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Drained {
    /// That was all; the connection will be woken.
    All,
    /// There may be more.
    More,
    /// The connection has to end, for this reason.
    Ended(Reason),
}

/// Retained messages that a subscription has still to get, and how.
#[derive(Debug)]
pub(crate) struct Backlog {
    pub(crate) cursor: Cursor,
    pub(crate) qos: QoS,
    pub(crate) identifier: Option<u32>,
    /// Each message must be checked against the session's rights.
    pub(crate) filtered: bool,
}

#[derive(Debug)]
pub(crate) struct State {
    generation: u64,
    link: Option<Link>,
    /// Why the present connection has to end.
    ending: Option<Reason>,
    /// The connection waits to be woken.
    parked: bool,
    queue: Queue,
    window: Window,
    backlogs: VecDeque<Backlog>,
    filters: HashSet<Box<str>>,
    /// How long it outlives its connection.
    pub(crate) expiry: Duration,
    /// When it ends, while its client is away.
    pub(crate) ends: Option<Instant>,
    pub(crate) will: Option<Box<Will>>,
    /// When the will is published, while its client is away.
    pub(crate) will_due: Option<Instant>,
    /// It has ended: nothing may be added any more.
    over: bool,
}

/// One session.
#[derive(Debug)]
pub(crate) struct Session {
    origin: Origin,
    name: Name,
    identity: Identity,
    access: Access,
    state: Mutex<State>,
}

impl Session {
    pub(crate) fn new(
        key: u64,
        name: Name,
        identity: Identity,
        access: Access,
        limits: &Limits,
    ) -> Self {
        let state = State {
            generation: 0,
            link: None,
            ending: None,
            parked: false,
            queue: Queue::new(limits.queue_messages, limits.queue_bytes),
            window: Window::default(),
            backlogs: VecDeque::new(),
            filters: HashSet::new(),
            expiry: Duration::ZERO,
            ends: None,
            will: None,
            will_due: None,
            over: false,
        };
        let has_quota = !matches!(
            identity,
            Identity::Ingester | Identity::Notifier | Identity::Admin
        );
        let origin = Origin {
            session: key,
            quota: has_quota.then(|| (*name.user).into()),
        };
        Self {
            origin,
            name,
            identity,
            access,
            state: Mutex::new(state),
        }
    }

    /// Unique in the broker, never 0, never used again.
    pub(crate) fn key(&self) -> u64 {
        self.origin.session
    }

    /// Who its client's messages come from.
    pub(crate) fn origin(&self) -> Origin {
        self.origin.clone()
    }

    pub(crate) fn name(&self) -> &Name {
        &self.name
    }

    pub(crate) fn identity(&self) -> &Identity {
        &self.identity
    }

    pub(crate) fn access(&self) -> &Access {
        &self.access
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.held()
    }

    /// Queues a message; never waits. What a full queue does stands at `Limits::queue_bytes`.
    pub(crate) fn push(&self, outgoing: Outgoing, counters: &Counters) {
        let mut state = self.state.held();
        let state = &mut *state;
        let served = state.link.is_some() && state.ending.is_none();
        if state.over || (!served && outgoing.qos == QoS::AtMostOnce) {
            return;
        }
        let cause = if served {
            Drop::QueueFull
        } else {
            Drop::AbsentQueueFull
        };
        match state.queue.push(outgoing, state.window.bytes()) {
            Pushed::Kept(gone) => counters.drop_messages(cause, gone),
            Pushed::Dropped(gone) => counters.drop_messages(cause, gone + 1),
            Pushed::Over(gone) => {
                counters.drop_messages(cause, gone);
                if served {
                    state.end_connection(Reason::QUOTA_EXCEEDED);
                } else {
                    let gone = state.queue.shed(state.window.bytes());
                    counters.drop_messages(Drop::AbsentQueueFull, gone);
                }
            }
        }
        state.wake();
    }

    /// Hands the connection `generation` what it may send now.
    pub(crate) fn drain(
        &self,
        generation: u64,
        retained: &Retained,
        counters: &Counters,
        now: Instant,
        ready: &mut Vec<Ready>,
    ) -> Drained {
        let mut state = self.state.held();
        let state = &mut *state;
        if let Some(reason) = state.ended(generation) {
            return Drained::Ended(reason);
        }
        let mut bytes = 0;
        while bytes < BATCH_BYTES
            && let Some(again) = state.window.next_again()
        {
            bytes += again.outgoing.message.cost_bytes();
            ready.push(again);
        }
        let blocked = self.send_retained(state, retained, now, ready, &mut bytes, counters);
        while bytes < BATCH_BYTES {
            let Some(outgoing) = state.queue.pop(state.window.is_open()) else {
                break;
            };
            bytes += state.send(outgoing, counters, now, ready);
        }
        if bytes < BATCH_BYTES && (blocked || state.backlogs.is_empty()) {
            state.parked = true;
            return Drained::All;
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
        counters: &Counters,
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
            if backlog.qos != QoS::AtMostOnce && !state.window.is_open() {
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
                if *filtered && !self.access.may_read(&message.topic) {
                    return true;
                }
                let outgoing = Outgoing {
                    message: Arc::clone(message),
                    qos: message.qos.min(*qos),
                    retain: true,
                    identifiers: identifier.iter().copied().collect(),
                };
                *bytes += state.send(outgoing, counters, now, ready);
                *bytes < limit && (*qos == QoS::AtMostOnce || state.window.is_open())
            });
            if more {
                state.backlogs.push_front(backlog);
            }
        }
        false
    }

    /// Why the connection `generation` has to end, if it has to.
    pub(crate) fn must_end(&self, generation: u64) -> Option<Reason> {
        self.state.held().ended(generation)
    }

    /// Takes the acknowledgement of a message.
    pub(crate) fn acknowledged(&self, generation: u64, packet_id: u16) {
        let mut state = self.state.held();
        if state.generation != generation {
            return;
        }
        state.window.acknowledged(packet_id);
    }
}

impl State {
    /// Whether the connection `generation` has the session and may change it.
    pub(crate) fn is_open_to(&self, generation: u64) -> bool {
        self.generation == generation && !self.over
    }

    /// The filters that it has subscribed to.
    pub(crate) fn filters(&self) -> &HashSet<Box<str>> {
        &self.filters
    }

    /// Notes a filter. Returns whether it is new.
    pub(crate) fn add_filter(&mut self, filter: &str) -> bool {
        self.filters.insert(filter.into())
    }

    /// Forgets a filter and what retained messages it has still to get. Returns whether it was
    /// there.
    pub(crate) fn remove_filter(&mut self, filter: &str) -> bool {
        let there = self.filters.remove(filter);
        if there {
            self.remove_backlog(filter);
        }
        there
    }

    /// Sends retained messages from now on, instead of what its filter has still to get.
    pub(crate) fn add_backlog(&mut self, backlog: Backlog) {
        self.remove_backlog(backlog.cursor.filter());
        self.backlogs.push_back(backlog);
    }

    fn remove_backlog(&mut self, filter: &str) {
        self.backlogs.retain(|old| old.cursor.filter() != filter);
    }

    /// Ends the session for good and drops all it has. Returns the filters that it had.
    pub(crate) fn end(&mut self) -> HashSet<Box<str>> {
        self.over = true;
        self.generation += 1;
        if let Some(link) = self.link.take() {
            link.wake.notify_one();
        }
        self.queue = Queue::default();
        self.window = Window::default();
        self.backlogs = VecDeque::new();
        std::mem::take(&mut self.filters)
    }

    /// Why the connection `generation` has to end, if it has to.
    fn ended(&self, generation: u64) -> Option<Reason> {
        if self.generation != generation {
            return Some(Reason::SESSION_TAKEN_OVER);
        }
        self.ending
    }

    /// Whether the connection `generation` still has the session.
    pub(crate) fn is_held_by(&self, generation: u64) -> bool {
        self.generation == generation
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.link.is_some()
    }

    /// Gives the session to a new connection, and takes it from the old one. Returns the new
    /// generation.
    pub(crate) fn attach(&mut self, link: Link) -> u64 {
        self.detach();
        self.generation += 1;
        self.window.begin(link.window);
        self.link = Some(link);
        self.ends = None;
        self.will_due = None;
        self.generation
    }

    /// Leaves the session without a connection.
    pub(crate) fn detach(&mut self) {
        if let Some(link) = self.link.take() {
            link.wake.notify_one();
        }
        self.ending = None;
        self.parked = false;
        self.window.pause();
        // QoS 0 promises nothing to an absent client; it is not counted as dropped.
        self.queue.drop_at_most_once();
    }

    /// Tells the connection to end.
    pub(crate) fn end_connection(&mut self, reason: Reason) {
        self.ending = Some(reason);
        self.parked = true;
        self.wake();
    }

    fn wake(&mut self) {
        if self.parked {
            self.parked = false;
            if let Some(link) = &self.link {
                link.wake.notify_one();
            }
        }
    }

    /// Makes a message ready; QoS 1 is under way from now on. Returns its cost.
    fn send(
        &mut self,
        outgoing: Outgoing,
        counters: &Counters,
        now: Instant,
        ready: &mut Vec<Ready>,
    ) -> usize {
        let cost = outgoing.message.cost_bytes();
        if outgoing.message.is_expired(now) {
            counters.drop_messages(Drop::Expired, 1);
            return cost;
        }
        if let Some(link) = &self.link
            && outgoing.delivery(1, false, now).packet_bytes(link.version) > link.max_packet_bytes
        {
            counters.drop_messages(Drop::TooLarge, 1);
            return cost;
        }
        ready.push(if outgoing.qos == QoS::AtMostOnce {
            Ready {
                outgoing,
                packet_id: 0,
                dup: false,
            }
        } else {
            self.window.send(outgoing)
        });
        cost
    }
}
