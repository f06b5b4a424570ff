//! The time from a connect until all that stood on the bus was heard, and nodes that were removed.

use super::*;

#[test]
fn what_stands_is_heard_even_if_our_own_word_overtakes_it() {
    let mut site = Site::new();
    let stamp = site.now.unix_ms;
    site.engine.connected(stamp, site.now);
    let health = |ts| encode(&crate::health::stopped(ts)).unwrap();
    let own = "hostbus/v1/home/_system/notifier/main";
    // Of the run before: no end.
    site.hear(own, health(stamp - 1), true);
    assert!(!site.engine.asks());
    site.hear(own, health(stamp), false);
    assert!(site.engine.asks());
    site.engine.asked();
    assert!(!site.engine.asks());
    // The broker takes its time.
    site.steps(20);
    assert!(!site.engine.is_synced());
    let alert = b"{\"severity\": \"critical\"}".to_vec();
    site.hear("hostbus/v1/home/web1/alerts/x", alert, true);
    site.steps(20);
    // Our next health goes out before the end has come.
    site.hear(own, health(stamp + 10_000), false);
    assert!(!site.engine.is_synced());
    site.hear(own, health(stamp + 10_000), true);
    site.steps(4);
    assert!(site.engine.is_synced());
    assert_eq!(site.engine.alerts(), (0, 1));
}

#[test]
fn a_broker_that_keeps_our_health_from_us_does_not_stop_us() {
    let mut site = Site::new();
    site.engine.connected(site.now.unix_ms, site.now);
    site.steps(90);
    assert!(!site.engine.is_synced());
    site.steps(20);
    assert!(site.engine.is_synced());
}

#[test]
fn a_node_that_was_removed_takes_its_alerts_along() {
    let mut site = Site::new();
    site.connect();
    site.steps(20);
    site.sample(90.0);
    site.steps(2);
    site.hear("hostbus/v1/home/web1/status", Vec::new(), false);
    site.steps(2);
    let alert = site.said.iter().find(|said| said.kind == Kind::Alert);
    assert_eq!(alert.unwrap().payload, b"");
    assert_eq!(site.engine.alerts(), (0, 0));
}

#[test]
fn a_node_that_is_removed_while_all_is_heard_is_not_missed_later() {
    for removed in [false, true] {
        let mut site = Site::new();
        let mut book = Book::new(false);
        let rule = b"[[rule]]\nname = \"down\"\nmetric = \"node.down\"\n";
        book.set(Origin::File("x.toml".into()), rule).unwrap();
        site.engine.set_rules(book.rules(), 0);
        site.engine.connected(site.now.unix_ms, site.now);
        let payload = site.payload(50.0);
        site.hear("hostbus/v1/home/web1/metrics", payload, true);
        if removed {
            site.hear("hostbus/v1/home/web1/status", Vec::new(), false);
        }
        site.steps(600);
        assert!(site.engine.is_synced() && site.engine.is_active());
        let missed = site.said.iter().any(|said| said.kind == Kind::Alert);
        assert_eq!(missed, !removed);
    }
}
