//! The rows of samples and of closed minutes, on their way to their streams.

use std::borrow::Cow;
use std::sync::Arc;

use hostbus_wire::{Decimal, Series, Value};

use super::{Appender, expiry_seconds};
use crate::batch::{Entry, Outcome};
use crate::config::Kept;
use crate::connection::is_past;
use crate::error::StoreError;
use crate::keys::series_of;
use crate::late::{self, Refusal};
use crate::minute::Columns;
use crate::pipe::Refused;
use crate::resp::{Commands, write_argument};
use crate::rollup::Bucket;
use crate::row::UNKNOWN;
use crate::streams::Slot;
use crate::tier::Tier;

/// How many bytes of commands go to Redis at once: enough to cost little each, few enough that
/// neither they nor their answers take memory to speak of.
const BATCH_BYTES: usize = 256 * 1024;

/// Commands that add rows, and whose rows they are.
#[derive(Debug, Default)]
pub(super) struct Rows {
    pub(super) commands: Commands,
    /// One a command.
    pub(super) owners: Vec<Owner>,
    decimal: Decimal,
}

/// What a command is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    /// It adds a row of the entry at this place of the run.
    Row(usize),
    /// It adds the row of a closed minute. Refused, somebody else has summed it up.
    Minute,
    /// It sees to a stream's expiry, or to its name.
    Care,
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
            self.add_rows(number, entry, now_ms, Some(self.batches), outcome);
            if self.rows.commands.bytes().len() >= BATCH_BYTES {
                self.send_rows(run, now_ms, outcome).await?;
            }
        }
        self.send_rows(run, now_ms, outcome).await?;
        outcome.samples += run.len() as u64;
        Ok(())
    }

    /// Adds the commands for all rows of `entry`, the one at `number` in its run, and for the minutes
    /// that they close. `batch` counts the batches so far; `None`: the rows go another way, and their
    /// minutes are left alone.
    pub(super) fn add_rows(
        &mut self,
        number: usize,
        entry: &Entry,
        now_ms: u64,
        batch: Option<u64>,
        outcome: &mut Outcome,
    ) {
        let raw = self.retention.raw;
        let cutoff_ms = raw.cutoff_ms(now_ms);
        let minutes = Some(self.retention.minute).filter(|kept| kept.seconds > 0);
        let Some(node) = self.nodes.get_mut(&entry.node) else {
            return;
        };
        let Rows {
            commands,
            owners,
            decimal,
        } = &mut self.rows;
        let most = self.max_series;
        let keys = node.keys.clone();
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
                trim(commands, cutoff_ms);
            }
            // An id without its second part has 0 there.
            commands.number(entry.at_ms);
            slot.fields.for_each(&series, |field, value| {
                commands.argument(field.as_bytes());
                let text = value.map_or(UNKNOWN, |value| decimal.text(value));
                commands.argument(text.as_bytes());
            });
            owners.push(Owner::Row(number));
            outcome.points += u64::from(slot.points);
            if slot.tend {
                expire(commands, slot.raw, raw);
                commands.begin(3);
                commands.argument(b"SADD");
                commands.argument(keys.series().as_bytes());
                commands.argument(slot.name.as_bytes());
                owners.extend([Owner::Care, Owner::Care]);
            }
            let (Some(batch), Some(kept)) = (batch, minutes) else {
                return slot.minute.forget();
            };
            let closed = slot.minute.closed_by(entry.at_ms);
            let closed = closed.filter(|bucket| bucket.start_ms() >= kept.cutoff_ms(now_ms));
            let row = closed.map(|bucket| (bucket.start_ms(), minute_row(&slot, &series, bucket)));
            if let Some((start_ms, row)) = row.filter(|(_, row)| !row.is_empty()) {
                let mut stream = Vec::new();
                write_argument(&mut stream, keys.rows(Tier::Minute, slot.name).as_bytes());
                let tend = slot.minute.is_to_tend(now_ms);
                commands.begin(if tend { 6 } else { 3 } + 2 * row.len());
                commands.ready(b"$4\r\nXADD\r\n");
                commands.ready(&stream);
                if tend {
                    trim(commands, kept.cutoff_ms(now_ms));
                }
                commands.number(start_ms);
                for (column, value) in row {
                    commands.argument(column.as_bytes());
                    let text = value.map_or(UNKNOWN, |value| decimal.text(Value::Float(value)));
                    commands.argument(text.as_bytes());
                }
                owners.push(Owner::Minute);
                if tend {
                    expire(commands, &stream, kept);
                    owners.push(Owner::Care);
                }
                slot.minute.told(now_ms);
            }
            slot.minute.take(&series, slot.names, entry.at_ms, batch);
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
        self.batches += 1;
        let owners = self.rows.owners.iter();
        outcome.rows += owners
            .filter(|owner| matches!(owner, Owner::Row(_)))
            .count() as u64;
        let mut past = Vec::new();
        for Refused { index, reason } in refused {
            let row = self.rows.commands.arguments(index);
            match self.rows.owners.get(index) {
                Some(Owner::Row(number)) => {
                    outcome.rows -= 1;
                    let Some(entry) = run.get(*number) else {
                        continue;
                    };
                    if let Some(node) = self.nodes.get_mut(&entry.node)
                        && let Some(series) = series_of(late::key_of(&row))
                    {
                        node.refused(series);
                    }
                    if is_past(&reason) {
                        past.push(Refusal {
                            at_ms: entry.at_ms,
                            numbered: entry.step.is_some(),
                            row,
                        });
                    } else {
                        outcome.refused_rows += 1;
                        outcome.refusal = Some(reason);
                    }
                }
                Some(Owner::Minute) if is_past(&reason) => {}
                _ => outcome.refusal = Some(reason),
            }
        }
        if !past.is_empty() {
            let cutoff_ms = self.retention.raw.cutoff_ms(now_ms);
            let expiry = expiry_seconds(self.retention.raw);
            late::put_aside(&self.connection, &past, cutoff_ms, expiry, outcome).await?;
        }
        self.rows.clear();
        Ok(())
    }
}

/// The columns of the row of a closed minute with their values.
fn minute_row(
    slot: &Slot<'_>,
    series: &Series<'_>,
    bucket: &Bucket,
) -> Vec<(Cow<'static, str>, Option<f64>)> {
    if let Some(names) = slot.names {
        let columns = names.columns(series.section(), bucket).into_iter();
        return columns.map(|(name, value)| (name.into(), value)).collect();
    }
    let columns = Columns::of(series.section()).into_iter();
    columns
        .flat_map(|columns| columns.row(bucket, slot.fields))
        .map(|(name, value)| (name.into(), value))
        .collect()
}

/// Adds the arguments that have an XADD trim its stream.
fn trim(commands: &mut Commands, cutoff_ms: u64) {
    commands.ready(b"$5\r\nMINID\r\n$1\r\n~\r\n");
    commands.number(cutoff_ms);
}

/// Adds the command that sets the expiry of a stream; `stream` as it stands in a command.
fn expire(commands: &mut Commands, stream: &[u8], kept: Kept) {
    commands.begin(3);
    commands.argument(b"EXPIRE");
    commands.ready(stream);
    commands.number(expiry_seconds(kept));
}
