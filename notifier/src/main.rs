//! The program `hostbus-notifier`.

mod arguments;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use hostbus_daemon::{CancellationToken, exit, logging, shutdown};

use crate::arguments::{Args, Settings};

const PROGRAM: &str = "hostbus-notifier";

fn main() -> ExitCode {
    let args = Args::parse();
    let settings = match Settings::load(&args) {
        Ok(settings) => settings,
        Err(error) => return exit::failed(PROGRAM, &error, exit::USAGE),
    };
    match run(settings) {
        Ok(()) => ExitCode::from(exit::OK),
        Err(error) => exit::failed(PROGRAM, &error, arguments::code(&error)),
    }
}

fn run(settings: Settings) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let done = runtime.block_on(watch(settings));
    // A thread that is stuck in a system call must not keep the process alive.
    runtime.shutdown_timeout(Duration::from_millis(200));
    done
}

async fn watch(settings: Settings) -> anyhow::Result<()> {
    let Settings { bus, notifier, log } = settings;
    logging::start(&log)?;
    let token = CancellationToken::new();
    let mut running = hostbus_notifier::start(notifier, bus, token.clone()).await?;
    tokio::select! {
        ended = running.ended() => return Ok(ended?),
        signals = shutdown::on_signal(token) => signals?,
    }
    Ok(running.ended().await?)
}
