//! A broker under measurement, as a process of its own: ours, or the one it is compared with.

use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use tempfile::TempDir;

use super::machine;
use crate::parts;

/// How long a broker may take to begin to serve.
const PATIENCE: Duration = Duration::from_secs(10);

/// A broker program.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    /// What it is called in the figures.
    pub(crate) name: String,
    path: PathBuf,
    is_mosquitto: bool,
}

impl Program {
    /// The program at `path`; what is not named mosquitto is taken for a `hostbus-broker`.
    pub(crate) fn new(path: &Path) -> anyhow::Result<Self> {
        let is_mosquitto = path
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with("mosquitto"));
        // mosquitto tells its version in the first line of its help, and ends with 3.
        let output = Command::new(path)
            .arg(if is_mosquitto { "-h" } else { "--version" })
            .output()
            .with_context(|| {
                let path = path.display();
                if is_mosquitto {
                    format!("failed to run {path}: install the package mosquitto")
                } else {
                    format!("failed to run {path}: `cargo build --release -p hostbus-broker`")
                }
            })?;
        let text = String::from_utf8_lossy(&output.stdout);
        let name = text
            .lines()
            .next()
            .unwrap_or_default()
            .replace(" version", "");
        ensure!(!name.is_empty(), "{} tells no version", path.display());
        Ok(Self {
            name,
            path: path.to_owned(),
            is_mosquitto,
        })
    }

    /// Our broker: the release program beside this one, built first where cargo runs us.
    pub(crate) fn ours() -> anyhow::Result<Self> {
        let bench = std::env::current_exe()?;
        let path = bench.with_file_name("hostbus-broker");
        if let (Some(cargo), false) = (std::env::var_os("CARGO"), cfg!(debug_assertions)) {
            let built = Command::new(cargo)
                .args(["build", "--release", "--quiet", "-p", "hostbus-broker"])
                .status()?;
            ensure!(built.success(), "hostbus-broker could not be built");
        }
        Self::new(&path)
    }
}

/// A broker that serves. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    pub(crate) address: String,
    /// Its settings and its log.
    folder: TempDir,
}

impl Server {
    /// Starts `program` and waits until it serves.
    pub(crate) fn start(program: &Program) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir().context("failed to make a temporary folder")?;
        let log = File::create(folder.path().join("log"))?;
        let mut command = Command::new(&program.path);
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let mut server = if program.is_mosquitto {
            let address = free_address()?;
            let settings = folder.path().join("mosquitto.conf");
            std::fs::write(&settings, mosquitto_settings(&address))?;
            Self {
                child: command.arg("-c").arg(settings).spawn()?,
                address,
                folder,
            }
        } else {
            let ready = folder.path().join("ready.json");
            let child = command
                .args(["--listen", "127.0.0.1:0", "--anonymous", "admin"])
                .arg("--ready-file")
                .arg(&ready)
                .spawn()?;
            let mut server = Self {
                child,
                address: String::new(),
                folder,
            };
            server.wait(|| ready.exists())?;
            let ready: serde_json::Value = serde_json::from_slice(&std::fs::read(&ready)?)?;
            server.address = ready["mqtt"]
                .as_str()
                .and_then(|url| url.strip_prefix("mqtt://"))
                .context("no address in the ready file")?
                .to_owned();
            server
        };
        let address = server.address.clone();
        server.wait(|| std::net::TcpStream::connect(&address).is_ok())?;
        Ok(server)
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    fn wait(&mut self, serves: impl Fn() -> bool) -> anyhow::Result<()> {
        let begun = Instant::now();
        while !serves() {
            let ended = self.child.try_wait()?;
            if ended.is_some() || begun.elapsed() > PATIENCE {
                let log = std::fs::read_to_string(self.folder.path().join("log"));
                bail!("the broker does not serve: {}", log.unwrap_or_default());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// CPU seconds that it has used.
    pub(crate) fn cpu_seconds(&self) -> anyhow::Result<f64> {
        machine::cpu_seconds(self.child.id())
    }

    pub(crate) fn resident_bytes(&self) -> anyhow::Result<u64> {
        parts::resident_bytes(self.child.id())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It holds nothing that outlives the measurement.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// mosquitto takes no port 0.
pub(crate) fn free_address() -> anyhow::Result<String> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}

/// As ours is set: no login, nothing on disk, small packets at once, as many QoS 1 messages under
/// way. Its queues have no bound, so that it drops nothing.
fn mosquitto_settings(address: &str) -> String {
    let (host, port) = address.rsplit_once(':').unwrap_or((address, "1883"));
    format!(
        "listener {port} {host}
allow_anonymous true
persistence false
set_tcp_nodelay true
max_connections -1
max_inflight_messages 256
max_queued_messages 0
max_queued_bytes 0
log_dest stderr
"
    )
}
