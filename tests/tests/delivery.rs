//! No sample is lost and none is stored twice, whichever part is killed.
//!
//! Two publishers run through each outage: the real one, and a simulated one whose samples carry
//! their own number as a value.
//!
//! `HOSTBUS_KILLS_SAMPLES` sets how many simulated samples, ten a second, the random kills last (300),
//! `HOSTBUS_KILLS_SEED` repeats them as far as concurrency allows.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::ensure;
use hostbus_tests::mosquitto::{Version, hex_of_bytes};
use hostbus_tests::pipeline::Pipeline;
use hostbus_tests::random::{self, Random};
use hostbus_tests::service::Service;
use hostbus_tests::simulated::Simulated;
use hostbus_tests::{poll, python};
use hostbus_wire::committed::Committed;
use hostbus_wire::{Sample, encode};
use serde_json::Value;

const REAL: &str = "home.web1";
const SIMULATED: &str = "home.web2";

/// A pipeline with both publishers at work.
struct Stream {
    publisher: Service,
    simulated: Simulated,
    pipeline: Pipeline,
}

impl Stream {
    fn start() -> Self {
        let pipeline = Pipeline::start();
        let publisher = pipeline.publisher(0.15).started();
        let simulated = Simulated::start(
            pipeline.bus(SIMULATED),
            SIMULATED,
            Duration::from_millis(100),
        );
        let stream = Self {
            publisher,
            simulated,
            pipeline,
        };
        stream.wait_for_commits(5);
        stream
    }

    /// Waits until both publishers have `more` samples committed.
    #[track_caller]
    fn wait_for_commits(&self, more: u64) {
        let history = self.pipeline.history();
        for node in [REAL, SIMULATED] {
            let before = history.committed(node).map_or(0, |(_, seq)| seq);
            poll::until(&format!("{more} more committed samples of {node}"), || {
                let (_, seq) = history.committed(node)?;
                ensure!(seq >= before + more, "from {before} to {seq}");
                Ok(())
            });
        }
    }

    /// Stops both publishers and checks that every number is in Redis exactly once.
    fn end(mut self) {
        let taken = self.simulated.finish();
        let history = self.pipeline.history();
        let rows = history.rows(SIMULATED, "custom:seq").expect("rows");
        let values: Vec<u64> = rows
            .iter()
            .map(|row| row.fields["value"].parse().expect("a number"))
            .collect();
        assert_eq!(values, (1..=taken).collect::<Vec<_>>());

        self.publisher.interrupt(Duration::from_secs(20));
        let (_, seq) = wait_for_the_last(&self.pipeline);
        let rows = history.rows(REAL, "cpu").expect("rows");
        assert_eq!(rows.len() as u64, seq);
        let times: BTreeSet<u64> = rows.iter().map(|row| row.ms).collect();
        assert_eq!(times.len(), rows.len(), "two samples at one time");
    }
}

/// Waits until the last sample that the real publisher has sent is committed, and returns its boot
/// and number. It stands retained on the bus.
#[track_caller]
fn wait_for_the_last(pipeline: &Pipeline) -> (u64, u64) {
    let metrics = "hostbus/v1/home/web1/metrics";
    let viewer = pipeline.account("viewer");
    let bus = viewer.subscribe(&pipeline.folder, Version::V5, &[metrics]);
    let last = bus.wait_for("the last sample", |message| message.topic == metrics);
    let last = Sample::decode(&last.payload).expect("a sample");
    let last = last.boot.zip(last.seq).expect("a place");
    poll::until("the last sample in Redis", || {
        let committed = pipeline.history().committed(REAL)?;
        ensure!(
            committed == last,
            "{last:?} is the last, committed is {committed:?}"
        );
        Ok(last)
    })
}

#[test]
fn every_sample_is_stored_once_when_the_ingester_is_killed() {
    let mut stream = Stream::start();
    stream.pipeline.ingester.kill();
    stream.simulated.wait_for(20);
    stream.pipeline.ingester.start();
    stream.wait_for_commits(20);
    stream.end();
}

#[test]
fn every_sample_is_stored_once_when_redis_is_killed() {
    let mut stream = Stream::start();
    stream.pipeline.redis.kill();
    stream.simulated.wait_for(20);
    stream.pipeline.redis.start_again();
    stream.wait_for_commits(20);
    stream.end();
}

#[test]
fn every_sample_is_stored_once_when_the_broker_is_killed() {
    let mut stream = Stream::start();
    stream.pipeline.broker.kill();
    stream.simulated.wait_for(20);
    stream.pipeline.start_broker_again();
    stream.wait_for_commits(20);
    stream.end();
}

#[test]
fn every_sample_is_stored_once_when_the_ingester_comes_back_before_redis() {
    let mut stream = Stream::start();
    stream.pipeline.ingester.kill();
    stream.pipeline.redis.kill();
    stream.pipeline.ingester.start();
    stream.simulated.wait_for(20);
    stream.pipeline.redis.start_again();
    stream.wait_for_commits(20);
    stream.end();
}

#[test]
fn every_sample_is_stored_once_when_all_are_killed_at_random() {
    let samples = random::setting("HOSTBUS_KILLS_SAMPLES", 300);
    let seed = random::setting("HOSTBUS_KILLS_SEED", random::seed());
    println!("seed {seed}");
    let mut random = Random::new(seed, 0);
    let mut stream = Stream::start();
    while stream.simulated.taken() < samples {
        // At least one of them, each with even chances.
        let killed = 1 + random.within(0..7);
        let is_killed = |part: u64| killed & (1 << part) != 0;
        if is_killed(0) {
            stream.pipeline.ingester.kill();
        }
        if is_killed(1) {
            stream.pipeline.redis.kill();
        }
        if is_killed(2) {
            stream.pipeline.broker.kill();
        }
        stream.simulated.wait_for(1 + random.within(0..15));
        let first = random.within(0..3);
        for part in [first, (first + 1) % 3, (first + 2) % 3] {
            match part {
                _ if !is_killed(part) => continue,
                0 => stream.pipeline.ingester.start(),
                1 => stream.pipeline.redis.start_again(),
                _ => stream.pipeline.start_broker_again(),
            }
            stream.simulated.wait_for(random.within(0..5));
        }
        stream.simulated.wait_for(random.within(0..20));
    }
    stream.wait_for_commits(5);
    stream.end();
}

#[test]
fn a_publisher_that_is_restarted_counts_anew_and_loses_nothing() {
    let pipeline = Pipeline::start();
    let history = pipeline.history();
    let mut publisher = pipeline.publisher(0.15);
    let (mut boots, mut samples) = (Vec::new(), 0);
    for _ in 0..3 {
        publisher.start();
        poll::until("committed samples of this run", || {
            let (boot, seq) = history.committed(REAL)?;
            ensure!(!boots.contains(&boot) && seq >= 5, "boot {boot}, seq {seq}");
            Ok(())
        });
        publisher.interrupt(Duration::from_secs(20));
        let (boot, seq) = wait_for_the_last(&pipeline);
        boots.push(boot);
        samples += seq;
        assert_eq!(history.count(REAL, "cpu").unwrap(), samples);
    }
    assert!(boots.is_sorted(), "{boots:?}");
}

#[test]
fn a_committed_mark_that_can_not_be_true_loses_nothing() {
    let stream = Stream::start();
    let (boot, seq) = stream.pipeline.history().committed(REAL).unwrap();
    let admin = stream.pipeline.account("admin");
    let marks = [
        encode(&Committed {
            boot,
            seq: seq + 1_000_000,
            resend: false,
        })
        .unwrap(),
        encode(&Committed {
            boot,
            seq: u64::MAX,
            resend: true,
        })
        .unwrap(),
        b"no mark".to_vec(),
    ];
    for mark in marks {
        let topic = "hostbus/v1/home/web1/committed";
        let said = admin.publish(&stream.pipeline.folder, Version::V5, topic, &mark);
        assert_eq!(said.code, Some(0), "{said:?}");
        stream.wait_for_commits(5);
    }
    stream.end();
}

#[test]
fn the_values_in_redis_are_those_on_the_bus() {
    let pipeline = Pipeline::start();
    let observer = pipeline
        .account("viewer")
        .subscribe(
            &pipeline.folder,
            Version::V311,
            &["hostbus/v1/home/web1/metrics"],
        )
        .ready();
    let mut publisher = pipeline.publisher(0.2).started();
    let history = pipeline.history();
    poll::until("twenty committed samples", || {
        let (_, seq) = history.committed(REAL)?;
        ensure!(seq >= 20, "{seq}");
        Ok(())
    });
    publisher.interrupt(Duration::from_secs(20));

    let payloads = observer.received();
    assert!(payloads.len() >= 20, "{} payloads", payloads.len());
    let hex: Vec<String> = payloads
        .iter()
        .map(|message| hex_of_bytes(&message.payload))
        .collect();
    let decoded = python::run("decode.py", &[], &hex.join("\n"));
    let (_, committed) = history.committed(REAL).unwrap();
    let mut compared = 0;
    for line in decoded.lines() {
        let sample: Value = serde_json::from_str(line).unwrap();
        if sample["seq"].as_u64().unwrap() > committed {
            continue;
        }
        for series in ["cpu", "memory"] {
            let rows = history.rows(REAL, series).unwrap();
            let row = rows
                .iter()
                .find(|row| Some(row.ms) == sample["ts"].as_u64());
            let row = row.unwrap_or_else(|| panic!("no row of {series} for {sample}"));
            for (field, stored) in &row.fields {
                let sent = &sample[series][field];
                assert!(
                    is_same(sent, stored),
                    "{series}.{field}: {sent} and {stored}"
                );
                compared += usize::from(!sent.is_null());
            }
        }
    }
    assert!(compared > 100, "only {compared} values were compared");
}

/// Compares a decoded number, which may have travelled with 32 bits, with its decimal text.
fn is_same(sent: &Value, stored: &str) -> bool {
    match sent {
        Value::Null => stored == "nan",
        Value::Number(number) if number.is_f64() => {
            #[expect(clippy::cast_possible_truncation, reason = "it may have been sent so")]
            let short = number.as_f64().map(|sent| sent as f32);
            stored
                .parse::<f64>()
                .is_ok_and(|stored| number.as_f64() == Some(stored))
                || stored
                    .parse::<f32>()
                    .is_ok_and(|stored| short == Some(stored))
        }
        Value::Number(number) => number.to_string() == stored,
        _ => false,
    }
}
