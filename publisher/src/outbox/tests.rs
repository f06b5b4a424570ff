//! The outbox against single happenings, and against a model of the whole delivery.

use proptest::prelude::*;

use super::*;

const MS: Duration = Duration::from_millis(1);

fn outbox(boot: u64) -> Outbox {
    Outbox::new(&OutboxConfig::default(), boot)
}

fn push(outbox: &mut Outbox, count: usize) {
    for _ in 0..count {
        outbox
            .push(Sample {
                ts: Some(1),
                ..Sample::default()
            })
            .unwrap();
    }
}

fn mark(boot: u64, seq: u64, resend: bool) -> Committed {
    Committed { boot, seq, resend }
}

/// An outbox that is connected and done with listening.
fn connected(boot: u64, now: Instant) -> Outbox {
    let mut outbox = outbox(boot);
    outbox.on_connected(now - LISTEN);
    outbox
}

/// The numbers of what is sent at `now`, with their `first`.
fn sent(outbox: &mut Outbox, now: Instant) -> Vec<(u64, u64)> {
    let mut sent = Vec::new();
    while let Next::Send(payload) = outbox.next(now) {
        let place = Sample::decode(&payload).unwrap().place().unwrap();
        assert_eq!(place.boot, outbox.boot);
        sent.push((place.seq, place.first));
    }
    sent
}

#[test]
fn samples_go_out_at_once_and_in_order_though_nobody_commits() {
    let now = Instant::now();
    let mut outbox = connected(7, now);
    let mut order = Vec::new();
    for step in 0..5 {
        push(&mut outbox, 1);
        order.extend(sent(&mut outbox, now + MS * step));
    }
    assert_eq!(order, [(1, 1), (2, 1), (3, 1), (4, 1), (5, 1)]);
    assert_eq!(outbox.len(), 5);
}

#[test]
fn a_mark_lets_go_of_what_it_covers() {
    let now = Instant::now();
    let mut outbox = connected(7, now);
    push(&mut outbox, 3);
    sent(&mut outbox, now);
    outbox.on_committed(mark(6, 900, false), now);
    assert_eq!(outbox.len(), 3, "the mark of the last run");
    outbox.on_committed(mark(7, 2, false), now);
    assert_eq!(outbox.len(), 1);
    outbox.on_committed(mark(7, 3, false), now);
    assert_eq!((outbox.len(), outbox.bytes), (0, 0));
    push(&mut outbox, 1);
    assert_eq!(sent(&mut outbox, now), [(4, 4)]);
}

#[test]
fn without_an_ingester_the_past_is_not_sent_over_and_over() {
    let start = Instant::now();
    let mut now = start;
    let mut outbox = connected(7, now);
    let mut messages = 0;
    let mut newest_retained = 0;
    // A day of samples, a new connection each hour.
    for taken in 1..=8640_u64 {
        if taken % 360 == 0 {
            outbox.on_disconnected();
            outbox.on_connected(now);
        }
        push(&mut outbox, 1);
        for second in 0..10 {
            let batch = sent(&mut outbox, now + second * 1000 * MS);
            messages += batch.len();
            newest_retained = batch.last().map_or(newest_retained, |(seq, _)| *seq);
        }
        now += 10_000 * MS;
        assert!(
            newest_retained == taken,
            "{newest_retained} stays retained after {taken}"
        );
    }
    // A probe is two messages; at most one in 150 s once the wait has grown, and few before.
    let probes = 86_400 / 150 + 24 * 12;
    assert!(messages <= 8640 + 2 * probes, "{messages}");
    assert!(messages > 8640, "no probe was ever sent");
}

#[test]
fn a_probe_is_the_oldest_sample_and_then_the_newest() {
    let now = Instant::now();
    let mut outbox = outbox(7);
    push(&mut outbox, 5);
    outbox.on_connected(now);
    assert_eq!(outbox.next(now), Next::Wait(now + LISTEN));
    assert_eq!(sent(&mut outbox, now + LISTEN), [(1, 1), (5, 1)]);
    let later = now + LISTEN + Duration::from_secs(5);
    assert_eq!(sent(&mut outbox, later), [(1, 1), (5, 1)], "no mark came");
}

#[test]
fn a_wish_is_answered_in_order_at_a_bounded_rate_and_with_a_bounded_window() {
    let start = Instant::now();
    let mut outbox = connected(7, start);
    push(&mut outbox, 1000);
    sent(&mut outbox, start);
    outbox.on_committed(mark(7, 100, true), start);
    let mut order = Vec::new();
    for ms in 0..2200 {
        order.extend(
            sent(&mut outbox, start + ms * MS)
                .into_iter()
                .map(|(seq, _)| seq),
        );
        if ms == 100 {
            assert!(
                (20..=26).contains(&order.len()),
                "{} in 100 ms at 200/s",
                order.len()
            );
        }
    }
    assert_eq!(order, (101..101 + outbox.window).collect::<Vec<_>>());
    // Marks open the window again.
    outbox.on_committed(mark(7, 120, false), start + 2200 * MS);
    let more: Vec<u64> = (0..1000_u32)
        .flat_map(|ms| sent(&mut outbox, start + (2200 + ms) * MS))
        .map(|(seq, _)| seq)
        .collect();
    assert_eq!(
        more,
        (101 + outbox.window..121 + outbox.window).collect::<Vec<_>>()
    );
}

#[test]
fn an_ingester_that_falls_silent_while_it_catches_up_does_not_hold_up_new_samples() {
    let start = Instant::now();
    let mut outbox = connected(7, start);
    push(&mut outbox, 1000);
    sent(&mut outbox, start);
    outbox.on_committed(mark(7, 1, true), start);
    let mut now = start;
    while now < start + Duration::from_secs(6) {
        sent(&mut outbox, now);
        now += 5 * MS;
    }
    push(&mut outbox, 1);
    assert_eq!(sent(&mut outbox, now), [(1001, 2)]);
}

#[test]
fn a_wish_that_is_repeated_before_its_answer_arrives_is_one_wish() {
    let now = Instant::now();
    let mut outbox = connected(7, now);
    push(&mut outbox, 10);
    sent(&mut outbox, now);
    outbox.on_committed(mark(7, 0, true), now);
    assert_eq!(outbox.cursor, 1);
    sent(&mut outbox, now + 5 * MS);
    let cursor = outbox.cursor;
    assert!(cursor > 1);
    outbox.on_committed(mark(7, 0, true), now + 6 * MS);
    assert_eq!(outbox.cursor, cursor);
    outbox.on_committed(mark(7, 0, true), now + SAME_WISH);
    assert_eq!(outbox.cursor, 1);
}

#[test]
fn a_mark_beyond_what_was_sent_is_not_believed() {
    let now = Instant::now();
    let mut outbox = connected(7, now);
    push(&mut outbox, 2);
    sent(&mut outbox, now);
    outbox.on_committed(mark(7, 1, false), now);
    for _ in 0..3 {
        outbox.on_committed(mark(7, 900, false), now);
    }
    assert_eq!(outbox.len(), 1);
    assert_eq!(
        outbox.take_notices(),
        [Notice::ImpossibleMark {
            mark: mark(7, 900, false)
        }]
    );
}

#[test]
fn a_run_that_began_with_the_clock_set_back_moves_behind_the_last_one() {
    let now = Instant::now();
    let mut outbox = outbox(50);
    push(&mut outbox, 2);
    outbox.on_connected(now);
    outbox.on_committed(mark(70, 900, false), now);
    assert_eq!(
        outbox.take_notices(),
        [Notice::BootMoved { from: 50, to: 71 }]
    );
    assert_eq!(sent(&mut outbox, now), [(1, 1), (2, 1)]);
    outbox.on_committed(mark(71, 2, false), now);
    assert_eq!(outbox.len(), 0);
}

#[test]
fn another_publisher_of_the_same_node_is_told_once_and_not_fought() {
    let now = Instant::now();
    let mut outbox = connected(50, now);
    push(&mut outbox, 2);
    sent(&mut outbox, now);
    outbox.on_committed(mark(50, 1, false), now);
    outbox.on_committed(mark(60, 1, false), now);
    outbox.on_committed(mark(60, 2, false), now);
    assert_eq!(
        outbox.take_notices(),
        [Notice::OtherPublisher {
            mark: mark(60, 1, false)
        }]
    );
    assert_eq!((outbox.boot, outbox.len()), (50, 1));
}

#[test]
fn a_full_outbox_drops_the_oldest_and_tells_once_until_it_has_room() {
    let now = Instant::now();
    let mut outbox = connected(7, now);
    outbox.max_bytes = 1000;
    push(&mut outbox, 100);
    assert!(outbox.bytes <= 1000 && outbox.len() > 3);
    assert_eq!(outbox.take_notices(), [Notice::DropsBegan]);
    let dropped = 100 - outbox.len() as u64;
    assert_eq!(outbox.dropped(), dropped);
    assert_eq!(
        sent(&mut outbox, now),
        [(dropped + 1, dropped + 1), (100, dropped + 1)]
    );
    outbox.on_committed(mark(7, 100, false), now);
    assert_eq!(outbox.take_notices(), [Notice::DropsEnded { dropped }]);
}

#[test]
fn a_sample_that_no_reader_takes_gets_no_number() {
    let mut outbox = outbox(7);
    let mut sample = Sample::default();
    for _ in 0..2 {
        sample
            .custom
            .push(hostbus_wire::sample::Custom::new("twice".parse().unwrap()));
    }
    assert!(outbox.push(sample).is_err());
    assert_eq!(outbox.push(Sample::default()).unwrap(), 1);
}

/// The ingester's rules, as the contract has them.
#[derive(Default)]
struct Ingester {
    up: bool,
    /// In Redis.
    committed: Option<(u64, u64)>,
    stored: Vec<(u64, u64)>,
    /// In memory.
    taken: Option<(u64, u64)>,
    pending: Vec<(u64, u64)>,
    last_gap: Option<((u64, u64), Instant)>,
    last_repeat: Option<Instant>,
}

impl Ingester {
    fn kill(&mut self) {
        self.up = false;
        self.pending.clear();
    }

    fn start(&mut self) {
        if !self.up {
            *self = Self {
                up: true,
                committed: self.committed,
                taken: self.committed,
                stored: std::mem::take(&mut self.stored),
                ..Self::default()
            };
        }
    }

    fn commit(&mut self) -> Option<Committed> {
        if !self.up || self.pending.is_empty() {
            return None;
        }
        self.stored.append(&mut self.pending);
        self.committed = self.taken;
        self.committed.map(|(boot, seq)| mark(boot, seq, false))
    }

    fn take(&mut self, payload: &[u8], now: Instant) -> Option<Committed> {
        let place = Sample::decode(payload).unwrap().place().unwrap();
        let (boot, seq) = self.taken.unwrap_or((0, 0));
        let old = place.boot < boot || (place.boot == boot && place.seq <= seq);
        if old {
            let soon = |at| now - at < Duration::from_secs(1);
            if self.last_repeat.is_some_and(soon) {
                return None;
            }
            self.last_repeat = Some(now);
            return self.committed.map(|(boot, seq)| mark(boot, seq, false));
        }
        let next = place.boot == boot && place.seq == seq + 1;
        if next || place.seq == place.first {
            self.taken = Some((place.boot, place.seq));
            self.pending.push((place.boot, place.seq));
            return None;
        }
        // A mark never speaks of what is taken and not yet committed, not even in a wish.
        let missing = self
            .committed
            .filter(|(boot, _)| *boot == place.boot)
            .unwrap_or((place.boot, 0));
        let told = self
            .last_gap
            .is_some_and(|(gap, at)| gap == missing && now - at < 2000 * MS);
        if told {
            return None;
        }
        self.last_gap = Some((missing, now));
        Some(mark(missing.0, missing.1, true))
    }
}

#[derive(Debug, Clone)]
enum Happening {
    Take(usize),
    Pass(u32),
    Connect,
    Disconnect,
    IngesterDies,
    IngesterStarts,
    Commit,
    SamplesGetLost(usize),
    MarksGetLost(usize),
    PublisherDies { clock_set_back: bool },
}

fn happenings() -> impl Strategy<Value = Vec<Happening>> {
    let happening = prop_oneof![
        6 => (1..30_usize).prop_map(Happening::Take),
        6 => (1..20_000_u32).prop_map(Happening::Pass),
        3 => Just(Happening::Connect),
        1 => Just(Happening::Disconnect),
        1 => Just(Happening::IngesterDies),
        3 => Just(Happening::IngesterStarts),
        5 => Just(Happening::Commit),
        2 => (1..8_usize).prop_map(Happening::SamplesGetLost),
        1 => (1..4_usize).prop_map(Happening::MarksGetLost),
        1 => any::<bool>().prop_map(|clock_set_back| Happening::PublisherDies { clock_set_back }),
    ];
    prop::collection::vec(happening, 1..80)
}

struct World {
    now: Instant,
    outbox: Outbox,
    ingester: Ingester,
    connected: bool,
    /// On their way to the publisher.
    marks: VecDeque<Committed>,
    retained: Option<Committed>,
    lose_samples: usize,
    lose_marks: usize,
    max_bytes: u64,
    taken_in_this_run: u64,
    runs: Vec<u64>,
}

impl World {
    fn new(max_bytes: u64) -> Self {
        let mut world = Self {
            now: Instant::now() + Duration::from_secs(1000),
            outbox: outbox(0),
            ingester: Ingester::default(),
            connected: false,
            marks: VecDeque::new(),
            retained: None,
            lose_samples: 0,
            lose_marks: 0,
            max_bytes,
            taken_in_this_run: 0,
            runs: Vec::new(),
        };
        world.start_publisher(1000);
        world
    }

    fn start_publisher(&mut self, boot: u64) {
        self.disconnect();
        let config = OutboxConfig {
            max_bytes: self.max_bytes,
            ..OutboxConfig::default()
        };
        self.outbox = Outbox::new(&config, boot);
        self.taken_in_this_run = 0;
    }

    fn disconnect(&mut self) {
        self.connected = false;
        self.marks.clear();
        self.outbox.on_disconnected();
    }

    fn connect(&mut self) {
        if !self.connected {
            self.connected = true;
            self.outbox.on_connected(self.now);
            self.marks.extend(self.retained);
        }
    }

    fn publish_mark(&mut self, mark: Option<Committed>) {
        let Some(mark) = mark else { return };
        self.retained = Some(mark);
        if self.lose_marks > 0 {
            self.lose_marks -= 1;
        } else if self.connected {
            self.marks.push_back(mark);
        }
    }

    fn pump(&mut self) {
        while let Next::Send(payload) = self.outbox.next(self.now) {
            if self.lose_samples > 0 {
                self.lose_samples -= 1;
            } else if self.ingester.up {
                let mark = self.ingester.take(&payload, self.now);
                self.publish_mark(mark);
            }
        }
    }

    fn pass(&mut self, time: Duration) {
        // In small steps, as long as there is something to do in between.
        let end = self.now + time;
        while self.now < end {
            self.pump();
            while let Some(mark) = self.marks.pop_front() {
                self.outbox.on_committed(mark, self.now);
            }
            self.pump();
            let next = match self.outbox.next(self.now) {
                Next::Wait(until) if until < end => until,
                _ => end,
            };
            let next = if self.marks.is_empty() {
                next
            } else {
                self.now + 10 * MS
            };
            self.now = next.max(self.now + MS);
        }
        self.pump();
    }

    fn happen(&mut self, happening: &Happening) {
        match *happening {
            Happening::Take(count) => {
                push(&mut self.outbox, count);
                self.taken_in_this_run += count as u64;
            }
            Happening::Pass(ms) => self.pass(ms * MS),
            Happening::Connect => self.connect(),
            Happening::Disconnect => self.disconnect(),
            Happening::IngesterDies => self.ingester.kill(),
            Happening::IngesterStarts => self.ingester.start(),
            Happening::Commit => {
                let mark = self.ingester.commit();
                self.publish_mark(mark);
            }
            Happening::SamplesGetLost(count) => self.lose_samples = count,
            Happening::MarksGetLost(count) => self.lose_marks = count,
            Happening::PublisherDies { clock_set_back } => {
                let boot = self.outbox.boot;
                self.runs.push(boot);
                self.start_publisher(if clock_set_back { boot - 7 } else { boot + 1 });
            }
        }
        self.pump();
    }

    /// All parts are there and nothing gets lost any more.
    fn settle(&mut self) {
        self.lose_samples = 0;
        self.lose_marks = 0;
        self.connect();
        self.ingester.start();
        let deadline = self.now + 3 * LONGEST_WAIT;
        while self.outbox.len() > 0 && self.now < deadline {
            self.pass(20 * MS);
            let mark = self.ingester.commit();
            self.publish_mark(mark);
        }
    }

    fn stored_of(&self, boot: u64) -> Vec<u64> {
        self.ingester
            .stored
            .iter()
            .filter(|(b, _)| *b == boot)
            .map(|(_, seq)| *seq)
            .collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn every_sample_is_stored_once_and_in_order_whatever_happens(list in happenings()) {
        let mut world = World::new(1 << 26);
        for happening in &list {
            world.happen(happening);
        }
        world.settle();
        prop_assert_eq!(world.outbox.len(), 0, "not all is committed");
        let stored = world.stored_of(world.outbox.boot);
        let all: Vec<u64> = (1..=world.taken_in_this_run).collect();
        prop_assert_eq!(stored, all);
        for boot in &world.runs {
            // What a killed run had not sent is lost with its memory, but there is no hole.
            let stored = world.stored_of(*boot);
            let all: Vec<u64> = (1..=stored.len() as u64).collect();
            prop_assert_eq!(stored, all);
        }
    }

    #[test]
    fn a_full_outbox_loses_no_more_than_it_says(list in happenings()) {
        let mut world = World::new(2000);
        for happening in &list {
            world.happen(happening);
        }
        world.settle();
        prop_assert_eq!(world.outbox.len(), 0, "not all is committed");
        let stored = world.stored_of(world.outbox.boot);
        prop_assert!(stored.is_sorted_by(|a, b| a < b), "{:?}", stored);
        let missing = world.taken_in_this_run - stored.len() as u64;
        prop_assert!(missing <= world.outbox.dropped(), "{} missing", missing);
        if world.taken_in_this_run > 0 {
            prop_assert_eq!(stored.last(), Some(&world.taken_in_this_run));
        }
    }
}
