//! The routes, checked: which channels an alert goes to, and at what pace.

use hostbus_wire::alert::{Alert, AlertKey};

use super::config::{GroupBy, InhibitConfig, RouteConfig, SettingError};
use super::inhibition::Inhibit;
use super::matcher::{Matcher, Written};
use super::window::{Standing, Window};

/// The most routes, channels and inhibitions.
const MAX_ENTRIES: usize = 1_000;
/// The longest time that a setting may name: a year.
const MAX_SECONDS: u64 = 366 * 86_400;
/// The least repeat time: more often is a storm, and two notifiers could not tell one repetition from
/// the next.
const MIN_REPEAT_SECONDS: u64 = 60;

/// Everything that the dispatcher must know of the settings, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Routing {
    pub(super) channels: Vec<String>,
    pub(super) routes: Vec<Route>,
    pub(super) inhibits: Vec<Inhibit>,
}

/// One checked route.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Route {
    /// Places in [`Routing::channels`].
    channels: Vec<usize>,
    matcher: Matcher,
    between: Option<Window>,
    pub(super) group_by: GroupBy,
    pub(super) pace: Pace,
    go_on: bool,
}

/// How often a route tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pace {
    pub(super) wait_ms: u64,
    pub(super) interval_ms: u64,
    /// 0: never.
    pub(super) repeat_ms: u64,
    pub(super) cooldown_ms: u64,
    pub(super) recovery: bool,
}

/// That an alert goes to a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Way {
    /// The channel's place in [`Routing::channels`].
    pub(super) channel: usize,
    /// The route's place in [`Routing::routes`].
    pub(super) route: usize,
    /// When the route's window opens or may open, if it is shut.
    pub(super) shut_until_ms: Option<u64>,
}

/// Where an alert goes.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Ways {
    /// One for each channel.
    pub(super) ways: Vec<Way>,
    /// When a window opens or closes, so that this may be another answer.
    pub(super) until_ms: Option<u64>,
}

impl Routing {
    /// Checks the routes and inhibitions of the settings, of which `channels` are the channels' names.
    /// Without routes everything goes to all channels.
    ///
    /// # Errors
    /// A route names no channel or an unknown one, a window or a time makes no sense, or there are too
    /// many of something. The error names the key and the value.
    pub fn new(
        routes: &[RouteConfig],
        inhibits: &[InhibitConfig],
        channels: &[String],
    ) -> Result<Self, SettingError> {
        for (key, count) in [
            ("notifier.routes", routes.len()),
            ("notifier.inhibit", inhibits.len()),
            ("notifier.channels", channels.len()),
        ] {
            if count > MAX_ENTRIES {
                let expected = format!("at most {MAX_ENTRIES} entries");
                return Err(SettingError::new(key, &count.to_string(), expected));
            }
        }
        let everything = RouteConfig {
            channels: channels.to_vec(),
            ..RouteConfig::default()
        };
        let fallback = std::slice::from_ref(&everything);
        let configs = match routes {
            [] if channels.is_empty() => &[],
            [] => fallback,
            some => some,
        };
        let mut checked = Vec::new();
        for (at, config) in configs.iter().enumerate() {
            checked.push(Route::new(
                config,
                channels,
                &format!("notifier.routes[{at}]."),
            )?);
        }
        let mut rules = vec![Inhibit::node_down()];
        for (at, config) in inhibits.iter().enumerate() {
            rules.push(Inhibit::new(config, &format!("notifier.inhibit[{at}]."))?);
        }
        Ok(Self {
            channels: channels.to_vec(),
            routes: checked,
            inhibits: rules,
        })
    }

    /// Where the alert at `key` goes. Of several routes to one channel the first whose window is open
    /// holds.
    pub(super) fn ways(
        &self,
        key: &AlertKey,
        alert: &Alert,
        groups: &[String],
        now_ms: u64,
    ) -> Ways {
        let mut found = Ways::default();
        for (at, route) in self.routes.iter().enumerate() {
            if !route.matcher.takes(key, alert, groups) {
                continue;
            }
            let standing = route.between.as_ref().map(|window| window.standing(now_ms));
            if let Some(Standing { until_ms, .. }) = standing {
                found.until_ms = Some(found.until_ms.map_or(until_ms, |old| old.min(until_ms)));
            }
            let shut_until_ms = standing
                .filter(|standing| !standing.open)
                .map(|standing| standing.until_ms);
            for &channel in &route.channels {
                let way = Way {
                    channel,
                    route: at,
                    shut_until_ms,
                };
                match found.ways.iter_mut().find(|old| old.channel == channel) {
                    Some(old) if old.shut_until_ms.is_some() && shut_until_ms.is_none() => {
                        *old = way;
                    }
                    Some(_) => {}
                    None => found.ways.push(way),
                }
            }
            if shut_until_ms.is_none() && !route.go_on {
                break;
            }
        }
        found
    }

    /// For how long an alert of a channel cools down, where its way is not known any more.
    pub(super) fn cooldown_ms(&self, channel: usize) -> u64 {
        let route = self.route_of(channel);
        route.map_or(0, |route| self.routes[route].pace.cooldown_ms)
    }

    /// The route at whose pace a channel is told of an alert that no longer goes to it: the first one
    /// that names the channel.
    pub(super) fn route_of(&self, channel: usize) -> Option<usize> {
        self.routes
            .iter()
            .position(|route| route.channels.contains(&channel))
    }
}

impl Route {
    fn new(config: &RouteConfig, channels: &[String], at: &str) -> Result<Self, SettingError> {
        let key = |name: &str| format!("{at}{name}");
        if config.channels.is_empty() {
            let expected = "a route names one channel at least";
            return Err(SettingError::new(key("channels"), "[]", expected));
        }
        let mut places = Vec::new();
        for name in &config.channels {
            let Some(place) = channels.iter().position(|known| known == name) else {
                let expected = if channels.is_empty() {
                    "no channel is set up; add [notifier.channels.<name>]".to_owned()
                } else {
                    format!("the channels are {}", channels.join(", "))
                };
                return Err(SettingError::new(key("channels"), name, expected));
            };
            if !places.contains(&place) {
                places.push(place);
            }
        }
        let between = match &config.between {
            Some(weekly) => Some(Window::new(weekly, &key("between."))?),
            None => None,
        };
        let written = Written {
            severities: &config.severities,
            nodes: &config.nodes,
            groups: &config.groups,
            rules: &config.rules,
            instances: &config.instances,
            labels: &config.labels,
        };
        Ok(Self {
            channels: places,
            matcher: Matcher::new(&written, at)?,
            between,
            group_by: config.group_by,
            pace: Pace::new(config, at)?,
            go_on: config.go_on,
        })
    }
}

impl Pace {
    fn new(config: &RouteConfig, at: &str) -> Result<Self, SettingError> {
        let ms = |name: &str, seconds: u64| {
            if seconds > MAX_SECONDS {
                let expected = "at most a year, 31622400";
                let key = format!("{at}{name}");
                return Err(SettingError::new(key, &seconds.to_string(), expected));
            }
            Ok(seconds * 1_000)
        };
        let repeat = config.repeat_seconds;
        if repeat > 0 && repeat < MIN_REPEAT_SECONDS {
            let expected = format!("0 for never, or at least {MIN_REPEAT_SECONDS}");
            let key = format!("{at}repeat_seconds");
            return Err(SettingError::new(key, &repeat.to_string(), expected));
        }
        Ok(Self {
            wait_ms: ms("wait_seconds", config.wait_seconds)?,
            interval_ms: ms("interval_seconds", config.interval_seconds)?,
            repeat_ms: ms("repeat_seconds", repeat)?,
            cooldown_ms: ms("cooldown_seconds", config.cooldown_seconds)?,
            recovery: config.recovery,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn channels() -> Vec<String> {
        ["mail", "pager", "chat"].map(str::to_owned).to_vec()
    }

    fn routes(text: &str) -> Vec<RouteConfig> {
        #[derive(serde::Deserialize)]
        struct File {
            routes: Vec<RouteConfig>,
        }
        toml::from_str::<File>(text).unwrap().routes
    }

    fn ms(moment: &str) -> u64 {
        let moment: jiff::Timestamp = moment.parse().unwrap();
        moment.as_millisecond().unsigned_abs()
    }

    #[test]
    fn the_first_route_that_fits_takes_an_alert_unless_it_goes_on() {
        let text = r#"
            [[routes]]
            channels = ["pager"]
            severities = ["critical"]
            continue = true
            [[routes]]
            channels = ["chat"]
            groups = ["lab"]
            [[routes]]
            channels = ["mail", "pager"]
        "#;
        let routing = Routing::new(&routes(text), &[], &channels()).unwrap();
        let check = |severity: &str, groups: &[&str], expected: &[(&str, usize)]| {
            let key = AlertKey {
                node: "home.web1".parse().unwrap(),
                rule: "cpu".into(),
                instance: None,
            };
            let alert = Alert {
                severity: serde_json::from_value(severity.into()).unwrap(),
                ..Alert::default()
            };
            let groups: Vec<String> = groups.iter().map(|&group| group.to_owned()).collect();
            let ways = routing.ways(&key, &alert, &groups, 0).ways;
            let got: Vec<(&str, usize)> = ways
                .iter()
                .map(|way| (routing.channels[way.channel].as_str(), way.route))
                .collect();
            assert_eq!(got, expected, "{severity} {groups:?}");
        };
        check("critical", &["lab"], &[("pager", 0), ("chat", 1)]);
        check("warning", &["lab"], &[("chat", 1)]);
        check("warning", &[], &[("mail", 2), ("pager", 2)]);
        check("critical", &[], &[("pager", 0), ("mail", 2)]);
    }

    #[test]
    fn outside_its_hours_a_route_waits_and_the_next_ones_are_asked() {
        let text = r#"
            [[routes]]
            channels = ["chat"]
            between = { days = ["mon"], from = "08:00", to = "18:00" }
            [[routes]]
            channels = ["pager"]
        "#;
        let routing = Routing::new(&routes(text), &[], &channels()).unwrap();
        let key = AlertKey {
            node: "home.web1".parse().unwrap(),
            rule: "cpu".into(),
            instance: None,
        };
        let ask = |moment| routing.ways(&key, &Alert::default(), &[], ms(moment));
        let opens = ms("2026-01-05T08:00:00Z");
        let shut = Way {
            channel: 2,
            route: 0,
            shut_until_ms: Some(opens),
        };
        let pager = Way {
            channel: 1,
            route: 1,
            shut_until_ms: None,
        };
        let expected = Ways {
            ways: vec![shut, pager],
            until_ms: Some(opens),
        };
        assert_eq!(ask("2026-01-05T07:00:00Z"), expected);
        let open = Way {
            shut_until_ms: None,
            ..shut
        };
        let closes = Some(ms("2026-01-05T18:00:00Z"));
        let expected = Ways {
            ways: vec![open],
            until_ms: closes,
        };
        assert_eq!(ask("2026-01-05T08:00:00Z"), expected);
    }

    #[test]
    fn without_routes_everything_goes_to_all_channels() {
        let key = AlertKey {
            node: "home.web1".parse().unwrap(),
            rule: "cpu".into(),
            instance: None,
        };
        for names in [channels(), Vec::new()] {
            let routing = Routing::new(&[], &[], &names).unwrap();
            let ways = routing.ways(&key, &Alert::default(), &[], 0).ways;
            assert_eq!(ways.len(), names.len());
        }
    }

    #[test]
    fn a_route_that_makes_no_sense_is_refused_by_key_and_value() {
        let check = |text: &str, key: &str, value: &str| {
            let text = format!("[[routes]]\nchannels = [\"mail\"]\n[[routes]]\n{text}");
            let error = Routing::new(&routes(&text), &[], &channels()).unwrap_err();
            let got = (error.key.as_str(), error.value.as_str());
            assert_eq!(
                got,
                (format!("notifier.routes[1].{key}").as_str(), value),
                "{error}"
            );
        };
        let mail = "channels = [\"mail\"]\n";
        check("", "channels", "[]");
        check("channels = [\"mial\"]", "channels", "mial");
        check(
            &format!("{mail}repeat_seconds = 59"),
            "repeat_seconds",
            "59",
        );
        check(
            &format!("{mail}wait_seconds = 31622401"),
            "wait_seconds",
            "31622401",
        );
        check(
            &format!("{mail}between = {{ from = \"08:00\", to = \"25:00\" }}"),
            "between.to",
            "25:00",
        );
        let long = "x".repeat(257);
        check(
            &format!("{mail}rules = [\"{long}\"]"),
            "rules",
            &long[..128],
        );
        let error = Routing::new(&routes("[[routes]]\nchannels = [\"a\"]"), &[], &[]).unwrap_err();
        assert!(error.expected.contains("[notifier.channels."), "{error}");
    }
}
