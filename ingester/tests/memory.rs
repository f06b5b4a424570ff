//! A Redis whose memory is full, or that would drop history to have some.

#![expect(clippy::unwrap_used, reason = "test code")]

mod fixture;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use fixture::{Site, numbers, site, until};

/// The ingester as a program, and what it says.
struct Program {
    child: Child,
    log: PathBuf,
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Program {
    fn start(site: &Site, folder: &Path) -> Self {
        let log = folder.join("ingester.log");
        let child = Command::new(env!("CARGO_BIN_EXE_hostbus-ingester"))
            .args(["--url", &site.bus.url])
            .args(["--redis", site.store.url.as_deref().unwrap()])
            .stdout(Stdio::null())
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        Self { child, log }
    }

    /// How many lines of its log hold `text`.
    fn said(&self, text: &str) -> usize {
        let log = std::fs::read_to_string(&self.log).unwrap();
        log.lines().filter(|line| line.contains(text)).count()
    }
}

fn set(site: &Site, setting: &str, value: &str) {
    let client = redis::Client::open(site.store.url.as_deref().unwrap()).unwrap();
    redis::cmd("CONFIG")
        .arg(&["SET", setting, value])
        .exec(&mut client.get_connection().unwrap())
        .unwrap();
}

#[tokio::test]
async fn samples_wait_while_the_memory_of_redis_is_full_and_none_is_lost() {
    const FULL: &str = "the memory of redis is full (maxmemory)";
    let site = site().await;
    let folder = tempfile::tempdir().unwrap();
    let program = Program::start(&site, folder.path());
    let mut publisher = site.publisher("a", 5).await;
    for _ in 0..20 {
        publisher.sample();
    }
    publisher.flush().await;
    // Less than it uses.
    set(&site, "maxmemory", "100kb");
    for _ in 0..50 {
        publisher.sample();
        publisher.send().await;
    }
    until("the ingester tells", async || program.said(FULL) > 0).await;
    // It tries again and again, and its publishers send again.
    for _ in 0..4 {
        publisher.send().await;
        let _ = publisher.mark(Duration::from_millis(250)).await;
    }
    assert_eq!(site.stored(&publisher.node).await, numbers(5, 1..=20));
    assert_eq!(publisher.held(), 50);
    assert_eq!(program.said(FULL), 1, "it is told once");
    assert_eq!(program.said("redis is back"), 0);

    set(&site, "maxmemory", "0");
    publisher.flush().await;
    assert_eq!(site.stored(&publisher.node).await, numbers(5, 1..=70));
    assert_eq!(program.said("redis is back"), 1);
}

#[tokio::test]
async fn a_redis_that_evicts_is_warned_of_at_the_start() {
    let site = site().await;
    set(&site, "maxmemory-policy", "allkeys-lru");
    let folder = tempfile::tempdir().unwrap();
    let program = Program::start(&site, folder.path());
    until("the ingester warns", async || {
        program.said("drops history in silence") == 1 && program.said("noeviction") == 1
    })
    .await;
}

#[tokio::test]
async fn samples_wait_for_a_replica_to_be_promoted() {
    let site = site().await;
    let ingester = site.ingester().await;
    let mut publisher = site.publisher("a", 5).await;
    publisher.sample();
    publisher.flush().await;
    // A primary that is not reached: ours keeps what it has, and takes no writes.
    replicate(&site, &["127.0.0.1", "1"]);
    for _ in 0..10 {
        publisher.sample();
    }
    publisher.send().await;
    let _ = publisher.mark(Duration::from_millis(500)).await;
    assert_eq!(publisher.held(), 10);
    replicate(&site, &["NO", "ONE"]);
    publisher.flush().await;
    assert_eq!(site.stored(&publisher.node).await, numbers(5, 1..=11));
    ingester.stop().await.unwrap();
}

fn replicate(site: &Site, of: &[&str]) {
    let client = redis::Client::open(site.store.url.as_deref().unwrap()).unwrap();
    redis::cmd("REPLICAOF")
        .arg(of)
        .exec(&mut client.get_connection().unwrap())
        .unwrap();
}
