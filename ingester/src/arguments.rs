//! Flags and settings of the program `hostbus-ingester`.

use std::path::PathBuf;

use clap::Parser;
use hostbus_client::{BusConfig, BusFlags};
use hostbus_daemon::config::{ConfigError, Loader};
use hostbus_daemon::exit;
use hostbus_daemon::logging::{LogConfig, LogError};
use hostbus_ingester::{Config, Error};
use hostbus_store::StoreConfig;
use serde::Deserialize;

/// Carries samples from the bus into Redis, in order and once.
#[derive(Debug, Parser)]
#[command(
    name = "hostbus-ingester",
    version,
    after_help = "\
Examples:
  hostbus-ingester --url mqtt://broker:1883 --user ingester \\
      --password-file /etc/hostbus/ingester.secret --redis redis://127.0.0.1:6379
  hostbus-ingester --config /etc/hostbus/ingester.toml
  HOSTBUS_REDIS__URL=unix:///run/redis/redis.sock hostbus-ingester

A settings file has the sections [bus], [redis], [ingester] and [log]. Every key can be set as
HOSTBUS_<SECTION>__<KEY> in the environment. Flags win over the environment, that over the file."
)]
pub(crate) struct Args {
    /// The settings file, TOML
    #[arg(long, value_name = "FILE", env = "HOSTBUS_CONFIG")]
    config: Option<PathBuf>,
    #[command(flatten)]
    bus: BusFlags,
    /// Redis, redis://host[:port] or unix:///path
    #[arg(long, value_name = "URL")]
    redis: Option<String>,
}

/// The settings of the program.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Settings {
    pub(crate) bus: BusConfig,
    pub(crate) redis: StoreConfig,
    pub(crate) ingester: Config,
    pub(crate) log: LogConfig,
}

impl Settings {
    pub(crate) fn load(args: &Args) -> anyhow::Result<Self> {
        let loader = Loader::new().file(args.config.as_deref());
        let settings = args
            .bus
            .add_to(loader)
            .flag("--redis", "redis.url", args.redis.as_ref())
            .load()?;
        Ok(settings)
    }
}

/// The exit code for an error: settings are the user's to mend.
pub(crate) fn code(error: &anyhow::Error) -> u8 {
    let setting = error.downcast_ref::<Error>().is_some_and(Error::is_setting);
    if setting || error.is::<LogError>() || error.is::<ConfigError>() {
        exit::USAGE
    } else {
        exit::FAILED
    }
}
