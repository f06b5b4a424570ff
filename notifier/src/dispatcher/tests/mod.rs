//! What the dispatcher does, seen from outside.

use super::*;

#[test]
fn nothing_is_told_before_the_bus_was_heard() {
    let channels = ["ops".to_owned()];
    let mut dispatcher = Dispatcher::new(Routing::new(&[], &[], &channels).unwrap());
    let key = AlertKey {
        node: "home.web1".parse().unwrap(),
        rule: "cpu".into(),
        instance: None,
    };
    let alert = Alert {
        since: 5,
        ..Alert::default()
    };
    dispatcher.alert(key.clone(), Some(alert), 1_000).unwrap();
    assert!(dispatcher.tick(60_000).notices.is_empty());
    dispatcher.synced(60_000);
    let tick = dispatcher.tick(60_000);
    assert_eq!(tick.notices.len(), 1);
    assert_eq!(tick.notices[0].lines[0].key, key);
}
