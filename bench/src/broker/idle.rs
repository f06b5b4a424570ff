//! Connections that do nothing, and what memory they cost.

use std::time::Duration;

use anyhow::ensure;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::machine;
use super::packet::{self, Version};
use super::server::{Program, Server};

/// How many connect at the same time: fewer than a listener's backlog.
const AT_ONCE: usize = 50;

/// Until memory has settled.
const SETTLED: Duration = Duration::from_millis(700);

/// What idle connections cost.
#[derive(Debug, Clone)]
pub(crate) struct Figures {
    pub(crate) connections: usize,
    /// Of the broker without a client.
    pub(crate) resident_bytes: u64,
    pub(crate) bytes_per_connection: f64,
}

/// Measures a fresh process of `program` with each number of connections.
pub(crate) fn run(program: &Program, counts: &[usize]) -> anyhow::Result<Vec<Figures>> {
    let open_files = machine::raise_open_files();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let mut all = Vec::new();
    for &connections in counts {
        ensure!(
            open_files > connections as u64 + 200,
            "{connections} connections need a limit on open files above {open_files}: `ulimit -Hn`"
        );
        all.push(runtime.block_on(measure(program, connections))?);
    }
    Ok(all)
}

async fn measure(program: &Program, connections: usize) -> anyhow::Result<Figures> {
    let server = Server::start(program)?;
    tokio::time::sleep(SETTLED).await;
    let resident_bytes = server.resident_bytes()?;
    let mut streams: Vec<TcpStream> = Vec::with_capacity(connections);
    let mut connecting = JoinSet::new();
    for number in 0..connections {
        let address = server.address.clone();
        connecting.spawn(async move {
            packet::connect(&address, Version::V311, &format!("idle-{number}")).await
        });
        while connecting.len() >= AT_ONCE
            && let Some(stream) = connecting.join_next().await
        {
            streams.push(stream??);
        }
    }
    while let Some(stream) = connecting.join_next().await {
        streams.push(stream??);
    }
    tokio::time::sleep(SETTLED).await;
    let more = server.resident_bytes()?.saturating_sub(resident_bytes);
    Ok(Figures {
        connections,
        resident_bytes,
        bytes_per_connection: more as f64 / streams.len() as f64,
    })
}
