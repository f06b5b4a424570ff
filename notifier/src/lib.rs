//! Watches the bus for threshold breaches and tells people.
//!
//! So far it holds the notifier's place in a site: it connects with the notifier's rights and
//! publishes its health. It evaluates no rules yet and sends nothing to anybody.
//!
//! | module | owns |
//! |---|---|
//! | [`config`] | the `[notifier]` section |
//! | [`rule`] | what a rule says |
//! | [`evaluator`] | samples to alerts |
//! | [`replay`] | what rules would have raised in the past |
//! | [`globs`] | lists of globs |
//! | [`notice`] | what a channel is to tell people |
//! | [`channels`] | the ways to people |
//! | [`error`] | what can go wrong |

pub mod channels;
pub mod config;
pub mod error;
pub mod evaluator;
pub mod globs;
pub mod notice;
pub mod replay;
pub mod rule;

use std::time::Duration;

use hostbus_client::{BusConfig, Connection, Event, Options, Sender, Will};
use hostbus_daemon::{CancellationToken, Running, clock};
use hostbus_wire::health::{Health, HealthState};
use hostbus_wire::{QoS, SiteTopic, encode};

pub use config::Config;
pub use error::Error;

const HEALTH_EVERY: Duration = Duration::from_secs(10);

/// Starts the notifier. It ends when `token` is cancelled.
///
/// # Errors
/// The settings are wrong. A broker that is away is no error.
#[expect(clippy::unused_async, reason = "every component starts alike")]
pub async fn start(
    config: Config,
    bus: BusConfig,
    token: CancellationToken,
) -> Result<Running<Error>, Error> {
    let system = SiteTopic::System {
        component: "notifier".into(),
        instance: config.instance.as_str().into(),
    };
    let topic = system.text(&bus.root, &config.site);
    let will = Will {
        topic: topic.clone(),
        payload: health(0, HealthState::Stopped)?,
        qos: QoS::AtLeastOnce,
        retain: true,
    };
    let options = Options {
        component: "notifier".to_owned(),
        filters: Vec::new(),
        will: Some(will),
        ..Options::default()
    };
    let connection = Connection::open(&bus, options)?;
    let task = tokio::spawn(run(connection, topic, token.clone()));
    Ok(Running::new("notifier", Vec::new(), token, task))
}

async fn run(
    mut connection: Connection,
    topic: String,
    token: CancellationToken,
) -> Result<(), Error> {
    let sender = connection.sender();
    let mut every = tokio::time::interval(HEALTH_EVERY);
    loop {
        tokio::select! {
            event = connection.next() => if !matches!(event, Event::Connected) { continue },
            _ = every.tick() => {}
            () = token.cancelled() => break,
        }
        tell(&sender, &topic, HealthState::Ok).await?;
    }
    tell(&sender, &topic, HealthState::Stopped).await?;
    connection.close().await;
    Ok(())
}

async fn tell(sender: &Sender, topic: &str, state: HealthState) -> Result<(), Error> {
    // Health that meets no bus is told again in some seconds.
    let payload = health(clock::unix_ms(), state)?;
    let _ = sender.publish(topic, QoS::AtMostOnce, true, payload).await;
    Ok(())
}

fn health(ts: u64, state: HealthState) -> Result<Vec<u8>, Error> {
    let version = env!("CARGO_PKG_VERSION").to_owned();
    let counters = [("rules".to_owned(), 0)].into();
    Ok(encode(&Health {
        ts,
        state,
        reason: None,
        version,
        counters,
    })?)
}
