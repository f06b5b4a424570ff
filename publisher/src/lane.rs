//! The thread on which collectors are asked, so that one that hangs in the kernel holds up nobody.
//!
//! A disk that dies or a driver that is wedged may block a reader for ever, and nothing can take it
//! back. Such a thread is left to its collector, and the others go on with a new one.

use std::any::Any;
use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use tokio::sync::mpsc as answers;

use crate::collectors::{Collector, Pass, Presence};
use crate::error::CollectorError;

/// Room for what collectors keep on the stack: they read small files and call a driver's library.
const STACK_BYTES: usize = 512 * 1024;

/// How long the end of a collector is waited for: far longer than it takes to write a small file.
const END_WITHIN: Duration = Duration::from_millis(250);

/// A thread that asks collectors, one after the other. Dropping it lets the thread end once the
/// collector that it asks has answered.
pub(crate) struct Lane {
    jobs: mpsc::Sender<Job>,
    answers: answers::UnboundedReceiver<Answer>,
}

/// One collector to be asked.
pub(crate) struct Job {
    pub(crate) collector: Box<dyn Collector>,
    pub(crate) pass: Pass,
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

/// Lets a collector go. That may hang as well as asking it, as closing the library of a GPU that is
/// lost does, so it has a thread, which is left to it.
pub(crate) fn retire(collector: Box<dyn Collector>) {
    let (ended, end) = mpsc::channel::<()>();
    let thread = thread::Builder::new()
        .name("collectors".to_owned())
        .stack_size(STACK_BYTES);
    let run = move || {
        drop(collector);
        drop(ended);
    };
    // Without a thread it ended right here.
    if thread.spawn(run).is_ok() {
        let _ = end.recv_timeout(END_WITHIN);
    }
}

impl Job {
    fn run(self) -> Answer {
        let Self {
            mut collector,
            mut pass,
        } = self;
        let (began, cpu_before) = (Instant::now(), cpu_time());
        let ask = AssertUnwindSafe(|| collector.collect(&mut pass));
        let outcome = panic::catch_unwind(ask);
        let cost = Cost {
            elapsed: began.elapsed(),
            cpu: cpu_time().saturating_sub(cpu_before),
        };
        match outcome {
            Ok(outcome) => Answer {
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

/// The processor time of this thread so far.
fn cpu_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default()
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no reason".into())
}
