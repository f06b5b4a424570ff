//! The real writer, keeper and reader on a real server, each beside the model.

use std::collections::BTreeSet;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use hostbus_store::{
    Appender, Entry, Keeper, Kept, Mark, Outcome, Reader, Retention, Step, StoreError, Tended,
};
use hostbus_wire::NodePath;

use crate::fixture::node;
use crate::model::Series;
use crate::samples::sample;
use crate::server::Server;

pub(crate) const MINUTE: u64 = 60_000;
pub(crate) const HOUR: u64 = 60 * MINUTE;
pub(crate) const DAY: u64 = 24 * HOUR;
/// A whole day, so that hours and blocks begin with it.
const T: u64 = 1_763_596_800_000;

/// Seconds, and of these as a stream, of each tier.
type Settings = [(u64, Option<u64>); 4];

/// Retentions that differ in all that matters.
pub(crate) const SETTINGS: [Settings; 7] = [
    [
        (30 * 86_400, Some(3_600)),
        (86_400, None),
        (90 * 86_400, Some(3 * 86_400)),
        (400 * 86_400, Some(30 * 86_400)),
    ],
    [
        (10 * 86_400, Some(3_600)),
        (10 * 86_400, Some(3_600)),
        (60 * 86_400, Some(3_600)),
        (400 * 86_400, Some(3_600)),
    ],
    [
        (7_200, None),
        (86_400, None),
        (10 * 86_400, Some(86_400)),
        (100 * 86_400, None),
    ],
    [
        (86_400, Some(7_200)),
        (0, None),
        (20 * 86_400, Some(86_400)),
        (200 * 86_400, Some(86_400)),
    ],
    [
        (86_400, None),
        (0, None),
        (0, None),
        (30 * 86_400, Some(3_600)),
    ],
    [
        (3 * 86_400, Some(3_600)),
        (3 * 86_400, None),
        (0, None),
        (0, None),
    ],
    [
        (3_600, Some(3_600)),
        (7_200, Some(3_600)),
        (86_400, Some(3_600)),
        (10 * 86_400, None),
    ],
];

/// A node as its publisher and the model know it.
pub(crate) struct Node {
    pub(crate) path: Arc<NodePath>,
    /// Its publisher numbers its samples.
    pub(crate) numbered: bool,
    seq: u64,
    pub(crate) newest_ms: u64,
    /// What is not committed, in order.
    pub(crate) outbox: Vec<Entry>,
    pub(crate) series: Vec<Series>,
    /// The times of rows that came late, or beside another one.
    pub(crate) odd_times: BTreeSet<u64>,
}

/// All of it.
pub(crate) struct Site<'s> {
    server: &'s mut Server,
    pub(crate) nodes: Vec<Node>,
    writer: Appender,
    pub(crate) keeper: Keeper,
    pub(crate) reader: Reader,
    pub(crate) retention: Retention,
    /// Settings under which rows were dropped since the keeper was everywhere.
    pub(crate) former: Vec<Retention>,
    pub(crate) now_ms: u64,
    /// Before this the rows of a tier may be gone, whatever the settings say later.
    pub(crate) gone_ms: [u64; 4],
}

impl<'s> Site<'s> {
    /// On an empty server.
    pub(crate) fn new(server: &'s mut Server) -> Self {
        redis::cmd("FLUSHALL").exec(&mut server.redis()).unwrap();
        let nodes = ["a", "b"].map(|name| Node {
            path: node(name),
            numbered: name == "a",
            seq: 0,
            newest_ms: T,
            outbox: Vec::new(),
            series: Vec::new(),
            odd_times: BTreeSet::new(),
        });
        let retention = retention(&SETTINGS[0]);
        let (writer, keeper, reader) = open(server, &retention);
        Self {
            server,
            nodes: nodes.into(),
            writer,
            keeper,
            reader,
            retention,
            former: Vec::new(),
            now_ms: T,
            gone_ms: [0; 4],
        }
    }

    /// Lets time pass.
    pub(crate) fn pass(&mut self, ms: u64) {
        self.now_ms += ms;
        self.age();
    }

    /// Other settings for all, which begin anew.
    pub(crate) fn settings(&mut self, which: usize) {
        let former = std::mem::replace(&mut self.retention, retention(&SETTINGS[which]));
        self.former.push(former);
        (self.writer, self.keeper, self.reader) = open(self.server, &self.retention);
        self.writer_forgets();
        self.age();
    }

    pub(crate) fn restart_writer(&mut self) {
        self.writer = open(self.server, &self.retention).0;
        self.writer_forgets();
    }

    pub(crate) fn restart_keeper(&mut self) {
        self.keeper = open(self.server, &self.retention).1;
    }

    /// The writer forgets a node, as it does with one that is silent.
    pub(crate) async fn forget(&mut self, number: usize) {
        let outcome = self.writer.commit(self.now_ms).await.unwrap();
        self.committed(&outcome);
        let node = &mut self.nodes[number];
        self.writer.forget(&node.path);
        for series in &mut node.series {
            series.known.clear();
        }
    }

    /// Kills the server when it has written down all that it answered for. It comes back by itself.
    pub(crate) async fn restart_redis(&mut self) {
        let until = Instant::now() + Duration::from_secs(20);
        while !self.writer.settled().await.unwrap() {
            assert!(Instant::now() < until, "the disk does not keep up");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // A writer that has nothing to say would not notice.
        self.restart_writer();
        self.server.restart().await;
    }

    /// The entry of a sample of a node at `at_ms`, which the model takes in.
    pub(crate) fn entry(&mut self, number: usize, seed: u64, at_ms: u64, own_time: bool) -> Entry {
        let node = &mut self.nodes[number];
        node.seq += 1;
        let mark = |seq| Mark { boot: 7, seq };
        let entry = Entry {
            node: Arc::clone(&node.path),
            at_ms,
            own_time,
            sample: sample(seed, node.seq, at_ms),
            step: node.numbered.then(|| Step {
                after: (node.seq > 1).then(|| mark(node.seq - 1)),
                mark: mark(node.seq),
            }),
        };
        node.newest_ms = node.newest_ms.max(at_ms);
        entry
    }

    /// Writes entries of one node, after those that are not committed if the writer does not know
    /// of these.
    pub(crate) async fn write(&mut self, number: usize, mut entries: Vec<Entry>, commit: bool) {
        loop {
            let mut sent = entries.clone();
            match self.writer.append(&mut sent, self.now_ms).await {
                Ok(outcome) => {
                    assert_eq!(outcome.refusal, None);
                    self.committed(&outcome);
                    if outcome.broken.is_empty() {
                        break;
                    }
                    // The writer began anew behind what was not committed.
                    let outbox = std::mem::take(&mut self.nodes[number].outbox);
                    assert!(!outbox.is_empty(), "{outcome:?}");
                    entries.splice(0..0, outbox);
                }
                Err(error) => {
                    assert!(error.may_retry(), "{error}");
                    self.writer_forgets();
                }
            }
        }
        self.took(number, entries);
        if commit {
            let outcome = self.writer.commit(self.now_ms).await.unwrap();
            self.committed(&outcome);
        }
    }

    /// Writes while the keeper visits one series.
    pub(crate) async fn write_and_visit(
        &mut self,
        number: usize,
        entries: Vec<Entry>,
        series: &str,
    ) {
        let mut sent = entries.clone();
        let append = self.writer.append(&mut sent, self.now_ms);
        let path = &self.nodes[number].path;
        let visit = self.keeper.tend(path, series, self.now_ms);
        let (appended, visited) = tokio::join!(append, visit);
        match visited {
            Ok(tended) => assert_eq!(trouble(tended), (0, 0), "{series}"),
            Err(error) => assert!(error.may_retry(), "{error}"),
        }
        match appended {
            Ok(outcome) if outcome.broken.is_empty() => {
                assert_eq!(outcome.refusal, None);
                self.committed(&outcome);
                self.took(number, entries);
            }
            Ok(_) => self.write(number, entries, false).await,
            Err(error) => {
                assert!(error.may_retry(), "{error}");
                self.writer_forgets();
                self.write(number, entries, false).await;
            }
        }
    }

    /// Visits a series once; the visit ends after so many waits for Redis, if it is told so.
    pub(crate) async fn visit(&mut self, number: usize, series: &str, waits: Option<usize>) {
        let path = Arc::clone(&self.nodes[number].path);
        if let Some(waits) = waits {
            kill_after(waits, self.keeper.tend(&path, series, self.now_ms)).await;
            return self.restart_keeper();
        }
        loop {
            match self.keeper.tend(&path, series, self.now_ms).await {
                Ok(tended) => return assert_eq!(trouble(tended), (0, 0), "{series}"),
                Err(error) => assert!(error.may_retry(), "{error}"),
            }
        }
    }

    /// Visits all series until there is nothing more to do, also when no more late rows come.
    pub(crate) async fn tend_all(&mut self) {
        if self.tend_each().await {
            self.pass(MINUTE);
            self.tend_each().await;
        }
        self.former.clear();
    }

    /// Visits all series until there is nothing more to do now. Tells whether late rows wait.
    async fn tend_each(&mut self) -> bool {
        let mut waiting = false;
        for node in &self.nodes {
            let names = || node.series.iter().map(|series| series.name.clone());
            let due = loop {
                match self
                    .keeper
                    .due(&node.path, names().collect(), self.now_ms)
                    .await
                {
                    Ok(due) => break due,
                    Err(error) => assert!(error.may_retry(), "{error}"),
                }
            };
            for series in &due {
                let mut visits = 0;
                loop {
                    visits += 1;
                    assert!(visits < 1_000, "there is always more to do");
                    let tended = self.keeper.tend(&node.path, series, self.now_ms);
                    match tended.await {
                        Ok(tended) => {
                            assert_eq!(trouble(tended), (0, 0), "{series}");
                            if !tended.more {
                                waiting |= tended.waiting;
                                break;
                            }
                        }
                        Err(error) => assert!(error.may_retry(), "{error}"),
                    }
                }
            }
        }
        waiting
    }

    fn committed(&mut self, outcome: &Outcome) {
        for (path, mark) in &outcome.marks {
            let node = self.nodes.iter_mut().find(|node| node.path == *path);
            let outbox = &mut node.unwrap().outbox;
            outbox.retain(|entry| entry.step.is_some_and(|step| step.mark > *mark));
        }
    }

    fn writer_forgets(&mut self) {
        for series in self.nodes.iter_mut().flat_map(|node| &mut node.series) {
            series.known.clear();
        }
    }
}

fn retention(settings: &Settings) -> Retention {
    let kept = settings.map(|(seconds, stream_seconds)| Kept {
        seconds,
        stream_seconds,
    });
    let [raw, minute, ten_minutes, hour] = kept;
    Retention {
        raw,
        minute,
        ten_minutes,
        hour,
    }
}

fn open(server: &Server, retention: &Retention) -> (Appender, Keeper, Reader) {
    let mut config = server.config.clone();
    config.retention = retention.clone();
    (
        Appender::open(&config, 100).unwrap(),
        Keeper::open(&config).unwrap(),
        Reader::open(&config).unwrap(),
    )
}

fn trouble(tended: Tended) -> (u64, u64) {
    (tended.malformed, tended.refused)
}

/// Drops a visit after so many waits for Redis.
async fn kill_after(waits: usize, visit: impl Future<Output = Result<Tended, StoreError>>) {
    let mut visit = pin!(visit);
    let mut waited = 0;
    std::future::poll_fn(|context| {
        waited += 1;
        match visit.as_mut().poll(context) {
            Poll::Pending if waited <= waits => Poll::Pending,
            Poll::Pending | Poll::Ready(_) => Poll::Ready(()),
        }
    })
    .await;
}
