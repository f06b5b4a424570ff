//! Takes samples when they are due, until it is told to stop.
//!
//! A first reading at the start has no rates and only feeds the second, which comes a second later
//! so that a new host shows up at once. From there on the timetable holds. A pass that takes longer
//! than the interval lets the next ones slip.

use std::sync::Arc;
use std::time::Duration;

use hostbus_daemon::CancellationToken;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, sleep_until};

use crate::heartbeat::Pulse;
use crate::sampler::{Reading, Sampler};
use crate::timetable::Timetable;
use crate::tuning::Tuning;

/// How long after a sample one that is asked for is taken at the earliest: rates need some time to
/// be rates over.
const APART: Duration = Duration::from_millis(100);
/// The time from the first reading to the first sample, unless the interval is shorter.
const FIRST_SAMPLE_AFTER: Duration = Duration::from_secs(1);

/// What goes from the schedule to the uplink.
#[derive(Debug)]
pub(crate) enum Taken {
    /// The first reading: its sample is worth nothing, its events are.
    First(Reading),
    /// A sample.
    Sample(Reading),
}

/// What the schedule is told while it runs.
#[derive(Debug)]
pub(crate) struct Wishes {
    /// How to take samples.
    pub(crate) tuning: watch::Receiver<Tuning>,
    /// A sample is wanted now, of all collectors.
    pub(crate) fresh: Arc<Notify>,
}

/// Takes samples until `token` is cancelled, and then ends without waiting for a pass that hangs.
///
/// When `out` is full it waits, and passes are left out. `pulse` is not answered meanwhile.
pub(crate) async fn run(
    mut wishes: Wishes,
    out: mpsc::Sender<Taken>,
    mut pulse: Pulse,
    token: CancellationToken,
) {
    tokio::select! {
        () = take(&mut wishes, out, &mut pulse) => {}
        () = token.cancelled() => {}
    }
}

async fn take(wishes: &mut Wishes, out: mpsc::Sender<Taken>, pulse: &mut Pulse) {
    let Wishes { tuning, fresh } = wishes;
    let mut current = tuning.borrow_and_update().clone();
    let mut sampler = Sampler::new(&current.collectors);
    let first = sampler.take_all(current.interval).await;
    // From its end on: a slow first reading leaves no time for rates.
    let first_at = Instant::now() + current.interval.min(FIRST_SAMPLE_AFTER);
    if out.send(Taken::First(first)).await.is_err() {
        return;
    }
    let mut table = Timetable::new(first_at.into_std(), current.intervals());
    let mut changeable = true;
    let mut taken_at = Instant::now();
    loop {
        let wake = sleep_until(table.wake().into());
        let asked = tokio::select! {
            () = wake => false,
            () = fresh.notified() => true,
            changed = tuning.changed(), if changeable => {
                changeable = changed.is_ok();
                current = tuning.borrow_and_update().clone();
                sampler.change(&current.collectors);
                table.change(Instant::now().into_std(), current.intervals());
                continue;
            }
            never = pulse.answer() => match never {},
        };
        if asked {
            sleep_until(taken_at + APART).await;
        }
        taken_at = Instant::now();
        let now = taken_at.into_std();
        let due = table.due(now);
        let to_next = table.to_next();
        let reading = if asked {
            sampler.take_all(to_next).await
        } else {
            sampler.take(&due, to_next).await
        };
        if out.send(Taken::Sample(reading)).await.is_err() {
            return;
        }
    }
}
