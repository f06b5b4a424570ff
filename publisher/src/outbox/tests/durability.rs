//! The file of samples, damaged in every way that a disk or a power cut may choose.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use hostbus_tablefile::Fault;
use proptest::prelude::*;

use super::super::file::SampleFile;
use super::super::folder::Paths;
use super::*;

/// Names the folder in which the child of a test writes until it is killed.
const CHILD: &str = "HOSTBUS_TEST_OUTBOX_CHILD";
const KEY: u64 = 1000;

fn paths(folder: &Path) -> Paths {
    Paths::new(folder, &"home.a".parse().unwrap())
}

/// The sample of `seq`: its size and content follow from its number.
fn row(seq: u64) -> Row {
    let mut sample = sample(seq * 1000);
    let mut cpu = hostbus_wire::sample::Cpu::new();
    cpu.cores = vec![seq as f64; (seq % 90) as usize * 3];
    sample.cpu = Some(cpu);
    let payload = encode(&mut sample, KEY, seq, seq).unwrap();
    Row {
        place: Place { key: KEY, seq },
        ts_ms: seq * 1000,
        payload: payload.into(),
    }
}

/// Batches of a few samples, of which the oldest go again.
fn batch(number: u64) -> Batch {
    let write = (number * 5 + 1..number * 5 + 6).map(row).collect();
    let remove = match number {
        0..20 => Vec::new(),
        _ => vec![(KEY, (number - 20) * 5)],
    };
    Batch {
        write,
        remove,
        ..Batch::default()
    }
}

/// All rows that the file gives, each checked against what was written. `None`: it is damaged as a
/// whole, and says so.
fn rows_of(folder: &Path) -> Option<BTreeMap<u64, Vec<u8>>> {
    let opened = SampleFile::open(&paths(folder)).and_then(|file| Ok((file.scan()?, file)));
    let (scan, file) = match opened {
        Ok(opened) => opened,
        Err(Fault::Damaged(_)) => return None,
        Err(other) => panic!("{other}"),
    };
    let mut rows = BTreeMap::new();
    for run in scan.runs {
        assert_eq!((run.key, run.boot), (KEY, KEY));
        for found in &run.rows {
            let place = Place {
                key: KEY,
                seq: found.seq,
            };
            let read = match file.read(place, found.seq + 1, 1) {
                Ok(read) => read,
                Err(Fault::Damaged(_)) => return None,
                Err(other) => panic!("{other}"),
            };
            let [(at, Some(payload))] = &read[..] else {
                panic!("{found:?} is found and can't be read");
            };
            assert_eq!(*at, place);
            assert_eq!(payload[..], row(found.seq).payload[..], "{found:?}");
            assert_eq!(found.ts_ms, found.seq * 1000);
            assert!(rows.insert(found.seq, payload.clone()).is_none());
        }
    }
    Some(rows)
}

#[test]
fn what_was_written_is_read_back_and_what_was_removed_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let file = SampleFile::open(&paths(folder.path())).unwrap();
    file.commit(&batch(0)).unwrap();
    file.commit(&Batch {
        moved: vec![(KEY, 2000)],
        remove: vec![(KEY, 2)],
        write: Vec::new(),
    })
    .unwrap();
    assert!(matches!(
        SampleFile::open(&paths(folder.path())),
        Err(Fault::InUse)
    ));
    drop(file);
    let file = SampleFile::open(&paths(folder.path())).unwrap();
    let scan = file.scan().unwrap();
    assert_eq!(scan.damaged, 0);
    assert_eq!((scan.runs[0].key, scan.runs[0].boot), (KEY, 2000));
    let seqs: Vec<u64> = scan.runs[0].rows.iter().map(|row| row.seq).collect();
    assert_eq!(seqs, [3, 4, 5]);
    let from = Place { key: KEY, seq: 2 };
    let read = file.read(from, 8, 1 << 20).unwrap();
    let there: Vec<(u64, bool)> = read
        .iter()
        .map(|(place, payload)| (place.seq, payload.is_some()))
        .collect();
    assert_eq!(
        there,
        [
            (2, false),
            (3, true),
            (4, true),
            (5, true),
            (6, false),
            (7, false)
        ]
    );
    assert_eq!(file.read(Place { seq: 3, ..from }, 6, 1).unwrap().len(), 1);
}

/// A file with some hundred samples, as bytes.
fn written() -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let file = SampleFile::open(&paths(folder.path())).unwrap();
    for number in 0..60 {
        file.commit(&batch(number)).unwrap();
    }
    drop(file);
    fs::read(paths(folder.path()).samples).unwrap()
}

#[derive(Debug, Clone)]
enum Damage {
    Truncated(f64),
    Overwritten { at: f64, bytes: Vec<u8> },
    ZerosFrom(f64),
}

fn damage() -> impl Strategy<Value = Damage> {
    let garbage = prop::collection::vec(any::<u8>(), 1..9000);
    prop_oneof![
        (0.0..1.0).prop_map(Damage::Truncated),
        (0.0..1.0, garbage).prop_map(|(at, bytes)| Damage::Overwritten { at, bytes }),
        (0.0..1.0).prop_map(Damage::ZerosFrom),
    ]
}

#[test]
fn a_damaged_file_gives_only_samples_that_were_written() {
    let whole = written();
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(150));
    let readable = std::cell::Cell::new(0);
    // The library's panics are what is tested here, their traces are of no use.
    std::panic::set_hook(Box::new(|info| {
        if std::thread::current()
            .name()
            .is_none_or(|name| !name.contains("damaged_file"))
        {
            let _ = std::io::Write::write_fmt(&mut std::io::stderr(), format_args!("{info}\n"));
        }
    }));
    let outcome = runner.run(&damage(), |damage| {
        let mut bytes = whole.clone();
        let place = |share: f64| (share * whole.len() as f64) as usize;
        match &damage {
            Damage::Truncated(at) => bytes.truncate(place(*at)),
            Damage::Overwritten { at, bytes: garbage } => {
                for (byte, garbage) in bytes[place(*at)..].iter_mut().zip(garbage) {
                    *byte = *garbage;
                }
            }
            Damage::ZerosFrom(at) => bytes[place(*at)..].fill(0),
        }
        let folder = tempfile::tempdir().unwrap();
        fs::write(paths(folder.path()).samples, &bytes).unwrap();
        let some = rows_of(folder.path()).is_some_and(|rows| !rows.is_empty());
        readable.set(readable.get() + usize::from(some));
        Ok(())
    });
    let _ = std::panic::take_hook();
    outcome.unwrap();
    let readable = readable.get();
    assert!(readable > 10, "only {readable} of 150 could be read at all");
}

#[test]
fn a_copy_taken_while_it_is_written_gives_only_samples_that_were_written() {
    let folder = tempfile::tempdir().unwrap();
    let of = paths(folder.path());
    let file = SampleFile::open(&of).unwrap();
    let writing = std::thread::spawn(move || {
        for number in 0..150 {
            file.commit(&batch(number)).unwrap();
        }
    });
    let mut copies = 0;
    while !writing.is_finished() {
        // The file is read while it changes: parts of it are older than others, as after a power cut.
        let copy = tempfile::tempdir().unwrap();
        fs::copy(&of.samples, paths(copy.path()).samples).unwrap();
        if let Some(rows) = rows_of(copy.path()) {
            copies += usize::from(!rows.is_empty());
        }
    }
    writing.join().unwrap();
    assert!(copies > 0, "no copy could be read");
    assert_eq!(rows_of(folder.path()).unwrap().len(), 105);
}

/// Not a test of its own: the child of the next one, which is killed while it writes.
#[test]
fn child_that_writes_until_it_is_killed() {
    let Some(folder) = std::env::var_os(CHILD) else {
        return;
    };
    let file = SampleFile::open(&paths(Path::new(&folder))).unwrap();
    let first = file.scan().unwrap().runs.first().map_or(0, |run| {
        run.rows.last().map_or(0, |row| row.seq.div_ceil(5))
    });
    for number in first.. {
        file.commit(&batch(number)).unwrap();
        let mut out = std::io::stdout().lock();
        std::io::Write::write_fmt(&mut out, format_args!("\nconfirmed {number}\n")).unwrap();
    }
}

#[test]
fn whatever_was_confirmed_is_there_after_kill_9() {
    let folder = tempfile::tempdir().unwrap();
    for round in 1..8_usize {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "--nocapture",
                "outbox::tests::durability::child_that_writes_until_it_is_killed",
            ])
            .env(CHILD, folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut numbers = lines.map_while(Result::ok).filter_map(|line| {
            let number = line.strip_prefix("confirmed ")?;
            number.parse::<u64>().ok()
        });
        let mut confirmed = numbers.by_ref().nth(round * 3).expect("it writes");
        child.kill().unwrap();
        child.wait().unwrap();
        confirmed = numbers.last().unwrap_or(confirmed);
        let rows = rows_of(folder.path()).expect("the file is whole");
        let last = *rows.keys().last().unwrap();
        assert!(last >= confirmed * 5 + 5, "{last} after {confirmed}");
        let first = confirmed.saturating_sub(19) * 5 + 1;
        for seq in first..=confirmed * 5 + 5 {
            assert!(
                rows.contains_key(&seq) || seq < first + 5,
                "{seq} of {confirmed}"
            );
        }
        assert_eq!(last % 5, 0, "a batch is there as a whole or not at all");
    }
}
