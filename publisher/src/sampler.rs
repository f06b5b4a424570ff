//! One pass over all collectors: a sample, and what changed about the collectors.
//!
//! A collector that fails or panics is told about when that changes, and never keeps the others
//! from their turn. When passes are made is the schedule's business.

use std::any::Any;
use std::collections::BTreeMap;
use std::panic::{self, AssertUnwindSafe};
use std::time::{Duration, Instant};

use hostbus_daemon::clock;
use hostbus_wire::event::Event;
use hostbus_wire::sample::MAX_POINTS;
use hostbus_wire::{Sample, codec, guard};
use rustix::time::{ClockId, clock_gettime};
use tracing::{info, warn};

use crate::collectors::{self, Collector, CollectorsConfig, Make, Presence};
use crate::error::CollectorError;
use crate::events;
use crate::timeline::Timeline;

/// Takes samples.
pub(crate) struct Sampler {
    config: CollectorsConfig,
    interval: Duration,
    slots: Vec<Slot>,
    timeline: Timeline,
    left_out: usize,
}

/// What one pass gave.
#[derive(Debug)]
pub(crate) struct Reading {
    pub(crate) sample: Sample,
    pub(crate) events: Vec<Event>,
    /// The state of each collector, if one has changed: `on`, or why there is nothing from it.
    pub(crate) collectors: Option<BTreeMap<String, String>>,
}

struct Slot {
    name: &'static str,
    make: Make,
    collector: Option<Box<dyn Collector>>,
    state: State,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Unknown,
    Off,
    On,
    Nothing(String),
    Failed(String),
}

impl State {
    fn text(&self) -> String {
        match self {
            Self::Unknown => "not read yet".to_owned(),
            Self::Off => "off: disabled in the settings".to_owned(),
            Self::On => "on".to_owned(),
            Self::Nothing(why) => format!("nothing here: {why}"),
            Self::Failed(error) => format!("failed: {error}"),
        }
    }
}

impl Sampler {
    pub(crate) fn new(config: &CollectorsConfig, interval: Duration) -> Self {
        Self::with(&collectors::ALL, config, interval)
    }

    fn with(list: &[(&'static str, Make)], config: &CollectorsConfig, interval: Duration) -> Self {
        let slots = list.iter().map(|(name, make)| {
            let collector = make(config);
            let state = if collector.is_some() {
                State::Unknown
            } else {
                State::Off
            };
            Slot {
                name,
                make: *make,
                collector,
                state,
            }
        });
        Self {
            config: config.clone(),
            interval,
            slots: slots.collect(),
            timeline: Timeline::default(),
            left_out: 0,
        }
    }

    /// Asks every collector once. The first sample has no rates.
    pub(crate) fn take(&mut self) -> Reading {
        let stamp = self.timeline.stamp(clock::unix_ms(), since_host_start());
        let mut sample = Sample {
            ts: Some(stamp.ts),
            interval_ms: u32::try_from(self.interval.as_millis()).ok(),
            ..Sample::default()
        };
        let mut events = Vec::new();
        if let Some(step_ms) = stamp.step_ms {
            warn!(step_ms, "the clock was set");
            events.push(events::clock_stepped(stamp.ts, step_ms));
        }
        let mut changed = false;
        for slot in &mut self.slots {
            if let Some(state) = slot.collect(&self.config, &mut sample)
                && state != slot.state
            {
                changed = true;
                events.extend(slot.turn(state, stamp.ts));
            }
        }
        sample.round();
        let left_out = cut(&mut sample);
        if left_out > 0 && self.left_out == 0 {
            warn!(left_out, "a sample is too large, instances are left out");
            events.push(events::sample_cut(stamp.ts, left_out));
        }
        self.left_out = left_out;
        let collectors = changed.then(|| self.states());
        Reading {
            sample,
            events,
            collectors,
        }
    }

    fn states(&self) -> BTreeMap<String, String> {
        self.slots
            .iter()
            .map(|slot| (slot.name.to_owned(), slot.state.text()))
            .collect()
    }
}

impl Slot {
    /// Asks the collector; `None` when it is off. After a panic it begins anew.
    fn collect(&mut self, config: &CollectorsConfig, sample: &mut Sample) -> Option<State> {
        let collector = self.collector.as_mut()?;
        let ask = AssertUnwindSafe(|| collector.collect(Instant::now(), sample));
        let answer = panic::catch_unwind(ask).unwrap_or_else(|panic| {
            self.collector = (self.make)(config);
            Err(CollectorError::Panicked(panic_text(&*panic)))
        });
        Some(match answer {
            Ok(Presence::Here) => State::On,
            Ok(Presence::Nothing(why)) => State::Nothing(why),
            Err(error) => State::Failed(error.to_string()),
        })
    }

    /// Goes over to a new state, and tells what is worth telling.
    fn turn(&mut self, state: State, ts: u64) -> Option<Event> {
        let collector = self.name;
        let event = match (&self.state, &state) {
            (_, State::Failed(error)) => {
                warn!(collector, error, "collector fails");
                Some(events::collector_failed(ts, collector, error))
            }
            (State::Failed(_), _) => {
                info!(collector, "collector works again");
                Some(events::collector_recovered(ts, collector))
            }
            _ => None,
        };
        self.state = state;
        event
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no reason".into())
}

/// Leaves instances out until readers take the sample, always from the longest list. Returns how
/// many are left out.
fn cut(sample: &mut Sample) -> usize {
    // Room for the numbers that the outbox adds.
    const MAX_BYTES: usize = guard::MAX_BYTES - 64;
    let mut left_out = 0;
    while sample.points() > MAX_POINTS
        || codec::encode(sample).is_ok_and(|bytes| bytes.len() > MAX_BYTES)
    {
        let lists = [
            sample.filesystems.len(),
            sample.disks.len(),
            sample.networks.len(),
            sample.gpus.len(),
            sample.sensors.len(),
            sample.custom.len(),
        ];
        let longest = lists.into_iter().max().unwrap_or(0);
        if longest < 2 {
            break;
        }
        // A quarter at a time, so that little more goes than must.
        let keep = longest - longest.div_ceil(4);
        sample.filesystems.truncate(keep);
        sample.disks.truncate(keep);
        sample.networks.truncate(keep);
        sample.gpus.truncate(keep);
        sample.sensors.truncate(keep);
        sample.custom.truncate(keep);
        left_out += lists
            .into_iter()
            .map(|len| len.saturating_sub(keep))
            .sum::<usize>();
    }
    left_out
}

/// Time since the host was started, the time it slept included.
fn since_host_start() -> Duration {
    let time = clock_gettime(ClockId::Boottime);
    Duration::try_from(time).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use hostbus_wire::sample::Custom;

    use super::*;

    /// Fails, panics and works by the number of its turn.
    #[derive(Default)]
    struct Moody {
        turn: u32,
    }

    impl Collector for Moody {
        fn collect(&mut self, _: Instant, sample: &mut Sample) -> Result<Presence, CollectorError> {
            self.turn += 1;
            match self.turn {
                1 | 4 => {
                    sample.custom.push(Custom::new("mood".parse().unwrap()));
                    Ok(Presence::Here)
                }
                2 | 3 => Err(CollectorError::parse("/proc/mood")),
                5 => panic!("in a bad mood"),
                _ => Ok(Presence::Nothing("no mood".to_owned())),
            }
        }
    }

    struct Steady;

    impl Collector for Steady {
        fn collect(&mut self, _: Instant, sample: &mut Sample) -> Result<Presence, CollectorError> {
            sample.custom.push(Custom::new("steady".parse().unwrap()));
            Ok(Presence::Here)
        }
    }

    fn sampler() -> Sampler {
        let list: [(&'static str, Make); 3] = [
            ("moody", |_| Some(Box::new(Moody::default()))),
            ("off", |_| None),
            ("steady", |_| Some(Box::new(Steady))),
        ];
        Sampler::with(&list, &CollectorsConfig::default(), Duration::from_secs(10))
    }

    #[test]
    fn a_failing_collector_is_told_on_change_and_the_others_go_on() {
        let mut sampler = sampler();
        let mut told = Vec::new();
        for _ in 0..7 {
            let reading = sampler.take();
            assert!(
                reading
                    .sample
                    .custom
                    .iter()
                    .any(|c| c.name.as_str() == "steady")
            );
            let kinds: Vec<String> = reading.events.into_iter().map(|event| event.kind).collect();
            let moody = reading.collectors.map(|states| states["moody"].clone());
            told.push((kinds.join(","), moody));
        }
        let failed = Some("failed: /proc/mood has no line that can be understood".to_owned());
        let on = Some("on".to_owned());
        assert_eq!(
            told,
            [
                (String::new(), on.clone()),
                ("collector-failed".to_owned(), failed),
                (String::new(), None),
                ("collector-recovered".to_owned(), on.clone()),
                (
                    "collector-failed".to_owned(),
                    Some("failed: panicked: in a bad mood".to_owned())
                ),
                // Made anew after its panic.
                ("collector-recovered".to_owned(), on),
                (
                    "collector-failed".to_owned(),
                    Some("failed: /proc/mood has no line that can be understood".to_owned())
                ),
            ]
        );
    }

    #[test]
    fn a_collector_that_is_off_says_so() {
        let states = sampler().take().collectors.unwrap();
        assert_eq!(states["off"], "off: disabled in the settings");
    }

    #[test]
    fn a_sample_that_no_reader_would_take_is_cut() {
        let mut sample = Sample::default();
        for number in 0..10_000 {
            let mut custom = Custom::new(format!("value-{number}").parse().unwrap());
            custom.value = Some(1.0);
            sample.custom.push(custom);
        }
        let left_out = cut(&mut sample);
        assert_eq!(sample.custom.len() + left_out, 10_000);
        assert!(
            sample.custom.len() > MAX_POINTS / 2,
            "{}",
            sample.custom.len()
        );
        assert!(Sample::decode(&codec::encode(&sample).unwrap()).is_ok());
    }

    #[test]
    fn this_hosts_sample_is_one_that_readers_take() {
        let mut sampler = Sampler::new(&CollectorsConfig::default(), Duration::from_secs(10));
        sampler.take();
        let reading = sampler.take();
        let bytes = codec::encode(&reading.sample).unwrap();
        let decoded = Sample::decode(&bytes).unwrap();
        assert_eq!(decoded, reading.sample);
        assert!(decoded.cpu.is_some() && decoded.memory.is_some());
    }
}
