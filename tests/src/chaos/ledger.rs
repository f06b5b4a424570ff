//! The model: what was published and answered, who had subscribed when, who got what; and from that,
//! what must have arrived and what must not.
//!
//! Time is a count of events, so that "before" and "after" are certain. A message that was answered
//! must reach each session whose subscription was acknowledged before the message was sent, and was
//! not being removed before it was answered.

use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

use super::packet::Message;

/// Violations that are kept; more are counted only.
const MOST_KEPT: usize = 20;

/// No such time yet.
const NEVER: u64 = u64::MAX;

/// One message: who published it, and as which of its messages, from 0 on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name {
    /// The publisher.
    pub publisher: usize,
    /// The message.
    pub number: usize,
}

impl Name {
    /// As one number.
    #[must_use]
    pub fn token(self) -> u64 {
        (self.publisher as u64) << 40 | self.number as u64
    }

    /// Out of one number.
    ///
    /// # Panics
    /// Never on 64 bits.
    #[must_use]
    pub fn of(token: u64) -> Self {
        let part = |number: u64| usize::try_from(number).expect("64 bits");
        Self {
            publisher: part(token >> 40),
            number: part(token & ((1 << 40) - 1)),
        }
    }

    /// What the message says: its name, and then padding.
    #[must_use]
    pub fn payload(self) -> Vec<u8> {
        let mut text = format!("{} {} ", self.publisher, self.number);
        let padding = (self.number * 37 + self.publisher) % 500;
        text.extend(std::iter::repeat_n('x', padding));
        text.into_bytes()
    }

    fn read(payload: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(payload).ok()?;
        let mut words = text.split(' ');
        let name = Self {
            publisher: words.next()?.parse().ok()?,
            number: words.next()?.parse().ok()?,
        };
        (name.payload() == payload).then_some(name)
    }
}

#[derive(Debug)]
struct Published {
    sent: u64,
    answered: u64,
    /// Times it was sent.
    times: u16,
    topic: u16,
    qos: u8,
}

/// A subscription while it stood.
#[derive(Debug)]
struct Interval {
    filter: String,
    qos: u8,
    asked: u64,
    stood: u64,
    leaving: u64,
    gone: u64,
}

/// How often a message arrived.
#[derive(Debug, Clone, Copy, Default)]
struct Receipt {
    /// Without the DUP flag.
    fresh: u8,
    /// With any flag, QoS 2 only.
    exact: u8,
    total: u8,
}

/// Who receives: a session, or a shared group as a whole.
#[derive(Debug)]
struct Receiver {
    name: String,
    /// Order and doubles are checked.
    strict: bool,
    /// A message with QoS 2 may end with the session that had it.
    may_lose_exact: bool,
    intervals: Vec<Interval>,
    receipts: Vec<Vec<Receipt>>,
    /// The last new message of a publisher and topic, by the QoS of its two ways.
    last: HashMap<(usize, u16, u8, u8), usize>,
}

/// A handle of a receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReceiverId(usize);

/// All that is known.
#[derive(Debug)]
pub struct Ledger {
    clock: u64,
    topics: Vec<String>,
    numbers: HashMap<String, u16>,
    published: Vec<Vec<Published>>,
    receivers: Vec<Receiver>,
    violations: Vec<String>,
    more_violations: u64,
    received: u64,
    last_receipt: Instant,
    /// DUP tells apart what the broker repeats. It does not when the broker itself was killed.
    trusts_dup: bool,
}

impl Ledger {
    /// An empty one. `trusts_dup`: a message without DUP is no repetition.
    #[must_use]
    pub fn new(trusts_dup: bool) -> Self {
        Self {
            clock: 0,
            topics: Vec::new(),
            numbers: HashMap::new(),
            published: Vec::new(),
            receivers: Vec::new(),
            violations: Vec::new(),
            more_violations: 0,
            received: 0,
            last_receipt: Instant::now(),
            trusts_dup,
        }
    }

    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    /// Notes that something is wrong.
    pub fn violation(&mut self, text: String) {
        if self.violations.len() < MOST_KEPT {
            self.violations.push(text);
        } else {
            self.more_violations += 1;
        }
    }

    /// A publisher.
    pub fn add_publisher(&mut self) -> usize {
        self.published.push(Vec::new());
        self.published.len() - 1
    }

    /// A session, all of whose messages are checked.
    pub fn add_session(&mut self, name: &str) -> ReceiverId {
        self.add_receiver(name, true, false)
    }

    /// A shared group. When its members die, messages may arrive twice, and those with QoS 2 may
    /// end with a member's session.
    pub fn add_group(&mut self, name: &str, members_die: bool) -> ReceiverId {
        self.add_receiver(name, false, members_die)
    }

    fn add_receiver(&mut self, name: &str, strict: bool, may_lose_exact: bool) -> ReceiverId {
        self.receivers.push(Receiver {
            name: name.to_owned(),
            strict,
            may_lose_exact,
            intervals: Vec::new(),
            receipts: Vec::new(),
            last: HashMap::new(),
        });
        ReceiverId(self.receivers.len() - 1)
    }

    /// SUBSCRIBE is about to be sent. A standing subscription of this filter keeps standing.
    pub fn subscribing(&mut self, receiver: ReceiverId, filter: &str, qos: u8) {
        let asked = self.tick();
        let intervals = &mut self.receivers[receiver.0].intervals;
        let old = intervals
            .iter_mut()
            .find(|old| old.filter == filter && old.qos == qos && old.leaving == NEVER);
        if old.is_none() {
            intervals.push(Interval {
                filter: filter.to_owned(),
                qos,
                asked,
                stood: NEVER,
                leaving: NEVER,
                gone: NEVER,
            });
        }
    }

    /// SUBACK came.
    pub fn subscribed(&mut self, receiver: ReceiverId, filter: &str) {
        let now = self.tick();
        for interval in &mut self.receivers[receiver.0].intervals {
            if interval.filter == filter && interval.leaving == NEVER && interval.stood == NEVER {
                interval.stood = now;
            }
        }
    }

    /// UNSUBSCRIBE is about to be sent.
    pub fn leaving(&mut self, receiver: ReceiverId, filter: &str) {
        let now = self.tick();
        for interval in &mut self.receivers[receiver.0].intervals {
            if interval.filter == filter && interval.leaving == NEVER {
                interval.leaving = now;
            }
        }
    }

    /// UNSUBACK came.
    pub fn left(&mut self, receiver: ReceiverId, filter: &str) {
        let now = self.tick();
        for interval in &mut self.receivers[receiver.0].intervals {
            if interval.filter == filter && interval.leaving != NEVER && interval.gone == NEVER {
                interval.gone = now;
            }
        }
    }

    /// Whether the receiver has a subscription that was acknowledged.
    #[must_use]
    pub fn has_subscription(&self, receiver: ReceiverId) -> bool {
        let mut intervals = self.receivers[receiver.0].intervals.iter();
        intervals.any(|interval| interval.stood != NEVER)
    }

    /// A new message is about to be sent.
    ///
    /// # Panics
    /// There are more than 65,535 topics.
    pub fn publishing(&mut self, publisher: usize, topic: &str, qos: u8) -> Name {
        let sent = self.tick();
        let known = self.numbers.get(topic).copied();
        let topic = known.unwrap_or_else(|| {
            let number = u16::try_from(self.topics.len()).expect("few topics");
            self.topics.push(topic.to_owned());
            self.numbers.insert(topic.to_owned(), number);
            number
        });
        let published = &mut self.published[publisher];
        published.push(Published {
            sent,
            answered: NEVER,
            times: 1,
            topic,
            qos,
        });
        Name {
            publisher,
            number: published.len() - 1,
        }
    }

    /// Messages may be sent again.
    pub fn sending_again(&mut self, tokens: impl Iterator<Item = u64>) {
        for name in tokens.map(Name::of) {
            self.published[name.publisher][name.number].times += 1;
        }
    }

    /// A message was answered with a reason.
    pub fn answered(&mut self, token: u64, reason: u8) {
        let now = self.tick();
        let name = Name::of(token);
        if reason >= 0x80 {
            self.violation(format!("{name:?} was refused with {reason:#04x}"));
            return;
        }
        let message = &mut self.published[name.publisher][name.number];
        if message.answered == NEVER {
            message.answered = now;
        }
    }

    /// A message arrived. Those of other kinds, such as retained ones, are not for here.
    pub fn arrived(&mut self, receiver: ReceiverId, message: &Message) {
        let now = self.tick();
        self.received += 1;
        self.last_receipt = Instant::now();
        if let Err(wrong) = self.note(receiver, message, now) {
            let who = &self.receivers[receiver.0].name;
            let text = format!("{who}: {wrong}");
            self.violation(text);
        }
    }

    fn note(&mut self, receiver: ReceiverId, message: &Message, now: u64) -> Result<(), String> {
        let topic = &message.topic;
        let name = Name::read(&message.payload).ok_or_else(|| {
            let begin = String::from_utf8_lossy(&message.payload[..message.payload.len().min(40)]);
            format!("a message that nobody sent on {topic}: {begin:?}")
        })?;
        let published = self
            .published
            .get(name.publisher)
            .and_then(|all| all.get(name.number))
            .ok_or_else(|| format!("{name:?} was never sent"))?;
        if self.topics[usize::from(published.topic)] != *topic {
            return Err(format!("{name:?} came on {topic}"));
        }
        let receiver = &mut self.receivers[receiver.0];
        let wanted = receiver.intervals.iter().any(|interval| {
            interval.asked < now
                && (interval.gone == NEVER || interval.gone > published.sent)
                && matches(&interval.filter, topic)
        });
        if !wanted {
            return Err(format!("{name:?} on {topic} was not subscribed to"));
        }
        if message.qos > published.qos {
            return Err(format!("{name:?} came with QoS {}", message.qos));
        }
        if receiver.receipts.len() <= name.publisher {
            receiver.receipts.resize_with(name.publisher + 1, Vec::new);
        }
        let receipts = &mut receiver.receipts[name.publisher];
        if receipts.len() <= name.number {
            receipts.resize(name.number + 1, Receipt::default());
        }
        let receipt = &mut receipts[name.number];
        let new = receipt.total == 0;
        receipt.total = receipt.total.saturating_add(1);
        receipt.exact += u8::from(message.qos == 2 && receipt.exact < u8::MAX);
        receipt.fresh += u8::from(!message.dup && receipt.fresh < u8::MAX);
        let receipt = *receipt;
        if new {
            // Order holds for each topic and QoS of one publisher. What was sent twice may be
            // new here the second time only: the first time the subscriber was away.
            if published.qos == 1 && published.times > 1 {
                return Ok(());
            }
            let key = (name.publisher, published.topic, published.qos, message.qos);
            let last = receiver.last.insert(key, name.number);
            if receiver.strict && last.is_some_and(|last| last > name.number) {
                return Err(format!(
                    "{name:?} with QoS {} on {topic} came after {last:?}",
                    published.qos
                ));
            }
            return Ok(());
        }
        let times = if published.qos == 1 {
            published.times
        } else {
            1
        };
        if u16::from(receipt.exact) > times {
            return Err(format!("{name:?} with QoS 2 came {} times", receipt.exact));
        }
        let counts = (receiver.strict || !receiver.may_lose_exact) && self.trusts_dup;
        if counts && u16::from(receipt.fresh) > times {
            return Err(format!(
                "{name:?} with QoS {} was sent {times} times and came {} times without DUP",
                published.qos, receipt.fresh
            ));
        }
        Ok(())
    }

    /// What was answered and has not arrived where it must: some of it, and how much in all.
    #[must_use]
    pub fn missing(&self) -> (Vec<String>, u64) {
        let (mut some, mut count) = (Vec::new(), 0);
        for receiver in &self.receivers {
            let mut by_topic: BTreeMap<u16, Vec<&Interval>> = BTreeMap::new();
            for (number, topic) in (0..).zip(&self.topics) {
                let of_topic = receiver.intervals.iter();
                let of_topic = of_topic.filter(|interval| matches(&interval.filter, topic));
                by_topic.insert(number, of_topic.collect());
            }
            for (publisher, all) in self.published.iter().enumerate() {
                let receipts = receiver.receipts.get(publisher);
                for (number, message) in all.iter().enumerate() {
                    let there = receipts
                        .and_then(|all| all.get(number))
                        .is_some_and(|receipt| receipt.total > 0);
                    if there || !is_owed(message, &by_topic[&message.topic], receiver) {
                        continue;
                    }
                    count += 1;
                    if some.len() < MOST_KEPT {
                        some.push(format!(
                            "{}: publisher {publisher}, message {number}, QoS {}, on {}, sent {} times",
                            receiver.name,
                            message.qos,
                            self.topics[usize::from(message.topic)],
                            message.times
                        ));
                    }
                }
            }
        }
        (some, count)
    }

    /// What is wrong: some of it, and how much more there is.
    #[must_use]
    pub fn violations(&self) -> (&[String], u64) {
        (&self.violations, self.more_violations)
    }

    /// When the last message arrived.
    #[must_use]
    pub fn last_receipt(&self) -> Instant {
        self.last_receipt
    }

    /// Messages sent, those of them above QoS 0 that were answered, and messages received.
    #[must_use]
    pub fn totals(&self) -> (u64, u64, u64) {
        let all = || self.published.iter().flatten();
        let answered = all().filter(|message| message.answered != NEVER).count();
        (all().count() as u64, answered as u64, self.received)
    }
}

/// Whether one of these subscriptions is owed this message.
fn is_owed(message: &Published, intervals: &[&Interval], receiver: &Receiver) -> bool {
    if message.answered == NEVER || (message.qos == 2 && receiver.may_lose_exact) {
        return false;
    }
    intervals.iter().any(|interval| {
        interval.qos > 0 && interval.stood < message.sent && interval.leaving > message.answered
    })
}

/// Whether a filter takes a topic; a shared filter as its group does.
#[must_use]
pub fn matches(filter: &str, topic: &str) -> bool {
    let filter = match filter.strip_prefix("$share/") {
        Some(shared) => shared.split_once('/').map_or("", |(_, filter)| filter),
        None => filter,
    };
    let mut levels = topic.split('/');
    for part in filter.split('/') {
        match (part, levels.next()) {
            ("#", _) => return true,
            ("+", Some(_)) => {}
            (part, Some(level)) if part == level => {}
            _ => return false,
        }
    }
    levels.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(name: Name, topic: &str, qos: u8, dup: bool) -> Message {
        Message {
            topic: topic.to_owned(),
            alias: 0,
            payload: name.payload(),
            qos,
            retain: false,
            dup,
            packet_id: 1,
        }
    }

    /// A ledger with one session that has subscribed to `a/#`, and one publisher.
    fn ledger() -> (Ledger, ReceiverId, usize) {
        let mut ledger = Ledger::new(true);
        let session = ledger.add_session("s");
        ledger.subscribing(session, "a/#", 2);
        ledger.subscribed(session, "a/#");
        let publisher = ledger.add_publisher();
        (ledger, session, publisher)
    }

    #[test]
    fn what_was_answered_is_owed_to_who_had_subscribed() {
        let (mut ledger, session, publisher) = ledger();
        let one = ledger.publishing(publisher, "a/1", 1);
        assert_eq!(ledger.missing().1, 0, "not answered");
        ledger.answered(one.token(), 0);
        assert_eq!(ledger.missing().1, 1);
        ledger.arrived(session, &message(one, "a/1", 1, false));
        assert_eq!(ledger.missing().1, 0);
        let other = ledger.publishing(publisher, "b", 1);
        ledger.answered(other.token(), 0);
        assert_eq!(ledger.missing().1, 0, "not subscribed");
        let two = ledger.publishing(publisher, "a/1", 1);
        ledger.leaving(session, "a/#");
        ledger.answered(two.token(), 0);
        assert_eq!(ledger.missing().1, 0, "it was leaving");
        assert!(ledger.violations().0.is_empty());
    }

    #[test]
    fn doubles_strangers_and_disorder_are_violations() {
        let check = |text: &str, act: &dyn Fn(&mut Ledger, ReceiverId, usize)| {
            let (mut ledger, session, publisher) = ledger();
            act(&mut ledger, session, publisher);
            let (violations, _) = ledger.violations();
            let found = violations.len() == 1 && violations[0].contains(text);
            assert!(found, "{text}: {violations:?}");
        };
        check("2 times", &|ledger, session, publisher| {
            let name = ledger.publishing(publisher, "a", 2);
            for dup in [false, true] {
                ledger.arrived(session, &message(name, "a", 2, dup));
            }
        });
        check("without DUP", &|ledger, session, publisher| {
            let name = ledger.publishing(publisher, "a", 1);
            for dup in [false, true, false] {
                ledger.arrived(session, &message(name, "a", 1, dup));
            }
        });
        check("came after", &|ledger, session, publisher| {
            let names = [0, 1].map(|_| ledger.publishing(publisher, "a", 1));
            for name in [names[1], names[0]] {
                ledger.arrived(session, &message(name, "a", 1, false));
            }
        });
        check("was not subscribed to", &|ledger, session, publisher| {
            ledger.leaving(session, "a/#");
            ledger.left(session, "a/#");
            let name = ledger.publishing(publisher, "a", 1);
            ledger.arrived(session, &message(name, "a", 1, false));
        });
        check("was never sent", &|ledger, session, publisher| {
            let name = Name {
                publisher,
                number: 3,
            };
            ledger.arrived(session, &message(name, "a", 1, false));
        });
    }

    #[test]
    fn filters_match_as_the_standard_says() {
        for (filter, topic, expected) in [
            ("a/#", "a", true),
            ("a/#", "a/b/c", true),
            ("a/+", "a/b", true),
            ("a/+", "a/b/c", false),
            ("+/b", "a/b", true),
            ("$share/g/a/+", "a/b", true),
            ("a", "b", false),
        ] {
            assert_eq!(matches(filter, topic), expected, "{filter} {topic}");
        }
    }
}
