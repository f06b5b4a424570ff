//! A `hostbus up` with a data folder of its own.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::folder::Folder;
use crate::history::History;
use crate::loopback;
use crate::mosquitto::Account;
use crate::service::Service;
use crate::tool;

/// This host's name on the bus.
pub const NODE: &str = "here";

/// A site that runs. Everything of it ends with its owner.
#[derive(Debug)]
pub struct Site {
    /// The `hostbus up`.
    pub up: Service,
    /// Where the bus listens.
    pub address: SocketAddr,
    /// Where Redis listens, as a URL.
    pub redis: String,
    /// The files of the credentials, by user name.
    pub credentials: BTreeMap<String, PathBuf>,
    /// What lies around the data folder.
    pub folder: Folder,
}

impl Site {
    /// Starts a site with a sample a second, and waits until it serves.
    #[must_use]
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts a site with these arguments too.
    #[must_use]
    pub fn start_with(arguments: &[&str]) -> Self {
        let folder = Folder::new();
        let listen = format!("{}:0", loopback::address());
        let up = Service::new("up", &tool::ours("hostbus"), folder.path())
            .args([
                "up",
                "--data",
                "data",
                "--ready-file",
                "ready.json",
                "--node",
                NODE,
            ])
            .args(["--interval", "1", "--listen", &listen])
            .args(arguments);
        let mut site = Self {
            up,
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            redis: String::new(),
            credentials: BTreeMap::new(),
            folder,
        };
        site.start_again();
        site
    }

    /// Starts it again after it ended, and waits until it serves.
    ///
    /// # Panics
    /// It does not come up, or what it tells of itself is not what scripts need.
    #[track_caller]
    pub fn start_again(&mut self) {
        let ready = self.folder.join("ready.json");
        let _ = fs::remove_file(&ready);
        self.up.start();
        let text = self.up.wait_for_file(&ready);
        let object: Value = serde_json::from_str(&text).expect("the ready file is JSON");
        let field = |name: &str| -> String {
            object[name]
                .as_str()
                .unwrap_or_else(|| panic!("no `{name}` in {text}"))
                .to_owned()
        };
        let address = field("mqtt");
        let address = address
            .strip_prefix("mqtt://")
            .expect("the bus has an mqtt:// address");
        self.address = address.parse().expect("the bus has an address and a port");
        self.redis = field("redis");
        let credentials = object["credentials"]
            .as_object()
            .expect("the files of credentials");
        self.credentials = credentials
            .iter()
            .map(|(user, path)| (user.clone(), path.as_str().expect("a path").into()))
            .collect();
    }

    /// Who `user` is on the bus.
    ///
    /// # Panics
    /// There is no such user.
    #[must_use]
    pub fn account(&self, user: &str) -> Account {
        let password = fs::read_to_string(&self.credentials[user]).expect("a credential file");
        Account {
            address: self.address,
            user: user.to_owned(),
            password: password.trim().to_owned(),
        }
    }

    /// What stands in Redis.
    #[must_use]
    pub fn history(&self) -> History {
        History::at(&self.redis)
    }

    /// A command of the command line for this site.
    #[must_use]
    pub fn command(&self, arguments: &[&str]) -> Service {
        let program = tool::ours("hostbus");
        Service::new(arguments[0], &program, self.folder.path())
            .args(arguments)
            .args(["--data", "data"])
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ = self.up.ended();
        if self.up.is_running() {
            self.up.signal(rustix::process::Signal::TERM);
            let deadline = Instant::now() + Duration::from_secs(10);
            while self.up.is_running() && Instant::now() < deadline {
                let _ = self.up.ended();
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        // Only a Redis that `up` has left behind still answers.
        if !self.redis.is_empty() {
            let _ = self.history().ask::<()>(&["SHUTDOWN", "NOSAVE"]);
        }
    }
}
