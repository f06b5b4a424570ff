//! Whatever happens, what stands on the bus is what the plain model says, and a restart changes nothing.

use proptest::prelude::*;

use super::model::{Model, Stands};
use super::*;

const MOUNTS: [&str; 3] = ["/", "/data", "/usb"];
const NODES: [&str; 2] = ["a", "b"];

/// What happens next.
#[derive(Debug, Clone)]
enum Event {
    /// A live sample with a value of each instance, where it is there and known.
    Sample {
        node: usize,
        values: [Option<f64>; 3],
    },
    /// One of the samples that were sent comes again.
    Again(usize),
    /// So many samples of an outage come at once.
    Late(u8),
    Silence {
        seconds: u64,
    },
    /// The rules are these.
    Rules(usize),
    Restart {
        alerts_first: bool,
    },
}

/// Values around thresholds; an instance may be missing.
fn value() -> impl Strategy<Value = Option<f64>> {
    let values = [10.0, 55.0, 72.0, 78.0, 83.0, 87.0, 93.0];
    prop_oneof![
        9 => proptest::sample::select(values.to_vec()).prop_map(Some),
        1 => Just(None),
    ]
}

fn event(missing: bool) -> impl Strategy<Value = Event> {
    let values = [value(), value(), value()].prop_map(move |values| {
        values.map(|value| if missing { value } else { value.or(Some(10.0)) })
    });
    prop_oneof![
        30 => (0..NODES.len(), values).prop_map(|(node, values)| Event::Sample { node, values }),
        4 => any::<usize>().prop_map(Event::Again),
        2 => (1..6_u8).prop_map(Event::Late),
        3 => (1..2000_u64).prop_map(|seconds| Event::Silence { seconds }),
        2 => (0..rules().len()).prop_map(Event::Rules),
        3 => any::<bool>().prop_map(|alerts_first| Event::Restart { alerts_first }),
    ]
}

/// Sets of rules to go from one to another.
fn rules() -> Vec<Vec<Rule>> {
    let watch = || field("filesystem.used_percent");
    let plain = rule("full", watch());
    let slow = Rule {
        for_ms: 25_000,
        ..rule("slow", watch())
    };
    let kept = Rule {
        keep_firing_ms: 25_000,
        for_ms: 10_000,
        levels: vec![
            above(AlertSeverity::Critical, 90.0, 85.0),
            above(AlertSeverity::Warning, 80.0, 75.0),
            above(AlertSeverity::Info, 70.0, 60.0),
        ],
        ..rule("kept", watch())
    };
    let other = Rule {
        levels: vec![
            above(AlertSeverity::Critical, 85.0, 80.0),
            above(AlertSeverity::Warning, 50.0, 40.0),
        ],
        ..slow.clone()
    };
    vec![
        vec![plain.clone(), slow.clone(), kept.clone()],
        vec![kept.clone(), other, plain],
        vec![slow, kept],
    ]
}

type Place = (usize, usize, Box<str>);

/// The site with its model.
struct World {
    site: Site,
    set: usize,
    models: BTreeMap<Place, Model>,
    /// What was sent, by the node.
    sent: Vec<(usize, Sample)>,
    late: u64,
    /// By node and instance.
    appearances: BTreeMap<(usize, usize), Appearance>,
    /// When the last live sample of each node came.
    live: [u64; 2],
}

/// When an instance was there; 0: never.
#[derive(Debug, Clone, Copy, Default)]
struct Appearance {
    seen_ms: u64,
    every_ms: u64,
    missing_ms: u64,
}

impl Appearance {
    fn seen(&mut self, live_ms: u64, now_ms: u64) {
        if self.seen_ms != 0 && now_ms - live_ms <= 3 * INTERVAL_MS {
            let gap_ms = now_ms - self.seen_ms;
            let seldom = self.seen_ms < live_ms && gap_ms <= 3_600_000;
            self.every_ms = if seldom { gap_ms } else { 0 };
        }
        (self.seen_ms, self.missing_ms) = (now_ms, 0);
    }

    fn is_gone(&mut self, now_ms: u64) -> bool {
        if self.missing_ms == 0 {
            self.missing_ms = now_ms;
        }
        now_ms - self.missing_ms >= super::super::GONE_MS.max(3 * self.every_ms)
    }
}

impl World {
    fn new() -> Self {
        Self {
            site: Site::new(rules()[0].clone()),
            set: 0,
            models: BTreeMap::new(),
            sent: Vec::new(),
            late: 0,
            appearances: BTreeMap::new(),
            live: [0; 2],
        }
    }

    fn rules(&self) -> Vec<Rule> {
        rules()[self.set].clone()
    }

    fn happen(&mut self, event: &Event) {
        match event {
            Event::Sample { node, values } => self.sample(*node, *values),
            Event::Again(number) if !self.sent.is_empty() => {
                let (node, sample) = &self.sent[number % self.sent.len()];
                self.site.hear(NODES[*node], sample, false);
                self.pass(1000);
            }
            Event::Again(_) => {}
            Event::Late(count) => {
                // No two are as far behind as each other: that would be a clock that was set.
                self.late += 1;
                for number in 0..u64::from(*count) {
                    let mut sample = self
                        .site
                        .placed(filesystems(&MOUNTS.map(|mount| (mount, 93.0))));
                    let behind_ms = 600_000 + self.late * 170_000 - number * INTERVAL_MS;
                    sample.ts = Some(self.site.now_ms - behind_ms);
                    self.site.hear(NODES[0], &sample, false);
                    self.sent.push((0, sample));
                }
            }
            Event::Silence { seconds } => self.pass(seconds * 1000),
            Event::Rules(set) => {
                self.set = *set;
                let rules = self.rules();
                for ((_, _, name), model) in &mut self.models {
                    if !rules.iter().any(|rule| rule.name == *name) {
                        model.end(self.site.now_ms);
                    }
                }
                self.site.set_rules(rules);
            }
            Event::Restart { alerts_first } => {
                self.site.restart(*alerts_first);
                // How long an instance was missing is not on the bus.
                self.appearances.clear();
                self.live = [0; 2];
                // The broker kept the last sample of each node.
                for (node, name) in NODES.into_iter().enumerate() {
                    let kept = self.sent.iter().rev().find(|(of, _)| *of == node);
                    if let Some((_, sample)) = kept.cloned() {
                        self.site.hear(name, &sample, true);
                    }
                }
            }
        }
    }

    fn sample(&mut self, node: usize, values: [Option<f64>; 3]) {
        let there: Vec<(&str, f64)> = MOUNTS
            .into_iter()
            .zip(values)
            .filter_map(|(mount, value)| Some((mount, value?)))
            .collect();
        let sample = self.site.placed(filesystems(&there));
        self.site.hear(NODES[node], &sample, false);
        self.sent.push((node, sample));
        let now_ms = self.site.now_ms;
        let rules = self.rules();
        for (mount, value) in values.into_iter().enumerate() {
            let place = |rule: &Rule| (node, mount, rule.name.clone());
            let appearance = self.appearances.entry((node, mount)).or_default();
            if let Some(value) = value {
                appearance.seen(self.live[node], now_ms);
                for rule in &rules {
                    let model = self.models.entry(place(rule)).or_default();
                    model.value(rule, value, now_ms);
                }
                continue;
            }
            let mut models = rules
                .iter()
                .filter_map(|rule| self.models.get(&place(rule)));
            let stands = models.any(|model| model.stands(None).is_some());
            if stands && appearance.is_gone(now_ms) {
                for rule in &rules {
                    self.models.entry(place(rule)).or_default().end(now_ms);
                }
            }
        }
        self.live[node] = now_ms;
        self.pass(INTERVAL_MS);
    }

    fn pass(&mut self, span_ms: u64) {
        self.site.pass(span_ms);
        let now_ms = self.site.now_ms;
        self.models
            .values_mut()
            .for_each(|model| model.pass(now_ms));
    }

    /// What stands by the bus, and by the model.
    fn compare(&self) -> [BTreeMap<String, Stands>; 2] {
        let bus = self.site.bus.iter().map(|(key, alert)| {
            let held = AlertSeverity::ALL.into_iter();
            let held =
                held.filter_map(|severity| Some((severity, *alert.held.get(severity.as_str())?)));
            let stands = (
                alert.state,
                alert.severity,
                alert.since,
                held.collect(),
                alert.over,
            );
            (key.to_string(), stands)
        });
        let rules = self.rules();
        let models = self
            .models
            .iter()
            .filter_map(|((node, mount, name), model)| {
                let rule = rules.iter().find(|rule| rule.name == *name);
                let key = format!("home.{}/{name}/{}", NODES[*node], MOUNTS[*mount]);
                Some((key, model.stands(rule)?))
            });
        [bus.collect(), models.collect()]
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn what_stands_on_the_bus_is_what_the_model_says(events in proptest::collection::vec(event(true), 1..60)) {
        let mut world = World::new();
        for event in &events {
            world.happen(event);
            let [bus, model] = world.compare();
            prop_assert_eq!(bus, model, "after {:?}", event);
        }
    }

    #[test]
    fn a_restart_changes_no_transition(events in proptest::collection::vec(event(false), 1..60)) {
        let (mut restarted, mut steady) = (World::new(), World::new());
        for event in &events {
            restarted.happen(event);
            if !matches!(event, Event::Restart { .. }) {
                steady.happen(event);
            }
        }
        prop_assert_eq!(restarted.site.course(), steady.site.course());
        prop_assert_eq!(restarted.compare(), steady.compare());
    }
}
