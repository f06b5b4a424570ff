//! What a template knows of a notice.
//!
//! ```text
//! reason     firing, resolved, repeat, digest, test        state      firing, or resolved when all is over
//! channel    its name in the settings                      severity   the worst that fires, else that was
//! count      alerts: firing + resolved                     group      what the alerts have in common
//! critical, warning, info   how many of those that fire    node, rule the same for all of them, or none
//! compact    more than 10 alerts: tell groups, not alerts  formed     when, ms since 1970
//! alerts     node rule instance site path fingerprint state severity summary
//!            value threshold (with unit, or none)  number threshold_number  unit
//!            since (ms, of firing)  until (ms, or none)  lasted (ms)  labels {name: text}
//! groups     of one rule, state and severity: rule state severity count nodes since until lasted rows [text]
//! key, title, text   of the message, only in a webhook's `body_template`; else none
//! ```
//! `alerts` and `groups` hold the alerts that there is room for; the counts are those of all of them.

use std::collections::BTreeMap;

use hostbus_wire::NodePath;
use hostbus_wire::alert::{AlertSeverity, AlertState};
use serde::Serialize;

use super::words::quantity;
use crate::notice::{Line, Notice, Reason};

/// With more alerts than this, groups are told in the place of alerts.
pub const COMPACT_ABOVE: usize = 10;
/// The label that holds the unit of value and threshold, as `hostbus_wire::Unit` writes it.
pub const UNIT_LABEL: &str = "unit";
/// Names and labels of hostile length are cut after so many characters.
const MAX_CHARACTERS: usize = 300;
/// Of more labels the first ones are shown.
const MAX_LABELS: usize = 16;
/// A row of names is ended after so many bytes.
const ROW_BYTES: usize = 160;

/// What a template knows of a notice.
#[derive(Debug, Serialize)]
#[expect(missing_docs, reason = "the file's beginning tells each")]
pub struct Facts<'a> {
    pub key: Option<&'a str>,
    pub title: Option<&'a str>,
    pub text: Option<&'a str>,
    pub reason: Reason,
    pub state: AlertState,
    pub severity: AlertSeverity,
    pub channel: &'a str,
    pub group: &'a str,
    pub node: Option<String>,
    pub rule: Option<String>,
    pub formed: u64,
    pub count: usize,
    pub firing: usize,
    pub resolved: usize,
    pub critical: usize,
    pub warning: usize,
    pub info: usize,
    pub compact: bool,
    pub alerts: Vec<AlertFacts<'a>>,
    pub groups: Vec<GroupFacts>,
}

/// What a template knows of one alert.
#[derive(Debug, Serialize)]
#[expect(missing_docs, reason = "the file's beginning tells each")]
pub struct AlertFacts<'a> {
    pub node: String,
    pub site: &'a str,
    pub path: String,
    pub rule: String,
    pub instance: Option<String>,
    pub fingerprint: &'a str,
    pub state: AlertState,
    pub severity: AlertSeverity,
    pub summary: &'a str,
    pub value: Option<String>,
    pub threshold: Option<String>,
    pub number: Option<f64>,
    pub threshold_number: Option<f64>,
    pub unit: Option<&'a str>,
    pub since: u64,
    pub until: Option<u64>,
    pub lasted: u64,
    pub labels: BTreeMap<String, String>,
}

/// The alerts of one rule that are in the same state with the same severity.
#[derive(Debug, Serialize)]
#[expect(missing_docs, reason = "the file's beginning tells each")]
pub struct GroupFacts {
    pub rule: String,
    pub state: AlertState,
    pub severity: AlertSeverity,
    pub count: usize,
    pub nodes: usize,
    pub since: u64,
    pub until: Option<u64>,
    pub lasted: u64,
    pub rows: Vec<String>,
}

impl<'a> Facts<'a> {
    /// What there is to know of `notice`, with the first `named` of its alerts.
    #[must_use]
    pub fn new(notice: &'a Notice, named: usize) -> Self {
        let lines = &notice.lines;
        let shown = &lines[..named.min(lines.len())];
        let fires = |line: &&Line| line.alert.state != AlertState::Resolved;
        let firing = lines.iter().filter(fires).count();
        let count_of = |severity| {
            let of = lines.iter().filter(fires);
            of.filter(|line| line.alert.severity == severity).count()
        };
        let worst_firing = lines.iter().filter(fires).map(severity_of).max();
        let worst = worst_firing.or_else(|| lines.iter().map(severity_of).max());
        let over = firing == 0 && !lines.is_empty();
        Self {
            key: None,
            title: None,
            text: None,
            reason: notice.reason,
            state: if over {
                AlertState::Resolved
            } else {
                AlertState::Firing
            },
            severity: worst.unwrap_or(AlertSeverity::Info),
            channel: &notice.channel,
            group: &notice.group,
            node: same(lines, |line| &line.key.node).map(node_name),
            rule: same(lines, |line| &line.key.rule).map(|rule| cut(rule)),
            formed: notice.formed_ms,
            count: lines.len(),
            firing,
            resolved: lines.len() - firing,
            critical: count_of(AlertSeverity::Critical),
            warning: count_of(AlertSeverity::Warning),
            info: count_of(AlertSeverity::Info),
            compact: lines.len() > COMPACT_ABOVE,
            alerts: shown
                .iter()
                .map(|line| alert_facts(line, notice.formed_ms))
                .collect(),
            groups: groups(shown, lines, notice.formed_ms),
        }
    }

    /// With groups told in the place of alerts, however few there are.
    #[must_use]
    pub fn compacted(self) -> Self {
        Self {
            compact: true,
            ..self
        }
    }

    /// With the message that it is about, for a template of a whole body.
    #[must_use]
    pub fn with_words(self, key: &'a str, title: &'a str, text: &'a str) -> Self {
        Self {
            key: Some(key),
            title: Some(title),
            text: Some(text),
            ..self
        }
    }
}

fn severity_of(line: &Line) -> AlertSeverity {
    line.alert.severity
}

/// What `of` says of every line, if it is the same.
fn same<T: PartialEq>(lines: &[Line], of: impl Fn(&Line) -> &T) -> Option<&T> {
    let first = of(lines.first()?);
    lines.iter().all(|line| of(line) == first).then_some(first)
}

/// `web1`, or `office.web1` where the site has a name of its own.
fn node_name(path: &NodePath) -> String {
    let text = path.to_string();
    match text.strip_prefix("home.") {
        Some(node) => node.to_owned(),
        None => text,
    }
}

fn alert_facts(line: &Line, formed_ms: u64) -> AlertFacts<'_> {
    let alert = &line.alert;
    let until = until(line);
    let unit = alert.labels.get(UNIT_LABEL).map(String::as_str);
    let labels = alert.labels.iter();
    let labels = labels.filter(|(name, _)| *name != UNIT_LABEL);
    AlertFacts {
        node: node_name(&line.key.node),
        site: line.key.node.site.as_str(),
        path: line.key.node.to_string(),
        rule: cut(&line.key.rule),
        instance: line.key.instance.as_deref().map(cut),
        fingerprint: &alert.fingerprint,
        state: alert.state,
        severity: alert.severity,
        summary: &alert.summary,
        value: alert.value.map(|value| quantity(value, unit)),
        threshold: alert.threshold.map(|value| quantity(value, unit)),
        number: alert.value,
        threshold_number: alert.threshold,
        unit,
        since: line.firing_since,
        until,
        lasted: lasted(line, formed_ms),
        labels: labels
            .take(MAX_LABELS)
            .map(|(name, text)| (cut(name), cut(text)))
            .collect(),
    }
}

fn until(line: &Line) -> Option<u64> {
    (line.alert.state == AlertState::Resolved).then_some(line.alert.since)
}

fn lasted(line: &Line, formed_ms: u64) -> u64 {
    let end = until(line).unwrap_or(formed_ms);
    end.saturating_sub(line.firing_since)
}

/// The groups in the order of their first alerts. `rows` name those of `shown`, `count` those of `all`.
fn groups(shown: &[Line], all: &[Line], formed_ms: u64) -> Vec<GroupFacts> {
    let kind = |line: &Line| (line.key.rule.clone(), line.alert.state, line.alert.severity);
    let mut counts = BTreeMap::new();
    for line in all {
        let (rule, state, severity) = kind(line);
        *counts
            .entry((rule, state.as_str(), severity))
            .or_insert(0_usize) += 1;
    }
    let mut order = Vec::new();
    let mut members: BTreeMap<_, Vec<&Line>> = BTreeMap::new();
    for line in shown {
        let (rule, state, severity) = kind(line);
        let key = (rule, state.as_str(), severity);
        let of = members.entry(key.clone()).or_default();
        if of.is_empty() {
            order.push(key);
        }
        of.push(line);
    }
    let group = |key| {
        let lines: &Vec<&Line> = &members[&key];
        let first = lines[0];
        let (nodes, rows) = rows(lines);
        let longest = lines.iter().map(|line| lasted(line, formed_ms)).max();
        GroupFacts {
            rule: cut(&first.key.rule),
            state: first.alert.state,
            severity: first.alert.severity,
            count: counts[&key],
            nodes,
            since: lines
                .iter()
                .map(|line| line.firing_since)
                .min()
                .unwrap_or(0),
            until: lines.iter().filter_map(|line| until(line)).max(),
            lasted: longest.unwrap_or(0),
            rows,
        }
    };
    order.into_iter().map(group).collect()
}

/// How many nodes, and rows that name each alert: `web1, web2 (/data, /var), web3`.
fn rows(lines: &[&Line]) -> (usize, Vec<String>) {
    let mut nodes: BTreeMap<&NodePath, Vec<&str>> = BTreeMap::new();
    for line in lines {
        let instances = nodes.entry(&line.key.node).or_default();
        instances.extend(line.key.instance.as_deref());
    }
    let mut rows = vec![String::new()];
    for (node, instances) in &nodes {
        for part in parts(&node_name(node), instances) {
            let row = rows.last_mut().expect("there is one row at least");
            if row.is_empty() {
                row.push_str(&part);
            } else if row.len() + part.len() < ROW_BYTES {
                row.push_str(", ");
                row.push_str(&part);
            } else {
                row.push(',');
                rows.push(part);
            }
        }
    }
    (nodes.len(), rows)
}

/// `web2 (/data, /var)`; a node with very many instances is named several times.
fn parts(node: &str, instances: &[&str]) -> Vec<String> {
    if instances.is_empty() {
        return vec![node.to_owned()];
    }
    let mut lists = vec![String::new()];
    for instance in instances {
        let instance = cut(instance);
        let list = lists.last_mut().expect("there is one list at least");
        if list.is_empty() {
            *list = instance;
        } else if list.len() + instance.len() < ROW_BYTES {
            list.push_str(", ");
            list.push_str(&instance);
        } else {
            lists.push(instance);
        }
    }
    let named = lists.iter().map(|list| format!("{node} ({list})"));
    named.collect()
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(MAX_CHARACTERS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
