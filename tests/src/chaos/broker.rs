//! The broker under test, as a process of its own: it can be killed and started again on the same
//! port and folder, and is watched for panics and for the memory that it takes.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::client::{Client, Event};
use super::packet::Version;
use crate::folder::Folder;
use crate::poll;
use crate::service::Service;
use crate::tool;

/// A broker with a data folder that lets everybody in.
#[derive(Debug)]
pub struct Broker {
    service: Service,
    address: SocketAddr,
    folder: Folder,
}

impl Broker {
    /// Starts one with these lines under `[broker.limits]`. It renews its figures every second.
    ///
    /// # Panics
    /// It does not start.
    #[must_use]
    pub fn start(limits: &str) -> Self {
        let folder = Folder::new();
        let settings = format!("[broker]\nsys_interval_seconds = 1\n[broker.limits]\n{limits}\n");
        folder.write("broker.toml", &settings);
        let first = service(&folder, "127.0.0.1:0");
        let mut broker = Self {
            service: first,
            address: ([127, 0, 0, 1], 0).into(),
            folder,
        };
        broker.begin();
        // From now on it comes back on this port.
        broker.service.interrupt(Duration::from_secs(20));
        broker.service = service(&broker.folder, &broker.address.to_string());
        broker.begin();
        broker
    }

    fn begin(&mut self) {
        let ready = self.folder.join("ready.json");
        // It is not there at the first start.
        let _ = fs::remove_file(&ready);
        self.service.start();
        let text = self.service.wait_for_file(&ready);
        let object: serde_json::Value = serde_json::from_str(&text).expect("a ready file is JSON");
        let url = object["mqtt"].as_str().unwrap_or_default();
        let address = url.strip_prefix("mqtt://").unwrap_or_default();
        self.address = address
            .parse()
            .unwrap_or_else(|error| panic!("{url:?} in the ready file: {error}"));
    }

    /// Where it listens, over all its starts.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its folder: `data` is the broker's.
    #[must_use]
    pub fn folder(&self) -> &Folder {
        &self.folder
    }

    /// Another broker on the same folder and a port of its own, which is not started.
    #[must_use]
    pub fn another(&self) -> Service {
        service(&self.folder, "127.0.0.1:0")
    }

    /// Ends it as `kill -9` does.
    pub fn kill(&mut self) {
        self.check();
        self.service.kill();
    }

    /// Starts it again after its end.
    ///
    /// # Panics
    /// It does not start.
    pub fn restart(&mut self) {
        self.begin();
    }

    /// What it has logged, over all its starts.
    #[must_use]
    pub fn log(&self) -> String {
        self.service.stderr()
    }

    /// Makes sure that it runs and that nothing in it has panicked.
    ///
    /// # Panics
    /// It has ended, or something in it has panicked.
    #[track_caller]
    pub fn check(&mut self) {
        if let Some(status) = self.service.ended() {
            panic!("the broker ended with {status}:\n{}", self.log());
        }
        let log = self.log();
        let panicked = log.lines().position(|line| line.contains("panicked"));
        if let Some(line) = panicked {
            let lines: Vec<&str> = log.lines().skip(line).take(20).collect();
            panic!("the broker panicked:\n{}", lines.join("\n"));
        }
    }

    /// The memory that it has, in KiB.
    ///
    /// # Panics
    /// It does not run.
    #[must_use]
    pub fn memory_kib(&self) -> u64 {
        let path = format!("/proc/{}/status", self.service.pid().as_raw_nonzero());
        let status = fs::read_to_string(&path).expect("a process that runs has a status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let number = line.and_then(|line| line.split_whitespace().next());
        number
            .and_then(|number| number.parse().ok())
            .expect("a status has VmRSS in kB")
    }

    /// Its figures under `$SYS/broker/`.
    ///
    /// # Panics
    /// It does not tell them.
    pub async fn figures(&self) -> BTreeMap<String, u64> {
        let mut client = Client::new(self.address, Version::V311, "figures", 0);
        client.connect().await.expect("a connection for figures");
        let subscribed = client.subscribe(&[("$SYS/broker/#", 0)]).await;
        subscribed.expect("a subscription for figures");
        let mut figures = BTreeMap::new();
        let begun = Instant::now();
        // One round of them comes within a second.
        while begun.elapsed() < Duration::from_millis(1_500) {
            let next = client.next(Duration::from_millis(100)).await;
            if let Some(Event::Message(message)) = next.expect("figures") {
                let text = String::from_utf8_lossy(&message.payload);
                if let (Some(name), Ok(number)) =
                    (message.topic.strip_prefix("$SYS/broker/"), text.parse())
                {
                    figures.insert(name.to_owned(), number);
                }
            }
        }
        client.leave().await;
        figures
    }

    /// Waits until `look` is content with the figures.
    ///
    /// # Panics
    /// It never is.
    pub async fn figures_when(
        &self,
        what: &str,
        look: impl Fn(&BTreeMap<String, u64>) -> bool,
    ) -> BTreeMap<String, u64> {
        let deadline = Instant::now() + poll::DEADLINE;
        loop {
            let figures = self.figures().await;
            if look(&figures) {
                return figures;
            }
            assert!(
                Instant::now() < deadline,
                "not seen: {what}; instead {figures:#?}"
            );
        }
    }
}

fn service(folder: &Folder, listen: &str) -> Service {
    let path = tool::ours("hostbus-broker");
    let file = |name: &str| folder.join(name).display().to_string();
    Service::new("broker", &path, folder.path()).args([
        "--config",
        &file("broker.toml"),
        "--data",
        &file("data"),
        "--ready-file",
        &file("ready.json"),
        "--listen",
        listen,
        "--anonymous",
        "admin",
    ])
}
