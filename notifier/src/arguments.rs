//! Flags and settings of the program `hostbus-notifier`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use hostbus_client::BusConfig;
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
    /// The bus, mqtt://host[:port] or mqtts://host[:port]
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// PEM file of those who sign the certificate of an mqtts:// bus [default: the system's]
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// The user on the bus
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// The file that holds this user's password
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
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
        let file = args.password_file.as_ref().map(|path| path.display());
        let ca_file = args.ca_file.as_ref().map(|path| path.display());
        let settings = Loader::new()
            .file(args.config.as_deref())
            .flag("--url", "bus.url", args.url.as_ref())
            .flag("--ca-file", "bus.ca_file", ca_file)
            .flag("--user", "bus.user", args.user.as_ref())
            .flag("--password-file", "bus.password_file", file)
            .load()?;
        Ok(settings)
    }
}

/// Tells what failed on stderr.
#[expect(clippy::print_stderr, reason = "logging may be what failed")]
pub(crate) fn failed(error: &anyhow::Error, code: u8) -> ExitCode {
    eprintln!("hostbus-notifier: {error:#}");
    ExitCode::from(code)
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
