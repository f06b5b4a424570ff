//! The rules as they are judged: which of them hold for which value of which instance, and by what terms.
//!
//! All that depends only on rules, node and instance is worked out once, into a plan that all instances with
//! the same outcome share. What is left for a sample is, for each check of a plan, to read a value and to
//! hold it against two bounds.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use hostbus_wire::sample::{Series, all_fields, shared_field};
use hostbus_wire::{Field, NodePath};

use super::standing::Terms;
use crate::globs::Globs;
use crate::rule::{Fold, Operator, Override, Rule, Source, Watch};

/// The section of what is said of a node as a whole: down, clock offset.
pub(super) const NODE: u8 = u8::MAX;

/// A check without a memory has no place in its instance's memories.
pub(super) const NO_MEMORY: u16 = u16::MAX;

/// One rule for one instance, or for all whose plan is the same.
#[derive(Debug)]
pub(super) struct Check {
    pub(super) rule: u32,
    what: What,
    pub(super) fold: Fold,
    pub(super) memory: u16,
    /// Strictly between these, no level is reached.
    quiet: (f64, f64),
    pub(super) terms: Terms,
}

/// Where a check's value stands in a series.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    Field(u16),
    Ratio(u16, u16),
    /// Each field of the series is an instance: its own place says which.
    Place,
    Down,
    ClockOffset,
}

/// The checks of an instance.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) checks: Vec<Check>,
    pub(super) memories: usize,
    /// One of them waits for a value's absence.
    pub(super) absences: bool,
}

/// Which rules a plan has, and which override of each: 0 is none.
type Outcome = Vec<(u32, u16)>;

/// See the module's description.
#[derive(Debug, Default)]
pub(super) struct Book {
    pub(super) rules: Vec<Arc<Rule>>,
    /// The rules of each section by its number, and of nodes as a whole.
    by_section: Vec<Vec<u32>>,
    pub(super) groups: Arc<BTreeMap<String, Globs>>,
    plans: Vec<Arc<Plan>>,
    known: HashMap<Outcome, u32>,
    /// The plans of sections whose rules ask neither for nodes nor for instances.
    uniform: HashMap<u8, Option<u32>>,
}

/// The sections, in the order of the contract; a section's number is its place.
fn sections() -> Vec<&'static str> {
    let mut sections: Vec<&'static str> = all_fields().into_iter().map(|(name, _)| name).collect();
    sections.dedup();
    sections
}

/// The number of the section `name`.
pub(super) fn section_of(name: &str) -> u8 {
    let number = match name {
        "cpu" => 0,
        "cores" => 1,
        "memory" => 2,
        "pressure" => 3,
        "filesystem" => 4,
        "disk" => 5,
        "network" => 6,
        "gpu" => 7,
        "sensors" => 8,
        "fans" => 9,
        "voltages" => 10,
        "power_supply" => 11,
        "custom" => 12,
        // One that is newer than this list.
        _ => sections()
            .iter()
            .position(|section| *section == name)
            .unwrap_or(usize::from(NODE) - 1),
    };
    u8::try_from(number).unwrap_or(NODE - 1)
}

/// The section that `rule` watches, and whether that has instances.
pub(super) fn section_of_rule(rule: &Rule) -> (u8, bool) {
    match rule.watch {
        Watch::Field(source) | Watch::Ratio { part: source, .. } => {
            let instances = !matches!(source.section, "cpu" | "memory" | "pressure");
            (section_of(source.section), instances)
        }
        Watch::Down | Watch::ClockOffset => (NODE, false),
    }
}

/// The place of `field` in the rows of `section`.
fn place_of(section: &str, field: &Field) -> u16 {
    let fields = all_fields().into_iter().filter(|(of, _)| *of == section);
    let place = fields
        .map(|(_, known)| known)
        .position(|known| known.name == field.name);
    place
        .and_then(|place| u16::try_from(place).ok())
        .unwrap_or(u16::MAX)
}

fn what_of(watch: Watch) -> What {
    let place = |source: Source| place_of(source.section, source.field);
    match watch {
        Watch::Field(source) if shared_field(source.section).is_some() => What::Place,
        Watch::Field(source) => What::Field(place(source)),
        Watch::Ratio { part, whole } => What::Ratio(place(part), place(whole)),
        Watch::Down => What::Down,
        Watch::ClockOffset => What::ClockOffset,
    }
}

/// Whether `rule` holds alike for all nodes and instances.
fn is_everywhere(rule: &Rule) -> bool {
    let all = [
        &rule.nodes,
        &rule.except_nodes,
        &rule.groups,
        &rule.instances,
        &rule.except_instances,
    ];
    rule.overrides.is_empty() && all.into_iter().all(Globs::is_empty)
}

/// Between which values no level of `terms` is reached.
fn quiet(terms: &Terms) -> (f64, f64) {
    let (mut low, mut high) = (f64::NEG_INFINITY, f64::INFINITY);
    for level in &terms.levels {
        match level.operator {
            Operator::Above | Operator::AtLeast => high = high.min(level.threshold),
            Operator::Below | Operator::AtMost => low = low.max(level.threshold),
            // A single point can't be left out of a span.
            Operator::Equals => low = f64::INFINITY,
        }
    }
    (low, high)
}

impl Check {
    pub(super) fn what(&self) -> What {
        self.what
    }

    /// The value in `series`, where the instance's own place is `place`.
    #[inline]
    pub(super) fn value(&self, series: &Series<'_>, place: usize) -> Option<f64> {
        match self.what {
            What::Field(field) => Some(series.value(field.into())?.as_f64()),
            What::Place => Some(series.value(place)?.as_f64()),
            What::Ratio(part, whole) => {
                let part = series.value(part.into())?.as_f64();
                let whole = series.value(whole.into())?.as_f64();
                (whole > 0.0).then(|| part / whole * 100.0)
            }
            What::Down | What::ClockOffset => None,
        }
    }

    /// Whether `value` is surely no reason for an alert.
    pub(super) fn is_quiet(&self, value: f64) -> bool {
        value > self.quiet.0 && value < self.quiet.1
    }
}

impl Book {
    pub(super) fn new(rules: Vec<Arc<Rule>>, groups: Arc<BTreeMap<String, Globs>>) -> Self {
        let mut by_section = vec![Vec::new(); usize::from(u8::MAX) + 1];
        for (number, rule) in (0..).zip(&rules) {
            by_section[usize::from(section_of_rule(rule).0)].push(number);
        }
        let uniform = (0..=u8::MAX)
            .zip(&by_section)
            .filter(|(_, numbers)| {
                let mut rules = numbers.iter().map(|number| &rules[*number as usize]);
                rules.all(|rule| is_everywhere(rule))
            })
            .map(|(section, _)| (section, None))
            .collect();
        Self {
            rules,
            by_section,
            groups,
            plans: Vec::new(),
            known: HashMap::new(),
            uniform,
        }
    }

    pub(super) fn rule(&self, number: u32) -> &Arc<Rule> {
        &self.rules[number as usize]
    }

    pub(super) fn number_of(&self, name: &str) -> Option<u32> {
        let place = self.rules.iter().position(|rule| *rule.name == *name);
        place.and_then(|place| u32::try_from(place).ok())
    }

    fn rules_of(&self, section: u8) -> &[u32] {
        let rules = self.by_section.get(usize::from(section));
        rules.map_or(&[], Vec::as_slice)
    }

    /// Whether a rule watches anything of `section`.
    pub(super) fn watches(&self, section: u8) -> bool {
        !self.rules_of(section).is_empty()
    }

    pub(super) fn plan(&self, number: u32) -> Arc<Plan> {
        Arc::clone(&self.plans[number as usize])
    }

    pub(super) fn plan_ref(&self, number: u32) -> &Plan {
        &self.plans[number as usize]
    }

    /// The plan for the instance `name` (empty for a whole section) of `section` on `path`.
    pub(super) fn plan_for(&mut self, path: &NodePath, section: u8, name: &str) -> u32 {
        if let Some(Some(number)) = self.uniform.get(&section) {
            return *number;
        }
        let number = self.outcome_for(path, section, name);
        if let Some(uniform) = self.uniform.get_mut(&section) {
            *uniform = Some(number);
        }
        number
    }

    fn outcome_for(&mut self, path: &NodePath, section: u8, name: &str) -> u32 {
        let numbers = self.rules_of(section);
        let place = Placed::new(path, name, &self.groups);
        let outcome: Outcome = numbers
            .iter()
            .filter_map(|number| Some((*number, place.outcome(&self.rules[*number as usize])?)))
            .collect();
        if let Some(number) = self.known.get(&outcome) {
            return *number;
        }
        let plan = self.compile(&outcome);
        let number = u32::try_from(self.plans.len()).unwrap_or(u32::MAX);
        self.plans.push(Arc::new(plan));
        self.known.insert(outcome, number);
        number
    }

    fn compile(&self, outcome: &Outcome) -> Plan {
        let mut plan = Plan::default();
        for (number, variant) in outcome {
            let rule = &self.rules[*number as usize];
            let other = usize::from(*variant)
                .checked_sub(1)
                .and_then(|place| rule.overrides.get(place));
            let mut levels = other.map_or(&rule.levels, |other| &other.levels).clone();
            levels.sort_by_key(|level| std::cmp::Reverse(level.severity));
            let terms = Terms {
                levels,
                for_ms: other.and_then(|other| other.for_ms).unwrap_or(rule.for_ms),
                keep_firing_ms: rule.keep_firing_ms,
            };
            let memory = match rule.fold {
                Fold::Last => NO_MEMORY,
                _ => {
                    plan.memories += 1;
                    u16::try_from(plan.memories - 1).unwrap_or(NO_MEMORY)
                }
            };
            plan.absences |= matches!(rule.fold, Fold::Absent { .. });
            plan.checks.push(Check {
                rule: *number,
                what: what_of(rule.watch),
                fold: rule.fold,
                memory,
                quiet: quiet(&terms),
                terms,
            });
        }
        plan
    }
}

/// An instance of a node, as globs see it.
struct Placed<'a> {
    path: &'a NodePath,
    full: String,
    name: &'a str,
    groups: Vec<&'a str>,
}

impl<'a> Placed<'a> {
    fn new(path: &'a NodePath, name: &'a str, groups: &'a BTreeMap<String, Globs>) -> Self {
        let full = path.to_string();
        let of = |globs: &Globs| globs.name(path.node.as_str()) || globs.name(&full);
        let groups = groups.iter().filter(|(_, globs)| of(globs));
        Self {
            groups: groups.map(|(group, _)| group.as_str()).collect(),
            path,
            name,
            full,
        }
    }

    /// Which terms of `rule` hold: 0 its own, else those of an override; `None`: none of them.
    fn outcome(&self, rule: &Rule) -> Option<u16> {
        let taken = self.nodes(&rule.nodes)
            && !rule.except_nodes.name(self.path.node.as_str())
            && !rule.except_nodes.name(&self.full)
            && self.groups(&rule.groups)
            && self.instances(&rule.instances)
            && !rule.except_instances.name(self.name);
        if !taken {
            return None;
        }
        let fits = |other: &Override| {
            self.nodes(&other.nodes)
                && self.groups(&other.groups)
                && self.instances(&other.instances)
        };
        match rule.overrides.iter().position(fits) {
            Some(place) if rule.overrides[place].levels.is_empty() => None,
            Some(place) => u16::try_from(place + 1).ok(),
            None => Some(0),
        }
    }

    fn nodes(&self, globs: &Globs) -> bool {
        globs.take(self.path.node.as_str()) || globs.take(&self.full)
    }

    fn groups(&self, globs: &Globs) -> bool {
        globs.is_empty() || self.groups.iter().any(|group| globs.name(group))
    }

    fn instances(&self, globs: &Globs) -> bool {
        self.name.is_empty() || globs.take(self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_section_has_its_own_number() {
        for (number, section) in (0..).zip(sections()) {
            assert_eq!(section_of(section), number, "{section}");
        }
        assert_eq!(section_of("of-the-future"), NODE - 1);
    }
}
