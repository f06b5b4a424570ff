//! What is to be published and has not found the connection yet. Of each retained topic only the last
//! payload counts, so this holds at most one entry a topic, however long the bus is away.

use std::collections::{HashMap, VecDeque};

use hostbus_wire::{Kind, QoS};

/// A message that is to be published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publication {
    /// What kind of message it is.
    pub kind: Kind,
    /// Where.
    pub topic: String,
    /// How sure.
    pub qos: QoS,
    /// Whether it is retained.
    pub retain: bool,
    /// What.
    pub payload: Vec<u8>,
}

impl Publication {
    /// A message of the kind `kind`, delivered as the contract says.
    #[must_use]
    pub fn new(kind: Kind, topic: String, payload: Vec<u8>) -> Self {
        let row = kind.row();
        Self {
            kind,
            topic,
            qos: row.qos,
            retain: row.retain,
            payload,
        }
    }
}

/// Those that wait, in the order in which their topics were first asked for. Messages that are not
/// retained are news that a connection lost in between would lose, too: beyond a thousand of them the oldest go.
#[derive(Debug, Default)]
pub struct Outgoing {
    order: VecDeque<Waiting>,
    retained: HashMap<String, Publication>,
    news: usize,
}

/// How many messages wait that are not retained.
const NEWS: usize = 1_000;

#[derive(Debug)]
enum Waiting {
    Retained(String),
    News(Publication),
}

impl Outgoing {
    /// Adds a message. One of the same retained topic that still waits is replaced in its place.
    pub fn push(&mut self, publication: Publication) {
        if publication.retain {
            let topic = publication.topic.clone();
            if self.retained.insert(topic.clone(), publication).is_none() {
                self.order.push_back(Waiting::Retained(topic));
            }
            return;
        }
        if self.news >= NEWS {
            let oldest = self
                .order
                .iter()
                .position(|w| matches!(w, Waiting::News(_)));
            oldest.and_then(|oldest| self.order.remove(oldest));
            self.news -= 1;
        }
        self.news += 1;
        self.order.push_back(Waiting::News(publication));
    }

    /// Takes the first one.
    pub fn pop(&mut self) -> Option<Publication> {
        match self.order.pop_front()? {
            Waiting::Retained(topic) => self.retained.remove(&topic),
            Waiting::News(publication) => {
                self.news -= 1;
                Some(publication)
            }
        }
    }

    /// Puts back one that the connection did not take, unless there is a later one of its topic.
    pub fn put_back(&mut self, publication: Publication) {
        if publication.retain {
            if !self.retained.contains_key(&publication.topic) {
                let topic = publication.topic.clone();
                self.order.push_front(Waiting::Retained(topic.clone()));
                self.retained.insert(topic, publication);
            }
        } else {
            self.news += 1;
            self.order.push_front(Waiting::News(publication));
        }
    }

    /// Drops those of other kinds than `keeps` says.
    pub fn keep(&mut self, keeps: impl Fn(Kind) -> bool) {
        self.retained
            .retain(|_, publication| keeps(publication.kind));
        let Self {
            order,
            retained,
            news,
        } = self;
        order.retain(|waiting| match waiting {
            Waiting::Retained(topic) => retained.contains_key(topic),
            Waiting::News(publication) => keeps(publication.kind),
        });
        let is_news = |waiting: &&Waiting| matches!(waiting, Waiting::News(_));
        *news = order.iter().filter(is_news).count();
    }

    /// How many wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn retained(topic: &str, payload: &[u8]) -> Publication {
        Publication::new(Kind::Alert, topic.to_owned(), payload.to_vec())
    }

    fn news(payload: usize) -> Publication {
        let payload = payload.to_string().into_bytes();
        Publication::new(Kind::Events, "e".to_owned(), payload)
    }

    #[test]
    fn of_a_retained_topic_only_the_last_payload_waits() {
        let mut outgoing = Outgoing::default();
        for payload in [b"1", b"2"] {
            outgoing.push(retained("a", payload));
            outgoing.push(retained("b", payload));
        }
        assert_eq!(outgoing.len(), 2);
        let first = outgoing.pop().unwrap();
        assert_eq!(first, retained("a", b"2"));
        outgoing.put_back(first);
        outgoing.push(retained("a", b"3"));
        assert_eq!(outgoing.pop(), Some(retained("a", b"3")));
        let b = outgoing.pop().unwrap();
        outgoing.push(retained("b", b"4"));
        outgoing.put_back(b);
        assert_eq!(outgoing.pop(), Some(retained("b", b"4")));
        assert!(outgoing.is_empty());
    }

    #[test]
    fn only_what_is_kept_still_waits() {
        let mut outgoing = Outgoing::default();
        outgoing.push(retained("a", b"1"));
        outgoing.push(news(1));
        outgoing.push(Publication::new(Kind::Told, "t".to_owned(), Vec::new()));
        outgoing.keep(|kind| kind != Kind::Alert);
        assert_eq!(outgoing.len(), 2);
        assert_eq!(outgoing.pop(), Some(news(1)));
        assert_eq!(outgoing.pop().unwrap().topic, "t");
        assert_eq!(outgoing.pop(), None);
    }

    #[test]
    fn news_are_bounded_and_the_oldest_go() {
        let mut outgoing = Outgoing::default();
        outgoing.push(retained("a", b"1"));
        (0..NEWS + 2).for_each(|n| outgoing.push(news(n)));
        assert_eq!(outgoing.len(), NEWS + 1);
        assert_eq!(outgoing.pop(), Some(retained("a", b"1")));
        assert_eq!(outgoing.pop(), Some(news(2)));
    }
}
