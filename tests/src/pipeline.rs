//! Broker, ingester and publisher as separate processes, each with a settings file of its own.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::ensure;
use hostbus_client::BusConfig;
use hostbus_daemon::Secret;
use serde_json::Value;

use crate::folder::Folder;
use crate::history::History;
use crate::loopback;
use crate::mosquitto::Account;
use crate::poll;
use crate::redis_server::RedisServer;
use crate::service::Service;
use crate::tool;

/// The users of the bus: name, role, node.
const USERS: [(&str, &str, &str); 9] = [
    ("viewer", "viewer", ""),
    ("admin", "admin", ""),
    ("ingester", "ingester", ""),
    ("notifier", "notifier", ""),
    ("operator", "operator", ""),
    ("home.web1", "publisher", "home.web1"),
    ("home.web2", "publisher", "home.web2"),
    ("home.web3", "publisher", "home.web3"),
    ("home.web4", "publisher", "home.web4"),
];

/// A pipeline without its publisher.
#[derive(Debug)]
pub struct Pipeline {
    /// `hostbus-broker`.
    pub broker: Service,
    /// `hostbus-ingester`.
    pub ingester: Service,
    /// `redis-server`.
    pub redis: RedisServer,
    /// Where the broker listens.
    pub address: SocketAddr,
    /// Where the settings and logs are.
    pub folder: Folder,
}

impl Pipeline {
    /// Starts Redis, broker and ingester. The ingester may still be connecting.
    #[must_use]
    pub fn start() -> Self {
        Self::start_with("")
    }

    /// The same, with `more` settings in TOML below `[broker]`.
    #[must_use]
    pub fn start_with(more: &str) -> Self {
        let folder = Folder::new();
        let redis = RedisServer::start(&folder);
        let (broker, address) = start_broker_with(&folder, more);
        let settings = ingester_settings(&folder, address, &redis.url());
        let ingester = service(&folder, "hostbus-ingester", &settings).started();
        Self {
            broker,
            ingester,
            redis,
            address,
            folder,
        }
    }

    /// Starts the broker again on the port it had.
    #[track_caller]
    pub fn start_broker_again(&mut self) {
        let ready = self.folder.join("broker.json");
        let _ = fs::remove_file(&ready);
        self.broker.start();
        self.broker.wait_for_file(&ready);
    }

    /// The publisher of the node `web1`, not started yet.
    #[must_use]
    pub fn publisher(&self, interval_seconds: f64) -> Service {
        self.publisher_of("web1", self.address, interval_seconds, "")
    }

    /// The publisher of one of the nodes `web1` to `web4`, not started yet, which finds the bus at
    /// `address` and has `more` settings, in TOML.
    #[must_use]
    pub fn publisher_of(
        &self,
        node: &str,
        address: SocketAddr,
        interval_seconds: f64,
        more: &str,
    ) -> Service {
        let bus = bus_section(&self.folder, address, &format!("home.{node}"));
        let settings = format!(
            "{bus}\n[publisher]\nnode = \"{node}\"\ninterval_seconds = {interval_seconds}\n{more}"
        );
        let settings = self
            .folder
            .write(&format!("publisher-{node}.toml"), &settings);
        service(&self.folder, "hostbus-publisher", &settings)
    }

    /// A notifier of the name `instance`, not started yet, with `more` settings in TOML below
    /// `[notifier]`. Its spool and its rules are in the folder.
    #[must_use]
    pub fn notifier(&self, instance: &str, rules: &str, more: &str) -> Service {
        let spool = self.folder.join("spool");
        let more = format!("{more}\n[notifier.spool]\nfolder = {spool:?}\n");
        self.notifier_in_memory(instance, rules, &more)
    }

    /// The same without a spool on disk.
    #[must_use]
    pub fn notifier_in_memory(&self, instance: &str, rules: &str, more: &str) -> Service {
        let rules = self.folder.write(&format!("rules-{instance}.toml"), rules);
        let bus = bus_section(&self.folder, self.address, "notifier");
        let settings = format!(
            "{bus}\n[notifier]\ninstance = \"{instance}\"\nrules = [{rules:?}]\ndefault_rules = false\n{more}"
        );
        let settings = self
            .folder
            .write(&format!("notifier-{instance}.toml"), &settings);
        // A spool would be there.
        service(&self.folder, "hostbus-notifier", &settings).env("STATE_DIRECTORY", "")
    }

    /// Who `user` is on the bus.
    ///
    /// # Panics
    /// There is no such user.
    #[must_use]
    pub fn account(&self, user: &str) -> Account {
        account(&self.folder, self.address, user)
    }

    /// How our own client reaches the bus as `user`.
    #[must_use]
    pub fn bus(&self, user: &str) -> BusConfig {
        let account = self.account(user);
        BusConfig {
            url: format!("mqtt://{}", self.address),
            user: Some(account.user),
            password: Some(Secret::new(account.password)),
            ..BusConfig::default()
        }
    }

    /// What stands in Redis.
    #[must_use]
    pub fn history(&self) -> History {
        self.redis.history()
    }
}

/// Runs ingester and publisher on the broker at `address` until samples of this host are committed.
/// With `login`, each logs in with its secret from [`make_credentials`].
#[track_caller]
pub fn carried_by(folder: &Folder, redis: &RedisServer, address: SocketAddr, login: bool) {
    let start = |program: &str, user: &str| {
        let service = Service::new(program, &tool::ours(program), folder.path())
            .env("HOSTBUS_BUS__URL", format!("mqtt://{address}"))
            .env("HOSTBUS_LOG__FORMAT", "json");
        if login {
            service
                .env("HOSTBUS_BUS__USER", user)
                .env("HOSTBUS_BUS__PASSWORD_FILE", credential(folder, user))
        } else {
            service
        }
    };
    let _ingester = start("hostbus-ingester", "ingester")
        .env("HOSTBUS_REDIS__URL", redis.url())
        .started();
    let _publisher = start("hostbus-publisher", "home.web1")
        .env("HOSTBUS_PUBLISHER__NODE", "web1")
        .env("HOSTBUS_PUBLISHER__INTERVAL_SECONDS", "0.2")
        .started();
    let history = redis.history();
    poll::until("committed samples", || {
        let (_, seq) = history.committed("home.web1")?;
        let rows = history.count("home.web1", "cpu")?;
        ensure!(seq >= 5 && rows >= 5, "{rows} rows, seq {seq}");
        Ok(())
    });
}

/// Makes a secret for each user of this module in `folder`.
pub fn make_credentials(folder: &Folder) {
    for (user, ..) in USERS {
        folder.write(&format!("credentials/{user}"), Secret::random().reveal());
    }
}

/// A broker with the users of this module in `folder`, and where it listens.
#[must_use]
#[track_caller]
pub fn start_broker(folder: &Folder) -> (Service, SocketAddr) {
    start_broker_with(folder, "")
}

#[track_caller]
fn start_broker_with(folder: &Folder, more: &str) -> (Service, SocketAddr) {
    make_credentials(folder);
    let listen = SocketAddr::from((loopback::address(), 0));
    let settings = write_broker_settings(folder, listen, more);
    let mut broker = service(folder, "hostbus-broker", &settings)
        .args(["--ready-file", "broker.json"])
        .started();
    let ready = broker.wait_for_file(&folder.join("broker.json"));
    let ready: Value = serde_json::from_str(&ready).expect("the ready file is JSON");
    let address = ready["mqtt"]
        .as_str()
        .and_then(|url| url.strip_prefix("mqtt://"));
    let address = address
        .and_then(|text| text.parse().ok())
        .expect("the broker has an address");
    // From now on it has this port.
    write_broker_settings(folder, address, more);
    (broker, address)
}

/// Who `user` is on the bus at `address`.
///
/// # Panics
/// There is no such user.
#[must_use]
pub fn account(folder: &Folder, address: SocketAddr, user: &str) -> Account {
    let password = fs::read_to_string(credential(folder, user)).expect("a user of the pipeline");
    Account {
        address,
        user: user.to_owned(),
        password,
    }
}

/// One of our programs with its settings file, not started yet.
#[must_use]
pub fn service(folder: &Folder, program: &str, settings: &Path) -> Service {
    Service::new(program, &tool::ours(program), folder.path())
        .args(["--config"])
        .args([settings])
}

/// The file with the secret of `user`.
#[must_use]
pub fn credential(folder: &Folder, user: &str) -> PathBuf {
    folder.join("credentials").join(user)
}

fn write_broker_settings(folder: &Folder, listen: SocketAddr, more: &str) -> PathBuf {
    let mut text = format!("[broker]\nlisten = \"{listen}\"\n{more}");
    for (name, role, node) in USERS {
        let secret = credential(folder, name);
        text += &format!(
            "\n[[broker.identities]]\nname = \"{name}\"\nrole = \"{role}\"\nsecret_file = \"{}\"\n",
            secret.display()
        );
        if !node.is_empty() {
            text += &format!("node = \"{node}\"\n");
        }
    }
    folder.write("broker.toml", &text)
}

/// Writes the ingester's settings file.
fn ingester_settings(folder: &Folder, address: SocketAddr, redis: &str) -> PathBuf {
    let bus = bus_section(folder, address, "ingester");
    folder.write(
        "ingester.toml",
        &format!("{bus}\n[redis]\nurl = \"{redis}\"\n"),
    )
}

fn bus_section(folder: &Folder, address: SocketAddr, user: &str) -> String {
    let password = credential(folder, user);
    format!(
        "[bus]\nurl = \"mqtt://{address}\"\nuser = \"{user}\"\npassword_file = \"{}\"\n",
        password.display()
    )
}
