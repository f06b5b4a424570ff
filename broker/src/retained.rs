//! The retained message of each topic, bounded in messages and bytes, in total and for each user.
//!
//! Topics stand in order, so that a filter is answered from its literal beginning on, in steps of
//! bounded length, while messages come and go between two steps. What is durable is recorded on
//! disk as it changes; all is read from memory. Nothing here knows sessions or rights: whose quota
//! a message counts against stands in the message.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::{Arc, RwLock};
use std::time::Instant;

use hostbus_wire::pattern::filter_matches;
use tracing::{info, warn};

use crate::codec::QoS;
use crate::disk::{Disk, Ticket};
use crate::limits::Limits;
use crate::lock::Locked;
use crate::message::Message;

/// Topics looked at in one step, so that no step takes long.
const STEP_TOPICS: usize = 256;

/// What is kept, in total or of one user.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Usage {
    messages: usize,
    bytes: usize,
}

impl Usage {
    fn add(&mut self, message: &Message) {
        self.messages += 1;
        self.bytes += message.cost_bytes();
    }

    fn subtract(&mut self, message: &Message) {
        self.messages -= 1;
        self.bytes -= message.cost_bytes();
    }

    /// Whether `message` fits too, where `self` is the most.
    fn has_room(self, used: Self, message: &Message) -> bool {
        used.messages < self.messages
            && message.cost_bytes() <= self.bytes.saturating_sub(used.bytes)
    }
}

#[derive(Debug, Default)]
struct Store {
    messages: BTreeMap<Box<str>, Arc<Message>>,
    total: Usage,
    /// Users with a quota who have a message here; nobody else.
    by_user: HashMap<Arc<str>, Usage>,
    /// Who was refused lately (`None`: the store was full), and whether since the last sweep.
    refused: HashMap<Option<Arc<str>>, bool>,
}

/// All retained messages.
#[derive(Debug)]
pub(crate) struct Retained {
    store: RwLock<Store>,
    most: Usage,
    most_of_one_user: Usage,
    disk: Option<Arc<Disk>>,
}

/// What became of a message that was to be retained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kept {
    /// It is kept, or cleared, and that is safe with this ticket.
    Kept(Ticket),
    /// There was no room; that nothing is kept any more is safe with this ticket.
    Full(Ticket),
}

impl Retained {
    pub(crate) fn new(limits: &Limits, disk: Option<Arc<Disk>>) -> Self {
        Self {
            disk,
            store: RwLock::default(),
            most: Usage {
                messages: limits.retained_messages,
                bytes: limits.retained_bytes,
            },
            most_of_one_user: Usage {
                messages: limits.retained_messages_per_user,
                bytes: limits.retained_bytes_per_user,
            },
        }
    }

    /// How many messages there are, and their bytes as the limits count them.
    pub(crate) fn usage(&self) -> (usize, usize) {
        let total = self.store.held_to_read().total;
        (total.messages, total.bytes)
    }

    /// Takes a message that was on disk when the broker began.
    pub(crate) fn restore(&self, message: Message) {
        self.store.held_to_write().insert(&Arc::new(message));
    }

    /// Keeps `message` as its topic's; an empty payload clears the topic. Where there is no room,
    /// the topic is cleared too: its old message would be wrong.
    pub(crate) fn put(&self, message: &Arc<Message>) -> Kept {
        let mut store = self.store.held_to_write();
        let before = store
            .messages
            .get(&*message.topic)
            .is_some_and(|m| m.durable);
        let kept = self.put_in_memory(&mut store, message);
        // While the store is held, so that the disk sees the changes of a topic in their order.
        let Some(disk) = &self.disk else {
            return kept;
        };
        let urgent = message.qos != QoS::AtMostOnce;
        match kept {
            Kept::Kept(_) if message.durable && !message.payload.is_empty() => {
                Kept::Kept(disk.put_retained(message))
            }
            Kept::Kept(_) if before => Kept::Kept(disk.remove_retained(&message.topic, urgent)),
            Kept::Full(_) if before => Kept::Full(disk.remove_retained(&message.topic, urgent)),
            kept => kept,
        }
    }

    fn put_in_memory(&self, store: &mut Store, message: &Arc<Message>) -> Kept {
        store.remove(&message.topic);
        if message.payload.is_empty() {
            return Kept::Kept(Ticket::NONE);
        }
        if !self.most.has_room(store.total, message) {
            if store.is_news(None) {
                let Usage { messages, bytes } = self.most;
                warn!(messages, bytes, "retained messages are full");
            }
            return Kept::Full(Ticket::NONE);
        }
        if let Some(user) = &message.origin.quota {
            let used = store.by_user.get(user).copied().unwrap_or_default();
            if !self.most_of_one_user.has_room(used, message) {
                if store.is_news(Some(Arc::clone(user))) {
                    let Usage { messages, bytes } = self.most_of_one_user;
                    let user: String = user.chars().take(64).collect();
                    warn!(
                        ?user,
                        messages, bytes, "retained messages of a user are full"
                    );
                }
                return Kept::Full(Ticket::NONE);
            }
        }
        store.insert(message);
        Kept::Kept(Ticket::NONE)
    }

    /// Removes what is expired.
    pub(crate) fn sweep(&self, now: Instant) {
        let (any, refused) = {
            let store = self.store.held_to_read();
            let any = store.messages.values().any(|m| m.is_expired(now));
            (any, !store.refused.is_empty())
        };
        if !any && !refused {
            return;
        }
        let mut store = self.store.held_to_write();
        let store = &mut *store;
        if any {
            let Store {
                messages,
                total,
                by_user,
                ..
            } = store;
            messages.retain(|_, message| {
                let stays = !message.is_expired(now);
                if !stays {
                    if let Some(disk) = &self.disk
                        && message.durable
                    {
                        disk.remove_retained(&message.topic, false);
                    }
                    total.subtract(message);
                    subtract_of_user(by_user, message);
                }
                stays
            });
        }
        store.refused.retain(|who, lately| {
            if !*lately && who.is_none() {
                info!("retained messages have room again");
            }
            std::mem::take(lately)
        });
    }
}

impl Store {
    fn insert(&mut self, message: &Arc<Message>) {
        self.total.add(message);
        if let Some(user) = &message.origin.quota {
            self.by_user
                .entry(Arc::clone(user))
                .or_default()
                .add(message);
        }
        let topic: &str = &message.topic;
        self.messages.insert(topic.into(), Arc::clone(message));
    }

    fn remove(&mut self, topic: &str) {
        if let Some(old) = self.messages.remove(topic) {
            self.total.subtract(&old);
            subtract_of_user(&mut self.by_user, &old);
        }
    }

    /// Notes a refusal. Whether the last one was before the last two sweeps.
    fn is_news(&mut self, who: Option<Arc<str>>) -> bool {
        self.refused.insert(who, true).is_none()
    }
}

fn subtract_of_user(by_user: &mut HashMap<Arc<str>, Usage>, message: &Message) {
    if let Some(user) = &message.origin.quota
        && let Some(usage) = by_user.get_mut(user)
    {
        usage.subtract(message);
        if usage.messages == 0 {
            by_user.remove(user);
        }
    }
}

/// A subscription's way through the retained messages: what it has not been given yet.
#[derive(Debug)]
pub(crate) struct Cursor {
    filter: Box<str>,
    /// The last topic that was looked at.
    after: Option<Box<str>>,
    /// Younger messages reached the subscription as they were published.
    up_to: u64,
}

impl Cursor {
    /// The messages up to the sequence number `up_to` that match `filter`.
    pub(crate) fn new(filter: &str, up_to: u64) -> Self {
        Self {
            filter: filter.into(),
            after: None,
            up_to,
        }
    }

    /// The filter that it walks.
    pub(crate) fn filter(&self) -> &str {
        &self.filter
    }

    /// Goes on by one step of bounded length and hands each match to `give`, until that returns
    /// false. Returns whether there is more to look at.
    pub(crate) fn step(
        &mut self,
        retained: &Retained,
        now: Instant,
        mut give: impl FnMut(&Arc<Message>) -> bool,
    ) -> bool {
        let store = retained.store.held_to_read();
        let Some(wildcard) = self.filter.find(['+', '#']) else {
            if let Some(message) = store.messages.get(&*self.filter)
                && self.wants(message, now)
            {
                give(message);
            }
            return false;
        };
        // `a/#` matches `a` too, so the slash before a wildcard is no part of the beginning.
        let beginning = self.filter[..wildcard].trim_end_matches('/');
        let after = self.after.take();
        let from: Bound<&str> = match &after {
            Some(after) => Bound::Excluded(after),
            None => Bound::Included(beginning),
        };
        let mut last = None;
        for (looked_at, (topic, message)) in store
            .messages
            .range::<str, _>((from, Bound::Unbounded))
            .enumerate()
        {
            if !topic.starts_with(beginning) {
                return false;
            }
            if looked_at == STEP_TOPICS {
                self.after = last;
                return true;
            }
            if filter_matches(&self.filter, topic) && self.wants(message, now) && !give(message) {
                self.after = Some(topic.clone());
                return true;
            }
            if looked_at + 1 == STEP_TOPICS {
                last = Some(topic.clone());
            }
        }
        false
    }

    fn wants(&self, message: &Message, now: Instant) -> bool {
        message.sequence <= self.up_to && !message.is_expired(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    fn retained(messages: usize, bytes: usize) -> Retained {
        Retained::new(
            &Limits {
                retained_messages: messages,
                retained_bytes: bytes,
                ..Limits::default()
            },
            None,
        )
    }

    fn put(retained: &Retained, topic: &'static str, payload: &str, sequence: u64) -> Kept {
        let mut message = Message::own(topic, payload.to_owned());
        message.sequence = sequence;
        retained.put(&Arc::new(message))
    }

    fn matches(retained: &Retained, filter: &str, up_to: u64) -> Vec<String> {
        let mut cursor = Cursor::new(filter, up_to);
        let mut found = Vec::new();
        // One message a step: the cursor must find its place again each time.
        while cursor.step(retained, Instant::now(), |message| {
            found.push(message.topic.to_string());
            false
        }) {}
        found
    }

    #[test]
    fn filters_find_their_retained_messages() {
        let retained = retained(100, 100_000);
        for topic in ["a", "a/b", "a/b/c", "ab", "b/b", "$SYS/x"] {
            put(&retained, topic, "x", 0);
        }
        let check = |filter: &str, topics: &[&str]| {
            assert_eq!(matches(&retained, filter, 0), topics, "{filter}");
        };
        check("a", &["a"]);
        check("a/#", &["a", "a/b", "a/b/c"]);
        check("a/+", &["a/b"]);
        check("+/b", &["a/b", "b/b"]);
        check("#", &["a", "a/b", "a/b/c", "ab", "b/b"]);
        check("$SYS/#", &["$SYS/x"]);
        check("c/#", &[]);
    }

    #[test]
    fn a_walk_of_many_steps_finds_every_topic_once() {
        let retained = retained(10_000, 10_000_000);
        for number in 0..3 * STEP_TOPICS {
            let topic: &'static str = Box::leak(format!("n/{number}/s").into_boxed_str());
            put(&retained, topic, "x", 0);
        }
        let mut found = matches(&retained, "n/+/s", 0);
        found.dedup();
        assert_eq!(found.len(), 3 * STEP_TOPICS);
        let mut cursor = Cursor::new("n/+/s", 0);
        let mut count = 0;
        while cursor.step(&retained, Instant::now(), |_| {
            count += 1;
            true
        }) {}
        assert_eq!(count, 3 * STEP_TOPICS);
    }

    #[test]
    fn messages_younger_than_the_subscription_are_left_to_it() {
        let retained = retained(100, 100_000);
        put(&retained, "a", "x", 5);
        put(&retained, "b", "x", 6);
        assert_eq!(matches(&retained, "+", 5), ["a"]);
        assert_eq!(matches(&retained, "b", 5), [""; 0]);
    }

    #[test]
    fn an_empty_payload_clears_and_a_full_store_refuses_new_topics_only() {
        let retained = retained(2, 100_000);
        assert_eq!(put(&retained, "a", "x", 0), Kept::Kept(Ticket::NONE));
        assert_eq!(put(&retained, "b", "x", 0), Kept::Kept(Ticket::NONE));
        assert_eq!(put(&retained, "c", "x", 0), Kept::Full(Ticket::NONE));
        assert_eq!(put(&retained, "b", "y", 0), Kept::Kept(Ticket::NONE));
        assert_eq!(put(&retained, "a", "", 0), Kept::Kept(Ticket::NONE));
        assert_eq!(matches(&retained, "#", 0), ["b"]);
        assert_eq!(put(&retained, "b", "", 0), Kept::Kept(Ticket::NONE));
        let store = retained.store.held_to_read();
        assert_eq!(store.total, Usage::default());
    }

    #[test]
    fn a_known_topic_can_not_grow_the_store_beyond_its_bytes() {
        let retained = retained(100, 10_000);
        for topic in ["a", "b", "c"] {
            assert_eq!(put(&retained, topic, "small", 0), Kept::Kept(Ticket::NONE));
        }
        let large = "x".repeat(500_000);
        assert_eq!(put(&retained, "a", &large, 0), Kept::Full(Ticket::NONE));
        // The old message of `a` would be wrong now.
        assert_eq!(matches(&retained, "#", 0), ["b", "c"]);
        assert_eq!(
            put(&retained, "b", &"x".repeat(9_000), 0),
            Kept::Kept(Ticket::NONE)
        );
        assert_eq!(
            put(&retained, "c", &"x".repeat(900), 0),
            Kept::Full(Ticket::NONE)
        );
        assert_eq!(matches(&retained, "#", 0), ["b"]);
    }

    fn put_of(retained: &Retained, user: &str, topic: &str, bytes: usize, expires: bool) -> Kept {
        let mut message = Message::own("", "x".repeat(bytes));
        message.topic = topic.into();
        message.origin.quota = (!user.is_empty()).then(|| user.into());
        message.expires = expires.then(Instant::now);
        retained.put(&Arc::new(message))
    }

    fn quota(messages: usize, bytes: usize) -> Retained {
        Retained::new(
            &Limits {
                retained_messages: 12,
                retained_bytes: 5_000,
                retained_messages_per_user: messages,
                retained_bytes_per_user: bytes,
                ..Limits::default()
            },
            None,
        )
    }

    #[test]
    fn a_user_fills_its_own_quota_and_no_other() {
        let retained = quota(2, 1_000);
        let check = |user: &str, topic: &str, bytes: usize, expected: Kept| {
            let kept = put_of(&retained, user, topic, bytes, false);
            assert_eq!(kept, expected, "{user} {topic} {bytes}");
        };
        check("ann", "a", 1, Kept::Kept(Ticket::NONE));
        check("ann", "b", 1, Kept::Kept(Ticket::NONE));
        check("ann", "c", 1, Kept::Full(Ticket::NONE));
        check("ann", "a", 2, Kept::Kept(Ticket::NONE));
        check("bob", "c", 1, Kept::Kept(Ticket::NONE));
        // Who published last has the topic in its quota.
        check("bob", "a", 1, Kept::Kept(Ticket::NONE));
        check("ann", "d", 1, Kept::Kept(Ticket::NONE));
        check("ann", "d", 900, Kept::Full(Ticket::NONE));
        check("ann", "b", 0, Kept::Kept(Ticket::NONE));
        check("ann", "e", 700, Kept::Kept(Ticket::NONE));
        for topic in ["1", "2", "3", "4"] {
            check("", topic, 1, Kept::Kept(Ticket::NONE));
        }
    }

    proptest! {
        #[test]
        fn what_is_counted_is_what_is_kept(
            steps in prop::collection::vec(
                (0_usize..3, 0_usize..8, 0_usize..1_200, any::<bool>(), 0_u8..10),
                1..80,
            ),
        ) {
            let retained = quota(4, 2_000);
            for (user, topic, bytes, expires, sweep) in steps {
                let bytes = if bytes < 200 { 0 } else { bytes };
                put_of(&retained, ["", "ann", "bob"][user], &format!("t/{topic}"), bytes, expires);
                if sweep == 0 {
                    retained.sweep(Instant::now() + Duration::from_secs(1));
                }
                let store = retained.store.held_to_read();
                let mut total = Usage::default();
                let mut by_user: HashMap<Arc<str>, Usage> = HashMap::new();
                for message in store.messages.values() {
                    total.add(message);
                    if let Some(user) = &message.origin.quota {
                        by_user.entry(Arc::clone(user)).or_default().add(message);
                    }
                }
                prop_assert_eq!(store.total, total);
                prop_assert_eq!(&store.by_user, &by_user);
                prop_assert!(total.messages <= 12 && total.bytes <= 5_000);
                prop_assert!(by_user.values().all(|u| u.messages <= 4 && u.bytes <= 2_000));
            }
        }
    }

    #[test]
    fn a_refusal_is_news_once_until_it_was_over_for_a_while() {
        let retained = quota(1, 1_000);
        let now = Instant::now();
        let is_news = || retained.store.held_to_write().is_news(Some("ann".into()));
        assert!(is_news());
        assert!(!is_news());
        retained.sweep(now);
        assert!(!is_news());
        retained.sweep(now);
        retained.sweep(now);
        assert!(is_news());
    }
}
