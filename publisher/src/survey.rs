//! Has the inventory put together on a thread of its own, and notices when that hangs.
//!
//! It reads many files of many drivers, one of which may never answer. Nobody waits for it: the
//! inventory comes when it is there. The thread ends with it, and while one hangs there is no other.

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use hostbus_wire::info::Info;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use crate::inventory;

/// How long it may take before people hear of it: far longer than the largest host takes.
const PATIENCE: Duration = Duration::from_secs(5);
/// Room for what the readers keep on the stack.
const STACK_BYTES: usize = 512 * 1024;

/// What the inventory tells besides the host itself.
#[derive(Debug, Clone)]
pub(crate) struct Present {
    /// The state of each collector.
    pub(crate) collectors: BTreeMap<String, String>,
    /// The time from sample to sample.
    pub(crate) interval: Duration,
    /// This run, as in its samples.
    pub(crate) boot: u64,
}

/// What came of it.
#[derive(Debug)]
pub(crate) enum Found {
    Info(Box<Info>),
    /// It does not come, and why.
    Nothing(&'static str),
}

const HANGS: &str = "does not answer: something that it reads hangs in the kernel";
const DIED: &str = "its thread could not be started, or died";

/// See the module's description.
#[derive(Debug)]
pub(crate) struct Surveyor {
    gather: fn(Present) -> Info,
    patience: Duration,
    under_way: Option<UnderWay>,
    /// What is to be told next. What is under way is of no use any more.
    next: Option<Present>,
}

#[derive(Debug)]
struct UnderWay {
    answer: oneshot::Receiver<Info>,
    since: Instant,
    told: bool,
}

impl Surveyor {
    pub(crate) fn new() -> Self {
        Self::with(inventory::of, PATIENCE)
    }

    fn with(gather: fn(Present) -> Info, patience: Duration) -> Self {
        Self {
            gather,
            patience,
            under_way: None,
            next: None,
        }
    }

    /// Asks for an inventory in place of what was asked for before.
    pub(crate) fn ask(&mut self, present: Present) {
        if self.under_way.is_some() {
            self.next = Some(present);
        } else {
            self.start(present);
        }
    }

    /// Tells whether it was told that it hangs, and still does.
    pub(crate) fn hangs(&self) -> bool {
        self.under_way.as_ref().is_some_and(|it| it.told)
    }

    /// What came of it; never anything while nothing was asked for. That it hangs is told once. May
    /// be dropped and called again.
    pub(crate) async fn found(&mut self) -> Found {
        loop {
            let Some(under_way) = &mut self.under_way else {
                return std::future::pending().await;
            };
            let answer = if under_way.told {
                (&mut under_way.answer).await
            } else {
                let deadline = under_way.since + self.patience;
                let Ok(answer) = timeout_at(deadline, &mut under_way.answer).await else {
                    under_way.told = true;
                    return Found::Nothing(HANGS);
                };
                answer
            };
            self.under_way = None;
            match (self.next.take(), answer) {
                (Some(present), _) => self.start(present),
                (None, Ok(info)) => return Found::Info(Box::new(info)),
                (None, Err(_)) => return Found::Nothing(DIED),
            }
        }
    }

    fn start(&mut self, present: Present) {
        let (done, answer) = oneshot::channel();
        let gather = self.gather;
        // Without a thread the question goes, and the answer's other end with it.
        let _ = thread::Builder::new()
            .name("inventory".to_owned())
            .stack_size(STACK_BYTES)
            .spawn(move || {
                let _ = done.send(gather(present));
            });
        self.under_way = Some(UnderWay {
            answer,
            since: Instant::now(),
            told: false,
        });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Condvar, Mutex};

    use tokio::time::timeout;

    use super::*;

    const DEADLINE: Duration = Duration::from_secs(20);

    fn present(boot: u64) -> Present {
        Present {
            collectors: BTreeMap::new(),
            interval: Duration::from_secs(10),
            boot,
        }
    }

    fn echo(present: Present) -> Info {
        Info {
            boot: Some(present.boot),
            collectors: present.collectors,
            ..Info::default()
        }
    }

    async fn boot(surveyor: &mut Surveyor) -> Option<u64> {
        match timeout(DEADLINE, surveyor.found()).await {
            Ok(Found::Info(info)) => info.boot,
            other => panic!("{other:?}"),
        }
    }

    static OPEN: (Mutex<bool>, Condvar) = (Mutex::new(false), Condvar::new());

    fn held_up(present: Present) -> Info {
        let (open, changed) = (&OPEN.0, &OPEN.1);
        let open = changed.wait_while(open.lock().unwrap(), |open| !*open);
        drop(open.unwrap());
        echo(present)
    }

    #[tokio::test]
    async fn one_that_hangs_is_told_once_and_its_late_answer_gives_way_to_the_newest() {
        let mut surveyor = Surveyor::with(held_up, Duration::from_millis(20));
        surveyor.ask(present(1));
        let told = timeout(DEADLINE, surveyor.found()).await;
        assert!(matches!(told, Ok(Found::Nothing(HANGS))), "{told:?}");
        assert!(surveyor.hangs());
        surveyor.ask(present(2));
        surveyor.ask(present(3));
        let again = timeout(Duration::from_millis(100), surveyor.found()).await;
        assert!(again.is_err(), "told again: {again:?}");
        *OPEN.0.lock().unwrap() = true;
        OPEN.1.notify_all();
        surveyor.patience = DEADLINE;
        assert_eq!(boot(&mut surveyor).await, Some(3));
        assert!(!surveyor.hangs());
    }

    #[tokio::test]
    async fn one_after_the_other_is_answered() {
        let mut surveyor = Surveyor::with(echo, DEADLINE);
        for number in 1..4 {
            surveyor.ask(present(number));
            assert_eq!(boot(&mut surveyor).await, Some(number));
        }
        let idle = timeout(Duration::from_millis(20), surveyor.found()).await;
        assert!(idle.is_err(), "{idle:?}");
    }

    #[tokio::test]
    async fn one_that_dies_is_told() {
        let mut surveyor = Surveyor::with(|_| panic!("no inventory today"), DEADLINE);
        surveyor.ask(present(1));
        let told = timeout(DEADLINE, surveyor.found()).await;
        assert!(matches!(told, Ok(Found::Nothing(DIED))), "{told:?}");
        assert!(!surveyor.hangs());
    }
}
