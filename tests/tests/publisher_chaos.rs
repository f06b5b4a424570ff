//! A day of samples in compressed time, while publishers, broker, ingester and Redis are killed and
//! the network is cut at random: every sample that a publisher kept is in Redis exactly once, in
//! order.
//!
//! What a publisher took and kept, it says in its log. A sample that was on its way to the disk in
//! the moment of a kill may be lost with it; one that the log calls kept may not.
//!
//! `HOSTBUS_DAY_SAMPLES` sets how many samples are taken in all (1,200; a day at ten seconds has
//! 8,640), `HOSTBUS_DAY_SEED` repeats the order of the disasters. The seed is printed.
//!
//! ```sh
//! HOSTBUS_DAY_SAMPLES=8640 cargo test -p hostbus-tests --test publisher_chaos -- --nocapture
//! ```

#![expect(clippy::print_stdout, reason = "figures that a person wants to see")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::ensure;
use hostbus_client::{BusConfig, Connection, Event, Options};
use hostbus_tests::pipeline::Pipeline;
use hostbus_tests::poll;
use hostbus_tests::proxy::Proxy;
use hostbus_tests::random::{self, Random};
use hostbus_tests::service::Service;
use hostbus_wire::{QoS, Sample};
use serde_json::Value;

const NODES: [&str; 4] = ["web1", "web2", "web3", "web4"];
/// The shortest interval that the settings allow.
const INTERVAL_SECONDS: f64 = 0.1;
/// Every sample goes to the disk, and what is not marked is soon sent again.
const SETTINGS: &str = "\
[publisher.outbox]
persist = \"always\"
resend_after_seconds = 1
[log]
level = \"info,hostbus_publisher=debug\"
format = \"json\"
";

/// A sample as its publisher's log names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Logged {
    boot: u64,
    seq: u64,
    ts: u64,
}

struct Day {
    pipeline: Pipeline,
    publishers: Vec<Service>,
    proxy: Proxy,
    random: Random,
    deeds: BTreeMap<&'static str, u32>,
}

impl Day {
    fn begin(seed: u64) -> Self {
        let pipeline = Pipeline::start();
        let proxy = Proxy::before(pipeline.address);
        let publishers = NODES.map(|node| {
            pipeline
                .publisher_of(node, proxy.address(), INTERVAL_SECONDS, SETTINGS)
                .started()
        });
        Self {
            pipeline,
            publishers: publishers.into(),
            proxy,
            random: Random::new(seed, 0),
            deeds: BTreeMap::new(),
        }
    }

    fn pause(&mut self, milliseconds: std::ops::Range<u64>) {
        thread::sleep(Duration::from_millis(self.random.within(milliseconds)));
    }

    /// One thing goes wrong, for a while.
    fn disaster(&mut self) {
        let deed = match self.random.within(0..10) {
            0..=3 => {
                let which = self.random.place(self.publishers.len());
                self.publishers[which].kill();
                self.pause(0..400);
                self.publishers[which].start();
                "publisher killed"
            }
            4 => {
                self.pipeline.broker.kill();
                self.pause(100..1500);
                self.pipeline.start_broker_again();
                "broker killed"
            }
            5..=6 => {
                self.pipeline.ingester.kill();
                self.pause(100..1500);
                self.pipeline.ingester.start();
                "ingester killed"
            }
            7 => {
                self.pipeline.redis.kill();
                self.pause(100..1500);
                self.pipeline.redis.start_again();
                "redis killed"
            }
            8 => {
                self.proxy.cut();
                self.pause(100..3000);
                self.proxy.heal();
                "network cut"
            }
            _ => {
                self.proxy.swallow();
                self.pause(100..3000);
                self.proxy.heal();
                "packets lost"
            }
        };
        *self.deeds.entry(deed).or_default() += 1;
        self.pause(100..1200);
    }
}

/// The samples that the log of a publisher calls `what`, over all its starts.
fn logged(publisher: &Service, what: &str) -> Vec<Logged> {
    let mut found = Vec::new();
    for line in publisher.stderr().lines() {
        // A kill cuts the last line of a run.
        let Ok(line) = serde_json::from_str::<Value>(line) else {
            continue;
        };
        let number = |key: &str| line[key].as_u64();
        if line["message"] == what
            && let (Some(boot), Some(seq), Some(ts)) = (number("boot"), number("seq"), number("ts"))
        {
            found.push(Logged { boot, seq, ts });
        }
    }
    found
}

/// How many samples, and which ones: topic, boot and number.
type Heard = (u64, BTreeSet<(String, u64, u64)>);

/// Counts what goes over the bus, as far as a listener hears it.
struct Listener {
    stop: Arc<AtomicBool>,
    heard: Arc<Mutex<Heard>>,
    thread: JoinHandle<()>,
}

impl Listener {
    fn start(bus: BusConfig) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let heard = Arc::new(Mutex::new((0, BTreeSet::new())));
        let (stopping, hearing) = (Arc::clone(&stop), Arc::clone(&heard));
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("failed to start tokio");
            runtime.block_on(listen(bus, &stopping, &hearing));
        });
        Self {
            stop,
            heard,
            thread,
        }
    }

    /// How many samples were heard, and how many of them for the first time.
    fn end(self) -> (u64, usize) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the listener failed");
        let heard = self.heard.lock().expect("the listener failed");
        (heard.0, heard.1.len())
    }
}

async fn listen(bus: BusConfig, stop: &AtomicBool, heard: &Mutex<Heard>) {
    let options = Options {
        component: "listener".to_owned(),
        filters: vec![("hostbus/v1/home/+/metrics".to_owned(), QoS::AtMostOnce)],
        ..Options::default()
    };
    let mut connection = Connection::open(&bus, options).expect("the settings of the bus");
    while !stop.load(Ordering::Relaxed) {
        let next = tokio::time::timeout(Duration::from_millis(200), connection.next());
        let Ok(Event::Message(message)) = next.await else {
            continue;
        };
        if message.retained {
            continue;
        }
        let sample = Sample::decode(&message.payload).expect("a sample");
        let place = sample.place().expect("a publisher's sample has its place");
        let mut heard = heard.lock().expect("nobody panicked with it");
        heard.0 += 1;
        heard.1.insert((message.topic, place.boot, place.seq));
    }
}

#[test]
fn every_sample_that_was_kept_is_in_redis_once_and_in_order_after_a_day_of_disasters() {
    let samples = random::setting("HOSTBUS_DAY_SAMPLES", 1_200);
    let seed = random::setting("HOSTBUS_DAY_SEED", random::seed());
    println!("seed {seed}, {samples} samples");
    let mut day = Day::begin(seed);
    let listener = Listener::start(day.pipeline.bus("viewer"));
    let taken = |day: &Day| -> u64 {
        let each = day.publishers.iter();
        each.map(|publisher| logged(publisher, "taken in").len() as u64)
            .sum()
    };
    let start = Instant::now();
    while taken(&day) < samples {
        day.disaster();
    }

    // Peace: all that was kept until now must arrive.
    let kept: Vec<Vec<Logged>> = day
        .publishers
        .iter()
        .map(|publisher| logged(publisher, "kept"))
        .collect();
    let history = day.pipeline.history();
    for (node, kept) in NODES.iter().zip(&kept) {
        let last = kept.last().expect("something was kept");
        poll::until(&format!("the mark of the last sample of {node}"), || {
            let (boot, seq) = history.committed(&format!("home.{node}"))?;
            ensure!(
                (boot, seq) >= (last.boot, last.seq),
                "{boot} {seq} of {last:?}"
            );
            Ok(())
        });
    }
    println!("{:?} in {:.0} s", day.deeds, start.elapsed().as_secs_f64());
    // And what is new flows again.
    for (node, publisher) in NODES.iter().zip(&day.publishers) {
        let newest = *logged(publisher, "taken in").last().expect("samples");
        let since = Instant::now();
        poll::until(&format!("the newest sample of {node}, {newest:?}"), || {
            let rows = history.rows(&format!("home.{node}"), "cpu")?;
            let last = rows.last().map_or(0, |row| row.ms);
            ensure!(last >= newest.ts, "rows up to {last}");
            Ok(())
        });
        println!("{node} flows again after {:?}", since.elapsed());
    }
    for publisher in &mut day.publishers {
        publisher.kill();
    }

    for ((node, kept), publisher) in NODES.iter().zip(&kept).zip(&day.publishers) {
        check(&day.pipeline, node, kept, &logged(publisher, "taken in"));
    }
    let (heard, distinct) = listener.end();
    let resent = heard - distinct as u64;
    println!("{heard} samples heard on the bus, {resent} of them sent again");
    assert!(
        resent > 0,
        "nothing was ever sent again: was there a disaster at all?"
    );
}

/// Compares what a node kept and took with what stands in Redis.
fn check(pipeline: &Pipeline, node: &str, kept: &[Logged], taken: &[Logged]) {
    let history = pipeline.history();
    let rows = history.rows(&format!("home.{node}"), "cpu").expect("rows");
    let times: Vec<u64> = rows.iter().map(|row| row.ms).collect();
    let stored: BTreeSet<u64> = times.iter().copied().collect();
    assert_eq!(stored.len(), times.len(), "{node}: two rows at one time");
    assert!(times.is_sorted(), "{node}: rows out of order");

    // Numbers without gaps in each run, each at a time of its own that rises with them.
    let mut last = Logged {
        boot: 0,
        seq: 0,
        ts: 0,
    };
    for sample in taken {
        let next = if sample.boot == last.boot {
            last.seq + 1
        } else {
            assert!(sample.boot > last.boot, "{node}: {last:?} {sample:?}");
            1
        };
        assert_eq!(sample.seq, next, "{node}: after {last:?}");
        assert!(sample.ts > last.ts, "{node}: {last:?} {sample:?}");
        last = *sample;
    }

    // What came before a kept one was kept as well, or its mark was there before the disk.
    let kept: BTreeSet<u64> = kept.iter().map(|sample| sample.ts).collect();
    let last_kept: BTreeMap<u64, u64> = taken
        .iter()
        .filter(|sample| kept.contains(&sample.ts))
        .map(|sample| (sample.boot, sample.ts))
        .collect();
    let safe = |sample: &&Logged| {
        let last = last_kept.get(&sample.boot);
        last.is_some_and(|last| sample.ts <= *last)
    };
    let missing: Vec<&Logged> = taken
        .iter()
        .filter(safe)
        .filter(|sample| !stored.contains(&sample.ts))
        .collect();
    assert!(
        missing.is_empty(),
        "{node}: kept, but not in Redis: {missing:?}"
    );
    let known: BTreeSet<u64> = taken.iter().map(|sample| sample.ts).collect();
    let strange: Vec<&u64> = times.iter().filter(|ts| !known.contains(ts)).collect();
    assert!(
        strange.is_empty(),
        "{node}: in Redis, but never taken: {strange:?}"
    );

    // What came too late for the stream would lie apart: in order means that nothing does.
    let late: u64 = history
        .ask(&["ZCARD", &format!("hb:{{home.{node}}}:late:cpu")])
        .expect("a count");
    assert_eq!(late, 0, "{node}: rows that came too late for the stream");
    println!(
        "{node}: {} taken, {} kept, {} rows",
        taken.len(),
        kept.len(),
        rows.len()
    );
}
