//! The flags of `hostbus rules`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use hostbus_store::Tier;

use crate::cli::{BusArgs, RedisArgs, tier};

/// Check, show, try and publish the rules that raise alerts.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hostbus rules list                            what holds on this site
  hostbus rules show disk-full > mine.toml      a rule to begin with
  hostbus rules check mine.toml
  hostbus rules test mine.toml --node web1 --since 24h
  hostbus rules put mine.toml                   put it in force, on the bus
  hostbus rules remove disk-full                take it off the bus again

Exit codes: 0 done, 1 failed or a mistake in a rule, 2 wrong flag or setting.")]
pub(crate) struct RulesArgs {
    #[command(subcommand)]
    pub(crate) verb: RulesVerb,
}

#[derive(Debug, Subcommand)]
pub(crate) enum RulesVerb {
    Check(CheckArgs),
    List(ListArgs),
    Show(ShowArgs),
    Test(Box<TestArgs>),
    Put(PutArgs),
    Remove(RemoveArgs),
}

/// Look for mistakes in files of rules.
#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// The files [default: those of the settings].
    pub(crate) files: Vec<PathBuf>,
    /// TOML file with settings: its section notifier names the files of rules.
    #[arg(long, env = "HOSTBUS_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    /// Print one JSON array.
    #[arg(long)]
    pub(crate) json: bool,
}

/// List the rules: those shipped, in files, and on the bus when it can be reached.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    pub(crate) bus: BusArgs,
    /// TOML file with settings: its section notifier names the files of rules.
    #[arg(long, env = "HOSTBUS_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    /// Print one JSON array.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Print a rule as it was written.
#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// The rule.
    pub(crate) rule: String,
    #[command(flatten)]
    pub(crate) bus: BusArgs,
    /// TOML file with settings: its section notifier names the files of rules.
    #[arg(long, env = "HOSTBUS_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Tell what rules would have raised: replays a node's history from Redis.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hostbus rules test mine.toml --node web1 --since 24h
  hostbus rules test mine.toml --rule disk-full --node web1 --since 7d --json

Rules of node.down and node.clock_offset_seconds are not tested: no sample tells of them.
Where the rows as they came are gone, averages of a minute or more stand for them.")]
pub(crate) struct TestArgs {
    /// A file of rules.
    pub(crate) file: PathBuf,
    /// The node, as web1 or home.web1.
    #[arg(long)]
    pub(crate) node: String,
    /// Only this rule of the file.
    #[arg(long)]
    pub(crate) rule: Option<String>,
    /// From when: 30m, 24h, 7d, or a time such as 2026-11-20T08:00.
    #[arg(long, default_value = "24h")]
    pub(crate) since: String,
    /// Until when [default: now].
    #[arg(long)]
    pub(crate) until: Option<String>,
    /// A group that the node belongs to; may be given several times.
    #[arg(long = "group", value_name = "GROUP")]
    pub(crate) groups: Vec<String>,
    /// Which rows: raw, 1m, 10m, 1h [default: the finest that reach back so far].
    #[arg(long, value_name = "TIER", value_parser = tier)]
    pub(crate) tier: Option<Tier>,
    /// Data folder of a site on this host [default: ~/.local/share/hostbus].
    #[arg(long, env = "HOSTBUS_DATA")]
    pub(crate) data: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) redis: RedisArgs,
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Publish the rules of a file under `_rules`, where they hold before those in files.
#[derive(Debug, Args)]
#[command(after_help = "The bus is asked as `admin`, or as --user.")]
pub(crate) struct PutArgs {
    /// A file of rules.
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) bus: BusArgs,
    /// TOML file with settings: the site is that of its section notifier.
    #[arg(long, env = "HOSTBUS_CONFIG")]
    pub(crate) config: Option<PathBuf>,
}

/// Remove rules from the bus; what files and hostbus itself say of them holds again.
#[derive(Debug, Args)]
#[command(after_help = "The bus is asked as `admin`, or as --user.")]
pub(crate) struct RemoveArgs {
    /// The rules.
    #[arg(required = true)]
    pub(crate) rules: Vec<String>,
    #[command(flatten)]
    pub(crate) bus: BusArgs,
    /// TOML file with settings: the site is that of its section notifier.
    #[arg(long, env = "HOSTBUS_CONFIG")]
    pub(crate) config: Option<PathBuf>,
}
