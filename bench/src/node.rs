//! One simulated node: an MQTT 3.1.1 connection that keeps the outbox rules.
//!
//! It speaks the few packets it needs by itself, so that what is measured is the pipeline and not
//! a client library. It sends as fast as the window of uncommitted samples allows, goes back when
//! the ingester asks for it, and ends when its last sample is committed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::ensure;
use bytes::BytesMut;
use hostbus_wire::committed::Committed;
use hostbus_wire::{NodePath, NodeTopic, TopicRoot};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::load::Variants;
use crate::packet::{self, publish};

/// What all nodes count together.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// Samples committed.
    pub(crate) committed: AtomicU64,
    /// Samples sent, again or for the first time.
    pub(crate) sent: AtomicU64,
    /// Bytes of payload sent.
    pub(crate) bytes: AtomicU64,
    /// Times that a node went back.
    pub(crate) rewinds: AtomicU64,
}

/// What all nodes have in common.
pub(crate) struct Plan {
    pub(crate) address: String,
    pub(crate) variants: Variants,
    /// How many samples may be sent and not yet committed.
    pub(crate) window: u64,
    pub(crate) boot: u64,
    /// The time of the first sample; one every 10 s follows.
    pub(crate) first_ts: u64,
    /// Until when new samples are made.
    pub(crate) until: Instant,
    pub(crate) counts: Counts,
}

/// How much is written in one go.
const BURST_BYTES: usize = 16 * 1024;
/// A node that hears of no progress for so long sends again.
const STALLED: Duration = Duration::from_secs(2);
/// A node that hears of no progress for so long gives up, and the measurement fails.
const LOST: Duration = Duration::from_secs(60);

/// Runs one node until its last sample is committed. Returns how many it made.
pub(crate) async fn run(plan: Arc<Plan>, path: NodePath) -> anyhow::Result<u64> {
    let root = TopicRoot::default();
    let mut stream = TcpStream::connect(&plan.address).await?;
    stream.set_nodelay(true)?;
    let mut input = BytesMut::with_capacity(4096);
    stream
        .write_all(&packet::connect(&path.to_string()))
        .await?;
    let ack = packet::next(&mut stream, &mut input).await?;
    ensure!(
        ack.first() == Some(&0x20) && ack.get(3) == Some(&0),
        "the broker refused {path}"
    );
    stream
        .write_all(&packet::subscribe(&NodeTopic::Committed.text(&root, &path)))
        .await?;
    let ack = packet::next(&mut stream, &mut input).await?;
    ensure!(
        ack.first() == Some(&0x90),
        "no answer to the subscription of {path}"
    );

    let topic = NodeTopic::Metrics.text(&root, &path);
    let mut node = Node {
        committed: 0,
        next: 1,
        highest: 0,
        progress: Instant::now(),
        rewound: Instant::now(),
    };
    let mut output = Vec::with_capacity(BURST_BYTES * 2);
    loop {
        let over = Instant::now() >= plan.until;
        if over && node.committed == node.highest {
            return Ok(node.highest);
        }
        output.clear();
        while node.may_send(&plan, over) && output.len() < BURST_BYTES {
            node.write(&plan, &topic, &mut output);
        }
        if !output.is_empty() {
            stream.write_all(&output).await?;
        }
        // With something to send, only look at what has come; else wait for it.
        let patience = if node.may_send(&plan, over) {
            Duration::ZERO
        } else {
            STALLED
        };
        match tokio::time::timeout(patience, stream.read_buf(&mut input)).await {
            Ok(read) => ensure!(read? > 0, "the broker closed the connection of {path}"),
            Err(_) if node.progress.elapsed() > LOST => {
                anyhow::bail!("{path} heard of no progress for {} s", LOST.as_secs());
            }
            Err(_) if node.is_stalled() => node.rewind(&plan),
            Err(_) => {}
        }
        while let Some(arrived) = packet::split(&mut input)? {
            if arrived[0] >> 4 == 3 {
                node.take(&plan, &packet::mark(&arrived)?);
            }
        }
    }
}

struct Node {
    committed: u64,
    /// The next to send.
    next: u64,
    /// The last that was made.
    highest: u64,
    progress: Instant,
    /// When it last went back: what it then sends again needs its time.
    rewound: Instant,
}

impl Node {
    fn may_send(&self, plan: &Plan, over: bool) -> bool {
        let last = if over { self.highest } else { u64::MAX };
        self.next <= last && self.next <= self.committed + plan.window
    }

    fn write(&mut self, plan: &Plan, topic: &str, output: &mut Vec<u8>) {
        let mut payload = Vec::with_capacity(1100);
        let ts = plan.first_ts + self.next * 10_000;
        plan.variants
            .write(&mut payload, ts, plan.boot, self.next, self.committed + 1);
        // Retained, as the contract says.
        publish(output, 0x31, topic, &payload);
        plan.counts.sent.fetch_add(1, Ordering::Relaxed);
        plan.counts
            .bytes
            .fetch_add(payload.len() as u64, Ordering::Relaxed);
        self.highest = self.highest.max(self.next);
        self.next += 1;
    }

    fn take(&mut self, plan: &Plan, mark: &Committed) {
        if mark.boot != plan.boot {
            return;
        }
        if mark.seq > self.committed {
            plan.counts
                .committed
                .fetch_add(mark.seq - self.committed, Ordering::Relaxed);
            self.committed = mark.seq;
            self.next = self.next.max(self.committed + 1);
            self.progress = Instant::now();
        }
        if mark.resend && self.next > self.committed + 1 {
            self.rewind(plan);
        }
    }

    fn is_stalled(&self) -> bool {
        let quiet = self.progress.elapsed().min(self.rewound.elapsed());
        quiet > STALLED && self.next > self.committed + 1
    }

    fn rewind(&mut self, plan: &Plan) {
        self.next = self.committed + 1;
        self.rewound = Instant::now();
        plan.counts.rewinds.fetch_add(1, Ordering::Relaxed);
    }
}
