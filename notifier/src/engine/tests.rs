//! The engine on a bus with one notifier, which hears all it says.

mod hearing;

use hostbus_wire::alert::{AlertSeverity, AlertState, BY_RULES};
use hostbus_wire::health::Health;
use hostbus_wire::sample::Cpu;
use hostbus_wire::silence::Silence;
use hostbus_wire::{Sample, SiteId, TopicRoot};
use hostbus_wire::{decode, decode_open, encode};

use super::*;
use crate::dispatcher::{RouteConfig, Routing};
use crate::evaluator::Options;
use crate::notice::Notice;
use crate::outgoing::Publication;
use crate::rule::book::{Book, Origin};

const RULE: &[u8] =
    b"[[rule]]\nname = \"busy\"\nmetric = \"cpu.usage_percent\"\nwarning = { above = 80 }\n";

const SILENCE: &str = "hostbus/v1/home/_silences/backup";

/// A bus with one notifier, which hears all it says.
struct Site {
    engine: Engine,
    now: Now,
    said: Vec<Publication>,
    notices: Vec<Notice>,
    forgotten: Vec<Outcome>,
    seq: u64,
    /// The bus takes no marks of what was told.
    refuses_marks: bool,
}

impl Site {
    fn new() -> Self {
        Self {
            engine: Self::engine("r"),
            now: Now {
                unix_ms: 1_763_630_000_000,
                steady_ms: 100,
            },
            said: Vec::new(),
            notices: Vec::new(),
            forgotten: Vec::new(),
            seq: 0,
            refuses_marks: false,
        }
    }

    fn engine(run: &str) -> Engine {
        let routes = [RouteConfig {
            channels: vec!["hook".to_owned()],
            wait_seconds: 0,
            interval_seconds: 0,
            ..RouteConfig::default()
        }];
        let routing = Routing::new(&routes, &[], &["hook".to_owned()]).unwrap();
        let place = Place {
            root: TopicRoot::default(),
            site: SiteId::default(),
            instance: "main".to_owned(),
        };
        let evaluator = Evaluator::new(Options::default());
        let dispatcher = Dispatcher::new(routing);
        let mut engine = Engine::new(place, run, evaluator, dispatcher, Groups::new());
        let mut book = Book::new(false);
        book.set(Origin::File("x.toml".into()), RULE).unwrap();
        engine.set_rules(book.rules(), 0);
        engine
    }

    fn hear(&mut self, topic: &str, payload: Vec<u8>, retained: bool) {
        let message = Message {
            topic: topic.to_owned(),
            payload: payload.into(),
            retained,
        };
        self.engine.message(&message, self.now);
    }

    /// Somebody puts something on the bus, or takes it away.
    fn put(&mut self, kind: Kind, topic: &str, payload: &str) {
        let payload = payload.as_bytes().to_vec();
        self.said.retain(|said| said.topic != topic);
        if !payload.is_empty() {
            let publication = Publication::new(kind, topic.to_owned(), payload.clone());
            self.said.push(publication);
        }
        self.hear(topic, payload, false);
    }

    /// The silence that stands on the bus.
    fn silence(&self) -> Option<Silence> {
        let said = self.said.iter().find(|said| said.topic == SILENCE)?;
        let present = !said.payload.is_empty();
        present.then(|| decode_open(&said.payload).unwrap())
    }

    /// Another notifier takes over, which kept nothing.
    fn restart(&mut self) {
        self.engine = Self::engine("later");
        self.connect();
        self.steps(30);
    }

    fn minutes(&mut self, count: u64) {
        for _ in 0..count {
            self.now.unix_ms += 60_000;
            self.now.steady_ms += 60_000;
            self.step();
        }
    }

    fn connect(&mut self) {
        let stamp = self.now.unix_ms;
        self.engine.connected(stamp, self.now);
        // What stands on the bus comes first, our own health last.
        let retained: Vec<Publication> = self.said.clone();
        for publication in retained {
            self.hear(&publication.topic, publication.payload, true);
        }
        let health = Health {
            ts: stamp,
            ..crate::health::stopped(stamp)
        };
        let topic = "hostbus/v1/home/_system/notifier/main";
        let health = encode(&health).unwrap();
        self.hear(topic, health.clone(), false);
        assert!(self.engine.asks());
        self.engine.asked();
        self.hear(topic, health, true);
    }

    /// Lets 100 ms go by, and what is said be heard.
    fn step(&mut self) -> Turn {
        self.now.unix_ms += 100;
        self.now.steady_ms += 100;
        let turn = self.engine.turn(self.now);
        self.notices.extend(turn.changes.notices.iter().cloned());
        self.forgotten.extend(turn.told.iter().cloned());
        if self.engine.connected {
            while let Some(publication) = self.engine.outgoing().pop() {
                if self.refuses_marks && publication.kind == Kind::Told {
                    continue;
                }
                self.said.retain(|said| said.topic != publication.topic);
                self.hear(&publication.topic, publication.payload.clone(), false);
                self.said.push(publication);
            }
        }
        turn
    }

    fn steps(&mut self, count: usize) {
        for _ in 0..count {
            self.step();
        }
    }

    fn sample(&mut self, percent: f64) {
        let payload = self.payload(percent);
        self.hear("hostbus/v1/home/web1/metrics", payload, false);
    }

    /// The next sample.
    fn payload(&mut self, percent: f64) -> Vec<u8> {
        self.seq += 1;
        let mut cpu = Cpu::new();
        cpu.usage_percent = Some(percent);
        let sample = Sample {
            ts: Some(self.now.unix_ms),
            boot: Some(1),
            seq: Some(self.seq),
            first: Some(1),
            interval_ms: Some(100),
            cpu: Some(cpu),
            ..Sample::default()
        };
        encode(&sample).unwrap()
    }

    fn outcome(&self) -> Outcome {
        Outcome {
            channel: "hook".to_owned(),
            notice: Arc::new(self.notices.last().unwrap().clone()),
            ended: Ended::Delivered,
            at_ms: self.now.unix_ms,
        }
    }
}

#[test]
fn a_breach_goes_over_the_bus_and_becomes_a_notice() {
    let mut site = Site::new();
    site.connect();
    site.steps(20);
    assert!(site.engine.is_active());
    site.sample(50.0);
    site.sample(90.0);
    site.steps(2);
    let on_bus = site
        .said
        .iter()
        .find(|said| said.kind == Kind::Alert)
        .unwrap();
    let alert: Alert = decode(&on_bus.payload).unwrap();
    assert_eq!(
        (alert.state, alert.by.as_str()),
        (AlertState::Firing, BY_RULES)
    );
    assert_eq!(site.notices.len(), 1);
    assert_eq!(
        site.notices[0].lines[0].alert.severity,
        AlertSeverity::Warning
    );
    site.sample(10.0);
    site.steps(2);
    assert_eq!(site.notices[1].lines[0].alert.state, AlertState::Resolved);
}

#[test]
fn a_sample_that_is_refused_changes_nothing() {
    let mut site = Site::new();
    site.connect();
    site.sample(50.0);
    // While all that stands is heard, and after it.
    for refused in 1..=2 {
        let mut payload = site.payload(90.0);
        payload.push(0);
        site.hear("hostbus/v1/home/web1/metrics", payload, false);
        site.steps(20);
        assert_eq!(site.engine.counters().refused, refused);
        assert_eq!(site.engine.figures().judged, 1);
        assert!(site.said.iter().all(|said| said.kind != Kind::Alert));
    }
    site.sample(90.0);
    site.steps(2);
    assert_eq!(site.notices.len(), 1);
}

#[test]
fn who_is_not_active_says_nothing_and_says_it_all_once_it_is() {
    let mut site = Site::new();
    site.connect();
    // Another one holds the lease, and is heard of until it stops.
    let lease = hostbus_wire::lease::Lease {
        holder: "other/1".to_owned(),
        term: 7,
        at: 1,
        released: false,
    };
    let topic = "hostbus/v1/home/_lease/notifier";
    site.hear(topic, encode(&lease).unwrap(), false);
    site.sample(50.0);
    site.sample(90.0);
    site.steps(20);
    assert!(!site.engine.is_active());
    assert!(site.said.iter().all(|said| said.kind != Kind::Alert));
    site.steps(120);
    assert!(site.engine.is_active());
    assert!(site.said.iter().any(|said| said.kind == Kind::Alert));
    assert_eq!(site.notices.len(), 1);
}

#[test]
fn a_mark_that_was_lost_with_the_connection_is_said_again() {
    let mut site = Site::new();
    site.connect();
    site.steps(20);
    site.sample(90.0);
    site.steps(2);
    let outcome = site.outcome();
    site.engine.outcome(outcome.clone(), site.now.unix_ms);
    // The connection takes it and breaks.
    while site.engine.outgoing().pop().is_some() {}
    site.engine.disconnected();
    assert!(site.step().told.is_empty());
    site.connect();
    site.steps(5);
    assert!(site.said.iter().any(|said| said.kind == Kind::Told));
    assert_eq!(site.forgotten, [outcome]);
}

#[test]
fn a_clock_that_is_set_back_takes_what_is_due_along() {
    let mut site = Site::new();
    site.connect();
    site.steps(20);
    site.sample(50.0);
    site.sample(90.0);
    site.steps(2);
    assert_eq!(site.notices.len(), 1);
    site.steps(20);
    site.now.unix_ms -= 86_400_000;
    site.step();
    // The repetition comes four hours after the notice, not a day later.
    let mut minutes = 0;
    while site.notices.len() == 1 && minutes < 300 {
        minutes += 1;
        site.now.unix_ms += 60_000;
        site.now.steady_ms += 60_000;
        site.step();
    }
    assert_eq!((site.notices.len(), minutes), (2, 240));
}

#[test]
fn a_silence_of_some_seconds_ends_when_it_would_have_after_a_restart_without_a_memory() {
    let mut site = Site::new();
    site.connect();
    site.steps(20);
    let hour = r#"{"seconds": 3600, "by": "backup.sh"}"#;
    let ends_ms = site.now.unix_ms + 3_600_000;
    site.put(Kind::Silence, SILENCE, hour);
    site.steps(2);
    let said = site.silence().unwrap();
    assert_eq!((said.until, said.seconds), (Some(ends_ms), Some(3_600)));
    site.sample(90.0);
    site.minutes(40);
    site.restart();
    assert_eq!(site.notices.len(), 0);
    assert_eq!(site.silence().unwrap().until, Some(ends_ms));
    site.minutes(25);
    assert_eq!(site.notices.len(), 1);
    // The same once more is another one.
    site.put(Kind::Silence, SILENCE, hour);
    site.steps(2);
    let until = site.silence().unwrap().until.unwrap();
    assert_eq!(until.abs_diff(site.now.unix_ms + 3_600_000), 200);
}

#[test]
fn a_silence_is_answered_once_and_by_who_is_active() {
    let mut site = Site::new();
    site.connect();
    site.put(Kind::Silence, SILENCE, r#"{"seconds": 3600}"#);
    site.steps(2);
    assert!(!site.engine.is_active());
    assert_eq!(site.silence().unwrap().until, None);
    site.steps(20);
    assert!(site.engine.is_active());
    let until = site.silence().unwrap().until;
    assert!(until.is_some());
    for round in 0..20 {
        site.engine.turn(site.now);
        let topic = |publication: Publication| publication.topic;
        let said: Vec<String> =
            std::iter::from_fn(|| site.engine.outgoing().pop().map(topic)).collect();
        assert!(!said.contains(&SILENCE.to_owned()), "{round}: {said:?}");
        site.now.unix_ms += 500;
        site.now.steady_ms += 500;
    }
    site.engine.disconnected();
    site.connect();
    site.steps(20);
    assert_eq!(site.silence().unwrap().until, until);
}

#[test]
fn an_answer_that_comes_late_does_not_stand_in_the_place_of_what_is_meant() {
    let other = r#"{"nodes": ["web1"], "until": 1763640000000}"#;
    let seconds = r#"{"seconds": 60}"#;
    for (meant, taken_away) in [("", false), (other, false), (other, true), (seconds, false)] {
        let mut site = Site::new();
        site.connect();
        site.steps(20);
        site.put(Kind::Silence, SILENCE, r#"{"seconds": 3600}"#);
        // The answer is on its way when somebody says something else.
        site.engine.turn(site.now);
        let answer = std::iter::from_fn(|| site.engine.outgoing().pop())
            .find(|publication| publication.topic == SILENCE)
            .unwrap();
        site.put(Kind::Silence, SILENCE, meant);
        let answer = String::from_utf8(answer.payload).unwrap();
        site.put(Kind::Silence, SILENCE, &answer);
        if taken_away {
            // What is put back is taken away before that.
            site.put(Kind::Silence, SILENCE, "");
        }
        site.steps(3);
        let stands = site.silence().map(|silence| Silence {
            until: silence.until.filter(|_| silence.seconds.is_none()),
            ..silence
        });
        let expected =
            (!meant.is_empty() && !taken_away).then(|| decode_open(meant.as_bytes()).unwrap());
        assert_eq!(stands, expected, "{meant:?} {taken_away}");
    }
}

#[test]
fn a_bus_that_refuses_our_marks_is_named_in_the_health() {
    let mut site = Site::new();
    site.connect();
    site.steps(20);
    site.sample(90.0);
    site.steps(2);
    site.refuses_marks = true;
    let outcome = site.outcome();
    site.engine.outcome(outcome, site.now.unix_ms);
    site.steps(599);
    assert!(!site.engine.is_unheard());
    site.steps(3);
    assert!(site.engine.is_unheard());
    // Once it may be heard it is said with the next connection.
    site.refuses_marks = false;
    site.engine.disconnected();
    site.connect();
    site.steps(10);
    assert!(!site.engine.is_unheard());
    assert_eq!(site.forgotten.len(), 1);
}

#[test]
fn another_one_of_our_name_is_noticed_by_its_claim_and_by_its_health() {
    let health = |ts| Health {
        state: HealthState::Ok,
        ..crate::health::stopped(ts)
    };
    let ours = "hostbus/v1/home/_system/notifier/main";
    let mut site = Site::new();
    site.connect();
    site.steps(20);
    for round in 0..10 {
        // What we say ourselves comes back.
        site.engine.say_health(&health(round));
        site.steps(100);
    }
    assert!(!site.engine.has_twin());
    for ts in [1_001, 1_002] {
        assert!(site.engine.is_active() && !site.engine.has_twin());
        site.hear(ours, encode(&health(ts)).unwrap(), false);
        site.steps(100);
    }
    assert!(site.engine.has_twin() && site.engine.is_active());
    site.steps(600);
    assert!(!site.engine.has_twin(), "it is gone");
    // One that takes the lease: it is not fought for.
    let lease = hostbus_wire::lease::Lease {
        holder: "main/other".to_owned(),
        term: 7,
        at: 1,
        released: false,
    };
    let topic = "hostbus/v1/home/_lease/notifier";
    site.hear(topic, encode(&lease).unwrap(), false);
    site.steps(80);
    assert!(site.engine.has_twin() && !site.engine.is_active());
    assert_eq!(site.engine.holder(), Some("main/other"));
}
