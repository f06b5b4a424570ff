//! Topic aliases of 5.0: small numbers that stand for topics on one connection, in each direction.

use std::collections::HashMap;

use bytestring::ByteString;

use super::End;
use crate::codec::DecodeError;
use crate::codec::packet::Publish;
use crate::codec::reason::Reason;

/// The highest topic alias that a client may use, and the most that the broker uses to a client.
pub(crate) const TOPIC_ALIAS_MAXIMUM: u16 = 16;

/// The aliases that the client has set.
#[derive(Debug, Default)]
pub(super) struct TakenAliases {
    /// By alias, from 1 on.
    topics: Vec<Option<ByteString>>,
}

impl TakenAliases {
    /// Puts the topic in the place of its alias, or notes the alias.
    pub(super) fn resolve(&mut self, publish: &mut Publish) -> Result<(), End> {
        let Some(alias) = publish.topic_alias else {
            return Ok(());
        };
        if alias > TOPIC_ALIAS_MAXIMUM {
            return Err(End::Told(Reason::TOPIC_ALIAS_INVALID));
        }
        let place = usize::from(alias) - 1;
        if publish.topic.is_empty() {
            let Some(Some(topic)) = self.topics.get(place) else {
                return Err(End::Wrong(DecodeError::Protocol(
                    "topic alias that was never set",
                )));
            };
            publish.topic = topic.clone();
        } else {
            if self.topics.len() <= place {
                self.topics.resize(place + 1, None);
            }
            // A copy, so that the alias does not keep the message in memory.
            self.topics[place] = Some(ByteString::from(&*publish.topic));
        }
        Ok(())
    }
}

/// The aliases that the broker has set: the first topics that went to the client have one, as many
/// as it takes. So a client of many topics gets no more bytes than without aliases.
#[derive(Debug)]
pub(super) struct GivenAliases {
    most: usize,
    by_topic: HashMap<ByteString, u16>,
}

impl GivenAliases {
    /// For a client that takes aliases up to `maximum`; 0 is none.
    pub(super) fn new(maximum: u16) -> Self {
        Self {
            most: maximum.min(TOPIC_ALIAS_MAXIMUM).into(),
            by_topic: HashMap::new(),
        }
    }

    /// The alias of this topic, and whether the client knows it already.
    pub(super) fn of(&mut self, topic: &ByteString) -> Option<(u16, bool)> {
        if self.most == 0 {
            return None;
        }
        if let Some(alias) = self.by_topic.get(topic) {
            return Some((*alias, true));
        }
        if self.by_topic.len() == self.most {
            return None;
        }
        // Bounded by `most`, which is a u16.
        let alias = self.by_topic.len() as u16 + 1;
        self.by_topic.insert(ByteString::from(&**topic), alias);
        Some((alias, false))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_topics_get_the_aliases() {
        let mut given = GivenAliases::new(2);
        let (a, b, c) = (
            ByteString::from_static("a"),
            ByteString::from_static("b"),
            ByteString::from_static("c"),
        );
        assert_eq!(given.of(&a), Some((1, false)));
        assert_eq!(given.of(&b), Some((2, false)));
        assert_eq!(given.of(&c), None);
        assert_eq!(given.of(&a), Some((1, true)));
        assert_eq!(GivenAliases::new(0).of(&a), None);
    }
}
