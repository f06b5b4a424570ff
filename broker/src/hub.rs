//! The middle of the broker: takes each message in, keeps it where it is retained, and hands it to
//! every session that subscribed; knows all sessions, begins and ends them.
//!
//! It reads no socket and checks no right to publish: that is the connection's matter.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hostbus_wire::{Access, Identity};

use crate::codec::packet::{QoS, Will};
use crate::config::Config;
use crate::counters::{Counters, Drop};
use crate::limits::Limits;
use crate::lock::Held;
use crate::login::Logins;
use crate::message::{Message, Origin, Outgoing};
use crate::retained::{Kept, Retained};
use crate::session::{Link, Name, Session};
use crate::subscriber;
use crate::subscriptions::{Subscription, Subscriptions};

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
    counters: Counters,
    started: Instant,
}

impl Hub {
    pub(crate) fn new(config: Config, logins: Logins) -> Self {
        Self {
            logins,
            subscriptions: Subscriptions::default(),
            retained: Retained::new(&config.limits),
            sessions: Mutex::default(),
            last_key: AtomicU64::new(0),
            sequence: AtomicU64::new(0),
            counters: Counters::default(),
            started: Instant::now(),
            config,
        }
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
        &self.counters
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

    /// Keeps the message where it is retained, and queues it for every subscriber. Returns whether
    /// there was one. Never waits for anybody.
    pub(crate) fn publish(&self, mut message: Message) -> bool {
        message.sequence = self.sequence.fetch_add(1, Ordering::SeqCst) + 1;
        let message = Arc::new(message);
        if message.retain && self.retained.put(&message) == Kept::Full {
            self.counters.drop_messages(Drop::RetainedFull, 1);
        }
        let begun = message.sequence.is_multiple_of(TIMED).then(Instant::now);
        let snapshot = self.subscriptions.load();
        let mut found = Vec::new();
        snapshot.matches(&message.topic, &mut |subscription| found.push(subscription));
        if found.len() > 1 {
            found.sort_unstable_by_key(|subscription| subscription.session.key());
        }
        if let Some(begun) = begun {
            self.counters.matching.add(begun.elapsed());
        }
        for of_one_session in found.chunk_by(|one, other| one.session.key() == other.session.key())
        {
            self.deliver(&message, of_one_session);
        }
        !found.is_empty()
    }

    /// Queues the message once for the session of `subscriptions`, with the highest of their QoS
    /// and all their identifiers.
    fn deliver(&self, message: &Arc<Message>, subscriptions: &[&Arc<Subscription>]) {
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
        let Some(highest) = highest else { return };
        if filtered && !session.access().may_read(&message.topic) {
            return;
        }
        let qos = highest.min(message.qos).min(QoS::AtLeastOnce);
        let outgoing = Outgoing {
            message: Arc::clone(message),
            qos,
            retain,
            identifiers,
        };
        session.push(outgoing, &self.counters);
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
        let attached = {
            let mut sessions = self.sessions.held();
            let old = sessions.by_name.get(&name).cloned();
            if let Some(old) = &old {
                let mut state = old.state();
                if !state.is_connected() {
                    sessions.absent -= 1;
                }
                let goes_on = !terms.clean_start && *old.identity() == identity;
                let waits = goes_on && state.will.as_ref().is_some_and(|w| w.delay_seconds > 0);
                left = state
                    .will
                    .take()
                    .filter(|_| !waits)
                    .map(|will| (will, old.origin()));
                drop(state);
                if !goes_on {
                    subscriber::end(old, &self.subscriptions);
                }
            }
            let kept = old.filter(|old| !terms.clean_start && *old.identity() == identity);
            let present = kept.is_some();
            let session = kept.unwrap_or_else(|| {
                let key = self.last_key.fetch_add(1, Ordering::Relaxed) + 1;
                let session = Session::new(key, name.clone(), identity, access, self.limits());
                Arc::new(session)
            });
            let generation = {
                let mut state = session.state();
                state.expiry = terms.expiry;
                state.will = terms.will;
                state.attach(terms.link)
            };
            sessions.by_name.insert(name, Arc::clone(&session));
            Attached {
                session,
                generation,
                present,
            }
        };
        if let Some((will, origin)) = left {
            self.publish_will(*will, origin);
        }
        attached
    }

    /// Takes a connection off its session, which ends or waits for its client. The will is
    /// published, now or after its delay, where `fire` says so; it is forgotten otherwise.
    pub(crate) fn detach(&self, attached: &Attached, fire: bool, expiry: Option<Duration>) {
        let now = Instant::now();
        let session = &attached.session;
        let will = {
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
            state.detach();
            let stays =
                !state.expiry.is_zero() && sessions.absent < self.limits().max_absent_sessions;
            if stays {
                sessions.absent += 1;
                state.ends = now.checked_add(state.expiry);
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
                subscriber::end(session, &self.subscriptions);
                will
            }
        };
        if let Some(will) = will {
            self.publish_will(*will, session.origin());
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
                        self.counters.sessions_expired.add(1);
                        subscriber::end(session, &self.subscriptions);
                    }
                    !over
                });
            }
        }
        for (will, origin) in wills {
            self.publish_will(*will, origin);
        }
    }
}
