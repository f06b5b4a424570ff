//! The marks, and each node's newest sample.

use std::sync::Arc;

use hostbus_wire::NodePath;

use super::Appender;
use crate::batch::Outcome;
use crate::error::StoreError;
use crate::keys::{self, NodeKeys, info};
use crate::latest::Arrived;
use crate::mark::Mark;
use crate::resp::Commands;

/// How many nodes are written in one batch.
const NODES_AT_ONCE: usize = 200;
/// The shortest time that `last` is kept.
const LAST_SECONDS: u64 = 300;
/// The interval of a publisher that does not tell its own.
const DEFAULT_INTERVAL_MS: u64 = 10_000;

impl Appender {
    /// Writes the marks of all that was [appended](Appender::append), and what is due of the newest
    /// samples. The outcome has the marks that Redis answered for.
    ///
    /// # Errors
    /// Redis failed. The samples without a mark stay with their publishers.
    pub async fn commit(&mut self, now_ms: u64) -> Result<Outcome, StoreError> {
        let mut outcome = Outcome::default();
        let committed = self.try_commit(now_ms, &mut outcome).await;
        self.heed(committed)?;
        Ok(outcome)
    }

    /// Writes all marks and newest samples, due or not: nothing more will be appended.
    ///
    /// # Errors
    /// As [`commit`](Self::commit).
    pub async fn commit_all(&mut self) -> Result<Outcome, StoreError> {
        self.commit(u64::MAX).await
    }

    async fn try_commit(&mut self, now_ms: u64, outcome: &mut Outcome) -> Result<(), StoreError> {
        let uncommitted = std::mem::take(&mut self.uncommitted);
        for nodes in uncommitted.chunks(NODES_AT_ONCE) {
            self.commit_marks(nodes, outcome).await?;
        }
        loop {
            let commands = &mut self.rows.commands;
            commands.clear();
            let mut arrivals = Vec::new();
            for (node, arrived) in self.latest.due(now_ms, NODES_AT_ONCE) {
                add_newest(commands, node, arrived);
                arrivals.push((arrived.seen_ms, node.to_string()));
            }
            if arrivals.is_empty() {
                return Ok(());
            }
            commands.begin(2 + 2 * arrivals.len());
            commands.argument(b"ZADD");
            commands.argument(keys::NODES.as_bytes());
            for (seen_ms, node) in &arrivals {
                commands.number(*seen_ms);
                commands.argument(node.as_bytes());
            }
            let refused = self.send(|appender| &appender.rows.commands).await?;
            if let Some(refused) = refused.into_iter().next_back() {
                outcome.refusal = Some(refused.reason);
            }
            self.latest.written(now_ms, NODES_AT_ONCE);
        }
    }

    async fn commit_marks(
        &mut self,
        nodes: &[Arc<NodePath>],
        outcome: &mut Outcome,
    ) -> Result<(), StoreError> {
        let commands = &mut self.rows.commands;
        commands.clear();
        let mut written: Vec<(&Arc<NodePath>, Option<Mark>)> = Vec::with_capacity(nodes.len());
        for node in nodes {
            let Some(streams) = self.nodes.get_mut(node) else {
                continue;
            };
            streams.listed = false;
            if let Some(mark) = streams.mark.filter(|_| streams.mark != streams.committed) {
                add_mark(commands, &streams.keys, mark);
                written.push((node, Some(mark)));
            }
        }
        if written.is_empty() {
            return Ok(());
        }
        for refused in self.send(|appender| &appender.rows.commands).await? {
            // Its samples stay in their publisher's outbox.
            if let Some((node, mark)) = written.get_mut(refused.index) {
                *mark = None;
                self.nodes.remove(*node);
            }
            outcome.refusal = Some(refused.reason);
        }
        for (node, mark) in written {
            let (Some(mark), Some(streams)) = (mark, self.nodes.get_mut(node)) else {
                continue;
            };
            streams.committed = Some(mark);
            outcome.marks.push((Arc::clone(node), mark));
        }
        Ok(())
    }
}

fn add_mark(commands: &mut Commands, keys: &NodeKeys, mark: Mark) {
    commands.begin(6);
    commands.argument(b"HSET");
    commands.argument(keys.info().as_bytes());
    commands.argument(info::COMMITTED_BOOT.as_bytes());
    commands.number(mark.boot);
    commands.argument(info::COMMITTED_SEQ.as_bytes());
    commands.number(mark.seq);
}

/// Adds the commands that write a node's newest sample and the time of its arrival.
fn add_newest(commands: &mut Commands, node: &NodePath, arrived: &Arrived) {
    let keys = NodeKeys::new(node);
    let sample = &arrived.sample;
    let interval_ms = sample.interval_ms.map_or(DEFAULT_INTERVAL_MS, u64::from);
    let seconds = (3 * interval_ms).div_ceil(1000).max(LAST_SECONDS);
    // A sample holds nothing that JSON can't say: its keys are text, its numbers finite.
    let json = serde_json::to_vec(sample).unwrap_or_default();
    commands.begin(5);
    commands.argument(b"SET");
    commands.argument(keys.last().as_bytes());
    commands.argument(&json);
    commands.argument(b"EX");
    commands.number(seconds);
    commands.begin(4);
    commands.argument(b"HSET");
    commands.argument(keys.info().as_bytes());
    commands.argument(info::SEEN.as_bytes());
    commands.number(arrived.seen_ms);
}
