//! The dispatcher: from alerts, ours or anyone's, to notices for people. It is pure: events come in with
//! the time, and [`Dispatcher::tick`] returns what is to be told now and what is to be saved.
//!
//! ```text
//! alert ─ silence ─ inhibition ─ route and hours ─ cooldown ─ group ─ repeat ─ notice
//! ```
//! Each step holds an alert for a named reason, which the log says at `debug`. What is decided of one alert and one channel
//! stands in `stage`; everything else here finds out quickly which alerts must be decided anew.
//!
//! - A channel is told that an alert fires, that it fires worse, and that it is over, each once. That it
//!   fires less badly goes with the next notice of its group.
//! - A channel that was told of an alert hears of it until it is over, even when its severity no longer
//!   takes the route.
//! - A formed notice is a commitment: the state says that it was told from then on. Whoever keeps the
//!   notices saves both together.
//! - Nothing is told before [`Dispatcher::synced`]: what stands on the bus must have been heard first.
//!
//! | module | owns |
//! |---|---|
//! | [`config`], `routing`, `matcher`, `window` | the settings, checked |
//! | `stage` | the decision |
//! | `tracked` | what is known of one alert |
//! | `silences`, `inhibition` | what holds alerts back |
//! | `silencing` | silences as they come and go |
//! | `agenda` | groups and deadlines |
//! | `events`, `marks` | what comes from the bus |
//! | `settling` | deciding one alert anew |
//! | `forming` | what is due becomes notices |
//! | `clock` | a clock that was set back |
//! | `saved` | the state on disk |

mod agenda;
mod clock;
pub mod config;
mod events;
mod forming;
mod inhibition;
mod marks;
mod matcher;
mod routing;
mod saved;
mod settling;
mod silences;
mod silencing;
mod stage;
mod tracked;
mod window;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use hostbus_wire::alert::{AlertKey, AlertSeverity};
use hostbus_wire::silence::Acknowledgement;
use hostbus_wire::{NodePath, SiteId, SiteTopic};
use thiserror::Error;

pub use config::{GroupBy, InhibitConfig, MatchConfig, RouteConfig, SettingError};
pub use routing::Routing;
pub use saved::{Restored, Saved};
pub use silencing::Answer;

use crate::notice::Notice;
use agenda::{Agenda, GroupKey};
use inhibition::Inhibition;
use silences::SilenceId;
use tracked::Tracked;

/// The most alerts that are looked after at once, and the most acknowledgements.
pub const MAX_ALERTS: usize = 100_000;
/// The most silences.
pub const MAX_SILENCES: usize = 1_000;

/// How long an expired silence stays on the bus, for people to see: a day.
const KEEP_SILENCE_MS: u64 = 86_400_000;

/// Why something that came from the bus is not taken. The rest goes on.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Refused {
    /// A silence makes no sense.
    #[error("the silence {id} is refused: {error}")]
    Silence {
        /// Its id.
        id: String,
        /// What is wrong with it.
        error: SettingError,
    },
    /// There are too many of something.
    #[error("{id} is refused: there are {most} {what} already")]
    TooMany {
        /// What is not taken.
        id: String,
        /// `alerts`, `silences`, `acknowledgements`.
        what: &'static str,
        /// How many are taken.
        most: usize,
    },
}

/// What is to be done after a tick.
#[derive(Debug, Default)]
pub struct Tick {
    /// What is to be told, in this order.
    pub notices: Vec<Notice>,
    /// What has changed of the state, to be written in the same transaction as the notices.
    pub saved: Vec<Saved>,
    /// Retained topics that have served: to be published with an empty payload, by who is active.
    pub clear: Vec<Clear>,
    /// When the next tick is due, in milliseconds since 1970-01-01 UTC; `None`: after the next event.
    /// It may be past: then at once.
    pub next_ms: Option<u64>,
}

/// A retained topic that has served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clear {
    /// The site it is of.
    pub site: SiteId,
    /// An acknowledgement of what is over or has changed, an old silence, a mark of what is long over.
    pub topic: SiteTopic,
}

/// How much is being looked after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counters {
    /// Alerts that fire or were told lately.
    pub alerts: usize,
    /// Silences, whether they hold now or not.
    pub silences: usize,
    /// Acknowledgements.
    pub acknowledgements: usize,
    /// Groups that wait or were told lately.
    pub groups: usize,
}

/// The dispatcher.
#[derive(Debug)]
pub struct Dispatcher {
    routing: Routing,
    inhibition: Inhibition,
    alerts: BTreeMap<Arc<AlertKey>, Tracked>,
    by_fingerprint: HashMap<Box<str>, Arc<AlertKey>>,
    node_groups: HashMap<NodePath, Vec<String>>,
    silences: silences::ById,
    answers: silencing::Answers,
    acknowledgements: HashMap<Box<str>, Acknowledged>,
    agenda: Agenda,
    channels: Vec<ChannelState>,
    next_id: u64,
    /// The latest time that was heard, since the clock was set back last.
    latest_ms: u64,
    synced: bool,
    changed: Changed,
    clear: Vec<Clear>,
}

/// An acknowledgement and what it was given for.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
struct Acknowledged {
    site: SiteId,
    acknowledgement: Acknowledgement,
    /// How bad the alert was; `None` until it is heard.
    severity: Option<AlertSeverity>,
    #[serde(skip)]
    heard: bool,
}

/// How much a channel was told lately, and what waits for it.
#[derive(Debug, Default)]
struct ChannelState {
    /// When its last notices were formed, the oldest first.
    recent_ms: Vec<u64>,
    /// Groups that have come due.
    due: BTreeSet<GroupKey>,
    wake_ms: Option<u64>,
}

/// What must be saved with the next tick, besides groups.
#[derive(Debug, Default)]
struct Changed {
    alerts: HashSet<Arc<AlertKey>>,
    silences: HashSet<SilenceId>,
    acknowledgements: HashSet<Box<str>>,
    channels: HashSet<usize>,
    next_id: bool,
}

impl Dispatcher {
    /// A dispatcher that knows nothing yet. [`restore`](Self::restore) it, feed it what stands on the bus,
    /// and say so with [`synced`](Self::synced).
    #[must_use]
    pub fn new(routing: Routing) -> Self {
        Self {
            inhibition: Inhibition::new(routing.inhibits.clone()),
            channels: routing
                .channels
                .iter()
                .map(|_| ChannelState::default())
                .collect(),
            routing,
            alerts: BTreeMap::new(),
            by_fingerprint: HashMap::new(),
            node_groups: HashMap::new(),
            silences: BTreeMap::new(),
            answers: silencing::Answers::default(),
            acknowledgements: HashMap::new(),
            agenda: Agenda::default(),
            next_id: 1,
            latest_ms: 0,
            synced: false,
            changed: Changed::default(),
            clear: Vec::new(),
        }
    }

    /// Notices with ids up to `last` may wait in the spool: the next one gets a higher one.
    pub fn next_id_is_above(&mut self, last: u64) {
        self.next_id = self.next_id.max(last.saturating_add(1));
    }

    /// The bus was joined again: from now until [`synced`](Self::synced) everything that stands there is heard.
    pub fn joined(&mut self) {
        for tracked in self.alerts.values_mut() {
            tracked.heard = false;
        }
        self.await_silences();
        for acknowledged in self.acknowledgements.values_mut() {
            acknowledged.heard = false;
        }
    }

    /// Everything that stands on the bus was heard since the start or since [`joined`](Self::joined): what
    /// was not is gone. An alert that fired is over then.
    pub fn synced(&mut self, now_ms: u64) {
        self.mind_the_clock(now_ms);
        let gone: Vec<SilenceId> = self
            .silences
            .iter()
            .filter(|(_, entry)| !entry.heard)
            .map(|(id, _)| id.clone())
            .collect();
        for id in gone {
            self.put_silence(&id, None, now_ms);
        }
        let gone: Vec<Arc<AlertKey>> = self
            .alerts
            .iter()
            .filter(|(_, tracked)| !tracked.heard && tracked.standing.firing)
            .map(|(key, _)| Arc::clone(key))
            .collect();
        for key in gone {
            if let Some(tracked) = self.alerts.get_mut(&key) {
                tracked.standing.end(&key, None, now_ms);
            }
            self.changed.alerts.insert(Arc::clone(&key));
            self.moved(&key, now_ms);
        }
        self.drop_acknowledgements(now_ms);
        if !std::mem::replace(&mut self.synced, true) {
            let keys: Vec<Arc<AlertKey>> = self.alerts.keys().cloned().collect();
            for key in keys {
                self.settle(&key, now_ms);
            }
        }
    }

    /// How much is being looked after.
    #[must_use]
    pub fn counters(&self) -> Counters {
        Counters {
            alerts: self.alerts.len(),
            silences: self.silences.len(),
            acknowledgements: self.acknowledgements.len(),
            groups: self.agenda.groups(),
        }
    }

    fn track(&mut self, key: &Arc<AlertKey>, tracked: Tracked) {
        self.by_fingerprint
            .insert(tracked.fingerprint.clone(), Arc::clone(key));
        self.alerts.insert(Arc::clone(key), tracked);
    }
}

impl Refused {
    fn too_many(id: &dyn fmt::Display, what: &'static str, most: usize) -> Self {
        Self::TooMany {
            id: id.to_string(),
            what,
            most,
        }
    }
}
