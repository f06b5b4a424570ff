//! Checks of the running parts: does the broker let us in, and what does each part say of itself?

use std::collections::BTreeMap;
use std::time::Duration;

use hostbus_client::{BusConfig, Connection, Event};
use hostbus_wire::health::{Health, HealthState};
use hostbus_wire::{QoS, SiteTopic, Topic, TopicRoot, decode};
use tokio::time::{Instant, timeout_at};

use super::finding::Finding;
use crate::folder::{Endpoints, Folder};
use crate::reach;

/// How long the parts' words on themselves may take; they are retained.
const HEALTH_WITHIN: Duration = Duration::from_secs(2);
/// How long the next one may take, once all that a site has were heard; not longer than that in all.
const NEXT_WITHIN: Duration = Duration::from_millis(200);
/// The parts that every site has.
const PARTS: [&str; 4] = ["broker", "ingester", "notifier", "publisher"];
/// How many are named of those that are not well.
const NAMED: usize = 3;

/// What was heard: by component, then by site and instance.
type Healths = BTreeMap<String, Instances>;
type Instances = BTreeMap<(String, String), Health>;

/// Can a viewer log in, and what do the parts say of themselves?
pub(super) async fn parts(folder: &Folder, endpoints: &Endpoints) -> Vec<Finding> {
    let bus = BusConfig {
        url: endpoints.mqtt.clone(),
        user: Some("viewer".to_owned()),
        password_file: Some(folder.credential("viewer")),
        root: endpoints.root.clone(),
        ..BusConfig::default()
    };
    let filters = vec![(format!("{}/+/_system/+/+", bus.root), QoS::AtMostOnce)];
    match reach::connect(&bus, "doctor", filters).await {
        Ok(mut connection) => {
            let healths = hear(&mut connection, &bus.root).await;
            connection.close().await;
            judge(&healths)
        }
        Err(error) => {
            let mend = format!(
                "remove {} and start `hostbus up` again: it makes a new one",
                folder.credential("viewer").display()
            );
            vec![Finding::error("broker", format!("{error:#}"), mend)]
        }
    }
}

async fn hear(connection: &mut Connection, root: &TopicRoot) -> Healths {
    let mut healths = Healths::new();
    let end = Instant::now() + HEALTH_WITHIN;
    let mut until = end;
    while let Ok(event) = timeout_at(until, connection.next()).await {
        if let Event::Message(message) = event
            && let Ok(Topic::Site(
                site,
                SiteTopic::System {
                    component,
                    instance,
                },
            )) = Topic::parse(root, &message.topic)
            && let Ok(health) = decode(&message.payload)
        {
            let heard = healths.entry(component.into()).or_default();
            heard.insert((site.to_string(), instance.into()), health);
            if PARTS.iter().all(|part| healths.contains_key(*part)) {
                until = end.min(Instant::now() + NEXT_WITHIN);
            }
        }
    }
    healths
}

fn judge(healths: &Healths) -> Vec<Finding> {
    let of = |component: &str| healths.get(component).cloned().unwrap_or_default();
    let mut findings = vec![broker(&of("broker")), ingester(&of("ingester"))];
    findings.extend(notifiers(of("notifier")));
    findings.push(publishers(&of("publisher")));
    findings
}

/// One of each site watches and tells.
fn notifiers(healths: Instances) -> Vec<Finding> {
    let mut sites: BTreeMap<String, Instances> = BTreeMap::new();
    for (name, health) in healths {
        sites
            .entry(name.0.clone())
            .or_default()
            .insert(name, health);
    }
    if sites.len() < 2 {
        return vec![notifier(&sites.into_values().next().unwrap_or_default())];
    }
    let sites = sites.into_iter().map(|(site, healths)| {
        let mut finding = notifier(&healths);
        finding.found = format!("site {site}: {}", finding.found);
        finding
    });
    sites.collect()
}

fn broker(healths: &Instances) -> Finding {
    let Some(health) = healths.values().next() else {
        return Finding::ok("broker", "lets the viewer in");
    };
    let dropped: u64 = health
        .counters
        .iter()
        .filter(|(name, _)| name.starts_with("messages_dropped_"))
        .map(|(_, messages)| messages)
        .sum();
    let found = format!(
        "lets the viewer in; {} clients, {} retained messages, {dropped} dropped",
        count(health, "clients_connected"),
        count(health, "retained_messages"),
    );
    match &health.reason {
        None => Finding::ok("broker", found),
        Some(reason) => Finding::warning(
            "broker",
            format!("{found}; {reason}"),
            "raise the limit under [broker.limits], or find out who takes so much",
        ),
    }
}

fn ingester(healths: &Instances) -> Finding {
    let running: Vec<&Health> = running(healths);
    if running.is_empty() {
        return Finding::warning(
            "ingester",
            "none runs: nothing is written into Redis",
            "start `hostbus-ingester`, or look at the log of `hostbus up`",
        );
    }
    let sum = |name: &str| -> u64 { running.iter().map(|health| count(health, name)).sum() };
    let refused: u64 = running
        .iter()
        .flat_map(|health| health.counters.iter())
        .filter(|(name, _)| name.starts_with("refused_") && *name != "refused_retained")
        .map(|(_, count)| count)
        .sum();
    let found = format!("{} samples stored, {refused} refused", sum("samples"));
    let mend = "its log names what is refused, and why";
    match reasons(&running) {
        None => Finding::ok("ingester", found),
        Some(reason) => Finding::warning("ingester", format!("{found}; {reason}"), mend),
    }
}

fn notifier(healths: &Instances) -> Finding {
    let running: Vec<&Health> = running(healths);
    let active = running.iter().find(|health| count(health, "active") > 0);
    let Some(active) = active.or(running.first()) else {
        return Finding::warning(
            "notifier",
            "none runs: nothing is watched, and nobody is told",
            "start `hostbus-notifier`, or look at the log of `hostbus up`",
        );
    };
    let channels = count(active, "channels");
    let found = format!(
        "rules {}, nodes {}, alerts that fire {}, channels {}",
        count(active, "rules"),
        count(active, "nodes"),
        count(active, "alerts_firing"),
        channels,
    );
    if active.state == HealthState::Degraded {
        let reason = active.reason.as_deref().unwrap_or("it does not say why");
        let mend = "its log says more; `hostbus notify-test <channel>` tries a channel";
        return Finding::warning("notifier", format!("{found}; {reason}"), mend);
    }
    if channels == 0 {
        let found = format!("{found}: nobody is told of alerts");
        let mend = "name one under [notifier.channels] and a route to it, as in docs/alerts.md";
        return Finding::warning("notifier", found, mend);
    }
    Finding::ok(
        "notifier",
        match &active.reason {
            None => found,
            Some(reason) => format!("{found}; {reason}"),
        },
    )
}

fn publishers(healths: &Instances) -> Finding {
    let running = running(healths).len();
    let stopped = healths.len() - running;
    let found = format!("{running} running, {stopped} stopped or lost");
    let unwell: Vec<String> = healths
        .iter()
        .filter(|(_, health)| health.state == HealthState::Degraded)
        .map(|((_, node), health)| {
            let reason = health.reason.as_deref().unwrap_or("it does not say why");
            format!("{node}: {reason}")
        })
        .collect();
    if unwell.is_empty() {
        return Finding::ok("publishers", found);
    }
    let more = match unwell.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!("; and {more} more"),
    };
    let named = unwell[..unwell.len().min(NAMED)].join("; ");
    Finding::warning(
        "publishers",
        format!("{found}; {named}{more}"),
        "the host's own log says more, and so does `hostbus-publisher once`",
    )
}

fn running(healths: &Instances) -> Vec<&Health> {
    let running = healths.values();
    running
        .filter(|health| health.state != HealthState::Stopped)
        .collect()
}

fn reasons(healths: &[&Health]) -> Option<String> {
    let reasons: Vec<&str> = healths
        .iter()
        .filter_map(|health| health.reason.as_deref())
        .collect();
    (!reasons.is_empty()).then(|| reasons.join("; "))
}

fn count(health: &Health, name: &str) -> u64 {
    health.counters.get(name).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    fn health(state: HealthState, reason: Option<&str>, counters: &[(&str, u64)]) -> Health {
        let counters = counters
            .iter()
            .map(|(name, count)| ((*name).to_owned(), *count));
        Health {
            ts: 1,
            state,
            reason: reason.map(str::to_owned),
            version: "1".to_owned(),
            counters: counters.collect(),
        }
    }

    #[track_caller]
    fn check(part: &str, heard: &[(&str, Health)], level: Level, expected: &str) {
        let instances = heard.iter().map(|(name, health)| {
            let (site, name) = name.split_once('/').unwrap_or(("home", name));
            ((site.to_owned(), name.to_owned()), health.clone())
        });
        let healths = Healths::from([(part.to_owned(), instances.collect())]);
        let named = part.trim_end_matches('s');
        let findings = judge(&healths);
        let of_part = findings
            .iter()
            .filter(|found| found.check.starts_with(named));
        let found = of_part.max_by_key(|found| found.level).unwrap();
        assert_eq!(found.level, level, "{found:?}");
        assert!(found.found.contains(expected), "{found:?}");
        assert_eq!(found.mend.is_none(), level == Level::Ok, "{found:?}");
    }

    #[test]
    fn a_notifier_that_tells_nobody_is_told() {
        let (ok, degraded, stopped) =
            (HealthState::Ok, HealthState::Degraded, HealthState::Stopped);
        let deaf = health(ok, None, &[("active", 1), ("rules", 23), ("nodes", 2)]);
        let told = "rules 23, nodes 2, alerts that fire 0, channels 0: nobody is told";
        check("notifier", &[("main", deaf)], Level::Warning, told);
        // One that was never told of anything has no figures.
        let counters = [("active", 1), ("channels", 1)];
        let good = health(ok, None, &counters);
        check(
            "notifier",
            &[("main", good.clone())],
            Level::Ok,
            "channels 1",
        );
        let failing = health(degraded, Some("channel ops: 503"), &counters);
        check(
            "notifier",
            &[("main", failing)],
            Level::Warning,
            "channel ops: 503",
        );
        let standby = health(ok, Some("standing by for b"), &[("active", 0)]);
        check(
            "notifier",
            &[("a", standby), ("b", good.clone())],
            Level::Ok,
            "channels 1",
        );
        let lost = health(stopped, None, &[]);
        let told = "site lab: none runs";
        check(
            "notifier",
            &[("home/main", good), ("lab/main", lost)],
            Level::Warning,
            told,
        );
        check(
            "notifier",
            &[("main", health(stopped, None, &[]))],
            Level::Warning,
            "none runs",
        );
        check("notifier", &[], Level::Warning, "none runs");
    }

    #[test]
    fn parts_that_work_in_part_are_told_with_their_reason() {
        let (ok, degraded) = (HealthState::Ok, HealthState::Degraded);
        let away = health(
            degraded,
            Some("Redis is away"),
            &[("samples", 7), ("refused_rows", 1)],
        );
        let told = "7 samples stored, 1 refused; Redis is away";
        check("ingester", &[("main", away)], Level::Warning, told);
        check("ingester", &[], Level::Warning, "none runs");
        let well = health(ok, None, &[]);
        let hung = health(degraded, Some("a mount hangs"), &[]);
        let told = "2 running, 0 stopped or lost; b: a mount hangs";
        check(
            "publisher",
            &[("a", well.clone()), ("b", hung.clone())],
            Level::Warning,
            told,
        );
        let many: Vec<String> = (0..5).map(|node| format!("n{node}")).collect();
        let many: Vec<(&str, Health)> = many.iter().map(|n| (n.as_str(), hung.clone())).collect();
        check("publisher", &many, Level::Warning, "and 2 more");
        check("publisher", &[("a", well)], Level::Ok, "1 running");
        let full = health(ok, Some("queues are full"), &[("messages_dropped_x", 2)]);
        check(
            "broker",
            &[("main", full)],
            Level::Warning,
            "2 dropped; queues are full",
        );
        check("broker", &[], Level::Ok, "lets the viewer in");
    }
}
