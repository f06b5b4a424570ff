//! The rules of a site from where they stand: shipped, in the files of the settings, retained on the bus.

use std::path::Path;
use std::time::Duration;

use hostbus_client::{BusConfig, Connection, Event, Message};
use hostbus_notifier::rule::{Book, Files, Origin};
use hostbus_wire::{QoS, SiteId, SiteTopic, Topic};
use tokio::time::{Instant, timeout_at};

use crate::cli::BusArgs;
use crate::reach;
use crate::up::Settings;

/// What stands retained comes at once after the subscription, and then nothing for this long.
const QUIET_AFTER: Duration = Duration::from_millis(500);
/// How long rules that change all the time may keep it from being quiet.
const GATHER_WITHIN: Duration = Duration::from_secs(5);

/// All that is known of a site's rules.
pub(super) struct Sources {
    pub(super) book: Book,
    /// Why the bus was not asked.
    pub(super) unasked: Option<anyhow::Error>,
}

/// Gathers what settings and bus say.
pub(super) async fn gather(config: Option<&Path>, args: &BusArgs) -> anyhow::Result<Sources> {
    let settings = Settings::read(config)?.notifier;
    let mut book = Book::new(settings.default_rules);
    add_files(&mut book, &settings);
    let unasked = add_bus(&mut book, &settings.site, args).await.err();
    Ok(Sources { book, unasked })
}

/// Adds the files that the settings name.
pub(super) fn add_files(book: &mut Book, settings: &hostbus_notifier::Config) {
    Files::new(&settings.rules).update(book);
}

async fn add_bus(book: &mut Book, site: &SiteId, args: &BusArgs) -> anyhow::Result<()> {
    let bus = reach::bus(args)?;
    let mut connection = connect(&bus, site).await?;
    for (name, document) in retained(&mut connection, &bus).await {
        // The book keeps the mistakes.
        let _ = book.set(Origin::Bus(name), &document);
    }
    connection.close().await;
    Ok(())
}

/// Connects, and subscribes to the rules of `site`.
pub(super) async fn connect(bus: &BusConfig, site: &SiteId) -> anyhow::Result<Connection> {
    let filter = format!("{}/{site}/_rules/+", bus.root);
    reach::connect(bus, "rules", vec![(filter, QoS::AtLeastOnce)]).await
}

/// The rules that stand retained, once no more come.
pub(super) async fn retained(
    connection: &mut Connection,
    bus: &BusConfig,
) -> Vec<(Box<str>, Vec<u8>)> {
    let until = Instant::now() + GATHER_WITHIN;
    let mut found = Vec::new();
    while let Ok(message) =
        timeout_at(until.min(Instant::now() + QUIET_AFTER), message(connection)).await
    {
        if let Some(name) = name_of(bus, &message.topic)
            && !message.payload.is_empty()
        {
            found.push((name, message.payload.to_vec()));
        }
    }
    found
}

/// The next message.
pub(super) async fn message(connection: &mut Connection) -> Message {
    loop {
        if let Event::Message(message) = connection.next().await {
            return message;
        }
    }
}

/// The rule that a topic is of.
pub(super) fn name_of(bus: &BusConfig, topic: &str) -> Option<Box<str>> {
    match Topic::parse(&bus.root, topic).ok()? {
        Topic::Site(_, SiteTopic::Rule(name)) => Some(name),
        _ => None,
    }
}
