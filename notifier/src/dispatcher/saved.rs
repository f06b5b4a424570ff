//! The state on disk: one small entry for each alert, silence, acknowledgement, group and channel, in
//! JSON, so that a tick writes only what it has changed.
//!
//! ```text
//! meta                                   {"version": 1, "next_id": 43}
//! alert/home.web1/disk-full//data        how it stands, and what each channel was told of it
//! silence/home/backup                    as it was put, and when it was first seen
//! acknowledgement/50a1438bd9aeb5af       as it was given, and for which severity
//! group/["mail",0,"rule disk-full"]      when its last notice was formed
//! channel/mail                           when its last notices were formed
//! ```

use std::collections::HashMap;
use std::sync::Arc;

use hostbus_wire::alert::AlertKey;
use hostbus_wire::silence::Silence;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::agenda::GroupKey;
use super::clock::Correction;
use super::silences::{Entry, Held, SilenceId};
use super::tracked::{Known, Post, Standing, Tracked};
use super::{Acknowledged, Dispatcher, MAX_ALERTS, MAX_SILENCES};

/// The version of these entries. A later one that can't be read by this code counts up.
const VERSION: u32 = 1;
const META: &str = "meta";

/// One entry to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Saved {
    /// Its key.
    pub key: String,
    /// Its new value; `None`: it is to be removed.
    pub value: Option<Vec<u8>>,
}

/// What became of the entries that were read back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Restored {
    /// How many were taken.
    pub taken: usize,
    /// How many could not be read or are of nothing that is set up any more.
    pub unreadable: usize,
}

#[derive(Serialize, Deserialize)]
struct Meta {
    version: u32,
    next_id: u64,
}

#[derive(Serialize, Deserialize)]
struct SavedAlert {
    key: AlertKey,
    standing: Standing,
    /// By the names of channels.
    known: Vec<(String, Known)>,
}

#[derive(Serialize, Deserialize)]
struct SavedSilence {
    id: SilenceId,
    silence: Silence,
    arrived_ms: u64,
}

#[derive(Serialize, Deserialize)]
struct SavedGroup {
    /// The channel's name, the route's place, the text.
    group: (String, Option<usize>, String),
    last_ms: u64,
}

impl Dispatcher {
    /// Takes the state that was saved. What can't be read is left out: then an alert may be told once more.
    /// What happened later than now, by a clock that was set back since, happened now.
    /// It is called once, before anything else.
    pub fn restore<I, K, V>(&mut self, entries: I, now_ms: u64) -> Restored
    where
        I: IntoIterator<Item = (K, V)>,
        K: AsRef<str>,
        V: AsRef<[u8]>,
    {
        let names: HashMap<String, usize> =
            self.routing.channels.iter().cloned().zip(0..).collect();
        self.mind_the_clock(now_ms);
        let correction = Correction::NotAfter(now_ms);
        let mut restored = Restored::default();
        for (key, value) in entries {
            let (key, value) = (key.as_ref(), value.as_ref());
            let taken = match key.split_once('/') {
                Some(("alert", _)) => self.restore_alert(value, &names, correction),
                Some(("silence", _)) => self.restore_silence(value, correction, now_ms),
                Some(("acknowledgement", fingerprint)) => {
                    self.restore_acknowledgement(fingerprint, value)
                }
                Some(("group", _)) => self.restore_group(value, &names, correction),
                Some(("channel", name)) => self.restore_channel(name, value, &names, correction),
                _ if key == META => read::<Meta>(value)
                    .filter(|meta| meta.version == VERSION)
                    .map(|meta| self.next_id = self.next_id.max(meta.next_id)),
                _ => None,
            };
            match taken {
                Some(()) => restored.taken += 1,
                None => restored.unreadable += 1,
            }
        }
        // What hides what is known only now.
        let keys: Vec<Arc<AlertKey>> = self.alerts.keys().cloned().collect();
        for key in &keys {
            let Some(tracked) = self.alerts.get(key) else {
                continue;
            };
            let standing = &tracked.standing;
            let firing = standing.firing.then_some((&standing.alert, &[][..]));
            self.inhibition.update(key, firing);
        }
        restored
    }

    fn restore_alert(
        &mut self,
        value: &[u8],
        names: &HashMap<String, usize>,
        correction: Correction,
    ) -> Option<()> {
        let saved: SavedAlert = read(value)?;
        if self.alerts.len() >= MAX_ALERTS {
            return None;
        }
        let key = Arc::new(saved.key);
        let mut tracked = Tracked::new(&key, saved.standing);
        tracked.heard = false;
        for (name, known) in saved.known {
            if let Some(&channel) = names.get(&name) {
                tracked.posts.push(Post {
                    channel,
                    known,
                    member: None,
                    stage: None,
                });
            }
        }
        tracked.correct(correction);
        self.track(&key, tracked);
        Some(())
    }

    fn restore_silence(&mut self, value: &[u8], correction: Correction, now_ms: u64) -> Option<()> {
        let mut saved: SavedSilence = read(value)?;
        correction.past(&mut saved.arrived_ms);
        if self.silences.len() >= MAX_SILENCES {
            return None;
        }
        let entry = Entry {
            held: Held::new(saved.silence, saved.arrived_ms).ok()?,
            holds: false,
            heard: false,
            unsaid: false,
            wake_ms: None,
        };
        self.silences.insert(saved.id.clone(), entry);
        self.turn_silence(&saved.id, now_ms);
        Some(())
    }

    fn restore_acknowledgement(&mut self, fingerprint: &str, value: &[u8]) -> Option<()> {
        let saved: Acknowledged = read(value)?;
        self.acknowledgements.insert(fingerprint.into(), saved);
        Some(())
    }

    fn restore_group(
        &mut self,
        value: &[u8],
        names: &HashMap<String, usize>,
        correction: Correction,
    ) -> Option<()> {
        let mut saved: SavedGroup = read(value)?;
        correction.past(&mut saved.last_ms);
        let (name, route, text) = saved.group;
        let group = GroupKey {
            channel: *names.get(&name)?,
            route,
            text: text.into(),
        };
        let keep_ms = self.keep_ms(&group)?;
        self.agenda.told(&group, saved.last_ms, keep_ms);
        Some(())
    }

    fn restore_channel(
        &mut self,
        name: &str,
        value: &[u8],
        names: &HashMap<String, usize>,
        correction: Correction,
    ) -> Option<()> {
        let mut recent_ms: Vec<u64> = read(value)?;
        recent_ms.iter_mut().for_each(|ms| correction.past(ms));
        self.channels[*names.get(name)?].recent_ms = recent_ms;
        Some(())
    }

    /// What has changed since it was last asked for.
    pub(super) fn take_saved(&mut self) -> Vec<Saved> {
        let changed = std::mem::take(&mut self.changed);
        let mut saved = Vec::new();
        if changed.next_id {
            let meta = Meta {
                version: VERSION,
                next_id: self.next_id,
            };
            saved.push(Saved::new(META.to_owned(), Some(&meta)));
        }
        for key in changed.alerts {
            let value = self
                .alerts
                .get(&key)
                .map(|tracked| self.saved_alert(&key, tracked));
            saved.push(Saved::new(format!("alert/{key}"), value.as_ref()));
        }
        for id in changed.silences {
            let value = self.silences.get(&id).map(|entry| SavedSilence {
                id: id.clone(),
                silence: entry.held.silence.clone(),
                arrived_ms: entry.held.arrived_ms,
            });
            saved.push(Saved::new(
                format!("silence/{}/{}", id.site, id.id),
                value.as_ref(),
            ));
        }
        for fingerprint in changed.acknowledgements {
            let value = self.acknowledgements.get(&fingerprint);
            saved.push(Saved::new(format!("acknowledgement/{fingerprint}"), value));
        }
        for group in std::mem::take(&mut self.agenda.changed) {
            let name = self.routing.channels[group.channel].clone();
            let named = (name, group.route, group.text.to_string());
            let key = serde_json::json!(named);
            let last_ms = self.agenda.group(&group).and_then(|group| group.last_ms);
            let value = last_ms.map(|last_ms| SavedGroup {
                group: named,
                last_ms,
            });
            saved.push(Saved::new(format!("group/{key}"), value.as_ref()));
        }
        for channel in changed.channels {
            let key = format!("channel/{}", self.routing.channels[channel]);
            saved.push(Saved::new(key, Some(&self.channels[channel].recent_ms)));
        }
        saved
    }

    fn saved_alert(&self, key: &AlertKey, tracked: &Tracked) -> SavedAlert {
        let named = |post: &Post| {
            let name = self.routing.channels[post.channel].clone();
            (name, post.known.clone())
        };
        SavedAlert {
            key: key.clone(),
            standing: tracked.standing.clone(),
            known: tracked.posts.iter().map(named).collect(),
        }
    }
}

impl Saved {
    fn new<T: Serialize>(key: String, value: Option<&T>) -> Self {
        let value = value.map(|value| {
            serde_json::to_vec(value).expect("these types have names and numbers that JSON knows")
        });
        Self { key, value }
    }
}

fn read<T: DeserializeOwned>(value: &[u8]) -> Option<T> {
    serde_json::from_slice(value).ok()
}
