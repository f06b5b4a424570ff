//! The notifier's settings and rules. One rule is crossed; the others look at every field that samples have,
//! some of them over a window, and are never broken.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;
use hostbus_wire::sample::all_fields;
use serde_json::{Value, json};

/// How many rules there are.
pub(super) const RULES: usize = 100;
/// How many of them keep an average over a window.
const WINDOWS: usize = 10;
/// How many channels there are; the nodes are dealt out to them in turn.
pub(super) const CHANNELS: usize = 100;
/// Above that many degrees the rule that is crossed raises its alert.
pub(super) const THRESHOLD: f64 = 150.0;
/// The only sensor that the rule looks at: a node has one alert.
pub(super) const SENSOR: &str = "coretemp/package-0";
/// No value of a sample is above it.
const NEVER: f64 = 1e18;

/// The name of the node `number`, below its site.
pub(super) fn node(number: usize) -> String {
    format!("n{number}")
}

/// Writes settings for a webhook at `url` and returns their file.
pub(super) fn write(folder: &Path, url: &str, nodes: usize) -> anyhow::Result<PathBuf> {
    let rules = folder.join("rules.toml");
    std::fs::write(&rules, text_of_rules()?)?;
    let name = |channel: usize| format!("hook{channel}");
    let channels: serde_json::Map<String, Value> = (0..CHANNELS)
        .map(|channel| (name(channel), json!({"type": "webhook", "url": url})))
        .collect();
    let route = |channel: usize| {
        let nodes: Vec<String> = (channel..nodes).step_by(CHANNELS).map(node).collect();
        json!({
            "channels": [name(channel)],
            "nodes": nodes,
            "group_by": "alert",
            "wait_seconds": 0,
            "interval_seconds": 0,
            "cooldown_seconds": 0,
            "recovery": false,
        })
    };
    let routes: Vec<Value> = (0..CHANNELS).map(route).collect();
    let settings = json!({
        "default_rules": false,
        "rules": [rules],
        "channels": channels,
        "routes": routes,
        "spool": {"folder": folder.join("spool")},
    });
    let file = folder.join("notifier-settings.json");
    std::fs::write(&file, settings.to_string())?;
    Ok(file)
}

fn text_of_rules() -> anyhow::Result<String> {
    let mut text = format!(
        "[[rule]]\nname = \"hot\"\nmetric = \"sensor.celsius\"\ninstances = [\"{SENSOR}\"]\nwarning = {{ above = {THRESHOLD:?} }}\n"
    );
    let sections = ["cpu", "memory", "filesystem", "disk", "network", "sensor"];
    let fields: Vec<String> = all_fields()
        .into_iter()
        .filter(|(section, _)| sections.contains(section))
        .map(|(section, field)| format!("{section}.{}", field.name))
        .collect();
    for number in 1..RULES {
        let metric = fields.get((number - 1) % fields.len().max(1));
        let metric = metric.context("samples have no fields")?;
        // A threshold beyond what a percentage can be is refused; none of a sample's is this one.
        let never = if metric.ends_with("_percent") {
            "equals = 33.3333".to_owned()
        } else {
            format!("above = {NEVER:?}")
        };
        write!(
            text,
            "[[rule]]\nname = \"r{number}\"\nmetric = \"{metric}\"\nwarning = {{ {never} }}\n"
        )?;
        if number <= WINDOWS {
            text += "aggregate = \"avg\"\nwindow = \"5m\"\n";
        }
    }
    Ok(text)
}
