//! Alerts rise and end while notifiers, the broker and the endpoint are killed, busy or lose their
//! answers at random: people are told of every change of every alert, in order. Twice only where an
//! answer was lost, or a notifier was killed before it could note it.
//!
//! `HOSTBUS_ALERT_STEPS` sets how many steps each of the two tests takes (30), `HOSTBUS_ALERT_SEED`
//! repeats the order of the disasters. The seed is printed. An hour of a bad day:
//!
//! ```sh
//! HOSTBUS_ALERT_STEPS=400 cargo test -p hostbus-tests --test notifier_chaos -- --nocapture
//! ```

#![expect(clippy::print_stdout, reason = "figures that a person wants to see")]

mod model;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::thread;
use std::time::{Duration, Instant};

use hostbus_tests::host::Speaker;
use hostbus_tests::pipeline::Pipeline;
use hostbus_tests::poll;
use hostbus_tests::random::{self, Random};
use hostbus_tests::service::Service;
use hostbus_tests::sink::{Mood, Sink};
use model::{Again, Kill, Model, NODES};

/// How long it must stay quiet when all was told, in the end.
const QUIET: Duration = Duration::from_secs(3);

/// A channel and a route for each node: of what comes fast, a channel makes one notice.
fn settings(sink: &Sink) -> String {
    let mut text = String::new();
    for n in 0..NODES {
        text += &format!(
            "[notifier.channels.hook{n}]\ntype = \"webhook\"\nurl = \"{}\"\n\
             [[notifier.routes]]\nchannels = [\"hook{n}\"]\nnodes = [\"n{n}\"]\ngroup_by = \"alert\"\n\
             wait_seconds = 0\ninterval_seconds = 0\ncooldown_seconds = 0\nrepeat_seconds = 0\n",
            sink.url()
        );
    }
    text
}

struct Hour {
    /// They go first: their logs are in the pipeline's folder.
    notifiers: Vec<Service>,
    pipeline: Pipeline,
    sink: Sink,
    random: Random,
    kills: Vec<Kill>,
    deeds: BTreeMap<&'static str, u32>,
}

impl Hour {
    fn begin(instances: &[&str], random: Random) -> Self {
        let pipeline = Pipeline::start_with("data = \"broker\"\n");
        let sink = Sink::start();
        let settings = settings(&sink);
        let start = |name: &&str| pipeline.notifier(name, "", &settings).started();
        let notifiers = instances.iter().map(start).collect();
        Self {
            notifiers,
            pipeline,
            sink,
            random,
            kills: Vec::new(),
            deeds: BTreeMap::new(),
        }
    }

    fn pause(&mut self, milliseconds: Range<u64>) {
        thread::sleep(Duration::from_millis(self.random.within(milliseconds)));
    }

    /// One thing goes wrong, for a while.
    fn disaster(&mut self) {
        self.pause(0..80);
        let deed = match self.random.within(0..10) {
            0..=2 => {
                self.without_a_notifier(|_| ());
                "notifier killed"
            }
            3 => {
                self.without_broker();
                "broker killed"
            }
            4..=6 => {
                let deed = self.mood();
                self.pause(100..1500);
                self.sink.set(Mood::Takes);
                deed
            }
            7 => {
                self.mood();
                self.pause(0..500);
                self.without_a_notifier(|hour| hour.sink.set(Mood::Takes));
                "notifier killed with the endpoint in a mood"
            }
            8 => {
                self.without_a_notifier(Self::without_broker);
                "notifier and broker killed"
            }
            _ => "nothing",
        };
        *self.deeds.entry(deed).or_default() += 1;
    }

    /// Puts the endpoint in a bad mood.
    fn mood(&mut self) -> &'static str {
        let (mood, deed) = [
            (Mood::Away, "endpoint away"),
            (Mood::Busy, "endpoint busy"),
            (Mood::LosesAnswers, "answers lost"),
        ][self.random.place(3)];
        self.sink.set(mood);
        deed
    }

    fn without_broker(&mut self) {
        self.pipeline.broker.kill();
        self.pause(50..1000);
        self.pipeline.start_broker_again();
    }

    /// Kills a notifier, does `meanwhile`, and starts it again.
    fn without_a_notifier(&mut self, meanwhile: impl FnOnce(&mut Self)) {
        let which = self.random.place(self.notifiers.len());
        let before = self.sink.count();
        self.notifiers[which].kill();
        meanwhile(self);
        // What it sent last may still be on its way to the endpoint.
        self.pause(50..1200);
        let after = self.sink.count();
        self.kills.push(Kill { before, after });
        self.notifiers[which].start();
    }
}

/// Takes the steps with one notifier for each of `instances`, and gives what was told again.
fn live_through(instances: &[&str]) -> Again {
    let steps = random::setting("HOSTBUS_ALERT_STEPS", 30);
    let seed = random::setting("HOSTBUS_ALERT_SEED", random::seed());
    println!("seed {seed}, {steps} steps, notifiers {instances:?}");
    let mut random = Random::new(seed, 1);
    let mut model = Model::default();
    let mut hour = Hour::begin(instances, Random::new(seed, 2));
    let speaker = Speaker::start(&hour.pipeline.bus("operator"), None);
    let start = Instant::now();
    for step in 1..=steps {
        let sayings = model.change(&mut random);
        let unsure: Vec<&str> = thread::scope(|scope| {
            let saying = scope.spawn(|| {
                let mut unsure = Vec::new();
                for saying in &sayings {
                    thread::sleep(saying.pause);
                    let topic = saying.alert.replace('/', "/alerts/");
                    if speaker.say(&topic, true, saying.payload.as_bytes()) > 1 {
                        unsure.push(&*saying.alert);
                    }
                }
                unsure
            });
            hour.disaster();
            saying.join().expect("all is said")
        });
        if !unsure.is_empty() {
            unsure.iter().for_each(|alert| model.unsure(alert));
            thread::sleep(QUIET);
        }
        poll::until(&format!("all that was said in step {step}"), || {
            model.hear(&hour.sink);
            model.compare(&hour.kills)
        });
    }
    thread::sleep(QUIET);
    model.hear(&hour.sink);
    let again = model.compare(&hour.kills).expect("nothing is missing");
    let killed: BTreeSet<usize> = again.killed.values().flatten().copied().collect();
    println!(
        "{} changes told by {} requests: {} again for a lost answer, {} again for one of {} kills, {} of changes that the broker took back",
        model.said(),
        model.seen,
        again.lost.len(),
        killed.len(),
        hour.kills.len(),
        again.unsure.len()
    );
    println!("{:?} in {:.0} s", hour.deeds, start.elapsed().as_secs_f64());
    again
}

#[test]
fn one_notifier_tells_every_change_in_order_through_all_disasters() {
    for ((channel, kill), requests) in live_through(&["main"]).killed {
        assert!(
            requests.len() <= 1,
            "{channel}: kill {kill} repeated the requests {requests:?}"
        );
    }
}

#[test]
fn two_notifiers_tell_every_change_in_order_through_all_disasters() {
    live_through(&["first", "second"]);
}
