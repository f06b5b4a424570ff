//! Batches into Redis; comes back when Redis does.
//!
//! There are several, each with its share of the nodes, a queue and connections of its own: nodes are
//! independent of each other. Rows are written as they come, marks as often as they are published.

use std::mem::discriminant;
use std::sync::Arc;
use std::time::Duration;

use hostbus_daemon::{Backoff, clock};
use hostbus_store::{Appender, Entry, Mark, Outcome, StoreError};
use hostbus_wire::NodePath;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout_at};
use tracing::{info, warn};

use crate::config::Config;
use crate::counters::{Counters, add};
use crate::marks::Marks;
use crate::queue::{Answer, Work};

const FIRST_WAIT: Duration = Duration::from_millis(50);
const LONGEST_WAIT: Duration = Duration::from_secs(2);
/// The longest that nothing to do lasts.
const IDLE: Duration = Duration::from_secs(3600);

/// Word to the intake.
#[derive(Debug)]
pub enum Feedback {
    /// A node's mark in Redis, with all written that was accepted before.
    Recovered(Arc<NodePath>, Option<Mark>),
    /// Redis failed: what it holds must be read again.
    Away,
    /// Redis serves all writers again, and what was in hand is written.
    Back,
    /// What came of this node does not continue what Redis holds, or could not be told from what does.
    Broken(Arc<NodePath>),
    /// This node has more series, or more instances in one, than it may.
    Excess(Arc<NodePath>),
}

/// Writes batches.
#[derive(Debug)]
pub struct Writer {
    batch_wait: Duration,
    batch_samples: usize,
    appender: Appender,
    works: mpsc::Receiver<Work>,
    feedback: mpsc::Sender<Feedback>,
    marks: Marks,
    counters: Arc<Counters>,
    backoff: Backoff,
    trouble: Option<StoreError>,
    /// Who is to be told something of what is committed next.
    answers: Vec<(Arc<NodePath>, Answer)>,
    /// When to look for Redis again; none while it serves.
    probe_at: Option<Instant>,
    told_refusal: bool,
}

impl Writer {
    /// A writer of what comes through `works`.
    #[must_use]
    pub fn new(
        config: &Config,
        appender: Appender,
        works: mpsc::Receiver<Work>,
        feedback: mpsc::Sender<Feedback>,
        marks: Marks,
        counters: Arc<Counters>,
    ) -> Self {
        Self {
            batch_wait: Duration::from_millis(config.batch_ms),
            batch_samples: config.batch_samples,
            appender,
            works,
            feedback,
            marks,
            counters,
            backoff: Backoff::new(FIRST_WAIT, LONGEST_WAIT),
            trouble: None,
            answers: Vec::new(),
            probe_at: None,
            told_refusal: false,
        }
    }

    /// Writes until the queue is closed and empty.
    pub async fn run(mut self) -> &'static str {
        // Tells of a Redis that is away before the first sample comes.
        self.probe().await;
        let mut works = Vec::with_capacity(self.batch_samples);
        loop {
            if !self.gather(&mut works).await {
                break;
            }
            self.write(&mut works).await;
            self.send_due_marks().await;
        }
        let last = async {
            let outcome = self.appender.commit_all().await?;
            for (node, mark) in &outcome.marks {
                self.marks.add(node, *mark, false);
            }
            self.marks.finish(&mut self.appender).await
        };
        match last.await {
            Ok(sent) => add(&self.counters.marks, sent),
            Err(error) => warn!(%error, "the last marks were not published"),
        }
        "writer"
    }

    /// Gathers a batch. False: the queue is closed and empty.
    async fn gather(&mut self, works: &mut Vec<Work>) -> bool {
        let most = self.batch_samples;
        while works.is_empty() {
            let due = self.marks.due().unwrap_or_else(|| Instant::now() + IDLE);
            let probe = self.probe_at.unwrap_or_else(|| Instant::now() + IDLE);
            tokio::select! {
                biased;
                count = self.works.recv_many(works, most) => if count == 0 { return false },
                () = sleep_until(due) => self.send_due_marks().await,
                () = sleep_until(probe) => self.probe().await,
            }
        }
        let until = Instant::now() + self.batch_wait;
        while works.len() < most {
            let more = self.works.recv_many(works, most - works.len());
            match timeout_at(until, more).await {
                Ok(0) | Err(_) => break,
                Ok(_) => {}
            }
        }
        true
    }

    /// Looks whether Redis is back. While it is away nothing is accepted, so nobody else would.
    async fn probe(&mut self) {
        match self.appender.ping().await {
            Ok(()) => self.back().await,
            Err(error) => self.away(error).await,
        }
    }

    async fn send_due_marks(&mut self) {
        if self.marks.due().is_none_or(|due| due > Instant::now()) {
            return;
        }
        let sent = async {
            // What waits for a slow disk goes first: more would only make it slower.
            if !self.marks.is_unsettled() {
                self.commit().await?;
            }
            self.marks.send(&mut self.appender).await
        };
        match sent.await {
            Ok(sent) => add(&self.counters.marks, sent),
            Err(error) => self.away(error).await,
        }
        self.expect_marks();
    }

    /// Has the next marks sent when their time comes. Not while Redis is away: the next writing, or
    /// the next look, tells when it is back.
    fn expect_marks(&mut self) {
        let waits = self.appender.has_uncommitted() || !self.answers.is_empty();
        if waits && self.trouble.is_none() {
            self.marks.expect();
        }
    }

    /// Writes the marks of what is written, and answers who asked.
    async fn commit(&mut self) -> Result<(), StoreError> {
        let outcome = self.appender.commit(clock::unix_ms()).await?;
        for (node, mark) in &outcome.marks {
            self.marks.add(node, *mark, false);
        }
        self.refusal(outcome.refusal);
        for (node, answer) in std::mem::take(&mut self.answers) {
            self.answer(&node, answer);
        }
        Ok(())
    }

    /// Writes the samples of a batch, then sees to the rest.
    async fn write(&mut self, works: &mut Vec<Work>) {
        let mut entries: Vec<Entry> = Vec::with_capacity(works.len());
        let mut rooms = Vec::with_capacity(works.len());
        let mut recovering = Vec::new();
        let mut forgotten = Vec::new();
        for work in works.drain(..) {
            match work {
                Work::Write(entry, room) => {
                    entries.push(*entry);
                    rooms.push(room);
                }
                Work::Recover(node) => recovering.push(node),
                Work::Answer(node, answer) => self.answers.push((node, answer)),
                Work::Forget(node) => forgotten.push(node),
            }
        }
        if !entries.is_empty() {
            let outcome = self.write_entries(&mut entries).await;
            self.told(outcome).await;
        }
        drop(rooms);
        if !forgotten.is_empty() {
            self.forget(&forgotten).await;
        }
        if !recovering.is_empty() {
            for (node, mark) in self.recover(recovering).await {
                let _ = self.feedback.send(Feedback::Recovered(node, mark)).await;
            }
        }
        self.expect_marks();
    }

    async fn forget(&mut self, nodes: &[Arc<NodePath>]) {
        if let Err(error) = self.commit().await {
            self.away(error).await;
        }
        for node in nodes {
            self.appender.forget(node);
        }
    }

    /// Writes until Redis has it all.
    async fn write_entries(&mut self, entries: &mut Vec<Entry>) -> Outcome {
        loop {
            match self.appender.append(entries, clock::unix_ms()).await {
                Ok(outcome) => {
                    self.back().await;
                    return outcome;
                }
                Err(error) => self.away(error).await,
            }
            if let Some(at) = self.probe_at {
                sleep_until(at).await;
            }
        }
    }

    /// Reads marks until Redis has told them.
    async fn recover(&mut self, nodes: Vec<Arc<NodePath>>) -> Vec<(Arc<NodePath>, Option<Mark>)> {
        loop {
            let read = async {
                // A mark in Redis that is behind what is written would have it sent again.
                self.commit().await?;
                self.appender.marks(&nodes).await
            };
            match read.await {
                Ok(marks) => {
                    self.back().await;
                    return nodes.into_iter().zip(marks).collect();
                }
                Err(error) => self.away(error).await,
            }
            if let Some(at) = self.probe_at {
                sleep_until(at).await;
            }
        }
    }

    async fn told(&mut self, outcome: Outcome) {
        let counters = &self.counters;
        for (counter, count) in [
            (&counters.samples, outcome.samples),
            (&counters.duplicates, outcome.stored_before),
            (&counters.points, outcome.points),
            (&counters.rows, outcome.rows),
            (&counters.late_rows, outcome.late_rows),
            (&counters.duplicate_rows, outcome.duplicate_rows),
            (&counters.refused_rows, outcome.refused_rows),
            (&counters.refused_series, outcome.excess_rows),
        ] {
            add(counter, count);
        }
        self.refusal(outcome.refusal);
        for (node, mark) in &outcome.marks {
            self.marks.add(node, *mark, false);
        }
        for node in outcome.broken {
            let _ = self.feedback.send(Feedback::Broken(node)).await;
        }
        for node in outcome.excess_nodes {
            let _ = self.feedback.send(Feedback::Excess(node)).await;
        }
    }

    fn refusal(&mut self, refusal: Option<String>) {
        if let Some(refusal) = refusal
            && !std::mem::replace(&mut self.told_refusal, true)
        {
            warn!(refusal, "redis refuses a write; others are only counted");
        }
    }

    /// Tells a node its mark. Of a node that nothing is remembered of, the intake asks anew.
    fn answer(&mut self, node: &Arc<NodePath>, answer: Answer) {
        let Some(mark) = self.appender.remembered(node) else {
            return;
        };
        match (answer, mark) {
            (Answer::Mark, Some(mark)) => self.marks.add(node, mark, false),
            (Answer::Mark, None) => {}
            (Answer::Resend(after), Some(mark)) if mark.boot >= after.boot => {
                self.marks.add(node, mark, true);
            }
            (Answer::Resend(after), _) => {
                self.marks.add(
                    node,
                    Mark {
                        boot: after.boot,
                        seq: 0,
                    },
                    true,
                );
            }
        }
    }

    /// Notes that Redis failed. Said once, and again when the reason is of another kind.
    async fn away(&mut self, error: StoreError) {
        add(&self.counters.redis_errors, 1);
        self.marks.clear();
        let same = self
            .trouble
            .as_ref()
            .is_some_and(|had| discriminant(had) == discriminant(&error));
        if !same {
            warn!(%error, "redis is away; samples wait with their publishers");
        }
        let served = self.trouble.replace(error).is_none();
        self.probe_at = Some(Instant::now() + self.backoff.next_wait());
        if served {
            self.counters.writer_away();
            let _ = self.feedback.send(Feedback::Away).await;
        }
    }

    async fn back(&mut self) {
        self.backoff.reset();
        self.probe_at = None;
        if self.trouble.take().is_some() {
            info!("redis is back");
            if self.counters.writer_back() {
                let _ = self.feedback.send(Feedback::Back).await;
            }
            self.expect_marks();
        }
    }
}
