//! What the dispatcher does, seen from outside.

mod holding;
mod model;
mod pair;
mod properties;
mod scenarios;
mod storms;
mod world;

use super::*;
use crate::notice::{Notice, Reason};
use hostbus_wire::alert::{Alert, AlertKey, AlertSeverity, AlertState};
use hostbus_wire::silence::{Acknowledgement, Silence};

/// A dispatcher with a channel `ops`, `now` in seconds.
struct Desk {
    dispatcher: Dispatcher,
    disk: BTreeMap<String, Vec<u8>>,
    clear: Vec<SiteTopic>,
    /// Seconds since 1970, far enough from it.
    now: u64,
}

const START: u64 = 1_767_571_200;

fn desk(settings: &str) -> Desk {
    let mut dispatcher = Dispatcher::new(routing(settings));
    dispatcher.synced(START * 1_000);
    Desk {
        dispatcher,
        disk: BTreeMap::new(),
        clear: Vec::new(),
        now: START,
    }
}

/// Routes and inhibitions for the channels `ops` and `pager`.
fn routing(settings: &str) -> Routing {
    #[derive(Default, serde::Deserialize)]
    #[serde(default)]
    struct File {
        routes: Vec<RouteConfig>,
        inhibit: Vec<InhibitConfig>,
    }
    let file: File = toml::from_str(settings).unwrap();
    let channels = ["ops", "pager"].map(str::to_owned);
    Routing::new(&file.routes, &file.inhibit, &channels).unwrap()
}

/// `web1/disk-full` or `web1/disk-full/data`.
fn key(text: &str) -> AlertKey {
    let mut parts = text.splitn(3, '/');
    let mut part = || parts.next().map(Into::into);
    let node = part().map(|node: String| format!("home.{node}")).unwrap();
    AlertKey {
        node: node.parse().unwrap(),
        rule: part().unwrap().into(),
        instance: part().map(Into::into),
    }
}

impl Desk {
    fn fire(&mut self, text: &str, severity: AlertSeverity) {
        self.put(text, severity, &[]);
    }

    fn put(&mut self, text: &str, severity: AlertSeverity, labels: &[(&str, &str)]) {
        let label = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let alert = Alert {
            severity,
            since: self.now * 1_000,
            labels: labels.iter().map(label).collect(),
            ..Alert::default()
        };
        let now_ms = self.now * 1_000;
        self.dispatcher
            .alert(key(text), Some(alert), now_ms)
            .unwrap();
    }

    fn over(&mut self, text: &str) {
        let now_ms = self.now * 1_000;
        self.dispatcher.alert(key(text), None, now_ms).unwrap();
    }

    fn silence(&mut self, id: &str, silence: Option<Silence>) {
        let now_ms = self.now * 1_000;
        let site = SiteId::default();
        self.dispatcher
            .silence(&site, id, silence, false, now_ms)
            .unwrap();
    }

    fn acknowledge(&mut self, text: &str, given: &Acknowledgement) {
        let (now_ms, site) = (self.now * 1_000, SiteId::default());
        let fingerprint = key(text).fingerprint();
        let given = Some(given.clone());
        self.dispatcher
            .acknowledge(&site, &fingerprint, given, now_ms)
            .unwrap();
    }

    /// What is told within the next `seconds`.
    fn wait(&mut self, seconds: u64) -> Vec<Notice> {
        let end_ms = (self.now + seconds) * 1_000;
        let mut now_ms = self.now * 1_000;
        let mut notices = Vec::new();
        loop {
            let tick = self.dispatcher.tick(now_ms);
            notices.extend(tick.notices);
            self.clear
                .extend(tick.clear.into_iter().map(|clear| clear.topic));
            for entry in tick.saved {
                match entry.value {
                    Some(value) => self.disk.insert(entry.key, value),
                    None => self.disk.remove(&entry.key),
                };
            }
            match tick.next_ms {
                Some(next_ms) if next_ms < end_ms => now_ms = next_ms.max(now_ms),
                _ if now_ms < end_ms => now_ms = end_ms,
                _ => break,
            }
        }
        self.now += seconds;
        notices
    }

    /// The same, as `+5 ops firing rule cpu: web1/cpu warning`.
    fn told(&mut self, seconds: u64) -> Vec<String> {
        let from_ms = self.now * 1_000;
        let notices = self.wait(seconds);
        let shown = notices.iter().map(|notice| {
            let lines: Vec<String> = notice.lines.iter().map(line).collect();
            let at = (notice.formed_ms - from_ms) / 1_000;
            let (channel, group) = (&notice.channel, &notice.group);
            let reason = format!("{:?}", notice.reason).to_lowercase();
            format!("+{at} {channel} {reason} {group}: {}", lines.join(", "))
        });
        shown.collect()
    }

    fn stage(&self, text: &str) -> String {
        let tracked = self.dispatcher.alerts.get(&key(text));
        let mut posts = tracked.map_or(&[][..], |tracked| &tracked.posts).iter();
        let ops = posts.find(|post| self.dispatcher.routing.channels[post.channel] == "ops");
        // Where no route leads there is nothing to be said of a channel.
        let stage = ops.map_or(Some("no route leads here"), |post| post.stage.as_deref());
        stage.unwrap_or_default().to_owned()
    }
}

fn line(line: &crate::notice::Line) -> String {
    let mut text = line.key.to_string().replace("home.", "");
    if line.alert.state == AlertState::Resolved {
        text.push_str(" over");
    } else {
        text.push_str(&format!(" {}", line.alert.severity));
    }
    if let Some(was) = line.was {
        text.push_str(&format!(" (was {was})"));
    }
    if line.flaps > 0 {
        text.push_str(&format!(" (flapped {} times)", line.flaps));
    }
    text
}
