//! A host whose samples and words a test chooses, and whoever may say something on the bus.

use std::time::Duration;

use hostbus_client::{BusConfig, Connection, Event, Options, Sender, Will};
use hostbus_daemon::{CancellationToken, clock};
use hostbus_wire::sample::{Cpu, Custom};
use hostbus_wire::{NodePath, NodeTopic, QoS, Sample, encode};
use tokio::runtime::Runtime;
use tokio::time::sleep;

/// How long is waited between two tries to publish on a bus that is away.
const AGAIN_AFTER: Duration = Duration::from_millis(50);

/// A client that publishes whatever it is told to, through any outage of the bus.
#[derive(Debug)]
pub struct Speaker {
    runtime: Runtime,
    sender: Sender,
    root: hostbus_wire::TopicRoot,
    token: CancellationToken,
}

impl Speaker {
    /// One who connects as `bus` says.
    ///
    /// # Panics
    /// The settings of the bus are wrong.
    #[must_use]
    pub fn start(bus: &BusConfig, will: Option<Will>) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("failed to start tokio");
        let options = Options {
            component: "speaker".to_owned(),
            will,
            ..Options::default()
        };
        let opened = runtime.block_on(async { Connection::open(bus, options) });
        let mut connection = opened.expect("the settings of the bus");
        let sender = connection.sender();
        let token = CancellationToken::new();
        let ended = token.clone();
        runtime.spawn(async move {
            loop {
                tokio::select! {
                    event = connection.next() => drop::<Event>(event),
                    () = ended.cancelled() => return,
                }
            }
        });
        Self {
            runtime,
            sender,
            root: bus.root.clone(),
            token,
        }
    }

    /// Publishes, and waits until the broker has it: as often as that takes. Gives how often it was
    /// handed to a connection: all but the last were lost before the broker had answered.
    pub fn say(&self, topic: &str, retain: bool, payload: &[u8]) -> usize {
        let topic = format!("{}/home/{topic}", self.root);
        self.runtime.block_on(async {
            let mut times = 0;
            loop {
                times += usize::from(self.sender.is_connected());
                let said = self.sender.publish_acknowledged(
                    topic.as_str(),
                    QoS::AtLeastOnce,
                    retain,
                    payload,
                );
                if let Ok(Ok(())) = tokio::time::timeout(Duration::from_secs(5), said).await {
                    return times;
                }
                sleep(AGAIN_AFTER).await;
            }
        })
    }
}

impl Drop for Speaker {
    fn drop(&mut self) {
        // The connection breaks without a good-bye, as that of a host that dies.
        self.token.cancel();
    }
}

/// A host that publishes samples with the values a test chooses.
#[derive(Debug)]
pub struct Host {
    speaker: Speaker,
    node: NodePath,
    boot: u64,
    seq: u64,
    interval_ms: u32,
}

impl Host {
    /// The publisher of `node`, `home.web1`, with its last will, online.
    ///
    /// # Panics
    /// `node` is no node.
    #[must_use]
    pub fn start(bus: &BusConfig, node: &str, interval_ms: u32) -> Self {
        let node: NodePath = node.parse().expect("a node");
        let will = Will {
            topic: NodeTopic::Status.text(&bus.root, &node),
            payload: b"offline".to_vec(),
            qos: QoS::AtLeastOnce,
            retain: true,
        };
        let host = Self {
            speaker: Speaker::start(bus, Some(will)),
            node,
            boot: clock::unix_ms() / 1000,
            seq: 0,
            interval_ms,
        };
        let topic = format!("{}/status", host.node.node);
        host.speaker.say(&topic, true, b"online");
        host
    }

    /// Publishes a sample whose processor is busy for `percent`, with the custom value `level`.
    pub fn sample(&mut self, percent: f64, level: f64) {
        self.seq += 1;
        let mut cpu = Cpu::new();
        cpu.usage_percent = Some(percent);
        let mut custom = Custom::new("level".parse().expect("a name"));
        custom.value = Some(level);
        let sample = Sample {
            ts: Some(clock::unix_ms()),
            boot: Some(self.boot),
            seq: Some(self.seq),
            first: Some(1),
            interval_ms: Some(self.interval_ms),
            cpu: Some(cpu),
            custom: vec![custom],
            ..Sample::default()
        };
        let payload = encode(&sample).expect("a sample can be written");
        let topic = format!("{}/metrics", self.node.node);
        self.speaker.say(&topic, true, &payload);
    }
}
