//! What is kept over a restart: windows go on as if nothing had been, whatever happens before and after.

use hostbus_wire::status::Status;
use proptest::prelude::*;

use super::*;
use crate::rule::Aggregate;

const NODES: [&str; 2] = ["a", "b"];
const MOUNTS: [&str; 3] = ["/", "/data", "/usb"];
const WINDOW_MS: u64 = 60_000;

fn average() -> Rule {
    Rule {
        fold: Fold::Aggregate {
            how: Aggregate::Average,
            window_ms: WINDOW_MS,
        },
        ..rule("average", field("filesystem.used_percent"))
    }
}

fn changed() -> Rule {
    let fold = Fold::Changed {
        window_ms: WINDOW_MS,
    };
    state_rule("changed", field("custom.value"), fold)
}

/// Sets of rules to go from one to another.
fn sets() -> Vec<Vec<Rule>> {
    let used = || field("filesystem.used_percent");
    let largest = Rule {
        fold: Fold::Aggregate {
            how: Aggregate::Maximum,
            window_ms: 90_000,
        },
        for_ms: 20_000,
        ..rule("largest", used())
    };
    let soon = Rule {
        fold: Fold::Forecast {
            ahead_ms: 60_000,
            window_ms: 120_000,
        },
        keep_firing_ms: 15_000,
        ..rule("soon", used())
    };
    let rate = Rule {
        fold: Fold::Rate {
            window_ms: WINDOW_MS,
        },
        levels: vec![above(AlertSeverity::Warning, 0.6, 0.5)],
        ..rule("rate", field("custom.value"))
    };
    let longer = Rule {
        fold: Fold::Aggregate {
            how: Aggregate::Average,
            window_ms: 2 * WINDOW_MS,
        },
        ..average()
    };
    let plain = rule("plain", used());
    vec![
        vec![average(), largest.clone(), soon.clone(), rate.clone()],
        vec![changed(), plain, rate, average()],
        vec![soon, longer, changed(), largest],
    ]
}

/// What happens next.
#[derive(Debug, Clone)]
enum Event {
    Sample {
        node: usize,
        values: [Option<f64>; 3],
    },
    /// One of the samples that were sent comes again.
    Again(usize),
    Late,
    Silence {
        seconds: u64,
    },
    Rules(usize),
    /// The notifier is stopped and started again.
    Restart {
        alerts_first: bool,
        retained: bool,
        /// Rules come after what is on the bus was heard.
        rules_last: bool,
    },
}

fn event() -> impl Strategy<Value = Event> {
    let values = [10.0, 55.0, 72.0, 78.5, 83.1, 87.0, 93.3];
    let value = prop_oneof![
        9 => proptest::sample::select(values.to_vec()).prop_map(Some),
        1 => Just(None),
    ];
    let values = [value.clone(), value.clone(), value];
    prop_oneof![
        40 => (0..NODES.len(), values).prop_map(|(node, values)| Event::Sample { node, values }),
        3 => any::<usize>().prop_map(Event::Again),
        2 => Just(Event::Late),
        3 => (1..200_u64).prop_map(|seconds| Event::Silence { seconds }),
        2 => (0..sets().len()).prop_map(Event::Rules),
        5 => any::<[bool; 3]>().prop_map(|[alerts_first, retained, rules_last]| Event::Restart {
            alerts_first,
            retained,
            rules_last,
        }),
    ]
}

struct World {
    site: Site,
    sent: Vec<(usize, Sample)>,
    set: usize,
}

impl World {
    fn new() -> Self {
        Self {
            site: Site::new(sets()[0].clone()),
            sent: Vec::new(),
            set: 0,
        }
    }

    fn sample(&mut self, node: usize, values: [Option<f64>; 3]) {
        let there = MOUNTS.into_iter().zip(values);
        let there: Vec<(&str, f64)> = there
            .filter_map(|(name, value)| Some((name, value?)))
            .collect();
        let sample = self.site.placed(Sample {
            custom: custom(&there).custom,
            ..filesystems(&there)
        });
        self.site.hear(NODES[node], &sample, false);
        self.sent.push((node, sample));
        self.site.pass(INTERVAL_MS);
    }

    fn happen(&mut self, event: &Event) {
        match event {
            Event::Sample { node, values } => self.sample(*node, *values),
            Event::Again(number) if !self.sent.is_empty() => {
                let (node, sample) = &self.sent[number % self.sent.len()];
                self.site.hear(NODES[*node], sample, false);
                self.site.pass(1000);
            }
            Event::Again(_) => {}
            Event::Late => {
                let used = MOUNTS.map(|mount| (mount, 93.0));
                let mut sample = self.site.placed(filesystems(&used));
                sample.ts = Some(self.site.now_ms - 600_000 - self.sent.len() as u64 * 17_000);
                self.site.hear(NODES[0], &sample, false);
                self.sent.push((0, sample));
            }
            Event::Silence { seconds } => self.site.pass(seconds * 1000),
            Event::Rules(set) => {
                self.set = *set;
                self.site.set_rules(sets()[*set].clone());
            }
            Event::Restart {
                alerts_first,
                retained,
                rules_last,
            } => {
                let kept = Site::kept(self.site.slices());
                if *rules_last {
                    self.site.rules.clear();
                }
                self.site.restart_with(kept, *alerts_first);
                for (node, name) in NODES.into_iter().enumerate() {
                    let mut out = Vec::new();
                    let (path, now_ms) = (path(name), self.site.now_ms);
                    let evaluator = &mut self.site.evaluator;
                    evaluator.status(&path, Status::Online, true, now_ms, &mut out);
                    self.site.take(out);
                    // A rule that waits for a change, and has no past, begins with it.
                    let last = self.sent.iter().rev().find(|(of, _)| *of == node);
                    if let Some((_, sample)) = last.filter(|_| *retained && self.set == 0) {
                        let sample = sample.clone();
                        self.site.hear(name, &sample, true);
                    }
                }
                self.site.set_rules(sets()[self.set].clone());
            }
        }
    }

    /// What stands on the bus, but for values.
    fn stands(&self) -> Vec<(String, [Option<u64>; 2], Vec<u64>)> {
        let bus = self.site.bus.iter();
        bus.map(|(key, alert)| {
            let stands = format!("{key} {} {}", alert.state, alert.severity);
            let held = alert.held.values().copied().collect();
            (stands, [Some(alert.since), alert.over], held)
        })
        .collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 120, ..ProptestConfig::default() })]

    #[test]
    fn restarts_change_no_alert(events in proptest::collection::vec(event(), 1..80)) {
        let (mut restarted, mut steady) = (World::new(), World::new());
        for event in &events {
            restarted.happen(event);
            if !matches!(event, Event::Restart { .. }) {
                steady.happen(event);
            }
            prop_assert_eq!(restarted.stands(), steady.stands(), "after {:?}", event);
        }
        prop_assert_eq!(restarted.site.course(), steady.site.course());
        prop_assert_eq!(restarted.site.evaluator.figures().left_out, 0);
    }

    #[test]
    fn no_bytes_do_harm(
        places in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..8),
        cut in any::<proptest::sample::Index>(),
    ) {
        let mut world = World::new();
        for number in 0..8_u8 {
            let value = Some(f64::from(number) * 11.0);
            world.sample(usize::from(number % 2), [value; 3]);
        }
        let mut slice = world.site.slices().remove(0);
        for (place, byte) in places {
            *place.get_mut(&mut slice[..]) = byte;
        }
        for bytes in [slice.clone(), slice[..cut.index(slice.len())].to_vec()] {
            let mut kept = Kept::default();
            if kept.add(bytes.into()).is_err() {
                continue;
            }
            world.site.restart_with(kept, false);
            for round in 0..3 {
                world.sample(round % 2, [Some(50.0), None, Some(80.0)]);
            }
            world.site.set_rules(sets()[1].clone());
            world.site.set_rules(sets()[0].clone());
            world.site.pass(2_000_000);
        }
    }
}

/// A site whose node `a` has been full for `samples` intervals.
fn full(rules: Vec<Rule>, samples: usize) -> Site {
    let mut site = Site::new(rules);
    for _ in 0..samples {
        site.send("a", filesystems(&[("/", 93.0)]));
    }
    site
}

/// What stands once the site was stopped for `stop_ms`, and then one more sample came.
fn after_a_stop(mut site: Site, stop_ms: u64, rules: Vec<Rule>) -> Vec<String> {
    let kept = Site::kept(site.slices());
    site.now_ms += stop_ms;
    site.rules = rules.into_iter().map(Arc::new).collect();
    site.restart_with(kept, false);
    site.send("a", filesystems(&[("/", 93.0)]));
    assert_eq!(site.evaluator.figures().left_out, 0);
    site.stands()
}

#[test]
fn a_window_goes_on_unless_the_stop_was_longer() {
    let check = |samples, stop_ms, expected: &[&str]| {
        let stands = after_a_stop(full(vec![average()], samples), stop_ms, vec![average()]);
        assert_eq!(
            stands, expected,
            "{samples} samples, a stop of {stop_ms} ms"
        );
    };
    check(5, 0, &["a/average// firing critical 50"]);
    check(4, 0, &[]);
    check(4, 20_000, &["a/average// firing critical 60"]);
    check(5, WINDOW_MS - 10_000, &["a/average// firing critical 100"]);
    check(5, WINDOW_MS + 10_000, &[]);
}

/// A sum or a count of a window that is bad below `threshold`.
fn least(how: Aggregate, threshold: f64) -> Rule {
    let level = Level {
        operator: Operator::Below,
        ..above(AlertSeverity::Critical, threshold, threshold)
    };
    Rule {
        fold: Fold::Aggregate {
            how,
            window_ms: WINDOW_MS,
        },
        levels: vec![level],
        ..rule("least", field("filesystem.used_percent"))
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn a_stop_makes_no_sum_and_no_count_fall(
        (kept, lost, after) in (0..15_usize, 0..15_usize, 1..15_usize),
        stop_ms in 0..200_000_u64,
        rules_last: bool,
    ) {
        for rule in [least(Aggregate::Sum, 93.0 * 4.0), least(Aggregate::Count, 4.0)] {
            let mut site = full(vec![rule.clone()], kept);
            let slices = Site::kept(site.slices());
            // It is killed: what it heard since is lost.
            for _ in 0..lost {
                site.send("a", filesystems(&[("/", 93.0)]));
            }
            site.now_ms += stop_ms;
            if rules_last {
                site.rules.clear();
            }
            site.restart_with(slices, false);
            let (a, now_ms) = (path("a"), site.now_ms);
            let mut out = Vec::new();
            site.evaluator.status(&a, Status::Online, true, now_ms, &mut out);
            site.take(out);
            site.set_rules(vec![rule]);
            for _ in 0..after {
                site.send("a", filesystems(&[("/", 93.0)]));
                prop_assert_eq!(site.stands(), [""; 0]);
            }
        }
    }
}

#[test]
fn a_sum_goes_on_after_a_stop_in_which_nothing_was_missed() {
    let rule = || least(Aggregate::Sum, 1000.0);
    let check = |stop_ms, expected: &[&str]| {
        let stands = after_a_stop(full(vec![rule()], 5), stop_ms, vec![rule()]);
        assert_eq!(stands, expected, "a stop of {stop_ms} ms");
    };
    check(0, &["a/least// firing critical 50"]);
    check(INTERVAL_MS, &["a/least// firing critical 60"]);
    check(INTERVAL_MS + 1, &[]);
}

#[test]
fn a_rule_that_says_something_else_has_no_past() {
    let check = |change: &dyn Fn(&mut Rule), expected: usize| {
        let mut other = average();
        change(&mut other);
        let stands = after_a_stop(full(vec![average()], 5), 0, vec![other]);
        assert_eq!(stands.len(), expected, "{stands:?}");
    };
    check(&|rule| rule.levels.truncate(1), 1);
    check(
        &|rule| {
            rule.fold = Fold::Aggregate {
                how: Aggregate::Average,
                window_ms: WINDOW_MS + 1000,
            }
        },
        0,
    );
    check(
        &|rule| {
            rule.fold = Fold::Aggregate {
                how: Aggregate::Maximum,
                window_ms: WINDOW_MS,
            }
        },
        0,
    );
    check(
        &|rule| rule.watch = field("filesystem.inodes_used_percent"),
        0,
    );
    check(&|rule| rule.name = "other".into(), 0);
}

#[test]
fn a_change_during_a_stop_is_told_and_one_before_it_is_not_told_again() {
    let mut site = Site::new(vec![changed()]);
    let value = |value| custom(&[("fan", value)]);
    site.send("a", value(1.0));
    let stopped = site.slices();
    site.pass(10_000);
    site.restart_with(Site::kept(stopped.clone()), true);
    site.send("a", value(2.0));
    assert_eq!(site.stands(), ["a/changed/fan firing critical 20"]);
    // Killed, and what was kept last knows the value before.
    site.pass(30_000);
    site.restart_with(Site::kept(stopped.clone()), true);
    let kept = site.placed(value(2.0));
    site.hear("a", &kept, true);
    site.send("a", value(2.0));
    assert_eq!(site.stands(), ["a/changed/fan firing critical 20"]);
    for _ in 0..3 {
        site.send("a", value(2.0));
    }
    assert_eq!(site.stands(), ["a/changed/fan resolved critical 80"]);
    site.restart_with(Site::kept(stopped), false);
    for _ in 0..3 {
        site.send("a", value(2.0));
    }
    assert_eq!(site.stands(), ["a/changed/fan resolved critical 80"]);
}

#[test]
fn what_was_awaited_is_awaited_after_a_restart() {
    let fold = Fold::Absent { silent_ms: 60_000 };
    let mut site = Site::new(vec![state_rule("gone", field("custom.value"), fold)]);
    site.send("a", custom(&[("backup", 1.0)]));
    site.send("a", custom(&[]));
    let kept = Site::kept(site.slices());
    site.restart_with(kept, false);
    // The broker kept a sample without the value.
    let sample = site.placed(custom(&[]));
    site.hear("a", &sample, true);
    site.pass(59_000);
    assert_eq!(site.stands(), [""; 0]);
    site.pass(2_000);
    assert_eq!(site.stands(), ["a/gone/backup firing critical 80"]);
}

#[test]
fn a_slow_instance_that_nobody_listened_to_is_not_gone() {
    let mut site = Site::new(vec![rule("full", field("filesystem.used_percent"))]);
    site.send("a", filesystems(&[("/", 1.0), ("/usb", 93.0)]));
    site.send("a", filesystems(&[("/", 1.0)]));
    let kept = Site::kept(site.slices());
    site.now_ms += 1_200_000;
    site.restart_with(kept, false);
    site.send("a", filesystems(&[("/", 1.0)]));
    assert_eq!(site.stands(), ["a/full//usb firing critical 0"]);
}

#[test]
fn what_waits_is_let_go_and_a_node_that_went_does_not_come_back() {
    let mut site = full(vec![average()], 5);
    site.send("b", filesystems(&[("/", 1.0)]));
    let slices = site.slices();
    site.restart_with(Site::kept(slices.clone()), false);
    assert!(!site.evaluator.is_settled());
    let sample = site.placed(filesystems(&[("/", 93.0)]));
    site.hear("a", &sample, true);
    site.pass(60_000);
    assert!(!site.evaluator.is_settled(), "b was not heard of");
    site.evaluator.forget(&path("b"), &mut Vec::new());
    site.pass(1000);
    assert!(site.evaluator.is_settled());
    site.restart_with(Site::kept(slices.clone()), false);
    site.evaluator.forget(&path("a"), &mut Vec::new());
    site.send("a", filesystems(&[("/", 93.0)]));
    assert_eq!(site.stands(), [""; 0]);
    site.pass(400_000);
    assert!(site.evaluator.is_settled(), "b was not heard of for long");
    // Our clock was set back: nothing of it can be trusted.
    site.now_ms = BEGIN_MS + 10_000;
    site.restart_with(Site::kept(slices), false);
    site.send("a", filesystems(&[("/", 93.0)]));
    assert_eq!(site.stands(), [""; 0]);
}
