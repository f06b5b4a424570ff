//! What the broker acknowledged survives `kill -9` and a damaged folder is never replaced in silence.
//!
//! `HOSTBUS_KILLS` sets how often it is killed (10), `HOSTBUS_CHAOS_SEED` repeats a run as far as
//! concurrency allows. The seed is printed.

#![expect(clippy::print_stdout, reason = "figures that a person wants to see")]

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hostbus_tests::chaos::broker::Broker;
use hostbus_tests::chaos::cast::{Cast, expect_no_violations};
use hostbus_tests::chaos::client::{Client, Event};
use hostbus_tests::chaos::packet::{Message, Version};
use hostbus_tests::chaos::retained::{Histories, keep, look};
use hostbus_tests::chaos::stage::{Phase, Stage};
use hostbus_tests::random;
use redb::{Database, ReadableDatabase, ReadableTableMetadata, TableDefinition};
use tokio::task::JoinSet;

/// Queues so long that the policy of a full queue never has to act.
const LIMITS: &str = "\
queue_messages = 10000000
queue_bytes = 4294967296
total_queue_bytes = 4294967296
";

/// How long a part may take before a test fails.
const DEADLINE: Duration = Duration::from_secs(30);

#[test]
fn what_was_acknowledged_survives_kill_9() {
    let kills = random::setting("HOSTBUS_KILLS", 10);
    let seed = random::setting("HOSTBUS_CHAOS_SEED", random::seed());
    println!("seed {seed}, {kills} times");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(kill_again_and_again(seed, kills));
}

async fn kill_again_and_again(seed: u64, kills: u64) {
    let mut broker = Broker::start(LIMITS);
    let stage = Arc::new(Stage::new(broker.address(), seed, true));
    let cast = Cast {
        publishers: 4,
        pause_ms: 40,
        misbehaves_in: 100,
        away_ms: 3_000,
    };
    let playing = cast.enter(&stage).await;
    let histories = Arc::new(Histories::default());
    let mut keepers = JoinSet::new();
    for number in 0..2 {
        keepers.spawn(keep(Arc::clone(&stage), Arc::clone(&histories), number));
    }
    let mut random = stage.random(1);
    let mut restarts = Vec::new();
    for _ in 0..kills {
        tokio::time::sleep(Duration::from_millis(random.within(50..1_200))).await;
        stage.hold(true);
        broker.kill();
        // What was sent and answered until now is what must be found.
        let begun = Instant::now();
        let expected = histories.expected();
        broker.restart();
        restarts.push(begun.elapsed());
        let found = look(&stage, "inspector").await.expect("retained messages");
        for wrong in histories.check(&expected, &found) {
            stage.ledger().violation(format!("after a kill: {wrong}"));
        }
        stage.hold(false);
        expect_no_violations(&stage);
    }
    stage.begin(Phase::Settle);
    while let Some(ended) = keepers.join_next().await {
        ended.expect("a keeper");
    }
    playing.settle(&stage).await;
    broker.check();
    let (sent, answered, received) = stage.ledger().totals();
    println!("{sent} messages sent, {answered} acknowledged, {received} received");
    println!("{:#?}", stage.deeds());
    println!("longest restart {:?}", restarts.iter().max());
    expect_no_violations(&stage);
    let found = look(&stage, "inspector").await.expect("retained messages");
    let wrong = histories.check(&histories.expected(), &found);
    assert!(wrong.is_empty(), "{wrong:#?}");
}

fn message(topic: &str, payload: &str, qos: u8, retain: bool) -> Message {
    Message {
        topic: topic.to_owned(),
        alias: 0,
        payload: payload.as_bytes().to_vec(),
        qos,
        retain,
        dup: false,
        packet_id: 0,
    }
}

/// Publishes and waits for the answer.
async fn publish(client: &mut Client, message: Message) {
    client.publish(1, message, None).await.expect("to publish");
    loop {
        match client.next(DEADLINE).await.expect("an answer") {
            Some(Event::Answered(1, reason)) => {
                assert!(reason < 0x80, "refused with {reason:#04x}");
                return;
            }
            Some(_) => {}
            None => panic!("no answer"),
        }
    }
}

/// The next message within `within`.
async fn next_message(client: &mut Client, within: Duration) -> Option<Message> {
    loop {
        match client.next(within).await.expect("a connection") {
            Some(Event::Message(message)) => return Some(message),
            Some(_) => {}
            None => return None,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_qos_2_message_that_went_to_one_member_before_a_kill_goes_to_no_other_after_it() {
    let mut broker = Broker::start(LIMITS);
    let mut members = ["one", "two"].map(|id| {
        let mut member = Client::new(broker.address(), Version::V5, id, 3_600);
        member.withholds = true;
        member
    });
    // The second one goes away again before the message comes.
    for member in members.iter_mut().rev() {
        member.connect().await.expect("to connect");
        member
            .subscribe(&[("$share/g/a", 2)])
            .await
            .expect("to subscribe");
        let answer = member.next(DEADLINE).await.expect("SUBACK");
        assert!(matches!(answer, Some(Event::Subscribed(..))), "{answer:?}");
        if member.connect.client_id == "two" {
            member.leave().await;
        }
    }
    let [one, two] = &mut members;
    let mut publisher = Client::new(broker.address(), Version::V5, "publisher", 0);
    publisher.connect().await.expect("to connect");
    publish(&mut publisher, message("a", "once", 2, false)).await;
    let came = next_message(one, DEADLINE).await.expect("the message");
    assert_eq!(came.payload, b"once");
    broker.kill();
    broker.restart();
    assert!(two.connect().await.expect("to come back"), "its session");
    let doubled = next_message(two, Duration::from_millis(1_500)).await;
    assert_eq!(doubled, None);
    // The first one gets it again, and knows that it had it.
    one.die();
    one.withholds = false;
    assert!(one.connect().await.expect("to come back"), "its session");
    assert_eq!(next_message(one, Duration::from_millis(500)).await, None);
    assert_eq!(
        one.unreleased(),
        0,
        "the broker has sent it again and released it"
    );
}

/// A broker that has kept some retained messages and then ended.
async fn broker_that_kept(count: usize) -> (Broker, PathBuf) {
    let mut broker = Broker::start(LIMITS);
    let mut client = Client::new(broker.address(), Version::V5, "keeper", 0);
    client.connect().await.expect("to connect");
    for number in 0..count {
        let topic = format!("chaos/kept/{number}");
        let text = number.to_string();
        publish(&mut client, message(&topic, &text, 1, true)).await;
    }
    client.leave().await;
    broker.kill();
    let file = broker.folder().join("data/state.redb");
    assert!(file.is_file(), "{} is missing", file.display());
    (broker, file)
}

/// The names in the folder of `file` that begin with its name.
fn kept_aside(file: &Path) -> Vec<String> {
    let folder = fs::read_dir(file.parent().expect("a folder")).expect("to list it");
    let names = folder.map(|entry| entry.expect("an entry").file_name());
    let names = names.map(|name| name.to_string_lossy().into_owned());
    names.filter(|name| name.contains(".damaged-")).collect()
}

#[test]
fn a_damaged_file_is_told_kept_aside_and_replaced() {
    type Damage = fn(&Path);
    let damages: [(&str, Damage); 4] = [
        ("overwritten at its beginning", |file| {
            overwrite(file, 0, &[0xa5; 512]);
        }),
        ("overwritten in many places", |file| {
            let length = fs::metadata(file).expect("the file").len();
            for place in (4_096..length).step_by(1_024) {
                overwrite(file, place, &[0x5a; 64]);
            }
        }),
        ("cut off in the middle", |file| {
            let length = fs::metadata(file).expect("the file").len();
            let opened = OpenOptions::new().write(true).open(file).expect("the file");
            opened.set_len(length / 2 + 7).expect("to cut it off");
        }),
        ("replaced with something else", |file| {
            fs::write(file, "this is no database\n".repeat(3_000)).expect("to write");
        }),
    ];
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    for (what, damage) in damages {
        let (mut broker, file) = runtime.block_on(broker_that_kept(200));
        damage(&file);
        let damaged = fs::read(&file).expect("the file");
        broker.restart();
        let aside = kept_aside(&file);
        assert_eq!(aside.len(), 1, "{what}: {aside:?}\n{}", broker.log());
        let kept = fs::read(file.with_file_name(&aside[0])).expect("the file kept aside");
        assert!(
            kept.len() >= damaged.len().min(4_096),
            "{what}: it is empty"
        );
        let log = broker.log();
        let told = log.lines().any(|line| line.contains(&aside[0]));
        assert!(told, "{what}: the log does not name {}:\n{log}", aside[0]);
        // It serves, and keeps again.
        runtime.block_on(async {
            let mut client = Client::new(broker.address(), Version::V5, "again", 0);
            client.connect().await.expect("to connect");
            publish(&mut client, message("chaos/kept/a", "1", 1, true)).await;
            client.leave().await;
        });
        broker.kill();
        broker.restart();
        let stage = Stage::new(broker.address(), 1, true);
        let found = runtime.block_on(look(&stage, "inspector")).expect("a look");
        assert_eq!(found.get("chaos/kept/a"), Some(&1), "{what}");
        assert_eq!(kept_aside(&file).len(), 1, "{what}: damaged again");
    }
}

fn overwrite(file: &Path, place: u64, bytes: &[u8]) {
    let file = OpenOptions::new().write(true).open(file).expect("the file");
    file.write_all_at(bytes, place).expect("to write");
}

#[test]
fn a_file_of_a_later_format_is_refused_and_left_alone() {
    const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
    const RETAINED: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("retained");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let (broker, file) = runtime.block_on(broker_that_kept(3));
    let database = Database::open(&file).expect("the database");
    let writing = database.begin_write().expect("to write");
    {
        let mut meta = writing.open_table(META).expect("the table");
        let format = meta.insert("format", 2).expect("to write");
        assert_eq!(
            format.map(|old| old.value()),
            Some(1),
            "the format of today"
        );
    }
    writing.commit().expect("to commit");
    drop(database);
    let refused = broker.another().finish();
    assert_ne!(refused.code, Some(0));
    let path = file.display().to_string();
    for part in [&*path, "format 2", "format 1"] {
        assert!(refused.stderr.contains(part), "{part}: {}", refused.stderr);
    }
    assert_eq!(kept_aside(&file).len(), 0, "it is not damaged");
    let database = Database::open(&file).expect("the database");
    let reading = database.begin_read().expect("to read");
    let meta = reading.open_table(META).expect("the table");
    let format = meta.get("format").expect("to read");
    assert_eq!(format.map(|now| now.value()), Some(2));
    let retained = reading.open_untyped_table(RETAINED).expect("the table");
    assert_eq!(retained.len().expect("to read"), 3, "it has lost messages");
}

#[test]
fn a_second_broker_on_the_same_folder_is_refused() {
    let mut broker = Broker::start(LIMITS);
    let second = broker.another().finish();
    assert_ne!(second.code, Some(0));
    let data = broker.folder().join("data").display().to_string();
    assert!(
        second.stderr.contains(&data) && second.stderr.contains("in use"),
        "{}",
        second.stderr
    );
    broker.check();
}
