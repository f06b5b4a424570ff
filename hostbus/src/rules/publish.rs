//! `hostbus rules put` and `remove`: what stands retained under `_rules`.
//!
//! A broker need not tell a client that it may not publish, so each rule is believed to stand, or to be
//! gone, only when it comes back.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use hostbus_daemon::exit;
use hostbus_notifier::rule::document;
use hostbus_wire::{QoS, SiteTopic};
use tokio::time::timeout;

use super::args::{PutArgs, RemoveArgs};
use super::{rules_of, sources};
use crate::cli::BusArgs;
use crate::reach;
use crate::up::Settings;

/// How long the broker may take to tell of a message.
const TOLD_WITHIN: Duration = Duration::from_secs(5);
/// Who may write rules.
const ADMIN: &str = "admin";

pub(super) async fn put(args: &PutArgs) -> anyhow::Result<u8> {
    let rules = rules_of(&args.file)?;
    let rules = rules.into_iter();
    let wanted = rules
        .map(|rule| (rule.name, rule.text.as_bytes().to_vec()))
        .collect();
    let names = publish(&args.bus, args.config.as_deref(), wanted, false).await?;
    let mut out = std::io::stdout().lock();
    for name in names {
        writeln!(out, "{name} stands on the bus")?;
    }
    Ok(exit::OK)
}

pub(super) async fn remove(args: &RemoveArgs) -> anyhow::Result<u8> {
    if let Some(wrong) = args.rules.iter().find(|name| !document::is_name(name)) {
        bail!("`{wrong}` is no name of a rule");
    }
    let wanted = args.rules.iter();
    let wanted = wanted
        .map(|name| (name.as_str().into(), Vec::new()))
        .collect();
    let names = publish(&args.bus, args.config.as_deref(), wanted, true).await?;
    let mut out = std::io::stdout().lock();
    for name in names {
        writeln!(out, "{name} is removed from the bus")?;
    }
    Ok(exit::OK)
}

/// Publishes each document under its name, and waits until each was told back. With `must_stand` each must
/// be there before.
async fn publish(
    args: &BusArgs,
    config: Option<&Path>,
    mut wanted: BTreeMap<Box<str>, Vec<u8>>,
    must_stand: bool,
) -> anyhow::Result<Vec<Box<str>>> {
    let site = Settings::read(config)?.notifier.site;
    let user = args.user.clone().unwrap_or_else(|| ADMIN.to_owned());
    let bus = reach::bus(&BusArgs {
        user: Some(user.clone()),
        ..args.clone()
    })?;
    let mut connection = sources::connect(&bus, &site).await?;
    let standing = sources::retained(&mut connection, &bus).await;
    if must_stand {
        let stands = |name: &str| standing.iter().any(|(standing, _)| &**standing == name);
        let missing = wanted.keys().find(|name| !stands(name));
        if let Some(name) = missing {
            let names: Vec<&str> = standing.iter().map(|(name, _)| &**name).collect();
            bail!("no rule `{name}` on the bus; there are: {}", list(&names));
        }
    }
    let sender = connection.sender();
    for (name, document) in &wanted {
        let topic = SiteTopic::Rule(name.clone()).text(&bus.root, &site);
        let published = sender.publish(topic, QoS::AtLeastOnce, true, document.clone());
        published
            .await
            .with_context(|| format!("failed to publish {name}"))?;
    }
    let mut done = Vec::new();
    let told = async {
        while !wanted.is_empty() {
            let message = sources::message(&mut connection).await;
            if let Some(name) = sources::name_of(&bus, &message.topic)
                && wanted
                    .get(&name)
                    .is_some_and(|document| **document == *message.payload)
            {
                wanted.remove(&name);
                done.push(name);
            }
        }
    };
    // What is late is told as failed.
    let _ = timeout(TOLD_WITHIN, told).await;
    connection.close().await;
    let left: Vec<&str> = wanted.keys().map(|name| &**name).collect();
    ensure!(
        left.is_empty(),
        "the broker did not take {}: {user} may not write rules, or it is too slow; try --user",
        left.join(", ")
    );
    done.sort();
    Ok(done)
}

fn list(names: &[&str]) -> String {
    if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    }
}
