//! Very much at once.

use std::collections::BTreeSet;

use AlertSeverity::{Critical, Warning};

use super::*;

const NODES: usize = 1_000;

fn named(notices: &[Notice], channel: &str, state: AlertState) -> BTreeSet<AlertKey> {
    notices
        .iter()
        .filter(|notice| notice.channel == channel)
        .flat_map(|notice| &notice.lines)
        .filter(|line| line.alert.state == state)
        .map(|line| line.key.clone())
        .collect()
}

#[test]
fn a_thousand_nodes_down_are_some_notices_that_name_all() {
    let check = |group_by: &str, a_second: usize, most: usize| {
        let text = format!("[[routes]]\nchannels = [\"ops\"]\ngroup_by = \"{group_by}\"");
        let mut desk = desk(&text);
        let nodes: Vec<String> = (0..NODES).map(|node| format!("n{node}")).collect();
        for node in &nodes {
            desk.fire(&format!("{node}/cpu"), Warning);
        }
        let before = desk.wait(600);
        for state in [AlertState::Firing, AlertState::Resolved] {
            let mut notices = Vec::new();
            for some in nodes.chunks(a_second) {
                for node in some {
                    let text = format!("{node}/node-down");
                    match state {
                        AlertState::Firing => desk.fire(&text, Critical),
                        _ => desk.over(&text),
                    }
                }
                notices.extend(desk.wait(1));
            }
            notices.extend(desk.wait(300));
            let all = named(&notices, "ops", state);
            let down = all.iter().filter(|key| &*key.rule == "node-down").count();
            assert_eq!(down, NODES, "{group_by} {state}");
            let count = notices.len();
            assert!(count <= most, "{count} notices of {group_by} {state}");
        }
        assert_eq!(named(&before, "ops", AlertState::Firing).len(), NODES);
    };
    check("rule", NODES, 2);
    check("node", NODES, 2);
    check("alert", NODES, 2);
    check("all", NODES, 2);
    check("rule", 25, 3);
    check("node", 25, 12);
    check("alert", 1_000 / 300, 45);
}

#[test]
fn a_notice_has_so_many_lines_and_the_rest_is_told_next() {
    let mut desk =
        desk("[[routes]]\nchannels = [\"ops\"]\ngroup_by = \"all\"\nrepeat_seconds = 600");
    for node in 0..2_500 {
        desk.fire(&format!("n{node}/cpu"), Warning);
    }
    let notices = desk.wait(300);
    let sizes: Vec<usize> = notices.iter().map(|notice| notice.lines.len()).collect();
    assert_eq!(sizes, [1_000, 1_000, 500]);
    assert_eq!(named(&notices, "ops", AlertState::Firing).len(), 2_500);
    assert_eq!(notices[2].still_firing, 2_500);
    let again = desk.wait(310);
    assert_eq!(named(&again, "ops", AlertState::Firing).len(), 2_500);
    assert_eq!(again.len(), 3);
}

#[test]
fn a_quiet_tick_saves_nothing_and_a_small_change_little() {
    let mut desk = desk("[[routes]]\nchannels = [\"ops\"]\ngroup_by = \"all\"");
    for node in 0..2_000 {
        desk.fire(&format!("n{node}/cpu"), Warning);
    }
    desk.wait(300);
    let now_ms = desk.now * 1_000;
    assert!(desk.dispatcher.tick(now_ms).saved.is_empty());
    // An author who says the same again, with another value, changes nothing that must be kept.
    let alert = Alert {
        severity: Warning,
        since: START * 1_000,
        value: Some(7.0),
        ..Alert::default()
    };
    desk.dispatcher
        .alert(key("n7/cpu"), Some(alert), now_ms)
        .unwrap();
    assert!(desk.dispatcher.tick(now_ms).saved.is_empty());
    desk.fire("n7/cpu", Critical);
    let saved = desk.dispatcher.tick(now_ms).saved;
    let mut keys: Vec<&str> = saved.iter().map(|entry| entry.key.as_str()).collect();
    keys.sort_unstable();
    assert_eq!(
        keys,
        [
            "alert/home.n7/cpu",
            "channel/ops",
            "group/[\"ops\",0,\"all\"]",
            "meta"
        ]
    );
    assert!(saved.iter().all(|entry| {
        entry
            .value
            .as_ref()
            .is_some_and(|value| value.len() < 2_048)
    }));
}

#[test]
fn too_much_is_refused_and_the_rest_goes_on() {
    let mut desk = desk("");
    let site = SiteId::default();
    let hour = Silence {
        seconds: Some(3_600),
        ..Silence::default()
    };
    for at in 0..MAX_SILENCES {
        desk.silence(&format!("s{at}"), Some(hour.clone()));
    }
    let now_ms = desk.now * 1_000;
    let refused = desk
        .dispatcher
        .silence(&site, "more", Some(hour.clone()), false, now_ms);
    let text = refused.unwrap_err().to_string();
    assert_eq!(text, "more is refused: there are 1000 silences already");
    desk.silence("s7", None);
    desk.silence("more", Some(hour));
    assert_eq!(desk.dispatcher.counters().silences, MAX_SILENCES);
}
