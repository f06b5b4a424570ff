//! The real intake: a thousand publishers that catch up after an outage from a slow writer, and one node
//! that talks without end.

use std::time::Duration;

use hostbus_store::Retention;
use hostbus_wire::encode;
use hostbus_wire::topic::NodeTopic;

use super::*;
use crate::{describer, queue};

const NODES: usize = 1_000;
const BACKLOG: u64 = 40;
const QUEUE_BYTES: usize = 16 * 1024 * 1024;
/// What the writer takes, and what each publisher that catches up sends, before the other does.
const WRITTEN_A_ROUND: usize = 200;
const SENT_A_ROUND: u64 = 10;
/// How often a publisher takes a sample.
const INTERVAL: Duration = Duration::from_millis(500);
const DEADLINE: Duration = Duration::from_secs(60);

/// One that holds what is not yet written.
struct Publisher {
    path: Arc<NodePath>,
    newest: u64,
    written: u64,
    /// The next one to send, while it catches up.
    cursor: Option<u64>,
    probed_at: Instant,
}

impl Publisher {
    fn message(&self, root: &TopicRoot, seq: u64) -> BusEvent {
        let sample = Sample {
            ts: Some(1_763_630_000_000 + seq),
            boot: Some(5),
            seq: Some(seq),
            first: Some(self.written + 1),
            ..Sample::default()
        };
        BusEvent::Message(Message {
            topic: NodeTopic::Metrics.text(root, &self.path),
            payload: encode(&sample).unwrap().into(),
            retained: false,
        })
    }
}

fn number(path: &NodePath) -> usize {
    path.node.as_str()[1..].parse().unwrap()
}

#[test]
fn a_thousand_nodes_catch_up_a_few_at_a_time() {
    let config = Config {
        queue_bytes: QUEUE_BYTES,
        ..Config::default()
    };
    let root = TopicRoot::default();
    let (queue, mut ends) = queue::queue(QUEUE_BYTES, 1);
    let works = &mut ends[0];
    let (descriptions, _descriptions) = describer::descriptions(1);
    let (events, _events) = mpsc::channel(1);
    let counters = Arc::new(Counters::default());
    let mut intake = Intake::new(
        &config,
        &root,
        Retention::default().raw,
        queue,
        descriptions,
        events,
        Arc::clone(&counters),
    );
    let begun = Instant::now();
    let mut publishers: Vec<Publisher> = (0..NODES)
        .map(|number| Publisher {
            path: Arc::new(format!("home.n{number}").parse().unwrap()),
            newest: BACKLOG,
            written: 0,
            cursor: None,
            probed_at: begun,
        })
        .collect();

    counters.writer_away();
    intake.feedback(Feedback::Away);
    for publisher in &publishers {
        intake.event(publisher.message(&root, BACKLOG));
    }
    assert!(counters.writer_back());
    intake.feedback(Feedback::Back);

    let (mut most_at_once, mut sent) = (0, 0);
    while publishers.iter().any(|one| one.written < BACKLOG) {
        assert!(begun.elapsed() < DEADLINE, "some do not catch up");
        for _ in 0..WRITTEN_A_ROUND {
            match works.try_recv() {
                Ok(Work::Write(entry, _room)) => {
                    let mark = entry.step.unwrap().mark;
                    let publisher = &mut publishers[number(&entry.node)];
                    assert_eq!(mark.seq, publisher.written + 1);
                    publisher.written = mark.seq;
                }
                Ok(Work::Recover(path)) => {
                    let seq = publishers[number(&path)].written;
                    let mark = (seq > 0).then_some(Mark { boot: 5, seq });
                    intake.feedback(Feedback::Recovered(path, mark));
                }
                Ok(Work::Answer(path, Answer::Resend(_))) => {
                    let publisher = &mut publishers[number(&path)];
                    publisher.cursor = Some(publisher.written + 1);
                }
                Ok(Work::Answer(_, Answer::Mark) | Work::Forget(_)) => {}
                Err(_) => break,
            }
        }
        most_at_once =
            most_at_once.max(publishers.iter().filter(|one| one.cursor.is_some()).count());
        for publisher in &mut publishers {
            if publisher.probed_at.elapsed() > INTERVAL {
                publisher.probed_at = Instant::now();
                publisher.newest += 1;
                if publisher.cursor.is_none() {
                    intake.event(publisher.message(&root, publisher.newest));
                }
            }
            for _ in 0..SENT_A_ROUND {
                let Some(seq) = publisher.cursor else { break };
                intake.event(publisher.message(&root, seq));
                sent += 1;
                publisher.cursor = (seq < publisher.newest).then_some(seq + 1);
            }
        }
        intake.look();
    }
    let turns = QUEUE_BYTES / TURN_BYTES;
    // Who has just had its turn may still send its last ones.
    assert!(most_at_once <= 2 * turns, "{most_at_once} at once");
    let refused = counters.all()["refused_queue_full"];
    let taken: u64 = publishers.iter().map(|one| one.written).sum();
    assert!(
        taken * 10 >= sent * 8,
        "{sent} were sent for {taken} that were taken, {refused} refused"
    );
}

#[test]
fn a_flood_of_events_leaves_the_room_of_samples_alone() {
    const ROOM: usize = 1024 * 1024;
    let root = TopicRoot::default();
    let (queue, mut ends) = queue::queue(ROOM, 1);
    let (descriptions, _nobody_writes_them) = describer::descriptions(ROOM);
    let (events, _events) = mpsc::channel(1);
    let counters = Arc::new(Counters::default());
    let told = Arc::clone(&counters);
    let (config, raw) = (Config::default(), Retention::default().raw);
    let mut intake = Intake::new(&config, &root, raw, queue, descriptions, events, counters);
    let path: NodePath = "home.a".parse().unwrap();
    let message = |topic: NodeTopic, payload: Vec<u8>| {
        BusEvent::Message(Message {
            topic: topic.text(&root, &path),
            payload: payload.into(),
            retained: false,
        })
    };
    let flood = clock_ahead(0, 0);
    for _ in 0..5_000 {
        intake.event(message(NodeTopic::Events, encode(&flood).unwrap()));
    }
    let sample = Sample::default();
    intake.event(message(NodeTopic::Metrics, encode(&sample).unwrap()));
    assert!(matches!(ends[0].try_recv(), Ok(Work::Write(..))));
    let counted = told.all();
    assert_eq!(counted["refused_queue_full"], 0);
    assert!(counted["descriptions_dropped"] > 0);
}

#[test]
fn samples_older_than_rows_are_kept_are_told_and_counted() {
    let root = TopicRoot::default();
    let (queue, _ends) = queue::queue(1024 * 1024, 1);
    let (descriptions, _descriptions) = describer::descriptions(1);
    let (events, mut told) = mpsc::channel(9);
    let counters = Arc::new(Counters::default());
    let counted = Arc::clone(&counters);
    let config = Config::default();
    let raw = Kept {
        seconds: 24 * 3_600,
        stream_seconds: None,
    };
    let mut intake = Intake::new(&config, &root, raw, queue, descriptions, events, counters);
    let path: NodePath = "home.a".parse().unwrap();
    let now_ms = clock::unix_ms();
    let hour_ms = 3_600_000;
    let mut check = |ts: Option<u64>, retained: bool, count: u64| {
        let sample = Sample {
            ts,
            ..Sample::default()
        };
        intake.event(BusEvent::Message(Message {
            topic: NodeTopic::Metrics.text(&root, &path),
            payload: encode(&sample).unwrap().into(),
            retained,
        }));
        assert_eq!(counted.all()["too_old"], count, "{ts:?} {retained}");
    };
    check(None, false, 0);
    check(Some(now_ms - 23 * hour_ms), false, 0);
    check(Some(now_ms - 25 * hour_ms), true, 0);
    check(Some(now_ms - 25 * hour_ms), false, 1);
    // In seconds.
    check(Some(now_ms / 1000), false, 2);
    let (node, event) = told.try_recv().unwrap();
    assert_eq!((&*node, event.kind.as_str()), (&path, "samples-too-old"));
    assert!(told.try_recv().is_err());
}

#[test]
fn a_retained_alert_is_the_same_again_only_where_its_author_gave_no_time() {
    let root = TopicRoot::default();
    let (queue, _ends) = queue::queue(1024 * 1024, 1);
    let (descriptions, mut described) = describer::descriptions(1024 * 1024);
    let (events, _events) = mpsc::channel(1);
    let counters = Arc::new(Counters::default());
    let (config, raw) = (Config::default(), Retention::default().raw);
    let mut intake = Intake::new(&config, &root, raw, queue, descriptions, events, counters);
    let path: NodePath = "home.a".parse().unwrap();
    let mut check = |payload: &str, retained: bool, expected: bool| {
        let topic = NodeTopic::Alert {
            rule: "disk-full".into(),
            instance: None,
        };
        intake.event(BusEvent::Message(Message {
            topic: topic.text(&root, &path),
            payload: payload.as_bytes().to_vec().into(),
            retained,
        }));
        match described.try_recv().unwrap().what {
            What::Transition(_, undated) => assert_eq!(undated, expected, "{payload} {retained}"),
            what => panic!("{what:?}"),
        }
    };
    check(
        "{\"state\": \"firing\", \"since\": 1763630000123}",
        true,
        false,
    );
    check(
        "{\"state\": \"firing\", \"since\": 1763640000123}",
        true,
        false,
    );
    check("{\"state\": \"firing\"}", true, true);
    check("{\"state\": \"firing\"}", false, false);
}
