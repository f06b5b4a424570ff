//! What the engine has to say on the bus.

use hostbus_wire::health::Health;
use hostbus_wire::{Kind, SiteTopic, encode};
use tracing::warn;

use super::Engine;
use crate::dispatcher::{Answer, Tick};
use crate::evaluator::Change;
use crate::outgoing::{Outgoing, Publication};
use crate::spool::Changes;

impl Engine {
    /// Says how we are doing.
    pub fn say_health(&mut self, health: &Health) {
        self.twin.said(health.ts);
        let system = SiteTopic::System {
            component: "notifier".into(),
            instance: self.place.instance.as_str().into(),
        };
        let topic = system.text(&self.place.root, &self.place.site);
        self.push(Kind::System, topic, health);
    }

    pub(super) fn publish_changes(&mut self) {
        if !self.active {
            // What was decided stands in the evaluator, for the moment we take over.
            self.changes.clear();
            return;
        }
        for Change { key, alert } in std::mem::take(&mut self.changes) {
            let kind = match key.instance {
                Some(_) => Kind::InstanceAlert,
                None => Kind::Alert,
            };
            let topic = key.topic().text(&self.place.root);
            match alert {
                Some(alert) => self.push(kind, topic, &alert),
                None => self
                    .outgoing
                    .push(Publication::new(kind, topic, Vec::new())),
            }
        }
    }

    pub(super) fn kept(&mut self, tick: Tick) -> Changes {
        if self.active {
            for clear in tick.clear {
                let topic = clear.topic.text(&self.place.root, &clear.site);
                let publication = Publication::new(clear.topic.kind(), topic, Vec::new());
                self.outgoing.push(publication);
            }
        }
        let entries = tick.saved.into_iter();
        Changes {
            entries: entries.map(|saved| (saved.key, saved.value)).collect(),
            notices: tick.notices,
        }
    }

    pub(super) fn push(&mut self, kind: Kind, topic: String, payload: &impl serde::Serialize) {
        match encode(payload) {
            Ok(payload) => self.outgoing.push(Publication::new(kind, topic, payload)),
            // Every payload of the contract can be written.
            Err(error) => warn!(topic, %error, "a message could not be written"),
        }
    }

    /// Says when silences end that came without it. In JSON, as the scripts do that put them there.
    pub(super) fn publish_answers(&mut self) {
        if !(self.active && self.is_synced()) {
            return;
        }
        for Answer { site, id, silence } in self.dispatcher.answers() {
            let topic = SiteTopic::Silence(id).text(&self.place.root, &site);
            match serde_json::to_vec(&silence) {
                Ok(payload) => {
                    let publication = Publication::new(Kind::Silence, topic, payload);
                    self.outgoing.push(publication);
                }
                Err(error) => warn!(topic, %error, "a silence could not be written"),
            }
        }
    }

    /// What is to be published.
    pub fn outgoing(&mut self) -> &mut Outgoing {
        &mut self.outgoing
    }

    /// Gives the lease back, at the end.
    #[must_use]
    pub fn release(&self, now_ms: u64) -> Option<Publication> {
        let lease = self.tenancy.release(now_ms)?;
        let payload = encode(&lease).ok()?;
        Some(Publication::new(Kind::Lease, self.lease_topic(), payload))
    }
}
