//! Flags and settings of the program `hostbus-notifier`.

use std::path::PathBuf;

use clap::Parser;
use hostbus_client::{BusConfig, BusFlags};
use hostbus_daemon::config::{ConfigError, Loader};
use hostbus_daemon::exit;
use hostbus_daemon::logging::{LogConfig, LogError};
use hostbus_notifier::{Config, Error};
use serde::Deserialize;

/// Watches the bus for threshold breaches and tells people.
#[derive(Debug, Parser)]
#[command(
    name = "hostbus-notifier",
    version,
    after_help = "\
Examples:
  hostbus-notifier --url mqtt://broker:1883 --user notifier \\
      --password-file /etc/hostbus/notifier.secret
  hostbus-notifier --config /etc/hostbus/notifier.toml

A settings file has the sections [bus], [notifier] and [log]. Every key can be set as
HOSTBUS_<SECTION>__<KEY> in the environment. Flags win over the environment, that over the file.
SIGHUP reads the files of rules again."
)]
pub(crate) struct Args {
    /// The settings file, TOML
    #[arg(long, value_name = "FILE", env = "HOSTBUS_CONFIG")]
    config: Option<PathBuf>,
    #[command(flatten)]
    bus: BusFlags,
}

/// The settings of the program.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Settings {
    pub(crate) bus: BusConfig,
    pub(crate) notifier: Config,
    pub(crate) log: LogConfig,
}

impl Settings {
    pub(crate) fn load(args: &Args) -> anyhow::Result<Self> {
        let loader = Loader::new().file(args.config.as_deref());
        let settings = args.bus.add_to(loader).load()?;
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
