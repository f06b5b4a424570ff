//! The outbox in a world of its own: an ingester, a disk and a broker that fail at random.

use proptest::prelude::*;

use super::actors::{FakeDisk, Ingester};
use super::*;

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
    SamplesAreDoubled(usize),
    MarksGetLost(usize),
    DiskHangs,
    DiskWorks,
    DiskFails(usize),
    PublisherDies {
        clock_set_back: bool,
        /// The order that was under way is done, though nobody hears of it.
        last_order_done: bool,
        graceful: bool,
        folder: Folder,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Folder {
    There,
    /// It is emptied while the publisher is down.
    Emptied,
    /// It can't be used at the start, but later.
    Away,
}

fn happenings(folders: &'static [Folder]) -> impl Strategy<Value = Vec<Happening>> {
    let dies = (
        any::<bool>(),
        any::<bool>(),
        any::<bool>(),
        prop::sample::select(folders),
    )
        .prop_map(|(clock_set_back, last_order_done, graceful, folder)| {
            Happening::PublisherDies {
                clock_set_back,
                last_order_done,
                graceful,
                folder,
            }
        });
    let happening = prop_oneof![
        6 => (1..30_usize).prop_map(Happening::Take),
        3 => (1..20_000_u32).prop_map(Happening::Pass),
        3 => (1..50_u32).prop_map(Happening::Pass),
        3 => Just(Happening::Connect),
        1 => Just(Happening::Disconnect),
        1 => Just(Happening::IngesterDies),
        3 => Just(Happening::IngesterStarts),
        5 => Just(Happening::Commit),
        2 => (1..8_usize).prop_map(Happening::SamplesGetLost),
        1 => (1..8_usize).prop_map(Happening::SamplesAreDoubled),
        1 => (1..4_usize).prop_map(Happening::MarksGetLost),
        1 => Just(Happening::DiskHangs),
        2 => Just(Happening::DiskWorks),
        1 => (1..4_usize).prop_map(Happening::DiskFails),
        2 => dies,
    ];
    prop::collection::vec(happening, 1..80)
}

struct World {
    now: Instant,
    clock_seconds: u64,
    used_boots: Vec<u64>,
    config: OutboxConfig,
    retains: bool,
    outbox: Outbox,
    ingester: Ingester,
    disk: FakeDisk,
    connected: bool,
    /// On their way to the publisher.
    marks: VecDeque<Committed>,
    retained: Option<Committed>,
    lose_samples: usize,
    double_samples: usize,
    lose_marks: usize,
    taken: u64,
    /// What may be lost: it was in the memory of a process that died.
    may_be_lost: Vec<u64>,
    in_process: Vec<u64>,
    dropped: u64,
}

impl World {
    fn new(persist: Persist, max_bytes: u64, retains: bool) -> Self {
        let config = OutboxConfig {
            persist,
            max_bytes,
            spill_after_seconds: 3.0,
            ..OutboxConfig::default()
        };
        Self {
            now: Instant::now() + Duration::from_secs(1000),
            clock_seconds: 1000,
            used_boots: Vec::new(),
            outbox: Outbox::new(
                &config,
                Beginning {
                    persist,
                    ..beginning(1000, Vec::new())
                },
            ),
            config,
            retains,
            ingester: Ingester::default(),
            disk: FakeDisk {
                boots: vec![1000],
                ..FakeDisk::default()
            },
            connected: false,
            marks: VecDeque::new(),
            retained: None,
            lose_samples: 0,
            double_samples: 0,
            lose_marks: 0,
            taken: 0,
            may_be_lost: Vec::new(),
            in_process: Vec::new(),
            dropped: 0,
        }
    }

    fn start_publisher(&mut self, folder: Folder) {
        self.disconnect();
        self.dropped += self.outbox.status().dropped;
        self.disk.orders.clear();
        self.disk.hangs = false;
        self.disk.failing = 0;
        let kept: Vec<u64> = match folder {
            Folder::Emptied => Vec::new(),
            // Runs were moved while the disk failed, sent under their new boots, and the process died
            // before the disk heard of it.
            _ if self.outbox.keeping.is_move_due() => Vec::new(),
            _ => self.disk.rows.values().map(|(ts, _)| *ts).collect(),
        };
        // What neither the disk nor Redis has may be lost. What the disk had before, it still has.
        let in_process = std::mem::take(&mut self.in_process);
        self.may_be_lost
            .extend(in_process.into_iter().filter(|ts| !kept.contains(ts)));
        // Two runs never begin in the same second, even where a clock is set back.
        self.used_boots.push(self.outbox.held.live().boot);
        while self.used_boots.contains(&self.clock_seconds) {
            self.clock_seconds += 1;
        }
        self.used_boots.push(self.clock_seconds);
        let mut begins = Beginning {
            boot: self.clock_seconds,
            persist: self.config.persist,
            found: Found::default(),
            failure: None,
        };
        match folder {
            // It keeps no boots, either.
            _ if self.config.persist == Persist::Never => {}
            Folder::Emptied => {
                self.disk = FakeDisk::default();
                self.disk.boots.push(begins.boot);
            }
            Folder::There => {
                begins.found = self.disk.found();
                begins.boot = begins.found.boot_after(self.clock_seconds);
                self.disk.boots.push(begins.boot);
                self.in_process.clone_from(&kept);
            }
            Folder::Away => {
                begins.failure = Some(DiskFailure {
                    reason: "away".to_owned(),
                    mend: "wait",
                });
                self.disk.failing = 2;
                self.in_process.clone_from(&kept);
            }
        }
        self.outbox = Outbox::new(&self.config, begins);
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
        self.retained = Some(mark).filter(|_| self.retains);
        if self.lose_marks > 0 {
            self.lose_marks -= 1;
        } else if self.connected {
            self.marks.push_back(mark);
        }
    }

    fn pump(&mut self) {
        loop {
            self.pump_disk();
            let Next::Send(payload) = self.outbox.next(self.now) else {
                if self.outbox.wanted.is_some() && self.outbox.reading.is_none() {
                    self.pump_disk();
                }
                return;
            };
            if self.lose_samples > 0 {
                self.lose_samples -= 1;
                continue;
            }
            let copies = 1 + usize::from(self.double_samples > 0);
            self.double_samples = self.double_samples.saturating_sub(1);
            for _ in 0..copies {
                if self.ingester.up {
                    let mark = self.ingester.take(&payload, self.now);
                    self.publish_mark(mark);
                }
            }
        }
    }

    fn pump_disk(&mut self) {
        loop {
            while let DiskNext::Order(order) = self.outbox.next_for_disk(self.now) {
                self.disk.orders.push_back(order);
                assert!(self.disk.orders.len() <= 2, "orders pile up");
            }
            if self.disk.hangs {
                return;
            }
            let Some(order) = self.disk.orders.pop_front() else {
                return;
            };
            let report = self.disk.apply(order);
            self.outbox.on_report(report, self.now);
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
                for _ in 0..count {
                    self.taken += 1;
                    self.outbox.push(sample(self.taken), self.now).unwrap();
                    self.in_process.push(self.taken);
                }
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
            Happening::SamplesAreDoubled(count) => self.double_samples = count,
            Happening::MarksGetLost(count) => self.lose_marks = count,
            Happening::DiskHangs => self.disk.hangs = true,
            Happening::DiskWorks => self.disk.hangs = false,
            Happening::DiskFails(count) => self.disk.failing = count,
            Happening::PublisherDies {
                clock_set_back,
                last_order_done,
                graceful,
                folder,
            } => {
                if graceful {
                    self.outbox.stop();
                    self.pump_disk();
                }
                if last_order_done && let Some(order) = self.disk.orders.pop_front() {
                    self.disk.apply(order);
                }
                self.clock_seconds = if clock_set_back {
                    self.clock_seconds.saturating_sub(70)
                } else {
                    self.clock_seconds.max(self.disk.found().last_boot()) + 10
                };
                self.start_publisher(folder);
            }
        }
        self.pump();
    }

    /// All parts are there and nothing gets lost any more.
    fn settle(&mut self) {
        self.lose_samples = 0;
        self.lose_marks = 0;
        self.disk.hangs = false;
        self.disk.failing = 0;
        self.connect();
        self.ingester.start();
        let deadline = self.now + 4 * LONGEST_WAIT;
        while (self.outbox.len() > 0 || !self.disk.rows.is_empty()) && self.now < deadline {
            self.pass(20 * MS);
            let mark = self.ingester.commit();
            self.publish_mark(mark);
        }
    }
}

fn persist() -> impl Strategy<Value = Persist> {
    prop::sample::select(&[Persist::Never, Persist::Away, Persist::Always][..])
}

fn missing(world: &World) -> Vec<u64> {
    (1..=world.taken)
        .filter(|ts| !world.ingester.stored.contains(ts) && !world.may_be_lost.contains(ts))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn every_sample_is_stored_once_and_in_order_whatever_happens(
        list in happenings(&[Folder::There, Folder::Emptied]),
        persist in persist(),
        retains in any::<bool>(),
    ) {
        let mut world = World::new(persist, 1 << 26, retains);
        for happening in &list {
            world.happen(happening);
        }
        world.settle();
        prop_assert_eq!(world.outbox.len(), 0, "not all is committed");
        prop_assert!(world.disk.rows.is_empty(), "the disk holds what nobody needs");
        prop_assert_eq!(missing(&world), Vec::<u64>::new());
        let stored = &world.ingester.stored;
        prop_assert!(stored.is_sorted_by(|a, b| a < b), "{:?}", stored);
    }

    #[test]
    fn what_a_folder_that_was_away_held_is_sent_once_it_is_back(
        list in happenings(&[Folder::There, Folder::Away]),
        persist in persist(),
    ) {
        let mut world = World::new(persist, 1 << 26, true);
        for happening in &list {
            world.happen(happening);
        }
        world.settle();
        prop_assert_eq!(world.outbox.len(), 0, "not all is committed");
        prop_assert_eq!(missing(&world), Vec::<u64>::new());
    }

    #[test]
    fn a_full_outbox_loses_no_more_than_it_says(
        list in happenings(&[Folder::There]),
        persist in persist(),
    ) {
        let mut world = World::new(persist, 2000, true);
        for happening in &list {
            world.happen(happening);
        }
        world.settle();
        prop_assert_eq!(world.outbox.len(), 0, "not all is committed");
        let stored = &world.ingester.stored;
        prop_assert!(stored.is_sorted_by(|a, b| a < b), "{:?}", stored);
        let missing = missing(&world).len() as u64;
        let dropped = world.dropped + world.outbox.status().dropped;
        prop_assert!(missing <= dropped, "{} missing", missing);
    }
}
