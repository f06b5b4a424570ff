//! Lists of globs that pick nodes, rules and instances.
//!
//! In a glob `*` stands for any text, slashes too, and `?` for one character.

use std::collections::BTreeMap;

use hostbus_wire::NodePath;
use wildmatch::WildMatch;

/// A checked list of globs. An empty one matches everything.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Globs(Vec<WildMatch>);

impl Globs {
    /// The globs of `list`.
    #[must_use]
    pub fn new<S: AsRef<str>>(list: &[S]) -> Self {
        Self(
            list.iter()
                .map(|glob| WildMatch::new(glob.as_ref()))
                .collect(),
        )
    }

    /// Whether the list is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether `text` is taken: one glob matches it, or there are none.
    #[must_use]
    pub fn take(&self, text: &str) -> bool {
        self.0.is_empty() || self.name(text)
    }

    /// Whether one of the globs matches `text`.
    #[must_use]
    pub fn name(&self, text: &str) -> bool {
        self.0.iter().any(|glob| glob.matches(text))
    }
}

/// The names of the groups that have `node`, by globs of `web1` or `home.web1`.
#[must_use]
pub fn groups_of(groups: &BTreeMap<String, Globs>, node: &NodePath) -> Vec<String> {
    let names = [node.to_string(), node.node.as_str().to_owned()];
    let has = |globs: &Globs| names.iter().any(|name| globs.name(name));
    let groups = groups.iter().filter(|(_, globs)| has(globs));
    groups.map(|(name, _)| name.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_list_takes_everything_and_names_nothing() {
        let check = |list: &[&str], text, taken, named| {
            let globs = Globs::new(list);
            assert_eq!(
                (globs.take(text), globs.name(text)),
                (taken, named),
                "{list:?} {text}"
            );
        };
        check(&[], "web1", true, false);
        check(&["web*"], "web1", true, true);
        check(&["web?", "db"], "web12", false, false);
        check(&["/snap/*"], "/snap/core/123", true, true);
    }
}
