//! The middle of the broker: takes each message in, keeps it where it is retained, and hands it to
//! every session that subscribed; knows all sessions, begins and ends them.
//!
//! It reads no socket and checks no right to publish: that is the connection's matter.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hostbus_wire::table::kind_of;
use hostbus_wire::{Access, Identity};

use crate::codec::packet::{QoS, Will};
use crate::config::Config;
use crate::counters::{Counters, Drop};
use crate::disk::{Disk, Loaded, Ticket};
use crate::limits::Limits;
use crate::lock::Held;
use crate::login::Logins;
use crate::message::{Frames, Message, Origin, Outgoing};
use crate::retained::{Kept, Retained};
use crate::session::{Link, Name, Session, Surroundings};
use crate::shared;
use crate::subscriber;
use crate::subscriptions::{Entry, Subscription, Subscriptions};

/// One message in so many is timed.
const TIMED: u64 = 64;

/// What a client asks for its session in CONNECT.
#[derive(Debug)]
pub(crate) struct Terms {
    pub(crate) clean_start: bool,
    pub(crate) expiry: Duration,
    pub(crate) will: Option<Box<Will>>,
    pub(crate) link: Link,
}

/// A connection's hold on a session.
#[derive(Debug)]
pub(crate) struct Attached {
    pub(crate) session: Arc<Session>,
    pub(crate) generation: u64,
    /// The session was there before.
    pub(crate) present: bool,
    /// When it is safe that the session is there, and an earlier one is not.
    pub(crate) ticket: Ticket,
}

/// What became of a message.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Published {
    /// Somebody has subscribed to it.
    pub(crate) matched: bool,
    /// When it is safe with all who are owed it.
    pub(crate) ticket: Ticket,
}

#[derive(Debug, Default)]
struct Sessions {
    by_name: HashMap<Name, Arc<Session>>,
    absent: usize,
}

/// All that one broker shares between its connections.
#[derive(Debug)]
pub(crate) struct Hub {
    config: Config,
    logins: Logins,
    subscriptions: Subscriptions,
    retained: Retained,
    sessions: Mutex<Sessions>,
    last_key: AtomicU64,
    sequence: AtomicU64,
    surroundings: Arc<Surroundings>,
    started: Instant,
}

impl Hub {
    /// The hub of a broker that goes on from what was `loaded` of `disk`; without one, nothing
    /// survives it.
    pub(crate) fn new(config: Config, logins: Logins, disk: Option<(Disk, Loaded)>) -> Self {
        let (disk, loaded) = disk.map_or_else(
            || (None, Loaded::default()),
            |(disk, loaded)| (Some(Arc::new(disk)), loaded),
        );
        let surroundings = Surroundings {
            counters: Arc::default(),
            disk: disk.clone(),
            limits: config.limits.clone(),
        };
        let hub = Self {
            logins,
            subscriptions: Subscriptions::default(),
            retained: Retained::new(&config.limits, disk),
            sessions: Mutex::default(),
            last_key: AtomicU64::new(loaded.last_key),
            sequence: AtomicU64::new(loaded.last_sequence),
            surroundings: Arc::new(surroundings),
            started: Instant::now(),
            config,
        };
        hub.restore(loaded);
        hub
    }

    fn restore(&self, loaded: Loaded) {
        for message in loaded.retained {
            self.retained.restore(message);
        }
        let mut sessions = self.sessions.held();
        for mut found in loaded.sessions {
            let access = Access::new(&self.config.root, &found.row.identity);
            let surroundings = Arc::clone(&self.surroundings);
            let session = Session::restore(&mut found, access, surroundings, self.started);
            let session = Arc::new(session);
            subscriber::restore(&session, &found.filters, &self.subscriptions);
            sessions.absent += 1;
            sessions.by_name.insert(session.name().clone(), session);
        }
    }

    pub(crate) fn disk(&self) -> Option<&Arc<Disk>> {
        self.surroundings.disk.as_ref()
    }

    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.config.limits
    }

    pub(crate) fn logins(&self) -> &Logins {
        &self.logins
    }

    pub(crate) fn counters(&self) -> &Counters {
        &self.surroundings.counters
    }

    pub(crate) fn subscriptions(&self) -> &Subscriptions {
        &self.subscriptions
    }

    pub(crate) fn retained(&self) -> &Retained {
        &self.retained
    }

    pub(crate) fn started(&self) -> Instant {
        self.started
    }

    /// The sequence number of the youngest message.
    pub(crate) fn last_sequence(&self) -> u64 {
        self.sequence.load(Ordering::SeqCst)
    }

    /// Sessions, and those of them whose client is away.
    pub(crate) fn session_counts(&self) -> (usize, usize) {
        let sessions = self.sessions.held();
        (sessions.by_name.len(), sessions.absent)
    }

    /// Keeps the message where it is retained, and queues it for every subscriber. Never waits for
    /// anybody.
    pub(crate) fn publish(&self, mut message: Message) -> Published {
        message.sequence = self.sequence.fetch_add(1, Ordering::SeqCst) + 1;
        if self.disk().is_some() && (message.retain || message.qos != QoS::AtMostOnce) {
            message.durable = self.is_durable(&message.topic);
        }
        let message = Arc::new(message);
        let mut ticket = Ticket::NONE;
        if message.retain {
            match self.retained.put(&message) {
                Kept::Kept(safe) => ticket = safe,
                Kept::Full(safe) => {
                    ticket = safe;
                    self.counters().drop_messages(Drop::RetainedFull, 1);
                }
            }
        }
        let begun = message.sequence.is_multiple_of(TIMED).then(Instant::now);
        let snapshot = self.subscriptions.load();
        let mut found = Vec::new();
        let mut groups = Vec::new();
        snapshot.matches(&message.topic, &mut |entry| match entry {
            Entry::One(subscription) => found.push(subscription),
            Entry::Shared(group) => groups.push(group),
        });
        if found.len() > 1 {
            found.sort_unstable_by_key(|subscription| subscription.session.key());
        }
        if let Some(begun) = begun {
            self.counters().matching.add(begun.elapsed());
        }
        let frames = (found.len() > 1).then(Arc::default);
        for of_one_session in found.chunk_by(|one, other| one.session.key() == other.session.key())
        {
            ticket = ticket.max(deliver(&message, of_one_session, frames.as_ref()));
        }
        for group in &groups {
            ticket = ticket.max(shared::publish(group, &message));
        }
        let matched = !(found.is_empty() && groups.is_empty());
        Published { matched, ticket }
    }

    /// Whether messages to this topic outlive the broker. The contract's table tells; what is no
    /// topic of the contract does, but the broker's own figures.
    fn is_durable(&self, topic: &str) -> bool {
        match kind_of(&self.config.root, topic) {
            Some(kind) => kind.row().durable,
            None => !topic.starts_with('$'),
        }
    }

    /// Gives a connection its session: the one that is there, or a new one. A connection that had
    /// it before loses it, and its will is published.
    pub(crate) fn attach(
        &self,
        name: Name,
        identity: Identity,
        access: Access,
        terms: Terms,
    ) -> Attached {
        let mut left = None;
        let mut ticket = Ticket::NONE;
        let (attached, shared) = {
            let mut sessions = self.sessions.held();
            let mut kept = None;
            if let Some(old) = sessions.by_name.get(&name).cloned() {
                let mut state = old.state();
                if !state.is_connected() {
                    sessions.absent -= 1;
                }
                // One without an expiry ends with the connection that is taken over.
                let is_over =
                    state.expiry.is_zero() || state.ends.is_some_and(|ends| ends <= Instant::now());
                let goes_on = !terms.clean_start && *old.identity() == identity && !is_over;
                let waits = goes_on && state.will.as_ref().is_some_and(|w| w.delay_seconds > 0);
                left = state
                    .will
                    .take()
                    .filter(|_| !waits)
                    .map(|will| (will, old.origin()));
                drop(state);
                if goes_on {
                    kept = Some(old);
                } else {
                    ticket = self.end(&old);
                }
            }
            let present = kept.is_some();
            let session = kept.unwrap_or_else(|| {
                let key = self.last_key.fetch_add(1, Ordering::Relaxed) + 1;
                let surroundings = Arc::clone(&self.surroundings);
                Arc::new(Session::new(
                    key,
                    name.clone(),
                    identity,
                    access,
                    surroundings,
                ))
            });
            let mut state = session.state();
            state.will = terms.will;
            let (generation, safe) = session.attach(&mut state, terms.link, terms.expiry);
            let shared = state.shared_filters();
            drop(state);
            sessions.by_name.insert(name, Arc::clone(&session));
            let attached = Attached {
                session,
                generation,
                present,
                ticket: ticket.max(safe),
            };
            (attached, shared)
        };
        if let Some((will, origin)) = left {
            self.publish_will(*will, origin);
        }
        self.gather(shared.iter().map(|filter| &**filter));
        attached
    }

    /// Takes a connection off its session, which ends or waits for its client. The will is
    /// published, now or after its delay, where `fire` says so; it is forgotten otherwise.
    pub(crate) fn detach(&self, attached: &Attached, fire: bool, expiry: Option<Duration>) {
        let now = Instant::now();
        let session = &attached.session;
        let (will, shared) = {
            let mut sessions = self.sessions.held();
            let mut state = session.state();
            if !state.is_held_by(attached.generation) {
                return;
            }
            if let Some(expiry) = expiry {
                state.expiry = expiry;
            }
            if !fire {
                state.will = None;
            }
            session.detach(&mut state);
            let shared = state.shared_filters();
            let stays =
                !state.expiry.is_zero() && sessions.absent < self.limits().max_absent_sessions;
            let will = if stays {
                sessions.absent += 1;
                state.ends = now.checked_add(state.expiry);
                session.keep(&mut state);
                let delay = state.will.as_ref().map_or(0, |will| will.delay_seconds);
                if delay > 0 {
                    state.will_due = now.checked_add(Duration::from_secs(delay.into()));
                    None
                } else {
                    state.will.take()
                }
            } else {
                let will = state.will.take();
                drop(state);
                sessions.by_name.remove(session.name());
                self.end(session);
                will
            };
            (will, shared)
        };
        if let Some(will) = will {
            self.publish_will(*will, session.origin());
        }
        self.gather(shared.iter().map(|filter| &**filter));
    }

    /// Ends a session: other members of its shared subscriptions get what waited for it there.
    fn end(&self, session: &Arc<Session>) -> Ticket {
        let shared = session.state().shares();
        if !shared.is_empty() {
            let together = self.disk().map(|disk| disk.together());
            session.detach(&mut session.state());
            let snapshot = self.subscriptions.load();
            for filter in &shared {
                if let Some(group) = snapshot.group(filter) {
                    shared::leave(group, session);
                }
            }
            drop(together);
        }
        subscriber::end(session, &self.subscriptions)
    }

    /// Hands what waits for absent members of these shared subscriptions to members that are
    /// there, if any.
    pub(crate) fn gather<'f>(&self, filters: impl Iterator<Item = &'f str>) {
        for filter in filters {
            let snapshot = self.subscriptions.load();
            if let Some(group) = snapshot.group(filter) {
                // A message must not be gone from one member before another has it.
                let _together = self.disk().map(|disk| disk.together());
                shared::gather(group);
            }
        }
    }

    fn publish_will(&self, will: Will, origin: Origin) {
        self.publish(Message::from_will(will, origin, Instant::now()));
    }

    /// Ends sessions whose time is over and publishes wills whose delay is over.
    pub(crate) fn sweep(&self, now: Instant) {
        let mut wills = Vec::new();
        {
            let mut sessions = self.sessions.held();
            let Sessions { by_name, absent } = &mut *sessions;
            if *absent > 0 {
                by_name.retain(|_, session| {
                    let mut state = session.state();
                    if state.is_connected() {
                        return true;
                    }
                    let over = state.ends.is_some_and(|ends| ends <= now);
                    if over || state.will_due.is_some_and(|due| due <= now) {
                        state.will_due = None;
                        wills.extend(state.will.take().map(|will| (will, session.origin())));
                    }
                    drop(state);
                    if over {
                        *absent -= 1;
                        self.counters().sessions_expired.add(1);
                        self.end(session);
                    }
                    !over
                });
            }
        }
        for (will, origin) in wills {
            self.publish_will(*will, origin);
        }
        // A message that was given to an absent member just as another one came.
        let snapshot = self.subscriptions.load();
        for group in snapshot.groups() {
            let _together = self.disk().map(|disk| disk.together());
            shared::tidy(group);
        }
    }
}

/// Queues the message once for the session of `subscriptions`, with the highest of their QoS and
/// all their identifiers. Returns when it is safe.
fn deliver(
    message: &Arc<Message>,
    subscriptions: &[&Arc<Subscription>],
    frames: Option<&Arc<Frames>>,
) -> Ticket {
    let session = &subscriptions[0].session;
    let mut highest = None;
    let (mut retain, mut filtered) = (false, true);
    let mut identifiers = Vec::new();
    for subscription in subscriptions {
        if subscription.no_local && message.origin.session == session.key() {
            continue;
        }
        highest = highest.max(Some(subscription.qos));
        retain |= subscription.retain_as_published && message.retain;
        filtered &= subscription.filtered;
        identifiers.extend(subscription.identifier);
    }
    let Some(highest) = highest else {
        return Ticket::NONE;
    };
    if filtered && !session.access().may_read(&message.topic) {
        return Ticket::NONE;
    }
    let outgoing = Outgoing {
        message: Arc::clone(message),
        qos: highest.min(message.qos),
        retain,
        identifiers,
        shared: None,
        stored: None,
        frames: frames.cloned(),
    };
    // It comes back only where it came by a shared subscription.
    session.push(outgoing, true).unwrap_or(Ticket::NONE)
}
