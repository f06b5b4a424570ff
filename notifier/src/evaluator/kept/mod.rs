//! What an evaluator remembers, kept for the one after it: windows and their like, and what tells an old
//! sample from a new one. All that is on the bus is not kept: alerts, whether a node is there.
//!
//! It is written in slices of some nodes each, so that none takes long, and each slice can be read by itself:
//! ```text
//! slice       kept_ms: whole  sections: count, texts  definitions: count, texts  node*
//! node        its path: text  the bytes of its body: count  body
//! body        its interval, one more than its milliseconds, 0: untold: whole  order  live: past  instance*
//! instance    its section, 255 the node itself: byte  its name: text  every_ms: whole  seen, missing: past
//!             memories: count, each: its definition: whole  memory
//! ```
//! `bytes` says what is meant by whole, text and past; times are before `kept_ms`. A definition says which
//! rule a memory belongs to, what it watches and how it folds: another one does not get it.
//!
//! A node's past is taken up when the node is first heard of, and looked at again when rules come: those of
//! the bus come last. What nobody has asked for is let go some minutes after the start.
//!
//! Nobody listened from `kept_ms` until then. Sums and counts that this would make too small begin anew.

pub(super) mod bytes;
mod writing;

use std::collections::HashMap;
use std::ops::Range;

use bytes::Unpacker;
use hostbus_wire::{Name, NodePath};

use super::arrival::Order;
use super::book::{Book, NODE, section_of};
use super::memory::Memory;
use super::node::{Finder, Instance, MAX_INSTANCES, Node};
use super::{Evaluator, Figures};
use crate::rule::{Fold, Rule};

/// For how long after a start the past of nodes that were not heard of is held.
const HELD_MS: u64 = 300_000;
/// For how long it is held in any case: rules of the bus may still come.
const HELD_AT_LEAST_MS: u64 = 20_000;
/// The most definitions of all slices; more rules than that have no past.
const MAX_DEFINITIONS: usize = 65_536;

/// A slice is not what it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a slice is malformed")]
pub struct Malformed;

/// See the module's description.
#[derive(Debug, Default)]
pub struct Kept {
    slices: Vec<Slice>,
    nodes: HashMap<NodePath, Place>,
    /// The definitions of all slices, each once.
    definitions: HashMap<Box<str>, u32>,
    /// The rule of each definition, by its number.
    rules: Vec<Found>,
    /// Nodes that nobody has asked for.
    unclaimed: usize,
}

/// The rule of a definition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    /// It may still come.
    Awaited,
    /// It has come with the present rules.
    New(u32),
    Known(u32),
    /// It went: should it come back, then as one that has no past.
    Lost,
}

#[derive(Debug)]
struct Slice {
    bytes: ::bytes::Bytes,
    kept_ms: u64,
    /// Our number of each section.
    sections: Vec<u8>,
    /// The number of each definition among those of all slices.
    definitions: Vec<u32>,
}

/// Where a node's body stands.
#[derive(Debug)]
struct Place {
    slice: usize,
    body: Range<usize>,
    /// How long nobody had listened when the node was first heard of; `None`: it was not.
    unheard_ms: Option<u64>,
}

/// For which node memories are read.
#[derive(Debug, Clone, Copy)]
struct Reader {
    /// It is heard of now; otherwise only new rules get a past.
    is_new: bool,
    unheard_ms: u64,
    interval_ms: u64,
}

/// What a rule's memories are of; `None`: it has none.
fn definition(rule: &Rule) -> Option<String> {
    let fold = match rule.fold {
        Fold::Last => return None,
        Fold::Aggregate { how, window_ms } => format!("{} {window_ms}", how.as_str()),
        Fold::Forecast {
            ahead_ms,
            window_ms,
        } => format!("forecast {ahead_ms} {window_ms}"),
        Fold::Rate { window_ms } => format!("rate {window_ms}"),
        Fold::Absent { silent_ms } => format!("absent {silent_ms}"),
        Fold::Changed { window_ms } => format!("changed {window_ms}"),
    };
    Some(format!("{} {} {fold}", rule.name, rule.watch.name()))
}

impl Kept {
    /// Takes a slice.
    ///
    /// # Errors
    /// It is none.
    pub fn add(&mut self, slice: ::bytes::Bytes) -> Result<(), Malformed> {
        let number = self.slices.len();
        let mut from = Unpacker::new(&slice);
        let (kept_ms, sections, definitions) = self.head(&mut from).ok_or(Malformed)?;
        while from.left() > 0 {
            let (path, body) = node(&mut from, slice.len()).ok_or(Malformed)?;
            let place = Place {
                slice: number,
                body,
                unheard_ms: None,
            };
            self.nodes.insert(path, place);
        }
        self.unclaimed = self.nodes.len();
        self.slices.push(Slice {
            bytes: slice,
            kept_ms,
            sections,
            definitions,
        });
        Ok(())
    }

    /// How many nodes there are.
    #[must_use]
    pub fn nodes(&self) -> usize {
        self.nodes.len()
    }

    fn head(&mut self, from: &mut Unpacker<'_>) -> Option<(u64, Vec<u8>, Vec<u32>)> {
        let kept_ms = from.whole()?;
        let mut sections = Vec::new();
        for _ in 0..from.count()? {
            sections.push(section_of(from.text()?));
        }
        let mut definitions = Vec::new();
        for _ in 0..from.count()? {
            let text = from.text()?;
            let next = u32::try_from(self.definitions.len()).ok()?;
            let number = match self.definitions.get(text) {
                Some(number) => *number,
                None if self.definitions.len() >= MAX_DEFINITIONS => return None,
                None => *self.definitions.entry(text.into()).or_insert(next),
            };
            definitions.push(number);
        }
        Some((kept_ms, sections, definitions))
    }

    /// Finds the rules of the definitions.
    pub(super) fn resolve(&mut self, book: &Book) {
        let mut numbers = vec![None; self.definitions.len()];
        for (number, rule) in (0..).zip(&book.rules) {
            let known = definition(rule).and_then(|text| self.definitions.get(&*text));
            if let Some(place) = known.and_then(|place| numbers.get_mut(*place as usize)) {
                *place = Some(number);
            }
        }
        self.rules.resize(numbers.len(), Found::Awaited);
        for (found, number) in self.rules.iter_mut().zip(numbers) {
            *found = match (*found, number) {
                (Found::Lost, _) | (Found::New(_) | Found::Known(_), None) => Found::Lost,
                (Found::Awaited, None) => Found::Awaited,
                (Found::Awaited, Some(rule)) => Found::New(rule),
                (Found::New(_) | Found::Known(_), Some(rule)) => Found::Known(rule),
            };
        }
    }

    /// Gives the new node `path` its past.
    pub(super) fn recall(
        &mut self,
        (path, node): (&NodePath, &mut Node),
        book: &mut Book,
        figures: &mut Figures,
        now_ms: u64,
    ) {
        let Some(place) = self.nodes.get_mut(path) else {
            return;
        };
        // Times to come are of a clock that was set back since: none of it can be trusted.
        let Some(unheard_ms) = now_ms.checked_sub(self.slices[place.slice].kept_ms) else {
            self.forget(path);
            return;
        };
        if place.unheard_ms.replace(unheard_ms).is_none() {
            self.unclaimed -= 1;
        }
        let read = self.body(path).and_then(|(slice, mut from)| {
            node.presence.set_interval(interval(&mut from)?);
            node.order = Order::unpack(&mut from, slice.kept_ms)?;
            node.live_ms = from.past(slice.kept_ms)?;
            let deaf = unheard_ms > node.presence.silence_ms();
            let reader = Reader {
                is_new: true,
                unheard_ms,
                interval_ms: node.presence.interval_ms(),
            };
            while from.left() > 0 {
                let (section, name) = head(&mut from, slice)?;
                let (every_ms, seen_ms, missing_ms) = (
                    u32::try_from(from.whole()?).ok()?,
                    from.past(slice.kept_ms)?,
                    from.past(slice.kept_ms)?,
                );
                let instance = match section {
                    Some(NODE) => Some(&mut node.own),
                    Some(section) if node.instances.len() < MAX_INSTANCES => {
                        let plan = book.plan_for(path, section, name);
                        let memories = book.plan_ref(plan).memories;
                        let mut instance = Instance::new(section, name, plan, memories);
                        (instance.every_ms, instance.seen_ms) = (every_ms, seen_ms);
                        // Samples that nobody heard may have had it.
                        instance.missing_ms = if deaf { 0 } else { missing_ms };
                        node.instances.push(instance);
                        node.instances.last_mut()
                    }
                    _ => None,
                };
                self.memories((slice, &mut from), book, instance, reader)?;
            }
            Some(())
        });
        figures.left_out += u64::from(read.is_none());
    }

    /// Gives the instances of `node`, which is known, the past that rules have of them which came only now.
    /// What can't be read was counted when the node was first heard of.
    pub(super) fn recall_for_rules(
        &self,
        path: &NodePath,
        node: &mut Node,
        book: &Book,
    ) -> Option<()> {
        let (slice, mut from) = self.body(path)?;
        interval(&mut from)?;
        Order::unpack(&mut from, slice.kept_ms)?;
        from.past(slice.kept_ms)?;
        let reader = Reader {
            is_new: false,
            unheard_ms: self.nodes.get(path)?.unheard_ms?,
            interval_ms: node.presence.interval_ms(),
        };
        let mut finder = Finder::default();
        while from.left() > 0 {
            let (section, name) = head(&mut from, slice)?;
            from.whole()?;
            from.past(slice.kept_ms)?;
            from.past(slice.kept_ms)?;
            let instance = match section {
                Some(NODE) => Some(&mut node.own),
                Some(section) => {
                    let place = finder.find(&node.instances, section, name);
                    place.map(|place| &mut node.instances[place])
                }
                None => None,
            };
            self.memories((slice, &mut from), book, instance, reader)?;
        }
        Some(())
    }

    /// Whether rules have come whose past is here.
    pub(super) fn has_new_rules(&self) -> bool {
        let mut rules = self.rules.iter();
        rules.any(|found| matches!(found, Found::New(_)))
    }

    fn body(&self, path: &NodePath) -> Option<(&Slice, Unpacker<'_>)> {
        let place = self.nodes.get(path)?;
        let slice = &self.slices[place.slice];
        let body = slice.bytes.get(place.body.clone())?;
        Some((slice, Unpacker::new(body)))
    }

    /// Reads the memories of an instance and gives it those that it lacks.
    fn memories(
        &self,
        (slice, from): (&Slice, &mut Unpacker<'_>),
        book: &Book,
        mut instance: Option<&mut Instance>,
        reader: Reader,
    ) -> Option<()> {
        for _ in 0..from.count()? {
            let definition = usize::try_from(from.whole()?).ok()?;
            let definition = *slice.definitions.get(definition)?;
            let memory = Memory::unpack(from, slice.kept_ms)?;
            let rule = match self.rules.get(definition as usize)? {
                Found::New(rule) => *rule,
                Found::Known(rule) if reader.is_new => *rule,
                _ => continue,
            };
            let fold = book.rules.get(rule as usize)?.fold;
            let is_spoilt = Memory::is_spoilt(fold, reader.unheard_ms, reader.interval_ms);
            if is_spoilt || !memory.is_past(fold, slice.kept_ms) {
                continue;
            }
            let Some(instance) = &mut instance else {
                continue;
            };
            let checks = &book.plan_ref(instance.plan).checks;
            let check = checks.iter().find(|check| check.rule == rule);
            let slot = check.and_then(|check| instance.memories.get_mut(usize::from(check.memory)));
            if let Some(slot) = slot.filter(|slot| slot.is_empty()) {
                *slot = memory;
            }
        }
        Some(())
    }

    /// When the past of `path` was kept, in milliseconds since 1970-01-01 UTC.
    pub(super) fn kept_ms(&self, path: &NodePath) -> Option<u64> {
        let place = self.nodes.get(path)?;
        Some(self.slices[place.slice].kept_ms)
    }

    /// Nothing is to be known of `path`.
    pub(super) fn forget(&mut self, path: &NodePath) {
        if let Some(place) = self.nodes.remove(path) {
            self.unclaimed -= usize::from(place.unheard_ms.is_none());
        }
    }
}

impl Evaluator {
    /// Takes back what an evaluator before this one remembered. Call it at a start, before anything is heard.
    pub fn take_back(&mut self, mut kept: Kept) {
        kept.resolve(&self.book);
        self.kept = Some(Box::new(kept));
    }

    /// Whether what was taken back has found its places: until then it is no time to keep anything, for what
    /// waits would be lost.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.kept.is_none()
    }

    /// Lets go what nobody asks for any more.
    pub(super) fn settle(&mut self, now_ms: u64) {
        let calm_ms = now_ms.saturating_sub(self.calm_from_ms);
        self.kept.take_if(|kept| {
            let held_ms = if kept.unclaimed == 0 {
                HELD_AT_LEAST_MS
            } else {
                HELD_MS
            };
            calm_ms >= held_ms
        });
    }
}

fn node(from: &mut Unpacker<'_>, length: usize) -> Option<(NodePath, Range<usize>)> {
    let path: NodePath = from.text()?.parse().ok()?;
    let bytes = from.count()?;
    let begin = length - from.left();
    from.take(bytes)?;
    Some((path, begin..begin + bytes))
}

fn interval(from: &mut Unpacker<'_>) -> Option<Option<u32>> {
    let told = from.whole()?;
    match told.checked_sub(1) {
        Some(interval_ms) => Some(Some(u32::try_from(interval_ms).ok()?)),
        None => Some(None),
    }
}

/// The section of an instance, where it is known here, and its name.
fn head<'b>(from: &mut Unpacker<'b>, slice: &Slice) -> Option<(Option<u8>, &'b str)> {
    let (section, name) = (from.byte()?, from.text()?);
    if section == NODE {
        return Some((Some(NODE), ""));
    }
    if !name.is_empty() && name.parse::<Name>().is_err() {
        return None;
    }
    let section = slice.sections.get(usize::from(section)).copied();
    Some((section.filter(|section| *section < NODE - 1), name))
}
