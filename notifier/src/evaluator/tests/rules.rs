//! What rules make of values: levels, times, folds, instances, and other rules while all runs.

use super::*;
use crate::rule::{Aggregate, Override};

/// Sends each value as one sample of `cpu.usage_percent`, an interval apart; tells how the alert stood after
/// each: `-`, or the first letter of state and severity with the seconds of its beginning.
fn course(rule: Rule, values: &[f64]) -> String {
    let mut site = Site::new(vec![rule]);
    let mut seen = Vec::new();
    for value in values {
        let sample = site.placed(cpu(*value));
        site.hear("a", &sample, false);
        let alert = site.bus.values().next().map_or_else(
            || "-".to_owned(),
            |alert| {
                let since = (alert.since - BEGIN_MS) / 1000;
                format!(
                    "{}{}{since}",
                    &alert.state.as_str()[..1],
                    &alert.severity.as_str()[..1]
                )
            },
        );
        seen.push(alert);
        site.pass(INTERVAL_MS);
    }
    seen.join(" ")
}

fn check(name: &str, change: impl Fn(&mut Rule), values: &[f64], expected: &str) {
    let mut rule = rule("r", field("cpu.usage_percent"));
    change(&mut rule);
    assert_eq!(course(rule, values), expected, "{name}");
}

#[test]
fn levels_rise_and_fall_each_by_its_own_time() {
    check(
        "at once",
        |_| {},
        &[80.0, 81.0, 95.0],
        "- fw10 fw10".replace("fw10 fw10", "fw10 fc10").as_str(),
    );
    check(
        "hysteresis",
        |_| {},
        &[81.0, 76.0, 75.0, 80.0, 91.0, 86.0, 85.0, 75.0],
        "fw0 fw0 rw20 rw20 fc40 fc40 fw40 rw70",
    );
    check(
        "for: pending first, and a good value begins it anew",
        |rule| rule.for_ms = 20_000,
        &[81.0, 81.0, 79.0, 81.0, 81.0, 81.0],
        "pw0 pw0 - pw30 pw30 fw50",
    );
    check(
        "each severity has its own for",
        |rule| rule.for_ms = 20_000,
        &[81.0, 95.0, 95.0, 95.0, 95.0, 84.0],
        "pw0 pw0 fw20 fc20 fc20 fw20",
    );
    check(
        "the worse one does not last",
        |rule| rule.for_ms = 20_000,
        &[81.0, 95.0, 81.0, 95.0, 95.0, 95.0],
        "pw0 pw0 fw20 fw20 fw20 fc20",
    );
    check(
        "at once to the worst",
        |rule| rule.for_ms = 10_000,
        &[95.0, 95.0, 0.0],
        "pc0 fc10 rc20",
    );
    check(
        "kept firing, and again bad within the time",
        |rule| rule.keep_firing_ms = 20_000,
        &[81.0, 10.0, 10.0, 81.0, 10.0, 10.0, 10.0],
        "fw0 fw0 fw0 fw0 fw0 fw0 rw60",
    );
    check(
        "below",
        |rule| {
            rule.levels = vec![Level {
                severity: AlertSeverity::Info,
                operator: Operator::AtMost,
                threshold: 5.0,
                clear: 10.0,
            }];
        },
        &[6.0, 5.0, 10.0, 10.1],
        "- fi10 fi10 ri30",
    );
    check(
        "equals",
        |rule| {
            rule.levels = vec![Level {
                severity: AlertSeverity::Info,
                operator: Operator::Equals,
                threshold: 5.0,
                clear: 5.0,
            }];
        },
        &[6.0, 5.0, 4.0],
        "- fi10 ri20",
    );
}

#[test]
fn folds_wait_until_they_have_seen_enough() {
    let aggregate = |how| {
        move |rule: &mut Rule| {
            rule.fold = Fold::Aggregate {
                how,
                window_ms: 30_000,
            };
        }
    };
    check(
        "average: one spike is none",
        aggregate(Aggregate::Average),
        &[100.0, 100.0, 100.0, 100.0, 0.0, 0.0],
        "- - fc20 fc20 fw20 rw50"
            .replace("- - fc20 fc20 fw20 rw50", "- - fc20 fc20 rc40 rc40")
            .as_str(),
    );
    check(
        "minimum",
        aggregate(Aggregate::Minimum),
        &[81.0, 82.0, 83.0, 10.0],
        "- - fw20 rw30",
    );
    check(
        "maximum",
        aggregate(Aggregate::Maximum),
        &[81.0, 1.0, 1.0, 1.0, 1.0],
        "- - fw20 rw30 rw30",
    );
    check(
        "sum",
        aggregate(Aggregate::Sum),
        &[30.0, 30.0, 30.0],
        "- - fw20",
    );
    check(
        "rate",
        |rule| {
            rule.fold = Fold::Rate { window_ms: 20_000 };
            rule.levels = vec![above(AlertSeverity::Warning, 0.9, 0.9)];
        },
        // Up by 10 each, a restart of the counter at 10, then no more.
        &[0.0, 10.0, 20.0, 10.0, 10.0, 10.0, 10.0],
        "- fw10 fw10 fw10 rw40 rw40 rw40",
    );
    check(
        "changed",
        |rule| {
            rule.fold = Fold::Changed { window_ms: 20_000 };
            rule.levels = vec![above(AlertSeverity::Info, 0.5, 0.5)];
        },
        &[1.0, 1.0, 2.0, 2.0, 2.0],
        "- - fi20 fi20 ri40",
    );
    check(
        "forecast: 1 each ten seconds, 100 ahead by a thousand",
        |rule| {
            rule.fold = Fold::Forecast {
                ahead_ms: 1_000_000,
                window_ms: 60_000,
            };
            rule.levels = vec![above(AlertSeverity::Warning, 103.5, 100.0)];
        },
        &[1.0, 2.0, 3.0, 4.0, 5.0, 5.0, 5.0, 5.0],
        "- - - fw30 fw30 rw50 rw50 rw50",
    );
}

#[test]
fn a_sum_beyond_all_numbers_is_no_data() {
    check(
        "sum",
        |rule| {
            rule.fold = Fold::Aggregate {
                how: Aggregate::Sum,
                window_ms: 30_000,
            };
        },
        &[f64::MAX, f64::MAX, f64::MAX, 30.0, 30.0, 30.0],
        "- - - - fc40 fc40",
    );
}

#[test]
fn absence_is_of_what_was_there() {
    let absent = Fold::Absent { silent_ms: 60_000 };
    let mut site = Site::new(vec![state_rule(
        "lost",
        field("filesystem.used_percent"),
        absent,
    )]);
    site.send("a", filesystems(&[("/", 1.0)]));
    site.pass(49_000);
    assert_eq!(site.stands(), [""; 0]);
    site.pass(1_000);
    assert_eq!(site.stands(), ["a/lost// firing critical 60"]);
    // Live samples without it prove nothing, however long they come.
    (0..200).for_each(|_| site.send("a", cpu(1.0)));
    assert_eq!(site.stands(), ["a/lost// firing critical 60"]);
    site.restart(true);
    site.send("a", filesystems(&[("/", 1.0)]));
    assert_eq!(site.stands(), ["a/lost// resolved critical 2060"]);
}

#[test]
fn a_ratio_needs_a_whole() {
    let (Watch::Field(part), Watch::Field(whole)) = (
        field("memory.swap_used_bytes"),
        field("memory.swap_total_bytes"),
    ) else {
        unreachable!()
    };
    let mut site = Site::new(vec![rule("swap", Watch::Ratio { part, whole })]);
    let swap = |used, total| {
        let mut memory = hostbus_wire::sample::Memory::new();
        (memory.swap_used_bytes, memory.swap_total_bytes) = (Some(used), total);
        Sample {
            memory: Some(memory),
            ..Sample::default()
        }
    };
    site.send("a", swap(85, Some(100)));
    site.send("a", swap(0, Some(0)));
    site.send("a", swap(0, None));
    assert_eq!(site.stands(), ["a/swap firing warning 0"]);
    let alert = site.bus.values().next().unwrap();
    assert_eq!((alert.value, alert.threshold), (Some(85.0), Some(80.0)));
    assert_eq!(
        alert.summary,
        "memory on a: swap used of swap total is 85 %, above 80 %"
    );
}

#[test]
fn rules_hold_where_they_say() {
    let globs = |list: &[&str]| Globs::new(list);
    let mut full = rule("full", field("filesystem.used_percent"));
    full.except_instances = globs(&["/snap/*"]);
    full.except_nodes = globs(&["test*"]);
    full.overrides = vec![
        Override {
            nodes: globs(&["db"]),
            groups: globs(&[]),
            instances: globs(&["/data"]),
            levels: vec![above(AlertSeverity::Info, 50.0, 40.0)],
            for_ms: None,
        },
        Override {
            nodes: globs(&[]),
            groups: globs(&["lab"]),
            instances: globs(&[]),
            levels: Vec::new(),
            for_ms: None,
        },
    ];
    let mut site = Site::new(vec![full]);
    let mut out = Vec::new();
    let groups = [("lab".to_owned(), globs(&["home.lab?"]))].into();
    site.evaluator.groups(groups, site.now_ms, &mut out);
    let mounts = [("/", 85.0), ("/data", 60.0), ("/snap/core", 100.0)];
    for node in ["web", "db", "test1", "lab1"] {
        site.send(node, filesystems(&mounts));
    }
    assert_eq!(
        site.stands(),
        [
            "db/full// firing warning 10",
            "db/full//data firing info 10",
            "web/full// firing warning 0"
        ]
    );
}

#[test]
fn a_disk_that_was_pulled_out_is_gone_after_a_quarter_of_an_hour() {
    let mut site = Site::new(vec![rule("full", field("filesystem.used_percent"))]);
    site.send("a", filesystems(&[("/", 95.0), ("/usb", 95.0)]));
    // While the node is silent nobody knows.
    site.pass(3_600_000);
    for _ in 0..91 {
        assert_eq!(
            site.bus
                .values()
                .filter(|alert| alert.state == AlertState::Firing)
                .count(),
            2
        );
        site.send("a", filesystems(&[("/", 95.0)]));
    }
    let gone = site
        .bus
        .values()
        .find(|alert| alert.state == AlertState::Resolved)
        .unwrap();
    assert_eq!(
        gone.summary,
        "filesystem /usb on a: used is 95 %, above 90 % (gone: the host no longer reports it)"
    );
    site.pass(super::super::RESOLVED_MS);
    assert_eq!(site.stands(), ["a/full// firing critical 0"]);
}

#[test]
fn other_rules_go_on_with_what_stands() {
    let watch = || field("filesystem.used_percent");
    let mut site = Site::new(vec![
        rule("gone", watch()),
        rule("full", watch()),
        rule("narrow", watch()),
    ]);
    site.send("a", filesystems(&[("/", 95.0)]));
    let mut full = rule("full", watch());
    full.levels = vec![above(AlertSeverity::Warning, 94.0, 90.0)];
    let mut narrow = rule("narrow", watch());
    narrow.instances = Globs::new(&["/data"]);
    site.set_rules(vec![narrow.clone(), full.clone()]);
    let summaries: Vec<&str> = site
        .bus
        .values()
        .map(|alert| alert.summary.as_str())
        .collect();
    assert!(
        summaries[1].ends_with("(the rule was removed)"),
        "{summaries:?}"
    );
    assert!(
        summaries[2].ends_with("(the rule no longer covers it)"),
        "{summaries:?}"
    );
    site.send("a", filesystems(&[("/", 95.0)]));
    assert_eq!(
        site.stands(),
        [
            "a/full// firing warning 0",
            "a/gone// resolved critical 10",
            "a/narrow// resolved critical 10"
        ]
    );
    // One that comes back within that time is not removed with what stood before.
    site.set_rules(vec![narrow, full, rule("gone", watch())]);
    site.send("a", filesystems(&[("/", 95.0)]));
    site.pass(super::super::RESOLVED_MS);
    assert_eq!(
        site.stands(),
        ["a/full// firing warning 0", "a/gone// firing critical 20"]
    );
}

#[test]
fn an_alert_of_ours_without_its_rule_is_removed_and_a_foreign_one_is_not() {
    let mut site = Site::new(vec![rule("full", field("filesystem.used_percent"))]);
    site.send("a", filesystems(&[("/", 95.0)]));
    let key = AlertKey {
        node: path("a"),
        rule: "backup".into(),
        instance: None,
    };
    let foreign = Alert {
        fingerprint: key.fingerprint(),
        since: BEGIN_MS,
        ..Alert::default()
    };
    site.bus.insert(key, foreign);
    site.rules.clear();
    site.restart(false);
    site.pass(19_000);
    assert_eq!(
        site.stands(),
        ["a/backup firing warning 0", "a/full// firing critical 0"]
    );
    site.pass(1_000);
    assert_eq!(
        site.stands(),
        ["a/backup firing warning 0", "a/full// resolved critical 30"]
    );
    site.pass(super::super::RESOLVED_MS);
    assert_eq!(site.stands(), ["a/backup firing warning 0"]);
}

#[test]
fn a_value_is_told_anew_once_a_minute_and_only_when_it_moved() {
    let mut site = Site::new(vec![rule("busy", field("cpu.usage_percent"))]);
    let mut told = Vec::new();
    for value in [91.0, 99.9, 92.0, 92.0, 92.0, 92.0, 92.0, 102.0, 102.0] {
        site.send("a", cpu(value));
        told.push(site.bus.values().next().unwrap().value.unwrap());
    }
    assert_eq!(
        told,
        [91.0, 91.0, 91.0, 91.0, 91.0, 91.0, 91.0, 102.0, 102.0]
    );
    assert_eq!(site.transitions.len(), 1);
}

#[test]
fn hostile_amounts_are_left_out_and_counted() {
    let mut site = Site::new(vec![rule("high", field("custom.value"))]);
    for round in 0..3 {
        let names: Vec<String> = (0..4096).map(|name| format!("{round}-{name}")).collect();
        let values: Vec<(&str, f64)> = names.iter().map(|name| (name.as_str(), 99.0)).collect();
        site.send("a", custom(&values));
    }
    let figures = site.evaluator.figures();
    assert_eq!((site.bus.len(), figures.alerts), (1024, 1024));
    assert!(figures.left_out > 0);
}

#[test]
fn a_notifier_that_takes_over_publishes_what_the_other_could_not() {
    let mut site = Site::new(vec![rule("busy", field("cpu.usage_percent"))]);
    site.send("both", cpu(95.0));
    site.send("worse", cpu(85.0));
    let bus = site.bus.clone();
    site.send("worse", cpu(95.0));
    site.send("late", cpu(95.0));
    let mut out = Vec::new();
    site.evaluator.take_over(bus.iter(), site.now_ms, &mut out);
    site.bus = bus;
    site.take(out);
    assert_eq!(
        site.stands(),
        [
            "both/busy firing critical 0",
            "late/busy firing critical 30",
            "worse/busy firing critical 10"
        ]
    );
}
