//! The committed marks on their way to the bus.
//!
//! A mark goes out once Redis has answered for it, and once a Redis that is killed would still have
//! it. At most one a node goes out every 200 ms; the newest wins. It is written into Redis no more
//! often than that.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use hostbus_client::Sender;
use hostbus_store::{Appender, Mark, StoreError};
use hostbus_wire::committed::Committed;
use hostbus_wire::topic::NodeTopic;
use hostbus_wire::{Kind, NodePath, TopicRoot, encode};
use tokio::time::Instant;

/// How often marks go out.
const EVERY: Duration = Duration::from_millis(200);
/// How soon Redis is asked again when it has not yet written what it answered for.
const SETTLE_EVERY: Duration = Duration::from_millis(10);
/// Redis puts writing off for two seconds at the most, then it waits for the disk.
const SETTLED_ANYWAY: Duration = Duration::from_secs(3);

/// Marks that wait to be published.
#[derive(Debug)]
pub struct Marks {
    sender: Sender,
    root: TopicRoot,
    waiting: HashMap<Arc<NodePath>, Committed>,
    due: Option<Instant>,
    last_sent: Option<Instant>,
    unsettled_since: Option<Instant>,
}

impl Marks {
    /// Marks to be published through `sender`.
    #[must_use]
    pub fn new(sender: Sender, root: TopicRoot) -> Self {
        Self {
            sender,
            root,
            waiting: HashMap::new(),
            due: None,
            last_sent: None,
            unsettled_since: None,
        }
    }

    /// Adds a node's mark. It replaces one that waits: it is newer. A wish that waits for this very
    /// mark stays.
    pub fn add(&mut self, node: &Arc<NodePath>, mark: Mark, resend: bool) {
        let committed = Committed {
            boot: mark.boot,
            seq: mark.seq,
            resend,
        };
        let waits = self.waiting.get(node).copied();
        self.waiting
            .insert(Arc::clone(node), merged(waits, committed));
        self.expect();
    }

    /// Notes that there is, or soon will be, something to send.
    pub fn expect(&mut self) {
        if self.due.is_none() {
            let now = Instant::now();
            self.due = Some(self.last_sent.map_or(now, |sent| now.max(sent + EVERY)));
        }
    }

    /// Tells whether Redis had not yet written what waits when it was last asked.
    #[must_use]
    pub fn is_unsettled(&self) -> bool {
        self.unsettled_since.is_some()
    }

    /// Drops what waits: a Redis that failed may not have it any more.
    pub fn clear(&mut self) {
        self.waiting.clear();
        self.due = None;
        self.unsettled_since = None;
    }

    /// When to [send](Self::send) next; `None` when nothing waits.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Publishes what waits, if Redis would keep it. Gives how many went out.
    ///
    /// # Errors
    /// Redis can't be asked.
    pub async fn send(&mut self, appender: &mut Appender) -> Result<u64, StoreError> {
        let now = Instant::now();
        if self.waiting.is_empty() {
            self.due = None;
            self.last_sent = Some(now);
            return Ok(0);
        }
        if !self.sender.is_connected() {
            // They go out with the next connection; who needs one sooner sends a duplicate.
            self.due = Some(now + EVERY);
            return Ok(0);
        }
        if !appender.settled().await? {
            let since = *self.unsettled_since.get_or_insert(now);
            if now.duration_since(since) < SETTLED_ANYWAY {
                self.due = Some(now + SETTLE_EVERY);
                return Ok(0);
            }
        }
        self.unsettled_since = None;
        self.due = None;
        self.last_sent = Some(now);
        let row = Kind::Committed.row();
        let mut sent = 0;
        for (node, committed) in self.waiting.drain() {
            // Two numbers and a switch: nothing that CBOR can't say.
            let Ok(payload) = encode(&committed) else {
                continue;
            };
            let topic = NodeTopic::Committed.text(&self.root, &node);
            if self
                .sender
                .publish(topic, row.qos, row.retain, payload)
                .await
                .is_ok()
            {
                sent += 1;
            }
        }
        Ok(sent)
    }

    /// Publishes what waits before the ingester stops, as soon as Redis would keep it.
    ///
    /// # Errors
    /// Redis can't be asked.
    pub async fn finish(&mut self, appender: &mut Appender) -> Result<u64, StoreError> {
        let mut sent = 0;
        while !self.waiting.is_empty() && self.sender.is_connected() {
            sent += self.send(appender).await?;
            if self.due.is_some() {
                tokio::time::sleep(SETTLE_EVERY).await;
            }
        }
        Ok(sent)
    }
}

/// What goes out when `newer` comes while `waits` does. Once samples were stored since, nobody knows
/// that the wish still stands; whoever still misses some asks again.
fn merged(waits: Option<Committed>, newer: Committed) -> Committed {
    let wish = waits
        .is_some_and(|waits| waits.resend && (waits.boot, waits.seq) == (newer.boot, newer.seq));
    Committed {
        resend: newer.resend || wish,
        ..newer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_that_waits_outlives_the_same_mark_only() {
        let committed = |seq, resend| Committed {
            boot: 5,
            seq,
            resend,
        };
        let check = |waits: Option<(u64, bool)>, newer: (u64, bool), resend| {
            let waits = waits.map(|(seq, resend)| committed(seq, resend));
            let newer = committed(newer.0, newer.1);
            assert_eq!(
                merged(waits, newer),
                committed(newer.seq, resend),
                "{waits:?} {newer:?}"
            );
        };
        check(None, (3, false), false);
        check(None, (3, true), true);
        check(Some((3, true)), (3, false), true);
        check(Some((3, false)), (3, false), false);
        check(Some((3, true)), (4, false), false);
        check(Some((3, false)), (4, true), true);
    }
}
