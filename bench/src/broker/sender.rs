//! Publishers: at an even pace from a thread of their own, or as fast as the round allows.

use std::io::{self, Read, Write};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use anyhow::ensure;
use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::flow::{Flow, Shared};
use super::packet::{self, Publishes, Version};

/// Messages that a flat-out publisher writes at once.
pub(crate) const BATCH: u64 = 64;

/// QoS 1 messages of one publisher that are not acknowledged.
const UNACKNOWLEDGED: u64 = 100;

/// A publisher at a pace: its connection and what it sends.
pub(crate) type Paced = (std::net::TcpStream, Publishes);

/// Sends `per_second` messages from all `publishers` in turn until the round is over. A late one is
/// sent at once, so that the pace holds on average. Gives the connections back: closing one with
/// unread acknowledgements would take back what it sent last.
pub(crate) fn pace(
    mut publishers: Vec<Paced>,
    per_second: f64,
    shared: &Shared,
) -> io::Result<Vec<Paced>> {
    let begun = Instant::now();
    let mut answers = [0; 4096];
    for number in 0_u64.. {
        let due = Duration::from_secs_f64(number as f64 / per_second);
        if let Some(wait) = due.checked_sub(begun.elapsed()) {
            std::thread::sleep(wait);
        }
        if shared.is_over() {
            break;
        }
        let place = number as usize % publishers.len();
        let (stream, publishes) = &mut publishers[place];
        // Acknowledgements are not waited for; those that are there make room for others.
        if publishes.are_acknowledged() {
            match stream.read(&mut answers) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        write(stream, publishes.take(1, shared.now_ns()))?;
        shared.sent.fetch_add(1, Relaxed);
    }
    Ok(publishers)
}

fn write(stream: &mut std::net::TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match stream.write(bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                std::thread::sleep(Duration::from_micros(100));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Sends QoS 0 as fast as the flow and the broker allow, until the round is over.
pub(crate) async fn flat_out(
    mut stream: TcpStream,
    mut publishes: Publishes,
    flow: Rc<Flow>,
    shared: Arc<Shared>,
) -> anyhow::Result<()> {
    while !shared.is_over() {
        let count = flow.reserve(&shared, BATCH).await;
        let bytes = publishes.take(count as usize, shared.now_ns());
        stream.write_all(bytes).await?;
        // A write that never waits would keep the receivers from running.
        tokio::task::yield_now().await;
    }
    // The connection stays until all has arrived.
    std::future::pending().await
}

/// Sends QoS 1 as fast as the flow and the acknowledgements allow, until the round is over; takes
/// the acknowledgements that come later too.
pub(crate) async fn acknowledged(
    mut stream: TcpStream,
    version: Version,
    mut publishes: Publishes,
    flow: Rc<Flow>,
    shared: Arc<Shared>,
) -> anyhow::Result<()> {
    let mut input = BytesMut::with_capacity(4096);
    let mut unacknowledged = 0;
    loop {
        let wanted = BATCH.min(UNACKNOWLEDGED - unacknowledged);
        if wanted >= BATCH / 2 && !shared.is_over() {
            let count = flow.reserve(&shared, wanted).await;
            let bytes = publishes.take(count as usize, shared.now_ns());
            stream.write_all(bytes).await?;
            unacknowledged += count;
        }
        let read = stream.read_buf(&mut input).await?;
        ensure!(read > 0, "the broker closed a publisher's connection");
        while let Some((arrived, length)) = packet::split(&input, version)? {
            if arrived == packet::Arrived::Acknowledged {
                unacknowledged -= 1;
            }
            input.advance(length);
        }
    }
}
