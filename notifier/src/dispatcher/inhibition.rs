//! Inhibition: while a source fires, the targets that are like it are hidden. A node that is down hides
//! its other alerts without any setting.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use hostbus_wire::alert::{Alert, AlertKey};

use super::config::{InhibitConfig, MatchConfig, SettingError};
use super::matcher::{Matcher, Written};

/// The rule whose alert says that a node is down.
const NODE_DOWN: &str = "node-down";

/// A checked inhibition.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Inhibit {
    source: Matcher,
    target: Matcher,
    equal: Vec<Equal>,
}

/// What source and target must have in common.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Equal {
    Node,
    Rule,
    Instance,
    Label(String),
}

/// What the alerts of one place have in common.
type Common = Vec<Box<str>>;

/// The firing alerts that take part in one inhibition.
#[derive(Debug, Default)]
struct Place {
    /// Sources that are no targets.
    sources: BTreeSet<Arc<AlertKey>>,
    /// Sources that are targets too: they hide only those that are targets alone, not each other.
    both: BTreeSet<Arc<AlertKey>>,
    /// Targets that are no sources.
    targets: BTreeSet<Arc<AlertKey>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Source,
    Both,
    Target,
}

/// Which firing alerts hide which.
#[derive(Debug)]
pub(super) struct Inhibition {
    rules: Vec<Inhibit>,
    places: HashMap<(usize, Common), Place>,
    /// Where each firing alert takes part.
    parts: HashMap<Arc<AlertKey>, Vec<(usize, Common, Part)>>,
}

impl Inhibit {
    /// A node that is down hides its other alerts.
    pub(super) fn node_down() -> Self {
        Self {
            source: Matcher::rule(NODE_DOWN),
            target: Matcher::default(),
            equal: vec![Equal::Node],
        }
    }

    /// Checks an inhibition; `at` is the key that its names are below, with its dot.
    pub(super) fn new(config: &InhibitConfig, at: &str) -> Result<Self, SettingError> {
        if config.source == MatchConfig::default() {
            let key = format!("{at}source");
            let expected = "a source without matchers would hide everything while anything fires; \
                            name rules, severities, nodes, groups, instances or labels";
            return Err(SettingError::new(key, "{}", expected));
        }
        let mut equal = Vec::new();
        for name in &config.equal {
            equal.push(match name.as_str() {
                "node" => Equal::Node,
                "rule" => Equal::Rule,
                "instance" => Equal::Instance,
                other => match other.strip_prefix("labels.") {
                    Some(label) if !label.is_empty() => Equal::Label(label.to_owned()),
                    _ => {
                        let expected = "node, rule, instance or labels.<name>";
                        return Err(SettingError::new(format!("{at}equal"), name, expected));
                    }
                },
            });
        }
        let matcher = |config: &MatchConfig, name: &str| {
            let written = Written {
                severities: &config.severities,
                nodes: &config.nodes,
                groups: &config.groups,
                rules: &config.rules,
                instances: &config.instances,
                labels: &config.labels,
            };
            Matcher::new(&written, &format!("{at}{name}."))
        };
        Ok(Self {
            source: matcher(&config.source, "source")?,
            target: matcher(&config.target, "target")?,
            equal,
        })
    }

    fn common(&self, key: &AlertKey, alert: &Alert) -> Common {
        let text = |equal: &Equal| match equal {
            Equal::Node => key.node.to_string().into_boxed_str(),
            Equal::Rule => key.rule.clone(),
            Equal::Instance => key.instance.clone().unwrap_or_default(),
            Equal::Label(name) => alert.labels.get(name).map_or("", String::as_str).into(),
        };
        self.equal.iter().map(text).collect()
    }
}

impl Inhibition {
    pub(super) fn new(rules: Vec<Inhibit>) -> Self {
        Self {
            rules,
            places: HashMap::new(),
            parts: HashMap::new(),
        }
    }

    /// Takes note of how the alert at `key` stands: `Some` while it fires, with the groups of its node.
    /// Returns the other alerts for which it may have begun or ceased to be a source.
    pub(super) fn update(
        &mut self,
        key: &Arc<AlertKey>,
        firing: Option<(&Alert, &[String])>,
    ) -> Vec<Arc<AlertKey>> {
        let mut parts = Vec::new();
        if let Some((alert, groups)) = firing {
            for (at, rule) in self.rules.iter().enumerate() {
                let source = rule.source.takes(key, alert, groups);
                let target = rule.target.takes(key, alert, groups);
                let part = match (source, target) {
                    (true, true) => Part::Both,
                    (true, false) => Part::Source,
                    (false, true) => Part::Target,
                    (false, false) => continue,
                };
                parts.push((at, rule.common(key, alert), part));
            }
        }
        let old = self.parts.remove(key).unwrap_or_default();
        let mut affected = BTreeSet::new();
        for (at, common, part) in &old {
            if !parts
                .iter()
                .any(|new| (&new.0, &new.1, &new.2) == (at, common, part))
            {
                self.change(key, *at, common, *part, false, &mut affected);
            }
        }
        for (at, common, part) in &parts {
            if !old
                .iter()
                .any(|had| (&had.0, &had.1, &had.2) == (at, common, part))
            {
                self.change(key, *at, common, *part, true, &mut affected);
            }
        }
        if !parts.is_empty() {
            self.parts.insert(Arc::clone(key), parts);
        }
        affected.remove(key);
        affected.into_iter().collect()
    }

    /// Which firing alert hides the one at `key`.
    pub(super) fn hides(&self, key: &AlertKey) -> Option<&AlertKey> {
        let parts = self.parts.get(key)?;
        parts.iter().find_map(|(at, common, part)| {
            let place = self.places.get(&(*at, common.clone()))?;
            let other = match part {
                Part::Source => None,
                Part::Both => place.sources.first(),
                Part::Target => place.sources.first().or(place.both.first()),
            };
            other.map(|key| &**key)
        })
    }

    fn change(
        &mut self,
        key: &Arc<AlertKey>,
        at: usize,
        common: &Common,
        part: Part,
        put: bool,
        affected: &mut BTreeSet<Arc<AlertKey>>,
    ) {
        let place = self.places.entry((at, common.clone())).or_default();
        let before = (place.sources.is_empty(), place.both.is_empty());
        let set = match part {
            Part::Source => &mut place.sources,
            Part::Both => &mut place.both,
            Part::Target => &mut place.targets,
        };
        if put {
            set.insert(Arc::clone(key));
        } else {
            set.remove(key);
        }
        let after = (place.sources.is_empty(), place.both.is_empty());
        if before != after {
            affected.extend(place.targets.iter().cloned());
            affected.extend(place.both.iter().cloned());
        }
        if after == (true, true) && place.targets.is_empty() {
            self.places.remove(&(at, common.clone()));
        }
    }
}
