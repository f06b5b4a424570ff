//! `hostbus alerts`: what fires, and what people say to it.

mod list;
mod say;
mod standing;

use std::time::Duration;

use hostbus_client::{BusConfig, Connection, Event};
use hostbus_daemon::{clock, exit};
use tokio::time::{Instant, timeout_at};

use crate::cli::{AlertsArgs, AlertsHistoryArgs, AlertsVerb, BusArgs, HistoryArgs};
use crate::{history, reach};
use standing::Standing;

/// Retained messages have come when none came for so long.
const QUIET_AFTER: Duration = Duration::from_millis(300);
/// No longer than this is waited for them.
const GATHER_WITHIN: Duration = Duration::from_secs(5);
/// Who may acknowledge and silence.
const OPERATOR: &str = "operator";

pub(crate) fn run(args: &AlertsArgs) -> anyhow::Result<u8> {
    if let AlertsVerb::History(args) = &args.verb {
        return history::run(&of_alerts(args));
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        match &args.verb {
            AlertsVerb::List(args) => list::alerts(args).await?,
            AlertsVerb::Silences(args) => list::silences(args).await?,
            AlertsVerb::Ack(args) => say::acknowledge(args).await?,
            AlertsVerb::Unack(args) => say::take_back(args).await?,
            AlertsVerb::Silence(args) => say::silence(args).await?,
            AlertsVerb::Unsilence(args) => say::unsilence(args).await?,
            AlertsVerb::History(_) => {}
        }
        Ok(exit::OK)
    })
}

/// The log of alerts, as a history.
fn of_alerts(args: &AlertsHistoryArgs) -> HistoryArgs {
    HistoryArgs {
        data: args.data.clone(),
        redis: args.redis.clone(),
        node: Some("*".to_owned()),
        series: Some("alerts".to_owned()),
        since: args.since.clone(),
        until: args.until.clone(),
        rows: 1,
        points: None,
        tier: None,
        json: args.json,
        csv: args.csv,
    }
}

/// Connects as `user`, unless the flags name another one, and gathers what stands on the bus.
async fn gather(
    args: &BusArgs,
    user: Option<&str>,
) -> anyhow::Result<(Connection, Standing, BusConfig)> {
    let user = args.user.clone().or_else(|| user.map(str::to_owned));
    let bus = reach::bus(&BusArgs {
        user,
        ..args.clone()
    })?;
    let mut connection = reach::connect(&bus, "alerts", Standing::filters(&bus.root)).await?;
    let mut standing = Standing::default();
    let until = Instant::now() + GATHER_WITHIN;
    while let Ok(event) =
        timeout_at(until.min(Instant::now() + QUIET_AFTER), connection.next()).await
    {
        if let Event::Message(message) = event {
            standing.take(&bus.root, &message, clock::unix_ms());
        }
    }
    Ok((connection, standing, bus))
}
