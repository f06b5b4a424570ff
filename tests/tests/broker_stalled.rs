//! A subscriber that does not read: the broker's memory stays within its bound, what is dropped is
//! counted exactly, and everybody else is served as before.
//!
//! `HOSTBUS_STALLED_MESSAGES` sets how many messages of 400 bytes are published past it (60,000).

#![expect(clippy::print_stdout, reason = "figures that a person wants to see")]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use hostbus_tests::chaos::broker::Broker;
use hostbus_tests::chaos::cast::expect_no_violations;
use hostbus_tests::chaos::client::{Client, Event, Lost};
use hostbus_tests::chaos::packet::{Message, Version};
use hostbus_tests::chaos::stage::{Phase, Stage};
use hostbus_tests::chaos::watchdog::{Latencies, watch};
use hostbus_tests::random;

/// What one session may hold: the broker's default, written down here to compare with.
const QUEUE_BYTES: u64 = 16 * 1024 * 1024;

/// What the broker may need beyond the queue: buffers, and what the allocator keeps. In KiB.
const ALLOWANCE_KIB: u64 = 48 * 1024;

/// How long anything may take before a test fails.
const DEADLINE: Duration = Duration::from_secs(60);

/// How long the others may wait: a debug build on a busy machine is slow.
const MOST_WAIT: Duration = Duration::from_secs(5);

/// How often the others are looked at, and for how long before the flood.
const PULSE: Duration = Duration::from_millis(5);
const CALM: Duration = Duration::from_secs(2);

/// A broker, a subscriber that is about to stall, and how many messages to publish.
struct Scene {
    broker: Broker,
    reader: Client,
    messages: u64,
}

impl Scene {
    async fn begin(qos: u8, expiry_seconds: u32) -> Self {
        let limits = format!("queue_bytes = {QUEUE_BYTES}");
        let broker = Broker::start(&limits);
        let mut reader = Client::new(broker.address(), Version::V5, "stalled", expiry_seconds);
        reader.small = true;
        reader.withholds = true;
        reader.connect().await.expect("to connect");
        reader
            .subscribe(&[("stalled", qos)])
            .await
            .expect("to subscribe");
        let answer = reader.next(DEADLINE).await.expect("SUBACK");
        assert!(matches!(answer, Some(Event::Subscribed(..))), "{answer:?}");
        let messages = random::setting("HOSTBUS_STALLED_MESSAGES", 60_000);
        Self {
            broker,
            reader,
            messages,
        }
    }

    /// Publishes all messages past the reader, numbered from 0 on; the last is one more, the end.
    /// Tells how the others were served before and meanwhile, and checks the memory.
    async fn flood(&mut self, qos: u8) {
        let before = {
            let stage = Arc::new(Stage::new(self.broker.address(), 1, false));
            let others = tokio::spawn(watch(Arc::clone(&stage), PULSE, MOST_WAIT));
            tokio::time::sleep(CALM).await;
            end(&stage, others).await
        };
        let before_kib = self.broker.memory_kib();
        let stage = Arc::new(Stage::new(self.broker.address(), 1, false));
        let others = tokio::spawn(watch(Arc::clone(&stage), PULSE, MOST_WAIT));
        let most_kib = self.publish(qos).await;
        let during = end(&stage, others).await;
        let bound_kib = before_kib + QUEUE_BYTES / 1_024 + ALLOWANCE_KIB;
        println!(
            "QoS {qos}, {} messages past a stalled reader",
            self.messages
        );
        println!("others before: {before}");
        println!("others during: {during}");
        println!("memory before {before_kib} KiB, most {most_kib} KiB, bound {bound_kib} KiB");
        assert!(
            most_kib < bound_kib,
            "{most_kib} KiB, bound {bound_kib} KiB"
        );
    }

    async fn publish(&self, qos: u8) -> u64 {
        let address = self.broker.address();
        let mut client = Client::new(address, Version::V311, "flood", 0);
        client.most_under_way = 200;
        client.connect().await.expect("to connect");
        let mut most_kib = 0;
        for number in 0..=self.messages {
            let message = message(number, qos);
            while qos > 0 && !client.may_publish() {
                client.next(DEADLINE).await.expect("an answer");
            }
            client
                .publish(number, message, None)
                .await
                .expect("to publish");
            if number % 1_000 == 0 {
                most_kib = most_kib.max(self.broker.memory_kib());
            }
        }
        // It comes behind all others: once it is answered, all were taken.
        let last = Message {
            topic: "nobody".to_owned(),
            ..message(0, 1)
        };
        client.publish(0, last, None).await.expect("to publish");
        while client.under_way() > 0 {
            client.next(DEADLINE).await.expect("an answer");
        }
        client.leave().await;
        most_kib.max(self.broker.memory_kib())
    }

    /// Reads on up to the end. Returns the numbers that came, in their order.
    async fn read_on(&mut self) -> Vec<u64> {
        let mut numbers = Vec::new();
        while numbers.last() != Some(&self.messages) {
            match self.reader.next(DEADLINE).await {
                Ok(Some(Event::Message(message))) => numbers.push(number(&message)),
                Ok(Some(_)) => {}
                other => panic!("{other:?} after {} messages", numbers.len()),
            }
        }
        numbers
    }

    async fn expect_dropped(&self, cause: &str, count: u64) {
        let name = format!("publish/messages/dropped/{cause}");
        let what = format!("{name} is {count}");
        let figures = self.broker.figures_when(&what, |f| f[&name] == count).await;
        println!("dropped and counted: {}", figures[&name]);
    }
}

async fn end(stage: &Stage, others: tokio::task::JoinHandle<Latencies>) -> Latencies {
    stage.begin(Phase::Over);
    let latencies = others.await.expect("the others");
    expect_no_violations(stage);
    latencies
}

fn message(number: u64, qos: u8) -> Message {
    let mut payload = number.to_string().into_bytes();
    payload.resize(400, b' ');
    Message {
        topic: "stalled".to_owned(),
        alias: 0,
        payload,
        qos,
        retain: false,
        dup: false,
        packet_id: 0,
    }
}

fn number(message: &Message) -> u64 {
    let text = String::from_utf8_lossy(&message.payload);
    text.trim_end().parse().expect("a number")
}

#[tokio::test(flavor = "multi_thread")]
async fn qos_0_drops_the_oldest_and_counts_them() {
    let mut scene = Scene::begin(0, 0).await;
    scene.flood(0).await;
    let numbers = scene.read_on().await;
    assert!(numbers.is_sorted_by(|one, next| one < next), "out of order");
    let dropped = scene.messages + 1 - numbers.len() as u64;
    assert!(dropped > 0, "the queue was never full: publish more");
    scene.expect_dropped("queue-full", dropped).await;
    scene.expect_dropped("absent-queue-full", 0).await;
    scene.broker.check();
}

#[tokio::test(flavor = "multi_thread")]
async fn qos_1_ends_the_connection_and_keeps_the_newest() {
    let mut scene = Scene::begin(1, 3_600).await;
    scene.flood(1).await;
    let mut came = BTreeSet::new();
    let told = loop {
        match scene.reader.next(DEADLINE).await {
            Ok(Some(Event::Message(message))) => drop(came.insert(number(&message))),
            Ok(other) => panic!("{other:?} instead of DISCONNECT"),
            Err(lost) => break lost,
        }
    };
    assert_eq!(told, Lost::Told(0x97), "quota exceeded");
    scene.reader.withholds = false;
    let present = scene.reader.connect().await.expect("to come back");
    assert!(present, "its session is there");
    let numbers = scene.read_on().await;
    // What was under way comes first, then what was kept: without a gap up to the end.
    let newest = numbers.iter().rev().zip((0..=scene.messages).rev());
    let newest = newest.take_while(|(one, other)| *one == other).count();
    came.extend(numbers.iter().copied());
    assert!(
        newest + 100 >= came.len(),
        "{newest} of {} are the newest",
        came.len()
    );
    let dropped = scene.messages + 1 - came.len() as u64;
    assert!(dropped > 0, "the queue was never full: publish more");
    scene.expect_dropped("absent-queue-full", dropped).await;
    scene.expect_dropped("queue-full", 0).await;
    scene.broker.check();
}
