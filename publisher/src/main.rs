//! `hostbus-publisher`: the publisher as a program of its own.

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::Parser;
use hostbus_daemon::{CancellationToken, exit, logging, shutdown};

mod arguments;

use arguments::{Arguments, Settings, Verb};

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::from(exit::OK),
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "hostbus-publisher: {error:#}");
            ExitCode::from(arguments::exit_code(&error))
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    let settings = arguments.settings()?;
    logging::start(&settings.log)?;
    // One thread is plenty, and light.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    if let Some(Verb::Once { json }) = arguments.verb {
        let once = hostbus_publisher::once(&settings.publisher, Duration::from_secs(1));
        let (sample, _) = runtime.block_on(once)?;
        let text = if json {
            serde_json::to_string_pretty(&sample)?
        } else {
            arguments::lines(&sample).join("\n")
        };
        writeln!(std::io::stdout(), "{text}")?;
        return Ok(());
    }
    let result = runtime.block_on(publish(settings));
    // A collector that hangs in the kernel must not hold up the end.
    runtime.shutdown_background();
    result
}

async fn publish(settings: Settings) -> Result<()> {
    let token = CancellationToken::new();
    let mut publisher =
        hostbus_publisher::start(settings.publisher, settings.bus, token.clone()).await?;
    tokio::select! {
        signalled = shutdown::on_signal(token) => signalled?,
        ended = publisher.ended() => return Ok(ended?),
    }
    Ok(publisher.ended().await?)
}
