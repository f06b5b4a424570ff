//! The sampler with collectors that fail, panic and hang.

use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};

use hostbus_wire::sample::Custom;

use super::*;
use crate::collectors::{PlainConfig, Public};

const SECOND: Duration = Duration::from_secs(1);

/// Fails, panics and works by the number of its turn.
#[derive(Default)]
struct Moody {
    turn: u32,
}

impl Collector for Moody {
    fn collect(&mut self, pass: &mut Pass) -> Result<Presence, CollectorError> {
        self.turn += 1;
        match self.turn {
            1 | 4 => {
                pass.sample
                    .custom
                    .push(Custom::new("mood".parse().unwrap()));
                Ok(Presence::Here)
            }
            2 | 3 => Err(CollectorError::parse("/proc/mood")),
            5 => panic!("in a bad mood"),
            _ => Ok(Presence::Nothing("no mood".to_owned())),
        }
    }
}

/// Works, then lacks a part, then works.
#[derive(Default)]
struct Patchy {
    turn: u32,
}

impl Collector for Patchy {
    fn collect(&mut self, _: &mut Pass) -> Result<Presence, CollectorError> {
        self.turn += 1;
        match self.turn {
            2 => Ok(Presence::Partly("a part is gone".to_owned())),
            _ => Ok(Presence::Here),
        }
    }
}

static PATCHY: [Entry; 1] = [Entry {
    name: "patchy",
    public: |config| public(&mut config.cpu),
    make: |_| Box::<Patchy>::default(),
    details: &[],
    same: |one, other| one.cpu == other.cpu,
}];

struct Steady;

impl Collector for Steady {
    fn collect(&mut self, pass: &mut Pass) -> Result<Presence, CollectorError> {
        pass.sample
            .custom
            .push(Custom::new("steady".parse().unwrap()));
        Ok(Presence::Here)
    }
}

/// Answers once it is let go.
struct Hanging {
    released: Receiver<()>,
}

/// What lets the collector [`Hanging`] go, one message a turn.
static RELEASE: Mutex<Option<Sender<()>>> = Mutex::new(None);

impl Hanging {
    fn make() -> Box<dyn Collector> {
        let (release, released) = channel();
        *RELEASE.lock().unwrap() = Some(release);
        Box::new(Self { released })
    }
}

impl Collector for Hanging {
    fn collect(&mut self, pass: &mut Pass) -> Result<Presence, CollectorError> {
        let _ = self.released.recv();
        pass.sample
            .custom
            .push(Custom::new("late".parse().unwrap()));
        Ok(Presence::Here)
    }
}

fn public(plain: &mut PlainConfig) -> Public<'_> {
    Public {
        enabled: &mut plain.enabled,
        interval_seconds: &mut plain.interval_seconds,
        include: None,
        exclude: None,
    }
}

static MOODY: [Entry; 3] = [
    Entry {
        name: "moody",
        public: |config| public(&mut config.cpu),
        make: |_| Box::new(Moody::default()),
        same: |one, other| one.cpu == other.cpu,
        details: &[],
    },
    Entry {
        name: "off",
        public: |config| Public {
            enabled: &mut config.gpus.enabled,
            interval_seconds: &mut config.gpus.interval_seconds,
            include: None,
            exclude: None,
        },
        make: |_| Box::new(Steady),
        same: |one, other| one.gpus == other.gpus,
        details: &[],
    },
    Entry {
        name: "steady",
        public: |config| public(&mut config.memory),
        make: |_| Box::new(Steady),
        same: |one, other| one.memory == other.memory,
        details: &[],
    },
];

static HANGING: [Entry; 2] = [
    Entry {
        name: "hanging",
        public: |config| public(&mut config.cpu),
        make: |_| Hanging::make(),
        same: |one, other| one.cpu == other.cpu,
        details: &[],
    },
    Entry {
        name: "steady",
        public: |config| public(&mut config.memory),
        make: |_| Box::new(Steady),
        same: |one, other| one.memory == other.memory,
        details: &[],
    },
];

/// Tells of something that happened, once it is let go.
struct Late {
    released: Receiver<()>,
}

/// What lets the collector [`Late`] go, one message a turn.
static LET_GO: Mutex<Option<Sender<()>>> = Mutex::new(None);

impl Late {
    fn make() -> Box<dyn Collector> {
        let (let_go, released) = channel();
        *LET_GO.lock().unwrap() = Some(let_go);
        Box::new(Self { released })
    }
}

impl Collector for Late {
    fn collect(&mut self, pass: &mut Pass) -> Result<Presence, CollectorError> {
        let _ = self.released.recv();
        pass.events.push(events::link_flips(pass.ts, "eth0", false));
        Ok(Presence::Here)
    }
}

static LATE: [Entry; 1] = [Entry {
    name: "late",
    public: |config| public(&mut config.cpu),
    make: |_| Late::make(),
    same: |one, other| one.cpu == other.cpu,
    details: &[],
}];

fn without_gpus() -> CollectorsConfig {
    let mut config = CollectorsConfig::default();
    config.gpus.enabled = false;
    config
}

fn custom(reading: &Reading) -> Vec<&str> {
    let custom = &reading.sample.custom;
    custom.iter().map(|custom| custom.name.as_str()).collect()
}

fn kinds(reading: &Reading) -> Vec<&str> {
    let events = &reading.events;
    events.iter().map(|event| event.kind.as_str()).collect()
}

#[tokio::test]
async fn a_failing_collector_is_told_on_change_and_the_others_go_on() {
    let mut sampler = Sampler::with(&MOODY, &without_gpus());
    let mut told = Vec::new();
    for _ in 0..7 {
        let reading = sampler.take_all(SECOND).await;
        assert!(custom(&reading).contains(&"steady"));
        let moody = states(&reading.collectors)["moody"].clone();
        let moody = reading.collectors_changed.then_some(moody);
        told.push((kinds(&reading).join(","), moody));
    }
    let failed = Some("failed: /proc/mood has no line that can be understood".to_owned());
    let panicked = Some("failed: panicked: in a bad mood".to_owned());
    let on = Some("on".to_owned());
    assert_eq!(
        told,
        [
            (String::new(), on.clone()),
            ("collector-failed".to_owned(), failed.clone()),
            (String::new(), None),
            ("collector-recovered".to_owned(), on.clone()),
            ("collector-failed".to_owned(), panicked),
            // Made anew after its panic.
            ("collector-recovered".to_owned(), on),
            ("collector-failed".to_owned(), failed),
        ]
    );
}

#[tokio::test]
async fn a_collector_that_lacks_a_part_says_so_and_is_no_failure() {
    let mut sampler = Sampler::with(&PATCHY, &CollectorsConfig::default());
    for state in ["on", "partly on: a part is gone", "on"] {
        let reading = sampler.take_all(SECOND).await;
        assert!(reading.collectors_changed && reading.events.is_empty());
        assert_eq!(states(&reading.collectors)["patchy"], state);
    }
}

#[tokio::test]
async fn a_collector_that_hangs_holds_up_no_sample_and_comes_back() {
    let mut sampler = Sampler::with(&HANGING, &CollectorsConfig::default());
    let mut told = Vec::new();
    let start = Instant::now();
    while told.is_empty() {
        let reading = sampler.take_all(SECOND).await;
        assert_eq!(custom(&reading), ["steady"]);
        told.extend(reading.events);
        // The silence is counted from the first question: make it a long one.
        if let Seat::Away { since, .. } = &mut sampler.slots[0].seat {
            *since = since.checked_sub(TELL_AFTER).unwrap();
        }
        assert!(start.elapsed() < SECOND * 20, "nobody was told");
    }
    assert_eq!(told[0].kind, "collector-failed");
    assert!(told[0].message.contains("hangs in the kernel"), "{told:?}");

    // One for the turn that was given up, one for the next.
    let release = RELEASE.lock().unwrap().clone().unwrap();
    release.send(()).unwrap();
    release.send(()).unwrap();
    let back = loop {
        let reading = sampler.take_all(SECOND).await;
        if !reading.events.is_empty() {
            break reading;
        }
        assert!(start.elapsed() < SECOND * 20, "it did not come back");
    };
    assert_eq!(kinds(&back), ["collector-recovered"]);
    assert_eq!(custom(&back), ["late", "steady"]);
}

/// Hangs for good.
static STUCK: [Entry; 1] = [Entry {
    name: "stuck",
    public: |config| public(&mut config.cpu),
    make: |_| {
        loop {
            std::thread::park();
        }
    },
    details: &[],
    same: |one, other| one.cpu == other.cpu,
}];

#[tokio::test]
async fn making_a_collector_that_hangs_holds_up_nobody_and_off_is_off() {
    let mut config = CollectorsConfig::default();
    let mut sampler = Sampler::with(&STUCK, &config);
    sampler.take_all(SECOND).await;
    let Seat::Away { since, .. } = &mut sampler.slots[0].seat else {
        panic!("it answered");
    };
    *since = since.checked_sub(TELL_AFTER).unwrap();
    assert_eq!(kinds(&sampler.take_all(SECOND).await), ["collector-failed"]);
    config.cpu.enabled = false;
    sampler.change(&config);
    let reading = sampler.take_all(SECOND).await;
    assert!(reading.collectors_changed && reading.events.is_empty());
    assert_eq!(reading.collectors[0].state, CollectorState::Off);
}

#[tokio::test]
async fn what_a_late_answer_tells_is_told_and_so_is_its_always_being_late() {
    let mut sampler = Sampler::with(&LATE, &CollectorsConfig::default());
    sampler.take_all(SECOND).await;
    LET_GO.lock().unwrap().clone().unwrap().send(()).unwrap();
    let start = Instant::now();
    let late = loop {
        let reading = sampler.take_all(SECOND).await;
        if !reading.events.is_empty() {
            break reading;
        }
        assert!(start.elapsed() < SECOND * 20, "what happened is lost");
    };
    // It was asked again at once, and is late again.
    assert_eq!(kinds(&late), ["link-down", "collector-failed"]);
    let state = &states(&late.collectors)["late"];
    assert!(state.contains("takes longer than the second"), "{state}");
}

/// Its end hangs until it is let go.
struct Clinging {
    released: Receiver<()>,
}

/// What lets the ends go when it is dropped.
static LET_END: Mutex<Vec<Sender<()>>> = Mutex::new(Vec::new());

impl Collector for Clinging {
    fn collect(&mut self, _: &mut Pass) -> Result<Presence, CollectorError> {
        Ok(Presence::Here)
    }
}

impl Drop for Clinging {
    fn drop(&mut self) {
        let _ = self.released.recv();
    }
}

static CLINGING: [Entry; 1] = [Entry {
    name: "clinging",
    public: |config| public(&mut config.cpu),
    make: |_| {
        let (let_end, released) = channel();
        LET_END.lock().unwrap().push(let_end);
        Box::new(Clinging { released })
    },
    same: |one, other| one.cpu == other.cpu,
    details: &[],
}];

#[test]
fn a_collector_whose_end_hangs_holds_up_nobody_and_is_made_anew_a_few_times_only() {
    let (told, states) = channel();
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        let mut config = CollectorsConfig::default();
        let mut sampler = Sampler::with(&CLINGING, &config);
        loop {
            let reading = runtime.block_on(sampler.take_all(SECOND));
            if told.send(reading.collectors[0].state.clone()).is_err() {
                return;
            }
            config.cpu.enabled = !config.cpu.enabled;
            sampler.change(&config);
        }
    });
    let mut seen = Vec::new();
    while let Ok(state) = states.recv_timeout(SECOND * 20) {
        seen.push(state);
        if seen.len() == 9 {
            break;
        }
    }
    // Whatever hangs is let go, so that the test ends.
    LET_END.lock().unwrap().clear();
    let start = Instant::now();
    let on_again = states
        .iter()
        .take_while(|_| start.elapsed() < SECOND * 20)
        .any(|state| state == CollectorState::On);
    drop(states);
    let failed = CollectorState::Failed("is not made anew: its last ends hang".to_owned());
    let turns: Vec<&CollectorState> = seen.iter().step_by(2).collect();
    let on = &CollectorState::On;
    assert_eq!(turns, [on, on, on, on, &failed]);
    assert!(on_again, "an end came back, and it is not made anew");
    thread.join().unwrap();
    LET_END.lock().unwrap().clear();
}

#[tokio::test]
async fn a_collector_that_is_not_due_is_left_out() {
    let mut sampler = Sampler::with(&MOODY, &without_gpus());
    let reading = sampler.take(&[false, true, true], SECOND * 5).await;
    assert_eq!(custom(&reading), ["steady"]);
    assert_eq!(reading.sample.interval_ms, Some(5000));
    assert_eq!(reading.collectors[0].state, CollectorState::Unknown);
    assert_eq!(reading.collectors[0].cost, None);
    assert!(reading.collectors[2].cost.is_some());
}

#[tokio::test]
async fn changed_settings_make_only_what_they_concern_anew() {
    let mut sampler = Sampler::with(&MOODY, &without_gpus());
    let first = sampler.take_all(SECOND).await;
    assert_eq!(
        states(&first.collectors)["off"],
        "off: disabled in the settings"
    );
    // On its second turn the moody one fails, unless it was made anew.
    let mut config = CollectorsConfig::default();
    config.memory.enabled = false;
    config.cpu.interval_seconds = Some(5.0);
    sampler.change(&config);
    let second = sampler.take_all(SECOND).await;
    assert!(second.collectors_changed);
    let states = states(&second.collectors);
    assert!(states["moody"].starts_with("failed"), "{states:?}");
    assert_eq!(states["off"], "on");
    assert_eq!(states["steady"], "off: disabled in the settings");
}

#[tokio::test]
async fn a_failing_collector_that_is_turned_off_does_not_work_again() {
    let mut config = without_gpus();
    let mut sampler = Sampler::with(&MOODY, &config);
    sampler.take_all(SECOND).await;
    assert_eq!(kinds(&sampler.take_all(SECOND).await), ["collector-failed"]);
    config.cpu.enabled = false;
    sampler.change(&config);
    let reading = sampler.take_all(SECOND).await;
    assert!(reading.collectors_changed && kinds(&reading).is_empty());
    assert_eq!(reading.collectors[0].state, CollectorState::Off);
}

#[test]
fn a_sample_that_no_reader_would_take_is_cut() {
    let mut sample = Sample::default();
    for number in 0..10_000 {
        let mut custom = Custom::new(format!("value-{number}").parse().unwrap());
        custom.value = Some(1.0);
        sample.custom.push(custom);
    }
    let left_out = cut(&mut sample);
    assert_eq!(sample.custom.len() + left_out, 10_000);
    let kept = sample.custom.len();
    assert!(kept > MAX_POINTS / 2, "{kept}");
    assert!(Sample::decode(&codec::encode(&sample).unwrap()).is_ok());
}

#[tokio::test]
async fn this_hosts_sample_is_one_that_readers_take() {
    let mut sampler = Sampler::new(&CollectorsConfig::default());
    sampler.take_all(SECOND).await;
    let reading = sampler.take_all(SECOND).await;
    let bytes = codec::encode(&reading.sample).unwrap();
    let decoded = Sample::decode(&bytes).unwrap();
    assert_eq!(decoded, reading.sample);
    assert!(decoded.cpu.is_some() && decoded.memory.is_some());
}
