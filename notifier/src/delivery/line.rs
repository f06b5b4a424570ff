//! The task of one channel: it takes the head of the channel's queue, in order, and sends it message
//! by message.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use hostbus_daemon::{Backoff, CancellationToken};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet, spawn_blocking};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::{Instrument, info, info_span, warn};

use super::attempt::{Next, after, asked_wait, before, expired};
use super::pacer::Pacer;
use super::{Carrier, Clock, Patience};
use crate::channels::{Message, Verdict};
use crate::notice::Notice;
use crate::spool::{End, Ended, Progress, Spool, Ticket, Waiting};

/// What a line is to do next.
enum Step {
    /// Nothing, until something changes.
    Rest,
    /// Nothing before that time.
    Wait(Instant),
    /// Send a message of this notice.
    Send(Waiting),
    /// This notice is too old for a channel that is broken.
    Expire(Arc<Notice>, End),
}

pub(super) struct Line {
    channel: String,
    carrier: Arc<dyn Carrier>,
    spool: Spool,
    patience: Patience,
    clock: Clock,
    pacer: Pacer,
    backoff: Backoff,
    /// The waits while the channel is broken.
    calm: Backoff,
    /// Why it is broken, as the last try showed.
    broken: Option<String>,
    /// When the files of a broken channel are looked at next.
    look_at: Instant,
    /// A look that has not come to its end: the disk hangs.
    looking: Option<JoinHandle<Result<bool, String>>>,
    /// No try before that, after a failure.
    not_before: Option<Instant>,
    /// The messages of the notice at the head.
    messages: Option<(Arc<Notice>, Arc<[Message]>)>,
    /// What was logged last.
    failing: Option<String>,
}

impl Line {
    pub(super) fn new(
        channel: String,
        carrier: Arc<dyn Carrier>,
        spool: Spool,
        patience: Patience,
        clock: Clock,
    ) -> Self {
        Self {
            pacer: Pacer::new(carrier.pace()),
            backoff: Backoff::new(patience.first_wait, patience.longest_wait),
            calm: Backoff::new(patience.first_calm_wait, patience.longest_calm_wait),
            broken: None,
            look_at: Instant::now(),
            looking: None,
            channel,
            carrier,
            spool,
            patience,
            clock,
            not_before: None,
            messages: None,
            failing: None,
        }
    }

    /// Sends what there is until `token` is cancelled.
    pub(super) async fn run(mut self, mut active: watch::Receiver<bool>, token: CancellationToken) {
        let span = info_span!("line", channel = self.channel);
        async {
            let mut changed = self.spool.changed();
            loop {
                changed.mark_unchanged();
                let is_active = *active.borrow_and_update();
                if is_active {
                    tokio::select! {
                        () = self.look() => {}
                        () = token.cancelled() => return,
                    }
                }
                let step = if is_active { self.step() } else { Step::Rest };
                let until = match step {
                    Step::Expire(notice, end) => {
                        self.end(&notice, end);
                        continue;
                    }
                    Step::Send(head) => {
                        // A notice is a commitment before it is a message.
                        self.spool.settled(head.ticket).await;
                        if token.is_cancelled() {
                            return;
                        }
                        if *active.borrow() && self.send(head, &token).await.is_none() {
                            return;
                        }
                        continue;
                    }
                    Step::Wait(until) => Some(until),
                    Step::Rest => None,
                };
                let wait = async {
                    match until {
                        Some(until) => sleep_until(until).await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    () = wait => {}
                    _ = changed.changed() => {}
                    changed = active.changed() => if changed.is_err() {
                        // Nobody is left to open the gate.
                        return;
                    },
                    () = token.cancelled() => return,
                }
            }
        }
        .instrument(span)
        .await;
    }

    fn step(&self) -> Step {
        let Some(head) = self.spool.head(&self.channel) else {
            return Step::Rest;
        };
        if let Some(reason) = &self.broken
            && let Some(end) = expired(&head.notice, reason, self.patience, (self.clock)())
        {
            return Step::Expire(head.notice, end);
        }
        let now = Instant::now();
        let asked = asked_wait(&head.progress, self.patience, (self.clock)());
        let asked = (!asked.is_zero()).then(|| now + asked);
        // `None` is the least.
        match self.pacer.ready_at().max(self.not_before).max(asked) {
            Some(ready) if ready > now && self.broken.is_some() => {
                Step::Wait(ready.min(self.look_at))
            }
            Some(ready) if ready > now => Step::Wait(ready),
            _ => Step::Send(head),
        }
    }

    /// Looks whether the files of a broken channel have changed, and has it tried at once if so.
    async fn look(&mut self) {
        if self.broken.is_none() || Instant::now() < self.look_at {
            return;
        }
        let looking = self.looking.get_or_insert_with(|| {
            let carrier = Arc::clone(&self.carrier);
            spawn_blocking(move || carrier.renew())
        });
        let renewed = timeout(self.patience.send_within, looking).await;
        if renewed.is_ok() {
            self.looking = None;
        }
        self.look_at = Instant::now() + self.patience.look_every;
        match renewed {
            Ok(Ok(Ok(true))) => {
                info!("the channel's files have changed, it is tried at once");
                self.calm.reset();
                self.broken = None;
                self.messages = None;
                self.not_before = None;
            }
            Ok(Ok(Err(reason))) => {
                warn!(reason, "the channel's files have changed and can't be used");
            }
            // Nothing has changed, or its disk hangs: the wait goes on.
            _ => {}
        }
    }

    /// Sends the next message of `head`. `None` when the stop came before its end.
    async fn send(&mut self, head: Waiting, token: &CancellationToken) -> Option<()> {
        let id = head.notice.id;
        let Some(head) = self.spool.begin(&self.channel, id) else {
            // It was covered or dropped meanwhile.
            return Some(());
        };
        let notice = head.notice;
        let messages = self.messages_of(&notice);
        let progress = before(head.progress, messages.len(), (self.clock)());
        let verdict = if messages.is_empty() {
            let reason = "the channel makes no message of it: this is a fault of the program";
            Verdict::Refused {
                reason: reason.to_owned(),
            }
        } else {
            let verdict = self.attempt(messages, progress.delivered, token).await?;
            self.pacer.sent(Instant::now());
            verdict
        };
        let now_ms = (self.clock)();
        let was_broken = self.broken.take().is_some();
        let wait = match &verdict {
            Verdict::Delivered => {
                self.backoff.reset();
                Duration::ZERO
            }
            Verdict::Retry { .. } => self.backoff.next_wait(),
            Verdict::Broken { reason } => {
                if !was_broken {
                    // The file may have changed before the service knew the old token no more.
                    self.look_at = Instant::now();
                    self.calm.reset();
                }
                self.broken = Some(reason.clone());
                self.calm.next_wait()
            }
            Verdict::Refused { .. } => Duration::ZERO,
        };
        // That the notice ends makes a broken channel no better.
        let calm = self.broken.is_some();
        self.not_before = calm.then(|| Instant::now() + wait);
        let next = after(&notice, progress, verdict, wait, self.patience, now_ms);
        let ticket = match next {
            Next::Message(progress) => self.tried(id, progress, None),
            Next::Again {
                progress,
                reason,
                wait,
            } => {
                self.not_before = Some(Instant::now() + wait);
                self.tried(id, progress, Some(reason));
                return Some(());
            }
            Next::End(end) => self.end(&notice, end),
        };
        // What was taken must be known before more is sent: a kill may repeat one message, not two.
        self.spool.settled(ticket).await;
        Some(())
    }

    /// The messages of `notice`. What the channel's code does wrong costs this notice only.
    fn messages_of(&mut self, notice: &Arc<Notice>) -> Arc<[Message]> {
        if let Some((of, messages)) = &self.messages
            && Arc::ptr_eq(of, notice)
        {
            return Arc::clone(messages);
        }
        let written = catch_unwind(AssertUnwindSafe(|| self.carrier.messages(notice)));
        let messages: Arc<[Message]> = written.unwrap_or_default().into();
        self.messages = Some((Arc::clone(notice), Arc::clone(&messages)));
        messages
    }

    /// Sends one message, on a task of its own: a channel's fault must not end its line.
    async fn attempt(
        &self,
        messages: Arc<[Message]>,
        index: usize,
        token: &CancellationToken,
    ) -> Option<Verdict> {
        let carrier = Arc::clone(&self.carrier);
        let now_ms = (self.clock)();
        let mut task = JoinSet::new();
        let sending = async move { carrier.send(&messages[index], now_ms).await };
        task.spawn(sending.in_current_span());
        let Patience {
            send_within,
            stop_within,
            ..
        } = self.patience;
        let stop = async {
            token.cancelled().await;
            sleep(stop_within).await;
        };
        let joined = tokio::select! {
            joined = timeout(send_within, task.join_next()) => joined,
            () = stop => return None,
        };
        let again = |reason| Verdict::Retry {
            reason,
            after: None,
        };
        Some(match joined {
            Ok(Some(Ok(verdict))) => verdict,
            Ok(_) => again("sending failed by a fault of the program".to_owned()),
            Err(_) => again(format!(
                "no answer within {} seconds",
                send_within.as_secs_f64()
            )),
        })
    }

    fn tried(&mut self, id: u64, progress: Progress, failed: Option<String>) -> Ticket {
        match &failed {
            None => self.works(),
            Some(reason) if self.failing != failed && self.broken.is_some() => {
                warn!(
                    notice = id,
                    reason, "the channel is broken, its notices wait until it is mended"
                );
            }
            Some(reason) if self.failing != failed => {
                warn!(
                    notice = id,
                    reason, "a message was not taken, it is tried again"
                );
            }
            Some(_) => {}
        }
        self.failing.clone_from(&failed);
        self.spool.tried(&self.channel, id, progress, failed)
    }

    fn end(&mut self, notice: &Notice, end: End) -> Ticket {
        self.messages = None;
        match &end.how {
            Ended::Delivered => {
                self.works();
                self.failing = None;
            }
            Ended::GivenUp { reason } => {
                warn!(notice = notice.id, reason, "a notice is given up");
            }
        }
        self.spool.end(&self.channel, notice.id, end)
    }

    fn works(&self) {
        if self.failing.is_some() {
            info!("messages are taken again");
        }
    }
}
