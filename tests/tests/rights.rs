//! Who may do what on the bus, tried with mosquitto's clients in MQTT 3.1.1 and 5.0.

use std::net::SocketAddr;

use hostbus_tests::folder::Folder;
use hostbus_tests::mosquitto::{Account, Subscriber, VERSIONS, Version};
use hostbus_tests::pipeline;
use hostbus_tests::poll;
use hostbus_tests::service::Service;

/// A broker with the users of the pipeline.
struct Bus {
    _broker: Service,
    address: SocketAddr,
    folder: Folder,
}

impl Bus {
    fn start() -> Self {
        let folder = Folder::new();
        let (broker, address) = pipeline::start_broker(&folder);
        Self {
            _broker: broker,
            address,
            folder,
        }
    }

    fn account(&self, user: &str) -> Account {
        pipeline::account(&self.folder, self.address, user)
    }

    /// Somebody who sees everything.
    fn witness(&self) -> Subscriber {
        self.account("admin")
            .subscribe(&self.folder, Version::V5, &["#"])
            .ready()
    }

    /// Publishes as `user` and expects it to be accepted.
    #[track_caller]
    fn publish(&self, user: &str, topic: &str, payload: &str) {
        let finished =
            self.account(user)
                .publish(&self.folder, Version::V5, topic, payload.as_bytes());
        assert_eq!(
            (finished.code, finished.stderr.as_str()),
            (Some(0), ""),
            "{topic}"
        );
    }

    /// Publishes as `user`, in 5.0 expects to be told that it is not allowed, and in both versions
    /// that nobody hears of it.
    #[track_caller]
    fn publish_in_vain(&self, witness: &Subscriber, user: &str, topic: &str) {
        for version in VERSIONS {
            let finished = self
                .account(user)
                .publish(&self.folder, version, topic, b"forbidden");
            let told = finished.stderr.to_lowercase().contains("not authorized");
            assert!(
                told || version == Version::V311,
                "{user} {topic} {finished:?}"
            );
        }
        // What comes later has passed the broker later.
        let marker = format!(
            "hostbus/v1/home/web1/reply/after-{}",
            topic.replace('/', "-")
        );
        self.publish("admin", &marker, "marker");
        witness.wait_for("the marker", |message| message.topic == marker);
        let heard = witness.received();
        assert!(
            heard.iter().all(|message| message.payload != b"forbidden"),
            "{user} {topic}"
        );
    }
}

#[test]
fn a_wrong_password_is_refused() {
    let bus = Bus::start();
    let viewer = bus.account("viewer");
    let stranger = Account {
        user: "stranger".to_owned(),
        ..viewer.clone()
    };
    let other = Account {
        user: "admin".to_owned(),
        ..viewer.clone()
    };
    for account in [
        viewer.with_password("wrong"),
        viewer.with_password(""),
        stranger,
        other,
    ] {
        for version in VERSIONS {
            let topic = "hostbus/v1/home/web1/metrics";
            let publish = account.publish(&bus.folder, version, topic, b"x");
            let subscribe = account.subscription(&bus.folder, version, &["#"]).finish();
            for finished in [publish, subscribe] {
                let said = format!("{}{}", finished.stdout, finished.stderr).to_lowercase();
                let refused = ["not authori", "bad user name"]
                    .iter()
                    .any(|why| said.contains(why));
                assert!(
                    refused && finished.code != Some(0),
                    "{version:?} {finished:?}"
                );
            }
        }
    }
    // The right one is taken, so it was the password.
    let _ = viewer.subscribe(&bus.folder, Version::V311, &["#"]).ready();
}

#[test]
fn nobody_comes_in_without_a_user_name() {
    let bus = Bus::start();
    let program = hostbus_tests::tool::of_system("mosquitto_sub", "mosquitto-clients");
    for version in VERSIONS {
        let finished = Service::new("mosquitto_sub", &program, bus.folder.path())
            .args(["-V", version.as_str(), "-t", "#", "-C", "1"])
            .args([
                "-h",
                &bus.address.ip().to_string(),
                "-p",
                &bus.address.port().to_string(),
            ])
            .finish();
        assert_ne!(finished.code, Some(0), "{finished:?}");
        assert!(
            finished.stderr.to_lowercase().contains("not authori"),
            "{finished:?}"
        );
    }
}

#[test]
fn a_publisher_writes_its_own_topics_only() {
    let bus = Bus::start();
    let witness = bus.witness();
    for topic in [
        "hostbus/v1/home/web2/metrics",
        "hostbus/v1/home/web2/status",
        "hostbus/v1/other/web1/metrics",
        "hostbus/v1/home/web1/committed",
        "hostbus/v1/home/web1/config/desired",
        "hostbus/v1/home/web1/command/refresh",
        "hostbus/v1/home/web2/config/reported",
        "hostbus/v1/home/web2/reply/7",
        "hostbus/v1/home/_system/ingester/main",
        "hostbus/v1/home/_system/publisher/web2",
        "hostbus/v1/home/web1/metrics/more",
        "other/web1/metrics",
    ] {
        bus.publish_in_vain(&witness, "home.web1", topic);
    }
    for own in [
        "web1/metrics",
        "web1/status",
        "web1/info",
        "web1/details/top",
        "web1/events",
        "web1/config/reported",
        "web1/reply/7",
        "_system/publisher/web1",
    ] {
        let topic = format!("hostbus/v1/home/{own}");
        bus.publish("home.web1", &topic, own);
        witness.wait_for(own, |message| message.topic == topic);
    }
}

#[test]
fn a_publisher_hears_what_is_meant_for_it_and_nothing_else() {
    let bus = Bus::start();
    let own = [
        "web1/committed",
        "web1/config/desired",
        "web1/command/refresh",
        "web1/info",
    ];
    let others = [
        "web2/committed",
        "web2/config/desired",
        "web2/command/refresh",
        "web2/info",
        "web1/metrics",
        "web1/config/reported",
        "web1/reply/7",
        "_system/publisher/web1",
        "_rules/disk-full",
    ]
    .map(|topic| format!("hostbus/v1/home/{topic}"));
    for version in VERSIONS {
        let publisher = bus
            .account("home.web1")
            .subscribe(&bus.folder, version, &["#"])
            .ready();
        for topic in &others {
            bus.publish("admin", topic, "not for it");
        }
        for topic in own {
            let topic = format!("hostbus/v1/home/{topic}");
            bus.publish("admin", &topic, "for it");
            publisher.wait_for(&topic, |message| message.topic == topic);
        }
        let heard = publisher.received();
        assert_eq!(heard.len(), own.len(), "{version:?} {heard:?}");
        for topic in &others {
            let narrow = bus
                .account("home.web1")
                .subscription(&bus.folder, version, &[topic]);
            let finished = narrow.finish();
            let said = format!("{}{}", finished.stdout, finished.stderr).to_lowercase();
            assert!(
                said.contains("all subscription requests were denied"),
                "{said}"
            );
        }
    }
}

#[test]
fn a_viewer_writes_nothing() {
    let bus = Bus::start();
    let witness = bus.witness();
    for topic in [
        "hostbus/v1/home/web1/metrics",
        "hostbus/v1/home/_silences/x",
        "anything",
        "hostbus/v1",
    ] {
        bus.publish_in_vain(&witness, "viewer", topic);
    }
}

#[test]
fn a_viewer_hears_what_hosts_tell_and_no_secrets() {
    let bus = Bus::start();
    let witness = bus.witness();
    let hidden = [
        "hostbus/v1/home/web1/config/desired",
        "hostbus/v1/home/web1/config/reported",
        "hostbus/v1/home/web1/command/refresh",
        "hostbus/v1/home/web1/reply/7",
        "hostbus/v1/home/_admin/revoke",
        "hostbus/v1/home/_admin/reply/7",
        "hostbus/v1/home/_enrol/token/request",
        "hostbus/v1/home/_enrol/token/grant",
    ];
    let open = [
        "hostbus/v1/home/web1/metrics",
        "hostbus/v1/home/web1/info",
        "hostbus/v1/home/web1/alerts/disk-full",
        "hostbus/v1/home/_rules/disk-full",
        "hostbus/v1/home/web1/status",
    ];
    for version in VERSIONS {
        let filters = ["#", "hostbus/v1/+/+/#", "hostbus/v1/home/web1/+"];
        let viewer = bus
            .account("viewer")
            .subscribe(&bus.folder, version, &filters)
            .ready();
        for topic in hidden.iter().chain(&open) {
            bus.publish("admin", topic, version.as_str());
        }
        for topic in open {
            viewer.wait_for(topic, |message| message.topic == topic);
        }
        for topic in hidden {
            witness.wait_for(topic, |message| message.topic == topic);
            let heard = viewer.received();
            assert!(
                heard.iter().all(|message| message.topic != topic),
                "{version:?} {topic}"
            );
        }
        // A filter of which nothing is allowed is refused.
        for topic in hidden {
            let narrow = bus
                .account("viewer")
                .subscription(&bus.folder, version, &[topic]);
            let finished = narrow.finish();
            let said = format!("{}{}", finished.stdout, finished.stderr).to_lowercase();
            assert!(
                said.contains("all subscription requests were denied"),
                "{said}"
            );
        }
    }
}

#[test]
fn a_will_is_a_publish_like_any_other() {
    let bus = Bus::start();
    let witness = bus.witness();
    let own = "hostbus/v1/home/web1/status";
    for version in VERSIONS {
        for (topic, text) in [
            ("hostbus/v1/home/web2/status", "forbidden"),
            (own, "my last word"),
        ] {
            let mut client = bus
                .account("home.web1")
                .subscription(&bus.folder, version, &["hostbus/v1/home/web1/committed"])
                .args(["--will-topic", topic, "--will-payload", text])
                .started();
            poll::until("a client with a will", || {
                let ended = client.ended().is_some();
                anyhow::ensure!(
                    ended || client.stdout().contains("received SUBACK"),
                    "no answer"
                );
                Ok(())
            });
            if client.is_running() {
                client.kill();
            }
        }
        witness.wait_for("the will", |message| message.payload == b"my last word");
        let marker = format!("hostbus/v1/home/web1/reply/{}", version.as_str());
        bus.publish("admin", &marker, "marker");
        witness.wait_for("the marker", |message| message.topic == marker);
        assert!(
            witness
                .received()
                .iter()
                .all(|message| message.payload != b"forbidden")
        );
    }
}
