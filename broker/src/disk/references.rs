//! How many entries refer to each message: a message goes when the last of them does.

use std::collections::HashMap;

use redb::Table;

/// How many entries refer to a message, with the changes of one batch.
pub(super) struct References<'f> {
    before: &'f HashMap<u64, u64>,
    pub(super) changed: HashMap<u64, u64>,
}

impl<'f> References<'f> {
    pub(super) fn new(before: &'f HashMap<u64, u64>) -> Self {
        Self {
            before,
            changed: HashMap::new(),
        }
    }

    fn count(&mut self, message: u64) -> &mut u64 {
        let before = self.before.get(&message).copied().unwrap_or(0);
        self.changed.entry(message).or_insert(before)
    }

    /// Notes one more. Whether the message must be written: another entry of this batch may have
    /// done so, or let go of it.
    pub(super) fn add(&mut self, message: u64) -> bool {
        let written = self.changed.contains_key(&message) || self.before.contains_key(&message);
        *self.count(message) += 1;
        !written
    }

    pub(super) fn subtract(&mut self, message: u64) {
        if message != 0 {
            let count = self.count(message);
            *count = count.saturating_sub(1);
        }
    }

    pub(super) fn remove_unused(
        &self,
        messages: &mut Table<'_, u64, &[u8]>,
    ) -> Result<(), redb::StorageError> {
        for (message, _) in self.changed.iter().filter(|(_, count)| **count == 0) {
            messages.remove(message)?;
        }
        Ok(())
    }
}
