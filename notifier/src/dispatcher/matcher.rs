//! Which alerts a route, a silence or an inhibition means.

use std::collections::BTreeMap;

use hostbus_wire::alert::{Alert, AlertKey, AlertSeverity};

use super::config::SettingError;
use crate::globs::Globs;

/// The most globs of one list.
const MAX_GLOBS: usize = 256;
/// The longest glob, in bytes.
const MAX_GLOB_BYTES: usize = 256;

/// Checked matchers; each must fit, an empty one fits everything.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Matcher {
    severities: Vec<AlertSeverity>,
    nodes: Globs,
    groups: Globs,
    rules: Globs,
    instances: Globs,
    labels: Vec<(String, Globs)>,
}

/// Matchers as they are written.
pub(super) struct Written<'a> {
    pub(super) severities: &'a [AlertSeverity],
    pub(super) nodes: &'a [String],
    pub(super) groups: &'a [String],
    pub(super) rules: &'a [String],
    pub(super) instances: &'a [String],
    pub(super) labels: &'a BTreeMap<String, String>,
}

impl Matcher {
    /// Checks matchers; `at` is the key that their names are below, with its dot.
    pub(super) fn new(written: &Written<'_>, at: &str) -> Result<Self, SettingError> {
        let list = |name: &str, globs: &[String]| checked(&format!("{at}{name}"), globs);
        let mut labels = Vec::new();
        for (name, glob) in written.labels {
            let glob = std::slice::from_ref(glob);
            labels.push((name.clone(), checked(&format!("{at}labels.{name}"), glob)?));
        }
        if labels.len() > MAX_GLOBS {
            let expected = format!("at most {MAX_GLOBS} labels");
            let key = format!("{at}labels");
            return Err(SettingError::new(key, &labels.len().to_string(), expected));
        }
        Ok(Self {
            severities: written.severities.to_vec(),
            nodes: list("nodes", written.nodes)?,
            groups: list("groups", written.groups)?,
            rules: list("rules", written.rules)?,
            instances: list("instances", written.instances)?,
            labels,
        })
    }

    /// Everything that a rule of this very name raises.
    pub(super) fn rule(name: &str) -> Self {
        Self {
            rules: Globs::new(&[name]),
            ..Self::default()
        }
    }

    /// Whether the alert at `key`, on a node that is in `groups`, is meant.
    pub(super) fn takes(&self, key: &AlertKey, alert: &Alert, groups: &[String]) -> bool {
        let instance = key.instance.as_deref().unwrap_or_default();
        (self.severities.is_empty() || self.severities.contains(&alert.severity))
            && self.rules.take(&key.rule)
            && (self.nodes.is_empty()
                || self.nodes.name(key.node.node.as_str())
                || self.nodes.name(&key.node.to_string()))
            && self.instances.take(instance)
            && (self.groups.is_empty() || groups.iter().any(|group| self.groups.name(group)))
            && self
                .labels
                .iter()
                .all(|(name, glob)| glob.name(alert.labels.get(name).map_or("", String::as_str)))
    }
}

fn checked(key: &str, globs: &[String]) -> Result<Globs, SettingError> {
    if globs.len() > MAX_GLOBS {
        let expected = format!("at most {MAX_GLOBS} entries");
        return Err(SettingError::new(key, &globs.len().to_string(), expected));
    }
    if let Some(long) = globs.iter().find(|glob| glob.len() > MAX_GLOB_BYTES) {
        let expected = format!("a glob has at most {MAX_GLOB_BYTES} bytes");
        return Err(SettingError::new(key, long, expected));
    }
    Ok(Globs::new(globs))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_matcher_that_is_given_must_fit() {
        let key = AlertKey {
            node: "home.web1".parse().unwrap(),
            rule: "disk-full".into(),
            instance: Some("/data/x".into()),
        };
        let alert = Alert {
            labels: [("team".to_owned(), "storage".to_owned())].into(),
            ..Alert::default()
        };
        let check = |change: &dyn Fn(&mut super::super::config::MatchConfig), expected: bool| {
            let mut config = super::super::config::MatchConfig::default();
            change(&mut config);
            let written = Written {
                severities: &config.severities,
                nodes: &config.nodes,
                groups: &config.groups,
                rules: &config.rules,
                instances: &config.instances,
                labels: &config.labels,
            };
            let matcher = Matcher::new(&written, "").unwrap();
            let groups = ["web".to_owned(), "east".to_owned()];
            assert_eq!(matcher.takes(&key, &alert, &groups), expected, "{config:?}");
        };
        let texts = |texts: &[&str]| {
            texts
                .iter()
                .map(|&text| text.to_owned())
                .collect::<Vec<_>>()
        };
        check(&|_| {}, true);
        check(&|c| c.nodes = texts(&["web?"]), true);
        check(&|c| c.nodes = texts(&["home.*"]), true);
        check(&|c| c.nodes = texts(&["lab.*", "db"]), false);
        check(&|c| c.rules = texts(&["disk-*"]), true);
        check(&|c| c.rules = texts(&["disk"]), false);
        check(&|c| c.instances = texts(&["/data/*"]), true);
        check(&|c| c.instances = texts(&[""]), false);
        check(&|c| c.groups = texts(&["db", "ea*"]), true);
        check(&|c| c.groups = texts(&["db"]), false);
        check(&|c| c.severities = vec![AlertSeverity::Warning], true);
        check(&|c| c.severities = vec![AlertSeverity::Critical], false);
        let label = |name: &str, glob: &str| BTreeMap::from([(name.to_owned(), glob.to_owned())]);
        check(&|c| c.labels = label("team", "stor*"), true);
        check(&|c| c.labels = label("team", "net"), false);
        check(&|c| c.labels = label("other", ""), true);
        check(&|c| c.labels = label("other", "?*"), false);
        check(
            &|c| {
                c.nodes = texts(&["web1"]);
                c.rules = texts(&["cpu"]);
            },
            false,
        );
    }
}
