//! A session: its filters, its queue, what is under way to and from its client, its will.
//!
//! | module | owns |
//! |---|---|
//! | this one | whose it is, and its life: beginning, connections, end |
//! | `outbound` | what goes to the client: queueing, handing out, acknowledgements |
//! | `inbound` | QoS 2 messages that the client is sending |
//!
//! It does not know the hub, nor the other sessions: `subscriber` makes its filters subscriptions.
//!
//! A session outlives its connection where that was agreed; then it is recorded on disk, with all
//! that is acknowledged to it. The connection that has it is told by its generation: one that was
//! replaced finds out at its next call. All state stands behind one mutex that is held for short,
//! bounded work and never across an await. Order of locks, where more than one is held: the hub's
//! sessions, the disk's `together`, a session's state, subscriptions or retained messages, what is
//! pending for the disk.

mod inbound;
mod outbound;

use std::collections::{HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use hostbus_wire::{Access, Identity};
use tokio::sync::Notify;

use crate::codec::packet::{QoS, Version, Will};
use crate::codec::reason::Reason;
use crate::counters::Counters;
use crate::disk::{Disk, Now, Options, SessionRow, StoredSession, Ticket};
use crate::limits::Limits;
use crate::lock::Held;
use crate::message::Origin;
use crate::queue::{Load, Queue};
use crate::retained::Cursor;
use crate::window::{PacketIds, Window};

pub(crate) use inbound::Incoming;
pub(crate) use outbound::Drained;

/// What begins the filter of a shared subscription.
pub(crate) const SHARE: &str = "$share/";

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
    packet_ids: PacketIds,
    backlogs: VecDeque<Backlog>,
    filters: HashSet<Box<str>>,
    /// QoS 2 messages that the client has not released yet, by packet identifier.
    incoming: HashSet<u16>,
    /// So many of them were there when the present connection began.
    incoming_before: usize,
    /// It is on disk.
    stored: bool,
    /// The number of the last message that was recorded for it.
    last_entry: u64,
    /// What the broker's gauges hold of it: messages and bytes.
    counted: (usize, usize),
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

/// What sessions share.
#[derive(Debug, Clone)]
pub(crate) struct Surroundings {
    pub(crate) counters: Arc<Counters>,
    /// Absent: nothing survives the broker.
    pub(crate) disk: Option<Arc<Disk>>,
    pub(crate) limits: Limits,
}

/// One session.
#[derive(Debug)]
pub(crate) struct Session {
    origin: Origin,
    name: Name,
    identity: Identity,
    access: Access,
    surroundings: Arc<Surroundings>,
    /// Messages that wait or are under way; a hint for those who choose among sessions.
    load: AtomicUsize,
    /// A connection takes messages; a hint likewise.
    served: AtomicBool,
    state: Mutex<State>,
}

impl Session {
    pub(crate) fn new(
        key: u64,
        name: Name,
        identity: Identity,
        access: Access,
        surroundings: Arc<Surroundings>,
    ) -> Self {
        let limits = &surroundings.limits;
        let state = State {
            generation: 0,
            link: None,
            ending: None,
            parked: false,
            queue: Queue::new(limits.queue_messages, limits.queue_bytes),
            window: Window::default(),
            packet_ids: PacketIds::default(),
            backlogs: VecDeque::new(),
            filters: HashSet::new(),
            incoming: HashSet::new(),
            incoming_before: 0,
            stored: false,
            last_entry: 0,
            counted: (0, 0),
            expiry: Duration::ZERO,
            ends: None,
            will: None,
            will_due: None,
            over: false,
        };
        let origin = Origin {
            session: key,
            quota: Limits::hold_for(&identity).then(|| (*name.user).into()),
        };
        Self {
            origin,
            name,
            identity,
            access,
            surroundings,
            load: AtomicUsize::new(0),
            served: AtomicBool::new(false),
            state: Mutex::new(state),
        }
    }

    /// The session that was on disk when the broker began; its client is away. Its filters are the
    /// caller's to subscribe.
    pub(crate) fn restore(
        found: &mut StoredSession,
        access: Access,
        surroundings: Arc<Surroundings>,
        now: Instant,
    ) -> Self {
        let row = &found.row;
        let name = Name {
            user: (*row.user).into(),
            client_id: (*row.client_id).into(),
        };
        let session = Self::new(found.key, name, row.identity.clone(), access, surroundings);
        {
            let mut state = session.state();
            let state = &mut *state;
            state.stored = true;
            state.expiry = Duration::from_secs(row.expiry_seconds);
            state.ends = match row.ends_unix_ms {
                Some(unix_ms) => Now::read().instant(unix_ms),
                // The broker died while the client was connected.
                None => now.checked_add(state.expiry),
            };
            state.incoming = found.incoming.iter().copied().collect();
            state.filters = found
                .filters
                .iter()
                .map(|(filter, _)| filter.clone())
                .collect();
            for mut entry in found.entries.drain(..) {
                let Some(stored) = entry.outgoing.stored else {
                    continue;
                };
                state.last_entry = state.last_entry.max(stored.entry);
                if stored.packet_id != 0 {
                    state.packet_ids.restore(stored.packet_id);
                }
                if entry.released {
                    state.window.restore_released(stored.packet_id, stored);
                } else {
                    if entry.outgoing.qos == QoS::ExactlyOnce {
                        // It may have gone out before the broker died: no other member of its
                        // shared subscription may get it.
                        entry.outgoing.shared = None;
                    }
                    // The limits may have been lowered meanwhile: they hold again from the next
                    // message on.
                    state.queue.push(entry.outgoing, Load::default());
                }
            }
            session.settle(state);
        }
        session
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

    /// Messages that wait for its client or are under way to it, as of a moment ago.
    pub(crate) fn load(&self) -> usize {
        self.load.load(Relaxed)
    }

    /// Whether a connection took messages a moment ago.
    pub(crate) fn is_served(&self) -> bool {
        self.served.load(Relaxed)
    }

    /// Tells the gauges what changed.
    fn settle(&self, state: &mut State) {
        let messages = state.queue.len() + state.window.len();
        let bytes = state.queue.bytes() + state.window.bytes();
        let (messages_before, bytes_before) =
            std::mem::replace(&mut state.counted, (messages, bytes));
        let counters = &self.surroundings.counters;
        counters.queued_messages.shift(messages_before, messages);
        counters.queued_bytes.shift(bytes_before, bytes);
        self.load.store(messages, Relaxed);
        self.served
            .store(state.link.is_some() && state.ending.is_none(), Relaxed);
    }

    /// Gives the session to a new connection, and takes it from the old one. Returns the new
    /// generation, and when it is safe that the session lasts as long as `expiry` says.
    pub(crate) fn attach(&self, state: &mut State, link: Link, expiry: Duration) -> (u64, Ticket) {
        state.detach();
        state.generation += 1;
        state.window.begin(link.window);
        state.link = Some(link);
        state.incoming_before = state.incoming.len();
        state.ends = None;
        state.will_due = None;
        state.expiry = expiry;
        let ticket = self.keep(state);
        self.settle(state);
        (state.generation, ticket)
    }

    /// Leaves the session without a connection.
    pub(crate) fn detach(&self, state: &mut State) {
        state.detach();
        self.settle(state);
    }

    /// Records the session as it lives now, or removes it where it ends with its connection.
    /// Returns when that is safe.
    pub(crate) fn keep(&self, state: &mut State) -> Ticket {
        let Some(disk) = &self.surroundings.disk else {
            return Ticket::NONE;
        };
        if state.expiry.is_zero() {
            let was = std::mem::take(&mut state.stored);
            return if was {
                disk.remove_session(self.key())
            } else {
                Ticket::NONE
            };
        }
        state.stored = true;
        let row = SessionRow {
            user: self.name.user.to_string(),
            client_id: self.name.client_id.to_string(),
            identity: self.identity.clone(),
            expiry_seconds: state.expiry.as_secs(),
            ends_unix_ms: state.ends.map(|ends| Now::read().unix_ms(ends)),
        };
        disk.put_session(self.key(), row)
    }

    /// Ends the session for good and drops all it has. Returns the filters that it had, and when
    /// it is safe that it is gone.
    pub(crate) fn end(&self, state: &mut State) -> (HashSet<Box<str>>, Ticket) {
        state.over = true;
        state.generation += 1;
        if let Some(link) = state.link.take() {
            link.wake.notify_one();
        }
        state.queue = Queue::default();
        state.window = Window::default();
        state.packet_ids = PacketIds::default();
        state.incoming = HashSet::new();
        state.backlogs = VecDeque::new();
        state.expiry = Duration::ZERO;
        let ticket = self.keep(state);
        self.settle(state);
        (std::mem::take(&mut state.filters), ticket)
    }

    /// Notes a filter and what it asks for. Returns whether it is new, and when it is safe.
    pub(crate) fn add_filter(
        &self,
        state: &mut State,
        filter: &str,
        options: Options,
    ) -> (bool, Ticket) {
        let new = state.filters.insert(filter.into());
        let ticket = match &self.surroundings.disk {
            Some(disk) if state.stored => disk.put_filter(self.key(), filter, options),
            _ => Ticket::NONE,
        };
        (new, ticket)
    }

    /// Forgets a filter and what retained messages it has still to get. Returns whether it was
    /// there, and when it is safe that it is gone.
    pub(crate) fn remove_filter(&self, state: &mut State, filter: &str) -> (bool, Ticket) {
        if !state.filters.remove(filter) {
            return (false, Ticket::NONE);
        }
        state.remove_backlog(filter);
        let ticket = match &self.surroundings.disk {
            Some(disk) if state.stored => disk.remove_filter(self.key(), filter),
            _ => Ticket::NONE,
        };
        (true, ticket)
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

    /// The shared subscriptions that it is a member of.
    pub(crate) fn shared_filters(&self) -> Vec<Box<str>> {
        let filters = self.filters.iter();
        filters.filter(|f| f.starts_with(SHARE)).cloned().collect()
    }

    /// These, and those that it has left and whose messages still wait here.
    pub(crate) fn shares(&self) -> HashSet<Box<str>> {
        let waiting = self.queue.shares().chain(self.window.shares());
        let mut shares: HashSet<Box<str>> = self.shared_filters().into_iter().collect();
        for share in waiting {
            if !shares.contains(share) {
                shares.insert(share.into());
            }
        }
        shares
    }

    /// Sends retained messages from now on, instead of what its filter has still to get.
    pub(crate) fn add_backlog(&mut self, backlog: Backlog) {
        self.remove_backlog(backlog.cursor.filter());
        self.backlogs.push_back(backlog);
    }

    fn remove_backlog(&mut self, filter: &str) {
        self.backlogs.retain(|old| old.cursor.filter() != filter);
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

    fn detach(&mut self) {
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
}
