//! Writing samples: rows first, then the mark, so that the mark never covers a row that is not there.
//!
//! ```text
//! 1  XADD of each row, in pipelines       a crash here leaves rows without a mark: the publisher
//! 2  late rows put aside                  sends those samples again, they meet their own rows
//! 3  the mark, `last`, `seen`             a crash here: the sample is stored, and known to be
//! ```
//! A row's id is its sample's time, so writing it twice changes nothing: Redis refuses the second.
//! A sample that is stored under the ingester's own time has no such id; its rows and its mark
//! are written in one transaction that holds only while the mark has not moved.
//!
//! After a failure nothing is known of what Redis did. The writer then forgets all it remembers,
//! and reads the marks again before the next write.

mod whole;

use std::collections::HashMap;
use std::sync::Arc;

use hostbus_wire::NodePath;
use redis::{Cmd, Pipeline, RedisWrite, Value};

use crate::batch::{Entry, Outcome};
use crate::chain::{Link, link};
use crate::config::{Retention, StoreConfig};
use crate::connection::{Connection, is_past};
use crate::error::StoreError;
use crate::keys::{self, NodeKeys, info};
use crate::late::{self, Refusal};
use crate::mark::Mark;
use crate::row::{bytes, items, text, write_value};
use crate::streams::NodeStreams;

/// About how many commands go to Redis at once: enough to cost little each, few enough that the
/// replies of one pipeline stay small.
const PIPELINE_COMMANDS: usize = 2_000;
/// How long after its arrival a dead node's streams expire, beyond the retention.
const EXPIRE_AFTER_SECONDS: u64 = 3600;
/// The shortest time that `last` is kept.
const LAST_SECONDS: u64 = 300;
/// The interval of a publisher that does not tell its own.
const DEFAULT_INTERVAL_MS: u64 = 10_000;

/// Writes samples. The only writer of its nodes.
#[derive(Debug)]
pub struct Appender {
    connection: Connection,
    retention: Retention,
    max_series: usize,
    nodes: HashMap<Arc<NodePath>, NodeStreams>,
    name: String,
}

impl Appender {
    /// A writer with a connection of its own, for at most `max_series` series a node.
    ///
    /// # Errors
    /// The settings are wrong.
    pub fn open(config: &StoreConfig, max_series: usize) -> Result<Self, StoreError> {
        Ok(Self {
            connection: Connection::open(config)?,
            retention: config.retention.clone(),
            max_series,
            nodes: HashMap::new(),
            name: String::new(),
        })
    }

    /// Asks Redis whether it serves.
    ///
    /// # Errors
    /// It does not.
    pub async fn ping(&self) -> Result<(), StoreError> {
        self.connection.ping().await
    }

    /// Reads the marks of `nodes` from Redis, whatever is remembered of them.
    ///
    /// # Errors
    /// Redis can't be asked. Nothing is remembered then.
    pub async fn marks(
        &mut self,
        nodes: &[Arc<NodePath>],
    ) -> Result<Vec<Option<Mark>>, StoreError> {
        let read = self.read_marks(nodes).await;
        match &read {
            Ok(marks) => {
                for (node, mark) in nodes.iter().zip(marks) {
                    self.remember(node, *mark);
                }
            }
            Err(_) => self.nodes.clear(),
        }
        read
    }

    /// The mark of a node as the last write or reading left it; `None` when nothing is remembered
    /// of the node.
    #[must_use]
    pub fn remembered(&self, node: &NodePath) -> Option<Option<Mark>> {
        self.nodes.get(node).map(|streams| streams.mark)
    }

    /// Forgets a node that is silent. What is written of it later begins with a reading of its mark.
    pub fn forget(&mut self, node: &NodePath) {
        self.nodes.remove(node);
    }

    /// Writes `entries`, in their order for each node. `now_ms` is the ingester's clock, by which
    /// streams are trimmed.
    ///
    /// # Errors
    /// Redis failed. All, some or none of it was done; the same call may be made again, and
    /// completes it.
    pub async fn write(&mut self, entries: &[Entry], now_ms: u64) -> Result<Outcome, StoreError> {
        let written = self.try_write(entries, now_ms).await;
        if written.is_err() {
            self.nodes.clear();
        }
        written
    }

    /// Tells whether a Redis that is killed now would keep all that it has answered for. With its
    /// append-only file on, it answers before it writes when the disk is slow.
    ///
    /// # Errors
    /// Redis can't be asked.
    pub async fn settled(&self) -> Result<bool, StoreError> {
        let reply = match self
            .connection
            .command(redis::cmd("INFO").arg("persistence"))
            .await
        {
            Ok(reply) => reply,
            // A server that keeps this to itself.
            Err(StoreError::Refused { .. } | StoreError::Denied { .. }) => return Ok(true),
            Err(error) => return Err(error),
        };
        let waiting = text(&reply)
            .unwrap_or_default()
            .lines()
            .find_map(|line| line.strip_prefix("aof_buffer_length:"));
        Ok(waiting.is_none_or(|bytes| bytes.trim() == "0"))
    }

    async fn try_write(&mut self, entries: &[Entry], now_ms: u64) -> Result<Outcome, StoreError> {
        self.learn_marks(entries).await?;
        let mut outcome = Outcome::default();
        let mut run = Vec::with_capacity(entries.len());
        for entry in entries {
            if !self.continues(entry, &mut outcome) {
                continue;
            }
            // Nothing that is written twice can tell a second time: not in a run.
            if entry.own_time && entry.step.is_some() {
                self.write_run(&run, now_ms, &mut outcome).await?;
                run.clear();
                self.write_whole(entry, now_ms, &mut outcome).await?;
                self.conclude(&[entry], now_ms, &mut outcome).await?;
            } else {
                run.push(entry);
            }
        }
        self.write_run(&run, now_ms, &mut outcome).await?;
        Ok(outcome)
    }

    /// Tells whether `entry` is to be written, and moves the remembered mark on if so.
    fn continues(&mut self, entry: &Entry, outcome: &mut Outcome) -> bool {
        let (Some(step), Some(node)) = (entry.step, self.nodes.get_mut(&entry.node)) else {
            return true;
        };
        match link(node.mark, step) {
            Link::Next => {
                node.mark = Some(step.mark);
                true
            }
            Link::Stored => {
                outcome.stored_before += 1;
                if let Some(mark) = node.mark {
                    note_mark(&mut outcome.marks, &entry.node, mark);
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
            Some(streams) => streams.mark = mark,
            None => {
                let streams = NodeStreams::new(NodeKeys::new(node), mark);
                self.nodes.insert(Arc::clone(node), streams);
            }
        }
    }

    /// Writes samples whose rows have their own times.
    async fn write_run(
        &mut self,
        run: &[&Entry],
        now_ms: u64,
        outcome: &mut Outcome,
    ) -> Result<(), StoreError> {
        let mut pipeline = Pipeline::with_capacity(PIPELINE_COMMANDS);
        // Of each command: the entry whose row it adds.
        let mut owners: Vec<Option<&Entry>> = Vec::with_capacity(PIPELINE_COMMANDS);
        for entry in run {
            self.add_rows(entry, now_ms, &mut pipeline, &mut owners, outcome);
            if pipeline.len() >= PIPELINE_COMMANDS {
                self.send_rows(&pipeline, &owners, now_ms, outcome).await?;
                pipeline.clear();
                owners.clear();
            }
        }
        self.send_rows(&pipeline, &owners, now_ms, outcome).await?;
        self.conclude(run, now_ms, outcome).await
    }

    /// Adds the commands for all rows of `entry`.
    fn add_rows<'e>(
        &mut self,
        entry: &'e Entry,
        now_ms: u64,
        pipeline: &mut Pipeline,
        owners: &mut Vec<Option<&'e Entry>>,
        outcome: &mut Outcome,
    ) {
        let Some(node) = self.nodes.get_mut(&entry.node) else {
            return;
        };
        let name = &mut self.name;
        let cutoff_ms = cutoff_ms(&self.retention, now_ms);
        let expiry = self
            .retention
            .raw
            .seconds
            .saturating_add(EXPIRE_AFTER_SECONDS);
        let series_key = node.keys.series();
        entry.sample.for_each_series(|series| {
            name.clear();
            name.push_str(series.section());
            if let Some(instance) = series.instance() {
                name.push(':');
                name.push_str(instance);
            }
            let Some(slot) = node.next(name, self.max_series, now_ms, cutoff_ms) else {
                outcome.excess_rows += 1;
                if !outcome.excess_nodes.contains(&entry.node) {
                    outcome.excess_nodes.push(Arc::clone(&entry.node));
                }
                return;
            };
            let mut row = Cmd::with_capacity(6 + 2 * series.width(), 64 + 32 * series.width());
            row.arg("XADD").arg(slot.raw);
            if slot.trim {
                row.arg("MINID").arg("~").arg(cutoff_ms);
            }
            row.write_arg_fmt(format_args!("{}-0", entry.at_ms));
            series.for_each_field(|field, value| {
                row.arg(field);
                write_value(&mut row, value);
            });
            outcome.points += series.points() as u64;
            if slot.tend {
                let mut expire = redis::cmd("EXPIRE");
                expire.arg(slot.raw).arg(expiry);
                let mut member = redis::cmd("SADD");
                member.arg(&series_key).arg(name.as_str());
                pipeline
                    .add_command(row)
                    .add_command(expire)
                    .add_command(member);
                owners.extend([Some(entry), None, None]);
            } else {
                pipeline.add_command(row);
                owners.push(Some(entry));
            }
        });
    }

    /// Sends rows, and sees to those that Redis refuses.
    async fn send_rows(
        &self,
        pipeline: &Pipeline,
        owners: &[Option<&Entry>],
        now_ms: u64,
        outcome: &mut Outcome,
    ) -> Result<(), StoreError> {
        let replies = self.connection.pipeline(pipeline).await?;
        if replies.len() != owners.len() {
            return Err(StoreError::reply("a pipeline"));
        }
        let mut past = Vec::new();
        for ((reply, owner), command) in replies.iter().zip(owners).zip(pipeline.cmd_iter()) {
            match (reply, owner) {
                (Value::ServerError(error), Some(entry)) if is_past(error) => {
                    past.push(Refusal { entry, command });
                }
                (Value::ServerError(error), owner) => {
                    outcome.refused_rows += u64::from(owner.is_some());
                    outcome.refusal = Some(error.to_string());
                }
                (_, owner) => outcome.rows += u64::from(owner.is_some()),
            }
        }
        if past.is_empty() {
            return Ok(());
        }
        let cutoff_ms = cutoff_ms(&self.retention, now_ms);
        let expiry = self
            .retention
            .raw
            .seconds
            .saturating_add(EXPIRE_AFTER_SECONDS);
        late::put_aside(&self.connection, &past, cutoff_ms, expiry, outcome).await
    }

    /// Writes marks, `last` and `seen` for samples whose rows are all there.
    async fn conclude(
        &mut self,
        run: &[&Entry],
        now_ms: u64,
        outcome: &mut Outcome,
    ) -> Result<(), StoreError> {
        if run.is_empty() {
            return Ok(());
        }
        let mut newest: HashMap<&Arc<NodePath>, (&Entry, Option<Mark>)> = HashMap::new();
        for entry in run {
            let slot = newest.entry(&entry.node).or_insert((entry, None));
            slot.0 = entry;
            slot.1 = entry.step.map(|step| step.mark).or(slot.1);
        }
        let mut pipeline = Pipeline::with_capacity(2 * newest.len() + 1);
        let mut arrivals = redis::cmd("ZADD");
        arrivals.arg(keys::NODES);
        let mut marked = Vec::with_capacity(newest.len());
        for (node, (entry, mark)) in newest {
            let Some(streams) = self.nodes.get(node) else {
                continue;
            };
            let about = pipeline.cmd("HSET").arg(streams.keys.info());
            about.arg(info::SEEN).arg(now_ms);
            if let Some(mark) = mark {
                set_mark(about, mark);
            }
            marked.push((node, mark));
            pipeline.add_command(set_last(&streams.keys, entry));
            arrivals.arg(now_ms).arg(node.to_string());
        }
        pipeline.add_command(arrivals);
        let replies = self.connection.pipeline(&pipeline).await?;
        for ((node, mark), replies) in marked.into_iter().zip(replies.chunks(2)) {
            match (&replies[0], mark) {
                (Value::ServerError(error), _) => {
                    // Its samples stay in their publisher's outbox.
                    outcome.refusal = Some(error.to_string());
                    outcome.marks.retain(|(other, _)| other != node);
                    self.nodes.remove(node);
                }
                (_, Some(mark)) => note_mark(&mut outcome.marks, node, mark),
                (_, None) => {}
            }
        }
        outcome.samples += run.len() as u64;
        Ok(())
    }
}

/// The oldest time that is kept.
fn cutoff_ms(retention: &Retention, now_ms: u64) -> u64 {
    retention.raw.cutoff_ms(now_ms)
}

fn note_mark(marks: &mut Vec<(Arc<NodePath>, Mark)>, node: &Arc<NodePath>, mark: Mark) {
    marks.push((Arc::clone(node), mark));
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

fn set_mark(command: &mut Pipeline, mark: Mark) {
    command
        .arg(info::COMMITTED_BOOT)
        .arg(mark.boot)
        .arg(info::COMMITTED_SEQ)
        .arg(mark.seq);
}

fn set_last(keys: &NodeKeys, entry: &Entry) -> Cmd {
    let interval_ms = entry
        .sample
        .interval_ms
        .map_or(DEFAULT_INTERVAL_MS, u64::from);
    let seconds = (3 * interval_ms).div_ceil(1000).max(LAST_SECONDS);
    let mut set = redis::cmd("SET");
    set.arg(keys.last())
        .arg(last_json(entry))
        .arg("EX")
        .arg(seconds);
    set
}

fn last_json(entry: &Entry) -> String {
    let mut sample = entry.sample.clone();
    sample.ts = Some(entry.at_ms);
    // A sample holds nothing that JSON can't say: its keys are text, its numbers finite.
    serde_json::to_string(&sample).unwrap_or_default()
}
