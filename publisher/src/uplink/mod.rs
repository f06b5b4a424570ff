//! The way to the bus: samples out, marks in, and all that is heard and said besides.
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
mod notices;

use std::pin::pin;
use std::time::{Duration, Instant};

use hostbus_client::{BusConfig, ClientError, Connection, Event, Message, Options, Sender, Will};
use hostbus_daemon::CancellationToken;
use hostbus_wire::committed::Committed;
use hostbus_wire::status::Status;
use hostbus_wire::{NodePath, codec};
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep_until, timeout};
use tracing::{debug, error, info, warn};

use crate::config::Config;
use crate::conversation::{Conversation, Orders};
use crate::error::Error;
use crate::health::Figures;
use crate::heartbeat::Pulse;
use crate::outbox::{Beginning, Disk, DiskNext, Next, Outbox, Report};
use crate::schedule::Taken;
use crate::topics::{Incoming, Outlet, Topics};
use crate::tuning::Tuning;
use farewell::{Farewell, Left};

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

/// What comes from this host.
#[derive(Debug)]
pub(crate) struct Inputs {
    /// What the schedule takes.
    pub(crate) taken: mpsc::Receiver<Taken>,
    /// The host's own settings.
    pub(crate) settings: watch::Receiver<Tuning>,
    /// By which others see that it turns.
    pub(crate) pulse: Pulse,
}

/// See the module's description.
pub(crate) struct Uplink {
    connection: Connection,
    sender: Sender,
    topics: Topics,
    inputs: Inputs,
    outbox: Outbox,
    disk: Option<Disk>,
    conversation: Conversation,
    connected: bool,
    samples_taken: u64,
    samples_since_status: u32,
    refused_told: bool,
}

impl Uplink {
    /// Begins to connect, to carry what `inputs` bring. `disk` is the outbox's, with what it held.
    ///
    /// # Errors
    /// The settings are wrong.
    pub(crate) fn open(
        config: &Config,
        bus: &BusConfig,
        path: &NodePath,
        (disk, beginning): (Option<Disk>, Beginning),
        mut inputs: Inputs,
        orders: Orders,
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
            filters: topics.filters(),
            will: Some(will),
            return_within: config.interval().min(RETURN_WITHIN),
        };
        let connection = Connection::open(bus, options)?;
        let settings = inputs.settings.borrow_and_update().clone();
        let conversation = Conversation::new(settings, orders, beginning.boot);
        Ok(Self {
            sender: connection.sender(),
            connection,
            topics,
            inputs,
            outbox: Outbox::new(&config.outbox, beginning),
            disk,
            conversation,
            connected: false,
            samples_taken: 0,
            samples_since_status: 0,
            refused_told: false,
        })
    }

    /// Carries what is taken until `token` is cancelled, then says good-bye.
    ///
    /// # Errors
    /// A payload of our own can't be written.
    pub(crate) async fn run(mut self, token: CancellationToken) -> Result<(), Error> {
        self.tell_notices()?;
        loop {
            let wake = self.work().await?;
            tokio::select! {
                event = self.connection.next() => self.on_event(event)?,
                Some(taken) = self.inputs.taken.recv() => self.on_taken(taken)?,
                Ok(()) = self.inputs.settings.changed() => self.on_settings(),
                report = report_of(&mut self.disk) => self.on_report(report)?,
                found = self.conversation.surveyed() => self.conversation.on_surveyed(found)?,
                () = until(wake) => {}
                never = self.inputs.pulse.answer() => match never {},
                () = token.cancelled() => break,
            }
        }
        while let Ok(last) = self.inputs.taken.try_recv() {
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
                event = self.connection.next() => self.on_event(event)?,
                report = report_of(&mut self.disk) => self.on_report(report)?,
                () = until(wake) => {}
                () = sleep_until(deadline) => break,
            }
        }
        self.store_the_rest().await?;
        let left = Left {
            unmarked: self.outbox.len(),
            unsent: self.outbox.unsent(),
            in_memory: self.outbox.in_memory_only(),
            connected: self.connected,
        };
        match Farewell::of(left, self.conversation.interval()) {
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
        let health = self
            .conversation
            .last_health(figures(self.samples_taken, &self.outbox))?;
        let last_words = async {
            let status = self.topics.status.clone();
            self.publish(status, Status::Offline.as_str()).await?;
            self.publish(self.topics.health(), health).await
        };
        let _ = timeout(LAST_WORD_WITHIN, last_words).await;
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

    async fn store_the_rest(&mut self) -> Result<(), Error> {
        self.outbox.stop();
        let deadline = tokio::time::Instant::now() + STORED_WITHIN;
        loop {
            let wake = self.store();
            if self.outbox.is_stored() {
                return Ok(());
            }
            tokio::select! {
                report = report_of(&mut self.disk) => self.on_report(report)?,
                () = until(wake) => {}
                () = sleep_until(deadline) => return Ok(()),
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

    fn on_report(&mut self, report: Report) -> Result<(), Error> {
        self.outbox.on_report(report, Instant::now());
        self.tell_notices()
    }

    fn on_event(&mut self, event: Event) -> Result<(), Error> {
        let now = Instant::now();
        match event {
            Event::Connected => {
                self.connected = true;
                self.conversation.on_connected(now);
                self.outbox.on_connected(now);
            }
            Event::Disconnected => {
                self.connected = false;
                self.conversation.on_disconnected();
                self.outbox.on_disconnected();
            }
            Event::Message(message) => self.on_message(&message, now)?,
        }
        Ok(())
    }

    fn on_settings(&mut self) {
        let settings = self.inputs.settings.borrow_and_update().clone();
        self.conversation.on_settings(settings);
    }

    fn on_message(&mut self, message: &Message, now: Instant) -> Result<(), Error> {
        let (payload, retained) = (&message.payload[..], message.retained);
        match self.topics.incoming(&message.topic) {
            Some(Incoming::Committed) => self.on_mark(payload, now)?,
            Some(Incoming::Desired) => self.conversation.on_desired(payload),
            Some(Incoming::Info) => self.conversation.on_info(payload, retained, now),
            Some(Incoming::Command(name)) => {
                self.conversation.on_command(name, payload, retained, now)?;
            }
            None => {}
        }
        Ok(())
    }

    fn on_mark(&mut self, payload: &[u8], now: Instant) -> Result<(), Error> {
        if payload.is_empty() {
            return Ok(());
        }
        match codec::decode::<Committed>(payload) {
            Ok(mark) => {
                debug!(?mark, "mark");
                self.outbox.on_committed(mark, now);
                // A run that moves behind a later one does so first.
                self.tell_notices()?;
                self.conversation.on_mark(mark.boot);
            }
            Err(error) => debug!(%error, "unreadable mark"),
        }
        Ok(())
    }

    fn on_taken(&mut self, taken: Taken) -> Result<(), Error> {
        let (reading, sample) = match taken {
            Taken::First(reading) => (reading, None),
            Taken::Sample(mut reading) => {
                let sample = std::mem::take(&mut reading.sample);
                (reading, Some(sample))
            }
        };
        self.conversation.on_reading(reading)?;
        if let Some(sample) = sample {
            self.samples_taken += 1;
            self.samples_since_status += 1;
            if self.samples_since_status >= STATUS_EVERY_SAMPLES {
                self.samples_since_status = 0;
                self.conversation.repeat_status();
            }
            match self.outbox.push(sample, Instant::now()) {
                Ok(_) => self.refused_told = false,
                Err(error) if !self.refused_told => {
                    error!(%error, "a sample breaks the contract and is not sent");
                    self.refused_told = true;
                }
                Err(_) => {}
            }
            self.tell_notices()?;
        }
        Ok(())
    }

    fn tell_notices(&mut self) -> Result<(), Error> {
        for notice in self.outbox.take_notices() {
            notices::tell(notice, &mut self.conversation)?;
        }
        Ok(())
    }

    /// Sends all that is due. Tells when to come back.
    async fn flush(&mut self) -> Result<Option<Instant>, Error> {
        self.conversation.tick(Instant::now())?;
        if !self.connected || !self.speak().await? {
            return Ok(self.conversation.wake());
        }
        let samples = self.send_samples().await?;
        Ok(samples.into_iter().chain(self.conversation.wake()).min())
    }

    /// Says all that is to be said before samples. Tells whether it is out.
    async fn speak(&mut self) -> Result<bool, Error> {
        loop {
            let (outbox, taken) = (&self.outbox, self.samples_taken);
            let figures = || figures(taken, outbox);
            let next = self.conversation.next(Instant::now(), figures)?;
            let Some(letter) = next else {
                return Ok(true);
            };
            let outlet = letter.word.outlet(&self.topics);
            if !self.publish(outlet, letter.payload.clone()).await? {
                self.conversation.put_back(letter);
                return Ok(false);
            }
            self.conversation.told(&letter.word);
        }
    }

    /// A handful at a time, so that marks are heard in between. Tells when to come back.
    async fn send_samples(&mut self) -> Result<Option<Instant>, Error> {
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
                Some(taken) = self.inputs.taken.recv() => taken,
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

fn figures(taken: u64, outbox: &Outbox) -> Figures {
    let outbox = outbox.status();
    Figures {
        taken,
        sent: outbox.sent,
        resent: outbox.resent,
        dropped: outbox.dropped,
        outbox_samples: outbox.held,
        outbox_bytes: outbox.held_bytes,
        outbox_disk_samples: outbox.on_disk,
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
    use std::sync::Arc;

    use hostbus_daemon::clock;
    use hostbus_wire::Sample;
    use hostbus_wire::sample::Cpu;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio::sync::Notify;

    use super::*;
    use crate::heartbeat::Heartbeat;
    use crate::outbox::{Found, Persist};
    use crate::sampler::Reading;

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
        let answer = [0x90, 6, packet[2], packet[3], 0, 1, 1, 0];
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
        let (_own, settings) = watch::channel(Tuning::new(&config));
        let (tuning, _tuned) = watch::channel(Tuning::new(&config));
        let fresh = Arc::new(Notify::new());
        let pulse = Heartbeat::new().pulse();
        let inputs = Inputs {
            taken,
            settings,
            pulse,
        };
        let orders = Orders { tuning, fresh };
        let disk = (None, beginning);
        let uplink = Uplink::open(&config, &bus, &path, disk, inputs, orders).unwrap();
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
