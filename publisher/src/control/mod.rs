//! Remote control: what is collected, how often, and what is told at once. Reads no clock itself.
//!
//! ```text
//! the host's own settings  <  config/desired  <  leases of command/resample
//! ```
//! The document that stands retained on `config/desired` lies on top of the host's settings, and
//! the topic is the truth about it:
//! - Whatever stands there is taken, also with a lower revision than before: a retained topic holds
//!   one document, and a broker that was restored holds an older one. What applies must not depend
//!   on what this run has seen before.
//! - An empty payload ends it, and so does a connection on which no document comes for [`SETTLE`]:
//!   it was cleared while we were away. The host's own settings hold again.
//! - A document with anything wrong in it changes nothing at all, and each reason is answered.
//! - A document without a readable revision can't be answered by its number; the answer has
//!   revision 0 and the reason under the empty key.
//!
//! It is answered on `config/reported`, with what is in force. A lease is no setting, and does not
//! show there; its answer is the command's reply. A retained command is no command: nobody waits
//! for its answer.

mod commands;
mod leases;
mod wanted;

use std::time::{Duration, Instant};

use hostbus_wire::DecodeError;
use hostbus_wire::codec::{self, Map};
use hostbus_wire::control::{ConfigDesired, ConfigReported, ConfigSource};
use tracing::{info, warn};

use crate::tuning::Tuning;

pub(crate) use commands::{Order, Outcome};

use commands::Commands;
use leases::Leases;
use wanted::Wanted;

/// How long a new connection waits for the retained document. After that there is none. A broker
/// that starts again has all hosts of a site at once, and what it is slow to send must not switch
/// each of them to its own settings and back.
const SETTLE: Duration = Duration::from_secs(30);
/// The longest reason why a payload can't be read, in bytes.
const MAX_REASON_BYTES: usize = 200;

/// See the module's description.
#[derive(Debug)]
pub(crate) struct Control {
    /// The host's own settings.
    file: Tuning,
    wanted: Option<Wanted>,
    /// `file` with `wanted` on top.
    in_force: Tuning,
    leases: Leases,
    commands: Commands,
    answer: Answer,
    /// When a connection without a document is one.
    settle_at: Option<Instant>,
    /// A document came since the last connection was lost.
    heard: bool,
    report_due: bool,
    /// How samples are taken may have changed.
    changed: bool,
}

/// What became of the last document.
#[derive(Debug, Default, PartialEq)]
struct Answer {
    revision: u64,
    refused: Map<String>,
}

impl Control {
    /// Begins with the host's own settings.
    pub(crate) fn new(file: Tuning) -> Self {
        Self {
            in_force: file.clone(),
            file,
            wanted: None,
            leases: Leases::default(),
            commands: Commands::default(),
            answer: Answer::default(),
            settle_at: None,
            heard: false,
            report_due: false,
            changed: false,
        }
    }

    /// A new connection, on which the retained document comes, if there is one. A broker may send it
    /// before it acknowledges the subscription (MQTT 3.1.1, section 3.8.4), and so before this.
    pub(crate) fn on_connected(&mut self, now: Instant) {
        self.settle_at = (!self.heard).then(|| now + SETTLE);
    }

    /// The connection is lost. What is in force stays.
    pub(crate) fn on_disconnected(&mut self) {
        self.settle_at = None;
        self.heard = false;
    }

    /// What stands on `config/desired`. A report is due afterwards.
    pub(crate) fn on_desired(&mut self, payload: &[u8]) {
        self.settle_at = None;
        self.heard = true;
        self.report_due = true;
        if payload.is_empty() {
            self.end_desired();
            return;
        }
        let answer = match read(payload) {
            Ok((revision, wanted)) => {
                let answer = Answer {
                    revision,
                    refused: Map::new(),
                };
                self.wanted = Some(wanted);
                if self.settle_settings() {
                    info!(revision, "settings from the bus are in force");
                }
                answer
            }
            Err(answer) => {
                if self.answer != answer {
                    let (revision, refused) = (answer.revision, &answer.refused);
                    warn!(revision, ?refused, "settings from the bus are refused");
                }
                answer
            }
        };
        self.answer = answer;
    }

    /// The host's own settings were read again. What came from the bus stays on top of them.
    pub(crate) fn rebase(&mut self, file: Tuning) {
        self.file = file;
        self.settle_settings();
        self.report_due = true;
    }

    /// A command. `retained` tells whether it stood there when we subscribed.
    pub(crate) fn on_command(
        &mut self,
        name: &str,
        payload: &[u8],
        retained: bool,
        now: Instant,
        now_ms: u64,
    ) -> Outcome {
        if retained {
            return Outcome::default();
        }
        let present = self.in_force.interval;
        let outcome = self.commands.take(name, payload, present, now, now_ms);
        if let Some(Order::Resample { interval, until }) = outcome.order {
            if self.leases.interval(now).is_none() {
                info!(
                    interval_ms = interval.as_millis(),
                    "sampling faster for a while"
                );
            }
            self.leases.grant(interval, until);
            self.changed = true;
        }
        outcome
    }

    /// Does what is due at `now`.
    pub(crate) fn tick(&mut self, now: Instant) {
        if self.settle_at.is_some_and(|at| at <= now) {
            self.settle_at = None;
            self.report_due = true;
            self.end_desired();
        }
        if self.leases.end(now) {
            self.changed = true;
            if self.leases.wake().is_none() {
                info!("sampling at the usual interval again");
            }
        }
    }

    /// When to [`tick`](Self::tick) next.
    pub(crate) fn wake(&self) -> Option<Instant> {
        [self.settle_at, self.leases.wake()]
            .into_iter()
            .flatten()
            .min()
    }

    /// How samples are to be taken from `now` on, if that may have changed since it was last asked.
    pub(crate) fn take_change(&mut self, now: Instant) -> Option<Tuning> {
        std::mem::take(&mut self.changed).then(|| self.tuning(now))
    }

    fn tuning(&self, now: Instant) -> Tuning {
        let mut tuning = self.in_force.clone();
        if let Some(interval) = self.leases.interval(now) {
            tuning.interval = tuning.interval.min(interval);
        }
        tuning
    }

    /// The time from sample to sample by the settings, leases aside.
    pub(crate) fn interval(&self) -> Duration {
        self.in_force.interval
    }

    /// What to publish on `config/reported`, if there is news. It is news until it is
    /// [told](Self::reported).
    pub(crate) fn report(&self) -> Option<ConfigReported> {
        self.report_due.then(|| ConfigReported {
            revision: self.answer.revision,
            source: Some(if self.wanted.is_some() {
                ConfigSource::Desired
            } else {
                ConfigSource::File
            }),
            interval_ms: Some(self.in_force.interval_ms()),
            collectors: self.in_force.switches(),
            refused: self.answer.refused.clone(),
        })
    }

    /// The report is published.
    pub(crate) fn reported(&mut self) {
        self.report_due = false;
    }

    fn end_desired(&mut self) {
        self.answer = Answer::default();
        if self.wanted.take().is_some() && self.settle_settings() {
            info!("no settings from the bus any more, the host's own are in force");
        }
    }

    /// Puts in force what is to be. Tells whether that is anything new.
    fn settle_settings(&mut self) -> bool {
        let in_force = match &self.wanted {
            Some(wanted) => wanted.apply(&self.file),
            None => self.file.clone(),
        };
        let changed = in_force != self.in_force;
        self.in_force = in_force;
        self.changed |= changed;
        changed
    }
}

/// The revision of a document and what it asks for, or why it is refused.
fn read(payload: &[u8]) -> Result<(u64, Wanted), Answer> {
    let document: ConfigDesired = codec::decode(payload).map_err(|error| Answer {
        revision: 0,
        refused: [(String::new(), brief(&error))].into(),
    })?;
    let revision = document.revision;
    match Wanted::check(document) {
        Ok(wanted) => Ok((revision, wanted)),
        Err(refused) => Err(Answer { revision, refused }),
    }
}

/// Why a payload can't be read, without much of what stands in it.
fn brief(error: &DecodeError) -> String {
    let mut text = error.to_string();
    text.truncate(text.floor_char_boundary(MAX_REASON_BYTES));
    text
}

#[cfg(test)]
mod tests;
