//! A small world for the dispatcher: what stands on the bus, what may happen, and three channels.

use std::collections::BTreeMap;

use hostbus_wire::alert::{Alert, AlertKey, AlertSeverity, AlertState};
use hostbus_wire::silence::{Acknowledgement, Silence};
use hostbus_wire::{SiteId, SiteTopic};
use proptest::prelude::*;

use super::super::{Answer, Dispatcher, RouteConfig, Routing, Tick};
use super::model::Model;
use crate::notice::{Notice, Reason};

const ROUTES: &str = r#"
    [[routes]]
    channels = ["mail"]
    wait_seconds = 5
    interval_seconds = 60
    repeat_seconds = 600
    cooldown_seconds = 60
    continue = true
    [[routes]]
    channels = ["pager"]
    severities = ["critical"]
    group_by = "alert"
    wait_seconds = 0
    interval_seconds = 30
    repeat_seconds = 120
    cooldown_seconds = 90
    continue = true
    [[routes]]
    channels = ["chat"]
    between = { from = "00:00", to = "00:20" }
    group_by = "node"
    wait_seconds = 10
    repeat_seconds = 0
    cooldown_seconds = 0
    recovery = false
"#;

/// 2026-01-05T00:00:00Z.
pub(super) const MIDNIGHT_MS: u64 = 1_767_571_200_000;

/// What a notice says, without its number.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Told {
    pub(super) channel: String,
    pub(super) reason: Reason,
    pub(super) group: String,
    pub(super) formed_ms: u64,
    pub(super) lines: Vec<ToldLine>,
    pub(super) still_firing: usize,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct ToldLine {
    pub(super) key: AlertKey,
    pub(super) state: AlertState,
    pub(super) severity: AlertSeverity,
    pub(super) was: Option<AlertSeverity>,
    pub(super) flaps: u32,
    pub(super) repeated: bool,
}

/// Holds the alerts of one rule or of one node.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Silenced {
    rule: Option<&'static str>,
    node: Option<&'static str>,
    pub(super) seconds: u64,
}

impl Silenced {
    pub(super) fn means(&self, key: &AlertKey) -> bool {
        self.rule.is_none_or(|rule| *key.rule == *rule)
            && self.node.is_none_or(|node| key.node.node.as_str() == node)
    }

    fn on_the_bus(&self) -> Silence {
        let list = |text: Option<&str>| text.map(str::to_owned).into_iter().collect();
        Silence {
            rules: list(self.rule),
            nodes: list(self.node),
            seconds: Some(self.seconds),
            ..Silence::default()
        }
    }
}

/// Something that happens.
#[derive(Debug, Clone)]
pub(super) enum Step {
    Fire(AlertKey, AlertSeverity),
    Over(AlertKey),
    Silence(&'static str, Option<Silenced>),
    /// For so many seconds, or until the alert changes.
    Acknowledge(AlertKey, Option<u64>),
    TakeBack(AlertKey),
    Wait(u64),
    Restart,
    /// The clock is set back or ahead by so many seconds.
    Back(u64),
    Ahead(u64),
}

pub(super) fn key(node: &str, rule: &str) -> AlertKey {
    AlertKey {
        node: format!("home.{node}").parse().unwrap(),
        rule: rule.into(),
        instance: None,
    }
}

pub(super) fn steps() -> impl Strategy<Value = Vec<Step>> {
    let nodes = prop::sample::select(vec!["a", "b", "c"]);
    let rules = prop::sample::select(vec!["node-down", "cpu", "disk", "fan"]);
    let keys = (nodes.clone(), rules.clone()).prop_map(|(node, rule)| key(node, rule));
    let severities = prop::sample::select(AlertSeverity::ALL.to_vec());
    let ids = prop::sample::select(vec!["s", "t"]);
    let silenced = (prop::option::of(rules), prop::option::of(nodes), 1..900_u64).prop_map(
        |(rule, node, seconds)| Silenced {
            rule,
            node,
            seconds,
        },
    );
    let step = prop_oneof![
        8 => (keys.clone(), severities).prop_map(|(key, severity)| Step::Fire(key, severity)),
        5 => keys.clone().prop_map(Step::Over),
        2 => (ids, prop::option::weighted(0.7, silenced)).prop_map(|(id, to)| Step::Silence(id, to)),
        2 => (keys.clone(), prop::option::of(1..900_u64))
            .prop_map(|(key, seconds)| Step::Acknowledge(key, seconds)),
        1 => keys.prop_map(Step::TakeBack),
        5 => (1..20_u64).prop_map(Step::Wait),
        5 => (20..700_u64).prop_map(Step::Wait),
        2 => Just(Step::Restart),
        1 => seconds_of_a_step().prop_map(Step::Back),
        1 => seconds_of_a_step().prop_map(Step::Ahead),
    ];
    prop::collection::vec(step, 1..80)
}

/// Seconds, an hour, a day.
pub(super) fn seconds_of_a_step() -> impl Strategy<Value = u64> {
    prop_oneof![1..90_u64, 3_000..4_000_u64, 80_000..90_000_u64]
}

/// The dispatcher, the bus it listens to and the disk it is saved on.
#[derive(Debug)]
pub(super) struct World {
    pub(super) now_ms: u64,
    pub(super) dispatcher: Dispatcher,
    alerts: BTreeMap<AlertKey, Alert>,
    silences: BTreeMap<&'static str, Silence>,
    acknowledgements: BTreeMap<String, Acknowledgement>,
    disk: BTreeMap<String, Vec<u8>>,
    pub(super) told: Vec<Told>,
}

pub(super) fn routing() -> Routing {
    #[derive(serde::Deserialize)]
    struct File {
        routes: Vec<RouteConfig>,
    }
    let file: File = toml::from_str(ROUTES).unwrap();
    let channels = ["mail", "pager", "chat"].map(str::to_owned);
    Routing::new(&file.routes, &[], &channels).unwrap()
}

impl World {
    pub(super) fn new() -> Self {
        let mut dispatcher = Dispatcher::new(routing());
        dispatcher.synced(MIDNIGHT_MS);
        Self {
            now_ms: MIDNIGHT_MS,
            dispatcher,
            alerts: BTreeMap::new(),
            silences: BTreeMap::new(),
            acknowledgements: BTreeMap::new(),
            disk: BTreeMap::new(),
            told: Vec::new(),
        }
    }

    /// Lets something happen, to the model too where there is one, with a tick of both before and after.
    pub(super) fn step(&mut self, step: &Step, model: Option<&mut Model>) -> Vec<Told> {
        if let Step::Wait(seconds) = step {
            return self.wait(*seconds * 1_000, model);
        }
        let mut nobody = Model::default();
        let model = model.unwrap_or(&mut nobody);
        let now_ms = self.now_ms;
        let site = SiteId::default();
        let dispatcher = &mut self.dispatcher;
        match step {
            Step::Fire(key, severity) => {
                let alert = Alert {
                    severity: *severity,
                    since: now_ms,
                    ..Alert::default()
                };
                self.alerts.insert(key.clone(), alert.clone());
                dispatcher.alert(key.clone(), Some(alert), now_ms).unwrap();
                model.alert(key, Some(*severity), now_ms);
            }
            Step::Over(key) => {
                self.alerts.remove(key);
                dispatcher.alert(key.clone(), None, now_ms).unwrap();
                model.alert(key, None, now_ms);
            }
            Step::Silence(id, silenced) => {
                let silence = silenced.as_ref().map(Silenced::on_the_bus);
                match &silence {
                    Some(silence) => self.silences.insert(id, silence.clone()),
                    None => self.silences.remove(id),
                };
                dispatcher
                    .silence(&site, id, silence, false, now_ms)
                    .unwrap();
                model.silence(id, silenced.clone(), now_ms);
            }
            Step::Acknowledge(key, seconds) => {
                let given = Acknowledgement {
                    at: Some(now_ms),
                    until: seconds.map(|seconds| now_ms + seconds * 1_000),
                    ..Acknowledgement::default()
                };
                let fingerprint = key.fingerprint();
                let until = given.until;
                self.acknowledgements
                    .insert(fingerprint.clone(), given.clone());
                dispatcher
                    .acknowledge(&site, &fingerprint, Some(given), now_ms)
                    .unwrap();
                model.acknowledge(key, Some(until), now_ms);
            }
            Step::TakeBack(key) => {
                let fingerprint = key.fingerprint();
                self.acknowledgements.remove(&fingerprint);
                dispatcher
                    .acknowledge(&site, &fingerprint, None, now_ms)
                    .unwrap();
                model.acknowledge(key, None, now_ms);
            }
            Step::Restart => self.restart(),
            Step::Back(seconds) => {
                self.now_ms -= seconds * 1_000;
                model.set_back(seconds * 1_000);
            }
            Step::Ahead(seconds) => self.now_ms += seconds * 1_000,
            Step::Wait(_) => {}
        }
        let told = self.tick();
        self.told.extend(told.clone());
        told
    }

    /// Time passes, with a tick wherever the dispatcher wants one and at the end.
    fn wait(&mut self, ms: u64, mut model: Option<&mut Model>) -> Vec<Told> {
        let end_ms = self.now_ms + ms;
        let mut all = Vec::new();
        while self.now_ms < end_ms {
            let next_ms = self.dispatcher.tick(self.now_ms).next_ms.unwrap_or(end_ms);
            self.now_ms = next_ms.clamp(self.now_ms + 1, end_ms);
            let told = self.tick();
            if let Some(model) = &mut model {
                assert_eq!(told, model.tick(self.now_ms));
            }
            self.told.extend(told.clone());
            all.extend(told);
        }
        all
    }

    fn tick(&mut self) -> Vec<Told> {
        for Answer { site, id, silence } in self.dispatcher.answers() {
            let known = self.silences.iter_mut().find(|(known, _)| ***known == *id);
            if let Some((_, standing)) = known {
                *standing = silence.clone();
            }
            self.dispatcher
                .silence(&site, &id, Some(silence), false, self.now_ms)
                .unwrap();
        }
        let Tick {
            notices,
            saved,
            clear,
            ..
        } = self.dispatcher.tick(self.now_ms);
        for entry in saved {
            match entry.value {
                Some(value) => self.disk.insert(entry.key, value),
                None => self.disk.remove(&entry.key),
            };
        }
        for clear in clear {
            match clear.topic {
                SiteTopic::Acknowledgement(fingerprint) => {
                    self.acknowledgements.remove(&*fingerprint);
                }
                SiteTopic::Silence(id) => self.silences.retain(|known, _| **known != *id),
                _ => {}
            }
        }
        notices.into_iter().map(Told::from).collect()
    }

    /// The notifier dies, its clock is set back, and it starts again.
    pub(super) fn restart_set_back(&mut self, seconds: u64) -> Vec<Told> {
        self.now_ms -= seconds * 1_000;
        self.restart();
        self.tick()
    }

    fn restart(&mut self) {
        self.dispatcher = Dispatcher::new(routing());
        let restored = self.dispatcher.restore(&self.disk, self.now_ms);
        assert_eq!(restored.unreadable, 0, "{:?}", self.disk);
        let site = SiteId::default();
        for (id, silence) in &self.silences {
            let silence = Some(silence.clone());
            self.dispatcher
                .silence(&site, id, silence, true, self.now_ms)
                .unwrap();
        }
        for (fingerprint, given) in &self.acknowledgements {
            let given = Some(given.clone());
            self.dispatcher
                .acknowledge(&site, fingerprint, given, self.now_ms)
                .unwrap();
        }
        for (key, alert) in &self.alerts {
            let alert = Some(alert.clone());
            self.dispatcher
                .alert(key.clone(), alert, self.now_ms)
                .unwrap();
        }
        self.dispatcher.synced(self.now_ms);
    }
}

impl From<Notice> for Told {
    fn from(notice: Notice) -> Self {
        let line = |line: crate::notice::Line| ToldLine {
            state: line.alert.state,
            severity: line.alert.severity,
            key: line.key,
            was: line.was,
            flaps: line.flaps,
            repeated: line.repeated,
        };
        Self {
            channel: notice.channel,
            reason: notice.reason,
            group: notice.group,
            formed_ms: notice.formed_ms,
            lines: notice.lines.into_iter().map(line).collect(),
            still_firing: notice.still_firing,
        }
    }
}
