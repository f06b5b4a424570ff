//! What survives the broker's death: sessions with their filters and what waits for them, and
//! retained messages.
//!
//! | module | owns |
//! |---|---|
//! | `ticket` | when something is safe |
//! | `pending` | what is to be written, until it is |
//! | `rows` | values as bytes |
//! | `references` | which messages are still needed |
//! | `file`, `load` | `state.redb`: opening and committing; reading it at the start |
//!
//! Whoever changes durable state records it here, in memory, and gets a [`Ticket`]. One thread
//! writes all that was recorded meanwhile in one transaction, and then tells that it is safe. So
//! the cost of a flush is shared by all clients, and no connection waits for a disk but for its
//! own acknowledgements.
//!
//! While the disk fails, nothing that needs it is acknowledged; the thread tries again until it
//! succeeds. What waits in memory then is bounded like the queues and retained messages it mirrors.

mod file;
mod load;
mod pending;
mod references;
mod rows;
mod ticket;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError, RwLock, RwLockReadGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use hostbus_tablefile::guarded;
use tokio::sync::watch;
use tracing::{error, info, warn};

use crate::error::Error;
use crate::lock::{Held, Locked};
use crate::message::{Message, Outgoing, Stored};

pub(crate) use load::{Loaded, StoredSession};
pub(crate) use rows::{Now, Options, SessionRow};
pub(crate) use ticket::Ticket;

use file::File;
use pending::Pending;

/// How long what nobody waits for may stay in memory only.
const LAZY: Duration = Duration::from_millis(100);

/// The wait after a failed commit.
const RETRY: Duration = Duration::from_secs(1);

/// The durable state of one broker.
#[derive(Debug)]
pub(crate) struct Disk {
    shared: Arc<Shared>,
    safe: watch::Receiver<Ticket>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    pending: Mutex<Pending>,
    /// There is something to write, or to end for.
    work: Condvar,
    /// Held to read while records are made that must become safe together.
    together: RwLock<()>,
}

impl Disk {
    /// Opens `state.redb` in the folder `data`, which exists, and reads all of it. A damaged file
    /// is kept aside as `state.redb.damaged-<unix seconds>`, and a new one is begun. Blocks.
    ///
    /// # Errors
    /// Another process has the file open, a later version wrote it, or the folder can't be used.
    pub(crate) fn open(data: &Path) -> Result<(Self, Loaded), Error> {
        let path = data.join("state.redb");
        let (file, loaded) = file::open(&path)?;
        let shared = Arc::new(Shared {
            path,
            pending: Mutex::new(Pending::new()),
            work: Condvar::new(),
            together: RwLock::new(()),
        });
        let (tell, safe) = watch::channel(Ticket::NONE);
        let writer = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("disk".to_owned())
            .spawn(move || writer.write_all(file, &tell))
            .map_err(|source| Error::Data {
                path: shared.path.clone(),
                source,
            })?;
        let disk = Self {
            shared,
            safe,
            thread: Mutex::new(Some(thread)),
        };
        Ok((disk, loaded))
    }

    /// What is safe by now, and how to wait for more.
    pub(crate) fn safe(&self) -> watch::Receiver<Ticket> {
        self.safe.clone()
    }

    /// All that is recorded while this is held becomes safe together. It must not be taken twice
    /// by one thread.
    pub(crate) fn together(&self) -> RwLockReadGuard<'_, ()> {
        self.shared.together.held_to_read()
    }

    fn record(&self, urgent: bool, change: impl FnOnce(&mut Pending)) -> Ticket {
        let mut pending = self.shared.pending.held();
        let idle = pending.is_empty() || (urgent && !pending.urgent);
        change(&mut pending);
        pending.urgent |= urgent;
        let ticket = pending.ticket;
        drop(pending);
        if idle {
            self.shared.work.notify_one();
        }
        ticket
    }

    /// A session as it is now.
    pub(crate) fn put_session(&self, key: u64, row: SessionRow) -> Ticket {
        self.record(true, |pending| pending.put_session(key, row))
    }

    /// A session has ended, with all that it had.
    pub(crate) fn remove_session(&self, key: u64) -> Ticket {
        self.record(true, |pending| pending.remove_session(key))
    }

    /// A subscription of a session, new or replaced.
    pub(crate) fn put_filter(&self, key: u64, filter: &str, options: Options) -> Ticket {
        self.record(true, |pending| {
            pending.put_filter(key, filter, Some(options));
        })
    }

    /// A subscription of a session is gone.
    pub(crate) fn remove_filter(&self, key: u64, filter: &str) -> Ticket {
        self.record(true, |pending| pending.put_filter(key, filter, None))
    }

    /// A message waits for a session. Its ticket is set in `outgoing`.
    pub(crate) fn put_entry(&self, key: u64, outgoing: &mut Outgoing, entry: u64, packet_id: u16) {
        self.record(true, |pending| {
            outgoing.stored = Some(Stored {
                entry,
                ticket: pending.ticket,
                packet_id,
            });
            pending.put_entry(key, outgoing, entry, packet_id);
        });
    }

    /// A QoS 2 message was received by the client of a session, which still knows its identifier.
    pub(crate) fn release_entry(&self, key: u64, stored: Stored) -> Ticket {
        self.record(true, |pending| pending.release_entry(key, stored))
    }

    /// A message no longer waits for a session.
    pub(crate) fn remove_entry(&self, key: u64, entry: u64) {
        self.record(false, |pending| pending.remove_entry(key, entry));
    }

    /// The client of a session is sending the QoS 2 message `packet_id`, which was taken.
    pub(crate) fn put_incoming(&self, key: u64, packet_id: u16) -> Ticket {
        self.record(true, |pending| {
            pending.set_incoming(key, packet_id, true);
        })
    }

    /// The client has released the QoS 2 message `packet_id`.
    pub(crate) fn remove_incoming(&self, key: u64, packet_id: u16) -> Ticket {
        self.record(true, |pending| {
            pending.set_incoming(key, packet_id, false);
        })
    }

    /// The retained message of a topic.
    pub(crate) fn put_retained(&self, message: &Arc<Message>) -> Ticket {
        let urgent = message.qos != crate::codec::QoS::AtMostOnce;
        self.record(urgent, |pending| {
            pending.put_retained(message.topic.clone(), Some(Arc::clone(message)));
        })
    }

    /// A topic has no retained message any more.
    pub(crate) fn remove_retained(&self, topic: &str, urgent: bool) -> Ticket {
        self.record(urgent, |pending| pending.put_retained(topic.into(), None))
    }

    /// Writes what is left and ends the thread. Blocks.
    pub(crate) fn close(&self) {
        {
            self.shared.pending.held().closing = true;
        }
        self.shared.work.notify_one();
        let thread = self.thread.held().take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            error!("the thread that writes state.redb has panicked");
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.close();
    }
}

impl Shared {
    /// Writes what is recorded until the end is asked for and nothing is left.
    fn write_all(&self, mut file: File, tell: &watch::Sender<Ticket>) {
        let mut failing = false;
        while let Some(batch) = self.next_batch() {
            loop {
                match guarded(|| file.commit(&batch)) {
                    Ok(()) => break,
                    Err(error) => {
                        if !failing {
                            error!(%error, "state can't be written: what needs it is not acknowledged until it can");
                        }
                        failing = true;
                    }
                }
                if self.pending.held().closing {
                    warn!(path = %self.path.display(), "stopped with state that is not on disk");
                    return;
                }
                std::thread::sleep(RETRY);
                // Where that fails, so does the next commit.
                let _ = guarded(|| file.reopen(&self.path));
            }
            if std::mem::take(&mut failing) {
                info!("state is written again");
            }
            tell.send_replace(batch.ticket);
        }
    }

    /// Waits for records; `None` at the end.
    fn next_batch(&self) -> Option<Pending> {
        let mut pending = self.pending.held();
        let mut lazy_until = None;
        loop {
            if pending.is_empty() {
                if pending.closing {
                    return None;
                }
                pending = self
                    .work
                    .wait(pending)
                    .unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            if pending.urgent || pending.closing {
                break;
            }
            let now = Instant::now();
            let until = *lazy_until.get_or_insert(now + LAZY);
            if now >= until {
                break;
            }
            pending = self
                .work
                .wait_timeout(pending, until - now)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        // Those who record together hold the lock of `together` first, then that of `pending`.
        drop(pending);
        let _alone = self.together.held_to_write();
        let mut pending = self.pending.held();
        let next = pending.next();
        Some(std::mem::replace(&mut pending, next))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::QoS;
    use std::fs;

    fn message(topic: &'static str, sequence: u64) -> Arc<Message> {
        let mut message = Message::own(topic, format!("{topic} {sequence}"));
        message.qos = QoS::ExactlyOnce;
        message.sequence = sequence;
        Arc::new(message)
    }

    fn outgoing(message: &Arc<Message>, qos: QoS) -> Outgoing {
        Outgoing {
            message: Arc::clone(message),
            qos,
            retain: true,
            identifiers: vec![7, 300],
            shared: Some("$share/g/#".into()),
            stored: None,
            frames: None,
        }
    }

    fn row(user: &str) -> SessionRow {
        SessionRow {
            user: user.to_owned(),
            client_id: "c".to_owned(),
            identity: hostbus_wire::Identity::Viewer,
            expiry_seconds: 60,
            ends_unix_ms: None,
        }
    }

    #[test]
    fn what_was_recorded_is_there_again() {
        let folder = tempfile::tempdir().unwrap();
        let (disk, loaded) = Disk::open(folder.path()).unwrap();
        assert!(loaded.sessions.is_empty() && loaded.retained.is_empty());
        let options = Options {
            qos: QoS::AtLeastOnce,
            no_local: true,
            retain_as_published: false,
            identifier: Some(9),
        };
        disk.put_session(1, row("one"));
        disk.put_session(2, row("two"));
        disk.put_filter(1, "a/+", options);
        disk.put_filter(1, "b", options);
        disk.remove_filter(1, "b");
        let shared = message("a/b", 5);
        disk.put_entry(1, &mut outgoing(&shared, QoS::AtLeastOnce), 1, 0);
        disk.put_entry(1, &mut outgoing(&shared, QoS::ExactlyOnce), 2, 40);
        disk.put_entry(2, &mut outgoing(&shared, QoS::AtLeastOnce), 1, 0);
        disk.put_incoming(1, 8);
        disk.put_incoming(1, 9);
        disk.put_retained(&message("r", 6));
        disk.put_retained(&message("gone", 7));
        disk.close();
        drop(disk);

        let (disk, loaded) = Disk::open(folder.path()).unwrap();
        assert_eq!(loaded.sessions.len(), 2);
        let one = &loaded.sessions[0];
        assert_eq!((one.key, &*one.row.user), (1, "one"));
        assert_eq!(one.filters, [("a/+".into(), options)]);
        assert_eq!(one.incoming, [8, 9]);
        let check = |entry: &load::StoredEntry, number: u64, qos: QoS, packet_id: u16| {
            let outgoing = &entry.outgoing;
            let stored = outgoing.stored.unwrap();
            assert_eq!((stored.entry, stored.packet_id), (number, packet_id));
            assert_eq!(outgoing.qos, qos);
            assert_eq!(&*outgoing.message.topic, "a/b");
            assert_eq!(&outgoing.message.payload[..], b"a/b 5");
            assert_eq!(outgoing.identifiers, [7, 300]);
            assert_eq!(outgoing.shared.as_deref(), Some("$share/g/#"));
            assert!(outgoing.retain && !entry.released);
        };
        check(&one.entries[0], 1, QoS::AtLeastOnce, 0);
        check(&one.entries[1], 2, QoS::ExactlyOnce, 40);
        assert_eq!(loaded.retained.len(), 2);
        assert_eq!(loaded.last_sequence, 5, "of the messages that wait");
        let stored = one.entries[1].outgoing.stored.unwrap();
        disk.release_entry(1, stored);
        disk.remove_entry(1, 1);
        disk.remove_session(2);
        disk.remove_incoming(1, 8);
        disk.remove_retained("gone", false);
        drop(disk);

        let (disk, loaded) = Disk::open(folder.path()).unwrap();
        let [one] = &loaded.sessions[..] else {
            panic!("{:?}", loaded.sessions)
        };
        assert_eq!(one.incoming, [9]);
        let [entry] = &one.entries[..] else {
            panic!("{:?}", one.entries)
        };
        assert!(entry.released);
        assert_eq!(loaded.retained.len(), 1);
        // The last entry takes its message with it.
        disk.remove_entry(1, 2);
        drop(disk);
        let (_disk, loaded) = Disk::open(folder.path()).unwrap();
        assert_eq!(loaded.last_sequence, 0);
    }

    #[test]
    fn a_ticket_becomes_safe() {
        let folder = tempfile::tempdir().unwrap();
        let (disk, _) = Disk::open(folder.path()).unwrap();
        let ticket = disk.put_session(1, row("one"));
        let safe = disk.safe();
        let deadline = Instant::now() + Duration::from_secs(20);
        while *safe.borrow() < ticket {
            assert!(Instant::now() < deadline);
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn what_is_recorded_together_is_written_together() {
        let folder = tempfile::tempdir().unwrap();
        let (disk, _) = Disk::open(folder.path()).unwrap();
        let together = disk.together();
        let first = disk.put_incoming(1, 1);
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!(disk.put_incoming(1, 2), first);
        assert!(*disk.safe().borrow() < first);
        drop(together);
    }

    #[test]
    fn a_damaged_file_is_kept_aside() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.redb");
        let check = |damage: &dyn Fn(&mut Vec<u8>)| {
            let (disk, _) = Disk::open(folder.path()).unwrap();
            for number in 0..200 {
                disk.put_retained(&message(
                    Box::leak(format!("t/{number}").into_boxed_str()),
                    number,
                ));
            }
            drop(disk);
            let mut bytes = fs::read(&path).unwrap();
            damage(&mut bytes);
            fs::write(&path, &bytes).unwrap();
            let (disk, loaded) = Disk::open(folder.path()).unwrap();
            assert!(loaded.retained.is_empty());
            drop(disk);
            let mut aside = fs::read_dir(folder.path()).unwrap().filter_map(|entry| {
                let path = entry.unwrap().path();
                path.to_string_lossy().contains("damaged").then_some(path)
            });
            let aside = aside.next().expect("kept aside");
            assert_eq!(fs::read(&aside).unwrap(), bytes);
            fs::remove_file(aside).unwrap();
            fs::remove_file(&path).unwrap();
        };
        check(&|bytes| bytes.truncate(bytes.len() / 3));
        check(&|bytes| bytes.fill(0xa5));
        check(&|bytes| {
            let half = bytes.len() / 100;
            bytes[half..].fill(0xff);
        });
    }

    #[test]
    fn a_file_in_use_is_told_and_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let _disk = Disk::open(folder.path()).unwrap();
        let error = Disk::open(folder.path()).unwrap_err();
        assert!(matches!(error, Error::InUse { .. }), "{error}");
    }
}
