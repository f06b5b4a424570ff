//! collectd between mosquitto and a redis-server of its own.

use std::fs::File;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

use crate::broker::server as broker;
use crate::packet;
use crate::publisher::agent::{self, Agent};
use crate::server::Server;

const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How long the server may take to begin to serve.
const START_WITHIN: Duration = Duration::from_secs(15);

/// A redis-server with its append-only file on, as ours; on a port, as collectd knows no socket.
pub(super) struct Redis {
    child: Child,
    pub(super) port: String,
    pub(super) folder: TempDir,
}

impl Redis {
    pub(super) fn start() -> anyhow::Result<Self> {
        let folder = tempfile::tempdir().context("failed to make a temporary folder")?;
        let address = broker::free_address()?;
        let (host, port) = address.rsplit_once(':').context("an address has a port")?;
        let log = File::create(folder.path().join("log"))?;
        let child = Command::new("redis-server")
            .args(["--port", port, "--bind", host, "--save", "", "--dir"])
            .arg(folder.path())
            .args(["--appendonly", "yes", "--appendfsync", "everysec"])
            .stdin(Stdio::null())
            .stdout(log)
            .spawn()
            .context("redis-server is not installed: `apt install redis-server`")?;
        Ok(Self {
            child,
            port: port.to_owned(),
            folder,
        })
    }

    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(super) async fn open(&self) -> anyhow::Result<Server> {
        let begun = Instant::now();
        loop {
            match Server::open(&format!("redis://127.0.0.1:{}", self.port)).await {
                Ok(server) => return Ok(server),
                Err(error) if begun.elapsed() > START_WITHIN => return Err(error),
                Err(_) => sleep(LOOK_EVERY).await,
            }
        }
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        // It holds nothing that outlives the measurement.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(super) fn start(
    found: &agent::Installed,
    broker: &str,
    redis_port: &str,
) -> anyhow::Result<Agent> {
    let folder = tempfile::tempdir().context("failed to make a temporary folder")?;
    let settings = folder.path().join("collectd.conf");
    let (host, port) = broker.rsplit_once(':').context("an address has a port")?;
    let base = folder.path().display();
    let text = format!(
        r#"Hostname "bench"
FQDNLookup false
BaseDir "{base}"
PIDFile "{base}/pid"
Interval 10
LoadPlugin mqtt
LoadPlugin write_redis
<Plugin mqtt>
  <Subscribe "bench">
    Host "{host}"
    Port "{port}"
    Topic "collectd/#"
    QoS 0
  </Subscribe>
</Plugin>
<Plugin write_redis>
  <Node "bench">
    Host "127.0.0.1"
    Port "{redis_port}"
    Timeout 1000
  </Node>
</Plugin>
"#
    );
    std::fs::write(&settings, text)?;
    let arguments = [
        "-f".to_owned(),
        "-C".to_owned(),
        settings.display().to_string(),
    ];
    Agent::start("collectd", &found.version, &found.path, folder, &arguments)
}

/// Sends a metric of its own until collectd has written it: then it has subscribed.
pub(super) async fn wait(
    collectd: &mut Agent,
    broker: &str,
    server: &mut Server,
) -> anyhow::Result<()> {
    let mut stream = TcpStream::connect(broker).await?;
    stream.write_all(&packet::connect("bench.probe")).await?;
    for seconds in 1_000_000.. {
        let mut output = Vec::new();
        let payload = format!("{seconds}:1");
        packet::publish(
            &mut output,
            0x30,
            "collectd/probe/bench/gauge-up",
            payload.as_bytes(),
        );
        stream.write_all(&output).await?;
        sleep(LOOK_EVERY * 5).await;
        collectd.check()?;
        if server.calls("zadd").await? > 0 {
            break;
        }
        ensure!(
            seconds < 1_000_200,
            "collectd writes nothing to Redis; it needs its plugins mqtt and write_redis, with \
             their libraries `apt install libhiredis0.14 libmosquitto1`: {}",
            collectd.log()
        );
    }
    // What of the probe is still under way.
    sleep(LOOK_EVERY * 25).await;
    Ok(())
}
