//! What is wrong in a document of rules, said so that its author can mend it.

use std::fmt;

use thiserror::Error;

/// One mistake in a document of rules.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub struct Mistake {
    /// The line it stands in, from 1; `None` when it is about the whole document.
    pub line: Option<usize>,
    /// The rule it stands in, by name or, without one, as `number 3`.
    pub rule: Option<String>,
    /// The key, with the tables around it: `warning.clear`.
    pub key: Option<String>,
    /// What was found and what was expected.
    pub problem: String,
}

impl Mistake {
    /// One about the whole document.
    pub(crate) fn whole(problem: impl Into<String>) -> Self {
        Self {
            line: None,
            rule: None,
            key: None,
            problem: problem.into(),
        }
    }
}

/// `line 4: rule disk-full: for = "5x": expected …`
impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        if let Some(rule) = &self.rule {
            write!(f, "rule {rule}: ")?;
        }
        f.write_str(&self.problem)
    }
}

/// The name of `known` that looks most like `wrong`, as the end of a sentence; nothing when none does.
pub(crate) fn did_you_mean<'k>(wrong: &str, known: impl IntoIterator<Item = &'k str>) -> String {
    // Who writes much more than a name has mistaken something else.
    if wrong.len() > 128 {
        return String::new();
    }
    let known: Vec<&str> = known.into_iter().collect();
    let far = (wrong.len() / 3).max(1);
    let typed = known
        .iter()
        .map(|name| (strsim::osa_distance(wrong, name), name))
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, _)| *distance <= far);
    let likely = known
        .iter()
        .map(|name| (strsim::jaro_winkler(wrong, name), name))
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .filter(|(likeness, _)| *likeness > 0.8);
    let nearest = typed.map(|(_, name)| name).or(likely.map(|(_, name)| name));
    nearest.map_or_else(String::new, |name| format!(", did you mean `{name}`?"))
}
