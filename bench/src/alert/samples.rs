//! Samples at an even pace over many nodes. At random times one crosses the threshold; the next one of its
//! node is as usual again.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use bytes::BytesMut;
use hostbus_daemon::clock;
use hostbus_wire::encode;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::sleep;

use super::settings::{CHANNELS, SENSOR, THRESHOLD, node};
use super::sink::{self, Pending};
use crate::load::{self, Numbers, Variants};
use crate::packet;

/// How often samples are written.
const PACE: Duration = Duration::from_millis(1);
/// The longest time between two crossings; half of it lies between them on average.
const CROSSING_MS: f64 = 300.0;
/// How long a channel is left alone after a crossing: what comes faster would be put together.
const CHANNEL_REST: Duration = Duration::from_millis(12_500);

/// All nodes behind one connection.
pub(super) struct Samples {
    stream: TcpStream,
    usual: Variants,
    hot: Variants,
    boot: u64,
    topics: Vec<String>,
    /// The number of the last sample of each node.
    seqs: Vec<u64>,
    /// The node that is next.
    next: usize,
    /// When each channel was told of a crossing.
    crossed: Vec<Option<Instant>>,
    numbers: Numbers,
}

impl Samples {
    pub(super) async fn connect(address: &str, nodes: usize) -> anyhow::Result<Self> {
        let mut stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        stream.write_all(&packet::connect("bench-alert")).await?;
        let ack = packet::next(&mut stream, &mut BytesMut::new()).await?;
        ensure!(ack.get(3) == Some(&0), "the broker refused the generator");
        Ok(Self {
            stream,
            usual: Variants::new(256)?,
            hot: hot()?,
            boot: clock::unix_ms() / 1000,
            topics: (0..nodes)
                .map(|number| format!("hostbus/v1/home/{}/metrics", node(number)))
                .collect(),
            seqs: vec![0; nodes],
            next: 0,
            crossed: vec![None; CHANNELS],
            numbers: Numbers::new(7),
        })
    }

    /// Lets the first node be as usual, and then cross the threshold.
    pub(super) async fn probe(&mut self, pending: &Mutex<Pending>) -> anyhow::Result<()> {
        let mut output = Vec::new();
        self.write(0, false, &mut output);
        self.write(0, true, &mut output);
        self.cross(0, pending);
        self.stream.write_all(&output).await?;
        Ok(())
    }

    /// Sends one usual sample of each node, `rate` a second.
    pub(super) async fn round(&mut self, rate: u32) -> anyhow::Result<()> {
        let mut output = Vec::new();
        let pause = Duration::from_secs(1) / rate * 100;
        for number in 0..self.seqs.len() {
            self.write(number, false, &mut output);
            if output.len() > 64 * 1024 || number + 1 == self.seqs.len() {
                self.stream.write_all(&output).await?;
                output.clear();
                sleep(pause).await;
            }
        }
        Ok(())
    }

    /// Sends `rate` samples a second for `length`. Returns how many those were.
    pub(super) async fn send(
        &mut self,
        rate: u32,
        length: Duration,
        pending: &Mutex<Pending>,
    ) -> anyhow::Result<u64> {
        let begun = Instant::now();
        let mut sent = 0;
        let mut cross_at = begun + self.pause();
        let mut output = Vec::new();
        while begun.elapsed() < length {
            let due = begun.elapsed().as_millis() * u128::from(rate) / 1000;
            while u128::from(sent) < due {
                let number = self.next;
                self.next = (number + 1) % self.seqs.len();
                let crosses = Instant::now() >= cross_at && self.may_cross(number);
                if crosses {
                    // What stands before it in the buffer goes first, so that its time is its own.
                    self.stream.write_all(&output).await?;
                    output.clear();
                    self.cross(number, pending);
                    cross_at = Instant::now() + self.pause();
                }
                self.write(number, crosses, &mut output);
                sent += 1;
            }
            self.stream.write_all(&output).await?;
            output.clear();
            sleep(PACE).await;
        }
        Ok(sent)
    }

    fn pause(&mut self) -> Duration {
        Duration::from_secs_f64(self.numbers.up_to(CROSSING_MS) / 1e3)
    }

    fn may_cross(&self, number: usize) -> bool {
        let last = self.crossed[number % CHANNELS];
        last.is_none_or(|last| last.elapsed() >= CHANNEL_REST)
    }

    fn cross(&mut self, number: usize, pending: &Mutex<Pending>) {
        let now = Instant::now();
        self.crossed[number % CHANNELS] = Some(now);
        sink::of(pending).crossed.insert(node(number), now);
    }

    /// Appends the next sample of a node.
    fn write(&mut self, number: usize, crosses: bool, output: &mut Vec<u8>) {
        self.seqs[number] += 1;
        let variants = if crosses { &self.hot } else { &self.usual };
        let mut payload = Vec::with_capacity(1100);
        let seq = self.seqs[number];
        variants.write(&mut payload, clock::unix_ms(), self.boot, seq, 1);
        // Retained, as the contract says.
        packet::publish(output, 0x31, &self.topics[number], &payload);
    }
}

/// Samples that cross the threshold.
fn hot() -> anyhow::Result<Variants> {
    let mut sample = load::sample(1);
    let sensor = sample
        .sensors
        .iter_mut()
        .find(|sensor| sensor.name.as_str() == SENSOR);
    let sensor = sensor.context("the sample has no such sensor")?;
    sensor.celsius = Some(THRESHOLD + 1.0);
    Ok(Variants::of(vec![encode(&sample)?]))
}
