//! The way to the bus: status, inventory, events and samples out, marks in.
//!
//! It decides nothing about delivery; that is the outbox's part. Samples and events wait while
//! there is no connection. It carries orders and reports between the outbox and the disk, too, and
//! waits for neither.
//!
//! Nothing that was handed to the connection is relied on. The connection begins a new session each
//! time and no alias for topics is used, so what was queued for a lost connection is dropped with it; only
//! the outbox sends a sample again. A connection that takes nothing more holds up `publish` for a
//! bounded time, in which samples are still taken in.

mod farewell;
mod topics;

use std::collections::BTreeMap;
use std::pin::pin;
use std::time::{Duration, Instant};

use hostbus_client::{BusConfig, ClientError, Connection, Event, Message, Options, Sender, Will};
use hostbus_daemon::{CancellationToken, clock};
use hostbus_wire::committed::Committed;
use hostbus_wire::status::Status;
use hostbus_wire::{NodePath, QoS, codec};
use tokio::sync::mpsc;
use tokio::time::{sleep_until, timeout};
use tracing::{debug, error, info, warn};

use crate::config::Config;
use crate::error::Error;
use crate::events::{self, EventQueue};
use crate::inventory;
use crate::outbox::{Beginning, Disk, DiskNext, DiskNotice, Next, Notice, Outbox, Report};
use crate::sampler::{self, Reading};
use crate::schedule::Taken;
use farewell::{Farewell, Left};
use topics::{Outlet, Topics};

/// How long one publish may wait for its turn. Longer means that the connection stands still.
const PUBLISH_WITHIN: Duration = Duration::from_secs(1);
/// How long a stop waits for the marks of the last samples.
const LAST_MARKS_WITHIN: Duration = Duration::from_millis(800);
/// How long a stop waits until the disk has what no mark covers.
const STORED_WITHIN: Duration = Duration::from_millis(1500);
/// Over how long the hosts of a site come back after their broker did, at most.
const RETURN_WITHIN: Duration = Duration::from_secs(10);
/// After how many samples `online` is told again: a broker may fire the will of an earlier, lost
/// connection long after the next one has said `online`.
const STATUS_EVERY_SAMPLES: u32 = 6;
/// How long a stop waits for its last word to be taken by the connection.
const LAST_WORD_WITHIN: Duration = Duration::from_millis(300);

/// See the module's description.
pub(crate) struct Uplink {
    connection: Connection,
    sender: Sender,
    topics: Topics,
    interval: Duration,
    taken: mpsc::Receiver<Taken>,
    outbox: Outbox,
    disk: Option<Disk>,
    events: EventQueue,
    /// The inventory as payload, once the collectors were read, and whether it must go out.
    info: Option<Vec<u8>>,
    info_due: bool,
    connected: bool,
    samples_since_status: u32,
    refused_told: bool,
}

impl Uplink {
    /// Begins to connect, to carry what `taken` brings. `disk` is the outbox's, with what it held.
    ///
    /// # Errors
    /// The settings are wrong.
    pub(crate) fn open(
        config: &Config,
        bus: &BusConfig,
        path: &NodePath,
        (disk, beginning): (Option<Disk>, Beginning),
        taken: mpsc::Receiver<Taken>,
    ) -> Result<Self, Error> {
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
            return_within: config.interval().min(RETURN_WITHIN),
        };
        let connection = Connection::open(bus, options)?;
        Ok(Self {
            sender: connection.sender(),
            connection,
            topics,
            interval: config.interval(),
            taken,
            outbox: Outbox::new(&config.outbox, beginning),
            disk,
            events: EventQueue::default(),
            info: None,
            info_due: false,
            connected: false,
            samples_since_status: 0,
            refused_told: false,
        })
    }

    /// Carries what is taken until `token` is cancelled, then says good-bye.
    ///
    /// # Errors
    /// A payload of our own can't be written.
    pub(crate) async fn run(mut self, token: CancellationToken) -> Result<(), Error> {
        self.tell_notices();
        loop {
            let wake = self.work().await?;
            tokio::select! {
                event = self.connection.next() => self.on_event(event),
                Some(taken) = self.taken.recv() => self.on_taken(taken)?,
                report = report_of(&mut self.disk) => self.on_report(report),
                () = until(wake) => {}
                () = token.cancelled() => break,
            }
        }
        while let Ok(last) = self.taken.try_recv() {
            self.on_taken(last)?;
        }
        self.stop().await
    }

    /// Sends and stores all that is due. Tells when to come back.
    async fn work(&mut self) -> Result<Option<Instant>, Error> {
        let to_send = self.flush().await?;
        let to_store = self.store();
        Ok(to_send.into_iter().chain(to_store).min())
    }

    /// The last things out, the last marks in, what is left to disk, and good-bye.
    async fn stop(mut self) -> Result<(), Error> {
        let deadline = tokio::time::Instant::now() + LAST_MARKS_WITHIN;
        loop {
            let wake = self.work().await?;
            // Without an ingester no mark will come.
            if !self.connected || self.outbox.len() == 0 || !self.outbox.is_recognised() {
                break;
            }
            tokio::select! {
                event = self.connection.next() => self.on_event(event),
                report = report_of(&mut self.disk) => self.on_report(report),
                () = until(wake) => {}
                () = sleep_until(deadline) => break,
            }
        }
        self.store_the_rest().await;
        let left = Left {
            unmarked: self.outbox.len(),
            unsent: self.outbox.unsent(),
            in_memory: self.outbox.in_memory_only(),
            connected: self.connected,
        };
        match Farewell::of(left, self.interval) {
            Farewell::Lost => warn!(
                unmarked = left.unmarked,
                unsent = left.unsent,
                "stopped with samples that did not get through, {} of them are lost",
                left.in_memory
            ),
            Farewell::Unsure => warn!(
                unmarked = left.unmarked,
                "stopped with samples that were sent but never confirmed, they are lost if they are not in Redis"
            ),
            Farewell::Kept => info!(
                unmarked = left.unmarked,
                "samples that are not confirmed are kept on disk, they are sent at the next start"
            ),
            Farewell::Clean => {}
        }
        let status = self.topics.status.clone();
        let offline = self.publish(status, Status::Offline.as_str());
        let _ = timeout(LAST_WORD_WITHIN, offline).await;
        self.connection.close().await;
        if let Some(disk) = self.disk {
            disk.close().await;
        }
        let status = self.outbox.status();
        info!(
            unmarked = left.unmarked,
            sent = status.sent,
            resent = status.resent,
            dropped = status.dropped,
            "publisher stopped"
        );
        Ok(())
    }

    async fn store_the_rest(&mut self) {
        self.outbox.stop();
        let deadline = tokio::time::Instant::now() + STORED_WITHIN;
        loop {
            let wake = self.store();
            if self.outbox.is_stored() {
                return;
            }
            tokio::select! {
                report = report_of(&mut self.disk) => self.on_report(report),
                () = until(wake) => {}
                () = sleep_until(deadline) => return,
            }
        }
    }

    /// Gives the disk what is due. Tells when to come back.
    fn store(&mut self) -> Option<Instant> {
        let disk = self.disk.as_mut()?;
        loop {
            match self.outbox.next_for_disk(Instant::now()) {
                DiskNext::Order(order) => disk.order(order),
                DiskNext::Wait(until) => return Some(until),
                DiskNext::Idle => return None,
            }
        }
    }

    fn on_report(&mut self, report: Report) {
        self.outbox.on_report(report, Instant::now());
        self.tell_notices();
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
            events,
            collectors,
            collectors_changed,
            ..
        } = reading;
        for event in events {
            self.events.push(event);
        }
        if collectors_changed {
            self.describe(sampler::states(&collectors))?;
        }
        if let Some(sample) = sample {
            self.samples_since_status += 1;
            match self.outbox.push(sample, Instant::now()) {
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
                Notice::Damaged { lost } => {
                    error!(lost, "samples on disk are damaged and lost");
                    self.events.push(events::samples_damaged(ts, lost));
                }
                Notice::Broken {
                    aside,
                    reason,
                    lost,
                } => {
                    error!(
                        kept = aside,
                        reason, lost, "the file of samples is damaged, a new one is begun"
                    );
                    self.events
                        .push(events::outbox_broken(ts, &aside, &reason, lost));
                }
                Notice::Disk(DiskNotice::Failed(failure)) => {
                    warn!(
                        reason = failure.reason,
                        mend = failure.mend,
                        "samples can't be kept on disk, they stay in memory"
                    );
                    self.events.push(events::outbox_disk_failed(ts, &failure));
                }
                Notice::Disk(DiskNotice::Recovered) => {
                    info!("samples can be kept on disk again");
                    self.events.push(events::outbox_disk_recovered(ts));
                }
            }
        }
    }

    /// Sends all that is due. Tells when to come back.
    async fn flush(&mut self) -> Result<Option<Instant>, Error> {
        if !self.connected {
            return Ok(None);
        }
        if self.info_due && !self.introduce().await? {
            return Ok(None);
        }
        if self.samples_since_status >= STATUS_EVERY_SAMPLES && !self.tell_online().await? {
            return Ok(None);
        }
        while let Some(event) = self.events.take_oldest() {
            let payload = codec::encode(&event)?;
            if !self.publish(self.topics.events.clone(), payload).await? {
                self.events.put_back(event);
                return Ok(None);
            }
        }
        // A handful at a time, so that marks are heard in between.
        for _ in 0..16 {
            match self.outbox.next(Instant::now()) {
                Next::Send(payload) => {
                    if !self.publish(self.topics.metrics.clone(), payload).await? {
                        return Ok(None);
                    }
                }
                Next::Wait(until) => return Ok(Some(until)),
                Next::Idle => return Ok(None),
            }
        }
        Ok(Some(Instant::now()))
    }

    /// Inventory and status first, so that nobody sees samples of an unknown node. Tells whether they
    /// are out.
    async fn introduce(&mut self) -> Result<bool, Error> {
        // An inventory that comes meanwhile is due again.
        self.info_due = false;
        let mut told = self.tell_online().await?;
        if told && let Some(info) = self.info.clone() {
            told = self.publish(self.topics.info.clone(), info).await?;
        }
        self.info_due |= !told;
        Ok(told)
    }

    async fn tell_online(&mut self) -> Result<bool, Error> {
        self.samples_since_status = 0;
        let status = self.topics.status.clone();
        self.publish(status, Status::Online.as_str()).await
    }

    /// Tells whether the connection took it. What it does not take waits for the next connection.
    /// Samples go on into the outbox meanwhile.
    async fn publish(
        &mut self,
        outlet: Outlet,
        payload: impl Into<Vec<u8>>,
    ) -> Result<bool, Error> {
        let sender = self.sender.clone();
        let publish = sender.publish(
            outlet.topic.as_str(),
            outlet.qos,
            outlet.retain,
            payload.into(),
        );
        let mut publish = pin!(timeout(PUBLISH_WITHIN, publish));
        let published = loop {
            let taken = tokio::select! {
                biased;
                published = &mut publish => break published,
                Some(taken) = self.taken.recv() => taken,
            };
            self.on_taken(taken)?;
        };
        Ok(match published {
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
        })
    }
}

/// The disk's next report; never any without a disk.
async fn report_of(disk: &mut Option<Disk>) -> Report {
    match disk {
        Some(disk) => disk.report().await,
        None => std::future::pending().await,
    }
}

async fn until(wake: Option<Instant>) {
    match wake {
        Some(at) => sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use hostbus_wire::Sample;
    use hostbus_wire::sample::Cpu;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;
    use crate::outbox::{Found, Persist};

    /// More than the connection and the system hold for a broker that does not read.
    const SAMPLES: usize = 6_000;

    /// A broker that takes one connection and its subscription, and then reads no more.
    async fn broker_that_stalls(listener: TcpListener) {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut packet = [0; 1024];
        let _ = stream.read(&mut packet).await.unwrap();
        stream.write_all(&[0x20, 2, 0, 0]).await.unwrap();
        // SUBSCRIBE: its length in one byte, then the number that the answer repeats.
        let _ = stream.read(&mut packet).await.unwrap();
        assert_eq!(packet[0], 0x82);
        let answer = [0x90, 3, packet[2], packet[3], 0];
        stream.write_all(&answer).await.unwrap();
        std::future::pending::<()>().await;
    }

    #[tokio::test]
    async fn samples_are_taken_while_the_connection_stands_still() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let bus = BusConfig {
            url: format!("mqtt://{}", listener.local_addr().unwrap()),
            ..BusConfig::default()
        };
        let broker = tokio::spawn(broker_that_stalls(listener));
        let config = Config::default();
        let (out, taken) = mpsc::channel(1);
        let path = "home.a".parse().unwrap();
        let beginning = Beginning {
            boot: 1,
            persist: Persist::Never,
            found: Found::default(),
            failure: None,
        };
        let uplink = Uplink::open(&config, &bus, &path, (None, beginning), taken).unwrap();
        let token = CancellationToken::new();
        let uplink = tokio::spawn(uplink.run(token.clone()));
        let mut cpu = Cpu::new();
        cpu.cores = vec![12.3; 512];
        let sample = Sample {
            ts: Some(clock::unix_ms()),
            cpu: Some(cpu),
            ..Sample::default()
        };
        for number in 0..SAMPLES {
            let reading = Reading {
                sample: sample.clone(),
                events: Vec::new(),
                details: Vec::new(),
                collectors: Vec::new(),
                collectors_changed: false,
            };
            let sent = timeout(PUBLISH_WITHIN / 2, out.send(Taken::Sample(reading))).await;
            assert!(sent.is_ok(), "sample {number} had to wait");
        }
        assert!(!broker.is_finished(), "the broker failed");
        token.cancel();
        uplink.abort();
        broker.abort();
    }
}
