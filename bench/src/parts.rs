//! Broker, ingester and notifier as processes of their own, so that each one's CPU time can be read.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::Subcommand;
use hostbus_client::BusConfig;
use hostbus_daemon::{CancellationToken, ready, shutdown};
use hostbus_store::{Kept, Retention, StoreConfig};
use hostbus_wire::Role;
use serde_json::json;

#[derive(Debug, Subcommand)]
pub(crate) enum Part {
    /// The broker, open to anyone on loopback.
    Broker {
        /// Where to write its address.
        ready_file: PathBuf,
    },
    /// The ingester.
    Ingester {
        /// The broker.
        bus: String,
        /// Redis.
        redis: String,
        /// Where to write that it runs.
        ready_file: PathBuf,
        /// How long rows of each tier are kept, where it can be so short; absent: for as long as the bench's past reaches.
        #[arg(long)]
        keep_seconds: Option<u64>,
    },
    /// A notifier.
    Notifier {
        /// The broker.
        bus: String,
        /// A file with its settings, those of `[notifier]`, in JSON.
        settings: PathBuf,
        /// Where to write that it runs.
        ready_file: PathBuf,
    },
}

/// How long the bench's rows are kept: the simulated nodes live in the past.
pub(crate) const RETENTION: Duration = Duration::from_secs(400 * 86_400);

pub(crate) fn run(part: Part) -> anyhow::Result<()> {
    // As each part's own program has it.
    let mut builder = match part {
        Part::Notifier { .. } => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    let runtime = builder.enable_all().build()?;
    runtime.block_on(async {
        let token = CancellationToken::new();
        match part {
            Part::Broker { ready_file } => {
                let config = hostbus_broker::Config {
                    listen: Some(([127, 0, 0, 1], 0).into()),
                    anonymous: Some(Role::Admin),
                    ..hostbus_broker::Config::default()
                };
                let mut broker = hostbus_broker::start(config, token.clone()).await?;
                let address = broker.local_addr().context("the broker listens nowhere")?;
                ready::write(&ready_file, &json!({"mqtt": address.to_string()}))?;
                shutdown::on_signal(token).await?;
                broker.ended().await?;
            }
            Part::Ingester {
                bus,
                redis,
                ready_file,
                keep_seconds,
            } => {
                let bus = BusConfig {
                    url: bus,
                    ..BusConfig::default()
                };
                let mut store = StoreConfig {
                    url: Some(redis),
                    ..StoreConfig::default()
                };
                store.retention.raw.seconds = RETENTION.as_secs();
                store.retention.minute.seconds = RETENTION.as_secs();
                if let Some(seconds) = keep_seconds {
                    // A tier that needs more than that is not kept at all.
                    let kept = |least| Kept {
                        seconds: if seconds < least { 0 } else { seconds },
                        stream_seconds: None,
                    };
                    store.retention = Retention {
                        raw: kept(60),
                        minute: kept(120),
                        ten_minutes: kept(1_200),
                        hour: kept(7_200),
                    };
                }
                let config = hostbus_ingester::Config::default();
                let mut ingester =
                    hostbus_ingester::start(config, bus, store, token.clone()).await?;
                ready::write(&ready_file, &json!({}))?;
                shutdown::on_signal(token).await?;
                ingester.ended().await?;
            }
            Part::Notifier {
                bus,
                settings,
                ready_file,
            } => {
                let bus = BusConfig {
                    url: bus,
                    ..BusConfig::default()
                };
                let config = serde_json::from_slice(&fs::read(settings)?)?;
                let mut notifier = hostbus_notifier::start(config, bus, token.clone()).await?;
                ready::write(&ready_file, &json!({}))?;
                shutdown::on_signal(token).await?;
                notifier.ended().await?;
            }
        }
        Ok(())
    })
}

/// A part that runs. Dropping it ends it.
pub(crate) struct Process {
    child: Child,
}

impl Process {
    /// Starts this program again as `arguments`, and waits for its ready file.
    pub(crate) fn start(arguments: &[&str], ready_file: &Path) -> anyhow::Result<Self> {
        let child = Command::new(std::env::current_exe()?)
            .arg("part")
            .args(arguments)
            .arg(ready_file)
            .stdin(Stdio::null())
            .spawn()?;
        let mut process = Self { child };
        let begun = Instant::now();
        while !ready_file.exists() {
            ensure!(
                process.child.try_wait()?.is_none(),
                "the {} ended at once",
                arguments[0]
            );
            ensure!(
                begun.elapsed() < Duration::from_secs(20),
                "the {} did not start",
                arguments[0]
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(process)
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It holds nothing that outlives the measurement.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// User and system time that a process has used, in seconds.
pub(crate) fn cpu_seconds(process: u32) -> anyhow::Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The name in parentheses may hold anything; what follows it is fixed: proc(5).
    let (_, after) = stat.rsplit_once(')').context("an unreadable /proc stat")?;
    let fields: Vec<&str> = after.split_whitespace().collect();
    let ticks: f64 = fields[11].parse::<f64>()? + fields[12].parse::<f64>()?;
    #[expect(clippy::cast_precision_loss, reason = "100 on every Linux")]
    let hertz = rustix::param::clock_ticks_per_second() as f64;
    Ok(ticks / hertz)
}

/// Resident memory of a process in bytes.
pub(crate) fn resident_bytes(process: u32) -> anyhow::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line
        .and_then(|line| line.split_whitespace().next())
        .context("no VmRSS")?;
    Ok(kib.parse::<u64>()? * 1024)
}

/// What the files of a folder take.
pub(crate) fn folder_bytes(folder: &Path) -> anyhow::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        bytes += if metadata.is_dir() {
            folder_bytes(&entry.path())?
        } else {
            metadata.len()
        };
    }
    Ok(bytes)
}
