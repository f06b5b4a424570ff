//! The notices of one channel, in order: those that wait, and those that have ended and not been told of.

use std::collections::BTreeMap;
use std::sync::Arc;

use hostbus_wire::told::Told;
use serde::{Deserialize, Serialize};

use super::{Ended, Figures, Outcome, Ticket};
use crate::notice::{Notice, Reason};

/// How far the delivery of a notice has come. Kept with it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// How many messages it makes; 0 before the first try.
    #[serde(default)]
    pub pieces: usize,
    /// How many of them are done with: taken, or refused for good.
    #[serde(default)]
    pub delivered: usize,
    /// Why the first one that was refused was; the others are sent all the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    /// How often the service did not take one.
    #[serde(default)]
    pub tries: u32,
    /// When it was tried first, in milliseconds since 1970-01-01 UTC.
    #[serde(default)]
    pub first_try_ms: Option<u64>,
    /// The service asked not to be tried before, in milliseconds since 1970-01-01 UTC.
    #[serde(default)]
    pub not_before_ms: u64,
    /// Its end, once it has one.
    #[serde(default)]
    pub ended: Option<End>,
}

/// How and when the delivery of a notice ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct End {
    /// When, in milliseconds since 1970-01-01 UTC.
    pub at_ms: u64,
    /// How.
    pub how: Ended,
}

/// A notice that waits.
#[derive(Debug, Clone)]
pub struct Waiting {
    /// The notice.
    pub notice: Arc<Notice>,
    /// How far its delivery has come.
    pub progress: Progress,
    /// When it is on disk.
    pub ticket: Ticket,
    bytes: usize,
}

/// What must be written of a queue after a change.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Touched {
    /// Notices whose rows are new, changed or gone.
    pub(super) notices: Vec<u64>,
    /// Notices of which only the progress has changed.
    pub(super) progress: Vec<u64>,
}

impl Figures {
    /// Whether the last message was taken, of a notice that was tried first at `tried_ms`.
    fn note(&mut self, failing: Option<String>, tried_ms: Option<u64>) {
        self.failing_since_ms = match failing {
            Some(_) => self.failing_since_ms.or(tried_ms),
            None => None,
        };
        self.failing = failing;
    }
}

/// One channel's notices.
#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: BTreeMap<u64, Waiting>,
    waiting_bytes: usize,
    ended: BTreeMap<u64, Outcome>,
    /// The notice that is being sent, and the marks that came meanwhile.
    under_way: Option<(u64, Vec<Told>)>,
    figures: Figures,
}

impl Queue {
    /// The notice that is to be delivered next.
    pub(super) fn head(&self) -> Option<&Waiting> {
        self.waiting.first_key_value().map(|(_, head)| head)
    }

    /// A notice of this id, whether it waits or has ended, and how far it has come.
    pub(super) fn row(&self, id: u64) -> Option<(&Arc<Notice>, Progress)> {
        if let Some(waiting) = self.waiting.get(&id) {
            return Some((&waiting.notice, waiting.progress.clone()));
        }
        let outcome = self.ended.get(&id)?;
        let ended = End {
            at_ms: outcome.at_ms,
            how: outcome.ended.clone(),
        };
        let progress = Progress {
            ended: Some(ended),
            ..Progress::default()
        };
        Some((&outcome.notice, progress))
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = u64> {
        self.waiting.keys().chain(self.ended.keys()).copied()
    }

    pub(super) fn outcome(&self, id: u64) -> Option<&Outcome> {
        self.ended.get(&id)
    }

    pub(super) fn figures(&self) -> Figures {
        Figures {
            queued: self.waiting.len(),
            queued_bytes: self.waiting_bytes,
            oldest_ms: self.head().map(|head| head.notice.formed_ms),
            ..self.figures.clone()
        }
    }

    /// Puts a notice at the end. What then exceeds the bounds ends as given up: first the oldest that
    /// only repeats what was told, then the oldest. Never the one that is being sent.
    pub(super) fn push(
        &mut self,
        mut notice: Notice,
        ticket: Ticket,
        limits: Limits,
        now_ms: u64,
    ) -> Touched {
        if self.row(notice.id).is_some() {
            // A dispatcher that lost its state counts from 1 again; nothing may be lost by it.
            notice.id = self.ids().max().unwrap_or(0) + 1;
        }
        let id = notice.id;
        self.put(Arc::new(notice), Progress::default(), ticket);
        let mut touched = Touched {
            notices: vec![id],
            ..Touched::default()
        };
        while self.waiting.len() > limits.notices
            || (self.waiting_bytes > limits.bytes && self.waiting.len() > 1)
        {
            let Some(id) = self.least_needed() else { break };
            self.figures.dropped += 1;
            let how = Ended::GivenUp {
                reason: "too many notices wait for this channel".to_owned(),
            };
            let more = self.end(id, End { at_ms: now_ms, how }, limits);
            touched.notices.extend(more.notices);
            touched.progress.extend(more.progress);
        }
        touched
    }

    /// Puts back what was found on disk.
    pub(super) fn restore(&mut self, notice: Notice, mut progress: Progress) {
        match progress.ended.take() {
            Some(end) => {
                let outcome = Outcome {
                    channel: notice.channel.clone(),
                    notice: Arc::new(notice),
                    ended: end.how,
                    at_ms: end.at_ms,
                };
                self.ended.insert(outcome.notice.id, outcome);
            }
            None => self.put(Arc::new(notice), progress, Ticket::NONE),
        }
    }

    fn put(&mut self, notice: Arc<Notice>, progress: Progress, ticket: Ticket) {
        let bytes = size_bytes(&notice);
        self.waiting_bytes += bytes;
        let id = notice.id;
        let waiting = Waiting {
            notice,
            progress,
            ticket,
            bytes,
        };
        self.waiting.insert(id, waiting);
    }

    fn take(&mut self, id: u64) -> Option<Waiting> {
        let waiting = self.waiting.remove(&id)?;
        self.waiting_bytes -= waiting.bytes;
        Some(waiting)
    }

    fn least_needed(&self) -> Option<u64> {
        let sent = self.under_way.as_ref().map(|(id, _)| *id);
        let free = || {
            let waiting = self.waiting.iter();
            waiting.filter(move |(id, _)| Some(**id) != sent)
        };
        let says_nothing_new =
            |waiting: &Waiting| matches!(waiting.notice.reason, Reason::Repeat | Reason::Test);
        let repeat = free().find(|(_, waiting)| says_nothing_new(waiting));
        repeat.or_else(|| free().next()).map(|(id, _)| *id)
    }

    /// A message of notice `id` is about to be sent, if it still is the head.
    pub(super) fn begin(&mut self, id: u64) -> Option<Waiting> {
        let head = self.head().filter(|head| head.notice.id == id)?.clone();
        self.under_way = Some((id, Vec::new()));
        Some(head)
    }

    /// A message was tried: this is how far its notice is now.
    pub(super) fn tried(&mut self, id: u64, progress: Progress, failed: Option<String>) -> Touched {
        let mut touched = Touched::default();
        if failed.is_some() {
            self.figures.tried_again += 1;
        }
        self.figures.note(failed, progress.first_try_ms);
        if let Some(waiting) = self.waiting.get_mut(&id) {
            waiting.progress = progress;
            touched.progress.push(id);
        }
        for told in self.under_way.take().map_or(Vec::new(), |(_, told)| told) {
            touched.notices.extend(self.cover(&told).notices);
        }
        touched
    }

    /// The delivery of notice `id` has ended.
    pub(super) fn end(&mut self, id: u64, end: End, limits: Limits) -> Touched {
        let was_sent = self.under_way.as_ref().is_some_and(|(sent, _)| *sent == id);
        if was_sent {
            self.under_way = None;
        }
        let mut touched = Touched::default();
        let Some(waiting) = self.take(id) else {
            return touched;
        };
        match &end.how {
            Ended::Delivered => {
                self.figures.delivered += 1;
                self.figures.note(None, None);
            }
            Ended::GivenUp { reason } => {
                self.figures.given_up += 1;
                if was_sent {
                    let tried_ms = waiting.progress.first_try_ms.unwrap_or(end.at_ms);
                    self.figures.note(Some(reason.clone()), Some(tried_ms));
                }
            }
        }
        touched.progress.push(id);
        let outcome = Outcome {
            channel: waiting.notice.channel.clone(),
            notice: waiting.notice,
            ended: end.how,
            at_ms: end.at_ms,
        };
        self.ended.insert(id, outcome);
        if self.ended.len() > limits.notices
            && let Some((oldest, _)) = self.ended.pop_first()
        {
            self.figures.untold += 1;
            touched.notices.push(oldest);
        }
        touched
    }

    /// All notices that wait end: there is no such channel.
    pub(super) fn end_all(&mut self, end: &End, limits: Limits) -> Touched {
        let mut touched = Touched::default();
        let ids: Vec<u64> = self.waiting.keys().copied().collect();
        for id in ids {
            let more = self.end(id, end.clone(), limits);
            touched.notices.extend(more.notices);
            touched.progress.extend(more.progress);
        }
        touched
    }

    /// The end of notice `id` has been told.
    pub(super) fn forget(&mut self, id: u64) -> Touched {
        let known = self.ended.remove(&id).is_some();
        Touched {
            notices: if known { vec![id] } else { Vec::new() },
            ..Touched::default()
        }
    }

    /// Another notifier has told this: it need not be told again.
    pub(super) fn cover(&mut self, told: &Told) -> Touched {
        let mut touched = Touched::default();
        let mut covered = Vec::new();
        for (id, waiting) in &self.waiting {
            let mut lines = waiting.notice.lines.iter();
            if lines.any(|line| line.key == told.alert) {
                let mut rest = Notice::clone(&waiting.notice);
                if rest.cover(told) {
                    covered.push((*id, rest));
                }
            }
        }
        for (id, rest) in covered {
            if let Some((sent, later)) = &mut self.under_way
                && *sent == id
            {
                // Its messages can't be called back. If they are not taken, it is covered after that.
                later.push(told.clone());
                continue;
            }
            let Some(before) = self.take(id) else {
                continue;
            };
            self.figures.covered += (before.notice.lines.len() - rest.lines.len()) as u64;
            if !rest.lines.is_empty() {
                // It makes other messages now: how many of the old ones were taken says nothing.
                self.put(Arc::new(rest), Progress::default(), before.ticket);
            }
            touched.notices.push(id);
        }
        touched
    }
}

/// How much may wait for one channel.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) notices: usize,
    pub(super) bytes: usize,
}

/// About what a notice takes, in memory as on disk.
fn size_bytes(notice: &Notice) -> usize {
    const OF_A_NOTICE: usize = 256;
    const OF_A_LINE: usize = 512;
    let mut bytes = OF_A_NOTICE + notice.channel.len() + notice.group.len();
    for line in &notice.lines {
        bytes += OF_A_LINE + line.key.instance.as_deref().map_or(0, str::len);
        bytes += line.alert.summary.len();
        for (name, value) in &line.alert.labels {
            bytes += name.len() + value.len() + 48;
        }
    }
    bytes
}
