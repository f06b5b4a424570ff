//! What the MQTT standards ask of a server, statement by statement. `docs/mqtt-conformance.md`
//! says which test holds which statement, and `table` that it says so for all of them.
//!
//! Each packet that the broker sends in any of these tests is read strictly, see `raw::answer`.

#![expect(clippy::unwrap_used, reason = "test code")]

#[path = "../raw/mod.rs"]
mod raw;

mod aliases;
mod connect;
mod delivery;
mod disconnect;
mod expiry;
mod flow_control;
mod keep_alive;
mod outgoing_aliases;
mod packet_size;
mod packets;
mod properties;
mod publish;
mod qos2_in;
mod qos2_out;
mod reason_strings;
mod retained;
mod sessions;
mod shared;
mod subscribe;
mod table;
mod topics;
mod unsubscribe;
mod utf8;
mod wills;

use std::ops::Deref;

use hostbus_broker::Config;
use raw::Broker;
use tempfile::TempDir;

/// A broker that keeps its state on disk: so most brokers run, and what must survive is answered
/// later than the rest. Other tests go without one.
struct OnDisk {
    broker: Broker,
    _folder: TempDir,
}

impl Deref for OnDisk {
    type Target = Broker;

    fn deref(&self) -> &Broker {
        &self.broker
    }
}

async fn broker(change: impl FnOnce(&mut Config)) -> OnDisk {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().to_owned();
    let broker = raw::broker(|config| {
        config.data = Some(data);
        change(config);
    });
    OnDisk {
        broker: broker.await,
        _folder: folder,
    }
}
