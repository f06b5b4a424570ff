//! Mosquitto's clients: an MQTT implementation that shares no code with ours.

use std::io::Write;
use std::net::SocketAddr;

use anyhow::{Context, ensure};

use crate::folder::Folder;
use crate::poll;
use crate::service::{Finished, Service};
use crate::tool;

const PACKAGE: &str = "mosquitto-clients";

/// The version of MQTT that a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// 3.1.1
    V311,
    /// 5.0
    V5,
}

/// Both versions.
pub const VERSIONS: [Version; 2] = [Version::V311, Version::V5];

impl Version {
    /// As the clients' `-V` takes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V311 => "311",
            Self::V5 => "5",
        }
    }
}

/// Where a broker listens, and who a client is there.
#[derive(Debug, Clone)]
pub struct Account {
    /// The broker.
    pub address: SocketAddr,
    /// The user name.
    pub user: String,
    /// The password.
    pub password: String,
}

impl Account {
    /// The same user with another password.
    #[must_use]
    pub fn with_password(&self, password: &str) -> Self {
        Self {
            password: password.to_owned(),
            ..self.clone()
        }
    }

    /// What each of the clients needs to log in.
    #[must_use]
    pub fn arguments(&self, version: Version) -> [String; 10] {
        let address = self.address;
        [
            "-V",
            version.as_str(),
            "-h",
            &address.ip().to_string(),
            "-p",
            &address.port().to_string(),
            "-u",
            &self.user,
            "-P",
            &self.password,
        ]
        .map(str::to_owned)
    }

    /// Subscribes to `filters`; what comes is collected.
    #[must_use]
    pub fn subscribe(&self, folder: &Folder, version: Version, filters: &[&str]) -> Subscriber {
        Subscriber(self.subscription(folder, version, filters).started())
    }

    /// A `mosquitto_sub` that is not started yet, for more arguments.
    #[must_use]
    pub fn subscription(&self, folder: &Folder, version: Version, filters: &[&str]) -> Service {
        let program = tool::of_system("mosquitto_sub", PACKAGE);
        // Into a file it would write in large blocks, and late.
        Service::new(
            "mosquitto_sub",
            &tool::of_system("stdbuf", "coreutils"),
            folder.path(),
        )
        .args(["-oL"])
        .args([program])
        .args(self.arguments(version))
        .args(["-d", "-F", "message %r %x %t"])
        .args(filters.iter().flat_map(|filter| ["-t", filter]))
    }

    /// Publishes a message with QoS 1, and tells how that ended.
    #[track_caller]
    pub fn publish(
        &self,
        folder: &Folder,
        version: Version,
        topic: &str,
        payload: &[u8],
    ) -> Finished {
        self.publish_with(folder, version, topic, payload, &[])
    }

    /// Publishes a retained message with QoS 1; an empty payload removes the one that stands there.
    #[track_caller]
    pub fn publish_retained(
        &self,
        folder: &Folder,
        version: Version,
        topic: &str,
        payload: &[u8],
    ) -> Finished {
        self.publish_with(folder, version, topic, payload, &["-r"])
    }

    #[track_caller]
    fn publish_with(
        &self,
        folder: &Folder,
        version: Version,
        topic: &str,
        payload: &[u8],
        more: &[&str],
    ) -> Finished {
        // An argument could hold neither a zero byte nor a large payload.
        let mut file = tempfile::NamedTempFile::new_in(folder.path()).expect("a temporary file");
        file.write_all(payload).expect("failed to write a payload");
        let program = tool::of_system("mosquitto_pub", PACKAGE);
        Service::new("mosquitto_pub", &program, folder.path())
            .args(self.arguments(version))
            .args(more)
            .args(["-q", "1", "-t", topic, "-f"])
            .args([file.path()])
            .finish()
    }
}

/// One message that a subscriber got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// Its topic.
    pub topic: String,
    /// It stood retained.
    pub retained: bool,
    /// Its payload.
    pub payload: Vec<u8>,
}

/// A `mosquitto_sub` that runs.
#[derive(Debug)]
pub struct Subscriber(Service);

impl Subscriber {
    /// All that came so far.
    #[must_use]
    pub fn received(&self) -> Vec<Received> {
        let text = self.0.stdout();
        // The last line may be half written.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().filter_map(read_line).collect()
    }

    /// Waits until the broker has acknowledged the subscriptions.
    #[must_use]
    #[track_caller]
    pub fn ready(self) -> Self {
        poll::until("the acknowledgement of a subscription", || {
            ensure!(
                self.0.stdout().contains("received SUBACK"),
                "{}",
                self.0.stderr()
            );
            Ok(())
        });
        self
    }

    /// Waits for a message that `wanted` accepts, and returns it.
    #[track_caller]
    pub fn wait_for(&self, what: &str, wanted: impl Fn(&Received) -> bool) -> Received {
        poll::until(what, || {
            let received = self.received();
            let topics: Vec<&str> = received.iter().map(|one| one.topic.as_str()).collect();
            let tail = topics[topics.len().saturating_sub(10)..].to_vec();
            let found = received.iter().find(|message| wanted(message)).cloned();
            found.with_context(|| format!("{} messages, the last ones on {tail:?}", topics.len()))
        })
    }
}

fn read_line(line: &str) -> Option<Received> {
    let mut parts = line.strip_prefix("message ")?.splitn(3, ' ');
    let retained = parts.next()? == "1";
    let payload = bytes_of_hex(parts.next()?)?;
    Some(Received {
        topic: parts.next()?.to_owned(),
        retained,
        payload,
    })
}

/// The bytes that a text of hexadecimal digits stands for.
#[must_use]
pub fn bytes_of_hex(hex: &str) -> Option<Vec<u8>> {
    (0..hex.len() / 2 * 2)
        .step_by(2)
        .map(|at| u8::from_str_radix(hex.get(at..at + 2)?, 16).ok())
        .collect()
}

/// Bytes as hexadecimal digits.
#[must_use]
pub fn hex_of_bytes(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
