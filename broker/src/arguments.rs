//! The command line of `hostbus-broker`, and how it becomes settings.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use hostbus_broker::Config;
use hostbus_daemon::config::{ConfigError, Loader};
use hostbus_daemon::logging::LogConfig;
use hostbus_wire::{NodePath, Role};
use serde::Deserialize;
use serde::de::IntoDeserializer;
use serde::de::value::{Error as ValueError, StrDeserializer};

use crate::runtime::RuntimeConfig;

const EXAMPLES: &str = "\
Examples:
  hostbus-broker --data /var/lib/hostbus
      Serve on 127.0.0.1:1883 with the identities in that folder.
  hostbus-broker identity add web1 --role publisher --node home.web1 --data /var/lib/hostbus
      Make a secret for a publisher and print it, once.
  hostbus-broker identity add ann --role viewer --password-stdin --data /var/lib/hostbus
      Take a person's password from standard input.
  hostbus-broker --listen 127.0.0.1:0 --anonymous admin --ready-file ready.json
      For development: a free port, no login, and a file that tells the port.

TLS and WebSocket listeners stand in the file, as [[broker.listeners]] with address, transport
(tcp, tls, ws, wss), certificate and key.
Every setting can come from the file or the environment too: HOSTBUS_BROKER__LISTEN=127.0.0.1:1884";

/// The MQTT broker of hostbus: 3.1.1 and 5.0 on one port
#[derive(Debug, Parser)]
#[command(name = "hostbus-broker", version, after_help = EXAMPLES)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) verb: Option<Verb>,
    #[command(flatten)]
    pub(crate) serve: Serve,
}

/// What serving takes.
#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// TOML file with the settings
    #[arg(long, value_name = "FILE", env = "HOSTBUS_CONFIG")]
    config: Option<PathBuf>,
    /// Address and port of plain MQTT; port 0 takes a free one, `none` is for listeners in the file only
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// Address and port where Prometheus gets the broker's figures over HTTP
    #[arg(long, value_name = "ADDRESS")]
    metrics_listen: Option<String>,
    /// Folder of the identities and of what must survive
    #[arg(long, value_name = "DIR", env = "HOSTBUS_DATA")]
    data: Option<PathBuf>,
    /// Let clients in without login, with this role; on loopback only
    #[arg(long, value_name = "ROLE")]
    anonymous: Option<String>,
    /// Write a JSON file with the addresses once the broker serves
    #[arg(long, value_name = "FILE")]
    pub(crate) ready_file: Option<PathBuf>,
}

/// What else the program does.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Add, list and remove identities
    #[command(subcommand)]
    Identity(IdentityVerb),
}

/// What can be done with identities.
#[derive(Debug, Subcommand)]
pub(crate) enum IdentityVerb {
    /// Add an identity, or replace the one of this name
    Add {
        /// Its MQTT user name
        name: String,
        /// publisher, ingester, notifier, viewer, operator or admin
        #[arg(long, value_parser = role)]
        role: Role,
        /// The node of a publisher, as SITE.NODE
        #[arg(long, value_name = "SITE.NODE")]
        node: Option<NodePath>,
        /// Read a person's password from standard input; without it, a secret is made and printed
        #[arg(long)]
        password_stdin: bool,
        #[command(flatten)]
        folder: Folder,
    },
    /// List all identities
    List {
        /// As JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        folder: Folder,
    },
    /// Remove an identity
    Remove {
        /// Its MQTT user name
        name: String,
        #[command(flatten)]
        folder: Folder,
    },
}

/// Where the identities are.
#[derive(Debug, Args)]
pub(crate) struct Folder {
    /// Folder of the identities
    #[arg(long, value_name = "DIR", env = "HOSTBUS_DATA")]
    pub(crate) data: PathBuf,
}

fn role(text: &str) -> Result<Role, ValueError> {
    let deserializer: StrDeserializer<'_, ValueError> = text.into_deserializer();
    Role::deserialize(deserializer)
}

/// All settings of the program.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Settings {
    pub(crate) broker: Config,
    pub(crate) log: LogConfig,
    pub(crate) runtime: RuntimeConfig,
}

impl Serve {
    /// The settings, with the flags on top.
    pub(crate) fn settings(&self) -> Result<Settings, ConfigError> {
        Loader::new()
            .file(self.config.as_deref())
            .flag("--listen", "broker.listen", self.listen.as_ref())
            .flag(
                "--metrics-listen",
                "broker.metrics_listen",
                self.metrics_listen.as_ref(),
            )
            .flag(
                "--data",
                "broker.data",
                self.data.as_ref().map(|data| data.display()),
            )
            .flag("--anonymous", "broker.anonymous", self.anonymous.as_ref())
            .load()
    }
}
