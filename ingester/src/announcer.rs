//! The ingester's own voice on the bus: its health, and events about nodes.

use std::sync::Arc;
use std::time::Duration;

use hostbus_client::{Sender, Will};
use hostbus_daemon::{CancellationToken, clock};
use hostbus_wire::event::Event;
use hostbus_wire::health::{Health, HealthState};
use hostbus_wire::topic::{NodeTopic, SiteTopic};
use hostbus_wire::{Kind, NodePath, TopicRoot, encode};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

use crate::config::Config;
use crate::counters::Counters;

/// How many events wait for the bus; those beyond are lost, as those are while it is away.
pub(crate) const EVENTS: usize = 1_024;
const HEALTH_EVERY: Duration = Duration::from_secs(10);
/// How soon a connection that has just come gets the health.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Where the health of this ingester stands.
#[must_use]
pub fn health_topic(config: &Config, root: &TopicRoot) -> String {
    let instance = config.instance.as_str().into();
    SiteTopic::System {
        component: "ingester".into(),
        instance,
    }
    .text(root, &config.site)
}

/// What the broker says for us when it loses us.
#[must_use]
pub fn will(topic: &str) -> Will {
    let row = Kind::System.row();
    let stopped = health(0, HealthState::Stopped, None, None);
    Will {
        topic: topic.to_owned(),
        payload: stopped,
        qos: row.qos,
        retain: row.retain,
    }
}

/// Speaks for the ingester.
#[derive(Debug)]
pub struct Announcer {
    sender: Sender,
    root: TopicRoot,
    topic: String,
    events: mpsc::Receiver<(Arc<NodePath>, Event)>,
    counters: Arc<Counters>,
}

impl Announcer {
    /// A voice through `sender`.
    #[must_use]
    pub fn new(
        sender: Sender,
        root: TopicRoot,
        topic: String,
        events: mpsc::Receiver<(Arc<NodePath>, Event)>,
        counters: Arc<Counters>,
    ) -> Self {
        Self {
            sender,
            root,
            topic,
            events,
            counters,
        }
    }

    /// Speaks until it is told to say good-bye.
    pub async fn run(mut self, farewell: CancellationToken) {
        let mut look = interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut told: Option<(tokio::time::Instant, Option<&str>)> = None;
        loop {
            tokio::select! {
                () = farewell.cancelled() => break,
                now = look.tick() => {
                    let trouble = self.counters.trouble();
                    let due = told.is_none_or(|(at, was)| was != trouble || now - at >= HEALTH_EVERY);
                    if !self.sender.is_connected() {
                        told = None;
                    } else if due && self.tell_health(trouble).await {
                        told = Some((now, trouble));
                    }
                }
                Some((node, event)) = self.events.recv() => self.tell_event(&node, &event).await,
            }
        }
        let counters = Some(&*self.counters);
        let stopped = health(clock::unix_ms(), HealthState::Stopped, None, counters);
        self.publish_health(stopped).await;
    }

    async fn tell_health(&self, trouble: Option<&str>) -> bool {
        let state = match trouble {
            Some(_) => HealthState::Degraded,
            None => HealthState::Ok,
        };
        self.publish_health(health(
            clock::unix_ms(),
            state,
            trouble,
            Some(&self.counters),
        ))
        .await
    }

    async fn publish_health(&self, payload: Vec<u8>) -> bool {
        let row = Kind::System.row();
        self.sender
            .publish(self.topic.as_str(), row.qos, row.retain, payload)
            .await
            .is_ok()
    }

    async fn tell_event(&self, node: &NodePath, event: &Event) {
        let row = Kind::Events.row();
        let topic = NodeTopic::Events.text(&self.root, node);
        if let Ok(payload) = encode(event) {
            let _ = self
                .sender
                .publish(topic, row.qos, row.retain, payload)
                .await;
        }
    }
}

fn health(
    ts: u64,
    state: HealthState,
    reason: Option<&str>,
    counters: Option<&Counters>,
) -> Vec<u8> {
    let health = Health {
        ts,
        state,
        reason: reason.map(str::to_owned),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        counters: counters.map(Counters::all).unwrap_or_default(),
    };
    // Texts and numbers: nothing that CBOR can't say.
    encode(&health).unwrap_or_default()
}
