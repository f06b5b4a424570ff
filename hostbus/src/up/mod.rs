//! `hostbus up`: the whole site in one process.
//!
//! [`settings`] says what was wanted, [`credentials`] makes the users, [`site`] starts and stops the
//! parts, [`greeting`] tells the user what there is.

mod credentials;
mod greeting;
mod settings;
mod site;

use std::time::Duration;

use anyhow::Context;
use hostbus_daemon::{CancellationToken, exit, logging, ready, shutdown};

pub(crate) use settings::{Settings, WrongSetting};

use crate::cli::UpArgs;
use crate::folder::Folder;
use credentials::New;
use site::Site;

pub(crate) fn run(args: &UpArgs) -> anyhow::Result<u8> {
    let settings = Settings::load(args)?;
    logging::start(&settings.log)?;
    settings.check()?;
    let folder = Folder::at(args.data.as_deref())?;
    folder.create()?;
    let _lock = folder.lock()?;
    // What a killed process left there is no longer true.
    folder.remove_endpoints();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let done = runtime.block_on(up(args, settings, &folder));
    folder.remove_endpoints();
    // A thread that is stuck in a system call must not keep the process alive.
    runtime.shutdown_timeout(Duration::from_millis(200));
    done
}

async fn up(args: &UpArgs, settings: Settings, folder: &Folder) -> anyhow::Result<u8> {
    let token = CancellationToken::new();
    let signals = tokio::spawn(shutdown::on_signal(token.clone()));
    let started = tokio::select! {
        started = Site::start(settings, folder) => started?,
        () = token.cancelled() => return Ok(exit::OK),
    };
    let (mut site, new) = started;
    let ended = serve(args, &mut site, &new, folder, &token).await;
    // Whatever happened, the parts stop in the order of the data.
    site.stop().await;
    signals.abort();
    ended.map(|()| exit::OK)
}

/// Waits until all of it serves, tells so, and waits for the end.
async fn serve(
    args: &UpArgs,
    site: &mut Site,
    new: &New,
    folder: &Folder,
    token: &CancellationToken,
) -> anyhow::Result<()> {
    let endpoints = site.endpoints.clone();
    tokio::select! {
        heard = site::is_heard(&endpoints, folder) => heard?,
        ended = site.ended() => return ended,
        () = token.cancelled() => return Ok(()),
    }
    folder.write_endpoints(&endpoints)?;
    if let Some(file) = &args.ready_file {
        ready::write(file, &endpoints)
            .with_context(|| format!("failed to write the ready file {}", file.display()))?;
    }
    greeting::greet(&endpoints, new, folder)?;
    tokio::select! {
        () = token.cancelled() => Ok(()),
        ended = site.ended() => ended,
    }
}
