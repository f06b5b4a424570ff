//! What stands in Redis once and does not come by itself, written again when it is gone: after a FLUSHALL,
//! or a failover to an empty server. And asked for again when it came while there was no room for it.

use std::sync::Arc;
use std::time::Duration;

use hostbus_client::Sender;
use hostbus_store::{Describer, StoreError};
use hostbus_wire::QoS;
use tokio::time::{MissedTickBehavior, interval};
use tracing::{info, warn};

use crate::counters::Counters;

/// How often Redis is asked.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// How soon again, until the meaning of the fields stands there.
const FIRST_LOOKS: Duration = Duration::from_secs(1);

/// Keeps the meaning of the fields in Redis. Where that is gone, so are inventories and states: they are
/// asked for again.
#[derive(Debug)]
pub struct Restorer {
    describer: Describer,
    sender: Sender,
    retained: Vec<(String, QoS)>,
    /// We wrote the fields.
    written: bool,
    /// Inventories and states are to be asked for.
    to_ask: bool,
    told: bool,
    counters: Arc<Counters>,
}

impl Restorer {
    /// One that subscribes once more to the filters `retained` when Redis was emptied.
    #[must_use]
    pub fn new(
        describer: Describer,
        sender: Sender,
        retained: Vec<(String, QoS)>,
        counters: Arc<Counters>,
    ) -> Self {
        Self {
            describer,
            sender,
            retained,
            written: false,
            to_ask: false,
            told: false,
            counters,
        }
    }

    /// Looks until it is dropped. That Redis is away is the writer's to tell.
    pub async fn run(mut self) {
        let mut look = interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            look.tick().await;
            if let Err(error) = self.look().await {
                let away = matches!(error, StoreError::Unavailable { .. } | StoreError::Full);
                if !away && !std::mem::replace(&mut self.told, true) {
                    warn!(%error, "the meaning of the fields can't be kept in redis");
                }
            }
            if !self.written {
                look.reset_after(FIRST_LOOKS);
            }
        }
    }

    async fn look(&mut self) -> Result<(), StoreError> {
        if !self.written || self.describer.known_fields().await? == 0 {
            self.describer.fields().await?;
            if std::mem::replace(&mut self.written, true) {
                info!("redis was emptied; inventories and states are asked for again");
                self.to_ask = true;
            }
        }
        if self.counters.take_missed() {
            info!("redis was away for long; inventories and states are asked for again");
            self.to_ask = true;
        }
        // Without a connection all comes with the next one, and once more then.
        let mut asked = self.retained.iter();
        if self.to_ask && asked.all(|(filter, qos)| self.sender.subscribe(filter, *qos).is_ok()) {
            self.to_ask = false;
        }
        Ok(())
    }
}
