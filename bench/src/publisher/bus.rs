//! What the publisher talks to: a broker in a process of its own, and a subscriber that answers each
//! sample with a mark, as an ingester does once it is in Redis. Without marks the publisher would
//! keep every sample and send it again.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use hostbus_client::{BusConfig, Connection, Event, Message, Options, Sender};
use hostbus_wire::committed::Committed;
use hostbus_wire::{Kind, NodePath, NodeTopic, QoS, Sample, TopicRoot, encode};
use tempfile::TempDir;
use tokio_util::task::AbortOnDropHandle;

use super::agent::{Agent, Given};
use crate::parts::Process;

/// The bus of one measurement.
pub(crate) struct Bus {
    address: String,
    /// By the topic of their samples: where their marks go, and what has come.
    publishers: HashMap<String, (String, Given)>,
    subscriber: Option<AbortOnDropHandle<()>>,
    _broker: Process,
    _folder: TempDir,
}

impl Bus {
    pub(crate) fn start() -> anyhow::Result<Self> {
        let folder = tempfile::tempdir().context("failed to make a temporary folder")?;
        let ready = folder.path().join("broker.json");
        let broker = Process::start(&["broker"], &ready)?;
        let ready: serde_json::Value = serde_json::from_slice(&std::fs::read(&ready)?)?;
        let address = ready["mqtt"].as_str();
        Ok(Self {
            address: address.context("no address of the broker")?.to_owned(),
            publishers: HashMap::new(),
            subscriber: None,
            _broker: broker,
            _folder: folder,
        })
    }

    /// Starts one more publisher, with its default collectors.
    pub(crate) fn publisher(
        &mut self,
        program: &Path,
        version: &str,
        interval: Duration,
    ) -> anyhow::Result<Agent> {
        let node = format!("n{}", self.publishers.len() + 1);
        let path: NodePath = format!("bench.{node}").parse()?;
        let name = match self.publishers.len() {
            0 => "hostbus-publisher".to_owned(),
            others => format!("hostbus-publisher ({})", others + 1),
        };
        let arguments = [
            format!("--url=mqtt://{}", self.address),
            "--site=bench".to_owned(),
            format!("--node={node}"),
            format!("--interval={}", interval.as_secs_f64()),
        ];
        let folder = tempfile::tempdir().context("failed to make a temporary folder")?;
        let agent = Agent::start(&name, version, program, folder, &arguments)?;
        let root = TopicRoot::default();
        let marks = NodeTopic::Committed.text(&root, &path);
        self.publishers.insert(
            NodeTopic::Metrics.text(&root, &path),
            (marks, agent.given.clone()),
        );
        Ok(agent)
    }

    /// Begins to take samples and to answer them, until this is dropped.
    pub(crate) fn listen(&mut self) -> anyhow::Result<()> {
        let config = BusConfig {
            url: format!("mqtt://{}", self.address),
            ..BusConfig::default()
        };
        let filters = self.publishers.keys();
        let options = Options {
            component: "bench".to_owned(),
            filters: filters
                .map(|topic| (topic.clone(), QoS::AtMostOnce))
                .collect(),
            will: None,
            ..Options::default()
        };
        let mut connection = Connection::open(&config, options)?;
        let publishers = std::mem::take(&mut self.publishers);
        let task = tokio::spawn(async move {
            let sender = connection.sender();
            loop {
                if let Event::Message(message) = connection.next().await {
                    take(&message, &publishers, &sender).await;
                }
            }
        });
        self.subscriber = Some(AbortOnDropHandle::new(task));
        Ok(())
    }
}

/// Counts a sample and answers it. One that can't be read is not counted, which the measurement sees.
async fn take(message: &Message, publishers: &HashMap<String, (String, Given)>, sender: &Sender) {
    let Some((marks, given)) = publishers.get(&message.topic) else {
        return;
    };
    let Ok(sample) = Sample::decode(&message.payload) else {
        return;
    };
    given.add(sample.points() as u64, message.payload.len() as u64);
    let mark = Committed {
        boot: sample.boot.unwrap_or(0),
        seq: sample.seq.unwrap_or(0),
        resend: false,
    };
    let row = Kind::Committed.row();
    if let Ok(mark) = encode(&mark) {
        // Without a connection no sample comes either: the next one is answered.
        let _ = sender
            .publish(marks.as_str(), row.qos, row.retain, mark)
            .await;
    }
}
