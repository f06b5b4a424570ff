//! The command line of `hostbus-publisher`, and how it becomes settings.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use hostbus_client::{BusConfig, BusFlags, ClientError};
use hostbus_daemon::config::{ConfigError, Loader};
use hostbus_daemon::exit;
use hostbus_daemon::logging::{LogConfig, LogError};
use hostbus_publisher::{Config, Error};
use hostbus_wire::Sample;
use serde::Deserialize;

use crate::install::{Install, Uninstall};

const EXAMPLES: &str = "\
Examples:
  hostbus-publisher once --json
      Print one sample of this host; nothing is sent.
  hostbus-publisher --url mqtt://broker --user home.web1 --password-file web1.secret
      Publish this host as the identity home.web1.
  hostbus-publisher --config /etc/hostbus/publisher.toml --interval 1
      Take the settings from a file, and a sample each second.
  hostbus-publisher check-config --config /etc/hostbus/publisher.toml
      Tell whether a start would take these settings.
  sudo hostbus-publisher install
      Make it a service of this host; says what comes next.

Every setting can come from the file or the environment too:
  HOSTBUS_PUBLISHER__COLLECTORS__DISKS__EXCLUDE='[\"loop*\", \"sdz\"]'";

/// Reads this host's vital signs and puts them on the bus
#[derive(Debug, Parser)]
#[command(name = "hostbus-publisher", version, after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) verb: Option<Verb>,
    #[command(flatten)]
    flags: Flags,
}

/// The settings that have a flag. They may stand before a verb or after it.
#[derive(Debug, Default, Args)]
pub(crate) struct Flags {
    /// TOML file with the settings
    #[arg(long, value_name = "FILE", env = "HOSTBUS_CONFIG")]
    config: Option<PathBuf>,
    /// Site of this host [default: home]
    #[arg(long, value_name = "ID")]
    site: Option<String>,
    /// Name of this host in its site [default: from the host name]
    #[arg(long, value_name = "ID")]
    node: Option<String>,
    #[command(flatten)]
    bus: BusFlags,
    /// Seconds from sample to sample [default: 10]
    #[arg(long, value_name = "SECONDS")]
    interval: Option<f64>,
}

/// What else the program does.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Print one sample of this host and end
    Once {
        #[command(flatten)]
        flags: Flags,
        /// As JSON, the sample as it would travel
        #[arg(long)]
        json: bool,
    },
    /// List the collectors: state, cost, and why one gives nothing
    Collectors {
        #[command(flatten)]
        flags: Flags,
        /// As one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Check the settings and print what a start would use; nothing is sent
    CheckConfig {
        #[command(flatten)]
        flags: Flags,
        /// As one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Write a systemd unit and settings to begin with
    Install(Install),
    /// Remove the systemd unit
    Uninstall(Uninstall),
}

/// All settings of the program.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Settings {
    pub(crate) bus: BusConfig,
    pub(crate) publisher: Config,
    pub(crate) log: LogConfig,
}

impl Flags {
    /// Adds the flags that were given. They win over those that were added before.
    fn add_to(&self, loader: Loader) -> Loader {
        let loader = loader
            .flag("--site", "publisher.site", self.site.as_ref())
            .flag("--node", "publisher.node", self.node.as_ref())
            .flag("--interval", "publisher.interval_seconds", self.interval);
        self.bus.add_to(loader)
    }
}

impl Arguments {
    /// The settings, with the flags on top.
    pub(crate) fn settings(&self) -> Result<Settings, ConfigError> {
        let none = Flags::default();
        let (before, after) = match &self.verb {
            Some(
                Verb::Once { flags, .. }
                | Verb::Collectors { flags, .. }
                | Verb::CheckConfig { flags, .. },
            ) => (&self.flags, flags),
            _ => (&self.flags, &none),
        };
        let config = after.config.as_deref().or(before.config.as_deref());
        let loader = before.add_to(Loader::new().file(config));
        after.add_to(loader).load()
    }
}

/// A sample for people: `series.field value`, a line each.
pub(crate) fn lines(sample: &Sample) -> Vec<String> {
    let mut lines = Vec::new();
    sample.for_each_series(|series| {
        let name = series.name();
        series.for_each_field(|field, value| {
            if let Some(value) = value {
                lines.push(format!("{name}.{field} {value}"));
            }
        });
    });
    lines
}

/// Tells a wrong setting from a failure.
pub(crate) fn exit_code(error: &anyhow::Error) -> u8 {
    let setting = error.is::<ConfigError>()
        || error.is::<LogError>()
        || error.is::<ClientError>()
        || error.downcast_ref::<Error>().is_some_and(Error::is_setting);
    if setting { exit::USAGE } else { exit::FAILED }
}
