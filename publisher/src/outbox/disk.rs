//! The thread that works on the outbox's files, and how it is reached without ever waiting for it.
//!
//! It ends when it has let go of the file and begins anew with the next order: while the bus is
//! there, neither costs memory. The lock stays all the while.

use std::fs;
use std::io;
use std::sync::mpsc as std_mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use hostbus_daemon::clock;
use hostbus_tablefile::Fault;
use hostbus_wire::NodePath;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};
use tracing::warn;

use super::file::SampleFile;
use super::folder::{Lock, Paths};
use super::{Beginning, DiskFailure, Found, Order, OutboxConfig, Persist, Report};
use crate::error::Error;

/// How long a start waits for the disk. A publisher whose disk hangs starts without it.
const OPEN_WITHIN: Duration = Duration::from_secs(5);
/// How long a stop waits until the file is closed.
const CLOSE_WITHIN: Duration = Duration::from_millis(500);

/// What the thread works on. It outlives the thread.
#[derive(Debug)]
struct Keeper {
    paths: Paths,
    lock: Option<Lock>,
    /// The folder was read once: what is in the file now, we wrote.
    opened: bool,
    file: Option<SampleFile>,
    /// The boots that this process has noted.
    noted: Vec<u64>,
    reports: mpsc::UnboundedSender<Report>,
}

#[derive(Debug)]
enum Worker {
    Resting(Box<Keeper>),
    Working {
        orders: std_mpsc::Sender<Order>,
        thread: JoinHandle<Box<Keeper>>,
    },
    /// The thread could not be had.
    Lost,
}

/// The files of one node's outbox.
#[derive(Debug)]
pub(crate) struct Disk {
    worker: Worker,
    reports: mpsc::UnboundedReceiver<Report>,
    failed: mpsc::UnboundedSender<Report>,
}

impl Disk {
    /// Opens the folder that the settings name, and reads what it holds. `None` with settings that
    /// keep nothing on disk. A folder that can't be used is no error: it is tried again later.
    ///
    /// # Errors
    /// Another publisher of this node runs on this host.
    pub(crate) async fn open(
        config: &OutboxConfig,
        node: &NodePath,
    ) -> Result<(Option<Self>, Beginning), Error> {
        let mut beginning = Beginning {
            boot: clock::unix_ms() / 1000,
            persist: config.persist,
            found: Found::default(),
            failure: None,
        };
        if config.persist == Persist::Never {
            return Ok((None, beginning));
        }
        let Some(folder) = config.folder() else {
            beginning.persist = Persist::Never;
            beginning.failure = Some(DiskFailure {
                reason: "there is no folder for samples: neither STATE_DIRECTORY nor HOME is set"
                    .to_owned(),
                mend: "name one with publisher.outbox.folder",
            });
            return Ok((None, beginning));
        };
        let (sender, mut reports) = mpsc::unbounded_channel();
        let keeper = Keeper {
            paths: Paths::new(&folder, node),
            lock: None,
            opened: false,
            file: None,
            noted: Vec::new(),
            reports: sender.clone(),
        };
        let mut disk = Self {
            worker: Worker::Resting(Box::new(keeper)),
            failed: sender,
            reports: mpsc::unbounded_channel().1,
        };
        disk.order(Order::Open);
        let mut answers = true;
        match timeout(OPEN_WITHIN, reports.recv()).await {
            Ok(Some(Report::Found(found))) => {
                beginning.boot = found.boot_after(beginning.boot);
                beginning.found = found;
                disk.order(Order::Begin(beginning.boot));
                match timeout(OPEN_WITHIN, reports.recv()).await {
                    // The folder is readable, at least. The next run may move behind this one.
                    Ok(Some(Report::Failed { failure, .. })) => {
                        warn!(%failure, "the boot of this run can't be noted");
                    }
                    Ok(_) => {}
                    // Whoever waited for the thread now would wait for the disk.
                    Err(_) => answers = false,
                }
            }
            Ok(Some(Report::InUse)) => {
                return Err(Error::OutboxInUse {
                    folder,
                    node: node.to_string(),
                });
            }
            Ok(Some(Report::Failed { failure, .. })) => beginning.failure = Some(failure),
            Ok(_) => beginning.failure = Some(no_thread()),
            Err(_) => {
                beginning.failure = Some(DiskFailure {
                    reason: format!("{} does not answer", folder.display()),
                    mend: "samples are kept in memory until it does; check the disk, and whether it is a network file system whose server is away",
                });
            }
        }
        disk.reports = reports;
        if answers && beginning.failure.is_none() && beginning.found.runs.is_empty() {
            disk.rest();
        }
        Ok((Some(disk), beginning))
    }

    /// Gives an order. Its answer comes as a report.
    pub(crate) fn order(&mut self, order: Order) {
        let worker = std::mem::replace(&mut self.worker, Worker::Lost);
        self.worker = match worker {
            Worker::Resting(keeper) => match begin(keeper) {
                Ok((orders, thread)) => Worker::Working { orders, thread },
                Err(_) => Worker::Lost,
            },
            other => other,
        };
        let reading = matches!(order, Order::Read { .. });
        let taken = match &self.worker {
            Worker::Working { orders, .. } => orders.send(order).is_ok(),
            _ => false,
        };
        if !taken {
            let failure = no_thread();
            // The receiver is our own.
            let _ = self.failed.send(Report::Failed { failure, reading });
        }
    }

    /// The next report. May be dropped and called again.
    pub(crate) async fn report(&mut self) -> Report {
        match self.reports.recv().await {
            Some(report) => {
                if matches!(report, Report::Discarded) {
                    self.rest();
                }
                report
            }
            // Not while we hold a sender.
            None => std::future::pending().await,
        }
    }

    /// Ends the thread. Only while it has nothing to do: this waits for it.
    fn rest(&mut self) {
        let worker = std::mem::replace(&mut self.worker, Worker::Lost);
        self.worker = match worker {
            Worker::Working { orders, thread } => {
                drop(orders);
                match thread.join() {
                    Ok(keeper) => Worker::Resting(keeper),
                    Err(_) => Worker::Lost,
                }
            }
            other => other,
        };
    }

    /// Closes the file, unless the disk hangs.
    pub(crate) async fn close(self) {
        let Worker::Working { orders, thread } = self.worker else {
            return;
        };
        drop(orders);
        let deadline = Instant::now() + CLOSE_WITHIN;
        while !thread.is_finished() {
            if Instant::now() > deadline {
                warn!("the disk does not answer, the file of samples is left as it is");
                return;
            }
            sleep(Duration::from_millis(2)).await;
        }
        // The lock and the file go with what the thread gives back.
        drop(thread.join());
    }
}

type Begun = (std_mpsc::Sender<Order>, JoinHandle<Box<Keeper>>);

fn begin(keeper: Box<Keeper>) -> io::Result<Begun> {
    let (orders, taken) = std_mpsc::channel();
    let thread = thread::Builder::new()
        .name("outbox".to_owned())
        .spawn(move || keeper.run(&taken))?;
    Ok((orders, thread))
}

fn no_thread() -> DiskFailure {
    DiskFailure {
        reason: "the thread for the disk is gone".to_owned(),
        mend: "restart the publisher",
    }
}

impl Found {
    /// The boot of a run that begins now.
    pub(super) fn boot_after(&self, now_seconds: u64) -> u64 {
        now_seconds.max(self.last_boot().saturating_add(1))
    }

    /// The newest boot that was used.
    pub(super) fn last_boot(&self) -> u64 {
        let of_runs = self.runs.iter().map(|run| run.boot.max(run.key));
        of_runs.chain(self.boots.iter().copied()).max().unwrap_or(0)
    }
}

impl Keeper {
    fn run(mut self: Box<Self>, orders: &std_mpsc::Receiver<Order>) -> Box<Self> {
        while let Ok(order) = orders.recv() {
            let report = self.work(order);
            // Nobody hears it only while the publisher ends.
            let _ = self.reports.send(report);
        }
        self.file = None;
        self
    }

    fn work(&mut self, order: Order) -> Report {
        let reading = matches!(order, Order::Read { .. });
        if !self.opened {
            return match self.open() {
                Ok(Some(found)) => Report::Found(found),
                Ok(None) => Report::InUse,
                Err(fault) => self.report(fault, reading),
            };
        }
        let done = match order {
            Order::Open => Ok(Report::Found(Found::default())),
            Order::Commit(batch) => self
                .with_file(|file, paths| {
                    file.commit(&batch)?;
                    let file_bytes =
                        fs::metadata(&paths.samples).map_or(0, |metadata| metadata.len());
                    Ok(Report::Kept { file_bytes })
                })
                .and_then(|kept| {
                    // Not before: a boot that is known tells that all runs before it were there.
                    self.note(batch.moved.iter().flat_map(|(key, boot)| [*key, *boot]))?;
                    Ok(kept)
                }),
            Order::Begin(boot) => self.note([boot]).map(|()| Report::Begun),
            Order::Read {
                from,
                end,
                max_bytes,
            } => self.with_file(|file, _| Ok(Report::Read(file.read(from, end, max_bytes)?))),
            Order::Discard => self.discard(),
        };
        done.unwrap_or_else(|fault| self.report(fault, reading))
    }

    /// Takes the folder for this process, and reads what it holds. `None`: another one has it.
    fn open(&mut self) -> Result<Option<Found>, Fault> {
        self.paths.create_folder().map_err(Fault::System)?;
        if self.lock.is_none() {
            self.lock = Lock::take(&self.paths).map_err(Fault::System)?;
        }
        let Some(lock) = &mut self.lock else {
            return Ok(None);
        };
        let mut found = Found {
            boots: lock.boots().map_err(Fault::System)?,
            ..Found::default()
        };
        if self.paths.samples.try_exists().map_err(Fault::System)? {
            let scanned = SampleFile::open(&self.paths).and_then(|file| Ok((file.scan()?, file)));
            match scanned {
                Ok((scan, file)) => {
                    found.runs = scan.runs;
                    found.damaged = scan.damaged;
                    self.file = Some(file);
                }
                Err(Fault::InUse) => return Ok(None),
                Err(Fault::Damaged(reason)) => {
                    let aside = self.paths.set_aside();
                    found.broken = Some((aside.map_err(Fault::System)?, reason));
                }
                Err(other) => return Err(other),
            }
        }
        self.opened = true;
        if found.runs.is_empty() {
            // What is left is an empty file, of no use to anyone.
            self.discard()?;
        }
        Ok(Some(found))
    }

    /// Notes the boots of runs, all of which the next start comes after.
    fn note(&mut self, boots: impl IntoIterator<Item = u64>) -> Result<(), Fault> {
        let mut new: Vec<u64> = boots.into_iter().collect();
        new.retain(|boot| !self.noted.contains(boot));
        new.dedup();
        if let Some(lock) = &mut self.lock
            && !new.is_empty()
        {
            lock.note_boots(&new).map_err(Fault::System)?;
            self.noted.extend(new);
        }
        Ok(())
    }

    fn with_file(
        &mut self,
        work: impl FnOnce(&SampleFile, &Paths) -> Result<Report, Fault>,
    ) -> Result<Report, Fault> {
        if self.file.is_none() {
            self.paths.create_folder().map_err(Fault::System)?;
            self.file = Some(SampleFile::open(&self.paths)?);
        }
        match &self.file {
            Some(file) => work(file, &self.paths),
            None => Err(Fault::InUse),
        }
    }

    fn discard(&mut self) -> Result<Report, Fault> {
        self.file = None;
        match fs::remove_file(&self.paths.samples) {
            Ok(()) => Ok(Report::Discarded),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Report::Discarded),
            Err(error) => Err(Fault::System(error)),
        }
    }

    fn report(&mut self, fault: Fault, reading: bool) -> Report {
        // The library takes nothing more after an error: the next order opens the file again.
        self.file = None;
        let fault = match fault {
            Fault::Damaged(reason) => match self.paths.set_aside() {
                Ok(aside) => {
                    return Report::Broken {
                        aside,
                        reason,
                        reading,
                    };
                }
                Err(error) => Fault::System(error),
            },
            other => other,
        };
        let path = self.paths.samples.display();
        let mend = match &fault {
            Fault::System(error) => mend(error),
            _ => "stop the other process",
        };
        Report::Failed {
            failure: DiskFailure {
                reason: format!("{path}: {fault}"),
                mend,
            },
            reading,
        }
    }
}

/// What a person can do about it.
fn mend(error: &io::Error) -> &'static str {
    use io::ErrorKind::{
        AlreadyExists, NotADirectory, NotFound, PermissionDenied, QuotaExceeded,
        ReadOnlyFilesystem, StorageFull,
    };
    match error.kind() {
        StorageFull | QuotaExceeded => "make room on its file system, or lower outbox.max_bytes",
        PermissionDenied => {
            "let the publisher's user write there, or set publisher.outbox.folder to a folder where it may"
        }
        ReadOnlyFilesystem => "mount its file system writable, or set publisher.outbox.folder",
        NotFound | NotADirectory | AlreadyExists => {
            "set publisher.outbox.folder to a folder that can be made"
        }
        _ => "check the disk; the system's log may tell more",
    }
}
