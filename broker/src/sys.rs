//! The broker's own figures, retained under `$SYS/broker/` in the customary names, as plain text.
//!
//! ```text
//! version  uptime ("17 seconds")  clients/connected  clients/total (absent sessions included)
//! messages/received  messages/sent  bytes/received  bytes/sent  subscriptions/count
//! retained messages/count  publish/messages/dropped  publish/messages/dropped/<cause>
//! publish/messages/refused (no right)  connects/refused (CONNECT answered with no)
//! connections/refused/<cause> (closed before that)
//! ```

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::counters::{Drop, Refusal};
use crate::hub::Hub;
use crate::message::Message;

/// How often sessions and wills are looked after.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// How often expired retained messages are removed.
const RETAINED_SWEEP_INTERVAL: Duration = Duration::from_secs(60);

/// Publishes the figures and ends what is over, until `token` is cancelled.
pub(crate) async fn tick(hub: &Hub, token: CancellationToken) {
    let mut figures = tokio::time::interval(Duration::from_secs(hub.config().sys_interval_seconds));
    let mut sweep = tokio::time::interval(SWEEP_INTERVAL);
    let mut retained = tokio::time::interval(RETAINED_SWEEP_INTERVAL);
    loop {
        tokio::select! {
            () = token.cancelled() => return,
            _ = figures.tick() => publish(hub),
            now = sweep.tick() => hub.sweep(now.into_std()),
            now = retained.tick() => hub.retained().sweep(now.into_std()),
        }
    }
}

fn publish(hub: &Hub) {
    let counters = hub.counters();
    let (sessions, _) = hub.session_counts();
    let uptime = format!("{} seconds", hub.started().elapsed().as_secs());
    let version = format!("hostbus-broker {}", env!("CARGO_PKG_VERSION"));
    let number = |topic: &'static str, value: u64| (topic, value.to_string());
    let dropped = |topic: &'static str, cause: Drop| (topic, counters.dropped(cause).to_string());
    let figures = [
        ("$SYS/broker/version", version),
        ("$SYS/broker/uptime", uptime),
        number(
            "$SYS/broker/clients/connected",
            counters.clients_connected.get(),
        ),
        number("$SYS/broker/clients/total", sessions as u64),
        number(
            "$SYS/broker/messages/received",
            counters.messages_received.get(),
        ),
        number("$SYS/broker/messages/sent", counters.messages_sent.get()),
        number("$SYS/broker/bytes/received", counters.bytes_received.get()),
        number("$SYS/broker/bytes/sent", counters.bytes_sent.get()),
        number(
            "$SYS/broker/subscriptions/count",
            hub.subscriptions().load().count() as u64,
        ),
        number(
            "$SYS/broker/retained messages/count",
            hub.retained().len() as u64,
        ),
        number(
            "$SYS/broker/connects/refused",
            counters.connects_refused.get(),
        ),
        number(
            "$SYS/broker/publish/messages/refused",
            counters.publishes_refused.get(),
        ),
        number(
            "$SYS/broker/publish/messages/dropped",
            counters.dropped_total(),
        ),
        dropped(
            "$SYS/broker/publish/messages/dropped/queue-full",
            Drop::QueueFull,
        ),
        dropped(
            "$SYS/broker/publish/messages/dropped/absent-queue-full",
            Drop::AbsentQueueFull,
        ),
        dropped(
            "$SYS/broker/publish/messages/dropped/expired",
            Drop::Expired,
        ),
        dropped(
            "$SYS/broker/publish/messages/dropped/too-large",
            Drop::TooLarge,
        ),
        dropped(
            "$SYS/broker/publish/messages/dropped/retained-full",
            Drop::RetainedFull,
        ),
    ];
    for (topic, value) in figures {
        hub.publish(Message::own(topic, value));
    }
    for cause in Refusal::ALL {
        let refused = counters.connections_refused(cause);
        hub.publish(Message::own(refused_topic(cause), refused.to_string()));
    }
}

fn refused_topic(cause: Refusal) -> &'static str {
    match cause {
        Refusal::Full => "$SYS/broker/connections/refused/full",
        Refusal::Crowded => "$SYS/broker/connections/refused/crowded",
        Refusal::TooOften => "$SYS/broker/connections/refused/too-often",
        Refusal::TooSlow => "$SYS/broker/connections/refused/too-slow",
        Refusal::Proxy => "$SYS/broker/connections/refused/proxy",
        Refusal::Tls => "$SYS/broker/connections/refused/tls",
        Refusal::WebSocket => "$SYS/broker/connections/refused/websocket",
    }
}
