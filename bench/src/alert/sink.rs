//! The webhook: an HTTP endpoint that notes when each crossing is told.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use anyhow::Context;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

const TAKEN: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

/// Crossings on their way, and those that were told.
#[derive(Debug, Default)]
pub(super) struct Pending {
    /// When the last sample of a node crossed the threshold.
    pub(super) crossed: HashMap<String, Instant>,
    /// From the sample to the request, in milliseconds.
    pub(super) told: Vec<f64>,
}

impl Pending {
    fn tell(&mut self, node: &str, at: Instant) {
        if let Some(crossed) = self.crossed.remove(node) {
            let latency = at.saturating_duration_since(crossed);
            self.told.push(latency.as_secs_f64() * 1e3);
        }
    }

    /// The latencies by share.
    pub(super) fn latency(&self) -> Value {
        let mut told = self.told.clone();
        told.sort_by(f64::total_cmp);
        // The least that so many of a hundred stay within.
        let within = |share: usize| {
            let place = (told.len() * share).div_ceil(100).saturating_sub(1);
            told.get(place).copied()
        };
        json!({"p50": within(50), "p99": within(99), "most": within(100)})
    }
}

/// What is pending now.
pub(super) fn of(pending: &Mutex<Pending>) -> MutexGuard<'_, Pending> {
    pending.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts it and returns its address.
pub(super) async fn start(pending: Arc<Mutex<Pending>>) -> anyhow::Result<String> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let url = format!("http://{}/", listener.local_addr()?);
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let pending = Arc::clone(&pending);
            tokio::spawn(async move {
                // A connection that fails costs what it would have told: that is counted as missing.
                let _ = serve(client, &pending).await;
            });
        }
    });
    Ok(url)
}

/// Takes the requests of one connection.
async fn serve(client: TcpStream, pending: &Mutex<Pending>) -> anyhow::Result<()> {
    client.set_nodelay(true)?;
    let mut client = BufReader::new(client);
    loop {
        let mut length = 0;
        loop {
            let mut line = String::new();
            if client.read_line(&mut line).await? == 0 {
                return Ok(());
            }
            match line.trim_end().split_once(':') {
                Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                    length = value.trim().parse()?;
                }
                _ if line.trim_end().is_empty() => break,
                _ => {}
            }
        }
        let mut body = vec![0; length];
        client.read_exact(&mut body).await?;
        let at = Instant::now();
        client.write_all(TAKEN).await?;
        let body: Value = serde_json::from_slice(&body)?;
        let alerts = body["alerts"].as_array().context("a body without alerts")?;
        let mut pending = of(pending);
        for alert in alerts {
            let node = alert["node"].as_str().context("an alert without a node")?;
            let node = node.split_once('.').map_or(node, |(_, node)| node);
            pending.tell(node, at);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn latency_is_told_by_share() {
        let mut pending = Pending::default();
        let begun = Instant::now();
        for number in 1..=200_u32 {
            let node = number.to_string();
            pending.crossed.insert(node.clone(), begun);
            pending.tell(&node, begun + Duration::from_millis(u64::from(number)));
            pending.tell("a stranger", begun);
        }
        let expected = json!({"p50": 100.0, "p99": 198.0, "most": 200.0});
        assert_eq!(pending.latency(), expected);
        assert_eq!(Pending::default().latency()["p99"], Value::Null);
    }
}
