//! What is heard on the bus: alerts, and who is at them.

use std::sync::Arc;

use hostbus_wire::alert::{Alert, AlertKey, AlertState};
use hostbus_wire::silence::Acknowledgement;
use hostbus_wire::{NodePath, SiteId, SiteTopic};

use super::tracked::{Standing, Tracked};
use super::{Acknowledged, Clear, Dispatcher, MAX_ALERTS, Refused};

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
}
