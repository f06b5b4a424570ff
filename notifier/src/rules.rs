//! The rules in force, kept up to date: files are read again on a thread that may hang, documents from
//! the bus are taken as they come.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::task::JoinHandle;
use tracing::{info, warn};

use crate::rule::Rule;
use crate::rule::book::{Book, Origin};
use crate::rule::files::Files;

/// The rules of files and bus.
#[derive(Debug)]
pub struct Rules {
    book: Book,
    /// Away while they are being read.
    files: Option<Files>,
    reading: Option<JoinHandle<(Files, Book)>>,
    /// What the bus said last.
    bus: BTreeMap<Box<str>, String>,
    told: BTreeMap<Origin, String>,
}

impl Rules {
    /// The shipped rules, if they hold, and those in the files `patterns`, which are read now.
    #[must_use]
    pub fn new(default_rules: bool, patterns: &[String]) -> Self {
        let mut book = Book::new(default_rules);
        let mut files = Files::new(patterns);
        files.update(&mut book);
        let mut rules = Self {
            book,
            files: Some(files),
            reading: None,
            bus: BTreeMap::new(),
            told: BTreeMap::new(),
        };
        rules.tell();
        rules
    }

    /// The rules in force.
    #[must_use]
    pub fn in_force(&self) -> Vec<Arc<Rule>> {
        self.book.rules()
    }

    /// How many documents hold mistakes.
    #[must_use]
    pub fn mistaken(&self) -> usize {
        self.book.mistakes().count()
    }

    /// Takes the rules that stand on the bus. Returns whether others may be in force.
    pub fn set_bus(&mut self, bus: &BTreeMap<Box<str>, String>) -> bool {
        let mut changed = self.book.keep_on_bus(|name| bus.contains_key(name));
        for (name, document) in bus {
            if self.bus.get(name) != Some(document) {
                let set = self
                    .book
                    .set(Origin::Bus(name.clone()), document.as_bytes());
                // The book keeps the mistakes.
                changed |= set.unwrap_or(false);
            }
        }
        self.bus.clone_from(bus);
        self.tell();
        changed
    }

    /// Begins to read the files again, unless they are being read.
    pub fn read_again(&mut self) {
        if let Some(mut files) = self.files.take() {
            // The files tell the book what has changed; the bus may say something meanwhile, so they
            // work on a copy, of which only what files said is taken.
            let mut book = self.book.clone();
            self.reading = Some(tokio::task::spawn_blocking(move || {
                files.update(&mut book);
                (files, book)
            }));
        }
    }

    /// Waits until the files are read. Returns whether other rules may be in force. May be dropped and
    /// called again; waits for ever while nothing is read.
    pub async fn read(&mut self) -> bool {
        let Some(reading) = &mut self.reading else {
            return std::future::pending().await;
        };
        let read = reading.await;
        self.reading = None;
        let Ok((files, book)) = read else {
            warn!("reading the files of rules failed by a fault of the program");
            return false;
        };
        self.files = Some(files);
        let bus = std::mem::take(&mut self.bus);
        let before = self.book.rules();
        self.book = book;
        self.set_bus(&bus);
        before != self.book.rules()
    }

    /// Logs what is wrong when it changes.
    fn tell(&mut self) {
        let wrong: BTreeMap<Origin, String> = self
            .book
            .mistakes()
            .map(|(origin, mistakes)| {
                let texts = mistakes.iter().map(ToString::to_string);
                (origin.clone(), texts.collect::<Vec<_>>().join("; "))
            })
            .collect();
        for (origin, reason) in &wrong {
            if self.told.get(origin) != Some(reason) {
                warn!(%origin, reason, "rules are refused; what was there before holds");
            }
        }
        for origin in self
            .told
            .keys()
            .filter(|origin| !wrong.contains_key(*origin))
        {
            info!(%origin, "rules are taken again");
        }
        self.told = wrong;
    }
}
