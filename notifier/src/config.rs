//! The `[notifier]` section.

use std::collections::BTreeMap;
use std::sync::Arc;

use hostbus_wire::ids::is_id;
use hostbus_wire::{NodeId, SiteId};
use jiff::tz::TimeZone;
use serde::Deserialize;

use crate::channels::ChannelConfig;
use crate::dead_man::{DeadMan, DeadManConfig};
use crate::delivery::{Carrier, DeliveryConfig};
use crate::dispatcher::{InhibitConfig, RouteConfig, Routing};
use crate::error::Error;
use crate::evaluator::Groups;
use crate::globs::Globs;
use crate::http::{HttpConfig, HttpSender};
use crate::spool::SpoolConfig;
use crate::template::Language;
use crate::ways::{self, Way};

/// The settings of a notifier.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The site whose nodes it watches. Default `home`.
    pub site: SiteId,
    /// Its name among several notifiers of a site. Default `main`.
    pub instance: NodeId,
    /// Files of rules, below the folder of this process where they are relative; the name of a file may be
    /// a glob: `/etc/hostbus/rules/*.toml`. They are read again when they change. Default: none.
    pub rules: Vec<String>,
    /// Whether the rules that come with hostbus hold. Default true.
    pub default_rules: bool,
    /// Groups of nodes, for rules and routes: globs of `web1` or `home.web1` by the group's name.
    pub groups: BTreeMap<String, Vec<String>>,
    /// The language of what people are told, `en` or `zh`. Default `en`.
    pub language: Language,
    /// The time zone of what people are told, `Europe/Berlin`. Default: that of this host.
    pub zone: Option<String>,
    /// The ways to people, by name. Default: none, and nobody is told.
    pub channels: BTreeMap<String, ChannelConfig>,
    /// Which alerts go to which channels; the first that fits. Default: all to all.
    pub routes: Vec<RouteConfig>,
    /// Which alerts hide others, besides a node that is down, which hides all of its own.
    pub inhibit: Vec<InhibitConfig>,
    /// Where notices wait.
    pub spool: SpoolConfig,
    /// How long is tried.
    pub delivery: DeliveryConfig,
    /// How the web is asked.
    pub http: HttpConfig,
    /// The dead man's switch.
    pub dead_man: DeadManConfig,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            site: SiteId::default(),
            instance: "main".parse().expect("`main` is a well-formed id"),
            rules: Vec::new(),
            default_rules: true,
            groups: BTreeMap::new(),
            language: Language::default(),
            zone: None,
            channels: BTreeMap::new(),
            routes: Vec::new(),
            inhibit: Vec::new(),
            spool: SpoolConfig::default(),
            delivery: DeliveryConfig::default(),
            http: HttpConfig::default(),
            dead_man: DeadManConfig::default(),
        }
    }
}

impl Config {
    /// Checks all settings, opens the channels and closes them again. Nothing is sent.
    ///
    /// # Errors
    /// The first setting that can't be used.
    pub fn check(&self) -> Result<(), Error> {
        self.spool.check()?;
        self.delivery.check()?;
        let http = HttpSender::new(&self.http)?;
        DeadMan::open(&self.dead_man, http.clone())?;
        self.routing()?;
        let zone = self.zone()?;
        ways::open(
            &self.channels,
            (self.language, &zone),
            &http,
            self.instance.as_str(),
        )?;
        Ok(())
    }

    /// The channel `name`, opened by itself.
    ///
    /// # Errors
    /// A setting of it can't be used.
    pub fn carrier(&self, name: &str, channel: &ChannelConfig) -> Result<Arc<dyn Carrier>, Error> {
        let http = HttpSender::new(&self.http)?;
        let zone = self.zone()?;
        let style = (self.language, &zone);
        let way = Way::open(name, channel, style, &http, self.instance.as_str())?;
        Ok(Arc::new(way))
    }

    /// The time zone of what people are told.
    pub(crate) fn zone(&self) -> Result<TimeZone, Error> {
        let Some(zone) = &self.zone else {
            return Ok(TimeZone::system());
        };
        TimeZone::get(zone).map_err(|_| Error::Setting {
            key: "notifier.zone",
            value: zone.clone(),
            expected: "a time zone that this host knows, such as Europe/Berlin",
        })
    }

    /// Which alerts go where.
    pub(crate) fn routing(&self) -> Result<Routing, Error> {
        if let Some(wrong) = self.channels.keys().find(|name| !is_id(name)) {
            return Err(Error::Setting {
                key: "notifier.channels",
                value: wrong.clone(),
                expected: "names of 1 to 31 of a-z, 0-9 and '-', that begin with a letter or digit",
            });
        }
        let channels: Vec<String> = self.channels.keys().cloned().collect();
        Ok(Routing::new(&self.routes, &self.inhibit, &channels)?)
    }

    /// The groups of nodes.
    pub(crate) fn groups(&self) -> Groups {
        let groups = self.groups.iter();
        groups
            .map(|(name, globs)| (name.clone(), Globs::new(globs)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_named() {
        let check = |text: &str, told: &str| {
            let config: Result<Config, _> = toml::from_str(text);
            let error = match config {
                Ok(config) => config.check().unwrap_err().to_string(),
                Err(error) => error.to_string(),
            };
            assert!(error.contains(told), "{text}: {error}");
        };
        check("zone = \"Mars/Base\"", "notifier.zone is `Mars/Base`");
        check("colour = \"red\"", "colour");
        check("language = \"fr\"", "fr");
        check(
            "[channels.Ops]\ntype = \"webhook\"\nurl = \"http://127.0.0.1:1/\"",
            "notifier.channels is `Ops`",
        );
        check("[[routes]]\nchannels = [\"ops\"]", "ops");
        check("[channels.ops]\ntype = \"pigeon\"", "pigeon");
        check("[delivery]\ngive_up_seconds = 1", "give_up_seconds");
    }

    #[test]
    fn the_default_settings_are_fine() {
        Config::default().check().unwrap();
    }
}
