//! `check-config`: what a start would use, and whether it could.

use std::path::PathBuf;

use anyhow::Result;
use serde::Serialize;

use crate::arguments::Settings;

/// What a start would use. No secret is in it.
#[derive(Debug, Serialize)]
pub(crate) struct Summary {
    node: String,
    bus: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    interval_seconds: f64,
    outbox_max_bytes: u64,
    /// Where samples wait on disk; absent when none do.
    #[serde(skip_serializing_if = "Option::is_none")]
    outbox_folder: Option<PathBuf>,
    collectors: Vec<&'static str>,
    collectors_off: Vec<&'static str>,
    log_level: String,
}

impl Summary {
    /// Checks all that a start checks, reads the files that the settings name, and connects nowhere.
    pub(crate) fn of(settings: &Settings) -> Result<Self> {
        let Settings {
            bus,
            publisher,
            log,
        } = settings;
        publisher.check()?;
        let node = publisher.path()?.to_string();
        bus.check()?;
        let named = |wanted: bool| {
            let switches = publisher.collectors.switches();
            let these = switches.filter(|(_, on)| *on == wanted);
            these.map(|(name, _)| name).collect()
        };
        Ok(Self {
            node,
            bus: bus.shown_url(),
            user: bus.user.clone(),
            interval_seconds: publisher.interval_seconds,
            outbox_max_bytes: publisher.outbox.max_bytes,
            outbox_folder: publisher.outbox.folder(),
            collectors: named(true),
            collectors_off: named(false),
            log_level: log.level.clone(),
        })
    }

    /// For people.
    pub(crate) fn text(&self) -> String {
        let list = |names: &[&str]| {
            if names.is_empty() {
                "none".to_owned()
            } else {
                names.join(" ")
            }
        };
        let user = self.user.as_ref();
        let user = user.map_or("nobody in particular".to_owned(), Clone::clone);
        let folder = self.outbox_folder.as_ref();
        let folder = folder.map_or("in memory only".to_owned(), |folder| {
            format!("on disk in {}", folder.display())
        });
        [
            format!("node            {}", self.node),
            format!("bus             {} as {user}", self.bus),
            format!("interval        {} s", self.interval_seconds),
            format!(
                "outbox          at most {} bytes, {folder}",
                self.outbox_max_bytes
            ),
            format!("collectors      {}", list(&self.collectors)),
            format!("collectors off  {}", list(&self.collectors_off)),
            format!("log level       {}", self.log_level),
            "the settings are good".to_owned(),
        ]
        .join("\n")
    }
}
