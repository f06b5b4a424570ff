//! The publisher on a real bus: mosquitto as the broker, and a client that keeps the ingester's
//! rules.

#![expect(clippy::unwrap_used, reason = "a test may panic, its helpers too")]

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use hostbus_client::{Connection, Message};
use hostbus_daemon::{CancellationToken, Running};
use hostbus_publisher::outbox::{OutboxConfig, Persist};
use hostbus_publisher::{Config, Error};
use hostbus_wire::committed::Committed;
use hostbus_wire::info::Info;
use hostbus_wire::{QoS, Sample, codec};
use rustix::mount::{MountFlags, mount};
use tokio::time::timeout;

mod mosquitto;
mod namespace;
mod silence;

use mosquitto::{Broker, DEADLINE, NODE, config, find, next_message};

fn status<'w>(wanted: &'w str) -> impl Fn(&Message) -> Option<()> + 'w {
    move |message| (message.payload == wanted).then_some(())
}

fn sample(message: &Message) -> Option<Sample> {
    Some(Sample::decode(&message.payload).unwrap())
}

#[tokio::test]
async fn a_host_shows_up_is_described_and_says_good_bye() {
    let broker = Broker::start();
    let mut watcher = broker.watch("#");
    let publisher = broker.publisher(0.1).await;
    find(&mut watcher, "status", status("online")).await;
    let info: Info = find(&mut watcher, "info", |message| {
        Some(codec::decode(&message.payload).unwrap())
    })
    .await;
    assert_eq!(info.collectors["cpu"], "on");
    let first = find(&mut watcher, "metrics", sample).await;
    assert_eq!(first.place().unwrap().seq, 1);
    assert!(
        first.cpu.unwrap().usage_percent.is_some(),
        "the first sample has rates"
    );
    let second = find(&mut watcher, "metrics", sample).await;
    assert_eq!(second.place().unwrap().seq, 2);
    assert!(second.ts > first.ts);

    // As the will of an earlier connection that the broker fires late.
    let late_will = watcher.sender();
    late_will
        .publish(format!("{NODE}/status"), QoS::AtLeastOnce, true, "offline")
        .await
        .unwrap();
    find(&mut watcher, "status", status("offline")).await;
    find(&mut watcher, "status", status("online")).await;

    let stopping = Instant::now();
    publisher.stop().await.unwrap();
    assert!(
        stopping.elapsed() < Duration::from_millis(1500),
        "{:?}",
        stopping.elapsed()
    );
    find(&mut watcher, "status", status("offline")).await;

    // Who comes later finds the last word on each.
    let mut late = broker.watch("#");
    find(&mut late, "status", |message| {
        (message.retained && message.payload == "offline").then_some(())
    })
    .await;
    let mut late = broker.watch("metrics");
    let retained = find(&mut late, "metrics", sample).await.place().unwrap();
    assert!(retained.seq >= 2);
}

#[tokio::test]
async fn a_bus_that_is_away_at_the_start_is_waited_for() {
    let mut broker = Broker::start();
    broker.kill();
    let publisher = broker.publisher(0.1).await;
    broker.restart();
    let mut watcher = broker.watch("#");
    find(&mut watcher, "status", status("online")).await;
    find(&mut watcher, "metrics", sample).await;
    publisher.stop().await.unwrap();
}

/// Takes samples as the ingester does, until it has `count` of them.
async fn ingest(connection: &mut Connection, stored: &mut Vec<u64>, count: usize) {
    let sender = connection.sender();
    let ingesting = async {
        while stored.len() < count {
            let message = next_message(connection).await;
            let place = sample(&message).unwrap().place().unwrap();
            let last = stored.last().copied().unwrap_or(0);
            let resend = place.seq > last + 1 && place.seq != place.first;
            if place.seq > last && !resend {
                stored.push(place.seq);
            }
            let seq = stored.last().copied().unwrap_or(0);
            let mark = codec::encode(&Committed {
                boot: place.boot,
                seq,
                resend,
            })
            .unwrap();
            // A mark that gets lost with the connection is told again with the next sample.
            let _ = sender
                .publish(format!("{NODE}/committed"), QoS::AtMostOnce, true, mark)
                .await;
        }
    };
    timeout(DEADLINE, ingesting).await.expect("samples arrive");
}

#[tokio::test]
async fn no_sample_is_lost_or_stored_twice_when_the_broker_is_killed() {
    let mut broker = Broker::start();
    let mut ingester = broker.watch("metrics");
    let mut stored = Vec::new();
    let publisher = broker.publisher(0.1).await;
    for rounds in 1..=3 {
        ingest(&mut ingester, &mut stored, rounds * 10).await;
        broker.kill();
        broker.restart();
    }
    ingest(&mut ingester, &mut stored, 60).await;
    assert_eq!(stored, (1..=60).collect::<Vec<_>>());
    publisher.stop().await.unwrap();
}

async fn publisher_with(broker: &Broker, outbox: OutboxConfig) -> Result<Running<Error>, Error> {
    let config = Config {
        outbox,
        ..config(0.1)
    };
    hostbus_publisher::start(config, broker.bus(), CancellationToken::new()).await
}

/// What the ingester of these tests has stored: samples of several runs.
#[derive(Default)]
struct Store {
    taken: Option<(u64, u64)>,
    /// Run, number and time.
    stored: Vec<(u64, u64, u64)>,
}

impl Store {
    /// Takes samples by the ingester's rule until `done`.
    async fn ingest(&mut self, connection: &mut Connection, done: impl Fn(&Self) -> bool) {
        let sender = connection.sender();
        let ingesting = async {
            while !done(self) {
                let message = next_message(connection).await;
                let sample = sample(&message).unwrap();
                let place = sample.place().unwrap();
                let (boot, seq) = self.taken.unwrap_or((0, 0));
                let mark = if (place.boot, place.seq) <= (boot, seq) {
                    (boot, seq, false)
                } else if place.seq == place.first || (place.boot == boot && place.seq == seq + 1) {
                    self.taken = Some((place.boot, place.seq));
                    self.stored
                        .push((place.boot, place.seq, sample.ts.unwrap()));
                    (place.boot, place.seq, false)
                } else if place.boot == boot {
                    (boot, seq, true)
                } else {
                    (place.boot, 0, true)
                };
                let mark = codec::encode(&Committed {
                    boot: mark.0,
                    seq: mark.1,
                    resend: mark.2,
                })
                .unwrap();
                let _ = sender
                    .publish(format!("{NODE}/committed"), QoS::AtMostOnce, true, mark)
                    .await;
            }
        };
        let done = timeout(DEADLINE, ingesting).await;
        done.unwrap_or_else(|_| panic!("samples arrive, {:?} did", self.stored));
    }

    fn of_run(&self, number: usize) -> Vec<u64> {
        let mut boots: Vec<u64> = self.stored.iter().map(|(boot, ..)| *boot).collect();
        boots.dedup();
        assert!(boots.is_sorted_by(|a, b| a < b), "{boots:?}");
        let boot = boots.get(number);
        let of_run = self.stored.iter().filter(|(b, ..)| Some(b) == boot);
        of_run.map(|(_, seq, _)| *seq).collect()
    }
}

fn in_folder(folder: &Path, persist: Persist) -> OutboxConfig {
    OutboxConfig {
        persist,
        folder: Some(folder.to_owned()),
        resend_after_seconds: 0.5,
        ..OutboxConfig::default()
    }
}

fn file_of(folder: &Path) -> PathBuf {
    folder.join("outbox-home.web1.redb")
}

async fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < DEADLINE, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn what_a_stop_leaves_behind_is_sent_at_the_next_start() {
    let mut broker = Broker::start();
    let folder = tempfile::tempdir().unwrap();
    broker.kill();
    for _ in 0..2 {
        let publisher = publisher_with(&broker, in_folder(folder.path(), Persist::Away))
            .await
            .unwrap();
        tokio::time::sleep(Duration::from_millis(600)).await;
        publisher.stop().await.unwrap();
    }
    broker.restart();
    let mut ingester = broker.watch("metrics");
    let mut store = Store::default();
    let publisher = publisher_with(&broker, in_folder(folder.path(), Persist::Away))
        .await
        .unwrap();
    store
        .ingest(&mut ingester, |store| store.of_run(2).len() >= 10)
        .await;
    for run in 0..3 {
        let seqs = store.of_run(run);
        assert!(seqs.len() >= 3, "{seqs:?}");
        assert_eq!(seqs, (1..=seqs.len() as u64).collect::<Vec<_>>());
    }
    assert!(store.stored.is_sorted_by_key(|(.., ts)| *ts));
    eventually("the file goes once all is delivered", || {
        !file_of(folder.path()).exists()
    })
    .await;
    publisher.stop().await.unwrap();
}

#[tokio::test]
async fn a_publisher_that_is_killed_loses_nothing_that_was_written() {
    let mut broker = Broker::start();
    let folder = tempfile::tempdir().unwrap();
    broker.kill();
    let mut kept = Vec::new();
    for run in 0..3 {
        let mut process = Command::new(env!("CARGO_BIN_EXE_hostbus-publisher"))
            .env("HOSTBUS_BUS__URL", broker.bus().url)
            .env("HOSTBUS_PUBLISHER__NODE", "web1")
            .env("HOSTBUS_PUBLISHER__INTERVAL_SECONDS", "0.1")
            .env("HOSTBUS_PUBLISHER__OUTBOX__PERSIST", "always")
            .env("HOSTBUS_PUBLISHER__OUTBOX__FOLDER", folder.path())
            .env("HOSTBUS_LOG__LEVEL", "info,hostbus_publisher=debug")
            .env("HOSTBUS_LOG__FORMAT", "json")
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = BufReader::new(process.stderr.take().unwrap());
        let mut lines = log.lines().map_while(Result::ok);
        let is_kept = |line: &String| line.contains("\"kept\"");
        let mut seen = lines.by_ref().filter(is_kept).take(10 + run).count();
        process.kill().unwrap();
        process.wait().unwrap();
        seen += lines.filter(is_kept).count();
        assert!(seen >= 10, "{seen}");
        kept.push(seen);
    }
    broker.restart();
    let mut ingester = broker.watch("metrics");
    let mut store = Store::default();
    let publisher = publisher_with(&broker, in_folder(folder.path(), Persist::Always))
        .await
        .unwrap();
    store
        .ingest(&mut ingester, |store| store.of_run(3).len() >= 5)
        .await;
    publisher.stop().await.unwrap();
    for (run, kept) in kept.iter().enumerate() {
        let seqs = store.of_run(run);
        assert!(seqs.len() >= *kept, "{} of {kept}", seqs.len());
        assert_eq!(seqs, (1..=seqs.len() as u64).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn a_second_publisher_of_a_node_on_this_host_does_not_start() {
    let broker = Broker::start();
    let folder = tempfile::tempdir().unwrap();
    let first = publisher_with(&broker, in_folder(folder.path(), Persist::Away))
        .await
        .unwrap();
    let second = publisher_with(&broker, in_folder(folder.path(), Persist::Always));
    let error = second.await.unwrap_err().to_string();
    assert!(
        error.contains("home.web1") && error.contains("outbox.folder"),
        "{error}"
    );
    first.stop().await.unwrap();
    let third = publisher_with(&broker, in_folder(folder.path(), Persist::Away))
        .await
        .unwrap();
    third.stop().await.unwrap();
}

/// The event of `kind` that a publisher tells, with its message.
async fn event(watcher: &mut Connection, kind: &str) -> String {
    find(watcher, "events", |message| {
        let event: hostbus_wire::event::Event = codec::decode(&message.payload).unwrap();
        (event.kind == kind).then_some(event.message)
    })
    .await
}

#[tokio::test]
async fn a_folder_that_can_not_be_made_is_told_and_used_once_it_can() {
    let broker = Broker::start();
    let parent = tempfile::tempdir().unwrap();
    // In a place where a file stands, not even root can make a folder.
    let blocker = parent.path().join("state");
    std::fs::write(&blocker, "").unwrap();
    let mut watcher = broker.watch("events");
    let mut ingester = broker.watch("metrics");
    let publisher = publisher_with(&broker, in_folder(&blocker.join("outbox"), Persist::Always))
        .await
        .unwrap();
    let message = event(&mut watcher, "outbox-disk-failed").await;
    assert!(message.contains("outbox.folder"), "{message}");
    let mut store = Store::default();
    store
        .ingest(&mut ingester, |store| store.stored.len() >= 5)
        .await;
    std::fs::remove_file(&blocker).unwrap();
    event(&mut watcher, "outbox-disk-recovered").await;
    eventually("samples are written again", || {
        file_of(&blocker.join("outbox")).exists()
    })
    .await;
    store
        .ingest(&mut ingester, |store| store.stored.len() >= 30)
        .await;
    let seqs = store.of_run(0);
    assert_eq!(seqs, (1..=seqs.len() as u64).collect::<Vec<_>>());
    publisher.stop().await.unwrap();
}

/// A test with mounts of its own, in a process where nobody else sees them.
fn with_own_mounts(name: &str, test: impl Future<Output = ()>) {
    if namespace::inside(name, &["--mount", "--propagation", "private"]) {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all().build().unwrap().block_on(test);
    }
}

#[test]
fn a_disk_that_is_full_loses_nothing_and_is_used_again_once_there_is_room() {
    with_own_mounts(
        "a_disk_that_is_full_loses_nothing_and_is_used_again_once_there_is_room",
        on_a_full_disk(),
    );
}

async fn on_a_full_disk() {
    let broker = Broker::start();
    let disk = tempfile::tempdir().unwrap();
    let flags = MountFlags::empty();
    mount("test", disk.path(), "tmpfs", flags, Some(c"size=2m")).unwrap();
    let ballast = disk.path().join("ballast");
    std::fs::write(&ballast, vec![1; 2 * 1024 * 1024 - 64 * 1024]).unwrap();
    let mut watcher = broker.watch("events");
    let mut ingester = broker.watch("metrics");
    let folder = disk.path().join("outbox");
    let publisher = publisher_with(&broker, in_folder(&folder, Persist::Always))
        .await
        .unwrap();
    let message = event(&mut watcher, "outbox-disk-failed").await;
    assert!(message.contains("make room"), "{message}");
    let mut store = Store::default();
    store
        .ingest(&mut ingester, |store| store.stored.len() >= 10)
        .await;
    std::fs::remove_file(&ballast).unwrap();
    event(&mut watcher, "outbox-disk-recovered").await;
    store
        .ingest(&mut ingester, |store| store.stored.len() >= 40)
        .await;
    let seqs = store.of_run(0);
    assert_eq!(seqs, (1..=seqs.len() as u64).collect::<Vec<_>>());
    publisher.stop().await.unwrap();
}

#[test]
fn a_disk_that_hangs_holds_up_neither_the_start_nor_samples_nor_the_stop() {
    with_own_mounts(
        "a_disk_that_hangs_holds_up_neither_the_start_nor_samples_nor_the_stop",
        on_a_disk_that_hangs(),
    );
}

async fn on_a_disk_that_hangs() {
    let broker = Broker::start();
    let disk = tempfile::tempdir().unwrap();
    let _server = silence::mount_silence(disk.path());
    let mut watcher = broker.watch("events");
    let mut ingester = broker.watch("metrics");
    let folder = disk.path().join("outbox");
    let starting = publisher_with(&broker, in_folder(&folder, Persist::Always));
    let publisher = timeout(DEADLINE, starting).await.unwrap().unwrap();
    let message = event(&mut watcher, "outbox-disk-failed").await;
    assert!(message.contains("does not answer"), "{message}");
    let mut store = Store::default();
    store
        .ingest(&mut ingester, |store| store.stored.len() >= 20)
        .await;
    let seqs = store.of_run(0);
    assert_eq!(seqs, (1..=seqs.len() as u64).collect::<Vec<_>>());
    timeout(DEADLINE, publisher.stop()).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_file_that_is_damaged_at_the_start_is_set_aside_and_told_and_samples_flow() {
    let broker = Broker::start();
    let folder = tempfile::tempdir().unwrap();
    let garbage = vec![0x5a; 100_000];
    std::fs::write(file_of(folder.path()), &garbage).unwrap();
    let mut watcher = broker.watch("events");
    let mut ingester = broker.watch("metrics");
    let publisher = publisher_with(&broker, in_folder(folder.path(), Persist::Always))
        .await
        .unwrap();
    let message = event(&mut watcher, "outbox-broken").await;
    let name = ".redb.broken-";
    let aside = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.to_string_lossy().contains(name))
        .expect("it is kept");
    assert!(message.contains(aside.to_str().unwrap()), "{message}");
    assert_eq!(std::fs::read(&aside).unwrap(), garbage);
    let mut store = Store::default();
    store
        .ingest(&mut ingester, |store| store.stored.len() >= 10)
        .await;
    let seqs = store.of_run(0);
    assert_eq!(seqs, (1..=seqs.len() as u64).collect::<Vec<_>>());
    publisher.stop().await.unwrap();
}

#[tokio::test]
async fn a_reload_changes_a_running_publisher_and_a_bad_one_does_not() {
    let broker = Broker::start();
    let mut watcher = broker.watch("metrics");
    let hourly = config(3600.0);
    let token = CancellationToken::new();
    let (publisher, handle) = hostbus_publisher::start_with_handle(hourly, broker.bus(), token)
        .await
        .unwrap();
    let first = find(&mut watcher, "metrics", sample).await;
    assert!(first.cpu.is_some());

    let mut quick = config(0.1);
    quick.collectors.cpu.enabled = false;
    let mut bad = quick.clone();
    bad.interval_seconds = 0.0;
    let error = handle.reload(&bad).unwrap_err().to_string();
    assert!(error.contains("interval_seconds"), "{error}");
    assert!(handle.beats());

    handle.reload(&quick).unwrap();
    let later = find(&mut watcher, "metrics", |message| {
        sample(message).filter(|sample| sample.place().unwrap().seq >= 4)
    })
    .await;
    assert!(later.cpu.is_none() && later.memory.is_some());
    assert!(handle.beats(), "it answered the question before");
    publisher.stop().await.unwrap();
}
