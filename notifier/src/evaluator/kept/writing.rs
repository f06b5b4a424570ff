//! Slices of what is remembered, written.

use hostbus_wire::NodePath;

use super::bytes::Packer;
use super::definition;
use crate::evaluator::Evaluator;
use crate::evaluator::book::{Book, NODE, sections};
use crate::evaluator::memory::Memory;
use crate::evaluator::node::{Instance, Node};

/// A slice ends with the node with which it has so many bytes.
const SLICE_BYTES: usize = 65_536;
/// A rule that no memory of the slice belongs to.
const UNUSED: u32 = u32::MAX;

/// The definitions of a slice, numbered as they are met.
struct Numbered {
    of_rule: Vec<u32>,
    rules: Vec<u32>,
}

impl Numbered {
    fn number(&mut self, rule: u32) -> u64 {
        let number = &mut self.of_rule[rule as usize];
        if *number == UNUSED {
            *number = u32::try_from(self.rules.len()).unwrap_or(UNUSED - 1);
            self.rules.push(rule);
        }
        u64::from(*number)
    }
}

impl Evaluator {
    /// The nodes of which something is remembered.
    #[must_use]
    pub fn remembered(&self) -> Vec<NodePath> {
        self.nodes.keys().cloned().collect()
    }

    /// A slice of what is to be kept: of some of the next of `paths`, so that it takes well below a
    /// millisecond, but for nodes of thousands of instances. `None`: that was all.
    pub fn keep(&self, paths: &mut impl Iterator<Item = NodePath>, now_ms: u64) -> Option<Vec<u8>> {
        let mut nodes = Packer::default();
        let mut body = Packer::default();
        let mut numbered = Numbered {
            of_rule: vec![UNUSED; self.book.rules.len()],
            rules: Vec::new(),
        };
        while nodes.len() < SLICE_BYTES
            && let Some(path) = paths.next()
        {
            // It may have been forgotten meanwhile.
            let Some(node) = self.nodes.get(&path) else {
                continue;
            };
            body.clear();
            pack(node, &self.book, &mut numbered, &mut body, now_ms);
            nodes.text(&path.to_string());
            nodes.count(body.len());
            nodes.append(&body);
        }
        if nodes.len() == 0 {
            return None;
        }
        let mut slice = Packer::default();
        slice.whole(now_ms);
        let sections = sections();
        slice.count(sections.len());
        sections.iter().for_each(|section| slice.text(section));
        slice.count(numbered.rules.len());
        for rule in &numbered.rules {
            // Only rules with memories are numbered, and these have one.
            slice.text(&definition(self.book.rule(*rule)).unwrap_or_default());
        }
        slice.append(&nodes);
        Some(slice.into_bytes())
    }
}

fn pack(node: &Node, book: &Book, numbered: &mut Numbered, to: &mut Packer, now_ms: u64) {
    let told = node.presence.told_interval_ms();
    to.whole(told.map_or(0, |interval_ms| u64::from(interval_ms) + 1));
    node.order.pack(to, now_ms);
    to.past(node.live_ms, now_ms);
    for instance in node.instances.iter().chain([&node.own]) {
        let memories = instance.memories.iter().filter(|memory| !memory.is_empty());
        let memories = memories.count();
        let has_past = if instance.section == NODE {
            memories > 0
        } else {
            // How often it appears counts for its windows, and for when it is gone.
            !(instance.memories.is_empty() && instance.raised.is_empty() && instance.every_ms == 0)
        };
        if !has_past {
            continue;
        }
        pack_head(instance, to, now_ms);
        to.count(memories);
        for check in &book.plan_ref(instance.plan).checks {
            let memory = instance.memories.get(usize::from(check.memory));
            if let Some(memory) = memory.filter(|memory| !Memory::is_empty(memory)) {
                to.whole(numbered.number(check.rule));
                memory.pack(to, now_ms);
            }
        }
    }
}

fn pack_head(instance: &Instance, to: &mut Packer, now_ms: u64) {
    to.byte(instance.section);
    to.text(&instance.name);
    to.whole(instance.every_ms.into());
    to.past(instance.seen_ms, now_ms);
    to.past(instance.missing_ms, now_ms);
}
