//! The file, whole and not, and when it is written.

use std::sync::Arc;
use std::time::Instant;

use hostbus_wire::Sample;
use hostbus_wire::alert::AlertState;
use hostbus_wire::sample::Cpu;
use rustix::fs::{CWD, FileType, Mode, mknodat};

use super::file::{Unusable, read};
use super::*;
use crate::evaluator::{Change, Options};
use crate::rule::document;

const BEGIN_MS: u64 = 1_763_630_000_000;
const DEADLINE: Duration = Duration::from_secs(20);
const RULE: &[u8] = b"[[rule]]\nname = \"busy\"\nmetric = \"cpu.usage_percent\"\n\
    aggregate = \"avg\"\nwindow = \"1m\"\nwarning = { above = 80 }\n";

/// An evaluator, its samples and its clock.
struct Site {
    evaluator: Evaluator,
    now: Now,
    seq: u64,
}

impl Site {
    fn new(now_ms: u64, kept: Option<Kept>) -> Self {
        let mut evaluator = Evaluator::new(Options::default());
        let rules = document::read(RULE).unwrap();
        let rules = rules.into_iter().filter_map(|one| one.rule);
        evaluator.set_rules(rules.collect::<Vec<Arc<_>>>(), now_ms, &mut Vec::new());
        if let Some(kept) = kept {
            evaluator.take_back(kept);
        }
        evaluator.calm(now_ms);
        Self {
            evaluator,
            now: Now {
                unix_ms: now_ms,
                steady_ms: 0,
            },
            seq: now_ms / 1000,
        }
    }

    fn send(&mut self, percent: f64) -> Vec<Change> {
        let mut out = self.hear("home.web1", percent);
        self.now.unix_ms += 10_000;
        self.now.steady_ms += 10_000;
        self.evaluator.tick(self.now.unix_ms, &mut out);
        out
    }

    fn hear(&mut self, node: &str, percent: f64) -> Vec<Change> {
        self.seq += 1;
        let mut cpu = Cpu::new();
        cpu.usage_percent = Some(percent);
        let sample = Sample {
            ts: Some(self.now.unix_ms),
            boot: Some(1),
            seq: Some(self.seq),
            first: Some(1),
            interval_ms: Some(10_000),
            cpu: Some(cpu),
            ..Sample::default()
        };
        let path = node.parse().unwrap();
        let mut out = Vec::new();
        self.evaluator
            .sample(&path, &(&sample).into(), false, self.now.unix_ms, &mut out);
        out
    }

    fn sends(&mut self, count: usize) {
        for _ in 0..count {
            assert_eq!(self.send(90.0), []);
        }
    }

    /// Whether the next sample makes the window full, and the alert fire.
    fn fires(&mut self) -> bool {
        let firing = |change: &Change| {
            let alert = change.alert.as_ref();
            alert.is_some_and(|alert| alert.state == AlertState::Firing)
        };
        self.send(90.0).iter().any(firing)
    }
}

/// Stops the notifier that has `site`, and gives what stands in its file.
async fn stopped(folder: &Path, site: &Site) -> PathBuf {
    let (windows, _) = Windows::open(Some(folder), "main", site.now.unix_ms).await;
    windows.close(&site.evaluator, site.now.unix_ms).await;
    folder.join("windows-main.kept")
}

#[tokio::test]
async fn a_clean_stop_keeps_the_windows() {
    let folder = tempfile::tempdir().unwrap();
    let mut site = Site::new(BEGIN_MS, None);
    site.sends(5);
    stopped(folder.path(), &site).await;
    let now_ms = site.now.unix_ms;
    let (_, kept) = Windows::open(Some(folder.path()), "other", now_ms).await;
    assert!(kept.is_none());
    let (_, kept) = Windows::open(Some(folder.path()), "main", now_ms).await;
    assert_eq!(kept.as_ref().map(Kept::nodes), Some(1));
    assert!(Site::new(now_ms, kept).fires());
    assert!(!Site::new(now_ms, None).fires());
}

#[tokio::test]
async fn it_is_written_every_five_minutes_and_only_for_something_new() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("windows-main.kept");
    let mut site = Site::new(BEGIN_MS, None);
    let (mut windows, _) = Windows::open(Some(folder.path()), "main", BEGIN_MS).await;
    site.sends(5);
    assert_eq!(windows.turn(&site.evaluator, site.now), None);
    let mut write = async |site: &mut Site| {
        site.now.steady_ms += EVERY_MS;
        let begun = Instant::now();
        let due = windows.turn(&site.evaluator, site.now).is_some();
        while windows.saving.is_some() && begun.elapsed() < DEADLINE {
            windows.turn(&site.evaluator, site.now);
            tokio::task::yield_now().await;
        }
        assert!(windows.saving.is_none());
        due
    };
    assert!(write(&mut site).await);
    let now_ms = site.now.unix_ms;
    let kept = read(&path, now_ms).unwrap();
    assert!(Site::new(now_ms, kept).fires());
    assert!(!write(&mut site).await, "nothing was judged");
    site.send(10.0);
    assert!(write(&mut site).await);
    let left = std::fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(left, 1);
    // What was taken back and is not claimed yet must not be lost.
    let kept = read(&path, now_ms).unwrap();
    let waiting = Site::new(now_ms, kept);
    std::fs::remove_file(&path).unwrap();
    stopped(folder.path(), &waiting).await;
    assert!(!path.exists());
}

#[tokio::test]
async fn a_file_that_is_not_as_it_was_written_is_of_no_use() {
    let folder = tempfile::tempdir().unwrap();
    let mut site = Site::new(BEGIN_MS, None);
    site.sends(5);
    let path = stopped(folder.path(), &site).await;
    let now_ms = site.now.unix_ms;
    let whole = std::fs::read(&path).unwrap();
    let read_of = |bytes: &[u8], now_ms| {
        std::fs::write(&path, bytes).unwrap();
        read(&path, now_ms)
    };
    assert!(matches!(read_of(&whole, now_ms), Ok(Some(_))));
    for length in 0..whole.len() {
        assert!(
            read_of(&whole[..length], now_ms).is_err(),
            "cut at {length}"
        );
    }
    for bit in 0..whole.len() * 8 {
        let mut flipped = whole.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(read_of(&flipped, now_ms).is_err(), "bit {bit} flipped");
    }
    assert!(read_of(&[&whole[..], b"x"].concat(), now_ms).is_err());
    assert!(matches!(read_of(b"redb", now_ms), Err(Unusable::Foreign)));
    let newer = [b"hbwindow\x02\x00", &whole[10..]].concat();
    let found = read_of(&newer, now_ms);
    assert!(matches!(found, Err(Unusable::Version { found: 2 })));
    let day_ms = 24 * 3_600_000;
    assert!(matches!(read_of(&whole, now_ms + day_ms), Ok(Some(_))));
    let old = read_of(&whole, now_ms + day_ms + 1);
    assert!(matches!(old, Err(Unusable::Old { hours: 24 })));
    let ahead = read_of(&whole, now_ms - 61_000);
    assert!(matches!(ahead, Err(Unusable::Ahead { seconds: 61 })));
    // The sum alone makes no slice of what is none.
    let mut slices = whole[..18].to_vec();
    slices.extend(5_u32.to_le_bytes());
    slices.extend(b"\x01\x7fxyz");
    slices.extend([0; 4]);
    slices.extend(crc32fast::hash(&slices).to_le_bytes());
    assert!(matches!(read_of(&slices, now_ms), Err(Unusable::Damaged)));
}

#[tokio::test]
async fn a_damaged_file_costs_only_the_windows() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("windows-main.kept");
    std::fs::write(&path, b"hbwindow").unwrap();
    let (windows, kept) = Windows::open(Some(folder.path()), "main", BEGIN_MS).await;
    assert!(kept.is_none());
    let mut site = Site::new(BEGIN_MS, None);
    site.sends(5);
    windows.close(&site.evaluator, site.now.unix_ms).await;
    let kept = read(&path, site.now.unix_ms).unwrap();
    assert!(Site::new(site.now.unix_ms, kept).fires());
}

#[tokio::test]
async fn without_a_folder_or_a_disk_all_goes_on() {
    let mut site = Site::new(BEGIN_MS, None);
    site.sends(5);
    site.now.steady_ms += EVERY_MS;
    let (mut windows, kept) = Windows::open(None, "main", BEGIN_MS).await;
    assert!(kept.is_none());
    assert_eq!(windows.turn(&site.evaluator, site.now), None);
    windows.close(&site.evaluator, site.now.unix_ms).await;
    let missing = Path::new("/proc/no-such-folder");
    let (mut windows, _) = Windows::open(Some(missing), "main", BEGIN_MS).await;
    let begun = Instant::now();
    assert!(windows.turn(&site.evaluator, site.now).is_some());
    while !windows.fails && begun.elapsed() < DEADLINE {
        windows.turn(&site.evaluator, site.now);
        tokio::task::yield_now().await;
    }
    assert!(windows.fails && windows.saving.is_none());
}

/// Makes writing the windows of `main` hang, as on a disk that does not answer: a pipe that nobody reads.
fn hang(folder: &Path) {
    let path = folder.join("windows-main.kept.new");
    mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
}

#[tokio::test]
async fn a_stop_does_not_wait_for_a_disk_that_hangs() {
    let folder = tempfile::tempdir().unwrap();
    hang(folder.path());
    let mut site = Site::new(BEGIN_MS, None);
    site.sends(5);
    let (windows, _) = Windows::open(Some(folder.path()), "main", BEGIN_MS).await;
    let within = Duration::from_millis(20);
    let closing = windows.close_within(within, &site.evaluator, site.now.unix_ms);
    timeout(DEADLINE, closing).await.unwrap();
    assert!(!folder.path().join("windows-main.kept").exists());
    // The runtime that ends with this test waits for all threads of its own.
}

#[tokio::test]
async fn a_disk_that_hangs_is_not_looked_at_all_the_time() {
    let folder = tempfile::tempdir().unwrap();
    hang(folder.path());
    let mut site = Site::new(BEGIN_MS, None);
    for number in 0..10_000 {
        site.hear(&format!("home.{}{number}", "a".repeat(20)), 10.0);
    }
    let (mut windows, _) = Windows::open(Some(folder.path()), "main", BEGIN_MS).await;
    site.now.steady_ms += EVERY_MS;
    let waits: Vec<_> = (0..SLICES + 3)
        .map(|_| windows.turn(&site.evaluator, site.now))
        .collect();
    assert_eq!(waits[..=SLICES], [Some(SLICE_EVERY); SLICES + 1]);
    assert_eq!(waits[SLICES + 1..], [Some(ROOM_EVERY); 2]);
}
