//! `hostbus up`: the whole site in one process.
//!
//! Parts start from the end of the data's way to its beginning, Redis first and the publisher last,
//! and stop the other way round, so that whatever is on its way arrives.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use hostbus_broker::{Credential, Identities};
use hostbus_client::{BusConfig, Event};
use hostbus_daemon::config::{ConfigError, Loader};
use hostbus_daemon::logging::{self, LogConfig};
use hostbus_daemon::{CancellationToken, Running, Secret, exit, ready, shutdown};
use hostbus_store::{PrivateServer, Reader, StoreConfig};
use hostbus_wire::{Identity, Kind, NodePath, QoS};
use serde::Deserialize;
use thiserror::Error;
use tokio::time::Instant;
use tracing::{info, warn};

use crate::cli::UpArgs;
use crate::folder::{Endpoints, Folder};
use crate::reach;

/// The settings of a site.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Settings {
    pub(crate) broker: hostbus_broker::Config,
    pub(crate) publisher: hostbus_publisher::Config,
    pub(crate) ingester: hostbus_ingester::Config,
    pub(crate) notifier: hostbus_notifier::Config,
    pub(crate) redis: StoreConfig,
    pub(crate) log: LogConfig,
}

impl Settings {
    /// The settings of a site from environment and file.
    pub(crate) fn read(file: Option<&Path>) -> Result<Self, ConfigError> {
        Loader::new().file(file).load()
    }

    /// The settings of a site from flags, environment and file.
    pub(crate) fn load(args: &UpArgs) -> anyhow::Result<Self> {
        let settings: Self = Loader::new()
            .file(args.config.as_deref())
            .flag("--listen", "broker.listen", args.listen.as_ref())
            .flag("--node", "publisher.node", args.node.as_ref())
            .flag("--site", "publisher.site", args.site.as_ref())
            .flag("--site", "notifier.site", args.site.as_ref())
            .flag("--site", "ingester.site", args.site.as_ref())
            .flag("--interval", "publisher.interval_seconds", args.interval)
            .flag("--redis", "redis.url", args.redis.as_ref())
            .load()?;
        Ok(settings)
    }
}

/// A setting of a part that can't be used.
#[derive(Debug, Error)]
#[error("{0}")]
pub(crate) struct WrongSetting(String);

impl Settings {
    /// Checks every part's settings before any part starts.
    fn check(&self) -> Result<(), WrongSetting> {
        fn of<E: std::fmt::Display>(checked: Result<(), E>) -> Result<(), WrongSetting> {
            checked.map_err(|error| WrongSetting(error.to_string()))
        }
        of(self.broker.check())?;
        of(self.ingester.check())?;
        of(self.publisher.check())?;
        of(self.publisher.path().map(drop))?;
        match &self.redis.url {
            Some(_) => of(Reader::open(&self.redis).map(drop)),
            None => Ok(()),
        }
    }
}

/// The users of a site, in the order in which they are shown.
const PEOPLE: [(&str, Identity, &str); 2] = [
    ("viewer", Identity::Viewer, "reads what hosts tell"),
    ("admin", Identity::Admin, "may do everything"),
];
/// A shorter secret is no secret of ours: 256 bits as hexadecimal text have 64 characters.
const SHORTEST_SECRET: usize = 32;
const INGESTER: &str = "ingester";
const NOTIFIER: &str = "notifier";

/// How long the parts may take until each is heard on the bus.
const SERVE_WITHIN: Duration = Duration::from_secs(10);
/// How long the parts may take to stop, all together.
const STOP_WITHIN: Duration = shutdown::GRACE;

pub(crate) fn run(args: &UpArgs) -> anyhow::Result<u8> {
    let settings = Settings::load(args)?;
    logging::start(&settings.log)?;
    settings.check()?;
    let folder = Folder::at(args.data.as_deref())?;
    folder.create()?;
    let _lock = folder.lock()?;
    // What a killed process left there is no longer true.
    folder.remove_endpoints();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let done = runtime.block_on(up(args, settings, &folder));
    folder.remove_endpoints();
    // A thread that is stuck in a system call must not keep the process alive.
    runtime.shutdown_timeout(Duration::from_millis(200));
    done
}

async fn up(args: &UpArgs, settings: Settings, folder: &Folder) -> anyhow::Result<u8> {
    let token = CancellationToken::new();
    let signals = tokio::spawn(shutdown::on_signal(token.clone()));
    let started = tokio::select! {
        started = Site::start(settings, folder) => started?,
        () = token.cancelled() => return Ok(exit::OK),
    };
    let (mut site, new) = started;
    let ended = serve(args, &mut site, &new, folder, &token).await;
    // Whatever happened, the parts stop in the order of the data.
    site.stop().await;
    signals.abort();
    ended.map(|()| exit::OK)
}

/// Waits until all of it serves, tells so, and waits for the end.
async fn serve(
    args: &UpArgs,
    site: &mut Site,
    new: &New,
    folder: &Folder,
    token: &CancellationToken,
) -> anyhow::Result<()> {
    let endpoints = site.endpoints.clone();
    tokio::select! {
        heard = is_heard(&endpoints, folder) => heard?,
        ended = site.ended() => return ended,
        () = token.cancelled() => return Ok(()),
    }
    folder.write_endpoints(&endpoints)?;
    if let Some(file) = &args.ready_file {
        ready::write(file, &endpoints)
            .with_context(|| format!("failed to write the ready file {}", file.display()))?;
    }
    greet(&endpoints, new, folder)?;
    tokio::select! {
        () = token.cancelled() => Ok(()),
        ended = site.ended() => ended,
    }
}

/// A site that runs.
struct Site {
    server: Option<PrivateServer>,
    broker: Running<hostbus_broker::Error>,
    ingester: Running<hostbus_ingester::Error>,
    notifier: Running<hostbus_notifier::Error>,
    publisher: Running<hostbus_publisher::Error>,
    endpoints: Endpoints,
}

/// Secrets that were made just now, by user name.
type New = BTreeMap<String, Secret>;

impl Site {
    async fn start(mut settings: Settings, folder: &Folder) -> anyhow::Result<(Self, New)> {
        let node = settings.publisher.path()?;
        let data = settings
            .broker
            .data
            .clone()
            .unwrap_or_else(|| folder.broker());
        let identities = Identities::open(&data)?;
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
        let listen = settings.broker.listen;
        let broker = hostbus_broker::start_with(
            settings.broker,
            Arc::new(identities),
            CancellationToken::new(),
        )
        .await
        .with_context(|| mend_listen(listen))?;
        let address = broker.local_addr().context("the broker listens nowhere")?;
        let mqtt = format!("mqtt://{address}");
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
        let notifier = hostbus_notifier::start(settings.notifier, bus(NOTIFIER), token()).await?;
        let publisher =
            hostbus_publisher::start(settings.publisher, bus(&node.to_string()), token()).await?;

        let users = PEOPLE.iter().map(|(user, ..)| (*user).to_owned());
        let users = users.chain([INGESTER.to_owned(), NOTIFIER.to_owned(), node.to_string()]);
        let endpoints = Endpoints {
            mqtt,
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
    async fn ended(&mut self) -> anyhow::Result<()> {
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
    async fn stop(self) {
        let deadline = Instant::now() + STOP_WITHIN;
        stop_part("publisher", deadline, self.publisher.stop()).await;
        stop_part("notifier", deadline, self.notifier.stop()).await;
        stop_part("ingester", deadline, self.ingester.stop()).await;
        stop_part("broker", deadline, self.broker.stop()).await;
        if let Some(server) = self.server {
            // Redis gets what is left of the time and more: it holds the history.
            server.stop().await;
        }
        info!("stopped");
    }
}

/// Waits until every part is heard on the bus: what is told to the user then works.
async fn is_heard(endpoints: &Endpoints, folder: &Folder) -> anyhow::Result<()> {
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

async fn stop_part<E: std::fmt::Display>(
    name: &'static str,
    deadline: Instant,
    stop: impl Future<Output = Result<(), E>>,
) {
    match tokio::time::timeout_at(deadline, stop).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => warn!(part = name, %error, "a part failed while it stopped"),
        Err(_) => warn!(
            part = name,
            "a part did not stop in time and is left behind"
        ),
    }
}

/// Makes sure that each user of the site has its secret in the folder, and that the broker knows
/// just these: the folder is the truth, so that a file which is lost or damaged is mended here.
fn provision(identities: &Identities, folder: &Folder, node: &NodePath) -> anyhow::Result<New> {
    let mut users: Vec<(String, Identity)> = PEOPLE
        .iter()
        .map(|(user, identity, _)| ((*user).to_owned(), identity.clone()))
        .collect();
    users.push((INGESTER.to_owned(), Identity::Ingester));
    users.push((NOTIFIER.to_owned(), Identity::Notifier));
    users.push((node.to_string(), Identity::Publisher { node: node.clone() }));
    let mut new = New::new();
    for (user, identity) in users {
        let secret = match Secret::read(&folder.credential(&user)) {
            Ok(secret) if secret.reveal().len() >= SHORTEST_SECRET => secret,
            _ => {
                let secret = Secret::random();
                folder.write_credential(&user, &secret)?;
                new.insert(user.clone(), secret.clone());
                secret
            }
        };
        identities.put(&user, identity, &Credential::Secret(secret))?;
    }
    Ok(new)
}

fn mend_listen(listen: std::net::SocketAddr) -> String {
    format!(
        "the bus can't listen on {listen}; if another broker has this port, stop it or choose another one, such as --listen 127.0.0.1:1884"
    )
}

/// Tells the user what there is, and what to try.
fn greet(endpoints: &Endpoints, new: &New, folder: &Folder) -> anyhow::Result<()> {
    let Endpoints {
        mqtt,
        redis,
        site: site_id,
        node,
        ..
    } = endpoints;
    let program = std::env::args()
        .next()
        .unwrap_or_else(|| "hostbus".to_owned());
    let data = Folder::at(None)
        .ok()
        .filter(|default| default.path() == folder.path())
        .map_or_else(
            || format!(" --data {}", folder.path().display()),
            |_| String::new(),
        );
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "hostbus {} is up: site {site_id}, node {node}\n",
        env!("CARGO_PKG_VERSION")
    )?;
    writeln!(out, "  bus          {mqtt}")?;
    writeln!(out, "  data         {}", folder.path().display())?;
    writeln!(out, "  credentials  {}", folder.credentials().display())?;
    for (user, _, meaning) in PEOPLE {
        if let Some(secret) = new.get(user) {
            writeln!(
                out,
                "    {user:<7}  {}  {meaning}; shown this once",
                secret.reveal()
            )?;
        }
    }
    writeln!(out, "  history      {}", redis_cli(redis, site_id, node))?;
    writeln!(out, "\nTry in another terminal:")?;
    writeln!(out, "  {program} top{data}")?;
    writeln!(out, "  {program} watch{data} 'hostbus/v1/#'")?;
    writeln!(
        out,
        "  {program} history{data} {node} cpu.usage_percent --since 1h"
    )?;
    writeln!(out, "\nCtrl-C stops it.")?;
    out.flush()?;
    Ok(())
}

/// A command that reads this host's newest `cpu` row from Redis.
fn redis_cli(url: &str, site: &str, node: &str) -> String {
    let server = match url.strip_prefix("unix://") {
        Some(socket) => format!("-s {}", Path::new(socket).display()),
        None => format!("-u {url}"),
    };
    format!("redis-cli {server} XREVRANGE 'hb:{{{site}.{node}}}:raw:cpu' + - COUNT 1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_are_made_once_and_mended_when_a_secret_is_lost() {
        let temporary = tempfile::tempdir().unwrap();
        let folder = Folder::at(Some(temporary.path())).unwrap();
        folder.create().unwrap();
        let node: NodePath = "home.a".parse().unwrap();
        let identities = Identities::open(&folder.broker()).unwrap();
        let first = provision(&identities, &folder, &node).unwrap();
        assert_eq!(first.len(), 5);
        assert!(provision(&identities, &folder, &node).unwrap().is_empty());
        std::fs::write(folder.credential("viewer"), "").unwrap();
        let mended = provision(&identities, &folder, &node).unwrap();
        assert_eq!(mended.keys().collect::<Vec<_>>(), ["viewer"]);
        assert_eq!(
            Secret::read(&folder.credential("viewer")).unwrap(),
            mended["viewer"]
        );
        let other = provision(&identities, &folder, &"home.b".parse().unwrap()).unwrap();
        assert_eq!(other.keys().collect::<Vec<_>>(), ["home.b"]);
    }

    #[test]
    fn the_way_to_read_redis_fits_its_address() {
        assert_eq!(
            redis_cli("unix:///d/redis.sock", "home", "a"),
            "redis-cli -s /d/redis.sock XREVRANGE 'hb:{home.a}:raw:cpu' + - COUNT 1"
        );
        assert!(redis_cli("redis://h:1", "home", "a").contains("-u redis://h:1 "));
    }
}
