//! The traffic of the months on disk: a small file of the node in the publisher's folder, written
//! seldom.
//!
//! Without a folder, or when it can't be written, the count begins with the publisher's start, and
//! the table says so.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError, TryLockError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tracing::warn;

use super::traffic::{Month, Traffic};

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// No file of ours is that large: the rows that are kept are a tenth of it.
const MAX_BYTES: u64 = 1024 * 1024;
/// The time between two writings: a host that dies loses the count of this long.
const WRITE_AFTER: Duration = Duration::from_secs(600);

/// Held by whoever writes: a collector that is made anew begins before the one before it ends, and
/// both have the same file.
static WRITING: Mutex<()> = Mutex::new(());

/// The traffic, and where it is kept.
#[derive(Debug)]
pub(super) struct Ledger {
    pub(super) traffic: Traffic,
    path: Option<PathBuf>,
    written: Option<(Instant, Month)>,
    /// A disk may take its time, and a sample would wait for it.
    writer: Option<JoinHandle<io::Result<()>>>,
    /// The last writing failed, and people know.
    told: bool,
}

impl Ledger {
    /// Reads what was kept at `path`.
    pub(super) fn open(path: Option<PathBuf>) -> Self {
        let boot = fs::read_to_string(BOOT_ID).unwrap_or_default();
        Self::at_boot(boot.trim(), path)
    }

    fn at_boot(boot: &str, path: Option<PathBuf>) -> Self {
        let kept = path.as_deref().and_then(read);
        Self {
            traffic: Traffic::begin(boot, kept),
            path,
            written: None,
            writer: None,
            told: false,
        }
    }

    /// Writes when it is time to, on a thread of its own.
    pub(super) fn keep(&mut self, ts: u64, now: Instant) {
        let Some(path) = &self.path else { return };
        let month = Month::at(ts);
        let due = self
            .written
            .is_none_or(|(at, of)| now.saturating_duration_since(at) >= WRITE_AFTER || of != month);
        if !due
            || self
                .writer
                .as_ref()
                .is_some_and(|writer| !writer.is_finished())
        {
            return;
        }
        self.written = Some((now, month));
        let (path, text) = (path.clone(), self.traffic.to_string());
        let run = move || {
            let _turn = WRITING.lock().unwrap_or_else(PoisonError::into_inner);
            write(&path, &text, true)
        };
        let writer = thread::Builder::new().stack_size(64 * 1024).spawn(run);
        match self.writer.take().map(JoinHandle::join) {
            Some(Ok(Err(error))) => self.tell(&error),
            Some(_) => self.told = false,
            None => {}
        }
        self.writer = writer.ok();
    }

    fn tell(&mut self, error: &io::Error) {
        if !self.told {
            warn!(%error, path = ?self.path, "the traffic of the month can't be kept");
            self.told = true;
        }
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        let (Some(path), Some(_)) = (&self.path, self.written) else {
            return;
        };
        // A stop must be quick. Where somebody writes right now, or the host crashes, what is lost
        // is the count since the last writing; and while the host runs its counters still have it.
        if self.writer.as_ref().is_some_and(|it| !it.is_finished()) {
            return;
        }
        let _turn = match WRITING.try_lock() {
            Ok(turn) => turn,
            Err(TryLockError::Poisoned(turn)) => turn.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        // A folder that can't be written was told about before.
        let _ = write(path, &self.traffic.to_string(), false);
    }
}

/// What is kept there. `None` when there is nothing, or nothing to be understood.
fn read(path: &Path) -> Option<Traffic> {
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(MAX_BYTES).read_to_string(&mut text));
    match read {
        Ok(_) => {
            let traffic = Traffic::parse(&text);
            if traffic.is_none() {
                warn!(?path, "not a file of traffic: the count begins anew");
            }
            traffic
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => {
            warn!(%error, ?path, "the traffic of the month can't be read: the count begins anew");
            None
        }
    }
}

/// The file is there whole, or as it was before.
fn write(path: &Path, text: &str, to_disk: bool) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    // A node's name may have dots: what follows the last one is no extension.
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let mut file = File::create(&beside)?;
    file.write_all(text.as_bytes())?;
    if to_disk {
        file.sync_all()?;
    }
    fs::rename(&beside, path)
}

#[cfg(test)]
mod tests {
    use super::super::traffic::{Counters, Reading};
    use super::*;

    const NOVEMBER: u64 = 1_795_000_000_000;
    const DEADLINE: Duration = Duration::from_secs(20);

    fn count(ledger: &mut Ledger, ts: u64, bytes: u64) {
        let counters = Counters {
            rx_bytes: bytes,
            tx_bytes: bytes,
        };
        let reading = Reading {
            interface: "eth0",
            counters,
            rise: None,
        };
        ledger.traffic.count(ts, [reading]);
    }

    fn finish(ledger: &mut Ledger) {
        let start = Instant::now();
        while ledger.writer.as_ref().is_some_and(|w| !w.is_finished()) {
            assert!(start.elapsed() < DEADLINE, "the file is never written");
            thread::yield_now();
        }
    }

    #[test]
    fn the_count_survives_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("made/when/needed/traffic-home.web1");
        let mut ledger = Ledger::at_boot("a", Some(path.clone()));
        count(&mut ledger, NOVEMBER, 100);
        count(&mut ledger, NOVEMBER, 300);
        ledger.keep(NOVEMBER, Instant::now());
        count(&mut ledger, NOVEMBER, 350);
        finish(&mut ledger);
        drop(ledger);
        let mut ledger = Ledger::at_boot("a", Some(path.clone()));
        count(&mut ledger, NOVEMBER, 400);
        let row = &ledger.traffic.details(0).rows[0];
        assert_eq!(row[2], hostbus_wire::Scalar::Integer(300));
    }

    #[test]
    fn the_count_of_many_interfaces_survives_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let mut text = "hostbus-traffic 1\nboot a\n".to_owned();
        for number in 0..500 {
            for month in 1..=12 {
                let row = "9999999999999 9999999999999 1793000000000";
                text += &format!("month vlan.{number} 2026-{month:02} {row}\n");
            }
        }
        text += "end\n";
        let path = folder.path().join("traffic-home.web1");
        fs::write(&path, &text).unwrap();
        let ledger = Ledger::at_boot("a", Some(path));
        assert_eq!(ledger.traffic.to_string().len(), text.len());
    }

    #[test]
    fn it_is_written_every_ten_minutes_and_when_the_month_ends() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("traffic-home.web1");
        let mut ledger = Ledger::at_boot("a", Some(path.clone()));
        count(&mut ledger, NOVEMBER, 0);
        let start = Instant::now();
        let month = 31 * 86_400_000;
        for (after_seconds, ts, written) in [
            (0, NOVEMBER, true),
            (599, NOVEMBER, false),
            (600, NOVEMBER, true),
            (610, NOVEMBER + month, true),
            (620, NOVEMBER + month, false),
        ] {
            ledger.keep(ts, start + Duration::from_secs(after_seconds));
            finish(&mut ledger);
            assert_eq!(fs::remove_file(&path).is_ok(), written, "{after_seconds}");
        }
    }

    #[test]
    fn the_last_word_is_not_written_while_another_writes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("traffic-home.web1");
        let mut ledger = Ledger::at_boot("a", Some(path.clone()));
        count(&mut ledger, NOVEMBER, 0);
        let turn = WRITING.lock().unwrap();
        ledger.keep(NOVEMBER, Instant::now());
        assert!(ledger.writer.is_some());
        drop(ledger);
        assert!(!path.exists());
        drop(turn);
        let start = Instant::now();
        while !path.exists() {
            assert!(start.elapsed() < DEADLINE, "the file is never written");
            thread::yield_now();
        }
    }

    #[test]
    fn garbage_begins_anew_and_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("traffic-home.web1");
        for garbage in [&b""[..], b"\0\xff\xfe", b"hostbus-traffic 1\nboot a\n"] {
            fs::write(&path, garbage).unwrap();
            let mut ledger = Ledger::at_boot("a", Some(path.clone()));
            count(&mut ledger, NOVEMBER, 7);
            ledger.keep(NOVEMBER, Instant::now());
            finish(&mut ledger);
            drop(ledger);
            assert!(read(&path).is_some());
        }
    }

    #[test]
    fn without_a_folder_that_can_be_written_it_counts_all_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("no-folder");
        fs::write(&file, "").unwrap();
        for path in [None, Some(file.join("traffic-home.web1"))] {
            let mut ledger = Ledger::at_boot("a", path.clone());
            for bytes in [0, 5] {
                count(&mut ledger, NOVEMBER, bytes);
                ledger.keep(NOVEMBER, Instant::now() + WRITE_AFTER * bytes as u32);
                finish(&mut ledger);
            }
            let row = &ledger.traffic.details(0).rows[0];
            assert_eq!(row[2], hostbus_wire::Scalar::Integer(5));
            assert_eq!(ledger.told, path.is_some());
        }
    }
}
