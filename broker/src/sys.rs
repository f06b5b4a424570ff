//! The broker's own figures, retained under `$SYS/broker/` in the customary names, as plain text.
//!
//! ```text
//! version              "hostbus-broker 0.1.0"
//! uptime               "17 seconds"
//! publish/messages/dropped                    for any cause
//! load/<what>/1min, 5min, 15min               a minute, see `load`; "12.34"
//! heap/current, heap/maximum                  bytes, see `process`; what is highest is looked at
//!                                             each time the figures are told
//! ```
//! and the topics of all `figures`. A figure is published when it has changed.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::counters::{Counters, Drop};
use crate::figures::figures;
use crate::health;
use crate::hub::Hub;
use crate::load::{Load, SPANS};
use crate::message::Message;
use crate::process;

/// How often sessions and wills are looked after.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// How often expired retained messages are removed.
const RETAINED_SWEEP_INTERVAL: Duration = Duration::from_secs(60);

/// The present total of something.
type Total = fn(&Counters) -> u64;

/// What has an average, by its topic below `load/`.
const LOADS: [(&str, Total); 9] = [
    ("bytes/received", |c| c.bytes_received.get()),
    ("bytes/sent", |c| c.bytes_sent.get()),
    ("connections", |c| {
        c.connects_accepted.get() + c.connects_refused.get()
    }),
    ("messages/received", |c| c.packets_received.get()),
    ("messages/sent", |c| c.packets_sent.get()),
    ("publish/dropped", Counters::dropped_total),
    ("publish/received", |c| c.messages_received.get()),
    ("publish/sent", |c| c.messages_sent.get()),
    ("sockets", |c| c.connections_total.get()),
];

/// Publishes the figures and ends what is over, until `token` is cancelled.
pub(crate) async fn tick(hub: &Hub, token: CancellationToken) {
    let seconds = hub.config().sys_interval_seconds;
    let tells = seconds > 0;
    let mut figures = tokio::time::interval(Duration::from_secs(seconds.max(1)));
    let mut sweep = tokio::time::interval(SWEEP_INTERVAL);
    let mut retained = tokio::time::interval(RETAINED_SWEEP_INTERVAL);
    let mut topics = Topics::new(hub.started());
    loop {
        tokio::select! {
            () = token.cancelled() => break,
            now = figures.tick(), if tells => {
                topics.publish(hub, now.into_std());
                health::publish(hub);
            }
            now = sweep.tick() => hub.sweep(now.into_std()),
            now = retained.tick() => hub.retained().sweep(now.into_std()),
        }
    }
    if tells {
        health::stopped(hub);
    }
}

/// What was told last.
#[derive(Debug)]
struct Topics {
    told: HashMap<String, String>,
    /// Messages that were not retained for lack of room, so far.
    not_retained: u64,
    loads: [Load; LOADS.len()],
    loads_at: Instant,
    most_heap_bytes: u64,
}

impl Topics {
    fn new(started: Instant) -> Self {
        Self {
            told: HashMap::new(),
            not_retained: 0,
            loads: Default::default(),
            loads_at: started,
            most_heap_bytes: 0,
        }
    }

    /// Publishes what has changed.
    fn publish(&mut self, hub: &Hub, now: Instant) {
        // A figure may have been among those that found no room: all are told again.
        let not_retained = hub.counters().dropped(Drop::RetainedFull);
        if self.not_retained != not_retained {
            self.not_retained = not_retained;
            self.told.clear();
        }
        for (topic, value) in self.values(hub, now) {
            if self.told.get(&topic) != Some(&value) {
                let whole = format!("$SYS/broker/{topic}");
                hub.publish(Message::own(whole, value.clone()));
                self.told.insert(topic, value);
            }
        }
    }

    fn values(&mut self, hub: &Hub, now: Instant) -> Vec<(String, String)> {
        let counters = hub.counters();
        let uptime = hub.started().elapsed().as_secs();
        let version = format!("hostbus-broker {}", env!("CARGO_PKG_VERSION"));
        let mut values = vec![
            ("version".to_owned(), version),
            ("uptime".to_owned(), format!("{uptime} seconds")),
            (
                "publish/messages/dropped".to_owned(),
                counters.dropped_total().to_string(),
            ),
        ];
        for figure in figures(hub) {
            let topics = figure.topics.iter();
            values.extend(topics.map(|topic| ((*topic).to_owned(), figure.value.to_string())));
        }
        let interval = now.saturating_duration_since(self.loads_at);
        self.loads_at = now;
        for ((topic, total), load) in LOADS.into_iter().zip(&mut self.loads) {
            let averages = load.update(total(counters), interval);
            for ((span, _), average) in SPANS.into_iter().zip(averages) {
                values.push((format!("load/{topic}/{span}"), format!("{average:.2}")));
            }
        }
        if let Some(usage) = process::usage() {
            self.most_heap_bytes = self.most_heap_bytes.max(usage.anonymous_bytes);
            values.push(("heap/current".to_owned(), usage.anonymous_bytes.to_string()));
            values.push(("heap/maximum".to_owned(), self.most_heap_bytes.to_string()));
        }
        values
    }
}
