//! A subscriber: counts what arrives, acknowledges QoS 1, and notes how long messages took.

use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use anyhow::ensure;
use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;

use super::flow::{Flow, Shared};
use super::packet::{self, Arrived, Version};

/// Receives until the stream ends, which is an error.
pub(crate) async fn run(
    mut stream: TcpStream,
    version: Version,
    flow: Rc<Flow>,
    shared: Arc<Shared>,
) -> anyhow::Result<()> {
    // The beginning of a packet whose end has not come.
    let mut begun = Vec::new();
    let mut acks = Vec::new();
    loop {
        poll_fn(|context| {
            let mut space = flow.space.borrow_mut();
            space[..begun.len()].copy_from_slice(&begun);
            let mut read = ReadBuf::new(&mut space);
            read.advance(begun.len());
            let polled = Pin::new(&mut stream).poll_read(context, &mut read);
            std::task::ready!(polled)?;
            ensure_more(read.filled().len() > begun.len())?;
            let input = read.filled();
            begun.clear();
            Poll::Ready(take(input, version, &flow, &shared, &mut acks, &mut begun))
        })
        .await?;
        if !acks.is_empty() {
            stream.write_all(&acks).await?;
            acks.clear();
        }
    }
}

fn ensure_more(more: bool) -> anyhow::Result<()> {
    ensure!(more, "the broker closed a subscriber's connection");
    Ok(())
}

/// Takes all whole packets in `input`; the rest goes to `begun`.
fn take(
    mut input: &[u8],
    version: Version,
    flow: &Flow,
    shared: &Shared,
    acks: &mut Vec<u8>,
    begun: &mut Vec<u8>,
) -> anyhow::Result<()> {
    let now_ns = shared.now_ns();
    let mut latencies_ns = flow.latencies_ns.borrow_mut();
    let mut messages = 0;
    while let Some((arrived, length)) = packet::split(input, version)? {
        input = &input[length..];
        let Arrived::Message { time_ns, packet_id } = arrived else {
            continue;
        };
        messages += 1;
        if let Some(packet_id) = packet_id {
            packet::puback(acks, packet_id);
        }
        if let Some(latencies_ns) = &mut *latencies_ns {
            latencies_ns.push(now_ns.saturating_sub(time_ns));
        }
    }
    begun.extend_from_slice(input);
    flow.arrived(messages);
    Ok(())
}
