//! Carries samples from the bus into Redis, in order and once.
//!
//! ```text
//! bus -> subscriber -> intake -> queue -> writers -> Redis
//!                        |  ^                |
//!                        |  '--- feedback ---+--> committed marks -> bus
//!                        '--> describer -> Redis
//! ```
//! | module | owns |
//! |---|---|
//! | [`config`] | the `[ingester]` section |
//! | [`order`] | which sample is next, seen, or beyond a gap: pure |
//! | [`subscriber`] | what is subscribed to, and messages read into what they say |
//! | [`node`] | what is remembered of one node, and how often it is answered: pure |
//! | [`nodes`] | the nodes that are remembered, and which is forgotten for a new one: pure |
//! | [`turns`] | whose turn it is to send again: pure |
//! | [`intake`] | taking or refusing what comes; never waits for Redis or the bus |
//! | [`queue`] | the bounded way from the intake to the writers |
//! | [`writer`] | batches into Redis; comes back when Redis does |
//! | [`marks`] | the committed marks on their way to the bus |
//! | [`describer`] | inventory, status, events and the log of alerts into Redis |
//! | [`ledger`] | what the bus says of alerts, as entries of their log: pure |
//! | [`keeper`] | walks all series: rollups, late rows, packing, retention |
//! | [`announcer`] | the ingester's own health and events on the bus |
//! | [`restorer`] | what stands in Redis once, written again when it is gone |
//! | [`lookout`] | a word in the log about a Redis that could lose history |
//! | [`counters`] | what is counted |

pub mod announcer;
pub mod config;
pub mod counters;
pub mod describer;
pub mod error;
pub mod intake;
pub mod keeper;
pub mod ledger;
pub mod lookout;
pub mod marks;
pub mod node;
pub mod nodes;
pub mod order;
pub mod queue;
pub mod restorer;
pub mod subscriber;
pub mod turns;
pub mod writer;

use std::sync::Arc;
use std::time::Duration;

use hostbus_client::{BusConfig, Connection, Options};
use hostbus_daemon::{CancellationToken, Running};
use hostbus_store::{AlertLog, Appender, Describer, Keeper, StoreConfig};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tracing::{info, warn};

pub use config::Config;
pub use error::Error;

use crate::announcer::Announcer;
use crate::counters::Counters;
use crate::describer::DescriberTask;
use crate::intake::Intake;
use crate::keeper::KeeperTask;
use crate::lookout::Lookout;
use crate::marks::Marks;
use crate::restorer::Restorer;
use crate::writer::Writer;

/// How long the way from the intake to Redis may take at a stop. What is then left was never
/// confirmed: its publishers still hold it.
const DRAIN_WITHIN: Duration = Duration::from_millis(1_500);
/// How long the good-bye on the bus may take.
const FAREWELL_WITHIN: Duration = Duration::from_millis(500);
/// Word from the writers to the intake. A writer waits when it is full; the intake always takes.
const FEEDBACK: usize = 4_096;

/// How often the intake looks whether a node's turn has ended without a word.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Starts an ingester. Neither bus nor Redis needs to be there yet.
///
/// # Errors
/// The settings are wrong.
#[expect(clippy::unused_async, reason = "all components start alike")]
pub async fn start(
    config: Config,
    bus: BusConfig,
    store: StoreConfig,
    token: CancellationToken,
) -> Result<Running<Error>, Error> {
    config.check()?;
    let token = token.child_token();
    let counters = Arc::new(Counters::default());
    let health = announcer::health_topic(&config, &bus.root);
    let options = Options {
        component: "ingester".to_owned(),
        filters: subscriber::filters(&bus.root),
        will: Some(announcer::will(&health)),
        ..Options::default()
    };
    let mut appenders = Vec::with_capacity(config.writers);
    for _ in 0..config.writers {
        appenders.push(Appender::open(&store, config.max_series_per_node)?);
    }
    let describer = Describer::open(&store)?;
    let log = AlertLog::open(&store)?;
    let keeper = Keeper::open(&store)?;
    let connection = Connection::open(&bus, options)?;
    let sender = connection.sender();

    let (queue, works) = queue::queue(config.queue_bytes, config.writers);
    let (descriptions, descriptions_in) = describer::descriptions(config.queue_bytes / 2);
    let (feedback, feedback_in) = mpsc::channel(FEEDBACK);
    let (events, events_in) = mpsc::channel(announcer::EVENTS);
    let parts = Parts {
        intake: Intake::new(
            &config,
            &bus.root,
            store.retention.raw,
            queue,
            descriptions,
            events,
            Arc::clone(&counters),
        ),
        writers: appenders
            .into_iter()
            .zip(works)
            .map(|(appender, works)| {
                Writer::new(
                    &config,
                    appender,
                    works,
                    feedback.clone(),
                    Marks::new(sender.clone(), bus.root.clone()),
                    Arc::clone(&counters),
                )
            })
            .collect(),
        restorer: Restorer::new(
            describer.clone(),
            sender.clone(),
            subscriber::retained(&bus.root),
            Arc::clone(&counters),
        ),
        describer: DescriberTask::new(describer, log, descriptions_in, Arc::clone(&counters)),
        keeper: KeeperTask::new(keeper, Arc::clone(&counters)),
        lookout: Lookout::new(
            hostbus_store::Connection::open(&store)?,
            &config.site,
            Arc::clone(&counters),
        ),
        announcer: Announcer::new(sender, bus.root.clone(), health, events_in, counters),
    };
    info!(
        url = bus.url,
        redis = store.url.as_deref().unwrap_or_default(),
        "ingester starts"
    );
    let task = tokio::spawn(run(parts, connection, feedback_in, token.clone()));
    Ok(Running::new("ingester", Vec::new(), token, task))
}

struct Parts {
    intake: Intake,
    writers: Vec<Writer>,
    describer: DescriberTask,
    restorer: Restorer,
    keeper: KeeperTask,
    announcer: Announcer,
    lookout: Lookout,
}

async fn run(
    parts: Parts,
    mut connection: Connection,
    mut feedback: mpsc::Receiver<writer::Feedback>,
    token: CancellationToken,
) -> Result<(), Error> {
    let Parts {
        mut intake,
        writers,
        describer,
        restorer,
        keeper,
        announcer,
        lookout,
    } = parts;
    let mut tasks: JoinSet<&'static str> = JoinSet::new();
    for writer in writers {
        tasks.spawn(writer.run());
    }
    tasks.spawn(describer.run());
    let keeping = CancellationToken::new();
    tasks.spawn(keeper.run(keeping.clone()));
    let farewell = CancellationToken::new();
    let mut voice: JoinSet<()> = JoinSet::new();
    voice.spawn(announcer.run(farewell.clone()));
    // They end with this function: they hold nothing.
    let mut looking: JoinSet<()> = JoinSet::new();
    looking.spawn(lookout.run());
    looking.spawn(restorer.run());

    let mut look = interval(LOOK_EVERY);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let ended = loop {
        tokio::select! {
            _ = look.tick() => intake.look(),
            event = connection.next() => intake.event(event),
            Some(word) = feedback.recv() => intake.feedback(word),
            Some(ended) = tasks.join_next() => break Err(Error::part(ended)),
            () = token.cancelled() => break Ok(()),
        }
    };
    keeping.cancel();
    // Without the intake's ends of their channels, writers and describer finish what they hold.
    drop(intake);
    let drain = async {
        loop {
            tokio::select! {
                // The connection must stay served, so that the last marks go out.
                _ = connection.next() => {}
                _ = feedback.recv(), if !feedback.is_closed() => {}
                ended = tasks.join_next() => if ended.is_none() { break },
            }
        }
    };
    if timeout(DRAIN_WITHIN, drain).await.is_err() {
        warn!("redis did not take all in time; the publishers still hold what is left");
        tasks.shutdown().await;
    }
    farewell.cancel();
    let _ = timeout(FAREWELL_WITHIN, voice.join_next()).await;
    connection.close().await;
    ended
}
