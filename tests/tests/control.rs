//! A publisher under remote control on the embedded broker, with the rights that each has there.

use std::net::SocketAddr;

use anyhow::ensure;
use hostbus_daemon::clock;
use hostbus_tests::folder::Folder;
use hostbus_tests::mosquitto::{Subscriber, Version};
use hostbus_tests::pipeline;
use hostbus_tests::service::Service;
use hostbus_tests::{poll, tool};
use hostbus_wire::codec::Map;
use hostbus_wire::control::{Command, ConfigDesired, ConfigReported, Reply};
use hostbus_wire::event::Event;
use hostbus_wire::health::{Health, HealthState};
use hostbus_wire::{Sample, decode, encode};
use serde::Serialize;
use serde::de::DeserializeOwned;

const NODE: &str = "hostbus/v1/home/web1";
const HEALTH: &str = "hostbus/v1/home/_system/publisher/web1";

/// A broker, and an admin who sees everything.
struct Bus {
    _broker: Service,
    address: SocketAddr,
    folder: Folder,
    admin: Subscriber,
}

impl Bus {
    fn start() -> Self {
        let folder = Folder::new();
        let (broker, address) = pipeline::start_broker(&folder);
        let admin = pipeline::account(&folder, address, "admin")
            .subscribe(&folder, Version::V5, &["#"])
            .ready();
        Self {
            _broker: broker,
            address,
            folder,
            admin,
        }
    }

    /// A publisher of the node `web1` with its own folder.
    fn publisher(&self, name: &str) -> Service {
        let program = tool::ours("hostbus-publisher");
        let secret = pipeline::credential(&self.folder, "home.web1");
        Service::new(name, &program, self.folder.path())
            .env("HOSTBUS_BUS__URL", format!("mqtt://{}", self.address))
            .env("HOSTBUS_BUS__USER", "home.web1")
            .env("HOSTBUS_BUS__PASSWORD_FILE", secret)
            .env("HOSTBUS_PUBLISHER__NODE", "web1")
            .env("HOSTBUS_PUBLISHER__INTERVAL_SECONDS", "3600")
            .env("HOSTBUS_PUBLISHER__OUTBOX__FOLDER", self.folder.join(name))
            .started()
    }

    #[track_caller]
    fn publish(&self, topic: &str, payload: &impl Serialize) {
        let payload = encode(payload).expect("a payload");
        let admin = pipeline::account(&self.folder, self.address, "admin");
        let said = admin.publish(&self.folder, Version::V5, topic, &payload);
        assert_eq!(said.code, Some(0), "{said:?}");
    }

    /// Waits for the first message on `topic` that is as wanted.
    #[track_caller]
    fn wait_for<T: DeserializeOwned>(&self, topic: &str, wanted: impl Fn(&T) -> bool) -> T {
        let message = self.admin.wait_for(topic, |message| {
            message.topic == topic && decode(&message.payload).is_ok_and(|read| wanted(&read))
        });
        decode(&message.payload).expect("it was read before")
    }
}

#[test]
fn an_admin_tunes_a_publisher_and_asks_it() {
    let bus = Bus::start();
    let _publisher = bus.publisher("publisher");
    let health = bus.wait_for(HEALTH, |_: &Health| true);
    assert_eq!((health.state, health.reason), (HealthState::Ok, None));

    let desired = ConfigDesired {
        revision: 3,
        interval_ms: Some(200),
        ..ConfigDesired::default()
    };
    bus.publish(&format!("{NODE}/config/desired"), &desired);
    let reported = format!("{NODE}/config/reported");
    let report = bus.wait_for(&reported, |report: &ConfigReported| report.revision == 3);
    assert!(report.refused.is_empty(), "{report:?}");
    assert_eq!(report.interval_ms, Some(200));
    bus.admin.wait_for("the third sample", |message| {
        message.topic == format!("{NODE}/metrics")
            && Sample::decode(&message.payload).is_ok_and(|sample| sample.seq == Some(3))
    });

    let command = Command {
        id: "1".to_owned(),
        expires: clock::unix_ms() + 60_000,
        args: Map::new(),
    };
    bus.publish(&format!("{NODE}/command/refresh"), &command);
    let reply = bus.wait_for(&format!("{NODE}/reply/1"), |_: &Reply| true);
    assert!(reply.ok, "{reply:?}");
}

#[test]
fn two_publishers_of_one_node_both_say_so() {
    let bus = Bus::start();
    let _one = bus.publisher("one");
    bus.wait_for(HEALTH, |_: &Health| true);
    let _two = bus.publisher("two");
    let topic = format!("{NODE}/events");
    poll::until("an event from each", || {
        let received = bus.admin.received();
        let events = received.iter().filter(|message| message.topic == topic);
        let kinds: Vec<String> = events
            .filter_map(|message| decode(&message.payload).ok())
            .map(|event: Event| event.kind)
            .collect();
        ensure!(kinds == ["node-in-use", "node-in-use"], "{kinds:?}");
        Ok(())
    });
    bus.wait_for(HEALTH, |health: &Health| {
        health.state == HealthState::Degraded
    });
}
