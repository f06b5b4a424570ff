//! The thread on which collectors are asked, so that one that hangs in the kernel holds up nobody.
//!
//! A disk that dies or a driver that is wedged may block a reader for ever, and nothing can take it
//! back. Such a thread is left to its collector, and the others go on with a new one. Making a
//! collector may hang as well, and so may its end: each has a thread, too.

use std::any::Any;
use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use tokio::sync::mpsc as answers;

use crate::collectors::{Collector, CollectorsConfig, Entry, Pass, Presence};
use crate::error::CollectorError;

/// Room for what collectors keep on the stack: they read small files and call a driver's library.
const STACK_BYTES: usize = 512 * 1024;

/// How long the end of a collector is waited for: far longer than it takes to write a small file.
const END_WITHIN: Duration = Duration::from_millis(250);

/// The most ends of one kind of collector that may hang.
const MAX_ENDS: usize = 4;

/// A thread that asks collectors, one after the other. Dropping it lets the thread end once the
/// collector that it asks has answered.
pub(crate) struct Lane {
    jobs: mpsc::Sender<Job>,
    answers: answers::UnboundedReceiver<Answer>,
}

/// One collector to be asked.
pub(crate) struct Job {
    pub(crate) who: Who,
    pub(crate) pass: Pass,
}

/// The collector of a job.
pub(crate) enum Who {
    /// It stands there.
    Made(Box<dyn Collector>),
    /// It is made first, by these settings.
    New(&'static Entry, Box<CollectorsConfig>),
}

/// What came of it.
pub(crate) struct Answer {
    /// Gone when it panicked.
    pub(crate) collector: Option<Box<dyn Collector>>,
    pub(crate) pass: Pass,
    pub(crate) outcome: Result<Presence, CollectorError>,
    pub(crate) cost: Cost,
}

/// What asking a collector took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cost {
    /// From the question to the answer.
    pub elapsed: Duration,
    /// Processor time.
    pub cpu: Duration,
}

impl Lane {
    /// Starts the thread.
    pub(crate) fn open() -> io::Result<Self> {
        let (jobs, todo) = mpsc::channel::<Job>();
        let (done, answers) = answers::unbounded_channel();
        thread::Builder::new()
            .name("collectors".to_owned())
            .stack_size(STACK_BYTES)
            .spawn(move || {
                for job in todo {
                    if done.send(job.run()).is_err() {
                        return;
                    }
                }
            })?;
        Ok(Self { jobs, answers })
    }

    /// Hands a collector over. Its answer is the next one that [`Self::answer`] gives.
    pub(crate) fn ask(&self, job: Job) {
        // The thread lives as long as this end does.
        let _ = self.jobs.send(job);
    }

    /// The answer to what was asked. `None` when the thread is gone. May be dropped and called
    /// again.
    pub(crate) async fn answer(&mut self) -> Option<Answer> {
        self.answers.recv().await
    }

    /// The answer, if it has come.
    pub(crate) fn late_answer(&mut self) -> Option<Answer> {
        self.answers.try_recv().ok()
    }
}

/// The ends of one kind of collector. An end may hang as well as a question, as closing the library
/// of a GPU that is lost does, so each has a thread, which is left to it.
#[derive(Default)]
pub(crate) struct Ends {
    /// Held by each thread.
    under_way: Arc<()>,
}

impl Ends {
    /// Lets a collector go.
    pub(crate) fn retire(&self, collector: Box<dyn Collector>) {
        let (ended, end) = mpsc::channel::<()>();
        let thread = thread::Builder::new()
            .name("collectors".to_owned())
            .stack_size(STACK_BYTES);
        let place = Arc::clone(&self.under_way);
        let run = move || {
            drop(collector);
            drop(place);
            drop(ended);
        };
        // Without a thread it ended right here.
        if thread.spawn(run).is_ok() {
            let _ = end.recv_timeout(END_WITHIN);
        }
    }

    /// Tells whether so many ends hang that there may not be another one: threads are few.
    pub(crate) fn are_too_many(&self) -> bool {
        Arc::strong_count(&self.under_way) > MAX_ENDS
    }
}

impl Job {
    fn run(self) -> Answer {
        let Self { who, mut pass } = self;
        let (began, cpu_before) = (Instant::now(), cpu_time());
        let ask = AssertUnwindSafe(|| {
            let mut collector = who.make();
            let outcome = collector.collect(&mut pass);
            (collector, outcome)
        });
        let asked = panic::catch_unwind(ask);
        let cost = Cost {
            elapsed: began.elapsed(),
            cpu: cpu_time().saturating_sub(cpu_before),
        };
        match asked {
            Ok((collector, outcome)) => Answer {
                collector: Some(collector),
                pass,
                outcome,
                cost,
            },
            // What it left half done is not to be trusted.
            Err(panic) => Answer {
                collector: None,
                pass: Pass::at(pass.now, pass.ts),
                outcome: Err(CollectorError::Panicked(panic_text(&*panic))),
                cost,
            },
        }
    }
}

impl Who {
    fn make(self) -> Box<dyn Collector> {
        match self {
            Self::Made(collector) => collector,
            Self::New(entry, config) => (entry.make)(&config),
        }
    }
}

/// The processor time of this thread so far.
fn cpu_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default()
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no reason".into())
}
