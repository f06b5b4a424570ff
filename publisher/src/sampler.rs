//! One pass over the collectors that are due: a sample, and what changed about the collectors.
//!
//! A collector that fails, panics or hangs is told about when that changes, and never keeps the
//! others from their turn. When passes are made is the schedule's business.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use hostbus_daemon::clock;
use hostbus_wire::details::Details;
use hostbus_wire::event::Event;
use hostbus_wire::sample::MAX_POINTS;
use hostbus_wire::{Sample, codec, guard};
use rustix::time::{ClockId, clock_gettime};
use tokio::time::timeout;
use tracing::{info, warn};

use crate::collectors::{self, Collector, CollectorsConfig, Entry, Pass, Presence};
use crate::error::CollectorError;
use crate::events;
use crate::lane::{Answer, Cost, Ends, Job, Lane, Who};
use crate::timeline::Timeline;

/// How long a sample waits for one collector.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long a collector may be silent before people hear of it: a driver that is being loaded takes
/// some seconds.
const TELL_AFTER: Duration = Duration::from_secs(10);

/// Takes samples.
pub(crate) struct Sampler {
    config: CollectorsConfig,
    slots: Vec<Slot>,
    lane: Option<Lane>,
    timeline: Timeline,
    left_out: usize,
}

/// What one pass gave.
#[derive(Debug)]
pub(crate) struct Reading {
    pub(crate) sample: Sample,
    pub(crate) events: Vec<Event>,
    /// Tables that are no time series, by the last level of their topic.
    pub(crate) details: Vec<(&'static str, Details)>,
    /// How each collector is doing.
    pub(crate) collectors: Vec<CollectorReport>,
    /// One of them is doing otherwise than before.
    pub(crate) collectors_changed: bool,
}

/// How one collector is doing.
#[derive(Debug, Clone, PartialEq)]
pub struct CollectorReport {
    /// Its name in the settings.
    pub name: &'static str,
    /// Whether it works, and why not.
    pub state: CollectorState,
    /// How many numbers its last turn gave.
    pub points: usize,
    /// What its last turn took; absent before it.
    pub cost: Option<Cost>,
}

/// Whether a collector works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CollectorState {
    /// It was not asked yet.
    Unknown,
    /// The settings turn it off.
    Off,
    /// It works.
    On,
    /// It works, but for a part that it has told of by an event of its own.
    Partly(String),
    /// The host has nothing for it, and why we think so.
    Nothing(String),
    /// It fails, and why.
    Failed(String),
}

impl std::fmt::Display for CollectorState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unknown => f.write_str("not read yet"),
            Self::Off => f.write_str("off: disabled in the settings"),
            Self::On => f.write_str("on"),
            Self::Partly(why) => write!(f, "partly on: {why}"),
            Self::Nothing(why) => write!(f, "nothing here: {why}"),
            Self::Failed(error) => write!(f, "failed: {error}"),
        }
    }
}

struct Slot {
    entry: &'static Entry,
    seat: Seat,
    state: CollectorState,
    points: usize,
    cost: Option<Cost>,
    /// Its last answer came after the sample had gone on without it.
    late: bool,
    ends: Ends,
}

/// Where a collector is.
enum Seat {
    /// The settings turn it off.
    Off,
    /// It is made at its next turn.
    Unmade,
    Here(Box<dyn Collector>),
    /// It does not answer, and has the thread for itself.
    Away {
        lane: Lane,
        since: Instant,
        /// Its settings changed meanwhile: what comes back is of no use.
        outdated: bool,
    },
}

impl Sampler {
    pub(crate) fn new(config: &CollectorsConfig) -> Self {
        Self::with(&collectors::ALL, config)
    }

    fn with(list: &'static [Entry], config: &CollectorsConfig) -> Self {
        let slots = list.iter().map(|entry| {
            let mut slot = Slot {
                entry,
                seat: Seat::Off,
                state: if config.enabled(entry) {
                    CollectorState::Unknown
                } else {
                    CollectorState::Off
                },
                points: 0,
                cost: None,
                late: false,
                ends: Ends::default(),
            };
            slot.seat_anew(config);
            slot
        });
        Self {
            config: config.clone(),
            slots: slots.collect(),
            lane: None,
            timeline: Timeline::default(),
            left_out: 0,
        }
    }

    /// Goes over to other settings. Collectors that they don't concern keep what they know, and so
    /// do those of which only the interval changes: when they are asked is not their business.
    pub(crate) fn change(&mut self, config: &CollectorsConfig) {
        let before = std::mem::replace(&mut self.config, config.clone());
        for slot in &mut self.slots {
            let (mut before, mut after) = (before.clone(), config.clone());
            *(slot.entry.public)(&mut before).interval_seconds = None;
            *(slot.entry.public)(&mut after).interval_seconds = None;
            if !(slot.entry.same)(&before, &after) {
                slot.seat_anew(config);
            }
        }
    }

    /// Asks every collector once. The first sample has no rates.
    pub(crate) async fn take_all(&mut self, to_next: Duration) -> Reading {
        let due = vec![true; self.slots.len()];
        self.take(&due, to_next).await
    }

    /// Asks each collector that is `due`. The next sample comes after `to_next`.
    pub(crate) async fn take(&mut self, due: &[bool], to_next: Duration) -> Reading {
        let stamp = self.timeline.stamp(clock::unix_ms(), since_host_start());
        let mut whole = Pass::at(Instant::now(), stamp.ts);
        whole.sample.ts = Some(stamp.ts);
        whole.sample.interval_ms = u32::try_from(to_next.as_millis()).ok();
        if let Some(step_ms) = stamp.step_ms {
            warn!(step_ms, "the clock was set");
            whole.events.push(events::clock_stepped(stamp.ts, step_ms));
        }
        let mut changed = false;
        for (slot, _) in self.slots.iter_mut().zip(due).filter(|(_, due)| **due) {
            if let Some(state) = slot.collect(&mut self.lane, &self.config, &mut whole).await
                && state != slot.state
            {
                changed = true;
                whole.events.extend(slot.turn(state, stamp.ts));
            }
        }
        whole.sample.round();
        let left_out = cut(&mut whole.sample);
        if left_out > 0 && self.left_out == 0 {
            warn!(left_out, "a sample is too large, instances are left out");
            whole.events.push(events::sample_cut(stamp.ts, left_out));
        }
        self.left_out = left_out;
        Reading {
            sample: whole.sample,
            events: whole.events,
            details: whole.details,
            collectors: self.reports(),
            collectors_changed: changed,
        }
    }

    fn reports(&self) -> Vec<CollectorReport> {
        self.slots
            .iter()
            .map(|slot| CollectorReport {
                name: slot.entry.name,
                state: slot.state.clone(),
                points: slot.points,
                cost: slot.cost,
            })
            .collect()
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        self.slots.iter_mut().for_each(Slot::vacate);
    }
}

/// The state of each collector as `info` tells it.
pub(crate) fn states(collectors: &[CollectorReport]) -> BTreeMap<String, String> {
    collectors
        .iter()
        .map(|report| (report.name.to_owned(), report.state.to_string()))
        .collect()
}

impl Slot {
    /// Has the collector made anew, or none when it is off.
    fn seat_anew(&mut self, config: &CollectorsConfig) {
        if let Seat::Away { outdated, .. } = &mut self.seat {
            // It is made when it comes back: another one would hang as well.
            *outdated = true;
            return;
        }
        self.vacate();
        if config.enabled(self.entry) {
            self.seat = Seat::Unmade;
        }
    }

    fn vacate(&mut self) {
        if let Seat::Here(collector) = std::mem::replace(&mut self.seat, Seat::Off) {
            self.ends.retire(collector);
        }
    }

    /// Asks the collector and tells its state; `None` when there is nothing new to say.
    async fn collect(
        &mut self,
        lane: &mut Option<Lane>,
        config: &CollectorsConfig,
        whole: &mut Pass,
    ) -> Option<CollectorState> {
        if let Some(silence) = self.silence(config, whole) {
            // Nobody waits for it any more, least of all the health.
            if !config.enabled(self.entry) {
                return Some(CollectorState::Off);
            }
            let told = CollectorState::Failed(CollectorError::Hangs.to_string());
            return (silence >= TELL_AFTER).then_some(told);
        }
        let failed = |error: CollectorError| Some(CollectorState::Failed(error.to_string()));
        if matches!(self.seat, Seat::Unmade) && self.ends.are_too_many() {
            return failed(CollectorError::EndsHang);
        }
        let mut opened = match lane.take().map_or_else(Lane::open, Ok) {
            Ok(opened) => opened,
            Err(error) => return failed(CollectorError::Thread(error)),
        };
        let who = match std::mem::replace(&mut self.seat, Seat::Off) {
            Seat::Here(collector) => Who::Made(collector),
            Seat::Unmade => Who::New(self.entry, Box::new(config.clone())),
            Seat::Off | Seat::Away { .. } => {
                *lane = Some(opened);
                return Some(CollectorState::Off);
            }
        };
        let pass = Pass::at(Instant::now(), whole.ts);
        opened.ask(Job { who, pass });
        let Ok(answer) = timeout(PATIENCE, opened.answer()).await else {
            self.seat = Seat::Away {
                lane: opened,
                since: whole.now,
                outdated: false,
            };
            // Once may be a driver that is being loaded.
            let told = || CollectorState::Failed(CollectorError::Slow.to_string());
            return self.late.then(told);
        };
        let answer = answer.expect("a lane's thread lives as long as the lane");
        *lane = Some(opened);
        Some(self.take_answer(answer, config, whole))
    }

    /// For how long the collector has not answered; `None` when it is here, perhaps again. What it
    /// found then is of a moment long gone, but what happened has happened: the collector knows of
    /// it, and will not tell again.
    fn silence(&mut self, config: &CollectorsConfig, whole: &mut Pass) -> Option<Duration> {
        let Seat::Away {
            lane,
            since,
            outdated,
        } = &mut self.seat
        else {
            return None;
        };
        let Some(answer) = lane.late_answer() else {
            return Some(whole.now.saturating_duration_since(*since));
        };
        let outdated = *outdated || answer.collector.is_none();
        self.seat = answer.collector.map_or(Seat::Off, Seat::Here);
        self.late = true;
        whole.events.extend(answer.pass.events);
        if outdated {
            self.seat_anew(config);
        } else {
            whole.details.extend(answer.pass.details);
        }
        None
    }

    fn take_answer(
        &mut self,
        answer: Answer,
        config: &CollectorsConfig,
        whole: &mut Pass,
    ) -> CollectorState {
        match answer.collector {
            Some(collector) => self.seat = Seat::Here(collector),
            None => self.seat_anew(config),
        }
        self.late = false;
        self.cost = Some(answer.cost);
        self.points = answer.pass.sample.points();
        whole.sample.append(answer.pass.sample);
        whole.events.extend(answer.pass.events);
        whole.details.extend(answer.pass.details);
        match answer.outcome {
            Ok(Presence::Here) => CollectorState::On,
            Ok(Presence::Partly(why)) => CollectorState::Partly(why),
            Ok(Presence::Nothing(why)) => CollectorState::Nothing(why),
            Err(error) => CollectorState::Failed(error.to_string()),
        }
    }

    /// Goes over to a new state, and tells what is worth telling.
    fn turn(&mut self, state: CollectorState, ts: u64) -> Option<Event> {
        let collector = self.entry.name;
        let event = match (&self.state, &state) {
            (_, CollectorState::Failed(error)) => {
                warn!(collector, error, "collector fails");
                Some(events::collector_failed(ts, collector, error))
            }
            // Nobody knows whether it would work.
            (_, CollectorState::Off) => None,
            (CollectorState::Failed(_), _) => {
                info!(collector, "collector works again");
                Some(events::collector_recovered(ts, collector))
            }
            _ => None,
        };
        self.state = state;
        event
    }
}

/// Leaves instances out until readers take the sample, always from the longest lists. Returns how
/// many are left out.
fn cut(sample: &mut Sample) -> usize {
    // Room for the numbers that the outbox adds.
    const MAX_BYTES: usize = guard::MAX_BYTES - 64;
    let mut left_out = 0;
    while sample.weight() > MAX_POINTS
        || codec::encode(sample).is_ok_and(|bytes| bytes.len() > MAX_BYTES)
    {
        match sample.shorten() {
            0 => break,
            gone => left_out += gone,
        }
    }
    left_out
}

/// Time since the host was started, the time it slept included.
fn since_host_start() -> Duration {
    let time = clock_gettime(ClockId::Boottime);
    Duration::try_from(time).unwrap_or_default()
}

#[cfg(test)]
mod tests;
