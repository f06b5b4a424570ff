//! The dispatcher: from alerts, ours or anyone's, to notices for people. It is pure: events come in with
//! the time, and [`Dispatcher::tick`] returns what is to be told now and what is to be saved.
//!
//! ```text
//! alert ─ silence ─ inhibition ─ route and hours ─ cooldown ─ group ─ repeat ─ notice
//! ```
//! Each step holds an alert for a named reason, a [`Stage`]. What is decided of one alert and one channel
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
//! | `agenda` | groups and deadlines |
//! | `settling` | deciding one alert anew |
//! | `forming` | what is due becomes notices |
//! | `saved` | the state on disk |

mod agenda;
pub mod config;
mod forming;
mod inhibition;
mod matcher;
mod routing;
mod saved;
mod settling;
mod silences;
mod stage;
mod tracked;
mod window;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use hostbus_wire::alert::{Alert, AlertKey, AlertSeverity, AlertState};
use hostbus_wire::silence::{Acknowledgement, Silence};
use hostbus_wire::told::Told;
use hostbus_wire::{NodePath, SiteId, SiteTopic};
use thiserror::Error;

pub use config::{GroupBy, InhibitConfig, MatchConfig, RouteConfig, SettingError};
pub use routing::Routing;
pub use saved::{Restored, Saved};
pub use stage::Stage;

use crate::notice::{Notice, SAME_BEGINNING_MS};
use agenda::{Agenda, GroupKey};
use inhibition::Inhibition;
use silences::{Entry, Held, SilenceId};
use tracked::{Standing, Tracked, Word};

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
    acknowledgements: HashMap<Box<str>, Acknowledged>,
    agenda: Agenda,
    channels: Vec<ChannelState>,
    next_id: u64,
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
            acknowledgements: HashMap::new(),
            agenda: Agenda::default(),
            next_id: 1,
            synced: false,
            changed: Changed::default(),
            clear: Vec::new(),
        }
    }

    /// Notices with ids up to `last` may wait in the spool: the next one gets a higher one.
    pub fn next_id_is_above(&mut self, last: u64) {
        self.next_id = self.next_id.max(last.saturating_add(1));
    }

    /// The alert at `key` stands like this now; `None`: it is gone.
    ///
    /// # Errors
    /// There are too many alerts already.
    pub fn alert(
        &mut self,
        key: AlertKey,
        alert: Option<Alert>,
        now_ms: u64,
    ) -> Result<(), Refused> {
        let fires = alert
            .as_ref()
            .is_some_and(|alert| alert.state == AlertState::Firing);
        let known = self
            .alerts
            .get_key_value(&key)
            .map(|(key, _)| Arc::clone(key));
        let key = match (known, fires) {
            (Some(key), _) => key,
            (None, false) => return Ok(()),
            (None, true) if self.alerts.len() >= MAX_ALERTS => {
                return Err(Refused::too_many(key, "alerts", MAX_ALERTS));
            }
            (None, true) => Arc::new(key),
        };
        let moved = match (self.alerts.get_mut(&key), alert) {
            (Some(tracked), Some(alert)) if fires => {
                tracked.heard = true;
                let standing = &mut tracked.standing;
                if standing.firing {
                    let moved = (&standing.alert.severity, &standing.alert.labels)
                        != (&alert.severity, &alert.labels);
                    standing.alert = alert;
                    moved
                } else {
                    *standing = Standing::firing(alert);
                    for post in &mut tracked.posts {
                        let cooldown_ms = self.routing.cooldown_ms(post.channel);
                        post.known.come_back(cooldown_ms, now_ms);
                    }
                    true
                }
            }
            (Some(tracked), last) => {
                tracked.heard = true;
                if tracked.standing.firing {
                    tracked.standing.end(&key, last, now_ms);
                    true
                } else {
                    false
                }
            }
            (None, Some(alert)) => {
                let tracked = Tracked::new(&key, Standing::firing(alert));
                self.track(&key, tracked);
                true
            }
            (None, None) => false,
        };
        if moved {
            self.changed.alerts.insert(Arc::clone(&key));
            self.moved(&key, now_ms);
        }
        Ok(())
    }

    /// The groups that a node is in.
    pub fn node_groups(&mut self, node: &NodePath, groups: Vec<String>, now_ms: u64) {
        if self.node_groups.get(node).is_some_and(|old| *old == groups) {
            return;
        }
        if groups.is_empty() && self.node_groups.remove(node).is_none() {
            return;
        }
        if !groups.is_empty() {
            self.node_groups.insert(node.clone(), groups);
        }
        for key in self.alerts_of(node) {
            self.moved(&key, now_ms);
        }
    }

    /// The silence `id` of a site is this; `None`: it is gone.
    ///
    /// # Errors
    /// It makes no sense, or there are too many. One of the same id that was taken before is gone then.
    pub fn silence(
        &mut self,
        site: &SiteId,
        id: &str,
        silence: Option<Silence>,
        now_ms: u64,
    ) -> Result<(), Refused> {
        let id = SilenceId {
            site: site.clone(),
            id: id.into(),
        };
        let Some(silence) = silence else {
            self.put_silence(&id, None, now_ms);
            return Ok(());
        };
        if let Some(entry) = self.silences.get_mut(&id) {
            entry.heard = true;
            if entry.held.silence == silence {
                return Ok(());
            }
        } else if self.silences.len() >= MAX_SILENCES {
            return Err(Refused::too_many(id.id, "silences", MAX_SILENCES));
        }
        match Held::new(silence, now_ms) {
            Ok(held) => {
                self.put_silence(&id, Some(held), now_ms);
                Ok(())
            }
            Err(error) => {
                self.put_silence(&id, None, now_ms);
                let id = id.id.into();
                Err(Refused::Silence { id, error })
            }
        }
    }

    /// Somebody is at the alert with this fingerprint; `None`: nobody any more.
    ///
    /// # Errors
    /// There are too many acknowledgements already.
    pub fn acknowledge(
        &mut self,
        site: &SiteId,
        fingerprint: &str,
        acknowledgement: Option<Acknowledgement>,
        now_ms: u64,
    ) -> Result<(), Refused> {
        let key = self.by_fingerprint.get(fingerprint).cloned();
        match acknowledgement {
            None => {
                if self.acknowledgements.remove(fingerprint).is_none() {
                    return Ok(());
                }
            }
            Some(acknowledgement) => {
                let full = self.acknowledgements.len() >= MAX_ALERTS;
                match self.acknowledgements.get_mut(fingerprint) {
                    Some(old) if old.acknowledgement == acknowledgement && old.site == *site => {
                        old.heard = true;
                        return Ok(());
                    }
                    None if full => {
                        let what = "acknowledgements";
                        return Err(Refused::too_many(fingerprint, what, MAX_ALERTS));
                    }
                    _ => {}
                }
                if self.synced && key.is_none() {
                    self.clear.push(Clear {
                        site: site.clone(),
                        topic: SiteTopic::Acknowledgement(fingerprint.into()),
                    });
                    return Ok(());
                }
                let acknowledged = Acknowledged {
                    site: site.clone(),
                    acknowledgement,
                    severity: None,
                    heard: true,
                };
                self.acknowledgements
                    .insert(fingerprint.into(), acknowledged);
            }
        }
        self.changed.acknowledgements.insert(fingerprint.into());
        if let Some(key) = key {
            self.settle(&key, now_ms);
        }
        Ok(())
    }

    /// Another notifier, or this one, has told this through `channel`: it need not be told again.
    pub fn told(&mut self, channel: &str, told: &Told, now_ms: u64) {
        let Some(place) = self
            .routing
            .channels
            .iter()
            .position(|name| name == channel)
        else {
            return;
        };
        let firing = told.state == AlertState::Firing;
        let Some((key, _)) = self.alerts.get_key_value(&told.alert) else {
            // Nothing is known of the alert. If it is still to be heard it need not be told again; if it
            // is gone, people are still to hear that it is over.
            if firing && !self.synced && self.alerts.len() < MAX_ALERTS {
                self.take_over(place, told, now_ms);
            }
            return;
        };
        let key = Arc::clone(key);
        let Some(tracked) = self.alerts.get_mut(&key) else {
            return;
        };
        let known = &mut tracked.post(place).known;
        let old = known.clone();
        let at_ms = told.at.min(now_ms);
        match known.told {
            // A mark is as old as its delivery took: of the same firing it may be behind what was formed
            // here since, so it only adds to that.
            Some(ours) if firing && told.since.saturating_add(SAME_BEGINNING_MS) >= ours.since => {
                known.told = Some(Word {
                    severity: told.severity.max(ours.severity),
                    since: ours.since.max(told.since),
                    at_ms: at_ms.max(ours.at_ms),
                });
            }
            Some(ours) if !firing && told.since >= ours.since => known.end(at_ms),
            None if firing
                && known.ended.is_none_or(|ended| {
                    told.since > ended.since.saturating_add(SAME_BEGINNING_MS)
                }) =>
            {
                known.told = Some(Word {
                    severity: told.severity,
                    since: told.since,
                    at_ms,
                });
            }
            _ => {}
        }
        if *known != old {
            self.changed.alerts.insert(Arc::clone(&key));
            self.settle(&key, now_ms);
        }
    }

    /// The bus was joined again: from now until [`synced`](Self::synced) everything that stands there is heard.
    pub fn joined(&mut self) {
        for tracked in self.alerts.values_mut() {
            tracked.heard = false;
        }
        for entry in self.silences.values_mut() {
            entry.heard = false;
        }
        for acknowledged in self.acknowledgements.values_mut() {
            acknowledged.heard = false;
        }
    }

    /// Everything that stands on the bus was heard since the start or since [`joined`](Self::joined): what
    /// was not is gone. An alert that fired is over then.
    pub fn synced(&mut self, now_ms: u64) {
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
        self.synced = true;
    }

    /// Why the alert at `key` is told or held back, by the names of channels.
    #[must_use]
    pub fn explain(&self, key: &AlertKey, now_ms: u64) -> Vec<(String, Stage)> {
        self.stages(key, now_ms)
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

    /// The alerts of one node.
    fn alerts_of(&self, node: &NodePath) -> Vec<Arc<AlertKey>> {
        let first = AlertKey {
            node: node.clone(),
            rule: "".into(),
            instance: None,
        };
        self.alerts
            .range(Arc::new(first)..)
            .map(|(key, _)| key)
            .take_while(|key| key.node == *node)
            .cloned()
            .collect()
    }

    fn track(&mut self, key: &Arc<AlertKey>, tracked: Tracked) {
        self.by_fingerprint
            .insert(tracked.fingerprint.clone(), Arc::clone(key));
        self.alerts.insert(Arc::clone(key), tracked);
    }

    /// A channel was told by another notifier of an alert that was not heard yet. Until it is, it fires
    /// as it was told.
    fn take_over(&mut self, channel: usize, told: &Told, now_ms: u64) {
        let key = Arc::new(told.alert.clone());
        let alert = Alert {
            fingerprint: key.fingerprint(),
            severity: told.severity,
            since: told.since,
            summary: key.to_string(),
            ..Alert::default()
        };
        let mut tracked = Tracked::new(&key, Standing::firing(alert));
        tracked.heard = false;
        tracked.post(channel).known.told = Some(Word {
            severity: told.severity,
            since: told.since,
            at_ms: told.at.min(now_ms),
        });
        self.track(&key, tracked);
        self.changed.alerts.insert(Arc::clone(&key));
        self.moved(&key, now_ms);
    }

    fn put_silence(&mut self, id: &SilenceId, held: Option<Held>, now_ms: u64) {
        let old = self.silences.remove(id);
        if let Some(mut old) = old {
            self.agenda.wake(
                &mut old.wake_ms,
                None,
                agenda::Deadline::Silence(id.clone()),
            );
            self.changed.silences.insert(id.clone());
            if old.holds {
                self.settle_meant(&id.site, &old.held, now_ms);
            }
        }
        if let Some(held) = held {
            let entry = Entry {
                held,
                holds: false,
                heard: true,
                wake_ms: None,
            };
            self.silences.insert(id.clone(), entry);
            self.changed.silences.insert(id.clone());
            self.turn_silence(id, now_ms);
        }
    }
}

impl Refused {
    #[expect(clippy::needless_pass_by_value, reason = "keys, ids and texts alike")]
    fn too_many(id: impl ToString, what: &'static str, most: usize) -> Self {
        Self::TooMany {
            id: id.to_string(),
            what,
            most,
        }
    }
}
