//! One node as the evaluator remembers it: its presence, its instances, and what stands for each.
//!
//! Instances are found by their place, as publishers name them in the same order each time. A thing is
//! remembered of an instance only where a rule needs it.

use std::collections::HashMap;

use super::arrival::Order;
use super::book::NODE;
use super::memory::Memory;
use super::presence::Presence;
use super::standing::Standing;

/// The most instances of a node that are watched.
pub(super) const MAX_INSTANCES: usize = 8192;
/// No collector takes longer from one reading to the next.
const LONGEST_EVERY_MS: u64 = 3_600_000;
/// How many instances may have gone from their place before a sample's order is a surprise.
const NEAR: usize = 4;
/// After how many surprises an index is made for the rest of the sample.
const SURPRISES: usize = 8;

/// An alert of one rule for one instance.
#[derive(Debug, Clone)]
pub(super) struct Raised {
    pub(super) rule: u32,
    pub(super) standing: Standing,
    /// The value that decided last.
    pub(super) value: Option<f64>,
    /// The value that stands on the bus, and since when.
    pub(super) told: Option<f64>,
    pub(super) told_ms: u64,
}

/// One instance of a section; a whole section has an empty name.
#[derive(Debug)]
pub(super) struct Instance {
    pub(super) section: u8,
    pub(super) name: Box<str>,
    pub(super) plan: u32,
    /// The time from one of its appearances to the next; 0: it stands in each sample.
    pub(super) every_ms: u32,
    /// When it was in a live sample last; 0: never.
    pub(super) seen_ms: u64,
    /// Since when live samples have come without it; 0: they have not.
    pub(super) missing_ms: u64,
    pub(super) raised: Vec<Raised>,
    pub(super) memories: Box<[Memory]>,
}

impl Instance {
    pub(super) fn new(section: u8, name: &str, plan: u32, memories: usize) -> Self {
        Self {
            section,
            name: name.into(),
            plan,
            every_ms: 0,
            seen_ms: 0,
            missing_ms: 0,
            raised: Vec::new(),
            memories: vec![Memory::Empty; memories].into(),
        }
    }

    pub(super) fn is(&self, section: u8, name: &str) -> bool {
        self.section == section && *self.name == *name
    }

    /// It is in a live sample; the last one of its node came at `last_ms`, and the node may be silent for
    /// `silence_ms`.
    pub(super) fn seen(&mut self, last_ms: u64, silence_ms: u64, now_ms: u64) {
        let listened = now_ms.saturating_sub(last_ms) <= silence_ms;
        if listened && self.seen_ms != 0 {
            let every_ms = now_ms.saturating_sub(self.seen_ms);
            // It stood in the last sample, or was away for longer than any collector waits.
            let usual = self.seen_ms >= last_ms || every_ms > LONGEST_EVERY_MS;
            let every_ms = if usual { 0 } else { every_ms };
            self.every_ms = u32::try_from(every_ms).unwrap_or(0);
        }
        self.seen_ms = now_ms;
        self.missing_ms = 0;
    }
}

/// One node.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) order: Order,
    pub(super) presence: Presence,
    /// What is said of it as a whole.
    pub(super) own: Instance,
    pub(super) instances: Vec<Instance>,
    /// When its last live sample came; 0: none did.
    pub(super) live_ms: u64,
    /// How many alerts stand, resolved ones included.
    pub(super) alerts: usize,
    /// When time alone may change something.
    pub(super) due_ms: u64,
    /// When instances that are long gone are forgotten next.
    pub(super) sweep_ms: u64,
}

impl Node {
    pub(super) fn new(plan: u32, memories: usize, now_ms: u64) -> Self {
        Self {
            order: Order::default(),
            presence: Presence::default(),
            own: Instance::new(NODE, "", plan, memories),
            instances: Vec::new(),
            live_ms: 0,
            alerts: 0,
            due_ms: now_ms,
            sweep_ms: now_ms,
        }
    }

    /// Our clock was set to `now_ms`: what happened later by it happened now.
    pub(super) fn forget_future(&mut self, now_ms: u64) {
        self.presence.forget_future(now_ms);
        self.live_ms = self.live_ms.min(now_ms);
        for instance in self.instances.iter_mut().chain([&mut self.own]) {
            instance.seen_ms = instance.seen_ms.min(now_ms);
            instance.missing_ms = instance.missing_ms.min(now_ms);
            for raised in &mut instance.raised {
                raised.told_ms = raised.told_ms.min(now_ms);
            }
            for memory in &mut instance.memories {
                memory.forget_future(now_ms);
            }
        }
    }

    /// Something may change at `at_ms`.
    pub(super) fn wake(&mut self, at_ms: u64) {
        self.due_ms = self.due_ms.min(at_ms);
    }
}

/// Finds the instances of one sample, one after the other.
#[derive(Debug, Default)]
pub(super) struct Finder {
    next: usize,
    surprises: usize,
    index: Option<HashMap<(u8, Box<str>), usize>>,
}

impl Finder {
    /// Where the instance stands.
    pub(super) fn find(
        &mut self,
        instances: &[Instance],
        section: u8,
        name: &str,
    ) -> Option<usize> {
        let near = instances.iter().skip(self.next).take(NEAR);
        if let Some(ahead) = near
            .enumerate()
            .find(|(_, instance)| instance.is(section, name))
        {
            self.next += ahead.0 + 1;
            return Some(self.next - 1);
        }
        self.surprises += 1;
        let found = if self.surprises <= SURPRISES {
            instances
                .iter()
                .position(|instance| instance.is(section, name))
        } else {
            let index = self.index.get_or_insert_with(|| {
                let key = |instance: &Instance| (instance.section, instance.name.clone());
                instances
                    .iter()
                    .enumerate()
                    .map(|(place, instance)| (key(instance), place))
                    .collect()
            });
            index.get(&(section, name.into())).copied()
        };
        if let Some(place) = found {
            self.next = place + 1;
        }
        found
    }

    /// Puts a new instance where the sample has it, and tells where that is.
    pub(super) fn insert(&mut self, instances: &mut Vec<Instance>, instance: Instance) -> usize {
        let place = match &mut self.index {
            // An index must not be made wrong by what moves.
            Some(index) => {
                index.insert((instance.section, instance.name.clone()), instances.len());
                instances.len()
            }
            None => self.next.min(instances.len()),
        };
        instances.insert(place, instance);
        self.next = place + 1;
        place
    }
}
