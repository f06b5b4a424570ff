//! Two notifiers on one site: each dispatches, one delivers, and the marks of what it delivered keep the
//! other one's queue short. When the one dies, the other goes on from there.

use std::collections::VecDeque;

use hostbus_wire::alert::{Alert, AlertKey, AlertSeverity};
use hostbus_wire::told::Told;
use proptest::prelude::*;

use super::super::Dispatcher;
use super::properties::Reader;
use super::world::{MIDNIGHT_MS, key, routing};
use crate::notice::Notice;

#[derive(Debug, Clone)]
enum Step {
    Fire(AlertKey, AlertSeverity),
    Over(AlertKey),
    /// For so many half seconds.
    Wait(u64),
    /// The channels take nothing, or do again.
    Endpoints(bool),
}

/// A notifier and the notices that it has not delivered or seen delivered yet.
struct Notifier {
    dispatcher: Dispatcher,
    queue: VecDeque<Notice>,
    /// How far it is behind.
    behind_ms: u64,
}

impl Notifier {
    fn new(behind_ms: u64) -> Self {
        let mut dispatcher = Dispatcher::new(routing());
        dispatcher.synced(MIDNIGHT_MS);
        Self {
            dispatcher,
            queue: VecDeque::new(),
            behind_ms,
        }
    }

    fn alert(&mut self, key: &AlertKey, alert: Option<&Alert>, now_ms: u64) {
        let now_ms = now_ms + self.behind_ms;
        self.dispatcher
            .alert(key.clone(), alert.cloned(), now_ms)
            .unwrap();
    }

    fn tick(&mut self, now_ms: u64) {
        let tick = self.dispatcher.tick(now_ms + self.behind_ms);
        self.queue.extend(tick.notices);
    }

    fn mark(&mut self, channel: &str, told: &Told) {
        for notice in self
            .queue
            .iter_mut()
            .filter(|notice| notice.channel == channel)
        {
            notice.cover(told);
        }
        self.queue.retain(|notice| !notice.lines.is_empty());
        self.dispatcher.told(channel, told, told.at);
    }

    /// Delivers everything, and returns the marks.
    fn deliver(&mut self, now_ms: u64, reader: &mut Reader) -> Vec<(String, Told)> {
        let mut marks = Vec::new();
        for notice in self.queue.drain(..) {
            for line in &notice.lines {
                let told = Told {
                    alert: line.key.clone(),
                    state: line.alert.state,
                    severity: line.alert.severity,
                    since: line.firing_since,
                    at: now_ms,
                    given_up: false,
                };
                marks.push((notice.channel.clone(), told));
            }
            reader.read(&notice.into());
        }
        for (channel, told) in &marks {
            self.mark(channel, told);
        }
        marks
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let nodes = prop::sample::select(vec!["a", "b"]);
    let rules = prop::sample::select(vec!["node-down", "cpu", "disk"]);
    let keys = (nodes, rules).prop_map(|(node, rule)| key(node, rule));
    let severities = prop::sample::select(AlertSeverity::ALL.to_vec());
    let step = prop_oneof![
        6 => (keys.clone(), severities).prop_map(|(key, severity)| Step::Fire(key, severity)),
        4 => keys.prop_map(Step::Over),
        6 => (1..400_u64).prop_map(Step::Wait),
        2 => any::<bool>().prop_map(Step::Endpoints),
    ];
    prop::collection::vec(step, 1..40)
}

fn run(steps: &[Step], dies_at: usize, behind_ms: [u64; 2]) {
    let mut reader = Reader::default();
    reader.early_repeats = true;
    let mut active = Some(Notifier::new(behind_ms[0]));
    let mut second = Notifier::new(behind_ms[1]);
    let mut works = true;
    let mut now_ms = MIDNIGHT_MS;
    let mut rest = Vec::new();
    for node in ["a", "b"] {
        for rule in ["node-down", "cpu", "disk"] {
            rest.push(Step::Over(key(node, rule)));
        }
    }
    rest.extend([Step::Endpoints(true), Step::Wait(400)]);
    for (at, step) in steps.iter().chain(&rest).enumerate() {
        if at == dies_at {
            active = None;
        }
        let halves = if let Step::Wait(halves) = step {
            *halves
        } else {
            1
        };
        match step {
            Step::Fire(key, severity) => {
                let alert = Alert {
                    severity: *severity,
                    since: now_ms,
                    ..Alert::default()
                };
                second.alert(key, Some(&alert), now_ms);
                active
                    .iter_mut()
                    .for_each(|one| one.alert(key, Some(&alert), now_ms));
            }
            Step::Over(key) => {
                second.alert(key, None, now_ms);
                active
                    .iter_mut()
                    .for_each(|one| one.alert(key, None, now_ms));
            }
            Step::Endpoints(work) => works = *work,
            Step::Wait(_) => {}
        }
        for _ in 0..halves {
            now_ms += 500;
            if second.behind_ms == 0 {
                second.tick(now_ms);
            }
            if let Some(one) = &mut active {
                one.tick(now_ms);
                if works {
                    for (channel, told) in one.deliver(now_ms + 200, &mut reader) {
                        second.mark(&channel, &told);
                    }
                }
            }
            if second.behind_ms > 0 {
                second.tick(now_ms);
            }
            if active.is_none() && works {
                second.deliver(now_ms + 200, &mut reader);
            }
        }
    }
    reader.assert_all_over();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn who_takes_over_tells_what_was_not_told_and_nothing_else(
        steps in steps(),
        dies_at in 0..40_usize,
        behind_ms in prop::sample::select(vec![[0, 100], [100, 0], [0, 0], [0, 400]]),
    ) {
        run(&steps, dies_at, behind_ms);
    }
}
