//! What is known of each node from its last sample and status. Draws nothing.

use std::collections::BTreeMap;

use hostbus_client::Message;
use hostbus_wire::status::Status;
use hostbus_wire::{NodePath, NodeTopic, Sample, Topic, TopicRoot};
use serde::Serialize;

/// The nodes heard of so far.
pub(crate) struct Nodes {
    root: TopicRoot,
    nodes: BTreeMap<NodePath, Node>,
    /// Whether the bus is there.
    pub(crate) connected: bool,
}

#[derive(Default)]
struct Node {
    status: Option<Status>,
    sample: Option<Sample>,
}

/// One row of the table. What is unknown is absent.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Summary {
    pub(crate) node: String,
    /// `online`, `offline` or absent.
    pub(crate) status: Option<&'static str>,
    /// Time since the last sample was taken.
    pub(crate) age_ms: Option<u64>,
    pub(crate) interval_ms: Option<u32>,
    pub(crate) cpu_percent: Option<f64>,
    pub(crate) memory_percent: Option<f64>,
    /// The fullest filesystem.
    pub(crate) disk_percent: Option<f64>,
    pub(crate) disk_name: Option<String>,
    /// All interfaces together.
    pub(crate) rx_bytes_per_second: Option<u64>,
    pub(crate) tx_bytes_per_second: Option<u64>,
    /// The busiest GPU.
    pub(crate) gpu_percent: Option<f64>,
    pub(crate) load1: Option<f64>,
}

impl Nodes {
    pub(crate) fn new(root: TopicRoot) -> Self {
        Self {
            root,
            nodes: BTreeMap::new(),
            connected: false,
        }
    }

    /// Takes a message; what is no status or sample of a node is passed over.
    pub(crate) fn take(&mut self, message: &Message) {
        let Ok(Topic::Node(path, what)) = Topic::parse(&self.root, &message.topic) else {
            return;
        };
        match what {
            NodeTopic::Status => {
                if let Ok(status) = Status::decode(&message.payload) {
                    self.nodes.entry(path).or_default().status = Some(status);
                }
            }
            NodeTopic::Metrics => {
                let Ok(sample) = Sample::decode(&message.payload) else {
                    return;
                };
                let node = self.nodes.entry(path).or_default();
                // A sample that is sent again must not hide a newer one.
                if node.sample.as_ref().is_none_or(|last| last.ts <= sample.ts) {
                    node.sample = Some(sample);
                }
            }
            _ => {}
        }
    }

    /// The rows of the table, by site and node.
    pub(crate) fn summaries(&self, now_ms: u64) -> Vec<Summary> {
        self.nodes
            .iter()
            .map(|(path, node)| node.summary(path, now_ms))
            .collect()
    }
}

impl Node {
    fn summary(&self, path: &NodePath, now_ms: u64) -> Summary {
        let sample = self.sample.as_ref();
        let fullest = sample.and_then(|sample| {
            let known = sample
                .filesystems
                .iter()
                .filter(|fs| fs.used_percent.is_some());
            known.max_by(|a, b| {
                a.used_percent
                    .unwrap_or(0.0)
                    .total_cmp(&b.used_percent.unwrap_or(0.0))
            })
        });
        let total = |of: fn(&hostbus_wire::sample::Network) -> Option<u64>| {
            let mut known = sample?.networks.iter().filter_map(of).peekable();
            known.peek()?;
            Some(known.fold(0, u64::saturating_add))
        };
        let cpu = sample.and_then(|sample| sample.cpu.as_ref());
        Summary {
            node: path.to_string(),
            status: self.status.map(Status::as_str),
            age_ms: sample.and_then(|sample| Some(now_ms.saturating_sub(sample.ts?))),
            interval_ms: sample.and_then(|sample| sample.interval_ms),
            cpu_percent: cpu.and_then(|cpu| cpu.usage_percent),
            memory_percent: sample.and_then(|sample| sample.memory.as_ref()?.used_percent),
            disk_percent: fullest.and_then(|fs| fs.used_percent),
            disk_name: fullest.map(|fs| fs.name.to_string()),
            rx_bytes_per_second: total(|network| network.rx_bytes_per_second),
            tx_bytes_per_second: total(|network| network.tx_bytes_per_second),
            gpu_percent: sample.and_then(|sample| {
                sample
                    .gpus
                    .iter()
                    .filter_map(|gpu| gpu.usage_percent)
                    .max_by(f64::total_cmp)
            }),
            load1: cpu.and_then(|cpu| cpu.load1),
        }
    }
}

#[cfg(test)]
mod tests {
    use hostbus_wire::sample::{Cpu, Filesystem, Network};

    use super::*;

    fn message(topic: &str, payload: Vec<u8>) -> Message {
        Message {
            topic: topic.to_owned(),
            payload: payload.into(),
            retained: false,
        }
    }

    fn sample(ts: u64, usage: f64) -> Vec<u8> {
        let mut cpu = Cpu::new();
        cpu.usage_percent = Some(usage);
        let filesystem = |name: &str, used| {
            let mut filesystem = Filesystem::new(name.parse().unwrap(), None, None);
            filesystem.used_percent = used;
            filesystem
        };
        let network = |name: &str, rx| Network {
            rx_bytes_per_second: rx,
            ..Network::new(name.parse().unwrap())
        };
        let sample = Sample {
            ts: Some(ts),
            cpu: Some(cpu),
            filesystems: vec![
                filesystem("/", Some(20.0)),
                filesystem("/data", Some(90.0)),
                filesystem("/x", None),
            ],
            networks: vec![
                network("a", Some(5)),
                network("b", Some(6)),
                network("c", None),
            ],
            ..Sample::default()
        };
        hostbus_wire::encode(&sample).unwrap()
    }

    #[test]
    fn a_row_shows_the_fullest_filesystem_and_all_networks_together() {
        let mut nodes = Nodes::new(TopicRoot::default());
        nodes.take(&message("hostbus/v1/home/b/metrics", sample(1_000, 12.5)));
        nodes.take(&message("hostbus/v1/home/b/status", b"online".to_vec()));
        nodes.take(&message("hostbus/v1/home/a/status", b"offline".to_vec()));
        let rows = nodes.summaries(3_500);
        assert_eq!(rows.len(), 2);
        assert_eq!(
            (rows[0].node.as_str(), rows[0].status),
            ("home.a", Some("offline"))
        );
        assert_eq!(rows[0].cpu_percent, None);
        let b = &rows[1];
        assert_eq!(
            (b.status, b.age_ms, b.cpu_percent),
            (Some("online"), Some(2_500), Some(12.5))
        );
        assert_eq!(
            (b.disk_percent, b.disk_name.as_deref()),
            (Some(90.0), Some("/data"))
        );
        assert_eq!(
            (b.rx_bytes_per_second, b.tx_bytes_per_second),
            (Some(11), None)
        );
    }

    #[test]
    fn an_older_sample_or_rubbish_never_hides_a_newer_one() {
        let mut nodes = Nodes::new(TopicRoot::default());
        nodes.take(&message("hostbus/v1/home/a/metrics", sample(2_000, 50.0)));
        nodes.take(&message("hostbus/v1/home/a/metrics", sample(1_000, 1.0)));
        nodes.take(&message("hostbus/v1/home/a/metrics", b"rubbish".to_vec()));
        nodes.take(&message("hostbus/v1/home/a/status", b"perhaps".to_vec()));
        nodes.take(&message("elsewhere", sample(9_000, 1.0)));
        let rows = nodes.summaries(2_000);
        assert_eq!(rows.len(), 1);
        assert_eq!((rows[0].cpu_percent, rows[0].status), (Some(50.0), None));
    }
}
