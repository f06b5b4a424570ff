//! The broker's own health at `_system/broker/<instance>`, as other parts of hostbus tell theirs:
//! CBOR, retained, with all figures as counters.

use hostbus_daemon::clock;
use hostbus_wire::codec::Map;
use hostbus_wire::health::{Health, HealthState};
use hostbus_wire::{EncodeError, SiteTopic, encode};

use crate::figures::{Figure, figures};
use crate::hub::Hub;
use crate::message::Message;

/// Tells that the broker serves, and how well.
pub(crate) fn publish(hub: &Hub) {
    let counters = hub.counters();
    let most = hub.limits().max_connections;
    let full = counters.connections.get() >= most as u64;
    let (state, reason) = if full {
        let reason = format!("all {most} connections are in use");
        (HealthState::Degraded, Some(reason))
    } else {
        (HealthState::Ok, None)
    };
    tell(hub, state, reason);
}

/// Says good-bye.
pub(crate) fn stopped(hub: &Hub) {
    tell(hub, HealthState::Stopped, None);
}

/// The key of a figure: its name, with the cause at its end.
pub(crate) fn name(figure: &Figure) -> String {
    match figure.cause {
        Some(cause) => format!("{}_{cause}", figure.name),
        None => figure.name.to_owned(),
    }
}

fn tell(hub: &Hub, state: HealthState, reason: Option<String>) {
    let config = hub.config();
    let topic = SiteTopic::System {
        component: "broker".into(),
        instance: config.instance.as_str().into(),
    };
    // Texts and numbers: nothing that CBOR can't say.
    if let Ok(payload) = payload(hub, state, reason) {
        let topic = topic.text(&config.root, &config.site);
        hub.publish(Message::own(topic, payload));
    }
}

fn payload(hub: &Hub, state: HealthState, reason: Option<String>) -> Result<Vec<u8>, EncodeError> {
    let matching = hub.counters().matching.measured();
    let mut counters: Map<u64> = figures(hub)
        .iter()
        .map(|figure| (name(figure), figure.value))
        .collect();
    counters.insert("matching_timed".to_owned(), matching.count());
    counters.insert("matching_timed_ns".to_owned(), matching.sum_ns);
    encode(&Health {
        ts: clock::unix_ms(),
        state,
        reason,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        counters,
    })
}
