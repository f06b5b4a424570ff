//! What stands on the bus of alerts: the alerts themselves, acknowledgements, silences, what people were
//! told, and how the notifiers are.

use std::collections::BTreeMap;

use hostbus_client::Message;
use hostbus_wire::alert::{Alert, AlertKey, AlertState};
use hostbus_wire::health::{Health, HealthState};
use hostbus_wire::silence::{Acknowledgement, Silence};
use hostbus_wire::told::Told;
use hostbus_wire::topic::{NodeTopic, SiteTopic};
use hostbus_wire::{Kind, QoS, SiteId, Topic, TopicRoot, decode, decode_open};

const KINDS: [Kind; 6] = [
    Kind::Alert,
    Kind::InstanceAlert,
    Kind::Acknowledgement,
    Kind::Silence,
    Kind::Told,
    Kind::System,
];

/// What stands there.
#[derive(Debug, Default)]
pub(crate) struct Standing {
    pub(crate) alerts: BTreeMap<AlertKey, Alert>,
    /// By the alert's fingerprint.
    pub(crate) acknowledgements: BTreeMap<String, Acknowledgement>,
    pub(crate) silences: BTreeMap<(SiteId, String), Silence>,
    /// By the alert and the channel.
    pub(crate) told: BTreeMap<(AlertKey, String), Told>,
    /// The notifiers by site and name.
    pub(crate) notifiers: BTreeMap<(SiteId, String), Health>,
    /// Topics with payloads that can't be read.
    pub(crate) unreadable: Vec<String>,
}

impl Standing {
    pub(crate) fn filters(root: &TopicRoot) -> Vec<(String, QoS)> {
        let filter = |kind: &Kind| (root.filter(*kind), QoS::AtLeastOnce);
        KINDS.iter().map(filter).collect()
    }

    /// Takes a message that came at `now_ms`.
    pub(crate) fn take(&mut self, root: &TopicRoot, message: &Message, now_ms: u64) {
        let Ok(topic) = Topic::parse(root, &message.topic) else {
            return;
        };
        if self.read(topic, &message.payload, now_ms).is_none() {
            self.unreadable.push(message.topic.clone());
        }
    }

    /// `None` when the payload can't be read.
    fn read(&mut self, topic: Topic, payload: &[u8], now_ms: u64) -> Option<()> {
        let gone = payload.is_empty();
        match topic {
            Topic::Node(node, NodeTopic::Alert { rule, instance }) => {
                let key = AlertKey {
                    node,
                    rule,
                    instance,
                };
                match Alert::decode(&key, payload, now_ms).ok()? {
                    Some(alert) => self.alerts.insert(key, alert),
                    None => self.alerts.remove(&key),
                };
            }
            Topic::Site(_, SiteTopic::Acknowledgement(id)) => {
                if gone {
                    self.acknowledgements.remove(&*id);
                } else {
                    self.acknowledgements
                        .insert(id.into(), decode_open(payload).ok()?);
                }
            }
            Topic::Site(site, SiteTopic::Silence(id)) => {
                if gone {
                    self.silences.remove(&(site, id.into()));
                } else {
                    self.silences
                        .insert((site, id.into()), decode_open(payload).ok()?);
                }
            }
            // A mark that is cleared does not say of which alert it was; an old one does no harm.
            Topic::Site(_, SiteTopic::Told { channel, .. }) if !gone => {
                let told: Told = decode(payload).ok()?;
                self.told.insert((told.alert.clone(), channel.into()), told);
            }
            Topic::Site(
                site,
                SiteTopic::System {
                    component,
                    instance,
                },
            ) if &*component == "notifier" => {
                let key = (site, instance.into());
                if gone {
                    self.notifiers.remove(&key);
                } else {
                    self.notifiers.insert(key, decode(payload).ok()?);
                }
            }
            _ => {}
        }
        Some(())
    }

    /// What people should know of the notifiers: what is wrong with those that run, and that none runs.
    pub(crate) fn troubles(&self) -> Vec<String> {
        let is_of = |of: &SiteId, state| {
            let mut all = self.notifiers.iter();
            all.any(|((site, _), health)| site == of && health.state == state)
        };
        let runs = |site| is_of(site, HealthState::Ok) || is_of(site, HealthState::Degraded);
        let mut troubles = Vec::new();
        for ((site, name), health) in &self.notifiers {
            match (health.state, &health.reason) {
                (HealthState::Degraded, Some(reason)) => {
                    troubles.push(format!("notifier {name} of {site}: {reason}"));
                }
                (HealthState::Stopped, _) if !runs(site) => {
                    let trouble = "it has stopped, and nobody is told of alerts";
                    troubles.push(format!("notifier {name} of {site}: {trouble}"));
                }
                _ => {}
            }
        }
        troubles
    }

    /// The channels that told people what stands in the alert now.
    pub(crate) fn told_by(&self, key: &AlertKey, alert: &Alert) -> Vec<&str> {
        self.told
            .iter()
            .filter(|((of, _), told)| {
                of == key && told.state == alert.state && told.severity == alert.severity
            })
            .map(|((_, channel), _)| channel.as_str())
            .collect()
    }

    /// The alert that `wanted` means: the beginning of a fingerprint, or its name, with or without site:
    /// `web1/disk-full//data`.
    pub(crate) fn find(&self, wanted: &str) -> anyhow::Result<(&AlertKey, &Alert)> {
        let named = |key: &AlertKey| {
            let name = key.to_string();
            let without_site = name.split_once('.').map_or("", |(_, rest)| rest);
            name == wanted || without_site == wanted || key.fingerprint().starts_with(wanted)
        };
        let mut found = self.alerts.iter().filter(|(key, _)| named(key));
        let first = found.next();
        match (first, found.next()) {
            (Some(only), None) => Ok(only),
            (Some(_), Some(_)) => {
                anyhow::bail!(
                    "`{wanted}` means several alerts: write more of the name or of the fingerprint"
                )
            }
            (None, _) => anyhow::bail!(
                "no alert `{wanted}` stands on the bus: `hostbus alerts list --all` shows those that do"
            ),
        }
    }

    /// The alerts, the worst first: firing before pending before resolved, then by severity and age.
    pub(crate) fn worst_first(&self) -> Vec<(&AlertKey, &Alert)> {
        let mut alerts: Vec<(&AlertKey, &Alert)> = self.alerts.iter().collect();
        let rank = |state| match state {
            AlertState::Firing => 0,
            AlertState::Pending => 1,
            AlertState::Resolved => 2,
        };
        alerts.sort_by_key(|(key, alert)| {
            let severity = std::cmp::Reverse(alert.severity);
            (rank(alert.state), severity, alert.since, (*key).clone())
        });
        alerts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing() -> Standing {
        let mut standing = Standing::default();
        for (topic, payload) in [
            ("nas/alerts/backup", r#"{"summary": "failed"}"#),
            (
                "nas/alerts/disk-full/%2Fdata",
                r#"{"severity": "critical"}"#,
            ),
            ("web1/alerts/backup", r#"{"state": "resolved"}"#),
            ("web2/alerts/backup", "rubbish"),
            ("_silences/s1", r#"{"seconds": 60}"#),
        ] {
            let message = Message {
                topic: format!("hostbus/v1/home/{topic}"),
                payload: payload.as_bytes().to_vec().into(),
                retained: true,
            };
            standing.take(&TopicRoot::default(), &message, 7);
        }
        standing
    }

    #[test]
    fn the_worst_stands_first_and_rubbish_is_named() {
        let standing = standing();
        let names: Vec<String> = standing
            .worst_first()
            .iter()
            .map(|(key, _)| key.to_string())
            .collect();
        let expected = [
            "home.nas/disk-full//data",
            "home.nas/backup",
            "home.web1/backup",
        ];
        assert_eq!(names, expected);
        assert_eq!(standing.unreadable, ["hostbus/v1/home/web2/alerts/backup"]);
        assert_eq!(standing.silences.len(), 1);
    }

    #[test]
    fn a_notifier_that_is_troubled_or_gone_is_named() {
        let check = |notifiers: &[(&str, HealthState, &str)], expected: &[&str]| {
            let mut standing = Standing::default();
            for (name, state, reason) in notifiers {
                let health = Health {
                    ts: 5,
                    state: *state,
                    reason: (!reason.is_empty()).then(|| (*reason).to_owned()),
                    version: String::new(),
                    counters: [].into(),
                };
                let message = Message {
                    topic: format!("hostbus/v1/home/_system/{name}"),
                    payload: hostbus_wire::encode(&health).unwrap().into(),
                    retained: true,
                };
                standing.take(&TopicRoot::default(), &message, 7);
            }
            assert_eq!(standing.troubles(), expected);
        };
        use HealthState::{Degraded, Ok, Stopped};
        check(&[], &[]);
        check(&[("broker/main", Degraded, "no disk")], &[]);
        check(&[("notifier/main", Ok, "standing by for second")], &[]);
        let ops = "channel ops has failed since then: HTTP 401";
        let told = format!("notifier main of home: {ops}");
        check(&[("notifier/main", Degraded, ops)], &[&told]);
        let one = [("notifier/main", Stopped, ""), ("notifier/second", Ok, "")];
        check(&one, &[]);
        let stopped = "notifier main of home: it has stopped, and nobody is told of alerts";
        check(&[("notifier/main", Stopped, "")], &[stopped]);
    }

    #[test]
    fn an_alert_is_found_by_its_name_or_the_beginning_of_its_fingerprint() {
        let standing = standing();
        let fingerprint = standing.alerts.keys().next().unwrap().fingerprint();
        let check = |wanted: &str, found: bool| {
            assert_eq!(standing.find(wanted).is_ok(), found, "{wanted}");
        };
        check("nas/backup", true);
        check("home.nas/backup", true);
        check("nas/disk-full//data", true);
        check(&fingerprint, true);
        check(&fingerprint[..8], true);
        check("nas", false);
        // All of them begin so.
        check("", false);
    }
}
