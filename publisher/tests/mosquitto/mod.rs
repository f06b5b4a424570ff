//! Mosquitto as the broker, and a client that watches what goes over it.

#![expect(clippy::unwrap_used, reason = "a test may panic, its helpers too")]

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use hostbus_client::{BusConfig, Connection, Event, Message, Options};
use hostbus_daemon::{CancellationToken, Running};
use hostbus_publisher::outbox::{OutboxConfig, Persist};
use hostbus_publisher::{Config, Error};
use hostbus_wire::QoS;
use tokio::time::timeout;

/// Longer than a publisher waits for settings that stand on the bus.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);
pub(crate) const NODE: &str = "hostbus/v1/home/web1";

pub(crate) struct Broker {
    port: u16,
    process: Child,
}

impl Broker {
    pub(crate) fn start() -> Self {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        Self {
            port,
            process: Self::run(port),
        }
    }

    fn run(port: u16) -> Child {
        // Without a file of settings mosquitto takes anonymous clients, on loopback only.
        let process = Command::new("mosquitto")
            .args(["-p", &port.to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("mosquitto is needed for this test: apt-get install mosquitto");
        let start = Instant::now();
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            assert!(
                start.elapsed() < DEADLINE,
                "mosquitto does not listen on {port}"
            );
            std::thread::yield_now();
        }
        process
    }

    pub(crate) fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    pub(crate) fn restart(&mut self) {
        self.process = Self::run(self.port);
    }

    pub(crate) fn bus(&self) -> BusConfig {
        BusConfig {
            url: format!("mqtt://127.0.0.1:{}", self.port),
            ..BusConfig::default()
        }
    }

    /// A publisher that samples every `interval_seconds`.
    pub(crate) async fn publisher(&self, interval_seconds: f64) -> Running<Error> {
        hostbus_publisher::start(
            config(interval_seconds),
            self.bus(),
            CancellationToken::new(),
        )
        .await
        .unwrap()
    }

    pub(crate) fn watch(&self, what: &str) -> Connection {
        let options = Options {
            component: "watcher".to_owned(),
            filters: vec![(format!("{NODE}/{what}"), QoS::AtLeastOnce)],
            will: None,
            ..Options::default()
        };
        Connection::open(&self.bus(), options).unwrap()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

pub(crate) fn config(interval_seconds: f64) -> Config {
    Config {
        node: Some("web1".parse().unwrap()),
        interval_seconds,
        outbox: OutboxConfig {
            persist: Persist::Never,
            ..OutboxConfig::default()
        },
        ..Config::default()
    }
}

pub(crate) async fn next_message(connection: &mut Connection) -> Message {
    loop {
        if let Event::Message(message) = connection.next().await {
            return message;
        }
    }
}

/// The first message on the node's topic `what` that `wanted` makes something of.
pub(crate) async fn find<T>(
    connection: &mut Connection,
    what: &str,
    wanted: impl Fn(&Message) -> Option<T>,
) -> T {
    find_at(connection, &format!("{NODE}/{what}"), wanted).await
}

/// The first message on `topic` that `wanted` makes something of.
pub(crate) async fn find_at<T>(
    connection: &mut Connection,
    topic: &str,
    wanted: impl Fn(&Message) -> Option<T>,
) -> T {
    let search = async {
        loop {
            let message = next_message(connection).await;
            if message.topic == topic
                && let Some(found) = wanted(&message)
            {
                return found;
            }
        }
    };
    timeout(DEADLINE, search)
        .await
        .unwrap_or_else(|_| panic!("nothing as wanted on {topic}"))
}
