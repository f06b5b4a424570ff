//! Nodes that come, go, stop and are lost.

use hostbus_wire::health::HealthState;
use hostbus_wire::status::Status;

use super::*;

fn site() -> Site {
    Site::new(vec![state_rule("node-down", Watch::Down, Fold::Last)])
}

/// What happens to the node, one after the other.
#[derive(Debug, Clone, Copy)]
enum Event {
    Samples(u64),
    Retained,
    Late,
    Status(Status, bool),
    Health(HealthState, bool),
    Seconds(u64),
    Outage(u64),
    Restart,
}

fn happen(site: &mut Site, event: Event) {
    let now_ms = site.now_ms;
    let mut out = Vec::new();
    match event {
        Event::Samples(count) => (0..count).for_each(|_| site.send("a", cpu(1.0))),
        Event::Retained => {
            let sample = site.placed(cpu(1.0));
            site.hear("a", &sample, true);
        }
        Event::Late => {
            let mut sample = site.placed(cpu(1.0));
            sample.ts = Some(now_ms - 3_600_000);
            site.hear("a", &sample, false);
        }
        Event::Status(status, retained) => {
            site.evaluator
                .status(&path("a"), status, retained, now_ms, &mut out);
        }
        Event::Health(state, retained) => {
            site.evaluator
                .health(&path("a"), state, retained, now_ms, &mut out);
        }
        Event::Seconds(seconds) => site.pass(seconds * 1000),
        Event::Outage(seconds) => {
            site.evaluator.away();
            site.pass(seconds * 1000);
            site.evaluator.calm(site.now_ms);
        }
        Event::Restart => site.restart((now_ms / 1000).is_multiple_of(2)),
    }
    site.take(out);
}

fn check(name: &str, events: &[Event], expected: &[&str]) {
    let mut site = site();
    for event in events {
        happen(&mut site, *event);
    }
    assert_eq!(site.stands(), expected, "{name}");
}

#[test]
fn a_node_is_down_by_silence_and_by_its_will_but_not_when_it_stops() {
    use Event::{Health, Late, Outage, Restart, Retained, Samples, Seconds, Status as Says};
    use HealthState::{Ok, Stopped};
    use Status::{Offline, Online};
    let down = |seconds: u64| format!("a/node-down firing critical {seconds}");
    check("alive", &[Samples(9)], &[]);
    check(
        "silent for less than three intervals",
        &[Samples(6), Seconds(19)],
        &[],
    );
    check("silent for three", &[Samples(6), Seconds(20)], &[&down(80)]);
    check(
        "its will",
        &[Samples(6), Says(Offline, false), Seconds(12)],
        &[&down(72)],
    );
    check(
        "its will, not yet believed",
        &[Samples(6), Says(Offline, false), Seconds(11)],
        &[],
    );
    check(
        "the will of an earlier connection",
        &[Samples(6), Says(Offline, false), Samples(1), Seconds(15)],
        &[],
    );
    check(
        "a clean stop",
        &[
            Samples(6),
            Says(Offline, false),
            Health(Stopped, false),
            Seconds(3600),
        ],
        &[],
    );
    check(
        "a clean stop, then another start, then lost",
        &[
            Samples(6),
            Says(Offline, false),
            Health(Stopped, false),
            Says(Online, false),
            Says(Offline, false),
            Seconds(60),
        ],
        &[&down(72)],
    );
    check(
        "it comes back",
        &[Samples(6), Seconds(60), Samples(1)],
        &["a/node-down resolved critical 120"],
    );
    check(
        "what an outbox sends late proves life",
        &[Samples(6), Seconds(60), Late],
        &["a/node-down resolved critical 120"],
    );
    check(
        "a kept sample proves nothing",
        &[Samples(6), Seconds(60), Retained],
        &[&down(80)],
    );
    check("unknown", &[Seconds(3600)], &[]);
    check(
        "a kept sample of one that never comes",
        &[Retained, Seconds(19)],
        &[],
    );
    check(
        "the same a second later",
        &[Retained, Seconds(20)],
        &[&down(20)],
    );
    check(
        "the bus is away",
        &[Samples(6), Outage(600), Seconds(19)],
        &[],
    );
    check(
        "the bus is back and the node is not",
        &[Samples(6), Outage(600), Seconds(20)],
        &[&down(680)],
    );
    check(
        "a restart forgets nothing",
        &[
            Samples(6),
            Seconds(60),
            Restart,
            Says(Offline, true),
            Seconds(600),
        ],
        &[&down(80)],
    );
    check(
        "it stopped while we were away",
        &[
            Samples(6),
            Seconds(60),
            Restart,
            Says(Offline, true),
            Health(Stopped, true),
            Seconds(600),
        ],
        &["a/node-down resolved critical 120"],
    );
    check(
        "a kept good-bye of the run before, of one whose interval nobody knows",
        &[Says(Online, true), Health(Stopped, true), Seconds(120)],
        &[&down(120)],
    );
    check(
        "kept words of a running one",
        &[Health(Ok, true), Says(Online, true), Retained, Samples(9)],
        &[],
    );
}

#[test]
fn other_alerts_of_a_silent_node_stay_as_they_are() {
    let down = state_rule("node-down", Watch::Down, Fold::Last);
    let mut site = Site::new(vec![down, rule("busy", field("cpu.usage_percent"))]);
    site.send("a", cpu(95.0));
    site.pass(3_600_000);
    assert_eq!(
        site.stands(),
        ["a/busy firing critical 0", "a/node-down firing critical 30"]
    );
}

#[test]
fn a_clock_of_ours_that_is_set_is_nobodys_silence() {
    for jump_ms in [-7_200_000, 7_200_000] {
        let mut site = site();
        for _ in 0..6 {
            site.send("a", cpu(1.0));
        }
        let time = "our clock is set";
        site.now_ms = site.now_ms.checked_add_signed(jump_ms).unwrap();
        site.pass(19_000);
        assert_eq!(site.stands(), [""; 0], "{time} by {jump_ms} ms");
        site.pass(11_000);
        assert_eq!(
            site.stands().len(),
            1,
            "{time} by {jump_ms} ms, and the node is silent"
        );
    }
}

#[test]
fn a_clock_of_ours_that_is_set_back_makes_nothing_wait_for_as_long() {
    const DAY_MS: u64 = 86_400_000;
    let mut lost = Site::new(vec![state_rule(
        "lost",
        field("filesystem.used_percent"),
        Fold::Absent { silent_ms: 60_000 },
    )]);
    lost.send("a", filesystems(&[("/", 1.0)]));
    lost.now_ms -= DAY_MS;
    lost.pass(61_000);
    assert_eq!(lost.stands().len(), 1, "what is not heard of is missing");

    let mut gone = Site::new(vec![rule("full", field("filesystem.used_percent"))]);
    gone.send("a", filesystems(&[("/", 1.0), ("/usb", 95.0)]));
    gone.send("a", filesystems(&[("/", 1.0)]));
    gone.now_ms -= DAY_MS;
    for _ in 0..93 {
        gone.send("a", filesystems(&[("/", 1.0)]));
    }
    assert!(gone.stands()[0].contains("resolved"), "{:?}", gone.stands());
    // What was resolved by a clock that was ahead is removed in time as well.
    gone.now_ms -= DAY_MS;
    gone.pass(super::super::RESOLVED_MS + 1_000);
    assert_eq!(gone.stands(), [""; 0]);

    let mut changed = state_rule("changed", field("cpu.usage_percent"), Fold::Last);
    changed.fold = Fold::Changed { window_ms: 20_000 };
    let mut changed = Site::new(vec![changed]);
    changed.send("a", cpu(1.0));
    changed.send("a", cpu(2.0));
    changed.now_ms -= DAY_MS;
    for _ in 0..4 {
        changed.send("a", cpu(2.0));
    }
    assert!(
        changed.stands()[0].contains("resolved"),
        "{:?}",
        changed.stands()
    );
}

#[test]
fn a_node_that_is_forgotten_leaves_nothing() {
    let mut site = Site::new(vec![rule("busy", field("cpu.usage_percent"))]);
    site.send("a", cpu(95.0));
    let mut out = Vec::new();
    site.evaluator.forget(&path("a"), &mut out);
    assert_eq!(out.len(), 1);
    assert_eq!(out[0].alert, None);
    assert_eq!(site.evaluator.figures().nodes, 0);
}

#[test]
fn a_clock_that_is_wrong_is_an_alert() {
    let mut watch = rule("clock", Watch::ClockOffset);
    watch.levels = vec![above(AlertSeverity::Warning, 60.0, 30.0)];
    let mut site = Site::new(vec![watch]);
    for ahead_ms in [0, 90_000, 90_000] {
        let mut sample = site.placed(cpu(1.0));
        sample.ts = Some(site.now_ms + ahead_ms);
        site.hear("a", &sample, false);
        site.pass(INTERVAL_MS);
    }
    assert_eq!(site.stands(), ["a/clock firing warning 10"]);
}
