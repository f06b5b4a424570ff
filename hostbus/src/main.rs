//! The all-in-one program and the command line. Composes the libraries; holds no logic of its own.
//!
//! | module | owns |
//! |---|---|
//! | [`cli`] | the verbs and their flags |
//! | [`folder`] | the data folder: lock, credentials, where the running site listens |
//! | [`reach`] | how the client verbs find the bus and Redis |
//! | [`up`] | the whole site in one process |
//! | [`alerts`], [`rules`], [`notify_test`], [`top`], [`watch`], [`history`], [`doctor`], [`forget`] | one verb each |

mod alerts;
mod cli;
mod doctor;
mod folder;
mod forget;
mod history;
mod notify_test;
mod reach;
mod rules;
mod top;
mod up;
mod watch;

use std::process::ExitCode;

use clap::Parser;
use cli::{Cli, Verb};
use hostbus_daemon::config::ConfigError;
use hostbus_daemon::exit;
use hostbus_daemon::logging::{self, LogError};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match &cli.verb {
        Verb::Up(args) => up::run(args),
        Verb::Top(args) => quietly().and_then(|()| top::run(args)),
        Verb::Watch(args) => quietly().and_then(|()| watch::run(args)),
        Verb::History(args) => quietly().and_then(|()| history::run(args)),
        Verb::Alerts(args) => quietly().and_then(|()| alerts::run(args)),
        Verb::Doctor(args) => quietly().and_then(|()| doctor::run(args)),
        Verb::NotifyTest(args) => quietly().and_then(|()| notify_test::run(args)),
        Verb::Forget(args) => quietly().and_then(|()| forget::run(args)),
        Verb::Rules(args) => quietly().and_then(|()| rules::run(args)),
    };
    match done {
        Ok(code) => ExitCode::from(code),
        Err(error) if is_broken_pipe(&error) => ExitCode::from(exit::OK),
        Err(error) => exit::failed("hostbus", &error, code_of(&error)),
    }
}

/// Client verbs log only what keeps them from working: their output is the data.
fn quietly() -> anyhow::Result<()> {
    let level = std::env::var("HOSTBUS_LOG__LEVEL").unwrap_or_else(|_| "warn".to_owned());
    logging::start(&logging::LogConfig {
        level,
        ..Default::default()
    })?;
    Ok(())
}

fn code_of(error: &anyhow::Error) -> u8 {
    if error.is::<ConfigError>() || error.is::<LogError>() || error.is::<up::WrongSetting>() {
        exit::USAGE
    } else if error.is::<folder::InUse>() {
        exit::ALREADY_RUNNING
    } else {
        exit::FAILED
    }
}

/// `hostbus watch … | head` ends well.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause
            .downcast_ref::<std::io::Error>()
            .is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
    })
}
