//! Channels that are broken until somebody mends them.

use std::sync::mpsc;

use super::*;

#[tokio::test]
async fn a_channel_that_is_broken_loses_nothing_and_says_why() {
    let spool = in_memory();
    push(&spool, (1..=3).map(|id| notice(id, "ops")).collect());
    let mended = Arc::new(AtomicBool::new(false));
    let is_mended = Arc::clone(&mended);
    let (tried, mut tries) = watch::channel(0);
    let ops = Fake::new(move |_| {
        tried.send_modify(|tried| *tried += 1);
        if is_mended.load(Ordering::Relaxed) {
            Does::Take
        } else {
            Does::Revoke
        }
    });
    let (delivery, _active) = start(&spool, &[("ops", &ops)], QUICK);
    let often = tries.wait_for(|tries| *tries > 5);
    drop(timeout(DEADLINE, often).await.unwrap().unwrap());
    let figures = spool.figures()[0].1.clone();
    assert_eq!((figures.queued, figures.given_up), (3, 0));
    assert_eq!(figures.failing.as_deref(), Some("unknown token"));
    assert_eq!(figures.failing_since_ms, Some(0));
    mended.store(true, Ordering::Relaxed);
    for id in 1..=3 {
        let outcome = outcome(&spool).await;
        assert_eq!((outcome.notice.id, outcome.ended), (id, Ended::Delivered));
    }
    let figures = spool.figures()[0].1.clone();
    assert_eq!((figures.failing, figures.failing_since_ms), (None, None));
    delivery.stop().await;
}

/// Nothing of it comes by waiting.
const CALM: Patience = Patience {
    first_calm_wait: Duration::from_secs(3600),
    longest_calm_wait: Duration::from_secs(3600),
    ..QUICK
};

#[tokio::test]
async fn a_broken_channel_is_tried_at_once_when_its_files_have_changed() {
    let spool = in_memory();
    push(&spool, vec![notice(1, "ops"), notice(2, "ops")]);
    let (tried, mut tries) = watch::channel(0);
    let ops = Fake::new(move |_| {
        tried.send_modify(|tried| *tried += 1);
        if *tried.borrow() == 1 {
            Does::Revoke
        } else {
            Does::Take
        }
    });
    let (delivery, _active) = start(&spool, &[("ops", &ops)], CALM);
    let once = tries.wait_for(|tries| *tries == 1);
    drop(timeout(DEADLINE, once).await.unwrap().unwrap());
    ops.changed.store(true, Ordering::Relaxed);
    for id in [1, 2] {
        let outcome = outcome(&spool).await;
        assert_eq!((outcome.notice.id, outcome.ended), (id, Ended::Delivered));
    }
    delivery.stop().await;
}

#[tokio::test]
async fn what_is_too_old_for_a_broken_channel_ends_without_troubling_it() {
    let spool = in_memory();
    let young = Notice {
        formed_ms: 1000,
        ..notice(5, "ops")
    };
    push(&spool, (1..=4).map(|id| notice(id, "ops")).collect());
    push(&spool, vec![young]);
    let (tried, tries) = watch::channel(0);
    let ops = Fake::new(move |_| {
        tried.send_modify(|tried| *tried += 1);
        Does::Revoke
    });
    let patience = Patience {
        give_up: Duration::from_secs(1),
        ..CALM
    };
    let active = watch::Sender::new(true);
    let carrier: Arc<dyn Carrier> = ops;
    let channels = vec![("ops".to_owned(), carrier)];
    let (gate, token) = (active.subscribe(), CancellationToken::new());
    let delivery = Delivery::start(channels, &spool, &gate, patience, || 1000, &token);
    for id in 1..=4 {
        let outcome = outcome(&spool).await;
        let reason = "not taken within 0.0 hours; at last: unknown token";
        assert_eq!((outcome.notice.id, given_up(&outcome)), (id, reason));
    }
    // A line that forgets its calm would have tried the young one by then.
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!((*tries.borrow(), spool.figures()[0].1.queued), (1, 1));
    delivery.stop().await;
}

/// A channel that is broken, and whose files are on a disk that hangs until the sender is dropped.
struct Stuck {
    tries: watch::Sender<usize>,
    looks: AtomicU64,
    disk: Mutex<mpsc::Receiver<()>>,
}

impl Carrier for Stuck {
    fn messages(&self, notice: &Notice) -> Vec<Message> {
        vec![message(notice, 1)]
    }

    fn pace(&self) -> Pace {
        Pace::FREE
    }

    fn send<'a>(&'a self, _: &'a Message, _: u64) -> Sending<'a> {
        self.tries.send_modify(|tries| *tries += 1);
        Box::pin(async {
            Verdict::Broken {
                reason: "unknown token".to_owned(),
            }
        })
    }

    fn renew(&self) -> Result<bool, String> {
        self.looks.fetch_add(1, Ordering::Relaxed);
        let _ = self.disk.lock().unwrap().recv();
        Ok(false)
    }
}

#[tokio::test]
async fn files_on_a_disk_that_hangs_are_waited_for_by_one_thread() {
    let spool = in_memory();
    push(&spool, vec![notice(1, "ops")]);
    let (disk, hangs) = mpsc::channel();
    let ops = Arc::new(Stuck {
        tries: watch::Sender::new(0),
        looks: AtomicU64::new(0),
        disk: Mutex::new(hangs),
    });
    let patience = Patience {
        send_within: Duration::from_millis(20),
        ..QUICK
    };
    let active = watch::Sender::new(true);
    let carrier: Arc<dyn Carrier> = ops.clone();
    let channels = vec![("ops".to_owned(), carrier)];
    let (gate, token) = (active.subscribe(), CancellationToken::new());
    let delivery = Delivery::start(channels, &spool, &gate, patience, || 1000, &token);
    let mut tries = ops.tries.subscribe();
    let often = tries.wait_for(|tries| *tries > 5);
    drop(timeout(DEADLINE, often).await.unwrap().unwrap());
    assert_eq!(ops.looks.load(Ordering::Relaxed), 1);
    drop(disk);
    delivery.stop().await;
}
