//! Reads a host's vital signs and puts them on the bus.
//!
//! | module | owns |
//! |---|---|
//! | [`config`] | the `[publisher]` section |
//! | [`collectors`] | what is read: one file a kind of vital sign |
//! | `selection`, `rates` | which instances are taken; what two readings of a counter say |
//! | `sampler`, `timeline` | one pass over the collectors that are due; the time a sample carries |
//! | `errands` | questions that may hang, each on a thread that is given up with it |
//! | `lane` | the thread on which collectors are asked, and what becomes of it when one hangs |
//! | `schedule`, `timetable`, `tuning` | when passes are made, of which collectors, by what settings |
//! | [`outbox`] | what is kept until the ingester's mark covers it, and what is sent next |
//! | `uplink`, `topics` | the way to the bus; what goes and comes where on it |
//! | `conversation` | what is heard and said besides samples and marks, between those below |
//! | `announcer`, `health` | what is said, in which order; how the publisher is doing |
//! | `control` | settings and commands from the bus |
//! | `neighbour` | another live publisher with this node's name |
//! | [`handle`], `heartbeat` | what a running publisher may be asked: to change, and whether it turns |
//! | `events`, [`inventory`] | what is told besides samples |
//! | `survey` | the thread on which the inventory is put together, given up when it hangs |
//! | [`error`] | what can go wrong |
//!
//! Readings flow one way: schedule → sampler → uplink → outbox → bus. The other way, checked rates,
//! switches and globs reach the schedule, and nothing else of what comes from the bus.

mod announcer;
pub mod collectors;
pub mod config;
mod control;
mod conversation;
mod errands;
pub mod error;
mod events;
pub mod handle;
mod health;
mod heartbeat;
pub mod inventory;
mod lane;
mod neighbour;
pub mod outbox;
mod rates;
mod sampler;
mod schedule;
mod selection;
mod survey;
mod timeline;
mod timetable;
mod topics;
mod tuning;
mod uplink;

use std::sync::Arc;
use std::time::Duration;

use hostbus_client::BusConfig;
use hostbus_daemon::{CancellationToken, Running};
use hostbus_wire::Sample;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;
use tracing::info;

pub use config::Config;
pub use error::Error;
pub use handle::Handle;
pub use lane::Cost;
pub use sampler::{CollectorReport, CollectorState};

use conversation::Orders;
use heartbeat::{Heartbeat, Pulse};
use outbox::Disk;
use sampler::Sampler;
use schedule::{Taken, Wishes};
use tuning::Tuning;
use uplink::{Inputs, Uplink};

/// How many readings wait for the uplink, which takes each at once. When they are too many, samples
/// are left out.
const READINGS: usize = 16;

/// Starts a publisher, which runs until `token` is cancelled. Needs a running tokio runtime.
///
/// A bus that is away is no error: samples wait in the outbox. On a stop the last samples go out,
/// `offline` is published and the connection is closed, all within some 1.5 seconds.
///
/// # Errors
/// A setting is wrong, the host has no usable name, or another publisher of this node runs here.
pub async fn start(
    config: Config,
    bus: BusConfig,
    token: CancellationToken,
) -> Result<Running<Error>, Error> {
    let (running, _) = start_with_handle(config, bus, token).await?;
    Ok(running)
}

/// As [`start`], with a handle to change the publisher while it runs.
///
/// # Errors
/// As [`start`].
pub async fn start_with_handle(
    config: Config,
    bus: BusConfig,
    token: CancellationToken,
) -> Result<(Running<Error>, Handle), Error> {
    config.check()?;
    let path = config.path()?;
    let (out, taken) = mpsc::channel(READINGS);
    let (sender, settings) = watch::channel(Tuning::new(&config));
    let (tuning, tuned) = watch::channel(Tuning::new(&config));
    let fresh = Arc::new(Notify::new());
    let wishes = Wishes {
        tuning: tuned,
        fresh: Arc::clone(&fresh),
    };
    let mut heartbeat = Heartbeat::new();
    let inputs = Inputs {
        taken,
        settings,
        pulse: heartbeat.pulse(),
    };
    let disk = Disk::open(&config.outbox, &path).await?;
    let uplink = Uplink::open(&config, &bus, &path, disk, inputs, Orders { tuning, fresh })?;
    info!(node = %path, interval_seconds = config.interval_seconds, "publishing");
    let token = token.child_token();
    let pulse = heartbeat.pulse();
    let task = tokio::spawn(run(wishes, out, uplink, pulse, token.clone()));
    let running = Running::new("publisher", Vec::new(), token, task);
    let handle = Handle {
        settings: sender,
        heartbeat,
    };
    Ok((running, handle))
}

async fn run(
    wishes: Wishes,
    out: mpsc::Sender<Taken>,
    uplink: Uplink,
    pulse: Pulse,
    token: CancellationToken,
) -> Result<(), Error> {
    let mut tasks = JoinSet::new();
    tasks.spawn({
        let token = token.clone();
        async move {
            schedule::run(wishes, out, pulse, token).await;
            Ok(())
        }
    });
    tasks.spawn(uplink.run(token.clone()));
    while let Some(ended) = tasks.join_next().await {
        match ended {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(error),
            // A death of either part is the publisher's own: whoever waits for it must know.
            Err(death) => {
                if let Ok(panic) = death.try_into_panic() {
                    std::panic::resume_unwind(panic);
                }
            }
        }
    }
    Ok(())
}

/// One full sample of this host, from two readings `apart` from each other, and how each collector
/// is doing.
///
/// # Errors
/// A setting is wrong.
pub async fn once(
    config: &Config,
    apart: Duration,
) -> Result<(Sample, Vec<CollectorReport>), Error> {
    config.check()?;
    let mut sampler = Sampler::new(&config.collectors);
    sampler.take_all(config.interval()).await;
    tokio::time::sleep(apart).await;
    let reading = sampler.take_all(config.interval()).await;
    Ok((reading.sample, reading.collectors))
}
