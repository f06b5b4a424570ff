//! The retained message of each topic, bounded in messages and bytes.
//!
//! Topics stand in order, so that a filter is answered from its literal beginning on, in steps of
//! bounded length, while messages come and go between two steps. Memory only; nothing here knows
//! sessions or rights.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, RwLock};
use std::time::Instant;

use hostbus_wire::pattern::filter_matches;

use crate::lock::Locked;
use crate::message::Message;

/// Topics looked at in one step, so that no step takes long.
const STEP_TOPICS: usize = 256;

#[derive(Debug, Default)]
struct Store {
    messages: BTreeMap<Box<str>, Arc<Message>>,
    bytes: usize,
}

/// All retained messages.
#[derive(Debug)]
pub(crate) struct Retained {
    store: RwLock<Store>,
    max_messages: usize,
    max_bytes: usize,
}

/// What became of a message that was to be retained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kept {
    Kept,
    Full,
}

impl Retained {
    pub(crate) fn new(max_messages: usize, max_bytes: usize) -> Self {
        Self {
            store: RwLock::default(),
            max_messages,
            max_bytes,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.store.held_to_read().messages.len()
    }

    /// Keeps `message` as its topic's; an empty payload clears the topic.
    pub(crate) fn put(&self, message: &Arc<Message>) -> Kept {
        let mut store = self.store.held_to_write();
        let store = &mut *store;
        let topic: &str = &message.topic;
        if message.payload.is_empty() {
            if let Some(old) = store.messages.remove(topic) {
                store.bytes -= old.cost_bytes();
            }
            return Kept::Kept;
        }
        let cost = message.cost_bytes();
        if let Some(old) = store.messages.get_mut(topic) {
            let bytes = store.bytes - old.cost_bytes() + cost;
            // A topic that is known keeps its last message even where the store is full: an old
            // one would be wrong. It can't grow the store beyond its limit by more than itself.
            store.bytes = bytes;
            *old = Arc::clone(message);
            return Kept::Kept;
        }
        if store.messages.len() >= self.max_messages || store.bytes + cost > self.max_bytes {
            return Kept::Full;
        }
        store.bytes += cost;
        store.messages.insert(topic.into(), Arc::clone(message));
        Kept::Kept
    }

    /// Removes what is expired.
    pub(crate) fn sweep(&self, now: Instant) {
        let any = self
            .store
            .held_to_read()
            .messages
            .values()
            .any(|m| m.is_expired(now));
        if !any {
            return;
        }
        let mut store = self.store.held_to_write();
        let store = &mut *store;
        store.messages.retain(|_, message| {
            let stays = !message.is_expired(now);
            if !stays {
                store.bytes -= message.cost_bytes();
            }
            stays
        });
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
        let retained = Retained::new(100, 100_000);
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
        let retained = Retained::new(10_000, 10_000_000);
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
        let retained = Retained::new(100, 100_000);
        put(&retained, "a", "x", 5);
        put(&retained, "b", "x", 6);
        assert_eq!(matches(&retained, "+", 5), ["a"]);
        assert_eq!(matches(&retained, "b", 5), [""; 0]);
    }

    #[test]
    fn an_empty_payload_clears_and_a_full_store_refuses_new_topics_only() {
        let retained = Retained::new(2, 100_000);
        assert_eq!(put(&retained, "a", "x", 0), Kept::Kept);
        assert_eq!(put(&retained, "b", "x", 0), Kept::Kept);
        assert_eq!(put(&retained, "c", "x", 0), Kept::Full);
        assert_eq!(put(&retained, "b", "y", 0), Kept::Kept);
        assert_eq!(put(&retained, "a", "", 0), Kept::Kept);
        assert_eq!(matches(&retained, "#", 0), ["b"]);
        assert_eq!(put(&retained, "b", "", 0), Kept::Kept);
        assert_eq!(
            (retained.len(), retained.store.held_to_read().bytes),
            (0, 0)
        );
    }
}
