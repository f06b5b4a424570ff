//! When samples are taken, and that a pass that hangs or dies does not take the publisher along.
//!
//! A first reading at the start has no rates and only feeds the second, which comes a second later
//! so that a new host shows up at once. From there on they come at the interval. A pass that takes
//! longer than the interval lets the next ones slip.

use std::time::Duration;

use hostbus_daemon::CancellationToken;
use tokio::sync::mpsc;
use tokio::task;
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tracing::error;

use crate::config::Config;
use crate::sampler::{Reading, Sampler};

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

/// Takes samples until `token` is cancelled, and then ends without waiting for a pass that hangs.
///
/// When `out` is full it waits, and passes are left out.
pub(crate) async fn run(config: Config, out: mpsc::Sender<Taken>, token: CancellationToken) {
    let interval = config.interval();
    let mut sampler = Some(Sampler::new(&config.collectors, interval));
    let first_at = Instant::now() + interval.min(FIRST_SAMPLE_AFTER);
    let mut ticks = interval_at(first_at, interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut first = true;
    loop {
        if !first {
            tokio::select! {
                _ = ticks.tick() => {}
                () = token.cancelled() => return,
            }
        }
        let mut taker = sampler
            .take()
            .unwrap_or_else(|| Sampler::new(&config.collectors, interval));
        // Files of the system may block, however seldom.
        let pass = task::spawn_blocking(move || {
            let reading = taker.take();
            (taker, reading)
        });
        let passed = tokio::select! {
            passed = pass => passed,
            () = token.cancelled() => return,
        };
        let reading = match passed {
            Ok((taker, reading)) => {
                sampler = Some(taker);
                reading
            }
            Err(error) => {
                error!(%error, "a pass over the collectors died, they begin anew");
                continue;
            }
        };
        let taken = if first {
            Taken::First(reading)
        } else {
            Taken::Sample(reading)
        };
        first = false;
        tokio::select! {
            sent = out.send(taken) => {
                if sent.is_err() {
                    return;
                }
            }
            () = token.cancelled() => return,
        }
    }
}
