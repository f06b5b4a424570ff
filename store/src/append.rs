//! Writing samples: rows first, then the mark, so that the mark never covers a row that is not there.
//!
//! ```text
//! 1  XADD of each row, in batches         a crash here leaves rows without a mark: the publisher
//! 2  late rows put aside                  sends those samples again, they meet their own rows
//! 3  the mark, some moments later         a crash here: the sample is stored, and known to be
//! 4  `last`, `seen`, once a second
//! ```
//! A row's id is its sample's time, so writing it twice changes nothing: Redis refuses the second.
//! A sample that is stored under the ingester's own time has no such id; its rows and its mark
//! are written in one transaction that holds only while the mark has not moved.
//!
//! After a failure nothing is known of what Redis did. The writer then forgets all it remembers,
//! closes its connections, and reads the marks again before the next write. So it never goes on, over
//! a new connection, from what it believed of a Redis that may have lost it.
//!
//! | module | owns |
//! |---|---|
//! | `rows` | the rows of samples and of closed minutes, on their way to their streams |
//! | `whole` | one sample and its mark in one transaction |
//! | `commit` | the marks, and each node's newest sample |

mod commit;
mod rows;
mod whole;

use std::collections::HashMap;
use std::sync::Arc;

use hostbus_wire::NodePath;
use redis::{Cmd, Pipeline, Value};

use crate::batch::{Entry, Outcome};
use crate::chain::{Link, link};
use crate::config::{Kept, Retention, StoreConfig};
use crate::connection::Connection;
use crate::error::StoreError;
use crate::keys::{NodeKeys, info};
use crate::latest::Latest;
use crate::mark::Mark;
use crate::pipe::{Pipe, Refused};
use crate::resp::Commands;
use crate::row::{bytes, items, text};
use crate::streams::NodeStreams;

use rows::Rows;

/// How long after its arrival a dead node's streams expire, beyond the retention.
const EXPIRE_AFTER_SECONDS: u64 = 3600;

/// Writes samples. The only writer of its nodes: marks are written as they come, and a second writer's would go
/// back and forth with ours. A [`Claim`](crate::Claim) tells of one.
#[derive(Debug)]
pub struct Appender {
    connection: Connection,
    /// The connection for batches; none until it is needed, and after a failure.
    pipe: Option<Pipe>,
    retention: Retention,
    max_series: usize,
    nodes: HashMap<Arc<NodePath>, NodeStreams>,
    /// Nodes whose mark in Redis is behind what is written.
    uncommitted: Vec<Arc<NodePath>>,
    latest: Latest,
    rows: Rows,
    /// Counts the batches of rows that Redis answered for.
    batches: u64,
}

impl Appender {
    /// A writer with connections of its own, for at most `max_series` series a node.
    ///
    /// # Errors
    /// The settings are wrong.
    pub fn open(config: &StoreConfig, max_series: usize) -> Result<Self, StoreError> {
        Ok(Self {
            connection: Connection::open(config)?,
            pipe: None,
            retention: config.retention.clone(),
            max_series,
            nodes: HashMap::new(),
            uncommitted: Vec::new(),
            latest: Latest::default(),
            rows: Rows::default(),
            batches: 0,
        })
    }

    /// Asks Redis whether it serves.
    ///
    /// # Errors
    /// It does not.
    pub async fn ping(&mut self) -> Result<(), StoreError> {
        let answer = self.connection.ping().await;
        self.heed(answer)
    }

    /// Reads the marks of `nodes` from Redis, whatever is remembered of them. What is written of them
    /// is to be [committed](Self::commit) before.
    ///
    /// # Errors
    /// Redis can't be asked. Nothing is remembered then.
    pub async fn marks(
        &mut self,
        nodes: &[Arc<NodePath>],
    ) -> Result<Vec<Option<Mark>>, StoreError> {
        let read = self.read_marks(nodes).await;
        let marks = self.heed(read)?;
        for (node, mark) in nodes.iter().zip(&marks) {
            self.remember(node, *mark);
        }
        Ok(marks)
    }

    /// The mark of a node in Redis as the last commit or reading left it; `None` when nothing is
    /// remembered of the node.
    #[must_use]
    pub fn remembered(&self, node: &NodePath) -> Option<Option<Mark>> {
        self.nodes.get(node).map(|streams| streams.committed)
    }

    /// Forgets a node that is silent. What is written of it later begins with a reading of its mark.
    /// What is written of it is to be [committed](Self::commit) before.
    pub fn forget(&mut self, node: &NodePath) {
        self.nodes.remove(node);
        self.latest.forget(node);
    }

    /// Writes the rows of `entries`, in their order for each node, and takes the entries. Their marks
    /// wait for the next [commit](Self::commit). `now_ms` is the ingester's clock, by which streams are
    /// trimmed.
    ///
    /// # Errors
    /// Redis failed. All, some or none of it was done, and the entries are left as they were; the same
    /// call may be made again, and completes it.
    pub async fn append(
        &mut self,
        entries: &mut Vec<Entry>,
        now_ms: u64,
    ) -> Result<Outcome, StoreError> {
        let written = self.try_append(entries, now_ms).await;
        let (outcome, written) = self.heed(written)?;
        for (entry, written) in entries.drain(..).zip(written) {
            if written {
                let sample = Box::new(entry.sample);
                self.latest.take(&entry.node, sample, entry.at_ms, now_ms);
            }
        }
        Ok(outcome)
    }

    /// Tells whether something is left to [commit](Self::commit), now or later.
    #[must_use]
    pub fn has_uncommitted(&self) -> bool {
        !self.uncommitted.is_empty() || self.latest.waits()
    }

    /// Tells whether a Redis that is killed now would keep all that it has answered for. With its
    /// append-only file on, it answers before it writes when the disk is slow.
    ///
    /// # Errors
    /// Redis can't be asked.
    pub async fn settled(&mut self) -> Result<bool, StoreError> {
        let asked = self
            .connection
            .command(redis::cmd("INFO").arg("persistence"))
            .await;
        let reply = match asked {
            // A server that keeps this to itself.
            Err(StoreError::Refused { .. } | StoreError::Denied { .. }) => return Ok(true),
            other => self.heed(other)?,
        };
        let waiting = text(&reply)
            .unwrap_or_default()
            .lines()
            .find_map(|line| line.strip_prefix("aof_buffer_length:"));
        Ok(waiting.is_none_or(|bytes| bytes.trim() == "0"))
    }

    /// After a failure, forgets what is believed of Redis, and closes what leads there.
    fn heed<T>(&mut self, result: Result<T, StoreError>) -> Result<T, StoreError> {
        if result.is_err() {
            self.nodes.clear();
            self.uncommitted.clear();
            self.pipe = None;
            self.connection = self.connection.another();
        }
        result
    }

    /// Gives what became of it, and of each entry whether it is written.
    async fn try_append(
        &mut self,
        entries: &[Entry],
        now_ms: u64,
    ) -> Result<(Outcome, Vec<bool>), StoreError> {
        self.learn_marks(entries).await?;
        let mut outcome = Outcome::default();
        let mut written = vec![false; entries.len()];
        let mut run = Vec::with_capacity(entries.len());
        for (entry, written) in entries.iter().zip(&mut written) {
            if !self.continues(entry, &mut outcome) {
                continue;
            }
            // Nothing that is written twice can tell a second time: not in a run.
            if entry.own_time && entry.step.is_some() {
                self.write_run(&run, now_ms, &mut outcome).await?;
                run.clear();
                *written = self.write_whole(entry, now_ms, &mut outcome).await?;
            } else {
                *written = true;
                run.push(entry);
            }
        }
        self.write_run(&run, now_ms, &mut outcome).await?;
        Ok((outcome, written))
    }

    /// Tells whether `entry` is to be written, and moves the remembered mark on if so.
    fn continues(&mut self, entry: &Entry, outcome: &mut Outcome) -> bool {
        let (Some(step), Some(node)) = (entry.step, self.nodes.get_mut(&entry.node)) else {
            return true;
        };
        match link(node.mark, step) {
            Link::Next => {
                node.mark = Some(step.mark);
                if !std::mem::replace(&mut node.listed, true) {
                    self.uncommitted.push(Arc::clone(&entry.node));
                }
                true
            }
            Link::Stored => {
                outcome.stored_before += 1;
                if let Some(mark) = node.committed {
                    outcome.marks.push((Arc::clone(&entry.node), mark));
                }
                false
            }
            Link::Broken => {
                if !outcome.broken.contains(&entry.node) {
                    outcome.broken.push(Arc::clone(&entry.node));
                }
                false
            }
        }
    }

    async fn learn_marks(&mut self, entries: &[Entry]) -> Result<(), StoreError> {
        let mut unknown: Vec<Arc<NodePath>> = Vec::new();
        for entry in entries {
            if !self.nodes.contains_key(&entry.node) {
                unknown.push(Arc::clone(&entry.node));
            }
        }
        unknown.sort_unstable();
        unknown.dedup();
        for (node, mark) in unknown.iter().zip(self.read_marks(&unknown).await?) {
            self.remember(node, mark);
        }
        Ok(())
    }

    async fn read_marks(&self, nodes: &[Arc<NodePath>]) -> Result<Vec<Option<Mark>>, StoreError> {
        let mut pipeline = Pipeline::with_capacity(nodes.len());
        for node in nodes {
            pipeline.add_command(mark_query(&NodeKeys::new(node)));
        }
        let replies = self.connection.pipeline(&pipeline).await?;
        Ok(replies.iter().map(read_mark).collect())
    }

    fn remember(&mut self, node: &Arc<NodePath>, mark: Option<Mark>) {
        match self.nodes.get_mut(node) {
            Some(streams) => {
                streams.mark = mark;
                streams.committed = mark;
            }
            None => {
                let streams = NodeStreams::new(NodeKeys::new(node), mark);
                self.nodes.insert(Arc::clone(node), streams);
            }
        }
    }

    /// Sends a batch, over a connection that is made when there is none.
    async fn send(
        &mut self,
        commands: impl Fn(&Self) -> &Commands,
    ) -> Result<Vec<Refused>, StoreError> {
        let mut pipe = match self.pipe.take() {
            Some(pipe) => pipe,
            None => self.connection.pipe().await?,
        };
        let refused = pipe.send(commands(self)).await?;
        self.pipe = Some(pipe);
        Ok(refused)
    }
}

/// How long the rows of a node that falls silent now stay, in seconds.
fn expiry_seconds(kept: Kept) -> u64 {
    kept.seconds.saturating_add(EXPIRE_AFTER_SECONDS)
}

fn mark_query(keys: &NodeKeys) -> Cmd {
    let mut query = redis::cmd("HMGET");
    query
        .arg(keys.info())
        .arg(info::COMMITTED_BOOT)
        .arg(info::COMMITTED_SEQ);
    query
}

fn read_mark(reply: &Value) -> Option<Mark> {
    let [boot, seq] = items(reply)? else {
        return None;
    };
    Mark::parse(bytes(boot), bytes(seq))
}
