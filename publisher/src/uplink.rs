//! The way to the bus: status, inventory, events and samples out, marks in.
//!
//! It decides nothing about delivery; that is the outbox's part. Samples and events wait while
//! there is no connection.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use hostbus_client::{BusConfig, ClientError, Connection, Event, Message, Options, Sender, Will};
use hostbus_daemon::{CancellationToken, clock};
use hostbus_wire::committed::Committed;
use hostbus_wire::status::Status;
use hostbus_wire::{NodePath, NodeTopic, QoS, Topic, TopicRoot, codec};
use tokio::sync::mpsc;
use tokio::time::{sleep_until, timeout};
use tracing::{debug, error, info, warn};

use crate::config::Config;
use crate::error::Error;
use crate::events::{self, EventQueue};
use crate::inventory;
use crate::outbox::{Next, Notice, Outbox};
use crate::sampler::Reading;
use crate::schedule::Taken;

/// How long one publish may wait for its turn. Longer means that the connection stands still.
const PUBLISH_WITHIN: Duration = Duration::from_secs(1);
/// How long a stop waits for the marks of the last samples.
const LAST_MARKS_WITHIN: Duration = Duration::from_millis(800);
/// How long a stop waits for its last word to be taken by the connection.
const LAST_WORD_WITHIN: Duration = Duration::from_millis(300);

/// See the module's description.
pub(crate) struct Uplink {
    connection: Connection,
    sender: Sender,
    topics: Topics,
    interval: Duration,
    outbox: Outbox,
    events: EventQueue,
    /// The inventory as payload, once the collectors were read, and whether it must go out.
    info: Option<Vec<u8>>,
    info_due: bool,
    connected: bool,
    refused_told: bool,
}

/// Where each thing goes, by the contract's table.
struct Topics {
    metrics: Outlet,
    status: Outlet,
    info: Outlet,
    events: Outlet,
    committed: String,
}

struct Outlet {
    topic: String,
    qos: QoS,
    retain: bool,
}

impl Topics {
    fn new(root: &TopicRoot, path: &NodePath) -> Self {
        let outlet = |what: NodeTopic| {
            let row = what.kind().row();
            let topic = Topic::Node(path.clone(), what).text(root);
            Outlet {
                topic,
                qos: row.qos,
                retain: row.retain,
            }
        };
        Self {
            metrics: outlet(NodeTopic::Metrics),
            status: outlet(NodeTopic::Status),
            info: outlet(NodeTopic::Info),
            events: outlet(NodeTopic::Events),
            committed: outlet(NodeTopic::Committed).topic,
        }
    }
}

impl Uplink {
    /// Begins to connect.
    ///
    /// # Errors
    /// The settings are wrong.
    pub(crate) fn open(config: &Config, bus: &BusConfig, path: &NodePath) -> Result<Self, Error> {
        let topics = Topics::new(&bus.root, path);
        let will = Will {
            topic: topics.status.topic.clone(),
            payload: Status::Offline.as_str().into(),
            qos: topics.status.qos,
            retain: topics.status.retain,
        };
        let options = Options {
            component: "publisher".to_owned(),
            filters: vec![(topics.committed.clone(), QoS::AtMostOnce)],
            will: Some(will),
        };
        let connection = Connection::open(bus, options)?;
        Ok(Self {
            sender: connection.sender(),
            connection,
            topics,
            interval: config.interval(),
            outbox: Outbox::new(&config.outbox, clock::unix_ms() / 1000),
            events: EventQueue::default(),
            info: None,
            info_due: false,
            connected: false,
            refused_told: false,
        })
    }

    /// Carries what `taken` brings until `token` is cancelled, then says good-bye.
    ///
    /// # Errors
    /// A payload of our own can't be written.
    pub(crate) async fn run(
        mut self,
        mut taken: mpsc::Receiver<Taken>,
        token: CancellationToken,
    ) -> Result<(), Error> {
        loop {
            let wake = self.flush().await?;
            tokio::select! {
                event = self.connection.next() => self.on_event(event),
                Some(taken) = taken.recv() => self.on_taken(taken)?,
                () = until(wake) => {}
                () = token.cancelled() => break,
            }
        }
        while let Ok(last) = taken.try_recv() {
            self.on_taken(last)?;
        }
        self.stop().await
    }

    /// The last things out, the last marks in, and good-bye.
    async fn stop(mut self) -> Result<(), Error> {
        let deadline = tokio::time::Instant::now() + LAST_MARKS_WITHIN;
        loop {
            let wake = self.flush().await?;
            // Without an ingester no mark will come.
            if !self.connected || self.outbox.len() == 0 || !self.outbox.is_recognised() {
                break;
            }
            tokio::select! {
                event = self.connection.next() => self.on_event(event),
                () = until(wake) => {}
                () = sleep_until(deadline) => break,
            }
        }
        // A sample that was sent a moment ago is most likely taken, and its mark on the way.
        let (unmarked, unsent) = (self.outbox.len(), self.outbox.unsent());
        if unsent > 0 || (unmarked > 0 && !self.connected) {
            warn!(
                unmarked,
                unsent, "stopped with samples that did not get through, they are lost"
            );
        }
        let offline = self.publish(&self.topics.status, Status::Offline.as_str());
        let _ = timeout(LAST_WORD_WITHIN, offline).await;
        self.connection.close().await;
        info!(
            unmarked,
            dropped = self.outbox.dropped(),
            "publisher stopped"
        );
        Ok(())
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::Connected => {
                self.connected = true;
                self.info_due = true;
                self.outbox.on_connected(Instant::now());
            }
            Event::Disconnected => {
                self.connected = false;
                self.outbox.on_disconnected();
            }
            Event::Message(message) => self.on_message(&message),
        }
    }

    fn on_message(&mut self, message: &Message) {
        if message.topic != self.topics.committed || message.payload.is_empty() {
            return;
        }
        match codec::decode::<Committed>(&message.payload) {
            Ok(mark) => {
                debug!(?mark, "mark");
                self.outbox.on_committed(mark, Instant::now());
                self.tell_notices();
            }
            Err(error) => debug!(%error, "unreadable mark"),
        }
    }

    fn on_taken(&mut self, taken: Taken) -> Result<(), Error> {
        let (reading, sample) = match taken {
            Taken::First(reading) => (reading, None),
            Taken::Sample(mut reading) => {
                let sample = std::mem::take(&mut reading.sample);
                (reading, Some(sample))
            }
        };
        let Reading {
            events, collectors, ..
        } = reading;
        for event in events {
            self.events.push(event);
        }
        if let Some(collectors) = collectors {
            self.describe(collectors)?;
        }
        if let Some(sample) = sample {
            match self.outbox.push(sample) {
                Ok(_) => self.refused_told = false,
                Err(error) if !self.refused_told => {
                    error!(%error, "a sample breaks the contract and is not sent");
                    self.refused_told = true;
                }
                Err(_) => {}
            }
            self.tell_notices();
        }
        Ok(())
    }

    fn describe(&mut self, collectors: BTreeMap<String, String>) -> Result<(), Error> {
        self.info = Some(codec::encode(&inventory::info(collectors, self.interval))?);
        self.info_due = true;
        Ok(())
    }

    fn tell_notices(&mut self) {
        let ts = clock::unix_ms();
        for notice in self.outbox.take_notices() {
            match notice {
                Notice::DropsBegan => {
                    warn!("the outbox is full, the oldest samples are dropped");
                    self.events.push(events::samples_dropped(ts));
                }
                Notice::DropsEnded { dropped } => {
                    info!(dropped, "the outbox has room again");
                    self.events.push(events::outbox_recovered(ts, dropped));
                }
                Notice::ImpossibleMark { mark } => {
                    warn!(
                        ?mark,
                        "a mark covers samples that were never sent, it is ignored"
                    );
                }
                Notice::OtherPublisher { mark } => {
                    error!(?mark, "another publisher uses this node's name");
                    self.events.push(events::node_in_use(ts, &mark));
                }
                Notice::BootMoved { from, to } => {
                    info!(
                        from,
                        to, "the ingester knows a later run, ours comes after it now"
                    );
                }
            }
        }
    }

    /// Sends all that is due. Tells when to come back.
    async fn flush(&mut self) -> Result<Option<Instant>, Error> {
        if !self.connected {
            return Ok(None);
        }
        if self.info_due {
            // Inventory and status first, so that nobody sees samples of an unknown node.
            if !self
                .publish(&self.topics.status, Status::Online.as_str())
                .await
            {
                return Ok(None);
            }
            if let Some(info) = &self.info
                && !self.publish(&self.topics.info, info.clone()).await
            {
                return Ok(None);
            }
            self.info_due = false;
        }
        while let Some(event) = self.events.oldest() {
            if !self
                .publish(&self.topics.events, codec::encode(event)?)
                .await
            {
                return Ok(None);
            }
            self.events.remove_oldest();
        }
        // A handful at a time, so that marks are heard in between.
        for _ in 0..16 {
            match self.outbox.next(Instant::now()) {
                Next::Send(payload) => {
                    if !self.publish(&self.topics.metrics, payload).await {
                        return Ok(None);
                    }
                }
                Next::Wait(until) => return Ok(Some(until)),
                Next::Idle => return Ok(None),
            }
        }
        Ok(Some(Instant::now()))
    }

    /// Tells whether the connection took it. What it does not take waits for the next connection.
    async fn publish(&self, outlet: &Outlet, payload: impl Into<Vec<u8>>) -> bool {
        let publish = self
            .sender
            .publish(&outlet.topic, outlet.qos, outlet.retain, payload);
        match timeout(PUBLISH_WITHIN, publish).await {
            Ok(Ok(())) => true,
            Ok(Err(ClientError::NotConnected)) => false,
            Ok(Err(error)) => {
                debug!(%error, "publish failed");
                false
            }
            Err(_) => {
                debug!(topic = outlet.topic, "the connection stands still");
                false
            }
        }
    }
}

async fn until(wake: Option<Instant>) {
    match wake {
        Some(at) => sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
