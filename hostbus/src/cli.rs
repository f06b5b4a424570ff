//! The verbs and their flags.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use hostbus_store::Tier;
use hostbus_wire::TopicRoot;

use crate::rules::args::RulesArgs;

/// Host telemetry on one MQTT bus.
#[derive(Debug, Parser)]
#[command(
    name = "hostbus",
    version,
    about,
    after_help = "\
Examples:
  hostbus up                                    start a site with this host on it
  hostbus top                                   all nodes, live
  hostbus watch 'hostbus/v1/+/+/metrics'        samples as JSON, one a line
  hostbus history web1 cpu.usage_percent --since 1h
  hostbus alerts list                           what fires
  hostbus doctor                                what is wrong, and how to mend it
  hostbus forget web1                           remove a node with all its history
  hostbus rules list                            what raises alerts

Exit codes: 0 done, 1 failed, 2 wrong flag or setting, 3 already running."
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    Up(UpArgs),
    Top(TopArgs),
    Watch(WatchArgs),
    History(HistoryArgs),
    Alerts(AlertsArgs),
    NotifyTest(NotifyTestArgs),
    Doctor(DoctorArgs),
    Forget(ForgetArgs),
    Rules(RulesArgs),
}

/// Start a site in one process: broker, this host's publisher, ingester, notifier and Redis.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hostbus up                                    bus on 127.0.0.1:1883, data in the default folder
  hostbus up --listen 127.0.0.1:1884 --node nas
  hostbus up --redis redis://127.0.0.1:6379     use a Redis of your own
  hostbus up --config hostbus.toml              sections: broker, publisher, ingester, notifier, redis, log
  HOSTBUS_PUBLISHER__INTERVAL_SECONDS=5 hostbus up

Settings: flag, then environment (HOSTBUS_<SECTION>__<KEY>), then file, then default.
Exit codes: 0 stopped, 1 failed, 2 wrong setting, 3 already running on this data folder.")]
pub(crate) struct UpArgs {
    /// Folder for history, identities and credentials [default: ~/.local/share/hostbus].
    #[arg(long, env = "HOSTBUS_DATA")]
    pub(crate) data: Option<PathBuf>,
    /// TOML file with settings.
    #[arg(long, env = "HOSTBUS_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    /// Where the bus listens [default: 127.0.0.1:1883]; port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) listen: Option<String>,
    /// This host's name on the bus [default: from the host name].
    #[arg(long)]
    pub(crate) node: Option<String>,
    /// The site's name [default: home].
    #[arg(long)]
    pub(crate) site: Option<String>,
    /// Seconds between samples [default: 10].
    #[arg(long, value_name = "SECONDS")]
    pub(crate) interval: Option<f64>,
    /// Use this Redis instead of a private one.
    #[arg(long, value_name = "URL")]
    pub(crate) redis: Option<String>,
    /// Write the addresses as JSON to this file once all of it serves.
    #[arg(long, value_name = "FILE")]
    pub(crate) ready_file: Option<PathBuf>,
}

/// Where the bus is, for the verbs that read it.
#[derive(Debug, Clone, Args)]
pub(crate) struct BusArgs {
    /// Data folder of a site on this host [default: ~/.local/share/hostbus].
    #[arg(long, env = "HOSTBUS_DATA")]
    pub(crate) data: Option<PathBuf>,
    /// Another bus: mqtt://host:port or mqtts://host:port.
    #[arg(long, value_name = "URL", requires = "user")]
    pub(crate) url: Option<String>,
    /// PEM file of those who sign the certificate of an mqtts:// bus [default: the system's].
    #[arg(long, value_name = "FILE", requires = "url")]
    pub(crate) ca_file: Option<PathBuf>,
    /// User name on the bus [default: viewer].
    #[arg(long)]
    pub(crate) user: Option<String>,
    /// File with the password.
    #[arg(long, value_name = "FILE")]
    pub(crate) password_file: Option<PathBuf>,
    /// Where the topics begin [default: hostbus/v1].
    #[arg(long, value_name = "TOPIC")]
    pub(crate) root: Option<TopicRoot>,
}

/// Where Redis is, for the verbs that use it.
#[derive(Debug, Clone, Args)]
pub(crate) struct RedisArgs {
    /// TOML file with settings: its section redis tells where Redis is, and who we are there.
    #[arg(long, env = "HOSTBUS_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    /// Another Redis: redis://host:port, rediss://host:port or unix:///path.
    #[arg(long, value_name = "URL")]
    pub(crate) redis: Option<String>,
    /// File with the password of that Redis.
    #[arg(long, value_name = "FILE", requires = "redis")]
    pub(crate) redis_password_file: Option<PathBuf>,
}

/// Show all nodes in a live table.
#[derive(Debug, Args)]
#[command(after_help = "\
Keys: q quits, s sorts by the next column, r reverses, arrows move.
Without a terminal, or with --once or --json, it prints what it hears in --wait seconds and ends.")]
pub(crate) struct TopArgs {
    #[command(flatten)]
    pub(crate) bus: BusArgs,
    /// Print the table once.
    #[arg(long)]
    pub(crate) once: bool,
    /// Print one JSON array.
    #[arg(long)]
    pub(crate) json: bool,
    /// How long to listen before printing once, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 2.0)]
    pub(crate) wait: f64,
}

/// Print messages as they come: payloads decoded, one JSON document a line.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hostbus watch                                  everything you may read
  hostbus watch 'hostbus/v1/+/+/events'          what happens on all hosts
  hostbus watch 'hostbus/v1/home/web1/metrics' --count 1
  hostbus watch --raw 'hostbus/v1/home/web1/metrics' --count 1 > sample.cbor")]
pub(crate) struct WatchArgs {
    #[command(flatten)]
    pub(crate) bus: BusArgs,
    /// MQTT filters [default: all of hostbus/v1].
    #[arg(value_name = "FILTER")]
    pub(crate) filters: Vec<String>,
    /// Write the payloads as they are, one after the other.
    #[arg(long)]
    pub(crate) raw: bool,
    /// End after this many messages.
    #[arg(long, value_name = "N")]
    pub(crate) count: Option<u64>,
}

/// Show the history of a node from Redis.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hostbus history                                all nodes
  hostbus history web1                           the series of a node
  hostbus history web1 cpu.usage_percent --since 1h
  hostbus history web1 filesystem:/ --since 1d --csv > root.csv
  hostbus history web1 network:eth0.rx_bytes_per_second --since 30m --json
  hostbus history web1,web2 cpu.usage_percent --since 7d --points 500 --csv
  hostbus history web1 cpu --since 30d --tier 1h
  hostbus history '*' events --since 1d          events of all nodes
  hostbus history '*' alerts --since 7d          what fired, and when")]
pub(crate) struct HistoryArgs {
    /// Data folder of a site on this host [default: ~/.local/share/hostbus].
    #[arg(long, env = "HOSTBUS_DATA")]
    pub(crate) data: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) redis: RedisArgs,
    /// A node, as web1 or home.web1; several with commas between them; * for all.
    pub(crate) node: Option<String>,
    /// A series, or one field of it: cpu, cpu.usage_percent, filesystem:/.used_percent. Or: events,
    /// alerts.
    pub(crate) series: Option<String>,
    /// From when: 30m, 1h, 7d, or a time such as 2026-11-20T08:00.
    #[arg(long, visible_alias = "from", default_value = "1h")]
    pub(crate) since: String,
    /// Until when [default: now].
    #[arg(long, visible_alias = "to")]
    pub(crate) until: Option<String>,
    /// Rows of the table; longer histories are averaged into so many.
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub(crate) rows: usize,
    /// No more than so many points of equal spans: average, smallest and largest value.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) points: Option<u32>,
    /// Which rows: raw, 1m, 10m, 1h [default: raw, or what fits the points].
    #[arg(long, value_name = "TIER", value_parser = tier)]
    pub(crate) tier: Option<Tier>,
    /// Every row as a JSON array.
    #[arg(long, conflicts_with = "csv")]
    pub(crate) json: bool,
    /// Every row as CSV.
    #[arg(long)]
    pub(crate) csv: bool,
}

/// Show what fires; acknowledge and silence it.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hostbus alerts list                            what fires
  hostbus alerts ack nas/disk-full//data --why 'new disk is ordered' --for 2d
  hostbus alerts silence --node nas --for 2h --why backup --id backup
  hostbus alerts unsilence backup
  hostbus alerts history --since 7d              what fired, who was told")]
pub(crate) struct AlertsArgs {
    #[command(subcommand)]
    pub(crate) verb: AlertsVerb,
}

#[derive(Debug, Subcommand)]
pub(crate) enum AlertsVerb {
    List(AlertsListArgs),
    Ack(AckArgs),
    Unack(UnackArgs),
    Silence(SilenceArgs),
    Unsilence(UnsilenceArgs),
    Silences(SilencesArgs),
    History(AlertsHistoryArgs),
}

/// Show what fires.
#[derive(Debug, Args)]
pub(crate) struct AlertsListArgs {
    #[command(flatten)]
    pub(crate) bus: BusArgs,
    /// Only of this node, web1 or home.web1.
    #[arg(long)]
    pub(crate) node: Option<String>,
    /// What is pending and what is over, too.
    #[arg(long)]
    pub(crate) all: bool,
    /// Print one JSON array.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Acknowledge an alert: nothing is repeated until it changes.
#[derive(Debug, Args)]
pub(crate) struct AckArgs {
    #[command(flatten)]
    pub(crate) bus: BusArgs,
    /// The alert: `<node>/<rule>[/<instance>]`, or the beginning of its fingerprint.
    pub(crate) alert: String,
    /// Why.
    #[arg(long)]
    pub(crate) why: Option<String>,
    /// For how long, 2h or 1d [default: until it changes].
    #[arg(long = "for", value_name = "SPAN")]
    pub(crate) lasting: Option<String>,
    /// Who [default: $USER].
    #[arg(long)]
    pub(crate) by: Option<String>,
}

/// Take an acknowledgement back.
#[derive(Debug, Args)]
pub(crate) struct UnackArgs {
    #[command(flatten)]
    pub(crate) bus: BusArgs,
    /// The alert: `<node>/<rule>[/<instance>]`, or the beginning of its fingerprint.
    pub(crate) alert: String,
}

/// Tell nobody about some alerts for a while. What still fires then is told.
#[derive(Debug, Args)]
pub(crate) struct SilenceArgs {
    #[command(flatten)]
    pub(crate) bus: BusArgs,
    /// Nodes, as globs; may be given several times.
    #[arg(long, value_name = "GLOB")]
    pub(crate) node: Vec<String>,
    /// Rules, as globs.
    #[arg(long, value_name = "GLOB")]
    pub(crate) rule: Vec<String>,
    /// Instances, as globs.
    #[arg(long, value_name = "GLOB")]
    pub(crate) instance: Vec<String>,
    /// Everything, when none of these is given.
    #[arg(long)]
    pub(crate) everything: bool,
    /// For how long, 30m or 2h.
    #[arg(long = "for", value_name = "SPAN")]
    pub(crate) lasting: String,
    /// Why.
    #[arg(long)]
    pub(crate) why: String,
    /// Its name, to put it anew or to take it away [default: a new one].
    #[arg(long)]
    pub(crate) id: Option<String>,
    /// The site.
    #[arg(long, default_value = "home")]
    pub(crate) site: String,
    /// Who [default: $USER].
    #[arg(long)]
    pub(crate) by: Option<String>,
}

/// Take a silence away.
#[derive(Debug, Args)]
pub(crate) struct UnsilenceArgs {
    #[command(flatten)]
    pub(crate) bus: BusArgs,
    /// Its name.
    pub(crate) id: String,
}

/// Show the silences.
#[derive(Debug, Args)]
pub(crate) struct SilencesArgs {
    #[command(flatten)]
    pub(crate) bus: BusArgs,
    /// Print one JSON array.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Show what fired, and who was told.
#[derive(Debug, Args)]
pub(crate) struct AlertsHistoryArgs {
    /// Data folder of a site on this host [default: ~/.local/share/hostbus].
    #[arg(long, env = "HOSTBUS_DATA")]
    pub(crate) data: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) redis: RedisArgs,
    /// From when: 30m, 1h, 7d, or a time such as 2026-11-20T08:00.
    #[arg(long, visible_alias = "from", default_value = "1d")]
    pub(crate) since: String,
    /// Until when [default: now].
    #[arg(long, visible_alias = "to")]
    pub(crate) until: Option<String>,
    /// Every entry as a JSON array.
    #[arg(long, conflicts_with = "csv")]
    pub(crate) json: bool,
    /// Every entry as CSV.
    #[arg(long)]
    pub(crate) csv: bool,
}

/// Send a test notice through one channel of the settings, and say what became of it.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hostbus notify-test ops --config hostbus.toml

Exit codes: 0 the service took it, 1 it did not, 2 wrong setting.")]
pub(crate) struct NotifyTestArgs {
    /// The channel: `[notifier.channels.<name>]` in the settings.
    pub(crate) channel: String,
    /// TOML file with settings.
    #[arg(long, env = "HOSTBUS_CONFIG")]
    pub(crate) config: Option<PathBuf>,
}

/// Check this host's site and say how to mend what is wrong.
#[derive(Debug, Args)]
#[command(after_help = "\
Exit codes: 0 no errors (there may be warnings), 1 at least one error.")]
pub(crate) struct DoctorArgs {
    /// Data folder [default: ~/.local/share/hostbus].
    #[arg(long, env = "HOSTBUS_DATA")]
    pub(crate) data: Option<PathBuf>,
    /// TOML file with settings.
    #[arg(long, env = "HOSTBUS_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    /// Print one JSON array.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Remove a node with all its history, from Redis and from the bus.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hostbus forget web1
  hostbus forget home.web1 --yes --json
  hostbus forget web1 --config hostbus.toml      a Redis of your own: its section redis

A node that still publishes is refused. Events in hb:events stay. The bus is asked as `admin`, or as
--user; whoever may not write the node's topics leaves them there, and is told so.
Exit codes: 0 removed, 1 failed, or something may be left on the bus.")]
pub(crate) struct ForgetArgs {
    #[command(flatten)]
    pub(crate) bus: BusArgs,
    /// The node, as web1 or home.web1.
    pub(crate) node: String,
    #[command(flatten)]
    pub(crate) redis: RedisArgs,
    /// Remove it even while it publishes.
    #[arg(long)]
    pub(crate) force: bool,
    /// Leave the bus alone: what stands retained there is stored again when an ingester starts.
    #[arg(long)]
    pub(crate) redis_only: bool,
    /// Do not ask.
    #[arg(long)]
    pub(crate) yes: bool,
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

/// A tier by its name.
pub(crate) fn tier(text: &str) -> Result<Tier, String> {
    let found = Tier::ALL.into_iter().find(|tier| tier.name() == text);
    found.ok_or_else(|| format!("expected one of {}", Tier::ALL.map(Tier::name).join(", ")))
}
