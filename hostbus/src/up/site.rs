//! The parts of a site that run in this process.
//!
//! They start from the end of the data's way to its beginning, Redis first and the publisher last,
//! and stop the other way round, so that whatever is on its way arrives.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use hostbus_broker::{Identities, listeners};
use hostbus_client::{BusConfig, Event};
use hostbus_daemon::{CancellationToken, Running, shutdown};
use hostbus_store::PrivateServer;
use hostbus_wire::{Kind, QoS};
use tokio::time::Instant;
use tracing::{info, warn};

use super::credentials::{INGESTER, NOTIFIER, New, PEOPLE, provision};
use super::settings::Settings;
use crate::folder::{Endpoints, Folder};
use crate::reach;

/// How long the parts may take until each is heard on the bus.
const SERVE_WITHIN: Duration = Duration::from_secs(10);
/// How long the parts may take to stop, all together.
const STOP_WITHIN: Duration = shutdown::GRACE;

/// A site that runs.
pub(super) struct Site {
    server: Option<PrivateServer>,
    broker: Running<hostbus_broker::Error>,
    ingester: Running<hostbus_ingester::Error>,
    notifier: Running<hostbus_notifier::Error>,
    publisher: Running<hostbus_publisher::Error>,
    pub(super) endpoints: Endpoints,
}

impl Site {
    pub(super) async fn start(
        mut settings: Settings,
        folder: &Folder,
    ) -> anyhow::Result<(Self, New)> {
        let node = settings.publisher.path()?;
        settings.broker.listen.context(
            "broker.listen is none, but the parts of `hostbus up` need it: set a loopback address",
        )?;
        let data = settings
            .broker
            .data
            .clone()
            .unwrap_or_else(|| folder.broker());
        let identities = Identities::open(&data)?;
        settings.broker.data = Some(data);
        let new = provision(&identities, folder, &node)?;

        let server = match &settings.redis.url {
            Some(_) => None,
            None => {
                let server = PrivateServer::start(&folder.redis()).await?;
                settings.redis.url = Some(server.url());
                Some(server)
            }
        };
        let redis = settings.redis.url.clone().unwrap_or_default();

        let root = settings.broker.root.clone();
        let broker_settings = settings.broker.clone();
        let broker = hostbus_broker::start_with(
            settings.broker,
            Arc::new(identities),
            CancellationToken::new(),
        )
        .await
        .map_err(mend_listen)?;
        let reached = listeners::by_scheme(&broker_settings, broker.addresses());
        let url = |scheme: &str| reached[scheme].as_str().map(str::to_owned);
        let mqtt = url("mqtt").context("the broker has no plain listener")?;
        let has_metrics = broker_settings.metrics_listen.is_some();
        let metrics = broker.addresses().last().filter(|_| has_metrics);
        let metrics = metrics.map(|address| format!("http://{address}/metrics"));
        let bus = |user: &str| BusConfig {
            url: mqtt.clone(),
            user: Some(user.to_owned()),
            password_file: Some(folder.credential(user)),
            root: root.clone(),
            ..BusConfig::default()
        };

        let token = CancellationToken::new;
        let ingester =
            hostbus_ingester::start(settings.ingester, bus(INGESTER), settings.redis, token())
                .await?;
        let spool = &mut settings.notifier.spool;
        spool.folder.get_or_insert_with(|| folder.notifier());
        let notifier = hostbus_notifier::start(settings.notifier, bus(NOTIFIER), token()).await?;
        let outbox = &mut settings.publisher.outbox;
        outbox.folder.get_or_insert_with(|| folder.publisher());
        let publisher =
            hostbus_publisher::start(settings.publisher, bus(&node.to_string()), token()).await?;

        let users = PEOPLE.iter().map(|(user, ..)| (*user).to_owned());
        let users = users.chain([INGESTER.to_owned(), NOTIFIER.to_owned(), node.to_string()]);
        let endpoints = Endpoints {
            mqtts: url("mqtts"),
            ws: url("ws"),
            wss: url("wss"),
            mqtt,
            metrics,
            redis,
            root,
            site: node.site.to_string(),
            node: node.node.to_string(),
            credentials: users
                .map(|user| (user.clone(), folder.credential(&user)))
                .collect(),
        };
        Ok((
            Self {
                server,
                broker,
                ingester,
                notifier,
                publisher,
                endpoints,
            },
            new,
        ))
    }

    /// Waits until a part ends, which none should.
    pub(super) async fn ended(&mut self) -> anyhow::Result<()> {
        fn failed<E: std::error::Error + Send + Sync + 'static>(
            name: &str,
            ended: Result<(), E>,
        ) -> anyhow::Result<()> {
            ended.with_context(|| format!("the {name} failed"))?;
            anyhow::bail!("the {name} ended by itself")
        }
        tokio::select! {
            ended = self.broker.ended() => failed("broker", ended),
            ended = self.ingester.ended() => failed("ingester", ended),
            ended = self.notifier.ended() => failed("notifier", ended),
            ended = self.publisher.ended() => failed("publisher", ended),
        }
    }

    /// Stops the parts in the order of the data.
    pub(super) async fn stop(self) {
        let deadline = Instant::now() + STOP_WITHIN;
        stop_part(self.publisher, deadline).await;
        stop_part(self.notifier, deadline).await;
        stop_part(self.ingester, deadline).await;
        stop_part(self.broker, deadline).await;
        if let Some(server) = self.server {
            // Redis gets what is left of the time and more: it holds the history.
            server.stop().await;
        }
        info!("stopped");
    }
}

/// Waits until every part is heard on the bus: what is told to the user then works.
pub(super) async fn is_heard(endpoints: &Endpoints, folder: &Folder) -> anyhow::Result<()> {
    let viewer = PEOPLE[0].0;
    let bus = BusConfig {
        url: endpoints.mqtt.clone(),
        user: Some(viewer.to_owned()),
        password_file: Some(folder.credential(viewer)),
        root: endpoints.root.clone(),
        ..BusConfig::default()
    };
    let kinds = [Kind::Status, Kind::System].map(|kind| bus.root.filter(kind));
    let filters = kinds.map(|filter| (filter, QoS::AtLeastOnce)).to_vec();
    let mut connection = reach::connect(&bus, "up", filters).await?;
    let mut silent = BTreeSet::from([endpoints.node.as_str(), INGESTER, NOTIFIER]);
    let heard = tokio::time::timeout(SERVE_WITHIN, async {
        while !silent.is_empty() {
            let Event::Message(message) = connection.next().await else {
                continue;
            };
            // `…/<node>/status` or `…/_system/<part>/<instance>`: the last level but one.
            if let Some(part) = message.topic.rsplit('/').nth(1) {
                silent.remove(part);
            }
        }
    });
    let heard = heard.await;
    connection.close().await;
    heard.with_context(|| {
        let silent: Vec<&str> = silent.into_iter().collect();
        format!("nothing was heard of {} on the bus", silent.join(", "))
    })
}

async fn stop_part<E: std::fmt::Display>(part: Running<E>, deadline: Instant) {
    let name = part.name();
    match tokio::time::timeout_at(deadline, part.stop()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => warn!(part = name, %error, "a part failed while it stopped"),
        Err(_) => warn!(
            part = name,
            "a part did not stop in time and is left behind"
        ),
    }
}

fn mend_listen(error: hostbus_broker::Error) -> anyhow::Error {
    let hostbus_broker::Error::Bind { listen, .. } = &error else {
        return error.into();
    };
    let mend = format!(
        "the bus can't listen on {listen}; if another broker has this port, stop it or choose another one, such as --listen 127.0.0.1:1884"
    );
    anyhow::Error::from(error).context(mend)
}
