//! The data folder of a site.
//!
//! ```text
//! DATA/                 0700
//!   lock                held while `hostbus up` runs; names its process
//!   site.json           where the running site listens; gone when it stops
//!   credentials/<name>  0600, one secret each: admin viewer publisher ingester notifier
//!   broker/             the broker's own: identities
//!   publisher/          what the publisher of this host keeps until it is delivered
//!   redis/              the private Redis: its settings, socket and append-only file
//! ```

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use hostbus_daemon::{Secret, ready};
use hostbus_wire::TopicRoot;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Another process already runs on the data folder.
#[derive(Debug, Error)]
#[error("a hostbus is already up on {} (process {pid}); stop it first, or choose another folder with --data", folder.display())]
pub(crate) struct InUse {
    folder: PathBuf,
    pid: String,
}

/// Where a running site listens: the ready file and `site.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Endpoints {
    /// The bus, `mqtt://127.0.0.1:1883`.
    pub(crate) mqtt: String,
    /// The broker's figures for Prometheus, `http://127.0.0.1:9641/metrics`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) metrics: Option<String>,
    /// The bus through TLS, if it has such a listener.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) mqtts: Option<String>,
    /// The bus through a WebSocket, if it has such a listener.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ws: Option<String>,
    /// The bus through a WebSocket in TLS, if it has such a listener.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) wss: Option<String>,
    /// Redis, `unix:///…/redis.sock` or `redis://…`.
    pub(crate) redis: String,
    /// Where the topics begin.
    pub(crate) root: TopicRoot,
    pub(crate) site: String,
    pub(crate) node: String,
    /// The files of the secrets, by user name.
    pub(crate) credentials: std::collections::BTreeMap<String, PathBuf>,
}

/// How long a folder may seem taken before it is.
const LOCK_WITHIN: Duration = Duration::from_millis(300);

/// A data folder.
#[derive(Debug, Clone)]
pub(crate) struct Folder {
    path: PathBuf,
}

impl Folder {
    /// The folder `given`, or the default one. Nothing is created.
    pub(crate) fn at(given: Option<&Path>) -> anyhow::Result<Self> {
        let path = match given {
            Some(path) => path.to_owned(),
            None => default_path()
                .context("there is no default data folder without HOME; name one with --data")?,
        };
        Ok(Self {
            path: std::path::absolute(path)?,
        })
    }

    /// Creates what is missing, readable for its owner only.
    pub(crate) fn create(&self) -> anyhow::Result<()> {
        let mut private = DirBuilder::new();
        private.recursive(true).mode(0o700);
        for path in [
            &self.path,
            &self.credentials(),
            &self.broker(),
            &self.redis(),
        ] {
            private
                .create(path)
                .with_context(|| format!("failed to create the folder {}", path.display()))?;
        }
        Ok(())
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn broker(&self) -> PathBuf {
        self.path.join("broker")
    }

    pub(crate) fn publisher(&self) -> PathBuf {
        self.path.join("publisher")
    }

    pub(crate) fn notifier(&self) -> PathBuf {
        self.path.join("notifier")
    }

    pub(crate) fn redis(&self) -> PathBuf {
        self.path.join("redis")
    }

    pub(crate) fn credentials(&self) -> PathBuf {
        self.path.join("credentials")
    }

    /// The file of the secret of `user`.
    pub(crate) fn credential(&self, user: &str) -> PathBuf {
        self.credentials().join(user)
    }

    /// Writes a secret where only its owner can read it, whole or not at all.
    pub(crate) fn write_credential(&self, user: &str, secret: &Secret) -> anyhow::Result<()> {
        let path = self.credential(user);
        let beside = self.credentials().join(format!(".{user}.new"));
        let write = || -> io::Result<()> {
            let mut file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&beside)?;
            writeln!(file, "{}", secret.reveal())?;
            file.sync_all()?;
            fs::rename(&beside, &path)
        };
        write().with_context(|| format!("failed to write {}", path.display()))
    }

    /// Takes the folder for this process. The lock lasts as long as what is returned, and ends with
    /// the process however it ends.
    pub(crate) fn lock(&self) -> anyhow::Result<File> {
        let path = self.path.join("lock");
        let open = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path);
        let mut file = open.with_context(|| format!("failed to open {}", path.display()))?;
        // A client verb that looks whether the folder is taken holds it for an instant.
        let deadline = Instant::now() + LOCK_WITHIN;
        let locked = loop {
            match file.try_lock() {
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                    thread::sleep(Duration::from_millis(20));
                }
                locked => break locked,
            }
        };
        match locked {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut pid = String::new();
                // The number is a courtesy: without it the message still says what is wrong.
                let _ = file.read_to_string(&mut pid);
                return Err(InUse {
                    folder: self.path.clone(),
                    pid: pid.trim().to_owned(),
                }
                .into());
            }
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("failed to lock {}", path.display()));
            }
        }
        file.set_len(0)?;
        file.rewind()?;
        writeln!(file, "{}", std::process::id())?;
        Ok(file)
    }

    /// Tells whether a site runs on this folder.
    pub(crate) fn is_locked(&self) -> bool {
        File::open(self.path.join("lock"))
            .is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
    }

    pub(crate) fn write_endpoints(&self, endpoints: &Endpoints) -> anyhow::Result<()> {
        let path = self.path.join("site.json");
        ready::write(&path, endpoints)
            .with_context(|| format!("failed to write {}", path.display()))
    }

    pub(crate) fn remove_endpoints(&self) {
        // It may never have been written.
        let _ = fs::remove_file(self.path.join("site.json"));
    }

    /// Where the site that runs on this folder listens.
    pub(crate) fn endpoints(&self) -> anyhow::Result<Endpoints> {
        let path = self.path.join("site.json");
        let text = match fs::read_to_string(&path) {
            Ok(text) if self.is_locked() => text,
            Ok(_) => anyhow::bail!("{}", self.not_up()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                anyhow::bail!("{}", self.not_up())
            }
            Err(error) => {
                return Err(error).with_context(|| format!("failed to read {}", path.display()));
            }
        };
        serde_json::from_str(&text).with_context(|| format!("failed to read {}", path.display()))
    }

    fn not_up(&self) -> String {
        format!(
            "no hostbus is up on {}; start one with `hostbus up`, name its folder with --data, or another host's bus with --url or Redis with --redis",
            self.path.display()
        )
    }
}

fn default_path() -> Option<PathBuf> {
    let of = |variable: &str| std::env::var_os(variable).filter(|value| !value.is_empty());
    match of("XDG_DATA_HOME") {
        Some(path) => Some(PathBuf::from(path).join("hostbus")),
        None => Some(PathBuf::from(of("HOME")?).join(".local/share/hostbus")),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn folder() -> (tempfile::TempDir, Folder) {
        let temporary = tempfile::tempdir().unwrap();
        let folder = Folder::at(Some(&temporary.path().join("data"))).unwrap();
        folder.create().unwrap();
        (temporary, folder)
    }

    #[test]
    fn only_one_process_holds_a_folder() {
        let (_temporary, folder) = folder();
        let lock = folder.lock().unwrap();
        assert!(folder.is_locked());
        let error = folder.lock().unwrap_err();
        assert!(error.is::<InUse>());
        assert!(
            error.to_string().contains(&std::process::id().to_string()),
            "{error}"
        );
        drop(lock);
        assert!(!folder.is_locked());
        folder.lock().unwrap();
    }

    #[test]
    fn secrets_are_readable_for_their_owner_only() {
        let (_temporary, folder) = folder();
        folder
            .write_credential("viewer", &Secret::new("x"))
            .unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&folder.credential("viewer")), 0o600);
        assert_eq!(mode(folder.path()), 0o700);
        assert_eq!(mode(&folder.redis()), 0o700);
        assert_eq!(
            Secret::read(&folder.credential("viewer")).unwrap(),
            Secret::new("x")
        );
    }

    #[test]
    fn a_stale_address_file_is_not_believed() {
        let (_temporary, folder) = folder();
        let endpoints = Endpoints {
            mqtt: "mqtt://127.0.0.1:1".to_owned(),
            metrics: None,
            mqtts: None,
            ws: None,
            wss: None,
            redis: "unix:///x".to_owned(),
            root: TopicRoot::default(),
            site: "home".to_owned(),
            node: "n".to_owned(),
            credentials: std::collections::BTreeMap::default(),
        };
        folder.write_endpoints(&endpoints).unwrap();
        assert!(
            folder
                .endpoints()
                .unwrap_err()
                .to_string()
                .contains("no hostbus is up")
        );
        let _lock = folder.lock().unwrap();
        assert_eq!(folder.endpoints().unwrap().mqtt, endpoints.mqtt);
    }
}
