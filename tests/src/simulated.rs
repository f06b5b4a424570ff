//! A publisher whose samples the test chooses: it keeps each sample until the committed mark covers
//! it, as the contract says, and sends the rest again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::ensure;
use hostbus_client::{BusConfig, Connection, Event, Options, Sender};
use hostbus_daemon::clock;
use hostbus_wire::committed::Committed;
use hostbus_wire::sample::Custom;
use hostbus_wire::{NodePath, NodeTopic, QoS, Sample, decode, encode};
use tokio::time::{Instant, interval};

use crate::poll;

/// How long it waits for a mark before it sends again.
const PATIENCE: Duration = Duration::from_secs(2);
/// How many samples it sends again at once.
const BURST: usize = 200;

/// A simulated publisher that runs. Its samples carry their own number as the custom value `seq`.
#[derive(Debug)]
pub struct Simulated {
    stop: Arc<AtomicBool>,
    taken: Arc<AtomicU64>,
    thread: JoinHandle<u64>,
}

impl Simulated {
    /// Starts one for `node`, with a sample each `every`.
    ///
    /// # Panics
    /// The settings of the bus are wrong.
    #[must_use]
    pub fn start(bus: BusConfig, node: &str, every: Duration) -> Self {
        let node: NodePath = node.parse().expect("a node");
        let stop = Arc::new(AtomicBool::new(false));
        let taken = Arc::new(AtomicU64::new(0));
        let (told, counted) = (Arc::clone(&stop), Arc::clone(&taken));
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("failed to start tokio");
            runtime.block_on(run(bus, node, every, told, counted))
        });
        Self {
            stop,
            taken,
            thread,
        }
    }

    /// How many samples it has taken so far.
    #[must_use]
    pub fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }

    /// Waits until it has taken `more` samples: a measure of time that does not depend on how fast
    /// the rest is.
    #[track_caller]
    pub fn wait_for(&self, more: u64) {
        let goal = self.taken() + more;
        poll::until("more samples", || {
            ensure!(self.taken() >= goal, "{} of {goal}", self.taken());
            Ok(())
        });
    }

    /// Takes no more samples, waits until all are committed, and tells how many there were.
    ///
    /// # Panics
    /// They are not committed before the deadline.
    #[track_caller]
    pub fn finish(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        poll::until("the committed mark of the last sample", || {
            ensure!(self.thread.is_finished(), "samples are still waiting");
            Ok(())
        });
        self.thread.join().expect("the simulated publisher failed")
    }
}

struct Outbox {
    topic: String,
    boot: u64,
    /// The times of all samples; the sample `seq` has the index `seq - 1`.
    times: Vec<u64>,
    /// The last sample that is committed.
    committed: usize,
    /// When the mark last rose, or samples were sent again.
    since: Instant,
}

async fn run(
    bus: BusConfig,
    node: NodePath,
    every: Duration,
    stop: Arc<AtomicBool>,
    taken: Arc<AtomicU64>,
) -> u64 {
    let mark = NodeTopic::Committed.text(&bus.root, &node);
    let options = Options {
        component: "simulated".to_owned(),
        filters: vec![(mark, QoS::AtMostOnce)],
        will: None,
        ..Options::default()
    };
    let mut connection = Connection::open(&bus, options).expect("the settings of the bus");
    let sender = connection.sender();
    let mut outbox = Outbox {
        topic: NodeTopic::Metrics.text(&bus.root, &node),
        boot: clock::unix_ms() / 1000,
        times: Vec::new(),
        committed: 0,
        since: Instant::now(),
    };
    let mut sampling = interval(every);
    let mut looking = interval(Duration::from_millis(100));
    loop {
        tokio::select! {
            event = connection.next() => match event {
                Event::Connected => outbox.send_again(&sender).await,
                Event::Disconnected => {}
                Event::Message(message) => {
                    let mark: Committed = decode(&message.payload).expect("a committed mark");
                    if outbox.take(mark) {
                        outbox.send_again(&sender).await;
                    }
                }
            },
            _ = sampling.tick() => if !stop.load(Ordering::Relaxed) {
                let last = outbox.times.last().copied().unwrap_or_default();
                outbox.times.push(clock::unix_ms().max(last + 1));
                taken.store(outbox.times.len() as u64, Ordering::Relaxed);
                outbox.send(&sender, outbox.times.len()).await;
            },
            _ = looking.tick() => {
                if outbox.since.elapsed() > PATIENCE {
                    outbox.send_again(&sender).await;
                }
                if stop.load(Ordering::Relaxed) && outbox.committed == outbox.times.len() {
                    connection.close().await;
                    return outbox.times.len() as u64;
                }
            }
        }
    }
}

impl Outbox {
    /// Notes a mark. Tells whether the ingester wants the rest again.
    fn take(&mut self, mark: Committed) -> bool {
        if mark.boot == self.boot {
            let seq = usize::try_from(mark.seq).expect("a small number");
            assert!(
                seq <= self.times.len(),
                "a mark for a sample that was never taken"
            );
            if seq > self.committed {
                self.committed = seq;
                self.since = Instant::now();
            }
        }
        mark.resend
    }

    async fn send_again(&mut self, sender: &Sender) {
        self.since = Instant::now();
        let first = self.committed + 1;
        for seq in first..=self.times.len().min(self.committed + BURST) {
            self.send(sender, seq).await;
        }
    }

    async fn send(&self, sender: &Sender, seq: usize) {
        let mut number = Custom::new("seq".parse().expect("a name"));
        number.value = Some(seq as f64);
        let sample = Sample {
            ts: Some(self.times[seq - 1]),
            boot: Some(self.boot),
            seq: Some(seq as u64),
            first: Some(self.committed as u64 + 1),
            custom: vec![number],
            ..Sample::default()
        };
        let payload = encode(&sample).expect("a sample can be encoded");
        // Without a connection it is sent after the next connect.
        let _ = sender
            .publish(&*self.topic, QoS::AtMostOnce, true, payload)
            .await;
    }
}
