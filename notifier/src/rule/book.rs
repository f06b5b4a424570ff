//! The rules in force: those shipped, those in files, those on the bus. No I/O.
//!
//! Of several rules of one name the one of the highest origin holds: a retained `_rules/<rule>` before a
//! file, of files the last by path, a file before what ships. A document with a mistake leaves what its
//! origin said before in force: a slip of the pen takes no alert away.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use super::Rule;
use super::defaults;
use super::document::{self, Written};
use super::mistake::Mistake;

/// The most rules on the bus; more are refused.
pub const MAX_ON_BUS: usize = 1024;

/// Where a document of rules comes from, the lowest first.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Origin {
    /// It ships with hostbus.
    Default,
    /// A file.
    File(PathBuf),
    /// The retained message of this name under `_rules`.
    Bus(Box<str>),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => path.display().fmt(f),
            Self::Bus(name) => write!(f, "_rules/{name}"),
        }
    }
}

/// A rule of the book.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Entry<'b> {
    /// Where it comes from.
    pub origin: &'b Origin,
    /// The rule, or that there is none of its name.
    pub written: &'b Written,
    /// Whether no other of its name stands before it.
    pub holds: bool,
}

/// All documents, and what is wrong with some of them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Book {
    documents: BTreeMap<Origin, Vec<Written>>,
    mistakes: BTreeMap<Origin, Vec<Mistake>>,
}

impl Book {
    /// A book with the shipped rules, or without any.
    #[must_use]
    pub fn new(with_defaults: bool) -> Self {
        let mut book = Self::default();
        if with_defaults {
            book.documents.insert(Origin::Default, defaults::rules());
        }
        book
    }

    /// Takes what an origin says now. The payload of a rule on the bus is empty when it is gone.
    /// Returns whether other rules may be in force.
    ///
    /// # Errors
    /// Its mistakes, at least one, which [`Self::mistakes`] tells until it is set again. What it said
    /// before is still in force.
    pub fn set(&mut self, origin: Origin, document: &[u8]) -> Result<bool, Vec<Mistake>> {
        let read = match &origin {
            Origin::Bus(_) if document.is_empty() => return Ok(self.remove(&origin)),
            Origin::Bus(name) if !self.documents.contains_key(&origin) && self.is_full() => {
                Err(vec![Mistake::whole(format!(
                    "{MAX_ON_BUS} rules are on the bus, and there is no room for {name}"
                ))])
            }
            Origin::Bus(name) => document::read_one(name, document).map(|rule| vec![rule]),
            _ => document::read(document),
        };
        match read {
            Ok(rules) => {
                self.mistakes.remove(&origin);
                let changed = self.documents.get(&origin) != Some(&rules);
                self.documents.insert(origin, rules);
                Ok(changed)
            }
            Err(mistakes) => {
                self.refuse(origin, mistakes.clone());
                Err(mistakes)
            }
        }
    }

    fn is_full(&self) -> bool {
        let on_bus = |origin: &&Origin| matches!(origin, Origin::Bus(_));
        self.documents.keys().filter(on_bus).count() >= MAX_ON_BUS
    }

    /// Notes that an origin can't be read; what it said before is still in force.
    pub fn refuse(&mut self, origin: Origin, mistakes: Vec<Mistake>) {
        // Names on the bus are anyone's who may write rules: as many are told as are taken.
        if self.mistakes.len() < MAX_ON_BUS || self.mistakes.contains_key(&origin) {
            self.mistakes.insert(origin, mistakes);
        }
    }

    /// Forgets an origin, with what was wrong with it. Returns whether other rules may be in force.
    pub fn remove(&mut self, origin: &Origin) -> bool {
        self.mistakes.remove(origin);
        self.documents.remove(origin).is_some()
    }

    /// Forgets all rules on the bus but those of the names that `keep` takes: what was gone when its
    /// retained messages came again.
    pub fn keep_on_bus(&mut self, keep: impl Fn(&str) -> bool) -> bool {
        let stays = |origin: &Origin| !matches!(origin, Origin::Bus(name) if !keep(name));
        let before = self.documents.len();
        self.documents.retain(|origin, _| stays(origin));
        self.mistakes.retain(|origin, _| stays(origin));
        self.documents.len() != before
    }

    /// The rules in force, by name.
    #[must_use]
    pub fn rules(&self) -> Vec<Arc<Rule>> {
        let mut rules: BTreeMap<&str, &Option<Arc<Rule>>> = BTreeMap::new();
        for written in self.documents.values().flatten() {
            rules.insert(&written.name, &written.rule);
        }
        rules.into_values().flatten().cloned().collect()
    }

    /// All that is written, by name, what holds before what it hides.
    #[must_use]
    pub fn entries(&self) -> Vec<Entry<'_>> {
        let mut entries: Vec<Entry<'_>> = Vec::new();
        for (origin, written) in &self.documents {
            entries.extend(written.iter().map(|written| Entry {
                origin,
                written,
                holds: false,
            }));
        }
        entries.sort_by(|a, b| {
            let names = a.written.name.cmp(&b.written.name);
            names.then_with(|| b.origin.cmp(a.origin))
        });
        let mut last: Option<&str> = None;
        for entry in &mut entries {
            entry.holds = last != Some(&entry.written.name);
            last = Some(&entry.written.name);
        }
        entries
    }

    /// What is wrong, by origin.
    pub fn mistakes(&self) -> impl Iterator<Item = (&Origin, &[Mistake])> {
        let told = self.mistakes.iter();
        told.map(|(origin, mistakes)| (origin, mistakes.as_slice()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(name: &str, above: u32) -> String {
        format!(
            "[[rule]]\nname = \"{name}\"\nmetric = \"cpu.load1\"\nwarning = {{ above = {above} }}\n"
        )
    }

    fn file(path: &str) -> Origin {
        Origin::File(path.into())
    }

    fn bus(name: &str) -> Origin {
        Origin::Bus(name.into())
    }

    /// The rules in force with their thresholds.
    fn in_force(book: &Book) -> Vec<(String, f64)> {
        let rules = book.rules().into_iter();
        rules
            .map(|rule| (rule.name.to_string(), rule.levels[0].threshold))
            .collect()
    }

    #[test]
    fn the_highest_origin_holds() {
        let mut book = Book::default();
        let mut set = |origin: Origin, name: &str, above: u32| {
            assert_eq!(book.set(origin, document(name, above).as_bytes()), Ok(true));
            in_force(&book)
        };
        let load = |above| vec![("load".to_owned(), above)];
        assert_eq!(set(file("b.toml"), "load", 2), load(2.0));
        assert_eq!(set(file("a.toml"), "load", 1), load(2.0));
        assert_eq!(set(file("c.toml"), "load", 3), load(3.0));
        assert_eq!(set(bus("load"), "load", 4), load(4.0));
        let origins: Vec<(String, bool)> = book
            .entries()
            .iter()
            .map(|entry| (entry.origin.to_string(), entry.holds))
            .collect();
        let told = |origin: &str, holds| (origin.to_owned(), holds);
        assert_eq!(
            origins,
            [
                told("_rules/load", true),
                told("c.toml", false),
                told("b.toml", false),
                told("a.toml", false)
            ]
        );
        assert_eq!(book.set(bus("load"), b""), Ok(true));
        assert_eq!(in_force(&book), load(3.0));
        assert!(book.remove(&file("c.toml")));
        assert!(!book.remove(&file("c.toml")));
        assert_eq!(in_force(&book), load(2.0));
    }

    #[test]
    fn a_document_with_a_mistake_leaves_what_was_there_in_force() {
        let mut book = Book::default();
        let (origin, good) = (file("a.toml"), document("load", 1));
        book.set(origin.clone(), good.as_bytes()).unwrap();
        let bad = format!("{}[[rule]]\nname = \"other\"\n", document("load", 2));
        let mistakes = book.set(origin.clone(), bad.as_bytes()).unwrap_err();
        assert_eq!(mistakes.len(), 1);
        assert_eq!(in_force(&book), [("load".to_owned(), 1.0)]);
        let told: Vec<_> = book.mistakes().collect();
        assert_eq!(told, [(&origin, mistakes.as_slice())]);
        assert_eq!(book.set(origin, good.as_bytes()), Ok(false));
        assert_eq!(book.mistakes().count(), 0);
    }

    #[test]
    fn a_shipped_rule_is_switched_off_and_replaced_by_its_name() {
        let mut book = Book::new(true);
        let all = book.rules().len();
        assert_eq!(all, defaults::rules().len());
        let off = "[[rule]]\nname = \"disk-busy\"\nenabled = false\n";
        book.set(file("a.toml"), off.as_bytes()).unwrap();
        assert_eq!(book.rules().len(), all - 1);
        let own = document("disk-busy", 1);
        book.set(bus("disk-busy"), own.as_bytes()).unwrap();
        assert_eq!(book.rules().len(), all);
        assert!(book.keep_on_bus(|name| name == "other"));
        assert_eq!(book.rules().len(), all - 1);
        assert!(!book.keep_on_bus(|_| false));
    }

    #[test]
    fn a_rule_on_the_bus_has_the_name_of_its_topic_and_no_company() {
        let mut book = Book::default();
        let mut check = |document: &str, expected: &str| {
            let mistakes = book.set(bus("load"), document.as_bytes()).unwrap_err();
            assert_eq!(mistakes[0].to_string(), expected);
        };
        check(
            &document("loud", 1),
            "rule loud: name = \"loud\": expected \"load\", as in its topic",
        );
        let two = document("load", 1) + &document("b", 1);
        check(&two, "expected exactly one [[rule]], found 2");
        check("# none", "expected exactly one [[rule]], found 0");
    }

    #[test]
    fn there_is_an_end_to_the_rules_on_the_bus() {
        let mut book = Book::default();
        for number in 0..MAX_ON_BUS {
            let name = format!("r{number}");
            book.set(bus(&name), document(&name, 1).as_bytes()).unwrap();
        }
        assert!(
            book.set(bus("more"), document("more", 1).as_bytes())
                .is_err()
        );
        assert_eq!(book.set(bus("r0"), document("r0", 2).as_bytes()), Ok(true));
        assert_eq!(book.rules().len(), MAX_ON_BUS);
    }
}
