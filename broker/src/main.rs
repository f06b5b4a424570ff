//! `hostbus-broker`: the broker as a program of its own.

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use hostbus_broker::{Error, listeners};
use hostbus_daemon::{CancellationToken, config::ConfigError, exit, logging, ready, shutdown};

mod arguments;
mod identity_verbs;
mod runtime;

use arguments::{Arguments, Serve, Settings, Verb};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match arguments.verb {
        Some(Verb::Identity(verb)) => identity_verbs::run(verb),
        None => run(&arguments.serve),
    };
    let Err(error) = result else {
        return ExitCode::from(exit::OK);
    };
    exit::failed("hostbus-broker", &error, exit_code(&error))
}

fn run(arguments: &Serve) -> Result<()> {
    let settings = arguments.settings()?;
    logging::start(&settings.log)?;
    let runtime = settings.runtime.build()?;
    runtime.block_on(serve(settings, arguments))
}

async fn serve(settings: Settings, arguments: &Serve) -> Result<()> {
    let token = CancellationToken::new();
    let config = settings.broker.clone();
    let mut broker = hostbus_broker::start(settings.broker, token.clone()).await?;
    if let Some(file) = &arguments.ready_file {
        let mut object = listeners::by_scheme(&config, broker.addresses());
        if let (Some(_), Some(address)) = (config.metrics_listen, broker.addresses().last()) {
            object["metrics"] = format!("http://{address}/metrics").into();
        }
        ready::write(file, &object)
            .with_context(|| format!("failed to write the ready file {}", file.display()))?;
    }
    tokio::select! {
        signalled = shutdown::on_signal(token) => signalled?,
        ended = broker.ended() => return Ok(ended?),
    }
    Ok(broker.ended().await?)
}

/// Tells a wrong setting from a folder in use from a failure.
fn exit_code(error: &anyhow::Error) -> u8 {
    if error.is::<ConfigError>() || error.is::<logging::LogError>() {
        return exit::USAGE;
    }
    match error.downcast_ref::<Error>() {
        Some(Error::InUse { .. }) => exit::ALREADY_RUNNING,
        Some(error) if error.is_setting() => exit::USAGE,
        _ => exit::FAILED,
    }
}
