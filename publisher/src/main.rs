//! `hostbus-publisher`: the publisher as a program of its own.

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::Parser;
use hostbus_daemon::{exit, logging};

mod arguments;
mod check_config;
mod collectors_table;
mod install;
mod service;

use arguments::{Arguments, Verb};
use check_config::Summary;
use collectors_table::Table;

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::from(exit::OK),
        Err(error) => exit::failed("hostbus-publisher", &error, arguments::exit_code(&error)),
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    // These take no settings: they may be what is wrong.
    match &arguments.verb {
        Some(Verb::Install(install)) => return print(&install.run()?),
        Some(Verb::Uninstall(uninstall)) => return print(&uninstall.run()?),
        _ => {}
    }
    let settings = arguments.settings()?;
    logging::start(&settings.log)?;
    // One thread is plenty, and light.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let result = match arguments.verb {
        Some(Verb::Once { json, .. }) => {
            let once = hostbus_publisher::once(&settings.publisher, Duration::from_secs(1));
            let (sample, _) = runtime.block_on(once)?;
            if json {
                print(&serde_json::to_string_pretty(&sample)?)
            } else {
                print(&arguments::lines(&sample).join("\n"))
            }
        }
        Some(Verb::Collectors { json, .. }) => {
            let table = Table::of(&settings.publisher, Duration::from_secs(1));
            let table = runtime.block_on(table)?;
            if json {
                print(&serde_json::to_string_pretty(&table)?)
            } else {
                print(&table.text())
            }
        }
        Some(Verb::CheckConfig { json, .. }) => {
            let summary = Summary::of(&settings)?;
            if json {
                print(&serde_json::to_string_pretty(&summary)?)
            } else {
                print(&summary.text())
            }
        }
        _ => runtime.block_on(service::run(arguments, settings)),
    };
    // A collector that hangs in the kernel must not hold up the end.
    runtime.shutdown_background();
    result
}

fn print(text: &str) -> Result<()> {
    Ok(writeln!(std::io::stdout(), "{text}")?)
}
