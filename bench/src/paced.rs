//! Publishers that send at an even pace, as real ones do, and how late their samples are.
//!
//! A sample's time is the moment it is made. It counts as stored when the mark that covers it is
//! back at its publisher: a mark is sent only after Redis has answered, so what is told here is no
//! less than the time from the sample to Redis.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::ensure;
use bytes::BytesMut;
use hostbus_daemon::clock;
use hostbus_wire::committed::Committed;
use hostbus_wire::{NodePath, NodeTopic, TopicRoot};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use crate::load::Variants;
use crate::packet;

/// How many connect at the same time: fewer than a listener's backlog.
const CONNECT_AT_ONCE: usize = 50;
/// Who hears of no progress for so long sends again what is not committed, and waits twice as long
/// the next time.
const STALLED: Duration = Duration::from_secs(5);
/// Who hears of no progress for so long gives up, and the measurement fails.
const LOST: Duration = Duration::from_secs(60);
/// Lateness beyond this counts as this.
const LATEST_MS: usize = 60_000;

/// What all publishers have in common.
pub(crate) struct Plan {
    pub(crate) address: String,
    pub(crate) variants: Variants,
    pub(crate) interval: Duration,
    pub(crate) boot: u64,
    pub(crate) tally: Tally,
}

/// What all publishers count together.
#[derive(Debug)]
pub(crate) struct Tally {
    pub(crate) made: AtomicU64,
    pub(crate) committed: AtomicU64,
    pub(crate) sent_again: AtomicU64,
    /// Samples by lateness in ms, of the whole time.
    late: Vec<AtomicU64>,
    /// The latest since somebody looked.
    worst_ms: AtomicU64,
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            made: AtomicU64::default(),
            committed: AtomicU64::default(),
            sent_again: AtomicU64::default(),
            late: (0..=LATEST_MS).map(|_| AtomicU64::default()).collect(),
            worst_ms: AtomicU64::default(),
        }
    }
}

impl Tally {
    fn take(&self, late_ms: u64) {
        let place = usize::try_from(late_ms).map_or(LATEST_MS, |ms| ms.min(LATEST_MS));
        self.late[place].fetch_add(1, Ordering::Relaxed);
        self.worst_ms.fetch_max(late_ms, Ordering::Relaxed);
        self.committed.fetch_add(1, Ordering::Relaxed);
    }

    /// The worst lateness since the last call.
    pub(crate) fn worst_ms_since(&self) -> u64 {
        self.worst_ms.swap(0, Ordering::Relaxed)
    }

    /// The lateness that `share` of all samples stay within, in ms.
    pub(crate) fn late_ms(&self, share: f64) -> usize {
        let all: u64 = self
            .late
            .iter()
            .map(|count| count.load(Ordering::Relaxed))
            .sum();
        let (mut seen, wanted) = (0, all as f64 * share);
        for (ms, count) in self.late.iter().enumerate() {
            seen += count.load(Ordering::Relaxed);
            if seen as f64 >= wanted {
                return ms;
            }
        }
        LATEST_MS
    }

    /// How many samples were later than this.
    pub(crate) fn later_than(&self, ms: usize) -> u64 {
        let late = self.late.get(ms + 1..).unwrap_or_default();
        late.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }
}

/// A publisher that is connected and hears of its marks.
pub(crate) struct Publisher {
    stream: TcpStream,
    input: BytesMut,
    path: NodePath,
    /// Samples that no mark covers yet, with their times.
    waiting: VecDeque<(u64, u64)>,
    seq: u64,
    progress: Instant,
    patience: Duration,
}

/// Connects `count` publishers.
pub(crate) async fn connect(plan: &Arc<Plan>, count: u32) -> anyhow::Result<Vec<Publisher>> {
    let slots = Arc::new(Semaphore::new(CONNECT_AT_ONCE));
    let mut connecting = JoinSet::new();
    for number in 0..count {
        let (plan, slots) = (Arc::clone(plan), Arc::clone(&slots));
        connecting.spawn(async move {
            let _slot = slots.acquire_owned().await?;
            Publisher::connect(&plan, path(number)?).await
        });
    }
    let mut publishers = Vec::with_capacity(connecting.len());
    while let Some(publisher) = connecting.join_next().await {
        publishers.push(publisher??);
    }
    Ok(publishers)
}

/// The path of the publisher `number`.
pub(crate) fn path(number: u32) -> anyhow::Result<NodePath> {
    Ok(format!("bench.n{number}").parse()?)
}

/// Has all of them send until `until`, spread evenly over the interval. Ends when all is committed.
pub(crate) fn start(
    plan: &Arc<Plan>,
    publishers: Vec<Publisher>,
    until: Instant,
) -> JoinSet<anyhow::Result<()>> {
    let begun = Instant::now();
    let count = publishers.len() as f64;
    let mut running = JoinSet::new();
    for (number, publisher) in publishers.into_iter().enumerate() {
        let first = begun + plan.interval.mul_f64(number as f64 / count);
        running.spawn(publisher.run(Arc::clone(plan), first, until));
    }
    running
}

impl Publisher {
    async fn connect(plan: &Plan, path: NodePath) -> anyhow::Result<Self> {
        let mut stream = TcpStream::connect(&plan.address).await?;
        stream.set_nodelay(true)?;
        // A small buffer: there are many of these.
        let mut input = BytesMut::with_capacity(256);
        stream
            .write_all(&packet::connect(&path.to_string()))
            .await?;
        let ack = packet::next(&mut stream, &mut input).await?;
        ensure!(ack.get(3) == Some(&0), "the broker refused {path}");
        let committed = NodeTopic::Committed.text(&TopicRoot::default(), &path);
        stream.write_all(&packet::subscribe(&committed)).await?;
        let ack = packet::next(&mut stream, &mut input).await?;
        ensure!(
            ack.first() == Some(&0x90),
            "no answer to the subscription of {path}"
        );
        Ok(Self {
            stream,
            input,
            path,
            waiting: VecDeque::new(),
            seq: 0,
            progress: Instant::now(),
            patience: STALLED,
        })
    }

    async fn run(mut self, plan: Arc<Plan>, first: Instant, until: Instant) -> anyhow::Result<()> {
        let topic = NodeTopic::Metrics.text(&TopicRoot::default(), &self.path);
        let mut next = first;
        loop {
            let over = next >= until;
            if over && self.waiting.is_empty() {
                return Ok(());
            }
            if !over && Instant::now() >= next {
                next += plan.interval;
                self.make(&plan, &topic).await?;
                continue;
            }
            let patience = self.progress + self.patience;
            let wake = if over {
                patience
            } else if self.waiting.is_empty() {
                next
            } else {
                next.min(patience)
            };
            match timeout_at(wake, self.stream.read_buf(&mut self.input)).await {
                Ok(read) => ensure!(
                    read? > 0,
                    "the broker closed the connection of {}",
                    self.path
                ),
                Err(_) => self.look_for_progress(&plan, &topic).await?,
            }
            while let Some(arrived) = packet::split(&mut self.input)? {
                if arrived[0] >> 4 == 3 && self.take(&plan, &packet::mark(&arrived)?) {
                    self.send_waiting(&plan, &topic).await?;
                }
            }
        }
    }

    /// Makes a sample and sends it.
    async fn make(&mut self, plan: &Plan, topic: &str) -> anyhow::Result<()> {
        if self.waiting.is_empty() {
            self.progress = Instant::now();
        }
        self.seq += 1;
        self.waiting.push_back((self.seq, clock::unix_ms()));
        plan.tally.made.fetch_add(1, Ordering::Relaxed);
        self.send(plan, topic, self.waiting.len() - 1).await
    }

    /// Sends what waits, from the place `from` on.
    async fn send(&mut self, plan: &Plan, topic: &str, from: usize) -> anyhow::Result<()> {
        let first = self.waiting.front().map_or(self.seq, |(seq, _)| *seq);
        let mut output = Vec::new();
        for (seq, ts) in self.waiting.range(from..) {
            let mut payload = Vec::with_capacity(1100);
            plan.variants
                .write(&mut payload, *ts, plan.boot, *seq, first);
            // Retained, as the contract says.
            packet::publish(&mut output, 0x31, topic, &payload);
        }
        self.stream.write_all(&output).await?;
        Ok(())
    }

    /// Takes a mark. True: what waits is to be sent again.
    fn take(&mut self, plan: &Plan, mark: &Committed) -> bool {
        if mark.boot != plan.boot {
            return false;
        }
        let now_ms = clock::unix_ms();
        while let Some((seq, ts)) = self.waiting.front().copied()
            && seq <= mark.seq
        {
            self.waiting.pop_front();
            (self.progress, self.patience) = (Instant::now(), STALLED);
            plan.tally.take(now_ms.saturating_sub(ts));
        }
        mark.resend && !self.waiting.is_empty()
    }

    async fn look_for_progress(&mut self, plan: &Plan, topic: &str) -> anyhow::Result<()> {
        let oldest = self.waiting.front().map(|(_, ts)| *ts);
        let Some(oldest) = oldest.filter(|_| self.progress.elapsed() >= self.patience) else {
            return Ok(());
        };
        let waited_ms = u128::from(clock::unix_ms().saturating_sub(oldest));
        ensure!(
            waited_ms < LOST.as_millis(),
            "{} heard of no progress for {} s",
            self.path,
            LOST.as_secs()
        );
        self.patience *= 2;
        self.send_waiting(plan, topic).await
    }

    async fn send_waiting(&mut self, plan: &Plan, topic: &str) -> anyhow::Result<()> {
        self.progress = Instant::now();
        let again = self.waiting.len() as u64;
        plan.tally.sent_again.fetch_add(again, Ordering::Relaxed);
        self.send(plan, topic, 0).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lateness_is_told_by_share_and_by_bound() {
        let tally = Tally::default();
        for late_ms in 1..=100 {
            tally.take(late_ms);
        }
        assert_eq!(tally.late_ms(0.5), 50);
        assert_eq!(tally.late_ms(1.0), 100);
        assert_eq!(tally.later_than(98), 2);
        tally.take(u64::MAX);
        assert_eq!(tally.late_ms(1.0), LATEST_MS);
        assert_eq!(tally.later_than(LATEST_MS - 1), 1);
        assert_eq!(tally.worst_ms_since(), u64::MAX);
        assert_eq!(tally.worst_ms_since(), 0);
    }
}
