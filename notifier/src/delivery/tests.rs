//! Lines against channels that fail in every way, over real spools.

mod broken;
mod model;

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use hostbus_daemon::Secret;
use tokio::time::timeout;

use super::*;
use crate::channels::{Answer, Http, Request};
use crate::http::stand_in::{Reply, StandIn};
use crate::http::{HttpConfig, HttpSender};
use crate::notice::Reason;
use crate::spool::{Changes, Ended, Outcome, SpoolConfig};

/// What a channel's service does with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Does {
    Take,
    /// It is busy.
    Busy,
    Refuse,
    /// It knows the channel's token no more.
    Revoke,
    Hang,
    Panic,
}

/// What becomes of the message of a key.
type Script = Box<dyn FnMut(&str) -> Does + Send>;

/// A channel whose notices make as many messages as their id has in tens, one at least.
struct Fake {
    script: Mutex<Script>,
    taken: watch::Sender<Vec<String>>,
    /// Whether its files have changed.
    changed: AtomicBool,
}

impl Fake {
    fn new(script: impl FnMut(&str) -> Does + Send + 'static) -> Arc<Self> {
        Arc::new(Self {
            script: Mutex::new(Box::new(script)),
            taken: watch::Sender::new(Vec::new()),
            changed: AtomicBool::new(false),
        })
    }

    fn takes() -> Arc<Self> {
        Self::new(|_| Does::Take)
    }

    fn taken(&self) -> Vec<String> {
        self.taken.borrow().clone()
    }

    async fn has_taken(&self, count: usize) {
        let mut taken = self.taken.subscribe();
        let enough = taken.wait_for(|taken| taken.len() >= count);
        drop(timeout(DEADLINE, enough).await.unwrap().unwrap());
    }
}

impl Carrier for Fake {
    fn messages(&self, notice: &Notice) -> Vec<Message> {
        assert!(notice.group != "panic", "a fault in a template");
        let pieces = (notice.id / 10).max(1);
        (1..=pieces).map(|piece| message(notice, piece)).collect()
    }

    fn pace(&self) -> Pace {
        Pace::FREE
    }

    fn send<'a>(&'a self, message: &'a Message, _: u64) -> Sending<'a> {
        let does = (self.script.lock().unwrap())(&message.key);
        Box::pin(async move {
            match does {
                Does::Take => {
                    self.taken
                        .send_modify(|taken| taken.push(message.key.clone()));
                    Verdict::Delivered
                }
                Does::Busy => retry("busy"),
                Does::Refuse => Verdict::Refused {
                    reason: "not well-formed".to_owned(),
                },
                Does::Revoke => Verdict::Broken {
                    reason: "unknown token".to_owned(),
                },
                Does::Hang => std::future::pending().await,
                Does::Panic => panic!("a fault in a channel"),
            }
        })
    }

    fn renew(&self) -> Result<bool, String> {
        Ok(self.changed.swap(false, Ordering::Relaxed))
    }
}

fn retry(reason: &str) -> Verdict {
    Verdict::Retry {
        reason: reason.to_owned(),
        after: None,
    }
}

fn message(notice: &Notice, piece: u64) -> Message {
    Message {
        key: format!("{}-{piece}", notice.id),
        title: String::new(),
        text: String::new(),
        notice: notice.clone(),
        omitted: 0,
    }
}

fn notice(id: u64, channel: &str) -> Notice {
    Notice {
        id,
        channel: channel.to_owned(),
        reason: Reason::Firing,
        group: String::new(),
        formed_ms: 0,
        lines: Vec::new(),
        still_firing: 0,
    }
}

const DEADLINE: Duration = Duration::from_secs(20);

const QUICK: Patience = Patience {
    give_up: Duration::from_secs(3600),
    first_wait: Duration::from_millis(1),
    longest_wait: Duration::from_millis(4),
    first_calm_wait: Duration::from_millis(1),
    longest_calm_wait: Duration::from_millis(4),
    look_every: Duration::from_millis(1),
    longest_asked: Duration::from_secs(1),
    send_within: Duration::from_secs(10),
    stop_within: Duration::from_millis(50),
};

fn in_memory() -> Spool {
    Spool::open(None, "main", &SpoolConfig::default())
        .unwrap()
        .0
}

fn push(spool: &Spool, notices: Vec<Notice>) {
    let changes = Changes {
        notices,
        ..Changes::default()
    };
    spool.commit(changes, 0);
}

/// Delivery that is active until the sender is told otherwise.
fn start(
    spool: &Spool,
    channels: &[(&str, &Arc<Fake>)],
    patience: Patience,
) -> (Delivery, watch::Sender<bool>) {
    let active = watch::Sender::new(true);
    let channels = channels.iter().map(|(name, fake)| {
        let carrier: Arc<dyn Carrier> = Arc::<Fake>::clone(fake);
        ((*name).to_owned(), carrier)
    });
    let gate = active.subscribe();
    let token = CancellationToken::new();
    let delivery = Delivery::start(channels.collect(), spool, &gate, patience, || 0, &token);
    (delivery, active)
}

async fn outcome(spool: &Spool) -> Outcome {
    timeout(DEADLINE, spool.outcome()).await.unwrap()
}

fn given_up(outcome: &Outcome) -> &str {
    match &outcome.ended {
        Ended::GivenUp { reason } => reason,
        Ended::Delivered => "",
    }
}

#[tokio::test]
async fn notices_go_out_in_order_message_by_message_and_their_ends_are_told() {
    let spool = in_memory();
    push(&spool, vec![notice(31, "ops"), notice(32, "ops")]);
    let ops = Fake::takes();
    let (delivery, _active) = start(&spool, &[("ops", &ops)], QUICK);
    for id in [31, 32] {
        let outcome = outcome(&spool).await;
        assert_eq!((outcome.notice.id, outcome.ended), (id, Ended::Delivered));
    }
    push(&spool, vec![notice(33, "ops")]);
    assert_eq!(outcome(&spool).await.notice.id, 33);
    let order = [
        "31-1", "31-2", "31-3", "32-1", "32-2", "32-3", "33-1", "33-2", "33-3",
    ];
    assert_eq!(ops.taken(), order);
    delivery.stop().await;
}

#[tokio::test]
async fn a_channel_that_hangs_or_fails_holds_up_nobody_else() {
    let spool = in_memory();
    let channels = ["hangs", "fails", "panics", "works"];
    push(&spool, channels.map(|channel| notice(1, channel)).to_vec());
    let hangs = Fake::new(|_| Does::Hang);
    let fails = Fake::new(|_| Does::Busy);
    let mut panicked = 0;
    let panics = Fake::new(move |_| {
        panicked += 1;
        if panicked < 3 {
            Does::Panic
        } else {
            Does::Take
        }
    });
    let works = Fake::takes();
    let fakes = [&hangs, &fails, &panics, &works];
    let channels: Vec<_> = channels.into_iter().zip(fakes).collect();
    let (delivery, _active) = start(&spool, &channels, QUICK);
    let mut done = [outcome(&spool).await.channel, outcome(&spool).await.channel];
    done.sort();
    assert_eq!(done, ["panics", "works"]);
    let figures = spool.figures();
    let of = |name: &str| &figures.iter().find(|(found, _)| found == name).unwrap().1;
    assert_eq!((of("hangs").queued, of("fails").queued), (1, 1));
    assert_eq!((of("panics").tried_again, of("works").delivered), (2, 1));
    // A stop does not wait for a channel that hangs.
    timeout(DEADLINE, delivery.stop()).await.unwrap();
}

#[tokio::test]
async fn a_message_without_an_answer_is_tried_again() {
    let spool = in_memory();
    push(&spool, vec![notice(1, "ops")]);
    let mut first = true;
    let ops = Fake::new(move |_| {
        if std::mem::take(&mut first) {
            Does::Hang
        } else {
            Does::Take
        }
    });
    let patience = Patience {
        send_within: Duration::from_millis(20),
        ..QUICK
    };
    let (delivery, _active) = start(&spool, &[("ops", &ops)], patience);
    assert_eq!(outcome(&spool).await.ended, Ended::Delivered);
    assert_eq!(spool.figures()[0].1.tried_again, 1);
    delivery.stop().await;
}

#[tokio::test]
async fn only_what_cannot_be_told_is_given_up_and_the_next_one_goes_on() {
    let spool = in_memory();
    let mut broken = notice(3, "ops");
    broken.group = "panic".to_owned();
    push(
        &spool,
        vec![notice(1, "ops"), notice(2, "ops"), broken, notice(4, "ops")],
    );
    push(&spool, vec![notice(5, "gone")]);
    let ops = Fake::new(|key| match key {
        "1-1" => Does::Refuse,
        "2-1" => Does::Busy,
        _ => Does::Take,
    });
    let patience = Patience {
        give_up: Duration::ZERO,
        ..QUICK
    };
    let (delivery, _active) = start(&spool, &[("ops", &ops)], patience);
    for (id, reason) in [
        (5, "the settings have no channel `gone` any more"),
        (1, "not well-formed"),
        (2, "not taken within 0.0 hours; at last: busy"),
        (
            3,
            "the channel makes no message of it: this is a fault of the program",
        ),
        (4, ""),
    ] {
        let outcome = outcome(&spool).await;
        assert_eq!((outcome.notice.id, given_up(&outcome)), (id, reason));
    }
    delivery.stop().await;
}

#[tokio::test]
async fn nothing_is_sent_while_another_notifier_is_active() {
    let spool = in_memory();
    let ops = Fake::takes();
    let (delivery, active) = start(&spool, &[("ops", &ops)], QUICK);
    push(&spool, vec![notice(1, "ops")]);
    ops.has_taken(1).await;
    active.send_replace(false);
    push(&spool, vec![notice(2, "ops")]);
    // A line that did not heed the gate would be through with it by then.
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!(ops.taken(), ["1-1"]);
    active.send_replace(true);
    ops.has_taken(2).await;
    delivery.stop().await;
}

#[tokio::test]
async fn what_is_being_sent_when_the_gate_shuts_ends_and_is_recorded() {
    let spool = in_memory();
    push(&spool, vec![notice(1, "ops"), notice(2, "ops")]);
    let active = watch::Sender::new(true);
    let shut = active.clone();
    let ops = Fake::new(move |_| {
        shut.send_replace(false);
        Does::Take
    });
    let carrier: Arc<dyn Carrier> = Arc::<Fake>::clone(&ops);
    let channels = vec![("ops".to_owned(), carrier)];
    let token = CancellationToken::new();
    let delivery = Delivery::start(channels, &spool, &active.subscribe(), QUICK, || 0, &token);
    let first = outcome(&spool).await;
    assert_eq!((first.notice.id, first.ended), (1, Ended::Delivered));
    assert_eq!(ops.taken(), ["1-1"]);
    assert_eq!(spool.head("ops").unwrap().notice.id, 2);
    delivery.stop().await;
}

#[tokio::test]
async fn a_stop_lets_a_message_come_to_its_end_and_a_restart_goes_on_with_the_next_one() {
    let folder = tempfile::tempdir().unwrap();
    let open = || {
        Spool::open(Some(folder.path()), "main", &SpoolConfig::default())
            .unwrap()
            .0
    };
    let spool = open();
    push(&spool, vec![notice(30, "ops")]);
    let ops = Fake::new(|key| {
        if key == "30-2" {
            Does::Hang
        } else {
            Does::Take
        }
    });
    let (delivery, _active) = start(&spool, &[("ops", &ops)], QUICK);
    ops.has_taken(1).await;
    delivery.stop().await;
    spool.close().await;
    drop(spool);

    let spool = open();
    let ops = Fake::takes();
    let (delivery, _active) = start(&spool, &[("ops", &ops)], QUICK);
    assert_eq!(outcome(&spool).await.ended, Ended::Delivered);
    assert_eq!(ops.taken(), ["30-2", "30-3"]);
    delivery.stop().await;
}

/// A webhook whose 200 is success.
struct Hook {
    url: String,
    sender: HttpSender,
}

impl Http for Hook {
    fn request(&self, message: &Message, _: u64) -> Request {
        Request {
            method: "POST",
            url: Secret::new(&*self.url),
            headers: Vec::new(),
            body: message.key.clone().into_bytes(),
        }
    }

    fn judge(&self, answer: &Answer) -> Verdict {
        match answer.status {
            200 => Verdict::Delivered,
            status => Verdict::Retry {
                reason: format!("HTTP {status}"),
                after: (status == 429).then_some(Duration::from_millis(30)),
            },
        }
    }
}

impl Carrier for Hook {
    fn messages(&self, notice: &Notice) -> Vec<Message> {
        vec![message(notice, 1)]
    }

    fn pace(&self) -> Pace {
        Pace {
            gap: Duration::from_millis(1),
            ..Pace::FREE
        }
    }

    fn send<'a>(&'a self, message: &'a Message, now_ms: u64) -> Sending<'a> {
        Box::pin(self.sender.tell(self, message, now_ms))
    }
}

#[tokio::test]
async fn over_http_nothing_is_missing_and_only_a_lost_answer_is_told_twice() {
    let round = AtomicU64::new(0);
    let server = StandIn::start(move |_| match round.fetch_add(1, Ordering::Relaxed) % 5 {
        1 => Reply::Cut,
        2 => Reply::status(503),
        3 => Reply::status(429),
        _ => Reply::status(200),
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let spool = Spool::open(Some(folder.path()), "main", &SpoolConfig::default())
        .unwrap()
        .0;
    let clock = hostbus_daemon::clock::unix_ms;
    let formed = |id| Notice {
        formed_ms: clock(),
        ..notice(id, "hook")
    };
    push(&spool, (1..=20).map(formed).collect());
    let hook = Hook {
        url: server.url("/hook"),
        sender: HttpSender::new(&HttpConfig::default()).unwrap(),
    };
    let active = watch::Sender::new(true);
    let channels: Vec<(String, Arc<dyn Carrier>)> = vec![("hook".to_owned(), Arc::new(hook))];
    let token = CancellationToken::new();
    let delivery = Delivery::start(channels, &spool, &active.subscribe(), QUICK, clock, &token);
    for id in 1..=20 {
        let outcome = outcome(&spool).await;
        assert_eq!((outcome.notice.id, outcome.ended), (id, Ended::Delivered));
    }
    let told = server.asked().into_iter().enumerate();
    let told = told.filter(|(round, _)| matches!(round % 5, 0 | 4));
    let told: Vec<String> = told
        .map(|(_, asked)| String::from_utf8(asked.body).unwrap())
        .collect();
    let wanted: Vec<String> = (1..=20).map(|id| format!("{id}-1")).collect();
    assert_eq!(told, wanted);
    delivery.stop().await;
    spool.close().await;
}
