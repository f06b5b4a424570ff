//! From the spool to people: one line a channel, each at its own pace.
//!
//! | module | owns |
//! |---|---|
//! | `config` | the `[notifier.delivery]` section |
//! | `line` | the task of one channel: the head of its queue, message by message |
//! | `attempt` | what follows from what became of a message |
//! | `pacer` | a service's limits |
//!
//! A line sends only while its gate is open: in one of several notifiers. What it is sending when the
//! gate shuts it brings to its end, and that is recorded. A channel that is down, slow or broken holds
//! up nobody but itself. The ends of notices come out of [`Spool::outcome`].
//!
//! While a channel is broken (its token was revoked, its password is wrong) its notices wait. The first of
//! them is tried at a calm pace, so that no account is shut for its many tries, and at once when a file that
//! the channel was opened with has changed. Other settings are read at the start, which tries at once, too.

mod attempt;
mod config;
mod line;
mod pacer;
#[cfg(test)]
mod tests;

use std::pin::Pin;
use std::sync::Arc;

use hostbus_daemon::CancellationToken;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::channels::{Message, Pace, Verdict};
use crate::notice::Notice;
use crate::spool::Spool;

pub use config::{DeliveryConfig, Patience};
use line::Line;

/// A message that is being sent.
pub type Sending<'a> = Pin<Box<dyn Future<Output = Verdict> + Send + 'a>>;

/// A way to people, as delivery sees it.
pub trait Carrier: Send + Sync + 'static {
    /// What is to be sent for `notice`, in order; the same notice makes the same messages.
    fn messages(&self, notice: &Notice) -> Vec<Message>;

    /// How fast its service takes messages.
    fn pace(&self) -> Pace;

    /// Sends one message.
    fn send<'a>(&'a self, message: &'a Message, now_ms: u64) -> Sending<'a>;

    /// Opens itself anew when a file that it was opened with, such as that of its token, has changed since.
    /// May block. Tells whether it did.
    ///
    /// # Errors
    /// What has changed can't be used: it goes on as it was. Said once a change.
    fn renew(&self) -> Result<bool, String> {
        Ok(false)
    }
}

/// Ways to people by the names of channels.
pub type Carriers = Vec<(String, Arc<dyn Carrier>)>;

/// Now, in milliseconds since 1970-01-01 UTC.
pub type Clock = fn() -> u64;

/// The lines of all channels.
#[derive(Debug)]
pub struct Delivery {
    token: CancellationToken,
    lines: JoinSet<()>,
}

impl Delivery {
    /// Starts a line for each of `channels`. Notices for other channels are given up. Nothing is sent
    /// while `active` says false.
    #[must_use]
    pub fn start(
        channels: Carriers,
        spool: &Spool,
        active: &watch::Receiver<bool>,
        patience: Patience,
        clock: Clock,
        token: &CancellationToken,
    ) -> Self {
        let names: Vec<&str> = channels.iter().map(|(name, _)| name.as_str()).collect();
        spool.end_strangers(&names, clock());
        let token = token.child_token();
        let mut lines = JoinSet::new();
        for (channel, carrier) in channels {
            let spool = spool.clone();
            let line = Line::new(channel, carrier, spool, patience, clock);
            lines.spawn(line.run(active.clone(), token.clone()));
        }
        Self { token, lines }
    }

    /// Ends the lines. A message that is being sent may come to its end; what takes too long is sent
    /// again after the next start.
    pub async fn stop(mut self) {
        self.token.cancel();
        while self.lines.join_next().await.is_some() {}
    }
}
