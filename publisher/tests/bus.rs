//! The publisher on a real bus: mosquitto as the broker, and a client that keeps the ingester's
//! rules.

#![expect(clippy::unwrap_used, reason = "a test may panic, its helpers too")]

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use hostbus_client::{BusConfig, Connection, Event, Message, Options};
use hostbus_daemon::{CancellationToken, Running};
use hostbus_publisher::{Config, Error};
use hostbus_wire::committed::Committed;
use hostbus_wire::info::Info;
use hostbus_wire::{QoS, Sample, codec};
use tokio::time::timeout;

const DEADLINE: Duration = Duration::from_secs(20);
const NODE: &str = "hostbus/v1/home/web1";

struct Broker {
    port: u16,
    process: Child,
}

impl Broker {
    fn start() -> Self {
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

    fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    fn restart(&mut self) {
        self.process = Self::run(self.port);
    }

    fn bus(&self) -> BusConfig {
        BusConfig {
            url: format!("mqtt://127.0.0.1:{}", self.port),
            ..BusConfig::default()
        }
    }

    async fn publisher(&self) -> Running<Error> {
        hostbus_publisher::start(config(0.1), self.bus(), CancellationToken::new())
            .await
            .unwrap()
    }

    fn watch(&self, what: &str) -> Connection {
        let options = Options {
            component: "watcher".to_owned(),
            filters: vec![(format!("{NODE}/{what}"), QoS::AtLeastOnce)],
            will: None,
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

fn config(interval_seconds: f64) -> Config {
    Config {
        node: Some("web1".parse().unwrap()),
        interval_seconds,
        ..Config::default()
    }
}

async fn next_message(connection: &mut Connection) -> Message {
    loop {
        if let Event::Message(message) = connection.next().await {
            return message;
        }
    }
}

/// The first message on `what` that `wanted` makes something of.
async fn find<T>(
    connection: &mut Connection,
    what: &str,
    wanted: impl Fn(&Message) -> Option<T>,
) -> T {
    let topic = format!("{NODE}/{what}");
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

fn status<'w>(wanted: &'w str) -> impl Fn(&Message) -> Option<()> + 'w {
    move |message| (message.payload == wanted).then_some(())
}

fn sample(message: &Message) -> Option<Sample> {
    Some(Sample::decode(&message.payload).unwrap())
}

#[tokio::test]
async fn a_host_shows_up_is_described_and_says_good_bye() {
    let broker = Broker::start();
    let mut watcher = broker.watch("#");
    let publisher = broker.publisher().await;
    find(&mut watcher, "status", status("online")).await;
    let info: Info = find(&mut watcher, "info", |message| {
        Some(codec::decode(&message.payload).unwrap())
    })
    .await;
    assert_eq!(info.collectors["cpu"], "on");
    let first = find(&mut watcher, "metrics", sample).await;
    assert_eq!(first.place().unwrap().seq, 1);
    assert!(
        first.cpu.unwrap().usage_percent.is_some(),
        "the first sample has rates"
    );
    let second = find(&mut watcher, "metrics", sample).await;
    assert_eq!(second.place().unwrap().seq, 2);
    assert!(second.ts > first.ts);

    // As the will of an earlier connection that the broker fires late.
    let late_will = watcher.sender();
    late_will
        .publish(format!("{NODE}/status"), QoS::AtLeastOnce, true, "offline")
        .await
        .unwrap();
    find(&mut watcher, "status", status("offline")).await;
    find(&mut watcher, "status", status("online")).await;

    let stopping = Instant::now();
    publisher.stop().await.unwrap();
    assert!(
        stopping.elapsed() < Duration::from_millis(1500),
        "{:?}",
        stopping.elapsed()
    );
    find(&mut watcher, "status", status("offline")).await;

    // Who comes later finds the last word on each.
    let mut late = broker.watch("#");
    find(&mut late, "status", |message| {
        (message.retained && message.payload == "offline").then_some(())
    })
    .await;
    let mut late = broker.watch("metrics");
    let retained = find(&mut late, "metrics", sample).await.place().unwrap();
    assert!(retained.seq >= 2);
}

#[tokio::test]
async fn a_bus_that_is_away_at_the_start_is_waited_for() {
    let mut broker = Broker::start();
    broker.kill();
    let publisher = broker.publisher().await;
    broker.restart();
    let mut watcher = broker.watch("#");
    find(&mut watcher, "status", status("online")).await;
    find(&mut watcher, "metrics", sample).await;
    publisher.stop().await.unwrap();
}

/// Takes samples as the ingester does, until it has `count` of them.
async fn ingest(connection: &mut Connection, stored: &mut Vec<u64>, count: usize) {
    let sender = connection.sender();
    let ingesting = async {
        while stored.len() < count {
            let message = next_message(connection).await;
            let place = sample(&message).unwrap().place().unwrap();
            let last = stored.last().copied().unwrap_or(0);
            let resend = place.seq > last + 1 && place.seq != place.first;
            if place.seq > last && !resend {
                stored.push(place.seq);
            }
            let seq = stored.last().copied().unwrap_or(0);
            let mark = codec::encode(&Committed {
                boot: place.boot,
                seq,
                resend,
            })
            .unwrap();
            // A mark that gets lost with the connection is told again with the next sample.
            let _ = sender
                .publish(format!("{NODE}/committed"), QoS::AtMostOnce, true, mark)
                .await;
        }
    };
    timeout(DEADLINE, ingesting).await.expect("samples arrive");
}

#[tokio::test]
async fn no_sample_is_lost_or_stored_twice_when_the_broker_is_killed() {
    let mut broker = Broker::start();
    let mut ingester = broker.watch("metrics");
    let mut stored = Vec::new();
    let publisher = broker.publisher().await;
    for rounds in 1..=3 {
        ingest(&mut ingester, &mut stored, rounds * 10).await;
        broker.kill();
        broker.restart();
    }
    ingest(&mut ingester, &mut stored, 60).await;
    assert_eq!(stored, (1..=60).collect::<Vec<_>>());
    publisher.stop().await.unwrap();
}

#[tokio::test]
async fn a_reload_changes_a_running_publisher_and_a_bad_one_does_not() {
    let broker = Broker::start();
    let mut watcher = broker.watch("metrics");
    let hourly = config(3600.0);
    let token = CancellationToken::new();
    let (publisher, handle) = hostbus_publisher::start_with_handle(hourly, broker.bus(), token)
        .await
        .unwrap();
    let first = find(&mut watcher, "metrics", sample).await;
    assert!(first.cpu.is_some());

    let mut quick = config(0.1);
    quick.collectors.cpu.enabled = false;
    let mut bad = quick.clone();
    bad.interval_seconds = 0.0;
    let error = handle.reload(&bad).unwrap_err().to_string();
    assert!(error.contains("interval_seconds"), "{error}");
    assert!(handle.beats());

    handle.reload(&quick).unwrap();
    let later = find(&mut watcher, "metrics", |message| {
        sample(message).filter(|sample| sample.place().unwrap().seq >= 4)
    })
    .await;
    assert!(later.cpu.is_none() && later.memory.is_some());
    assert!(handle.beats(), "it answered the question before");
    publisher.stop().await.unwrap();
}
