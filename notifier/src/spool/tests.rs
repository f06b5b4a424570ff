//! Real files: what a restart and a kill leave; what waits, and what goes when it is too much.

mod broken;

use std::time::Instant;

use hostbus_wire::alert::{Alert, AlertKey, AlertSeverity, AlertState};

use super::*;
use crate::notice::{Line, Reason};

fn line(rule: &str, began: u64) -> Line {
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
        firing_since: 10_000 * began,
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
        refused: None,
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

fn told(rule: &str, began: u64) -> Told {
    Told {
        alert: line(rule, began).key,
        state: AlertState::Firing,
        severity: AlertSeverity::Warning,
        since: 10_000 * began,
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
    // What was told of an earlier time, or of a lesser severity, is not what waits.
    check("ops", told("a", 0), "a b");
    check(
        "ops",
        Told {
            state: AlertState::Resolved,
            ..told("a", 0)
        },
        "a b",
    );
    check(
        "ops",
        Told {
            severity: AlertSeverity::Info,
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
