//! Disks that are damaged, away or hang.

use std::fs;
use std::os::unix::fs::symlink;

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};

use super::*;

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

/// Nothing is ever written here.
#[tokio::test]
async fn while_the_disk_hangs_things_go_on_and_it_is_said() {
    let spool = in_memory(10);
    spool
        .shared
        .disk
        .send_modify(|disk| disk.safe = Ticket::NONE);
    spool.commit(notices(vec![notice(1, "ops", &["a"])]), 1);
    let ticket = spool.end("ops", 1, end(None));
    let mut line = std::pin::pin!(spool.settled(ticket));
    // The caller of `outcome` has other things to do and calls it again and again.
    let outcome = async {
        loop {
            if let Ok(outcome) = timeout(Duration::from_millis(1), spool.outcome()).await {
                break outcome;
            }
        }
    };
    let both = async { tokio::join!(&mut line, outcome).1 };
    let outcome = timeout(10 * SETTLE_WITHIN, both).await.unwrap();
    assert_eq!(outcome.notice.id, 1);
    assert!(spool.failure().unwrap().contains("does not answer"));
}
