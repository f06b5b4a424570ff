//! The collector with tables of mounts, and with filesystems that hang.

use std::collections::HashSet;
use std::sync::Mutex;

use super::mounts::{Choice, take};
use super::*;
use crate::collectors::tests::{collect_once, collect_twice};
use crate::errands::tests::{Gate, threads};

const TABLE: &str = "\
27 1 254:0 / / rw - ext4 /dev/vda rw
32 27 0:50 / /net rw - nfs4 server:/export rw
34 27 8:1 / /data rw - ext4 /dev/sda1 rw
";
const DEADLINE: Duration = Duration::from_secs(20);

fn stat() -> StatVfs {
    StatVfs {
        f_bsize: 4096,
        f_frsize: 4096,
        f_blocks: 1000,
        f_bfree: 400,
        f_bavail: 300,
        f_files: 100,
        f_ffree: 25,
        f_favail: 25,
        f_fsid: 0,
        f_flag: StatVfsMountFlags::empty(),
        f_namemax: 255,
    }
}

fn mounts(table: &str) -> Mounts {
    let choice = Choice::new(&FilesystemsConfig::default());
    take(table.as_bytes(), &choice).unwrap()
}

/// Filesystems whose answers a test decides.
struct Stage {
    filesystems: Filesystems,
    gate: Arc<Gate<String>>,
    read_only: Arc<Mutex<HashSet<String>>>,
    start: Instant,
}

impl Stage {
    fn new() -> Self {
        let gate = Arc::new(Gate::default());
        let read_only = Arc::new(Mutex::new(HashSet::<String>::new()));
        let ask = {
            let (gate, read_only) = (Arc::clone(&gate), Arc::clone(&read_only));
            move |place: &Place| {
                gate.pass(&place.point);
                let mut stat = stat();
                if read_only.lock().unwrap().contains(&place.point) {
                    stat.f_flag = StatVfsMountFlags::RDONLY;
                }
                Ok(stat)
            }
        };
        let config = FilesystemsConfig::default();
        Self {
            filesystems: Filesystems::with(&config, Arc::new(ask), threads()),
            gate,
            read_only,
            start: Instant::now(),
        }
    }

    fn pass(&mut self, table: &str, at_seconds: u64) -> (Pass, Result<Presence, CollectorError>) {
        let now = self.start + Duration::from_secs(at_seconds);
        let mut pass = Pass::at(now, 1_763_630_000_000);
        let outcome = self.filesystems.read(&mounts(table), &mut pass);
        (pass, outcome)
    }
}

fn points(pass: &Pass) -> Vec<&str> {
    let filesystems = pass.sample.filesystems.iter();
    filesystems
        .map(|filesystem| filesystem.name.as_str())
        .collect()
}

fn kinds(pass: &Pass) -> Vec<&str> {
    pass.events
        .iter()
        .map(|event| event.kind.as_str())
        .collect()
}

#[test]
fn space_is_told_as_df_tells_it() {
    let (pass, outcome) = Stage::new().pass(TABLE, 0);
    outcome.unwrap();
    assert_eq!(points(&pass), ["/", "/data", "/net"]);
    let filesystem = &pass.sample.filesystems[1];
    assert_eq!(filesystem.total_bytes, Some(4_096_000));
    assert_eq!(filesystem.used_bytes, Some(600 * 4096));
    assert_eq!(filesystem.available_bytes, Some(300 * 4096));
    assert_eq!(filesystem.used_percent.unwrap().round(), 67.0);
    assert_eq!(filesystem.inodes_used_percent, Some(75.0));
    assert_eq!(filesystem.read_only, Some(0));
}

#[test]
fn one_that_hangs_is_left_out_and_told_once_and_so_is_its_return() {
    let mut stage = Stage::new();
    stage.gate.shut(["/net".to_owned()]);
    let (pass, outcome) = stage.pass(TABLE, 0);
    assert_eq!(points(&pass), ["/", "/data"]);
    // A moment of silence is nothing to tell.
    assert_eq!(outcome.unwrap(), Presence::Here);
    assert!(pass.events.is_empty());
    for (at_seconds, told) in [(10, &["filesystem-hangs"][..]), (20, &[]), (30, &[])] {
        let (pass, outcome) = stage.pass(TABLE, at_seconds);
        assert_eq!(points(&pass), ["/", "/data"]);
        assert_eq!(kinds(&pass), told);
        // The event is told by the filesystem, and not again by the collector.
        let why = "the filesystem at /net does not answer".to_owned();
        assert_eq!(outcome.unwrap(), Presence::Partly(why));
    }
    stage.gate.open();
    let start = Instant::now();
    loop {
        let (pass, outcome) = stage.pass(TABLE, 40);
        if points(&pass) == ["/", "/data", "/net"] {
            assert_eq!(outcome.unwrap(), Presence::Here);
            assert_eq!(kinds(&pass), ["filesystem-answers"]);
            assert!(
                pass.events[0].message.contains("after 40 s"),
                "{:?}",
                pass.events
            );
            break;
        }
        assert!(start.elapsed() < DEADLINE, "it never came back");
    }
    let (pass, _) = stage.pass(TABLE, 50);
    assert!(pass.events.is_empty());
}

#[test]
fn one_that_hangs_and_is_unmounted_is_forgotten() {
    let mut stage = Stage::new();
    stage.gate.shut(["/net".to_owned()]);
    stage.pass(TABLE, 0).1.unwrap();
    let hangs = stage.pass(TABLE, 10).1.unwrap();
    assert!(matches!(hangs, Presence::Partly(_)), "{hangs:?}");
    let without: String = TABLE
        .lines()
        .filter(|line| !line.contains("/net"))
        .map(|line| format!("{line}\n"))
        .collect();
    let (pass, outcome) = stage.pass(&without, 20);
    outcome.unwrap();
    assert!(pass.events.is_empty() && stage.filesystems.known.len() == 2);
    stage.gate.open();
}

#[test]
fn a_flip_to_read_only_and_back_is_told_once_each() {
    let mut stage = Stage::new();
    let table_read_only = TABLE.replace("/dev/sda1 rw", "/dev/sda1 ro");
    for (at_seconds, table, told) in [
        (0, TABLE, &[][..]),
        (10, &table_read_only, &["filesystem-read-only"]),
        (20, &table_read_only, &[]),
        (30, TABLE, &["filesystem-writable"]),
    ] {
        let (pass, _) = stage.pass(table, at_seconds);
        assert_eq!(kinds(&pass), told, "{at_seconds}");
        let expected = u64::from(table != TABLE);
        assert_eq!(pass.sample.filesystems[1].read_only, Some(expected));
    }
}

#[test]
fn a_filesystem_that_was_read_only_from_the_start_is_nothing_to_tell() {
    let mut stage = Stage::new();
    let table = TABLE.replace("/dev/sda1 rw", "/dev/sda1 ro");
    assert!(stage.pass(&table, 0).0.events.is_empty());
}

#[test]
fn the_answer_tells_of_read_only_where_the_table_is_old_unless_the_mount_is_so() {
    let mut stage = Stage::new();
    stage.read_only.lock().unwrap().insert("/data".to_owned());
    let (pass, _) = stage.pass(TABLE, 0);
    assert_eq!(pass.sample.filesystems[1].read_only, Some(1));
    let shut_in = TABLE.replace("/data rw", "/data ro");
    let (pass, _) = stage.pass(&shut_in, 10);
    assert_eq!(pass.sample.filesystems[1].read_only, Some(0));
}

#[test]
fn disks_come_first_where_there_are_too_many_and_it_is_told_once() {
    let mut table = String::new();
    for n in 0..MAX_FILESYSTEMS + 100 {
        table += &format!("9 27 1:{n} / /a{n:03} rw - zfs pool/a{n} rw\n");
    }
    table += TABLE;
    let mut stage = Stage::new();
    let (pass, _) = stage.pass(&table, 0);
    assert_eq!(pass.sample.filesystems.len(), MAX_FILESYSTEMS);
    assert!(points(&pass).contains(&"/data") && points(&pass).contains(&"/"));
    assert_eq!(kinds(&pass), ["filesystems-left-out"]);
    assert!(pass.events[0].message.contains("103"), "{:?}", pass.events);
    assert!(stage.pass(&table, 10).0.events.is_empty());
}

#[test]
fn many_that_hang_are_told_in_a_few_words() {
    let check = |silent: &[&str], unasked: usize, expected: &str| {
        let silent: Vec<String> = silent.iter().map(|&point| point.to_owned()).collect();
        assert_eq!(silence(&silent, unasked), expected);
    };
    check(&["/a"], 0, "the filesystem at /a does not answer");
    check(&["/a", "/b"], 0, "2 filesystems do not answer: /a, /b");
    check(
        &["/a", "/b", "/c", "/d"],
        2,
        "4 filesystems do not answer: /a, /b, /c and others; 2 are not asked, for too many hang",
    );
}

#[test]
fn this_hosts_values_are_sane() {
    let config = FilesystemsConfig::default();
    let sample = collect_twice(&mut Filesystems::new(&config));
    for filesystem in &sample.filesystems {
        let (total, used) = (
            filesystem.total_bytes.unwrap(),
            filesystem.used_bytes.unwrap(),
        );
        assert!(used <= total, "{filesystem:?}");
        assert!((0.0..=100.0).contains(&filesystem.used_percent.unwrap()));
    }
    let (pass, outcome) = collect_once(&mut Filesystems::new(&config), Instant::now());
    outcome.unwrap();
    assert!(pass.events.is_empty(), "{pass:?}");
}
