//! The broker as two client libraries that share no code with ours see it: mosquitto's, and paho
//! for Python. Each in MQTT 3.1.1 and 5.0.

use std::net::SocketAddr;

use anyhow::ensure;
use hostbus_tests::folder::Folder;
use hostbus_tests::mosquitto::{Account, VERSIONS, Version};
use hostbus_tests::service::Service;
use hostbus_tests::{pipeline, poll, python, tool};

/// A broker and its admin.
struct Bus {
    _broker: Service,
    address: SocketAddr,
    folder: Folder,
    account: Account,
    version: Version,
}

impl Bus {
    fn start(version: Version) -> Self {
        let folder = Folder::new();
        let (broker, address) = pipeline::start_broker(&folder);
        let account = pipeline::account(&folder, address, "admin");
        Self {
            _broker: broker,
            address,
            folder,
            account,
            version,
        }
    }

    /// One of mosquitto's programs, logged in.
    fn client(&self, program: &str, arguments: &[&str]) -> Service {
        let path = tool::of_system(program, "mosquitto-clients");
        // Into a file it would write in large blocks, and late.
        let stdbuf = tool::of_system("stdbuf", "coreutils");
        Service::new(program, &stdbuf, self.folder.path())
            .args(["-oL"])
            .args([path])
            .args(self.account.arguments(self.version))
            .args(arguments)
    }

    /// A subscriber whose subscriptions stand. It prints QoS, retain, topic and payload.
    #[track_caller]
    fn subscribe(&self, arguments: &[&str]) -> Service {
        let subscriber = self
            .client("mosquitto_sub", &["-d", "-F", "> %q %r %t %p"])
            .args(arguments)
            .started();
        poll::until("the acknowledgement of a subscription", || {
            let text = subscriber.stdout();
            ensure!(text.contains("received SUBACK"), "{}", subscriber.stderr());
            Ok(())
        });
        subscriber
    }

    /// Publishes, and expects that to be acknowledged.
    #[track_caller]
    fn publish(&self, arguments: &[&str]) {
        let finished = self.client("mosquitto_pub", arguments).finish();
        let result = (finished.code, finished.stderr.as_str());
        assert_eq!(result, (Some(0), ""), "{arguments:?}");
    }
}

/// The messages that a subscriber printed so far.
fn lines(subscriber: &Service) -> Vec<String> {
    let text = subscriber.stdout();
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let found = whole.lines().filter_map(|line| line.strip_prefix("> "));
    found.map(str::to_owned).collect()
}

/// Waits until a subscriber has printed these messages, and no others.
#[track_caller]
fn expect(subscriber: &Service, expected: &[&str]) {
    poll::until("the messages of a subscriber", || {
        let found = lines(subscriber);
        ensure!(found.len() >= expected.len(), "{found:?}");
        Ok(())
    });
    assert_eq!(lines(subscriber), expected);
}

#[test]
fn mosquitto_clients_exchange_every_qos() {
    for version in VERSIONS {
        let bus = Bus::start(version);
        for granted in ["0", "1", "2"] {
            let subscriber = bus.subscribe(&["-q", granted, "-t", "a/+/c", "-t", "a/#"]);
            for published in ["0", "1", "2"] {
                bus.publish(&["-q", published, "-t", "a/b/c", "-m", published]);
                let qos = granted.min(published);
                poll::until("a message", || {
                    let found = lines(&subscriber);
                    let wanted = format!("{qos} 0 a/b/c {published}");
                    ensure!(found.contains(&wanted), "{found:?}");
                    Ok(())
                });
            }
            // The broker's health may have come too.
            let found = lines(&subscriber);
            let messages = found.iter().filter(|line| line.contains(" a/b/c "));
            assert_eq!(messages.count(), 3, "overlapping, and yet once");
        }
    }
}

#[test]
fn mosquitto_clients_keep_and_clear_retained_messages() {
    for version in VERSIONS {
        let bus = Bus::start(version);
        bus.publish(&["-r", "-q", "1", "-t", "kept", "-m", "one"]);
        bus.publish(&["-r", "-q", "2", "-t", "kept", "-m", "two"]);
        bus.publish(&["-r", "-q", "1", "-t", "other", "-m", "other"]);
        let subscriber = bus.subscribe(&["-q", "2", "-t", "kept"]);
        expect(&subscriber, &["2 1 kept two"]);
        bus.publish(&["-r", "-n", "-q", "1", "-t", "kept"]);
        expect(&subscriber, &["2 1 kept two", "1 0 kept "]);
        let subscriber = bus.subscribe(&["-q", "2", "-t", "kept", "-t", "other"]);
        expect(&subscriber, &["1 1 other other"]);
    }
}

#[test]
fn mosquitto_clients_leave_a_will() {
    for version in VERSIONS {
        let bus = Bus::start(version);
        let witness = bus.subscribe(&["-q", "2", "-t", "will"]);
        let will = ["--will-topic", "will", "--will-payload", "gone"];
        let more = ["--will-qos", "2", "--will-retain", "-t", "any"];
        let with_will = [&will[..], &more[..]].concat();
        let leaving = bus.client("mosquitto_sub", &["-E"]).args(&with_will);
        assert_eq!(leaving.finish().code, Some(0));
        bus.publish(&["-q", "1", "-t", "will", "-m", "no will so far"]);
        expect(&witness, &["1 0 will no will so far"]);
        let mut dying = bus.subscribe(&with_will);
        dying.kill();
        expect(&witness, &["1 0 will no will so far", "2 0 will gone"]);
        let late = bus.subscribe(&["-q", "2", "-t", "will"]);
        expect(&late, &["2 1 will gone"]);
    }
}

#[test]
fn a_mosquitto_client_finds_what_came_while_it_was_away() {
    for version in VERSIONS {
        let bus = Bus::start(version);
        let lasting = ["-c", "-i", "lasting", "-q", "2", "-t", "a"];
        let first = bus.client("mosquitto_sub", &["-E"]).args(lasting).finish();
        assert_eq!(first.code, Some(0), "{}", first.stderr);
        for payload in ["1", "2", "3"] {
            bus.publish(&["-q", "2", "-t", "a", "-m", payload]);
        }
        let mut again = bus.subscribe(&lasting);
        expect(&again, &["2 0 a 1", "2 0 a 2", "2 0 a 3"]);
        // What it has completed does not come again.
        again.interrupt(poll::DEADLINE);
        bus.publish(&["-q", "1", "-t", "a", "-m", "4"]);
        let again = bus.subscribe(&lasting);
        expect(&again, &["1 0 a 4"]);
    }
}

#[test]
fn mosquitto_clients_share_a_subscription() {
    for version in VERSIONS {
        let bus = Bus::start(version);
        let shared = ["-q", "1", "-t", "$share/group/load/+"];
        let members = [bus.subscribe(&shared), bus.subscribe(&shared)];
        let alone = bus.subscribe(&["-q", "1", "-t", "load/#"]);
        for number in 0..20 {
            let topic = format!("load/{number}");
            bus.publish(&["-q", "1", "-t", &topic, "-m", "x"]);
        }
        poll::until("20 messages", || {
            let shared: usize = members.iter().map(|member| lines(member).len()).sum();
            let found = (shared, lines(&alone).len());
            ensure!(found == (20, 20), "{found:?}");
            Ok(())
        });
        let mut all: Vec<String> = members.iter().flat_map(lines).collect();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 20, "each to one member");
        for member in &members {
            assert!(lines(member).len() >= 4, "{:?}", lines(member));
        }
    }
}

#[test]
fn mosquitto_rr_gets_its_answer() {
    for version in VERSIONS {
        let bus = Bus::start(version);
        let responder = bus.subscribe(&["-q", "1", "-t", "ask", "-F", "> %p|%R|%D"]);
        let arguments = ["-q", "1", "-t", "ask", "-e", "answer/here", "-m", "how"];
        let data = ["-D", "publish", "correlation-data", "number 7"];
        let v5 = version == Version::V5;
        let asking = bus.client("mosquitto_rr", &arguments);
        let asking = asking.args(if v5 { &data[..] } else { &[] }).started();
        let expected = if v5 {
            "how|answer/here|number 7"
        } else {
            "how||"
        };
        expect(&responder, &[expected]);
        let mut answer = vec!["-q", "1", "-t", "answer/here", "-m", "well"];
        answer.extend(if v5 { &data[..] } else { &[] });
        bus.publish(&answer);
        let finished = asking.finished();
        let got = (finished.code, finished.stdout.as_str());
        assert_eq!(got, (Some(0), "well\n"), "{}", finished.stderr);
    }
}

#[test]
fn paho_finds_what_it_expects_of_a_broker() {
    for version in VERSIONS {
        let bus = Bus::start(version);
        let (host, port) = (bus.address.ip().to_string(), bus.address.port().to_string());
        let arguments = [
            &*host,
            &port,
            &bus.account.user,
            &bus.account.password,
            version.as_str(),
        ];
        let said = python::run("broker.py", &arguments, "");
        assert_eq!(said.trim(), "passed");
    }
}
