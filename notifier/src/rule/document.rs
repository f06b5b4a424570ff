//! Rules as people write them, in TOML; a file of them and a retained `_rules/<rule>` read alike.
//!
//! ```text
//! [[rule]]
//! name      = "disk-full"                    a-z, 0-9 and -, at most 63
//! metric    = "filesystems.used_percent"     see `metric`
//! instances = { exclude = ["/boot/*"] }      a glob, a list, or include and exclude
//! nodes     = ["web*", "home.db1"]           likewise; groups = ["db"] takes nodes by group
//! warning   = { above = 80, clear = 75 }     info, warning, critical; above, at_least, below, at_most, equals
//! critical  = { above = 90, clear = 85 }
//! for       = "5m"                           see `duration`; keep_firing_for likewise
//! aggregate = "avg"                          over a window: avg, min, max, sum, count; or rate = true,
//! window    = "5m"                           changed = true, absent = "60s", forecast = "24h"
//! summary   = "{node}: {instance} is {value} full"
//! labels    = { runbook = "https://…" }
//! enabled   = false                          switches off the rule of this name of a lower source
//!
//! [[rule.override]]                          the first that fits holds
//! nodes     = "backup*"                      nodes, groups, instances: one of them at least
//! critical  = { above = 97 }                 in its place; false takes it away
//! for       = "1h"
//! enabled   = false                          the rule does not hold there
//! ```
//! What is so or not (`node.down`, `absent`, `changed`) has `severity = "critical"` in the place of
//! thresholds. A document with a mistake is refused whole: half of what somebody meant may be worse than
//! what was there before.

use std::collections::HashSet;
use std::sync::Arc;

use hostbus_wire::sample::CORES;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::item::{Item, Place, Section, line_of, shortened};
use super::levels::{self, SEVERITIES, SEVERITY};
use super::mistake::Mistake;
use super::{Override, Rule, Watch, fold, nesting, summary};
use crate::globs::Globs;

/// The longest document, in bytes.
pub const MAX_BYTES: usize = 64 * 1024;
/// The most rules in one.
pub const MAX_RULES: usize = 512;
/// The most overrides of one rule.
pub const MAX_OVERRIDES: usize = 64;
/// The longest name of a rule, in bytes.
pub const MAX_NAME_BYTES: usize = 63;

const MAX_LABELS: usize = 32;
const MAX_LABEL_BYTES: usize = 256;
const WEEK_MS: u64 = 7 * 86_400_000;

const KEYS: [&str; 21] = [
    "name",
    "metric",
    "instances",
    "nodes",
    "groups",
    "info",
    "warning",
    "critical",
    SEVERITY,
    "for",
    "keep_firing_for",
    "aggregate",
    "window",
    "rate",
    "changed",
    "absent",
    "forecast",
    "summary",
    "labels",
    "override",
    "enabled",
];
const OVERRIDE_KEYS: [&str; 9] = [
    "nodes",
    "groups",
    "instances",
    "info",
    "warning",
    "critical",
    SEVERITY,
    "for",
    "enabled",
];
const RULES: &str = "[[rule]]";
const NODES: &str = "a glob of nodes such as \"web*\" or \"home.web1\", a list of them, or \
                     { include = […], exclude = […] }";
const GROUPS: &str = "a glob of groups such as \"db\", or a list of them";
const INSTANCES: &str = "a glob of instances such as \"/mnt/*\", a list of them, or \
                         { include = […], exclude = […] }";

/// A rule with the text that says it.
#[derive(Debug, Clone, PartialEq)]
pub struct Written {
    /// Its name.
    pub name: Box<str>,
    /// The rule; `None` where the document switches off the one of this name.
    pub rule: Option<Arc<Rule>>,
    /// What was written, with the comments above it; a document by itself.
    pub text: Box<str>,
}

/// Whether `name` can be one of a rule: `[a-z0-9][a-z0-9-]{0,62}`.
#[must_use]
pub fn is_name(name: &str) -> bool {
    let bytes = name.as_bytes();
    (1..=MAX_NAME_BYTES).contains(&bytes.len())
        && bytes[0] != b'-'
        && bytes
            .iter()
            .all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'))
}

/// Reads a document.
///
/// # Errors
/// Its mistakes, at least one; of each rule the first.
pub fn read(document: &[u8]) -> Result<Vec<Written>, Vec<Mistake>> {
    let text = text(document).map_err(|mistake| vec![mistake])?;
    let table = DeTable::parse(text).map_err(|error| vec![syntax(text, &error)])?;
    let rules = tables(text, table.get_ref()).map_err(|mistake| vec![mistake])?;
    let slices = slices(text, &rules);
    let (mut written, mut mistakes, mut names) = (Vec::new(), Vec::new(), HashSet::new());
    for (number, (rule, slice)) in rules.iter().zip(slices).enumerate() {
        match read_rule(text, rule, number + 1, slice) {
            Ok(rule) if names.insert(rule.name.clone()) => written.push(rule),
            Ok(Written { name, .. }) => mistakes.push(Mistake {
                line: Some(line_of(text.as_bytes(), rule.span().start)),
                problem: "another rule of this document has this name".to_owned(),
                rule: Some(name.into()),
                key: Some("name".to_owned()),
            }),
            Err(mistake) => mistakes.push(mistake),
        }
    }
    if mistakes.is_empty() {
        Ok(written)
    } else {
        Err(mistakes)
    }
}

/// Reads a retained `_rules/<name>`: a document of one rule, which has the topic's name.
///
/// # Errors
/// Its mistakes, at least one.
pub fn read_one(name: &str, document: &[u8]) -> Result<Written, Vec<Mistake>> {
    let mut written = read(document)?;
    let rule = match (written.pop(), written.len()) {
        (Some(rule), 0) => rule,
        (_, others) => {
            let found = if others == 0 { 0 } else { others + 1 };
            let problem = format!("expected exactly one {RULES}, found {found}");
            return Err(vec![Mistake::whole(problem)]);
        }
    };
    if &*rule.name != name {
        return Err(vec![Mistake {
            line: None,
            rule: Some(rule.name.clone().into()),
            key: Some("name".to_owned()),
            problem: format!(
                "name = \"{}\": expected \"{}\", as in its topic",
                rule.name,
                shortened(name)
            ),
        }]);
    }
    Ok(rule)
}

fn text(document: &[u8]) -> Result<&str, Mistake> {
    if document.len() > MAX_BYTES {
        let problem = format!("{} bytes, expected at most {MAX_BYTES}", document.len());
        return Err(Mistake::whole(problem));
    }
    let text = std::str::from_utf8(document).map_err(|error| Mistake {
        line: Some(line_of(document, error.valid_up_to())),
        ..Mistake::whole("no UTF-8 text")
    })?;
    match nesting::too_deep(text) {
        None => Ok(text),
        Some(at) => Err(Mistake {
            line: Some(line_of(document, at)),
            ..Mistake::whole("a key of too many parts")
        }),
    }
}

fn syntax(text: &str, error: &toml::de::Error) -> Mistake {
    Mistake {
        line: error
            .span()
            .map(|span| line_of(text.as_bytes(), span.start)),
        ..Mistake::whole(format!("no valid TOML: {}", error.message()))
    }
}

/// The tables of the rules.
fn tables<'d>(
    text: &str,
    document: &'d DeTable<'d>,
) -> Result<Vec<&'d Spanned<DeValue<'d>>>, Mistake> {
    let at = |offset, problem: String| Mistake {
        line: Some(line_of(text.as_bytes(), offset)),
        ..Mistake::whole(problem)
    };
    let mut rules = Vec::new();
    for (key, value) in document {
        if key.get_ref() != "rule" {
            let key_text = shortened(key.get_ref());
            let problem =
                format!("unknown key `{key_text}`: a document has {RULES} and nothing else");
            return Err(at(key.span().start, problem));
        }
        let list = value.get_ref().as_array();
        let tables = list.filter(|list| list.iter().all(|rule| rule.get_ref().is_table()));
        let list = tables.ok_or_else(|| at(value.span().start, format!("expected {RULES}")))?;
        rules.extend(list.iter());
    }
    if rules.len() > MAX_RULES {
        let problem = format!("{} rules, expected at most {MAX_RULES}", rules.len());
        return Err(Mistake::whole(problem));
    }
    Ok(rules)
}

/// The text of each rule: from the comments right above it to those right above the next.
fn slices<'t>(text: &'t str, rules: &[&Spanned<DeValue<'_>>]) -> Vec<&'t str> {
    let mut starts: Vec<usize> = rules.iter().map(|rule| rule.span().start).collect();
    if !starts.iter().all(|at| text[*at..].starts_with("[[")) {
        // A list in one value can't be cut.
        return vec![text; rules.len()];
    }
    for start in &mut starts {
        *start = text[..*start].rfind('\n').map_or(0, |line| line + 1);
        while let Some(above) = text[..*start].strip_suffix('\n') {
            let begin = above.rfind('\n').map_or(0, |line| line + 1);
            if !above[begin..].starts_with('#') {
                break;
            }
            *start = begin;
        }
    }
    let ends = starts.iter().skip(1).copied().chain([text.len()]);
    starts
        .iter()
        .zip(ends)
        .map(|(start, end)| text[*start..end].trim())
        .collect()
}

fn read_rule(
    text: &str,
    rule: &Spanned<DeValue<'_>>,
    number: usize,
    slice: &str,
) -> Result<Written, Mistake> {
    let at = rule.span().start;
    let called = rule
        .get_ref()
        .get("name")
        .and_then(|name| name.get_ref().as_str());
    let called = called.map_or_else(|| format!("number {number}"), shortened);
    let place = Place {
        text,
        rule: &called,
    };
    let table = rule.get_ref().as_table();
    let table = table.ok_or_else(|| place.mistake(at, "rule", format!("expected {RULES}")))?;
    let table = Section::new(place, table, at, String::new(), &KEYS)?;
    let what = "1 to 63 of a-z, 0-9 and '-', a letter or digit first";
    let name = table
        .get("name")
        .ok_or_else(|| table.mistake("name", "no name: expected name = \"…\""))?;
    let name_text = name.text(what)?;
    if !is_name(name_text) {
        return Err(name.wrong(format!("expected {what}")));
    }
    let is_on = table.get("enabled").map_or(Ok(true), |item| item.flag())?;
    // Who switches a rule off need not say it all again.
    let says_more = table.get("metric").is_some();
    let rule = if is_on || says_more {
        Some(checked(&table, name_text)?)
    } else {
        None
    };
    Ok(Written {
        name: name_text.into(),
        rule: rule.filter(|_| is_on).map(Arc::new),
        text: slice.into(),
    })
}

fn checked(table: &Section<'_>, name: &str) -> Result<Rule, Mistake> {
    let metric = table.get("metric").ok_or_else(|| {
        table.mistake(
            "metric",
            "no metric: expected one such as metric = \"cpu.usage_percent\"",
        )
    })?;
    let watch = metric.text("the name of a metric such as \"cpu.usage_percent\"")?;
    let watch = Watch::parse(watch).map_err(|problem| metric.wrong(problem))?;
    let time = |key| {
        table
            .get(key)
            .map_or(Ok(0), |item| item.duration(0..=WEEK_MS))
    };
    let for_ms = time("for")?;
    let fold = fold::read(table, &watch, for_ms)?;
    let levels = levels::read(table, &watch, &fold)?;
    let nodes = table
        .get("nodes")
        .map(|item| item.selection(is_node_glob, NODES));
    let (nodes, except_nodes) = nodes.unwrap_or_else(|| Ok(Default::default()))?;
    let instances = table.get("instances").map(|item| {
        with_instances(&item, &watch)?;
        item.selection(|_| true, INSTANCES)
    });
    let (instances, except_instances) = instances.unwrap_or_else(|| Ok(Default::default()))?;
    let mut rule = Rule {
        name: name.into(),
        nodes,
        except_nodes,
        groups: groups(table)?,
        instances,
        except_instances,
        levels,
        overrides: Vec::new(),
        for_ms,
        keep_firing_ms: time("keep_firing_for")?,
        summary: sentence(table, &watch)?,
        labels: labels(table)?,
        watch,
        fold,
    };
    if let Some(list) = table.get("override") {
        let what = "[[rule.override]]";
        let tables = list.tables(what)?;
        if tables.len() > MAX_OVERRIDES {
            let problem = format!(
                "{} overrides, expected at most {MAX_OVERRIDES}",
                tables.len()
            );
            return Err(table.mistake("override", problem));
        }
        for (number, one) in tables.into_iter().enumerate() {
            let path = format!("override {}", number + 1);
            let at = one.span().start;
            let own = one.get_ref().as_table();
            let own = own.ok_or_else(|| list.wrong(format!("expected {what}")))?;
            let own = Section::new(list.place, own, at, path, &OVERRIDE_KEYS)?;
            let read = read_override(&own, &rule)?;
            rule.overrides.push(read);
        }
    }
    Ok(rule)
}

fn read_override(table: &Section<'_>, rule: &Rule) -> Result<Override, Mistake> {
    let instances = table.get("instances").map(|item| {
        with_instances(&item, &rule.watch)?;
        item.globs(|_| true, "a glob of instances, or a list of them")
    });
    let nodes = table.get("nodes");
    let nodes = nodes.map(|item| item.globs(is_node_glob, "a glob of nodes, or a list of them"));
    let (nodes, instances) = (
        nodes.unwrap_or_else(|| Ok(Globs::default()))?,
        instances.unwrap_or_else(|| Ok(Globs::default()))?,
    );
    let groups = groups(table)?;
    if nodes.is_empty() && groups.is_empty() && instances.is_empty() {
        let problem = "expected nodes, groups or instances: an override is for some of them";
        return Err(table.mistake("nodes", problem));
    }
    let for_ms = table
        .get("for")
        .map(|item| item.duration(0..=WEEK_MS))
        .transpose()?;
    let enabled = table.get("enabled");
    let is_on = enabled.as_ref().map_or(Ok(true), Item::flag)?;
    let says = |key: &&str| table.get(key).is_some();
    let said = SEVERITIES
        .iter()
        .chain(&[SEVERITY, "for"])
        .find(|key| says(key));
    match (is_on, said) {
        (true, None) => {
            let problem = "expected a threshold, for or enabled = false: this changes nothing";
            return Err(table.mistake("enabled", problem));
        }
        (false, Some(key)) => {
            return Err(table.mistake(key, format!("{key} beside enabled = false says nothing")));
        }
        _ => {}
    }
    if let (Some(for_ms), super::Fold::Forecast { .. }) = (for_ms, &rule.fold) {
        fold::long_enough(table, for_ms)?;
    }
    let levels = if is_on {
        levels::merged(table, &rule.watch, &rule.fold, rule.levels.clone())?
    } else {
        Vec::new()
    };
    if is_on && levels.is_empty() {
        let problem = "no threshold is left: write enabled = false where the rule shall not hold";
        return Err(table.mistake("critical", problem));
    }
    Ok(Override {
        nodes,
        groups,
        instances,
        levels,
        for_ms,
    })
}

/// Names of nodes, `web1` or `home.web1`, have no other characters.
fn is_node_glob(glob: &str) -> bool {
    let fits = |c| matches!(c, 'a'..='z' | '0'..='9' | '-' | '.' | '*' | '?');
    glob.chars().all(fits)
}

fn groups(table: &Section<'_>) -> Result<Globs, Mistake> {
    let groups = table.get("groups");
    groups.map_or(Ok(Globs::default()), |item| item.globs(|_| true, GROUPS))
}

fn with_instances(item: &Item<'_>, watch: &Watch) -> Result<(), Mistake> {
    if watch.has_instances() {
        return Ok(());
    }
    let hint = match watch.name().strip_prefix("cpu.") {
        Some("usage_percent") => format!("; {CORES}.usage_percent has them"),
        _ => String::new(),
    };
    Err(item.wrong(format!("{} has no instances{hint}", watch.name())))
}

fn sentence(table: &Section<'_>, watch: &Watch) -> Result<Option<String>, Mistake> {
    let Some(item) = table.get("summary") else {
        return Ok(None);
    };
    let text = item.text("a sentence such as \"{node} is too hot\"")?;
    summary::check(text, watch.has_instances()).map_err(|problem| item.wrong(problem))?;
    Ok(Some(text.to_owned()))
}

fn labels(table: &Section<'_>) -> Result<Vec<(String, String)>, Mistake> {
    let Some(item) = table.get("labels") else {
        return Ok(Vec::new());
    };
    let entries = item.texts()?;
    if entries.len() > MAX_LABELS {
        let problem = format!("{} labels, expected at most {MAX_LABELS}", entries.len());
        return Err(table.mistake("labels", problem));
    }
    let mut labels = Vec::new();
    for (name, item) in entries {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        if name.is_empty() || name.len() > MAX_NAME_BYTES || !name.chars().all(fits) {
            return Err(item.wrong("expected a name of 1 to 63 letters, digits, '_', '-' and '.'"));
        }
        let text = item.text("a text")?;
        if text.len() > MAX_LABEL_BYTES || text.contains(char::is_control) {
            return Err(item.wrong(format!(
                "expected one line of at most {MAX_LABEL_BYTES} bytes"
            )));
        }
        labels.push((name.to_owned(), text.to_owned()));
    }
    Ok(labels)
}

#[cfg(test)]
mod mistake_tests;
#[cfg(test)]
mod tests;
