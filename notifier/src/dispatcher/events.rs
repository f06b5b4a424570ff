//! What is heard on the bus: alerts, and what people say to them.

use std::sync::Arc;

use hostbus_wire::alert::{Alert, AlertKey, AlertState};
use hostbus_wire::silence::{Acknowledgement, Silence};
use hostbus_wire::{NodePath, SiteId, SiteTopic};

use super::agenda::Deadline;
use super::silences::{Entry, Held, SilenceId};
use super::tracked::{Standing, Tracked};
use super::{Acknowledged, Clear, Dispatcher, MAX_ALERTS, MAX_SILENCES, Refused};

impl Dispatcher {
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
        self.mind_the_clock(now_ms);
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
                return Err(Refused::too_many(&key, "alerts", MAX_ALERTS));
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
        self.mind_the_clock(now_ms);
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
        self.mind_the_clock(now_ms);
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
            return Err(Refused::too_many(&id.id, "silences", MAX_SILENCES));
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
        self.mind_the_clock(now_ms);
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
                        return Err(Refused::too_many(&fingerprint, what, MAX_ALERTS));
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

    pub(super) fn put_silence(&mut self, id: &SilenceId, held: Option<Held>, now_ms: u64) {
        let old = self.silences.remove(id).map(|mut old| {
            let deadline = Deadline::Silence(id.clone());
            self.agenda.wake(&mut old.wake_ms, None, deadline);
            old
        });
        self.changed.silences.insert(id.clone());
        if let Some(held) = held {
            let entry = Entry {
                held,
                holds: false,
                heard: true,
                wake_ms: None,
            };
            self.silences.insert(id.clone(), entry);
            self.turn_silence(id, now_ms);
        }
        // Only now: between the old one and the new one nothing is told.
        if let Some(old) = old.filter(|old| old.holds) {
            self.settle_meant(&id.site, &old.held, now_ms);
        }
    }
}
