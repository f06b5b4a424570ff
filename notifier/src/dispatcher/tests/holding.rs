//! Silences, hours and inhibitions.

use AlertSeverity::{Critical, Warning};
use hostbus_wire::silence::Weekly;

use super::*;

const OPS: &str = "[[routes]]\nchannels = [\"ops\"]\n";

#[test]
fn what_a_silence_held_back_and_still_fires_is_one_digest() {
    let mut desk = desk(OPS);
    desk.fire("web1/cpu", Warning);
    desk.fire("web1/fan", Warning);
    desk.wait(60);
    let silence = Silence {
        nodes: vec!["web*".to_owned()],
        seconds: Some(3_600),
        ..Silence::default()
    };
    desk.silence("backup", Some(silence));
    desk.fire("web1/disk", Warning);
    desk.fire("web2/swap", Warning);
    desk.fire("web2/load", Warning);
    desk.fire("web1/fan", Critical);
    desk.over("web1/cpu");
    desk.fire("db1/cpu", Warning);
    assert_eq!(
        desk.told(3_000),
        ["+5 ops firing rule cpu: db1/cpu warning"]
    );
    assert_eq!(desk.stage("web1/disk"), "silenced by backup");
    desk.over("web2/swap");
    // What has become worse is told at once, and takes the rest along.
    let digest = "+600 ops digest silence backup: web1/fan critical (was warning), \
                  web1/disk warning, web2/load warning";
    assert_eq!(
        desk.told(1_000),
        [digest, "+605 ops resolved rule cpu: web1/cpu over"]
    );
    // It is left for people to see for a day.
    desk.wait(85_000);
    assert!(
        desk.clear
            .iter()
            .all(|topic| !matches!(topic, SiteTopic::Silence(_)))
    );
    desk.wait(2_000);
    assert!(desk.clear.contains(&SiteTopic::Silence("backup".into())));
}

#[test]
fn a_silence_is_of_its_site_and_a_wrong_one_holds_nothing() {
    let mut desk = desk(OPS);
    let everything = Silence {
        seconds: Some(3_600),
        ..Silence::default()
    };
    let lab: SiteId = "lab".parse().unwrap();
    let now_ms = desk.now * 1_000;
    desk.dispatcher
        .silence(&lab, "s", Some(everything.clone()), false, now_ms)
        .unwrap();
    desk.fire("web1/cpu", Warning);
    assert_eq!(desk.told(10).len(), 1);
    desk.silence("s", Some(everything));
    desk.fire("web1/fan", Warning);
    assert_eq!(desk.told(10).len(), 0);
    let site = SiteId::default();
    let refused = desk
        .dispatcher
        .silence(&site, "s", Some(Silence::default()), false, now_ms);
    let text = refused.unwrap_err().to_string();
    assert!(text.contains("the silence s is refused: `until`"), "{text}");
    assert_eq!(desk.told(10).len(), 1);
}

#[test]
fn maintenance_recurs_each_week() {
    let mut desk = desk(&format!("{OPS}repeat_seconds = 0"));
    // The desk's first day is a Monday, 00:00 UTC.
    let weekly = Weekly {
        days: vec!["mon".to_owned()],
        from: "00:00".to_owned(),
        to: "02:00".to_owned(),
        zone: None,
    };
    desk.silence(
        "weekly",
        Some(Silence {
            weekly: Some(weekly),
            ..Silence::default()
        }),
    );
    desk.fire("web1/cpu", Warning);
    assert_eq!(
        desk.told(86_400),
        ["+7205 ops digest silence weekly: web1/cpu warning"]
    );
    desk.over("web1/cpu");
    desk.wait(6 * 86_400);
    desk.fire("web1/cpu", Warning);
    assert_eq!(
        desk.told(86_400),
        ["+7205 ops digest silence weekly: web1/cpu warning"]
    );
}

#[test]
fn outside_its_hours_a_channel_is_told_nothing_and_then_all_at_once() {
    let hours = "between = { from = \"08:00\", to = \"18:00\" }";
    let mut desk = desk(&format!("{OPS}{hours}\n[[routes]]\nchannels = [\"pager\"]"));
    desk.fire("web1/cpu", Warning);
    desk.fire("web1/fan", Warning);
    let told = desk.told(3_600);
    assert!(
        told.iter().all(|notice| notice.contains("pager")),
        "{told:?}"
    );
    assert_eq!(desk.stage("web1/cpu"), "outside the hours of its route");
    let told = desk.told(8 * 3_600);
    let digest = "+25205 ops digest outside hours: web1/cpu warning, web1/fan warning";
    assert!(told.contains(&digest.to_owned()), "{told:?}");
}

#[test]
fn a_node_that_is_down_hides_its_other_alerts() {
    let mut desk = desk(&format!("{OPS}repeat_seconds = 300"));
    desk.fire("web1/cpu", Warning);
    desk.wait(10);
    desk.fire("web1/node-down", Critical);
    desk.fire("web1/fan", Warning);
    desk.fire("web1/disk", Warning);
    desk.fire("web2/fan", Warning);
    let told = desk.told(400);
    let text = told.join("\n");
    assert!(
        text.contains("+5 ops firing rule node-down: web1/node-down critical"),
        "{text}"
    );
    assert!(
        text.contains("+5 ops firing rule fan: web2/fan warning"),
        "{text}"
    );
    assert!(
        !text.contains("web1/cpu") && !text.contains("web1/fan"),
        "{text}"
    );
    assert_eq!(desk.stage("web1/fan"), "hidden by home.web1/node-down");
    // What was told is told to be over, hidden or not.
    desk.over("web1/cpu");
    assert_eq!(desk.told(10), ["+5 ops resolved rule cpu: web1/cpu over"]);
    desk.over("web1/node-down");
    desk.wait(30);
    assert_eq!(desk.stage("web1/fan"), "settling after what hid it");
    desk.over("web1/disk");
    let told = desk.told(60);
    assert!(
        told.contains(&"+35 ops firing rule fan: web1/fan warning".to_owned()),
        "{told:?}"
    );
    assert!(!told.join("").contains("disk"), "{told:?}");
}

#[test]
fn an_inhibition_of_ones_own_compares_what_it_is_told_to() {
    let inhibit = r#"
        [[inhibit]]
        source = { rules = ["switch-down"] }
        target = { rules = ["*"] }
        equal = ["labels.rack"]
        [[inhibit]]
        source = { severities = ["critical"] }
        target = { severities = ["warning"] }
        equal = ["node", "instance"]
    "#;
    let mut desk = desk(&format!("{OPS}{inhibit}"));
    desk.put("sw1/switch-down", Critical, &[("rack", "7")]);
    desk.put("sw2/switch-down", Critical, &[("rack", "7")]);
    desk.put("web1/cpu", Warning, &[("rack", "7")]);
    desk.put("web2/cpu", Warning, &[("rack", "8")]);
    desk.fire("db1/disk/data", Critical);
    desk.fire("db1/slow/data", Warning);
    desk.fire("db1/slow/log", Warning);
    desk.wait(10);
    let check = |text: &str, expected: &str| assert_eq!(desk.stage(text), expected, "{text}");
    check("web1/cpu", "hidden by home.sw1/switch-down");
    check("web2/cpu", "told");
    // Sources that are targets as well do not hide each other.
    check("sw1/switch-down", "told");
    check("sw2/switch-down", "told");
    check("db1/slow/data", "hidden by home.db1/disk/data");
    check("db1/slow/log", "told");
    desk.over("sw1/switch-down");
    desk.wait(1);
    // The other one hides it still; what the log said is not said anew.
    assert!(desk.stage("web1/cpu").starts_with("hidden by"));
    desk.put("sw2/switch-down", Critical, &[("rack", "8")]);
    desk.wait(1);
    assert_eq!(desk.stage("web1/cpu"), "settling after what hid it");
    assert_eq!(desk.stage("web2/cpu"), "hidden by home.sw2/switch-down");
}
