//! The rows of samples, on their way to their streams.

use std::sync::Arc;

use hostbus_wire::Decimal;

use super::Appender;
use crate::batch::{Entry, Outcome};
use crate::connection::is_past;
use crate::error::StoreError;
use crate::late::{self, Refusal};
use crate::resp::Commands;
use crate::row::UNKNOWN;

/// How many bytes of commands go to Redis at once: enough to cost little each, few enough that
/// neither they nor their answers take memory to speak of.
const BATCH_BYTES: usize = 256 * 1024;

/// Commands that add rows, and whose rows they are.
#[derive(Debug, Default)]
pub(super) struct Rows {
    pub(super) commands: Commands,
    /// Of each command: the entry whose row it adds, by its number in the run.
    pub(super) owners: Vec<Option<usize>>,
    decimal: Decimal,
}

impl Rows {
    pub(super) fn clear(&mut self) {
        self.commands.clear();
        self.owners.clear();
    }
}

impl Appender {
    /// Writes samples whose rows have their own times.
    pub(super) async fn write_run(
        &mut self,
        run: &[&Entry],
        now_ms: u64,
        outcome: &mut Outcome,
    ) -> Result<(), StoreError> {
        self.rows.clear();
        for (number, entry) in run.iter().enumerate() {
            self.add_rows(number, entry, now_ms, outcome);
            if self.rows.commands.bytes().len() >= BATCH_BYTES {
                self.send_rows(run, now_ms, outcome).await?;
            }
        }
        self.send_rows(run, now_ms, outcome).await?;
        outcome.samples += run.len() as u64;
        Ok(())
    }

    /// Adds the commands for all rows of `entry`, the one at `number` in its run.
    pub(super) fn add_rows(
        &mut self,
        number: usize,
        entry: &Entry,
        now_ms: u64,
        outcome: &mut Outcome,
    ) {
        let cutoff_ms = self.retention.raw.cutoff_ms(now_ms);
        let expiry_seconds = self.expiry_seconds();
        let Some(node) = self.nodes.get_mut(&entry.node) else {
            return;
        };
        let Rows {
            commands,
            owners,
            decimal,
        } = &mut self.rows;
        let most = self.max_series;
        let names = node.keys.series();
        entry.sample.for_each_series(|series| {
            let Some(slot) = node.next(&series, most, now_ms, cutoff_ms) else {
                outcome.excess_rows += 1;
                if !outcome.excess_nodes.contains(&entry.node) {
                    outcome.excess_nodes.push(Arc::clone(&entry.node));
                }
                return;
            };
            let width = slot.fields.count(&series);
            if width == 0 {
                // Nothing is known of it, nor ever was.
                return;
            }
            commands.begin(if slot.trim { 6 } else { 3 } + 2 * width);
            commands.ready(b"$4\r\nXADD\r\n");
            commands.ready(slot.raw);
            if slot.trim {
                commands.ready(b"$5\r\nMINID\r\n$1\r\n~\r\n");
                commands.number(cutoff_ms);
            }
            // An id without its second part has 0 there.
            commands.number(entry.at_ms);
            slot.fields.for_each(&series, |field, value| {
                commands.argument(field.as_bytes());
                let text = value.map_or(UNKNOWN, |value| decimal.text(value));
                commands.argument(text.as_bytes());
            });
            owners.push(Some(number));
            outcome.points += series.points() as u64;
            if slot.tend {
                commands.begin(3);
                commands.argument(b"EXPIRE");
                commands.ready(slot.raw);
                commands.number(expiry_seconds);
                commands.begin(3);
                commands.argument(b"SADD");
                commands.argument(names.as_bytes());
                commands.argument(slot.name.as_bytes());
                owners.extend([None, None]);
            }
        });
    }

    /// Sends the rows in hand, and sees to those that Redis refuses.
    async fn send_rows(
        &mut self,
        run: &[&Entry],
        now_ms: u64,
        outcome: &mut Outcome,
    ) -> Result<(), StoreError> {
        if self.rows.owners.is_empty() {
            return Ok(());
        }
        let refused = self.send(|appender| &appender.rows.commands).await?;
        outcome.rows += self.rows.owners.iter().flatten().count() as u64;
        let mut past = Vec::new();
        for refused in refused {
            let owner = self.rows.owners.get(refused.index).copied().flatten();
            outcome.rows -= u64::from(owner.is_some());
            match owner.and_then(|number| run.get(number)) {
                Some(entry) if is_past(&refused.reason) => past.push(Refusal {
                    at_ms: entry.at_ms,
                    numbered: entry.step.is_some(),
                    row: self.rows.commands.arguments(refused.index),
                }),
                owner => {
                    outcome.refused_rows += u64::from(owner.is_some());
                    outcome.refusal = Some(refused.reason);
                }
            }
        }
        if !past.is_empty() {
            let cutoff_ms = self.retention.raw.cutoff_ms(now_ms);
            let expiry = self.expiry_seconds();
            late::put_aside(&self.connection, &past, cutoff_ms, expiry, outcome).await?;
        }
        self.rows.clear();
        Ok(())
    }
}
