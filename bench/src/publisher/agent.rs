//! An agent as a process, and which agents there are to compare with.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, bail, ensure};
use tempfile::TempDir;
use tokio_util::task::AbortOnDropHandle;

/// Whom the publisher is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Peer {
    /// collectd with its plugins cpu, df, disk, interface, load, memory, swap and network.
    Collectd,
    /// Prometheus' `node_exporter` with its default collectors.
    NodeExporter,
}

/// A peer on this machine.
#[derive(Debug)]
pub(crate) struct Installed {
    pub(crate) path: PathBuf,
    pub(crate) version: String,
}

impl Peer {
    /// Where it is, and which.
    ///
    /// # Errors
    /// It is missing; the error says how to install it.
    pub(crate) fn find(self) -> anyhow::Result<Installed> {
        let (names, flag, package) = match self {
            Self::Collectd => (
                ["/usr/sbin/collectd", "collectd"],
                "-h",
                "`apt install collectd-core`, or leave it out with `--peer node-exporter`",
            ),
            Self::NodeExporter => (
                ["prometheus-node-exporter", "node_exporter"],
                "--version",
                "`apt install prometheus-node-exporter`, or leave it out with `--peer collectd`",
            ),
        };
        for name in names {
            let Ok(output) = Command::new(name).arg(flag).output() else {
                continue;
            };
            let text = [output.stdout, output.stderr].concat();
            return Ok(Installed {
                path: on_path(name).with_context(|| format!("{name} is nowhere in PATH"))?,
                version: version(&String::from_utf8_lossy(&text))
                    .with_context(|| format!("{name} tells no version"))?,
            });
        }
        bail!("{} is not installed: {package}", names[1]);
    }
}

/// Our publisher: the program of the profile `light`, built first where cargo runs us.
pub(crate) fn ours() -> anyhow::Result<PathBuf> {
    let bench = std::env::current_exe()?;
    let target = bench.parent().and_then(Path::parent);
    let path = target
        .context("this program stands in no target folder")?
        .join("light/hostbus-publisher");
    if let (Some(cargo), false) = (std::env::var_os("CARGO"), cfg!(debug_assertions)) {
        let built = Command::new(cargo)
            .args(["build", "--profile", "light", "--quiet"])
            .args(["-p", "hostbus-publisher"])
            .status()?;
        ensure!(built.success(), "hostbus-publisher could not be built");
    }
    Ok(path)
}

/// The version that a publisher tells.
pub(crate) fn publisher_version(path: &Path) -> anyhow::Result<String> {
    let output = Command::new(path).arg("--version").output();
    let output = output.with_context(|| {
        let path = path.display();
        format!("failed to run {path}: `cargo build --profile light -p hostbus-publisher`")
    })?;
    let text = String::from_utf8_lossy(&output.stdout);
    version(&text).with_context(|| format!("{} tells no version", path.display()))
}

/// The first word that begins like a version.
fn version(text: &str) -> Option<String> {
    let word = text
        .split([' ', ',', '\n'])
        .find(|word| word.starts_with(|first: char| first.is_ascii_digit()) && word.contains('.'));
    word.map(str::to_owned)
}

fn on_path(name: &str) -> Option<PathBuf> {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    // An absolute name replaces the folder.
    let mut candidates = std::env::split_paths(&folders).map(|folder| folder.join(name));
    candidates.find(|path| path.is_file())
}

/// What has come from an agent so far.
#[derive(Debug, Clone, Default)]
pub(crate) struct Given(Arc<(AtomicU64, AtomicU64)>);

impl Given {
    pub(crate) fn add(&self, points: u64, bytes: u64) {
        self.0.0.fetch_add(points, Ordering::Relaxed);
        self.0.1.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Points and bytes.
    pub(crate) fn read(&self) -> (u64, u64) {
        let (points, bytes) = &*self.0;
        (
            points.load(Ordering::Relaxed),
            bytes.load(Ordering::Relaxed),
        )
    }
}

/// An agent that runs. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Agent {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) program: PathBuf,
    pub(crate) given: Given,
    child: Child,
    /// Its settings and its log.
    folder: TempDir,
    /// Takes what it gives, where that is a task of its own.
    receiver: Option<AbortOnDropHandle<()>>,
}

impl Agent {
    /// Starts `program`. Of our environment it sees nothing.
    pub(crate) fn start(
        name: &str,
        version: &str,
        program: &Path,
        folder: TempDir,
        arguments: &[String],
    ) -> anyhow::Result<Self> {
        let log = File::create(folder.path().join("log"))?;
        let child = Command::new(program)
            .args(arguments)
            .env_clear()
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("failed to run {}", program.display()))?;
        Ok(Self {
            name: name.to_owned(),
            version: version.to_owned(),
            program: program.to_owned(),
            given: Given::default(),
            child,
            folder,
            receiver: None,
        })
    }

    /// Keeps `receiver` running for as long as the agent does.
    pub(crate) fn received_by(mut self, receiver: tokio::task::JoinHandle<()>) -> Self {
        self.receiver = Some(AbortOnDropHandle::new(receiver));
        self
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Fails when it has ended.
    pub(crate) fn check(&mut self) -> anyhow::Result<()> {
        let ended = self.child.try_wait()?;
        ensure!(ended.is_none(), "{} ended: {}", self.name, self.log());
        Ok(())
    }

    /// What it has logged.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // It holds nothing that outlives the measurement.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_found_in_what_programs_tell() {
        let check = |text: &str, expected: Option<&str>| {
            assert_eq!(version(text).as_deref(), expected, "{text}");
        };
        check("hostbus-publisher 0.1.0\n", Some("0.1.0"));
        check("\ncollectd 5.12.0, http://collectd.org/\n", Some("5.12.0"));
        check(
            "node_exporter, version 1.5.0 (branch: debian/sid, revision: 1.5.0-1+b6)\n",
            Some("1.5.0"),
        );
        check("what is this?", None);
    }
}
