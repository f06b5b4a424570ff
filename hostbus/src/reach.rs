//! How the client verbs find the bus and Redis: the site on this host, or what the flags name.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use hostbus_client::{BusConfig, Connection, Event, Options};
use hostbus_store::StoreConfig;
use hostbus_wire::QoS;

use crate::cli::{BusArgs, RedisArgs};
use crate::folder::Folder;
use crate::up::Settings;

/// How long the first connect may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// The user the client verbs connect as.
const VIEWER: &str = "viewer";

/// The settings of the bus that `args` mean.
pub(crate) fn bus(args: &BusArgs) -> anyhow::Result<BusConfig> {
    let mut bus = BusConfig::default();
    if let Some(url) = &args.url {
        bus.url.clone_from(url);
        bus.ca_file.clone_from(&args.ca_file);
        bus.user.clone_from(&args.user);
        bus.password_file.clone_from(&args.password_file);
        bus.root = args.root.clone().unwrap_or_default();
        return Ok(bus);
    }
    let folder = Folder::at(args.data.as_deref())?;
    let user = args.user.clone().unwrap_or_else(|| VIEWER.to_owned());
    let endpoints = folder.endpoints()?;
    bus.url = endpoints.mqtt;
    bus.root = args.root.clone().unwrap_or(endpoints.root);
    bus.password_file = Some(
        args.password_file
            .clone()
            .unwrap_or_else(|| folder.credential(&user)),
    );
    bus.user = Some(user);
    Ok(bus)
}

/// The settings of Redis that `args` mean: a Redis named by a flag, else the one in the settings,
/// else the one of the site that runs here.
pub(crate) fn store(args: &RedisArgs, data: Option<&Path>) -> anyhow::Result<StoreConfig> {
    if let Some(url) = &args.redis {
        return Ok(StoreConfig {
            url: Some(url.clone()),
            password_file: args.redis_password_file.clone(),
            ..StoreConfig::default()
        });
    }
    let mut store = Settings::read(args.config.as_deref())?.redis;
    if store.url.is_none() {
        let endpoints = Folder::at(data)?.endpoints()?;
        store.url = Some(endpoints.redis);
    }
    Ok(store)
}

/// Connects and subscribes, and waits until both are done.
pub(crate) async fn connect(
    bus: &BusConfig,
    component: &str,
    filters: Vec<(String, QoS)>,
) -> anyhow::Result<Connection> {
    let options = Options {
        component: component.to_owned(),
        filters,
        will: None,
        ..Options::default()
    };
    let mut connection = Connection::open(bus, options)?;
    let connected = tokio::time::timeout(CONNECT_WITHIN, async {
        while !matches!(connection.next().await, Event::Connected) {}
    });
    connected.await.ok().with_context(|| {
        format!(
            "no connection to {} within {} s",
            bus.url,
            CONNECT_WITHIN.as_secs()
        )
    })?;
    Ok(connection)
}
