//! The publisher as a service: it runs until a signal ends it, tells systemd how it is doing, and
//! reads its settings again on SIGHUP.

use std::pin::pin;

use anyhow::Result;
use hostbus_client::BusConfig;
use hostbus_daemon::notify::{Notifier, Watchdog};
use hostbus_daemon::reload::Reloads;
use hostbus_daemon::{CancellationToken, shutdown};
use hostbus_publisher::{Config, Handle};
use tokio::time::{Interval, MissedTickBehavior, interval};
use tracing::{error, info, warn};

use crate::arguments::{Arguments, Settings};

/// A running publisher, and those who watch it.
struct Service<'a> {
    arguments: &'a Arguments,
    /// Those it was started with. What can't change while it runs is still as it stands here.
    started_with: Settings,
    /// What is published where. The host may be called otherwise by now.
    status: String,
    handle: Handle,
    notifier: Notifier,
}

/// Publishes until a signal ends it.
pub(crate) async fn run(arguments: &Arguments, settings: Settings) -> Result<()> {
    let token = CancellationToken::new();
    let mut reloads = Reloads::listen()?;
    let notifier = Notifier::from_environment();
    let (mut publisher, handle) = hostbus_publisher::start_with_handle(
        settings.publisher.clone(),
        settings.bus.clone(),
        token.clone(),
    )
    .await?;
    let mut looks = Looks::new(notifier.watchdog());
    let status = format!(
        "publishing {} to {}",
        settings.publisher.path()?,
        settings.bus.shown_url()
    );
    notifier.ready(&status);
    let service = Service {
        arguments,
        started_with: settings,
        status,
        handle,
        notifier,
    };
    let mut signalled = pin!(shutdown::on_signal(token));
    loop {
        tokio::select! {
            signalled = &mut signalled => break signalled?,
            ended = publisher.ended() => return Ok(ended?),
            () = reloads.next() => service.reload(),
            watchdog = looks.next() => {
                if service.handle.beats() {
                    watchdog.feed();
                }
            }
        }
    }
    service.notifier.stopping();
    Ok(publisher.ended().await?)
}

impl Service<'_> {
    /// Reads the settings as at the start. Bad ones change nothing.
    fn reload(&self) {
        self.notifier.reloading();
        let reloaded = self
            .arguments
            .settings()
            .map_err(anyhow::Error::from)
            .and_then(|settings| self.apply(&settings));
        match reloaded {
            Ok(status) => self.notifier.ready(&status),
            Err(error) => {
                error!(
                    error = format!("{error:#}"),
                    "the settings can't be used, nothing is changed"
                );
                let status = &self.status;
                self.notifier
                    .ready(&format!("{status}; the last reload failed: {error:#}"));
            }
        }
    }

    fn apply(&self, settings: &Settings) -> Result<String> {
        settings.bus.check()?;
        self.handle.reload(&settings.publisher)?;
        let waiting = needing_restart(&self.started_with, settings);
        if waiting.is_empty() {
            info!("the settings were read again");
            Ok(self.status.clone())
        } else {
            let keys = waiting.join(", ");
            warn!(
                keys,
                "the settings were read again, these keys change at the next start only"
            );
            let status = &self.status;
            Ok(format!("{status}; a restart is needed for {keys}"))
        }
    }
}

/// The keys that differ and that a running publisher can't change.
fn needing_restart(old: &Settings, new: &Settings) -> Vec<&'static str> {
    // In full, so that a new key is not forgotten.
    let Settings {
        bus,
        publisher,
        log,
    } = old;
    let BusConfig {
        url,
        ca_file,
        user,
        password,
        password_file,
        client_id,
        keep_alive_seconds,
        root,
    } = bus;
    let Config {
        site,
        node,
        interval_seconds: _,
        outbox,
        collectors: _,
    } = publisher;
    let differs = [
        ("bus.url", *url != new.bus.url),
        ("bus.ca_file", *ca_file != new.bus.ca_file),
        ("bus.user", *user != new.bus.user),
        ("bus.password", *password != new.bus.password),
        ("bus.password_file", *password_file != new.bus.password_file),
        ("bus.client_id", *client_id != new.bus.client_id),
        (
            "bus.keep_alive_seconds",
            *keep_alive_seconds != new.bus.keep_alive_seconds,
        ),
        ("bus.root", *root != new.bus.root),
        ("publisher.site", *site != new.publisher.site),
        ("publisher.node", *node != new.publisher.node),
        (
            "publisher.outbox",
            // It holds plain numbers and words, which all show.
            format!("{outbox:?}") != format!("{:?}", new.publisher.outbox),
        ),
        (
            "log",
            log.level != new.log.level || log.format != new.log.format,
        ),
    ];
    differs
        .into_iter()
        .filter_map(|(key, differs)| differs.then_some(key))
        .collect()
}

/// The times to look whether the publisher still turns. None without a watchdog.
struct Looks {
    watchdog: Option<(Watchdog, Interval)>,
}

impl Looks {
    fn new(watchdog: Option<Watchdog>) -> Self {
        let watchdog = watchdog.map(|watchdog| {
            let mut ticks = interval(watchdog.look_every());
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            (watchdog, ticks)
        });
        Self { watchdog }
    }

    async fn next(&mut self) -> &mut Watchdog {
        match &mut self.watchdog {
            Some((watchdog, ticks)) => {
                ticks.tick().await;
                watchdog
            }
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_takes_a_restart_is_named_and_the_rest_is_not() {
        let old = Settings::default();
        let check = |change: fn(&mut Settings), expected: &[&str]| {
            let mut new = Settings::default();
            change(&mut new);
            assert_eq!(needing_restart(&old, &new), expected);
        };
        check(|_| {}, &[]);
        check(|s| s.publisher.interval_seconds = 1.0, &[]);
        check(|s| s.publisher.collectors.cpu.enabled = false, &[]);
        check(
            |s| {
                s.bus.url = "mqtt://other".to_owned();
                s.publisher.node = Some("web2".parse().unwrap());
            },
            &["bus.url", "publisher.node"],
        );
        check(|s| s.publisher.outbox.max_bytes += 1, &["publisher.outbox"]);
        check(|s| s.log.level = "debug".to_owned(), &["log"]);
    }
}
