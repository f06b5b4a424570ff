//! The outbox against single happenings. Against a model of the whole delivery: in `world`;
//! its file on disk: in `durability`.

mod actors;
mod durability;
mod world;

use super::*;

const MS: Duration = Duration::from_millis(1);

fn beginning(boot: u64, runs: Vec<FoundRun>) -> Beginning {
    Beginning {
        boot,
        persist: Persist::Away,
        found: Found {
            boots: runs.iter().map(|run| run.boot).collect(),
            runs,
            ..Found::default()
        },
        failure: None,
    }
}

fn outbox(boot: u64) -> Outbox {
    Outbox::new(&OutboxConfig::default(), beginning(boot, Vec::new()))
}

fn push(outbox: &mut Outbox, count: usize) {
    for _ in 0..count {
        outbox.push(sample(1), Instant::now()).unwrap();
    }
}

fn sample(ts: u64) -> Sample {
    Sample {
        ts: Some(ts),
        ..Sample::default()
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
        assert_eq!(place.boot, outbox.held.live().boot);
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
    assert_eq!((outbox.len(), outbox.held.bytes()), (0, 0));
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
    let [Notice::BootMoved { from: 50, to }] = outbox.take_notices()[..] else {
        panic!("it must move");
    };
    assert!(to > 70, "{to}");
    assert_eq!(sent(&mut outbox, now), [(1, 1), (2, 1)]);
    outbox.on_committed(mark(to, 2, false), now);
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
    assert_eq!((outbox.held.live().boot, outbox.len()), (50, 1));
}

#[test]
fn a_full_outbox_drops_the_oldest_and_tells_once_until_it_has_room() {
    let now = Instant::now();
    let mut outbox = connected(7, now);
    outbox.max_bytes = 1000;
    push(&mut outbox, 100);
    assert!(outbox.held.bytes() <= 1000 && outbox.len() > 3);
    assert_eq!(outbox.take_notices(), [Notice::DropsBegan]);
    let dropped = 100 - outbox.len() as u64;
    assert_eq!(outbox.status().dropped, dropped);
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
    assert!(outbox.push(sample, Instant::now()).is_err());
    let place = outbox.push(Sample::default(), Instant::now()).unwrap();
    assert_eq!(place.seq, 1);
}

/// Two samples of the run 5 and three of the run 6, as if they had been found on disk.
fn two_runs() -> Vec<FoundRun> {
    let run = |boot, seqs: std::ops::Range<u64>| FoundRun {
        key: boot,
        boot,
        rows: seqs
            .map(|seq| FoundRow {
                seq,
                ts_ms: seq,
                bytes: 100,
            })
            .collect(),
    };
    vec![run(5, 8..10), run(6, 1..4)]
}

/// Does what the outbox asks of the disk, which holds the rows of [`two_runs`] and takes all.
fn serve_disk(outbox: &mut Outbox, now: Instant) -> Vec<Order> {
    let mut orders = Vec::new();
    while let DiskNext::Order(order) = outbox.next_for_disk(now) {
        orders.push(order.clone());
        let report = match order {
            Order::Open => Report::Found(Found::default()),
            Order::Begin(_) => Report::Begun,
            Order::Commit(_) => Report::Kept { file_bytes: 1 },
            Order::Read { from, end, .. } => Report::Read(
                (from.seq..end)
                    .map(|seq| {
                        let payload = encode(&mut sample(seq), from.key, seq, seq).unwrap();
                        (Place { seq, ..from }, Some(payload))
                    })
                    .collect(),
            ),
            Order::Discard => Report::Discarded,
        };
        outbox.on_report(report, now);
    }
    orders
}

fn places(outbox: &mut Outbox, now: Instant) -> Vec<(u64, u64, u64)> {
    let mut sent = Vec::new();
    loop {
        serve_disk(outbox, now);
        let Next::Send(payload) = outbox.next(now) else {
            if outbox.wanted.is_some() {
                continue;
            }
            return sent;
        };
        let place = Sample::decode(&payload).unwrap().place().unwrap();
        sent.push((place.boot, place.seq, place.first));
    }
}

#[test]
fn earlier_runs_go_first_and_the_first_sample_of_a_later_one_waits_for_their_mark() {
    let mut now = Instant::now();
    let mut outbox = Outbox::new(&OutboxConfig::default(), beginning(7, two_runs()));
    outbox.on_connected(now - LISTEN);
    push(&mut outbox, 1);
    assert_eq!(places(&mut outbox, now), [(5, 8, 8)]);
    for seq in 2..4 {
        push(&mut outbox, 1);
        assert_eq!(places(&mut outbox, now), [(7, seq, 1)], "live");
    }
    // An ingester that misses what comes before.
    outbox.on_committed(mark(7, 0, true), now);
    assert_eq!(places(&mut outbox, now), [(5, 8, 8)]);
    now += 50 * MS;
    assert_eq!(places(&mut outbox, now), [(5, 9, 8)]);
    outbox.on_committed(mark(5, 9, false), now);
    now += 50 * MS;
    assert_eq!(places(&mut outbox, now), [(6, 1, 1), (6, 2, 1), (6, 3, 1)]);
    outbox.on_committed(mark(6, 2, false), now);
    assert_eq!(places(&mut outbox, now), [], "the run 6 is not covered");
    outbox.on_committed(mark(6, 3, false), now);
    now += 50 * MS;
    assert_eq!(places(&mut outbox, now), [(7, 1, 1), (7, 2, 1), (7, 3, 1)]);
    outbox.on_committed(mark(7, 3, false), now);
    assert_eq!(outbox.len(), 0);
    let orders = serve_disk(&mut outbox, now);
    assert_eq!(orders, [Order::Discard], "nothing is left on disk");
    let status = outbox.status();
    assert_eq!((status.held, status.on_disk, status.resent), (0, 0, 3));
}

#[test]
fn a_mark_of_a_run_that_the_folder_knows_nothing_of_loses_nothing() {
    let now = Instant::now();
    let mut outbox = Outbox::new(&OutboxConfig::default(), beginning(20, two_runs()));
    outbox.on_connected(now);
    outbox.on_committed(mark(10, 4, false), now);
    assert_eq!(outbox.len(), 5);
    let boots: Vec<u64> = places(&mut outbox, now + LISTEN)
        .iter()
        .map(|(boot, ..)| *boot)
        .collect();
    assert!(boots.len() == 1 && boots[0] > 10, "{boots:?}");
    // One that it knows covers what was before.
    let mut outbox = Outbox::new(&OutboxConfig::default(), beginning(20, two_runs()));
    outbox.on_committed(mark(6, 2, false), now);
    assert_eq!(outbox.len(), 1);
}

#[test]
fn memory_comes_first_and_the_disk_when_marks_stay_away() {
    let start = Instant::now();
    let mut outbox = connected(7, start);
    outbox.push(sample(1000), start).unwrap();
    let minute = Duration::from_secs(60);
    assert_eq!(
        outbox.next_for_disk(start),
        DiskNext::Wait(start + minute),
        "not yet"
    );
    outbox.push(sample(11_000), start + minute).unwrap();
    let orders = serve_disk(&mut outbox, start + minute);
    let [Order::Commit(batch)] = &orders[..] else {
        panic!("{orders:?}");
    };
    assert_eq!(batch.write.len(), 2);
    assert_eq!(outbox.in_memory_only(), 0);
    // Each new one goes there too.
    outbox.push(sample(21_000), start + minute).unwrap();
    assert_eq!(serve_disk(&mut outbox, start + minute).len(), 1);
    // Marks are back: what is recent needs no disk, and once nothing is left there it goes.
    places(&mut outbox, start + minute);
    outbox.on_committed(mark(7, 1, true), start + minute);
    places(&mut outbox, start + minute + 50 * MS);
    outbox.on_committed(mark(7, 2, false), start + minute);
    outbox.push(sample(31_000), start + minute).unwrap();
    places(&mut outbox, start + minute + 50 * MS);
    assert_eq!(serve_disk(&mut outbox, start + minute), []);
    outbox.on_committed(mark(7, 3, false), start + minute);
    assert_eq!(serve_disk(&mut outbox, start + minute), [Order::Discard]);
    assert_eq!((outbox.len(), outbox.in_memory_only()), (1, 1));
}

#[test]
fn much_in_memory_goes_to_disk_at_once() {
    let now = Instant::now();
    let mut outbox = connected(7, now);
    let samples = 1024 * 1024 / outbox_bytes_a_sample() + 1;
    for _ in 0..samples {
        outbox.push(sample(1), now).unwrap();
    }
    let orders = serve_disk(&mut outbox, now);
    assert!(orders.len() > 1, "in more than one batch");
    assert_eq!(outbox.in_memory_only(), 0);
}

fn outbox_bytes_a_sample() -> usize {
    encode(&mut sample(1), 7, 1, 1).unwrap().len()
}

#[test]
fn a_disk_that_fails_keeps_all_in_memory_is_told_once_and_tried_again() {
    let start = Instant::now();
    let config = OutboxConfig {
        spill_after_seconds: 0.1,
        ..OutboxConfig::default()
    };
    let mut outbox = Outbox::new(&config, beginning(7, Vec::new()));
    outbox.push(sample(1), start).unwrap();
    let failure = DiskFailure {
        reason: "full".to_owned(),
        mend: "make room",
    };
    let mut now = start + 100 * MS;
    let mut tries = Vec::new();
    while now < start + Duration::from_secs(300) {
        match outbox.next_for_disk(now) {
            DiskNext::Order(Order::Commit(_)) => {
                tries.push(now);
                let failure = failure.clone();
                outbox.on_report(
                    Report::Failed {
                        failure,
                        reading: false,
                    },
                    now,
                );
            }
            DiskNext::Wait(until) => now = until,
            other => panic!("{other:?}"),
        }
    }
    assert!((6..=20).contains(&tries.len()), "{}", tries.len());
    assert_eq!(
        outbox.take_notices(),
        [Notice::Disk(DiskNotice::Failed(failure))]
    );
    assert_eq!(outbox.in_memory_only(), 1);
    serve_disk(&mut outbox, now);
    assert_eq!(outbox.take_notices(), [Notice::Disk(DiskNotice::Recovered)]);
    assert_eq!(outbox.in_memory_only(), 0);
}

#[test]
fn a_disk_that_hangs_is_told_and_holds_up_nothing() {
    let start = Instant::now();
    let mut outbox = connected(7, start);
    outbox.push(sample(1), start).unwrap();
    let now = start + Duration::from_secs(60);
    assert!(matches!(
        outbox.next_for_disk(now),
        DiskNext::Order(Order::Commit(_))
    ));
    let DiskNext::Wait(tell_at) = outbox.next_for_disk(now) else {
        panic!("it waits for the answer");
    };
    assert_eq!(outbox.next_for_disk(tell_at), DiskNext::Idle);
    assert!(matches!(
        outbox.take_notices()[..],
        [Notice::Disk(DiskNotice::Failed(_))]
    ));
    push(&mut outbox, 3);
    assert_eq!(sent(&mut outbox, tell_at).last(), Some(&(4, 1)));
    outbox.on_report(Report::Kept { file_bytes: 1 }, tell_at);
    assert_eq!(outbox.take_notices(), [Notice::Disk(DiskNotice::Recovered)]);
    assert_eq!(outbox.in_memory_only(), 3);
}

#[test]
fn a_file_that_is_damaged_each_time_is_begun_anew_with_growing_waits() {
    let start = Instant::now();
    let config = OutboxConfig {
        spill_after_seconds: 0.1,
        ..OutboxConfig::default()
    };
    let mut outbox = Outbox::new(&config, beginning(7, Vec::new()));
    outbox.push(sample(1), start).unwrap();
    let mut now = start + 100 * MS;
    let mut tries = 0;
    while now < start + Duration::from_secs(300) {
        match outbox.next_for_disk(now) {
            DiskNext::Order(Order::Commit(_)) => {
                tries += 1;
                let report = Report::Broken {
                    aside: "aside".into(),
                    reason: "damaged".to_owned(),
                    reading: false,
                };
                outbox.on_report(report, now);
                assert!(tries < 1000, "without a wait");
            }
            DiskNext::Wait(until) => now = until,
            other => panic!("{other:?}"),
        }
    }
    assert!((6..=20).contains(&tries), "{tries}");
    serve_disk(&mut outbox, now);
    assert_eq!(outbox.in_memory_only(), 0);
}

#[test]
fn a_folder_that_answers_twice_what_it_holds_is_heard_once() {
    let now = Instant::now();
    let failure = DiskFailure {
        reason: "slow".to_owned(),
        mend: "wait",
    };
    let late = Beginning {
        failure: Some(failure),
        ..beginning(7, Vec::new())
    };
    let mut outbox = Outbox::new(&OutboxConfig::default(), late);
    assert_eq!(
        outbox.next_for_disk(now),
        DiskNext::Order(Order::Open),
        "the start gave up on the same order"
    );
    let found = Found {
        boots: vec![5, 6],
        runs: two_runs(),
        ..Found::default()
    };
    outbox.on_report(Report::Found(found), now);
    outbox.push(sample(1), now).unwrap();
    assert!(matches!(
        outbox.next_for_disk(now),
        DiskNext::Order(Order::Commit(_))
    ));
    outbox.on_report(Report::Found(Found::default()), now);
    outbox.on_report(Report::Kept { file_bytes: 1 }, now);
    assert_eq!((outbox.len(), outbox.in_memory_only()), (6, 0));
    assert_eq!(outbox.known_boots, [5, 6]);
}

#[test]
fn a_run_that_moves_while_the_past_is_sent_begins_again_with_a_probe() {
    let mut now = Instant::now();
    let mut outbox = Outbox::new(&OutboxConfig::default(), beginning(20, two_runs()));
    outbox.on_connected(now - LISTEN);
    push(&mut outbox, 1);
    outbox.on_committed(mark(20, 0, true), now);
    assert_eq!(places(&mut outbox, now), [(5, 8, 8)]);
    outbox.on_committed(mark(10, 4, false), now);
    now += 50 * MS;
    let sent = places(&mut outbox, now);
    assert_eq!(sent, [(11, 8, 8)], "the oldest, under its new boot");
    assert!(!outbox.catching_up);
}

#[test]
fn a_damaged_row_is_left_out_and_told() {
    let now = Instant::now();
    let mut outbox = Outbox::new(&OutboxConfig::default(), beginning(7, two_runs()));
    outbox.on_connected(now - LISTEN);
    outbox.next(now);
    let DiskNext::Order(Order::Read { from, end, .. }) = outbox.next_for_disk(now) else {
        panic!("the oldest sample is read");
    };
    assert_eq!((from, end), (Place { key: 5, seq: 8 }, 10));
    let garbage = (Place { key: 5, seq: 8 }, Some(vec![1, 2, 3]));
    let missing = (Place { key: 5, seq: 9 }, None);
    outbox.on_report(Report::Read(vec![garbage, missing]), now);
    assert_eq!(outbox.take_notices(), [Notice::Damaged { lost: 2 }]);
    assert_eq!(places(&mut outbox, now), [(6, 1, 1)]);
    assert_eq!(outbox.status().damaged, 2);
}
