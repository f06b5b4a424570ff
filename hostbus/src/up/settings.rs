//! The settings of a site, from flags, environment and file.

use std::path::Path;

use hostbus_daemon::config::{ConfigError, Loader};
use hostbus_daemon::logging::LogConfig;
use hostbus_store::StoreConfig;
use serde::Deserialize;
use thiserror::Error;

use crate::cli::UpArgs;

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
            .flag("--site", "broker.site", args.site.as_ref())
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
    pub(crate) fn check(&self) -> Result<(), WrongSetting> {
        fn of<E: std::fmt::Display>(checked: Result<(), E>) -> Result<(), WrongSetting> {
            checked.map_err(|error| WrongSetting(error.to_string()))
        }
        of(self.broker.check())?;
        of(self.ingester.check())?;
        of(self.notifier.check())?;
        of(self.publisher.check())?;
        of(self.publisher.path().map(drop))?;
        of(self.redis.check())
    }
}
