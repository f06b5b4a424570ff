//! One thing after the other, as it happens to people.

use AlertSeverity::{Critical, Info, Warning};
use hostbus_wire::told::Told;

use super::*;

const OPS: &str = "[[routes]]\nchannels = [\"ops\"]\n";

#[test]
fn nothing_is_told_before_the_bus_was_heard() {
    let mut dispatcher = Dispatcher::new(routing(OPS));
    let alert = Some(Alert::default());
    dispatcher.alert(key("web1/cpu"), alert, 1_000).unwrap();
    assert!(dispatcher.tick(60_000).notices.is_empty());
    dispatcher.synced(60_000);
    assert_eq!(dispatcher.tick(65_000).notices.len(), 1);
}

#[test]
fn a_group_waits_a_moment_and_then_tells_its_changes_at_an_interval() {
    let mut desk = desk(OPS);
    desk.fire("web1/cpu", Warning);
    assert_eq!(desk.told(3), [""; 0]);
    desk.fire("web2/cpu", Critical);
    desk.fire("web3/cpu", Info);
    desk.over("web3/cpu");
    let first = "+2 ops firing rule cpu: web2/cpu critical, web1/cpu warning";
    assert_eq!(desk.told(10), [first]);
    desk.fire("web4/cpu", Warning);
    desk.over("web1/cpu");
    let second = "+52 ops firing rule cpu: web4/cpu warning, web1/cpu over";
    assert_eq!(desk.told(60), [second]);
    desk.over("web2/cpu");
    desk.over("web4/cpu");
    let third = "+52 ops resolved rule cpu: web2/cpu over, web4/cpu over";
    assert_eq!(desk.told(100_000), [third]);
}

#[test]
fn worse_is_told_at_once_and_better_with_the_next_notice() {
    let mut desk = desk(OPS);
    desk.fire("web1/cpu", Warning);
    desk.wait(6);
    desk.fire("web1/cpu", Critical);
    assert_eq!(
        desk.told(10),
        ["+4 ops firing rule cpu: web1/cpu critical (was warning)"]
    );
    desk.fire("web1/cpu", Warning);
    assert_eq!(desk.told(3_600), [""; 0]);
    assert_eq!(desk.stage("web1/cpu"), "told as critical; less now");
    desk.fire("web2/cpu", Info);
    let both = "+5 ops firing rule cpu: web1/cpu warning (was critical), web2/cpu info";
    assert_eq!(desk.told(60), [both]);
}

#[test]
fn what_fires_on_is_repeated_until_somebody_is_at_it() {
    let mut desk = desk(&format!("{OPS}repeat_seconds = 600"));
    desk.fire("web1/cpu", Warning);
    desk.fire("web2/cpu", Warning);
    desk.wait(6);
    let given = Acknowledgement {
        by: "ann".to_owned(),
        ..Acknowledgement::default()
    };
    desk.acknowledge("web1/cpu", &given);
    assert_eq!(desk.stage("web1/cpu"), "acknowledged by ann");
    assert_eq!(
        desk.told(605),
        ["+599 ops repeat rule cpu: web2/cpu warning"]
    );
    assert!(desk.clear.is_empty());
    desk.fire("web1/cpu", Critical);
    assert_eq!(
        desk.told(1),
        ["+0 ops firing rule cpu: web1/cpu critical (was warning)"]
    );
    let acknowledgement = SiteTopic::Acknowledgement(key("web1/cpu").fingerprint().into());
    assert_eq!(desk.clear, std::slice::from_ref(&acknowledgement));
    desk.clear.clear();
    let expiring = Acknowledgement {
        until: Some((desk.now + 900) * 1_000),
        ..given.clone()
    };
    desk.acknowledge("web1/cpu", &expiring);
    desk.acknowledge("web2/cpu", &given);
    assert_eq!(
        desk.told(1_000),
        ["+900 ops repeat rule cpu: web1/cpu critical"]
    );
    assert_eq!(desk.clear, [acknowledgement]);
    desk.clear.clear();
    desk.over("web2/cpu");
    desk.wait(1);
    assert_eq!(
        desk.clear,
        [SiteTopic::Acknowledgement(
            key("web2/cpu").fingerprint().into()
        )]
    );
    // Nobody can be at what is not there.
    desk.clear.clear();
    desk.acknowledge("web9/cpu", &given);
    desk.wait(1);
    assert_eq!(desk.clear.len(), 1);
}

#[test]
fn an_alert_that_flaps_is_told_once_in_a_while_and_counted() {
    let mut desk = desk(&format!(
        "{OPS}interval_seconds = 10\ncooldown_seconds = 600"
    ));
    let mut told = Vec::new();
    for _ in 0..20 {
        desk.fire("web1/cpu", Warning);
        told.extend(desk.wait(30));
        desk.over("web1/cpu");
        told.extend(desk.wait(30));
    }
    assert!(told.len() <= 5, "{} notices in 20 minutes", told.len());
    desk.fire("web1/cpu", Warning);
    assert!(desk.stage("web1/cpu").starts_with("cooling down"));
    told.extend(desk.wait(1_200));
    let last = &told.last().unwrap().lines[0];
    assert_eq!(last.alert.state, AlertState::Firing);
    assert!(last.flaps > 5, "{last:?}");
    // Worse than it was is no flapping.
    desk.over("web1/cpu");
    desk.wait(60);
    desk.fire("web1/cpu", Critical);
    assert_eq!(
        desk.told(60),
        ["+5 ops firing rule cpu: web1/cpu critical (flapped 1 times)"]
    );
}

#[test]
fn a_group_of_nodes_may_arrive_after_its_alerts() {
    let mut desk = desk(&format!("{OPS}groups = [\"web\"]"));
    desk.fire("web1/cpu", Warning);
    assert_eq!(desk.told(60), [""; 0]);
    assert_eq!(desk.stage("web1/cpu"), "no route leads here");
    let node = key("web1/cpu").node;
    let now_ms = desk.now * 1_000;
    desk.dispatcher
        .node_groups(&node, vec!["web".to_owned()], now_ms);
    assert_eq!(desk.told(60), ["+5 ops firing rule cpu: web1/cpu warning"]);
    // Whoever was told hears of the end, whatever has changed since.
    desk.dispatcher
        .node_groups(&node, Vec::new(), now_ms + 60_000);
    desk.over("web1/cpu");
    assert_eq!(desk.told(60), ["+5 ops resolved rule cpu: web1/cpu over"]);
}

#[test]
fn an_alert_that_went_while_nobody_listened_is_over() {
    let mut desk = desk(OPS);
    desk.fire("web1/cpu", Warning);
    desk.fire("web2/cpu", Warning);
    desk.wait(10);
    desk.dispatcher.joined();
    desk.fire("web2/cpu", Warning);
    let now_ms = desk.now * 1_000;
    desk.dispatcher.synced(now_ms);
    assert_eq!(desk.told(60), ["+55 ops resolved rule cpu: web1/cpu over"]);
}

#[test]
fn a_mark_of_another_notifier_stands_for_what_it_told() {
    let mark = |state, since| Told {
        alert: key("web1/cpu"),
        state,
        severity: Warning,
        since,
        at: since + 9_000,
        given_up: false,
    };
    let mut desk = desk(OPS);
    desk.fire("web1/cpu", Warning);
    let since = desk.now * 1_000;
    desk.now += 1;
    let now_ms = desk.now * 1_000;
    desk.dispatcher
        .told("ops", &mark(AlertState::Firing, since), now_ms);
    desk.dispatcher
        .told("other", &mark(AlertState::Firing, since), now_ms);
    assert_eq!(desk.told(60), [""; 0]);
    desk.over("web1/cpu");
    assert_eq!(desk.told(60), ["+5 ops resolved rule cpu: web1/cpu over"]);
    // The mark of the beginning comes late, behind the end: it does not bring it back.
    let now_ms = desk.now * 1_000;
    desk.dispatcher
        .told("ops", &mark(AlertState::Firing, since), now_ms);
    assert_eq!(desk.told(600), [""; 0]);
    // A new notifier hears the mark before the alert; the alert is not there any more.
    let mut fresh = Dispatcher::new(routing(OPS));
    fresh.told("ops", &mark(AlertState::Firing, since), now_ms);
    fresh.synced(now_ms);
    let notices = fresh.tick(now_ms + 5_000).notices;
    assert_eq!(notices.len(), 1);
    assert_eq!(notices[0].reason, Reason::Resolved);
}

#[test]
fn a_mark_by_a_clock_that_is_ahead_holds_no_repetition_up() {
    let mut desk = desk(&format!("{OPS}repeat_seconds = 300"));
    desk.fire("web1/cpu", Warning);
    let since = desk.now * 1_000;
    desk.wait(10);
    let mut told = Vec::new();
    for _ in 0..5 {
        // It is heard again with each connection to the bus.
        let now_ms = desk.now * 1_000;
        let mark = Told {
            alert: key("web1/cpu"),
            state: AlertState::Firing,
            severity: Warning,
            since,
            at: now_ms + 86_400_000,
            given_up: false,
        };
        desk.dispatcher.told("ops", &mark, now_ms);
        told.extend(desk.told(90));
    }
    assert_eq!(told, ["+25 ops repeat rule cpu: web1/cpu warning"]);
}

#[test]
fn a_mark_that_has_served_is_cleared_after_a_day() {
    let mut desk = desk(OPS);
    desk.fire("web1/cpu", Warning);
    desk.wait(10);
    desk.over("web1/cpu");
    desk.wait(80_000);
    assert_eq!(
        (desk.clear.len(), desk.dispatcher.counters().alerts),
        (0, 1)
    );
    desk.wait(10_000);
    let told = SiteTopic::Told {
        channel: "ops".into(),
        fingerprint: key("web1/cpu").fingerprint().into(),
    };
    assert_eq!(desk.clear, [told]);
    assert_eq!(desk.dispatcher.counters().alerts, 0);
    assert_eq!(desk.dispatcher.counters().groups, 0);
    let left: Vec<&String> = desk.disk.keys().collect();
    assert_eq!(left, ["channel/ops", "meta"]);
}

#[test]
fn an_end_is_told_with_what_began() {
    let mut desk = desk(&format!("{OPS}severities = [\"critical\"]"));
    let mut alert = Alert {
        severity: Critical,
        since: desk.now * 1_000,
        summary: "the disk is full".to_owned(),
        labels: [("team".to_owned(), "db".to_owned())].into(),
        ..Alert::default()
    };
    let fired = alert.clone();
    let key = key("db1/disk/data");
    desk.dispatcher
        .alert(key.clone(), Some(alert.clone()), alert.since)
        .unwrap();
    desk.wait(100);
    // A script that says no more than that it is over.
    alert = Alert::decode(&key, b"{\"state\": \"resolved\"}", desk.now * 1_000)
        .unwrap()
        .unwrap();
    desk.dispatcher
        .alert(key, Some(alert), desk.now * 1_000)
        .unwrap();
    let notices = desk.wait(100);
    let line = &notices[0].lines[0];
    assert_eq!(line.alert.state, AlertState::Resolved);
    assert_eq!(
        (&line.alert.summary, &line.alert.labels),
        (&fired.summary, &fired.labels)
    );
    assert_eq!(
        (line.firing_since, line.alert.severity),
        (fired.since, Critical)
    );
    assert_eq!(line.alert.since, (START + 100) * 1_000);
}

#[test]
fn a_channel_that_wants_no_recoveries_gets_none() {
    let mut desk = desk(&format!("{OPS}recovery = false\ncooldown_seconds = 0"));
    for _ in 0..2 {
        desk.fire("web1/cpu", Warning);
        assert_eq!(desk.told(60).len(), 1);
        desk.over("web1/cpu");
        assert_eq!(desk.told(60), [""; 0]);
    }
}

#[test]
fn what_cannot_be_read_back_is_left_out() {
    let mut desk = desk(OPS);
    desk.fire("web1/cpu", Warning);
    desk.wait(10);
    let check = |key: &str, value: &str, taken: usize| {
        let mut entries = desk.disk.clone();
        entries.insert(key.to_owned(), value.as_bytes().to_vec());
        let mut other = Dispatcher::new(routing(OPS));
        let restored = other.restore(&entries, desk.now * 1_000);
        let expected = (taken, entries.len() - taken);
        assert_eq!((restored.taken, restored.unreadable), expected, "{key}");
    };
    let all = desk.disk.len();
    check("meta", "{\"version\": 2, \"next_id\": 5}", all - 1);
    check("alert/home.web1/cpu", "{}", all - 1);
    check("alert/home.web1/fan", "\u{0}", all);
    check(
        "group/[\"gone\",0,\"all\"]",
        "{\"group\": [\"gone\", 0, \"all\"], \"last_ms\": 1}",
        all,
    );
    check(
        "group/x",
        "{\"group\": [\"ops\", 9, \"all\"], \"last_ms\": 1}",
        all,
    );
    check("channel/gone", "[1]", all);
    check("channel/pager", "[1]", all + 1);
    check(
        "silence/home/s",
        "{\"id\": {\"site\": \"home\", \"id\": \"s\"}, \"silence\": {}}",
        all,
    );
    check("unknown", "1", all);
}

#[test]
fn a_restart_forgets_nothing_of_alerts_that_are_led_by_the_groups_of_their_nodes() {
    let settings = format!("{OPS}groups = [\"web\"]\nwait_seconds = 600");
    let mut desk = desk(&settings);
    let node = key("web1/cpu").node;
    let groups = vec!["web".to_owned()];
    let now_ms = desk.now * 1_000;
    desk.dispatcher.node_groups(&node, groups.clone(), now_ms);
    desk.fire("web1/cpu", Warning);
    desk.wait(300);
    desk.dispatcher = Dispatcher::new(routing(&settings));
    let now_ms = desk.now * 1_000;
    desk.dispatcher.restore(&desk.disk, now_ms);
    let alert = Alert {
        since: START * 1_000,
        ..Alert::default()
    };
    let dispatcher = &mut desk.dispatcher;
    dispatcher
        .alert(key("web1/cpu"), Some(alert), now_ms)
        .unwrap();
    dispatcher.node_groups(&node, groups, now_ms);
    dispatcher.synced(now_ms);
    assert_eq!(
        desk.told(400),
        ["+300 ops firing rule cpu: web1/cpu warning"]
    );
}

#[test]
fn numbers_of_notices_rise_over_a_restart() {
    let mut desk = desk(OPS);
    desk.fire("web1/cpu", Warning);
    assert_eq!(desk.wait(10)[0].id, 1);
    let mut other = Dispatcher::new(routing(OPS));
    other.restore(&desk.disk, desk.now * 1_000);
    other.synced(desk.now * 1_000);
    let notices = other.tick((desk.now + 60) * 1_000).notices;
    assert_eq!((notices[0].id, notices[0].reason), (2, Reason::Resolved));
}
