//! `node_exporter`, and the scraper that asks it once an interval.

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use anyhow::Context;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{MissedTickBehavior, interval};

use super::agent::{Agent, Installed};

/// Starts it on a port of loopback, with its default collectors.
pub(crate) fn start(found: &Installed, every: Duration) -> anyhow::Result<Agent> {
    // It takes no port 0.
    let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let folder = tempfile::tempdir().context("failed to make a temporary folder")?;
    let arguments = [format!("--web.listen-address={address}")];
    let name = "node_exporter";
    let agent = Agent::start(name, &found.version, &found.path, folder, &arguments)?;
    let given = agent.given.clone();
    let scraper = tokio::spawn(async move {
        let mut ticks = interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            // A scrape that fails gives no points; the first come before it listens.
            if let Ok(text) = scrape(address).await {
                given.add(points(&text), text.len() as u64);
            }
        }
    });
    Ok(agent.received_by(scraper))
}

/// Its answer, without the compression that Prometheus asks for: less work for it, more bytes.
async fn scrape(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    stream
        .write_all(b"GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n")
        .await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    Ok(text)
}

/// How many values an answer holds: every line of its body that is no comment.
fn points(answer: &str) -> u64 {
    let Some((_, body)) = answer.split_once("\r\n\r\n") else {
        return 0;
    };
    let values = body
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    values.count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_headers_are_no_points() {
        let answer = "HTTP/1.0 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\n\r\n\
            # HELP node_load1 1m load average.\n# TYPE node_load1 gauge\nnode_load1 0.12\n\
            node_cpu_seconds_total{cpu=\"0\",mode=\"idle\"} 14345.5\n";
        assert_eq!(points(answer), 2);
        assert_eq!(points(""), 0);
    }
}
