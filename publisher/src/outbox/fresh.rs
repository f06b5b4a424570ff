//! The samples that no disk has yet, with their payloads, oldest first.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use super::held::Place;
use super::orders::Row;

#[derive(Debug)]
struct Item {
    row: Row,
    since: Instant,
}

/// See the module's description.
#[derive(Debug, Default)]
pub(super) struct Fresh {
    items: VecDeque<Item>,
    bytes: usize,
}

impl Fresh {
    pub(super) fn push(&mut self, row: Row, now: Instant) {
        self.bytes += row.payload.len();
        self.items.push_back(Item { row, since: now });
    }

    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Since when the oldest one waits.
    pub(super) fn oldest_since(&self) -> Option<Instant> {
        self.items.front().map(|item| item.since)
    }

    pub(super) fn get(&self, place: Place) -> Option<&Arc<[u8]>> {
        let at = self
            .items
            .binary_search_by_key(&place, |item| item.row.place);
        at.ok().map(|at| &self.items[at].row.payload)
    }

    /// The oldest ones, as many as `max_bytes` hold, but one at least.
    pub(super) fn oldest(&self, max_bytes: usize) -> Vec<Row> {
        let mut rows = Vec::new();
        let mut bytes = 0;
        for item in &self.items {
            bytes += item.row.payload.len();
            if bytes > max_bytes && !rows.is_empty() {
                break;
            }
            rows.push(item.row.clone());
        }
        rows
    }

    /// Lets go of `place` if that is the oldest one.
    pub(super) fn release(&mut self, place: Place) {
        if self
            .items
            .front()
            .is_some_and(|item| item.row.place == place)
        {
            self.pop();
        }
    }

    /// Lets go of all up to `place`.
    pub(super) fn release_up_to(&mut self, place: Place) {
        while self
            .items
            .front()
            .is_some_and(|item| item.row.place <= place)
        {
            self.pop();
        }
    }

    /// All up to `place`.
    pub(super) fn up_to(&self, place: Place) -> impl Iterator<Item = &Row> {
        let rows = self.items.iter().map(|item| &item.row);
        rows.take_while(move |row| row.place <= place)
    }

    fn pop(&mut self) {
        if let Some(item) = self.items.pop_front() {
            self.bytes -= item.row.payload.len();
        }
    }

    pub(super) fn raise_keys(&mut self, by: u64) {
        for item in &mut self.items {
            item.row.place.key += by;
        }
    }
}
