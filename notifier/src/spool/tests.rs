//! Real files: what a restart, a kill and a damaged file leave.

use std::fs;
use std::os::unix::fs::symlink;
use std::time::Instant;

use hostbus_wire::alert::{Alert, AlertKey, AlertSeverity, AlertState};
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};

use super::*;
use crate::notice::{Line, Reason};

fn line(rule: &str, firing_since: u64) -> Line {
    Line {
        key: AlertKey {
            node: "home.web1".parse().unwrap(),
            rule: rule.into(),
            instance: Some("/data \"x\"".into()),
        },
        alert: Alert {
            summary: "it is full".to_owned(),
            value: Some(97.1),
            labels: [("a".to_owned(), "ü".to_owned())].into(),
            ..Alert::default()
        },
        firing_since,
        was: None,
        flaps: 0,
        repeated: false,
    }
}

fn notice(id: u64, channel: &str, rules: &[&str]) -> Notice {
    Notice {
        id,
        channel: channel.to_owned(),
        reason: Reason::Firing,
        group: "node home.web1".to_owned(),
        formed_ms: 1000 + id,
        lines: rules.iter().map(|rule| line(rule, id)).collect(),
        still_firing: 0,
    }
}

fn open(folder: &Path) -> (Spool, Found) {
    Spool::open(Some(folder), "main", &SpoolConfig::default()).unwrap()
}

fn in_memory(max_notices: usize) -> Spool {
    let config = SpoolConfig {
        max_notices,
        ..SpoolConfig::default()
    };
    Spool::open(None, "main", &config).unwrap().0
}

fn notices(list: Vec<Notice>) -> Changes {
    Changes {
        notices: list,
        ..Changes::default()
    }
}

fn entry(key: &str, value: Option<&str>) -> Changes {
    Changes {
        entries: vec![(key.to_owned(), value.map(|value| value.as_bytes().to_vec()))],
        ..Changes::default()
    }
}

fn end(reason: Option<&str>) -> End {
    let how = match reason {
        None => Ended::Delivered,
        Some(reason) => Ended::GivenUp {
            reason: reason.to_owned(),
        },
    };
    End { at_ms: 5, how }
}

fn head_id(spool: &Spool, channel: &str) -> Option<u64> {
    spool.head(channel).map(|head| head.notice.id)
}

fn figures(spool: &Spool, channel: &str) -> Figures {
    let all = spool.figures();
    let found = all.into_iter().find(|(name, _)| name == channel);
    found.map(|(_, figures)| figures).unwrap_or_default()
}

#[tokio::test]
async fn state_notices_and_progress_survive_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let (spool, found) = open(folder.path());
    assert_eq!(found, Found::default());
    let mut changes = entry("group/a", Some("told"));
    changes
        .entries
        .push(("group/b".to_owned(), Some(vec![0, 255])));
    changes.notices = vec![
        notice(7, "ops", &["disk", "cpu"]),
        notice(8, "mail", &["disk"]),
    ];
    spool.commit(changes, 1);
    spool.commit(entry("group/a", None), 1);
    spool.commit(notices(vec![notice(9, "ops", &["cpu"])]), 1);
    let progress = Progress {
        pieces: 3,
        delivered: 1,
        tries: 2,
        first_try_ms: Some(4),
        not_before_ms: 77,
        ended: None,
    };
    spool.tried("ops", 7, progress.clone(), None);
    spool.end("mail", 8, end(Some("gone")));
    spool.close().await;

    let (spool, found) = open(folder.path());
    assert_eq!(found.entries, [("group/b".to_owned(), vec![0, 255])]);
    assert_eq!((found.notices, found.last_id, found.damaged), (3, 9, 0));
    let head = spool.head("ops").unwrap();
    assert_eq!(*head.notice, notice(7, "ops", &["disk", "cpu"]));
    assert_eq!(head.progress, progress);
    spool.end("ops", 7, end(None));
    assert_eq!(head_id(&spool, "ops"), Some(9));
    assert_eq!(head_id(&spool, "mail"), None);
    // First what the last run did not tell.
    let outcome = spool.outcome().await;
    assert_eq!((&*outcome.channel, outcome.notice.id), ("mail", 8));
    assert_eq!((outcome.ended, outcome.at_ms), (end(Some("gone")).how, 5));
    assert_eq!(spool.outcome().await.notice.id, 7);
}

#[tokio::test]
async fn an_end_is_told_again_after_a_kill_until_it_was_told() {
    let folder = tempfile::tempdir().unwrap();
    let (spool, _) = open(folder.path());
    spool.commit(
        notices(vec![notice(1, "ops", &["a"]), notice(2, "ops", &["b"])]),
        1,
    );
    spool.end("ops", 1, end(None));
    let ticket = spool.end("ops", 2, end(None));
    spool.settled(ticket).await;
    let told = spool.outcome().await;
    spool.settled(spool.told(&told)).await;
    assert_eq!(spool.outcome().await.notice.id, 2);
    spool.kill();

    let (spool, found) = open(folder.path());
    assert_eq!(found.notices, 1);
    assert_eq!(spool.outcome().await.notice.id, 2);
}

#[tokio::test]
async fn what_was_recorded_together_is_there_together_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    for round in 1..30 {
        let (spool, found) = open(folder.path());
        let state = found.entries.first().map(|(_, value)| value.clone());
        let state = state.map(|value| String::from_utf8(value).unwrap().parse::<u64>().unwrap());
        assert_eq!(state.unwrap_or(0), found.last_id, "round {round}");
        let next = found.last_id + 1;
        let mut changes = entry("last", Some(&next.to_string()));
        changes.notices.push(notice(next, "ops", &["a"]));
        let ticket = spool.commit(changes, 1);
        if round % 2 == 0 {
            spool.settled(ticket).await;
        }
        spool.kill();
        if round % 2 == 0 {
            let (spool, found) = open(folder.path());
            assert_eq!(found.last_id, next);
            spool.kill();
        }
    }
}

#[test]
fn a_second_notifier_is_kept_out_and_told_how_to_mend_it() {
    let folder = tempfile::tempdir().unwrap();
    let (_spool, _) = open(folder.path());
    let error = Spool::open(Some(folder.path()), "main", &SpoolConfig::default());
    let text = error.unwrap_err().to_string();
    assert!(text.contains("spool-main.redb"), "{text}");
    assert!(text.contains("notifier.instance"), "{text}");
    Spool::open(Some(folder.path()), "other", &SpoolConfig::default()).unwrap();
}

#[test]
fn a_spool_that_is_dropped_writes_what_is_left_and_lets_go_of_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let (spool, _) = open(folder.path());
    spool.commit(notices(vec![notice(1, "ops", &["a"])]), 1);
    drop(spool);
    let deadline = Instant::now() + Duration::from_secs(20);
    let found = loop {
        match Spool::open(Some(folder.path()), "main", &SpoolConfig::default()) {
            Ok((_, found)) => break found,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
    };
    assert_eq!(found.notices, 1);
}

#[tokio::test]
async fn a_file_that_is_cut_or_garbled_never_keeps_the_notifier_from_starting() {
    let folder = tempfile::tempdir().unwrap();
    let (spool, _) = open(folder.path());
    let many = (1..200)
        .map(|id| notice(id, "ops", &["disk", "cpu"]))
        .collect();
    spool.commit(notices(many), 1);
    spool.close().await;
    drop(spool);
    let whole = fs::read(folder.path().join("spool-main.redb")).unwrap();
    let mut set_aside = 0;
    for step in 0..24 {
        let mut bytes = whole.clone();
        let at = whole.len() * step / 24;
        if step % 2 == 0 {
            bytes.truncate(at + 1);
        } else {
            let end = bytes.len().min(at + 3000);
            bytes[at..end].fill(0xa5);
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("spool-main.redb");
        fs::write(&path, bytes).unwrap();
        let (spool, found) = open(folder.path());
        if let Some((aside, _)) = &found.set_aside {
            set_aside += 1;
            assert!(aside.exists() && found.notices == 0);
        }
        assert!(spool.failure().is_none(), "{:?}", spool.failure());
        let ticket = spool.commit(notices(vec![notice(1000, "new", &["disk"])]), 1);
        spool.settled(ticket).await;
        // Damage may be met only now; then all of it is written anew.
        spool.close().await;
        let (spool, again) = open(folder.path());
        assert!(again.set_aside.is_none(), "step {step}: {again:?}");
        assert_eq!(head_id(&spool, "new"), Some(1000), "step {step}");
    }
    assert!(set_aside > 0);
}

#[tokio::test]
async fn rows_that_cannot_be_read_are_left_out_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    let (spool, _) = open(folder.path());
    let mut changes = entry("good", Some("1"));
    changes
        .entries
        .push(("bad".to_owned(), Some(b"2".to_vec())));
    changes.notices = (1..=3).map(|id| notice(id, "ops", &["disk"])).collect();
    spool.commit(changes, 1);
    spool.tried(
        "ops",
        3,
        Progress {
            pieces: 2,
            delivered: 1,
            ..Progress::default()
        },
        None,
    );
    spool.close().await;
    drop(spool);
    garble(folder.path());

    let (spool, found) = open(folder.path());
    assert_eq!(found.entries, [("good".to_owned(), b"1".to_vec())]);
    assert_eq!((found.notices, found.damaged), (2, 3));
    assert_eq!(head_id(&spool, "ops"), Some(2));
    spool.end("ops", 2, end(None));
    // Its progress was damaged: it is sent from its beginning.
    assert_eq!(spool.head("ops").unwrap().progress, Progress::default());
    spool.close().await;
    drop(spool);
    let (_, found) = open(folder.path());
    assert_eq!(
        (found.notices, found.damaged),
        (2, 1),
        "the damaged rows are gone"
    );
}

/// Turns a bit in one row of each table.
fn garble(folder: &Path) {
    const ENTRIES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("entries");
    const NOTICES: TableDefinition<'_, (&str, u64), &[u8]> = TableDefinition::new("notices");
    const PROGRESS: TableDefinition<'_, (&str, u64), &[u8]> = TableDefinition::new("progress");
    let turned = |row: &[u8]| {
        let mut row = row.to_vec();
        *row.last_mut().unwrap() ^= 1;
        row
    };
    let database = Database::open(folder.join("spool-main.redb")).unwrap();
    let reading = database.begin_read().unwrap();
    let row = |table, key: (&str, u64)| {
        let table: TableDefinition<'_, (&str, u64), &[u8]> = table;
        let table = reading.open_table(table).unwrap();
        turned(table.get(key).unwrap().unwrap().value())
    };
    let (first, third) = (row(NOTICES, ("ops", 1)), row(PROGRESS, ("ops", 3)));
    let entries = reading.open_table(ENTRIES).unwrap();
    assert_eq!(entries.iter().unwrap().count(), 2);
    let bad = turned(entries.get("bad").unwrap().unwrap().value());
    drop(entries);
    drop(reading);
    let writing = database.begin_write().unwrap();
    {
        let mut notices = writing.open_table(NOTICES).unwrap();
        notices.insert(("ops", 1), &first[..]).unwrap();
        let mut progress = writing.open_table(PROGRESS).unwrap();
        progress.insert(("ops", 3), &third[..]).unwrap();
        let mut entries = writing.open_table(ENTRIES).unwrap();
        entries.insert("bad", &bad[..]).unwrap();
    }
    writing.commit().unwrap();
}

#[tokio::test]
async fn without_a_disk_it_goes_on_in_memory_and_writes_all_once_the_disk_is_back() {
    let base = tempfile::tempdir().unwrap();
    let (link, real) = (base.path().join("link"), base.path().join("real"));
    // What an earlier run left on the disk that is away now.
    let (spool, _) = open(&real);
    let mut changes = entry("old", Some("1"));
    changes.notices = vec![notice(1, "ops", &["a"]), notice(2, "ops", &["b"])];
    spool.commit(changes, 1);
    spool.end("ops", 1, end(None));
    spool.close().await;
    drop(spool);
    let away = base.path().join("away");
    fs::rename(&real, &away).unwrap();
    symlink(&real, &link).unwrap();

    let (spool, found) = open(&link);
    assert_eq!(found, Found::default());
    let failure = spool.failure().unwrap();
    assert!(failure.contains("link/spool-main.redb"), "{failure}");
    let ticket = spool.commit(notices(vec![notice(9, "ops", &["c"])]), 1);
    // It must not wait for a disk that is known to fail.
    timeout(SETTLE_WITHIN / 2, spool.settled(ticket))
        .await
        .unwrap();
    spool.commit(entry("new", Some("2")), 1);
    fs::rename(&away, &real).unwrap();
    spool.close().await;
    assert!(spool.failure().is_none());
    // The earlier run's notices are in their places again.
    assert_eq!(head_id(&spool, "ops"), Some(2));
    assert_eq!(spool.outcome().await.notice.id, 1);
    drop(spool);

    let (spool, found) = open(&link);
    assert_eq!(found.entries, [("new".to_owned(), b"2".to_vec())]);
    assert_eq!(found.notices, 3);
    assert_eq!(figures(&spool, "ops").queued, 2);
}

#[tokio::test]
async fn when_too_many_wait_a_repeat_goes_first_and_never_the_one_being_sent() {
    let spool = in_memory(3);
    let mut repeat = notice(3, "ops", &["c"]);
    repeat.reason = Reason::Repeat;
    let first = vec![notice(1, "ops", &["a"]), notice(2, "ops", &["b"]), repeat];
    spool.commit(notices(first), 1);
    spool.begin("ops", 1).unwrap();
    for (pushed, given_up) in [(4, 3), (5, 2), (6, 4)] {
        spool.commit(notices(vec![notice(pushed, "ops", &["d"])]), 60);
        let outcome = spool.outcome().await;
        assert_eq!((outcome.notice.id, outcome.at_ms), (given_up, 60));
        let reason = "too many notices wait for this channel".to_owned();
        assert_eq!(outcome.ended, Ended::GivenUp { reason });
    }
    assert_eq!(head_id(&spool, "ops"), Some(1));
    let figures = figures(&spool, "ops");
    assert_eq!(
        (figures.queued, figures.dropped, figures.given_up),
        (3, 3, 3)
    );
    assert_eq!(figures.oldest_ms, Some(1001));
    // Ends that nobody tells are bounded as well.
    spool.commit(notices(vec![notice(7, "ops", &["d"])]), 60);
    assert_eq!(self::figures(&spool, "ops").untold, 1);
}

#[test]
fn many_bytes_are_too_many_as_well_but_one_notice_is_always_kept() {
    let config = SpoolConfig {
        max_bytes: 65_536,
        ..SpoolConfig::default()
    };
    let spool = Spool::open(None, "main", &config).unwrap().0;
    let rules: Vec<String> = (0..200).map(|rule| format!("rule-{rule}")).collect();
    let rules: Vec<&str> = rules.iter().map(String::as_str).collect();
    spool.commit(notices(vec![notice(1, "ops", &rules)]), 1);
    assert_eq!(figures(&spool, "ops").queued, 1);
    spool.commit(
        notices(vec![notice(2, "ops", &["a"]), notice(3, "ops", &["a"])]),
        1,
    );
    assert_eq!(head_id(&spool, "ops"), Some(2));
    assert_eq!(figures(&spool, "ops").queued, 2);
}

#[test]
fn a_number_that_is_in_use_costs_no_notice() {
    let spool = in_memory(10);
    spool.commit(
        notices(vec![notice(1, "ops", &["a"]), notice(1, "ops", &["b"])]),
        1,
    );
    assert_eq!(figures(&spool, "ops").queued, 2);
    spool.end("ops", 1, end(None));
    assert_eq!(&*spool.head("ops").unwrap().notice.lines[0].key.rule, "b");
}

fn told(rule: &str, since: u64) -> Told {
    Told {
        alert: line(rule, since).key,
        state: AlertState::Firing,
        severity: AlertSeverity::Warning,
        since,
        at: 9,
        given_up: false,
    }
}

#[test]
fn what_another_notifier_told_is_taken_out_of_what_waits() {
    let spool = in_memory(10);
    spool.commit(
        notices(vec![
            notice(1, "ops", &["a", "b"]),
            notice(2, "ops", &["a"]),
        ]),
        1,
    );
    let rules = |spool: &Spool| {
        let lines = spool.head("ops").map(|head| head.notice.lines.clone());
        let lines = lines.unwrap_or_default();
        let rules: Vec<_> = lines.iter().map(|line| line.key.rule.to_string()).collect();
        rules.join(" ")
    };
    let check = |channel, mark: Told, left: &str| {
        spool.cover(channel, &mark);
        assert_eq!(rules(&spool), left, "{mark:?}");
    };
    check("mail", told("a", 1), "a b");
    check("ops", told("a", 7), "a b");
    check(
        "ops",
        Told {
            state: AlertState::Resolved,
            ..told("a", 1)
        },
        "a b",
    );
    check(
        "ops",
        Told {
            severity: AlertSeverity::Critical,
            ..told("a", 1)
        },
        "a b",
    );
    check("ops", told("a", 1), "b");
    check("ops", told("b", 1), "a");
    assert_eq!(head_id(&spool, "ops"), Some(2));
    check("ops", told("a", 2), "");
    assert_eq!(figures(&spool, "ops").covered, 3);
}

#[test]
fn a_notice_that_is_being_sent_is_covered_only_when_it_was_not_taken() {
    let spool = in_memory(10);
    spool.commit(
        notices(vec![notice(1, "ops", &["a"]), notice(2, "ops", &["b"])]),
        1,
    );
    spool.begin("ops", 1).unwrap();
    spool.cover("ops", &told("a", 1));
    assert_eq!(head_id(&spool, "ops"), Some(1));
    spool.tried("ops", 1, Progress::default(), Some("busy".to_owned()));
    assert_eq!(head_id(&spool, "ops"), Some(2));

    spool.begin("ops", 2).unwrap();
    spool.cover("ops", &told("b", 2));
    spool.end("ops", 2, end(None));
    let figures = figures(&spool, "ops");
    assert_eq!((figures.delivered, figures.covered), (1, 1));
    assert!(spool.begin("ops", 2).is_none());
}

#[test]
fn settings_out_of_range_are_named() {
    let check = |text: &str, told: &str| {
        let config: SpoolConfig = toml::from_str(text).unwrap();
        let found = config.check().map_err(|error| error.to_string());
        match found {
            Ok(()) => assert_eq!(told, ""),
            Err(text) => assert!(!told.is_empty() && text.contains(told), "{text}"),
        }
    };
    check("", "");
    check("folder = '/var/lib/x'\nmax_notices = 10", "");
    check("max_notices = 9", "notifier.spool.max_notices is `9`");
    check("max_bytes = 1", "notifier.spool.max_bytes is `1`");
    check("folder = 'x'", "notifier.spool.folder is `x`");
}
