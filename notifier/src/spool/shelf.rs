//! All that the spool holds, in memory, and what of it is not on disk yet.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use super::file::{Loaded, Write};
use super::queue::{End, Limits, Queue, Touched, Waiting};
use super::{Ended, Figures, Outcome, SpoolConfig, Ticket};
use crate::notice::Notice;

type NoticeKey = (Box<str>, u64);

/// The content of the spool.
#[derive(Debug)]
pub(super) struct Shelf {
    limits: Limits,
    entries: BTreeMap<Box<str>, Arc<[u8]>>,
    queues: BTreeMap<Box<str>, Queue>,
    /// Ends that nobody has asked for in this run, in order.
    to_tell: VecDeque<(NoticeKey, Ticket)>,
    unwritten: Unwritten,
    recorded: Ticket,
    /// Somebody waits until what was recorded is written.
    pub(super) urgent: bool,
    /// Whoever writes is to write what is left and end.
    pub(super) closing: bool,
    /// Whoever writes is to end at once.
    #[cfg(test)]
    pub(super) killed: bool,
}

/// The names of what differs from the file. Without a file it stays empty.
#[derive(Debug, Default)]
struct Unwritten {
    entries: BTreeSet<Box<str>>,
    notices: BTreeSet<NoticeKey>,
    progress: BTreeSet<NoticeKey>,
    kept: bool,
}

/// What is to be written in one transaction.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) writes: Vec<Write>,
    pub(super) ticket: Ticket,
}

impl Shelf {
    pub(super) fn new(config: &SpoolConfig) -> Self {
        Self {
            limits: Limits {
                notices: config.max_notices,
                bytes: config.max_bytes,
            },
            entries: BTreeMap::new(),
            queues: BTreeMap::new(),
            to_tell: VecDeque::new(),
            unwritten: Unwritten::default(),
            recorded: Ticket::NONE,
            urgent: false,
            closing: false,
            #[cfg(test)]
            killed: false,
        }
    }

    /// From now on it is noted what must be written.
    pub(super) fn keep(&mut self) {
        self.unwritten.kept = true;
    }

    /// The ticket of what was recorded last.
    pub(super) fn ticket(&self) -> Ticket {
        self.recorded
    }

    pub(super) fn put_entry(&mut self, key: &str, value: Option<Vec<u8>>) {
        match value {
            Some(value) => self.entries.insert(key.into(), value.into()),
            None => self.entries.remove(key),
        };
        self.recorded.0 += 1;
        if self.unwritten.kept {
            self.unwritten.entries.insert(key.into());
        }
    }

    pub(super) fn push(&mut self, notice: Notice, now_ms: u64) {
        let channel = notice.channel.clone();
        let ticket = Ticket(self.recorded.0 + 1);
        self.with(&channel, |queue, limits| {
            queue.push(notice, ticket, limits, now_ms)
        });
    }

    pub(super) fn head(&self, channel: &str) -> Option<&Waiting> {
        self.queues.get(channel)?.head()
    }

    pub(super) fn begin(&mut self, channel: &str, id: u64) -> Option<Waiting> {
        self.queues.get_mut(channel)?.begin(id)
    }

    pub(super) fn end(&mut self, channel: &str, id: u64, end: End) {
        self.with(channel, |queue, limits| queue.end(id, end, limits));
    }

    pub(super) fn end_strangers(&mut self, channels: &[&str], now_ms: u64) {
        let names: Vec<Box<str>> = self.queues.keys().cloned().collect();
        for name in names {
            if channels.contains(&&*name) {
                continue;
            }
            let reason = format!("the settings have no channel `{name}` any more");
            let end = End {
                at_ms: now_ms,
                how: Ended::GivenUp { reason },
            };
            self.with(&name, |queue, limits| queue.end_all(&end, limits));
        }
    }

    pub(super) fn figures(&self) -> Vec<(String, Figures)> {
        let queues = self.queues.iter();
        queues
            .map(|(channel, queue)| (channel.to_string(), queue.figures()))
            .collect()
    }

    /// The next end that was not asked for yet, and when it is on disk.
    pub(super) fn next_outcome(&mut self) -> Option<(Outcome, Ticket)> {
        while let Some(((channel, id), ticket)) = self.to_tell.front() {
            let queue = self.queues.get(channel);
            if let Some(outcome) = queue.and_then(|queue| queue.outcome(*id)) {
                return Some((outcome.clone(), *ticket));
            }
            self.to_tell.pop_front();
        }
        None
    }

    /// This end was asked for.
    pub(super) fn hand_out(&mut self, outcome: &Outcome) {
        let is_it =
            |(channel, id): &NoticeKey| **channel == *outcome.channel && *id == outcome.notice.id;
        self.to_tell.pop_front_if(|(key, _)| is_it(key));
    }

    /// Changes a channel's queue and notes what must be written.
    pub(super) fn with(
        &mut self,
        channel: &str,
        change: impl FnOnce(&mut Queue, Limits) -> Touched,
    ) {
        if !self.queues.contains_key(channel) {
            self.queues.insert(channel.into(), Queue::default());
        }
        let Some(queue) = self.queues.get_mut(channel) else {
            return;
        };
        let touched = change(queue, self.limits);
        if touched == Touched::default() {
            return;
        }
        self.recorded.0 += 1;
        for id in &touched.progress {
            if queue.outcome(*id).is_some() {
                self.to_tell
                    .push_back(((channel.into(), *id), self.recorded));
            }
        }
        if self.unwritten.kept {
            let name = |id: u64| (Box::from(channel), id);
            let Touched { notices, progress } = touched;
            self.unwritten.notices.extend(notices.into_iter().map(name));
            let progress = progress.into_iter().map(name);
            self.unwritten.progress.extend(progress);
        }
    }

    /// Takes what was found on disk. What is in memory already counts; the rest of the file's
    /// entries is out of date when a run has begun without them, and goes.
    pub(super) fn take_in(&mut self, loaded: Loaded, begun: bool) {
        for (key, value) in loaded.entries {
            if begun {
                if !self.entries.contains_key(&*key) {
                    self.unwritten.entries.insert(key.into());
                }
            } else {
                self.entries.insert(key.into(), value.into());
            }
        }
        for (notice, progress) in loaded.notices {
            let channel: Box<str> = notice.channel.as_str().into();
            let queue = self.queues.entry(channel.clone()).or_default();
            let id = notice.id;
            if queue.row(id).is_some() {
                continue;
            }
            if progress.ended.is_some() {
                self.to_tell.push_back(((channel, id), Ticket::NONE));
            }
            queue.restore(notice, progress);
        }
    }

    /// Whether something is to be written.
    pub(super) fn is_written(&self) -> bool {
        let Unwritten {
            entries,
            notices,
            progress,
            ..
        } = &self.unwritten;
        entries.is_empty() && notices.is_empty() && progress.is_empty()
    }

    /// What is to be written; from now on it counts as written, unless it is put back.
    pub(super) fn batch(&mut self) -> (Batch, impl FnOnce(&mut Self) + use<>) {
        let taken = std::mem::take(&mut self.unwritten);
        self.unwritten.kept = taken.kept;
        self.urgent = false;
        let mut writes = Vec::new();
        for key in &taken.entries {
            let value = self.entries.get(key).cloned();
            writes.push(Write::Entry(key.clone(), value));
        }
        for (channel, id) in &taken.notices {
            let row = self.queues.get(channel).and_then(|queue| queue.row(*id));
            let row = row.map(|(notice, progress)| (Arc::clone(notice), progress));
            writes.push(Write::Notice(channel.clone(), *id, row));
        }
        for key in taken.progress.difference(&taken.notices) {
            let (channel, id) = key;
            let row = self.queues.get(channel).and_then(|queue| queue.row(*id));
            if let Some((_, progress)) = row {
                writes.push(Write::Progress(channel.clone(), *id, progress));
            }
        }
        let batch = Batch {
            writes,
            ticket: self.recorded,
        };
        let put_back = move |shelf: &mut Self| {
            shelf.unwritten.entries.extend(taken.entries);
            shelf.unwritten.notices.extend(taken.notices);
            shelf.unwritten.progress.extend(taken.progress);
        };
        (batch, put_back)
    }

    /// The file is a new one: all must be written.
    pub(super) fn rewrite(&mut self) {
        self.unwritten.entries = self.entries.keys().cloned().collect();
        self.unwritten.progress.clear();
        self.unwritten.notices.clear();
        for (channel, queue) in &self.queues {
            let ids = queue.ids().map(|id| (channel.clone(), id));
            self.unwritten.notices.extend(ids);
        }
    }
}
