//! The dead man's switch: a URL that is asked at an interval while all is well, so that somebody
//! else notices when the notifier is gone. Healthchecks, Uptime Kuma and others listen to such calls.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hostbus_daemon::{CancellationToken, Secret};
use serde::Deserialize;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};
use tracing::{info, warn};

use crate::channels::Request;
use crate::channels::secret::{Found, Source};
use crate::error::Error;
use crate::http::HttpSender;

/// The `[notifier.dead_man]` section. One of `url`, `url_file` and `url_env` at most; none of them: no
/// switch.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DeadManConfig {
    /// The URL that is asked with `GET`.
    pub url: Option<Secret>,
    /// A file that holds it.
    pub url_file: Option<PathBuf>,
    /// The environment variable that holds it.
    pub url_env: Option<String>,
    /// How often it is asked, 10 to 86,400 seconds. Default 60.
    pub every_seconds: u64,
}

impl Default for DeadManConfig {
    fn default() -> Self {
        Self {
            url: None,
            url_file: None,
            url_env: None,
            every_seconds: 60,
        }
    }
}

/// A dead man's switch that is armed.
#[derive(Debug)]
pub struct DeadMan {
    url: Secret,
    every: Duration,
    sender: HttpSender,
    failing: watch::Sender<Option<Arc<str>>>,
}

impl DeadMan {
    /// The switch of the settings; `None` when they name no URL. Nothing is asked yet.
    ///
    /// # Errors
    /// A value is out of range, or the URL can't be had.
    pub fn open(config: &DeadManConfig, sender: HttpSender) -> Result<Option<Self>, Error> {
        let wrong = |key, value: String, expected| {
            Err(Error::Setting {
                key,
                value,
                expected,
            })
        };
        if !(10..=86_400).contains(&config.every_seconds) {
            let value = config.every_seconds.to_string();
            let key = "notifier.dead_man.every_seconds";
            return wrong(key, value, "10 to 86400 seconds");
        }
        let source = Source {
            section: "notifier.dead_man",
            key: "url",
            inline: config.url.as_ref(),
            file: config.url_file.as_deref(),
            env: config.url_env.as_deref(),
        };
        let Some(Found { key, secret: url }) = source.read()? else {
            return Ok(None);
        };
        let text = url.reveal();
        if !text.starts_with("https://") && !text.starts_with("http://") {
            let key = match key.as_str() {
                "url_file" => "notifier.dead_man.url_file",
                "url_env" => "notifier.dead_man.url_env",
                _ => "notifier.dead_man.url",
            };
            let expected = "a URL that begins with https:// or http://";
            return wrong(key, "…".to_owned(), expected);
        }
        Ok(Some(Self {
            url,
            every: Duration::from_secs(config.every_seconds),
            sender,
            failing: watch::Sender::new(None),
        }))
    }

    /// Why the last call failed; `None` when it did not.
    #[must_use]
    pub fn failing(&self) -> watch::Receiver<Option<Arc<str>>> {
        self.failing.subscribe()
    }

    /// Calls at the interval, at once for the first time, whenever `is_well` says so: this notifier is
    /// the active one and its parts answer. Ends with `token`.
    pub async fn run(self, is_well: impl Fn() -> bool, token: CancellationToken) {
        let mut ticks = interval(self.every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = token.cancelled() => return,
            }
            if !is_well() {
                // Nobody asks it: what it said before is no news of now.
                self.failing.send_replace(None);
                continue;
            }
            let failed = tokio::select! {
                called = self.call() => called.err(),
                () = token.cancelled() => return,
            };
            self.note(failed);
        }
    }

    async fn call(&self) -> Result<(), Arc<str>> {
        let request = Request {
            method: "GET",
            url: self.url.clone(),
            headers: Vec::new(),
            body: Vec::new(),
        };
        match self.sender.ask(&request).await {
            Ok(answer) if (200..300).contains(&answer.status) => Ok(()),
            Ok(answer) => Err(format!("HTTP {}", answer.status).into()),
            Err(failure) => Err(failure.reason.into()),
        }
    }

    /// What fails is logged when it changes.
    fn note(&self, failed: Option<Arc<str>>) {
        let before = self.failing.send_replace(failed.clone());
        match failed {
            Some(reason) if before.as_ref() != Some(&reason) => {
                warn!(%reason, "the dead man's switch can't be reached");
            }
            None if before.is_some() => info!("the dead man's switch is reached again"),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};

    use super::*;
    use crate::http::HttpConfig;
    use crate::http::stand_in::{Reply, StandIn};

    fn open(text: &str) -> Result<Option<DeadMan>, String> {
        let config: DeadManConfig = toml::from_str(text).map_err(|error| error.to_string())?;
        let sender = HttpSender::new(&HttpConfig::default()).unwrap();
        DeadMan::open(&config, sender).map_err(|error| error.to_string())
    }

    #[test]
    fn the_url_comes_from_one_place_and_never_shows() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("url");
        fs::write(&file, "https://hc.example/hunter2\n").unwrap();
        let armed = open(&format!("url_file = {file:?}")).unwrap().unwrap();
        assert_eq!(armed.url.reveal(), "https://hc.example/hunter2");
        assert!(!format!("{armed:?}").contains("hunter2"));
        assert!(open("every_seconds = 10").unwrap().is_none());
        let check = |text: &str, told: &str| {
            let error = open(text).unwrap_err();
            assert!(error.contains(told), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        };
        check(
            "every_seconds = 9",
            "notifier.dead_man.every_seconds is `9`",
        );
        check(
            "url_env = 'HOSTBUS_NO_SUCH'",
            "`notifier.dead_man.url_env`: the environment variable `HOSTBUS_NO_SUCH` is not set",
        );
        check("url_env = 'A=B'", "notifier.dead_man.url_env");
        check(
            "url = 'https://a/'\nurl_env = 'PATH'",
            "`notifier.dead_man` has both `url` and `url_env`",
        );
        check("url = 'hunter2'", "begins with https://");
        check("url_file = '/no/such/file'", "/no/such/file");
    }

    #[tokio::test]
    async fn it_calls_only_while_all_is_well_and_says_when_a_call_fails() {
        let status = Arc::new(AtomicU16::new(200));
        let answered = Arc::clone(&status);
        let server = StandIn::start(move |_| Reply::status(answered.load(Ordering::Relaxed))).await;
        let mut dead_man = open(&format!("url = '{}'", server.url("/ping")))
            .unwrap()
            .unwrap();
        dead_man.every = Duration::from_millis(2);
        let mut failing = dead_man.failing();
        let well = Arc::new(AtomicBool::new(false));
        let (asked, is_asked) = (watch::Sender::new(0), Arc::clone(&well));
        let mut rounds = asked.subscribe();
        let token = CancellationToken::new();
        let is_well = move || {
            asked.send_modify(|count| *count += 1);
            is_asked.load(Ordering::Relaxed)
        };
        let mut task = tokio::task::JoinSet::new();
        task.spawn(dead_man.run(is_well, token.clone()));

        rounds.wait_for(|count| *count > 3).await.unwrap();
        assert!(server.asked().is_empty());

        well.store(true, Ordering::Relaxed);
        let called = rounds.wait_for(|_| !server.asked().is_empty()).await;
        drop(called.unwrap());
        assert_eq!(server.asked()[0].method, "GET");
        status.store(500, Ordering::Relaxed);
        let told = failing.wait_for(Option::is_some).await.unwrap().clone();
        assert_eq!(told.as_deref(), Some("HTTP 500"));
        status.store(204, Ordering::Relaxed);
        failing.wait_for(Option::is_none).await.unwrap();
        token.cancel();
        task.join_next().await.unwrap().unwrap();
    }
}
